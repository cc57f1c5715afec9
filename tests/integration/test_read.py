"""GET of a document: shared memory, Redis, Postgres, and what is said of it.

The way of ngx_module/ngx_http_hotpath_read.c, with the model's rows written by
SQL: no drain and no projector runs, so every document is where the test has put
it and nowhere else. An nginx that was restarted has an empty zone; that is how
Redis is reached. What backends that misbehave do to reads under load is in
tests/faults/test_backends.py, what a push does in test_push.py.
"""

import re
import threading
import time
import uuid

import pytest

from servers import Client, wait_until
from wire import Nats, RawHTTP, Redis, golden

HTTP = """
hotpath_cache_zone zone=short:4m;
hotpath_cache_zone zone=brief:4m;
hotpath_cache_zone zone=counted:4m;
hotpath_cache_zone zone=own:4m max_entry=10k;
"""

COLUMNS = ("version, document, (extract(epoch FROM modified_at) * 1000000)"
           "::bigint, deleted FROM hotpath.prices")

SERVER = f"""
location /shared/ {{ hotpath_read prices shared; hotpath_cache documents; }}
location /short/ {{
    hotpath_read prices;
    hotpath_cache short ttl=50ms negative_ttl=50ms stale=10m redis_ttl=1ms;
}}
location /brief/ {{
    hotpath_read prices;
    hotpath_cache brief ttl=50ms stale=50ms redis_ttl=1ms;
}}
location /counted/ {{
    hotpath_read prices;
    hotpath_read_statement "SELECT {COLUMNS}
        WHERE tenant = $1 AND key = $2 AND nextval('hotpath.calls') > 0";
    hotpath_cache counted;
}}
location = /offer {{
    hotpath_read prices key=$arg_a-$arg_b;
    hotpath_read_statement "SELECT {COLUMNS}
        WHERE tenant IN ($1, 'fallback') AND key = $2
        ORDER BY tenant = $1 DESC LIMIT 1";
    hotpath_cache own ttl=5m;
}}
location /columns/ {{
    hotpath_read prices;
    hotpath_read_statement "SELECT $1, $2";
    hotpath_cache own;
}}
location /broken/ {{
    hotpath_read prices;
    hotpath_read_statement "SELECT * FROM hotpath.no_such_table
        WHERE $1 = $2";
    hotpath_cache own;
}}
location = /stub {{ stub_status; }}
"""

STACK = {"without": ("drain", "project"), "http": HTTP, "server": SERVER}

MODIFIED_US = 1769860800123456


@pytest.fixture(scope="module", autouse=True)
def calls(own_stack):
    own_stack.sql("CREATE SEQUENCE hotpath.calls")


def key():
    return uuid.uuid4().hex


def store(stack, name, document, version=0x4711, tenant="default",
          deleted=False):
    """A row of the model, as the projector would have left it."""
    stack.sql(
        "INSERT INTO hotpath.prices VALUES (%s, %s, %s, %s,"
        " timestamptz 'epoch' + %s * interval '1 microsecond', %s, 0, 1)"
        " ON CONFLICT (tenant, key) DO UPDATE SET version = excluded.version,"
        " document = excluded.document, deleted = excluded.deleted",
        (tenant, name, version, document, MODIFIED_US, deleted))


def record(name, document, version=0x4711, tenant="default", deleted=False):
    """The same, as Redis has it."""
    return golden.doc_value({
        "version": version, "modified_us": MODIFIED_US, "deleted": deleted,
        "tenant": tenant.encode(), "key": name.encode(),
        "document": document.encode()})


def redis_key(name, tenant="default"):
    return f"hotpath:doc:prices:{tenant}:{name}"


def where(answer):
    """(what Cache-Status says, its ttl)."""
    match = re.fullmatch(r"Hotpath; (.+); ttl=(-?\d+)(; detail=.+)?",
                         answer.headers["Cache-Status"])
    assert match, answer.headers["Cache-Status"]
    return match.group(1) + (match.group(3) or ""), int(match.group(2))


def check_problem(answer, status, code):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["status"] == status


