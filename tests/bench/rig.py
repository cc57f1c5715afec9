"""What every benchmark in this directory stands on: a stack, a load, a clock.

The stack is the shipped configuration with one nginx worker and no limit in
the way, below var/bench, with two documents put into the read model as they
are; the same nginx gives the same bytes by `return 200`. The load is wrk with
one thread, because a faster client would only take processor time from the
server it shares two cores with; or closedloop.c, where wrk is too slow for an
answer from memory. The clock is theirs for requests a second, and
/proc/PID/stat, summed over a server's processes, for requests per second of
processor time: the second says more where client and server share cores.

Owns the directory of its stack and removes it. Whatever a wrk run saw that is
not 2xx ends the benchmark; so does an answer that check() finds wrong. Used by
bench.py, peers.py and instructions.py, which say what is compared with what.
"""

import collections
import contextlib
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.dirname(HERE))
from servers import TestStack, local  # noqa: E402
from procs import Process, wait_until  # noqa: E402

# Clients of our own: make -C tests/bench.
CLIENTS = os.path.join(ROOT, "var", "build", "bench")

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def document(size, product):
    """JSON of exactly so many bytes, without a character that needs quoting
    in nginx's configuration, VCL or Lua."""
    head = (f'{{"productId":{product},"amount":19.99,"currency":"EUR",'
            '"lastUpdatedAt":"2026-01-31T12:00:00.123456Z","note":"')
    return head + ("all work and no play " * (size // 20 + 1)
                   )[:size - len(head) - 2] + '"}'


# The key of a document is its size. The large one is as near to 4 KiB as a
# `return` can hold: a word of nginx's configuration has less than 4,096
# bytes, and one put together from variables would be copied at each request,
# which would make the reference slower than it is.
SMALL, LARGE = 120, 4080
SIZES = {"120": SMALL, "4k": LARGE}
DOCUMENTS = {str(size): document(size, size) for size in SIZES.values()}
MODIFIED = "2026-01-31T12:00:00Z"

# The answer to a write, as long and with as many lines as ours.
OPERATION = "8f8f63a3-4118-8865-b9f2-98b1594bb0e7"
ACCEPTED = f'{{"operationId":"{OPERATION}","status":"accepted"}}'

# No limit stands in the way of what is measured.
ROUTES = f"""
keepalive_requests 1000000000;
location = /events {{ hotpath_write events filters=off; hotpath_partition_key
    payload=productId; }}
location /prices/ {{ hotpath_read prices; hotpath_cache documents ttl=1d; }}
location /brief/ {{ hotpath_read prices; hotpath_cache documents ttl=1s
    stale=0s; }}
location = /health/live {{ hotpath_health live; }}
location = /health/ready {{ hotpath_health ready; }}
location = /metrics {{ hotpath_metrics; }}
default_type application/json;
location = /discard {{
    add_header Location /events/status/{OPERATION} always;
    return 202 '{ACCEPTED}';
}}
""" + "".join(f"location = /static/{key} {{ return 200 '{text}'; }}\n"
              for key, text in DOCUMENTS.items())


@contextlib.contextmanager
def scratch(base):
    """A directory below base that servers of other users may enter."""
    os.makedirs(base, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="hotpath-", dir=base)
    os.chmod(directory, 0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def store(stack, rows):
    """Puts documents into the table of the model prices as they are: rows of
    (key, version, text)."""
    for begin in range(0, len(rows), 5000):
        stack.sql(
            "INSERT INTO hotpath.prices (tenant, key, version, document,"
            " modified_at, deleted, partition, position) VALUES " + ",".join(
                f"('default', '{key}', {version}, '{text}', '{MODIFIED}',"
                " false, 0, 0)"
                for key, version, text in rows[begin:begin + 5000]))


class BenchStack(TestStack):
    """A stack with one nginx worker, and any other servers beside it."""

    __test__ = False

    def __init__(self, directory, **options):
        # Another listener on the same locations, with a queue per worker, so
        # that two workers get their half of the connections each.
        port = local.free_ports()["http"]
        self.spread_url = f"http://{local.HOST}:{port}"
        self.added = {}
        super().__init__(directory, workers=1, routes=ROUTES, server=(
            f"listen {local.HOST}:{port} backlog=4096 reuseport;"), **options)

    def reload(self, **options):
        """Returns when no worker of before is left, and the new ones have
        what they need."""
        super().reload(**options)
        wait_until(lambda: len(self.nginx_workers())
                   == self.options["workers"], 30, "the old workers are gone")
        self.wait_ready()

    def add(self, name, port, command, path, env=None):
        """Starts one more server, as nobody, in a directory of its own; it is
        up when path is answered 200. Gives its Process."""
        self.added[name] = Process(
            name, self.directory, self._as_user("nobody") + command,
            {**local.ENVIRONMENT, **(env or {})},
            lambda: local.http_status(port, path) == 200, port,
            cwd=self._owned("nobody", name))
        self.added[name].start()
        return self.added[name]

    def give(self, path):
        """Makes a directory that of the user add() runs servers as."""
        if os.geteuid() == 0:
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)

    def remove(self, name):
        self.added.pop(name).stop()

    def down(self, say=lambda text: None):
        for name in list(self.added):
            self.remove(name)
        super().down(say)


@contextlib.contextmanager
def bench_stack(**options):
    """A stack that is ready and serves DOCUMENTS at /prices/. What ends the
    program, SIGTERM too, ends the servers first."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with scratch(os.path.join(ROOT, "var", "bench")) as directory:
        stack = BenchStack(directory, **options)
        try:
            stack.up()
            stack.wait_ready()
            store(stack, [(key, 1, text) for key, text in DOCUMENTS.items()])
            for key, text in DOCUMENTS.items():
                check(stack.url + "/static/" + key, text)
                check(stack.url + "/prices/" + key, text)
            yield stack
        finally:
            stack.down()


def ask(url, count=1):
    """count answers on one connection, as (status, headers, body)."""
    host, _, path = url.partition("//")[2].partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        for _ in range(count):
            connection.request("GET", "/" + path)
            answer = connection.getresponse()
            yield answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def check(url, body, status=200, **headers):
    """The answer at url is this one, byte for byte, in a connection that
    stays; a header given as cache_status="hit" must contain that."""
    for answer in ask(url, 2):
        wanted = (status, body.encode())
        got = (answer[0], answer[2])
        for name, value in headers.items():
            name = name.replace("_", "-")
            text = answer[1].get(name, "")
            if value not in text:
                raise SystemExit(f"{url}: {name}: {text}; not {value}")
        if got != wanted:
            raise SystemExit(f"{url}: answered {got}, not {wanted}")
        if "close" in answer[1].get("Connection", "").lower():
            raise SystemExit(f"{url}: does not keep the connection")


# What one run of wrk gave: answers a second, answers per second of processor
# time of the server that was asked (None where none was given), how many, the
# median of their times, and answers per second of processor time of that server
# and the one behind it.
Sample = collections.namedtuple(
    "Sample", "rate per_cpu_s requests p50_us per_cpu_s_both",
    defaults=(None, None))


def ticks(pid):
    """Processor time of a process and all its threads, 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def cpu_s(process):
    """Seconds of processor time that a server's processes have used."""
    return sum(ticks(pid) for pid in process.members()) / TICKS_PER_S


# What asks, where apart() has said so: a prefix of its command.
SECOND = ["taskset", "-c", "1"]


@contextlib.contextmanager
def apart(stack):
    """The worker has the first processor for itself, and SECOND keeps the
    client off it, so that neither is put aside for the other in the middle of
    a turn; any other server runs where there is room."""
    workers = stack.nginx_workers()
    for pid in workers:
        os.sched_setaffinity(pid, {0})
    try:
        yield
    finally:
        for pid in workers:
            os.sched_setaffinity(pid, range(os.cpu_count()))


UNITS_US = {"us": 1, "ms": 1e3, "s": 1e6}


def wrk(url, seconds, connections=64, script=None, arguments=(), of=None,
        behind=None, prefix=()):
    """One run of wrk against url; any answer but 2xx is an error. script is
    a file beside this one, of the process whose processor time is counted,
    and behind another one; prefix stands before the command."""
    command = [*prefix, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
               "--latency", url]
    if script:
        at = len(prefix) + 1
        command[at:at] = ["-s", os.path.join(HERE, script)]
        command += ["--", *map(str, arguments)]
    before = [cpu_s(each) if each else 0 for each in (of, behind)]
    text = subprocess.run(command, capture_output=True, text=True, check=True,
                          timeout=seconds + 60).stdout
    used, used_behind = [cpu_s(each) - then if each else 0
                         for each, then in zip((of, behind), before)]
    bad = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text)
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    if bad or not requests:
        raise SystemExit(f"{url}: {bad.group(0) if bad else 'no answer'}\n"
                         + text)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    p50, unit = re.search(r" 50%\s+([\d.]+)(\w+)", text).groups()
    tick = 1 / TICKS_PER_S
    return Sample(rate, requests / max(used, tick) if of else None, requests,
                  float(p50) * UNITS_US[unit],
                  requests / max(used + used_behind, tick) if behind else None)


