"""Lists: pages by cursor, what they hold against the database, who may use
which cursor, and how pages are kept.

Rows are written by SQL, so that a test knows what is there; no drain and no
projector runs. Cursors are read and written here by code of its own, from the
description in ngx_module/core/hp_cursor.h. The chain from an event to the page
is in test_stack.py.
"""

import base64
import hashlib
import hmac
import json
import random
import re
import struct
import subprocess
import time
import urllib.parse
import uuid

import pytest

from servers import Client, wait_until
from wire import Nats, RawHTTP, golden

HTTP = """
hotpath_cache_zone zone=short:4m;
hotpath_cache_zone zone=counted:4m;
hotpath_cache_zone zone=tiny:4m max_entry=2k;
"""

LIVE = "hotpath_cache documents ttl=0 revalidate=0 stale=0;"

SERVER = f"""
location = /live {{
    hotpath_list orders key=$arg_customer limit=5,50;
    {LIVE}
}}
location /by-path/ {{ hotpath_list orders limit=5,50; {LIVE} }}
location = /decoded {{
    hotpath_param customer arg string(1..1000);
    hotpath_list orders key=$hotpath_param_customer limit=5,50;
    {LIVE}
}}
location = /typed {{
    hotpath_param customer arg uuid;
    hotpath_param from header:X-From string(0..9) default=;
    hotpath_param_strict on;
    hotpath_fields on;
    hotpath_list orders key=$hotpath_param_customer limit=2,9;
    {LIVE}
}}
location = /shared {{
    hotpath_list orders key=$arg_customer shared;
    {LIVE}
}}
location = /others {{
    hotpath_list others key=$arg_customer limit=5,50;
    hotpath_list_statement "SELECT document, list_us, key FROM hotpath.orders
        WHERE tenant = $1 AND list_key = $2
        AND (list_us, key) < (coalesce($4::bigint, 9223372036854775807),
                              coalesce($5::text, ''))
        ORDER BY list_us DESC, key DESC LIMIT $3::bigint";
    {LIVE}
}}
location = /by-key {{
    hotpath_list by_key key=$arg_customer cursor=1 limit=5,1000;
    hotpath_list_statement "SELECT document, key FROM hotpath.orders
        WHERE tenant = $1 AND list_key = $2 AND key > coalesce($4::text, '')
        ORDER BY key LIMIT $3::bigint";
    {LIVE}
}}
location = /five {{
    hotpath_list five key=$arg_customer cursor=5 limit=1,1;
    hotpath_list_statement "SELECT '[' || n || ']', n, n, n, n, n
        FROM generate_series(1, 3) AS n WHERE $1 || $2 <> ''
        AND n > coalesce(($4::int + $5::int + $6::int + $7::int + $8::int) / 5,
                         0) ORDER BY n LIMIT $3::bigint";
    {LIVE}
}}
location = /short {{
    hotpath_list orders key=$arg_customer limit=5,50;
    hotpath_cache short ttl=50ms stale=10m jitter=0%;
}}
location = /brief {{
    hotpath_list brief key=$arg_customer limit=5,50;
    hotpath_list_statement "SELECT document, list_us, key FROM hotpath.orders
        WHERE tenant = $1 AND list_key = $2 AND concat($4::text, $5::text) = ''
        LIMIT $3::bigint";
    hotpath_cache short ttl=50ms stale=50ms jitter=0%;
}}
location = /kept {{
    hotpath_list kept key=$arg_customer limit=5,50;
    hotpath_list_statement "SELECT document, list_us, key FROM hotpath.orders
        WHERE tenant = $1 AND list_key = $2
        AND nextval('hotpath.list_calls') > 0
        AND (list_us, key) < (coalesce($4::bigint, 9223372036854775807),
                              coalesce($5::text, ''))
        ORDER BY list_us DESC, key DESC LIMIT $3::bigint";
    hotpath_cache counted ttl=1h;
}}
location = /renewed {{
    hotpath_list orders key=$arg_customer renew=customer;
    hotpath_cache documents ttl=1h;
}}
location = /tiny {{
    hotpath_list orders key=$arg_customer;
    hotpath_cache tiny ttl=1h;
}}
location = /columns {{
    hotpath_list columns key=$arg_customer;
    hotpath_list_statement "SELECT $1, $2 WHERE $3 <> $4 OR $5 <> ''";
    {LIVE}
}}
location = /null-place {{
    hotpath_list null_place key=x limit=1,1;
    hotpath_list_statement "SELECT '1', NULL, concat($1::text, $2::text,
        $4::text, $5::text) FROM generate_series(1, $3::bigint)";
    {LIVE}
}}
location = /long-place {{
    hotpath_list long_place key=x limit=1,1;
    hotpath_list_statement "SELECT '1', repeat('x', 1600), concat($1::text,
        $2::text, $4::text, $5::text) FROM generate_series(1, $3::bigint)";
    {LIVE}
}}
location = /no-document {{
    hotpath_list no_document key=x;
    hotpath_list_statement "SELECT '', $3, concat($1::text, $2::text,
        $4::text, $5::text)";
    {LIVE}
}}
location = /broken {{
    hotpath_list broken key=$arg_customer;
    hotpath_list_statement "SELECT $1, $2, $3, $4, $5 FROM hotpath.nowhere";
    {LIVE}
}}
"""