def writing(stack):
    text = stack.get("/stub").body.decode()
    return int(re.search(r"Writing: (\d+)", text).group(1)) - 1


@pytest.fixture
def redis(own_stack):
    with Redis(own_stack.ports["redis"]) as connection:
        yield connection


# From where.

def test_postgres_then_zone(own_stack):
    name, document = key(), '{"amount":1}'
    store(own_stack, name, document)
    before = {source: own_stack.metric("hotpath_read_requests_total", source)
              for source in ('"postgres"', '"zone"')}
    miss = own_stack.get(f"/prices/{name}")
    hit = own_stack.get(f"/prices/{name}")
    for answer in (miss, hit):
        assert answer.status == 200
        assert answer.body == document.encode()
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["ETag"] == '"0000000000004711"'
        assert answer.headers["Cache-Control"] == (
            "max-age=60, stale-if-error=600")
        assert int(answer.headers["Age"]) in (0, 1)
    assert where(miss)[0] == "fwd=uri-miss; stored; detail=postgres"
    assert where(hit)[0] == "hit"
    assert 53 <= where(hit)[1] <= 60
    for source, count in before.items():
        assert own_stack.metric("hotpath_read_requests_total",
                                source) == count + 1


def test_age_grows(own_stack):
    name = key()
    store(own_stack, name, "{}")
    own_stack.get(f"/prices/{name}")
    wait_until(lambda: int(own_stack.get(f"/prices/{name}").headers["Age"])
               >= 1, 5, "a second passes")
    answer = own_stack.get(f"/prices/{name}")
    assert int(answer.headers["Age"]) + where(answer)[1] in range(53, 61)


def test_postgres_fills_redis(own_stack, redis):
    name = key()
    store(own_stack, name, '{"a":"ä"}', 5)
    assert own_stack.get(f"/prices/{name}").status == 200
    value = wait_until(lambda: redis("GET", redis_key(name)), 5,
                       "Redis has it")
    assert value == record(name, '{"a":"ä"}', 5)
    assert 86300000 < redis("PTTL", redis_key(name)) <= 86400000


def test_redis_after_a_restart(own_stack, redis):
    """Also where Postgres has nothing: Redis is asked first."""
    name, gone = key(), key()
    redis("SET", redis_key(name), record(name, '{"from":"redis"}', 0xabc))
    redis("SET", redis_key(gone), record(gone, "", 0xabd, deleted=True))
    own_stack.restart("nginx")
    own_stack.wait_ready()
    answer = own_stack.get(f"/prices/{name}")
    assert answer.body == b'{"from":"redis"}'
    assert answer.headers["ETag"] == '"0000000000000abc"'
    assert where(answer)[0] == "fwd=uri-miss; stored; detail=redis"
    assert where(own_stack.get(f"/prices/{name}"))[0] == "hit"
    answer = own_stack.get(f"/prices/{gone}")
    check_problem(answer, 404, "document_unknown")
    assert where(answer)[0] == "fwd=uri-miss; stored; detail=redis"


def foreign(name):
    return [b"", b"x", b"HPD", record(name, "{}")[:31],
            b"\0" + record(name, "{}")[1:], record(name + "x", "{}"),
            record(name, "{}", tenant="other"), record(name, "")]


@pytest.mark.parametrize("which", range(len(foreign(""))))
def test_what_is_no_document_in_redis(own_stack, redis, which):
    name = key()
    store(own_stack, name, '{"from":"postgres"}')
    redis("SET", redis_key(name), foreign(name)[which])
    before = own_stack.metric("hotpath_redis_errors_total")
    answer = own_stack.get(f"/prices/{name}")
    assert answer.body == b'{"from":"postgres"}'
    assert where(answer)[0] == "fwd=uri-miss; stored; detail=postgres"
    assert own_stack.metric("hotpath_redis_errors_total") == before + 1


def test_another_type_in_redis(own_stack, redis):
    name = key()
    store(own_stack, name, '{"from":"postgres"}')
    redis("LPUSH", redis_key(name), "x")
    assert own_stack.get(f"/prices/{name}").body == b'{"from":"postgres"}'


