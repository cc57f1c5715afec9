"""Postgres slow, frozen, half gone, flapping, full, talking nonsense, one row
each: what was answered, how stale, how fast; what else goes on meanwhile.

Beside the rows of test_backends.py. What holds in all of them: the event loop
goes on turning (pings), what memory and Redis hold is answered, a read of
Postgres that cannot be had is a 503 that comes soon, nothing grows without
bound, and when the server is back so are its answers. A statement past its
deadline is stopped in the server as well. No projector runs.
"""

import concurrent.futures
import os
import re
import signal
import socket
import statistics
import struct
import threading
import time

import psycopg2
import pytest

from postgreses import (HTTP, SERVER, Bouncer, Replica, admin, backends,
                        open_gates)
from pressure import GarbageServer, Pings, wait_all_ready
from reads import DOCUMENT, Reads, for_seconds, key
from servers import Client, local, wait_until
from tcp_proxy import Deaf, Proxy

LOCATIONS = SERVER + """
    location /short/ {
        hotpath_read prices;
        hotpath_cache short ttl=50ms jitter=0% stale=10m;
    }
    location /locked/ {
        hotpath_read locked;
        hotpath_read_statement "SELECT 1::bigint, '1', 0::bigint, $1 = ''
            FROM hotpath.lockable WHERE key <> $2";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
"""
STACK = {
    "without": ("project", "drain"),
    "server": LOCATIONS,
    "http": HTTP + "hotpath_cache_zone zone=short:4m;",
}
# Half a second, so that what has to be fast and what may wait for its deadline
# are well apart; the server's own limit is out of the way.
WORDS = ('"host=127.0.0.1 port=%d user=hotpath dbname=hotpath"'
         " timeout=500ms statement_timeout=0 connections=%d")


@pytest.fixture(scope="module", autouse=True)
def gates(own_stack):
    open_gates(own_stack)
    own_stack.sql("CREATE TABLE hotpath.lockable AS SELECT 'a' AS key")


def use(stack, words, redis=False, **options):
    old = set(stack.nginx_workers())
    stack.reload(backends=backends(words, redis), **options)
    wait_until(lambda: not old & set(stack.nginx_workers()), 20,
               "the old workers are gone")
    wait_all_ready(stack)


def direct(stack, connections=4, more="", redis=False, **options):
    use(stack, WORDS % (stack.ports["postgres"], connections) + more, redis,
        **options)


def wait_served(stack, path="/say/", timeout_s=20):
    """Each worker answers from Postgres; gives how long that took."""
    begin = time.monotonic()
    good = set()

    def ask():
        answer = stack.get(path + key())
        if answer.status == 200:
            good.add(answer.headers["X-Worker"])
        else:
            good.clear()
        return len(good) == len(stack.nginx_workers())
    wait_until(ask, timeout_s, "Postgres answers every worker")
    return time.monotonic() - begin


def sleepers(stack):
    """How many statements of ours sleep in the server."""
    (count,), = admin(
        stack, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
               " AND query LIKE '%%pg_sleep(split%%'"
               " AND pid <> pg_backend_pid()")
    return count


def pids(stack):
    return {pid for pid, in admin(
        stack, "SELECT pid FROM pg_stat_activity"
               " WHERE application_name = 'hotpath'")}


def threads(stack):
    """The most that a worker has."""
    return max(len(os.listdir(f"/proc/{pid}/task"))
               for pid in stack.nginx_workers())


class Asking:
    """Asks for what never repeats, from threads, until the block ends;
    answers are (status, seconds, when)."""

    def __init__(self, stack, path="/say/", count=4):
        self.stack = stack
        self.path = path
        self.answers = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._ask, daemon=True)
                        for _ in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(30)

    def _ask(self):
        client = Client(self.stack.ports["http"])
        while not self.ended.is_set():
            at = time.monotonic()
            answer = client.request("GET", self.path + key())
            if answer.status != 200:
                assert answer.status == 503
                assert answer.json()["code"] == "backend_unavailable"
            self.answers.append((answer.status, answer.seconds, at))
            self.ended.wait(0.002)
        client.close()

    def since(self, when, until=float("inf")):
        return [each for each in self.answers if when <= each[2] < until]


