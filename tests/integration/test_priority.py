"""Priority lanes: high, normal, low, each a stream of its own per partition.

What was accepted while the drain stood still is committed in that order, by
the positions that Postgres has; the lowest is shed first, of a full queue and
of a long backlog; one key is one row whatever the priorities of its requests;
statuses and waits know where each went; a stream that is missing holds up its
own priority only. Who asks for what: the header X-Priority, else by chance.

One nginx worker, so that its queue is the only one. The drain or the broker
stands still where a test needs that nothing moves on.
"""

import collections
import json
import subprocess
import threading
import urllib.request
import uuid

import pytest

from servers import Client, Load, Peer, local, wait_until
from wire import Nats, RawHTTP, config, golden

STREAM = ("partitions=2 window=1", "partitions=2 priorities=3 window=1")
QUEUE = ("queue=32m timeout=5s", "queue=256k backlog=200k timeout=10s")
MAPS = """
split_clients "$request_id" $any_priority { 33% high; 33% low; * normal; }
map $http_x_priority $priority { "" $any_priority; default $http_x_priority; }
"""
ROUTES = config("routes.conf", (
    "hotpath_partition_key  payload=productId;",
    "hotpath_partition_key  payload=productId;\n"
    "    hotpath_priority       $priority;"))

STACK = {
    "without": ("project",),
    "workers": 1,
    "env": {"HOTPATH_PRIORITIES": "3"},
    "settings": {"drain": {"batch_events": 40, "yield_batches": 0}},
    "http": MAPS,
    "server": 'location = /low { hotpath_write events; hotpath_priority low; }',
    "hotpath": config("hotpath.conf", STREAM, QUEUE),
    "routes": ROUTES,
}

ORDER = ("high", "normal", "low")


def key():
    return f"priority-{uuid.uuid4()}"


def event(name, product=1, payload=None):
    return {"idempotencyKey": name, "eventType": "t",
            "payload": {"productId": product, **(payload or {})}}


def post(stack, name, priority, product=1, payload=None, headers=None):
    return stack.post(event(name, product, payload),
                      {"X-Priority": priority, **(headers or {})})


def accepted(stack, priority, name=None, product=1):
    answer = post(stack, name or key(), priority, product)
    assert answer.status == 202, answer
    return answer.json()["operationId"]


def status(stack, operation):
    return stack.get(f"/events/status/{operation}").json()["status"]


def stored(stack, names):
    return stack.sql(
        "SELECT idempotency_key FROM hotpath.events"
        " WHERE idempotency_key = ANY(%s) ORDER BY position", (names,))


def settled(stack, priorities=ORDER):
    """All streams are known, and their lanes store."""
    for product in (1, 2, 3, 4):
        for priority in priorities:
            answer = wait_until(
                lambda: (lambda found: found if found.status == 202 else None)(
                    post(stack, key(), priority, product)), 20,
                f"{priority} is taken")
            operation = answer.json()["operationId"]
            wait_until(lambda: status(stack, operation) == "processed", 20,
                       f"{priority} is stored")


@pytest.fixture
def still(own_stack):
    """The drain stands still until the test wants it to go on."""
    settled(own_stack)
    own_stack.freeze("drain")
    yield own_stack
    own_stack.thaw("drain")


def lanes(stack, names, partition):
    """The priorities in the order in which they were stored."""
    return [name.split("/")[1] for name, in stack.sql(
        "SELECT idempotency_key FROM hotpath.events"
        " WHERE idempotency_key = ANY(%s) AND partition = %s"
        " ORDER BY position", (names, partition))]


def accept_300_each(stack):
    """The lowest first, so that chance cannot give the right order."""
    run = key()
    names = []
    for priority in reversed(ORDER):
        client = Client(stack.ports["http"])
        for number in range(300):
            names.append(f"{run}/{priority}/{number}")
            answer = client.request("POST", "/events",
                                    event(names[-1], number),
                                    {"X-Priority": priority})
            assert answer.status == 202, answer
        client.close()
    return names