def test_a_newer_document_in_redis_stays(own_stack, redis):
    """What Postgres gives to this instance is not written over it."""
    name = key()
    store(own_stack, name, '{"v":1}', 1)
    own_stack.freeze("postgres")
    try:
        with RawHTTP(own_stack.ports["http"]) as client:
            asked = writing(own_stack)
            client.send(f"GET /prices/{name} HTTP/1.1\r\nHost: t\r\n\r\n"
                        .encode())
            wait_until(lambda: writing(own_stack) == asked + 1, 5, "it waits")
            redis("SET", redis_key(name), record(name, '{"v":2}', 2))
            own_stack.thaw("postgres")
            assert client.answer().status == 200
    finally:
        own_stack.thaw("postgres")
    later = key()
    store(own_stack, later, "{}")
    own_stack.get(f"/prices/{later}")
    wait_until(lambda: redis("GET", redis_key(later)), 5, "a later SET")
    assert redis("GET", redis_key(name)) == record(name, '{"v":2}', 2)


@pytest.mark.parametrize("size", [0, 1, 100, 255, 256, 257, 5000, 200000])
def test_documents_of_all_sizes(own_stack, size):
    name = key()
    document = '"' + "d" * size + '"'
    store(own_stack, name, document)
    for detail in ("fwd=uri-miss; stored; detail=postgres", "hit"):
        answer = own_stack.get(f"/prices/{name}")
        assert answer.body == document.encode()
        assert where(answer)[0] == detail


def test_a_document_too_large_for_the_zone(own_stack):
    store(own_stack, "big-1", '"' + "b" * 20000 + '"')
    for _ in range(2):
        answer = own_stack.get("/offer?a=big&b=1")
        assert len(answer.body) == 20002
        assert "detail=postgres" in answer.headers["Cache-Status"] or \
            "detail=redis" in answer.headers["Cache-Status"]


# Nothing there.

def test_unknown_is_cached(own_stack):
    name = key()
    miss = own_stack.get(f"/prices/{name}")
    check_problem(miss, 404, "document_unknown")
    assert where(miss)[0] == "fwd=uri-miss; stored; detail=postgres"
    assert 3 <= where(miss)[1] <= 5
    store(own_stack, name, "{}")
    hit = own_stack.get(f"/prices/{name}")
    check_problem(hit, 404, "document_unknown")
    assert where(hit)[0] == "hit"
    assert hit.headers["ETag"] is None


def test_unknown_expires(own_stack):
    name = key()
    check_problem(own_stack.get(f"/short/{name}"), 404, "document_unknown")
    store(own_stack, name, '{"late":1}')
    wait_until(lambda: own_stack.get(f"/short/{name}").status == 200, 5,
               "the negative answer expires")


def test_unknown_is_replaced_by_a_push(own_stack):
    name = key()
    check_problem(own_stack.get(f"/prices/{name}"), 404, "document_unknown")
    with Nats(own_stack.ports["nats"]) as nats:
        nats.push("prices", [golden.document(
            b'{"pushed":1}', name.encode(), b"default")], lane=900)
        wait_until(lambda: own_stack.get(f"/prices/{name}").status == 200, 2,
                   "the pushed document is there")
    answer = own_stack.get(f"/prices/{name}")
    assert answer.body == b'{"pushed":1}'
    assert where(answer)[0] == "hit"


def test_deleted_is_unknown(own_stack):
    name = key()
    store(own_stack, name, "", deleted=True)
    check_problem(own_stack.get(f"/prices/{name}"), 404, "document_unknown")


def test_deleted_after_it_was_known(own_stack):
    name = key()
    store(own_stack, name, "{}", 1)
    assert own_stack.get(f"/short/{name}").status == 200
    own_stack.sql("DELETE FROM hotpath.prices WHERE key = %s", (name,))
    wait_until(lambda: own_stack.get(f"/short/{name}").status == 404, 5,
               "a row that is gone is gone")


# Asked how.

