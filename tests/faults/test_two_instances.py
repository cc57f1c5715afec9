"""Two instances that share nothing but the broker, both killed at random.

Promise 2 from outside, without Redis: every key is sent one to five times, each
time to either instance, also to both at once; the broker and the instances are
killed (SIGKILL) and started again meanwhile, by which the instances forget all
that they knew; whatever was not answered 202 is sent again, to either. Then
there is one row for every key, with the one operation id that all its answers
had; no answer ever said that a key was known with another payload; and nothing
that was answered 202 is missing.

HOTPATH_CHAOS_KEYS says how many keys there are: some thousands here, 100,000
in `make chaos`. What is killed, and when, follows the progress of the sends, so
the number of kills does not depend on how fast the machine is; the seed is
printed. The sender is one thread on non-blocking sockets: threads with a
client each would wait for one another more than for a server.
"""

import collections
import heapq
import os
import random
import re
import selectors
import signal
import socket
import threading
import time

import pytest

from pressure import wait_all_ready
from servers import local, price_set, wait_until
from wire import config

KEYS = int(os.environ.get("HOTPATH_CHAOS_KEYS", "5000"))
KILLS = 20 if KEYS <= 10000 else 150
LIMIT_S = 90 if KEYS <= 10000 else 780
CONNECTIONS = 32  # to each instance
RETRY_S = 0.02
ANSWER_S = 10  # no answer takes longer; the stream's timeout is 2 s

STACK = {
    "server": "add_header X-Worker $pid always;",
    "backends": lambda text: re.sub(r"(?m)^hotpath_redis .*\n", "", text),
    "hotpath": config(
        "hotpath.conf", ("timeout=5s", "timeout=2s"),
        ("rate=50000r/s burst=50000", "rate=1000000r/s burst=1000000")),
    "settings": {"drain": {"lock_retry_ms": 50, "lease_ms": 5000}},
    "without": ("redis", "project"),
}

# What may be answered beside 202, and says: again, later.
AGAIN = {(503, b"outcome_unknown"), (503, b"broker_unavailable"),
         (503, b"broker_refused"), (503, b"publish_queue_full"),
         (409, b"operation_in_flight")}


