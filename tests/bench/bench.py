#!/usr/bin/python3
"""make bench: what Hotpath does, as ratios to a ceiling measured beside it.

Every row is one run of interleaved rounds on this machine against a stack of
its own (deploy/local/stack.py, the shipped configuration, one nginx worker):
the reference, then ours, again and again, and the medians are compared. The
absolute figures say little elsewhere; the ratios carry over.

    get_cached_*  GET of a document from the zone, to `return 200` with the same
                  body from the same nginx; see read_rows.py
    million*      the same from a zone of a million documents, to one of a
                  thousand; see million.py
    post_*        POST of a 157-byte event answered 202 on PubAck, to the same
                  request with its body read and discarded, and to one message
                  per event; see write_rows.py
    drain         rows stored by hotpath-drain, to a bare COPY of the same rows
    hit_*, miss_* the same reads by other servers, the references; see peers.py.
                  Only with --peers (make bench-peers), as the rows post_* that
                  end in a service's name

Prints a table, row by row, and writes var/bench.json: rows measured now take
the place of those of the same name. "per CPU s": answers per second of
processor time of the server that answers.

--quick makes few short rounds (to see that it works, not to quote). --only
takes names of rows, * allowed. How to read the table: README.md here. Needs
wrk. Bounded: ten minutes, --peers as long again.
"""

import argparse
import fnmatch
import json
import os
import signal
import subprocess
import sys
import time

import million
import peers
import read_rows
import write_rows
from rig import HERE, ROOT, Sample, bench_stack, result
from procs import StackError
from servers import wait_until

BIN = os.path.join(ROOT, "var", "build", "workers")
JSON = os.path.join(ROOT, "var", "bench.json")
DRAIN_BAR = 0.35


def drain_row(stack, args):
    # What was posted before is drained first, not measured.
    wait_until(lambda: not any(
        row["messages"] for row in json.loads(
            stack.ctl("status", "--json"))["streams"]), 300,
        "the streams are drained")
    stack.stop("drain")
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
    return result("drain", "rows/s", Sample(row["ours"], None, None),
                  Sample(row["reference"], None, None), DRAIN_BAR)


def own_rows(names, args):
    with bench_stack() as stack:
        yield from read_rows.run(
            stack, [name for name in read_rows.ROWS if name in names], args)
        yield from write_rows.run(
            stack, [name for name in names if name in write_rows.ROWS], args)
        if "drain" in names:
            yield drain_row(stack, args)


def measure(names, args):
    if any(name in OWN for name in names):
        yield from own_rows(names, args)
    for rows in million, peers:
        chosen = [name for name in rows.ROWS if name in names]
        if chosen:
            yield from rows.run(chosen, args)
    chosen = [name for name in write_rows.PEER_ROWS if name in names]
    if chosen:
        with bench_stack() as stack:
            yield from write_rows.run(stack, chosen, args)


OWN = [*read_rows.ROWS, *write_rows.ROWS, "drain"]
PEERS = [*peers.ROWS, *write_rows.PEER_ROWS]


def chosen_rows(args):
    known = OWN + million.ROWS + PEERS
    if not args.only:
        return PEERS if args.peers else OWN + million.ROWS
    for pattern in args.only:
        if not fnmatch.filter(known, pattern):
            raise SystemExit(f"no row is called {pattern}; there are: "
                             + " ".join(known))
    return [name for name in known
            if any(fnmatch.fnmatch(name, each) for each in args.only)]


def save(row):
    """Puts a row into var/bench.json, in place of an older one."""
    try:
        with open(JSON, encoding="utf-8") as file:
            rows = json.load(file)
    except FileNotFoundError:
        rows = []
    rows = [old for old in rows if old["name"] != row["name"]] + [row]
    with open(JSON + ".new", "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=2)
        file.write("\n")
    os.replace(JSON + ".new", JSON)


def line(row):
    """A row as one of the table."""
    bar = "" if row["bar"] is None else f"{row['bar']:.2f}"
    if bar and row["at_most"]:
        bar = "at most " + bar
    text = (f"| {row['name']} | {row['ours']:,} {row['unit']} |"
            f" {row['reference']:,} | {row['ratio']:.2f} | {bar} |")
    cpu = row["cpu"]
    if not cpu:
        return text + " | | | |"
    return text + (f" {cpu['ours']:,} | {cpu['reference']:,} |"
                   f" {cpu['ratio']:.2f} |"
                   f" {' / '.join(format(n, '.2f') for n in cpu['cores'])} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ROW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--events", type=int, default=200000)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.events = 1, 1, 20000
    names = chosen_rows(args)

    remarks = []
    print("| | ours | reference | ratio | bar | ours per CPU s |"
          " reference per CPU s | ratio | cores |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
          flush=True)
    for row in measure(names, args):
        row["measured_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row["quick"] = args.quick
        save(row)
        print(line(row), flush=True)
        if row["remark"]:
            remarks.append(f"- {row['name']}: {row['remark']}")
    if remarks:
        print("\n" + "\n".join(remarks))


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(f"bench: {error}")
