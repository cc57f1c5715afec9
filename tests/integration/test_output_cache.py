"""hotpath_cache in front of an upstream: what it is asked for, and how often.

What a hit is, keys, methods, and the other parts of nginx that have a say:
ngx_module/ngx_http_hotpath_output.c, ask and relay, against an origin that
answers what a test tells it to (tests/origin.py). Nearly every assertion is a
count of the origin's requests. Only nginx runs: this needs no broker and no
database.

What may be stored is in test_output_rules.py, requests that wait for one
another in test_output_collapse.py, an origin that misbehaves in
tests/faults/test_upstream.py.
"""

import gzip
import re
import socket
import subprocess
import threading

import pytest

import cached
from cached import OVER, STALE, get, status, stored, twice
from origin import Reply
from servers import Client, local, wait_until
from wire import RawHTTP, config

STACK = cached.options


# What a hit is.

def test_hit(nginx_only, origin, path):
    origin[path] = Reply("h\0llo", Content_Type="text/html; charset=koi8-r",
                         ETag='"7"', X_Own="one", Link=["<a>", "<b>"],
                         Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT",
                         Date="Sun, 06 Nov 2022 08:49:37 GMT")
    first, second, asked = twice(nginx_only, origin, path)
    assert asked == 1
    assert first.status == second.status == 200
    assert first.body == second.body == b"h\0llo"
    for name in ("Content-Type", "ETag", "X-Own", "Last-Modified",
                 "Content-Length"):
        assert first.headers[name] == second.headers[name] is not None, name
    assert second.headers.get_all("Link") == ["<a>", "<b>"]
    assert second.headers["Date"] == "Sun, 06 Nov 2022 08:49:37 GMT"
    assert second.headers["Age"] == "0"
    shown = status(first)
    assert shown.pop("ttl") in ("59", "60")
    assert shown == {"fwd": "uri-miss", "fwd-status": "200", "stored": ""}
    shown = status(second)
    assert shown.pop("ttl") in ("59", "60")
    assert shown == {"hit": ""}
    assert first.headers["Connection"] == second.headers["Connection"]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 70000, 1000000])
@pytest.mark.parametrize("chunked", [False, True])
def test_every_size(nginx_only, origin, path, size, chunked):
    body = bytes(index * 7 % 251 for index in range(size))
    origin[path] = Reply(body, chunked=chunked)
    first, second, asked = twice(nginx_only, origin, path)
    assert first.body == second.body == body
    assert asked == 1 and "hit" in status(second)


def test_two_workers_share(nginx_only, origin, path):
    origin[path] = Reply("x")
    for _ in range(20):
        assert get(nginx_only, path).body == b"x"
    assert origin.count(path) == 1


def test_counters(nginx_only, origin, path):
    names = [("hotpath_output_requests_total", 'result="hit"'),
             ("hotpath_output_requests_total", 'result="miss"'),
             ("hotpath_output_requests_total", 'result="passed"'),
             ("hotpath_output_answers_total", 'result="stored"'),
             ("hotpath_output_answers_total", 'result="refused"'),
             ("hotpath_output_invalidated_total", "")]
    before = [nginx_only.metric(*name) for name in names]
    origin[path] = Reply("x")
    twice(nginx_only, origin, path)
    nginx_only.request("POST", path)
    origin[path] = Reply("x", Cache_Control="private")
    get(nginx_only, path)
    after = [nginx_only.metric(*name) for name in names]
    assert [b - a for a, b in zip(before, after)] == [1, 2, 1, 1, 1, 1]


def test_other_locations_are_left_alone(nginx_only, origin, path):
    path = "/off" + path
    origin[path] = Reply("x", Cache_Control="max-age=100")
    first, _, asked = twice(nginx_only, origin, path)
    assert asked == 2 and "Cache-Status" not in first.headers


def test_answers_of_nginx_itself_are_not_stored(nginx_only):
    one, two = (nginx_only.get("/stub") for _ in range(2))
    assert one.body != two.body and "stored" not in status(one)


