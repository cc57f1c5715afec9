"""One fetch for everybody: across workers, across instances, ahead of time.

How often Postgres was asked is counted by Postgres itself: the statement of
/slow/ draws from a sequence, and takes a moment, so that whoever asks at the
same time has to wait or ask as well. Model rows are written by SQL.
"""

import os
import signal
import time
import uuid

import pytest

from servers import Client, wait_until
from wire import RawHTTP

COLUMNS = ("version, document, (extract(epoch FROM modified_at) * 1000000)"
           "::bigint, deleted")

HTTP = """
hotpath_cache_zone zone=flight:4m;
"""

SERVER = f"""
location /slow/ {{
    hotpath_read prices;
    hotpath_read_statement "SELECT {COLUMNS} FROM (
            SELECT nextval('hotpath.calls'), pg_sleep(0.3)) AS asked
        LEFT JOIN hotpath.prices ON tenant = $1 AND key = $2
        WHERE key IS NOT NULL";
    hotpath_cache flight;
}}
location /swr/ {{
    hotpath_read prices;
    hotpath_cache flight ttl=50ms revalidate=10m redis_ttl=1ms jitter=0%;
}}
location /ahead/ {{
    hotpath_read prices;
    hotpath_read_statement "SELECT {COLUMNS} FROM hotpath.prices
        WHERE tenant = $1 AND key = $2 AND nextval('hotpath.calls') > 0";
    hotpath_cache flight ttl=1s refresh=50% jitter=0% redis_ttl=1ms;
}}
location /asked/ {{
    hotpath_read prices;
    hotpath_cache flight request_control=$http_x_honour status_key;
}}
location /jitter/ {{
    hotpath_read prices;
    hotpath_cache flight ttl=1000s jitter=20%;
}}
"""

STACK = {"workers": 4, "http": HTTP, "server": SERVER,
         "without": ("drain", "project")}

# The 10,000 take a while; what one machine can do at a time is enough
# to see a second query.
TOGETHER = int(os.environ.get("HOTPATH_TOGETHER", "400"))


@pytest.fixture(scope="module", autouse=True)
def calls(own_stack):
    own_stack.sql("CREATE SEQUENCE hotpath.calls")


def key():
    return uuid.uuid4().hex


def store(stack, name, document='{"a":1}', version=0x4711):
    stack.sql("INSERT INTO hotpath.prices VALUES ('default', %s, %s, %s,"
              " now(), false, 0, 1)", (name, version, document))


def queries(stack):
    (count,), = stack.sql("SELECT last_value - (NOT is_called)::int"
                          " FROM hotpath.calls")
    return count


