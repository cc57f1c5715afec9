"""What the fault tests put on a stack, and what they measure.

    with Pings(stack) as pings:        asks every nginx worker for /ping, over
        …                              and over, from a process of its own
    pings.check()                      each answered within 50 ms

    with Writes(stack, threads=8, repeat=0.3) as writes:
        …                              Load, with every answer remembered:
    writes.answers                     [Posted(key, status, code, at, seconds)]
    writes.codes(since=t)              Counter of codes of refusals, "202", …
    writes.check_refused()             nothing refused for good has a row

The machine may be busy with other things, so Pings takes from each answer's
time what the kernel says (/proc/<pid>/schedstat) that the worker and the asking
process had to wait for a processor while they could have run. A worker that
waits for anything else, a lock, a disk, a peer, is not waiting for a processor:
not a millisecond of that is excused, and neither is work that takes long.

Must not happen here: a wait without a deadline, a stack left frozen.
"""

import collections
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

if __name__ != "__main__":
    from servers import Client, Load, local, wait_until

Posted = collections.namedtuple("Posted", "key status code at seconds")

# Refusals which say that nothing was accepted, nor ever will be.
FINAL = {"broker_unavailable", "broker_refused", "publish_queue_full",
         "too_many_in_flight", "rate_limited"}


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

    def __init__(self, stack, path="/ping"):
        self.stack = stack
        self.path = path
        self.result = None

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__),
             str(self.stack.ports["http"]), self.path,
             str(len(self.stack.nginx_workers()))],
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
            except OSError:
                pass
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.connections.append(connection)
            threading.Thread(target=self._talk, args=(connection,),
                             daemon=True).start()

    def _talk(self, connection):
        try:
            self.talk(connection)
        except OSError:
            pass


# The asking process.

def _waited_ms(pid):
    """How long its main thread could have run and did not, so far."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e6
    except (OSError, IndexError):
        return 0.0


class _Connection:
    def __init__(self, port, path):
        self.request = (f"GET {path} HTTP/1.1\r\nHost: pings\r\n\r\n"
                        .encode())
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.worker = None

    def ask(self):
        """(ms, ms without waiting for a processor)"""
        before = _waited_ms("self") + _waited_ms(self.worker)
        begin = time.monotonic()
        self.socket.sendall(self.request)
        answer = b""
        while not answer.endswith(b"pong\n"):
            data = self.socket.recv(4096)
            if not data:
                raise OSError("closed")
            answer += data
        took = (time.monotonic() - begin) * 1e3
        waited = _waited_ms("self") + _waited_ms(self.worker) - before
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise OSError(answer[:100])
        if self.worker is None:
            head = answer.lower().partition(b"x-worker: ")[2]
            self.worker = int(head.partition(b"\r\n")[0])
        return took, took - waited


def _main(port, path, workers):
    connections = {}
    for _ in range(500):
        connection = _Connection(port, path)
        connection.ask()
        connections.setdefault(connection.worker, connection)
        if len(connections) == workers:
            break
    connections = list(connections.values())
    print("asking", flush=True)
    os.set_blocking(0, False)
    count, worst, worst_net, slow, failures = 0, 0.0, 0.0, [], []
    for connection in itertools.cycle(connections):
        try:
            if os.read(0, 1) == b"":
                break
        except BlockingIOError:
            pass
        try:
            took, net = connection.ask()
        except OSError as error:
            failures.append(repr(error))
            break
        count += 1
        worst, worst_net = max(worst, took), max(worst_net, net)
        if took > 40:
            slow.append([round(took, 1), round(net, 1)])
        time.sleep(0.002)
    print(json.dumps({
        "count": count, "workers": len(connections), "worst_ms": worst,
        "worst_net_ms": worst_net, "slow": slow[:50], "failures": failures}))


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
