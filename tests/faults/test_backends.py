"""Postgres, or Redis with it, frozen, killed, gone or talking nonsense.

The failure table: without Postgres what memory and Redis hold is answered, what
is past its time is stale within its bound, the rest is a 503 that comes soon,
then at once; writes do not notice; the instance stays ready; the event loop
goes on turning. No projector runs: documents are where the test has put them.
Redis alone is in test_redis_faults.py.
"""

import os
import signal
import time

import pytest

from pressure import GarbageServer, Pings, Writes, wait_all_ready
from reads import (
    DOCUMENT, HTTP, SERVER, Reads, check_unharmed, for_seconds, key, store,
    wait_all_up, wait_served)
from servers import wait_until
from wire import Redis

STACK = {"without": ("project",), "http": HTTP, "server": SERVER}


@pytest.fixture(autouse=True)
def all_up(own_stack):
    wait_all_ready(own_stack)
    wait_all_up(own_stack)


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


def half_of_postgres(connection):
    connection.recv(1)
    connection.sendall(b"R\0\0\0\x08\0\0\0\0S\0\0\x10\0server_")
    silence(connection)


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