# ---- drained in that order ----

def test_order(own_stack):
    settled(own_stack)
    own_stack.stop("drain")
    names = accept_300_each(own_stack)
    before = len(names)
    own_stack.start("drain")
    wait_until(lambda: len(stored(own_stack, names)) == before, 30,
               "all are stored")
    counts = collections.Counter()
    for partition in (0, 1):
        found = lanes(own_stack, names, partition)
        assert found == sorted(found, key=ORDER.index)
        counts.update(found)
    assert counts == {"high": 300, "normal": 300, "low": 300}


def test_order_within_a_priority(own_stack):
    """As the broker got them."""
    settled(own_stack)
    own_stack.stop("drain")
    names = accept_300_each(own_stack)
    own_stack.start("drain")
    wait_until(lambda: len(stored(own_stack, names)) == 900, 30, "all stored")
    for partition in (0, 1):
        for priority in ORDER:
            numbers = [int(name.split("/")[2]) for name, in own_stack.sql(
                "SELECT idempotency_key FROM hotpath.events WHERE partition ="
                " %s AND idempotency_key LIKE %s ORDER BY position",
                (partition, f"{names[0].split('/')[0]}/{priority}/%"))]
            assert numbers == sorted(numbers)


def test_nobody_waits_for_ever(make_stack):
    """After so many batches of others, a lower priority has its turn."""
    stack = make_stack(**{**STACK, "settings": {"drain": {
        "batch_events": 10, "yield_batches": 4}}})
    settled(stack)
    stack.stop("drain")
    names = accept_300_each(stack)
    stack.start("drain")
    wait_until(lambda: len(stored(stack, names)) == 900, 30, "all are stored")
    for partition in (0, 1):
        found = lanes(stack, names, partition)
        assert found[:10] == ["high"] * 10
        last = len(found) - 1 - found[::-1].index("high")
        # one batch in five each for the others; strictly it would be none
        among = collections.Counter(found[:last])
        assert among["high"] > among["normal"] >= 20
        assert among["high"] > among["low"] >= 20


# ---- one key, one effect ----

def test_one_key_with_two_priorities(own_stack):
    settled(own_stack)
    name = key()
    messages = own_stack.metric("hotpath_publish_messages_total")
    first = post(own_stack, name, "low")
    again = post(own_stack, name, "high")
    assert (first.status, again.status) == (202, 202)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.json()["operationId"] == again.json()["operationId"]
    assert own_stack.metric("hotpath_publish_messages_total") == messages + 1


@pytest.fixture
def other(own_stack):
    peer = Peer(own_stack)
    peer.up()
    peer.wait_ready()
    yield peer
    peer.down()


def test_one_key_through_two_instances(own_stack, other):
    """Which know nothing of one another: two streams, and one row."""
    same, another = key(), key()
    settled(own_stack)
    wait_until(lambda: other.get("/health/ready").status == 200, 10, "ready")
    own_stack.stop("drain")
    for name, payload in ((same, None), (another, {"n": 2})):
        low = post(own_stack, name, "low")
        high = post(other, name, "high", payload=payload)
        assert (low.status, high.status) == (202, 202)
        assert "Idempotent-Replayed" not in high.headers
        assert low.json()["operationId"] == high.json()["operationId"]
    own_stack.start("drain")
    operations = [golden.uuid_text(golden.operation_id(
        b"default", b"events", name.encode()))
        for name in (same, another)]
    for stack in (own_stack, other):
        for operation in operations:
            wait_until(lambda: status(stack, operation) == "processed", 20,
                       "it is processed")
    wait_until(lambda: own_stack.sql(
        "SELECT conflicts FROM hotpath.operations WHERE operation_id = %s",
        (operations[1],)) == [(1,)], 20, "the second payload is a conflict")
    rows = own_stack.sql(
        "SELECT operation_id::text, payload FROM hotpath.events"
        " WHERE operation_id = ANY(%s::uuid[]) ORDER BY position",
        (operations,))
    # high was drained first
    assert sorted(rows) == sorted([
        (operations[0], {"productId": 1}),
        (operations[1], {"productId": 1, "n": 2})])


