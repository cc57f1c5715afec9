"""A program: many connections, each with one POST that has to wait.

    waiters.py PORT PATH FIRST COUNT PREFIX     used by test_waiting.py

Opens COUNT connections and prints "open"; for each line on its standard input
it then sends one event on every connection, with the keys PREFIX-FIRST and
following, prints "sent", and, when all are answered, a line of JSON: how many
answers had which status and code ("202" or "503 outcome_unknown"), the longest
and the shortest time that one took, and how many connections were lost. Ends
when its input ends, or after 120 seconds without an answer.

A process of its own, and for 20,000 connections more than one: an ordinary
limit of open files is that high, and the threads of a test would wait for one
another.
"""

import collections
import json
import re
import selectors
import socket
import sys
import time

DEADLINE_S = 120


class _Waiter:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setblocking(False)
        self.buffer = b""
        self.sent_at = 0.0

    def read(self):
        """"202", "503 code" or "lost"; None while there is more to come."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return "lost"
        if not data:
            return "lost"
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not found or len(body) < int(length.group(1)):
            return None
        self.buffer = b""
        code = re.search(rb'"code":"([^"]+)"', body)
        return (head[9:12] + (b" " + code.group(1) if code else b"")).decode()


def _request(path, key):
    body = (b'{"idempotencyKey":"%s","eventType":"page_view","payload":'
            b'{"productId":%d,"page":"/products/42","ms":17}}'
            % (key.encode(), int(key.rpartition("-")[2])))
    return (b"POST %s HTTP/1.1\r\nHost: waiters\r\nContent-Type:"
            b" application/json\r\nContent-Length: %d\r\n\r\n"
            % (path.encode(), len(body))) + body


def _turn(waiters, selector, path, first, prefix):
    for number, waiter in enumerate(waiters, first):
        waiter.sent_at = time.monotonic()
        waiter.socket.send(_request(path, f"{prefix}-{number}"))
    print("sent", flush=True)
    codes, times, left = collections.Counter(), [], len(waiters)
    while left:
        ready = selector.select(DEADLINE_S)
        if not ready:
            codes["no answer"] = left
            break
        for key, _ in ready:
            code = key.data.read()
            if code is None:
                continue
            codes[code] += 1
            times.append(time.monotonic() - key.data.sent_at)
            left -= 1
            if code == "lost":
                selector.unregister(key.data.socket)
    print(json.dumps({"codes": codes, "longest_s": max(times, default=0),
                      "shortest_s": min(times, default=0)}), flush=True)


def _main(port, path, first, count, prefix):
    selector = selectors.DefaultSelector()
    waiters = [_Waiter(port) for _ in range(count)]
    for waiter in waiters:
        selector.register(waiter.socket, selectors.EVENT_READ, waiter)
    print("open", flush=True)
    while sys.stdin.readline():
        _turn(waiters, selector, path, first, prefix)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]),
          sys.argv[5])
