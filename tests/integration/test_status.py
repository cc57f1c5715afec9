"""GET /events/status/{id}: what became of an operation.

accepted until its commit, processed by the drain's notice without a question
to Postgres, dead with its code, a conflict, 404 for what nobody knows. What
cannot happen over HTTP, because a 202 was checked first, comes straight into
the stream, framed by schemas/golden/make.py; and a CHECK that this test adds to
hotpath.events refuses what was accepted.
"""

import json
import re
import uuid

import pytest

from servers import wait_until
from wire import Nats, RawHTTP, config, golden

STACK = {
    "without": ("project",),
    "hotpath": config("hotpath.conf", ("timeout=5s", "timeout=1s")),
}


def key():
    return f"status-{uuid.uuid4()}"


def event(name, payload):
    return {"idempotencyKey": name, "eventType": "t", "payload": payload}


def status(stack, operation):
    return stack.get(f"/events/status/{operation}")


def wait_for(stack, operation, expected):
    return wait_until(
        lambda: (lambda answer: answer.json() if answer.status == 200
                 and answer.json()["status"] == expected else None)(
                     status(stack, operation)),
        15, f"{operation} is {expected}")


@pytest.fixture
def poison(own_stack):
    """A payload that Postgres refuses though it was accepted."""
    own_stack.sql("ALTER TABLE hotpath.events ADD CONSTRAINT no_poison"
                  " CHECK (payload ->> 'poison' IS NULL)")
    yield {"poison": 1}
    own_stack.sql("ALTER TABLE hotpath.events DROP CONSTRAINT no_poison")


def test_accepted_then_processed(own_stack):
    # the drain stands still, so that accepted lasts
    own_stack.freeze("drain")
    try:
        answer = own_stack.post(event(key(), 1))
        location = answer.headers["Location"]
        first = own_stack.get(location)
    finally:
        own_stack.thaw("drain")
    operation = answer.json()["operationId"]
    assert first.status == 200
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Cache-Control"] == "no-store"
    accepted = first.json()
    assert accepted.pop("acceptedAt")
    assert accepted == {"operationId": operation, "status": "accepted"}
    last = wait_for(own_stack, operation, "processed")
    assert last["acceptedAt"][:23] == first.json()["acceptedAt"][:23]
    (stored,), = own_stack.sql(
        "SELECT to_char(accepted_at AT TIME ZONE 'UTC',"
        " 'YYYY-MM-DD\"T\"HH24:MI:SS.MS') FROM hotpath.operations"
        " WHERE operation_id = %s", (operation,))
    assert stored == last["acceptedAt"][:23]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
                        last["acceptedAt"])


def test_processed_is_known_without_postgres(own_stack):
    answers = [own_stack.post(event(key(), n)) for n in range(20)]
    for answer in answers:
        wait_for(own_stack, answer.json()["operationId"], "processed")
    own_stack.freeze("postgres")
    try:
        for answer in answers:
            again = own_stack.get(answer.headers["Location"])
            assert again.json()["status"] == "processed"
            assert again.seconds < 0.5
        unknown = status(own_stack, uuid.uuid4())
        assert unknown.status == 503
        assert unknown.json()["code"] == "backend_unavailable"
        assert unknown.headers["Retry-After"] == "1"
    finally:
        own_stack.thaw("postgres")
    wait_until(lambda: status(own_stack, uuid.uuid4()).status == 404, 15,
               "Postgres is asked again")


def test_of_another_instance_or_life(own_stack):
    """What this instance never heard of stands in Postgres."""
    name = key()
    with Nats(own_stack.ports["nats"]) as nats:
        nats.events(0, [golden.event(b'{"a":1}', name.encode())])
    operation = golden.uuid_text(
        golden.operation_id(b"acme", b"events", name.encode()))
    found = wait_for(own_stack, operation, "processed")
    (stored,), = own_stack.sql(
        "SELECT to_char(processed_at AT TIME ZONE 'UTC',"
        " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM hotpath.operations"
        " WHERE operation_id = %s", (operation,))
    assert found.pop("processedAt") == stored
    assert found == {"operationId": operation, "status": "processed",
                     "acceptedAt": "2026-01-31T12:00:00.123456Z"}


@pytest.mark.parametrize("payload, code", [
    (b'"\\u0000"', "22P05"), (b"{", "22P02"), (b"\xff", "22021")])
def test_dead_straight_into_the_stream(own_stack, payload, code):
    """Three in one message: one bad row costs one row."""
    names = [key() for _ in range(3)]
    payloads = [b"1", payload, b"3"]
    with Nats(own_stack.ports["nats"]) as nats:
        nats.events(1, [golden.event(each, name.encode())
                        for each, name in zip(payloads, names)])
    operations = [golden.uuid_text(golden.operation_id(
        b"acme", b"events", name.encode())) for name in names]
    dead = wait_for(own_stack, operations[1], "dead")
    assert dead["code"] == code
    assert set(dead) == {"operationId", "status", "acceptedAt", "code"}
    for operation in (operations[0], operations[2]):
        wait_for(own_stack, operation, "processed")
    assert own_stack.sql(
        "SELECT idempotency_key, payload FROM hotpath.events"
        " WHERE idempotency_key = ANY(%s) ORDER BY position", (names,)) == [
            (names[0], 1), (names[2], 3)]


