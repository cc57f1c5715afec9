"""Purges: by key, tag and model, over HTTP and by hotpathctl, everywhere.

Two instances on one set of servers. What was purged must come anew from its
origin, which here holds something else than was cached, so that every answer
says where it is from. Code under test: ngx_module/ngx_http_hotpath_purge.c,
_fanout.c, _fleet.c, _purge_http.c, core/hp_purge.c, workers/ctl/purge.c.
"""

import json
import os
import signal
import subprocess
import time
import uuid

import pytest

from servers import ROOT, local, wait_until
from wire import Nats, RawHTTP, Redis, golden

TOKEN = "test-token-of-sixteen-and-more"
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}

HTTP = """
hotpath_cache_zone zone=second:4m;
"""

SERVER = f"""
add_header X-Worker $pid always;
location /shared/ {{ hotpath_read prices shared; hotpath_cache documents; }}
location /second/ {{ hotpath_read prices; hotpath_cache second ttl=5m; }}
location /other/ {{
    hotpath_read others;
    hotpath_read_statement "SELECT version, document, 0::bigint, deleted
        FROM hotpath.prices WHERE tenant = $1 AND key = $2";
    hotpath_cache documents;
}}
location /tagged/ {{
    hotpath_read tagged tag=tag;
    hotpath_read_statement "SELECT version, document, 0::bigint, deleted
        FROM hotpath.prices WHERE tenant = $1 AND key = $2";
    hotpath_cache documents;
}}
location = /test/purge {{
    hotpath_purge timeout=1s;
    hotpath_purge_token_file {ROOT}/tests/purge-tokens;
}}
"""

STACK = {"http": HTTP, "server": SERVER}


def key():
    return f"purge-{uuid.uuid4().hex}"


def row(stack, name, text, tenant="default", version=1):
    stack.sql("INSERT INTO hotpath.prices VALUES (%s, %s, %s, %s, now(),"
              " false, 0, 1) ON CONFLICT (tenant, key) DO UPDATE"
              " SET document = excluded.document,"
              " version = excluded.version",
              (tenant, name, version, text))


def cached(*instances, path="/prices/", tenant="default", names=1, tag=None):
    """Names of documents that every instance has, saying "cached", while
    their origin, of the same version, says "origin"."""
    made = [key() for _ in range(names)]
    tag = f',"tag":"{tag}"' if tag else ""
    for name in made:
        row(instances[0], name, '{"from":"cached"%s}' % tag, tenant)
        for instance in instances:
            answer = read(instance, path, name, tenant)
            assert answer.json()["from"] == "cached", answer
        row(instances[0], name, '{"from":"origin"%s}' % tag, tenant)
    return made if names > 1 else made[0]


def read(instance, path, name, tenant="default"):
    return instance.get(path + name, {"X-Tenant": tenant})


def source(instance, name, path="/prices/", tenant="default"):
    return read(instance, path, name, tenant).json()["from"]


def purge(instance, target, token=TOKEN, **headers):
    return instance.request("POST", "/test/purge", target, {
        "Authorization": f"Bearer {token}", **headers})


def purged(instance, **target):
    """The answer to a purge that is complete."""
    answer = purge(instance, target)
    assert answer.status == 200, answer
    found = answer.json()
    assert found["complete"] is True, found
    assert found["missing"] == 0
    assert found["purged"] == sum(each["purged"]
                                  for each in found["instances"])
    assert found["redis"] == sum(each["redis"]
                                 for each in found["instances"])
    assert not any("error" in each for each in found["instances"])
    return found


def redis_key(name, tenant="default", model="prices"):
    return f"hotpath:doc:{model}:{tenant}:{name}"


def in_redis(stack, *keys):
    with Redis(stack.ports["redis"]) as redis:
        return [redis("EXISTS", each) for each in keys]


@pytest.fixture
def both(own_stack, peer):
    """Both instances, knowing one another."""
    wait_until(lambda: known(own_stack) == known(peer) == 2, 10,
               "the instances know one another")
    return own_stack, peer


def known(instance):
    answer = purge(instance, {"model": "nothing"}).json()
    return len(answer["instances"])


# Who may.

