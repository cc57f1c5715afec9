"""A document in the zone as an answer: what HTTP says about it, to the field.

Header exactness of 200, 304, 404 and HEAD over a raw socket; validators in all
their forms; gzip and Brotli made once and given to whom they are for; fields=;
parts of other answers; HTTP/2. Code under test:
ngx_module/ngx_http_hotpath_serve.c, _head.c and _compress.c.

Documents are pushed as a projector would push them, so that every answer is a
hit; where a miss matters, the row is written by SQL. One worker, so that what
it does in the background is done by the worker that is asked.
"""

import gzip
import http.client
import io
import itertools
import json
import os
import re
import subprocess
import uuid

import brotli
import pytest

from servers import local, wait_until
from wire import Nats, RawAnswer, RawHTTP, golden

PORT_H2 = local.free_ports()["http"]

HTTP = f"""
hotpath_cache_zone zone=coded:16m;
hotpath_cache_zone zone=fields:4m;
hotpath_cache_zone zone=stale:4m;

server {{
    listen 127.0.0.1:{PORT_H2} http2;
    hotpath_tenant default;
    location /coded/ {{
        hotpath_read prices;
        hotpath_cache coded ttl=10m jitter=0% stale=0 compress=200;
    }}
}}
"""

SERVER = """
client_header_buffer_size 64k;

location /coded/ {
    hotpath_read prices;
    hotpath_cache coded ttl=10m jitter=0% stale=0 compress=200;
}
location /both/ {
    hotpath_read prices;
    hotpath_cache coded ttl=10m jitter=0% stale=0 compress=200;
    gzip on;
    gzip_vary on;
    gzip_types application/json;
}
location /gzip/ {
    hotpath_read prices;
    hotpath_cache documents;
    gzip on;
    gzip_types application/json;
    gzip_min_length 1;
}
location /key/ {
    hotpath_read prices;
    hotpath_cache documents status_key;
}
location /stale/ {
    hotpath_read prices;
    hotpath_cache stale ttl=1ms jitter=0% stale=0 revalidate=10m;
}
location /fields/ {
    hotpath_read prices;
    hotpath_cache fields compress=20;
    hotpath_fields on;

    location /fields/named/ {
        hotpath_read prices;
        hotpath_cache fields;
        hotpath_fields only.these;
    }
    location /fields/off/ {
        hotpath_read prices;
        hotpath_cache fields;
        hotpath_fields off;
    }
}
location = /page {
    ssi on;
    ssi_types application/json;
    default_type application/json;
    return 200 '[<!--# include virtual="/coded/$arg_of" -->]';
}
location = /missing {
    error_page 404 /coded/$arg_of;
    return 404;
}
"""

STACK = {"without": ("drain", "project"), "http": HTTP, "server": SERVER,
         "workers": 1}

MODIFIED_US = 1769860800123456
MODIFIED = "Sat, 31 Jan 2026 12:00:00 GMT"
BEFORE = "Sat, 31 Jan 2026 11:59:59 GMT"
AFTER = "Sat, 31 Jan 2026 12:00:01 GMT"

# nginx's own, and those of the sample's limit
OURS = {"server", "date", "connection", "ratelimit", "ratelimit-policy"}

_sequences = itertools.count(1)


def key():
    return uuid.uuid4().hex


def text_of(size, salt="x"):
    """JSON of about so many bytes that shrinks to less than half."""
    entry = '{"product":%d,"amount":19.99,"currency":"EUR","of":"' + salt + '"}'
    entries = [entry % i for i in range(size // len(entry) + 1)]
    return '{"data":[' + ",".join(entries) + "]}"


def store(stack, name, text):
    """A row of the model: what a push is made of, for whom it must be asked."""
    stack.sql(
        "INSERT INTO hotpath.prices VALUES ('default', %s, %s, %s,"
        " timestamptz 'epoch' + %s * interval '1 microsecond', false, 0, 1)",
        (name, 0x4711, text, MODIFIED_US))


def push(stack, name, text, version=0x4711, deleted=0):
    """Into every zone of the model; returns when it is there."""
    body = text if isinstance(text, bytes) else text.encode()
    with Nats(stack.ports["nats"]) as nats:
        before = stack.metric("hotpath_push_documents_total", "stored")
        nats.push("prices", [golden.document(
            body, name.encode(), b"default", version, deleted, MODIFIED_US)],
            700, 1, next(_sequences))
        wait_until(lambda: stack.metric(
            "hotpath_push_documents_total", "stored") > before, 5,
            "the document is in the zones")


def pushed(stack, text, version=0x4711):
    name = key()
    push(stack, name, text, version)
    return name


def ask(stack, path, *headers, method="GET", port=None):
    """One request on a connection of its own, every byte as written."""
    with RawHTTP(port or stack.ports["http"]) as client:
        client.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: test",
                                 *headers]).encode("latin-1") + b"\r\n\r\n")
        if method == "HEAD":
            return head_of(client)
        return client.answer()


