"""What becomes of an operation, told to whoever waits for it.

Prefer: wait=N on a status, Prefer: respond-sync on a write: answered by the
drain's notices in whichever worker they wait, at the deadline with what is
known, and never later. What was accepted and is gone from the stream (purged,
deleted with it) becomes "lost", is sent again under its key, and is stored
once. The drain stands still where a test needs that nothing is decided.
"""

import datetime
import json
import os
import selectors
import signal
import socket
import threading
import time
import uuid

import pytest

from servers import Client, Peer, local, wait_until
from wire import Nats, RawHTTP, config, golden

STACK = {
    "without": ("project",),
    "workers": 2,
    "hotpath": config("hotpath.conf", ("timeout=5s", "timeout=1s"))
               + "\nhotpath_wait_max 4000;\n",
}

def key():
    return f"follow-{uuid.uuid4()}"


def event(name, payload=1):
    return {"idempotencyKey": name, "eventType": "t", "payload": payload}


def identity(name):
    return golden.uuid_text(
        golden.operation_id(b"default", b"events", name.encode()))


def ask(stack, operation, wait_s=None):
    return stack.get(f"/events/status/{operation}",
                     {"Prefer": f"wait={wait_s}"} if wait_s else None)


def state(answer):
    return answer.json().get("status"), answer.status


class Waiting:
    """A request in a thread of its own: .answer() is its Answer."""

    def __init__(self, stack, method, path, body=None, headers=None):
        self._client = Client(stack.ports["http"], 60)
        self._result = None
        self._thread = threading.Thread(
            target=self._run, args=(method, path, body, headers), daemon=True)
        self._thread.start()

    def _run(self, *request):
        self._result = self._client.request(*request)

    def answer(self, timeout_s=30):
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "it is not answered"
        assert self._result is not None, "it got no answer"
        self._client.close()
        return self._result


def wait_for_it(stack, operation, wait_s=20):
    return Waiting(stack, "GET", f"/events/status/{operation}", None,
                   {"Prefer": f"wait={wait_s}"})


def waiting(stack, count):
    wait_until(lambda: stack.metric("hotpath_waiting") == count, 10,
               f"{count} requests wait")


def settled(stack):
    """Writes are taken and stored; notices of both partitions were heard."""
    for number in range(8):
        answer = wait_until(
            lambda: (lambda found: found if found.status == 202 else None)(
                stack.post(event(key(), {"productId": number}))),
            15, "writes are taken")
        wait_until(lambda: state(ask(stack, answer.json()["operationId"]))
                   == ("processed", 200), 15, "they are stored")


def accepted(stack, name=None, payload=1):
    answer = stack.post(event(name or key(), payload))
    assert answer.status == 202, answer
    return answer.json()["operationId"]


@pytest.fixture
def still(own_stack):
    """The drain stands still until the test wants it to go on."""
    settled(own_stack)
    own_stack.freeze("drain")
    yield own_stack
    own_stack.thaw("drain")


@pytest.fixture
def poison(own_stack):
    """A payload that Postgres refuses though it was accepted."""
    own_stack.sql("ALTER TABLE hotpath.events ADD CONSTRAINT no_poison"
                  " CHECK (payload ->> 'poison' IS NULL)")
    yield {"poison": 1}
    own_stack.sql("ALTER TABLE hotpath.events DROP CONSTRAINT no_poison")


# ---- a status that waits ----

def test_wait_ends_with_what_is_known(still):
    operation = accepted(still)
    before = still.metric("hotpath_waits_total", 'result="deadline"')
    answer = ask(still, operation, 1)
    assert state(answer) == ("accepted", 200)
    assert 0.9 < answer.seconds < 2
    assert answer.headers["Preference-Applied"] == "wait"
    assert answer.headers["Cache-Control"] == "no-store"
    assert still.metric("hotpath_waits_total",
                        'result="deadline"') == before + 1
    assert still.metric("hotpath_waiting") == 0
    at_once = ask(still, operation)
    assert at_once.seconds < 0.5
    assert at_once.headers["Preference-Applied"] is None


