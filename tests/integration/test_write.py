"""POST /events: what is accepted, what is refused and how, and what is a row.

The contract of ngx_module/ngx_http_hotpath_request.c and _body.c, seen from a
client and from Postgres. Operation ids, fingerprints and partitions are
compared with schemas/golden/make.py, which shares no code with the module.
Time stands still where a test needs it: the broker is frozen, so that what is
in flight stays there. No projector runs: what is written is rows.

test_every_code_has_a_test keeps the table of problem codes complete.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid

import pytest

from servers import ROOT, Client, local, wait_until
from wire import RawHTTP, Stream, chunked, config, golden

H2_PORT = local.free_ports()["http"]
BODY_MAX = 65536

SERVER = """
location = /optional { hotpath_write optional key=optional; }
location = /route { hotpath_write other.route status=/ops/; }
location = /header { hotpath_write header;
                     hotpath_partition_key $http_x_customer; }
location = /flat { hotpath_write flat; hotpath_json_depth 3; }
location = /small { hotpath_write small; hotpath_body_max 100; }
location = /stub { stub_status; }
"""

HTTP = f"""
server {{
    listen 127.0.0.1:{H2_PORT} http2;
    include {ROOT}/config/routes.conf;
    {SERVER}
}}
"""

STACK = {"without": ("project",), "server": SERVER, "http": HTTP}


def key():
    return f"write-{uuid.uuid4()}"


def event(name, payload=None, kind="page_view"):
    return {"idempotencyKey": name, "eventType": kind,
            "payload": {"a": 1} if payload is None else payload}


def body(name, payload=b'{"a":1}', kind=b'"page_view"'):
    """An event as bytes, so that the payload's are chosen."""
    return (b'{"idempotencyKey":' + json.dumps(name).encode()
            + b',"eventType":' + kind + b',"payload":' + payload + b"}")


def rows(stack, name):
    """What is stored under an idempotency key, when the drain has it."""
    query = ("SELECT operation_id::text, tenant, route, event_type, payload,"
             " partition, traceparent FROM hotpath.events"
             " WHERE idempotency_key = %s ORDER BY position")
    return wait_until(lambda: stack.sql(query, (name,)), 15,
                      f"{name} has a row")


def check_problem(answer, status, code):
    assert answer.status == status, answer
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert problem["type"] == f"urn:hotpath:problem:{code}"
    assert problem["title"]
    assert set(problem) <= {"type", "title", "status", "code", "offset"}
    return problem


def writing(stack):
    """Requests that nginx works on just now, this one not counted."""
    text = stack.get("/stub").body.decode()
    return int(re.search(r"Writing: (\d+)", text).group(1)) - 1


@pytest.fixture
def frozen(own_stack):
    """A broker that hears nothing until the test thaws it."""
    own_stack.freeze("nats")
    yield own_stack
    own_stack.thaw("nats")
    own_stack.wait_thawed()


@pytest.fixture
def raw(own_stack):
    with RawHTTP(own_stack.ports["http"]) as connection:
        yield connection


# Gathered.

def test_nobody_lingers_for_those_who_do_not_come(make_stack):
    """After a message of two, one that comes alone waits for another only
    until it is quiet, not for as long as it may."""
    stack = make_stack(workers=1, without=("drain", "project"), server=SERVER,
                       hotpath=config("hotpath.conf",
                                      ("partitions=2", "partitions=1"),
                                      ("linger=1000us", "linger=100000us")))
    clients = [RawHTTP(stack.ports["http"]) for _ in range(3)]
    took = []
    for _ in range(5):
        messages = stack.metric("hotpath_publish_messages_total")
        stack.freeze("nats")
        try:
            for count, client in enumerate(clients, 1):
                client.post(event(key()))
                wait_until(lambda: writing(stack) == count, 5, "it waits")
        finally:
            stack.thaw("nats")
        assert [client.answer().status for client in clients] == [202] * 3
        assert stack.metric("hotpath_publish_messages_total") == messages + 2
        begin = time.monotonic()
        clients[0].post(event(key()))
        assert clients[0].answer().status == 202
        took.append(time.monotonic() - begin)
    for client in clients:
        client.close()
    assert min(took) < 0.1, took


