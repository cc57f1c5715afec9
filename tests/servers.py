"""What tests in Python stand on: a stack of real servers, and a client for it.

TestStack is deploy/local/stack.py's Stack on free ports, so that tests run
beside `make run` and beside one another, with what tests need on top:

    stack.get("/prices/7")               -> Answer(status, headers, body)
    stack.post({"eventType": …})         -> Answer; POST /events as JSON
    stack.request("POST", path, body, {"Idempotency-Key": '"k"'})
    stack.sql("SELECT …", (value,))      -> list of tuples, autocommitted
    stack.metric("hotpath_…_total")      -> number, summed over labels
    stack.freeze("redis"), stack.thaw("redis")     SIGSTOP and SIGCONT
    stack.kill("drain")                  SIGKILL; stack.start("drain") again
    stack.stop("nats"), stack.start("nats"), stack.restart("nginx")
    stack.reload(http="…")               nginx reload, with changed options
    stack.nginx_workers()                pids, to kill one of them
    stack.log("nginx")                   the log's text
    stack.expect_log("exited on signal 9")   one test breaks what it must

Load posts events from threads until told to stop and remembers every answer;
Watch asks one address over and over and remembers how long each answer took.
Fixtures that make stacks are in conftest.py. Nothing here sleeps: wait_until
is the only way to wait, and it has a deadline.
"""

import collections
import http.client
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
import uuid

import psycopg2

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "deploy", "local"))
import stack as local  # noqa: E402
from procs import wait_until  # noqa: E402

# What no server may ever write into its log, unless a test expects it.
FORBIDDEN = re.compile(
    r"\[(alert|emerg)\]|Sanitizer|runtime error:|\bPANIC\b|Segmentation fault")


class Answer:
    """A whole HTTP answer; header names in any case."""

    def __init__(self, response, seconds):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.seconds = seconds

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Client:
    """One keep-alive connection to a stack's nginx."""

    def __init__(self, port, timeout_s=30):
        self.connection = http.client.HTTPConnection(
            local.HOST, port, timeout=timeout_s)

    def request(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        begin = time.monotonic()
        try:
            self.connection.request(method, path, body, headers)
            return Answer(self.connection.getresponse(),
                          time.monotonic() - begin)
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def close(self):
        self.connection.close()


def price_set(key, product, amount, currency="EUR"):
    """The sample event that feeds the model prices."""
    return {"idempotencyKey": key, "eventType": "price_set",
            "payload": {"productId": product, "amount": amount,
                        "currency": currency}}


class TestStack(local.Stack):
    """A Stack with a tester's hands. Options: see deploy/local/stack.py."""

    __test__ = False  # pytest: not a class of tests

    def __init__(self, directory, ports=None, **options):
        super().__init__(directory, ports, **options)
        self._log_offsets = collections.Counter()
        self._expected = []

    # Asking.

    def request(self, method, path, body=None, headers=None, timeout_s=30):
        client = Client(self.ports["http"], timeout_s)
        try:
            return client.request(method, path, body, headers)
        finally:
            client.close()

    def get(self, path, headers=None):
        return self.request("GET", path, None, headers)

    def post(self, event, headers=None):
        return self.request("POST", "/events", event, headers)

    def sql(self, query, parameters=None):
        connection = psycopg2.connect(self.conninfo(), connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def metric(self, name, labels=""):
        """The sum of a metric's samples; labels: text they must contain."""
        found = [
            float(line.rpartition(" ")[2])
            for line in self.get("/metrics").body.decode().splitlines()
            if re.match(re.escape(name) + r"[ {]", line) and labels in line
        ]
        if not found:
            raise AssertionError(f"/metrics has no {name} {labels}")
        return sum(found)

    # Breaking.

    def freeze(self, name):
        self[name].signal(signal.SIGSTOP, everyone=True)

    def thaw(self, name):
        self[name].signal(signal.SIGCONT, everyone=True)

    def wait_thawed(self):
        """A broker that stood still answers each worker again. That they are
        connected does not say so: a connection is closed for a ping that was
        not answered before, and that soon after the next freeze."""
        self.wait_ready()
        wait_until(lambda: all(
            self.post({"idempotencyKey": str(uuid.uuid4()),
                       "eventType": "thawed", "payload": {}}).status == 202
            for _ in range(12)), 20, "every worker is answered")

    def kill(self, name):
        """SIGKILL to the server's first process; returns when it is gone."""
        self[name].signal(signal.SIGKILL)
        wait_until(lambda: self[name].pid() is None, 10, f"{name} is dead")

    def restart(self, name):
        self.stop(name)
        self.start(name)

    def nginx_workers(self):
        master = self["nginx"].pid()
        return [pid for pid in self["nginx"].members() if pid != master]

    def kill_workers(self, pids=None):
        """SIGKILL to these workers of nginx, or to all at once; returns when
        they are gone, so that nginx_workers() names none of them."""
        pids = self.nginx_workers() if pids is None else pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not set(pids) & set(self["nginx"].members()), 10,
                   "the killed workers are gone")

    def reload(self, **options):
        """Reloads nginx, with options of the constructor changed; returns
        when new workers answer. The old ones may still be ending."""
        for key, value in options.items():
            if key in self.options:
                self.options[key] = value
            else:
                setattr(self, key, value)
        self.write_nginx_conf()
        old = set(self.nginx_workers())
        self["nginx"].signal(signal.SIGHUP)
        wait_until(
            lambda: len(set(self.nginx_workers()) - old)
            >= int(self.options["workers"]),
            15, "nginx has new workers after a reload")
        self["nginx"].wait_ready()

    # Logs.

    def log(self, name):
        try:
            with open(self[name].log, encoding="utf-8",
                      errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def expect_log(self, pattern):
        """Lines that match are no failure, from here on."""
        self._expected.append(re.compile(pattern))

    def forbidden_lines(self):
        """What the logs got since the last call and must not have."""
        found = []
        for name in local.NAMES:
            text = self.log(name)
            new = text[self._log_offsets[name]:]
            whole = new.rfind("\n") + 1
            self._log_offsets[name] += whole
            found += [
                f"{name}: {line}" for line in new[:whole].splitlines()
                if FORBIDDEN.search(line)
                and not any(each.search(line) for each in self._expected)
            ]
        return found


class Peer(TestStack):
    """Another nginx on a stack's other servers: a second instance."""

    def __init__(self, stack, **options):
        ports = dict(stack.ports, http=local.free_ports()["http"])
        for name in ("hotpath", "routes", "backends"):
            options.setdefault(name, getattr(stack, name))
        for name in ("workers", "main", "http", "server"):
            options.setdefault(name, stack.options[name])
        super().__init__(stack.path("peer"), ports, **options)

    def up(self, say=lambda text: None):
        self.start("nginx")
        return ["nginx"]

    def down(self, say=lambda text: None):
        self.stop("nginx")


class _Threads:
    """Runs _work() in threads between start and stop; a context manager."""

    def __init__(self, threads):
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True)
                         for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, timeout_s=60):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_s)
            if thread.is_alive():
                raise AssertionError("a thread of the load does not end")