def warm(stack):
    """The name of a document that memory holds, in both zones; for as long as
    there is no reload, after which memory asks whether it is still right."""
    name = key()
    stack.sql("INSERT INTO hotpath.prices VALUES ('default', %s, 1, %s,"
              " now(), false, 0, 1)", (name, DOCUMENT))
    wait_until(lambda: stack.metric("hotpath_push_listening") == 1, 20,
               "pushes are heard")
    wait_until(lambda: stack.get(f"/short/{name}").status == 200
               and "; hit" in stack.get(f"/prices/{name}").headers.get(
                   "Cache-Status", ""), 20, "memory has it")
    return name


def check_hits(stack, name):
    """What memory holds is answered at once, and what is past its time."""
    for _ in range(5):
        answer = stack.get(f"/prices/{name}")
        assert (answer.status, answer.body) == (200, DOCUMENT.encode())
        assert "; hit" in answer.headers["Cache-Status"]
        assert answer.seconds < 0.3
        answer = stack.get(f"/short/{name}")
        assert (answer.status, answer.body) == (200, DOCUMENT.encode())
        assert answer.seconds < 0.9


# A deadline ends the work, not only the wait.

def check_cancelled(stack, connections):
    """After deadlines have passed the server sleeps no longer, and nothing
    but the statements was lost."""
    before = pids(stack)
    counted = stack.metric("hotpath_postgres_cancels_total")
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(
            lambda n: stack.get(f"/sleep/30-{key()}"), range(4)))
    assert {answer.status for answer in answers} == {503}
    assert time.monotonic() - begin < 2
    wait_until(lambda: sleepers(stack) == 0, 1,
               "the server has stopped working on them")
    assert stack.metric("hotpath_postgres_cancels_total") >= counted + 1
    assert len(before & pids(stack)) == len(before) <= 2 * connections
    assert stack.get(f"/say/{key()}").status == 200


def test_a_deadline_ends_the_work_in_the_server(own_stack):
    direct(own_stack)
    wait_served(own_stack)
    with Pings(own_stack) as pings:
        check_cancelled(own_stack, 4)
    pings.check(least=50)
    wait_until(lambda: threads(own_stack) == 1, 5, "no thread is left")


def test_a_deadline_ends_the_work_behind_pgbouncer(own_stack):
    with Bouncer(own_stack, default_pool_size=4) as bouncer:
        use(own_stack, '"host=127.0.0.1 port=%d user=front password=fr0nt'
            ' dbname=hotpath" pgbouncer=on timeout=500ms connections=2'
            % bouncer.port)
        wait_served(own_stack)
        with Pings(own_stack) as pings:
            for _ in range(3):
                answer = own_stack.get(f"/sleep/30-{key()}")
                assert answer.status == 503
                assert answer.seconds < 1
                wait_until(lambda: sleepers(own_stack) == 0, 2,
                           "the server has stopped working on it")
        pings.check(least=50)
        wait_served(own_stack)


def test_neighbours_of_a_cancelled_statement(own_stack):
    """A cancel request may come late and hit the next statement: that one is
    sent again. Who was in front of a slow one does not notice it, who was
    behind it waits, but no longer than to the deadline of both."""
    direct(own_stack, connections=2, workers=1)
    wait_served(own_stack)
    try:
        with Asking(own_stack, count=3) as asking:
            for _ in range(8):
                own_stack.get(f"/sleep/30-{key()}")
        bad = [each for each in asking.answers if each[0] != 200]
        early = [each for each in bad if each[1] < 0.35]
        assert not early, (early, len(bad), len(asking.answers))
        assert len(bad) * 20 < len(asking.answers)
        wait_until(lambda: sleepers(own_stack) == 0, 2, "nothing sleeps")
    finally:
        direct(own_stack, workers=2)


def test_a_statement_hit_by_anothers_cancel_request(own_stack):
    """As if the request had come late: sent again, and no error. Long after
    any request, somebody meant it."""
    direct(own_stack, connections=1, workers=1)
    wait_served(own_stack)
    retries = own_stack.metric("hotpath_postgres_retries_total")

    def hit():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(own_stack.get, f"/sleep/0.3-{key()}")
            wait_until(lambda: sleepers(own_stack) == 1, 5, "it sleeps")
            admin(own_stack, "SELECT pg_cancel_backend(pid)"
                             " FROM pg_stat_activity WHERE state = 'active'"
                             " AND application_name = 'hotpath'")
            return answer.result()
    try:
        assert own_stack.get(f"/sleep/30-{key()}").status == 503
        wait_until(lambda: sleepers(own_stack) == 0, 1, "it was cancelled")
        assert hit().status == 200
        assert own_stack.metric(
            "hotpath_postgres_retries_total") == retries + 1
        for_seconds(2.1)
        assert hit().status == 503
    finally:
        direct(own_stack, workers=2)