# Accepted.

def test_accepted(own_stack):
    name = key()
    before = time.time()
    answer = own_stack.post(event(name, {"productId": 7}, "price_set"))
    operation = golden.uuid_text(golden.operation_id(
        b"default", b"events", name.encode()))
    assert answer.status == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Location"] == f"/events/status/{operation}"
    assert answer.headers["Idempotent-Replayed"] is None
    assert answer.json() == {"operationId": operation, "status": "accepted"}
    assert rows(own_stack, name) == [
        (operation, "default", "events", "price_set", {"productId": 7},
         golden.partition(b"default", b"7", b"", 2), None)]
    stored = own_stack.sql(
        "SELECT o.state, o.conflicts, o.code, o.fingerprint,"
        " extract(epoch FROM o.accepted_at)::float8,"
        " o.accepted_at = e.accepted_at, o.position = e.position"
        " FROM hotpath.operations o JOIN hotpath.events e"
        " USING (operation_id) WHERE operation_id = %s", (operation,))
    (state, conflicts, code, fingerprint, accepted_at, *same), = stored
    assert (state, conflicts, code, same) == (1, 0, None, [True, True])
    assert bytes(fingerprint) == golden.fingerprint(b"price_set",
                                                    b'{"productId":7}')
    assert before - 1 <= accepted_at <= time.time() + 1


@pytest.mark.parametrize("name", [
    "k", "a key with spaces", 'quote " and \\ backslash', "{}[]:,;=~!",
    "x" * 255])
def test_operation_id_is_the_golden_one(own_stack, name):
    name = name if len(name) > 200 else name + uuid.uuid4().hex
    for path, route in (("/events", b"events"), ("/route", b"other.route")):
        answer = own_stack.request("POST", path, event(name))
        assert answer.status == 202
        assert answer.json()["operationId"] == golden.uuid_text(
            golden.operation_id(b"default", route, name.encode()))
    assert answer.headers["Location"].startswith("/ops/")
    wait_until(lambda: len(rows(own_stack, name)) == 2, 15, "both are stored")


@pytest.mark.parametrize("payload, stored", [
    (b"null", None), (b"true", True), (b'"text"', "text"), (b"[]", []),
    (b' { "b" : [ 1 , 2.50 , -0e-1 ] , "c" : " sp ace " } ',
     {"b": [1, 2.5, 0], "c": " sp ace "}),
    ('"\\u00e4\\ud83d\\ude00 äß😀"'.encode(), "ä😀 äß😀"),
    (b'{"n":12345678901234567890.123456789}',
     {"n": 12345678901234567890.123456789}),
    (b'{"a":1,"a":2}', {"a": 2}),
    (b"[" * 63 + b"]" * 63, json.loads("[" * 63 + "]" * 63)),
])
def test_payload_arrives_as_it_is(own_stack, payload, stored):
    name = key()
    answer = own_stack.request("POST", "/events", body(name, payload),
                               {"Content-Type": "application/json"})
    assert answer.status == 202, answer
    (row,) = rows(own_stack, name)
    assert row[4] == stored


def test_members_in_any_order_and_with_escapes(own_stack):
    name = key()
    text = ('{"payload":{"x":1},"event\\u0054ype":"caf\\u00e9",'
            f'"\\u0069dempotencyKey":"\\u0077{name[1:]}"}}')
    answer = own_stack.request("POST", "/events", text,
                               {"Content-Type": "application/json"})
    assert answer.status == 202, answer
    (row,) = rows(own_stack, name)
    assert row[3:5] == ("café", {"x": 1})


@pytest.mark.parametrize("kind", [
    "application/json", "Application/JSON; charset=utf-8",
    "application/json ;charset=utf-8", None])
def test_content_type(own_stack, kind):
    name = key()
    answer = own_stack.request("POST", "/events", body(name),
                               {"Content-Type": kind} if kind else None)
    assert answer.status == 202, answer
    assert len(rows(own_stack, name)) == 1


# Refused.

LONG = '"' + "x" * 256 + '"'
PRE = '{"idempotencyKey":"k","eventType":"t","payload":'

