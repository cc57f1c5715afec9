"""What tests of hotpath_idempotency in front of an upstream share.

    STACK = guarded.options     of a module: what the fixture nginx_only runs,
                                all locations below, the fixture origin behind
                                them, also over HTTP/2 on ports["nats"]
    order(origin, path)         the origin carries out what is sent there: each
                                answer is another one; .count() is how often
    post(stack, path, key, body)    -> Answer
    problem(answer, status, code)   -> the document
    instances(directory, origin, n) a Redis and n instances of nginx in front of
                                    the same origin, in a with statement

Nothing here waits for a lifetime to end.
"""

import contextlib
import itertools
import json
import uuid

from origin import Reply
from servers import TestStack, local

HOTPATH = """
hotpath_cache_zone zone=answers:16m;
hotpath_cache_zone zone=tiny:2m max_entry=64k;

map $http_x_tenant $tenant {
    ""       default;
    default  $http_x_tenant;
}
"""

ROUTES = """
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_connect_timeout 1s;
hotpath_tenant $tenant;

location / {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys:1m answers=answers;
}
location /optional/ {
    proxy_pass http://origin;
    hotpath_idempotency optional zone=keys answers=answers name=optional;
}
location /wait/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys answers=answers;
    hotpath_idempotency_wait 20s;
}
location /hasty/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys answers=answers;
    hotpath_idempotency_wait 300ms;
}
location /retry/ {
    proxy_pass http://origin;
    proxy_read_timeout 1s;
    hotpath_idempotency required zone=keys answers=answers
                        retry=500,503,lost;
    hotpath_idempotency_wait 20s;
}
location /quick/ {
    proxy_pass http://origin;
    proxy_read_timeout 1s;
    hotpath_idempotency required zone=keys answers=answers;
}
location /methods/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys answers=answers
                        methods=PUT,DELETE;
}
location /bounds/ {
    proxy_pass http://origin;
    client_body_buffer_size 1k;
    hotpath_idempotency required zone=keys answers=answers
                        max_body=4k max_answer=8k;
}
location /unbuffered/ {
    proxy_pass http://origin;
    proxy_buffering off;
    hotpath_idempotency required zone=keys answers=answers max_answer=8k;
}
location /tiny/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys answers=tiny max_answer=32k
                        name=tiny;
}
location /few/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=few:256k answers=answers;
}
location /short/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=short:256k answers=answers ttl=1s;
}
location /claim/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=claims:256k answers=answers claim=1s;
    hotpath_idempotency_wait 20s;
}
location /cached/ {
    proxy_pass http://origin;
    hotpath_cache answers;
    hotpath_idempotency required zone=keys answers=answers;
}
location /pages/ {
    proxy_pass http://origin;
    proxy_intercept_errors on;
    error_page 500 502 503 /sorry;
    hotpath_idempotency required zone=keys answers=answers;
}
location = /sorry { internal; return 200 "sorry"; }
location /named/ {
    error_page 418 = @named;
    return 418;
}
location @named {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys answers=answers;
}
location /nested/ {
    hotpath_idempotency required zone=keys answers=answers;
    location /nested/off/ { proxy_pass http://origin;
                            hotpath_idempotency off; }
    location /nested/on/ { proxy_pass http://origin; }
}
location /nowhere/ {
    proxy_pass http://unix:/nowhere/socket:;
    hotpath_idempotency required zone=keys answers=answers;
}
location /strict/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys answers=answers STRICT;
}
location /surely/ {
    proxy_pass http://origin;
    hotpath_idempotency required zone=keys answers=answers STRICT;
    hotpath_idempotency_wait 20s;
}
location = /pid { return 200 $pid; }
location = /ping { return 200 "pong\\n"; }
location = /health/live { hotpath_health live; }
location = /metrics { hotpath_metrics; }
"""


def options(port, redis=None):
    ports = local.free_ports()
    return {
        "ports": ports, "hotpath": HOTPATH,
        "routes": ROUTES.replace("STRICT", "redis=strict" if redis else ""),
        "backends": lambda text: (f"hotpath_redis {local.HOST}:{redis}"
                                  " timeout=300ms;") if redis else "",
        "http": f"""
upstream origin {{ server 127.0.0.1:{port} max_fails=0; }}
server {{
    listen 127.0.0.1:{ports["nats"]} http2;
    include routes.conf;
}}
"""}


@contextlib.contextmanager
def instances(directory, origin, count=2):
    """[stack, …], each with its own shared memory; stack["redis"] of the
    first is the Redis of all."""
    made = []
    try:
        port = None
        for number in range(count):
            words = options(origin.port, port or 1)
            stack = TestStack(f"{directory}/{number}", **words)
            if port is None:
                port = stack.ports["redis"]
                stack.backends = options(origin.port, port)["backends"]
                stack.start("redis")
            made.append(stack)
            stack.start("nginx")
        yield made
    finally:
        for stack in made:
            stack.stop("nginx")
        if made:
            made[0].stop("redis")
    lines = [line for stack in made for line in stack.forbidden_lines()]
    assert not lines, lines


class Order:
    """An origin's handler of one path: what it has carried out."""

    def __init__(self, origin, path, status=201, body="", **words):
        self.origin = origin
        self.path = path
        self.words = dict(words, status=status)
        self.body = body
        self._numbers = itertools.count(1)
        origin[path] = self._carry_out

    def _carry_out(self, request):
        number = next(self._numbers)
        text = json.dumps({"order": number}) + self.body
        return Reply(text, Content_Type="application/json",
                     Location=f"/orders/{number}", **self.words)

    def count(self):
        return self.origin.count(self.path)


order = Order


def key():
    return f'"guard-{uuid.uuid4()}"'


def post(stack, path, name, body=b'{"amount":7}', method="POST", **headers):
    headers = {each.replace("_", "-"): value
               for each, value in headers.items()}
    if name is not None:
        headers["Idempotency-Key"] = name
    return stack.request(method, path, body, headers)


def problem(answer, status, code):
    assert answer.status == status, answer
    document = json.loads(answer.body)
    assert document["code"] == code, document
    return document


def replayed(answer):
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return headers.get("idempotent-replayed") == "true"
