"""The ways in: CloudEvents, arrays of events, coded and chunked bodies.

The contract of ngx_module/ngx_http_hotpath_accept.c, _request.c and _body.c
beyond the one event in application/json, which is test_write.py's. What is
accepted is looked up in Postgres, with attributes and kind of data; each
result of a batch is compared with what the same event alone is answered. The
broker is frozen or stopped where outcomes must be missing.
"""

import base64
import contextlib
import gzip
import json
import re
import subprocess
import uuid
import zlib

import pytest

from servers import local, wait_until
from wire import RawHTTP, chunked, config, golden

H2_PORT = local.free_ports()["http"]
BODY_MAX = 65536
BATCH_SIZE = 1048576

SERVER = """
location = /stub { stub_status; }
location = /own { hotpath_write own; hotpath_cloudevents off;
                  hotpath_batch_max 0; }
location = /few { hotpath_write few; hotpath_batch_max 3;
                  hotpath_batch_size 2000; hotpath_body_max 400; }
location = /optional { hotpath_write optional key=optional; }
location = /member { hotpath_write member; hotpath_json_depth 3;
                     hotpath_partition_key payload=thing; }
"""

STACK = {
    "without": ("project",),
    "server": SERVER,
    "hotpath": config("hotpath.conf", ("timeout=5s", "timeout=1s"))
    + "hotpath_body_memory 3m;\n",
    "http": f"server {{ listen 127.0.0.1:{H2_PORT} http2;"
            f" location = /events {{ hotpath_write events; }} }}",
}

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
OWN = "application/json"


def key():
    return f"events-{uuid.uuid4()}"


def own(name, payload=1, kind="t"):
    return {"idempotencyKey": name, "eventType": kind, "payload": payload}


def cloud(name, **more):
    return {"specversion": "1.0", "id": name, "source": "/s", "type": "t",
            **more}


