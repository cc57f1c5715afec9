"""hotpath_idempotency in front of an upstream: each key is carried out once.

ngx_module/ngx_http_hotpath_guard.c, _guard_claim.c and _guard_answer.c against
an origin that counts (tests/origin.py): what is claimed, what an answer is when
it is given again, what waits, what is not kept. Nearly every assertion ends in
how often the origin was asked. Only nginx runs, and a Redis where two instances
share one. What goes wrong is in tests/faults/test_guard_faults.py.
"""

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import guarded
from guarded import key, order, post, problem, replayed
from origin import Reply
from servers import wait_until
from wire import RawHTTP, golden

STACK = guarded.options


@pytest.fixture
def url(path):
    return lambda location: location.rstrip("/") + path


def requests_total(stack, result):
    return stack.metric("hotpath_guard_requests_total", f'result="{result}"')


def answers_total(stack, result):
    return stack.metric("hotpath_guard_answers_total", f'result="{result}"')


# Once.

def test_repeat(nginx_only, origin, path):
    orders = order(origin, path, Date="Sun, 06 Nov 2022 08:49:37 GMT",
                   ETag='"7"', X_Own="one", Link=["<a>", "<b>"],
                   Set_Cookie="session=1", Cache_Control="no-store")
    name = key()
    first = post(nginx_only, path, name)
    again = [post(nginx_only, path, name) for _ in range(3)]
    assert first.status == 201 and not replayed(first)
    assert first.headers["Set-Cookie"] == "session=1"
    for answer in again:
        assert answer.status == 201 and replayed(answer)
        assert answer.body == first.body == b'{"order": 1}'
        for field in ("Content-Type", "Location", "ETag", "X-Own",
                      "Cache-Control", "Content-Length"):
            assert answer.headers[field] == first.headers[field], field
        assert answer.headers["Date"] == "Sun, 06 Nov 2022 08:49:37 GMT"
        assert answer.headers.get_all("Link") == ["<a>", "<b>"]
        assert answer.headers["Set-Cookie"] is None
    assert orders.count() == 1
    assert origin.last(path).headers["idempotency-key"] == name
    assert origin.last(path).body == b'{"amount":7}'


@pytest.mark.parametrize("status", [200, 204, 303, 400, 404, 422, 500, 502,
                                    503, 504])
def test_every_answer_counts(nginx_only, origin, path, status):
    """A 500 is an answer too: whoever gave it may have done something."""
    orders = order(origin, path, status)
    name = key()
    first, again = (post(nginx_only, path, name) for _ in range(2))
    assert first.status == again.status == status
    assert first.body == again.body
    assert replayed(again) and not replayed(first)
    assert orders.count() == 1


@pytest.mark.parametrize("location, status", [
    ("/", 429), ("/retry/", 500), ("/retry/", 503)])
def test_statuses_that_free_a_key(nginx_only, origin, url, location, status):
    target = url(location)
    name = key()
    before = answers_total(nginx_only, "retry")
    orders = order(origin, target, status)
    assert post(nginx_only, target, name).status == status
    assert post(nginx_only, target, name).status == status
    order(origin, target)
    assert post(nginx_only, target, name).status == 201
    assert replayed(post(nginx_only, target, name))
    assert orders.count() == 3
    assert answers_total(nginx_only, "retry") == before + 2


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4096, 40000])
def test_every_size(nginx_only, origin, path, size, chunked):
    orders = order(origin, path, body="x" * size, chunked=chunked)
    name = key()
    first, again = (post(nginx_only, path, name) for _ in range(2))
    assert first.status == again.status == 201
    assert first.body == again.body == b'{"order": 1}' + b"x" * size
    assert orders.count() == 1


