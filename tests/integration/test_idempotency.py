"""One key, one effect: what an instance does with a key that it knows.

ngx_module/ngx_http_hotpath_idempotency.c, _hold.c and what _request.c makes of
them, seen from clients and from Postgres: a key whose first request is in
flight, on 409 and on waiting (hotpath_idempotency_wait), over two workers and
with one of them killed; a key of another form; a table so small that it
forgets. Time stands still where a test needs it: the broker is frozen.

What is accepted at all is in test_write.py, the guard of an upstream in
test_guard.py, two instances in tests/faults/test_two_instances.py.
"""

import json
import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from servers import wait_until
from wire import RawHTTP, config

SERVER = """
location = /patient { hotpath_write events; hotpath_idempotency_wait 20s; }
location = /hasty { hotpath_write events; hotpath_idempotency_wait 300ms; }
location = /optional { hotpath_write optional key=optional; }
location = /pid { return 200 $pid; }
"""
TIGHT = ("zone=operations:32m", "zone=operations:256k")

STACK = {"without": ("project",), "server": SERVER,
         "hotpath": config("hotpath.conf", TIGHT)}


def key():
    return f"idem-{uuid.uuid4()}"


def event(name, payload=None):
    return {"idempotencyKey": name, "eventType": "page_view",
            "payload": {"a": 1} if payload is None else payload}


def rows(stack, name):
    return wait_until(lambda: stack.sql(
        "SELECT operation_id::text, payload FROM hotpath.events"
        " WHERE idempotency_key = %s", (name,)), 20, f"{name} has a row")


def problem(answer, status, code):
    assert answer.status == status, answer
    assert json.loads(answer.body)["code"] == code