def head_of(client):
    status = int(client.line().split()[1])
    headers = {}
    while line := client.line():
        name, _, value = line.decode("latin-1").partition(":")
        assert name.lower() not in headers, f"{name} is there twice"
        headers[name.lower()] = value.strip()
    return RawAnswer(status, headers, b"")


def etag(version=0x4711, suffix=""):
    return f'"{version:016x}{suffix}"'


def plain(body):
    """What a client reads: the body without its coding."""
    coding = body.headers.get("content-encoding")
    if coding == "br":
        return brotli.decompress(body.body)
    return gzip.decompress(body.body) if coding == "gzip" else body.body


def coded(stack, name, path="/coded/", accept="gzip, br"):
    """Asks until the document has its coded bodies; the first coded answer."""
    found = []

    def ready():
        found.append(ask(stack, path + name, f"Accept-Encoding: {accept}"))
        assert found[-1].status == 200
        return "content-encoding" in found[-1].headers
    wait_until(ready, 10, "the document has coded bodies")
    return found[-1]


# What is said of a document.

def test_fields_of_200(own_stack):
    name = pushed(own_stack, '{"amount":1}')
    answer = ask(own_stack, f"/prices/{name}")
    assert answer.status == 200 and answer.body == b'{"amount":1}'
    said = {name: value for name, value in answer.headers.items()
            if name not in OURS}
    assert re.fullmatch(r"[0-2]", said.pop("age"))
    assert re.fullmatch(r"Hotpath; hit; ttl=\d\d", said.pop("cache-status"))
    assert said == {
        "content-type": "application/json", "content-length": "12",
        "etag": etag(), "last-modified": MODIFIED,
        "cache-control": "max-age=60, stale-if-error=600"}


def test_fields_of_200_where_codings_are_made(own_stack):
    name = pushed(own_stack, '{"amount":1}')
    answer = ask(own_stack, f"/coded/{name}")
    assert answer.status == 200
    assert set(answer.headers) == OURS | {
        "content-type", "content-length", "etag", "last-modified", "age",
        "cache-status", "cache-control", "vary"}
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["cache-control"] == "max-age=600"
    assert answer.headers["cache-status"] in (
        "Hotpath; hit; ttl=599", "Hotpath; hit; ttl=600")


@pytest.mark.parametrize("accept", ["identity", "gzip", "br"])
def test_head_is_get_without_its_body(own_stack, accept):
    name = pushed(own_stack, text_of(2000))
    coded(own_stack, name)
    header = f"Accept-Encoding: {accept}"
    get = ask(own_stack, f"/coded/{name}", header)
    head = ask(own_stack, f"/coded/{name}", header, method="HEAD")
    varying = {"date", "age", "cache-status"}
    assert head.status == get.status == 200
    assert {each: value for each, value in head.headers.items()
            if each not in varying} == {
        each: value for each, value in get.headers.items()
        if each not in varying}
    assert set(head.headers) == set(get.headers)
    assert int(head.headers["content-length"]) == len(get.body)


@pytest.mark.parametrize("path, more", [
    ("/prices/", {"cache-control"}), ("/coded/", {"cache-control", "vary"})])
def test_fields_of_304(own_stack, path, more):
    name = pushed(own_stack, '{"amount":1}')
    for header in (f"If-None-Match: {etag()}",
                   f"If-Modified-Since: {MODIFIED}"):
        for method in ("GET", "HEAD"):
            answer = ask(own_stack, path + name, header, method=method)
            assert answer.status == 304
            assert set(answer.headers) == OURS | more | {
                "etag", "age", "cache-status"}
            assert answer.headers["etag"] == etag()


