"""Rows of bench.py in which the reference is another server: hit_*, miss_*.

    hit_120_*, hit_4k_*   GET of a document that is in memory; ours from the
                          zone, the peer from its cache: nginx's proxy_cache
                          (files in /dev/shm), lua_shared_dict, Varnish
    miss_redis_*          GET of a document that only Redis has
    miss_postgres_*       GET of a document that only Postgres has; both by a
                          service in Node (one process) and one in Go (go:
                          GOMAXPROCS as the runtime sets it; go1: 1) in front
                          of the same server, with the same documents

Peers stand in peers/, with their configuration and with what was tried to make
them fast in README.md. One worker each, where there is such a thing;
64 connections that stay, and wrk with one thread, for all. They take turns
with ours round by round, and what is counted is the processor time of the
server in front, not that of Redis or Postgres.

What makes a row wrong ends the benchmark: a body that differs from ours, a hit
that asked the origin, a miss that did not ask the source exactly once.
"""

import collections
import datetime
import itertools
import os
import re
import shutil
import socket
import struct

from rig import (DOCUMENTS, HERE, MODIFIED, ROOT, SIZES, ask, bench_stack,
                 check, document, local, medians, result, scratch, store, wrk)
from servers import wait_until

PEERS = os.path.join(HERE, "peers")
BUILT = os.path.join(ROOT, "var", "build", "peers")
MODULES = "/usr/lib/nginx/modules"

BAR = 1.0
CACHES = ("proxy_cache", "lua", "varnish")
SERVICES = ("node", "go", "go1")
SOURCES = ("redis", "postgres")
HITS = [f"hit_{size}_{peer}" for size in SIZES for peer in CACHES]
MISSES = [f"miss_{source}_{peer}" for source in SOURCES for peer in SERVICES]
ROWS = HITS + MISSES

CONNECTIONS = 64

# What Varnish writes down about each request and session, all left out: the
# nginx beside it keeps no access log either.
VARNISH_LOG = """Begin End Link SessOpen SessClose ReqStart ReqMethod ReqURL
ReqProtocol ReqHeader ReqUnset ReqAcct RespProtocol RespStatus RespReason
RespHeader RespUnset VCL_call VCL_return Hit Timestamp"""

# Documents to miss: so many that none comes round again within the second
# that /brief/ keeps it, and some more that only checks ask for.
FIRST_KEY, KEYS, CHECKED = 1000000, 200000, 50
END_KEY = FIRST_KEY + KEYS + CHECKED
MODIFIED_US = int(datetime.datetime.fromisoformat(
    MODIFIED.replace("Z", "+00:00")).timestamp()) * 1000000


# Peers of the hit path.

def configured(stack, name, file, **values):
    """A file of peers/ with its @names@ filled in, in the server's own
    directory; gives the path."""
    with open(os.path.join(PEERS, file), encoding="utf-8") as source:
        text = source.read()
    values["config"] = os.path.join(ROOT, "config")
    values["modules"] = MODULES
    text = re.sub(r"@(\w+)@", lambda match: str(values[match.group(1)]), text)
    os.makedirs(stack.path(name), exist_ok=True)
    with open(stack.path(name, file), "w", encoding="utf-8") as target:
        target.write(text)
    return stack.path(name, file)


def free_port():
    return local.free_ports()["http"]


def add_nginx(stack, name, path, **values):
    """Starts an nginx with a configuration of peers/; its port."""
    port = free_port()
    conf = configured(stack, name, f"{name}.conf", port=port, **values)
    stack.add(name, port, [stack.nginx, "-e", "stderr", "-p",
                           stack.path(name), "-c", conf], path)
    return port


def add_cache(stack, name, origin, memory):
    """Starts a peer; its port."""
    path = f"/prices/{next(iter(DOCUMENTS))}"
    if name == "proxy_cache":
        return add_nginx(stack, name, path, origin=origin, memory=memory)
    if name == "lua":
        for key, text in DOCUMENTS.items():
            with open(os.path.join(memory, key), "w",
                      encoding="utf-8") as file:
                file.write(text)
        return add_nginx(stack, name, "/health", documents=memory,
                         keys=" ".join(DOCUMENTS))
    port = free_port()
    stack.add(name, port, [
        "varnishd", "-F", "-j", "none", "-n", os.path.join(memory, name),
        "-f", configured(stack, name, "varnish.vcl", origin=origin),
        "-a", f"{local.HOST}:{port}", "-s", "malloc,256m", "-T", "none",
        "-p", "thread_pools=1", "-p", "vsl_mask=" + ",".join(
            f"-{tag}" for tag in VARNISH_LOG.split())], path)
    return port


