"""A program: asks every nginx worker for an address until its input ends.

    pings.py PORT PATH WORKERS [reloads]     used by Pings in pressure.py

Prints "asking" when it has a connection to each of so many workers, and in the
end a line of JSON: how many answers, the longest time that one took, and the
longest without what the machine took for itself. With "reloads" a connection
that nginx closes, as a worker does that ends, is made anew and asked at once.

The machine may be busy with other things, so from each answer's time is taken
what the kernel says (/proc/<pid>/schedstat) that the worker and this process
had to wait for a processor while they could have run. A worker that waits for
anything else, a lock, a disk, a peer, is not waiting for a processor: not a
millisecond of that is excused, and neither is work that takes long.

A process of its own, because the threads of a test wait for one another.
"""

import itertools
import json
import os
import socket
import sys
import time


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
        # a worker that has ended meanwhile says no more, and has no excuse
        waited = max(0.0, _waited_ms("self") + _waited_ms(self.worker)
                     - before)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise OSError(answer[:100])
        if self.worker is None:
            head = answer.lower().partition(b"x-worker: ")[2]
            self.worker = int(head.partition(b"\r\n")[0])
        return took, took - waited


def _again(connection, port, path, begin):
    """Asks the next worker; (ms, ms without waiting for a processor)"""
    connection.socket.close()
    fresh = _Connection(port, path)
    _, net = fresh.ask()
    connection.socket, connection.worker = fresh.socket, fresh.worker
    return (time.monotonic() - begin) * 1e3, net


def _main(port, path, workers, reloads):
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
        begin = time.monotonic()
        try:
            try:
                took, net = connection.ask()
            except OSError:
                if not reloads:
                    raise
                took, net = _again(connection, port, path, begin)
        except OSError as error:
            failures.append(repr(error))
            break
        count += 1
        worst, worst_net = max(worst, took), max(worst_net, net)
        if took > 40:
            slow.append([round(took, 1), round(net, 1)])
        time.sleep(0.002)  # the pace of asking, nothing waits on it
    print(json.dumps({
        "count": count, "workers": len(connections), "worst_ms": worst,
        "worst_net_ms": worst_net, "slow": slow[:50], "failures": failures}))


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]),
          sys.argv[4:] == ["reloads"])
