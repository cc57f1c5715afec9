"""hotpath_cache in front of an upstream that is down, slow, or lies.

What clients get while the origin (tests/origin.py) refuses connections, does
not answer, stops in the middle or talks nonsense, with and without something
stale in the zone, and with the error pages and the fallback that an operator
has configured for it; and while a worker dies that others wait for. Only nginx
runs. The well-behaved origin is in tests/integration/test_output_cache.py.
"""

import hashlib
import http.client
import itertools
import os
import random
import signal
import threading
import time

import pytest

from origin import Origin, Reply
from servers import Client, wait_until
from wire import RawHTTP

HOTPATH = """
hotpath_cache_zone zone=documents:16m;
hotpath_cache_zone zone=tiny:2m max_entry=64k;
"""

ROUTES = """
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $host;
proxy_connect_timeout 500ms;
proxy_read_timeout 500ms;
proxy_next_upstream off;
hotpath_cache_lock_timeout 1s;

location / {
    proxy_pass http://origin;
    hotpath_cache documents;
}
location /unbuffered/ {
    proxy_pass http://origin;
    proxy_buffering off;
    hotpath_cache documents;
}
location /page/ {
    proxy_pass http://origin;
    proxy_intercept_errors on;
    error_page 500 502 503 504 /sorry;
    hotpath_cache documents;
}
location = /sorry { internal; return 200 "sorry"; }
location /elsewhere/ {
    proxy_pass http://origin;
    error_page 502 504 https://elsewhere.example/;
    hotpath_cache documents;
}
location /fallback/ {
    proxy_pass http://origin;
    proxy_intercept_errors on;
    error_page 500 502 503 504 = @fallback;
    hotpath_cache documents;
}
location /chosen/ {
    proxy_pass http://$arg_to$uri;
    error_page 502 = @fallback;
    hotpath_cache documents;
    hotpath_cache_key $uri;
}
location @fallback {
    proxy_pass http://127.0.0.1:FALLBACK;
}
location /tiny/ {
    proxy_pass http://origin;
    hotpath_cache tiny;
}
location = /pid { return 200 $pid; }
location = /health/live { hotpath_health live; }
location = /metrics { hotpath_metrics; }
"""

ERROR = "max-age=10, stale-if-error=1000, stale-while-revalidate=0"
SHORT = "max-age=10, stale-if-error=12, stale-while-revalidate=0"


class Pair(Origin):
    """The origin, and the one that an operator falls back to."""

    def __init__(self):
        super().__init__()
        self.fallback = Origin()

    def __exit__(self, *words):
        super().__exit__(*words)
        self.fallback.__exit__()


PAIR = []


def STACK(port):
    return {
        "hotpath": HOTPATH, "backends": lambda text: "",
        "routes": ROUTES.replace("FALLBACK", str(PAIR[0].fallback.port)),
        "http": f"upstream origin {{ server 127.0.0.1:{port} max_fails=0; "
                "keepalive 32; } upstream nowhere { server "
                "unix:/nowhere/socket max_fails=0; }"}


@pytest.fixture(scope="module")
def origin():
    with Pair() as instance:
        PAIR[:] = [instance]
        yield instance


@pytest.fixture(autouse=True)
def up_again(origin):
    yield
    if origin._listener is None:
        origin.up()


def stored(stack, origin, path, control=ERROR, **fields):
    origin[path] = Reply("old", Age="20", Cache_Control=control, **fields)
    assert "stored" in stack.get(path).headers["Cache-Status"]


def is_stale(answer):
    assert (answer.status, answer.body) == (200, b"old"), answer
    assert "; detail=stale-if-error" in answer.headers["Cache-Status"]


# Ways to fail. Each gives what a client without anything stale gets.

def refuses(origin, path):
    origin.down()
    return 502


def hangs(origin, path):
    origin[path] = lambda request: threading.Event().wait(2) or Reply("late")
    return 504


def hangs_up(origin, path):
    origin[path] = lambda request: None
    return 502