def test_a_token_is_needed(own_stack):
    name = cached(own_stack)
    target = {"model": "prices", "key": name}
    refused = own_stack.metric("hotpath_purges_total", "refused")
    for headers, challenge in [
            ({}, 'Bearer realm="hotpath"'),
            ({"Authorization": "Bearer"},
             'Bearer realm="hotpath", error="invalid_token"'),
            ({"Authorization": "Bearer "},
             'Bearer realm="hotpath", error="invalid_token"'),
            ({"Authorization": f"Bearer {TOKEN}x"},
             'Bearer realm="hotpath", error="invalid_token"'),
            ({"Authorization": f"Bearer {TOKEN[:-1]}"},
             'Bearer realm="hotpath", error="invalid_token"'),
            ({"Authorization": f"Basic {TOKEN}"},
             'Bearer realm="hotpath", error="invalid_token"'),
            ({"Authorization": "Bearer # Tokens of the tests "
              "(hotpath_purge_token_file). Nobody else knows them,"},
             'Bearer realm="hotpath", error="invalid_token"')]:
        answer = own_stack.request("POST", "/test/purge", target, headers)
        assert answer.status == 401, headers
        assert answer.json()["code"] == "unauthorized"
        assert answer.headers["WWW-Authenticate"] == challenge
    assert source(own_stack, name) == "cached"
    assert own_stack.metric("hotpath_purges_total", "refused") == refused + 7

    answer = own_stack.get("/test/purge", AUTHORIZATION)
    assert answer.status == 405 and answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("authorization", [
    f"Bearer {TOKEN}", f"bearer   {TOKEN}",
    "BEARER another/token+with=signs~1234"])
def test_every_token_will_do(own_stack, authorization):
    name = cached(own_stack)
    answer = own_stack.request(
        "POST", "/test/purge", {"model": "prices", "key": name},
        {"Authorization": authorization})
    assert answer.status == 200, answer
    assert source(own_stack, name) == "origin"


def test_a_body_is_not_waited_for_without_a_token(own_stack):
    with RawHTTP(own_stack.ports["http"]) as client:
        client.post(b"{", path="/test/purge", length=100)
        assert client.answer().status == 401


@pytest.mark.parametrize("body, status, code", [
    ("", 400, "body_empty"),
    ('{"model":"prices"', 400, "json_syntax"),
    ('["prices"]', 400, "body_not_object"),
    ('{"model":"prices","kye":"1"}', 400, "member_unknown"),
    ('{"model":"prices","key":"1","key":"2"}', 400, "member_duplicate"),
    ('{"model":"prices","key":1}', 400, "member_type"),
    ('{"key":"1"}', 400, "purge_model_invalid"),
    ('{"model":"*"}', 400, "purge_model_invalid"),
    ('{"model":"prices","tenant":"a b"}', 400, "tenant_invalid"),
    ('{"model":"prices","key":""}', 400, "read_key_invalid"),
    ('{"model":"prices","keys":[]}', 400, "purge_target_invalid"),
    ('{"model":"prices","key":"1","tag":"t"}', 400, "purge_target_invalid"),
    ('{"model":"prices","mode":"gentle"}', 400, "purge_mode_invalid"),
    ('{"model":"prices","keys":[' + '"k",' * 100 + '"k"]}', 400,
     "purge_target_invalid"),
    (" " * 131073, 413, "body_too_large"),
])
def test_what_is_no_target(own_stack, body, status, code):
    answer = own_stack.request("POST", "/test/purge", body, {
        "Content-Type": "application/json", **AUTHORIZATION})
    assert (answer.status, answer.json()["code"]) == (status, code)


def test_another_content_type(own_stack):
    answer = own_stack.request("POST", "/test/purge", '{"model":"prices"}', {
        "Content-Type": "text/plain", **AUTHORIZATION})
    assert answer.status == 415


