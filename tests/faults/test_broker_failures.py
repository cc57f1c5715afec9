"""Every way in which a broker fails, with and without a reload meanwhile.

One nginx worker, which has to go on answering GET /ping within 50 ms whatever
becomes of its broker; a load that sends a part of its events twice; and then
one of the failures below, during which nginx is reloaded or not. What must hold
each time: every 202 is a row and no key is two; what was answered "nothing was
accepted" is none; every answer comes by its deadline, with the code that says
what is the matter; and so soon after the broker is back, events are accepted
again. The logs have neither alert nor emergency (tests/conftest.py).

The broker is the stack's, but for its disk, which is small, and its willingness
to speak TLS; there is a hop on the way to it.
"""

import contextlib
import os
import signal
import subprocess
import time

import pytest

from natses import OwnNats, backends
from pressure import Pings, Writes, wait_all_ready, wait_drained
from redises import certificates
from servers import wait_until
from tcp_proxy import Proxy
from wire import Nats, config

TIMEOUT_S = 1
DISK = 24 << 20

STACK = {
    "workers": 1,
    "without": ("project",),
    "server": "add_header X-Worker $pid always;",
    "hotpath": config(
        "hotpath.conf", ("timeout=5s", f"timeout={TIMEOUT_S}s"),
        ("connect_timeout  2s", "connect_timeout  600ms"),
        ("ping_interval    5s", "ping_interval    300ms")),
}

NOBODY = {"outcome_unknown", "broker_unavailable"}
GARBAGE = b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(range(256)) * 8


class Case:
    """One failure: what breaks, which answers are seen, what ends it."""

    codes = set()           # of refusals while it lasts; empty: all are 202
    seen = set()            # those of them that have to be seen
    partly = False          # some events are accepted all the same
    quiet = False           # everything accepted is drained before it begins
    within_s = 1.5          # from its end to the next 202

    def __init__(self, stack, hop):
        self.stack = stack
        self.hop = hop

    def begin(self):
        pass

    def end(self):
        pass

    def during(self, writes, since):
        """Until it has shown."""
        wait_until(lambda: self.seen <= {
            each.code for each in list(writes.answers)
            if each.at + each.seconds > since}, 15, f"{self.seen} are seen")


class Stopped(Case):
    codes = seen = NOBODY

    def begin(self):
        self.stack.freeze("nats")

    def end(self):
        self.stack.thaw("nats")


class Killed(Case):
    codes, seen = NOBODY, {"broker_unavailable"}

    def begin(self):
        self.stack.kill("nats")

    def end(self):
        if self.stack["nats"].pid() is None:
            self.stack.start("nats")


class Slow(Case):
    """Every answer takes it 150 ms longer."""

    def begin(self):
        self.hop.flow(delay_s=0.15)

    def during(self, writes, since):
        writes.wait_accepted(60)

    def end(self):
        self.hop.flow()


class DiskFull(Case):
    """But for what the drain makes room for all the while."""

    codes = seen = {"broker_degraded"}
    partly = True

    def __init__(self, stack, hop):
        super().__init__(stack, hop)
        self.ballast = os.path.join(disk(stack), "ballast")

    def begin(self):
        if not os.path.ismount(disk(self.stack)):
            pytest.skip("a small disk can only be had by root")
        with open(self.ballast, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(b"x" * 4096) == 4096:
                    pass

    def end(self):
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.ballast)


class StreamsDeleted(Case):
    codes = seen = {"stream_unfit"}
    quiet = True

    def begin(self):
        with Nats(self.stack.ports["nats"]) as nats:
            for number in range(2):
                nats.js(f"STREAM.DELETE.HOTPATH_EVENTS_{number}")

    def end(self):
        self.stack.ctl("migrate")


class Cut(Case):
    """The network passes nothing, and tells nobody."""

    codes = seen = NOBODY

    def begin(self):
        self.hop.stall()

    def end(self):
        self.hop.go()


class HalfOpen(Cut):
    """It passes what goes to the broker."""

    def begin(self):
        self.hop.hold_answers()


class Garbage(Case):
    """In the midst of what the broker says, on each connection anew."""

    codes = NOBODY

    def begin(self):
        self.hop.say(GARBAGE)

    def during(self, writes, since):
        for _ in range(4):
            seen = self.hop.accepted
            writes.wait_accepted(10)
            self.hop.say(GARBAGE)
            wait_until(lambda seen=seen: self.hop.accepted > seen, 10,
                       "there is another connection")


class SplitRecords(Case):
    """TLS, and all of it comes byte by byte, both ways."""

    def begin(self):
        self.hop.flow(piece=1, requests=1)

    def during(self, writes, since):
        writes.wait_accepted(60)

    def end(self):
        self.hop.flow()