def test_cancels_are_bounded_while_the_server_is_frozen(own_stack):
    """Nobody answers the cancel requests either; nothing waits for them, not
    even the end of a worker. What of them is left over, the server's own limit
    ends."""
    direct(own_stack, connections=24, workers=1,
           more=" timeout=2s statement_timeout=2100ms")
    with Asking(own_stack, "/sleep/0.1-", count=40):
        wait_until(lambda: len(pids(own_stack)) == 24, 20,
                   "it has all its connections")
    wait_served(own_stack)
    try:
        with Pings(own_stack) as pings, \
                Asking(own_stack, "/sleep/30-", count=40) as asking:
            wait_until(lambda: sleepers(own_stack) >= 20, 20,
                       "more sleep than may be cancelled at once")
            own_stack.freeze("postgres")
            begin = time.monotonic()
            for_seconds(5)
            assert threads(own_stack) <= 1 + 8
        pings.check()
        assert {status for status, _, _ in asking.answers} == {503}
        assert statistics.median(
            seconds for _, seconds, _ in asking.since(begin + 3)) < 0.05
        old = set(own_stack.nginx_workers())
        own_stack.reload()
        wait_until(lambda: not old & set(own_stack.nginx_workers()), 8,
                   "workers end while requests to cancel hang")
    finally:
        own_stack.thaw("postgres")
    assert wait_served(own_stack) < 8
    wait_until(lambda: sleepers(own_stack) == 0, 5, "nothing sleeps")
    wait_until(lambda: threads(own_stack) == 1, 5, "no thread is left")
    direct(own_stack, workers=2)


def test_half_open(own_stack):
    """The network swallows everything, both ways, and tells nobody. The
    server's own limit ends what no cancel request reaches."""
    with Proxy(own_stack.ports["postgres"]) as proxy:
        use(own_stack, (WORDS % (proxy.port, 4)).replace(
            " statement_timeout=0", ""))
        wait_served(own_stack)
        name = warm(own_stack)
        check_hits(own_stack, name)
        with Pings(own_stack) as pings:
            with Asking(own_stack) as asking, \
                    Asking(own_stack, "/sleep/30-", count=1):
                wait_until(lambda: sleepers(own_stack) > 0, 5, "it sleeps")
                proxy.stall()
                begin = time.monotonic()
                for_seconds(2.5)
                check_hits(own_stack, name)
                wait_until(lambda: sleepers(own_stack) == 0, 2,
                           "the server has given up")
                assert own_stack.get("/health/ready").status == 200
                end = time.monotonic()
                proxy.go()
            took = wait_served(own_stack)
        pings.check()
    assert took < 8
    assert {each[0] for each in asking.since(begin + 0.1, end - 0.6)} == {503}
    assert all(each[1] < 0.9 for each in asking.answers)
    late = [each[1] for each in asking.since(begin + 1.5, end)]
    assert statistics.median(late) < 0.05


# Bounds.

def test_the_queue_is_bounded(own_stack):
    """One connection carries 8, the queue holds 8 more: the rest is refused
    at once, or has the copy past its time."""
    direct(own_stack, connections=1, more=" queue=8 timeout=5s", workers=1)
    wait_served(own_stack)
    name = warm(own_stack)
    refused = own_stack.metric("hotpath_postgres_refused_total")
    try:
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = [pool.submit(own_stack.get, f"/sleep/0.2-{key()}")
                       for _ in range(40)]
            wait_until(lambda: own_stack.metric(
                "hotpath_postgres_waiting") == 8, 5, "the queue is full")
            stale = []
            wait_until(lambda: stale.append(own_stack.get(f"/short/{name}"))
                       or "stale-if-error" in stale[-1].headers[
                           "Cache-Status"], 1, "what is in memory is past it")
            assert own_stack.metric("hotpath_postgres_waiting") > 0
            answers = [each.result() for each in answers]
        good = [each for each in answers if each.status == 200]
        bad = [each for each in answers if each.status == 503]
        assert len(good) == 16 and len(bad) == 24
        assert statistics.median(each.seconds for each in bad) < 0.15
        assert {each.status for each in stale} == {200}
        assert all(each.seconds < 0.15 for each in stale)
        assert own_stack.metric(
            "hotpath_postgres_refused_total") >= refused + 24
    finally:
        direct(own_stack, workers=2)


