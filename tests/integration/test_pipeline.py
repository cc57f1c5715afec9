"""Answers that are kept: in order, whole, none held back.

The module's gather room keeps an answer until the end of the turn of the event
loop, or while the next request stands in the buffer already. What must never
be seen of that: another order, other bytes, an answer that waits for a request
that is slow, unfinished or wrong, one that is lost with a connection that was
closed too early. Model rows are written by SQL.
"""

import os
import random
import socket
import time
import uuid

import pytest

from servers import wait_until
from wire import RawHTTP

HTTP = """
hotpath_cache_zone zone=pipeline:16m;
log_format kept escape=none "$uri $sent_http_etag $sent_http_age $status";
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
location /few/ {
    hotpath_read prices; hotpath_cache pipeline ttl=1h; keepalive_requests 3;
}
location /piecemeal/ {
    hotpath_read prices; hotpath_cache pipeline ttl=1h; limit_rate 8k;
}
location /mirrored/ {
    hotpath_read prices; hotpath_cache pipeline ttl=1h;
    mirror /docs/slow/mirror; access_log kept.log kept;
}
location /rated/ {
    hotpath_read prices; hotpath_cache pipeline ttl=1h; limit_rate 1000k;
}
"""

STACK = {"workers": 1, "http": HTTP, "server": SERVER,
         "without": ("drain", "project")}

SIZES = (1, 100, 1400, 5000, 12000, 20000, 200000)


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
    alone(own_stack)


def alone(own_stack):
    """A worker that ends closes connections that have asked nothing yet."""
    wait_until(lambda: len(own_stack.nginx_workers()) == 1, 10,
               "the old worker is gone")


def together(own_stack, texts):
    """One client for each text, all sent before any answer is read."""
    clients = [RawHTTP(own_stack.ports["http"]) for _ in texts]
    for client, text in zip(clients, texts):
        client.send(text)
    return clients


def test_one_request_each(own_stack, documents):
    """On more connections than there are buffers, several times."""
    names = [list(documents)[i % len(documents)] for i in range(200)]
    clients = together(own_stack, [get(f"/docs/{name}") for name in names])
    for _ in range(3):
        for client, name in zip(clients, names):
            assert client.answer().body == documents[name]
        names = names[1:] + names[:1]
        for client, name in zip(clients, names):
            client.send(get(f"/docs/{name}"))
    for client, name in zip(clients, names):
        assert client.answer().body == documents[name]
        client.close()


def test_a_client_that_says_no_more(own_stack, documents):
    """Its end of the connection is closed behind the request."""
    for name in list(documents) * 5:
        with RawHTTP(own_stack.ports["http"]) as client:
            client.send(get(f"/docs/{name}"))
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer().body == documents[name]
            assert client.closed()


def test_the_last_that_is_allowed(own_stack, documents):
    name = next(iter(documents))
    with RawHTTP(own_stack.ports["http"]) as client:
        for last in (False, False, True):
            client.send(get(f"/few/{name}"))
            answer = client.answer()
            assert answer.body == documents[name]
            assert (answer.headers["connection"] == "close") == last
        assert client.closed()


def test_errors_and_not_modified(own_stack, documents):
    name = next(iter(documents))
    etag = own_stack.get(f"/docs/{name}").headers["ETag"]
    texts = [get(f"/docs/{name}"),
             get(f"/docs/{name}", f"If-None-Match: {etag}"),
             get(f"/docs/{name}", "If-Match: other"),
             get(f"/docs/{name}", method="DELETE"), get("/docs/absent")] * 20
    for client, status in zip(together(own_stack, texts),
                              (200, 304, 412, 405, 404) * 20):
        answer = client.answer()
        assert answer.status == status
        assert status != 200 or answer.body == documents[name]
        client.close()


def test_a_request_that_outlives_its_answer(own_stack, documents):
    """A mirror is slow: the log line, which comes later, says what was sent,
    and others were sent from the same buffers meanwhile."""
    small = [name for name, body in documents.items() if len(body) < 2000]
    for i in range(10):
        own_stack.sql("UPDATE hotpath.prices SET version = %s WHERE key = %s",
                      (1000 + i, small[i % len(small)]))
    texts = [get(f"/mirrored/{name}") for name in small]
    clients = together(own_stack, texts)
    expected = set()
    for client, name in zip(clients, small):
        answer = client.answer()
        assert answer.body == documents[name]
        expected.add(f"/mirrored/{name} {answer.headers['etag']} "
                     f"{answer.headers['age']} 200")
    test_one_request_each(own_stack, documents)
    path = os.path.join(own_stack.directory, "nginx", "kept.log")

    def logged():
        with open(path, encoding="utf-8") as file:
            return set(file.read().splitlines())
    wait_until(lambda: expected <= logged(), 10, "all are logged")
    for client in clients:
        client.close()


def ask_unread(own_stack, client, name, most):
    """Asks one after the other, up to most times, and reads nothing: how many
    were begun before the worker took no more."""
    for count in range(most):
        before = reads(own_stack)
        client.send(get(f"/docs/{name}"))
        until = time.monotonic() + 1
        while reads(own_stack) == before:
            if time.monotonic() > until:
                return count
    return most


def reads(own_stack):
    return own_stack.metric("hotpath_read_requests_total")


def small_window(own_stack):
    client = RawHTTP(own_stack.ports["http"])
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262144)
    client.socket.settimeout(20)
    return client


def test_a_reader_that_never_began(own_stack, documents):
    """What its socket did not take is sent when it does; also by a worker
    that is ending, where nginx takes the connection for an idle one."""
    name = next(name for name, body in documents.items()
                if 10000 < len(body) < 14000)
    with small_window(own_stack) as client:
        begun = ask_unread(own_stack, client, name, 2000)
        assert 10 < begun < 2000
        for _ in range(begun + 1):
            assert client.answer().body == documents[name]

    # on one of them the last that was asked for was not sent, and there is no
    # request
    clients = [small_window(own_stack) for _ in range(6)]
    for i, client in enumerate(clients):
        count = begun - i
        assert ask_unread(own_stack, client, name, count) == count
    own_stack.reload()
    for i, client in enumerate(clients):
        for _ in range(begun - i):
            assert client.answer().body == documents[name]
        client.close()
    alone(own_stack)


def test_an_answer_in_pieces(own_stack, documents):
    """Its rest waits in a buffer that nobody else writes to meanwhile; others
    get theirs from the buffers that are left."""
    name, other, *_ = [name for name, body in documents.items()
                       if 10000 < len(body) < 14000]
    slow = [RawHTTP(own_stack.ports["http"]) for _ in range(70)]
    for client in slow:
        client.send(get(f"/piecemeal/{name}"))
        assert client.line() == b"HTTP/1.1 200 OK"
    with RawHTTP(own_stack.ports["http"]) as client:
        for _ in range(100):
            client.send(get(f"/docs/{other}"))
            assert client.answer().body == documents[other]
    for client in slow:
        client.buffer = b"HTTP/1.1 200 OK\r\n" + client.buffer
        assert client.answer().body == documents[name]
        client.close()
