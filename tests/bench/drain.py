#!/usr/bin/env python3
"""How fast hotpath-drain stores, next to a bare COPY of the same rows.

Makes a database and streams of its own beside whatever runs there, and removes
them again. Each round: the streams are filled with --events events in groups,
hotpath-drain is started and timed from its start until its last commit, with
one lane per partition and the broker working beside it; then the very same rows
go by one bare COPY (text format, one transaction) into a plain logged table
with the same columns and no index. --connections 2 splits that COPY over two
connections, which is the harder yardstick where the processors are the limit.
Rounds are interleaved; the medians and their ratio are printed as one JSON
line. Needs nothing but Python and libpq.
"""

import argparse
import ctypes
import ctypes.util
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid

PREFIX = "hotpathbench"
COLUMNS = (
    "position bigint, accepted_at timestamptz, stored_at timestamptz,"
    " operation_id uuid, partition integer, tenant text, route text,"
    " idempotency_key text, event_type text, traceparent text, payload jsonb"
)


class Postgres:
    """libpq through ctypes: just enough to run SQL and to feed a COPY."""

    lib = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
    lib.PQconnectdb.restype = ctypes.c_void_p
    lib.PQerrorMessage.restype = ctypes.c_char_p
    lib.PQexec.restype = ctypes.c_void_p
    lib.PQgetResult.restype = ctypes.c_void_p
    lib.PQgetvalue.restype = ctypes.c_char_p

    def __init__(self, conninfo):
        conninfo += " options='-c client_min_messages=warning'"
        self.conn = ctypes.c_void_p(self.lib.PQconnectdb(conninfo.encode()))
        if self.lib.PQstatus(self.conn) != 0:
            raise SystemExit("postgres: " + self.error())

    def error(self):
        return self.lib.PQerrorMessage(self.conn).decode(errors="replace")

    def run(self, sql):
        result = ctypes.c_void_p(self.lib.PQexec(self.conn, sql.encode()))
        status = self.lib.PQresultStatus(result)
        value = None
        if status == 2 and self.lib.PQntuples(result):
            value = self.lib.PQgetvalue(result, 0, 0).decode()
        self.lib.PQclear(result)
        if status not in (1, 2, 4):
            raise SystemExit("postgres: " + self.error())
        return value

    def copy(self, sql, data):
        self.run(sql)
        if self.lib.PQputCopyData(self.conn, data, len(data)) != 1:
            raise SystemExit("postgres: " + self.error())
        self.lib.PQputCopyEnd(self.conn, None)
        while True:
            result = self.lib.PQgetResult(self.conn)
            if not result:
                return
            result = ctypes.c_void_p(result)
            if self.lib.PQresultStatus(result) != 1:
                raise SystemExit("postgres: " + self.error())
            self.lib.PQclear(result)

    def close(self):
        self.lib.PQfinish(self.conn)


class Nats:
    """A NATS client for requests whose answers may come in any order."""

    def __init__(self, url):
        parts = urllib.parse.urlparse(url)
        self.sock = socket.create_connection(
            (parts.hostname, parts.port or 4222), timeout=30
        )
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        options = {"verbose": False, "headers": True, "lang": "python",
                   "version": "1"}
        if parts.username and parts.password is not None:
            options["user"] = urllib.parse.unquote(parts.username)
            options["pass"] = urllib.parse.unquote(parts.password)
        elif parts.username:
            options["auth_token"] = urllib.parse.unquote(parts.username)
        self.inbox = "_INBOX." + uuid.uuid4().hex
        self.file.readline()
        self.sock.sendall(
            b"CONNECT %s\r\nSUB %s 1\r\nPING\r\n"
            % (json.dumps(options).encode(), self.inbox.encode())
        )

    def send(self, subject, data=b""):
        self.sock.sendall(
            b"PUB %s %s %d\r\n%s\r\n"
            % (subject.encode(), self.inbox.encode(), len(data), data)
        )

    def answer(self):
        while True:
            line = self.file.readline()
            if line.startswith(b"MSG "):
                data = self.file.read(int(line.split()[-1]) + 2)
                return json.loads(data)
            if line.startswith(b"PING"):
                self.sock.sendall(b"PONG\r\n")
            elif line.startswith(b"HMSG"):
                raise SystemExit("nats: nobody answers, is JetStream on?")
            elif line.startswith(b"-ERR") or not line:
                raise SystemExit("nats: " + line.decode(errors="replace"))

    def request(self, subject, data=b""):
        self.send(subject, data)
        return self.answer()

    def close(self):
        self.sock.close()


def make_events(count, partition):
    """Event records (schemas/framing.md) and the same rows as COPY text."""
    records, rows = [], []
    random = os.urandom(88 * count)
    accepted = 1_790_000_000_000_000
    tenant, route, kind = b"acme", b"events", b"price_set"
    for i in range(count):
        at = 88 * i
        identity = bytearray(random[at:at + 16])
        identity[6] = 0x80 | identity[6] & 0x0F
        identity[8] = 0x80 | identity[8] & 0x3F
        key = str(uuid.UUID(bytes=random[at + 48:at + 64])).encode()
        trace = b"00-%s-%s-01" % (random[at + 64:at + 80].hex().encode(),
                                  random[at + 80:at + 88].hex().encode())
        payload = (
            b'{"productId":%d,"amount":%d.%02d,"currency":"EUR"}'
            % (i % 5000, i % 900, i % 100)
        )
        body = b"".join((
            bytes(identity), random[at + 16:at + 48],
            struct.pack("<qHHHHBxxx", accepted + i, len(tenant), len(route),
                        len(key), len(kind), len(trace)),
            tenant, route, key, kind, trace, payload,
        ))
        records.append(struct.pack("<I", len(body)) + body)
        rows.append(
            b"%d\t2026-09-21 13:46:40.%06d+00\t2026-09-21 13:46:41+00\t%s\t%d"
            b"\tacme\tevents\t%s\tprice_set\t%s\t%s\n"
            % (i + 1, i, uuid.UUID(bytes=bytes(identity)).hex.encode(),
               partition, key, trace, payload)
        )
    return records, rows