def test_the_circuit_breaker(own_stack):
    """A table is locked: the server is there and every statement is late.
    After a few of them nobody waits any more, but one now and then."""
    direct(own_stack)
    wait_served(own_stack)
    holder = psycopg2.connect(own_stack.conninfo())
    try:
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE hotpath.lockable"
                           " IN ACCESS EXCLUSIVE MODE")
        begin = time.monotonic()
        timeouts = own_stack.metric("hotpath_postgres_timeouts_total")
        with Asking(own_stack, "/locked/", count=8) as asking:
            for_seconds(5)
            late = asking.since(begin + 2)
            assert {each[0] for each in late} == {503}
            slow = [each for each in late if each[1] > 0.2]
            assert statistics.median(each[1] for each in late) < 0.02
            assert len(slow) * 20 < len(late)
            assert own_stack.metric("hotpath_postgres_breaker_open") >= 1
            # until it opened, all eight threads each half second, in both
            # workers; and then a probe each 0.4 s at most
            assert own_stack.metric("hotpath_postgres_timeouts_total") \
                - timeouts < 8 * 3 + 2 * 5 / 0.4
            # other statements are behind the same breaker
            assert own_stack.get(f"/say/{key()}").status in (200, 503)
            holder.rollback()
            took = wait_served(own_stack)
        assert took < 6
        assert own_stack.metric("hotpath_postgres_breaker_open") == 0
    finally:
        holder.close()


def connect_attempts(stack, text):
    return stack.log("postgres").count(text)


def test_out_of_connections(own_stack):
    """The role may have fewer than are wanted: those serve, the others are
    tried for, not too often. Then it may have none."""
    direct(own_stack, connections=16)
    wait_served(own_stack)
    name = warm(own_stack)
    try:
        count = len(pids(own_stack))
        admin(own_stack, f"ALTER ROLE hotpath CONNECTION LIMIT {count}")
        full = "too many connections for role"
        seen = connect_attempts(own_stack, full)
        with Pings(own_stack) as pings:
            with Asking(own_stack, "/sleep/0.01-", count=12) as asking:
                for_seconds(3)
                assert len(pids(own_stack)) == count
            assert {each[0] for each in asking.answers} == {200}
            # 50 ms, 100 ms … in two workers
            assert 2 <= connect_attempts(own_stack, full) - seen < 40
            admin(own_stack, "ALTER ROLE hotpath CONNECTION LIMIT 0")
            admin(own_stack, "SELECT pg_terminate_backend(pid)"
                             " FROM pg_stat_activity"
                             " WHERE application_name = 'hotpath'")
            wait_until(lambda: own_stack.get(f"/say/{key()}").status == 503,
                       5, "there is no connection left")
            begin = time.monotonic()
            with Asking(own_stack) as asking:
                for_seconds(1.5)
                check_hits(own_stack, name)
            late = [each[1] for each in asking.since(begin + 0.2)]
            assert statistics.median(late) < 0.05
        pings.check()
    finally:
        admin(own_stack, "ALTER ROLE hotpath CONNECTION LIMIT -1")
    assert wait_served(own_stack) < 8


def test_in_recovery(own_stack):
    """A server that lets nobody in: 503 at once, or the copy past its time."""
    direct(own_stack)
    wait_served(own_stack)
    name = warm(own_stack)
    process = own_stack["postgres"]
    command, ready = process.command, process.ready
    signal_file = own_stack.path("postgres", "standby.signal")
    own_stack.stop("postgres")
    try:
        with open(signal_file, "w", encoding="ascii"):
            os.chmod(signal_file, 0o666)
        process.command = command + ["-c", "hot_standby=off"]
        process.ready = lambda: "not accepting" in own_stack.log("postgres") \
            or local.port_taken(own_stack.ports["postgres"])
        with Pings(own_stack) as pings, Asking(own_stack) as asking:
            own_stack.start("postgres")
            begin = time.monotonic()
            for_seconds(2)
            check_hits(own_stack, name)
            assert "database system" in own_stack.log("nginx")
            assert own_stack.get("/health/ready").status == 200
        pings.check()
        assert {each[0] for each in asking.since(begin)} == {503}
        late = [each[1] for each in asking.since(begin + 0.5)]
        assert statistics.median(late) < 0.05
    finally:
        process.command, process.ready = command, ready
        own_stack.stop("postgres")
        if os.path.exists(signal_file):
            os.remove(signal_file)
        own_stack.start("postgres")
    assert wait_served(own_stack) < 8


