#!/usr/bin/python3
"""The demo at the end of `make run`: watch the whole chain work, in numbers.

Posts a few thousand events over keep-alive connections, some of them twice;
waits until what was accepted is in Postgres and in the read model; reads the
prices back; changes one and measures how long the old answer lives on; prints
what it counted, and how to try it by hand. Every number that can be wrong is
checked against what was sent: it ends with status 1 and says what did not add
up.

HOTPATH_DEMO_EVENTS changes how many events. Standard library only; talks HTTP
to nginx and SQL through psql, like any client. The first error stops it: it
repeats no request that failed, because hiding a failure is not its job.
"""

import http.client
import json
import os
import sys
import threading
import time
from decimal import Decimal

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from procs import StackError, wait_until  # noqa: E402
import stack as local  # noqa: E402

THREADS = 8
PRODUCTS = 400
READS_PER_PRODUCT = 10
REPEAT_EVERY = 10


class DemoError(Exception):
    """A number that does not add up, or an answer that should not be."""


class Client:
    """One keep-alive connection; times every request."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection(local.HOST, port,
                                                     timeout=15)
        self.seconds = []

    def request(self, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body else {}
        begin = time.perf_counter()
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        text = response.read()
        self.seconds.append(time.perf_counter() - begin)
        return response, text

    def post(self, event):
        """(operation id, whether it was recognised as a repeat)."""
        response, text = self.request("POST", "/events", json.dumps(event))
        if response.status != 202:
            raise DemoError(f"POST /events answered {response.status}: "
                            f"{text.decode('utf-8', 'replace')}")
        replayed = response.getheader("Idempotent-Replayed") == "true"
        return json.loads(text)["operationId"], replayed

    def price(self, product):
        """(amount or None, whether it came from nginx's memory)."""
        response, text = self.request("GET", f"/prices/{product}")
        if response.status == 404:
            return None, False
        if response.status != 200:
            raise DemoError(f"GET /prices/{product} answered "
                            f"{response.status}: {text.decode()}")
        parameters = [part.strip() for part in
                      (response.getheader("Cache-Status") or "").split(";")]
        return (json.loads(text, parse_float=Decimal, parse_int=Decimal)
                ["amount"], "hit" in parameters)


class Progress:
    """A bar on a terminal, a line every quarter elsewhere."""

    def __init__(self, label, total):
        self.label, self.total, self.done = label, total, 0
        self.lock = threading.Lock()
        self.shown = 0
        self.tty = sys.stdout.isatty()

    def step(self):
        with self.lock:
            self.done += 1
            parts = 40 if self.tty else 4
            now = self.done * parts // self.total
            if now == self.shown and self.done < self.total:
                return
            self.shown = now
            if self.tty:
                bar = "#" * now + "." * (parts - now)
                end = "\n" if self.done == self.total else ""
                print(f"\r  {self.label} [{bar}] {self.done}/{self.total}",
                      end=end, flush=True)
            else:
                print(f"  {self.label} {self.done}/{self.total}", flush=True)


def in_threads(work):
    """Runs work(number) in every thread; raises the first error."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except Exception as error:  # re-raised below, in the main thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,))
               for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def percentiles(seconds):
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return "  ".join(
        f"p{p} {ordered[min(last, len(ordered) * p // 100)] * 1e3:.1f} ms"
        for p in (50, 95, 99))


def must(what, got, expected):
    if got != expected:
        raise DemoError(f"{what}: {got}, expected {expected}")


class Demo:
    def __init__(self, stack, events):
        self.stack = stack
        self.port = stack.ports["http"]
        self.run = f"demo-{int(time.time() * 1000):x}"
        self.events = events
        self.amounts = {}  # product -> the amount its last event set
        self.operations = set()
        self.repeats_sent = self.repeats_recognised = 0
        self.lock = threading.Lock()
        self.posts, self.gets = [], []

    def event(self, number):
        """Half set a price, half are page views; number names the key."""
        product = number // 2 % PRODUCTS + 1
        if number % 2 == 0:
            amount = Decimal(100 + (number * 37 + int(time.time())) % 99900)
            return product, amount / 100, {
                "idempotencyKey": f"{self.run}-{number}",
                "eventType": "price_set",
                "payload": {"productId": product,
                            "amount": float(amount / 100),
                            "currency": "EUR"}}
        return product, None, {
            "idempotencyKey": f"{self.run}-{number}",
            "eventType": "page_view",
            "payload": {"productId": product, "path": f"/p/{product}"}}

    def post_all(self):
        repeats = len(range(0, self.events, REPEAT_EVERY))
        progress = Progress("posting", self.events + repeats)

        def work(thread):
            client = Client(self.port)
            amounts, operations, sent, recognised = {}, set(), 0, 0
            for number in range(self.events):
                # One product, one thread: so its last event is known.
                if number // 2 % PRODUCTS % THREADS != thread:
                    continue
                product, amount, event = self.event(number)
                operation, _ = client.post(event)
                operations.add(operation)
                if amount is not None:
                    amounts[product] = amount
                progress.step()
                if number % REPEAT_EVERY == 0:
                    again, replayed = client.post(event)
                    sent += 1
                    recognised += replayed and again == operation
                    progress.step()
            with self.lock:
                self.amounts.update(amounts)
                self.operations |= operations
                self.repeats_sent += sent
                self.repeats_recognised += recognised
                self.posts += client.seconds

        begin = time.monotonic()
        in_threads(work)
        self.post_seconds = time.monotonic() - begin
        must("operations", len(self.operations), self.events)
        must("repeats recognised", self.repeats_recognised, self.repeats_sent)

    def rows(self):
        return int(self.stack.psql(
            "SELECT count(*) FROM hotpath.events"
            f" WHERE idempotency_key LIKE '{self.run}-%'")[0][0])

    def documents(self):
        """How many products of this run the read model has as set."""
        values = ",".join(f"({product},{amount})"
                          for product, amount in self.amounts.items())
        return int(self.stack.psql(
            "SELECT count(*) FROM hotpath.prices p"
            f" JOIN (VALUES {values}) AS set (product, amount)"
            " ON p.tenant = 'default' AND p.key = set.product::text"
            " AND (p.document::jsonb ->> 'amount')::numeric = set.amount"
            )[0][0])

    def settle(self):
        """Waits for the rows and the read model; never more than sent."""
        begin = time.monotonic()
        wait_until(lambda: self.rows() >= self.events, 60,
                   f"{self.events} rows in hotpath.events")
        wait_until(lambda: self.documents() == len(self.amounts), 60,
                   f"{len(self.amounts)} prices in the read model")
        self.settle_ms = (time.monotonic() - begin) * 1e3
        must("rows in Postgres", self.rows(), self.events)

    def read_all(self):
        products = sorted(self.amounts)
        progress = Progress("reading", len(products) * READS_PER_PRODUCT)
        self.hits = 0

        def work(thread):
            client, hits = Client(self.port), 0
            mine = products[thread::THREADS]
            # What an earlier run left in memory gives way within moments.
            for product in mine:
                wait_until(
                    lambda: client.price(product)[0] == self.amounts[product],
                    10, f"GET /prices/{product} answers "
                        f"{self.amounts[product]}", every_s=0.001)
            client.seconds.clear()
            for _ in range(READS_PER_PRODUCT):
                for product in mine:
                    amount, hit = client.price(product)
                    must(f"price of product {product}", amount,
                         self.amounts[product])
                    hits += hit
                    progress.step()
            with self.lock:
                self.hits += hits
                self.gets += client.seconds

        in_threads(work)
        if not self.hits:
            raise DemoError("no read was answered from nginx's memory")

    def change_one(self):
        client, product = Client(self.port), min(self.amounts)
        amount = self.amounts[product] + 1
        old, _ = client.price(product)
        must(f"price of product {product}", old, self.amounts[product])
        client.post({"idempotencyKey": f"{self.run}-change",
                     "eventType": "price_set",
                     "payload": {"productId": product, "currency": "EUR",
                                 "amount": float(amount)}})
        begin = time.monotonic()
        wait_until(lambda: client.price(product)[0] == amount, 30,
                   f"GET /prices/{product} answers {amount}", every_s=0.0005)
        self.change_ms = (time.monotonic() - begin) * 1e3
        self.changed = (product, old, amount)

    def report(self):
        url = self.stack.url
        product, old, amount = self.changed
        reads = len(self.amounts) * READS_PER_PRODUCT
        rate = (self.events + self.repeats_sent) / self.post_seconds
        rows = [
            ("accepted", f"{len(self.operations)} events"
                         f" ({rate:.0f} requests/s from this one client)"),
            ("repeats recognised",
             f"{self.repeats_recognised} of {self.repeats_sent}"),
            ("rows in Postgres", f"{self.rows() - 1}"
                                 f" (all there {self.settle_ms:.0f} ms after"
                                 " the last post)"),
            ("read-model documents", f"{len(self.amounts)}"),
            ("cache hits", f"{self.hits} of {reads} reads"),
            ("POST", percentiles(self.posts)),
            ("GET", percentiles(self.gets)),
            ("a change is read after", f"{self.change_ms:.1f} ms"
             f" (product {product}: {old} -> {amount})"),
        ]
        width = max(len(name) for name, _ in rows)
        line = "-" * 76
        print(f"\n{line}")
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")
        print(line)
        print(f"""
The stack stays up (make status, make logs, make stop). Addresses to try:

  {url}/prices/{product}
  {url}/health/live
  {url}/health/ready
  {url}/metrics
  psql "{self.stack.conninfo()}"

By hand:

  curl -i {url}/events --json '{{"idempotencyKey":"try-1","eventType":\
"price_set","payload":{{"productId":42,"amount":19.99,"currency":"EUR"}}}}'
  curl -i {url}/prices/42
  curl -i {url}/events/status/{sorted(self.operations)[0]}
""")


def main():
    events = int(os.environ.get("HOTPATH_DEMO_EVENTS", "4000"))
    demo = Demo(local.local_stack(), max(2, events))
    print(f"demo: {demo.events} events to {demo.stack.url}")
    try:
        demo.post_all()
        demo.settle()
        demo.read_all()
        demo.change_one()
        demo.report()
    except (DemoError, StackError, OSError,
            http.client.HTTPException) as error:
        print(f"\ndemo: {error}\ndemo: what the servers say: make logs",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