def threads(process):
    return sum(len(os.listdir(f"/proc/{pid}/task"))
               for pid in process.members())


def origin_requests(port):
    """How many the origin has answered, this question left out."""
    _, text = local.http_get(port, "/requests")
    return int(text.splitlines()[2].split()[2]) - 1


def hit_rows(stack, size, peers, ports, origin, args):
    key, text = str(SIZES[size]), DOCUMENTS[str(SIZES[size])]
    urls = {"ours": f"{stack.spread_url}/prices/{key}"}
    processes = {"ours": stack["nginx"]}
    for name in peers:
        urls[name] = f"http://{local.HOST}:{ports[name]}/prices/{key}"
        processes[name] = stack.added[name]

    def check_all():
        for name, url in urls.items():
            check(url, text, **({"cache_status": "; hit"}
                                if name == "ours" else {}))

    for url in urls.values():
        check(url, text)  # by this the caches have it
    before = origin_requests(origin)
    check_all()
    samples = dict(zip(urls, medians(args.rounds, *(
        lambda name=name: wrk(urls[name], args.seconds, CONNECTIONS,
                              of=processes[name]) for name in urls))))
    check_all()
    asked = origin_requests(origin) - before - 1
    if asked:
        raise SystemExit(f"hits of {size}: the origin was asked {asked} times")
    for name in peers:
        remark = None
        if name == "varnish":
            remark = f"Varnish had {threads(processes[name])} threads"
        yield result(f"hit_{size}_{name}", "requests/s", samples["ours"],
                     samples[name], BAR, BAR, remark)


def run_hits(stack, names, args):
    peers = [name for name in CACHES
             if any(row.endswith("_" + name) for row in names)]
    with scratch("/dev/shm") as memory:
        stack.give(memory)
        origin = add_nginx(stack, "origin", "/requests", documents="\n".join(
            f"location = /prices/{key} {{ return 200 '{text}'; }}"
            for key, text in DOCUMENTS.items()))
        ports = {name: add_cache(stack, name, origin, memory)
                 for name in peers}
        for size in SIZES:
            wanted = [name for name in peers if f"hit_{size}_{name}" in names]
            if wanted:
                yield from hit_rows(stack, size, wanted, ports, origin, args)
        for name in [*peers, "origin"]:
            stack.remove(name)


# Peers of the miss path.

def missed(key):
    """The document of a key; the key is its version too."""
    return document(120, key)