def test_drain_killed(own_stack):
    """Whatever it had taken and not committed, of whichever priority."""
    settled(own_stack)
    before = {priority: own_stack.metric(
        "hotpath_priority_accepted_total", f'"{priority}"')
        for priority in ORDER}
    with Load(own_stack, threads=4, retry=True) as load:
        for count in (300, 600, 900):
            wait_until(lambda: len(load.accepted) > count, 30, "it goes on")
            own_stack.kill("drain")
            own_stack.start("drain")
        wait_until(lambda: len(load.accepted) > 1200, 30, "and to the end")
    load.check()
    for priority in ORDER:
        assert own_stack.metric("hotpath_priority_accepted_total",
                                f'"{priority}"') > before[priority] + 200


# ---- shed in the reverse order ----

def fill(stack, clients, priority, count):
    """So many events of 10 kB wait for the broker."""
    for _ in range(count):
        client = RawHTTP(stack.ports["http"])
        client.post(event(key(), 1, {"x": "x" * 10000}),
                    f"X-Priority: {priority}")
        clients.append(client)
    # whatever came before has been read when this is answered
    assert stack.get("/health/live").status == 200


def code(answer):
    return answer.status, answer.json()["code"]


def test_shed_from_a_full_queue(own_stack):
    """Of 256k: low above 128k, normal above 204k, high when it is full."""
    settled(own_stack)
    shed = {priority: own_stack.metric("hotpath_priority_shed_total",
                                       f'"{priority}"')
            for priority in ("normal", "low")}
    clients = []
    own_stack.freeze("nats")
    try:
        fill(own_stack, clients, "high", 12)
        answer = post(own_stack, key(), "low", payload={"x": "x" * 10000})
        assert code(answer) == (503, "priority_shed")
        assert answer.headers["Retry-After"] == "2"
        fill(own_stack, clients, "normal", 8)
        for priority in ("low", "normal"):
            answer = post(own_stack, key(), priority,
                          payload={"x": "x" * 10000})
            assert code(answer) == (503, "priority_shed")
        fill(own_stack, clients, "high", 5)
        answer = post(own_stack, key(), "high", payload={"x": "x" * 10000})
        assert code(answer) == (503, "publish_queue_full")
        for priority in ("low", "normal"):
            answer = post(own_stack, key(), priority,
                          payload={"x": "x" * 10000})
            assert code(answer) == (503, "priority_shed")
    finally:
        own_stack.thaw("nats")
    # those that were let in are all of them accepted
    assert [client.answer().status for client in clients] == [202] * 25
    for client in clients:
        client.close()
    assert own_stack.metric("hotpath_priority_shed_total", '"low"') == (
        shed["low"] + 3)
    assert own_stack.metric("hotpath_priority_shed_total", '"normal"') == (
        shed["normal"] + 2)
    settled(own_stack)


def test_shed_in_a_batch(own_stack):
    """Each event for itself: those that there was room for are accepted."""
    settled(own_stack)
    clients = []
    own_stack.freeze("nats")
    try:
        fill(own_stack, clients, "high", 9)
        client = RawHTTP(own_stack.ports["http"])
        client.post([event(key(), 1, {"x": "x" * 10000}) for _ in range(6)],
                    "X-Priority: low", path="/events")
        clients.append(client)
        assert own_stack.get("/health/live").status == 200
    finally:
        own_stack.thaw("nats")
    results = json.loads(clients.pop().answer().body)["results"]
    assert [result["status"] for result in results] == (
        ["accepted"] * 3 + ["rejected"] * 3)
    assert {result["problem"]["code"] for result in results[3:]} == {
        "priority_shed"}
    assert {client.answer().status for client in clients} == {202}