def post(stack, body, kind=OWN, path="/events", **headers):
    """Headers by keyword: Content_Encoding="gzip"."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    return stack.request("POST", path, body, {
        "Content-Type": kind,
        **{name.replace("_", "-"): value for name, value in headers.items()}})


def stored(stack, name):
    """(type, payload, attributes, kind of data) under an idempotency key."""
    return wait_until(lambda: stack.sql(
        "SELECT event_type, payload, attributes, data_kind FROM hotpath.events"
        " WHERE idempotency_key = %s ORDER BY position", (name,)), 15,
        f"{name} has a row")


def operation(name, route="events", tenant="default"):
    return golden.uuid_text(golden.operation_id(
        tenant.encode(), route.encode(), name.encode()))


def partition(name):
    return golden.partition(b"default", b"", golden.operation_id(
        b"default", b"events", name.encode()), 2)


def accepted(name, **more):
    return {"operationId": operation(name), "status": "accepted", **more}


def problem_of(answer, status, code):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status), problem
    return problem


def codes(results):
    """What each result says, shortly."""
    return [each["problem"]["code"] if "problem" in each
            else "replayed" if each.get("replayed") else each["status"]
            for each in results]


def writing(stack):
    """Requests that nginx works on just now, this one not counted."""
    text = stack.get("/stub").body.decode()
    return int(re.search(r"Writing: (\d+)", text).group(1)) - 1


@pytest.fixture
def frozen(own_stack):
    own_stack.freeze("nats")
    yield own_stack
    own_stack.thaw("nats")
    own_stack.wait_thawed()


# CloudEvents.

def test_structured(own_stack):
    name = key()
    sent = cloud(name, type="order.placed", time="2026-01-31T12:00:00Z",
                 subject="o/1", myext=7, flag=True, data={"b": [1, 2.50]})
    answer = post(own_stack, sent, STRUCTURED)
    assert answer.status == 202, answer
    assert answer.json() == accepted(f"/s {name}")
    assert answer.headers["Location"] == \
        f"/events/status/{operation(f'/s {name}')}"
    assert stored(own_stack, f"/s {name}") == [
        ("order.placed", {"b": [1, 2.5]},
         {"id": name, "source": "/s", "time": "2026-01-31T12:00:00Z",
          "subject": "o/1", "myext": 7, "flag": True,
          "datacontenttype": "application/json"}, None)]
    again = post(own_stack, sent, STRUCTURED + "; charset=UTF-8")
    assert again.headers["Idempotent-Replayed"] == "true"
    problem_of(post(own_stack, dict(sent, data=1), STRUCTURED), 422,
               "idempotency_key_reused")


@pytest.mark.parametrize("more, payload, kind", [
    ({}, None, "none"),
    ({"data": None}, None, None),
    ({"data": "text", "datacontenttype": "text/plain"}, "text", "text"),
    ({"data": "text"}, "text", None),
    ({"data_base64": base64.b64encode(b"\0\xff").decode()},
     base64.b64encode(b"\0\xff").decode(), "base64"),
    ({"data": {"a": " b "}, "datacontenttype": "application/x+json"},
     {"a": " b "}, None)])
def test_kinds_of_data(own_stack, more, payload, kind):
    name = key()
    text = json.dumps(cloud(name, **more), indent=1)
    assert post(own_stack, text, STRUCTURED).status == 202
    (_, got, attributes, got_kind), = stored(own_stack, f"/s {name}")
    assert (got, got_kind) == (payload, kind)
    assert attributes["id"] == name


def test_binary(own_stack):
    name = key()
    answer = post(
        own_stack, b' {"a" : [1, "x y"]} ', "application/vnd.x+json",
        ce_specversion="1.0", CE_Id=name, ce_source="/s", ce_type='"t\\"q"',
        ce_subject="Euro%20%E2%82%AC%20%F0%9F%98%80", ce_myext="plain")
    assert answer.status == 202, answer
    assert stored(own_stack, f"/s {name}") == [
        ('t"q', {"a": [1, "x y"]},
         {"id": name, "source": "/s", "subject": "Euro € 😀",
          "myext": "plain", "datacontenttype": "application/vnd.x+json"},
         None)]
    # the same event, structured: one operation, one row
    again = post(own_stack, cloud(name, type='t"q', data={"a": [1, "x y"]}),
                 STRUCTURED)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_binary_without_data(own_stack):
    name = key()
    assert own_stack.request("POST", "/events", b"", {
        "ce-specversion": "1.0", "ce-id": name, "ce-source": "/s",
        "ce-type": "t"}).status == 202
    assert stored(own_stack, f"/s {name}")[0][1:] == (
        None, {"id": name, "source": "/s"}, "none")


@pytest.mark.parametrize("change, code, attribute", [
    ({"specversion": "0.3"}, "ce_specversion_unsupported", "specversion"),
    ({"Bad-Name": 1}, "ce_attribute_name", "Bad-Name"),
    ({"n" * 100: 1}, "ce_attribute_name", "n" * 64),
    ({"id": None}, "ce_attribute_required", "id"),
    ({"type": 7}, "ce_attribute_type", "type"),
    ({"time": "noon"}, "ce_attribute_value", "time"),
    ({"myext": [1]}, "ce_attribute_type", "myext"),
    ({"myext": "a\u0007"}, "ce_attribute_value", "myext"),
    ({f"x{n}": "v" for n in range(33)}, "ce_attributes_too_many", None),
    ({"myext": "v" * 9000}, "ce_attributes_too_large", "myext"),
    ({"data": 1, "data_base64": "AA=="}, "ce_data_duplicate", None),
    ({"data": 1, "datacontenttype": "text/plain"}, "ce_data_type", None),
    ({"data_base64": "A"}, "ce_data_base64", None)])
def test_refused_cloudevent(own_stack, change, code, attribute):
    event = {name: value for name, value in cloud(key(), **change).items()
             if value is not None}
    text = json.dumps(event)
    problem = problem_of(post(own_stack, text, STRUCTURED), 400, code)
    assert 0 <= problem["offset"] <= len(text)
    if attribute:
        assert problem["attribute"] == attribute
    batch = post(own_stack, f"[{text}]", BATCH)
    assert batch.status == 202
    (result,), = [batch.json()["results"]]
    assert result == {"status": "rejected",
                      "problem": dict(problem, offset=problem["offset"] + 1)}


@pytest.mark.parametrize("text, code", [
    ('{"specversion":"1.0","id":"a","id":"b"}', "ce_attribute_duplicate"),
    ("[]", "ce_not_object"), ("{", "json_syntax"), ("", "body_empty"),
    ('{"data":1,"data":2}', "ce_data_duplicate"),
    ('{"a":"\\u0000"}', "json_nul")])
def test_refused_structured_text(own_stack, text, code):
    problem_of(post(own_stack, text, STRUCTURED), 400, code)


@pytest.mark.parametrize("headers, status, code, attribute", [
    ({"ce-id": "%zz"}, 400, "ce_attribute_encoding", "id"),
    ({"ce-id": "%ff"}, 400, "ce_attribute_encoding", "id"),
    ({"ce-id": ""}, 400, "ce_attribute_value", "id"),
    ({"ce-a-b": "x"}, 400, "ce_attribute_name", "a-b"),
    ({"ce-type": None}, 400, "ce_attribute_required", "type"),
    ({"ce-specversion": "2.0"}, 400, "ce_specversion_unsupported",
     "specversion"),
    ({"Content-Type": "text/plain"}, 415, "content_type_unsupported", None),
    ({"Idempotency-Key": '"another"'}, 400, "idempotency_key_mismatch",
     None)])
def test_refused_binary(own_stack, headers, status, code, attribute):
    sent = {"ce-specversion": "1.0", "ce-id": key(), "ce-source": "/s",
            "ce-type": "t", "Content-Type": OWN, **headers}
    answer = own_stack.request("POST", "/events", b"1", {
        name: value for name, value in sent.items() if value is not None})
    problem = problem_of(answer, status, code)
    assert problem.get("attribute") == attribute
    assert "offset" not in problem


def test_attribute_named_twice_in_headers(own_stack):
    with RawHTTP(own_stack.ports["http"]) as raw:
        raw.post(b"1", "ce-specversion: 1.0", "ce-id: a", "ce-id: b",
                 "ce-source: /s", "ce-type: t")
        answer = raw.answer()
    assert json.loads(answer.body)["code"] == "ce_attribute_duplicate"


def test_key_of_a_cloudevent_in_the_header_too(own_stack):
    name = key()
    answer = post(own_stack, cloud(name), STRUCTURED,
                  Idempotency_Key=f'"/s {name}"')
    assert answer.json() == accepted(f"/s {name}")


def test_partition_key_of_a_cloudevent(own_stack):
    """The extension partitionkey first, then what the location says."""
    for more, text in (({"partitionkey": "pk"}, b"pk"),
                       ({"data": {"thing": "th"}}, b"th"),
                       ({"partitionkey": "pk", "data": {"thing": "th"}},
                        b"pk")):
        for n in range(4):
            event = cloud(key(), **json.loads(
                json.dumps(more).replace('k"', f'k{n}"')
                .replace('th"}', f'th{n}"}}')))
            text_n = text + b"%d" % n
            assert post(own_stack, event, STRUCTURED,
                        "/member").status == 202
            rows = wait_until(lambda: own_stack.sql(
                "SELECT partition FROM hotpath.events"
                " WHERE idempotency_key = %s", (f"/s {event['id']}",)), 15,
                "the event has a row")
            assert rows == [(golden.partition(b"default", text_n, b"", 2),)]


# Arrays.

def test_batch_of_own_events(own_stack):
    names = [key() for _ in range(5)]
    before = own_stack.metric("hotpath_write_batches_total")
    count = own_stack.metric("hotpath_write_requests_total", "accepted")
    answer = post(own_stack, [own(name, {"n": n}, f"type-{n}")
                              for n, name in enumerate(names)])
    assert answer.status == 202, answer
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"results": [accepted(name) for name in names]}
    for n, name in enumerate(names):
        assert stored(own_stack, name) == [(f"type-{n}", {"n": n}, None,
                                            None)]
    assert own_stack.metric("hotpath_write_batches_total") == before + 1
    assert own_stack.metric("hotpath_write_requests_total",
                            "accepted") == count + 5


def test_batch_of_cloudevents(own_stack):
    names = [key() for _ in range(3)]
    events = [cloud(names[0], data={"a": 1}),
              cloud(names[1], data_base64="AAEC", source="urn:x"),
              cloud(names[2])]
    answer = post(own_stack, json.dumps(events, indent=2), BATCH)
    keys = [f"/s {names[0]}", f"urn:x {names[1]}", f"/s {names[2]}"]
    assert answer.json() == {"results": [accepted(each) for each in keys]}
    assert [stored(own_stack, each)[0][1::2] for each in keys] == [
        ({"a": 1}, None), ("AAEC", "base64"), (None, "none")]
    # one by one they are known
    for event in events:
        again = post(own_stack, event, STRUCTURED)
        assert again.headers["Idempotent-Replayed"] == "true"


def test_batch_takes_the_good_ones(own_stack):
    names = [key() for _ in range(3)]
    assert own_stack.post(own(names[2])).status == 202
    elements = [
        json.dumps(own(names[0])), "7",
        '{"eventType":"t","payload":1}', '{"eventType":"t","extra":1}',
        json.dumps(own(names[0])), json.dumps(own(names[0], 2)),
        json.dumps(own(names[2])), json.dumps(own(names[2], 2)),
        json.dumps(own(key(), kind="")), json.dumps(own(names[1]))]
    text = "[" + ", ".join(elements) + "]"
    results = post(own_stack, text).json()["results"]
    assert codes(results) == [
        "accepted", "body_not_object", "idempotency_key_required",
        "member_unknown", "replayed", "idempotency_key_reused", "replayed",
        "idempotency_key_reused", "event_type_invalid", "accepted"]
    assert results[1]["problem"]["offset"] == text.index("7,")
    assert results[3]["problem"]["offset"] == text.index('"extra"')
    assert results[5]["operationId"] == operation(names[0])
    assert "operationId" not in results[1]
    for name in names:
        assert len(stored(own_stack, name)) == 1
        assert stored(own_stack, name)[0][1] == 1


def test_events_without_a_key_are_all_new(own_stack):
    events = [{"eventType": "t", "payload": n} for n in (1, 1, 2)]
    results = post(own_stack, events, path="/optional").json()["results"]
    assert codes(results) == ["accepted"] * 3
    assert len({each["operationId"] for each in results}) == 3


def test_largest_batch(own_stack):
    """A thousand events, over both partitions, each a row."""
    prefix = key()
    events = [own(f"{prefix}-{n}", {"productId": n}) for n in range(1000)]
    answer = post(own_stack, events)
    assert codes(answer.json()["results"]) == ["accepted"] * 1000
    wait_until(lambda: own_stack.sql(
        "SELECT count(*), count(DISTINCT partition) FROM hotpath.events"
        " WHERE idempotency_key LIKE %s", (prefix + "%",)) == [(1000, 2)],
        20, "all of them have rows")
    again = post(own_stack, events)
    assert codes(again.json()["results"]) == ["replayed"] * 1000
    problem_of(post(own_stack, events + [own(key())]), 413, "batch_too_many")


def test_thousand_times_one_event(own_stack):
    name = key()
    answer = post(own_stack, [own(name)] * 1000)
    assert codes(answer.json()["results"]) == \
        ["accepted"] + ["replayed"] * 999
    assert len(stored(own_stack, name)) == 1


def test_empty_batch(own_stack):
    for kind in (OWN, BATCH):
        answer = post(own_stack, " [ ] ", kind)
        assert (answer.status, answer.json()) == (202, {"results": []})


@pytest.mark.parametrize("text, kind, code, offset", [
    ("{}", BATCH, "batch_not_array", None), ("", BATCH, "body_empty", 0),
    ("[{},]", OWN, "json_syntax", 4), ("[{}] x", BATCH, "json_trailing", 5),
    ('[{},"\\ud800"]', OWN, "json_surrogate", 5), ("[1", OWN, "json_syntax",
                                                   2)])
def test_refused_as_a_whole(own_stack, text, kind, code, offset):
    assert problem_of(post(own_stack, text, kind), 400,
                      code).get("offset") == offset


def test_key_in_the_header_of_a_batch(own_stack):
    problem_of(post(own_stack, [own(key())], Idempotency_Key='"k"'), 400,
               "idempotency_key_on_batch")


def test_depth_in_a_batch_is_that_of_an_event(own_stack):
    deep = own(key(), [1])
    assert post(own_stack, deep, path="/member").status == 202
    deeper = own(key(), [[1]])
    assert post(own_stack, deeper, path="/member").status == 202
    results = post(own_stack, [own(key(), [[1]])],
                   path="/member").json()["results"]
    assert codes(results) == ["accepted"]
    text = json.dumps([own(key()), own(key(), [[[1]]])])
    problem_of(post(own_stack, text, path="/member"), 400, "json_depth")


def test_bounds_of_a_batch(own_stack):
    small = [own(key()) for _ in range(3)]
    assert codes(post(own_stack, small, path="/few").json()["results"]) == \
        ["accepted"] * 3
    problem_of(post(own_stack, small + small[:1], path="/few"), 413,
               "batch_too_many")
    # one event that is too long is that one's result
    long = [own(key(), "x" * 400), own(key())]
    assert codes(post(own_stack, long, path="/few").json()["results"]) == [
        "event_too_large", "accepted"]
    # and alone that of the request
    problem_of(post(own_stack, long[0], path="/few"), 413, "body_too_large")
    whole = json.dumps(small)
    fits = whole + " " * (2000 - len(whole))
    assert post(own_stack, fits, path="/few").status == 202
    problem_of(post(own_stack, fits + " ", path="/few"), 413,
               "body_too_large")
    # white space counts for what it stands before
    assert post(own_stack, " " * 401 + whole, path="/few").status == 202
    problem_of(post(own_stack, " " * 401 + json.dumps(small[0]),
                    path="/few"), 413, "body_too_large")
    problem_of(post(own_stack, " " * 2000, path="/few"), 400, "body_empty")


def test_only_own_events(own_stack):
    problem_of(post(own_stack, [own(key())], path="/own"), 400,
               "body_not_object")
    for kind in (STRUCTURED, BATCH):
        problem_of(post(own_stack, cloud(key()), kind, "/own"), 415,
                   "content_type_unsupported")
    name = key()
    assert post(own_stack, own(name), path="/own", ce_specversion="1.0",
                ce_id="x", ce_source="/s", ce_type="t").status == 202
    assert stored(own_stack, name)[0][2] is None


def test_tenant_of_a_batch(own_stack):
    problem_of(post(own_stack, [own(key())], X_Tenant="a b"), 400,
               "tenant_invalid")
    name = key()
    results = post(own_stack, [own(name)], X_Tenant="other").json()["results"]
    assert results[0]["operationId"] == operation(name, tenant="other")


@pytest.mark.parametrize("kind, status, code", [
    ("json", 400, "content_type_invalid"),
    ("application/json; charset=latin1", 415, "charset_unsupported"),
    ("application/cloudevents+avro", 415, "content_type_unsupported"),
    ("application/cloudevents+json; charset=utf-16", 415,
     "charset_unsupported")])
def test_content_types(own_stack, kind, status, code):
    problem_of(post(own_stack, "{}", kind), status, code)


# When the broker is not there.

def test_batch_with_an_unknown_outcome(frozen):
    names = [key(), key()]
    answer = post(frozen, [own(names[0]), own(names[1]), own(names[0]), 7])
    problem = problem_of(answer, 503, "outcome_unknown")
    assert answer.headers["Retry-After"]
    results = problem["results"]
    assert codes(results) == ["outcome_unknown"] * 3 + ["body_not_object"]
    assert [each["status"] for each in results] == ["unknown"] * 3 + [
        "rejected"]
    assert results[0]["operationId"] == operation(names[0])


def test_batch_while_one_of_it_is_in_flight(frozen):
    """409 for that one alone, and the rest has its own outcome: of another
    partition, so that it does not wait for the first one's message."""
    name = key()
    other = next(each for each in iter(key, None)
                 if partition(each) != partition(name))
    with RawHTTP(frozen.ports["http"]) as first:
        first.post(own(name))
        wait_until(lambda: writing(frozen) == 1, 10, "it is under way")
        answer = post(frozen, [own(name), own(other)])
        assert json.loads(first.answer().body)["code"] == "outcome_unknown"
    assert codes(problem_of(answer, 503, "outcome_unknown")["results"]) == [
        "operation_in_flight", "outcome_unknown"]
    frozen.thaw("nats")
    for each in (name, other):
        wait_until(lambda each=each: frozen.post(own(each)).status == 202, 15,
                   "a repeat is accepted")
        assert len(stored(frozen, each)) == 1


