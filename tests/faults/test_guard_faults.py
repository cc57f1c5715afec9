"""hotpath_idempotency while upstream, worker, Redis or client go away.

What is left of a key then, and that no request is carried out twice but where
the reference says so: an upstream that is not there, answers nothing, or half;
a client that leaves; a worker killed in flight, a reload; Redis stopped and
frozen, for an instance that goes on alone and one that must not. At last all
of it at random. How often the origin was asked is what counts. The well-behaved
case is in tests/integration/test_guard.py.
"""

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import guarded
from guarded import key, order, post, problem, replayed
from origin import Reply
from servers import Watch, wait_until
from wire import RawHTTP

STACK = guarded.options


@pytest.fixture
def url(path):
    return lambda location: location.rstrip("/") + path


@pytest.fixture(autouse=True)
def up_again(origin):
    yield
    if origin._listener is None:
        origin.up()


@pytest.fixture(scope="module")
def pair(tmp_path_factory, origin):
    with guarded.instances(tmp_path_factory.mktemp("pair"), origin) as made:
        yield made


@pytest.fixture
def thawed(pair):
    yield pair
    if pair[0]["redis"].pid() is None:
        pair[0].start("redis")
    pair[0].thaw("redis")
    for stack in pair:
        wait_until(lambda stack=stack: post(
            stack, "/strict/none", key()).status == 404, 20,
            "Redis is asked again")


def answers(stack, result):
    return stack.metric("hotpath_guard_answers_total", f'result="{result}"')


# The upstream.

def test_not_there(nginx_only, origin, path):
    """Nothing was sent: the key is free."""
    orders = order(origin, path)
    name = key()
    before = answers(nginx_only, "unsent")
    origin.down()
    for _ in range(2):
        assert post(nginx_only, path, name).status == 502
    assert answers(nginx_only, "unsent") == before + 2
    origin.up()
    assert post(nginx_only, path, name).body == b'{"order": 1}'
    assert replayed(post(nginx_only, path, name))
    assert orders.count() == 1


def test_no_such_upstream(nginx_only, url):
    target = url("/nowhere/")
    name = key()
    for _ in range(2):
        assert post(nginx_only, target, name).status == 502


@pytest.mark.parametrize("location, after", [("/", None), ("/retry/", 201)])
def test_closed_without_an_answer(nginx_only, origin, url, location, after):
    target = url(location)
    name = key()
    origin[target] = lambda request: None
    assert post(nginx_only, target, name).status == 502
    order(origin, target)
    if after:
        assert post(nginx_only, target, name).status == after
        assert origin.count(target) == 2
        return
    for _ in range(2):
        document = problem(post(nginx_only, target, name), 409,
                           "idempotency_outcome_unknown")
        assert "answered" not in document
    problem(post(nginx_only, target, name, b"other"), 422,
            "idempotency_key_reused")
    assert origin.count(target) == 1


@pytest.mark.parametrize("location, after", [
    ("/quick/", 409), ("/retry/", 201)])
def test_too_slow(nginx_only, origin, url, location, after):
    target = url(location)
    orders = order(origin, target)
    name = key()
    with origin.hold(target):
        assert post(nginx_only, target, name).status == 504
    assert post(nginx_only, target, name).status == after
    assert orders.count() == (2 if after == 201 else 1)


@pytest.mark.parametrize("location", ["/", "/unbuffered/"])
@pytest.mark.parametrize("chunked", [False, True])
def test_half_an_answer(nginx_only, origin, url, location, chunked):
    """The client is told; what was answered is not told twice."""
    target = url(location)
    name = key()
    origin[target] = Reply("x" * 3000, 201, chunked=chunked, cut=1500)
    problem(post(nginx_only, target, name), 502, "upstream_incomplete")
    order(origin, target)
    document = problem(post(nginx_only, target, name), 409,
                       "idempotency_answer_not_kept")
    assert document["answered"] == 201
    assert origin.count(target) == 1