REFUSED = [
    # code, body, offset (None: none is given)
    ("body_empty", "", 0),
    ("body_empty", " \r\n\t", 4),
    ("json_syntax", PRE + "01}", len(PRE) + 1),
    ("json_syntax", PRE + "1", len(PRE) + 1),
    ("json_syntax", PRE + "[1,]}", len(PRE) + 3),
    ("json_syntax", PRE + "'a'}", len(PRE)),
    ("json_syntax", PRE + '"a\tb"}', len(PRE) + 2),
    ("json_syntax", PRE + "NaN}", len(PRE)),
    ("json_syntax", "\ufeff" + PRE + "1}", 0),
    ("json_trailing", PRE + "1} x", len(PRE) + 3),
    ("json_trailing", PRE + "1}{}", len(PRE) + 2),
    ("json_utf8", PRE.encode() + b'"\xc3("}', len(PRE) + 1),
    ("json_utf8", PRE.encode() + b'"\xed\xa0\x80"}', len(PRE) + 1),
    ("json_nul", PRE + '"a\\u0000"}', len(PRE) + 2),
    ("json_surrogate", PRE + '"\\ud800x"}', len(PRE) + 1),
    ("json_surrogate", PRE + '"\\udc00"}', len(PRE) + 1),
    ("json_number", PRE + "[1e200000]}", len(PRE) + 1),
    ("json_depth", PRE + "[" * 64 + "]" * 64 + "}", len(PRE) + 63),
    ("body_not_object", ' "text"', 1),
    ("member_duplicate", PRE + '1,"payload":2}', len(PRE) + 2),
    ("member_duplicate", PRE + '1,"payl\\u006fad":2}', len(PRE) + 2),
    ("member_unknown", PRE + '1,"extra":2}', len(PRE) + 2),
    ("member_type", '{"eventType":1}', 13),
    ("member_type", '{"idempotencyKey":null}', 18),
    ("event_type_required", '{"idempotencyKey":"k","payload":1}', None),
    ("event_type_required", "{}", None),
    ("event_type_invalid",
     '{"idempotencyKey":"k","payload":1,"eventType":""}', None),
    ("event_type_invalid",
     '{"idempotencyKey":"k","payload":1,"eventType":' + LONG + "}", None),
    ("payload_required", '{"idempotencyKey":"k","eventType":"t"}', None),
    ("idempotency_key_required", '{"eventType":"t","payload":1}', None),
    ("idempotency_key_invalid",
     '{"idempotencyKey":"","eventType":"t","payload":1}', None),
    ("idempotency_key_invalid",
     '{"idempotencyKey":" k","eventType":"t","payload":1}', None),
    ("idempotency_key_invalid",
     '{"idempotencyKey":"\\n","eventType":"t","payload":1}', None),
    ("idempotency_key_invalid",
     '{"idempotencyKey":"ä","eventType":"t","payload":1}', None),
    ("idempotency_key_invalid",
     '{"idempotencyKey":' + LONG + ',"eventType":"t","payload":1}', None),
]


@pytest.mark.parametrize("code, text, offset", REFUSED)
def test_refused_body(own_stack, code, text, offset):
    before = own_stack.metric("hotpath_write_requests_total", "refused")
    data = text if isinstance(text, bytes) else text.encode()
    answer = own_stack.request("POST", "/events", data,
                               {"Content-Type": "application/json"})
    problem = check_problem(answer, 400, code)
    assert problem.get("offset") == offset
    assert answer.headers["Retry-After"] is None
    assert own_stack.metric("hotpath_write_requests_total",
                            "refused") == before + 1


def test_nothing_refused_is_stored(own_stack):
    assert own_stack.sql("SELECT 1 FROM hotpath.events"
                         " WHERE idempotency_key = 'k'") == []