def test_pipelined_hits(nginx_only, origin, path):
    origin[path] = Reply("piped", Cache_Control="max-age=60")
    get(nginx_only, path)
    with RawHTTP(nginx_only.ports["http"]) as http:
        http.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
                  * 5)
        assert [http.answer().body for _ in range(5)] == [b"piped"] * 5
    assert origin.count(path) == 1


# Keys.

def test_key_has_query_host_and_tenant(nginx_only, origin, path):
    def who(request):
        return Reply(f"{request.headers['host']} {request.path} "
                     f"{request.headers.get('x-tenant', '-')}")

    origin[path] = origin[path + "?a=1"] = who
    seen = set()
    for target in (path, path + "?a=1"):
        for host in ("one.example", "two.example"):
            for tenant in ("acme", "umbrella"):
                for _ in range(2):
                    answer = nginx_only.get(target, {
                        "Host": host, "X-Tenant": tenant})
                    assert answer.body.decode() == f"{host} {target} {tenant}"
                seen.add(answer.body)
    assert len(seen) == 8
    assert origin.count(path) == origin.count(path + "?a=1") == 4


def test_tenant_that_is_none_is_refused(nginx_only, origin, path):
    origin[path] = Reply("x")
    answer = get(nginx_only, path, X_Tenant="a b")
    assert answer.status == 400
    assert answer.json()["code"] == "tenant_invalid"
    assert origin.count(path) == 0


def test_own_key(nginx_only, origin, path):
    a, b = f"/key{path}/a?id=7", f"/key{path}/b?id=7"
    origin[a] = Reply("a")
    origin[b] = Reply("b")
    first = get(nginx_only, a)
    assert status(first)["key"] == '"@things/default/7"'
    second = get(nginx_only, b)
    assert second.body == b"a" and origin.count(b) == 0
    assert status(second)["key"] == '"@things/default/7"'
    assert get(nginx_only, a, X_Tenant="other").body == b"a"
    assert origin.count(a) == 2


def test_empty_key_is_not_cached(nginx_only, origin, path):
    path = f"/key{path}"
    origin[path] = Reply("x")
    first, _, asked = twice(nginx_only, origin, path)
    assert asked == 2 and status(first) == {"fwd": "bypass",
                                            "fwd-status": "200"}


def test_shared_key(nginx_only, origin, path):
    path = f"/key/shared{path}"
    origin[path] = Reply("x")
    assert get(nginx_only, path).status == 200
    answer = get(nginx_only, path, X_Tenant="other")
    assert origin.count(path) == 1
    port = nginx_only.ports["http"]
    assert status(answer)["key"] == \
        f'"@http//http://127.0.0.1:{port}{path}"'


@pytest.mark.parametrize("length, asked", [(800, 1), (1100, 2)])
def test_long_keys_are_not_cached(nginx_only, origin, path, length, asked):
    path += "?" + "a" * length
    origin[path] = Reply("x")
    first, second, count = twice(nginx_only, origin, path)
    assert first.body == second.body == b"x"
    assert count == asked


def test_key_of_what_was_rewritten(nginx_only, origin, path):
    origin["/rewritten" + path] = Reply("desktop")
    origin["/mobile" + path] = Reply("mobile")
    for _ in range(2):
        assert get(nginx_only, "/rewritten" + path).body == b"desktop"
        assert get(nginx_only, "/rewritten" + path,
                   X_Mobile="1").body == b"mobile"
    assert origin.count("/rewritten" + path) == 1
    assert origin.count("/mobile" + path) == 1


# Methods.

def test_head_brings_the_body(nginx_only, origin, path):
    origin[path] = Reply("a body", ETag='"1"')
    client = Client(nginx_only.ports["http"])
    head = client.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == "6"
    assert client.request("GET", path).body == b"a body"
    again = client.request("HEAD", path)
    assert again.body == b"" and "hit" in status(again)
    client.close()
    assert origin.count(path) == origin.count(path, "GET") == 1


@pytest.mark.parametrize("reply", [
    Reply("x" * 100000, Cache_Control="no-store"),
    Reply("x" * 2000000), Reply("x" * 2000000, chunked=True),
    Reply("", 204), Reply("gone", 404)])