@pytest.mark.parametrize("tokens, said", [
    (None, 'open() "{file}" failed'),
    ("", '"{file}" has no secret'),
    ("# 0123456789abcdef\n\r\n", '"{file}" has no secret'),
    ("0123456789abcdef\n0123456789abcde\n",
     '"{file}" has a secret that has less than 16 or more than 1024 bytes in'
     " line 2"),
    ("0" * 1025, "less than 16 or more than 1024"),
    ("0123456789 abcdef", "a character that a token cannot have"),
    ("0123456789\u00e4bcdef", "a character that a token cannot have"),
    ("0123456789abcdef\n" * 65, "more than 64 secrets"),
    ("# " + "x" * 65536, "is longer than 65536 bytes"),
])
def test_files_of_tokens(own_stack, tmp_path, tokens, said):
    if tokens is not None:
        (tmp_path / "tokens").write_text(tokens, encoding="utf-8")
    done = configuration(own_stack, tmp_path, "hotpath_purge;"
                         "hotpath_purge_token_file tokens;")
    assert done.returncode == 1
    assert said.format(file=tmp_path / "tokens") in done.stderr, done.stderr


@pytest.mark.parametrize("text, said", [
    ("hotpath_purge;", '"hotpath_purge" needs "hotpath_purge_token_file"'),
    ("hotpath_purge timeout=0;", 'invalid parameter "timeout=0"'),
    ("hotpath_purge timeout=61s;", "invalid parameter"),
    ("hotpath_purge wait=1s;", "invalid parameter"),
    ("hotpath_purge; hotpath_health live;", "conflicts"),
    (f"hotpath_purge_token_file {ROOT}/tests/purge-tokens;" * 2,
     "is duplicate"),
])
def test_wrong_configuration(own_stack, tmp_path, text, said):
    done = configuration(own_stack, tmp_path, text)
    assert done.returncode == 1 and said in done.stderr, done.stderr


def configuration(stack, directory, text):
    path = directory / "nginx.conf"
    path.write_text(f"""
        load_module {stack.module};
        events {{ }}
        http {{
            access_log off;
            include {ROOT}/config/paths.conf;
            server {{ location /x {{ {text} }} }}
        }}
        """)
    return subprocess.run(
        [stack.nginx, "-t", "-e", "stderr", "-p", str(directory), "-c",
         str(path)], env=stack["nginx"].env, capture_output=True, text=True,
        timeout=60, check=False)


# By key.

@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_by_key_everywhere(both, mode):
    """Two zones of two instances, and Redis."""
    stack, other = both
    name, stays = cached(*both, names=2)
    for instance in both:
        assert source(instance, name, "/second/") == "cached"
    assert in_redis(stack, redis_key(name)) == [1]

    found = purged(other, model="prices", key=name, mode=mode)
    assert found["reach"] == "fleet"
    assert found["purged"] == 4 and found["redis"] == 1
    assert sorted(each["purged"] for each in found["instances"]) == [2, 2]
    assert in_redis(stack, redis_key(name)) == [0]

    for instance in both:
        for path in ("/prices/", "/second/"):
            answer = read(instance, path, name)
            assert answer.json()["from"] == "origin"
            assert "; hit" not in answer.headers["Cache-Status"]
            assert "; hit" in read(instance, path,
                                   name).headers["Cache-Status"]
        assert source(instance, stays) == "cached"


def test_nothing_is_purged_twice(both):
    name = cached(*both)
    assert purged(both[0], model="prices", key=name)["purged"] == 2
    found = purged(both[1], model="prices", key=name)
    assert found["purged"] == 0 and found["redis"] == 0
    # soft comes after hard, and takes nothing back
    assert purged(both[1], model="prices", key=name,
                  mode="soft")["purged"] == 0


def test_soft_answers_where_the_origin_is_down_and_hard_does_not(own_stack):
    soft, hard = cached(own_stack, names=2)
    assert purged(own_stack, model="prices", key=soft,
                  mode="soft")["purged"] >= 1
    assert purged(own_stack, model="prices", key=hard)["purged"] >= 1
    own_stack.freeze("postgres")
    try:
        answer = read(own_stack, "/prices/", soft)
        assert answer.json()["from"] == "cached"
        assert "stale-if-error" in answer.headers["Cache-Status"]
        answer = read(own_stack, "/prices/", hard)
        assert answer.status == 503
        assert answer.json()["code"] == "backend_unavailable"
    finally:
        own_stack.thaw("postgres")
    wait_until(lambda: read(own_stack, "/prices/", hard).status == 200, 15,
               "Postgres answers again")
    assert source(own_stack, hard) == "origin"