def test_client_that_goes_away_undoes_nothing(frozen):
    names = [key() for _ in range(3)]
    with RawHTTP(frozen.ports["http"]) as raw:
        raw.post([own(name) for name in names])
        wait_until(lambda: writing(frozen) == 1, 10,
                   "the batch is under way")
    frozen.thaw("nats")
    for name in names:
        wait_until(lambda name=name: frozen.post(own(name)).status == 202, 15,
                   "it can be sent again")
        assert len(stored(frozen, name)) == 1


def test_batch_that_fills_the_queue(make_stack):
    """What finds no room is told so at once, the rest has its outcome; and all
    of it is one row each when it is sent again."""
    stack = make_stack(without=("project",), hotpath=config(
        "hotpath.conf", ("timeout=5s", "timeout=1s"),
        ("queue=32m", "queue=300k")))
    events = [own(key(), "q" * 20000) for _ in range(40)]
    stack.freeze("nats")
    try:
        answer = post(stack, events)
    finally:
        stack.thaw("nats")
    results = codes(problem_of(answer, 503, "outcome_unknown")["results"])
    assert set(results) <= {"outcome_unknown", "publish_queue_full",
                            "broker_unavailable"}
    assert results.count("publish_queue_full") > 20
    assert results.count("outcome_unknown") > 1
    stack.wait_ready()

    def left():
        """Sends what was not accepted again; how much of it still was not."""
        got = codes(post(stack, events).json()["results"])
        events[:] = [each for each, code in zip(events, got)
                     if code not in ("accepted", "replayed")]
        return len(events)

    names = [each["idempotencyKey"] for each in events]
    wait_until(lambda: left() == 0, 20, "all of them are accepted")
    wait_until(lambda: stack.sql(
        "SELECT count(*), count(DISTINCT idempotency_key) FROM hotpath.events"
        " WHERE idempotency_key = ANY(%s)", (names,)) == [(40, 40)], 15,
        "each has one row")