def test_head_of_anything(nginx_only, origin, path, reply):
    origin[path] = reply
    client = Client(nginx_only.ports["http"])
    head = client.request("HEAD", path)
    assert (head.status, head.body) == (reply.status, b"")
    client.close()
    assert get(nginx_only, path).status == reply.status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_unsafe_methods_invalidate(nginx_only, origin, path, method):
    origin[path] = Reply("one")
    assert twice(nginx_only, origin, path)[2] == 1
    origin[path] = lambda request: Reply(request.method + " " +
                                         request.body.decode())
    answer = nginx_only.request(method, path, b"a body")
    assert answer.body.decode() == f"{method} a body"
    assert status(answer)["fwd"] == "method"
    origin[path] = Reply("two")
    first, second, asked = twice(nginx_only, origin, path)
    assert first.body == second.body == b"two" and asked == 1


@pytest.mark.parametrize("code, asked", [
    (201, 1), (204, 1), (303, 1), (400, 0), (409, 0), (500, 0), (503, 0)])
def test_only_success_invalidates(nginx_only, origin, path, code, asked):
    origin[path] = Reply("one")
    get(nginx_only, path)
    origin[path] = Reply("", code)
    assert nginx_only.request("POST", path).status == code
    origin[path] = Reply("two")
    assert twice(nginx_only, origin, path)[2] == asked


def test_what_it_invalidates_is_not_used_stale(nginx_only, origin, path):
    path = "/stale" + path
    origin[path] = Reply("one", Age="1000")
    get(nginx_only, path)
    origin[path] = Reply("")
    nginx_only.request("POST", path)
    origin[path] = Reply("broken", 500)
    assert get(nginx_only, path).status == 500


def test_options_changes_nothing(nginx_only, origin, path):
    origin[path] = Reply("one")
    get(nginx_only, path)
    answer = nginx_only.request("OPTIONS", path)
    assert status(answer)["fwd"] == "method"
    assert "hit" in status(get(nginx_only, path))


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize("form, asked", [
    ("{path}", 1), ("{path}#part", 1), ("http://127.0.0.1:{port}{path}", 1),
    ("HTTP://127.0.0.1:{port}{path}", 1), ("http://127.0.0.1{path}", 0),
    ("http://other:{port}{path}", 0), ("//127.0.0.1:{port}{path}", 0),
    ("https://127.0.0.1:{port}{path}", 0), ("{path}x", 0), ("", 0)])
def test_locations_are_invalidated(nginx_only, origin, path, field, form,
                                   asked):
    origin[path] = Reply("one")
    get(nginx_only, path)
    origin[path + "/new"] = Reply("", 201, **{field.replace("-", "_"):
                                  form.format(path=path, port=nginx_only.ports[
                                      "http"])})
    assert nginx_only.request("POST", path + "/new").status == 201
    assert twice(nginx_only, origin, path)[2] == asked


def test_tenants_do_not_invalidate_one_another(nginx_only, origin, path):
    origin[path] = Reply("one")
    get(nginx_only, path, X_Tenant="acme")
    nginx_only.request("POST", path, headers={"X-Tenant": "umbrella"})
    assert "hit" in status(get(nginx_only, path, X_Tenant="acme"))


def test_a_read_under_way_while_it_changes(nginx_only, origin, path):
    """What was asked for before the change is not what is kept after it."""
    answers = []
    origin[path] = Reply("old")
    with origin.hold(path) as hold:
        reader = threading.Thread(
            target=lambda: answers.append(get(nginx_only, path)))
        reader.start()
        origin.wait_held(path, 1)
        hold.only("GET")
        assert nginx_only.request("POST", path).status == 200
    reader.join(20)
    assert answers[0].body == b"old"
    origin[path] = Reply("new")
    assert get(nginx_only, path).body == b"new"


def test_get_with_a_body_passes(nginx_only, origin, path):
    origin[path] = lambda request: Reply(b"<" + request.body + b">")
    for text in (b"one", b"two"):
        answer = nginx_only.request("GET", path, text)
        assert answer.body == b"<" + text + b">"
        assert status(answer)["fwd"] == "bypass"