REFUSED_OTHERWISE = [
    # status, code, method, path, headers, changes of the event
    (405, "method_not_allowed", "GET", "/events", {}),
    (405, "method_not_allowed", "PUT", "/events", {}),
    (405, "method_not_allowed", "DELETE", "/events", {}),
    (415, "content_type_unsupported", "POST", "/events",
     {"Content-Type": "text/plain"}),
    (415, "content_type_unsupported", "POST", "/events",
     {"Content-Type": "application/jsonx"}),
    (400, "content_type_invalid", "POST", "/events",
     {"Content-Type": "application"}),
    (400, "tenant_invalid", "POST", "/events", {"X-Tenant": "a b"}),
    (400, "tenant_invalid", "POST", "/events", {"X-Tenant": "t" * 65}),
    (400, "idempotency_key_mismatch", "POST", "/events",
     {"Idempotency-Key": '"another"'}),
    (400, "json_depth", "POST", "/flat", {}),
    (413, "body_too_large", "POST", "/small", {}),
]


@pytest.mark.parametrize("status, code, method, path, headers",
                         REFUSED_OTHERWISE)
def test_refused_request(own_stack, status, code, method, path, headers):
    before = own_stack.metric("hotpath_write_requests_total", "refused")
    data = body(key(), b'[[[1]]]' + b" " * 60)
    answer = own_stack.request(
        method, path, data, {"Content-Type": "application/json", **headers})
    check_problem(answer, status, code)
    if status == 405:
        assert answer.headers["Allow"] == "POST"
    assert own_stack.metric("hotpath_write_requests_total",
                            "refused") == before + 1


def test_every_code_has_a_test():
    """The codes of the module's table, each named by a test."""
    with open(os.path.join(ROOT, "ngx_module", "ngx_http_hotpath_answer.h"),
              encoding="utf-8") as file:
        codes = set(re.findall(r'X\([A-Z_0-9]+, "([a-z_0-9]+)"', file.read()))
    assert len(codes) > 25
    tests = ""
    for room in ("integration", "faults"):
        directory = os.path.join(ROOT, "tests", room)
        for name in os.listdir(directory):
            if name.endswith(".py"):
                with open(os.path.join(directory, name),
                          encoding="utf-8") as file:
                    tests += file.read()
    # a test cannot take a server's memory away
    missing = {code for code in codes if f'"{code}"' not in tests}
    assert missing <= {"no_memory"}


# Idempotency.

@pytest.mark.parametrize("value, expected", [
    ('"{}"', "{}"), ("{}", "{}"), ('"a\\"b\\\\c {}"', 'a"b\\c {}'),
    ('  "{}"  ', "{}")])
def test_key_in_the_header(own_stack, value, expected):
    unique = uuid.uuid4().hex
    name = expected.format(unique)
    without = {"eventType": "t", "payload": 1}
    answer = own_stack.post(without,
                            {"Idempotency-Key": value.format(unique)})
    assert answer.status == 202, answer
    assert answer.json()["operationId"] == golden.uuid_text(
        golden.operation_id(b"default", b"events", name.encode()))
    again = own_stack.post(dict(without, idempotencyKey=name),
                           {"Idempotency-Key": value.format(unique)})
    assert (again.status, again.headers["Idempotent-Replayed"]) == (
        202, "true")
    assert len(rows(own_stack, name)) == 1


@pytest.mark.parametrize("value", [
    "", '""', '"', '"open', 'a"b', '"a"b', "a,b", "a;b", '"a";p=1',
    '"a\\n"', '" a"', "x" * 256, '"' + "x" * 256 + '"'])
def test_key_in_the_header_that_is_none(own_stack, value):
    answer = own_stack.post({"eventType": "t", "payload": 1},
                            {"Idempotency-Key": value})
    check_problem(answer, 400, "idempotency_key_invalid")


def test_two_key_headers_are_refused(raw):
    name = key()
    raw.post(event(name), f'Idempotency-Key: "{name}"',
             f'Idempotency-Key: "{name}"')
    check_problem(raw.answer(), 400, "idempotency_key_invalid")


def test_repeat_is_answered_without_publishing(own_stack):
    name = key()
    first = own_stack.post(event(name))
    rows(own_stack, name)
    before = own_stack.metric("hotpath_publish_events_total")
    replayed = own_stack.metric("hotpath_write_requests_total", "replayed")
    for again in [own_stack.post(event(name)) for _ in range(10)]:
        assert again.status == 202
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Location"] == first.headers["Location"]
        assert again.json() == first.json()
    assert own_stack.metric("hotpath_publish_events_total") == before
    assert own_stack.metric("hotpath_write_requests_total",
                            "replayed") == replayed + 10
    assert len(rows(own_stack, name)) == 1