def test_other_payload(nginx_only, origin, path):
    """Method, URI and every byte of the body."""
    orders = order(origin, path)
    order(origin, path + "?a=1")
    name = key()
    assert post(nginx_only, path, name).status == 201
    for words in ({"body": b'{"amount":8}'}, {"body": b""},
                  {"body": b'{"amount": 7}'}, {"method": "PATCH"}):
        problem(post(nginx_only, path, name, **words), 422,
                "idempotency_key_reused")
    problem(post(nginx_only, path + "?a=1", name), 422,
            "idempotency_key_reused")
    assert replayed(post(nginx_only, path, name))
    assert orders.count() == 1


def test_scope(nginx_only, origin, url):
    """Tenant, route and key."""
    name = key()
    one, two = url("/"), url("/optional/")
    orders, others = order(origin, one), order(origin, two)
    for tenant in ("a", "b"):
        for target in (one, two):
            assert not replayed(post(nginx_only, target, name,
                                     X_Tenant=tenant))
            assert replayed(post(nginx_only, target, name, X_Tenant=tenant))
    assert orders.count() == others.count() == 2
    problem(post(nginx_only, one, name, X_Tenant="a b"), 400,
            "tenant_invalid")


def test_key_rules(nginx_only, origin, url):
    target, free = url("/"), url("/optional/")
    orders, others = order(origin, target), order(origin, free)
    problem(post(nginx_only, target, None), 400, "idempotency_key_required")
    for name in ('""', '"a', "a,b", '"a"; q=1', "x" * 256):
        for each in (target, free):
            problem(post(nginx_only, each, name), 400,
                    "idempotency_key_invalid")
    with RawHTTP(nginx_only.ports["http"]) as raw:
        raw.post(b"{}", 'Idempotency-Key: "a"', 'Idempotency-Key: "b"',
                 path=target)
        problem(raw.answer(), 400, "idempotency_key_invalid")
    assert orders.count() == 0
    for _ in range(2):
        assert post(nginx_only, free, None).status == 201
    assert others.count() == 2


def test_methods(nginx_only, origin, url):
    target, other = url("/"), url("/methods/")
    orders, others = order(origin, target, 200), order(origin, other, 200)
    name = key()
    for _ in range(2):
        for method in ("GET", "PUT", "DELETE"):
            assert nginx_only.request(method, target).status == 200
        assert post(nginx_only, other, None).status == 200
        for method in ("PUT", "DELETE"):
            assert post(nginx_only, other, name[:-1] + method + '"',
                        method=method).status == 200
    assert orders.count() == 6
    assert others.count() == 4


