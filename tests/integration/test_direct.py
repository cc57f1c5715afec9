"""hotpath_write ... filters=off: answers that pass no filter.

Byte for byte what nginx's own filters make, and what is logged of it too; where
an answer has to be another one, they make it: add_header says which way an
answer went. What the socket does not take is sent when it does.
"""

import json
import os
import re
import socket
import subprocess
import uuid

import pytest

from servers import local, wait_until
from wire import RawHTTP

H2_PORT = local.free_ports()["http"]
NARROW_PORT = local.free_ports()["http"]
# connects to it are taken by the kernel, and nobody answers
STUCK = socket.create_server((local.HOST, 0))

LOG = ("$status|$body_bytes_sent|$bytes_sent|$sent_http_content_type"
       "|$sent_http_content_length|$sent_http_connection"
       "|$sent_http_location|$request_completion"
       "|$sent_http_idempotent_replayed|")

# what a location has besides, name -> directives
KINDS = {
    "plain": "",
    "tokens_off": "server_tokens off;",
    "tokens_build": "server_tokens build;",
}

# answers that filters=off leaves to nginx all the same
OTHERWISE = {
    "rated": "limit_rate 100k;",
    "timed": "keepalive_timeout 60s 60s;",
    "long": "",
}


def location(name, what, filters, more=""):
    status = "/" + ("x" * 800 if name == "long" else "events/status") + "/"
    return (f"location = /{filters}/{name} {{ hotpath_write direct "
            f"key=required filters={filters} status={status}; "
            f"{what} {more} access_log direct.log direct; }}\n")


SERVER = "".join(
    location(name, what, "off") + location(name, what, "on")
    for name, what in KINDS.items()) + "".join(
    location(name, what, "off", "add_header X-Filtered yes always;")
    for name, what in {"marked": "", **OTHERWISE}.items()) + location(
    "mirrored", "mirror /slow/mirror; mirror_request_body off;", "off") + """
location /slow/ { proxy_pass http://stuck; proxy_read_timeout 1s; }
"""

HTTP = f"""
upstream stuck {{ server {local.HOST}:{STUCK.getsockname()[1]}; }}
log_format direct escape=none "{LOG}$uri";
server {{
    listen 127.0.0.1:{H2_PORT} http2;
    {SERVER}
}}
server {{
    listen 127.0.0.1:{NARROW_PORT} sndbuf=4k;
    keepalive_requests 10000;
    location = /events {{ hotpath_write direct filters=off; }}
}}
"""

STACK = {"workers": 1, "http": HTTP, "server": SERVER,
         "without": ("project",)}


def event(key=None):
    return {"idempotencyKey": key or f"direct-{uuid.uuid4()}",
            "eventType": "page_view", "payload": {"a": 1}}