def test_another_payload_is_refused(own_stack):
    name = key()
    assert own_stack.post(event(name, {"a": 1, "b": 2})).status == 202
    before = own_stack.metric("hotpath_write_requests_total", "conflict")
    others = [event(name, {"a": 1, "b": 3}), event(name, {"b": 2, "a": 1}),
              event(name, {"a": 1, "b": 2}, "other_type")]
    for other in others:
        check_problem(own_stack.post(other), 422, "idempotency_key_reused")
    assert own_stack.metric("hotpath_write_requests_total",
                            "conflict") == before + len(others)
    (row,) = rows(own_stack, name)
    assert row[3:5] == ("page_view", {"a": 1, "b": 2})


def test_white_space_is_no_difference(own_stack):
    name = key()
    first = own_stack.request(
        "POST", "/events", body(name, b'{"a":[1,2],"b":"x y"}'))
    again = own_stack.request(
        "POST", "/events",
        b"\n" + body(name, b' { "a" : [ 1 ,\t2 ] ,\r\n "b" : "x y" } '))
    assert (first.status, again.status) == (202, 202)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = own_stack.request(
        "POST", "/events", body(name, b'{"a":[1,2],"b":"x  y"}'))
    check_problem(other, 422, "idempotency_key_reused")


def test_in_flight(frozen):
    """While the first waits for the broker: 409, or 422 for another one."""
    name = key()
    sent = frozen.metric("hotpath_publish_messages_total")
    with RawHTTP(frozen.ports["http"]) as first:
        first.post(event(name))
        wait_until(lambda: frozen.metric("hotpath_publish_messages_total")
                   > sent, 5, "the first is on its way")
        second = frozen.post(event(name))
        check_problem(second, 409, "operation_in_flight")
        assert second.headers["Retry-After"] == "1"
        check_problem(frozen.post(event(name, {"a": 2})), 422,
                      "idempotency_key_reused")
        frozen.thaw("nats")
        answer = first.answer()
    assert answer.status == 202
    assert "idempotent-replayed" not in answer.headers
    again = frozen.post(event(name))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == json.loads(answer.body)
    assert [row[4] for row in rows(frozen, name)] == [{"a": 1}]


def test_client_that_goes_away_leaves_its_event(frozen):
    """The broker's word settles the claim, whoever is there to hear it."""
    name = key()
    sent = frozen.metric("hotpath_publish_messages_total")
    with RawHTTP(frozen.ports["http"]) as client:
        client.post(event(name))
        wait_until(lambda: frozen.metric("hotpath_publish_messages_total")
                   > sent, 5, "it is on its way")
    wait_until(lambda: writing(frozen) == 0, 5, "nginx noticed")
    frozen.thaw("nats")
    assert len(rows(frozen, name)) == 1
    wait_until(lambda: frozen.post(event(name)).status == 202, 5, "settled")
    assert frozen.post(event(name)).headers["Idempotent-Replayed"] == "true"


def test_many_at_once_are_one(own_stack):
    """One key from many connections, to both workers."""
    name, statuses, lock = key(), [], threading.Lock()

    def work():
        client = Client(own_stack.ports["http"])
        while True:
            answer = client.request("POST", "/events", event(name))
            with lock:
                statuses.append((answer.status,
                                 answer.headers["Idempotent-Replayed"]))
            if answer.status == 202:
                break
        client.close()
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert statuses.count((202, None)) == 1
    assert statuses.count((202, "true")) == 15
    assert {status for status, _ in statuses} <= {202, 409}
    assert len(rows(own_stack, name)) == 1


