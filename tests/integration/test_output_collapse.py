"""hotpath_cache in front of an upstream: requests that wait for one another.

One request of a key goes to the upstream, the others of both workers wait for
what it brings (ngx_module/ngx_http_hotpath_collapse.c). The origin holds its
answers until the test has seen, in nginx's own metrics, that the others stand
there; then it answers, or fails, or says that its answer is for one only. What
the origin was asked for is the proof in each case.
"""

import http.client
import itertools
import socket
import subprocess
import threading

import pytest

from origin import Reply
from servers import Client, local, wait_until
from wire import RawHTTP

HOTPATH = """
hotpath_cache_zone zone=documents:16m;

map $http_x_tenant $tenant {
    ""       default;
    default  $http_x_tenant;
}
"""

ROUTES = """
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $host;
hotpath_tenant $tenant;
hotpath_cache_lock_timeout 20s;
proxy_next_upstream off;

location / {
    proxy_pass http://origin;
    hotpath_cache documents;
}
location /short/ {
    proxy_pass http://origin;
    hotpath_cache documents;
    hotpath_cache_lock_timeout 300ms;
}
location /anywhere/ {
    proxy_pass http://origin;
    hotpath_cache documents;
    hotpath_cache_key $request_uri;
}
location /never/ {
    proxy_pass http://origin;
    hotpath_cache documents;
    hotpath_cache_lock_timeout 0;
}
location /pages/ {
    proxy_pass http://origin;
    proxy_intercept_errors on;
    error_page 404 /page;
    hotpath_cache documents;
}
location = /page { internal; return 200 "the page"; }
location = /health/live { hotpath_health live; }
location = /metrics { hotpath_metrics; }
"""

ERROR = "max-age=10, stale-if-error=1000"


def STACK(port):
    ports = local.free_ports()
    return {
        "ports": ports, "hotpath": HOTPATH, "routes": ROUTES,
        "backends": lambda text: "",
        "http": f'''
upstream origin {{ server 127.0.0.1:{port}; keepalive 32; }}
server {{
    listen 127.0.0.1:{ports["nats"]} http2;
    include routes.conf;
}}
'''}


@pytest.fixture(autouse=True)
def nobody_is_forgotten(nginx_only):
    yield
    wait_until(lambda: waiting(nginx_only) == 0, 10, "nobody waits any more")


def waiting(stack):
    return stack.metric("hotpath_output_waiting")


def wait_waiting(stack, count):
    wait_until(lambda: waiting(stack) == count, 20, f"{count} wait")