def test_an_older_version_does_not_come_back(own_stack):
    name = key()
    row(own_stack, name, '{"from":"new"}', version=9)
    assert source(own_stack, name) == "new"
    purged(own_stack, model="prices", key=name)
    nats = Nats(own_stack.ports["nats"])
    older = own_stack.metric("hotpath_push_documents_total", "older")
    nats.push("prices", [golden.document(b'{"from":"old"}', name.encode(),
                                         b"default", 8)], lane=900)
    wait_until(lambda: own_stack.metric("hotpath_push_documents_total",
                                        "older") > older, 5, "it is refused")
    nats.close()
    assert source(own_stack, name) == "new"


def test_many_keys_at_once(both):
    names = cached(*both, names=100)
    found = purged(both[0], model="prices", tenant="default", keys=names)
    assert found["purged"] == 200 and found["redis"] == 100
    assert not any(in_redis(both[0], *map(redis_key, names)))
    for instance in both:
        assert source(instance, names[0]) == "origin"
        assert source(instance, names[99]) == "origin"


def test_whose_key(own_stack):
    """Without a tenant: the default one, and what is shared."""
    name = key()
    tenants = ("default", "acme", "")

    def read_all():
        return [source(own_stack, name, "/shared/" if tenant == ""
                       else "/prices/", tenant or "default")
                for tenant in tenants]

    for tenant in tenants:
        row(own_stack, name, '{"from":"cached"}', tenant)
    assert set(read_all()) == {"cached"}
    for tenant in tenants:
        row(own_stack, name, '{"from":"origin"}', tenant)
    assert purged(own_stack, model="prices", key=name)["purged"] >= 2
    assert read_all() == ["origin", "cached", "origin"]

    for tenant in tenants:
        row(own_stack, name, '{"from":"third"}', tenant)
    assert purged(own_stack, model="prices", tenant="",
                  key=name)["purged"] >= 1
    assert read_all() == ["origin", "cached", "third"]
    assert purged(own_stack, model="prices", tenant="acme",
                  key=name)["purged"] >= 1
    assert read_all() == ["origin", "third", "third"]


def test_any_bytes_of_a_key(own_stack):
    name = f'{key()} "\u00e4\u20ac\\ :*?[a-z]'
    path = "/prices/" + "".join(
        f"%{byte:02x}" for byte in name.encode())
    row(own_stack, name, '{"from":"cached"}')
    assert own_stack.get(path).json()["from"] == "cached"
    row(own_stack, name, '{"from":"origin"}')
    found = purged(own_stack, model="prices", key=name)
    assert found["purged"] >= 1 and found["redis"] == 1
    assert own_stack.get(path).json()["from"] == "origin"


def test_an_unknown_document_is_asked_for_anew(own_stack):
    name = key()
    assert read(own_stack, "/prices/", name).status == 404
    row(own_stack, name, '{"from":"origin"}')
    assert read(own_stack, "/prices/", name).status == 404
    assert purged(own_stack, model="prices", key=name)["purged"] >= 1
    assert source(own_stack, name) == "origin"


def test_what_is_on_its_way_is_not_trusted(own_stack):
    """Postgres is asked, the key is purged, then Postgres answers."""
    name = key()
    row(own_stack, name, '{"from":"cached"}')
    # a worker that has just begun waits for others longer than Postgres may
    purged(own_stack, model="nothing")
    own_stack.freeze("postgres")
    try:
        with RawHTTP(own_stack.ports["http"]) as client:
            client.send(f"GET /prices/{name} HTTP/1.1\r\nHost: t\r\n\r\n"
                        .encode())
            with Redis(own_stack.ports["redis"]) as redis:
                wait_until(
                    lambda: redis("EXISTS",
                                  f"hotpath:lease:prices:default:{name}"),
                    5, "Postgres is asked")
            purged(own_stack, model="prices", key=name)
            own_stack.thaw("postgres")
            assert client.answer().body == b'{"from":"cached"}'
    finally:
        own_stack.thaw("postgres")
    assert in_redis(own_stack, redis_key(name)) == [0]
    row(own_stack, name, '{"from":"origin"}')
    assert source(own_stack, name) == "origin"


# By model.

