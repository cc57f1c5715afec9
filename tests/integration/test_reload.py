"""Reload and stop: no request without its answer, no answer that is an error.

nginx is reloaded under a load of writes and of reads, each request on a
connection of its own, since a kept-alive one may be closed by any server while
the next request is on its way. Answers that are owed while workers end (broker
or Postgres frozen, reload, thaw) come from the old worker. What shared memory
knows is known afterwards.
"""

import collections
import http.client
import json
import re
import threading
import uuid

import pytest

from servers import Client, Load, _Threads, price_set, wait_until
from wire import RawHTTP

SERVER = """
add_header X-Worker $pid always;
location = /stub { stub_status; }
"""

STACK = {"server": SERVER}


def key():
    return f"reload-{uuid.uuid4()}"


def event(name):
    return {"idempotencyKey": name, "eventType": "t", "payload": 1}


def writing(stack):
    text = stack.get("/stub").body.decode()
    return int(re.search(r"Writing: (\d+)", text).group(1)) - 1


def reload(stack):
    """Reloads; returns the old workers' pids, which may be ending still."""
    old = stack.nginx_workers()
    stack.reload()
    return old


@pytest.fixture(autouse=True)
def settled(own_stack):
    """Nobody ends any more, nobody waits, the broker is there."""
    wait_until(lambda: len(own_stack.nginx_workers()) == 2, 15,
               "the workers of the last test are gone")
    own_stack.wait_ready()


def wait_gone(stack, pids, timeout_s=12):
    wait_until(lambda: not set(pids) & set(stack.nginx_workers()), timeout_s,
               "the old workers are gone")


class Requests(_Threads):
    """Sends make(n) -> (method, path, body) until stopped, each on its own
    connection; counts statuses, "error" for no answer at all."""

    def __init__(self, stack, make, threads=4):
        super().__init__(threads)
        self.stack = stack
        self.make = make
        self.statuses = collections.Counter()
        self.errors = []
        self.workers = set()
        self.lock = threading.Lock()
        self.sent = 0

    def _work(self):
        while not self._stop.is_set():
            with self.lock:
                self.sent += 1
                number = self.sent
            client = Client(self.stack.ports["http"])
            try:
                answer = client.request(*self.make(number),
                                        {"Connection": "close"})
                with self.lock:
                    self.statuses[answer.status] += 1
                    self.workers.add(answer.headers["X-Worker"])
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.statuses["error"] += 1
                    self.errors.append(repr(error))
            finally:
                client.close()

    def reload_under_it(self, times):
        for _ in range(times):
            done = sum(self.statuses.values())
            wait_until(lambda: sum(self.statuses.values()) > done + 100, 30,
                       "requests between reloads")
            reload(self.stack)
        wait_until(lambda: len(self.workers) > 2, 30, "new workers serve")


def test_reload_under_writes(own_stack):
    prefix = key()
    with Requests(own_stack, lambda n: (
            "POST", "/events", price_set(f"{prefix}-{n}", n % 20, n))) as load:
        load.reload_under_it(4)
    assert set(load.statuses) == {202}, (load.statuses, load.errors[:3])
    count = load.statuses[202]
    wait_until(lambda: own_stack.sql(
        "SELECT count(*), count(DISTINCT operation_id) FROM hotpath.events"
        " WHERE idempotency_key LIKE %s", (prefix + "-%",)) == [
            (count, count)], 20, f"{count} rows")


def test_reload_under_reads(own_stack):
    number = uuid.uuid4().int % 10**12
    own_stack.post(price_set(key(), number, 1))
    wait_until(lambda: own_stack.get(f"/prices/{number}").status == 200, 15,
               "the price is there")
    with Requests(own_stack, lambda n: (
            "GET", f"/prices/{number if n % 4 else n}", None)) as load:
        load.reload_under_it(4)
    assert set(load.statuses) == {200, 404}, (load.statuses, load.errors[:3])


def test_kept_alive_clients_lose_nothing(own_stack):
    """A client that sends again with the same key where it got no answer."""
    with Load(own_stack, threads=4, retry=True) as load:
        for _ in range(3):
            done = len(load.accepted)
            wait_until(lambda: len(load.accepted) > done + 100, 30,
                       "events between reloads")
            reload(own_stack)
    assert set(load.refused) <= {"error"}, load.refused
    # at most what was on its way when its connection was closed
    assert load.refused["error"] <= 3 * 4
    load.check()


def test_answers_owed_by_the_broker(own_stack):
    """They hold the old workers back, and only as long as they are owed."""
    names = [key() for _ in range(20)]
    clients = [RawHTTP(own_stack.ports["http"]) for _ in names]
    own_stack.freeze("nats")
    try:
        for client, name in zip(clients, names):
            client.post(event(name))
        wait_until(lambda: writing(own_stack) == len(names), 5, "all wait")
        old = reload(own_stack)
        assert set(old) & set(own_stack.nginx_workers())
    finally:
        own_stack.thaw("nats")
    answers = [client.answer() for client in clients]
    for client in clients:
        client.close()
    assert [answer.status for answer in answers] == [202] * len(names)
    assert {int(answer.headers["x-worker"]) for answer in answers} <= set(old)
    wait_gone(own_stack, old)
    for name in names:
        wait_until(lambda: len(own_stack.sql(
            "SELECT 1 FROM hotpath.events WHERE idempotency_key = %s",
            (name,))) == 1, 15, f"{name} has its row")


