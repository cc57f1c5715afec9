"""What a broker answers, or a stranger in its place; queues and streams.

What must hold (promises 1 and 6, the failure table): a 202 is a row, a refusal
that says "nothing was accepted" is none, ever; each refusal has the code that
says why; the event loop goes on turning; and when the broker is back, so are
the 202s. Failures under load, each in turn, are in test_broker_failures.py.
"""

import json
import os
import re
import time
import uuid

import pytest

from natses import FakeBroker
from pressure import (GarbageServer, Pings, Writes, wait_all_ready,
                      wait_drained)
from servers import price_set, wait_until
from wire import Nats, RawHTTP, config

TIMEOUT_S = 1

STACK = {
    "server": """add_header X-Worker $pid always;
                 location = /stub { stub_status; }""",
    "hotpath": config(
        "hotpath.conf", ("timeout=5s", "timeout=1s"),
        ("queue=32m", "queue=128k"), ("connect_timeout  2s",
                                      "connect_timeout  500ms"),
        ("ping_interval    5s", "ping_interval    1s")),
}


@pytest.fixture(autouse=True)
def all_ready(own_stack):
    wait_all_ready(own_stack)


def key():
    return f"broker-{uuid.uuid4()}"


def test_killed_while_clients_keep_trying(own_stack):
    """A client that keeps to the contract gets all of its events in, once."""
    with Writes(own_stack, retry=True) as writes:
        for _ in range(2):
            writes.wait_accepted(200)
            own_stack.kill("nats")
            own_stack.start("nats")
        writes.wait_accepted(200)
    started = {each.key for each in writes.answers}
    # one a thread may have been cut off by the end of the test
    assert len(started - set(writes.accepted)) <= 8
    writes.check()


def test_a_full_queue(own_stack):
    """Bounded, told at once; what waited is sent when the broker is back."""
    names = [key() for _ in range(700)]
    clients = {name: RawHTTP(own_stack.ports["http"]) for name in names}
    before = own_stack.metric("hotpath_write_requests_total", "unavailable")
    answers = {}
    with Pings(own_stack) as pings:
        own_stack.freeze("nats")
        begin = time.monotonic()
        try:
            for name, client in clients.items():
                client.post({"idempotencyKey": name, "eventType": "t",
                             "payload": "x" * 200})
            wait_until(lambda: own_stack.metric(
                "hotpath_write_requests_total", "unavailable") > before, 5,
                "some are refused")
            # each worker has a queue of its own and speaks for that
            wait_until(lambda: {
                "name": "queue", "status": "down", "required": True}
                in own_stack.get("/health/ready").json()["checks"],
                TIMEOUT_S, "the full worker says so", every_s=0)
            assert time.monotonic() < begin + TIMEOUT_S, "too slow to tell"
        finally:
            own_stack.thaw("nats")
        for name, client in clients.items():
            answers[name] = client.answer()
            client.close()
    pings.check(least=1)
    full = {name for name, answer in answers.items()
            if answer.status == 503
            and json.loads(answer.body)["code"] == "publish_queue_full"}
    accepted = {name for name, answer in answers.items()
                if answer.status == 202}
    assert full and accepted
    assert full | accepted == set(names)
    assert {answers[name].headers["retry-after"] for name in full} == {"1"}
    wait_drained(own_stack)
    stored = {name for name, in own_stack.sql(
        "SELECT idempotency_key FROM hotpath.events"
        " WHERE idempotency_key = ANY(%s)", (names,))}
    assert stored == accepted
    # a refused one may be sent again at once
    name = sorted(full)[0]
    assert own_stack.post({"idempotencyKey": name, "eventType": "t",
                           "payload": "x" * 200}).status == 202


