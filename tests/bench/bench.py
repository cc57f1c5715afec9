#!/usr/bin/python3
"""make bench: what Hotpath does, as ratios to a ceiling measured beside it.

Every row is one run of interleaved rounds on this machine against a stack of
its own (deploy/local/stack.py, the shipped configuration, one nginx worker):
the reference, then ours, again and again, and the medians are compared. The
absolute figures say little elsewhere; the ratios carry over.

    get_cached    GET of a document from the zone, to `return 200` with the same
                  body from the same nginx
    post_durable  POST of a 157-byte event answered 202 on PubAck with
                  sync_interval: always, to the same request with its body
                  read and discarded and 202 returned; the stream keeps them
                  meanwhile, drain and projector do not run
    drain         rows stored by hotpath-drain, to a bare COPY of the same rows

Prints a table and writes var/bench.json. --quick makes few short rounds (to
see that it works, not to quote). Needs wrk. Bounded: about three minutes.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BIN = os.path.join(ROOT, "var", "build", "workers")
sys.path.insert(0, os.path.dirname(HERE))
from servers import TestStack, price_set, wait_until  # noqa: E402

BARS = {"get_cached": 0.95, "post_durable": 0.45, "drain": 0.35}

# No limit stands in the way of what is measured.
ROUTES = """
keepalive_requests 10000000;
location = /events {{ hotpath_write events; hotpath_partition_key
    payload=productId; }}
location /prices/ {{ hotpath_read prices; hotpath_cache documents ttl=1h; }}
location = /health/live {{ hotpath_health live; }}
location = /health/ready {{ hotpath_health ready; }}
location = /metrics {{ hotpath_metrics; }}
location = /discard {{ default_type application/json;
    return 202 '{accepted}'; }}
location = /static {{ default_type application/json; return 200 '{document}'; }}
"""

ACCEPTED = ('{"operationId":"8f8f63a3-4118-8865-b9f2-98b1594bb0e7",'
            '"status":"accepted"}')
DOCUMENT = ('{"productId":42,"amount":19.99,"currency":"EUR",'
            '"lastUpdatedAt":"2026-01-31T12:00:00.123456Z"}')


def wrk(url, connections, seconds, script=None, pipeline=None):
    """Requests per second; any answer but 2xx is an error."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    if script:
        command[1:1] = ["-s", os.path.join(HERE, script)]
    text = subprocess.run(command, capture_output=True, text=True, check=True,
                          timeout=seconds + 60).stdout
    bad = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text)
    if bad:
        raise SystemExit(f"{url}: {bad.group(0)}\n{text}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))


def compare(rounds, ours, reference):
    """Medians of interleaved rounds, after one that does not count."""
    reference(), ours()
    pairs = [(reference(), ours()) for _ in range(rounds)]
    return (statistics.median(pair[1] for pair in pairs),
            statistics.median(pair[0] for pair in pairs))


def http_rows(stack, args):
    """get_cached and post_durable."""
    def get(path):
        return lambda: wrk(stack.url + path, 64, args.seconds)

    def post(path):
        return lambda: wrk(stack.url + path, 256, args.seconds, "post.lua")

    yield ("get_cached", "requests/s",
           *compare(args.rounds, get("/prices/42"), get("/static")))
    # The way to the PubAck alone: with two cores for everything, the drain
    # and Postgres would be measured too. They get their own rows.
    stack.stop("drain")
    stack.stop("project")
    yield ("post_durable", "requests/s",
           *compare(args.rounds, post("/events"), post("/discard")))
    stack.start("project")
    stack.start("drain")


def drain_row(stack, args):
    # It makes a database of its own, which the stack's role may not.
    with open(stack.path("postgres", "pg_hba.conf"), "a",
              encoding="utf-8") as file:
        file.write("host all postgres 127.0.0.1/32 trust\n")
    stack["postgres"].signal(signal.SIGHUP)
    conninfo = (f"host=127.0.0.1 port={stack.ports['postgres']}"
                " user=postgres dbname=postgres")
    command = [sys.executable, os.path.join(HERE, "drain.py"),
               "--drain", os.path.join(BIN, "hotpath-drain"),
               "--ctl", os.path.join(BIN, "hotpathctl"),
               "--schemas", os.path.join(ROOT, "schemas"),
               "--nats", f"nats://127.0.0.1:{stack.ports['nats']}",
               "--postgres", conninfo, "--timeout", "300",
               "--rounds", str(args.rounds), "--events", str(args.events)]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          check=True, timeout=900).stdout
    row = json.loads(text.strip().splitlines()[-1])
    return "drain", "rows/s", row["ours"], row["reference"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--events", type=int, default=200000)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.events = 1, 1, 20000

    base = os.path.join(ROOT, "var", "bench")
    os.makedirs(base, exist_ok=True)
    directory = tempfile.mkdtemp(dir=base)
    os.chmod(directory, 0o755)
    stack = TestStack(directory, workers=1, routes=ROUTES.format(
        accepted=ACCEPTED, document=DOCUMENT))
    rows = []
    try:
        stack.up()
        wait_until(lambda: stack.post(
            price_set("bench-1", 42, 19.99)).status == 202, 30,
            "the first event is accepted")
        wait_until(lambda: stack.get("/prices/42").status == 200, 30,
                   "the document is served")
        rows += http_rows(stack, args)
        # What was posted above is drained first, not measured.
        wait_until(lambda: not any(
            row["messages"] for row in json.loads(
                stack.ctl("status", "--json"))["streams"]), 300,
            "the streams are drained")
        stack.stop("drain")
        rows.append(drain_row(stack, args))
    finally:
        stack.down()
        shutil.rmtree(directory, ignore_errors=True)

    results = [{"name": name, "ours": round(ours), "reference":
                round(reference), "ratio": round(ours / reference, 3),
                "unit": unit} for name, unit, ours, reference in rows]
    with open(os.path.join(ROOT, "var", "bench.json"), "w",
              encoding="utf-8") as file:
        json.dump(results, file, indent=2)
    print("| | ours | reference | ratio | bar |")
    print("| --- | --- | --- | --- | --- |")
    for row in results:
        print(f"| {row['name']} | {row['ours']:,} {row['unit']} |"
              f" {row['reference']:,} | {row['ratio']:.2f} |"
              f" {BARS[row['name']]:.2f} |")


if __name__ == "__main__":
    main()