def garbage(origin, path):
    origin[path] = Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n" * 20)
    return 502


def half_a_header(origin, path):
    origin[path] = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le")
    return 502


def huge_header(origin, path):
    origin[path] = Reply("x", X_Much="x" * 60000)
    return 502


def unasked(origin, path):
    origin[path] = Reply("", 304, ETag='"not yours"')
    return 502


def errors(origin, path):
    origin[path] = Reply("broken", 503)
    return 503


FAILURES = [refuses, hangs, hangs_up, garbage, half_a_header, huge_header,
            unasked, errors]


@pytest.mark.parametrize("fail", [each for each in FAILURES
                                  if each is not unasked])
@pytest.mark.parametrize("prefix", ["", "/unbuffered", "/page", "/elsewhere",
                                    "/fallback"])
def test_stale_stands_in(nginx_only, origin, path, fail, prefix):
    """In front of whatever else is configured for errors."""
    path = prefix + path
    stored(nginx_only, origin, path, ETag='"1"')
    fail(origin, path)
    for _ in range(2):
        is_stale(nginx_only.get(path))
    client = Client(nginx_only.ports["http"])
    assert client.request("HEAD", path).headers["Content-Length"] == "3"
    assert client.request("GET", path, headers={
        "If-None-Match": '"1"'}).status == 304
    client.close()
    assert origin.fallback.count(path) == 0


@pytest.mark.parametrize("fail", FAILURES)
def test_without_anything_stale(nginx_only, origin, path, fail):
    status = fail(origin, path)
    for _ in range(2):
        answer = nginx_only.get(path)
        assert answer.status == status
        assert "stored" not in answer.headers["Cache-Status"]
    if origin._listener is None:
        origin.up()
    origin[path] = Reply("fine")
    assert nginx_only.get(path).body == b"fine"


@pytest.mark.parametrize("fail", FAILURES)
def test_beyond_its_bound(nginx_only, origin, path, fail):
    """max-age and stale-if-error are 22 s together; it came with an Age of
    20, and is held until that is over."""
    stored(nginx_only, origin, path, SHORT)
    status = fail(origin, path)
    is_stale(nginx_only.get(path))
    wait_until(lambda: nginx_only.get(path).status == status, 10,
               "its time is over")


@pytest.mark.parametrize("fail", [refuses, hangs, hangs_up, errors])
def test_error_pages_without_anything_stale(nginx_only, origin, path, fail):
    origin.fallback["/fallback" + path] = Reply("from elsewhere")
    fail(origin, "/page" + path)
    answer = nginx_only.get("/page" + path)
    assert answer.body == b"sorry"
    if origin._listener:
        fail(origin, "/fallback" + path)
    for _ in range(2):
        answer = nginx_only.get("/fallback" + path)
        assert (answer.status, answer.body) == (200, b"from elsewhere")
    assert origin.fallback.count("/fallback" + path) == 2


@pytest.mark.parametrize("fail", [refuses, hangs_up, errors])
def test_fallback_sees_the_client_and_not_the_zone(nginx_only, origin, path,
                                                   fail):
    """What the zone has to be validated with is between it and the origin."""
    path = "/fallback" + path
    origin[path] = Reply("old", ETag='"zone"', Age="20",
                         Cache_Control="max-age=10, must-revalidate")
    nginx_only.get(path)
    origin.fallback[path] = Reply("from elsewhere")
    fail(origin, path)
    for tag in (None, '"client"'):
        headers = {"If-None-Match": tag} if tag else {}
        assert nginx_only.get(path, headers).body == b"from elsewhere"
        seen = origin.fallback.last(path).headers
        assert seen.get("if-none-match") == tag