def test_killed_in_the_middle(nginx_only, origin, path):
    go = threading.Event()
    origin[path] = Reply("x" * 3000, 201, go=go)
    name = key()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, nginx_only, path, name)
        wait_until(lambda: origin.count(path) == 1, 10, "it is asked")
        problem(post(nginx_only, path, name), 409, "operation_in_flight")
        origin.down()
        go.set()
        problem(first.result(20), 502, "upstream_incomplete")
    origin.up()
    problem(post(nginx_only, path, name), 409, "idempotency_answer_not_kept")
    assert origin.count(path) == 1


@pytest.mark.parametrize("raw", [
    b"", b"garbage\r\n\r\n", b"HTTP/1.1 201 Made\r\nbroken"])
def test_nonsense(nginx_only, origin, path, raw):
    """Whatever a client makes of that: it is not sent again."""
    name = key()
    origin[path] = Reply(raw=raw)
    first = post(nginx_only, path, name)
    assert first.status == 502, first
    assert post(nginx_only, path, name).status == 409
    assert origin.count(path) == 1


def test_error_page(nginx_only, origin, url):
    target = url("/pages/")
    name = key()
    order(origin, target, 500)
    assert post(nginx_only, target, name).body == b"sorry"
    document = problem(post(nginx_only, target, name), 409,
                       "idempotency_answer_not_kept")
    assert document["answered"] == 500
    assert origin.count(target) == 1


# The client.

def test_client_leaves(nginx_only, origin, path):
    orders = order(origin, path)
    name = key()
    with origin.hold(path) as hold:
        with RawHTTP(nginx_only.ports["http"]) as raw:
            raw.post(b"{}", f"Idempotency-Key: {name}", path=path)
            origin.wait_held(path, 1)
        problem(post(nginx_only, path, name, b"{}"), 409,
                "operation_in_flight")
        hold.gate.set()
        answer = wait_until(
            lambda: [each for each in [post(nginx_only, path, name, b"{}")]
                     if each.status == 201], 20, "it was answered")[0]
    assert replayed(answer) and orders.count() == 1


def test_client_leaves_while_it_waits(nginx_only, origin, url):
    target = url("/wait/")
    orders = order(origin, target)
    name = key()
    with ThreadPoolExecutor() as pool, origin.hold(target) as hold:
        first = pool.submit(post, nginx_only, target, name)
        origin.wait_held(target, 1)
        with RawHTTP(nginx_only.ports["http"]) as raw:
            raw.post(b'{"amount":7}', f"Idempotency-Key: {name}", path=target)
            wait_until(lambda: nginx_only.metric("hotpath_waiting") == 1, 10,
                       "it waits")
        wait_until(lambda: nginx_only.metric("hotpath_waiting") == 0, 10,
                   "it has left")
        hold.gate.set()
        assert first.result(20).status == 201
    assert orders.count() == 1


def test_client_that_reads_nothing(nginx_only, origin, url):
    """The answer is kept whatever it takes until it is read."""
    target = url("/")
    orders = order(origin, target, body="x" * 60000)
    name = key()
    with RawHTTP(nginx_only.ports["http"]) as raw:
        raw.socket.setsockopt(1, 8, 4096)  # SO_RCVBUF
        for each in range(40):
            raw.post(b"{}", f"Idempotency-Key: {key()}", path=target)
        raw.post(b"{}", f"Idempotency-Key: {name}", path=target)
        assert post(nginx_only, target, name, b"{}").status in (201, 409)
    wait_until(lambda: post(nginx_only, target, name, b"{}").status == 201,
               20, "it is known")
    assert orders.count() <= 42


# Workers.

def _first(stack, target, name):
    """The first request, on a connection whose worker is known."""
    raw = RawHTTP(stack.ports["http"], 40)
    raw.send(b"GET /pid HTTP/1.1\r\nHost: t\r\n\r\n")
    pid = int(raw.answer().body)
    raw.post(b'{"amount":7}', f"Idempotency-Key: {name}", path=target)
    return raw, pid