def test_body_bound(nginx_only, origin, url):
    target = url("/bounds/")
    orders = order(origin, target)
    name = key()
    body = b"x" * 4096
    for _ in range(2):
        assert post(nginx_only, target, name, body).status == 201
    assert origin.last(target).body == body
    problem(post(nginx_only, target, key(), body + b"x"), 413,
            "body_too_large")
    with RawHTTP(nginx_only.ports["http"]) as raw:
        raw.send(f"POST {target} HTTP/1.1\r\nHost: t\r\nIdempotency-Key: b\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(5):
            raw.send(b"400\r\n" + b"y" * 1024 + b"\r\n")
        raw.send(b"0\r\n\r\n")
        problem(raw.answer(), 413, "body_too_large")
    assert orders.count() == 1


@pytest.mark.parametrize("location", ["/bounds/", "/unbuffered/"])
@pytest.mark.parametrize("chunked", [False, True])
def test_answer_that_is_too_large(nginx_only, origin, url, location, chunked):
    """It goes through whole, and the key is used up."""
    target = url(location)
    orders = order(origin, target, body="x" * 300000, chunked=chunked)
    name = key()
    first = post(nginx_only, target, name)
    assert first.status == 201
    assert first.body == b'{"order": 1}' + b"x" * 300000
    document = problem(post(nginx_only, target, name), 409,
                       "idempotency_answer_not_kept")
    assert document["answered"] == 201
    problem(post(nginx_only, target, name, b"other"), 422,
            "idempotency_key_reused")
    assert orders.count() == 1


def test_unbuffered(nginx_only, origin, url):
    target = url("/unbuffered/")
    orders = order(origin, target, body="x" * 5000, chunked=True)
    name = key()
    first, again = (post(nginx_only, target, name) for _ in range(2))
    assert first.body == again.body and replayed(again)
    assert orders.count() == 1


def test_head_that_is_too_large(nginx_only, origin, url):
    target = url("/")
    fields = {f"X_{number}": "y" * 200 for number in range(100)}
    origin[target] = Reply("x", 201, **fields)
    assert post(nginx_only, target, key()).status == 502  # nginx's own bound


def test_expiry(nginx_only, origin, url):
    target = url("/short/")
    orders = order(origin, target)
    name = key()
    assert post(nginx_only, target, name).status == 201
    wait_until(lambda: post(nginx_only, target, name).body != b'{"order": 1}',
               10, "the key is forgotten")
    assert orders.count() == 2


def over_http2(stack, origin, path):
    orders = order(origin, path)
    name = key()
    for number in range(2):
        done = subprocess.run(
            ["curl", "-s", "-i", "--http2-prior-knowledge", "-d", "{}", "-H",
             f"Idempotency-Key: {name}",
             f"http://127.0.0.1:{stack.ports['nats']}{path}"],
            check=True, capture_output=True, timeout=20).stdout
        assert done.startswith(b"HTTP/2 201")
        assert done.endswith(b'{"order": 1}')
        assert (b"idempotent-replayed: true" in done) == (number == 1)
    assert orders.count() == 1


def test_http2(nginx_only, origin, path):
    over_http2(nginx_only, origin, path)


def test_with_a_cache(nginx_only, origin, url):
    """GET from the cache, POST guarded, and what it changed is forgotten."""
    target = url("/cached/")
    name = key()
    origin[target] = Reply("list", Cache_Control="max-age=100")
    for _ in range(2):
        assert nginx_only.get(target).body == b"list"
    assert origin.count(target) == 1
    order(origin, target)
    for _ in range(2):
        assert post(nginx_only, target, name).body == b'{"order": 1}'
    assert origin.count(target) == 2
    origin[target] = Reply("longer list", Cache_Control="max-age=100")
    assert nginx_only.get(target).body == b"longer list"


def test_named_location(nginx_only, origin, url):
    target = url("/named/")
    orders = order(origin, target)
    name = key()
    first, again = (post(nginx_only, target, name) for _ in range(2))
    assert first.body == again.body == b'{"order": 1}'
    assert replayed(again) and orders.count() == 1


def test_inheritance(nginx_only, origin, url):
    on, off = url("/nested/on/"), url("/nested/off/")
    order(origin, on), order(origin, off)
    problem(post(nginx_only, on, None), 400, "idempotency_key_required")
    name = key()
    for target, count in ((on, 1), (off, 2)):
        for _ in range(2):
            assert post(nginx_only, target, name).status == 201
        assert origin.count(target) == count


# In flight.

def test_in_flight_is_a_conflict(nginx_only, origin, path):
    orders = order(origin, path)
    name = key()
    before = requests_total(nginx_only, "in_flight")
    with ThreadPoolExecutor() as pool, origin.hold(path):
        first = pool.submit(post, nginx_only, path, name)
        origin.wait_held(path, 1)
        answer = post(nginx_only, path, name)
        problem(answer, 409, "operation_in_flight")
        assert answer.headers["Retry-After"] == "1"
        problem(post(nginx_only, path, name, b"other"), 422,
                "idempotency_key_reused")
        origin._gates[path][0].set()
        assert first.result(20).status == 201
    assert replayed(post(nginx_only, path, name))
    assert orders.count() == 1
    assert requests_total(nginx_only, "in_flight") == before + 1


def test_fifty_at_once(nginx_only, origin, url):
    """Over two workers: one is carried out, all get its answer."""
    target = url("/wait/")
    orders = order(origin, target)
    name = key()
    barrier = threading.Barrier(50)

    def send(_):
        barrier.wait(20)
        return post(nginx_only, target, name)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))
    assert {answer.status for answer in answers} == {201}
    assert {answer.body for answer in answers} == {b'{"order": 1}'}
    assert sum(not replayed(answer) for answer in answers) == 1
    assert orders.count() == 1


