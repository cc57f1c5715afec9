"""Warm-up: what was hot is in memory before a new instance is ready.

The set of hot keys is written by hand where a test must know every one, and by
nginx itself once. Code under test: ngx_module/ngx_http_hotpath_warm.c, _hot.c
and the check "cache" of _health.c.
"""

import collections
import json
import re
import subprocess
import uuid

import pytest

from servers import ROOT, Client, wait_until
from wire import RawHTTP, Redis, golden

HTTP = """
hotpath_cache_zone zone=second:4m;
hotpath_warm zone=second keys=150;
# Of no request: those that it is for are not limited.
hotpath_limit_zone $arg_nothing zone=nobody:1m rate=1r/s;
"""

SERVER = """
add_header X-Worker $pid always;
location /second/ { hotpath_read prices; hotpath_cache second ttl=5m; }
location /free/ {
    hotpath_limit zone=nobody;
    hotpath_read prices;
    hotpath_cache documents;
}
location /shared/ { hotpath_read prices shared; hotpath_cache second; }
"""

STACK = {"http": HTTP, "server": SERVER}


def key():
    return f"warm-{uuid.uuid4().hex}"


def member(name, tenant="default", model="prices"):
    return f"{model}\0{tenant}\0{name}".encode()


def in_redis(redis, name, text='{"from":"redis"}', tenant="default",
             model="prices", of=None):
    """A document under a name; of: the name that it says it has."""
    redis("SET", f"hotpath:doc:{model}:{tenant}:{name}", golden.doc_value(
        golden.document(text.encode(), (of or name).encode(),
                        tenant.encode(), 1)))


def in_postgres(stack, *names, text='{"from":"postgres"}'):
    stack.sql("INSERT INTO hotpath.prices SELECT 'default', name, 1, %s,"
              " now(), false, 0, 1 FROM unnest(%s) AS name",
              (text, list(names)))


def heat(redis, zone, members):
    """These, the first one the hottest, and no others."""
    redis("DEL", f"hotpath:hot:{zone}")
    for number, each in enumerate(members):
        redis("ZADD", f"hotpath:hot:{zone}", len(members) - number, each)


def counted(stack, result):
    return stack.metric("hotpath_warm_documents_total", result)


def hit(stack, path):
    """The body where it is answered from memory, else None."""
    answer = stack.get(path)
    status = answer.headers["Cache-Status"]
    if "; hit" in status and "detail" not in status:
        return answer.json()
    return None


def check(stack, name):
    found = [each for each in stack.get("/health/ready").json()["checks"]
             if each["name"] == name]
    return found[0] if found else None


@pytest.fixture
def redis(own_stack):
    with Redis(own_stack.ports["redis"]) as connection:
        yield connection
        for zone in ("documents", "second"):
            connection("DEL", f"hotpath:hot:{zone}")


def test_the_hottest_are_there_when_it_is_ready(own_stack, redis):
    """From Redis and from Postgres, in this order, and no more than keys."""
    names = [key() for _ in range(160)]
    for name in names[:100]:
        in_redis(redis, name)
    in_postgres(own_stack, *names[100:])
    heat(redis, "second", [member(name) for name in names])
    own_stack.restart("nginx")
    own_stack.wait_ready()
    assert counted(own_stack, "loaded") == 150
    assert counted(own_stack, "missed") == 0
    assert own_stack.metric("hotpath_warm_unfinished_total") == 0
    assert own_stack.metric("hotpath_warming") == 0
    assert check(own_stack, "cache") == {
        "name": "cache", "status": "up", "required": True}
    for number, name in enumerate(names):
        source = {"from": "redis" if number < 100 else "postgres"}
        expected = source if number < 150 else None
        assert hit(own_stack, f"/second/{name}") == expected, number
    assert "zone \"second\" is warm: 150 documents loaded, 0 not to be had" \
        in own_stack.log("nginx")