def test_attributes_of_a_cloudevent_are_columns(own_stack):
    """Of the frame's attributes and data, schemas/framing.md."""
    sent = [(b'{"a":1}', b'{"id":"1","source":"/shop"}', 0, None),
            (b"null", b'{"id":"2"}', 1, "none"),
            (b'"<a/>"', b'{"id":"3"}', 2, "text"),
            (b'"AAEC"', b'{"id":"4"}', 3, "base64"),
            (b"5", b"", 0, None)]
    names = [key() for _ in sent]
    with Nats(own_stack.ports["nats"]) as nats:
        nats.events(0, [
            golden.event(payload, name.encode(), attributes=attributes,
                         data=data)
            for name, (payload, attributes, data, _) in zip(names, sent)])
    rows = wait_until(
        lambda: (lambda found: found if len(found) == len(sent) else None)(
            own_stack.sql(
                "SELECT attributes::text, data_kind, payload::text"
                " FROM hotpath.events WHERE idempotency_key = ANY(%s)"
                " ORDER BY position", (names,))), 10, "all are stored")
    for row, (payload, attributes, _, kind) in zip(rows, sent):
        assert json.loads(row[2]) == json.loads(payload)
        assert row[1] == kind
        assert row[0] is None if not attributes else (
            json.loads(row[0]) == json.loads(attributes))


def test_dead_though_it_was_accepted(own_stack, poison):
    with Nats(own_stack.ports["nats"]) as nats:
        nats.subscribe("hotpath.dead.*")
        answer = own_stack.post(event(key(), poison))
        good = own_stack.post(event(key(), 1))
        assert (answer.status, good.status) == (202, 202)
        operation = answer.json()["operationId"]
        dead = wait_for(own_stack, operation, "dead")
        assert dead["code"] == "23514"
        letter = json.loads(nats.next().data)
    assert letter["operation"] == operation
    assert letter["code"] == "23514"
    assert json.loads(letter["payload"]) == poison
    wait_for(own_stack, good.json()["operationId"], "processed")
    (state, code), = own_stack.sql(
        "SELECT state, code FROM hotpath.operations"
        " WHERE operation_id = %s", (operation,))
    assert (state, code) == (2, "23514")
    assert own_stack.sql("SELECT 1 FROM hotpath.events"
                         " WHERE operation_id = %s", (operation,)) == []
    again = own_stack.post(event(letter["key"], poison))
    assert again.headers["Idempotent-Replayed"] == "true"


def test_conflict_seen_only_in_postgres(own_stack):
    """The first one's outcome was unknown, so its key could be used again;
    the first payload wins and the operation says that there was another."""
    name = key()
    own_stack.freeze("nats")
    try:
        with RawHTTP(own_stack.ports["http"]) as client:
            client.post(event(name, {"n": 1}))
            lost = client.answer()
    finally:
        own_stack.thaw("nats")
    assert lost.status == 503
    assert lost.headers["retry-after"] == "1"
    assert json.loads(lost.body)["code"] == "outcome_unknown"
    operation = golden.uuid_text(
        golden.operation_id(b"default", b"events", name.encode()))
    wait_until(lambda: own_stack.sql(
        "SELECT 1 FROM hotpath.events WHERE operation_id = %s",
        (operation,)), 15, "the first one was stored after all")
    second = own_stack.post(event(name, {"n": 2}))
    assert second.status == 202
    assert second.json()["operationId"] == operation
    found = wait_until(
        lambda: (lambda body: body if body.get("conflict") else None)(
            status(own_stack, operation).json()), 15, "it is in conflict")
    assert found["status"] == "processed"
    assert found["conflict"] is True
    assert own_stack.sql(
        "SELECT e.payload, o.conflicts FROM hotpath.events e"
        " JOIN hotpath.operations o USING (operation_id)"
        " WHERE operation_id = %s", (operation,)) == [({"n": 1}, 1)]


def test_unknown(own_stack):
    answer = status(own_stack, uuid.uuid4())
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "operation_unknown"


@pytest.mark.parametrize("text", [
    "", "1", "x" * 36, str(uuid.UUID(int=1))[:-1], f"{uuid.UUID(int=1)}0",
    uuid.UUID(int=1).hex, f"{uuid.UUID(int=1)}/", "%7B" + "0" * 36])
def test_no_operation_id(own_stack, text):
    answer = status(own_stack, text)
    assert answer.status == 400
    assert answer.json()["code"] == "operation_id_invalid"


def test_other_methods(own_stack):
    path = f"/events/status/{uuid.uuid4()}"
    answer = own_stack.request("POST", path, b"{}")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.json()["code"] == "method_not_allowed"
    posted = own_stack.post(event(key(), 1))
    head = own_stack.request("HEAD", posted.headers["Location"])
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 50