def test_one_stream_deleted(own_stack):
    """Its partition is refused, by the code that says so; the other goes on."""
    wait_drained(own_stack)
    with Nats(own_stack.ports["nats"]) as nats:
        nats.js("STREAM.DELETE.HOTPATH_EVENTS_0")
    lost = own_stack.post(price_set(key(), "a", 1))
    assert lost.status == 503
    assert lost.json()["code"] == "stream_unfit"
    assert lost.headers["Retry-After"] == "5"
    assert own_stack.post(price_set(key(), "c", 1)).status == 202
    own_stack.ctl("migrate")
    name = key()
    answer = wait_until(
        lambda: (lambda found: found if found.status == 202 else None)(
            own_stack.post(price_set(name, "a", 2))), 10, "it is back")
    wait_until(lambda: own_stack.sql(
        "SELECT 1 FROM hotpath.events WHERE idempotency_key = %s", (name,)),
        30, "the drain found the new stream")
    wait_until(lambda: own_stack.get(
        answer.headers["Location"]).json()["status"] == "processed", 5,
        "it is processed")


def test_a_stream_made_anew_unnoticed(own_stack):
    """Between two looks of the module at the stream: sequences start again,
    and what is asked about an operation must not rest on the old ones."""
    wait_drained(own_stack)
    with Nats(own_stack.ports["nats"]) as nats:
        nats.js("STREAM.DELETE.HOTPATH_EVENTS_0")
    own_stack.ctl("migrate")
    names = [key() for _ in range(3)]
    answers = [own_stack.post(price_set(name, "a", n))
               for n, name in enumerate(names)]
    assert [answer.status for answer in answers] == [202] * 3
    wait_until(lambda: len(own_stack.sql(
        "SELECT 1 FROM hotpath.events WHERE idempotency_key = ANY(%s)",
        (names,))) == 3, 30, "the drain found the new stream")
    for answer in answers:
        wait_until(lambda: own_stack.get(
            answer.headers["Location"]).json()["status"] == "processed", 5,
            "it is processed")


INFO = FakeBroker.INFO


def silence(connection):
    while connection.recv(65536):
        pass


def closing(connection):
    connection.close()


def nonsense(connection):
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + os.urandom(5000))
    silence(connection)


def half_an_info(connection):
    connection.sendall((INFO % b"")[:40])
    silence(connection)


def endless_line(connection):
    connection.sendall(b"INFO {")
    while True:
        connection.sendall(b"x" * 65536)


def no_pong(connection):
    connection.sendall(INFO % b"")
    silence(connection)


def tls(connection):
    connection.sendall(INFO % b',"tls_required":true')
    silence(connection)


def refusing(connection):
    connection.sendall(INFO % b"")
    connection.recv(65536)
    connection.sendall(b"-ERR 'Authorization Violation'\r\n")
    connection.close()