def test_optional_key(own_stack):
    marker = uuid.uuid4().hex
    without = {"eventType": "t", "payload": marker}
    before = time.time()
    answers = [own_stack.request("POST", "/optional", without)
               for _ in range(2)]
    ids = [answer.json()["operationId"] for answer in answers]
    assert [answer.status for answer in answers] == [202, 202]
    assert len(set(ids)) == 2
    for operation in map(uuid.UUID, ids):
        assert operation.version == 7
        assert before - 1 <= (operation.int >> 80) / 1e3 <= time.time() + 1
    stored = wait_until(
        lambda: (lambda found: found if len(found) == 2 else None)(
            own_stack.sql("SELECT operation_id::text, idempotency_key"
                          " FROM hotpath.events"
                          " WHERE payload = to_jsonb(%s::text)", (marker,))),
        15, "both are stored")
    assert sorted(stored) == sorted((name, None) for name in ids)
    name = key()
    first = own_stack.request("POST", "/optional", event(name))
    again = own_stack.request("POST", "/optional", event(name))
    assert uuid.UUID(first.json()["operationId"]).version == 8
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(rows(own_stack, name)) == 1


def test_tenants_are_separate(own_stack):
    name = key()
    answers = {tenant: own_stack.post(event(name, {"of": tenant}),
                                      {"X-Tenant": tenant})
               for tenant in ("acme", "A.b_c-9", "t" * 64)}
    for tenant, answer in answers.items():
        assert answer.status == 202
        assert answer.json()["operationId"] == golden.uuid_text(
            golden.operation_id(tenant.encode(), b"events", name.encode()))
    wait_until(lambda: len(rows(own_stack, name)) == 3, 15, "all are stored")
    assert {row[1]: row[4]["of"] for row in rows(own_stack, name)} == {
        tenant: tenant for tenant in answers}


# Partitions and groups.

def test_one_product_is_one_partition_in_order(own_stack):
    names = []
    for product in (1, "1", 2, 3, "x", 10**12):
        for step in range(4):
            name = f"{key()}-{step}"
            names.append((name, str(product)))
            assert own_stack.post(event(
                name, {"step": step, "productId": product})).status == 202
    found = {name: rows(own_stack, name)[0] for name, _ in names}
    partitions = set()
    for name, product in names:
        partitions.add(found[name][5])
        assert found[name][5] == golden.partition(
            b"default", product.encode(), b"", 2)
    assert partitions == {0, 1}
    stored = own_stack.sql(
        "SELECT payload ->> 'productId', array_agg(payload -> 'step'"
        " ORDER BY position) FROM hotpath.events"
        " WHERE idempotency_key = ANY(%s) GROUP BY 1, partition",
        ([name for name, _ in names],))
    assert sorted(stored) == sorted(
        (product, [0, 1, 2, 3] * (2 if product == "1" else 1))
        for product in ("1", "2", "3", "x", "1000000000000"))


def test_partition_by_a_variable_or_by_the_operation(own_stack):
    for _ in range(6):
        customer, name = uuid.uuid4().hex, key()
        own_stack.request("POST", "/header", event(name),
                          {"X-Customer": customer})
        assert rows(own_stack, name)[0][5] == golden.partition(
            b"default", customer.encode(), b"", 2)
        name = key()
        own_stack.request("POST", "/header", event(name))
        assert rows(own_stack, name)[0][5] == golden.partition(
            b"default", b"", golden.operation_id(
                b"default", b"header", name.encode()), 2)


def test_group_commit(frozen):
    """What comes while messages are under way goes together."""
    names = [key() for _ in range(80)]
    events = frozen.metric("hotpath_publish_events_total")
    messages = frozen.metric("hotpath_publish_messages_total")
    clients = [RawHTTP(frozen.ports["http"]) for _ in names]
    for client, name in zip(clients, names):
        client.post(event(name))
    wait_until(lambda: writing(frozen) == len(names), 10, "all are waiting")
    frozen.thaw("nats")
    answers = [client.answer() for client in clients]
    for client in clients:
        client.close()
    assert [answer.status for answer in answers] == [202] * len(names)
    assert frozen.metric("hotpath_publish_events_total") == events + 80
    # two workers, two partitions, two messages under way and one behind them
    assert frozen.metric("hotpath_publish_messages_total") <= messages + 12
    stored = wait_until(
        lambda: (lambda found: found if len(found) >= len(names) else None)(
            frozen.sql("SELECT idempotency_key, operation_id::text"
                       " FROM hotpath.events WHERE idempotency_key = ANY(%s)",
                       (names,))), 15, "all are stored")
    assert sorted(stored) == sorted(
        (name, json.loads(answer.body)["operationId"])
        for name, answer in zip(names, answers))