def test_all_wait_for_the_first(nginx_only, origin, url):
    target = url("/wait/")
    orders = order(origin, target)
    name = key()
    with ThreadPoolExecutor(30) as pool, origin.hold(target) as hold:
        answers = [pool.submit(post, nginx_only, target, name)
                   for _ in range(30)]
        wait_until(lambda: nginx_only.metric("hotpath_waiting") == 29, 20,
                   "the others wait")
        hold.gate.set()
        answers = [each.result(20) for each in answers]
    assert {answer.body for answer in answers} == {b'{"order": 1}'}
    assert sum(replayed(answer) for answer in answers) == 29
    assert orders.count() == 1
    assert nginx_only.metric("hotpath_waiting") == 0


def test_one_of_those_who_wait_tries_next(nginx_only, origin, url):
    """The first gets a 503 that frees the key: one more goes, not all."""
    target = url("/retry/")
    orders = order(origin, target, 503)
    name = key()
    with ThreadPoolExecutor(10) as pool, origin.hold(target) as hold:
        answers = [pool.submit(post, nginx_only, target, name)
                   for _ in range(10)]
        wait_until(lambda: nginx_only.metric("hotpath_waiting") == 9, 20,
                   "the others wait")
        assert orders.count() == 1

        def next_one(request):
            orders.origin[target] = lambda request: Reply("done", 201)
            return Reply("later", 503)

        origin[target] = next_one
        hold.gate.set()
        answers = [each.result(20) for each in answers]
    assert sorted(answer.status for answer in answers) == [201] * 9 + [503]
    assert sum(replayed(answer) for answer in answers) == 8
    assert orders.count() == 2


def test_the_wait_is_bounded(nginx_only, origin, url):
    target = url("/hasty/")
    orders = order(origin, target)
    name = key()
    with ThreadPoolExecutor() as pool, origin.hold(target):
        first = pool.submit(post, nginx_only, target, name)
        origin.wait_held(target, 1)
        answer = post(nginx_only, target, name)
        problem(answer, 409, "operation_in_flight")
        assert 0.25 < answer.seconds < 10
        origin._gates[target][0].set()
        assert first.result(20).status == 201
    assert orders.count() == 1


# What is forgotten.

def test_answers_that_the_zone_has_lost(nginx_only, origin, url):
    """The key is remembered: refused, and never carried out again."""
    target = url("/tiny/")
    orders = order(origin, target, body="x" * 30000)
    names = [key() for _ in range(150)]
    for name in names:
        assert post(nginx_only, target, name).status == 201
    again = [post(nginx_only, target, name) for name in names]
    assert {answer.status for answer in again} == {201, 409}
    for answer in again:
        if answer.status == 409:
            assert problem(answer, 409, "idempotency_answer_not_kept")[
                "answered"] == 201
        else:
            assert replayed(answer)
    assert orders.count() == 150