def test_batch_without_a_broker(own_stack):
    own_stack.stop("nats")
    try:
        wait_until(lambda: own_stack.post(own(key())).json()["code"]
                   == "broker_unavailable", 15, "the loss is noticed")
        problem = problem_of(post(own_stack, [own(key()), 7]), 503,
                             "broker_unavailable")
        assert codes(problem["results"]) == ["broker_unavailable",
                                             "body_not_object"]
        # nothing of it could have been accepted
        assert codes(post(own_stack, [7, 8]).json()["results"]) == [
            "body_not_object"] * 2
    finally:
        own_stack.start("nats")
        own_stack.wait_ready()


# Coded, chunked, announced.

def test_gzip(own_stack):
    for body, kind, name in (
            (own("k"), OWN, "{}"), ([own("k")] * 2, OWN, "{}"),
            (cloud("k"), STRUCTURED, "/s {}"), ([cloud("k")], BATCH, "/s {}")):
        unique = key()
        text = json.dumps(body).replace('"k"', f'"{unique}"').encode()
        for coding in ("gzip", "x-GZIP"):
            answer = post(own_stack, gzip.compress(text), kind,
                          Content_Encoding=coding)
            assert answer.status == 202, answer
        assert len(stored(own_stack, name.format(unique))) == 1