def test_wait_is_answered_by_the_commit(still):
    operations = [accepted(still, payload={"productId": n})
                  for n in range(8)]
    asked = [wait_for_it(still, operation) for operation in operations]
    waiting(still, 8)
    before = still.metric("hotpath_waits_total", 'result="decided"')
    still.thaw("drain")
    begin = time.monotonic()
    for each in asked:
        answer = each.answer()
        assert state(answer) == ("processed", 200)
        assert answer.headers["Preference-Applied"] == "wait"
    assert time.monotonic() - begin < 8
    assert still.metric("hotpath_waits_total",
                        'result="decided"') == before + 8
    assert still.metric("hotpath_waiting") == 0


def test_answer_comes_with_the_commit_not_after_it(own_stack):
    """Written and asked for at once: by push, not by a look now and then."""
    settled(own_stack)
    seconds = []
    for _ in range(20):
        operation = accepted(own_stack)
        answer = ask(own_stack, operation, 10)
        assert state(answer) == ("processed", 200)
        seconds.append(answer.seconds)
        told = answer.json()
        (stored,), = own_stack.sql(
            "SELECT extract(epoch FROM processed_at)::float8"
            " FROM hotpath.operations WHERE operation_id = %s", (operation,))
        heard = datetime.datetime.fromisoformat(
            told["processedAt"].replace("Z", "+00:00")).timestamp()
        # the transaction's beginning, and its notice
        assert -0.001 < heard - stored < 1
        assert told["acceptedAt"] <= told["processedAt"]
    assert sorted(seconds)[10] < 0.3, seconds


def test_what_is_decided_does_not_wait(own_stack):
    operation = accepted(own_stack)
    assert state(ask(own_stack, operation, 10)) == ("processed", 200)
    again = ask(own_stack, operation, 10)
    assert again.seconds < 0.5
    assert again.headers["Preference-Applied"] == "wait"


@pytest.mark.parametrize("prefer", [
    "wait", "wait=", "wait=x", "wait=-1", "wait=0", "respond-async",
    'foo="wait=5"', ""])
def test_no_wish_is_no_wait(still, prefer):
    operation = accepted(still)
    answer = still.get(f"/events/status/{operation}", {"Prefer": prefer})
    assert state(answer) == ("accepted", 200)
    assert answer.seconds < 0.5
    assert answer.headers["Preference-Applied"] is None


def test_wait_in_one_of_several_lines(still):
    operation = accepted(still)
    with RawHTTP(still.ports["http"]) as client:
        begin = time.monotonic()
        client.send(f"GET /events/status/{operation} HTTP/1.1\r\nHost: t\r\n"
                    "Prefer: handling=lenient\r\nPrefer: Wait=\"1\"; x\r\n"
                    "\r\n".encode())
        answer = client.answer()
    assert time.monotonic() - begin > 0.9
    assert answer.headers["preference-applied"] == "wait"


def test_dead_with_its_code(still, poison):
    operation = accepted(still, payload=poison)
    asked = wait_for_it(still, operation)
    waiting(still, 1)
    still.thaw("drain")
    answer = asked.answer()
    assert state(answer) == ("dead", 200)
    assert answer.json()["code"] == "23514"
    assert answer.seconds < 10


def test_conflict_is_told(still):
    """Another payload through another instance: the first one's stays."""
    name = key()
    peer = Peer(still)
    peer.up()
    try:
        first = accepted(still, name, {"n": 1})
        assert accepted(peer, name, {"n": 2}) == first
        asked = [wait_for_it(each, first) for each in (still, peer)]
        waiting(still, 1)
        waiting(peer, 1)
        still.thaw("drain")
        for each in asked:
            assert state(each.answer()) == ("processed", 200)
        wait_until(lambda: ask(still, first).json().get("conflict"), 10,
                   "the conflict is told")
        assert still.sql("SELECT payload FROM hotpath.events WHERE"
                         " operation_id = %s", (first,)) == [({"n": 1},)]
    finally:
        peer.down()