def test_traceparent_travels(own_stack):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for header, stored in ((trace, trace), (trace.upper(), None),
                           ("00-" + "0" * 32 + trace[35:], None),
                           ("ff" + trace[2:], None), (trace[:-1], None)):
        name = key()
        assert own_stack.post(event(name),
                              {"traceparent": header}).status == 202
        assert rows(own_stack, name)[0][6] == stored


# Bodies as they come.

def test_body_of_the_largest_size(own_stack, raw):
    for send_chunked in (False, True):
        name = key()
        text = body(name, b'""')
        text = body(name, b'"' + b"x" * (BODY_MAX - len(text)) + b'"')
        assert len(text) == BODY_MAX
        if send_chunked:
            raw.send(b"POST /events HTTP/1.1\r\nHost: test\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n"
                     + chunked(text[:1], text[1:30000], text[30000:]))
        else:
            raw.post(text)
        assert raw.answer().status == 202
        assert rows(own_stack, name)[0][4] == json.loads(text)["payload"]


def test_body_too_large_by_its_length(own_stack, raw):
    text = body(key(), b'"' + b"x" * BODY_MAX + b'"')
    raw.post(text)
    check_problem(raw.answer(), 413, "body_too_large")
    name = key()
    raw.post(event(name))
    assert raw.answer().status == 202, "the connection goes on"
    assert len(rows(own_stack, name)) == 1


def test_body_too_large_is_refused_before_it_came(raw):
    raw.post(b"", length=10**12)
    check_problem(raw.answer(), 413, "body_too_large")


def test_body_too_large_in_chunks(own_stack):
    before = own_stack.metric("hotpath_write_requests_total", "refused")
    head = (b"POST /events HTTP/1.1\r\nHost: test\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    for pieces in ([b"x" * (BODY_MAX + 1)], [b"x" * 5000] * 20,
                   [b"1", b"x" * BODY_MAX]):
        with RawHTTP(own_stack.ports["http"]) as client:
            client.send(head + chunked(*pieces))
            check_problem(client.answer(), 413, "body_too_large")
            # closed, or in step: what is left of the body is no request
            with contextlib.suppress(EOFError, ConnectionError):
                client.post(event(key()))
                assert client.answer().status == 202
    assert own_stack.metric("hotpath_write_requests_total",
                            "refused") == before + 3


def test_chunks_of_all_sizes(own_stack, raw):
    for sizes in ([1] * 10, [1, 0xff, 3, 5000], [50, 9000]):
        name = key()
        text = body(name, b'"' + b"y" * sum(sizes) + b'"')
        pieces, rest = [], text
        for size in sizes:
            pieces.append(rest[:size])
            rest = rest[size:]
        raw.send(b"POST /events HTTP/1.1\r\nHost: test\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n"
                 + chunked(*pieces, rest))
        assert raw.answer().status == 202
        assert rows(own_stack, name)[0][4] == "y" * sum(sizes)