STACK = {"without": ("drain", "project"), "http": HTTP, "server": SERVER}


@pytest.fixture(scope="module", autouse=True)
def calls(own_stack):
    own_stack.sql("CREATE SEQUENCE hotpath.list_calls")


def someone():
    return f"c-{uuid.uuid4()}"


def store(stack, customer, rows, tenant="default"):
    """Orders as the projector would have left them: (key, list_us, …)."""
    stack.sql(
        "INSERT INTO hotpath.orders SELECT %s, k, 1, json_build_object("
        "'orderId', k, 'customer', %s, 'place', us)::text, now(), false, 0, 1,"
        " %s, us FROM unnest(%s::text[], %s::bigint[]) AS row(k, us)",
        (tenant, customer, customer, [row[0] for row in rows],
         [row[1] for row in rows]))


def expected(stack, customer, tenant="default"):
    """What the list has to be, by the database's own order."""
    return [row[0] for row in stack.sql(
        "SELECT key FROM hotpath.orders WHERE tenant = %s AND list_key = %s"
        " AND NOT deleted ORDER BY list_us DESC, key DESC",
        (tenant, customer))]


def fill(stack, count, tenant="default"):
    """A customer with so many orders, some at the very same moment."""
    customer = someone()
    draw = random.Random(count)
    store(stack, customer, [
        (f"{customer}/{number:04}", 1700000000000000 + draw.randrange(count))
        for number in range(count)], tenant)
    return customer


def page(answer):
    """The documents' keys and the next cursor of a page that is one."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert list(body) == ["data", "nextCursor", "hasMore"]
    assert body["hasMore"] == (body["nextCursor"] is not None)
    return [row["orderId"] for row in body["data"]], body["nextCursor"]


def links(answer):
    """rel -> target of the field Link."""
    (field,) = answer.headers.get_all("Link")
    found = re.findall(r'<([^<>]*)>; rel="(\w+)"', field)
    assert ", ".join(f'<{target}>; rel="{rel}"'
                     for target, rel in found) == field
    return {rel: target for target, rel in found}


def walk(stack, path, headers=None, between=None):
    """All keys from first page to last, by the links."""
    keys, pages = [], 0
    while path:
        answer = stack.get(path, headers)
        got, cursor = page(answer)
        keys.append(got)
        target = links(answer).get("next")
        assert (target is None) == (cursor is None)
        if target:
            path = urllib.parse.urljoin(path, target)
            query = dict(urllib.parse.parse_qsl(path.partition("?")[2]))
            assert query["cursor"] == cursor
        else:
            path = None
        pages += 1
        assert pages < 200
        if between:
            between(got)
    return keys


def check_problem(answer, status, code, parameter=None, reason=None):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem.get("parameter") == parameter
    assert problem.get("reason") == reason
    return answer


def hit(answer):
    """Out of the zone, and fresh."""
    assert answer.status in (200, 304), answer
    return bool(re.fullmatch(r"Hotpath; hit; ttl=\d+",
                             answer.headers["Cache-Status"]))


def stored(answer):
    return "; stored; " in answer.headers["Cache-Status"]


# Cursors, from hp_cursor.h.

def secrets(stack):
    with open(stack.path("nginx", "cursor.secret"), "rb") as file:
        return file.read().split()


def cursor_read(text):
    """(scope, expires_s, parts), unchecked."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    version, scope, expires, count = struct.unpack(">B8sIB", raw[:14])
    assert version == 1
    parts, rest = [], raw[14:-16]
    for _ in range(count):
        kind, length = struct.unpack(">BH", rest[:3])
        parts.append((kind, rest[3:3 + length]))
        rest = rest[3 + length:]
    assert rest == b""
    return scope, expires, parts