def test_of_another_instance(still):
    """It does not know partition and sequence; a notice makes it ask."""
    peer = Peer(still)
    peer.up()
    try:
        operation = accepted(still)
        assert ask(peer, operation).status == 404
        answer = ask(peer, operation, 1)
        assert (answer.status, answer.json()["code"]) == (
            404, "operation_unknown")
        assert answer.seconds > 0.9
        assert answer.headers["Preference-Applied"] == "wait"
        asked = wait_for_it(peer, operation)
        waiting(peer, 1)
        still.thaw("drain")
        answer = asked.answer()
        assert state(answer) == ("processed", 200)
        assert answer.json()["processedAt"]
        assert answer.seconds < 10
    finally:
        peer.down()


def test_postgres_is_asked_a_bounded_number_of_times(own_stack):
    """Nobody knows that one: notices come by all the time."""
    settled(own_stack)
    before = own_stack.metric("hotpath_status_questions_total")
    asked = wait_for_it(own_stack, uuid.uuid4(), 4)
    waiting(own_stack, 1)
    posted = 0
    while own_stack.metric("hotpath_waiting"):
        accepted(own_stack)
        posted += 1
    answer = asked.answer()
    assert answer.status == 404
    assert 3.9 < answer.seconds < 6
    assert posted > 50
    assert 3 <= (own_stack.metric("hotpath_status_questions_total")
                 - before) <= 8


def test_many_wait_and_one_notice_answers_all(still):
    """1,000 of them, on either worker, for operations and for one of them."""
    body = [event(key(), {"productId": 1}) for _ in range(500)]
    answer = still.post(body)
    assert answer.status == 202
    operations = [each["operationId"] for each in answer.json()["results"]]
    operations += operations[:1] * 500
    questions = still.metric("hotpath_status_questions_total")
    sockets = many(still, operations, 20)
    try:
        waiting(still, 1000)
        used = [memory_kb(pid) for pid in still.nginx_workers()]
        assert max(used) < 200000, used
        still.thaw("drain")
        begin = time.monotonic()
        bodies = answers(sockets)
        assert time.monotonic() - begin < 10
        assert [json.loads(each)["status"] for each in bodies] == (
            ["processed"] * 1000)
    finally:
        for each in sockets:
            each.close()
    assert still.metric("hotpath_waiting") == 0
    # the notices were enough
    assert still.metric("hotpath_status_questions_total") == questions


def many(stack, operations, wait_s):
    """A connection each; both workers get some."""
    sockets = []
    for operation in operations:
        each = socket.create_connection((local.HOST, stack.ports["http"]), 30)
        each.sendall(f"GET /events/status/{operation} HTTP/1.1\r\n"
                     f"Host: t\r\nPrefer: wait={wait_s}\r\n"
                     "Connection: close\r\n\r\n".encode())
        sockets.append(each)
    return sockets


def answers(sockets, timeout_s=30):
    selector = selectors.DefaultSelector()
    texts = {each: b"" for each in sockets}
    for each in sockets:
        each.setblocking(False)
        selector.register(each, selectors.EVENT_READ)
    until = time.monotonic() + timeout_s
    while selector.get_map():
        ready = selector.select(until - time.monotonic())
        assert ready, f"{len(selector.get_map())} are not answered"
        for found, _ in ready:
            data = found.fileobj.recv(65536)
            texts[found.fileobj] += data
            if not data:
                selector.unregister(found.fileobj)
    selector.close()
    return [texts[each].partition(b"\r\n\r\n")[2] for each in sockets]


def memory_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(file.read().partition("VmRSS:")[2].split()[0])