def test_finished_keys_go_before_those_in_flight(nginx_only, origin, url):
    """A table for some 3,700 keys, and 8,000 that come by."""
    target = url("/few/")
    slow = target + "?slow"
    order(origin, target)
    orders = order(origin, slow)
    name = key()
    forced = nginx_only.metric("hotpath_idempotency_forced_evictions_total")
    with ThreadPoolExecutor() as pool, origin.hold(slow):
        first = pool.submit(post, nginx_only, slow, name)
        origin.wait_held(slow, 1)
        for number in range(0, 8000, 40):
            with RawHTTP(nginx_only.ports["http"]) as raw:
                for each in range(number, number + 40):
                    raw.post(b"{}", f"Idempotency-Key: few-{each}",
                             path=target)
                for each in range(40):
                    assert raw.answer().status == 201
        assert nginx_only.metric(
            "hotpath_idempotency_forced_evictions_total") > forced + 2000
        problem(post(nginx_only, slow, name), 409, "operation_in_flight")
        origin._gates[slow][0].set()
        assert first.result(20).status == 201
    assert orders.count() == 1


def test_table_full_of_requests_in_flight(nginx_only, origin, url):
    """Nine keys of one set of eight: the ninth is refused, not passed on, and
    none of the others forgotten."""
    target = url("/few/")
    orders = order(origin, target)
    names = []
    for number in range(60000):
        name = f"full-{target}-{number}"
        place = golden.operation_id(b"default", b"/few/", name.encode())[12:]
        if int.from_bytes(place, "little") < 2 ** 32 / 1024:
            names.append(name)
    assert len(names) >= 9
    before = requests_total(nginx_only, "unavailable")
    with ThreadPoolExecutor(8) as pool, origin.hold(target) as hold:
        first = [pool.submit(post, nginx_only, target, name)
                 for name in names[:8]]
        origin.wait_held(target, 8)
        answer = post(nginx_only, target, names[8])
        problem(answer, 503, "idempotency_table_full")
        assert answer.headers["Retry-After"] == "1"
        problem(post(nginx_only, target, names[0]), 409,
                "operation_in_flight")
        hold.gate.set()
        assert {each.result(20).status for each in first} == {201}
    assert post(nginx_only, target, names[8]).status == 201
    assert orders.count() == 9
    assert requests_total(nginx_only, "unavailable") == before + 1


# Two instances.

@pytest.fixture(scope="module")
def pair(tmp_path_factory, origin):
    with guarded.instances(tmp_path_factory.mktemp("pair"), origin) as made:
        yield made


def test_repeat_at_another_instance(pair, origin, path):
    orders = order(origin, path, body="x" * 20000, X_Own="one")
    name = key()
    first = post(pair[0], path, name)
    again = post(pair[1], path, name)
    assert first.status == again.status == 201
    assert first.body == again.body and again.headers["X-Own"] == "one"
    assert replayed(again)
    problem(post(pair[1], path, name, b"other"), 422,
            "idempotency_key_reused")
    assert orders.count() == 1


def test_http2_while_redis_is_told(pair, origin, path):
    over_http2(pair[0], origin, path)


def test_too_large_at_another_instance(pair, origin, url):
    target = url("/bounds/")
    orders = order(origin, target, body="x" * 20000)
    name = key()
    assert post(pair[0], target, name).status == 201
    # nobody waits for Redis to hear of that: what goes through goes on
    wait_until(lambda: b"in_flight" not in post(pair[1], target, name).body,
               10, "it is known there")
    for stack in (pair[1], pair[0]):
        assert problem(post(stack, target, name), 409,
                       "idempotency_answer_not_kept")["answered"] == 201
    assert orders.count() == 1


def test_in_flight_at_another_instance(pair, origin, path):
    orders = order(origin, path)
    name = key()
    with ThreadPoolExecutor() as pool, origin.hold(path):
        first = pool.submit(post, pair[0], path, name)
        origin.wait_held(path, 1)
        problem(post(pair[1], path, name), 409, "operation_in_flight")
        problem(post(pair[1], path, name, b"other"), 422,
                "idempotency_key_reused")
        origin._gates[path][0].set()
        assert first.result(20).status == 201
    assert replayed(post(pair[1], path, name))
    assert orders.count() == 1