def test_bypass(nginx_only, origin, path):
    path = "/bypass" + path
    origin[path] = Reply("one")
    get(nginx_only, path)
    origin[path] = Reply("two")
    answer = get(nginx_only, path, X_Fresh="1")
    assert answer.body == b"two" and status(answer)["fwd"] == "bypass"
    assert get(nginx_only, path).body == b"one"
    assert get(nginx_only, path, X_Fresh="0").body == b"one"


# Other parts of nginx.

def test_gzip_of_nginx(nginx_only, origin, path):
    path = "/gzip" + path
    origin[path] = Reply('{"a":1}' * 100, Content_Type="application/json",
                         ETag='"1"')
    for coding in ("gzip", None, "gzip", None):
        answer = get(nginx_only, path, Accept_Encoding=coding or "identity")
        body = gzip.decompress(answer.body) if coding else answer.body
        assert body == b'{"a":1}' * 100
        assert answer.headers["ETag"] == ('W/"1"' if coding else '"1"')
    assert origin.count(path) == 1


def test_coded_by_the_zone(nginx_only, origin, path):
    """Bodies that were coded once stay when the entry is validated."""
    path = "/coded" + path
    text = b'{"a":1}' * 100
    origin[path] = Reply(text, Content_Type="application/json", ETag='"1"',
                         Age="5", Cache_Control="max-age=7, "
                         "stale-while-revalidate=0, stale-if-error=0")

    def coded():
        answer = get(nginx_only, path, Accept_Encoding="gzip")
        if answer.headers["Content-Encoding"] is None:
            assert answer.body == text
            return False
        assert gzip.decompress(answer.body) == text
        return True

    wait_until(coded, 10, "it is coded")
    origin[path] = Reply("", 304, Cache_Control="max-age=100")
    wait_until(lambda: coded() and origin.count(path) > 1, 10, "validated")
    assert "if-none-match" in origin.last(path).headers
    for _ in range(10):
        assert coded()
    assert get(nginx_only, path).body == text
    assert get(nginx_only, path, Accept_Encoding="gzip",
               If_None_Match='"1-gzip"').status == 304


def test_coded_by_the_upstream_is_not_coded_again(nginx_only, origin, path):
    path = "/coded" + path
    text = gzip.compress(b"x" * 1000)
    origin[path] = Reply(text, Content_Type="application/json",
                         Content_Encoding="gzip")
    for _ in range(20):
        answer = get(nginx_only, path, Accept_Encoding="gzip, br")
        assert answer.headers.get_all("Content-Encoding") == ["gzip"]
        assert answer.body == text
    assert origin.count(path) == 1


@pytest.mark.parametrize("tags, asked", [
    (dict(Cache_Tag="a, b c"), 1), (dict(Cache_Tag=", ,"), 1), ({}, 1),
    (dict(Cache_Tag=" ".join("abcdefgh"), Other=",".join("ijklmnop")), 1),
    (dict(Cache_Tag=" ".join("abcdefgh"), Other=",".join("ijklmnopq")), 2)])
def test_number_of_tags(nginx_only, origin, path, tags, asked):
    path = "/tags" + path
    origin[path] = Reply("x", **tags)
    assert twice(nginx_only, origin, path)[2] == asked


def test_error_page_takes_the_place(nginx_only, origin, path):
    path = "/pages" + path
    origin[path] = Reply("theirs", 404)
    for _ in range(2):
        answer = get(nginx_only, path)
        assert (answer.status, answer.body) == (404, b"the page")
    assert origin.count(path) == 2
    origin[path] = Reply("found")
    assert twice(nginx_only, origin, path)[2] == 1


def test_x_accel_redirect(nginx_only, origin, path):
    """The upstream decides each time who gets what."""
    def chooses(request):
        return Reply("", X_Accel_Redirect="/files" + path + "-" +
                     request.headers["x-who"], Cache_Control="max-age=100")

    origin[path] = chooses
    for who in ("ada", "bob"):
        origin[f"/files{path}-{who}"] = Reply("of " + who)
    for _ in range(2):
        for who in ("ada", "bob"):
            assert get(nginx_only, path, X_Who=who).body.decode() == \
                "of " + who
    assert origin.count(path) == 4


