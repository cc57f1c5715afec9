"""What the fault tests put on a stack, and what they measure.

    with Pings(stack) as pings:        asks every nginx worker for /ping, over
        …                              and over, from a process of its own
    pings.check()                      each answered within 50 ms
    with Pings(stack, reloads=True)    nginx is reloaded meanwhile

    with Writes(stack, threads=8, repeat=0.3) as writes:
        …                              Load, with every answer remembered:
    writes.answers                     [Posted(key, status, code, at, seconds)]
    writes.codes(since=t)              Counter of codes of refusals, "202", …
    writes.check_refused()             nothing refused for good has a row

    wait_all_ready(stack)              every worker says that it is
    wait_drained(stack)                what was accepted so far is stored
    GarbageServer(port, talk)          a stranger on a stopped server's port

Must not happen here: a wait without a deadline, a stack left frozen.
"""

import collections
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid

from servers import Client, Load, local, price_set, wait_until

ASKING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pings.py")

Posted = collections.namedtuple("Posted", "key status code at seconds")

# Refusals which say that nothing was accepted, nor ever will be.
FINAL = {"broker_unavailable", "broker_refused", "broker_degraded",
         "broker_denied", "stream_full", "stream_unfit", "publish_queue_full",
         "too_many_in_flight", "rate_limited"}


def wait_all_ready(stack, timeout_s=20):
    """Needs X-Worker, as Pings does."""
    ready = set()

    def check():
        answer = stack.get("/health/ready")
        if answer.status == 200:
            ready.add(int(answer.headers["X-Worker"]))
        else:
            ready.clear()
        return ready >= set(stack.nginx_workers())
    wait_until(check, timeout_s, "every worker is ready", every_s=0.005)


def wait_drained(stack):
    """Everything accepted so far is stored."""
    for product in ("a", "c"):  # one for each partition
        answer = stack.post(price_set(f"drained-{uuid.uuid4()}", product, 1))
        assert answer.status == 202
        wait_until(lambda: stack.sql(
            "SELECT 1 FROM hotpath.operations WHERE operation_id = %s",
            (answer.json()["operationId"],)), 30, "the drain has it")


class Writes(Load):
    """Posts events; a part of them again, with the keys of earlier ones."""

    def __init__(self, stack, threads=8, repeat=0.0, retry=False, event=None,
                 seed=1):
        super().__init__(stack, threads, retry, event)
        self.repeat = repeat
        self.answers = []
        self.random = random.Random(seed)

    def _work(self):
        client = Client(self.stack.ports["http"])
        while not self._stop.is_set():
            if self.answers and self.random.random() < self.repeat:
                key = self.random.choice(self.answers).key
                self._post(client, key, int(key.rpartition("-")[2]))
                continue
            number = next(self._next)
            key = f"{self.prefix}-{number}"
            while self._post(client, key, number) != 202:
                if not self.retry or self._stop.is_set():
                    break
                self._stop.wait(0.02)
        client.close()

    def _post(self, client, key, number):
        at = time.monotonic()
        try:
            answer = client.request("POST", "/events",
                                    self.event(key, number))
            status = answer.status
            code = "202" if status == 202 else answer.json()["code"]
        except (OSError, http.client.HTTPException):
            status, code = None, "error"
        if status == 202:
            operation = answer.json()["operationId"]
            assert self.accepted.setdefault(key, operation) == operation
        else:
            self.refused[code] += 1
        self.answers.append(Posted(key, status, code, at,
                                   time.monotonic() - at))
        return status

    def codes(self, since=0, until=float("inf")):
        return collections.Counter(
            each.code for each in list(self.answers)
            if since <= each.at < until)

    def wait_accepted(self, count, timeout_s=30):
        """So many more accepted ones from now on."""
        seen = len(self.accepted)
        wait_until(lambda: len(self.accepted) >= seen + count, timeout_s,
                   f"{count} more events are accepted; {self.refused}")

    def check_refused(self):
        """To be called after check(), which waits for the last row."""
        final = collections.defaultdict(bool)
        for each in self.answers:
            final[each.key] = each.code in FINAL and final.get(each.key, True)
        refused = {key for key, value in final.items() if value}
        stored = refused & set(self.rows())
        assert not stored, f"refused and stored: {sorted(stored)[:5]}"
        return len(refused)


class Pings:
    """See above. Needs `add_header X-Worker $pid always;` at server level."""

    def __init__(self, stack, path="/ping", reloads=False):
        self.stack = stack
        self.path = path
        self.more = ["reloads"] if reloads else []
        self.result = None

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, ASKING, str(self.stack.ports["http"]),
             self.path, str(len(self.stack.nginx_workers()))] + self.more,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "asking\n"
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.result = json.loads(self.process.stdout.read())
        finally:
            self.process.stdout.close()
            self.process.wait(20)

    def check(self, limit_ms=50, least=200):
        result = self.result
        assert result["failures"] == [], result["failures"]
        assert result["count"] >= least, result
        assert result["worst_net_ms"] < limit_ms, result


class GarbageServer:
    """Listens on a stopped server's port and does what talk(socket) does."""

    def __init__(self, port, talk):
        self.talk = talk
        self.connections = []
        self.threads = []
        self.accepted = 0
        self.listener = socket.create_server((local.HOST, port), backlog=64)
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)
        for connection in self.connections:
            try:
                # with a reset: the port is free again at once
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                      b"\1\0\0\0\0\0\0\0")
                connection.shutdown(socket.SHUT_RDWR)  # wakes its thread
            except OSError:
                pass
        for thread in self.threads:
            thread.join(10)
        for connection in self.connections:
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.connections.append(connection)
            self.threads.append(threading.Thread(
                target=self._talk, args=(connection,), daemon=True))
            self.threads[-1].start()

    def _talk(self, connection):
        try:
            self.talk(connection)
        except OSError:
            pass