class Load(_Threads):
    """Posts events with keys of its own until stopped.

        with Load(stack, threads=4) as load:
            wait_until(lambda: len(load.accepted) > 500, 30, "load runs")
            stack.kill("nats")
            …
        load.check()

    accepted  key -> operation id of every 202
    refused   Counter of other statuses, "error" for none at all
    With retry, a key that was not accepted is sent again until it is, or until
    the load stops: what a client does that keeps to the contract.
    check() waits until every accepted key has its row and fails where one is
    missing, or any key, accepted or not, has two.
    """

    numbers = itertools.count()

    def __init__(self, stack, threads=4, retry=False, event=None):
        super().__init__(threads)
        self.stack = stack
        self.retry = retry
        self.event = event or (lambda key, n: price_set(key, n % 50 + 1, n))
        self.prefix = f"load-{next(self.numbers)}-{os.getpid()}"
        self.accepted = {}
        self.refused = collections.Counter()
        self._next = itertools.count()

    def _work(self):
        client = Client(self.stack.ports["http"])
        while not self._stop.is_set():
            number = next(self._next)
            key = f"{self.prefix}-{number}"
            while True:
                status = self._post(client, key, number)
                if status == 202 or not self.retry or self._stop.is_set():
                    break
                self._stop.wait(0.02)
        client.close()

    def _post(self, client, key, number):
        try:
            answer = client.request("POST", "/events",
                                    self.event(key, number))
        except (OSError, http.client.HTTPException):
            self.refused["error"] += 1
            return None
        if answer.status == 202:
            self.accepted[key] = answer.json()["operationId"]
        else:
            self.refused[answer.status] += 1
        return answer.status

    def rows(self):
        """key -> [operation id of every row]."""
        rows = collections.defaultdict(list)
        for key, operation in self.stack.sql(
                "SELECT idempotency_key, operation_id::text"
                " FROM hotpath.events WHERE idempotency_key LIKE %s",
                (self.prefix + "-%",)):
            rows[key].append(operation)
        return rows

    def check(self, timeout_s=60):
        assert self.accepted, f"nothing was accepted: {self.refused}"
        wait_until(lambda: not set(self.accepted) - set(self.rows()),
                   timeout_s, "every accepted event has its row")
        rows = self.rows()
        twice = {key: ids for key, ids in rows.items() if len(ids) > 1}
        assert not twice, f"stored twice: {dict(list(twice.items())[:5])}"
        wrong = {key: (rows[key], operation)
                 for key, operation in self.accepted.items()
                 if rows[key] != [operation]}
        assert not wrong, f"another operation: {dict(list(wrong.items())[:5])}"


class Watch(_Threads):
    """Asks one address again and again, on one connection.

        with Watch(stack, "/ping") as ping:
            …
        assert ping.worst_ms() < 50
    """

    def __init__(self, stack, path="/ping", every_s=0.002):
        super().__init__(1)
        self.stack = stack
        self.path = path
        self.every_s = every_s
        self.answers = []   # (status, seconds)
        self.failures = []  # texts

    def _work(self):
        client = Client(self.stack.ports["http"])
        while not self._stop.is_set():
            try:
                answer = client.request("GET", self.path)
                self.answers.append((answer.status, answer.seconds))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self._stop.wait(self.every_s)
        client.close()

    def worst_ms(self):
        assert self.answers and not self.failures, self.failures[:5]
        return max(seconds for _, seconds in self.answers) * 1e3