def test_answers_owed_by_postgres(own_stack):
    names = [uuid.uuid4().int % 10**12 for _ in range(10)]
    clients = [RawHTTP(own_stack.ports["http"]) for _ in names]
    own_stack.freeze("postgres")
    try:
        for client, name in zip(clients, names):
            client.send(f"GET /prices/{name} HTTP/1.1\r\nHost: t\r\n\r\n"
                        .encode())
        wait_until(lambda: writing(own_stack) == len(names), 5, "all wait")
        old = own_stack.nginx_workers()
        own_stack["nginx"].signal(1)
        wait_until(lambda: len(own_stack.nginx_workers()) == 4, 5,
                   "new workers beside the old ones")
    finally:
        own_stack.thaw("postgres")
    answers = [client.answer() for client in clients]
    for client in clients:
        client.close()
    assert [json.loads(answer.body)["code"] for answer in answers] == [
        "document_unknown"] * len(names)
    assert {int(answer.headers["x-worker"]) for answer in answers} <= set(old)
    wait_gone(own_stack, old)


def test_a_broker_that_stays_away_holds_nobody_for_long(own_stack):
    """What is owed is answered at its deadline; then the old worker ends."""
    own_stack.freeze("nats")
    try:
        with RawHTTP(own_stack.ports["http"]) as client:
            client.post(event(key()))
            wait_until(lambda: writing(own_stack) == 1, 5, "it waits")
            old = reload(own_stack)
            answer = client.answer()
        assert answer.status == 503
        assert json.loads(answer.body)["code"] == "outcome_unknown"
        wait_gone(own_stack, old, 3)
    finally:
        own_stack.thaw("nats")


def test_new_workers_wait_for_their_broker(own_stack):
    """A connection to it takes its time; what comes meanwhile is no error."""
    own_stack.freeze("nats")
    try:
        old = reload(own_stack)
        wait_gone(own_stack, old)
        names = [key() for _ in range(4)]
        clients = [RawHTTP(own_stack.ports["http"]) for _ in names]
        for client, name in zip(clients, names):
            client.post(event(name))
        wait_until(lambda: writing(own_stack) == len(names), 2, "all wait")
    finally:
        own_stack.thaw("nats")
    for client in clients:
        assert client.answer().status == 202
        client.close()
    for name in names:
        wait_until(lambda: len(own_stack.sql(
            "SELECT 1 FROM hotpath.events WHERE idempotency_key = %s",
            (name,))) == 1, 15, f"{name} has its row")


def test_new_workers_without_a_broker_say_so(own_stack):
    own_stack.stop("nats")
    try:
        own_stack.restart("nginx")
        answer = own_stack.post(event(key()))
        assert answer.status == 503
        assert answer.json()["code"] == "broker_unavailable"
        assert answer.seconds < 1
    finally:
        own_stack.start("nats")
    own_stack.wait_ready()
    assert own_stack.post(event(key())).status == 202


def test_idle_workers_end_at_once(own_stack):
    assert own_stack.get(f"/prices/{key()}").status == 404
    wait_gone(own_stack, reload(own_stack), 5)


def test_what_was_accepted_is_known_after_a_reload(own_stack):
    name = key()
    first = own_stack.post(event(name))
    assert first.status == 202
    reload(own_stack)
    again = own_stack.post(event(name))
    assert (again.status, again.headers["Idempotent-Replayed"]) == (
        202, "true")
    wait_until(lambda: own_stack.get(first.headers["Location"]).json()[
        "status"] == "processed", 15, "it is processed")


def test_pushes_arrive_after_a_reload(own_stack):
    number = uuid.uuid4().int % 10**12
    own_stack.post(price_set(key(), number, 1))
    wait_until(lambda: own_stack.get(f"/prices/{number}").status == 200, 15,
               "the price is there")
    old = reload(own_stack)
    wait_gone(own_stack, old)
    wait_until(lambda: own_stack.metric("hotpath_push_listening") == 1, 10,
               "one worker listens")
    own_stack.get(f"/prices/{number}")
    assert "; hit; ttl" in own_stack.get(
        f"/prices/{number}").headers["Cache-Status"]
    own_stack.post(price_set(key(), number, 2))
    wait_until(lambda: own_stack.get(f"/prices/{number}").json()["amount"]
               == 2, 5, "the change was pushed")


def test_a_broken_configuration_changes_nothing(own_stack):
    workers = own_stack.nginx_workers()
    routes = own_stack.routes
    own_stack.expect_log("unknown directive")
    try:
        own_stack.routes = "hotpath_no_such_thing on;"
        own_stack.write_nginx_conf()
        own_stack["nginx"].signal(1)
        wait_until(lambda: "hotpath_no_such_thing" in own_stack.log("nginx"),
                   10, "nginx says what is wrong")
        assert own_stack.post(event(key())).status == 202
        assert own_stack.nginx_workers() == workers
    finally:
        own_stack.routes = routes
        own_stack.write_nginx_conf()


def test_stop_gives_what_is_owed(own_stack):
    """SIGQUIT, as `make stop` sends it."""
    with RawHTTP(own_stack.ports["http"]) as client:
        own_stack.freeze("nats")
        try:
            client.post(event(key()))
            wait_until(lambda: writing(own_stack) == 1, 5, "it waits")
            own_stack["nginx"].signal(3)
        finally:
            own_stack.thaw("nats")
        assert client.answer().status == 202
    wait_until(lambda: own_stack["nginx"].pid() is None, 10, "nginx ended")
    own_stack.start("nginx")
    own_stack.wait_ready()
