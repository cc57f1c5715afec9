"""Reads under faults: a load of them, and what must hold whatever happens.

    with Reads(stack, threads=4, kinds=("warm", "cold")) as reads:
        …                              asks for documents of these kinds in turn
    reads.of("cold", since, until)     [Got(kind, status, source, at, seconds)]
    reads.statuses("cold"), reads.wrong
    wait_all_up(stack)                 both backends serve every worker
    wait_served(reads, "redis", "detail=redis", 2)   so again, so soon
    check_unharmed(stack, reads, pings)

Needs `add_header X-Worker $pid always;` at server level and a location /short/
whose documents are past their time at once. Used by tests/faults/.
"""

import collections
import http.client
import itertools
import time
import uuid

from servers import Client, _Threads, wait_until
from wire import Redis, golden

Got = collections.namedtuple("Got", "kind status source at seconds")

DOCUMENT = '{"n":1}'

# What a stack needs for it.
SERVER = """
    add_header X-Worker $pid always;
    location /short/ {
        hotpath_read prices;
        hotpath_cache short ttl=100ms stale=10m;
    }
"""
HTTP = "hotpath_cache_zone zone=short:4m;"


def key():
    return uuid.uuid4().hex


def store(redis, name, text=DOCUMENT):
    redis("SET", f"hotpath:doc:prices:default:{name}", golden.doc_value(
        golden.document(text.encode(), name.encode(), b"default", 1)))


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
        for kind in {"warm", "stale"} & set(kinds):
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


def wait_all_up(stack):
    served, ready = {}, {}

    def check():
        # a question is what closes a circuit breaker
        answer = stack.get(f"/prices/{key()}")
        served[answer.headers["X-Worker"]] = answer.status == 404
        answer = stack.get("/health/ready")
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