def test_broken_chunks_are_refused(own_stack):
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(b"POST /events HTTP/1.1\r\nHost: test\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
        assert client.answer().status == 400
        client.closed()


@pytest.mark.parametrize("pieces", [1, 7, 4000])
def test_body_in_pieces(own_stack, pieces):
    """Other requests are served while a body is still coming."""
    name = key()
    text = body(name, b'"' + b"z" * 20000 + b'"')
    step = -(-len(text) // (20 if pieces == 1 else pieces))
    with RawHTTP(own_stack.ports["http"]) as client:
        client.post(b"", length=len(text))
        for at in range(0, len(text), step):
            client.send(text[at:at + step])
            if at % (step * 10) == 0:
                assert own_stack.get("/ping").status == 200
        assert client.answer().status == 202
    assert rows(own_stack, name)[0][4] == "z" * 20000


def test_client_that_goes_away_inside_its_body(own_stack):
    name = key()
    text = body(name)
    for cut in (0, 1, len(text) - 1):
        with RawHTTP(own_stack.ports["http"]) as client:
            client.post(text[:cut], length=len(text))
    other = key()
    assert own_stack.post(event(other)).status == 202
    assert len(rows(own_stack, other)) == 1
    assert own_stack.sql("SELECT 1 FROM hotpath.events"
                         " WHERE idempotency_key = %s", (name,)) == []


def test_expect_continue(own_stack, raw):
    name = key()
    text = body(name)
    raw.post(b"", "Expect: 100-continue", length=len(text))
    assert raw.answer().status == 100
    raw.send(text)
    assert raw.answer().status == 202
    assert len(rows(own_stack, name)) == 1


def test_pipelined(own_stack, raw):
    names = [key() for _ in range(10)]
    requests = b""
    for name in names:
        text = body(name)
        requests += (b"POST /events HTTP/1.1\r\nHost: test\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(text)) + text
        requests += b"GET /ping HTTP/1.1\r\nHost: test\r\n\r\n"
    raw.send(requests)
    for name in names:
        answer = raw.answer()
        assert answer.status == 202
        assert json.loads(answer.body)["operationId"] == golden.uuid_text(
            golden.operation_id(b"default", b"events", name.encode()))
        assert raw.answer().body == b"pong\n"
    for name in names:
        assert len(rows(own_stack, name)) == 1


def test_http_1_0(own_stack, raw):
    name = key()
    text = body(name)
    raw.send(b"POST /events HTTP/1.0\r\nContent-Length: %d\r\n\r\n"
             % len(text) + text)
    assert raw.answer().status == 202
    assert raw.closed()
    assert len(rows(own_stack, name)) == 1


def http2_post(path, data, *headers):
    """One POST over HTTP/2 without TLS, each frame written here; the answer's
    body, whose last frame ends the stream."""
    def frame(kind, flags, stream, payload):
        return (len(payload).to_bytes(3, "big") + bytes([kind, flags])
                + stream.to_bytes(4, "big") + payload)

    block = b"".join(
        b"\x00%c%s%c%s" % (len(name), name, len(value), value)
        for name, value in ((b":method", b"POST"), (b":scheme", b"http"),
                            (b":path", path), (b":authority", b"test"),
                            (b"content-type", b"application/json"),
                            *headers))
    answer = b""
    with Stream(H2_PORT) as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
                    + frame(1, 4, 1, block))
        for at in range(0, len(data), 16384):
            client.send(frame(0, at + 16384 >= len(data), 1,
                              data[at:at + 16384]))
        while True:
            head = client.exactly(9)
            payload = client.exactly(int.from_bytes(head[:3], "big"))
            kind, flags = head[3], head[4]
            assert kind != 7, "GOAWAY"
            if kind == 3:
                raise AssertionError(f"reset: {payload!r} after {answer!r}")
            if kind == 0:
                answer += payload
                if flags & 1:
                    return json.loads(answer)


def test_http_2(own_stack):
    for path, length in ((b"/events", 10), (b"/events", 60000)):
        for known in (True, False):
            name = key()
            text = body(name, b'"' + b"w" * length + b'"')
            headers = ((b"content-length", b"%d" % len(text)),)
            answer = http2_post(path, text, *headers[:known])
            assert answer["status"] == "accepted"
            assert rows(own_stack, name)[0][4] == "w" * length
            refused = http2_post(b"/small", text + b" " * 90,
                                 *((b"content-length", b"%d"
                                    % (len(text) + 90)),)[:known])
            assert refused["code"] == "body_too_large"
    assert http2_post(b"/events", b"{")["code"] == "json_syntax"


def test_half_closed_client_does_no_harm(own_stack):
    """It may be answered or be taken for gone; the event counts once."""
    name = key()
    with RawHTTP(own_stack.ports["http"]) as client:
        client.post(event(name))
        client.socket.shutdown(socket.SHUT_WR)
        client.closed()
    wait_until(lambda: own_stack.post(event(name)).status == 202, 5,
               "a repeat is accepted")
    assert len(rows(own_stack, name)) == 1