def test_shed_while_the_drain_is_behind(still):
    """backlog=200k in a partition's streams: low; twice that: normal too."""
    def answers(priority, product):
        return code_of(post(still, key(), priority, product))

    def code_of(answer):
        return "202" if answer.status == 202 else answer.json()["code"]

    def push(count):
        client = Client(still.ports["http"])
        for _ in range(count):
            answer = client.request(
                "POST", "/events", event(key(), 1, {"x": "x" * 10000}),
                {"X-Priority": "high"})
            assert answer.status == 202, answer
        client.close()

    push(22)
    # it asks for the streams every five seconds
    wait_until(lambda: answers("low", 1) == "priority_shed", 15, "low is shed")
    assert answers("normal", 1) == "202"
    assert answers("high", 1) == "202"
    # the other partition has none
    other = next(product for product in range(2, 30)
                 if answers("low", product) == "202")
    push(22)
    wait_until(lambda: answers("normal", 1) == "priority_shed", 15,
               "normal is shed")
    assert answers("high", 1) == "202"
    assert answers("normal", other) == "202"
    still.thaw("drain")
    wait_until(lambda: answers("low", 1) == "202", 20, "it is over")


# ---- what became of them ----

def test_waits_of_all_priorities(still):
    operations = [accepted(still, priority, product=product)
                  for priority in ORDER for product in (1, 2, 3, 4)]
    assert {status(still, operation) for operation in operations} == {
        "accepted"}
    results = {}

    def ask(operation):
        results[operation] = still.get(f"/events/status/{operation}",
                                       {"Prefer": "wait=20"})

    def sync(name, priority):
        results[priority] = post(still, name, priority,
                                 headers={"Prefer": "respond-sync, wait=5"})
    threads = [threading.Thread(target=ask, args=(operation,))
               for operation in operations]
    threads += [threading.Thread(target=sync, args=(key(), priority))
                for priority in ORDER]
    for thread in threads:
        thread.start()
    wait_until(lambda: still.metric("hotpath_waiting") == len(threads), 10,
               "all wait")
    still.thaw("drain")
    for thread in threads:
        thread.join(30)
    assert len(results) == len(threads)
    for answer in results.values():
        assert answer.status == 200, answer
        assert answer.json()["status"] == "processed"


def test_lost_of_a_priority(own_stack):
    """Purged from one stream: lost, while the others' are stored."""
    settled(own_stack)
    own_stack.stop("drain")
    operations = {priority: accepted(own_stack, priority)
                  for priority in ORDER}
    with Nats(own_stack.ports["nats"]) as nats:
        found = {name: nats.js(f"STREAM.INFO.{name}")["state"]["messages"]
                 for name in ("HOTPATH_EVENTS_0_low", "HOTPATH_EVENTS_1_low")}
        name, = (name for name, messages in found.items() if messages)
        nats.js(f"STREAM.PURGE.{name}")
    own_stack.start("drain")
    for priority in ("high", "normal"):
        operation = operations[priority]
        wait_until(lambda: status(own_stack, operation) == "processed", 20,
                   "it is processed")
    wait_until(lambda: status(own_stack, operations["low"]) == "lost", 30,
               "it is lost")


# ---- what goes wrong ----

def test_a_missing_stream(own_stack):
    """Its priority is refused, and the drain goes on with the others."""
    settled(own_stack)
    with Nats(own_stack.ports["nats"]) as nats:
        for partition in (0, 1):
            nats.js(f"STREAM.DELETE.HOTPATH_EVENTS_{partition}_low")
    wait_until(lambda: code(post(own_stack, key(), "low"))
               == (503, "stream_unfit"), 15, "low is refused")

    def streams():
        return next(check for check in
                    own_stack.get("/health/ready").json()["checks"]
                    if check["name"] == "streams")
    wait_until(lambda: streams()["status"] == "down", 15, "it is not ready")
    assert streams()["stream"] == "HOTPATH_EVENTS_0_low"
    settled(own_stack, ("high", "normal"))
    # also one that begins while it is not there
    own_stack.kill("drain")
    with pytest.raises(local.StackError):  # not ready, and at work
        own_stack["drain"].start(2)
    settled(own_stack, ("high", "normal"))
    own_stack.ctl("migrate")
    settled(own_stack)
    wait_until(own_stack["drain"].ready, 20, "the drain has all of them")
    assert own_stack.get("/health/ready").status == 200