def read_all(stack, names):
    """Pipelined, on a connection; returns the worker that answered all."""
    with RawHTTP(stack.ports["http"], 30) as client:
        for begin in range(0, len(names), 500):
            part = names[begin:begin + 500]
            client.send(b"".join(
                b"GET /free/%s HTTP/1.1\r\nHost: t\r\n\r\n" % name.encode()
                for name in part))
            left = len(part)
            while left:
                assert client.more()
                left -= client.buffer.count(b"HTTP/1.1 200")
                worker = re.search(rb"X-Worker: (\d+)\r\n", client.buffer)
                client.buffer = client.buffer[-11:]
    return worker.group(1)


def test_what_hits_say_is_hot(own_stack, redis):
    """The whole way: hits, the set in Redis, a start, memory. When they become
    hot all 512 places of both workers are taken, by keys that were read before
    and are read no more."""
    hot, others = [key() for _ in range(3)], [key() for _ in range(1500)]
    in_postgres(own_stack, *hot, *others)
    redis("DEL", "hotpath:hot:documents")
    read = collections.Counter()

    def is_full():
        read[read_all(own_stack, others * 10)] += 15000
        return len(read) == 2 and min(read.values()) >= 75000
    wait_until(is_full, 90, "the places of both workers are taken")

    def is_hot():
        read_all(own_stack, hot * 500)
        return {redis("ZREVRANK", "hotpath:hot:documents", member(name))
                for name in hot} == {0, 1, 2}
    wait_until(is_hot, 90, "they are known as the hottest")
    assert redis("PTTL", "hotpath:hot:documents") > 6 * 86400 * 1000
    assert redis("EXISTS", "hotpath:halved:documents") == 1

    own_stack.restart("nginx")
    own_stack.wait_ready()
    for name in hot:
        assert hit(own_stack, f"/prices/{name}") == {"from": "postgres"}


def test_scores_are_halved_and_the_coldest_go(own_stack, redis):
    """By whoever tells of hits when the last time is a minute ago."""
    redis("DEL", "hotpath:hot:second")
    for number in range(400):
        redis("ZADD", "hotpath:hot:second", 10 + number, f"a\0b\0{number}")
    redis("ZADD", "hotpath:hot:second", "0.9", "a\0b\0rare")
    redis("DEL", "hotpath:halved:second")
    name = key()
    in_postgres(own_stack, name)
    client = Client(own_stack.ports["http"])

    def is_hot():
        for _ in range(300):
            client.request("GET", f"/second/{name}")
        return redis("EXISTS", "hotpath:halved:second")
    wait_until(is_hot, 60, "hits are told")
    client.close()
    assert redis("ZSCORE", "hotpath:hot:second", b"a\0b\0rare") is None
    assert float(redis("ZSCORE", "hotpath:hot:second", b"a\0b\000399")
                 ) == 409 / 2
    # twice as many as are loaded
    assert redis("ZCARD", "hotpath:hot:second") == 300


def test_what_is_no_hot_key(own_stack, redis):
    """Members of other configurations, and plain nonsense, are passed over;
    what Redis holds under another's name is fetched."""
    good, shared, absent, other = key(), key(), key(), key()
    in_redis(redis, good)
    in_redis(redis, shared, tenant="")
    in_redis(redis, other, of="somebody else")
    in_postgres(own_stack, other)
    kinds = [key() for _ in range(2)]
    in_postgres(own_stack, *kinds)
    redis("SET", f"hotpath:doc:prices:default:{kinds[0]}", b"HPD")
    redis("RPUSH", f"hotpath:doc:prices:default:{kinds[1]}", b"HPD")
    heat(redis, "second", [
        b"", b"\0", b"\0\0", b"prices", b"prices\0default",
        b"prices\0default\0", member(good, model="unknown"),
        b"prices\0" + b"t" * 65 + b"\0k", b"x" * 1200,
        b"prices\0default\0" + b"k" * 1025, member(good), member(shared, ""),
        member(absent), member(other), *map(member, kinds)])
    own_stack.restart("nginx")
    own_stack.wait_ready()
    # no row is an answer too: it is known that there is none
    assert counted(own_stack, "loaded") == 6
    assert counted(own_stack, "missed") == 0
    assert own_stack.metric("hotpath_warm_unfinished_total") == 0
    assert hit(own_stack, f"/second/{good}") == {"from": "redis"}
    assert hit(own_stack, f"/shared/{shared}") == {"from": "redis"}
    assert hit(own_stack, f"/second/{other}") == {"from": "postgres"}
    answer = own_stack.get(f"/second/{absent}")
    assert answer.status == 404 and "; hit" in answer.headers["Cache-Status"]