def huge_message(connection):
    connection.sendall(INFO % b"" + b"PONG\r\nMSG a 1 4294967295\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def flood(connection):
    """Ready at once, and then never silent."""
    connection.sendall(INFO % b"" + b"PONG\r\n")
    while True:
        connection.sendall(b"PING\r\n" * 5000)


TALKS = [silence, closing, nonsense, half_an_info, endless_line, no_pong, tls,
         refusing, huge_message, flood]


def memory_kb(pid):
    """What a process has for itself; zones are shared."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"RssAnon:\s+(\d+) kB", file.read()).group(1))


@pytest.mark.parametrize("talk", TALKS, ids=[each.__name__ for each in TALKS])
def test_not_a_broker(own_stack, talk):
    """nginx, for itself: the drain is away meanwhile."""
    names = []
    own_stack.stop("drain")
    own_stack.stop("nats")
    try:
        with GarbageServer(own_stack.ports["nats"], talk) as server, \
                Pings(own_stack) as pings:
            begin = time.monotonic()
            wait_until(lambda: server.accepted >= 4
                       and time.monotonic() > begin + 0.7, 20, "it is tried")
            for _ in range(20):
                names.append(key())
                answer = own_stack.post(price_set(names[-1], 1, 1))
                assert answer.status == 503
                assert answer.json()["code"] == "broker_unavailable"
                assert answer.headers["Retry-After"] == "1"
        pings.check(least=20)
        # a sanitizer keeps what was freed
        if "HOTPATH_PRELOAD" not in os.environ:
            assert max(map(memory_kb, own_stack.nginx_workers())) < 64 * 1024
    finally:
        own_stack.start("nats")
        begin = time.monotonic()
        wait_all_ready(own_stack)
        took = time.monotonic() - begin
        own_stack.start("drain")
    assert took < 3
    wait_drained(own_stack)
    assert own_stack.sql("SELECT 1 FROM hotpath.events"
                         " WHERE idempotency_key = ANY(%s)", (names,)) == []


@pytest.mark.parametrize("talk", [silence, nonsense, tls, refusing],
                         ids=["silence", "nonsense", "tls", "refusing"])
def test_the_drain_finds_the_broker_again(own_stack, talk):
    """Whoever answered in its place meanwhile, and whatever that one wanted."""
    own_stack.stop("nats")
    try:
        with GarbageServer(own_stack.ports["nats"], talk) as server:
            # two nginx workers try it, and the drain, at least twice
            wait_until(lambda: server.accepted >= 12, 20, "it is tried")
    finally:
        own_stack.start("nats")
    wait_all_ready(own_stack)
    try:
        wait_drained(own_stack)
    finally:
        if not own_stack["drain"].ready():
            own_stack.restart("drain")


class Answering(FakeBroker):
    def __init__(self, puback):
        self.puback = puback

    def published(self, message, payload, answer):
        if self.puback == b"no responders":
            answer(b"", 503)
        elif self.puback is not None:
            answer(self.puback)


@pytest.mark.parametrize("puback, code", [
    (None, "outcome_unknown"),
    (b"", "outcome_unknown"),
    (b"+OK", "outcome_unknown"),
    (b'{"stream":"HOTPATH_EVENTS_0"', "outcome_unknown"),
    (b'{"stream":"HOTPATH_EVENTS_0"}', "outcome_unknown"),
    (b'{"stream":"HOTPATH_EVENTS_1","seq":1}', "outcome_unknown"),
    (b'{"stream":"OTHER","seq":1}', "outcome_unknown"),
    (b'{"stream":"HOTPATH_EVENTS_0","seq":"1"}', "outcome_unknown"),
    (b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes'
     b' exceeded"},"stream":"HOTPATH_EVENTS_0","seq":0}', "stream_full"),
    (b'{"error":{"code":503,"err_code":10077,"description":"no space left"},'
     b'"stream":"HOTPATH_EVENTS_0","seq":0}', "broker_degraded"),
    (b'{"error":{"code":400,"err_code":10060,"description":"expected stream'
     b' does not match"}}', "stream_unfit"),
    (b'{"error":{"code":400,"err_code":10071,"description":"wrong last'
     b' sequence: 5"}}', "broker_refused"),
    (b'{"error":{"code":409,"err_code":10158,"description":"duplicate message'
     b' id is in process"}}', "outcome_unknown"),
    (b'{"error":{"code":500,"err_code":19999,"description":"new"}}',
     "broker_refused"),
    (b'{"error":{"code":503}}', "stream_unfit"),
    (b"no responders", "stream_unfit"),
    (b'{"stream":"HOTPATH_EVENTS_0","seq":1}', None),
    (b'{"seq":1,"duplicate":true,"stream":"HOTPATH_EVENTS_0","domain":"x"}',
     None),
])
def test_only_a_puback_is_a_202(own_stack, puback, code):
    own_stack.stop("nats")
    try:
        with GarbageServer(own_stack.ports["nats"], Answering(puback)):
            wait_all_ready(own_stack)
            for _ in range(4):
                answer = own_stack.post(price_set(key(), "a", 1))
                if code is None:
                    assert answer.status == 202, answer
                else:
                    assert answer.status == 503, answer
                    assert answer.json()["code"] == code
                    assert answer.headers["Retry-After"] == {
                        "broker_degraded": "2", "outcome_unknown": "1",
                    }.get(code, "5")
    finally:
        own_stack.start("nats")
