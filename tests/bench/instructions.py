#!/usr/bin/python3
"""Instructions per request in the nginx worker, counted by callgrind.

Seconds are noisy on a shared machine, instructions are not. One worker
(master_process off) of the benchmark's configuration runs under valgrind,
beside a stack of its own that gives it its backends; each row is asked in two
lives of that worker with different numbers of requests, and the difference
counts, in total and for each function. Requests go out on 64 connections at
once, so that writes form groups; "x16" sends 16 down a connection at once.

For each row with a reference, the functions in which they differ are listed:
instructions spent in the function itself (not in what it calls), per request.
Debian's nginx has no symbols but those that modules may use; a static function
is named after the one before it in the binary: ngx_http_foo+2 is the second
unnamed function after ngx_http_foo. Its bounds come from .eh_frame, so nothing
is counted to a neighbour. HOTPATH_NGINX may name an nginx with symbols.

System calls count as the few instructions that enter them: what the kernel
does is not in here, so their number per request is listed beside. The processor
that valgrind plays has no SHA extensions.

    tests/bench/instructions.py [--only NAME ...] [--requests 4096] [--top 30]
"""

import argparse
import bisect
import collections
import os
import re
import signal
import socket
import subprocess

from rig import SMALL, bench_stack, local
from servers import wait_until

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


# name, maker of the n-th request, requests sent at once, name of the row it
# is compared with
Row = collections.namedtuple("Row", "name make depth reference")
ROWS = [
    Row("return", get(f"/static/{SMALL}"), 1, None),
    Row("get", get(f"/prices/{SMALL}"), 1, "return"),
    Row("return_x16", get(f"/static/{SMALL}"), 16, None),
    Row("get_x16", get(f"/prices/{SMALL}"), 16, "return_x16"),
    Row("discard", post("/discard"), 1, None),
    Row("post", post("/events"), 1, "discard"),
]


def read_answers(sock, count):
    """Reads so many whole answers, each of which must be a success."""
    data = b""
    while count:
        head, found, rest = data.partition(b"\r\n\r\n")
        if found:
            if not re.match(rb"HTTP/1.1 20[02] ", head):
                raise SystemExit(head.decode("latin-1"))
            length = int(re.search(rb"(?i)content-length: (\d+)",
                                   head).group(1))
            if len(rest) >= length:
                data = rest[length:]
                count -= 1
                continue
        more = sock.recv(1 << 20)
        if not more:
            raise SystemExit(f"closed with {count} answers missing")
        data += more


def ask(port, row, count, first):
    socks = [socket.create_connection((local.HOST, port), 60)
             for _ in range(CONNECTIONS)]
    number = first
    while number < first + count:
        for sock in socks:
            sock.sendall(b"".join(row.make(number + i)
                                  for i in range(row.depth)))
            number += row.depth
        for sock in socks:
            read_answers(sock, row.depth)
    for sock in socks:
        sock.close()


class Names:
    """Names for the addresses that callgrind found no name for."""

    def __init__(self):
        self._bounds = {}

    @staticmethod
    def _read(binary):
        """Sorted starts of all functions of a binary, and their names."""
        def run(*command):
            # readelf's status is 1 where a section of the file is empty
            return subprocess.run([*command, binary], capture_output=True,
                                  text=True, check=False).stdout
        named = {int(address, 16): name for address, name in re.findall(
            r"^([0-9a-f]+) [TtWi] ([^@\s]+)", run("nm", "-D"), re.M)}
        starts = sorted(set(named) | {int(start, 16) for start in re.findall(
            r" FDE .*pc=([0-9a-f]+)\.\.",
            run("readelf", "--debug-dump=frames"))})
        names, before, nth = [], os.path.basename(binary), 0
        for start in starts:
            if start in named:
                before, nth = named[start], 0
            else:
                nth += 1
            names.append(before + (f"+{nth}" if nth else ""))
        return starts, names

    def find(self, binary, name):
        name = name.partition("'")[0]  # foo'2 is foo, called by itself
        if not name.startswith("0x") or not os.path.isfile(binary):
            return name
        if binary not in self._bounds:
            self._bounds[binary] = self._read(binary)
        starts, names = self._bounds[binary]
        i = bisect.bisect_right(starts, int(name, 16)) - 1
        return names[i] if i >= 0 else os.path.basename(binary)