class Connection:
    """One request after the other to one instance, without ever blocking."""

    def __init__(self, port):
        self.port = port
        self.socket = None
        self.key = None  # what is asked for just now
        self.asked_at = 0
        self.buffer = b""

    def ask(self, selector, key, request):
        """Raises OSError where nobody listens."""
        if self.socket is None:
            self.socket = socket.create_connection((local.HOST, self.port), 5)
            self.socket.setblocking(False)
            selector.register(self.socket, selectors.EVENT_READ, self)
        self.key, self.buffer = key, b""
        self.asked_at = time.monotonic()
        self.socket.send(request)  # fits the empty buffer of a socket

    def answer(self):
        """(status, body), or None while there is more to come. Raises OSError
        where there is nothing to come any more."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        if not data:
            raise OSError("closed")
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)",
                               head).group(1))
        if len(body) < length:
            return None
        assert len(body) == length, self.buffer
        self.key = None
        return int(head[9:12]), body

    def close(self, selector):
        if self.socket is not None:
            selector.unregister(self.socket)
            self.socket.close()
        self.socket, self.key = None, None


class Sender(threading.Thread):
    """Sends until every send was answered 202, or until told to stop.

    done      how many were              refused   Counter of (status, code)
    ids       key -> set of operation ids of its 202s
    wrong     answers that must not be   replayed  202s known to be repeats
    """

    def __init__(self, ports, sends, prefix, dice):
        super().__init__(daemon=True)
        self.prefix = prefix
        self.dice = dice
        self.ports = ports
        self.done = self.replayed = 0
        self.ids = collections.defaultdict(set)
        self.wrong = []
        self.refused = collections.Counter()
        self.stopped = False
        self.failure = None
        self._waiting = collections.deque(sends)
        self._later = []  # heap of (when, key)
        self._selector = selectors.DefaultSelector()
        self._idle = {port: [Connection(port) for _ in range(CONNECTIONS)]
                      for port in ports}
        self._busy = set()

    def run(self):
        try:
            while not self.stopped and (
                    self._waiting or self._later or self._busy):
                self._turn()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error
        for connection in [*self._busy, *sum(self._idle.values(), [])]:
            connection.close(self._selector)

    def waits(self):
        """How many wait for an answer just now."""
        return len(self._busy)

    def _turn(self):
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._waiting.append(heapq.heappop(self._later)[1])
        while self._waiting:
            free = [port for port in self.ports if self._idle[port]]
            if not free:
                break
            self._ask(self._idle[self.dice.choice(free)].pop(),
                      self._waiting.popleft())
        for selected, _ in self._selector.select(0.01):
            connection = selected.data
            if connection.key is None:
                self._lost(connection)  # an idle one was closed
            else:
                self._read(connection)
        for connection in [each for each in self._busy
                           if now - each.asked_at > ANSWER_S]:
            self.wrong.append((connection.key, "no answer"))
            self._lost(connection)

    def _ask(self, connection, key):
        body = (b'{"idempotencyKey":"%s-%d","eventType":"price_set",'
                b'"payload":{"productId":%d,"amount":%d,"currency":"EUR"}}'
                % (self.prefix.encode(), key, key % 50 + 1, key))
        self._busy.add(connection)
        try:
            connection.ask(self._selector, key, (
                b"POST /events HTTP/1.1\r\nHost: test\r\nContent-Type:"
                b" application/json\r\nContent-Length: %d\r\n\r\n"
                % len(body)) + body)
        except OSError:
            connection.key = key
            self._lost(connection)

    def _read(self, connection):
        key = connection.key
        try:
            answer = connection.answer()
        except OSError:
            self._lost(connection)
            return
        if answer is None:
            return
        self._busy.discard(connection)
        self._idle[connection.port].append(connection)
        status, body = answer
        if status == 202:
            self.ids[key].add(re.search(rb'"operationId":"([^"]+)"',
                                        body).group(1).decode())
            self.done += 1
            return
        code = re.search(rb'"code":"([^"]+)"', body)
        refusal = (status, code.group(1) if code else body)
        self.refused[refusal] += 1
        if refusal in AGAIN:
            self._again(key)
        else:
            self.wrong.append((key, refusal))

    def _lost(self, connection):
        """Nobody knows what became of what was asked: it is sent again."""
        if connection in self._busy:
            self._busy.discard(connection)
            self._idle[connection.port].append(connection)
            self.refused["lost"] += 1
            self._again(connection.key)
        connection.close(self._selector)

    def _again(self, key):
        heapq.heappush(self._later, (
            time.monotonic() + RETRY_S * (1 + self.dice.random()), key))


def sends_of(dice):
    """Every key one to five times; the same one at once, soon, or late."""
    sends = []
    for key in range(KEYS):
        at = key
        for _ in range(dice.randrange(1, 6)):
            sends.append((at, dice.random(), key))
            at += dice.choice((0, 0, 1, 50, 1000, KEYS // 2))
    return [key for *_, key in sorted(sends)]


def kill(name, stack, dice, sender):
    """One of the ways in which things end; up again when this returns."""
    if name == "worker":
        stack.kill_workers([dice.choice(stack.nginx_workers())])
        return
    if name == "nats" and dice.random() < 0.7:
        # what was sent to it and it has not read goes with it
        stack.freeze("nats")
        wait_until(lambda: sender.waits() >= CONNECTIONS
                   or not sender.is_alive(), 10, "requests wait for it")
    stack[name].signal(signal.SIGKILL, everyone=True)
    wait_until(lambda: stack[name].pid() is None, 10, f"{name} is dead")
    stack.start(name)


def stored(stack, prefix):
    (count,), = stack.sql("SELECT count(*) FROM hotpath.events"
                          " WHERE idempotency_key LIKE %s", (prefix + "-%",))
    return count


@pytest.mark.timeout(LIMIT_S + 120)
def test_one_key_one_effect(own_stack, peer):
    seed = int(os.environ.get("HOTPATH_CHAOS_SEED")
               or random.randrange(2**32))
    print(f"seed {seed}")
    dice = random.Random(seed)
    for each in (own_stack, peer):
        each.expect_log("exited on signal 9")
        wait_all_ready(each)
    begin = time.monotonic()
    prefix = f"two-{os.getpid()}-{seed}"
    sends = sends_of(dice)
    sender = Sender([own_stack.ports["http"], peer.ports["http"]], sends,
                    prefix, random.Random(seed + 1))
    killed = collections.Counter()
    sender.start()
    try:
        for number in range(KILLS):
            # between a tenth of the way and the end of it
            progress = len(sends) * (number + 1 + dice.random()) / (KILLS + 2)
            wait_until(lambda: sender.done >= progress
                       or not sender.is_alive(),
                       LIMIT_S - (time.monotonic() - begin),
                       f"{progress:.0f} sends are accepted")
            name, stack = dice.choice([
                ("nats", own_stack), ("nginx", own_stack), ("nginx", peer),
                ("worker", own_stack), ("worker", peer)])
            kill(name, stack, dice, sender)
            killed[name, stack is peer] += 1
        wait_until(lambda: not sender.is_alive(),
                   LIMIT_S - (time.monotonic() - begin), "all is accepted")
    finally:
        sender.stopped = True
        sender.join(20)
    print(f"{len(sends)} sends of {KEYS} keys in"
          f" {time.monotonic() - begin:.0f} s; killed: {dict(killed)};"
          f" sent again: {dict(sender.refused)}")
    assert sender.failure is None, repr(sender.failure)
    assert sender.wrong == []
    assert sender.done == len(sends)
    # kills were noticed, or nothing was tried
    assert sender.refused["lost"] > 0
    assert len(killed) > 1

    several = {key: ids for key, ids in sender.ids.items() if len(ids) != 1}
    assert several == {}
    operations = {f"{prefix}-{key}": ids.pop()
                  for key, ids in sender.ids.items()}
    assert len(operations) == len(set(operations.values())) == KEYS

    wait_until(lambda: stored(own_stack, prefix) >= KEYS, 60,
               "every key has its row")
    # what a broker or an instance still holds would be stored before this
    last = [own_stack.post(price_set(f"{prefix}-last-{product}", product, 1))
            for product in range(8)]
    assert {answer.status for answer in last} == {202}
    wait_until(lambda: stored(own_stack, f"{prefix}-last") == len(last), 30,
               "what was accepted last has its row")
    rows = own_stack.sql(
        "SELECT idempotency_key, operation_id::text FROM hotpath.events"
        " WHERE idempotency_key LIKE %s", (prefix + "-%",))
    rows = [row for row in rows if "-last-" not in row[0]]
    assert len(rows) == KEYS
    assert dict(rows) == operations
    assert own_stack.sql(
        "SELECT o.operation_id FROM hotpath.operations o JOIN hotpath.events e"
        " USING (operation_id) WHERE e.idempotency_key LIKE %s"
        " AND (o.conflicts <> 0 OR o.state <> 1)", (prefix + "-%",)) == []