def test_worker_is_killed(nginx_only, origin, url):
    """Its claim stands until its time is over: 409. Then one is carried out
    again; nobody can know what became of the first."""
    nginx_only.expect_log("exited on signal 9")
    target = url("/claim/")
    orders = order(origin, target)
    name = key()
    with origin.hold(target) as hold:
        raw, pid = _first(nginx_only, target, name)
        origin.wait_held(target, 1)
        os.kill(pid, signal.SIGKILL)
        assert raw.closed()
        wait_until(lambda: len(nginx_only.nginx_workers()) == 2
                   and pid not in nginx_only.nginx_workers(), 20,
                   "there is another worker")
        problem(post(nginx_only, target, name, b"other"), 422,
                "idempotency_key_reused")
        hold.gate.set()
    wait_until(lambda: post(nginx_only, target, name).status == 201, 30,
               "the claim's time is over")
    assert orders.count() == 2
    assert replayed(post(nginx_only, target, name))


def test_slower_than_the_claim(nginx_only, origin, url):
    """A claim is renewed for as long as its request is under way."""
    target = url("/claim/")
    orders = order(origin, target)
    name = key()
    other = target + "?other"
    order(origin, other)
    with ThreadPoolExecutor() as pool, origin.hold(target) as hold:
        raw, pid = _first(nginx_only, target, name)
        origin.wait_held(target, 1)
        again = pool.submit(post, nginx_only, target, name)
        # a claim of the same time, of a worker that is not there any more,
        # ends meanwhile, twice
        for _ in range(2):
            nginx_only.expect_log("exited on signal 9")
            left = key()
            with origin.hold(other) as others:
                while True:
                    dying, its = _first(nginx_only, other, left)
                    if its != pid:
                        break
                    dying.close()
                    left = key()
                origin.wait_held(other, 1)
                os.kill(its, signal.SIGKILL)
                dying.closed()
                others.gate.set()
            wait_until(lambda left=left: post(
                nginx_only, other, left).status == 201, 30, "that one ends")
        assert orders.count() == 1
        hold.gate.set()
        assert raw.answer().status == 201
        try:
            assert replayed(again.result(30))
        except OSError:
            pass  # it was in a worker that was killed
        raw.close()
    assert orders.count() == 1


def test_reload(nginx_only, origin, url):
    """The old worker ends what it has begun, the new ones wait for that."""
    target = url("/wait/")
    orders = order(origin, target)
    name = key()
    with ThreadPoolExecutor() as pool, origin.hold(target) as hold:
        first = pool.submit(post, nginx_only, target, name)
        origin.wait_held(target, 1)
        nginx_only.reload()
        again = [pool.submit(post, nginx_only, target, name)
                 for _ in range(4)]
        wait_until(lambda: nginx_only.metric("hotpath_waiting") == 4, 10,
                   "they wait in new workers")
        hold.gate.set()
        assert not replayed(first.result(20))
        assert all(replayed(each.result(20)) for each in again)
    nginx_only.reload()
    assert replayed(post(nginx_only, target, name))
    assert orders.count() == 1


# Redis.

@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_redis_away(thawed, origin, url, how):
    """On its own an instance keeps its word; a strict one refuses."""
    stack = thawed[0]
    if how == "stopped":
        stack.stop("redis")
    else:
        stack.freeze("redis")
    before = stack.metric("hotpath_guard_redis_errors_total")
    target, strict = url("/"), url("/strict/")
    orders, others = order(origin, target), order(origin, strict)
    name = key()
    with Watch(stack) as ping:
        for number in range(3):
            assert replayed(post(stack, target, name)) == (number > 0)
            problem(post(stack, strict, name), 503, "idempotency_unavailable")
    assert ping.answers and not ping.failures
    assert orders.count() == 1 and others.count() == 0
    assert stack.metric("hotpath_guard_redis_errors_total") > before


