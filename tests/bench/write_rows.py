"""Rows of bench.py about writes: post_*.

POST of a 157-byte event, answered 202 when the broker has it, all checks on,
one nginx worker, one partition: what one worker gathers is then one message.
202s pass no filter (filters=off).
The stream keeps the events meanwhile; drain and projector do not run, since
with two cores for everything they would be measured too. Where the ceiling is
the reference, the worker has a core for itself, for both.

    post_256, post_1024    requests a second with so many connections and the
                           shipped broker settings (sync_interval: always), to
                           the ceiling: the same request to the same nginx,
                           its body read and discarded, 202 returned
    post_256_default_sync  the same with the broker's own default
    post_p99               the 99th percentile at half load, to that of the
                           ceiling at half of its own: openloop.c asks at a
                           fixed rate, so nothing that waits is left out
    post_1, post_64        the median of the times with so many connections, to
                           that of one message per event (group=1) from a second
                           nginx with the same broker
    post_256_group1        requests a second, to the same one message per event
    post_256_go, _go1, _node, and post_256_default_sync_...
                           to services which publish an event as a message, in
                           peers/; they need bench-peers' programs

What makes a row wrong ends the benchmark: an answer that is no 202, an event
that was answered and not published, a message that is not in the stream, a key
that was taken for a repeat, a broker with another sync_interval than was said.
"""

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess

from peers import BUILT, free_port
from rig import (ACCEPTED, CLIENTS, ROOT, SECOND, Sample, apart, local,
                 medians, result, wrk)
from servers import Client, Peer, price_set, wait_until
from wire import Nats, config

OPENLOOP = os.path.join(CLIENTS, "openloop")
SERVICES = ("go", "go1", "node")
BARS = {"post_256": 0.65, "post_1024": 0.70, "post_256_default_sync": 0.78}
P99_BAR, GROUP1_BAR = 3, 10
# "not above", and a twentieth for two measurements of the same
SINGLE_BAR = 1.05
ROWS = ["post_256", "post_1024", "post_p99", "post_1", "post_64",
        "post_256_group1", "post_256_default_sync"]
PEER_ROWS = [f"post_256{sync}_{name}" for sync in ("", "_default_sync")
             for name in SERVICES]
STREAMS = ("HOTPATH_EVENTS_0", "HOTPATH_EVENTS_1")
PEER_STREAMS = {"BENCH_EVENTS_0": "bench.0", "BENCH_EVENTS_1": "bench.1"}


def js(stack, what, *arguments):
    with Nats(stack.ports["nats"]) as nats:
        return nats.js(what, *arguments)


def messages(stack, streams=STREAMS):
    return sum(js(stack, f"STREAM.INFO.{name}")["state"]["messages"]
               for name in streams)


def purge(stack, streams=STREAMS):
    """They refuse what is new when they are full."""
    for name in streams:
        js(stack, f"STREAM.PURGE.{name}")


def check_sync(stack, always):
    """The broker does what the row says."""
    _, text = local.http_get(stack.ports["nats_monitor"], "/jsz?config=1")
    found = json.loads(text)["config"]
    if bool(found.get("sync_always")) != always:
        raise SystemExit(f"the broker's sync_always is not {always}: {found}")


def check_one(port, key, ours):
    """An answer as it should be, the same again for the same key, and a
    refusal of what is no event."""
    client = Client(port)
    try:
        event = price_set(key, 1, 19.99)
        answers = [client.request("POST", "/events", event) for _ in "12"]
        if ({answer.status for answer in answers} != {202}
                or len({answer.body for answer in answers}) != 1
                or len(answers[0].body) != len(ACCEPTED)
                or answers[0].json()["operationId"]
                not in answers[0].headers["Location"]
                or ours and answers[1].headers["Idempotent-Replayed"]
                != "true"):
            raise SystemExit(f"port {port}: answers {answers}")
        for body in ('{"idempotencyKey":"a"', '{"idempotencyKey":""}'):
            refused = client.request("POST", "/events", body, {
                "Content-Type": "application/json"})
            if refused.status // 100 != 4:
                raise SystemExit(f"port {port}: {refused} for {body}")
    finally:
        client.close()