def test_one_that_fails_before_it_was_asked(nginx_only, origin, path):
    """A socket that is not there: all of it inside one call of nginx."""
    path = "/chosen" + path
    origin.fallback[path + "?to=nowhere"] = Reply("from elsewhere")
    origin[path] = Reply("old", ETag='"zone"', Age="20",
                         Cache_Control="max-age=10, must-revalidate")
    assert nginx_only.get(path + "?to=origin").body == b"old"
    for tag in (None, '"client"'):
        headers = {"If-None-Match": tag} if tag else {}
        answer = nginx_only.get(path + "?to=nowhere", headers)
        assert answer.body == b"from elsewhere"
        seen = origin.fallback.last(path + "?to=nowhere").headers
        assert seen.get("if-none-match") == tag
    origin[path] = Reply("old", Age="20", Cache_Control=ERROR)
    assert nginx_only.get(path + "?to=origin").body == b"old"
    is_stale(nginx_only.get(path + "?to=nowhere"))


def test_renewals_do_not_end_in_error_pages(nginx_only, origin, path):
    path = "/fallback" + path
    origin[path] = Reply("old", Age="20", Cache_Control="max-age=10, "
                         "stale-while-revalidate=1000")
    nginx_only.get(path)
    origin[path] = Reply("broken", 503)
    wait_until(lambda: nginx_only.get(path).body == b"old"
               and origin.count(path) >= 4, 10, "it was tried")
    assert origin.fallback.count(path) == 0


def cut(stack, path):
    """What a client sees of an answer that ends too early."""
    try:
        return stack.get(path).body
    except http.client.IncompleteRead as error:
        return error.partial


@pytest.mark.parametrize("prefix", ["", "/unbuffered"])
@pytest.mark.parametrize("reply", [
    Reply("x" * 50000, cut=20000), Reply("x" * 50000, chunked=True, cut=20000),
    Reply("x" * 50000, length=50001), Reply("x" * 900, chunked=True, cut=905),
    Reply("x" * 50000, chunked=True, cut=50255)])
def test_half_an_answer_is_never_stored(nginx_only, origin, path, prefix,
                                        reply):
    path = prefix + path
    origin[path] = reply
    for _ in range(2):
        body = cut(nginx_only, path)
        assert len(body) <= 50000
    assert origin.count(path) == 2
    origin[path] = Reply("whole")
    assert nginx_only.get(path).body == b"whole"
    assert origin.count(path) == 3


@pytest.mark.parametrize("reply", [
    Reply("x" * 50000, cut=20000), Reply("x" * 50000, chunked=True, cut=20000)])
def test_half_an_answer_to_head(nginx_only, origin, path, reply):
    """The client has had all that it gets; the zone has not."""
    origin[path] = reply
    assert nginx_only.request("HEAD", path).status == 200
    origin[path] = Reply("whole")
    assert nginx_only.get(path).body == b"whole"


def test_longer_than_it_says(nginx_only, origin, path):
    origin[path] = Reply("0123456789", length=5)
    nginx_only.get(path)
    assert nginx_only.get(path).body == b"01234"


def test_recovers_at_once(nginx_only, origin, path):
    stored(nginx_only, origin, path)
    origin.down()
    for _ in range(10):
        is_stale(nginx_only.get(path))
    origin.up()
    origin[path] = Reply("new")
    assert nginx_only.get(path).body == b"new"


def test_renewals_of_a_dead_origin_cost_clients_nothing(nginx_only, origin,
                                                        path):
    """It takes connections and never answers."""
    origin[path] = Reply("old", Age="20", Cache_Control="max-age=10, "
                         "stale-while-revalidate=1000")
    nginx_only.get(path)
    with origin.hold(path):
        begin = time.monotonic()
        client = Client(nginx_only.ports["http"])
        for _ in range(50):
            assert client.request("GET", path).body == b"old"
        client.close()
        assert time.monotonic() - begin < 2
        # its deadline has passed, and the next one tries again
        wait_until(lambda: nginx_only.get(path).body == b"old"
                   and origin.count(path) >= 4, 10, "tried again")


def page(number):
    text = f"{number} {random.random()} ".encode() * random.randrange(1, 3000)
    return Reply(text, ETag=f'"{hashlib.sha1(text).hexdigest()}"',
                 chunked=random.random() < 0.5,
                 Cache_Control=random.choice([
                     "max-age=0, stale-if-error=1000", "max-age=1",
                     "max-age=0, stale-while-revalidate=1000", "no-store"]))


