#!/usr/bin/python3
"""Instructions per request in the nginx worker, counted by callgrind.

Seconds are noisy on a shared machine, instructions are not. One worker
(master_process off) of the benchmark's configuration runs under valgrind,
beside a stack of its own that gives it its backends; it is asked twice with
different numbers of requests, and the difference counts. Requests go out on 64
connections at once, so that writes form groups. Also prints the functions that
cost most for the two paths of Hotpath. System calls count as the few
instructions that enter them: what the kernel does is not in here.

    tests/bench/instructions.py [--requests 4096]
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from bench import ACCEPTED, DOCUMENT, ROOT, ROUTES  # noqa: E402
from servers import TestStack, local, price_set, wait_until  # noqa: E402

CONNECTIONS = 64


def body(number):
    head = f'{{"idempotencyKey":"{os.getpid():08x}-'
    tail = ('","eventType":"page_view","payload":{"page":"/products/42",'
            '"referrer":"https://example.org/","ms":17,"session":"a1b2c3d"}}')
    return head + f"{number:0{157 - len(head) - len(tail)}x}" + tail


def get(path):
    return lambda number: (f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n"
                           .encode())


def post(path):
    return lambda number: (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\n"
        "Content-Type: application/json\r\nContent-Length: 157\r\n\r\n"
        + body(number)).encode()


def answer(sock):
    """Reads one whole answer; its status line."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
    while len(rest) < length:
        rest += sock.recv(65536)
    return head.split(b"\r\n")[0]


def ask(port, make, count, first):
    socks = [socket.create_connection(("127.0.0.1", port), 60)
             for _ in range(CONNECTIONS)]
    for begin in range(0, count, CONNECTIONS):
        for i, sock in enumerate(socks):
            sock.sendall(make(first + begin + i))
        for sock in socks:
            status = answer(sock)
            if b" 20" not in status:
                raise SystemExit(status.decode())
    for sock in socks:
        sock.close()


def count_run(stack, directory, port, make, count, first):
    """One life of a worker under callgrind; total instructions and file."""
    out = os.path.join(directory, f"callgrind.{first}")
    process = subprocess.Popen(
        ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}",
         stack.nginx, "-e", "stderr", "-p", directory, "-c",
         os.path.join(directory, "nginx.conf")],
        stderr=subprocess.PIPE)
    try:
        wait_until(lambda: local.http_status(port, "/health/ready") == 200, 60,
                   "nginx under valgrind is ready")
        ask(port, make, count, first)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    with open(out, encoding="utf-8") as file:
        total = re.findall(r"^(?:totals|summary): (\d+)", file.read(), re.M)
    return int(total[-1]), out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4096)
    args = parser.parse_args()
    few, many = CONNECTIONS * 8, CONNECTIONS * 8 + args.requests

    base = os.path.join(ROOT, "var", "bench")
    os.makedirs(base, exist_ok=True)
    directory = tempfile.mkdtemp(dir=base)
    os.chmod(directory, 0o755)
    stack = TestStack(directory, workers=1, routes=ROUTES.format(
        accepted=ACCEPTED, document=DOCUMENT))
    try:
        stack.up()
        wait_until(lambda: stack.post(
            price_set("bench-1", 42, 19.99)).status == 202, 30,
            "the first event is accepted")
        wait_until(lambda: stack.get("/prices/42").status == 200, 30,
                   "the document is served")
        # The same configuration, one process, the stack's own nginx gone.
        stack.stop("nginx")
        conf = stack.path("nginx", "nginx.conf")
        with open(conf, encoding="utf-8") as file:
            text = file.read()
        user = "" if os.geteuid() else "user root;"
        with open(conf, "w", encoding="utf-8") as file:
            file.write(f"master_process off; {user}\n" + text)

        print(f"{'':24} instructions/request")
        first = 0
        for name, make in (("GET return 200", get("/static")),
                           ("GET from the zone", get("/prices/42")),
                           ("POST body discarded", post("/discard")),
                           ("POST to PubAck", post("/events"))):
            totals = []
            for count in (few, many):
                first += many
                total, out = count_run(stack, stack.path("nginx"),
                                       stack.ports["http"], make, count,
                                       first)
                totals.append(total)
            print(f"{name:24} {(totals[1] - totals[0]) // args.requests:8,}",
                  flush=True)
            if "zone" in name or "PubAck" in name:
                text = subprocess.run(
                    ["callgrind_annotate", "--threshold=60", out],
                    capture_output=True, text=True, check=True).stdout
                for line in re.findall(r"^ *[\d,]+ \( *[\d.]+%\) .*", text,
                                       re.M)[1:13]:
                    print("    " + line.strip()[:100])
    finally:
        stack.down()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
