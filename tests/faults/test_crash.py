"""Everything killed, again and again, under load: nothing missing, none twice.

Promises 1 to 3 from outside: the set of operations that were answered 202 is
compared with the rows, and the read model, in Postgres, Redis and nginx, with
what the events say when they are applied here, in Python. A part of the load
sends known keys again. The two moments that matter most are made and not
waited for: a COMMIT that is on disk while its session has not heard of it
(PostgreSQL waits for a standby that does not exist), with the drain, or the
projector, killed in between.
"""

import json
import os
import random
import signal
import uuid

import pytest

from pressure import Writes, wait_all_ready
from servers import ROOT, Client, price_set, wait_until
from wire import Redis, config

STACK = {
    "server": "add_header X-Worker $pid always;",
    "hotpath": config("hotpath.conf", ("timeout=5s", "timeout=2s")),
    # dead sessions are noticed soon
    "settings": {"drain": {"lock_retry_ms": 50, "lease_ms": 5000},
                 "project": {"lock_retry_ms": 50, "lease_ms": 5000}},
}


def key():
    return f"crash-{uuid.uuid4()}"


@pytest.fixture(autouse=True)
def all_up(own_stack):
    own_stack.expect_log("exited on signal 9")
    for name in ("drain", "project"):
        wait_until(own_stack[name].ready, 30, f"{name} is ready")
    wait_all_ready(own_stack)


def expected_prices(stack, prefix):
    """tenant, product -> the last amount, from the events alone."""
    prices = {}
    for product, amount in stack.sql(
            "SELECT payload ->> 'productId', payload -> 'amount'"
            " FROM hotpath.events WHERE idempotency_key LIKE %s"
            " ORDER BY partition, position", (prefix + "-%",)):
        prices[product] = amount
    return prices


def check_projected(stack, prefix):
    """Table, Redis and nginx hold what the events say, in this order."""
    def projected():
        (left,), = stack.sql(
            "SELECT count(*) FROM hotpath.partitions p LEFT JOIN"
            " hotpath.projections j USING (partition)"
            " WHERE coalesce(j.position, 0) < p.last_position")
        return left == 0
    wait_until(projected, 30, "the projection has come to the end")
    prices = expected_prices(stack, prefix)
    assert prices
    documents = {
        product: (json.loads(document), document, version)
        for product, document, version in stack.sql(
            "SELECT key, document, version FROM hotpath.prices"
            " WHERE tenant = 'default' AND key = ANY(%s)", (list(prices),))}
    assert {product: found["amount"]
            for product, (found, _, _) in documents.items()} == prices
    with Redis(stack.ports["redis"]) as redis:
        for product, (_, document, version) in documents.items():
            value = wait_until(
                lambda: (lambda data: data if data and data.endswith(
                    document.encode()) else None)(
                        redis("GET", f"hotpath:doc:prices:default:{product}")),
                15, f"Redis has the last price of {product}")
            assert value[4:20] == b"%016x" % version
    for product, amount in prices.items():
        wait_until(lambda: stack.get(f"/prices/{product}").json().get(
            "amount") == amount, 15, f"nginx has {amount} for {product}")


def check_all(stack, writes):
    writes.check()
    assert not set(writes.codes()) - {
        "202", "error", "outcome_unknown", "broker_unavailable",
        "broker_refused", "broker_degraded", "stream_unfit",
        "publish_queue_full", "operation_in_flight"}
    operations = set(writes.accepted.values())
    assert len(operations) == len(writes.accepted)
    stored = stack.sql(
        "SELECT o.operation_id::text, o.state, o.conflicts, count(e.position)"
        " FROM hotpath.operations o LEFT JOIN hotpath.events e"
        " USING (operation_id) WHERE o.operation_id = ANY(%s::uuid[])"
        " GROUP BY 1, 2, 3", (list(operations),))
    assert {operation for operation, *_ in stored} == operations
    assert {tuple(rest) for _, *rest in stored} == {(1, 0, 1)}
    assert stack.sql("SELECT operation_id FROM hotpath.events"
                     " GROUP BY 1 HAVING count(*) > 1") == []
    check_projected(stack, writes.prefix)