def test_beyond_the_bound_nobody_waits(own_stack):
    settled(own_stack)
    own_stack.reload(hotpath=STACK["hotpath"].replace(
        "hotpath_wait_max 4000", "hotpath_wait_max 1"), workers=1)
    wait_until(lambda: len(own_stack.nginx_workers()) == 1, 15,
               "the old workers have ended")
    own_stack.freeze("drain")
    try:
        operation = accepted(own_stack)
        before = own_stack.metric("hotpath_waits_total", 'result="full"')
        asked = wait_for_it(own_stack, operation)
        waiting(own_stack, 1)
        answer = ask(own_stack, operation, 10)
        assert state(answer) == ("accepted", 200)
        assert answer.seconds < 0.5
        assert answer.headers["Preference-Applied"] is None
        # nor half a batch
        some = sync(own_stack, [event(key()) for _ in range(2)]).answer()
        assert (some.status, some.seconds < 0.5) == (202, True)
        assert some.headers["Preference-Applied"] is None
        assert own_stack.metric("hotpath_waits_total",
                                'result="full"') == before + 2
        own_stack.thaw("drain")
        assert state(asked.answer()) == ("processed", 200)
    finally:
        own_stack.thaw("drain")
        own_stack.reload(hotpath=STACK["hotpath"], workers=2)


def test_whoever_goes_away_leaves(still):
    operation = accepted(still)
    sockets = many(still, [operation] * 50, 25)
    waiting(still, 50)
    for each in sockets:
        each.close()
    waiting(still, 0)
    assert state(ask(still, operation)) == ("accepted", 200)


def test_wait_is_shortened_to_what_the_location_allows(own_stack):
    settled(own_stack)
    own_stack.reload(routes=config("routes.conf",
                                   ("hotpath_status_wait  30s",
                                    "hotpath_status_wait  1s"),
                                   ("hotpath_respond_sync   5s;", "")))
    wait_until(lambda: len(own_stack.nginx_workers()) == 2, 15,
               "the old workers have ended")
    own_stack.freeze("drain")
    try:
        operation = accepted(own_stack)
        answer = ask(own_stack, operation, 20)
        assert state(answer) == ("accepted", 200)
        assert answer.seconds < 3
        assert answer.headers["Preference-Applied"] == "wait=1"
        # nor does a write wait where that was not allowed
        plain = own_stack.post(event(key()), {"Prefer": "respond-sync"})
        assert (plain.status, plain.headers["Preference-Applied"]) == (
            202, None)
    finally:
        own_stack.thaw("drain")
        own_stack.reload(routes=config("routes.conf"))


# ---- reload, kill, loss of the broker ----

def test_reload_while_they_wait(still):
    """The old workers wait on, and hear of it."""
    operations = [accepted(still, payload={"productId": n})
                  for n in range(8)]
    asked = [wait_for_it(still, each) for each in operations]
    waiting(still, 8)
    still.reload()
    assert still.metric("hotpath_waiting") == 8
    later = [wait_for_it(still, each) for each in operations]
    waiting(still, 16)
    still.thaw("drain")
    for each in asked + later:
        answer = each.answer()
        assert state(answer) == ("processed", 200)
        assert answer.seconds < 15


def test_a_worker_is_killed_while_they_wait(still):
    still.expect_log("exited on signal 9")
    operation = accepted(still)
    sockets = many(still, [operation] * 40, 25)
    waiting(still, 40)
    old = still.nginx_workers()
    os.kill(old[0], signal.SIGKILL)
    wait_until(lambda: len(set(still.nginx_workers()) - set(old)) == 1, 10,
               "it is replaced")
    # whichever of the two workers had how many of them
    left = still.metric("hotpath_waiting")
    assert left <= 40
    more = many(still, [operation] * 40, 25)
    waiting(still, left + 40)
    still.thaw("drain")
    bodies = [each for each in survivors(sockets) + answers(more) if each]
    assert len(bodies) == left + 40
    assert {json.loads(each)["status"] for each in bodies} == {"processed"}
    waiting(still, 0)


