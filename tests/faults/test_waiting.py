"""Thousands of requests that wait for a broker which has stopped.

Promise 6: what waits is bounded and says so in time. The broker is stopped
(SIGSTOP) and so many clients send an event each: memory grows by what the
reference says and by no more, the event loop goes on turning, each request is
answered by its deadline, and with the broker comes back, within a second, the
202 for each of the same events.

HOTPATH_WAITING says how many wait: 4,000 here, 20,000 in `make chaos`. Both
nginx workers have their half of them.
"""

import contextlib
import json
import math
import os
import re
import resource
import subprocess
import sys
import time

import pytest

from pressure import Pings, wait_all_ready
from servers import price_set, wait_until
from wire import config

WAITING = int(os.environ.get("HOTPATH_WAITING", "4000"))
PROGRAM = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "waiters.py")
PER_PROGRAM = 8000
TIMEOUT_S = 4 if WAITING <= 4000 else 12

# ngx_module/README.md, "Memory": what a waiting event takes (the head of its
# record, its texts, its waiter), and what nginx has for its request: the buffer
# of client_header_buffer_size and two blocks of request_pool_size. A tenth more
# for the allocator and for chunks that are not full.
EVENT_BYTES = 72 + 160 + 72
REQUEST_BYTES = 1024 + 2 * 4096
BOUND = 1.1 * WAITING * (EVENT_BYTES + REQUEST_BYTES)

# Of one worker, where the system distributes the connections badly.
LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
NEEDED_FILES = WAITING + 500
if LIMIT != resource.RLIM_INFINITY:
    NEEDED_FILES = min(NEEDED_FILES, LIMIT)

STACK = {
    "connections": NEEDED_FILES,
    "main": f"worker_rlimit_nofile {NEEDED_FILES};",
    "server": """add_header X-Worker $pid always;
                 location = /stub { stub_status; }""",
    # the deadline is what ends the waiting, not the look at the broker
    "hotpath": config("hotpath.conf", ("timeout=5s", f"timeout={TIMEOUT_S}s"),
                      ("ping_interval    5s", "ping_interval    60s")),
    "without": ("redis", "project"),
}


def anonymous_bytes(pid):
    """What a process has for itself; zones are shared."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB",
                                    file.read()).group(1))


def memory(stack):
    return sum(map(anonymous_bytes, stack.nginx_workers()))


class Waiters:
    """Programs with so many connections in all; see waiters.py."""

    def __init__(self, stack, count):
        self.programs = []
        each = math.ceil(count / math.ceil(count / PER_PROGRAM))
        for first in range(0, count, each):
            self.programs.append(subprocess.Popen(
                [sys.executable, PROGRAM, str(stack.ports["http"]), "/events",
                 str(first), str(min(each, count - first)),
                 f"waiting-{os.getpid()}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                bufsize=1))
        self._read("open\n")

    def _read(self, wanted=None):
        lines = [program.stdout.readline() for program in self.programs]
        assert wanted is None or set(lines) == {wanted}, lines
        return lines

    def send(self):
        for program in self.programs:
            program.stdin.write("\n")
        self._read("sent\n")

    def answers(self):
        """({code: how many}, the longest and the shortest time of one)."""
        codes, results = {}, list(map(json.loads, self._read()))
        for result in results:
            for code, count in result["codes"].items():
                codes[code] = codes.get(code, 0) + count
        return (codes, max(result["longest_s"] for result in results),
                min(result["shortest_s"] for result in results))

    def close(self):
        for program in self.programs:
            program.stdin.close()
        for program in self.programs:
            program.stdout.close()
            program.wait(150)


@pytest.fixture
def files():
    """As many open files as are needed, and a limit that nginx inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(WAITING * 3 // 4 + 500, min(WAITING, PER_PROGRAM) + 100)
    assert NEEDED_FILES >= needed, (
        f"{WAITING} requests need {needed} open files, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (max(soft, NEEDED_FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def active(stack):
    """Requests being read or waited for, this question left out."""
    text = stack.get("/stub").body.decode()
    return int(re.search(r"Writing: (\d+)", text).group(1)) - 1


@pytest.mark.timeout(240)
def test_all_wait_for_a_stopped_broker(files, make_stack):
    stack = make_stack(**STACK)
    wait_all_ready(stack)
    with contextlib.closing(Waiters(stack, WAITING)) as waiters:
        connected = memory(stack)
        with Pings(stack) as pings:
            stack.freeze("nats")
            try:
                waiters.send()
                wait_until(lambda: active(stack) >= WAITING, TIMEOUT_S,
                           "all of them wait")
                waiting = memory(stack)
                codes, longest, shortest = waiters.answers()
            finally:
                stack.thaw("nats")
            begin = time.monotonic()
            wait_until(lambda: stack.post(price_set(
                f"after-{os.getpid()}", 1, 1)).status == 202, 20,
                "an event is accepted again", every_s=0.005)
            recovered = time.monotonic() - begin
        print(f"{WAITING} requests: {(waiting - connected) / WAITING:.0f}"
              f" bytes each, {connected / WAITING:.0f} before them; {codes}"
              f" after {shortest:.2f} to {longest:.2f} s; a 202"
              f" {recovered:.3f} s after the broker's return; the worst ping"
              f" {pings.result['worst_net_ms']:.1f} ms")
        assert set(codes) <= {"503 outcome_unknown", "503 broker_unavailable"}
        assert sum(codes.values()) == WAITING
        assert longest < TIMEOUT_S + 1
        assert recovered < 1
        assert waiting - connected < BOUND
        pings.check()

        # the clients do what they were told: again, with the same keys
        waiters.send()
        codes, longest, _ = waiters.answers()
        again = memory(stack)
        assert codes == {"202": WAITING}
        assert longest < TIMEOUT_S
        # and what was freed is used again
        assert again - connected < BOUND
    wait_until(lambda: stack.sql(
        "SELECT count(*) FROM hotpath.events WHERE idempotency_key LIKE %s",
        (f"waiting-{os.getpid()}-%",)) >= [(WAITING,)], 60,
        "every event has its row")
    assert stack.sql(
        "SELECT count(*), count(DISTINCT idempotency_key) FROM hotpath.events"
        " WHERE idempotency_key LIKE %s", (f"waiting-{os.getpid()}-%",)) == [
            (WAITING, WAITING)]