# What nginx asks the kernel for while it serves; the C library's names.
SYSTEM_CALLS = {"accept4", "close", "epoll_ctl", "epoll_wait", "futex",
                "ioctl", "pread64", "read", "readv", "recv", "send",
                "sendfile64", "setsockopt", "write", "writev"}


def read_profile(path, names):
    """Of a callgrind.out file: function -> instructions spent in itself, and
    system call -> how often."""
    spent, calls = collections.Counter(), collections.Counter()
    known = {"ob": {}, "fn": {}}
    current = {"ob": "", "fn": ""}
    inclusive = False
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = re.match(r"(c?)(ob|fn)=\((\d+)\)(?: (.*))?", line)
            if match:
                called, kind, number, name = match.groups()
                name = known[kind].setdefault(number, name)
                if called:
                    callee = name
                else:
                    current[kind] = name
            elif line.startswith("calls="):
                inclusive = True  # the next line is the callee's cost
                if callee in SYSTEM_CALLS and "libc" not in current["ob"]:
                    calls[callee] += int(line[6:].split()[0])
            elif line[0].isdigit() or line[0] in "+-*":
                if not inclusive:
                    name = names.find(current["ob"], current["fn"])
                    spent[name] += int(line.split()[1])
                inclusive = False
    return spent, calls


def count_run(stack, row, count, first, names):
    """One life of a worker under callgrind: see read_profile()."""
    directory, port = stack.path("nginx"), stack.ports["http"]
    out = os.path.join(directory, "callgrind.out")
    process = subprocess.Popen(
        ["valgrind", "-q", "--tool=callgrind", "--dump-instr=no",
         f"--callgrind-out-file={out}",
         stack.nginx, "-e", "stderr", "-p", directory, "-c",
         os.path.join(directory, "nginx.conf")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: local.http_status(port, "/health/ready") == 200, 120,
                   "nginx under valgrind is ready")
        ask(port, row, count, first)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    return read_profile(out, names)


def print_difference(spent, reference, top):
    """Markdown: the functions in which two rows differ most."""
    rows = [(spent[name] - reference[name], name)
            for name in set(spent) | set(reference)]
    rows.sort(key=lambda row: -abs(row[0]))
    print("\n| function | ours | reference | difference |")
    print("| --- | ---: | ---: | ---: |")
    for difference, name in rows[:top]:
        print(f"| {name} | {spent[name]:,.1f} | {reference[name]:,.1f} |"
              f" {difference:+,.1f} |")
    rest = [name for _, name in rows[top:]]
    ours, theirs = (sum(each[name] for name in rest)
                    for each in (spent, reference))
    print(f"| {len(rest)} others | {ours:,.1f} | {theirs:,.1f} |"
          f" {ours - theirs:+,.1f} |\n", flush=True)


def main():
    known = {row.name: row for row in ROWS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4096)
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=known,
                        help="these rows, and what they are compared with")
    args = parser.parse_args()
    chosen = set(args.only or known)
    chosen |= {known[name].reference for name in chosen}

    names, results, first = Names(), {}, 0
    with bench_stack() as stack:
        # The same configuration, one process, the stack's own nginx gone.
        stack.stop("nginx")
        conf = stack.path("nginx", "nginx.conf")
        with open(conf, encoding="utf-8") as file:
            text = file.read()
        user = "" if os.geteuid() else "user root;"
        with open(conf, "w", encoding="utf-8") as file:
            file.write(f"master_process off; {user}\n" + text)

        for row in ROWS:
            if row.name not in chosen:
                continue
            # Whole turns of all connections, and some before those that
            # count, in which the worker becomes warm.
            turn = CONNECTIONS * row.depth
            more = -(-args.requests // turn) * turn
            lives = []
            for count in (turn * 4, turn * 4 + more):
                lives.append(count_run(stack, row, count, first, names))
                first += count
            spent, calls = (collections.Counter({
                name: (many[name] - few[name]) / more
                for name in set(few) | set(many)}) for few, many in zip(*lives))
            results[row.name] = spent
            total = sum(spent.values())
            print(f"{row.name:12} {total:8,.0f} instructions/request; "
                  + ", ".join(f"{count:.2f} {name}" for name, count in
                              calls.most_common() if count >= 0.005),
                  end="", flush=True)
            if row.reference:
                reference = results[row.reference]
                theirs = sum(reference.values())
                print(f"; {total - theirs:+,.0f} to {row.reference}")
                print_difference(spent, reference, args.top)
            else:
                print()


if __name__ == "__main__":
    main()