def test_gzip_of_all_lengths(own_stack):
    """Chunks of one byte, several members, a long text out of a short body,
    the bound from both sides."""
    name = key()
    text = json.dumps(own(name)).encode()
    coded = gzip.compress(text[:9]) + gzip.compress(b"") + gzip.compress(
        text[9:])
    with RawHTTP(own_stack.ports["http"]) as raw:
        raw.send(b"POST /events HTTP/1.1\r\nHost: test\r\n"
                 b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
                 b"\r\n" + chunked(*[bytes([each]) for each in coded]))
        assert json.loads(raw.answer().body) == accepted(name)
    head = json.dumps(own(key(), "")).encode()[:-2]
    most = head + b"x" * (BODY_MAX - len(head) - 2) + b'"}'
    assert len(most) == BODY_MAX
    coded = gzip.compress(most)
    assert len(coded) < 1000
    assert post(own_stack, coded, Content_Encoding="gzip").status == 202
    problem_of(post(own_stack, gzip.compress(most + b" "),
                    Content_Encoding="gzip"), 413, "body_too_large")
    problem = problem_of(post(
        own_stack, gzip.compress(b" " * 5000 + b"{x"),
        Content_Encoding="gzip"), 400, "json_syntax")
    assert problem["offset"] == 5001


def test_gzip_bomb(own_stack):
    for text in (b" " * 10**8, b"[" + b" " * 10**8, b'{"a":"' + b"x" * 10**8):
        problem_of(post(own_stack, gzip.compress(text, 1),
                        Content_Encoding="gzip"), 413, "body_too_large")
    assert own_stack.metric("hotpath_write_body_bytes") == 0


