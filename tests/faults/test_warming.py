"""Warm-up while what it needs is down, frozen, or killed meanwhile.

What is asserted: readiness says that it waits, and waits no longer than it
was told; the event loop turns; a log line and a counter say why a zone was
taken as warm before its time. Code under test:
ngx_module/ngx_http_hotpath_warm.c, _health.c.
"""

import json
import time
import uuid

import pytest

from pressure import Pings
from servers import local, wait_until
from wire import Redis, golden

HTTP = """
hotpath_cache_zone zone=second:4m;
hotpath_warm zone=second keys=500 timeout=8s;
"""

SERVER = """
add_header X-Worker $pid always;
location /second/ { hotpath_read prices; hotpath_cache second ttl=5m; }
"""

# A Postgres that stands still is waited for longer than a zone is.
STACK = {"http": HTTP, "server": SERVER, "backends": lambda text: text.replace(
    "dbname=hotpath", "dbname=hotpath connect_timeout=30").replace(
        "connections=4;", "connections=4 timeout=30s;")}


def key():
    return f"warm-{uuid.uuid4().hex}"


def heat(stack, count, stored):
    """So many hot keys, in Redis or not; all of them in Postgres."""
    names = [key() for _ in range(count)]
    stack.sql("INSERT INTO hotpath.prices SELECT 'default', name, 1, '1',"
              " now(), false, 0, 1 FROM unnest(%s) AS name", (names,))
    with Redis(stack.ports["redis"]) as redis:
        redis("DEL", "hotpath:hot:second")
        for number, name in enumerate(names):
            redis("ZADD", "hotpath:hot:second", count - number,
                  f"prices\0default\0{name}")
            if stored:
                redis("SET", f"hotpath:doc:prices:default:{name}",
                      golden.doc_value(golden.document(
                          b"1", name.encode(), b"default", 1)))
    return names


def cache_check(stack):
    """What readiness says of the zones."""
    status, body = local.http_get(stack.ports["http"], "/health/ready")
    if status is None:
        return None, None
    found = {each["name"]: each["status"]
             for each in json.loads(body)["checks"]}
    return status, found["cache"]


def hits(stack, names):
    found = 0
    for name in names:
        status = stack.get(f"/second/{name}").headers.get("Cache-Status", "")
        found += "; hit" in status and "detail" not in status
    return found


def unfinished(stack):
    return stack.metric("hotpath_warm_unfinished_total")


def restart(stack):
    """Returns as soon as it answers, ready or not."""
    stack.stop("nginx")
    stack.start("nginx")


def wait_warm(stack, within_s):
    """(how long it took, what readiness said meanwhile)"""
    begin, said = time.monotonic(), set()

    def check():
        said.add(cache_check(stack))
        return (200, "up") in said
    wait_until(check, within_s, "it is ready")
    return time.monotonic() - begin, said


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_redis(own_stack, how):
    """A sick Redis does not keep an instance from being ready for long."""
    heat(own_stack, 10, stored=True)
    if how == "stopped":
        own_stack.stop("redis")
    else:
        own_stack.freeze("redis")
    try:
        restart(own_stack)
        took, said = wait_warm(own_stack, 10)
        assert took < 5
        assert (503, "warming") in said
        # both zones
        assert unfinished(own_stack) == 2
        assert own_stack.metric("hotpath_warming") == 0
        assert 'zone "second" is taken as warm because Redis is not there: ' \
            "0 documents loaded" in own_stack.log("nginx")
    finally:
        if how == "stopped":
            own_stack.start("redis")
        else:
            own_stack.thaw("redis")


def test_redis_freezes_meanwhile(own_stack):
    """In the middle of a batch that Postgres is asked for."""
    names = heat(own_stack, 200, stored=False)
    own_stack.freeze("postgres")
    try:
        restart(own_stack)
        wait_until(lambda: cache_check(own_stack) == (503, "warming"), 10,
                   "it is warming")
        with Redis(own_stack.ports["redis"]) as redis:
            wait_until(lambda: redis("EXISTS", "hotpath:lease:prices:default:"
                                     + names[0]), 5, "Postgres is asked")
        own_stack.freeze("redis")
        own_stack.thaw("postgres")
        took, _ = wait_warm(own_stack, 10)
        assert took < 5
        assert unfinished(own_stack) == 1
    finally:
        own_stack.thaw("postgres")
        own_stack.thaw("redis")


def test_the_time_is_up(own_stack):
    """Postgres answers nobody: no longer than timeout, with a loop that
    turns; what Redis had is there."""
    stored = heat(own_stack, 50, stored=True)
    with Redis(own_stack.ports["redis"]) as redis:
        for number in range(400):
            redis("ZADD", "hotpath:hot:second", 0,
                  f"prices\0default\0absent{number}")
    own_stack.freeze("postgres")
    try:
        begin = time.monotonic()
        restart(own_stack)
        with Pings(own_stack) as pings:
            _, said = wait_warm(own_stack, 15)
        assert 7.5 < time.monotonic() - begin < 13
        pings.check(least=50)
        assert (503, "warming") in said
        assert unfinished(own_stack) == 1
        assert "because its time is up: 50 documents loaded" in \
            own_stack.log("nginx")
    finally:
        own_stack.thaw("postgres")
    assert hits(own_stack, stored) == 50


def test_the_worker_is_killed_meanwhile(own_stack):
    """Its successor goes on, and the instance is not ready before."""
    own_stack.expect_log("exited on signal 9")
    names = heat(own_stack, 120, stored=False)
    own_stack.freeze("postgres")
    try:
        restart(own_stack)
        wait_until(lambda: cache_check(own_stack) == (503, "warming"), 10,
                   "it is warming")
        workers = own_stack.nginx_workers()
        own_stack.kill_workers(workers)
        wait_until(lambda: len(set(own_stack.nginx_workers())
                               - set(workers)) == 2, 10, "workers are back")
        wait_until(lambda: cache_check(own_stack)[1] is not None, 10,
                   "they answer")
        assert cache_check(own_stack)[1] == "warming"
        own_stack.thaw("postgres")
        wait_warm(own_stack, 15)
    finally:
        own_stack.thaw("postgres")
    assert own_stack.metric("hotpath_warm_documents_total", "loaded") >= 120
    assert own_stack.metric("hotpath_warming") == 0
    assert unfinished(own_stack) == 0
    assert hits(own_stack, names) == 120


@pytest.mark.parametrize("how, said", [
    ("stopped", "could not connect"), ("frozen", "timed out while connecting")])
def test_without_the_broker(own_stack, how, said):
    """The zones are warm all the same: reads need no broker. What was loaded
    before it was known whether there is one would be worth nothing."""
    names = heat(own_stack, 20, stored=True)
    if how == "stopped":
        own_stack.stop("nats")
    else:
        own_stack.freeze("nats")
    try:
        before = own_stack.log("nginx").count(said)
        restart(own_stack)
        wait_until(lambda: own_stack.log("nginx").count(said) >= before + 2,
                   10, "both workers know that the broker is not there")
        wait_until(lambda: cache_check(own_stack) == (503, "up"), 10,
                   "the zones are warm")
        assert unfinished(own_stack) == 0
        assert hits(own_stack, names) == 20
    finally:
        if how == "stopped":
            own_stack.start("nats")
        else:
            own_stack.thaw("nats")
    own_stack.wait_ready()
