"""Redis stopped, slow, flapping, cut off, full, a replica, loading, or none.

The failure table's first line: what memory holds is answered as before; what it
does not hold costs a miss the time limit at most, a few times, and then comes
from Postgres at once, because the circuit breaker has taken Redis out of the
way; when Redis is back it is used within a second or two. Writes, readiness and
the event loop notice nothing. nginx reaches Redis through a hop of the test's
own, which delays, stalls, resets, and counts the commands that come by.
"""

import itertools
import os
import re
import shutil
import time

import pytest

from pressure import GarbageServer, Pings, Writes, wait_all_ready
from reads import (
    DOCUMENT, HTTP, SERVER, Reads, check_unharmed, for_seconds, key, store,
    wait_all_up, wait_served)
from redises import FakeRedis, OwnRedis, Proxy, wait_commands
from servers import wait_until
from wire import Redis

STACK = {"without": ("project",), "http": HTTP, "server": SERVER}

WORKERS = 2
LIMIT_S = 0.1       # the stack's timeout=
PAUSE_S = 0.4       # the breaker's shortest
FAILURES = 5        # that open it

# A machine that is busy with other things answers so much later.
NOISE_S = 0.4


@pytest.fixture(scope="module")
def proxy(own_stack):
    """The hop on nginx's way to Redis, for all of this file."""
    with Proxy(own_stack.ports["redis"]) as hop:
        own_stack.reload(backends=lambda text: text.replace(
            f":{own_stack.ports['redis']} ", f":{hop.port} "))
        yield hop


@pytest.fixture(autouse=True)
def all_up(own_stack, proxy):
    wait_all_ready(own_stack)
    wait_all_up(own_stack)
    # what is read and written closes the breakers
    prefix, numbers = key(), itertools.count()
    own_stack.sql(
        "INSERT INTO hotpath.prices SELECT 'default', %s || n, 1, %s, now(),"
        " false, 0, n FROM generate_series(0, 1000) AS n", (prefix, DOCUMENT))
    wait_until(lambda: own_stack.get(
        f"/prices/{prefix}{next(numbers)}").status == 200
               and own_stack.metric("hotpath_redis_breakers_open") == 0
               and own_stack.metric("hotpath_redis_connections") == WORKERS,
               10, "Redis is used by every worker")


class Hits(Pings):
    """Asks for a document in memory in place of /ping."""

    def __init__(self, stack):
        name = key()
        with Redis(stack.ports["redis"]) as redis:
            store(redis, name, "pong\n")
        path = f"/prices/{name}"
        assert "detail=redis" in stack.get(path).headers["Cache-Status"]
        assert "; hit" in stack.get(path).headers["Cache-Status"]
        super().__init__(stack, path)


def errors(stack, since=0):
    return [line for line in stack.log("nginx")[since:].splitlines()
            if "[error]" in line and "redis" in line]


def wait_open(stack, calls):
    """The breaker of those workers that are asked; it may be one alone."""
    wait_until(lambda: stack.metric("hotpath_redis_breakers_open",
                                    f'"{calls}"') > 0, 10,
               f"a breaker of {calls} is open")