# What the network does.

def check_bulkhead(reads):
    """Memory and Redis: nobody there noticed."""
    assert not reads.wrong, reads.wrong[:3]
    for kind in ("warm", "stale", "redis"):
        assert reads.statuses(kind) == {200}, kind
    for kind in ("warm", "redis"):
        took = sorted(each.seconds for each in reads.of(kind))
        assert took[len(took) * 9 // 10] < 0.1, took[-10:]


def test_slow(own_stack):
    """Each answer 200 ms late: late, and nothing else. Then past every
    deadline: stale, or 503 in time."""
    with Proxy(own_stack.ports["postgres"]) as proxy:
        use(own_stack, WORDS % (proxy.port, 4), redis=True)
        wait_served(own_stack)
        with Pings(own_stack) as pings, Reads(own_stack) as reads:
            wait_until(lambda: len(reads.of("cold")) > 20, 20, "reads run")
            proxy.delay_s = 0.2
            # what was sent before the delay is answered
            for_seconds(0.5)
            begin = time.monotonic()
            for_seconds(2)
            end = time.monotonic() - 0.5
            # not one of the connections that there were is given up
            proxy.delay_s = 0.9
            for_seconds(0.5)
            later = time.monotonic()
            for_seconds(3)
            over = time.monotonic()
            proxy.delay_s = 0
            wait_until(lambda: reads.of("cold", over)
                       and reads.of("cold", over)[-1].status == 200, 20,
                       "Postgres is fast again")
        pings.check()
    check_bulkhead(reads)
    slow = reads.of("cold", begin, end)
    assert {each.status for each in slow} == {200}
    assert all(0.15 < each.seconds < 0.9 for each in slow)
    assert reads.statuses("cold", later, over) == {503}
    assert all(each.seconds < 0.9 for each in reads.of("cold", later, over))


def test_flapping(own_stack):
    """Up for a moment, reset, up again, for three seconds: a row of short
    misses, connections are not made without a pause, and it ends well."""
    with Proxy(own_stack.ports["postgres"]) as proxy:
        use(own_stack, WORDS % (proxy.port, 4), redis=True)
        wait_served(own_stack)
        with Pings(own_stack) as pings, Reads(own_stack) as reads:
            wait_until(lambda: len(reads.of("cold")) > 20, 20, "reads run")
            accepted = proxy.accepted
            end = time.monotonic() + 3
            while time.monotonic() < end:
                for_seconds(0.04)
                proxy.reset()
            made = proxy.accepted - accepted
            wait_until(lambda: reads.of("cold", end)
                       and reads.of("cold", end)[-1].status == 200, 20,
                       "Postgres answers again")
        pings.check()
    check_bulkhead(reads)
    # 75 resets of up to 4 connections in each of 2 workers
    assert 20 < made < 600
    good = [each for each in reads.of("cold", end - 3, end)
            if each.status == 200]
    assert len(good) > 20


@pytest.mark.parametrize("count", [1, 5, 40, 70000])
def test_reset_in_the_middle_of_a_result(own_stack, count):
    """A statement that fell with its connection is sent over another one."""
    with Proxy(own_stack.ports["postgres"]) as proxy:
        use(own_stack, WORDS % (proxy.port, 2) + " timeout=2s")
        wait_served(own_stack)
        retries = own_stack.metric("hotpath_postgres_retries_total")
        for size in (100000, 100001, 100002):
            proxy.cut_after(count)
            answer = own_stack.get(f"/long/{size}")
            assert answer.status == 200
            assert answer.json() == "x" * size
        # some of the cuts may have met a connection being made
        assert own_stack.metric("hotpath_postgres_retries_total") > retries


def test_a_backend_is_ended(own_stack):
    """FATAL while it works, or while it waits: the call goes elsewhere."""
    direct(own_stack, more=" timeout=5s")
    wait_served(own_stack)
    with Asking(own_stack, "/sleep/0.05-", count=6) as asking:
        for _ in range(10):
            seen = len(asking.answers)
            wait_until(lambda: len(asking.answers) > seen + 10
                       and sleepers(own_stack) > 0, 10, "it works")
            admin(own_stack, "SELECT pg_terminate_backend(pid)"
                             " FROM pg_stat_activity"
                             " WHERE application_name = 'hotpath' LIMIT 1")
    assert {each[0] for each in asking.answers} == {200}
    assert "terminating connection" in own_stack.log("nginx")


def test_a_backend_is_killed(own_stack):
    """One backend with SIGKILL: Postgres ends them all and recovers."""
    direct(own_stack)
    wait_served(own_stack)
    name = warm(own_stack)
    with Pings(own_stack) as pings:
        for _ in range(2):
            os.kill(min(pids(own_stack)), signal.SIGKILL)
            check_hits(own_stack, name)
            wait_until(lambda: own_stack["postgres"].ready(), 20,
                       "postgres has recovered")
            assert wait_served(own_stack) < 8
    pings.check(least=50)


def test_a_host_that_is_gone_is_not_waited_for_twice(own_stack):
    """The first host of two drops every packet: its deadline once, and then
    not again for a while."""
    with Deaf() as deaf:
        begin = time.monotonic()
        use(own_stack, '"host=127.0.0.1,127.0.0.1 user=hotpath dbname=hotpath'
            ' port=%d,%d connect_timeout=1" timeout=2s connections=4'
            % (deaf.port, own_stack.ports["postgres"]))
        wait_served(own_stack)
        assert time.monotonic() - begin > 0.9
        # three more connections in each worker, at once
        with Asking(own_stack, "/sleep/0.05-", count=16) as asking:
            wait_until(lambda: len(pids(own_stack)) >= 6, 0.9,
                       "connections are made without it")
        assert {each[0] for each in asking.answers} == {200}


def test_a_frozen_replica(own_stack):
    """It accepts and says nothing. The primary takes over within seconds."""
    with Replica(own_stack) as replica:
        use(own_stack, '"host=127.0.0.1,127.0.0.1 user=postgres dbname=hotpath'
            ' port=%d,%d target_session_attrs=prefer-standby'
            ' connect_timeout=1" timeout=500ms connections=3'
            % (own_stack.ports["postgres"], replica.port))
        wait_served(own_stack)
        name = warm(own_stack)
        assert own_stack.get(f"/backend/{key()}").json()["standby"] is True
        with Pings(own_stack) as pings, Asking(own_stack) as asking:
            for _ in range(2):  # those too that were just being made
                replica.process.signal(signal.SIGSTOP, everyone=True)
            try:
                begin = time.monotonic()
                for_seconds(1)
                check_hits(own_stack, name)
                took = wait_served(own_stack)
                assert own_stack.get(
                    f"/backend/{key()}").json()["standby"] is False
            finally:
                replica.process.signal(signal.SIGCONT, everyone=True)
        pings.check()
        assert 1 + took < 7
        assert all(each[1] < 0.9 for each in asking.since(begin))


# What is not Postgres, or no longer.

def message(kind, body=b""):
    return kind + struct.pack(">i", 4 + len(body)) + body


GREETING = (message(b"R", b"\0\0\0\0")
            + message(b"S", b"client_encoding\0UTF8\0")
            + message(b"K", b"\0\0\0\1\0\0\0\2") + message(b"Z", b"I"))


def welcome(connection, first=65536):
    """As far as ready, and so many bytes of a query."""
    while True:
        head = connection.recv(8, socket.MSG_WAITALL)
        if len(head) < 8:
            raise ConnectionError
        size, code = struct.unpack(">ii", head)
        if code >> 16 == 3:
            connection.recv(size - 8, socket.MSG_WAITALL)
            break
        connection.sendall(b"N")  # neither TLS nor Kerberos; no cancelling
    connection.sendall(GREETING)
    if first:
        connection.recv(first)


def drained(connection):
    while connection.recv(65536):
        pass


def endless_rows(connection):
    welcome(connection)
    connection.sendall(message(b"1") + message(b"2") + message(
        b"T", b"\0\1a\0" + struct.pack(">ihihih", 0, 0, 25, -1, -1, 0)))
    row = message(b"D", b"\0\1" + struct.pack(">i", 1000) + b"x" * 1000)
    while True:
        connection.sendall(row * 60)


def endless_field(connection):
    welcome(connection)
    connection.sendall(message(b"1") + message(b"2") + message(
        b"T", b"\0\1a\0" + struct.pack(">ihihih", 0, 0, 25, -1, -1, 0)))
    connection.sendall(b"D" + struct.pack(">ihi", 2 ** 30, 1, 2 ** 30 - 10))
    while True:
        connection.sendall(b"x" * 65536)


def endless_notices(connection):
    welcome(connection)
    while True:
        connection.sendall(message(b"N", b"SNOTICE\0Mno\0\0") * 1000)


def endless_notifications(connection):
    welcome(connection)
    while True:
        connection.sendall(message(b"A", b"\0\0\0\1channel\0payload\0") * 1000)


def copies(connection):
    welcome(connection)
    connection.sendall(message(b"1") + message(b"2")
                       + message(b"H", b"\0\0\1\0\0"))
    drained(connection)


def unasked(connection):
    welcome(connection)
    connection.sendall(message(b"Z", b"I") * 50)
    drained(connection)


def fatal(connection):
    welcome(connection)
    connection.sendall(message(
        b"E", b"SFATAL\0C57P01\0Mthe end\nis near\0\0"))


def unknown(connection):
    welcome(connection)
    connection.sendall(message(b"?", b"what") * 3)
    drained(connection)


def impossible_length(connection):
    welcome(connection)
    connection.sendall(b"D" + struct.pack(">i", -5))
    drained(connection)


def too_many_fields(connection):
    welcome(connection)
    connection.sendall(message(b"1") + message(b"2") + message(
        b"T", b"\0\1a\0" + struct.pack(">ihihih", 0, 0, 25, -1, -1, 0))
        + message(b"D", b"\0\5" + b"\xff\xff\xff\xff" * 5)
        + message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))
    drained(connection)