def test_access_is_checked_before_a_hit(nginx_only, origin, path):
    path = "/auth" + path
    origin["/check"] = lambda request: Reply(
        "", 200 if request.headers.get("x-who") == "ada" else 403)
    origin[path] = Reply("secret")
    assert get(nginx_only, path, X_Who="ada").body == b"secret"
    assert get(nginx_only, path, X_Who="bob").status == 403
    assert get(nginx_only, path, X_Who="ada").body == b"secret"
    assert origin.count(path) == 1


def test_subrequests_pass(nginx_only, origin, path):
    page, part = "/ssi" + path, path + "-part"
    origin[page] = Reply(f'a <!--#include virtual="{part}" --> c',
                         Content_Type="text/html")
    origin[part] = lambda request: Reply(f"b{origin.count(part)}")
    for turn in (1, 2):
        assert get(nginx_only, page).body == b"a b%d c" % turn
    assert origin.count(page) == 1 and origin.count(part) == 2


def test_upgrade_passes(nginx_only, origin, path):
    path = "/socket" + path
    origin[path] = Reply(raw=b"HTTP/1.1 101 Switching Protocols\r\n"
                         b"Upgrade: echo\r\nConnection: upgrade\r\n\r\nhello")
    for _ in range(2):
        with RawHTTP(nginx_only.ports["http"]) as http:
            http.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: "
                      "upgrade\r\nUpgrade: echo\r\n\r\n".encode())
            assert http.line().split()[1] == b"101"
            while b"hello" not in http.buffer:
                assert http.more()
    assert origin.count(path) == 2


def test_scgi(nginx_only, origin, path):
    """Not only proxy_pass: any handler that asks an upstream."""
    seen = []

    def serve(listener):
        with listener.accept()[0] as connection:
            seen.append(connection.recv(65536))
            connection.sendall(b"Status: 200 Yes\r\nContent-Type: text/x\r\n"
                               b"ETag: \"1\"\r\n\r\nfrom a script")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        path = f"/scgi{path}?port={listener.getsockname()[1]}"
        head = nginx_only.request("HEAD", path, headers={
            "If-None-Match": '"0"'})
        thread.join(10)
    assert (head.status, head.body) == (200, b"")
    assert b"REQUEST_METHOD\0GET\0" in seen[0]
    assert b"IF_NONE_MATCH" not in seen[0]
    second = get(nginx_only, path)
    assert second.body == b"from a script"  # nobody listens there any more
    assert second.headers["Content-Type"] == "text/x"


def test_slow_client_does_not_delay_the_zone(nginx_only, origin, path):
    """What it does not take goes through a file, and is stored meanwhile."""
    path = "/slow" + path
    body = b"".join(b"%07d\n" % number for number in range(110000))
    origin[path] = Reply(body)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((local.HOST, nginx_only.ports["http"]))
    slow.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                 "Connection: close\r\n\r\n".encode())
    assert get(nginx_only, path).body == body
    assert origin.count(path) == 1
    text = b""
    while True:
        data = slow.recv(65536)
        if not data:
            break
        text += data
    slow.close()
    assert text.endswith(body)


def test_upstream_connections_are_kept(nginx_only, origin, path):
    """Also behind a 304 that nobody sees the rest of."""
    origin[path] = Reply("one", ETag='"1"', Age="20", Cache_Control=OVER)
    get(nginx_only, path)
    origin[path] = Reply("", 304, ETag='"1"', Age="20", Cache_Control=OVER)
    seen = set()
    for _ in range(10):
        assert get(nginx_only, path).body == b"one"
        with origin._lock:
            seen |= {id(each) for each in origin._connections}
    assert len(seen) <= 34