def disk(stack):
    return stack.path("nats-failing", "jetstream")


def ways(hop, tls):
    return backends(hop.port, "hotpath_nats_ssl on;"
                    " hotpath_nats_ssl_verify off;" if tls else "")


@pytest.fixture(scope="module")
def hop(own_stack):
    """On the way to that broker, which is in the place of the stack's own."""
    for name in ("drain", "nats"):
        own_stack.stop(name)
    where = certificates(own_stack.path("files"))
    broker = OwnNats(
        own_stack, f'tls {{ cert_file: "{where}/server.pem", key_file:'
        f' "{where}/server.key" }}\nallow_non_tls: true\n', "failing",
        own_stack.ports["nats"])
    own_stack.processes["nats"] = broker.process
    os.makedirs(disk(own_stack))
    os.chmod(disk(own_stack), 0o777)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0777", "none",
         disk(own_stack)], check=False, timeout=20).returncode == 0
    try:
        with Proxy(own_stack.ports["nats"]) as proxy:
            own_stack.start("nats")
            own_stack.ctl("migrate")
            own_stack.start("drain")
            yield proxy
            own_stack.stop("nginx")
    finally:
        own_stack.stop("drain")
        own_stack.stop("nats")
        if mounted:
            subprocess.run(["umount", disk(own_stack)], check=True, timeout=20)


def next_worker(stack, **options):
    """A reload, and the end of whom it replaces."""
    old = set(stack.nginx_workers())
    for key, value in options.items():
        setattr(stack, key, value)
    stack.write_nginx_conf()
    stack["nginx"].signal(signal.SIGHUP)
    wait_until(lambda: set(stack.nginx_workers()) - old, 10,
               "there is a new worker")
    wait_until(lambda: not set(stack.nginx_workers()) & old, TIMEOUT_S + 5,
               "the old one has answered all and ends")


@pytest.mark.parametrize("reload", [False, True], ids=["", "reload"])
@pytest.mark.parametrize("kind", [
    Stopped, Killed, Slow, DiskFull, StreamsDeleted, Cut, HalfOpen, Garbage,
    SplitRecords], ids=lambda kind: kind.__name__)
def test_failure(own_stack, hop, kind, reload):
    case = kind(own_stack, hop)
    next_worker(own_stack, backends=ways(hop, kind is SplitRecords))
    wait_all_ready(own_stack)
    with contextlib.ExitStack() as ending:
        ending.callback(case.end)
        pings = ending.enter_context(Pings(own_stack, reloads=reload))
        writes = ending.enter_context(Writes(own_stack, repeat=0.2))
        writes.wait_accepted(100)
        since = time.monotonic()
        if case.quiet:
            writes.stop()
            writes.check()
            case.begin()
            writes = ending.enter_context(Writes(own_stack, repeat=0.2))
        else:
            case.begin()
        case.during(writes, since)
        begun = now = time.monotonic()
        if reload:
            next_worker(own_stack)
            now = time.monotonic()
        wait_until(lambda: sum(writes.codes(now).values()) > 20, 10,
                   "there are answers, of the new worker where there is one")
        ended = time.monotonic()
        case.end()
        back = time.monotonic()
        wait_until(lambda: writes.codes(back)["202"], 20,
                   "events are accepted again")
        took = time.monotonic() - back
        writes.wait_accepted(50)
        wait_all_ready(own_stack)
    pings.check(least=20)
    assert took < case.within_s, took
    slow = [each for each in writes.answers if each.seconds > TIMEOUT_S + 1]
    assert not slow, slow[:5]
    # a worker that ends closes connections on which nothing is asked
    told = {"202", "operation_in_flight"} | ({"error"} if reload else set())
    assert set(writes.codes()) <= told | case.codes, writes.codes()
    assert writes.refused["error"] <= 16
    # who is refused for want of a broker is not kept waiting
    refusals = sorted(each.seconds for each in writes.answers
                      if each.code == "broker_unavailable")
    assert not refusals or refusals[len(refusals) * 9 // 10] < 0.1
    if case.seen:
        # a repeat of what was accepted before needs no broker
        before = {each.key for each in writes.answers
                  if each.at < begun and each.code == "202"}
        meanwhile = {each.code for each in writes.answers
                     if begun < each.at and each.at + each.seconds < ended
                     and each.key not in before}
        assert meanwhile and (case.partly or "202" not in meanwhile)
    writes.check()
    wait_drained(own_stack)
    refused = writes.check_refused()
    assert refused > 0 or not case.seen