def check_costs(reads, begin, end):
    """Every miss was answered, by Postgres; at first within the time limit,
    and then without a try."""
    for kind in {"cold", "redis"} & set(reads.kinds):
        assert reads.statuses(kind, begin, end) == {200}
    misses = reads.of("cold", begin, end)
    assert len(misses) > 50
    assert all("detail=postgres" in each.source for each in misses)
    worst = max(each.seconds for each in misses)
    assert worst < LIMIT_S + NOISE_S, worst
    late = sorted(each.seconds for each in misses if each.at > begin + 1)
    assert late[len(late) * 8 // 10] < LIMIT_S / 2, late[-10:]


def check_few(count, misses, seconds):
    """So many tries for so many misses: the breaker's, and no more. A try may
    have others beside it, which were sent before it failed."""
    probes = WORKERS * (seconds / PAUSE_S + 1)
    assert count <= WORKERS * (FAILURES + 4) + probes, count
    assert misses > 3 * count, (count, misses)


# Silence.

@pytest.mark.parametrize("how", ["stopped", "cut off"])
def test_silent_for_seconds(own_stack, proxy, how):
    with Pings(own_stack) as pings, Hits(own_stack) as hits, \
            Writes(own_stack, threads=2) as writes, \
            Reads(own_stack) as reads:
        for_seconds(0.5)
        assert any("detail=redis" in each.source
                   for each in reads.of("redis"))
        sent = proxy.sent("GET")
        begin = time.monotonic()
        if how == "stopped":
            own_stack.freeze("redis")
        else:
            proxy.stall()
        try:
            for_seconds(5)
            assert own_stack.get("/health/ready").status == 200
            end = time.monotonic()
            sent = proxy.sent("GET") - sent
        finally:
            own_stack.thaw("redis")
            proxy.flow()
        wait_served(reads, "redis", "detail=redis", 3)
    check_unharmed(own_stack, reads, pings)
    hits.check()
    check_costs(reads, begin + 0.05, end)
    check_few(sent, len(reads.of("cold", begin, end))
              + len(reads.of("redis", begin, end)), end - begin)
    assert set(writes.codes()) == {"202"}
    writes.check()


def test_slow(own_stack, proxy):
    """It answers everything, three time limits late: the connection stays, and
    next to nobody waits for it."""
    with Pings(own_stack) as pings, Hits(own_stack) as hits, \
            Reads(own_stack, kinds=("warm", "stale", "cold")) as reads:
        for_seconds(0.3)
        timeouts = own_stack.metric("hotpath_redis_timeouts_total")
        connects = own_stack.metric("hotpath_redis_connects_total")
        proxy.flow(delay_s=2.5 * LIMIT_S)
        begin, sent = time.monotonic(), proxy.sent("GET")
        for_seconds(4)
        end, sent = time.monotonic(), proxy.sent("GET") - sent
        assert own_stack.metric("hotpath_redis_connections") == WORKERS
        assert own_stack.metric("hotpath_redis_skipped_total", "breaker") > 0
        assert own_stack.metric("hotpath_redis_waiting") < 20
        tried = own_stack.metric("hotpath_redis_timeouts_total") - timeouts
        proxy.flow()
        wait_until(lambda: own_stack.metric(
            "hotpath_redis_breakers_open") == 0, 3, "calls pass again")
    check_unharmed(own_stack, reads, pings)
    hits.check()
    check_costs(reads, begin + 0.05, end)
    misses = len(reads.of("cold", begin, end)) + len(
        reads.of("stale", begin, end))
    check_few(sent, misses, end - begin)
    assert FAILURES <= tried <= sent + 10
    assert own_stack.metric("hotpath_redis_connects_total") == connects


def test_killed_and_started_again(own_stack, proxy):
    since = len(own_stack.log("nginx"))
    with Pings(own_stack) as pings, Reads(own_stack) as reads:
        for _ in range(2):
            own_stack.kill("redis")
            begin = time.monotonic()
            for_seconds(1.5)
            end = time.monotonic()
            assert reads.statuses("cold", begin, end) == {200}
            assert own_stack.metric("hotpath_redis_connections") == 0
            own_stack.start("redis")
            reads.fill_redis()
            wait_served(reads, "redis", "detail=redis", 2)
    check_unharmed(own_stack, reads, pings)
    for kind in ("cold", "redis"):
        assert reads.statuses(kind) == {200}
    # both workers, both times: lost, then one or two ways to be refused
    assert len(errors(own_stack, since)) <= WORKERS * 2 * 4


def test_flapping(own_stack, proxy):
    """There, and gone again, over and over: neither a storm of connections nor
    of lines, and nobody waits longer than for a Redis that is silent."""
    since = len(own_stack.log("nginx"))
    with Pings(own_stack) as pings, Hits(own_stack) as hits, \
            Reads(own_stack, kinds=("warm", "stale", "cold")) as reads:
        seen = proxy.accepted
        begin = time.monotonic()
        for _ in range(8):
            proxy.shut()
            for_seconds(0.3)
            proxy.unshut()
            for_seconds(0.3)
        end = time.monotonic()
        accepted = proxy.accepted - seen
    check_unharmed(own_stack, reads, pings)
    hits.check()
    assert reads.statuses("cold") == {200}
    worst = max(each.seconds for each in reads.of("cold", begin, end))
    assert worst < LIMIT_S + NOISE_S, worst
    # 25 ms, doubled up to 0.4 s at least
    assert accepted <= WORKERS * (5 + (end - begin) / 0.4), accepted
    assert len(errors(own_stack, since)) <= WORKERS * 4, errors(
        own_stack, since)


def test_reload_while_it_is_silent(own_stack, proxy):
    """Whoever waits for it is answered, and the old workers end."""
    old = set(own_stack.nginx_workers())
    proxy.stall()
    try:
        with Reads(own_stack, kinds=("cold",)) as reads:
            for_seconds(0.2)
            own_stack.reload()
            wait_until(lambda: not old & set(own_stack.nginx_workers()), 5,
                       "the old workers are gone")
        # a connection kept alive may be closed as a request comes
        assert reads.statuses("cold") <= {200, "error"}
        assert len(reads.wrong) <= 2 * len(reads._threads), reads.wrong
    finally:
        proxy.flow()


# Another tongue.

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
    """One of the kind that greets, and then begins an answer."""
    connection.recv(65536)
    connection.sendall(b"+PONG\r\n")
    connection.recv(1)
    connection.sendall(b"$1000\r\nHPD")
    silence(connection)


def unasked(connection):
    connection.recv(1)
    while True:
        connection.sendall(b"$5\r\nhello\r\n" * 100)


def arrays(connection):
    """Each of a size that is allowed, in one another, without an end."""
    connection.recv(1)
    while True:
        connection.sendall(b"*2\r\n" * 8 + b":1\r\n" * 9)


def large_array(connection):
    """Of many parts, none too large."""
    connection.recv(1)
    connection.sendall(b"*16000\r\n")
    while True:
        connection.sendall(b"$100000\r\n" + 100000 * b"x" + b"\r\n")


def great_array(connection):
    connection.recv(1)
    connection.sendall(b"*2147483647\r\n" + b":1\r\n" * 1000)
    silence(connection)


def memory_kib(stack):
    total = 0
    for pid in stack.nginx_workers():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            total += int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
    return total


@pytest.mark.parametrize("talk", [
    silence, closing, nonsense, endless, half, unasked, arrays, large_array,
    great_array])
def test_not_redis(own_stack, proxy, talk):
    names = [key() for _ in range(10)]
    own_stack.sql(
        "INSERT INTO hotpath.prices SELECT 'default', name, 1, name,"
        " now(), false, 0, 1 FROM unnest(%s) AS name", (names,))
    since = len(own_stack.log("nginx"))
    before = memory_kib(own_stack)
    own_stack.stop("redis")
    try:
        with GarbageServer(own_stack.ports["redis"], talk) as server, \
                Pings(own_stack) as pings:
            begin = time.monotonic()
            for name in names:
                answer = own_stack.get(f"/prices/{name}")
                assert (answer.status, answer.body) == (200, name.encode())
                assert answer.seconds < LIMIT_S + NOISE_S
            wait_until(lambda: server.accepted > 1, 10, "it is tried")
            most = []

            def watched():
                most.append(memory_kib(own_stack))
                return time.monotonic() > begin + 1.5
            wait_until(watched, 10, "time passes")
            assert own_stack.get("/health/ready").status == 200
            assert server.accepted < 40
        pings.check(least=50)
    finally:
        own_stack.start("redis")
    assert max(most) - before < WORKERS * 48 * 1024
    assert len(errors(own_stack, since)) <= WORKERS * 5, errors(
        own_stack, since)


@pytest.mark.parametrize("reply", [
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MASTERDOWN Link with MASTER is down\r\n",
    b"-BUSY Redis is busy running a script\r\n",
    b"-NOAUTH Authentication required.\r\n"])
def test_an_error_for_everybody(own_stack, proxy, reply):
    """It answers, at once, and is of no use: as good as silent."""
    since = len(own_stack.log("nginx"))
    own_stack.stop("redis")
    try:
        with FakeRedis(own_stack.ports["redis"], reply) as fake, \
                Pings(own_stack) as pings, \
                Reads(own_stack, kinds=("warm", "stale", "cold")) as reads:
            wait_open(own_stack, "all")
            begin, got = time.monotonic(), fake.got["GET"]
            for_seconds(2)
            got = fake.got["GET"] - got
            end = time.monotonic()
    finally:
        own_stack.start("redis")
    check_unharmed(own_stack, reads, pings)
    check_costs(reads, begin, end)
    check_few(got, len(reads.of("cold", begin, end)), end - begin)
    word = reply[1:].partition(b" ")[0].decode()
    lines = [line for line in errors(own_stack, since) if f"({word}" in line]
    assert 1 <= len(lines) <= WORKERS, lines


# Answers that refuse.

def refuses_writes(stack, proxy, word, begin_it, end_it):
    """Reads of what it has go on; scripts are left out after a few errors; the
    log has each error once a worker; when it takes them again, it gets them."""
    since = len(stack.log("nginx"))
    with Pings(stack) as pings, Reads(stack) as reads:
        begin_it()
        try:
            wait_open(stack, "scripts")
            begin = time.monotonic()
            sent = proxy.sent("EVAL") + proxy.sent("EVALSHA")
            for_seconds(3)
            sent = proxy.sent("EVAL") + proxy.sent("EVALSHA") - sent
            end = time.monotonic()
            assert stack.metric("hotpath_redis_breakers_open", '"all"') == 0
        finally:
            end_it()
        wait_until(lambda: stack.metric("hotpath_redis_breakers_open") == 0,
                   3, "scripts pass again")
    check_unharmed(stack, reads, pings)
    assert reads.statuses("cold") == reads.statuses("redis") == {200}
    assert all("detail=redis" in each.source
               for each in reads.of("redis", begin, end))
    check_few(sent, len(reads.of("cold", begin, end)), end - begin)
    kinds = re.findall(r"answers with an error \((\w+)",
                       "\n".join(errors(stack, since)))
    assert word in kinds
    assert len(kinds) <= WORKERS * len(set(kinds)), kinds
    name = key()
    stack.sql("INSERT INTO hotpath.prices VALUES"
              " ('default', %s, 1, %s, now(), false, 0, 1)", (name, DOCUMENT))
    assert stack.get(f"/prices/{name}").status == 200
    with Redis(stack.ports["redis"]) as redis:
        wait_until(lambda: redis(
            "EXISTS", f"hotpath:doc:prices:default:{name}") == 1, 5,
            "a document is written")


def test_full(own_stack, proxy):
    with Redis(own_stack.ports["redis"]) as redis:
        def full():
            redis("CONFIG", "SET", "maxmemory-policy", "noeviction")
            redis("CONFIG", "SET", "maxmemory", "1")

        def roomy():
            redis("CONFIG", "SET", "maxmemory", "256mb")
            redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        refuses_writes(own_stack, proxy, "OOM", full, roomy)


def test_replica(own_stack, proxy):
    """Of a master that is not there, which it says nothing of."""
    with Redis(own_stack.ports["redis"]) as redis:
        refuses_writes(own_stack, proxy, "READONLY",
                       lambda: redis("REPLICAOF", "127.0.0.1", "1"),
                       lambda: redis("REPLICAOF", "NO", "ONE"))


def test_replica_that_has_lost_its_master(own_stack, proxy):
    with Redis(own_stack.ports["redis"]) as redis, \
            Pings(own_stack) as pings, Reads(own_stack) as reads:
        redis("CONFIG", "SET", "replica-serve-stale-data", "no")
        redis("REPLICAOF", "127.0.0.1", "1")
        try:
            wait_open(own_stack, "all")
            begin = time.monotonic()
            for_seconds(2)
            end = time.monotonic()
        finally:
            redis("REPLICAOF", "NO", "ONE")
            redis("CONFIG", "SET", "replica-serve-stale-data", "yes")
        wait_served(reads, "redis", "detail=redis", 2)
    check_unharmed(own_stack, reads, pings)
    check_costs(reads, begin, end)


def test_loading(own_stack, proxy):
    """It is up and reads its file, which takes a while: it is not used, and as
    soon as it is through, it is."""
    own = OwnRedis(own_stack, "--key-load-delay", "30000",
                   "--loading-process-events-interval-bytes", "1024",
                   "--dbfilename", "dump.rdb")
    with Redis(own_stack.ports["redis"]) as redis:
        redis("FLUSHALL")
        for number in range(300):
            # it listens to nobody for a kilobyte of its file at a time
            redis("SET", f"filler{number}", os.urandom(1000))
        name = key()
        store(redis, name)
        redis("SAVE")
        redis("FLUSHALL")
    shutil.copyfile(own_stack.path("redis", "dump.rdb"),
                    own_stack.path("redis-own", "dump.rdb"))
    os.chmod(own_stack.path("redis-own", "dump.rdb"), 0o644)
    since = len(own_stack.log("nginx"))
    try:
        with own, Pings(own_stack) as pings, Reads(
                own_stack, kinds=("warm", "stale", "cold")) as reads:
            begin = time.monotonic()
            proxy.target = (proxy.target[0], own.port)
            proxy.reset()
            wait_until(lambda: sum("refused (LOADING" in line for line in
                                   errors(own_stack, since)) == WORKERS, 10,
                       "both are told that it is loading")
            for_seconds(1)
            assert own_stack.metric("hotpath_redis_connections") == 0
            end = time.monotonic()
            with Redis(own.port) as redis:
                def loaded():
                    return b"\nloading:0" in redis("INFO", "persistence")
                assert not loaded()
                redis("CONFIG", "SET", "key-load-delay", "0")
                wait_until(loaded, 20, "it is loaded")
            wait_until(lambda: own_stack.metric(
                "hotpath_redis_connections") == WORKERS, 3, "it is used")
            answer = own_stack.get(f"/prices/{name}")
            assert "detail=redis" in answer.headers["Cache-Status"]
    finally:
        proxy.target = (proxy.target[0], own_stack.ports["redis"])
    check_unharmed(own_stack, reads, pings)
    check_costs(reads, begin, end)


def test_several_commands_of_one_answer_lost(own_stack, proxy):
    """Reset in the middle of answers: nobody waits for what cannot come."""
    with Pings(own_stack) as pings, Reads(
            own_stack, kinds=("warm", "stale", "cold")) as reads:
        proxy.flow(delay_s=LIMIT_S / 2, piece=3)
        wait_commands(proxy, "GET", 5)
        proxy.reset()
        begin = time.monotonic()
        proxy.flow()
        for_seconds(0.5)
        end = time.monotonic()
    check_unharmed(own_stack, reads, pings)
    assert reads.statuses("cold", begin, end) == {200}