def test_large_documents_come_in_several_batches(own_stack, redis):
    """No answer of Redis is much larger than a megabyte."""
    names = [key() for _ in range(20)]
    for name in names:
        in_redis(redis, name, json.dumps({"text": "x" * 150_000}))
    heat(redis, "second", [member(name) for name in names])
    redis("CONFIG", "RESETSTAT")
    own_stack.restart("nginx")
    own_stack.wait_ready()
    assert counted(own_stack, "loaded") == 20
    assert len(hit(own_stack, f"/second/{names[0]}")["text"]) == 150_000
    assert len(hit(own_stack, f"/second/{names[19]}")["text"]) == 150_000
    evals = redis("INFO", "commandstats").decode()
    # 7 documents in a batch, the last batch is empty; and zone documents
    calls = sum(int(line.split("calls=")[1].split(",")[0])
                for line in evals.splitlines()
                if line.startswith("cmdstat_eval"))
    assert calls >= 4, evals


def test_a_reload_is_no_start(own_stack, redis):
    name = key()
    in_redis(redis, name)
    heat(redis, "second", [member(name)])
    loaded = counted(own_stack, "loaded")
    own_stack.reload()
    own_stack.wait_ready()
    assert counted(own_stack, "loaded") == loaded
    assert own_stack.log("nginx").count('zone "second" is warm') == \
        own_stack.log("nginx").count('zone "documents" is warm')
    assert hit(own_stack, f"/second/{name}") is None

    # and a zone that was not warmed until then is not cold
    own_stack.reload(http=HTTP.replace("hotpath_warm", "# hotpath_warm"))
    own_stack.reload(http=HTTP)
    own_stack.wait_ready()
    assert counted(own_stack, "loaded") == loaded


@pytest.mark.parametrize("line, said", [
    ("hotpath_warm zone=nowhere;", 'unknown cache zone "nowhere"'),
    ("hotpath_warm keys=10;", 'must have a "zone"'),
    ("hotpath_warm zone=second;", "names a zone twice"),
    ("hotpath_warm zone=documents keys=0;", 'invalid parameter "keys=0"'),
    ("hotpath_warm zone=documents keys=100001;", "invalid parameter"),
    ("hotpath_warm zone=documents timeout=0;", "invalid parameter"),
    ("hotpath_warm zone=documents timeout=11m;", "invalid parameter"),
    ("hotpath_warm zone=documents hot=1;", 'invalid parameter "hot=1"'),
])
def test_wrong_configuration(own_stack, tmp_path, line, said):
    path = tmp_path / "nginx.conf"
    path.write_text(f"""
        load_module {own_stack.module};
        events {{ }}
        http {{
            access_log off;
            include {ROOT}/config/paths.conf;
            hotpath_redis 127.0.0.1:{own_stack.ports["redis"]};
            hotpath_cache_zone zone=documents:4m;
            hotpath_cache_zone zone=second:4m;
            hotpath_warm zone=second;
            {line}
        }}
        """)
    done = subprocess.run(
        [own_stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c",
         str(path)], env=own_stack["nginx"].env, capture_output=True,
        text=True, timeout=60, check=False)
    assert done.returncode == 1 and said in done.stderr, done.stderr