class Crowd:
    """So many requests at once, each on a connection and a thread."""

    def __init__(self, stack, path, count, headers=None, method="GET"):
        self.answers = [None] * count
        self.threads = [threading.Thread(
            target=self._ask, args=(stack, path, number, headers, method),
            daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self, stack, path, number, headers, method):
        if callable(headers):
            headers = headers(number)
        try:
            self.answers[number] = stack.request(method, path, None, headers)
        except (OSError, http.client.HTTPException) as error:
            self.answers[number] = error

    def wait(self):
        for thread in self.threads:
            thread.join(40)
            assert not thread.is_alive()
        return self.answers


def test_a_thousand_ask_once(nginx_only, origin, path):
    """Over two workers, most of them on connections that wait."""
    origin[path] = Reply("for all" * 100)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    connections = [RawHTTP(nginx_only.ports["http"]) for _ in range(1000)]
    before = nginx_only.metric("hotpath_output_requests_total",
                               'result="collapsed"')
    with origin.hold(path):
        for connection in connections:
            connection.send(request)
        wait_waiting(nginx_only, 999)
        origin.wait_held(path, 1)
    for connection in connections:
        answer = connection.answer()
        assert answer.status == 200 and answer.body == b"for all" * 100
        connection.close()
    assert origin.count(path) == 1
    assert nginx_only.metric("hotpath_output_requests_total",
                             'result="collapsed"') == before + 999


def test_cache_status_says_so(nginx_only, origin, path):
    origin[path] = Reply("x")
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 4)
        wait_waiting(nginx_only, 3)
    shown = sorted(answer.headers["Cache-Status"] for answer in crowd.wait())
    assert [text.partition("; ttl=")[0] for text in shown] == \
        ["Hotpath; fwd=uri-miss; collapsed"] * 3 + \
        ["Hotpath; fwd=uri-miss; fwd-status=200; stored"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_waits_and_leads(nginx_only, origin, path, method):
    origin[path] = Reply("a body")
    with origin.hold(path):
        first = Crowd(nginx_only, path, 1, method=method)
        origin.wait_held(path, 1)
        heads = Crowd(nginx_only, path, 2, method="HEAD")
        gets = Crowd(nginx_only, path, 2)
        wait_waiting(nginx_only, 4)
    for answer in first.wait() + heads.wait() + gets.wait():
        assert answer.status == 200
        assert answer.headers["Content-Length"] == "6"
    assert [answer.body for answer in gets.wait()] == [b"a body"] * 2
    assert origin.count(path) == 1


class Together:
    """The first answer comes at once; every other when all the requests that
    are left either stand at the origin or wait in nginx. most: how many stood
    there together."""

    def __init__(self, stack, origin, path, total, reply):
        self.stack, self.total, self.reply = stack, total, reply
        self.lock = threading.Lock()
        self.standing = self.done = self.most = 0
        self.order = itertools.count()
        origin[path] = self.answer

    def settled(self):
        with self.lock:
            return self.standing + waiting(self.stack) \
                == self.total - self.done

    def answer(self, request):
        first = next(self.order) == 0
        with self.lock:
            self.standing += 1
            self.most = max(self.most, self.standing)
        if not first:
            wait_until(self.settled, 20, "all stand somewhere")
        with self.lock:
            self.standing -= 1
            self.done += 1
        return self.reply


@pytest.mark.parametrize("reply", [
    Reply("mine", Cache_Control="private"),
    Reply("mine", Set_Cookie="a=b"),
    Reply("mine", 403),
    Reply("mine" * 600000),
    Reply("mine" * 600000, chunked=True),
    Reply("mine", Cache_Control="no-cache", ETag='"1"'),
    Reply("mine", Cache_Control="max-age=0, stale-while-revalidate=0",
          ETag='"1"'),
])
def test_who_waits_in_vain_goes_at_once(nginx_only, origin, path, reply):
    """All of one worker; of the other, one has to find it out first."""
    seen = Together(nginx_only, origin, path, 16, reply)
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 16)
        wait_waiting(nginx_only, 15)
        origin.wait_held(path, 1)
    for answer in crowd.wait():
        assert answer.status == reply.status and answer.body == reply.body
    assert origin.count(path) == 16
    assert seen.most >= 6


def test_that_is_remembered(nginx_only, origin, path):
    """Nobody queues for what is known to be for one only."""
    origin[path] = Reply("mine", Cache_Control="private")
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 3)
        wait_waiting(nginx_only, 2)
    crowd.wait()
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 8)
        origin.wait_held(path, 8)
        assert waiting(nginx_only) == 0
    crowd.wait()
    # and forgotten as soon as it is no longer true
    origin[path] = Reply("ours")
    nginx_only.get(path)
    before = origin.count(path)
    assert nginx_only.get(path).body == b"ours"
    assert origin.count(path) == before


def test_what_is_validated_each_time_is_not_queued_for(nginx_only, origin,
                                                       path):
    origin[path] = Reply("x", ETag='"1"', Cache_Control="no-cache")
    nginx_only.get(path)
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 8)
        origin.wait_held(path, 8)
    crowd.wait()