def resident_mib(stack):
    most = 0
    for pid in stack.nginx_workers():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            most = max(most, int(re.search(
                r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024)
    return most


def test_notifications_on_a_connection_that_waits(own_stack):
    """libpq keeps them for somebody who never asks; not here."""
    def talk(connection):
        welcome(connection, first=0)
        while True:
            connection.sendall(
                message(b"A", b"\0\0\0\1channel\0payload\0") * 1000)

    before = resident_mib(own_stack)
    with GarbageServer(local.free_ports()["postgres"], talk) as server:
        use(own_stack, WORDS % (server.listener.getsockname()[1], 2))
        with Pings(own_stack) as pings:
            wait_until(lambda: server.accepted, 20, "it is connected to")
            for_seconds(2)
        pings.check(least=50)
        assert resident_mib(own_stack) - before < 20
    direct(own_stack)


@pytest.mark.parametrize("talk", [
    endless_rows, endless_field, endless_notices, endless_notifications,
    copies, unasked, fatal, unknown, impossible_length, too_many_fields])
def test_nonsense_for_an_answer(own_stack, talk):
    """It lets everybody in, and then this: 503, soon, and no memory for it."""
    with GarbageServer(local.free_ports()["postgres"], talk) as server, \
            Proxy(own_stack.ports["postgres"]) as proxy:
        use(own_stack, WORDS % (proxy.port, 2) + " max_result=1m")
        wait_served(own_stack)
        name = warm(own_stack)
        before = resident_mib(own_stack)
        with Pings(own_stack) as pings:
            with Asking(own_stack) as asking:
                proxy.target = server.listener.getsockname()
                proxy.reset()
                wait_until(lambda: server.accepted, 20, "it is asked")
                begin = time.monotonic()
                for_seconds(1.5)
                check_hits(own_stack, name)
                assert own_stack.get("/health/ready").status == 200
            asked = asking.since(begin)
            assert {each[0] for each in asked} == {503}
            assert all(each[1] < 0.9 for each in asked)
            assert server.accepted < 300
            proxy.target = (local.HOST, own_stack.ports["postgres"])
            proxy.reset()
            assert wait_served(own_stack) < 8
        pings.check(least=50)
        assert resident_mib(own_stack) - before < 20