def pid_of(connection):
    connection.send(b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n")
    return int(connection.answer().body)


def waiting(stack, count):
    wait_until(lambda: stack.metric("hotpath_waiting") == count, 20,
               f"{count} requests wait")


@pytest.fixture
def frozen(own_stack):
    """A broker that hears nothing until the test thaws it."""
    own_stack.freeze("nats")
    yield own_stack
    own_stack.thaw("nats")
    own_stack.wait_thawed()


@pytest.fixture
def connections(own_stack):
    """As many as there are, some to each worker."""
    made = []
    workers = set()
    while len(made) < 12 or len(workers) < 2:
        made.append(RawHTTP(own_stack.ports["http"], 40))
        made[-1].pid = pid_of(made[-1])
        workers.add(made[-1].pid)
        assert len(made) < 200, "one worker gets all connections"
    yield made
    for connection in made:
        connection.close()


# In flight.

def test_in_flight_is_a_conflict(frozen):
    name = key()
    with RawHTTP(frozen.ports["http"]) as first:
        first.post(event(name))
        answer = wait_until(
            lambda: [each for each in [frozen.post(event(name))]
                     if each.status == 409], 10, "the first is in flight")[0]
        problem(answer, 409, "operation_in_flight")
        assert answer.headers["Retry-After"] == "1"
        problem(frozen.post(event(name, 2)), 422, "idempotency_key_reused")


def test_waiting_for_the_first(frozen, connections):
    """All of them, in both workers, get what the first one gets."""
    name = key()
    decided = frozen.metric("hotpath_waits_total", 'result="decided"')
    for connection in connections:
        connection.post(event(name), path="/patient")
    waiting(frozen, len(connections) - 1)
    problem(frozen.request("POST", "/patient", event(name, 2)), 422,
            "idempotency_key_reused")
    frozen.thaw("nats")
    answers = [connection.answer() for connection in connections]
    assert {answer.status for answer in answers} == {202}, answers
    assert len({answer.body for answer in answers}) == 1
    replayed = [answer for answer in answers
                if answer.headers.get("idempotent-replayed") == "true"]
    assert len(replayed) == len(answers) - 1
    assert len(rows(frozen, name)) == 1
    waiting(frozen, 0)
    assert frozen.metric("hotpath_waits_total", 'result="decided"') \
        == decided + len(connections) - 1


def test_one_of_those_who_wait_may_try(frozen, connections):
    """The first one's outcome is unknown after five seconds: then another one
    is sent, and the rest waits for that."""
    name = key()
    connections[0].post(event(name), path="/patient")
    wait_until(lambda: frozen.post(event(name)).status == 409, 10,
               "the first is in flight")
    for connection in connections[1:]:
        connection.post(event(name), path="/patient")
    waiting(frozen, len(connections) - 1)
    problem(connections[0].answer(), 503, "outcome_unknown")
    waiting(frozen, len(connections) - 2)
    frozen.thaw("nats")
    answers = [connection.answer() for connection in connections[1:]]
    assert {answer.status for answer in answers} == {202}, answers
    assert sum("idempotent-replayed" not in answer.headers
               for answer in answers) == 1
    assert len(rows(frozen, name)) == 1


def test_the_wait_is_bounded(frozen):
    name = key()
    with RawHTTP(frozen.ports["http"]) as first:
        first.post(event(name), path="/hasty")
        wait_until(lambda: frozen.post(event(name)).status == 409, 10,
                   "the first is in flight")
        answer = frozen.request("POST", "/hasty", event(name))
        problem(answer, 409, "operation_in_flight")
        assert 0.25 < answer.seconds < 4
        problem(first.answer(), 503, "outcome_unknown")


def test_who_waits_may_leave(frozen, connections):
    name = key()
    for connection in connections:
        connection.post(event(name), path="/patient")
    waiting(frozen, len(connections) - 1)
    held = frozen.metric("hotpath_write_body_bytes")
    assert held > 0
    for connection in connections[2:]:
        connection.close()
    wait_until(lambda: frozen.metric("hotpath_waiting") <= 1, 10,
               "they have left")
    frozen.thaw("nats")
    for connection in connections[:2]:
        assert connection.answer().status == 202
    assert len(rows(frozen, name)) == 1
    assert frozen.metric("hotpath_write_body_bytes") == 0


def test_batch_that_waits(frozen):
    """Each event of it for itself, also twice the same one."""
    name, other = key(), key()
    with RawHTTP(frozen.ports["http"]) as first, \
            RawHTTP(frozen.ports["http"]) as batch:
        first.post(event(name))
        wait_until(lambda: frozen.post(event(name)).status == 409, 10,
                   "the first is in flight")
        batch.post([event(name), event(other), event(name), event(name, 7)],
                   path="/patient")
        waiting(frozen, 2)
        frozen.thaw("nats")
        assert first.answer().status == 202
        answer = batch.answer()
    assert answer.status == 202
    results = json.loads(answer.body)["results"]
    assert [each["status"] for each in results] == [
        "accepted", "accepted", "accepted", "rejected"]
    assert [each.get("replayed", False) for each in results] == [
        True, False, True, False]
    assert len(rows(frozen, name)) == len(rows(frozen, other)) == 1


def test_worker_of_the_first_is_killed(frozen, connections):
    """Its claim is taken over by one of those who wait in the other worker,
    as soon as that worker's successor is there."""
    name = key()
    frozen.expect_log("exited on signal 9")
    first = connections[0]
    others = [each for each in connections if each.pid != first.pid]
    assert others
    first.post(event(name), path="/patient")
    wait_until(lambda: frozen.post(event(name)).status == 409, 10,
               "the first is in flight")
    for connection in others:
        connection.post(event(name), path="/patient")
    waiting(frozen, len(others))
    os.kill(first.pid, signal.SIGKILL)
    waiting(frozen, len(others) - 1)
    frozen.thaw("nats")
    answers = [connection.answer() for connection in others]
    assert {answer.status for answer in answers} == {202}, answers
    assert len(rows(frozen, name)) == 1


def test_reload_while_some_wait(frozen, connections):
    """They are in workers of the configuration before, the last ones are not,
    and what becomes known is known to all."""
    name = key()
    for connection in connections[:-1]:
        connection.post(event(name), path="/patient")
    waiting(frozen, len(connections) - 2)
    connections[-1].close()
    with ThreadPoolExecutor() as pool:
        reload = pool.submit(frozen["nginx"].signal, signal.SIGHUP)
        reload.result()
        old = {each.pid for each in connections}
        wait_until(lambda: len(set(frozen.nginx_workers()) - old) >= 2, 15,
                   "there are new workers")
        late = [pool.submit(frozen.request, "POST", "/patient", event(name))
                for _ in range(4)]
        frozen.thaw("nats")
        answers = [each.answer() for each in connections[:-1]] + [
            each.result(30) for each in late]
    assert {answer.status for answer in answers} == {202}, answers
    assert len(rows(frozen, name)) == 1
    wait_until(lambda: not old & set(frozen.nginx_workers()), 20,
               "the old workers have ended")


# The key itself.

@pytest.mark.parametrize("value", [
    '""', '"unfinished', 'a"b', '"a"; q=1', "a,b", '"a" "b"', '"\t"',
    '"' + "x" * 256 + '"'])
def test_form_of_the_key_is_checked_first(own_stack, value):
    """Before the body is looked at, which is no JSON here."""
    problem(own_stack.request("POST", "/events", b"{",
                              {"Content-Type": "application/json",
                               "Idempotency-Key": value}),
            400, "idempotency_key_invalid")


def test_two_keys(own_stack):
    with RawHTTP(own_stack.ports["http"]) as raw:
        raw.post(b"{", 'Idempotency-Key: "a"', 'Idempotency-Key: "a"')
        problem(raw.answer(), 400, "idempotency_key_invalid")


def test_scope(own_stack):
    """Tenant, route and key: each of them makes it another operation."""
    name = key()
    own = own_stack.post(event(name))
    assert own.status == 202
    for path, headers in (("/optional", {}),
                          ("/events", {"X-Tenant": "other"})):
        answer = own_stack.request("POST", path, event(name, 2), headers)
        assert answer.status == 202, answer
        assert answer.json()["operationId"] != own.json()["operationId"]
    again = own_stack.request("POST", "/patient", event(name))
    assert again.json() == own.json()
    assert again.headers["Idempotent-Replayed"] == "true"


def test_white_space_is_no_other_payload(own_stack):
    name = key()
    body = b'{"idempotencyKey":"%s","eventType":"t","payload":{"a":[1,2]}}'
    spaced = body.replace(b'{"a":[1,2]}', b' {"a" : [1,\n2 ] }')
    header = {"Content-Type": "application/json"}
    for text, replayed in ((body, None), (spaced, "true")):
        answer = own_stack.request("POST", "/events", text % name.encode(),
                                   header)
        assert answer.status == 202
        assert answer.headers["Idempotent-Replayed"] == replayed


# Forgetting.

def test_forgetting_is_harmless(own_stack):
    """A table for some 3,700 keys: of 6,000 many are forgotten, and none has
    two rows or another operation when it is sent again."""
    prefix = key()
    names = [f"{prefix}-{number}" for number in range(6000)]
    forced = own_stack.metric("hotpath_idempotency_forced_evictions_total")
    seen = []
    for _ in range(2):
        ids = {}
        for at in range(0, len(names), 500):
            answer = own_stack.post([
                event(name) for name in names[at:at + 500]])
            assert answer.status == 202, answer
            for name, result in zip(names[at:at + 500],
                                    answer.json()["results"]):
                assert result["status"] == "accepted", result
                ids[name] = result["operationId"]
        seen.append(ids)
    assert seen[0] == seen[1]
    assert own_stack.metric("hotpath_idempotency_forced_evictions_total") \
        > forced + 1000
    query = ("SELECT count(*), count(DISTINCT idempotency_key),"
             " count(DISTINCT operation_id) FROM hotpath.events"
             " WHERE idempotency_key LIKE %s")
    wait_until(lambda: own_stack.sql(query, (prefix + "-%",)) == [
        (6000, 6000, 6000)], 30, "all have their rows")
    last = key()
    assert own_stack.post(event(last)).status == 202
    assert len(rows(own_stack, last)) == 1
    assert own_stack.sql(query, (prefix + "-%",)) == [(6000, 6000, 6000)]


def test_table_survives_a_reload(own_stack):
    name = key()
    first = own_stack.post(event(name))
    own_stack.reload()
    again = own_stack.post(event(name))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