def test_many_at_two_instances(pair, origin, url):
    target = url("/wait/")
    orders = order(origin, target)
    name = key()
    barrier = threading.Barrier(40)

    def send(number):
        barrier.wait(20)
        return post(pair[number % 2], target, name)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(send, range(40)))
    assert {answer.status for answer in answers} == {201}
    assert {answer.body for answer in answers} == {b'{"order": 1}'}
    assert orders.count() == 1


def test_key_freed_at_another_instance(pair, origin, url):
    target = url("/retry/")
    orders = order(origin, target, 500)
    name = key()
    assert post(pair[0], target, name).status == 500
    order(origin, target)
    assert post(pair[1], target, name).status == 201
    assert replayed(post(pair[0], target, name))
    assert orders.count() == 2


def test_answer_that_only_redis_has(pair, origin, url):
    """Out of the zone, it is fetched, and is the same."""
    target = url("/tiny/")
    orders = order(origin, target, body="x" * 30000)
    names = [key() for _ in range(150)]
    first = [post(pair[0], target, name).body for name in names]
    assert [post(pair[0], target, name).body for name in names] == first
    assert orders.count() == 150


# Configuration.

@pytest.mark.parametrize("words, text", [
    ("on zone=a:1m answers=answers", 'must be "required"'),
    ("required answers=answers", 'must have "zone" and "answers"'),
    ("required zone=a:1m", 'must have "zone" and "answers"'),
    ("required zone=a:1m answers=nothing", "unknown cache zone"),
    ("required zone=a:1k answers=answers", "too small"),
    ("required zone=a:1m answers=answers ttl=31d", "1s to 30d"),
    ("required zone=a:1m answers=answers ttl=x", 'parameter "ttl=x"'),
    ("required zone=a:1m answers=answers claim=1ms", "claim=1ms"),
    ("required zone=a:1m answers=answers max_answer=100m", "have no room"),
    ("required zone=a:1m answers=answers max_body=17m", "max_body=17m"),
    ("required zone=a:1m answers=answers methods=GET", "methods=GET"),
    ("required zone=a:1m answers=answers retry=200", "retry=200"),
    ("required zone=a:1m answers=answers redis=maybe", "redis=maybe"),
    ("required zone=a:1m answers=answers redis=strict", "needs"),
    ("required zone=keys answers=answers ttl=1h", "another time"),
    ("required zone=a:1m answers=answers what=ever", "what=ever"),
    ("off zone=a:1m", "too many"),
])
def test_refused_configuration(nginx_only, tmp_path, words, text):
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"""
load_module {nginx_only.module};
events {{ }}
http {{
    hotpath_cache_zone zone=answers:16m;
    server {{
        listen 127.0.0.1:1;
        location /a/ {{
            proxy_pass http://127.0.0.1:1;
            hotpath_idempotency required zone=keys:1m answers=answers;
        }}
        location /b/ {{
            proxy_pass http://127.0.0.1:1;
            hotpath_idempotency {words};
        }}
    }}
}}
""")
    done = subprocess.run(
        [nginx_only.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c",
         str(conf)], capture_output=True, text=True, timeout=60,
        env=nginx_only["nginx"].env)
    assert done.returncode != 0
    assert text in done.stderr, done.stderr


def test_counters(nginx_only, origin, path):
    """What passes, what is given again, what is kept."""
    names = [("passed", 1), ("replayed", 1), ("reused", 1), ("refused", 1)]
    before = [requests_total(nginx_only, name) for name, _ in names]
    kept = answers_total(nginx_only, "kept")
    order(origin, path)
    name = key()
    post(nginx_only, path, name)
    post(nginx_only, path, name)
    post(nginx_only, path, name, b"other")
    post(nginx_only, path, None)
    assert [requests_total(nginx_only, name) for name, _ in names] == [
        value + more for value, (_, more) in zip(before, names)]
    assert answers_total(nginx_only, "kept") == kept + 1
    assert json.loads(post(nginx_only, path, name).body) == {"order": 1}