def test_a_304_has_no_body(own_stack):
    """The next answer follows its header at once."""
    name = pushed(own_stack, '{"amount":1}')
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(
            f"GET /prices/{name} HTTP/1.1\r\nHost: t\r\n"
            f"If-None-Match: {etag()}\r\n\r\n"
            f"GET /prices/{name} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        assert head_of(client).status == 304
        assert client.answer().body == b'{"amount":1}'


@pytest.mark.parametrize("path, more", [("/prices/", set()),
                                        ("/coded/", {"vary"})])
def test_fields_of_404(own_stack, path, more):
    """No such document is an answer that the zone keeps, too."""
    name = key()
    push(own_stack, name, "", deleted=1)
    for headers in ([], [f"If-None-Match: {etag()}"], ["If-None-Match: *"]):
        answer = ask(own_stack, path + name, *headers)
        assert answer.status == 404
        assert json.loads(answer.body)["code"] == "document_unknown"
        assert set(answer.headers) == OURS | more | {
            "content-type", "content-length", "age", "cache-status"}
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-status"].startswith("Hotpath; hit; ttl=")
        head = ask(own_stack, path + name, *headers, method="HEAD")
        assert head.status == 404 and set(head.headers) == set(answer.headers)


def test_stale_is_a_negative_ttl(own_stack):
    name = key()
    store(own_stack, name, '{"amount":1}')
    wait_until(lambda: re.fullmatch(
        r"Hotpath; hit; ttl=-[1-9]\d*; detail=stale-while-revalidate",
        ask(own_stack, f"/stale/{name}").headers["cache-status"]), 10,
        "it is given while it is fetched again")


def test_the_key_in_cache_status(own_stack):
    name = pushed(own_stack, '{"amount":1}')
    answer = ask(own_stack, f"/key/{name}")
    assert re.fullmatch(
        rf'Hotpath; hit; ttl=\d+; key="prices/default/{name}"',
        answer.headers["cache-status"])


def test_range_is_left_alone(own_stack):
    name = pushed(own_stack, '{"amount":1}')
    for headers in (["Range: bytes=0-3"],
                    ["Range: bytes=0-3", f"If-Range: {etag()}"]):
        answer = ask(own_stack, f"/prices/{name}", *headers)
        assert answer.status == 200 and answer.body == b'{"amount":1}'
        assert "accept-ranges" not in answer.headers
        assert "content-range" not in answer.headers


# Validators.

@pytest.mark.parametrize("value, status", [
    (etag(), 304), ("*", 304), ("W/" + etag(), 304),
    (f'"a", W/"b", {etag()}', 304), (f"{etag()},", 304),
    (etag(0x4712), 200), (etag(suffix="-gzip"), 200), ('"*"', 200),
    ("4711", 200), ("", 200), (f"{etag()}, a", 200), (f"*, {etag()}", 200),
    ("0000000000004711", 200), ("w/" + etag(), 200),
])
def test_if_none_match(own_stack, value, status):
    name = pushed(own_stack, '{"amount":1}')
    answer = ask(own_stack, f"/prices/{name}", f"If-None-Match: {value}")
    assert answer.status == status
    # it decides alone
    answer = ask(own_stack, f"/prices/{name}", f"If-None-Match: {value}",
                 f"If-Modified-Since: {BEFORE if status == 304 else AFTER}")
    assert answer.status == status


@pytest.mark.parametrize("value, status", [
    (MODIFIED, 304), (AFTER, 304), ("Saturday, 31-Jan-26 12:00:00 GMT", 304),
    ("Sat Jan 31 12:00:00 2026", 304), (BEFORE, 200), ("", 200),
    ("yesterday", 200), (MODIFIED + ", " + MODIFIED, 200),
])
def test_if_modified_since(own_stack, value, status):
    name = pushed(own_stack, '{"amount":1}')
    answer = ask(own_stack, f"/prices/{name}", f"If-Modified-Since: {value}")
    assert answer.status == status


@pytest.mark.parametrize("header, status", [
    (f"If-Match: {etag()}", 200), ("If-Match: *", 200),
    (f'If-Match: "a", {etag()}', 200), ('If-Match: "a"', 412),
    (f"If-Match: W/{etag()}", 412), (f"If-Match: {etag()}, a", 412),
    (f"If-Unmodified-Since: {MODIFIED}", 200),
    (f"If-Unmodified-Since: {AFTER}", 200),
    (f"If-Unmodified-Since: {BEFORE}", 412),
    ("If-Unmodified-Since: yesterday", 200),
])
def test_if_match(own_stack, header, status):
    name = pushed(own_stack, '{"amount":1}')
    answer = ask(own_stack, f"/prices/{name}", header)
    assert answer.status == status
    if status == 412:
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["code"] == "precondition_failed"
        answer = ask(own_stack, f"/prices/{name}", header,
                     f"If-None-Match: {etag()}")
        assert answer.status == 412


def test_a_new_version_is_another_tag(own_stack):
    name = pushed(own_stack, '{"amount":1}', 5)
    push(own_stack, name, '{"amount":2}', 6)
    answer = ask(own_stack, f"/prices/{name}", f"If-None-Match: {etag(5)}")
    assert answer.status == 200 and answer.headers["etag"] == etag(6)
    assert ask(own_stack, f"/prices/{name}",
               f"If-None-Match: {etag(6)}").status == 304


def test_a_miss_is_conditional_too(own_stack):
    name = key()
    store(own_stack, name, "{}")
    answer = ask(own_stack, f"/coded/{name}", f"If-None-Match: {etag()}")
    assert answer.status == 304
    assert "fwd=uri-miss; stored; ttl=" in answer.headers["cache-status"]


# Codings.

def test_coded_bodies_are_made_once(own_stack):
    text = text_of(5000)
    name = pushed(own_stack, text)
    before = {each: own_stack.metric(each) for each in (
        "hotpath_compressed_total", "hotpath_compress_saved_bytes_total")}
    first = ask(own_stack, f"/coded/{name}", "Accept-Encoding: gzip, br")
    assert "content-encoding" not in first.headers
    assert first.body == text.encode() and first.headers["etag"] == etag()

    found = {"br": coded(own_stack, name), "gzip": coded(
        own_stack, name, accept="gzip")}
    for coding, answer in found.items():
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["etag"] == etag(suffix=f"-{coding}")
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["last-modified"] == MODIFIED
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert plain(answer) == text.encode()
        assert len(answer.body) < len(text) / 2
        for _ in range(5):
            again = coded(own_stack, name, accept=coding)
            assert again.body == answer.body

    assert own_stack.metric("hotpath_compressed_total") == \
        before["hotpath_compressed_total"] + 1
    assert own_stack.metric("hotpath_compress_saved_bytes_total") == \
        before["hotpath_compress_saved_bytes_total"] + len(text) - min(
            len(answer.body) for answer in found.values())


@pytest.mark.parametrize("accept, coding", [
    (None, None), ("", None), ("identity", None), ("deflate", None),
    ("gzip", "gzip"), ("x-gzip", "gzip"), ("GZIP", "gzip"), ("br", "br"),
    ("gzip, br", "br"), ("br, gzip", "br"), ("gzip, deflate, br, zstd", "br"),
    ("*", "br"), ("gzip;q=1.0, br;q=0.5", "gzip"), ("gzip;q=0, br", "br"),
    ("br;q=0, *", "gzip"), ("br;q=0, gzip;q=0", None), ("*;q=0", None),
    ("identity, gzip;q=0.5", None), ("identity;q=0.5, gzip", "gzip"),
    ("gzip;q=0.001", "gzip"), ("gzip;q=2", None), ("gzip;level=1", None),
    ("identity;q=0, gzip", "gzip"), ("identity;q=0", None),
    (", gzip ,", "gzip"), ("gzip" + ", " * 100, "gzip"),
])
def test_who_gets_which(own_stack, accept, coding):
    text = text_of(1000)
    name = pushed(own_stack, text)
    coded(own_stack, name)
    headers = [] if accept is None else [f"Accept-Encoding: {accept}"]
    for _ in range(2):  # read, then remembered
        answer = ask(own_stack, f"/coded/{name}", *headers)
        assert answer.headers.get("content-encoding") == coding
        assert answer.headers["etag"] == etag(
            suffix=f"-{coding}" if coding else "")
        assert answer.headers["vary"] == "Accept-Encoding"
        assert plain(answer) == text.encode()


@pytest.mark.parametrize("accept, have, status", [
    ("br", "-br", 304), ("gzip", "-gzip", 304), ("gzip, br", "-gzip", 304),
    ("gzip, br", "", 304), ("identity", "", 304), ("identity", "-gzip", 200),
    ("gzip", "-br", 200), ("gzip;q=1, br;q=0.1", "-br", 200),
    ("gzip, br", "-deflate", 200),
])
def test_a_tag_of_any_coding_that_is_taken(own_stack, accept, have, status):
    name = pushed(own_stack, text_of(1000))
    coded(own_stack, name)
    header = f"Accept-Encoding: {accept}"
    answer = ask(own_stack, f"/coded/{name}", header,
                 f"If-None-Match: {etag(suffix=have)}")
    assert answer.status == status
    if status == 304:
        assert answer.headers["etag"] == etag(suffix=have)
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in answer.headers
    assert ask(own_stack, f"/coded/{name}", header,
               f"If-Match: {etag(suffix=have)}").status == (
        200 if status == 304 else 412)


def test_a_new_version_has_no_old_codings(own_stack):
    name = pushed(own_stack, text_of(1000, "old"), 5)
    assert coded(own_stack, name).headers["etag"] == etag(5, "-br")
    text = text_of(1000, "new")
    push(own_stack, name, text, 6)
    answer = ask(own_stack, f"/coded/{name}", "Accept-Encoding: br")
    assert "content-encoding" not in answer.headers
    assert answer.body == text.encode() and answer.headers["etag"] == etag(6)
    answer = coded(own_stack, name)
    assert plain(answer) == text.encode()
    assert answer.headers["etag"] == etag(6, "-br")


def test_what_is_small_or_does_not_shrink_is_left(own_stack):
    """A document after each of them shows that its turn has passed."""
    small = pushed(own_stack, '{"text":"' + "a" * 180 + '"}')
    noise = pushed(own_stack, json.dumps(os.urandom(600).hex()[:999]))
    random = pushed(own_stack, os.urandom(5000))
    header = "Accept-Encoding: gzip, br"
    for name in (small, random):
        for _ in range(3):
            ask(own_stack, f"/coded/{name}", header)
        coded(own_stack, pushed(own_stack, text_of(1000)))
        answer = ask(own_stack, f"/coded/{name}", header)
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Accept-Encoding"
    # half of the bytes of hexadecimal digits can be saved
    assert len(coded(own_stack, noise).body) < 900


def test_a_large_document_is_coded_in_slices(own_stack):
    """While it is made, requests go on: those for it get it uncoded. On a busy
    machine the client may miss that, but not five times."""
    text = text_of(900000)

    def uncoded():
        name = pushed(own_stack, text)
        count = 0
        with RawHTTP(own_stack.ports["http"]) as client:
            while True:
                client.send(f"HEAD /coded/{name} HTTP/1.1\r\nHost: t\r\n"
                            "Accept-Encoding: gzip\r\n\r\n".encode())
                answer = head_of(client)
                assert answer.status == 200
                if "content-encoding" in answer.headers:
                    break
                assert answer.headers["content-length"] == str(len(text))
                count += 1
        for accept in ("gzip", "br"):
            assert plain(coded(own_stack, name, accept=accept)) == \
                text.encode()
        return count
    assert any(uncoded() >= 10 for _ in range(5))


def test_more_jobs_than_the_queue_holds(own_stack):
    """One turn brings more documents than 64: the others are dropped, counted,
    and made when they are asked for again."""
    text = text_of(1000)
    names = [pushed(own_stack, text) for _ in range(80)]
    before = own_stack.metric("hotpath_compress_dropped_total")
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send("".join(
            f"GET /coded/{name} HTTP/1.1\r\nHost: t\r\n"
            "Accept-Encoding: gzip\r\n\r\n" for name in names).encode())
        for _ in names:
            assert client.answer().body == text.encode()
    assert own_stack.metric("hotpath_compress_dropped_total") == before + 16
    for name in names:
        assert plain(coded(own_stack, name)) == text.encode()


def test_nginx_own_gzip_leaves_it_alone(own_stack):
    text = text_of(3000)
    name = pushed(own_stack, text)
    coded(own_stack, name)
    for accept in ("gzip", "br"):
        answer = coded(own_stack, name, "/both/", accept)
        assert answer.headers["content-encoding"] == accept
        assert plain(answer) == text.encode()
        assert answer.headers["etag"] == etag(suffix=f"-{accept}")


def test_nginx_own_gzip_makes_the_tag_weak(own_stack):
    """Where only nginx codes: what its filter does to any strong tag."""
    text = text_of(3000)
    name = pushed(own_stack, text)
    answer = ask(own_stack, f"/gzip/{name}", "Accept-Encoding: gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert plain(answer) == text.encode()
    assert answer.headers["etag"] == "W/" + etag()
    assert ask(own_stack, f"/gzip/{name}", "Accept-Encoding: gzip",
               f"If-None-Match: W/{etag()}").status == 304


# Members.

DOCUMENT = '{"a":1,"b":{"c":[1,2]},"\\u00e4":"x","d e":null,"f,g":true}'


@pytest.mark.parametrize("query, body", [
    ("fields=a", '{"a":1}'), ("fields=b,a", '{"a":1,"b":{"c":[1,2]}}'),
    ("fields=a,b,a", '{"a":1,"b":{"c":[1,2]}}'), ("fields=c", "{}"),
    ("fields=%C3%A4", '{"\\u00e4":"x"}'), ("fields=d+e", '{"d e":null}'),
    ("fields=d%20e", '{"d e":null}'), ("fields=a%2Cb",
                                       '{"a":1,"b":{"c":[1,2]}}'),
    ("x=1&fields=a&y", '{"a":1}'), ("field=a", DOCUMENT), ("x=fields=a",
                                                           DOCUMENT),
])
def test_fields(own_stack, query, body):
    name = pushed(own_stack, DOCUMENT)
    answer = ask(own_stack, f"/fields/{name}?{query}")
    assert answer.status == 200 and answer.body == body.encode()
    assert int(answer.headers["content-length"]) == len(body)
    whole = body == DOCUMENT
    assert (answer.headers["etag"] == etag()) == whole
    head = ask(own_stack, f"/fields/{name}?{query}", method="HEAD")
    assert head.headers["content-length"] == str(len(body))
    assert head.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("query", [
    "fields", "fields=", "fields=,", "fields=a,", "fields=a&fields=b",
    "fields=%zz", "fields=%00", "fields=a%0A", "fields=%ff",
    "fields=" + "a" * 65, "fields=" + ",".join(map(str, range(33))),
])
def test_fields_that_are_none(own_stack, query):
    name = pushed(own_stack, DOCUMENT)
    answer = ask(own_stack, f"/fields/{name}?{query}")
    assert answer.status == 400
    assert json.loads(answer.body)["code"] == "fields_invalid"


@pytest.mark.parametrize("document", ["[1]", '"a"', "1", "null"])
def test_fields_of_what_has_none(own_stack, document):
    name = pushed(own_stack, document)
    assert ask(own_stack, f"/fields/{name}").body == document.encode()
    answer = ask(own_stack, f"/fields/{name}?fields=a")
    assert json.loads(answer.body)["code"] == "fields_invalid"


def test_tags_of_selections(own_stack):
    name = pushed(own_stack, DOCUMENT)
    tags = {query: ask(own_stack, f"/fields/{name}?fields={query}"
                       ).headers["etag"]
            for query in ("a", "b", "a,b", "b,a", "ab", "zz")}
    assert tags["a,b"] == tags["b,a"]
    assert len(set(tags.values()) | {etag()}) == 6
    for query, tag in tags.items():
        for other in {etag(), *tags.values()}:
            answer = ask(own_stack, f"/fields/{name}?fields={query}",
                         f"If-None-Match: {other}", "Accept-Encoding: br")
            assert answer.status == (304 if other == tag else 200)
            assert answer.headers["etag"] == tag
    assert ask(own_stack, f"/fields/{name}",
               f"If-None-Match: {tags['a']}").status == 200
    push(own_stack, name, DOCUMENT, 0x4712)
    assert ask(own_stack, f"/fields/{name}?fields=a",
               f"If-None-Match: {tags['a']}").status == 200


def test_selections_are_not_coded(own_stack):
    text = '{"a":"' + "x" * 5000 + '","b":1}'
    name = pushed(own_stack, text)
    coded(own_stack, name, "/fields/")
    answer = ask(own_stack, f"/fields/{name}?fields=a", "Accept-Encoding: br")
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"
    assert json.loads(answer.body) == {"a": "x" * 5000}
    answer = ask(own_stack, f"/fields/{name}?other=a", "Accept-Encoding: br")
    assert plain(answer) == text.encode()


def test_the_argument_by_another_name_and_not_at_all(own_stack):
    name = pushed(own_stack, DOCUMENT)
    for path, query, body in (
            ("named/", "fields=a", DOCUMENT),
            ("named/", "only.these=a", '{"a":1}'),
            ("off/", "fields=a", DOCUMENT)):
        answer = ask(own_stack, f"/fields/{path}{name}?{query}")
        assert answer.body == body.encode()


@pytest.mark.parametrize("value, complaint", [
    ("", "invalid number of arguments"), ("a b", "invalid number of"),
    ('"a b"', "invalid argument name"), ('""', "invalid argument name"),
    ("a=", "invalid argument name"), ("on; hotpath_fields off", "duplicate"),
])
def test_configuration_errors(own_stack, tmp_path, value, complaint):
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"load_module {own_stack.module};\nevents {{}}\nhttp {{\n"
        f"hotpath_fields {value};\n}}\n")
    done = subprocess.run(
        [own_stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path),
         "-c", str(conf)],
        capture_output=True, text=True, timeout=60, check=False,
        env=own_stack["nginx"].env)
    assert done.returncode != 0 and complaint in done.stderr


