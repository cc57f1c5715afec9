"""Redis and Postgres frozen, killed, gone or talking nonsense, under reads.

The failure table, line by line: without Redis a miss goes to Postgres; without
Postgres what memory and Redis hold is answered, what is past its time is stale
within its bound, the rest is a 503 that comes soon, then at once; writes do not
notice; the instance stays ready; the event loop goes on turning. No projector
runs: documents are where the test has put them.
"""

import collections
import http.client
import itertools
import os
import signal
import time
import uuid

import pytest

from pressure import GarbageServer, Pings, Writes, wait_all_ready
from servers import Client, _Threads, wait_until
from wire import Redis, golden

STACK = {
    "without": ("project",),
    "http": "hotpath_cache_zone zone=short:4m;",
    "server": """
        add_header X-Worker $pid always;
        location /short/ {
            hotpath_read prices;
            hotpath_cache short ttl=100ms stale=10m;
        }
    """,
}

Got = collections.namedtuple("Got", "kind status source at seconds")


def key():
    return uuid.uuid4().hex


def store(redis, name):
    redis("SET", f"hotpath:doc:prices:default:{name}", golden.doc_value(
        golden.document(DOCUMENT.encode(), name.encode(), b"default", 1)))


DOCUMENT = '{"n":1}'


class Reads(_Threads):
    """Asks for documents of four kinds, in turn; remembers what came.

    warm   in memory, fresh                stale  in memory, past its time
    redis  in Redis and in Postgres, each once
    cold   in Postgres only, each once
    """

    def __init__(self, stack, threads=4,
                 kinds=("warm", "stale", "redis", "cold"), count=3000):
        super().__init__(threads)
        self.stack = stack
        self.kinds = kinds
        self.answers = []
        self.wrong = []
        self.prefix = key()
        self.counter = itertools.count()
        self.count = count
        stack.sql(
            "INSERT INTO hotpath.prices SELECT 'default', %s || kind || n, 1,"
            " %s, now(), false, 0, n FROM generate_series(0, %s) AS n,"
            " unnest(%s) AS kind", (self.prefix, DOCUMENT, count, list(kinds)))
        if "redis" in kinds:
            self.fill_redis()
        for kind in ("warm", "stale"):
            assert stack.get(self.path(kind, 0)).status == 200

    def fill_redis(self):
        with Redis(self.stack.ports["redis"]) as redis:
            for number in range(self.count):
                store(redis, f"{self.prefix}redis{number}")

    def path(self, kind, number):
        if kind == "warm":
            return f"/prices/{self.prefix}warm0"
        if kind == "stale":
            return f"/short/{self.prefix}stale0"
        assert number < self.count, "the load is faster than was thought"
        return f"/prices/{self.prefix}{kind}{number}"

    def _work(self):
        client = Client(self.stack.ports["http"])
        while not self._stop.is_set():
            number = next(self.counter)
            kind = self.kinds[number % len(self.kinds)]
            at = time.monotonic()
            status, source = "error", ""
            try:
                answer = client.request("GET", self.path(
                    kind, number // len(self.kinds)))
                status = answer.status
                if status == 200:
                    assert answer.body == DOCUMENT.encode()
                    source = answer.headers["Cache-Status"]
                else:
                    assert status == 503
                    assert answer.json()["code"] == "backend_unavailable"
                    assert answer.headers["Retry-After"] == "1"
            except (OSError, http.client.HTTPException,
                    AssertionError) as error:
                self.wrong.append((kind, status, error))
            self.answers.append(Got(kind, status, source, at,
                                    time.monotonic() - at))
            self._stop.wait(0.01)
        client.close()

    def of(self, kind, since=0, until=float("inf")):
        return [each for each in list(self.answers)
                if each.kind == kind and since <= each.at < until]

    def statuses(self, kind, since=0, until=float("inf")):
        return {each.status for each in self.of(kind, since, until)}


def for_seconds(seconds):
    """What the test is about takes time."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 1, "time passes")


@pytest.fixture(autouse=True)
def all_up(own_stack):
    wait_all_ready(own_stack)
    served, ready = {}, {}

    def check():
        # a question is what closes a circuit breaker
        answer = own_stack.get(f"/prices/{key()}")
        served[answer.headers["X-Worker"]] = answer.status == 404
        answer = own_stack.get("/health/ready")
        ready[answer.headers["X-Worker"]] = all(
            each["status"] == "up" for each in answer.json()["checks"])
        return (len(served) == len(ready) == 2
                and all(served.values()) and all(ready.values()))
    wait_until(check, 30, "both backends serve both workers")


def wait_served(reads, kind, source, within_s):
    """Answers of that kind come from there again, so soon from now."""
    begin = time.monotonic()
    wait_until(lambda: any(source in each.source
                           for each in reads.of(kind, begin)), 20,
               f"{kind} comes from {source}")
    took = time.monotonic() - begin
    assert took < within_s, took


def check_unharmed(stack, reads, pings):
    pings.check()
    assert not reads.wrong, reads.wrong[:3]
    # what memory holds is answered, whatever happens behind it
    assert reads.statuses("warm") == {200}
    assert all("; hit; ttl" in each.source for each in reads.of("warm"))
    assert reads.statuses("stale") == {200}
    slow = [each for each in reads.answers if each.seconds > 2.5]
    assert not slow, slow[:5]
    assert stack.get("/health/ready").status == 200


def without_redis(stack, reads, since, until):
    """Everything that Postgres has is answered."""
    for kind in ("cold", "redis"):
        assert reads.statuses(kind, since, until) == {200}
    assert all("detail=postgres" in each.source
               for each in reads.of("cold", since, until))
    late = sorted(each.seconds for each in reads.of("cold", since + 2, until))
    # the breaker is open: nobody waits for Redis any more, but for a probe
    assert late[len(late) * 8 // 10] < 0.1, late[-10:]


def without_postgres(stack, reads, since, until):
    """What Redis has is answered; the rest is refused, soon and then fast."""
    assert reads.statuses("redis", since, until) == {200}
    refused = reads.of("cold", since + 0.2, until)
    assert {each.status for each in refused} == {503}
    late = sorted(each.seconds for each in reads.of("cold", since + 3, until))
    assert late[len(late) // 2] < 0.1, late
    # past its time in memory, it is had anew from there as well
    assert any("detail=redis" in each.source
               for each in reads.of("stale", since + 0.2, until))


def test_redis_frozen_for_ten_seconds(own_stack):
    with Pings(own_stack) as pings, Writes(own_stack, threads=2) as writes, \
            Reads(own_stack) as reads:
        for_seconds(0.5)
        assert any("detail=redis" in each.source
                   for each in reads.of("redis"))
        own_stack.freeze("redis")
        begin = time.monotonic()
        try:
            for_seconds(10)
            assert own_stack.get("/health/ready").status == 200
        finally:
            end = time.monotonic()
            own_stack.thaw("redis")
        wait_served(reads, "redis", "detail=redis", 7)
    check_unharmed(own_stack, reads, pings)
    without_redis(own_stack, reads, begin, end)
    assert set(writes.codes()) == {"202"}
    writes.check()


def test_postgres_frozen_for_ten_seconds(own_stack):
    with Pings(own_stack) as pings, Writes(own_stack, threads=2) as writes, \
            Reads(own_stack) as reads:
        for_seconds(0.5)
        own_stack.freeze("postgres")
        begin = time.monotonic()
        try:
            for_seconds(10)
            assert own_stack.get("/health/ready").status == 200
        finally:
            end = time.monotonic()
            own_stack.thaw("postgres")
        wait_served(reads, "cold", "detail=postgres", 7)
    check_unharmed(own_stack, reads, pings)
    without_postgres(own_stack, reads, begin, end)
    # the stream holds them
    assert set(writes.codes()) == {"202"}
    assert len([each for each in writes.answers
                if begin < each.at < end]) > 100
    writes.check()


def test_redis_killed_and_started_again(own_stack):
    with Pings(own_stack) as pings, Reads(own_stack) as reads:
        for _ in range(2):
            own_stack.kill("redis")
            begin = time.monotonic()
            for_seconds(1)
            end = time.monotonic()
            assert reads.statuses("cold", begin, end) == {200}
            own_stack.start("redis")
            reads.fill_redis()
            wait_served(reads, "redis", "detail=redis", 7)
    check_unharmed(own_stack, reads, pings)
    for kind in ("cold", "redis"):
        assert reads.statuses(kind) == {200}


def test_postgres_killed_and_started_again(own_stack):
    with Pings(own_stack) as pings, Writes(own_stack, threads=2) as writes, \
            Reads(own_stack) as reads:
        for _ in range(2):
            for_seconds(0.5)
            own_stack["postgres"].signal(signal.SIGQUIT)
            wait_until(lambda: own_stack["postgres"].pid() is None, 10,
                       "it is down")
            begin = time.monotonic()
            for_seconds(1)
            assert 503 in reads.statuses("cold", begin)
            own_stack.start("postgres")
            wait_served(reads, "cold", "detail=postgres", 7)
    check_unharmed(own_stack, reads, pings)
    assert reads.statuses("redis") == {200}
    assert set(writes.codes()) == {"202"}
    writes.check()


def silence(connection):
    while connection.recv(65536):
        pass


def closing(connection):
    connection.close()


def nonsense(connection):
    connection.recv(1)
    connection.sendall(os.urandom(3000))
    silence(connection)


def endless(connection):
    connection.recv(1)
    while True:
        connection.sendall(b"$" * 65536)


def half(connection):
    """The beginning of what either of them would say."""
    connection.recv(1)
    connection.sendall(b"$1000\r\nHPD" if connection.getsockname() else b"")
    silence(connection)


def half_of_postgres(connection):
    connection.recv(1)
    connection.sendall(b"R\0\0\0\x08\0\0\0\0S\0\0\x10\0server_")
    silence(connection)


@pytest.mark.parametrize("talk", [silence, closing, nonsense, endless, half])
def test_not_redis(own_stack, talk):
    own_stack.stop("redis")
    try:
        with GarbageServer(own_stack.ports["redis"], talk), \
                Pings(own_stack) as pings:
            names = [key() for _ in range(10)]
            own_stack.sql(
                "INSERT INTO hotpath.prices SELECT 'default', name, 1, name,"
                " now(), false, 0, 1 FROM unnest(%s) AS name", (names,))
            begin = time.monotonic()
            for name in names:
                answer = own_stack.get(f"/prices/{name}")
                assert (answer.status, answer.body) == (200, name.encode())
                assert answer.seconds < 1
            for_seconds(max(0.1, begin + 1 - time.monotonic()))
            assert own_stack.get("/health/ready").status == 200
        pings.check(least=50)
    finally:
        own_stack.start("redis")


@pytest.mark.parametrize("talk", [silence, closing, nonsense, endless,
                                  half_of_postgres])
def test_not_postgres(own_stack, talk):
    own_stack.stop("postgres")
    name = key()
    with Redis(own_stack.ports["redis"]) as redis:
        store(redis, name)
    try:
        with GarbageServer(own_stack.ports["postgres"], talk) as server, \
                Pings(own_stack) as pings:
            begin = time.monotonic()
            wait_until(lambda: server.accepted
                       and time.monotonic() > begin + 1, 20, "it is tried")
            for _ in range(5):
                answer = own_stack.get(f"/prices/{key()}")
                assert answer.status == 503
                assert answer.json()["code"] == "backend_unavailable"
                assert answer.seconds < 2
            assert own_stack.get(f"/prices/{name}").body == DOCUMENT.encode()
            assert own_stack.get("/health/ready").status == 200
            assert own_stack.post({
                "idempotencyKey": key(), "eventType": "t",
                "payload": 1}).status == 202
        pings.check(least=50)
    finally:
        own_stack.start("postgres")


def test_both_frozen(own_stack):
    """Memory is enough for what it holds."""
    with Pings(own_stack) as pings, \
            Reads(own_stack, kinds=("warm", "stale", "cold")) as reads:
        own_stack.freeze("redis")
        own_stack.freeze("postgres")
        begin = time.monotonic()
        try:
            for_seconds(3)
            assert own_stack.get("/health/ready").status == 200
        finally:
            end = time.monotonic()
            own_stack.thaw("postgres")
            own_stack.thaw("redis")
        assert reads.statuses("cold", begin + 0.2, end - 1.5) == {503}
        wait_served(reads, "cold", "detail=postgres", 7)
    check_unharmed(own_stack, reads, pings)
    assert any("stale-if-error" in each.source
               for each in reads.of("stale", begin, end))