def fill(url, partition, records, group):
    nats = Nats(url)
    subject = f"{PREFIX}.events.{partition}"
    waiting = 0
    for start in range(0, len(records), group):
        chunk = records[start:start + group]
        nats.send(subject, b"HPE\x01" + struct.pack("<I", len(chunk))
                  + b"".join(chunk))
        waiting += 1
        while waiting >= 64:
            check(nats.answer())
            waiting -= 1
    while waiting:
        check(nats.answer())
        waiting -= 1
    nats.close()


def check(ack):
    if "error" in ack or "stream" not in ack:
        raise SystemExit("nats: publish refused: " + json.dumps(ack))


def together(function, arguments):
    """Runs function for each tuple in a thread of its own."""
    failed = []

    def call(args):
        try:
            function(*args)
        except BaseException as error:  # a thread must not fail unseen
            failed.append(error)

    threads = [threading.Thread(target=call, args=(a,)) for a in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(str(failed[0]))


def drain_round(args, env, db, parts):
    for p, (records, _) in enumerate(parts):
        fill(args.nats, p, records, args.group)
    db.run("TRUNCATE hotpath.operations, hotpath.events, hotpath.partitions")
    db.run("CHECKPOINT")
    total = sum(len(records) for records, _ in parts)
    begun = time.monotonic()
    drain = subprocess.Popen([args.drain], env=env)
    try:
        while int(db.run("SELECT coalesce(sum(last_position), 0)"
                         " FROM hotpath.partitions")) < total:
            if drain.poll() is not None:
                raise SystemExit("hotpath-drain ended by itself")
            if time.monotonic() - begun > args.timeout:
                raise SystemExit("hotpath-drain did not finish in time")
            time.sleep(0.01)  # between two looks at the database
        took = time.monotonic() - begun
    finally:
        drain.terminate()
        drain.wait(20)
    stored = int(db.run("SELECT count(*) FROM hotpath.events"))
    if stored != total:
        raise SystemExit(f"{stored} rows stored, {total} published")
    return total / took


def copy_one(conninfo, rows):
    db = Postgres(conninfo)
    db.copy("COPY bare FROM STDIN", rows)
    db.close()


def copy_round(args, conninfo, db, parts):
    rows = [row for _, part in parts for row in part]
    share = -(-len(rows) // args.connections)
    shares = [b"".join(rows[i:i + share]) for i in range(0, len(rows), share)]
    db.run("DROP TABLE IF EXISTS bare")
    db.run(f"CREATE TABLE bare ({COLUMNS})")
    db.run("CHECKPOINT")
    begun = time.monotonic()
    together(copy_one, [(conninfo, data) for data in shares])
    return len(rows) / (time.monotonic() - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222")
    parser.add_argument("--postgres", default="dbname=postgres",
                        help="conninfo of a role that may create databases")
    parser.add_argument("--drain", default="var/build/workers/hotpath-drain")
    parser.add_argument("--ctl", default="var/build/workers/hotpathctl")
    parser.add_argument("--schemas", default="schemas")
    parser.add_argument("--events", type=int, default=200000)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=60)
    args = parser.parse_args()

    name = f"hotpath_bench_{os.getpid()}"
    conninfo = f"{args.postgres} dbname={name}"
    env = dict(
        os.environ,
        HOTPATH_NATS_URL=args.nats, HOTPATH_POSTGRES=conninfo,
        HOTPATH_SCHEMAS_DIR=args.schemas, HOTPATH_SUBJECT_PREFIX=PREFIX,
        HOTPATH_STREAM_PREFIX="HOTPATHBENCH_EVENTS",
        HOTPATH_DEAD_STREAM="HOTPATHBENCH_DEAD",
        HOTPATH_PARTITIONS=str(args.partitions),
        HOTPATH_HEALTH_LISTEN="", HOTPATH_LOG_LEVEL="warn",
    )
    streams = [f"HOTPATHBENCH_EVENTS_{p}" for p in range(args.partitions)]
    streams.append("HOTPATHBENCH_DEAD")

    admin = Postgres(args.postgres)
    admin.run(f"CREATE DATABASE {name}")
    db = None
    try:
        subprocess.run([args.ctl, "migrate"], env=env, check=True,
                       stdout=subprocess.DEVNULL)
        db = Postgres(conninfo)
        parts = [make_events(args.events // args.partitions, p)
                 for p in range(args.partitions)]
        ours, reference = [], []
        for _ in range(args.rounds):
            ours.append(drain_round(args, env, db, parts))
            reference.append(copy_round(args, conninfo, db, parts))
            print(f"drain {ours[-1]:,.0f} rows/s, bare COPY"
                  f" {reference[-1]:,.0f} rows/s", file=sys.stderr)
    finally:
        if db:
            db.close()
        admin.run(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()
        nats = Nats(args.nats)
        for stream in streams:
            nats.request("$JS.API.STREAM.DELETE." + stream)
        nats.close()

    mine, bare = statistics.median(ours), statistics.median(reference)
    print(json.dumps({
        "name": "drain", "ours": round(mine), "reference": round(bare),
        "ratio": round(mine / bare, 3), "unit": "rows/s",
    }))


if __name__ == "__main__":
    main()