@pytest.mark.parametrize("damage", [
    lambda coded: coded[:-1], lambda coded: coded[:20], lambda coded: b"x",
    lambda coded: coded + b"x", lambda coded: coded + coded[:10],
    lambda coded: coded[:-8] + bytes([coded[-8] ^ 1]) + coded[-7:],
    lambda coded: coded[:12] + b"\xff\xff" + coded[14:],
    lambda coded: zlib.compress(b"{}"),
    lambda coded: b"{}"])
def test_gzip_that_is_none(own_stack, damage):
    coded = gzip.compress(json.dumps(own(key())).encode())
    problem_of(post(own_stack, damage(coded), Content_Encoding="gzip"), 400,
               "body_encoding_invalid")


def test_codings(own_stack):
    for coding in ("br", "deflate", "gzip, gzip", "identity, gzip", "zstd"):
        answer = post(own_stack, "{}", Content_Encoding=coding)
        problem_of(answer, 415, "content_encoding_unsupported")
        assert answer.headers["Accept-Encoding"] == "gzip"
    with RawHTTP(own_stack.ports["http"]) as raw:
        raw.post(b"{}", "Content-Encoding: gzip", "Content-Encoding: gzip")
        assert raw.answer().status == 415
    assert post(own_stack, own(key()),
                Content_Encoding="identity").status == 202
    problem_of(post(own_stack, b"", Content_Encoding="gzip"), 400,
               "body_empty")