def redis(stack, commands):
    """Answers of the stack's Redis to commands, one after the other."""
    with socket.create_connection((local.HOST, stack.ports["redis"]),
                                  30) as connection:
        file = connection.makefile("rb")
        for words in commands:
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(
                b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            line = file.readline()
            if line[:1] not in (b"+", b"$"):
                raise SystemExit(f"Redis answers {line}")
            yield file.read(int(line[1:]) + 2) if line[:1] == b"$" else line


def record(key):
    """What Redis holds of a document: schemas/framing.md."""
    name = str(key).encode()
    return struct.pack(
        "<3sB16sqHH", b"HPD", 0, b"%016x" % key, MODIFIED_US, len("default"),
        len(name)) + b"default" + name + missed(key).encode()


def fill(stack, source):
    keys = range(FIRST_KEY, END_KEY)
    if source == "redis":
        collections.deque(redis(stack, (
            [b"MSET", *itertools.chain.from_iterable(
                (b"hotpath:doc:prices:default:%d" % key, record(key))
                for key in keys[begin:begin + 1000])]
            for begin in range(0, len(keys), 1000))), maxlen=0)
    else:
        store(stack, [(key, key, missed(key)) for key in keys])
        stack.sql("VACUUM ANALYZE hotpath.prices")


def source_requests(stack, source):
    """How many documents Redis has found, or Postgres looked for."""
    if source == "redis":
        text, = redis(stack, [[b"INFO", b"stats"]])
        return int(re.search(rb"keyspace_hits:(\d+)", text).group(1))
    return stack.sql("SELECT idx_scan FROM pg_stat_user_tables"
                     " WHERE relname = 'prices'")[0][0]


def add_service(stack, name, source):
    """Starts a service; its URL up to the key."""
    port = free_port()
    env = {"PORT": str(port), "SOURCE": source,
           "REDIS_URL": f"redis://{local.HOST}:{stack.ports['redis']}",
           "REDIS_ADDRESS": f"{local.HOST}:{stack.ports['redis']}",
           "PGHOST": local.HOST, "PGPORT": str(stack.ports["postgres"]),
           "PGUSER": "hotpath", "PGDATABASE": "hotpath",
           "PGSSLMODE": "disable"}
    command = [os.path.join(BUILT, "service")]
    if name == "node":
        command = [shutil.which("node"),
                   os.path.join(BUILT, "node", "service.js")]
        env["NODE_ENV"] = "production"
    if name == "go1":
        env["GOMAXPROCS"] = "1"
    stack.add(name, port, command, f"/prices/{FIRST_KEY}", env)
    return f"http://{local.HOST}:{port}/prices/"


def check_misses(urls, source):
    """The right body from all, with the same version; how many were asked
    for. What Redis does not have is unknown to ours, not absent."""
    for key in range(FIRST_KEY + KEYS, END_KEY):
        wanted = (200, missed(key).encode(), f'"{key:016x}"')
        for name, url in urls.items():
            (status, headers, body), = ask(f"{url}{key}")
            if (status, body, headers.get("ETag")) != wanted:
                raise SystemExit(f"{url}{key}: {status}, {body},"
                                 f" {headers['ETag']}; not {wanted}")
            if name == "ours" and "fwd=" not in headers["Cache-Status"]:
                raise SystemExit(f"{url}{key}: {headers['Cache-Status']}")
    for name, url in urls.items():
        (status, _, _), = ask(url + "none")
        wanted = 503 if (name, source) == ("ours", "redis") else 404
        if status != wanted:
            raise SystemExit(f"{url}none: {status}, not {wanted}")
    return CHECKED * len(urls)


def miss_rows(stack, source, peers, args):
    """One source: the services beside ours, which gets a configuration that
    has only this source behind it."""
    stack.reload(backends=lambda text: "\n".join(
        line for line in text.splitlines() if f"hotpath_{source} " in line
        or not re.match("hotpath_(redis|postgres) ", line)))
    before = source_requests(stack, source)
    urls = {"ours": stack.url + "/brief/"}
    processes = {"ours": stack["nginx"]}
    for name in peers:
        urls[name] = add_service(stack, name, source)
        processes[name] = stack.added[name]
    position = dict.fromkeys(urls, 0)
    asked = runs = 0

    def counts():
        return [stack.metric("hotpath_read_requests_total", f'"{label}"')
                for label in (source, "zone", "zone_stale", "collapsed")]

    def run(name):
        nonlocal asked, runs
        then = counts()
        sample = wrk(urls[name], args.seconds, CONNECTIONS, "keys.lua",
                     [FIRST_KEY, KEYS, position[name]], of=processes[name])
        misses, *others = [a - b for a, b in zip(counts(), then)]
        if name == "ours" and (misses < sample.requests or any(others)):
            raise SystemExit(f"ours: {sample.requests} requests, {misses}"
                             f" misses, otherwise {others}")
        position[name] = (position[name] + sample.requests) % KEYS
        asked += sample.requests
        runs += 1
        return sample

    asked += check_misses(urls, source)
    samples = dict(zip(urls, medians(args.rounds, *(
        lambda name=name: run(name) for name in urls))))
    asked += check_misses(urls, source)
    for name in peers:
        stack.remove(name)
    stack.reload(backends="")  # sessions that end say what they have done
    # More only by what wrk left unanswered at the end of a run, and by what a
    # service was asked until it was ready.
    wait_until(lambda: source_requests(stack, source) - before >= asked, 20,
               f"{source} was asked by each of {asked} requests")
    more = source_requests(stack, source) - before - asked
    if more > runs * CONNECTIONS + 100:
        raise SystemExit(f"{source} was asked {more} times too often by"
                         f" {asked} requests")
    for name in peers:
        yield result(f"miss_{source}_{name}", "requests/s", samples["ours"],
                     samples[name], BAR, BAR)


def run_misses(stack, names, args):
    stack.stop("drain")
    stack.stop("project")
    for source in SOURCES:
        peers = [name for name in SERVICES
                 if f"miss_{source}_{name}" in names]
        if peers:
            fill(stack, source)
            yield from miss_rows(stack, source, peers, args)


def run(names, args):
    with bench_stack() as stack:
        hits = [name for name in names if name in HITS]
        misses = [name for name in names if name in MISSES]
        if hits:
            yield from run_hits(stack, hits, args)
        if misses:
            yield from run_misses(stack, misses, args)
