"""Rows of bench.py: million, million_x16: a million documents to a thousand.

Two zones in one nginx with one worker, one with 1,000 documents of a model and
one with 1,000,000 of another, all of 120 bytes and pushed over NATS as a
projector pushes them. wrk asks for them at random, one request at a time on
each of 64 connections, and 16 at a time (x16). The large zone is ours, the
small one the reference.

The difference is memory: a document of the large zone is in no cache of the
processor, and its address in none of the tables that find it. What that costs
depends on the machine, most of all on whether it can have huge pages.

What makes a row wrong ends the benchmark: another body, before or after; a
request that is no hit. About 1.5 GB of memory and a minute.
"""

import os

from rig import ROOT, check, document, medians, result, scratch, wrk
from servers import TestStack, wait_until
from wire import Nats, golden

BAR = 0.9
FEW, MANY = 1000, 1000000
PER_FRAME = 2000
ROWS = ["million", "million_x16"]

HTTP = """
hotpath_cache_zone zone=few:16m max_entry=64k;
hotpath_cache_zone zone=many:{megabytes}m max_entry=64k;
"""
ROUTES = """
keepalive_requests 1000000000;
default_type application/json;
location /few/ { hotpath_read few; hotpath_cache few ttl=1d; }
location /many/ { hotpath_read many; hotpath_cache many ttl=1d; }
location = /health/live { hotpath_health live; }
location = /health/ready { hotpath_health ready; }
location = /metrics { hotpath_metrics; }
"""


def hits(stack):
    return stack.metric("hotpath_read_requests_total", '"zone"')


def push(stack, model, count):
    """Documents 1 to count, no more of them under way than a few frames."""
    def stored():
        return stack.metric("hotpath_push_documents_total", "stored")

    nats, before = Nats(stack.ports["nats"]), stored()
    for sequence, first in enumerate(range(1, count + 1, PER_FRAME), 1):
        last = min(count, first + PER_FRAME - 1)
        nats.push(model, [
            golden.document(document(120, number).encode(),
                            str(number).encode(), b"default", 1, 0)
            for number in range(first, last + 1)], 0, 1, sequence)
        wait_until(lambda: stored() >= before + last - 2 * PER_FRAME, 30,
                   "nginx stores what is pushed")
    wait_until(lambda: stored() == before + count, 30,
               f"nginx has {count} documents of {model}")
    nats.close()


def row(stack, name, args):
    depth = 16 if name.endswith("_x16") else 1
    asked = 0

    def run(model, count):
        nonlocal asked
        sample = wrk(f"{stack.url}/{model}/", args.seconds, of=stack["nginx"],
                     script="random.lua", arguments=(count, depth))
        asked += sample.requests
        return sample

    before = hits(stack)
    few, many = medians(args.rounds, lambda: run("few", FEW),
                        lambda: run("many", stack.many))
    if hits(stack) < before + asked:
        raise SystemExit(f"{name}: {asked} requests,"
                         f" {hits(stack) - before:.0f} hits")
    return result(name, "requests/s", many, few, BAR)


def run(names, args):
    with scratch(os.path.join(ROOT, "var", "bench")) as directory:
        many = MANY // 20 if args.quick else MANY
        stack = TestStack(directory, workers=1, routes=ROUTES,
                          http=HTTP.format(megabytes=16 + many // 2200))
        stack.many = many
        try:
            stack.up()
            stack.stop("drain")
            stack.stop("project")
            push(stack, "few", FEW)
            push(stack, "many", many)
            for name in names:
                for model, number in ("few", FEW), ("many", many):
                    check(f"{stack.url}/{model}/{number}",
                          document(120, number), cache_status="; hit")
                yield row(stack, name, args)
        finally:
            stack.down()