def together(stacks, path, count):
    """So many requests at once, spread over the stacks; their answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode()
    clients = [RawHTTP(stacks[i % len(stacks)].ports["http"], 60)
               for i in range(count)]
    try:
        for client in clients:
            client.send(request)
        return [client.answer() for client in clients]
    finally:
        for client in clients:
            client.close()


def test_one_query_an_instance(own_stack):
    name = key()
    store(own_stack, name)
    before = queries(own_stack)
    waited = own_stack.metric("hotpath_read_waits_total", 'for="worker"')
    answers = together([own_stack], f"/slow/{name}", TOGETHER)
    assert {(each.status, each.body) for each in answers} == {
        (200, b'{"a":1}')}
    assert queries(own_stack) - before == 1
    # more than one worker was asked, or nothing was shown
    assert own_stack.metric("hotpath_read_waits_total",
                            'for="worker"') > waited


def test_one_query_a_fleet(own_stack, peer):
    name = key()
    store(own_stack, name)
    before = queries(own_stack)
    answers = together([own_stack, peer], f"/slow/{name}", TOGETHER)
    assert {(each.status, each.body) for each in answers} == {
        (200, b'{"a":1}')}
    assert queries(own_stack) - before == 1
    assert sum(each.metric("hotpath_read_waits_total", 'for="instance"')
               for each in (own_stack, peer)) >= 1


def test_one_query_for_what_is_unknown(own_stack, peer):
    before = queries(own_stack)
    answers = together([own_stack, peer], f"/slow/{key()}", TOGETHER)
    assert {each.status for each in answers} == {404}
    assert queries(own_stack) - before == 1


def test_an_instance_that_dies_is_not_waited_for(own_stack, peer):
    """It took the fleet's lease and will not give it back."""
    name = key()
    store(own_stack, name)
    peer_client = RawHTTP(peer.ports["http"], 30)
    before = queries(own_stack)
    peer_client.send(f"GET /slow/{name} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
    wait_until(lambda: queries(own_stack) > before, 10, "the peer asks")
    peer["nginx"].signal(signal.SIGKILL, everyone=True)
    wait_until(lambda: peer["nginx"].pid() is None, 10, "it is dead")
    begin = time.monotonic()
    answer = own_stack.get(f"/slow/{name}")
    assert (answer.status, answer.body) == (200, b'{"a":1}')
    assert time.monotonic() - begin < 4
    peer_client.close()
    peer.start("nginx")
    peer.wait_ready()


def who_asks(stack):
    """The pid of the nginx worker whose query Postgres works on."""
    rows = stack.sql("SELECT client_port FROM pg_stat_activity"
                     " WHERE state = 'active' AND query LIKE '%pg_sleep%'"
                     " AND pid <> pg_backend_pid()")
    if not rows:
        return None
    local = f":{rows[0][0]:04X}"
    with open("/proc/net/tcp", encoding="ascii") as file:
        inodes = [line.split()[9] for line in file
                  if line.split()[1].endswith(local)]
    for pid in stack.nginx_workers():
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if link[8:-1] in inodes:
                return pid
    return None


def asked_by_many(stack):
    """A key that one worker asks Postgres for while others wait for it: who
    accepts a connection is the system's choice. (key, clients, that worker)"""
    for _ in range(20):
        name = key()
        store(stack, name)
        waits = stack.metric("hotpath_read_waits_total", 'for="worker"')
        clients = [RawHTTP(stack.ports["http"], 30) for _ in range(100)]
        for client in clients:
            client.send(f"GET /slow/{name} HTTP/1.1\r\nHost: t\r\n\r\n"
                        .encode())
        pid = who_asks(stack)
        if pid and stack.metric("hotpath_read_waits_total",
                                'for="worker"') > waits:
            return name, clients, pid
        for client in clients:
            client.close()
    raise AssertionError("one worker accepted everything, 20 times")


def test_a_worker_that_dies_is_not_waited_for(own_stack):
    name, clients, pid = asked_by_many(own_stack)
    own_stack.expect_log(r"exited on signal 9")
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    answered = 0
    for client in clients:
        try:
            answer = client.answer()
        except (OSError, EOFError):
            continue
        assert (answer.status, answer.body) == (200, b'{"a":1}')
        answered += 1
    assert answered > 0
    assert time.monotonic() - begin < 6
    wait_until(lambda: len(own_stack.nginx_workers()) == 4, 10,
               "the worker was started anew")
    assert own_stack.get(f"/slow/{name}").status == 200


def test_stale_while_it_is_renewed(own_stack):
    name = key()
    store(own_stack, name, '{"v":1}', 1)
    assert own_stack.get(f"/swr/{name}").body == b'{"v":1}'
    own_stack.sql("UPDATE hotpath.prices SET document = '{\"v\":2}',"
                  " version = 2 WHERE key = %s", (name,))
    wait_until(lambda: ttl(own_stack.get(f"/swr/{name}")) <= 0
               or own_stack.get(f"/swr/{name}").body == b'{"v":2}', 5,
               "it is stale once")
    wait_until(lambda: own_stack.get(f"/swr/{name}").body == b'{"v":2}', 5,
               "the background has renewed it")


def test_stale_answers_do_not_wait_for_postgres(own_stack):
    name = key()
    store(own_stack, name)
    own_stack.get(f"/swr/{name}")
    own_stack.freeze("postgres")
    own_stack.freeze("redis")
    try:
        wait_until(lambda: ttl(own_stack.get(f"/swr/{name}")) < 0, 5,
                   "it is stale")
        answers = [own_stack.get(f"/swr/{name}") for _ in range(50)]
    finally:
        own_stack.thaw("redis")
        own_stack.thaw("postgres")
    assert {each.status for each in answers} == {200}
    assert max(each.seconds for each in answers) < 0.05
    assert all(each.headers["cache-status"].startswith(
        "Hotpath; hit; ttl=-") for each in answers)


def test_what_is_used_often_is_renewed_ahead(own_stack):
    """It never becomes stale, with a handful of queries a second."""
    name = key()
    store(own_stack, name)
    own_stack.get(f"/ahead/{name}")
    before = queries(own_stack)
    misses, seconds, asked = [], 3, 0
    client = Client(own_stack.ports["http"])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = client.request("GET", f"/ahead/{name}")
        asked += 1
        if not answer.headers["cache-status"].startswith("Hotpath; hit; ttl"):
            misses.append(answer.headers["cache-status"])
        assert int(answer.headers["age"]) < 1
    client.close()
    assert asked > 100 and not misses
    assert 3 <= queries(own_stack) - before <= 4 * seconds


HONOUR = {"X-Honour": "1"}


@pytest.mark.parametrize("control, status, how", [
    ("no-cache", 200, "fwd=request"),
    ("no-store", 200, "fwd=request"),
    ("min-fresh=1", 200, "hit"),
    ("min-fresh=100000", 200, "fwd=request"),
    ("only-if-cached", 200, "hit"),
    ("only-if-cached, no-cache", 504, None),
    ("max-age=100", 200, "hit"),
    ("", 200, "hit"),
])
def test_control_of_the_client(own_stack, control, status, how):
    name = key()
    store(own_stack, name)
    own_stack.get(f"/asked/{name}")
    answer = own_stack.get(f"/asked/{name}",
                           {**HONOUR, "Cache-Control": control})
    assert answer.status == status
    if how:
        assert how in answer.headers["cache-status"]
    else:
        assert answer.json()["code"] == "not_cached"
    # and who is not honoured gets what there is
    answer = own_stack.get(f"/asked/{name}", {"Cache-Control": control})
    assert answer.status == 200 and "; hit" in answer.headers["cache-status"]


def test_only_if_cached_of_what_is_not(own_stack):
    before = queries(own_stack)
    answer = own_stack.get(f"/asked/{key()}",
                           {**HONOUR, "Cache-Control": "only-if-cached"})
    assert answer.status == 504 and answer.json()["code"] == "not_cached"
    assert queries(own_stack) == before


def test_the_key_where_it_is_asked_for(own_stack):
    name = key()
    store(own_stack, name)
    own_stack.get(f"/asked/{name}")
    assert f'key="prices/default/{name}"' in own_stack.get(
        f"/asked/{name}").headers["cache-status"]


def ttl(answer):
    return int(answer.headers["cache-status"].rpartition("ttl=")[2]
               .partition(";")[0])


def test_lifetimes_differ(own_stack):
    names = [key() for _ in range(60)]
    for name in names:
        store(own_stack, name)
    found = []
    for name in names:
        own_stack.get(f"/jitter/{name}")
        answer = own_stack.get(f"/jitter/{name}")
        found.append(ttl(answer))
        assert answer.headers["cache-control"].startswith("max-age=1000")
    assert 799 <= min(found) and max(found) <= 1000
    assert max(found) - min(found) > 50
