"""Rows of bench.py about reads from the zone: get_cached_*.

GET of a document from the zone, to `return 200` with the same body from the
same nginx: 120 bytes and nearly 4 KiB, each one request at a time and 16 at a
time (x16), with one worker and with two (w2), 64 connections. With two workers
both take half of the connections each, through the listener that has a queue
for every worker; the client then needs what both leave it, and the figures per
second of processor time say more. The load is closedloop.c, and wrk for x16.

What makes a row wrong ends the benchmark: an answer that is no hit or has
another body, before or after; a request of a run that the zone's counter does
not have, or one that went to a source; two workers of which one does nothing.
"""

import re

from rig import (DOCUMENTS, SIZES, check, closed_loop, medians, result, ticks,
                 wrk)

BAR = 0.98
DEPTH = 16
ROWS = [f"get_cached_{size}{workers}{depth}" for size in SIZES
        for workers in ("", "_w2") for depth in ("", f"_x{DEPTH}")]


def set_workers(stack, count):
    if stack.options["workers"] != count:
        stack.reload(workers=count)


def row(stack, name, args):
    size, workers, depth = re.match(
        r"get_cached_(\w+?)(?:_w(\d))?(?:_x(\d+))?$", name).groups()
    key = str(SIZES[size])
    asked = 0

    def run(path):
        url = f"{stack.spread_url}/{path}/{key}"
        if depth:
            return wrk(url, args.seconds, of=stack["nginx"],
                       script="pipeline.lua", arguments=[depth])
        return closed_loop(url, args.seconds, of=stack["nginx"])

    def ours():
        nonlocal asked
        sample = run("prices")
        asked += sample.requests
        return sample

    def sources():
        return [stack.metric("hotpath_read_requests_total", label) for label
                in ('"zone"', '"redis"', '"postgres"', '"none"')]

    set_workers(stack, int(workers or 1))
    # What a worker finds when it starts may have to be revalidated.
    check(f"{stack.spread_url}/prices/{key}", DOCUMENTS[key])
    check(f"{stack.spread_url}/prices/{key}", DOCUMENTS[key],
          cache_status="; hit")
    before = sources()
    used = {pid: ticks(pid) for pid in stack.nginx_workers()}
    reference, measured = medians(args.rounds, lambda: run("static"), ours)
    used = [ticks(pid) - begin for pid, begin in used.items()]
    hits, *others = [after - count for after, count
                     in zip(sources(), before)]
    if hits < asked or any(others):
        raise SystemExit(f"{name}: {asked} requests, {hits} hits,"
                         f" {others} elsewhere")
    if min(used) < sum(used) / len(used) / 4:
        raise SystemExit(f"{name}: the load is not spread: {used} ticks")
    check(f"{stack.spread_url}/prices/{key}", DOCUMENTS[key],
          cache_status="; hit")
    return result(name, "requests/s", measured, reference, BAR)


def run(stack, names, args):
    for name in names:
        yield row(stack, name, args)
    set_workers(stack, 1)
