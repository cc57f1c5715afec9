"""Pipelined requests: answers in order, whole, none held back.

nginx_module's gather room keeps an answer while the next request stands in the
buffer already. What must never be seen of that: another order, other bytes, an
answer that waits for a request that is slow, unfinished or wrong. Model rows
are written by SQL.
"""

import random
import socket
import uuid

import pytest

from servers import wait_until
from wire import RawHTTP

HTTP = """
hotpath_cache_zone zone=pipeline:16m;
"""

SERVER = """
client_header_buffer_size 4k;
location /docs/ { hotpath_read prices; hotpath_cache pipeline ttl=1h; }
location /docs/slow/ {
    hotpath_read prices;
    hotpath_cache pipeline ttl=1h;
    hotpath_read_statement "SELECT 1::bigint, '{}', 1::bigint, false
        FROM pg_sleep(0.4) WHERE $1 <> '' AND $2 <> ''";
}
location /docs/closed { return 444; }
location /plain/ { default_type text/plain; return 200 "plain $uri"; }
location /rated/ {
    hotpath_read prices; hotpath_cache pipeline ttl=1h; limit_rate 1000k;
}
"""

STACK = {"workers": 1, "http": HTTP, "server": SERVER,
         "without": ("drain", "project")}

SIZES = (1, 100, 1400, 5000, 20000, 200000)


@pytest.fixture(scope="module")
def documents(own_stack):
    """name -> body, all of them in the zone."""
    made = {}
    for i in range(24):
        name = f"{i}-{uuid.uuid4().hex}"
        made[name] = ('"' + f"{i:x}" * SIZES[i % len(SIZES)] + '"').encode()
        own_stack.sql("INSERT INTO hotpath.prices VALUES ('default', %s, 1,"
                      " %s, now(), false, 0, 1)", (name, made[name].decode()))
    for name, body in made.items():
        assert own_stack.get(f"/docs/{name}").body == body
        assert own_stack.get(f"/docs/{name}").body == body
    return made


def get(path, *headers, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: t", *headers,
                        "", ""]).encode()


@pytest.mark.parametrize("cut", [1 << 20, 997, 61])
def test_in_order_and_whole(own_stack, documents, cut):
    """Whatever the pieces in which the requests come."""
    rand = random.Random(cut)
    names = [rand.choice(list(documents)) for _ in range(300)]
    text = b"".join(get(f"/docs/{name}") for name in names)
    with RawHTTP(own_stack.ports["http"]) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = 0
        for i, name in enumerate(names):
            while sent < len(text) and sent < (i + 40) * 60:
                client.send(text[sent:sent + cut])
                sent += cut
            answer = client.answer()
            assert (answer.status, answer.body) == (200, documents[name])


def test_among_others(own_stack, documents):
    """What nginx and other rooms answer comes in its place."""
    small = [name for name, body in documents.items() if len(body) < 2000]
    rand = random.Random(7)
    asked = []
    for _ in range(200):
        name = rand.choice(small)
        asked.append(rand.choice([
            (get(f"/docs/{name}"), 200, documents[name]),
            (get(f"/docs/{name}", 'If-None-Match: *'), 304, b""),
            (get(f"/docs/unknown-{name}"), 404, None),
            (get("/plain/x"), 200, b"plain /plain/x"),
            (get(f"/docs/{name}", method="DELETE"), 405, None),
        ]))
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(b"".join(each[0] for each in asked))
        for _, status, body in asked:
            answer = client.answer()
            assert answer.status == status
            assert body is None or answer.body == body


def test_head_among_them(own_stack, documents):
    name, body = next(iter(documents.items()))
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(get(f"/docs/{name}", method="HEAD") * 3
                    + get(f"/docs/{name}"))
        for _ in range(3):
            assert client.line() == b"HTTP/1.1 200 OK"
            while client.line():
                pass
        assert client.answer().body == body