def closed_loop(url, seconds, connections=64, of=None):
    """One run of closedloop.c against url, which costs less than wrk does."""
    host, _, path = url.partition("//")[2].partition("/")
    before = cpu_s(of) if of else 0
    done = subprocess.run(
        [os.path.join(CLIENTS, "closedloop"), *host.split(":"), "/" + path,
         str(connections), str(seconds)],
        capture_output=True, text=True, check=False, timeout=seconds + 60)
    used = cpu_s(of) - before if of else 0
    if done.returncode:
        raise SystemExit(done.stderr or f"closedloop: {done.returncode}")
    said = json.loads(done.stdout)
    return Sample(said["requests"] / said["seconds"],
                  said["requests"] / max(used, 1 / TICKS_PER_S) if of else None,
                  said["requests"])


def medians(rounds, *runs):
    """A Sample of medians for each of runs, which take turns; a first round
    does not count."""
    for run in runs:
        run()
    samples = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, samples):
            found.append(run())
    return [Sample(*(statistics.median(column) if None not in column else None
                     for column in zip(*found))) for found in samples]


def result(name, unit, ours, reference, bar, cpu_bar=None, remark=None,
           at_most=False):
    """A row of var/bench.json. The ratios that have a bar should reach it, or
    with at_most not pass it; cores: how much processor time was used per
    second; both: with the server behind."""
    cpu = None
    if ours.per_cpu_s and reference.per_cpu_s:
        cpu = {"ours": round(ours.per_cpu_s),
               "reference": round(reference.per_cpu_s),
               "ratio": round(ours.per_cpu_s / reference.per_cpu_s, 3),
               "bar": cpu_bar,
               "cores": [round(each.rate / each.per_cpu_s, 2)
                         for each in (ours, reference)]}
        if ours.per_cpu_s_both and reference.per_cpu_s_both:
            cpu["both"] = {
                "ours": round(ours.per_cpu_s_both),
                "reference": round(reference.per_cpu_s_both),
                "ratio": round(ours.per_cpu_s_both
                               / reference.per_cpu_s_both, 3)}
    return {"name": name, "ours": round(ours.rate),
            "reference": round(reference.rate),
            "ratio": round(ours.rate / reference.rate, 3), "unit": unit,
            "bar": bar, "at_most": at_most, "cpu": cpu, "remark": remark}