def test_http2(nginx_only, origin, path):
    origin[path] = Reply("two" * 1000, ETag='"1"')

    def curl(*words):
        return subprocess.run(
            ["curl", "-s", "-i", "--http2-prior-knowledge", "--max-time", "10",
             *words], stdout=subprocess.PIPE, check=True).stdout.decode()

    url = f"http://127.0.0.1:{nginx_only.ports['nats']}{path}"
    assert "fwd=uri-miss" in curl(url)
    text = curl(url)
    assert "Hotpath; hit" in text and text.endswith("two" * 1000)
    assert "HTTP/2 304" in curl("-H", 'If-None-Match: "1"', url)
    stored(nginx_only, origin, path + "s", "one", STALE)
    origin[path + "s"] = Reply("new", Cache_Control="max-age=100")
    url = url + "s"
    wait_until(lambda: curl(url).endswith("new"), 10, "renewed")
    head = curl("-I", f"{url}head")
    assert "HTTP/2 404" in head


# The configuration.

def test_sample(nginx_only, origin, path, tmp_path):
    """config/cached-api.conf as it is, but for its ports."""
    port = local.free_ports()["http"]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ngx_http_hotpath_module.so").symlink_to(
        nginx_only.module)
    (tmp_path / "paths.conf").write_text(config("paths.conf"))
    (tmp_path / "nginx.conf").write_text("daemon off;\n" + config(
        "cached-api.conf", ("127.0.0.1:9000", f"127.0.0.1:{origin.port}"),
        ("listen  8080", f"listen  127.0.0.1:{port}")))
    client = Client(port)
    with open(tmp_path / "log", "wb") as log:
        nginx = subprocess.Popen(
            [nginx_only.nginx, "-e", "stderr", "-p", str(tmp_path), "-c",
             str(tmp_path / "nginx.conf")], stderr=log,
            env=nginx_only["nginx"].env)
    try:
        wait_until(lambda: local.http_status(port, "/health/live") == 200, 20,
                   "nginx answers")

        def ask(path, **headers):
            return client.request("GET", path, headers={
                name.replace("_", "-"): text
                for name, text in headers.items()}).body.decode()

        for prefix in ("", "/catalogue", "/account"):
            origin[prefix + path] = lambda request: Reply(
                " ".join(request.headers.get(name, "-") for name in
                         ("x-tenant", "accept-language", "cookie")))
        for _ in range(2):
            assert ask(path) == "- - -"
            assert ask(path, X_Tenant="acme") == "acme - -"
            assert ask(path, Accept_Language="de") == "- de -"
            assert ask(path, Cookie="session=1") == "- - session=1"
            assert ask("/catalogue" + path) == "- - -"
            assert ask("/catalogue" + path, X_Tenant="acme") == "- - -"
            assert ask("/account" + path, Cookie="a=1") == "- - a=1"
        assert origin.count(path) == 5
        assert origin.count("/catalogue" + path) == 1
        assert origin.count("/account" + path) == 2
    finally:
        client.close()
        nginx.terminate()
        nginx.wait(20)
    text = (tmp_path / "log").read_text()
    assert "alert" not in text and "emerg" not in text, text


@pytest.mark.parametrize("lines, message", [
    ("hotpath_cache nowhere;", 'unknown cache zone "nowhere"'),
    ("hotpath_cache off ttl=1s;", "zone that is off"),
    ("hotpath_cache_key a name=A;", "invalid name"),
    ("hotpath_cache_key a other;", 'invalid parameter "other"'),
    ("hotpath_cache_key a; hotpath_cache_key b;", "is duplicate"),
    ("hotpath_cache_vary *;", "is no name of a field"),
    ('hotpath_cache_vary "a b";', "is no name of a field"),
    ("hotpath_cache_vary a b c d e f g h i;", "too many names"),
    ("hotpath_cache_lock_timeout x;", "invalid value"),
])
def test_refused_configuration(nginx_only, tmp_path, lines, message):
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"""
load_module {nginx_only.module};
events {{ }}
http {{
    hotpath_cache_zone zone=documents:4m;
    server {{
        listen 127.0.0.1:1;
        location / {{ proxy_pass http://127.0.0.1:1; {lines} }}
    }}
}}
""")
    done = subprocess.run(
        [nginx_only.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c",
         str(conf)], stderr=subprocess.PIPE, check=False, text=True,
        env=nginx_only["nginx"].env)
    assert done.returncode != 0
    assert re.search(message, done.stderr), done.stderr