def test_by_model(both):
    stack = both[0]
    mine = cached(*both, names=3) + [cached(*both, tenant="acme")]
    stays = cached(*both, path="/other/")
    with Redis(stack.ports["redis"]) as redis:
        # more than one call of SCAN looks at
        for number in range(2500):
            redis("SET", f"hotpath:doc:prices:t{number % 7}:{number}", "x")
        redis("SET", "hotpath:doc:prices2:default:1", "x")
        redis("SET", "hotpath:doc:price:default:1", "x")

    found = purged(both[1], model="prices")
    assert found["purged"] >= 8
    assert found["redis"] >= 2504
    with Redis(stack.ports["redis"]) as redis:
        assert redis("EXISTS", "hotpath:doc:prices:t3:3") == 0
    assert in_redis(stack, *map(redis_key, mine)) == [0] * 4
    assert in_redis(stack, redis_key(stays, model="others"),
                    "hotpath:doc:prices2:default:1",
                    "hotpath:doc:price:default:1") == [1, 1, 1]
    for instance in both:
        assert [source(instance, name) for name in mine[:3]] == ["origin"] * 3
        assert source(instance, mine[3], tenant="acme") == "origin"
        assert source(instance, stays, "/other/") == "cached"


def test_by_model_of_one_tenant(both):
    name = cached(*both)
    only = cached(*both, tenant="only")
    only2 = cached(*both, tenant="only2")
    found = purged(both[0], model="prices", tenant="only")
    assert found["purged"] == 2 and found["redis"] == 1
    assert in_redis(both[0], redis_key(only, "only"),
                    redis_key(only2, "only2"), redis_key(name)) == [0, 1, 1]
    for instance in both:
        assert source(instance, name) == "cached"
        assert source(instance, only, tenant="only") == "origin"
        assert source(instance, only2, tenant="only2") == "cached"


# By tag.

def test_by_tag(both):
    stack = both[0]
    tag = f"tag {key()}"
    mine = cached(*both, path="/tagged/", names=3, tag=tag)
    other = cached(*both, path="/tagged/", tag="another")
    plain = cached(*both, path="/tagged/")
    acme = cached(*both, path="/tagged/", tenant="acme", tag=tag)
    names = [redis_key(name, model="tagged") for name in mine]

    found = purged(both[1], model="tagged", tenant="default", tag=tag)
    assert found["purged"] == 6
    # both instances have them, whoever comes first removes them
    assert found["redis"] == 3
    assert in_redis(stack, *names) == [0, 0, 0]
    assert in_redis(stack, redis_key(other, model="tagged"),
                    redis_key(plain, model="tagged"),
                    redis_key(acme, "acme", "tagged")) == [1, 1, 1]
    for instance in both:
        assert [source(instance, name, "/tagged/")
                for name in mine] == ["origin"] * 3
        assert source(instance, other, "/tagged/") == "cached"
        assert source(instance, plain, "/tagged/") == "cached"
        assert source(instance, acme, "/tagged/", "acme") == "cached"

    # a tag is of its model, and of all tenants where none is said
    assert purged(stack, model="prices", tag=tag)["purged"] == 0
    assert purged(stack, model="tagged", tag=tag)["purged"] == 8
    assert source(stack, acme, "/tagged/", "acme") == "origin"


def test_a_tag_is_a_text_however_it_is_written(own_stack):
    for written, tag in [(r'"spr\u0069ng \u00e4\"\/"', 'spring \u00e4"/'),
                         ("4711", "4711"), ("true", "true")]:
        name = key()
        row(own_stack, name, '{"from":"cached","tag":%s}' % written)
        assert source(own_stack, name, "/tagged/") == "cached"
        row(own_stack, name, '{"from":"origin"}')
        assert purged(own_stack, model="tagged", tag=tag)["purged"] == 1
        assert source(own_stack, name, "/tagged/") == "origin"


def test_a_tag_that_many_have(both):
    """More than one turn, and one command of Redis, takes in."""
    tag = key()
    names = cached(*both, path="/tagged/", names=300, tag=tag)
    found = purged(both[0], model="tagged", tag=tag)
    assert found["purged"] == 600 and found["redis"] == 300
    for instance in both:
        assert {source(instance, name, "/tagged/")
                for name in names} == {"origin"}


# hotpathctl.

def ctl(stack, *words, **env):
    return subprocess.run(
        [os.path.join(local.BUILD, "workers", "hotpathctl"), "purge", *words],
        env={**stack.worker_env(), **env}, capture_output=True, text=True,
        timeout=60, check=False)