def test_length_required(own_stack):
    for version, headers, code in ((b"1.1", b"", "length_required"),
                                   (b"1.0", b"", "length_required"),
                                   (b"1.1", b"Content-Length: 0\r\n",
                                    "body_empty")):
        with RawHTTP(own_stack.ports["http"]) as raw:
            raw.send(b"POST /events HTTP/" + version + b"\r\nHost: test\r\n"
                     + headers + b"\r\n")
            answer = raw.answer()
        assert json.loads(answer.body)["code"] == code
        assert answer.status == (411 if code == "length_required" else 400)


def test_expect_continue(own_stack):
    """Asked for what is taken, refused without it what is not."""
    name = key()
    body = json.dumps([own(name)]).encode()
    head = (b"POST /events HTTP/1.1\r\nHost: test\r\n"
            b"Expect: 100-continue\r\n%sContent-Length: %d\r\n\r\n")
    with RawHTTP(own_stack.ports["http"]) as raw:
        raw.send(head % (b"", len(body)))
        assert raw.answer().status == 100
        raw.send(body)
        assert json.loads(raw.answer().body)["results"] == [accepted(name)]
    for more, length, status in ((b"", BATCH_SIZE + 1, 413),
                                 (b"Content-Type: text/html\r\n", 9, 415),
                                 (b"Content-Encoding: br\r\n", 9, 415)):
        with RawHTTP(own_stack.ports["http"]) as raw:
            raw.send(head % (more, length))
            assert raw.answer().status == status