def cursor_write(secret, scope, expires, parts, version=1):
    raw = struct.pack(">B8sIB", version, scope, expires, len(parts))
    raw += b"".join(struct.pack(">BH", kind, len(part)) + part
                    for kind, part in parts)
    raw += hmac.new(secret, raw, hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def first_cursor(stack, customer, path="/live", headers=None):
    cursor = page(stack.get(f"{path}?customer={customer}&limit=1",
                            headers))[1]
    assert cursor
    return cursor


# What a page holds.

@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10, 11, 57])
def test_walk(own_stack, count):
    customer = fill(own_stack, count)
    pages = walk(own_stack, f"/live?customer={customer}")
    assert sum(pages, []) == expected(own_stack, customer)
    assert {len(each) for each in pages[:-1]} <= {5}
    assert len(pages) == max(1, -(-count // 5))


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_walk_in_other_steps(own_stack, limit):
    customer = fill(own_stack, 120 if limit > 1 else 12)
    pages = walk(own_stack, f"/live?customer={customer}&limit={limit}")
    assert sum(pages, []) == expected(own_stack, customer)
    assert {len(each) for each in pages[:-1]} == {limit}


def test_walk_while_rows_come_and_go(own_stack):
    """Nothing twice, nothing missing that was there all the time, in order."""
    customer = fill(own_stack, 80)
    before = expected(own_stack, customer)
    draw = random.Random(7)
    seen, gone, steps = set(), set(), []

    def change(got):
        seen.update(got)
        steps.append(got)
        number = len(steps)
        store(own_stack, customer, [
            (f"{customer}/new{number}-{each}",
             1700000000000000 + draw.choice((0, 20, 40, 60, 79, 10**9)))
            for each in range(3)])
        for name in draw.sample(before, 3):
            gone.add(name)
            own_stack.sql(
                "DELETE FROM hotpath.orders WHERE key = %s" if number % 2 else
                "UPDATE hotpath.orders SET deleted = true, document = ''"
                " WHERE key = %s", (name,))

    keys = sum(walk(own_stack, f"/live?customer={customer}", between=change),
               [])
    assert len(keys) == len(set(keys)), "a row came twice"
    old = [name for name in keys if name in set(before)]
    assert old == [name for name in before if name in set(old)]
    missing = set(before) - set(old)
    assert missing <= gone, "a row that stayed did not come"
    assert any("/new" in name for name in keys)
    assert gone & missing and gone & set(old), "the test changed nothing"


def test_rows_are_the_database_own(own_stack):
    customer = fill(own_stack, 7)
    answer = own_stack.get(f"/live?customer={customer}&limit=50")
    rows = own_stack.sql(
        "SELECT document FROM hotpath.orders WHERE list_key = %s"
        " ORDER BY list_us DESC, key DESC", (customer,))
    assert answer.body.decode() == (
        '{"data":[' + ",".join(row[0] for row in rows)
        + '],"nextCursor":null,"hasMore":false}')


def test_empty_list(own_stack):
    answer = own_stack.get(f"/live?customer={someone()}")
    assert answer.body == b'{"data":[],"nextCursor":null,"hasMore":false}'
    assert "next" not in links(answer)


def test_key_from_the_path(own_stack):
    customer = fill(own_stack, 12)
    pages = walk(own_stack, f"/by-path/{customer}")
    assert sum(pages, []) == expected(own_stack, customer)
    check_problem(own_stack.get("/by-path/"), 400, "read_key_invalid")
    check_problem(own_stack.get("/by-path/%ff"), 400, "read_key_invalid")


def test_cursors_of_one_and_of_five_parts(own_stack):
    customer = fill(own_stack, 23)
    pages = walk(own_stack, f"/by-key?customer={customer}")
    assert sum(pages, []) == sorted(expected(own_stack, customer))
    path, rows = "/five?customer=x", []
    while path:
        answer = own_stack.get(path)
        rows += answer.json()["data"]
        target = links(answer).get("next")
        path = target and urllib.parse.urljoin(path, target)
    assert rows == [[1], [2], [3]]


@pytest.mark.parametrize("customer", [
    "a b", "ä€😀", "%", "'; DROP TABLE hotpath.orders; --", "a&b=c", "a+b",
    "<>\"\\", "x" * 1000], ids=range(8))
def test_keys_of_all_kinds(own_stack, customer):
    quoted = urllib.parse.quote(customer, safe="")
    rows = [f"{uuid.uuid4()}-{n}" for n in range(7)]
    store(own_stack, customer, [(rows[n], n) for n in range(7)], "kinds")
    pages = walk(own_stack, f"/by-path/{quoted}", {"X-Tenant": "kinds"})
    assert sum(pages, []) == rows[::-1]
    pages = walk(own_stack, f"/decoded?customer={quoted}",
                 {"X-Tenant": "kinds"})
    assert sum(pages, []) == rows[::-1]


def test_large_documents_make_short_pages(own_stack):
    """A page is bounded by its bytes too, and then says that there is more."""
    customer = someone()
    for number in range(5):
        own_stack.sql(
            "INSERT INTO hotpath.orders VALUES ('default', %s, 1,"
            " '{\"orderId\":\"' || %s || '\",\"x\":\"' || repeat('x', %s)"
            " || '\"}', now(), false, 0, 1, %s, %s)",
            (f"{customer}-{number}", f"{customer}-{number}",
             (100, 1200000, 600000, 600000, 300000)[number], customer, number))
    pages = walk(own_stack, f"/live?customer={customer}&limit=50")
    assert sum(pages, []) == [f"{customer}-{n}" for n in range(4, -1, -1)]
    assert [len(each) for each in pages] == [2, 1, 1, 1]


def test_the_index_serves_the_pages(own_stack):
    """With a generic plan too, which a prepared statement may get."""
    with open(f"{own_stack.directory}/../../../../ngx_module/"
              "ngx_http_hotpath_list.c", encoding="utf-8") as file:
        source = file.read()
    text = re.search(r"define NGX_HTTP_HOTPATH_LIST_SQL\s*\\\n((?:.*\\\n)+.*)",
                     source).group(1)
    sql = "".join(re.findall(r'"([^"]*)"', text)).replace(
        "%V", "orders").replace("%Z", "")
    plan = own_stack.psql(
        "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"
        "SET enable_bitmapscan = off; SET enable_sort = off;"
        f"PREPARE list(text, text, bigint, bigint, text) AS {sql};"
        "EXPLAIN (COSTS OFF) EXECUTE list('t', 'c', 3, 4, 'k')")
    plan = "\n".join(row[0] for row in plan)
    assert "Index Scan Backward using orders_list" in plan
    assert re.search(r"Index Cond: .*ROW\(list_us, key\) < ROW\(", plan), plan
    assert "Sort" not in plan


# How much.

@pytest.mark.parametrize("limit, count", [
    ("", 5), ("&limit=1", 1), ("&limit=0", 1), ("&limit=-7", 1),
    ("&limit=50", 50), ("&limit=51", 50), ("&limit=99999999999999999999", 50),
    ("&%6Cimit=%32", 2)])
def test_limit(own_stack, limit, count):
    customer = fill(own_stack, 60)
    answer = own_stack.get(f"/live?customer={customer}{limit}")
    assert len(page(answer)[0]) == count
    for target in links(answer).values():
        query = urllib.parse.parse_qsl(target.partition("?")[2])
        assert dict(query)["limit"] == str(count)
        assert len(query) == len(dict(query))


@pytest.mark.parametrize("limit, reason", [
    ("limit=", "param_type"), ("limit", "param_type"),
    ("limit=x", "param_type"), ("limit=1.5", "param_type"),
    ("limit=+5", "param_type"), ("limit=05", "param_type"),
    ("limit=%zz", "param_escape"), ("limit=5&limit=5", "param_repeat"),
    ("limit=5&%6cimit=6", "param_repeat")])
def test_limit_that_is_none(own_stack, limit, reason):
    check_problem(own_stack.get(f"/live?customer=x&{limit}"), 400,
                  "parameter_invalid", "limit", reason)


def test_sample_route(own_stack):
    """config/routes.conf: typed, strict, 20 and 100."""
    customer = fill(own_stack, 130)
    for limit, count in (("", 20), ("&limit=1000", 100)):
        assert len(page(own_stack.get(
            f"/orders?customer={customer}{limit}"))[0]) == count
    check_problem(own_stack.get("/orders"), 400, "parameter_required",
                  "customer")
    check_problem(own_stack.get(f"/orders?customer={customer}&page=2"), 400,
                  "parameter_unknown", "page")
    name = expected(own_stack, customer)[0]
    answer = own_stack.get("/orders/" + urllib.parse.quote(name, safe=""))
    assert answer.json()["orderId"] == name
    answer = own_stack.request("POST", "/orders?customer=x", b"{}")
    check_problem(answer, 405, "method_not_allowed")


def test_typed_and_strict(own_stack):
    customer = str(uuid.uuid4())
    store(own_stack, customer, [(f"{customer}-{n}", n) for n in range(5)])
    pages = walk(own_stack, f"/typed?customer={customer.upper()}",
                 {"X-From": "a"})
    assert [len(each) for each in pages] == [2, 2, 1]
    selected = own_stack.get(f"/typed?customer={customer}&fields=orderId")
    assert selected.status == 200
    assert all(set(each) == {"orderId"} for each in selected.json()["data"])
    assert selected.json()["data"]
    check_problem(own_stack.get(f"/typed?customer={customer}&limit=2&x=1"),
                  400, "parameter_unknown", "x")
    check_problem(own_stack.get("/typed?customer=x"), 400,
                  "parameter_invalid", "customer", "param_type")
    check_problem(own_stack.get(f"/typed?customer={customer}",
                                {"X-From": "0123456789"}), 400,
                  "parameter_invalid", "from", "param_length")


# Links.

def test_links_keep_what_the_client_asked(own_stack):
    customer = fill(own_stack, 3)
    answer = own_stack.get(f"/live?b=%20&customer={customer}&limit=2"
                           "&a=1&a=2&c&=&")
    found = links(answer)
    kept = f"?b=%20&customer={customer}&a=1&a=2&c&=&limit=2"
    cursor = answer.json()["nextCursor"]
    assert found == {"next": f"{kept}&cursor={cursor}", "first": kept}
    answer = own_stack.get("/live" + found["next"])
    assert links(answer) == {"first": kept}
    assert own_stack.get("/live" + found["first"]).json()["nextCursor"]


def test_links_of_one_page_under_two_addresses(own_stack):
    """The page is kept once; each gets links to its own address."""
    customer = fill(own_stack, 9)
    one = own_stack.get(f"/kept?customer={customer}&x=1")
    two = own_stack.get(f"/kept?y=2&customer={customer}")
    assert hit(two)
    assert one.body == two.body
    assert "x=1" in links(one)["next"] and "y=2" not in links(one)["next"]
    assert "y=2" in links(two)["next"] and "x=1" not in links(two)["next"]


@pytest.mark.parametrize("odd", [
    b'a>; rel="preload"', b"<b>", b'"', b"\\", b"\xc3\xa4", b"\xff", b"`{|}^",
    b"[x]", b"'();@:/?,$!*~"])
def test_links_cannot_be_broken_out_of(own_stack, odd):
    customer = fill(own_stack, 9)
    odd = odd.replace(b" ", b"+")
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(b"GET /live?customer=%s&odd=%s HTTP/1.1\r\nHost: t\r\n\r\n"
                    % (customer.encode(), odd))
        answer = client.answer()
    assert answer.status == 200
    target = answer.headers["link"]
    match = re.fullmatch(r'<(\?[\x21-\x3b\x3d\x3f-\x7e]+)>; rel="next", '
                         r'<(\?[\x21-\x3b\x3d\x3f-\x7e]+)>; rel="first"',
                         target)
    assert match, target
    for each in match.groups():
        assert not re.search(r'["\\<>\[\]{}^`|]', each)
        query = urllib.parse.parse_qs(each[1:], encoding="latin-1")
        assert query["odd"] == [
            urllib.parse.unquote_plus(odd.decode("latin-1"), "latin-1")]


# Whose cursor.

def test_what_a_cursor_is(own_stack):
    customer = fill(own_stack, 5)
    body = own_stack.get(f"/live?customer={customer}&limit=2").json()
    scope, expires, parts = cursor_read(body["nextCursor"])
    last = body["data"][-1]
    assert parts == [(0, str(last["place"]).encode()),
                     (0, last["orderId"].encode())]
    assert 86400 < expires - time.time() <= 86400 * 9 / 8 + 2
    assert cursor_write(secrets(own_stack)[0], scope, expires,
                        parts) == body["nextCursor"]


def test_cursor_that_is_none(own_stack):
    customer = fill(own_stack, 5)
    good = first_cursor(own_stack, customer)
    path = f"/live?customer={customer}&cursor="
    bad = ["", "x", good[:-1], good + "A", good + "=", good[1:], good * 20,
           "%00", "%zz" + good, good.swapcase(), " " + good, "A" * 64]
    bad += [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1:]
            for at in range(len(good))]
    client = Client(own_stack.ports["http"])
    for text in bad:
        answer = client.request("GET", path + text.replace(" ", "%20"))
        if "%zz" in text or "%00" in text:
            check_problem(answer, 400, "parameter_invalid", "cursor",
                          "param_escape" if "%zz" in text else "param_nul")
        else:
            check_problem(answer, 400, "cursor_invalid", "cursor")
    client.close()
    check_problem(own_stack.get(f"{path}{good}&cursor={good}"), 400,
                  "parameter_invalid", "cursor", "param_repeat")
    page(own_stack.get(path + good))


def test_cursor_signed_but_wrong(own_stack):
    customer = fill(own_stack, 5)
    scope, expires, parts = cursor_read(first_cursor(own_stack, customer))
    secret = secrets(own_stack)[0]
    path = f"/live?customer={customer}&cursor="
    now = int(time.time())
    for text, code in (
            (cursor_write(secret, scope, expires, parts), None),
            (cursor_write(secret, scope, 0, parts), None),
            (cursor_write(secret, scope, now + 60, parts), None),
            (cursor_write(secret, scope, now - 1, parts), "cursor_expired"),
            (cursor_write(secret, scope, 1, parts), "cursor_expired"),
            (cursor_write(b"x" * 32, scope, expires, parts),
             "cursor_invalid"),
            (cursor_write(b"x" * 32, scope, 1, parts), "cursor_invalid"),
            (cursor_write(secret, b"12345678", expires, parts),
             "cursor_invalid"),
            (cursor_write(secret, scope, expires, parts, 2),
             "cursor_invalid"),
            (cursor_write(secret, scope, expires, parts[:1]),
             "cursor_invalid"),
            (cursor_write(secret, scope, expires, parts + parts[:1]),
             "cursor_invalid"),
            (cursor_write(secret, scope, expires, []), "cursor_invalid")):
        answer = own_stack.get(path + text)
        if code:
            check_problem(answer, 400, code, "cursor")
        else:
            assert len(page(answer)[0]) == 4


def test_cursor_of_another_list(own_stack):
    """Name, tenant and key are part of it; the size of the page is not."""
    customer, other = fill(own_stack, 5), fill(own_stack, 5)
    store(own_stack, customer, [(f"{customer}-{n}", n) for n in range(5)],
          "acme")
    cursor = first_cursor(own_stack, customer)
    for path, headers in ((f"/live?customer={other}", {}),
                          (f"/live?customer={customer}x", {}),
                          (f"/live?customer={customer}", {"X-Tenant": "acme"}),
                          (f"/shared?customer={customer}", {}),
                          (f"/others?customer={customer}", {}),
                          (f"/by-key?customer={customer}", {})):
        check_problem(own_stack.get(f"{path}&cursor={cursor}", headers), 400,
                      "cursor_invalid", "cursor")
    for path in (f"/live?customer={customer}&limit=3", f"/by-path/{customer}?",
                 f"/live?limit=9&customer={customer}"):
        assert page(own_stack.get(f"{path}&cursor={cursor}"))[0][0] == \
            expected(own_stack, customer)[1]


def test_cursor_of_an_older_secret(own_stack):
    customer = fill(own_stack, 5)
    path = f"/live?customer={customer}&limit=1&cursor="
    file = own_stack.path("nginx", "cursor.secret")
    (first,) = secrets(own_stack)
    cursor = first_cursor(own_stack, customer)
    second = b"another-secret-of-32-bytes-here!"

    def use(text):
        with open(file, "wb") as stream:
            stream.write(text)
        old = set(own_stack.nginx_workers())
        own_stack.reload()
        wait_until(lambda: not old & set(own_stack.nginx_workers()), 15,
                   "the old workers are gone")
    try:
        use(second + b"\r\n\n" + first + b"\n")
        newer = page(own_stack.get(path + cursor))[1]
        scope, expires, parts = cursor_read(newer)
        assert cursor_write(second, scope, expires, parts) == newer
        use(second)
        check_problem(own_stack.get(path + cursor), 400, "cursor_invalid",
                      "cursor")
        page(own_stack.get(path + newer))
    finally:
        use(first + b"\n")
    page(own_stack.get(path + cursor))


def test_tenants_apart(own_stack):
    customer = fill(own_stack, 7)
    store(own_stack, customer, [(f"{customer}-{n}", n) for n in range(3)],
          "acme")
    store(own_stack, customer, [(f"{customer}-s{n}", n) for n in range(2)],
          "")
    for headers, path, tenant in (({}, "live", "default"),
                                  ({"X-Tenant": "acme"}, "live", "acme"),
                                  ({"X-Tenant": "acme"}, "shared", "")):
        for _ in range(2):
            pages = walk(own_stack, f"/{path}?customer={customer}", headers)
            assert sum(pages, []) == expected(own_stack, customer, tenant)
    assert page(own_stack.get(f"/live?customer={customer}",
                              {"X-Tenant": "nobody"}))[0] == []
    check_problem(own_stack.get(f"/live?customer={customer}",
                                {"X-Tenant": "a:b"}), 400, "tenant_invalid")


def test_tenants_apart_in_the_zone(own_stack):
    customer = fill(own_stack, 7)
    assert len(page(own_stack.get(f"/kept?customer={customer}"))[0]) == 5
    answer = own_stack.get(f"/kept?customer={customer}", {"X-Tenant": "acme"})
    assert page(answer)[0] == []
    assert hit(own_stack.get(f"/kept?customer={customer}"))


# How pages are kept.

def queries(stack):
    """So often the statement of /kept was asked for a row."""
    (count,), = stack.sql("SELECT last_value - (NOT is_called)::int"
                          " FROM hotpath.list_calls")
    return count


def test_kept_and_validated(own_stack):
    customer = fill(own_stack, 9)
    path = f"/kept?customer={customer}"
    miss = own_stack.get(path)
    before = queries(own_stack)
    kept = own_stack.get(path)
    assert stored(miss) and not hit(miss) and hit(kept)
    assert miss.body == kept.body
    etag = kept.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    assert miss.headers["ETag"] == etag
    assert links(miss) == links(kept)
    assert "max-age=3600" in kept.headers["Cache-Control"]
    assert int(kept.headers["Age"]) >= 0
    for value, status in ((etag, 304), (f'"x", {etag}', 304), ("*", 304),
                          ('"x"', 200)):
        answer = own_stack.get(path, {"If-None-Match": value})
        assert answer.status == status
        assert answer.headers["ETag"] == etag
        assert answer.body == (b"" if status == 304 else kept.body)
    head = own_stack.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(kept.body))
    assert links(head) == links(kept)
    assert queries(own_stack) == before