def survivors(sockets):
    """Bodies; empty where the connection went with its worker."""
    texts = []
    for each in sockets:
        each.settimeout(30)
        text = b""
        try:
            while True:
                data = each.recv(65536)
                text += data
                if not data:
                    break
        except ConnectionResetError:
            text = b""
        texts.append(text.partition(b"\r\n\r\n")[2])
    return texts


def test_drain_killed_while_they_wait(still):
    """What the dead one told cannot be known: the next one's notices make
    them ask, more at once than may, and all are answered."""
    operations = [accepted(still, payload={"productId": n})
                  for n in range(400)]
    sockets = many(still, operations, 28)
    waiting(still, 400)
    still.kill("drain")
    still.start("drain")
    bodies = answers(sockets)
    assert [json.loads(each)["status"] for each in bodies] == (
        ["processed"] * 400)
    waiting(still, 0)


def test_broker_lost_while_they_wait(own_stack):
    settled(own_stack)
    own_stack.freeze("drain")
    operation = accepted(own_stack)
    asked = [wait_for_it(own_stack, operation, 2) for _ in range(10)]
    waiting(own_stack, 10)
    own_stack.stop("nats")
    try:
        for each in asked:
            answer = each.answer()
            assert state(answer) == ("accepted", 200)
            assert 1.9 < answer.seconds < 4
    finally:
        own_stack.start("nats")
        own_stack.thaw("drain")
    answer = ask(own_stack, operation, 25)
    assert state(answer) == ("processed", 200)


def test_postgres_away_while_they_wait(own_stack):
    """What it would have to say is waited for until its own deadline."""
    settled(own_stack)
    unknown = uuid.uuid4()
    own_stack.freeze("postgres")
    try:
        answer = ask(own_stack, unknown, 2)
        assert (answer.status, answer.json()["code"]) == (
            503, "backend_unavailable")
        assert answer.seconds < 6
        operation = accepted(own_stack)
        answer = ask(own_stack, operation, 1)
        assert state(answer) == ("accepted", 200)
        assert answer.seconds < 3
    finally:
        own_stack.thaw("postgres")
    assert state(ask(own_stack, operation, 25)) == ("processed", 200)


# ---- lost: a drain that is frozen would have got the messages already ----

def lose(stack, how):
    """Everything that is in the streams; the drain has not seen it."""
    with Nats(stack.ports["nats"]) as nats:
        for partition in (0, 1):
            name = f"HOTPATH_EVENTS_{partition}"
            if how == "purged":
                nats.js(f"STREAM.PURGE.{name}")
                continue
            old = nats.js(f"STREAM.INFO.{name}")["config"]
            nats.js(f"STREAM.DELETE.{name}")
            nats.js(f"STREAM.CREATE.{name}", old)


def rows(stack, operation):
    return stack.sql("SELECT payload FROM hotpath.events"
                     " WHERE operation_id = %s", (operation,))