def test_redis_comes_back_before_the_answer(thawed, origin, url):
    """What was claimed without it is known to all when it is answered."""
    one, two = thawed
    target = url("/")
    orders = order(origin, target)
    name = key()
    one.stop("redis")
    with ThreadPoolExecutor() as pool, origin.hold(target) as hold:
        first = pool.submit(post, one, target, name)
        origin.wait_held(target, 1)
        one.start("redis")
        for stack in (one, two):
            wait_until(lambda stack=stack: post(
                stack, "/strict/none", key()).status == 404, 20,
                "Redis is asked again")
        hold.gate.set()
        assert first.result(20).status == 201
    wait_until(lambda: post(one, "/strict/none", key()).status == 404, 20,
               "this worker's connection is there")
    assert replayed(post(one, target, name))
    answer = post(two, target, name)
    assert answer.status == 201
    assert orders.count() == (1 if replayed(answer) else 2)


def test_redis_goes_before_the_answer(thawed, origin, url):
    """The client gets its answer all the same, and this instance knows it."""
    stack = thawed[0]
    target = url("/")
    orders = order(origin, target)
    name = key()
    with ThreadPoolExecutor() as pool, origin.hold(target) as hold:
        first = pool.submit(post, stack, target, name)
        origin.wait_held(target, 1)
        stack.freeze("redis")
        hold.gate.set()
        assert first.result(20).status == 201
    assert replayed(post(stack, target, name))
    assert orders.count() == 1


def test_nonsense_in_redis(thawed, origin, url):
    """Counted as Redis away; what is not ours is not overwritten."""
    from wire import Redis, golden
    stack = thawed[0]
    stack.expect_log("is not of an idempotency key")
    target, strict = url("/optional/"), url("/strict/")
    orders, others = order(origin, target), order(origin, strict)
    name = key()
    ids = [golden.uuid_text(golden.operation_id(
        b"default", route, name.strip('"').encode()))
        for route in (b"optional", b"/strict/")]
    with Redis(stack.ports["redis"]) as redis:
        for each in ids:
            redis("SET", f"hotpath:idempotency:{each}", "nonsense")
        for number in range(2):
            assert replayed(post(stack, target, name)) == (number > 0)
            problem(post(stack, strict, name), 503, "idempotency_unavailable")
        for each in ids:
            assert redis("GET", f"hotpath:idempotency:{each}") == b"nonsense"
    assert orders.count() == 1 and others.count() == 0


# At random.

def test_at_random(pair, origin, url):
    """Keys sent again and again to two instances, whose clients lose patience
    and whose workers are reloaded: each is carried out once, and all answers
    to it are one. A 503 is sent again, as it says."""
    target = url("/surely/")
    carried_out = {}
    lock = threading.Lock()

    def carry_out(request):
        name = request.headers["idempotency-key"]
        with lock:
            carried_out[name] = carried_out.get(name, 0) + 1
            number = len(carried_out)
        return Reply(f"{name} {number}", 201)

    origin[target] = carry_out
    names = [key() for _ in range(60)] * 6
    random.Random(4).shuffle(names)
    seen = {}

    def send(word):
        number, name = word
        draw = random.Random(number)
        stack = pair[draw.randrange(2)]
        if draw.random() < 0.2:
            with RawHTTP(stack.ports["http"]) as raw:
                raw.post(b"{}", f"Idempotency-Key: {name}", path=target)
            return
        answer = wait_until(
            lambda: [each for each in [post(stack, target, name, b"{}")]
                     if each.status != 503], 30, "Redis is asked")[0]
        assert answer.status == 201, answer
        with lock:
            seen.setdefault(name, set()).add(answer.body)

    with ThreadPoolExecutor(16) as pool:
        work = pool.map(send, enumerate(names))
        for stack in pair:
            stack.reload()
        list(work)
    for name in sorted(set(names)):
        seen.setdefault(name, set()).add(
            post(pair[0], target, name, b"{}").body)
    assert set(carried_out) == set(names)
    assert set(carried_out.values()) == {1}
    assert all(len(bodies) == 1 for bodies in seen.values())