def test_error_page_lets_go(nginx_only, origin, path):
    path = "/pages" + path
    seen = Together(nginx_only, origin, path, 16, Reply("no", 404))
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 16)
        wait_waiting(nginx_only, 15)
    assert [answer.body for answer in crowd.wait()] == [b"the page"] * 16
    assert seen.most >= 6


@pytest.mark.parametrize("reply", [
    None, Reply("cut", length=100), Reply("broken", 503), Reply(raw=b"x\r\n"),
    Reply("x" * 9000, chunked=True, cut=100)])
def test_who_fails_is_followed_by_the_next(nginx_only, origin, path, reply):
    """One at a time, however many wait."""
    at_once, most = itertools.count(), []
    replies = itertools.chain([reply] * 3, itertools.repeat(Reply("fine")))
    lock = threading.Lock()

    def answer(request):
        with lock:
            most.append(next(at_once))
            return next(replies)

    origin[path] = answer
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 20)
        wait_waiting(nginx_only, 19)
    answers = crowd.wait()
    good = [each for each in answers
            if getattr(each, "body", None) == b"fine"]
    assert len(good) == 17
    assert origin.count(path) == 4


def test_stale_for_all_who_wait(nginx_only, origin, path):
    origin[path] = Reply("old", Age="20", Cache_Control=ERROR)
    nginx_only.get(path)
    origin[path] = Reply("broken", 503)
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 20)
        wait_waiting(nginx_only, 19)
    for answer in crowd.wait():
        assert (answer.status, answer.body) == (200, b"old")
        assert "detail=stale-if-error" in answer.headers["Cache-Status"]
    # one of each worker, at most
    assert origin.count(path) <= 3


def test_validated_for_all_who_wait(nginx_only, origin, path):
    origin[path] = Reply("old", ETag='"1"', Age="20", Cache_Control=ERROR)
    nginx_only.get(path)
    origin[path] = Reply("", 304, Cache_Control="max-age=100")
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 20)
        wait_waiting(nginx_only, 19)
    assert [answer.body for answer in crowd.wait()] == [b"old"] * 20
    assert origin.count(path) == 2


def test_waiting_has_an_end(nginx_only, origin, path):
    path = "/short" + path
    origin[path] = Reply("late")
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 3)
        origin.wait_held(path, 3)
    assert [answer.body for answer in crowd.wait()] == [b"late"] * 3


def test_waiting_ends_with_what_is_stale(nginx_only, origin, path):
    path = "/short" + path
    origin[path] = Reply("old", Age="20", Cache_Control=ERROR)
    nginx_only.get(path)
    origin[path] = Reply("new")
    with origin.hold(path):
        leader = Crowd(nginx_only, path, 1)
        origin.wait_held(path, 1)
        answer = nginx_only.get(path)
        assert answer.body == b"old"
        assert "detail=stale-if-error" in answer.headers["Cache-Status"]
    assert leader.wait()[0].body == b"new"


def test_no_waiting_at_all(nginx_only, origin, path):
    path = "/never" + path
    origin[path] = Reply("x")
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 3)
        origin.wait_held(path, 3)
    crowd.wait()
    assert nginx_only.get(path).body == b"x"
    assert origin.count(path) == 3