def test_hotpathctl(both):
    stack = both[0]
    name, second, third = cached(*both, names=3)
    done = ctl(stack, "--model", "prices", "--key", name, "--key", second,
               "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["complete"] is True and found["reach"] == "fleet"
    assert (found["purged"], found["redis"], found["missing"]) == (4, 2, 0)
    assert [each["purged"] for each in found["instances"]] == [2, 2]
    for instance in both:
        assert source(instance, name) == "origin"
        assert source(instance, second) == "origin"
        assert source(instance, third) == "cached"

    done = ctl(stack, "--model", "prices", "--tenant", "default", "--key",
               third, "--soft")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["instance", "purged", "redis"]
    assert lines[-1] == ["sum", "2", "1"]
    assert {line[0] for line in lines[1:-1]} == {
        each["instance"] for each in found["instances"]}
    assert ctl(stack, "--model", "tagged", "--tag", "none",
               "--hard").returncode == 0


@pytest.mark.parametrize("words, said", [
    ([], "purge_model_invalid"),
    (["--model", "prices", "--key", "1", "--tag", "t"],
     "purge_target_invalid"),
    (["--model", "prices", "--soft", "--hard"], "member_duplicate"),
    (["--model", "prices", "--keys", "1"], "unrecognized option"),
    (["--model", "prices", "1"], "unexpected"),
])
def test_hotpathctl_called_wrongly(own_stack, words, said):
    done = ctl(own_stack, *words)
    assert done.returncode == 2 and said in done.stderr, done


def test_hotpathctl_without_instances(own_stack):
    done = ctl(own_stack, "--model", "prices",
               HOTPATH_SUBJECT_PREFIX="nobody")
    assert done.returncode == 1 and "no instance" in done.stderr


# Messages of strangers.

def test_what_is_no_purge(own_stack):
    """Is answered, or passed over, and does nothing."""
    name = cached(own_stack)
    nats = Nats(own_stack.ports["nats"])
    for text, code in [(b"", "body_empty"), (b"x", "json_syntax"),
                       (b'{"model":"prices","x":1}', "member_unknown"),
                       (b'{"model":"p","keys":[]}', "purge_target_invalid")]:
        answer = json.loads(nats.request("hotpath.purge.run", text).data)
        assert answer == {"error": code}

    before = own_stack.log("nginx").count("is no purge")
    good = {"id": "0123456789abcdef", "from": "somebody",
            "purge": {"model": "prices", "key": name}}
    for change in ({"id": "0123"}, {"id": "0123456789abcdeF"}, {"from": ""},
                   {"from": "a" * 96}, {"from": 'a"'}, {"purge": "x"}):
        nats.publish("hotpath.purge", json.dumps({**good, **change}).encode())
    wait_until(lambda: own_stack.log("nginx").count("is no purge")
               == before + 6, 5, "they are logged")
    answer = json.loads(nats.request("hotpath.purge", json.dumps(
        {**good, "purge": {"model": "prices", "kye": name}}).encode()).data)
    assert answer["done"] and answer["error"] == "refused"
    assert source(own_stack, name) == "cached"

    # and one that is, by somebody who waits for no answer
    nats.publish("hotpath.purge", json.dumps(good).encode())
    wait_until(lambda: source(own_stack, name) == "origin", 5, "it is purged")
    nats.close()


def test_strangers_among_the_instances(both):
    """Garbage is no instance; answers nobody asked for are passed over."""
    nats = Nats(both[0].ports["nats"])
    for text in (b"", b"{}", b'{"instance":7}', b'{"instance":"a b"}',
                 b'{"instance":"' + b"x" * 96 + b'"}', b'["instance"]'):
        nats.publish("hotpath.instances", text)
    nats.ping()
    assert len(purged(both[0], model="nothing")["instances"]) == 2

    nats.publish("hotpath.instances", b'{"instance":"ghost:1:0","began":7}')
    nats.ping()
    begin = time.monotonic()
    found = purge(both[0], {"model": "nothing"}).json()
    assert time.monotonic() - begin >= 1
    assert found["missing"] == 1 and found["complete"] is False
    assert {"instance": "ghost:1:0", "purged": 0, "redis": 0,
            "error": "no_answer"} in found["instances"]
    # its predecessor leaves: not the worker that was heard
    nats.publish("hotpath.instances",
                 b'{"instance":"ghost:1:0","began":6,"leaving":true}')
    nats.ping()
    assert purge(both[0], {"model": "nothing"}).json()["missing"] == 1
    nats.publish("hotpath.instances",
                 b'{"instance":"ghost:1:0","began":7,"leaving":true}')
    nats.close()
    wait_until(lambda: purge(both[0], {"model": "nothing"}).json()["complete"],
               5, "the ghost is gone")


# Instances that come and go.

def test_reload_keeps_the_name(both):
    stack = both[0]
    before = {each["instance"]
              for each in purged(stack, model="nothing")["instances"]}
    stack.reload()
    wait_until(lambda: purge(stack, {"model": "nothing"}).json()["complete"],
               10, "both are known again")
    assert {each["instance"] for each in purged(
        stack, model="nothing")["instances"]} == before
    name = cached(*both)
    found = purged(both[1], model="prices", key=name)
    assert found["purged"] == 2, found


def test_an_instance_that_was_stopped_is_not_missed(both):
    stack, other = both
    assert other.stop("nginx")
    try:
        found = purged(stack, model="nothing")
        assert len(found["instances"]) == 1
    finally:
        other.start("nginx")
        other.wait_ready()
    wait_until(lambda: known(stack) == 2, 10, "it is known")


def test_an_instance_that_stands_still_is_missed(both):
    stack, other = both
    name = cached(*both)
    other.freeze("nginx")
    try:
        begin = time.monotonic()
        found = purge(stack, {"model": "prices", "key": name}).json()
        assert 1 <= time.monotonic() - begin < 5
        assert found["complete"] is False and found["missing"] == 1
        assert sorted(each.get("error", "")
                      for each in found["instances"]) == ["", "no_answer"]
        assert source(stack, name) == "origin"
        done = ctl(stack, "--model", "nothing")
        assert done.returncode == 1
        assert "no_answer" in done.stdout and "not complete" in done.stderr
    finally:
        other.thaw("nginx")
    # it has heard of it meanwhile
    wait_until(lambda: source(other, name) == "origin", 10,
               "it is purged there too")
    wait_until(lambda: purge(stack, {"model": "nothing"}).json()["complete"],
               10, "it answers again")


def test_an_instance_that_was_killed_is_missed(both):
    stack, other = both
    other["nginx"].signal(signal.SIGKILL, everyone=True)
    wait_until(lambda: not other["nginx"].members(), 10, "it is dead")
    try:
        found = purge(stack, {"model": "nothing"}).json()
        assert found["missing"] == 1 and not found["complete"]
    finally:
        other.start("nginx")
        other.wait_ready()


def test_only_this_instance(make_stack):
    """Without NATS there are no others; with NATS down nobody knows."""
    routes = f"""
        hotpath_tenant $tenant;
        location /prices/ {{
            hotpath_read prices;
            hotpath_cache documents;
        }}
        location = /test/purge {{
            hotpath_purge;
            hotpath_purge_token_file {ROOT}/tests/purge-tokens;
        }}
        location = /health/live {{ hotpath_health live; }}
        location = /health/ready {{ hotpath_health ready; }}
    """
    alone = make_stack(
        without=("project",), routes=routes,
        backends=lambda text: "".join(
            line for line in text.splitlines(True) if "_nats" not in line))
    name = cached(alone)
    found = purged(alone, model="prices", key=name)
    assert found["reach"] == "instance"
    assert (found["purged"], len(found["instances"])) == (1, 1)
    assert source(alone, name) == "origin"
    name = cached(alone)
    assert purged(alone, model="prices")["purged"] >= 1
    assert source(alone, name) == "origin"

    old = set(alone.nginx_workers())
    alone.backends = ""
    alone.reload()
    wait_until(lambda: not old & set(alone.nginx_workers()), 20,
               "the old workers are gone")
    alone.stop("nats")
    name = cached(alone)
    found = purge(alone, {"model": "prices", "key": name}).json()
    assert found["reach"] == "instance" and found["complete"] is False
    assert found["purged"] == 1
    assert source(alone, name) == "origin"