# On the way to the client.

def test_a_part_of_another_answer(own_stack):
    """A subrequest is neither conditional nor coded, whatever the client says
    of the whole."""
    text = text_of(1000)
    name = pushed(own_stack, text)
    coded(own_stack, name)
    answer = ask(own_stack, f"/page?of={name}", "Accept-Encoding: gzip, br",
                 f"If-None-Match: {etag()}", f"If-Modified-Since: {AFTER}")
    assert answer.status == 200
    assert answer.body == b"[" + text.encode() + b"]"


def test_as_an_error_page(own_stack):
    name = pushed(own_stack, '{"amount":1}')
    answer = ask(own_stack, f"/missing?of={name}", f"If-None-Match: {etag()}")
    assert answer.status == 404 and answer.body == b'{"amount":1}'


def test_http_1_0(own_stack):
    name = pushed(own_stack, '{"amount":1}')
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(f"GET /prices/{name} HTTP/1.0\r\n\r\n".encode())
        answer = client.answer()
        assert answer.status == 200 and answer.body == b'{"amount":1}'
        assert client.closed()


def test_http_2(own_stack):
    text = text_of(3000)
    name = pushed(own_stack, text)
    coded(own_stack, name)

    def curl(*headers, method="GET"):
        done = subprocess.run(
            ["curl", "-sS", "--http2-prior-knowledge", "-D", "-", "-m", "20",
             f"http://127.0.0.1:{PORT_H2}/coded/{name}",
             *(["-I", "-o", "/dev/null"] if method == "HEAD" else []),
             *(word for header in headers for word in ("-H", header))],
            capture_output=True, check=True, timeout=60)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0].startswith("HTTP/2 ")
        headers = http.client.parse_headers(
            io.BytesIO(head.partition(b"\r\n")[2] + b"\r\n\r\n"))
        return RawAnswer(int(lines[0].split()[1]), headers, body)

    same = {"server", "date", "etag", "age", "cache-status", "cache-control",
            "vary"}
    for coding, suffix in ((None, ""), ("gzip", "-gzip"), ("br", "-br")):
        accept = [f"Accept-Encoding: {coding}"] if coding else []
        answer = curl(*accept)
        assert answer.status == 200 and plain(answer) == text.encode()
        assert set(answer.headers) == same | {
            "content-type", "content-length", "last-modified"} | (
            {"content-encoding"} if coding else set())
        assert answer.headers["etag"] == etag(suffix=suffix)
        assert int(answer.headers["content-length"]) == len(answer.body)
        again = curl(*accept, f"If-None-Match: {etag(suffix=suffix)}")
        assert again.status == 304 and set(again.headers) == same
        assert again.body == b""
    head = curl(method="HEAD")
    assert head.headers["content-length"] == str(len(text))