def test_reload(still):
    """With one priority and back: what was accepted is not forgotten."""
    operations = [accepted(still, priority, product=product)
                  for priority in ORDER for product in (1, 2, 3, 4)]
    still.reload(hotpath=config("hotpath.conf", ("partitions=2 window=1",
                                                 "partitions=4 window=1")),
                 routes=config("routes.conf"), server="", http=MAPS)
    try:
        assert {status(still, operation) for operation in operations} == {
            "accepted"}
        still.thaw("drain")
        for operation in operations:
            wait_until(lambda: status(still, operation) == "processed", 20,
                       "it is processed")
    finally:
        still.reload(hotpath=STACK["hotpath"], routes=ROUTES,
                     server=STACK["server"])
    settled(still)


def test_what_is_none_is_normal(own_stack):
    settled(own_stack)
    before = own_stack.metric("hotpath_priority_accepted_total", '"normal"')
    for text in ("urgent", "HIGH", "0", "normal"):
        assert post(own_stack, key(), text).status == 202
    assert own_stack.metric("hotpath_priority_accepted_total",
                            '"normal"') == before + 4
    before = own_stack.metric("hotpath_priority_accepted_total", '"low"')
    assert own_stack.request("POST", "/low", event(key())).status == 202
    assert own_stack.metric("hotpath_priority_accepted_total",
                            '"low"') == before + 1


def test_metrics_and_status_by_priority(own_stack):
    settled(own_stack)
    with urllib.request.urlopen(
            f"http://{local.HOST}:{own_stack.ports['drain']}/metrics",
            timeout=10) as answer:
        text = answer.read().decode()
    for priority in ORDER:
        assert (f'hotpath_drain_lane_held{{partition="0",'
                f'priority="{priority}"}} 1') in text
    found = json.loads(own_stack.ctl("status", "--json"))
    assert {(stream["name"], stream["priority"])
            for stream in found["streams"]} == {
        (f"HOTPATH_EVENTS_{partition}" + ("" if priority == "normal"
                                          else f"_{priority}"), priority)
        for partition in (0, 1) for priority in ORDER}
    assert {(row["partition"], row["priority"]) for row in found["stored"]} == {
        (partition, priority) for partition in (0, 1) for priority in ORDER}


@pytest.mark.parametrize("main, location, complaint", [
    ("", "hotpath_priority low;", '"hotpath_priority" needs "priorities"'),
    ("hotpath_stream S priorities=3;", "hotpath_priority urgent;",
     '"hotpath_priority" directive must be'),
    ("hotpath_stream S priorities=3;",
     "hotpath_priority low; hotpath_priority low;", "is duplicate"),
    ("hotpath_stream S priorities=4;", "", 'invalid parameter "priorities=4"'),
    ("hotpath_stream S priorities=0;", "", 'invalid parameter "priorities=0"'),
    ("hotpath_stream S backlog=1m;", "", '"backlog" of "hotpath_stream" needs'),
    ("hotpath_stream S priorities=2 backlog=0;", "",
     'invalid parameter "backlog=0"'),
    ("hotpath_stream S priorities=2 backlog=1m;", "hotpath_priority $uri;",
     None),
])
def test_configuration(own_stack, tmp_path, main, location, complaint):
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"load_module {own_stack.module};\npid {tmp_path}/nginx.pid;\n"
        "events {}\nhttp { access_log off; hotpath_nats 127.0.0.1:4222;\n"
        f"{main}\nserver {{ listen 127.0.0.1:1; location / {{"
        f" hotpath_write events; {location} }} }} }}\n")
    found = subprocess.run(
        [own_stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path),
         "-c", str(conf)], capture_output=True, text=True, check=False,
        timeout=30)
    if complaint is None:
        assert found.returncode == 0, found.stderr
    else:
        assert found.returncode != 0
        assert complaint in found.stderr