@pytest.mark.parametrize("how", ["purged", "deleted"])
@pytest.mark.parametrize("after", ["something comes", "nothing comes"])
def test_lost_is_told_and_sent_again(own_stack, how, after):
    own_stack.expect_log("lost|gone from the stream")
    settled(own_stack)
    own_stack.stop("drain")
    name = key()
    operation = accepted(own_stack, name, {"productId": 1})
    asked = wait_for_it(own_stack, operation, 30)
    waiting(own_stack, 1)
    lose(own_stack, how)
    assert state(ask(own_stack, operation)) == ("accepted", 200)
    lost = own_stack.metric("hotpath_operations_lost_total")
    own_stack.start("drain")
    if after == "something comes":
        # of each partition, so that the drain passes it
        wait_until(lambda: all(
            own_stack.post(event(key(), {"productId": n})).status == 202
            for n in range(8)), 15, "writes are taken again")
    found = wait_until(
        lambda: (lambda answer: answer if state(answer)[0] == "lost"
                 else None)(ask(own_stack, operation)), 40, "it is lost")
    assert found.status == 200
    assert found.json()["code"] == "lost_resubmit"
    assert found.json()["operationId"] == operation
    assert own_stack.metric("hotpath_operations_lost_total") == lost + 1
    assert rows(own_stack, operation) == []
    assert state(asked.answer(40)) in (("lost", 200), ("accepted", 200))
    # the same key again is no repeat, for the broker neither
    again = own_stack.post(event(name, {"productId": 1}))
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, None)
    assert again.json()["operationId"] == operation
    assert state(ask(own_stack, operation, 20)) == ("processed", 200)
    assert rows(own_stack, operation) == [({"productId": 1},)]
    repeat = own_stack.post(event(name, {"productId": 1}))
    assert repeat.headers["Idempotent-Replayed"] == "true"


def test_passed_is_not_called_processed(own_stack):
    """One of three messages is removed: the drain passes it, and the two
    others are not lost."""
    own_stack.expect_log("lost|gone from the stream")
    settled(own_stack)
    own_stack.stop("drain")
    payload = {"productId": 1}
    operations = [accepted(own_stack, payload=payload) for _ in range(3)]
    with Nats(own_stack.ports["nats"]) as nats:
        for partition in (0, 1):
            name = f"HOTPATH_EVENTS_{partition}"
            found = nats.js(f"STREAM.INFO.{name}")["state"]
            if found["messages"] >= 3:
                nats.js(f"STREAM.MSG.DELETE.{name}",
                        {"seq": found["last_seq"] - 1})
                break
        else:
            raise AssertionError("no partition has three messages")
    own_stack.start("drain")
    seen = set()
    wait_until(lambda: seen.add(state(ask(own_stack, operations[1]))[0])
               or "lost" in seen, 30, "the one in the middle is lost")
    assert seen <= {"accepted", "lost"}
    for each in (operations[0], operations[2]):
        assert state(ask(own_stack, each)) == ("processed", 200)


def test_pending_is_never_called_lost(still):
    """The drain is behind, the stream is whole, others come and go."""
    operations = [accepted(still, payload={"productId": n})
                  for n in range(8)]
    until = time.monotonic() + 8
    while time.monotonic() < until:
        for each in operations:
            assert state(ask(still, each)) == ("accepted", 200)
        accepted(still)
    still.thaw("drain")
    for each in operations:
        assert state(ask(still, each, 20)) == ("processed", 200)


# ---- a write that waits for its commit ----

def sync(stack, body, wait_s=None, headers=None):
    prefer = "respond-sync" + (f", wait={wait_s}" if wait_s else "")
    return Waiting(stack, "POST", "/events", body,
                   dict(headers or {}, Prefer=prefer))


def test_sync_is_answered_after_the_commit(own_stack):
    settled(own_stack)
    seconds = []
    for _ in range(10):
        name = key()
        answer = sync(own_stack, event(name, {"n": 1})).answer()
        assert state(answer) == ("processed", 200)
        assert answer.headers["Preference-Applied"] == "respond-sync"
        operation = answer.json()["operationId"]
        assert answer.headers["Location"] == f"/events/status/{operation}"
        assert answer.json()["acceptedAt"]
        # it is there at that moment, not soon
        assert rows(own_stack, operation) == [({"n": 1},)]
        seconds.append(answer.seconds)
    assert sorted(seconds)[5] < 0.3, seconds
    again = sync(own_stack, event(name, {"n": 1})).answer()
    assert state(again) == ("processed", 200)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_sync_ends_as_accepted(still):
    answer = sync(still, event(key()), 1).answer()
    assert state(answer) == ("accepted", 202)
    assert set(answer.json()) == {"operationId", "status"}
    assert answer.headers["Preference-Applied"] is None
    assert 0.9 < answer.seconds < 3
    longer = sync(still, event(key()), 100).answer()
    assert state(longer) == ("accepted", 202)
    assert 4.9 < longer.seconds < 8
    assert still.metric("hotpath_waiting") == 0