class Target:
    """A Hotpath to be measured: runs that are checked against its counters."""

    def __init__(self, stack, broker, group=None):
        self.stack = stack  # of the nginx
        self.broker = broker  # the stack of the broker
        self.group = group

    def counts(self):
        return [self.stack.metric(name, label) for name, label in (
            ("hotpath_publish_events_total", ""),
            ("hotpath_publish_messages_total", ""),
            ("hotpath_write_requests_total", '"replayed"'))]

    def checked(self, run):
        """What run() gives; it must have a member or a key "requests"."""
        purge(self.broker)
        before = self.counts()
        sample = run()
        asked = getattr(sample, "requests", None) or sample["requests"]

        def changes():
            return [a - b for a, b in zip(self.counts(), before)]
        # what wrk had sent and did not wait for is published too
        wait_until(lambda: messages(self.broker) == changes()[1], 20,
                   "all messages are in the streams")
        events, sent, replayed = changes()
        if events < asked or replayed:
            raise SystemExit(f"{asked} events accepted, {events} published,"
                             f" {replayed} known")
        if self.group and sent != events:
            raise SystemExit(f"{events} events in {sent} messages")
        return sample

    def wrk(self, connections, seconds, prefix=()):
        return self.checked(lambda: wrk(
            self.stack.url + "/events", seconds, connections, "post.lua",
            of=self.stack["nginx"], behind=self.broker["nats"],
            prefix=prefix))


def discard(stack, connections, seconds):
    return wrk(stack.url + "/discard", seconds, connections, "post.lua",
               of=stack["nginx"], behind=stack["nats"], prefix=SECOND)


@contextlib.contextmanager
def default_sync(stack, wanted):
    """The broker without the line that makes a PubAck mean: on disk."""
    if not wanted:
        check_sync(stack, True)
        yield
        return
    nats = stack["nats"]
    own = config("nats-server.conf")
    text = re.sub(r"(?m)^\s*sync_interval: always\n", "", own)
    if text == own:
        raise SystemExit("config/nats-server.conf sets no sync_interval")
    with open(stack.path("default.conf"), "w", encoding="utf-8") as file:
        file.write(text)
    command = nats.command
    where = command.index("-c") + 1
    nats.command = [*command[:where], stack.path("default.conf"),
                    *command[where + 1:]]
    try:
        stack.restart("nats")
        stack.wait_ready()
        check_sync(stack, False)
        yield
    finally:
        nats.command = command
        stack.restart("nats")
        stack.wait_ready()


@contextlib.contextmanager
def group1(stack):
    """A second nginx that makes one message of each event, with as many under
    way as it may."""
    peer = Peer(stack, server="", hotpath=config(
        "hotpath.conf", ("window=1", "window=64"),
        ("linger=1000us", "linger=0us"), ("group=4096", "group=1")))
    try:
        peer.up()
        peer.wait_ready()
        yield Target(peer, stack, group=1)
    finally:
        peer.down()


def ceiling_row(stack, name, args):
    connections = int(re.search(r"\d+", name).group())
    ours = Target(stack, stack)
    with apart(stack):
        reference, measured = medians(
            args.rounds, lambda: discard(stack, connections, 2 * args.seconds),
            lambda: ours.wrk(connections, 2 * args.seconds, SECOND))
    remark = None
    if measured.per_cpu_s_both:
        remark = (f"{measured.per_cpu_s_both:,.0f} requests per second of"
                  " processor time of nginx and broker together")
    return result(name, "requests/s", measured, reference, BARS[name],
                  remark=remark)


def openloop(stack, path, rate, seconds, run):
    command = [*SECOND, OPENLOOP, local.HOST, str(stack.ports["http"]), path,
               "256", f"{rate:.0f}", str(seconds), run]
    done = subprocess.run(command, capture_output=True, text=True,
                          check=False, timeout=seconds + 60)
    if done.returncode:
        raise SystemExit(done.stderr or f"openloop: {done.returncode}")
    return json.loads(done.stdout)


def p99_row(stack, args):
    """Each at half of what it reaches with 256 connections. The one slowest
    in a hundred is what else the machine does for a moment as much as the
    server: in runs of 4 s the ceiling's was 0.5 to 2.6 ms, so they are long."""
    ours = Target(stack, stack)
    rates = [sample.rate / 2 for sample in medians(
        args.rounds, lambda: discard(stack, 256, args.seconds),
        lambda: ours.wrk(256, args.seconds, SECOND))]
    found = ([], [])
    for number in range(args.rounds + 1):
        run = f"{os.getpid() % 65536:04x}{number:02x}"
        samples = (
            openloop(stack, "/discard", rates[0], 8 * args.seconds, run),
            ours.checked(lambda: openloop(
                stack, "/events", rates[1], 8 * args.seconds, run)))
        for each, sample in zip(found, samples):
            if number:
                each.append(sample)
    middle = [{what: statistics.median(sample[what] for sample in each)
               for what in ("p50_us", "p99_us", "p999_us", "late_us")}
              for each in found]
    remark = "; ".join(
        f"{name} at {rate:,.0f} requests/s: p50 {each['p50_us']:,.0f}, p99"
        f" {each['p99_us']:,.0f}, p99.9 {each['p999_us']:,.0f} us, sent at"
        f" most {each['late_us']:,.0f} us late"
        for name, rate, each in zip(("ceiling", "ours"), rates, middle))
    return result("post_p99", "us (p99)",
                  Sample(middle[1]["p99_us"], None, None),
                  Sample(middle[0]["p99_us"], None, None), P99_BAR,
                  remark=remark, at_most=True)