@pytest.mark.parametrize("value, status", [
    ('"0000000000004711"', 304), ('W/"0000000000004711"', 304), ("*", 304),
    ('"x", "0000000000004711", "y"', 304), ('"0000000000004712"', 200),
    ("0000000000004711", 200)])
def test_if_none_match(own_stack, value, status):
    name = key()
    store(own_stack, name, '{"a":1}')
    for _ in range(2):
        answer = own_stack.get(f"/prices/{name}", {"If-None-Match": value})
        assert answer.status == status
        assert answer.body == (b"" if status == 304 else b'{"a":1}')
        assert answer.headers["ETag"] == '"0000000000004711"'
        assert answer.headers["Cache-Control"] == (
            "max-age=60, stale-if-error=600")
        assert answer.headers["Age"]


def test_if_match(own_stack):
    name = key()
    store(own_stack, name, '{"a":1}')
    path = f"/prices/{name}"
    own_stack.get(path)
    assert own_stack.get(path, {"If-Match": '"0000000000004711"'}).status \
        == 200
    check_problem(own_stack.get(path, {"If-Match": '"x"'}), 412,
                  "precondition_failed")


def test_head(own_stack):
    name = key()
    store(own_stack, name, '{"a":1}')
    for detail in ("fwd=uri-miss; stored; detail=postgres", "hit"):
        answer = own_stack.request("HEAD", f"/prices/{name}")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Length"] == "7"
        assert answer.headers["ETag"] == '"0000000000004711"'
        assert where(answer)[0] == detail
    answer = own_stack.request("HEAD", f"/prices/{key()}")
    assert (answer.status, answer.body) == (404, b"")


def test_other_methods(own_stack):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = own_stack.request(method, "/prices/1", b"{}")
        check_problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD"


def test_get_with_a_body(own_stack):
    name = key()
    store(own_stack, name, '{"a":1}')
    client = Client(own_stack.ports["http"])
    for _ in range(3):
        answer = client.request("GET", f"/prices/{name}", b"x" * 100000)
        assert answer.body == b'{"a":1}'
    client.close()


@pytest.mark.parametrize("path, status", [
    ("/prices/", 400), ("/prices/" + "k" * 1025, 400),
    ("/prices/" + "k" * 1024, 404)], ids=["empty", "1025", "1024"])
def test_key_length(own_stack, path, status):
    check_problem(own_stack.get(path), status,
                  "read_key_invalid" if status == 400 else "document_unknown")


@pytest.mark.parametrize("name, path", [
    ("a/b", "a/b"), ("a b", "a%20b"), ("ä", "%C3%A4"), ("a:b", "a:b"),
    ("%", "%25"), ("j" * 1024, "j" * 1024), ("'; --", "';%20--")],
    ids=["slash", "space", "umlaut", "colon", "percent", "long", "quote"])