def flapping(request):
    if random.random() < 0.4:
        return random.choice([
            None, Reply("broken", 503), Reply(raw=b"nonsense\r\n\r\n"),
            Reply("x" * 9000, length=10000), Reply(raw=b"HTTP/1.1 200 OK\r\n"),
            Reply("", 304, ETag='"not yours"')])
    return page(request.path)


@pytest.mark.parametrize("prefix", ["", "/unbuffered", "/tiny"])
def test_flapping_under_load(nginx_only, origin, path, prefix):
    """Whatever happens, what is whole is right: each body is the one that its
    ETag was made from."""
    paths = [f"{prefix}{path}-{number}" for number in range(6)]
    for each in paths:
        origin[each] = flapping
    stop, wrong, good = threading.Event(), [], itertools.count()

    def work():
        while not stop.is_set():
            try:
                answer = nginx_only.get(random.choice(paths))
            except (OSError, http.client.HTTPException):
                continue
            if answer.status == 200:
                want = hashlib.sha1(answer.body).hexdigest()
                if answer.headers["ETag"] != f'"{want}"':
                    wrong.append(answer)
                next(good)
            elif answer.status not in (502, 503, 504):
                wrong.append(answer)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: next(good) > 1500, 60, "1,500 good answers")
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not wrong, wrong[:3]
    wait_until(lambda: nginx_only.metric("hotpath_output_waiting") == 0, 10,
               "nobody waits any more")


def test_more_than_the_zone_holds(nginx_only, origin):
    """10 MB of answers through a zone of 2 MB."""
    for number in range(1000):
        path = f"/tiny/many-{number}"
        origin[path] = Reply(f"{number} " * 2000)
        assert nginx_only.get(path).body.startswith(b"%d " % number)
    for number in random.sample(range(1000), 200):
        path = f"/tiny/many-{number}"
        assert nginx_only.get(path).body == b"%d " % number * 2000


def connections_of(stack, pid, count):
    """Connections to one worker, by what it says itself."""
    found, others = [], []
    while len(found) < count:
        connection = RawHTTP(stack.ports["http"])
        connection.send(b"GET /pid HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        mine = connection.answer().body == str(pid).encode()
        (found if mine else others).append(connection)
        assert len(others) < 2000
    for connection in others:
        connection.close()
    return found


@pytest.mark.parametrize("victim", ["leads", "waits"])
def test_worker_dies(nginx_only, origin, path, victim):
    """The one that others wait for, or one that waits for another."""
    nginx_only.expect_log("exited on signal 9")
    origin[path] = Reply("for all")
    workers = nginx_only.nginx_workers()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    first, second = (connections_of(nginx_only, pid, 8) for pid in workers)
    with origin.hold(path):
        first[0].send(request)
        origin.wait_held(path, 1)
        for connection in first[1:] + second:
            connection.send(request)
        wait_until(lambda: nginx_only.metric("hotpath_output_waiting") == 15,
                   10, "15 wait")
        os.kill(workers[0 if victim == "leads" else 1], signal.SIGKILL)
        wait_until(lambda: len(set(nginx_only.nginx_workers()) - set(workers))
                   == 1, 10, "it was replaced")
        if victim == "leads":
            # until its time is over, then they ask for themselves
            origin.wait_held(path, 2)
    dead, alive = (first, second) if victim == "leads" else (second, first)
    for connection in alive:
        assert connection.answer().body == b"for all"
        connection.close()
    for connection in dead:
        assert connection.closed()
        connection.close()
    assert nginx_only.get(path).body == b"for all"
    asked = origin.count(path)
    assert nginx_only.get(path).body == b"for all"
    assert origin.count(path) == asked
    wait_until(lambda: nginx_only.metric("hotpath_output_waiting") == 0, 10,
               "nobody waits any more")