def whole(client):
    """The next answer's bytes as they came."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.line() + b"\r\n"
    size = int(re.search(rb"Content-Length: (\d+)", head)[1])
    return head + client.exactly(size)


def like(answer):
    """Without what differs from one answer to the next."""
    for what, word in ((rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"ID"),
                       (rb"\r\nDate: [^\r]*", b"\r\nDate: D"),
                       (rb";r=\d+;t=\d+", b";r=R;t=T")):
        answer = re.sub(what, word, answer)
    return answer


def lines_of(stack):
    path = os.path.join(stack.directory, "nginx", "direct.log")
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


@pytest.mark.parametrize("name", KINDS)
def test_same_bytes(own_stack, name):
    answers = {}
    with RawHTTP(own_stack.ports["http"]) as client:
        for filters in ("off", "on"):
            one = event()
            client.post(one, path=f"/{filters}/{name}")
            answers[filters] = [whole(client)]
            client.post(one, path=f"/{filters}/{name}")
            answers[filters].append(whole(client))
    for off, on in zip(answers["off"], answers["on"]):
        assert off.startswith(b"HTTP/1.1 202 Accepted\r\n"), off
        assert like(off) == like(on)
        assert b"\r\nRateLimit: " in off  # from another room
    assert b"Idempotent-Replayed: true\r\n" in answers["off"][1]
    assert re.search(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n",
                     answers["off"][0])

    def lines_here():
        found = [line.rpartition("|") for line in lines_of(own_stack)]
        found = [line for line, _, uri in found if uri.endswith("/" + name)]
        return len(found) == 4 and found

    # nginx logs them alike, and that it was all
    lines = wait_until(lines_here, 10, "all is logged")
    for off, on in zip(lines[:2], lines[2:]):
        assert re.sub(r"status/[-0-9a-f]{36}", "", off) == re.sub(
            r"status/[-0-9a-f]{36}", "", on)
    first = dict(zip(LOG.replace("$", "").split("|"), lines[0].split("|")))
    body = answers["off"][0].partition(b"\r\n\r\n")[2]
    assert first["status"] == "202"
    assert int(first["body_bytes_sent"]) == len(body)
    assert int(first["bytes_sent"]) == len(answers["off"][0])
    assert first["sent_http_location"].endswith(
        json.loads(body)["operationId"])
    assert first["request_completion"] == "OK"
    assert [line.split("|")[-1] for line in lines] == ["", "true"] * 2


def test_no_filter_for_what_is_accepted(own_stack):
    """And for nothing else."""
    with RawHTTP(own_stack.ports["http"]) as client:
        client.post(event(), path="/off/marked")
        answer = client.answer()
        assert (answer.status, answer.headers.get("x-filtered")) == (202, None)
        client.post([event(), event()], path="/off/marked")
        answer = client.answer()
        assert (answer.status, answer.headers["x-filtered"]) == (202, "yes")
        client.post(b'{"a":', path="/off/marked")
        answer = client.answer()
        assert (answer.status, answer.headers["x-filtered"]) == (400, "yes")
        client.post({**event(), "idempotencyKey": ""}, path="/off/marked")
        answer = client.answer()
        assert (answer.status, answer.headers["x-filtered"]) == (400, "yes")


def test_a_request_that_outlives_its_answer(own_stack):
    """It is logged later, as what it was."""
    ids = []
    for path in ("mirrored", "mirrored", "plain"):
        with RawHTTP(own_stack.ports["http"]) as client:
            client.post(event(), path=f"/off/{path}")
            ids.append(client.answer().headers["location"].rpartition("/")[2])
    wait_until(lambda: set(ids) <= {
        line.split("|")[6].rpartition("/")[2]
        for line in lines_of(own_stack)}, 10, "all are logged")


@pytest.mark.parametrize("name", OTHERWISE)
def test_nginx_makes_it(own_stack, name):
    with RawHTTP(own_stack.ports["http"]) as client:
        client.post(event(), path=f"/off/{name}")
        answer = client.answer()
    assert (answer.status, answer.headers["x-filtered"]) == (202, "yes")
    assert ("keep-alive" in answer.headers) == (name == "timed")


@pytest.mark.parametrize("version, line, connection", [
    ("1.0", [], "close"), ("1.0", ["Connection: keep-alive"], "keep-alive"),
    ("1.1", ["Connection: close"], "close")])
def test_other_connections(own_stack, version, line, connection):
    body = json.dumps(event())
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send("\r\n".join([
            f"POST /off/marked HTTP/{version}", "Host: test",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}", *line, "", body]).encode())
        answer = client.answer()
        assert answer.status == 202
        assert answer.headers["x-filtered"] == "yes"
        assert answer.headers["connection"] == connection
        if connection == "close":
            assert client.closed()


def test_http2(own_stack):
    out = subprocess.run(
        ["curl", "-sS", "-i", "--http2-prior-knowledge", "-m", "20", "-H",
         "Content-Type: application/json", "-d", json.dumps(event()),
         f"http://127.0.0.1:{H2_PORT}/off/marked"],
        capture_output=True, text=True, check=True).stdout
    assert out.startswith("HTTP/2 202"), out
    assert "x-filtered: yes" in out


class Pipe:
    """A connection that is asked a lot and read only when it is to be."""

    def __init__(self, requests):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((local.HOST, NARROW_PORT))
        self.socket.setblocking(False)
        self.unsent = requests
        self.received = b""

    def send(self):
        try:
            sent = self.socket.send(self.unsent[:65536])
            self.unsent = self.unsent[sent:]
        except BlockingIOError:
            pass

    def read(self):
        try:
            self.received += self.socket.recv(65536)
        except BlockingIOError:
            pass


def test_a_reader_that_stops(own_stack):
    """What its socket did not take comes later, whole and in order; all is
    accepted once."""
    keys = [f"stops-{uuid.uuid4()}" for _ in range(5000)]
    bodies = [json.dumps(event(key)) for key in keys]
    pipe = Pipe("".join(
        "POST /events HTTP/1.1\r\nHost: test\r\nContent-Type: application/json"
        f"\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        for body in bodies).encode())

    def accepted():
        return own_stack.metric("hotpath_write_requests_total", '"accepted"')

    before = accepted()
    begun = []

    def stuck():
        """Nothing was accepted since many looks."""
        pipe.send()
        begun.append(accepted() - before)
        return begun[-1] and begun[-20:] == [begun[-1]] * 20

    wait_until(stuck, 60, "the worker takes no more")
    assert 0 < begun[-1] < len(keys)

    def done():
        pipe.send()
        pipe.read()
        return pipe.received.count(b'"status":"accepted"}') == len(keys)

    wait_until(done, 60, "all answers are there", 0)
    pipe.socket.close()
    answers = pipe.received.split(b"HTTP/1.1 202 Accepted\r\n")
    assert answers.pop(0) == b""
    assert len(answers) == len(keys)
    assert len({like(answer) for answer in answers}) == 1

    stored = wait_until(lambda: (lambda rows: len(rows) == len(keys) and rows)(
        dict(own_stack.sql(
            "SELECT idempotency_key, operation_id::text FROM hotpath.events"
            " WHERE idempotency_key LIKE 'stops-%%'"))), 30, "all are rows")
    assert [json.loads(answer.partition(b"\r\n\r\n")[2])["operationId"]
            for answer in answers] == [stored[key] for key in keys]