def test_large_batch_in_chunks(own_stack):
    """As long as a batch may be, sent in pieces; and one byte more."""
    events = [own(key(), "y" * 50000) for _ in range(20)]
    text = json.dumps(events).encode()
    text += b" " * (BATCH_SIZE - len(text))
    head = (b"POST /events HTTP/1.1\r\nHost: test\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    with RawHTTP(own_stack.ports["http"]) as raw:
        raw.send(head + chunked(b" ", text[:-1]))
        answer = raw.answer()
    assert codes(json.loads(answer.body)["results"]) == ["accepted"] * 20
    with RawHTTP(own_stack.ports["http"]) as raw:
        with contextlib.suppress(ConnectionError):
            raw.send(head + chunked(text, b" "))
        assert raw.answer().status == 413


@pytest.mark.parametrize("length", [10, 40000])
def test_http_2(own_stack, length, tmp_path):
    """With a client that shares nothing with these tests."""
    for kind, name, body in (
            (OWN, "{}", lambda name: own(name, "z" * length)),
            (OWN, "{}", lambda name: [own(name, "z" * length)] * 3),
            (STRUCTURED, "/s {}", lambda name: cloud(name,
                                                     data="z" * length))):
        for coding in (None, "gzip"):
            unique = key()
            text = json.dumps(body(unique)).encode()
            (tmp_path / "body").write_bytes(
                gzip.compress(text) if coding else text)
            done = subprocess.run(
                ["curl", "-sS", "--http2-prior-knowledge", "-m", "20",
                 "-H", f"Content-Type: {kind}", "-w", "%{http_code}",
                 *(["-H", f"Content-Encoding: {coding}"] if coding else []),
                 "--data-binary", f"@{tmp_path}/body",
                 f"http://127.0.0.1:{H2_PORT}/events"],
                capture_output=True, text=True, timeout=30, check=True)
            assert done.stdout.endswith("202"), done.stdout
            assert stored(own_stack, name.format(unique))[0][1] == \
                "z" * length


def test_bodies_have_one_bound(own_stack):
    """Clients that send and do not end cost so much and no more; a body that
    came with its headers needs none of it."""
    head = (b"POST /events HTTP/1.1\r\nHost: test\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"[" + b" " * 600000
    with contextlib.ExitStack() as open_ones:
        for count in range(1, 20):
            raw = open_ones.enter_context(RawHTTP(own_stack.ports["http"]))
            raw.send(head + b"%x\r\n" % len(piece) + piece + b"\r\n")
            if count < 2:
                continue
            answer = post(own_stack, " " * 60000)
            if answer.status == 503:
                break
        problem_of(answer, 503, "body_memory_full")
        assert answer.headers["Retry-After"]
        held = own_stack.metric("hotpath_write_body_bytes")
        assert 0 < held <= 3 * 2**20 * len(own_stack.nginx_workers())
        assert own_stack.post(own(key())).status == 202
    wait_until(lambda: own_stack.metric("hotpath_write_body_bytes") == 0, 15,
               "their memory is free again")
    assert post(own_stack, own(key(), "x" * 60000)).status == 202
