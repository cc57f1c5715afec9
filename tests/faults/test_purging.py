"""Purges while something is down, killed, or just very large.

What is asserted: the event loop turns meanwhile (every worker answers /ping
within 50 ms), the answer says what could not be done, and what it says was done
has been. Code under test: ngx_module/ngx_http_hotpath_purge.c, _gather.c.
"""

import concurrent.futures
import json
import re
import signal
import time
import uuid

import pytest

from pressure import Pings
from servers import ROOT, wait_until
from wire import Nats, RawHTTP, Redis, golden

TOKEN = "test-token-of-sixteen-and-more"

HTTP = """
hotpath_cache_zone zone=large:640m;
"""

SERVER = f"""
add_header X-Worker $pid always;
location /large/ {{ hotpath_read large tag=tag; hotpath_cache large ttl=1h; }}
location = /test/purge {{
    hotpath_purge timeout=2s;
    hotpath_purge_token_file {ROOT}/tests/purge-tokens;
}}
"""

# A command of Redis that hangs does so for as long as a test needs.
SLOW_REDIS = {"backends": lambda text: text.replace("timeout=100ms",
                                                    "timeout=4s")}

STACK = {"http": HTTP, "server": SERVER}


def key():
    return f"purge-{uuid.uuid4().hex}"


def purge(stack, **target):
    return stack.request("POST", "/test/purge", target,
                         {"Authorization": f"Bearer {TOKEN}"}, timeout_s=150)


def fill(stack, count, model="large", tag="", size=1000):
    """Pushes so many documents, as a projector would; names are numbers."""
    nats = Nats(stack.ports["nats"])
    lane = int(time.time() * 1000) % 30000 + 1000
    document = ('{"tag":"%s"}' % tag).encode()
    for sequence, begin in enumerate(range(0, count, size), 1):
        nats.push(model, [
            golden.document(document, b"%d" % number, b"default", 1)
            for number in range(begin, min(begin + size, count))],
            lane, sequence=sequence)
        nats.ping()
        if sequence % 20 == 0:
            heard(stack, model, nats)
    heard(stack, model, nats)
    nats.close()


def heard(stack, model, nats):
    """Until nginx has taken everything sent so far (see test_push.py)."""
    before = stack.metric("hotpath_push_documents_total", "dropped")
    nats.publish(f"hotpath.push.{model}", b"no frame")
    wait_until(lambda: stack.metric("hotpath_push_documents_total", "dropped")
               > before, 60, "nginx hears the pushes")


def hit(stack, name, path="/large/"):
    """Answered from memory, and trusted."""
    status = stack.get(f"{path}{name}").headers.get("Cache-Status", "")
    return status.startswith("Hotpath; hit;") and "detail" not in status


def unlinks(stack):
    """How often Redis was told to remove something."""
    with Redis(stack.ports["redis"]) as redis:
        found = re.search(rb"cmdstat_unlink:calls=(\d+)",
                          redis("INFO", "commandstats"))
    return int(found.group(1)) if found else 0


def wait_walking(stack, before):
    wait_until(lambda: unlinks(stack) > before + 10, 10, "it walks",
               every_s=0.002)


def row(stack, name):
    stack.sql("INSERT INTO hotpath.prices VALUES ('default', %s, 1, '1',"
              " now(), false, 0, 1)", (name,))
    assert stack.get(f"/prices/{name}").status == 200
    assert hit(stack, name, "/prices/")


def test_a_million_entries(own_stack):
    """By model, then by tag, with a command of Redis for each turn."""
    count = 1_000_000
    fill(own_stack, count, tag="t")
    assert hit(own_stack, 0) and hit(own_stack, count - 1)
    for target in ({"mode": "soft"}, {"tag": "t"}):
        with Pings(own_stack) as pings:
            found = purge(own_stack, model="large", **target).json()
        # a model's walk asks Redis for nothing in between: some 50 ms
        pings.check(least=20 if "tag" in target else 5)
        assert found["complete"] is True, found
        # pushed into a table of fixed sets of slots, which let some go
        assert count * 0.99 < found["purged"] <= count
        assert not hit(own_stack, 1)
    assert own_stack.metric("hotpath_purged_entries_total") > count


def test_reload_during_a_walk(own_stack):
    """The old worker ends its walk and answers before it exits."""
    count = 300_000
    fill(own_stack, count, tag="r")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        before = unlinks(own_stack)
        asked = pool.submit(purge, own_stack, model="large", tag="r")
        wait_walking(own_stack, before)
        own_stack["nginx"].signal(signal.SIGHUP)
        assert not asked.done()
        answer = asked.result(120)
    assert answer.status == 200, answer
    found = answer.json()
    assert count * 0.99 < found["purged"] <= count
    assert not hit(own_stack, 1)
    wait_until(lambda: own_stack.log("nginx").count("exited with code 0")
               >= 2, 10, "the old workers are gone")
    own_stack.wait_ready()


def test_a_client_that_goes_away(own_stack):
    """Is not waited for, and ends nothing."""
    count = 300_000
    fill(own_stack, count, tag="c")
    before = own_stack.metric("hotpath_purged_entries_total")
    complete = own_stack.metric("hotpath_purges_total", "complete")
    unlinked = unlinks(own_stack)
    with RawHTTP(own_stack.ports["http"]) as client:
        client.post({"model": "large", "tag": "c"},
                    f"Authorization: Bearer {TOKEN}", path="/test/purge")
        wait_walking(own_stack, unlinked)
    wait_until(lambda: own_stack.metric("hotpath_purges_total", "complete")
               > complete, 60, "the purge is over")
    assert own_stack.metric("hotpath_purged_entries_total") \
        > before + count * 0.99