def test_keys_of_all_kinds(own_stack, name, path):
    unique = uuid.uuid4().hex
    name, path = (name, path) if len(name) > 99 else (name + unique,
                                                      path + unique)
    document = '{"key":' + str(len(name)) + "}"
    store(own_stack, name, document, time.time_ns() // 1000)
    wait_until(lambda: own_stack.get(f"/prices/{path}").body
               == document.encode(), 10, "it is read")
    assert where(own_stack.get(f"/prices/{path}"))[0] == "hit"


def test_key_that_is_no_text(own_stack):
    """Postgres could only refuse it; more in test_params.py."""
    check_problem(own_stack.get("/prices/%ff%fe" + key()), 400,
                  "read_key_invalid")
    name = key()
    store(own_stack, name, "{}")
    assert own_stack.get(f"/prices/{name}").status == 200


def test_tenants(own_stack):
    name = key()
    store(own_stack, name, '{"of":"default"}')
    store(own_stack, name, '{"of":"acme"}', tenant="acme")
    store(own_stack, name, '{"of":"all"}', tenant="")
    for _ in range(2):
        for headers, path, owner in (
                ({}, "prices", "default"),
                ({"X-Tenant": "acme"}, "prices", "acme"),
                ({"X-Tenant": "acme"}, "shared", "all"),
                ({}, "shared", "all")):
            answer = own_stack.get(f"/{path}/{name}", headers)
            assert answer.json()["of"] == owner
    check_problem(own_stack.get(f"/prices/{name}", {"X-Tenant": "nobody"}),
                  404, "document_unknown")
    check_problem(own_stack.get(f"/prices/{name}", {"X-Tenant": "a:b"}),
                  400, "tenant_invalid")
    assert own_stack.get(f"/shared/{name}",
                         {"X-Tenant": "a:b"}).status == 200


def test_read_statement(own_stack):
    """A key made of two arguments; another tenant's row where there is none
    of one's own."""
    one, two = key(), key()
    store(own_stack, f"{one}-{two}", '{"of":"fallback"}', tenant="fallback")
    store(own_stack, f"{one}-{two}", '{"of":"acme"}', tenant="acme")
    path = f"/offer?a={one}&b={two}"
    assert own_stack.get(path, {"X-Tenant": "acme"}).json() == {"of": "acme"}
    answer = own_stack.get(path, {"X-Tenant": "other"})
    assert answer.json() == {"of": "fallback"}
    assert answer.headers["Cache-Control"] == "max-age=300, stale-if-error=600"
    assert where(own_stack.get(path, {"X-Tenant": "other"}))[0] == "hit"


@pytest.mark.parametrize("path, complaint", [
    ("/columns/", "gives 2 columns instead of version"),
    ("/broken/", 'relation "hotpath.no_such_table" does not exist')])
def test_statement_that_cannot_be(own_stack, path, complaint):
    for _ in range(2):
        answer = own_stack.get(path + key())
        check_problem(answer, 503, "backend_unavailable")
        assert answer.headers["Retry-After"] == "1"
    assert complaint in own_stack.log("nginx")
    name = key()
    store(own_stack, name, "{}")
    assert own_stack.get(f"/prices/{name}").status == 200


# Many at once, and nobody there.

def ask_together(stack, path, count):
    """So many requests that all wait for a frozen Postgres; their answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode()
    clients = [RawHTTP(stack.ports["http"]) for _ in range(count)]
    stack.freeze("postgres")
    try:
        for client in clients:
            client.send(request)
        wait_until(lambda: writing(stack) == count, 5, "all are waiting")
    finally:
        stack.thaw("postgres")
    answers = [client.answer() for client in clients]
    for client in clients:
        client.close()
    return answers


def queries(stack):
    """How often a row was looked up through /counted/."""
    (count,), = stack.sql("SELECT last_value - (NOT is_called)::int"
                          " FROM hotpath.calls")
    return count


def test_single_flight(own_stack):
    """One query a worker at most, counted by Postgres itself."""
    name = key()
    store(own_stack, name, '{"a":1}')
    # both workers have a connection, on which the statement is prepared
    for _ in range(16):
        own_stack.get(f"/counted/{key()}")
    before = queries(own_stack)
    collapsed = own_stack.metric("hotpath_read_requests_total", "collapsed")
    answers = ask_together(own_stack, f"/counted/{name}", 60)
    assert {(answer.status, answer.body) for answer in answers} == {
        (200, b'{"a":1}')}
    assert 1 <= queries(own_stack) - before <= 2
    waited = sum("collapsed" in answer.headers["cache-status"]
                 for answer in answers)
    assert waited >= 58
    assert own_stack.metric("hotpath_read_requests_total",
                            "collapsed") == collapsed + waited


def test_single_flight_for_what_is_unknown(own_stack):
    answers = ask_together(own_stack, f"/prices/{key()}", 20)
    assert {answer.status for answer in answers} == {404}


def test_client_that_goes_away_leaves_the_document(own_stack):
    name = key()
    store(own_stack, name, "{}")
    own_stack.get(f"/prices/{key()}")
    own_stack.freeze("postgres")
    try:
        with RawHTTP(own_stack.ports["http"]) as client:
            asked = writing(own_stack)
            client.send(f"GET /prices/{name} HTTP/1.1\r\nHost: t\r\n\r\n"
                        .encode())
            wait_until(lambda: writing(own_stack) == asked + 1, 5, "it waits")
        wait_until(lambda: writing(own_stack) == asked, 5, "it is gone")
    finally:
        own_stack.thaw("postgres")
    wait_until(lambda: where(own_stack.get(f"/prices/{name}"))[0] == "hit",
               5, "the fetch went on without it")


def test_many_keys_at_once(own_stack):
    names = [key() for _ in range(300)]
    own_stack.sql(
        "INSERT INTO hotpath.prices SELECT 'default', name, 1, name, now(),"
        " false, 0, 1 FROM unnest(%s) AS name", (names,))
    wrong, lock = [], threading.Lock()

    def work(part):
        client = Client(own_stack.ports["http"])
        for name in part:
            answer = client.request("GET", f"/prices/{name}")
            if (answer.status, answer.body) != (200, name.encode()):
                with lock:
                    wrong.append(answer)
        client.close()
    threads = [threading.Thread(target=work, args=(names[part::10],))
               for part in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert wrong == []


@pytest.fixture
def no_backends(own_stack):
    own_stack.stop("redis")
    own_stack.stop("postgres")
    yield
    for name in ("redis", "postgres"):
        if own_stack[name].pid() is None:
            own_stack.start(name)
    cold = f"/prices/{key()}"
    wait_until(lambda: own_stack.get(cold).status == 404, 10,
               "backends are used again")


def test_stale_where_nobody_answers(own_stack, request):
    name, brief, unknown = key(), key(), key()
    store(own_stack, name, '{"a":1}')
    store(own_stack, brief, '{"b":1}')
    assert own_stack.get(f"/short/{name}").status == 200
    assert own_stack.get(f"/short/{unknown}").status == 404
    assert own_stack.get(f"/brief/{brief}").status == 200
    fresh = key()
    store(own_stack, fresh, '{"c":1}')
    assert own_stack.get(f"/prices/{fresh}").status == 200
    request.getfixturevalue("no_backends")

    before = own_stack.metric("hotpath_read_requests_total", "zone_stale")
    answer = wait_until(
        lambda: (lambda found: found if where(found)[0] != "hit" else None)(
            own_stack.get(f"/short/{name}")), 5, "it is stale")
    assert (answer.status, answer.body) == (200, b'{"a":1}')
    assert where(answer)[0] == "hit; detail=stale-if-error"
    assert where(answer)[1] <= 0
    assert own_stack.metric("hotpath_read_requests_total",
                            "zone_stale") > before
    answer = own_stack.get(f"/short/{unknown}")
    check_problem(answer, 404, "document_unknown")
    assert where(answer)[0] == "hit; detail=stale-if-error"

    assert where(own_stack.get(f"/prices/{fresh}"))[0] == "hit"
    answer = wait_until(
        lambda: (lambda found: found if found.status != 200 else None)(
            own_stack.get(f"/brief/{brief}")), 5, "too old to be used")
    check_problem(answer, 503, "backend_unavailable")
    answer = own_stack.get(f"/prices/{key()}")
    check_problem(answer, 503, "backend_unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_either_backend_is_enough(own_stack, redis):
    in_redis, in_postgres = key(), key()
    redis("SET", redis_key(in_redis), record(in_redis, '{"r":1}'))
    store(own_stack, in_postgres, '{"p":1}')
    own_stack.stop("postgres")
    try:
        # a worker may still be on its way back to Redis from the test before
        wait_until(lambda: own_stack.get(f"/prices/{in_redis}").status
                   == 200, 10, "Redis is asked")
        assert own_stack.get(f"/prices/{in_redis}").body == b'{"r":1}'
    finally:
        own_stack.start("postgres")
    own_stack.stop("redis")
    try:
        wait_until(lambda: own_stack.get(f"/prices/{in_postgres}").status
                   == 200, 10, "Postgres is back")
        assert own_stack.get(
            f"/prices/{in_postgres}").body == b'{"p":1}'
    finally:
        own_stack.start("redis")
