"""The chain once, end to end: in over HTTP, rows, read model, out of memory.

One test a link, on the shared instance, which nothing here breaks. Also: that
every complete sample in config/ is loadable, and that starting what runs is
harmless. The rooms' own tests go into the depths that these leave out.
"""

import glob
import os
import subprocess
import uuid

import pytest

from servers import ROOT, Client, price_set, wait_until

SAMPLES = [
    path for path in sorted(glob.glob(os.path.join(ROOT, "config", "*.conf")))
    if "load_module" in open(path, encoding="utf-8").read()
]


def key():
    return f"stack-{uuid.uuid4()}"


def product():
    """One that no other test uses."""
    return uuid.uuid4().int % 10**15 + 1000


def amount_of(stack, number):
    answer = stack.get(f"/prices/{number}")
    return answer.json()["amount"] if answer.status == 200 else None


@pytest.mark.parametrize(
    "path", SAMPLES, ids=[os.path.basename(path) for path in SAMPLES])
def test_sample_is_loadable(stack, tmp_path, path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ngx_http_hotpath_module.so").symlink_to(
        stack.module)
    (tmp_path / "cursor.secret").write_text("0123456789abcdef\n")
    (tmp_path / "purge.tokens").write_text("0123456789abcdef\n")
    done = subprocess.run(
        [stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", path],
        capture_output=True, text=True, timeout=60, check=False,
        env=stack["nginx"].env)
    assert done.returncode == 0, done.stderr


def test_samples_were_found():
    assert {os.path.basename(path) for path in SAMPLES} >= {
        "nginx.conf", "minimal.conf", "reads.conf"}


def test_broker_has_the_environment_that_is_shipped(stack):
    path = os.path.join(ROOT, "config", "nats-server.env")
    with open(path, encoding="utf-8") as file:
        shipped = {line.strip() for line in file
                   if line.strip() and not line.startswith("#")}
    with open(f"/proc/{stack['nats'].pid()}/environ",
              encoding="utf-8") as file:
        found = set(file.read().split("\0"))
    assert {line.split("=")[0] for line in shipped} == {"GOGC", "GOMEMLIMIT"}
    assert shipped <= found


def test_health_and_ping(stack):
    assert stack.get("/health/live").status == 200
    ready = stack.get("/health/ready")
    assert ready.status == 200
    assert ready.json()
    assert stack.get("/ping").body == b"pong\n"


def test_metrics_are_prometheus_text(stack):
    answer = stack.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"# TYPE hotpath_write_requests_total counter" in answer.body


def test_event_becomes_row_and_document(stack):
    name, number = key(), product()
    assert stack.get(f"/prices/{number}").status == 404
    before = stack.metric("hotpath_write_requests_total", "accepted")

    answer = stack.post(price_set(name, number, 19.99))
    assert answer.status == 202
    operation = answer.json()["operationId"]
    assert answer.json()["status"] == "accepted"
    assert answer.headers["Location"] == f"/events/status/{operation}"
    assert uuid.UUID(operation).version == 8
    assert stack.metric("hotpath_write_requests_total", "accepted") > before

    rows = wait_until(
        lambda: stack.sql(
            "SELECT operation_id::text, event_type, payload"
            " FROM hotpath.events WHERE idempotency_key = %s", (name,)),
        15, "the event has its row")
    assert rows == [(operation, "price_set", {
        "productId": number, "amount": 19.99, "currency": "EUR"})]

    wait_until(lambda: amount_of(stack, number) == 19.99, 15,
               "GET answers the new price")
    document = stack.get(f"/prices/{number}").json()
    assert set(document) == {
        "productId", "amount", "currency", "lastUpdatedAt"}
    assert document["productId"] == number
    assert document["currency"] == "EUR"


def test_read_is_answered_from_memory_with_validators(stack):
    number = product()
    stack.post(price_set(key(), number, 5))
    wait_until(lambda: amount_of(stack, number) == 5, 15, "the price is there")
    answer = stack.get(f"/prices/{number}")
    assert answer.status == 200
    assert "hit" in answer.headers["Cache-Status"]
    assert int(answer.headers["Age"]) >= 0
    assert "max-age" in answer.headers["Cache-Control"]
    again = stack.get(f"/prices/{number}",
                      {"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
    assert again.body == b""


def test_change_replaces_what_is_in_memory(stack):
    number, client = product(), Client(stack.ports["http"])
    for amount in range(1, 6):
        assert stack.post(price_set(key(), number, amount)).status == 202
        wait_until(
            lambda: client.request("GET", f"/prices/{number}").status == 200
            and amount_of(stack, number) == amount, 15,
            f"GET answers {amount}", every_s=0.002)
    client.close()


def order(name, customer, amount, kind="order_placed"):
    return {"idempotencyKey": key(), "eventType": kind, "payload": {
        "orderId": name, "customer": customer, "amount": amount,
        "currency": "EUR"}}


def test_orders_become_documents_and_a_list(stack):
    """One by one and as a list, newest first, renewed as they come."""
    customer = f"c-{uuid.uuid4()}"
    path = f"/orders?customer={customer}&limit=2"
    assert stack.get(path).json() == {
        "data": [], "nextCursor": None, "hasMore": False}
    names = [f"{customer}-{number}" for number in range(3)]
    for number, name in enumerate(names):
        assert stack.post(order(name, customer, number)).status == 202
        # long before the ttl of the page
        wait_until(lambda: name in str(stack.get(path).body), 15,
                   f"{name} is in the list")
    document = stack.get(f"/orders/{names[0]}").json()
    assert set(document) == {
        "orderId", "customer", "amount", "currency", "placedAt"}
    first = stack.get(path).json()
    assert [row["orderId"] for row in first["data"]] == names[:0:-1]
    assert first["hasMore"]
    last = stack.get(f"{path}&cursor={first['nextCursor']}").json()
    assert last == {"data": [document], "nextCursor": None, "hasMore": False}

    # a change keeps its place; what is removed goes
    stack.post(order(names[1], customer, 99))
    wait_until(lambda: stack.get(path).json()["data"][1]["amount"] == 99, 15,
               "the change is in the list")
    assert [row["orderId"] for row in stack.get(path).json()["data"]] == \
        names[:0:-1]
    stack.post({"idempotencyKey": key(), "eventType": "order_removed",
                "payload": {"orderId": names[1]}})
    wait_until(lambda: stack.get(f"/orders/{names[1]}").status == 404, 15,
               "the order is gone")
    wait_until(lambda: [row["orderId"] for row in stack.get(path).json()
                        ["data"]] == [names[2], names[0]], 15,
               "and the list shows it")

    # what comes back is a new one
    stack.post(order(names[1], customer, 5))
    wait_until(lambda: [row["orderId"] for row in stack.get(path).json()
                        ["data"]] == [names[1], names[2]], 15,
               "it is back, in front")
    assert stack.sql("SELECT count(*) FROM hotpath.projection_errors"
                     " WHERE model = 'orders'") == [(0,)]


@pytest.mark.parametrize("payload", [
    {"orderId": "x"}, {"customer": "x", "amount": 1, "currency": "EUR"},
    {"orderId": "", "customer": "x", "amount": 1, "currency": "EUR"},
    {"orderId": "x", "customer": "x", "amount": "1", "currency": "EUR"},
    {"orderId": "x", "customer": "x", "amount": 1, "currency": "euro"},
    {"orderId": ["x"], "customer": "x", "amount": 1, "currency": "EUR"},
    {"orderId": "x", "customer": {}, "amount": 1, "currency": "EUR"},
    {"orderId": "o" * 65, "customer": "x", "amount": 1, "currency": "EUR"},
    [], "x", None])
def test_what_is_no_order_is_passed_over(stack, payload):
    name = key()
    stack.post({"idempotencyKey": name, "eventType": "order_placed",
                "payload": payload})
    (position, partition), = wait_until(
        lambda: stack.sql("SELECT position, partition FROM hotpath.events"
                          " WHERE idempotency_key = %s", (name,)), 15,
        "the event has its row")
    wait_until(lambda: stack.sql(
        "SELECT 1 FROM hotpath.projections WHERE model = 'orders'"
        " AND partition = %s AND position >= %s", (partition, position)), 15,
        "the projector has passed it")
    assert stack.sql("SELECT count(*) FROM hotpath.orders"
                     " WHERE key = 'x' OR position = %s AND partition = %s",
                     (position, partition)) == [(0,)]
    assert stack.sql("SELECT count(*) FROM hotpath.projection_errors"
                     " WHERE model = 'orders'") == [(0,)]


def test_purge_asks_the_origin_again(stack):
    """With the token that was drawn for the sample, and by hotpathctl."""
    number = product()
    stack.post(price_set(key(), number, 1))
    wait_until(lambda: amount_of(stack, number) == 1, 15, "it has a price")
    target = {"model": "prices", "key": str(number)}
    assert stack.request("POST", "/purge", target).status == 401
    with open(stack.path("nginx", "purge.tokens"), encoding="ascii") as file:
        token = file.read().strip()
    answer = stack.request("POST", "/purge", target,
                           {"Authorization": f"Bearer {token}"})
    assert answer.status == 200 and answer.json()["purged"] == 1
    answer = stack.get(f"/prices/{number}")
    assert "; hit" not in answer.headers["Cache-Status"]
    assert answer.json()["amount"] == 1
    stack.ctl("purge", "--model", "prices", "--key", str(number))
    assert "; hit" not in stack.get(
        f"/prices/{number}").headers["Cache-Status"]


def test_repeat_is_one_effect(stack):
    name, number = key(), product()
    first = stack.post(price_set(name, number, 7))
    again = [stack.post(price_set(name, number, 7)) for _ in range(5)]
    assert [answer.status for answer in again] == [202] * 5
    assert {answer.json()["operationId"] for answer in again} == {
        first.json()["operationId"]}
    assert first.headers["Idempotent-Replayed"] is None
    assert {answer.headers["Idempotent-Replayed"] for answer in again} == {
        "true"}
    wait_until(lambda: amount_of(stack, number) == 7, 15, "it was applied")
    assert stack.sql("SELECT count(*) FROM hotpath.events"
                     " WHERE idempotency_key = %s", (name,)) == [(1,)]


def test_another_payload_under_a_key_is_refused(stack):
    name, number = key(), product()
    assert stack.post(price_set(name, number, 7)).status == 202
    answer = stack.post(price_set(name, number, 8))
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 422


@pytest.mark.parametrize("body, code", [
    ({"idempotencyKey": "k", "payload": {}}, "event_type_required"),
    ({"eventType": "t", "payload": {}}, "idempotency_key_required"),
])
def test_refusal_is_a_problem_with_a_code(stack, body, code):
    answer = stack.post(body)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code


def test_status_of_an_operation(stack):
    answer = stack.post(price_set(key(), product(), 3))
    location = answer.headers["Location"]
    assert stack.get(location).json()["status"] in ("accepted", "processed")
    wait_until(lambda: stack.get(location).json()["status"] == "processed",
               15, "the operation is processed")
    assert stack.get(f"/events/status/{uuid.uuid4()}").status == 404


def test_starting_what_runs_changes_nothing(stack):
    pids = {name: process.pid() for name, process in stack.processes.items()}
    assert stack.up() == []
    assert pids == {name: process.pid()
                    for name, process in stack.processes.items()}