def test_a_slow_one_holds_nobody_up(own_stack, documents):
    names = list(documents)[:5]
    with RawHTTP(own_stack.ports["http"]) as client:
        client.socket.settimeout(0.3)
        client.send(b"".join(get(f"/docs/{name}") for name in names)
                    + get(f"/docs/slow/{uuid.uuid4().hex}")
                    + get(f"/docs/{names[0]}"))
        for name in names:
            assert client.answer().body == documents[name]
        client.socket.settimeout(10)
        assert client.answer().body == b"{}"
        assert client.answer().body == documents[names[0]]


def test_an_unfinished_one_holds_nobody_up(own_stack, documents):
    names = list(documents)[:3]
    with RawHTTP(own_stack.ports["http"]) as client:
        client.socket.settimeout(5)
        text = get(f"/docs/{names[0]}")
        client.send(text + get(f"/docs/{names[1]}") + text[:40])
        assert client.answer().body == documents[names[0]]
        assert client.answer().body == documents[names[1]]
        client.send(text[40:])
        assert client.answer().body == documents[names[0]]


def test_a_wrong_one_comes_last(own_stack, documents):
    names = list(documents)[:3]
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(b"".join(get(f"/docs/{name}") for name in names)
                    + b"GET /docs/\x01 HTTP/9.9\r\n\r\n")
        for name in names:
            assert client.answer().body == documents[name]
        assert client.answer().status in (400, 505)
        assert client.closed()


def test_the_last_closes(own_stack, documents):
    names = list(documents)[:3]
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(get(f"/docs/{names[0]}") + get(f"/docs/{names[1]}")
                    + get(f"/docs/{names[2]}", "Connection: close"))
        for name in names:
            assert client.answer().body == documents[name]
        assert client.closed()


def test_a_reader_that_stops(own_stack, documents):
    """The socket takes no more in the middle of kept answers."""
    names = list(documents) * 12
    with RawHTTP(own_stack.ports["http"]) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.socket.setblocking(False)
        text = b"".join(get(f"/docs/{name}") for name in names)
        sent = 0

        def push():
            nonlocal sent
            try:
                sent += client.socket.send(text[sent:])
            except BlockingIOError:
                pass
            return sent == len(text)
        push()
        # others are served meanwhile
        wait_until(lambda: own_stack.get("/plain/x").status == 200, 5, "-")
        client.socket.setblocking(True)
        client.socket.settimeout(20)
        for name in names:
            if sent < len(text):
                client.socket.setblocking(False)
                push()
                client.socket.settimeout(20)
            assert client.answer().body == documents[name]


def test_a_limited_rate(own_stack, documents):
    small = [name for name, body in documents.items() if len(body) < 2000]
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(b"".join(get(f"/rated/{name}") for name in small))
        for name in small:
            assert client.answer().body == documents[name]


def test_clients_that_vanish(own_stack, documents):
    names = list(documents)
    for i in range(200):
        with RawHTTP(own_stack.ports["http"]) as client:
            client.send(b"".join(get(f"/docs/{name}")
                                 for name in names[:i % 20 + 1]))
    test_in_order_and_whole(own_stack, documents, 997)


def test_many_connections(own_stack, documents):
    """More than there are buffers."""
    small = [name for name, body in documents.items() if len(body) < 2000]
    text = b"".join(get(f"/docs/{name}") for name in small)
    clients = [RawHTTP(own_stack.ports["http"]) for _ in range(150)]
    for client in clients:
        client.send(text)
    for client in clients:
        for name in small:
            assert client.answer().body == documents[name]
        client.close()


def test_reload_in_between(own_stack, documents):
    names = list(documents)[:8]
    clients = [RawHTTP(own_stack.ports["http"]) for _ in range(10)]
    text = b"".join(get(f"/docs/{name}") for name in names)
    for client in clients:
        client.send(text)
    own_stack.reload()
    for client in clients:
        for name in names:
            answer = client.answer()
            assert answer.body == documents[name]
            if answer.headers["connection"] == "close":
                break
        client.close()