def test_tenants_and_variants_do_not_wait_for_one_another(nginx_only, origin,
                                                          path):
    origin[path] = lambda request: Reply(
        f"{request.headers.get('x-tenant')} {request.headers.get('x-a')}",
        Vary="X-A")
    for tenant in ("acme", "umbrella"):
        nginx_only.get(path, {"X-Tenant": tenant, "X-A": "0"})
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 12, lambda number: {
            "X-Tenant": ("acme", "umbrella")[number % 2],
            "X-A": str(1 + number // 2 % 2)})
        origin.wait_held(path, 4)
        wait_waiting(nginx_only, 8)
    for number, answer in enumerate(crowd.wait()):
        assert answer.body.decode() == (
            f"{('acme', 'umbrella')[number % 2]} {1 + number // 2 % 2}")
    assert origin.count(path) == 6


def test_who_waits_for_another_variant(nginx_only, origin, path):
    """Before the first answer nobody knows that there are two."""
    origin[path] = lambda request: Reply(request.headers["x-a"], Vary="X-A")
    with origin.hold(path):
        crowd = Crowd(nginx_only, path, 12,
                      lambda number: {"X-A": str(number % 2)})
        wait_waiting(nginx_only, 11)
    for number, answer in enumerate(crowd.wait()):
        assert answer.body.decode() == str(number % 2)
    assert origin.count(path) == 2


@pytest.mark.parametrize("size", [10, 500000])
def test_client_of_the_first_leaves(nginx_only, origin, path, size):
    """What it asked for is for the others."""
    origin[path] = Reply("x" * size)
    with origin.hold(path):
        first = RawHTTP(nginx_only.ports["http"])
        first.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        origin.wait_held(path, 1)
        crowd = Crowd(nginx_only, path, 6)
        wait_waiting(nginx_only, 6)
        first.close()
    assert [answer.body for answer in crowd.wait()] == [b"x" * size] * 6
    assert origin.count(path) == 1


def test_client_of_the_first_leaves_in_the_middle(nginx_only, origin, path):
    go = threading.Event()
    origin[path] = Reply("x" * 800000, go=go)
    first = RawHTTP(nginx_only.ports["http"])
    first.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            b"\1\0\0\0\0\0\0\0")
    first.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert first.line().split()[1] == b"200"
    crowd = Crowd(nginx_only, path, 6)
    wait_waiting(nginx_only, 6)
    first.close()
    go.set()
    assert [answer.body for answer in crowd.wait()] == [b"x" * 800000] * 6
    assert origin.count(path) == 1


def test_http2_client_of_the_first_leaves(nginx_only, origin, path):
    """A stream that is reset, on a connection that stays."""
    path = "/anywhere" + path
    origin[path] = Reply("x" * 100000)
    url = f"http://127.0.0.1:{nginx_only.ports['nats']}{path}"
    with origin.hold(path):
        first = subprocess.Popen(
            ["curl", "-s", "--http2-prior-knowledge", url],
            stdout=subprocess.DEVNULL)
        origin.wait_held(path, 1)
        crowd = Crowd(nginx_only, path, 6)
        wait_waiting(nginx_only, 6)
        first.kill()
        first.wait(10)
    assert [answer.body for answer in crowd.wait()] == [b"x" * 100000] * 6
    assert origin.count(path) == 1


def test_who_waits_may_leave(nginx_only, origin, path):
    origin[path] = Reply("x")
    with origin.hold(path):
        first = Crowd(nginx_only, path, 1)
        origin.wait_held(path, 1)
        others = [RawHTTP(nginx_only.ports["http"]) for _ in range(10)]
        for other in others:
            other.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                       .encode())
        wait_waiting(nginx_only, 10)
        for other in others[:5]:
            other.close()
        wait_waiting(nginx_only, 5)
    assert first.wait()[0].body == b"x"
    for other in others[5:]:
        assert other.answer().body == b"x"
        other.close()


def test_reload_under_way(nginx_only, origin, path):
    """Old workers end what they began; new ones do not wait for them longer
    than for anybody."""
    origin[path] = Reply("x")
    with origin.hold(path):
        old = Crowd(nginx_only, path, 6)
        wait_waiting(nginx_only, 5)
        nginx_only.reload()
        new = [RawHTTP(nginx_only.ports["http"]) for _ in range(20)]
        for each in new:
            each.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                      .encode())
        wait_until(lambda: waiting(nginx_only) >= 18, 20, "they wait")
    assert [answer.body for answer in old.wait()] == [b"x"] * 6
    for each in new:
        assert each.answer().body == b"x"
        each.close()
    assert origin.count(path) == 1
    client = Client(nginx_only.ports["http"])
    assert client.request("GET", path).body == b"x"
    client.close()