def test_sync_is_not_asked_for(still):
    for prefer in ("wait=5", "respond-async", "respond-sync=1", ""):
        answer = still.post(event(key()), {"Prefer": prefer})
        assert (answer.status, answer.seconds < 0.5) == (202, True)


def test_sync_dead(own_stack, poison):
    settled(own_stack)
    answer = sync(own_stack, event(key(), poison)).answer()
    problem = answer.json()
    assert (answer.status, problem["code"]) == (422, "operation_dead")
    assert problem["deadCode"] == "23514"
    assert answer.headers["Preference-Applied"] == "respond-sync"
    assert state(ask(own_stack, problem["operationId"])) == ("dead", 200)


def test_sync_another_payload_was_first(still):
    name = key()
    peer = Peer(still)
    peer.up()
    try:
        accepted(still, name, {"n": 1})
        asked = sync(peer, event(name, {"n": 2}))
        waiting(peer, 1)
        still.thaw("drain")
        answer = asked.answer()
        assert (answer.status, answer.json()["code"]) == (
            422, "idempotency_key_reused")
    finally:
        peer.down()


def test_sync_lost(own_stack):
    own_stack.expect_log("lost|gone from the stream")
    settled(own_stack)
    own_stack.reload(routes=config("routes.conf",
                                   ("hotpath_respond_sync   5s",
                                    "hotpath_respond_sync   60s")))
    wait_until(lambda: len(own_stack.nginx_workers()) == 2, 15,
               "the old workers have ended")
    own_stack.stop("drain")
    try:
        name = key()
        asked = sync(own_stack, event(name))
        waiting(own_stack, 1)
        lose(own_stack, "purged")
        own_stack.start("drain")
        answer = asked.answer(60)
        problem = answer.json()
        assert (answer.status, problem["code"]) == (503, "operation_lost")
        assert answer.headers["Retry-After"] == "1"
        again = sync(own_stack, event(name)).answer()
        assert state(again) == ("processed", 200)
        assert again.json()["operationId"] == problem["operationId"]
        assert len(rows(own_stack, problem["operationId"])) == 1
    finally:
        own_stack.reload(routes=config("routes.conf"))


def test_sync_batch(own_stack, poison):
    settled(own_stack)
    names = [key() for _ in range(6)]
    body = [event(names[0]), event(names[1], poison), {"eventType": "t"},
            event(names[0]), event(names[2]), event(names[1], poison)]
    answer = sync(own_stack, body).answer()
    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == "respond-sync"
    results = answer.json()["results"]
    assert [each["status"] for each in results] == [
        "processed", "dead", "rejected", "processed", "processed", "dead"]
    assert results[1]["problem"]["code"] == "operation_dead"
    assert results[1]["problem"]["deadCode"] == "23514"
    assert results[3]["replayed"] is True
    assert results[3]["operationId"] == results[0]["operationId"]
    assert results[5]["problem"]["code"] == "operation_dead"
    for each in (results[0], results[4]):
        assert len(rows(own_stack, each["operationId"])) == 1


def test_sync_batch_ends_as_accepted(still):
    answer = sync(still, [event(key()) for _ in range(20)], 1).answer()
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] is None
    assert {each["status"] for each in answer.json()["results"]} == {
        "accepted"}
    assert still.metric("hotpath_waiting") == 0


def test_sync_client_goes_away(still):
    with RawHTTP(still.ports["http"]) as client:
        client.post(event(key()), "Prefer: respond-sync")
        waiting(still, 1)
    waiting(still, 0)