def test_each_page_is_kept_for_itself(own_stack):
    customer = fill(own_stack, 25)
    path = f"/kept?customer={customer}"
    first = walk(own_stack, path)
    before = queries(own_stack)
    assert walk(own_stack, path) == first
    assert queries(own_stack) == before
    assert not hit(own_stack.get(path + "&limit=7"))
    assert not hit(own_stack.get(path + "&limit=51"))
    assert hit(own_stack.get(path + "&limit=50"))
    assert hit(own_stack.get(path + "&limit=5"))


def test_cursors_that_mean_one_place_share_its_page(own_stack):
    customer = fill(own_stack, 9)
    path = f"/kept?customer={customer}&cursor="
    cursor = page(own_stack.get(f"/kept?customer={customer}"))[1]
    scope, _, parts = cursor_read(cursor)
    later = cursor_write(secrets(own_stack)[0], scope, 0, parts)
    page(own_stack.get(path + cursor))
    assert hit(own_stack.get(path + later))
    moved = cursor_write(secrets(own_stack)[0], scope, 0, [
        (0, parts[0][1][:-1]), (0, parts[0][1][-1:] + parts[1][1])])
    assert not hit(own_stack.get(path + moved))


def test_same_rows_same_tag(own_stack):
    customer = fill(own_stack, 9)
    path = f"/short?customer={customer}"
    tag = own_stack.get(path).headers["ETag"]

    def again():
        answer = own_stack.get(path, {"If-None-Match": tag})
        return None if hit(answer) else answer
    assert wait_until(again, 5, "it is fetched again").status == 304
    store(own_stack, customer, [(f"{customer}-new", 1800000000000000)])
    changed = wait_until(
        lambda: (lambda found: found if found.status == 200 else None)(
            own_stack.get(path, {"If-None-Match": tag})), 5, "a new page")
    assert page(changed)[0][0] == f"{customer}-new"
    assert changed.headers["ETag"] != tag