def products(first):
    """Prices of 40 products that no other test uses."""
    return lambda name, n: price_set(name, first + n % 40, n)


def test_drain_and_projector_killed(own_stack):
    with Writes(own_stack, repeat=0.2, event=products(1000)) as writes:
        for _ in range(10):
            for name in ("drain", "project"):
                writes.wait_accepted(80)
                own_stack.kill(name)
                own_stack.start(name)
    assert set(writes.codes()) <= {"202", "operation_in_flight"}
    check_all(own_stack, writes)


def test_nats_killed(own_stack):
    with Writes(own_stack, repeat=0.2, retry=True,
                event=products(2000)) as writes:
        for _ in range(4):
            writes.wait_accepted(150)
            own_stack.kill("nats")
            own_stack.start("nats")
    check_all(own_stack, writes)


def test_postgres_killed(own_stack):
    """An immediate shutdown: what was not committed is gone."""
    with Writes(own_stack, repeat=0.2, event=products(3000)) as writes:
        for _ in range(3):
            writes.wait_accepted(300)
            own_stack["postgres"].signal(signal.SIGQUIT)
            wait_until(lambda: own_stack["postgres"].pid() is None, 10,
                       "postgres is down")
            writes.wait_accepted(100)
            own_stack.start("postgres")
    assert set(writes.codes()) <= {"202", "operation_in_flight"}
    check_all(own_stack, writes)


def test_redis_killed(own_stack):
    with Writes(own_stack, event=products(4000)) as writes:
        for _ in range(3):
            writes.wait_accepted(100)
            own_stack.kill("redis")
            writes.wait_accepted(100)
            own_stack.start("redis")
    assert set(writes.codes()) == {"202"}
    check_all(own_stack, writes)


def test_nginx_workers_killed(own_stack):
    """Whoever got no answer sends again with the same key."""
    with Writes(own_stack, repeat=0.3, retry=True,
                event=products(5000)) as writes:
        for round_ in range(8):
            writes.wait_accepted(100)
            workers = own_stack.nginx_workers()
            own_stack.kill_workers(workers if round_ % 2 else workers[:1])
        writes.wait_accepted(100)
    assert writes.refused["error"] > 0
    check_all(own_stack, writes)


def test_anything_killed_at_any_time(own_stack):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with Writes(own_stack, threads=6, repeat=0.3, retry=True, seed=seed,
                event=products(6000)) as writes:
        for _ in range(30):
            writes.wait_accepted(dice.randrange(1, 120), 60)
            name = dice.choice(["drain", "project", "nats", "postgres",
                                "redis", "nginx"])
            if name == "nginx":
                own_stack.kill_workers()
            elif name == "postgres":
                own_stack["postgres"].signal(signal.SIGQUIT)
                wait_until(lambda: own_stack["postgres"].pid() is None, 10,
                           "postgres is down")
                own_stack.start("postgres")
            else:
                own_stack.kill(name)
                own_stack.start(name)
        writes.wait_accepted(100, 60)
    check_all(own_stack, writes)


@pytest.fixture
def slow_commits(own_stack):
    """Commits of a worker whose session asks for it are on disk and then wait
    for a standby that does not exist; everybody else's do not."""
    postgres = own_stack["postgres"]
    own_stack.sql("ALTER DATABASE hotpath SET synchronous_commit = local")
    command = postgres.command
    postgres.command = command + ["-c", "synchronous_standby_names=nobody"]
    own_stack.restart("postgres")
    yield lambda name: own_stack.conninfo() + (
        f" options='-c synchronous_commit=on' application_name=slow-{name}")
    own_stack.settings["drain"].pop("postgres", None)
    own_stack.settings["project"].pop("postgres", None)
    postgres.command = command
    own_stack.restart("postgres")


def restart_worker(stack, name, conninfo=None):
    if conninfo:
        stack.settings[name]["postgres"] = conninfo
    else:
        stack.settings[name].pop("postgres", None)
    if stack[name].pid() is not None:
        stack.kill(name)
    stack[name].env = stack.worker_env(name)
    stack[name].start()