def group1_row(stack, reference, name, args):
    ours = Target(stack, stack)
    connections = int(re.search(r"\d+", name).group())
    theirs, measured = medians(
        args.rounds, lambda: reference.wrk(connections, args.seconds),
        lambda: ours.wrk(connections, args.seconds))
    if name == "post_256_group1":
        return result(name, "requests/s", measured, theirs, GROUP1_BAR)
    remark = (f"{measured.rate:,.0f} requests/s, one message per"
              f" event {theirs.rate:,.0f}")
    return result(name, "us (p50)", Sample(measured.p50_us, None, None),
                  Sample(theirs.p50_us, None, None), SINGLE_BAR,
                  remark=remark, at_most=True)


def add_service(stack, name):
    """Starts a service that publishes; its port."""
    port = free_port()
    env = {"PORT": str(port), "SOURCE": "nats", "SUBJECT": "bench",
           "NATS_URL": f"nats://{local.HOST}:{stack.ports['nats']}"}
    command = [os.path.join(BUILT, "service")]
    if name == "node":
        command = [shutil.which("node"),
                   os.path.join(BUILT, "node", "events.js")]
        env["NODE_ENV"] = "production"
    if name == "go1":
        env["GOMAXPROCS"] = "1"
    stack.add(name, port, command, "/health", env)
    return port


def service_wrk(stack, name, port, seconds):
    """A run against a service: every answer is a message, no other is."""
    purge(stack, PEER_STREAMS)
    sample = wrk(f"http://{local.HOST}:{port}/events", seconds, 256,
                 "post.lua", of=stack.added[name], behind=stack["nats"])
    found = messages(stack, PEER_STREAMS)
    # those that wrk sent and did not wait for are messages too
    # wrk does not wait for its last ones, nor count what came last
    if not sample.requests <= found <= sample.requests + 2 * 256:
        raise SystemExit(f"{name}: {sample.requests} accepted, {found} stored")
    return sample


def service_rows(stack, names, sync, args):
    services = [name for name in SERVICES if f"post_256{sync}_{name}" in names]
    with open(os.path.join(ROOT, "schemas", "streams", "events.json"),
              encoding="utf-8") as file:
        stream = json.load(file)["stream"]
    for name, subject in PEER_STREAMS.items():
        js(stack, f"STREAM.CREATE.{name}",
           {**stream, "name": name, "subjects": [subject]})
    ours = Target(stack, stack)
    ports = {name: add_service(stack, name) for name in services}
    for name, port in ports.items():
        before = messages(stack, PEER_STREAMS)
        check_one(port, f"check-{name}{sync}", ours=False)
        if messages(stack, PEER_STREAMS) != before + 1:
            raise SystemExit(f"{name}: a repeat is another message")
    reference = medians(
        args.rounds, lambda: ours.wrk(256, args.seconds),
        *(lambda name=name, port=port: service_wrk(
            stack, name, port, args.seconds)
          for name, port in ports.items()))
    measured = reference.pop(0)
    for name, theirs in zip(services, reference):
        row = result(f"post_256{sync}_{name}", "requests/s", measured, theirs,
                     1.0, 1.0)
        both = row["cpu"]["both"]
        row["remark"] = (
            f"per second of processor time with the broker's: {both['ours']:,}"
            f" to {both['reference']:,}, {both['ratio']:.2f}")
        yield row
        stack.remove(name)
    for name in PEER_STREAMS:
        js(stack, f"STREAM.DELETE.{name}")


def run(stack, names, args):
    if not names:
        return
    if "post_p99" in names and not os.path.exists(OPENLOOP):
        raise SystemExit("build openloop first: make -C tests/bench")
    stack.stop("drain")
    stack.stop("project")
    stack.reload(hotpath=config("hotpath.conf", ("partitions=2",
                                                 "partitions=1")))
    check_one(stack.ports["http"], "check-ours", ours=True)
    if any("group1" in name or name in ("post_1", "post_64")
           for name in names):
        second = group1(stack)
    else:
        second = contextlib.nullcontext()
    for sync in ("", "_default_sync"):
        with default_sync(stack, sync):
            for name in names:
                if (sync in name if sync else "default_sync" not in name):
                    if name in BARS:
                        yield ceiling_row(stack, name, args)
                    elif name == "post_p99":
                        with apart(stack):
                            row = p99_row(stack, args)
                        yield row
            if not sync:
                with second as reference:
                    for name in names:
                        if name in ("post_1", "post_64", "post_256_group1"):
                            yield group1_row(stack, reference, name, args)
            if any(f"post_256{sync}_{name}" in names for name in SERVICES):
                yield from service_rows(stack, names, sync, args)
    stack.reload(hotpath=config("hotpath.conf"))
    purge(stack)
    stack.start("project")
    stack.start("drain")