def test_same_rows_same_cursor(own_stack):
    """Though it expires by the clock: else every fetch would change a page
    that did not. Once in hours it does change."""
    customer = fill(own_stack, 9)
    bodies = {}

    def three_seconds():
        begin = int(time.time())
        body = own_stack.get(f"/live?customer={customer}").body
        if begin == int(time.time()):
            bodies[begin] = body
        return len(bodies) == 3
    wait_until(three_seconds, 10, "three seconds pass")
    assert len(set(bodies.values())) < 3


def test_page_too_large_for_the_zone(own_stack):
    customer = fill(own_stack, 40)
    for _ in range(2):
        answer = own_stack.get(f"/tiny?customer={customer}")
        assert len(page(answer)[0]) == 20
        assert not hit(answer) and not stored(answer)
    own_stack.get(f"/tiny?customer={customer}&limit=2")
    assert hit(own_stack.get(f"/tiny?customer={customer}&limit=2"))


@pytest.fixture
def no_postgres(own_stack):
    own_stack.stop("postgres")
    yield
    own_stack.start("postgres")
    # each worker leaves Postgres alone for a while of its own
    own_stack.restart("nginx")
    own_stack.wait_ready()


def test_postgres_down(own_stack, request):
    customer, cold = fill(own_stack, 9), someone()
    for path in ("/short", "/brief", "/kept"):
        assert own_stack.get(f"{path}?customer={customer}").status == 200
    body = own_stack.get(f"/short?customer={customer}").body
    request.getfixturevalue("no_postgres")

    stale = wait_until(
        lambda: (lambda found: None if hit(found) else found)(
            own_stack.get(f"/short?customer={customer}")), 5, "it is stale")
    assert (stale.status, stale.body) == (200, body)
    assert "stale-if-error" in stale.headers["Cache-Status"]
    assert "next" in links(stale)
    assert hit(own_stack.get(f"/kept?customer={customer}"))
    answer = wait_until(
        lambda: (lambda found: found if found.status != 200 else None)(
            own_stack.get(f"/brief?customer={customer}")), 5, "too old")
    check_problem(answer, 503, "backend_unavailable")
    for path in ("/live", "/short", "/kept"):
        answer = own_stack.get(f"{path}?customer={cold}")
        check_problem(answer, 503, "backend_unavailable")
        assert answer.headers["Retry-After"] == "1"
    check_problem(own_stack.get(f"/live?customer={customer}&cursor=x"), 400,
                  "cursor_invalid", "cursor")