def kill_in_commit(stack, name, count):
    """Kills a worker of which so many sessions wait for the answer to COMMIT;
    what it leaves behind holds its locks until it is told to go."""
    wait_until(lambda: stack.sql(
        "SELECT count(*) = %s FROM pg_stat_activity"
        " WHERE wait_event = 'SyncRep' AND query = 'COMMIT'", (count,))[0][0],
        30, "the commit is on disk and not answered")
    stack.kill(name)
    pids = [pid for pid, _ in stack.sql(
        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE wait_event = 'SyncRep'")]
    assert len(pids) == count
    wait_until(lambda: not stack.sql(
        "SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)", (pids,)), 10,
        "the sessions are gone")


def worker_metrics(stack, name):
    """The sums of a worker's metrics over its partitions."""
    client = Client(stack.ports[name])
    text = client.request("GET", "/metrics").body.decode()
    client.close()
    sums = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            metric = line.partition("{")[0].partition(" ")[0]
            sums[metric] = sums.get(metric, 0) + float(line.split()[-1])
    return sums


def test_drain_killed_between_commit_and_ack(own_stack, slow_commits):
    names = [key() for _ in range(40)]
    own_stack.stop("project")
    # standing at no commit yet: the lanes' rows exist
    restart_worker(own_stack, "drain", slow_commits("drain"))
    ids = {}
    for n, name in enumerate(names):
        answer = own_stack.post(price_set(name, 7000 + n, n))
        assert answer.status == 202
        ids[name] = answer.json()["operationId"]
    kill_in_commit(own_stack, "drain", 2)
    (committed,), = own_stack.sql(
        "SELECT count(*) FROM hotpath.events WHERE idempotency_key = ANY(%s)",
        (names,))
    assert committed >= 2
    restart_worker(own_stack, "drain")
    wait_until(lambda: len(own_stack.sql(
        "SELECT 1 FROM hotpath.events WHERE idempotency_key = ANY(%s)",
        (names,))) >= len(names), 30, "all rows are there")
    for name, operation in ids.items():
        wait_until(lambda: own_stack.get(
            f"/events/status/{operation}").json()["status"] == "processed",
            15, "it is processed")
    assert sorted(own_stack.sql(
        "SELECT idempotency_key, operation_id::text FROM hotpath.events"
        " WHERE idempotency_key = ANY(%s)", (names,))) == sorted(ids.items())
    # the broker sent again what was committed, and it was recognised
    metrics = worker_metrics(own_stack, "drain")
    assert metrics["hotpath_drain_duplicates_total"] > 0
    assert own_stack.sql("SELECT sum(conflicts) FROM hotpath.operations"
                         " WHERE operation_id = ANY(%s::uuid[])",
                         (list(ids.values()),)) == [(0,)]
    own_stack.start("project")


def test_projector_killed_between_commit_and_push(own_stack, slow_commits):
    """The push is repeated by its successor."""
    product = 8000
    own_stack.post(price_set(key(), product, 1))
    wait_until(lambda: own_stack.get(f"/prices/{product}").status == 200, 15,
               "the first price is there")
    # nothing is left to commit but what follows
    wait_until(lambda: own_stack.sql(
        "SELECT 1 FROM hotpath.projections"
        " HAVING bool_and(pushed_position = position)"), 15, "all is pushed")
    restart_worker(own_stack, "project", slow_commits("project"))
    own_stack.post(price_set(key(), product, 2))
    # a commit of each model, also of those that the event is not for
    kill_in_commit(own_stack, "project", len(os.listdir(
        os.path.join(ROOT, "schemas", "read_models"))))
    (document,), = own_stack.sql(
        "SELECT document FROM hotpath.prices WHERE key = %s", (str(product),))
    assert json.loads(document)["amount"] == 2
    assert own_stack.get(f"/prices/{product}").json()["amount"] == 1
    restart_worker(own_stack, "project")
    wait_until(lambda: own_stack.get(f"/prices/{product}").json()["amount"]
               == 2, 15, "the change was pushed")