def test_workers_killed_during_a_walk(own_stack):
    """Nobody answers; no lock is left, and the next purge does it all."""
    own_stack.expect_log("exited on signal 9")
    count = 300_000
    fill(own_stack, count, tag="k")
    unlinked = unlinks(own_stack)
    with RawHTTP(own_stack.ports["http"]) as client:
        client.post({"model": "large", "tag": "k"},
                    f"Authorization: Bearer {TOKEN}", path="/test/purge")
        wait_walking(own_stack, unlinked)
        own_stack.kill_workers()
        assert client.closed()
    wait_until(lambda: len(own_stack.nginx_workers()) == 2, 10,
               "workers are back")
    own_stack.wait_ready()
    wait_until(lambda: purge(own_stack, model="nothing").json()["complete"],
               10, "they listen again")
    found = purge(own_stack, model="large", tag="k").json()
    assert found["complete"] is True, found
    found = purge(own_stack, model="large", tag="k").json()
    assert found["purged"] == 0


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_redis(own_stack, how):
    """The zones are purged all the same, and the answer says what was not."""
    names = [key() for _ in range(3)]
    for name in names:
        row(own_stack, name)
    fill(own_stack, 1000, tag="w")
    if how == "stopped":
        own_stack.stop("redis")
    else:
        own_stack.freeze("redis")
    try:
        errors = own_stack.metric("hotpath_purge_errors_total")
        with Pings(own_stack) as pings:
            for target, least in [
                    ({"model": "prices", "key": names[0]}, 1),
                    ({"model": "large", "tag": "w"}, 990),
                    ({"model": "prices"}, 2)]:
                begin = time.monotonic()
                found = purge(own_stack, **target).json()
                assert time.monotonic() - begin < 10
                assert found["complete"] is False and found["missing"] == 0
                assert [each["error"] for each in found["instances"]] == [
                    "redis_unavailable"]
                assert found["purged"] >= least and found["redis"] == 0
        pings.check(least=20)
        assert own_stack.metric("hotpath_purge_errors_total") >= errors + 3
        for name in names:
            assert not hit(own_stack, name, "/prices/")
    finally:
        if how == "stopped":
            own_stack.start("redis")
        else:
            own_stack.thaw("redis")
    wait_until(lambda: purge(own_stack, model="prices").json()["complete"],
               20, "Redis is back")


def test_the_broker_goes_away_during_a_purge(own_stack):
    """Whoever has not answered by then is told as not reached."""
    nats = Nats(own_stack.ports["nats"])
    name = key()
    row(own_stack, name)
    nats.publish("hotpath.instances", b'{"instance":"ghost:1:0","began":1}')
    nats.ping()
    nats.subscribe("hotpath.purge")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(purge, own_stack, model="prices", key=name)
        assert b'"from":' in nats.next().data
        own_stack.stop("nats")
        answer = asked.result(20)
    nats.close()
    try:
        assert answer.status == 200
        found = answer.json()
        assert found["complete"] is False and found["purged"] == 1
        assert not hit(own_stack, name, "/prices/")
        found = purge(own_stack, model="prices", key=name).json()
        assert found["reach"] == "instance" and not found["complete"]
    finally:
        own_stack.start("nats")
    own_stack.wait_ready()


def test_only_so_many_at_once(make_stack):
    """Eight walks wait for a Redis that says nothing; one more is refused,
    and keys are not: they take no walk, and have a bound of their own."""
    stack = make_stack(workers=1, server=SERVER, http=HTTP, **SLOW_REDIS)
    row(stack, "one")
    stack.freeze("redis")
    try:
        with concurrent.futures.ThreadPoolExecutor(9) as pool, \
                Pings(stack) as pings:
            asked = [pool.submit(purge, stack, model="prices")
                     for _ in range(9)]
            first = next(concurrent.futures.as_completed(asked)).result()
            assert first.status == 503
            assert first.json()["code"] == "purge_busy"
            assert first.headers["Retry-After"] == "1"
            nats = Nats(stack.ports["nats"])
            assert b"purge_busy" in nats.request(
                "hotpath.purge.run", b'{"model":"prices"}').data
            assert b'"error":"purge_busy"' in nats.request(
                "hotpath.purge", b'{"id":"0123456789abcdef","from":"x",'
                b'"purge":{"model":"prices"}}').data
            # of keys 256, the walks counted
            nats.subscribe("answers")
            for _ in range(300):
                nats.publish("hotpath.purge", b'{"id":"0123456789abcdef",'
                             b'"from":"x","purge":{"model":"prices",'
                             b'"key":"one"}}', reply="answers")
            busy = [json.loads(nats.next().data) for _ in range(300 - 248)]
            assert {each["error"] for each in busy} == {"purge_busy"}
            stack.thaw("redis")
            done = []
            while len(done) < 248:
                answer = json.loads(nats.next().data)
                if answer["done"]:
                    done.append(answer)
            assert not any("error" in each for each in done)
            assert sum(each["purged"] for each in done) <= 1
            nats.close()
            answers = [each.result(60) for each in asked]
        pings.check(least=20)
    finally:
        stack.thaw("redis")
    assert sorted(each.status for each in answers) == [200] * 8 + [503]
    assert all(each.json()["complete"] for each in answers
               if each.status == 200)