@pytest.mark.parametrize("path, complaint", [
    ("/columns?customer=x", 'list "columns" gives 2 columns instead of a'),
    ("/null-place", 'list "null_place" gives a row whose place is NULL'),
    ("/long-place", 'list "long_place" gives a row whose place is too long'),
    ("/no-document", 'list "no_document" gives a row without a document'),
    ("/broken?customer=x", 'relation "hotpath.nowhere" does not exist')])
def test_statement_that_cannot_be(own_stack, path, complaint):
    for _ in range(2):
        check_problem(own_stack.get(path), 503, "backend_unavailable")
    assert complaint in own_stack.log("nginx")
    assert page(own_stack.get(f"/live?customer={someone()}"))[0] == []


def test_methods_and_bodies(own_stack):
    for method in ("POST", "PUT", "DELETE"):
        answer = own_stack.request(method, "/live?customer=x", b"{}")
        check_problem(answer, 405, "method_not_allowed")
    client = Client(own_stack.ports["http"])
    for _ in range(3):
        answer = client.request("GET", "/live?customer=x&limit=x",
                                b"y" * 100000)
        assert answer.status == 400
    client.close()


# Renewed by a push.

class Pushes:
    """What a projector would say of the model orders."""

    def __init__(self, stack, lane):
        self.nats = Nats(stack.ports["nats"])
        self.lane = lane
        self.sequence = 0

    def send(self, name, customer, tenant="default", deleted=0, text=None):
        self.sequence += 1
        text = text or json.dumps({"orderId": name, "customer": customer})
        self.nats.push("orders", [golden.document(
            b"" if deleted else text.encode(), name.encode(), tenant.encode(),
            time.time_ns() // 1000, deleted)], self.lane, 1, self.sequence)
        # answered by the broker when the push was handed on
        self.nats.ping()


@pytest.fixture
def pushes(own_stack):
    wait_until(lambda: own_stack.metric("hotpath_push_listening") == 1, 10,
               "nginx listens")
    made = Pushes(own_stack, random.randrange(1000, 60000))
    made.send("warm-up", "nobody")
    yield made
    made.nats.close()


def test_a_push_renews_the_lists_of_its_customer(own_stack, pushes):
    customer, other = fill(own_stack, 3), fill(own_stack, 3)
    paths = [f"/renewed?customer={name}{more}" for name in (customer, other)
             for more in ("", "&limit=2")]
    for path in paths:
        own_stack.get(path)
        assert hit(own_stack.get(path))
    name = f"{customer}-pushed"
    store(own_stack, customer, [(name, 1800000000000000)])
    assert hit(own_stack.get(paths[0]))
    pushes.send(name, customer)
    wait_until(lambda: page(own_stack.get(paths[0]))[0][0] == name, 5,
               "the page is renewed")
    assert page(own_stack.get(paths[1]))[0][0] == name
    for path in paths:
        assert hit(own_stack.get(path))
    # of another tenant, and of no list
    store(own_stack, customer, [(name + "2", 1800000000000001)])
    pushes.send(name, customer, "acme")
    pushes.send(name, customer, text='{"orderId":1}')
    pushes.send(f"{other}-pushed", other)
    wait_until(lambda: not hit(own_stack.get(paths[2])), 5,
               "the other's page is renewed, so all pushes were heard")
    assert hit(own_stack.get(paths[0]))
    assert page(own_stack.get(paths[0]))[0][0] == name


def test_a_pushed_deletion_renews_the_tenants_lists(own_stack, pushes):
    customer = fill(own_stack, 3)
    path = f"/renewed?customer={customer}"
    gone = page(own_stack.get(path))[0][0]
    assert hit(own_stack.get(path))
    own_stack.sql("UPDATE hotpath.orders SET deleted = true, document = ''"
                  " WHERE key = %s", (gone,))
    pushes.send(gone, customer, deleted=1)
    wait_until(lambda: gone not in page(own_stack.get(path))[0], 5,
               "the page is renewed")
    assert hit(own_stack.get(path))


# Configuration.

NEEDS = ("hotpath_cursor_secret SECRET; hotpath_postgres host=127.0.0.1;"
         " hotpath_cache_zone zone=z:1m;")
LIST = "location / { hotpath_list %s; hotpath_cache z; }"


@pytest.mark.parametrize("http, server, complaint", [
    (NEEDS.partition(";")[2], LIST % "orders key=1",
     'needs "hotpath_cursor_secret"'),
    (NEEDS.replace("hotpath_postgres host=127.0.0.1;", ""),
     LIST % "orders key=1", 'needs "hotpath_postgres"'),
    (NEEDS, "location / { hotpath_list orders key=1; }",
     'needs "hotpath_cache"'),
    (NEEDS, LIST % "Orders", 'invalid read model "Orders"'),
    (NEEDS, LIST % "orders cursor=0", 'invalid parameter "cursor=0"'),
    (NEEDS, LIST % "orders cursor=6", 'invalid parameter "cursor=6"'),
    (NEEDS, LIST % "orders cursor=3", '"cursor" of "hotpath_list" must be 2'),
    (NEEDS, LIST % "orders limit=5", 'invalid parameter "limit=5"'),
    (NEEDS, LIST % "orders limit=0,5", 'invalid parameter "limit=0,5"'),
    (NEEDS, LIST % "orders limit=6,5", 'invalid parameter "limit=6,5"'),
    (NEEDS, LIST % "orders limit=5,1001", 'invalid parameter "limit=5,1001"'),
    (NEEDS, LIST % "orders renew=", 'invalid parameter "renew="'),
    (NEEDS, LIST % "orders tag=x", 'invalid parameter "tag=x"'),
    (NEEDS, LIST % "orders; hotpath_read orders", "conflicts with another"),
    (NEEDS.replace("SECRET", "SECRET expires=59m"),
     (LIST % "orders").replace("hotpath_cache z",
                               "hotpath_cache z ttl=1h stale=0"),
     '"expires" of "hotpath_cursor_secret" must be longer'),
    (NEEDS.replace("SECRET", "SECRET expires=1x"), "",
     'invalid parameter "expires=1x"'),
    (NEEDS.replace("SECRET", "SECRET; hotpath_cursor_secret SECRET"), "",
     "is duplicate"),
    (NEEDS.replace("SECRET", "nowhere"), "", '/nowhere" failed'),
    (NEEDS.replace("SECRET", "empty"), "", "has no secret"),
    (NEEDS.replace("SECRET", "brief"), "",
     "a secret that has less than 16 bytes"),
    (NEEDS.replace("SECRET", "many"), "", "more than 8 secrets"),
    (NEEDS.replace("SECRET", "long"), "", "is longer than 65536 bytes"),
    (NEEDS.replace("SECRET", "."), "", "failed"),
    (NEEDS, LIST % "orders", None),
    (NEEDS.replace("SECRET", "SECRET expires=0"), LIST % "orders", None),
    (NEEDS.replace("SECRET", "eight"), LIST % "orders cursor=2 limit=1,1000"
     " key=$arg_a shared renew=x", None),
])
def test_configuration(own_stack, tmp_path, http, server, complaint):
    for name, text in (("SECRET", "0123456789abcdef"), ("empty", "\n\r\n"),
                       ("brief", "0123456789abcdef\n0123456789abcde\n"),
                       ("many", "0123456789abcdef\n" * 9),
                       ("eight", "0123456789abcdef\n" * 8),
                       ("long", "x" * 65537)):
        (tmp_path / name).write_text(text)
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"load_module {own_stack.module};\nevents {{}}\n"
                    f"http {{ {http} server {{ {server} }} }}\n")
    done = subprocess.run(
        [own_stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c",
         str(conf)],
        capture_output=True, text=True, timeout=60, check=False,
        env=own_stack["nginx"].env)
    if complaint is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0
        assert complaint in done.stderr, done.stderr
