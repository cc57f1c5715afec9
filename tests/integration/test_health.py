"""Live, ready and the metrics, with each dependency up and down.

Ready is about traffic: only what writes need makes it 503, reads go on without
the rest. The numbers of single metrics are asserted where the thing counted is
tested; here it is their form, in both texts, and that they survive what
counters must survive.
"""

import re

import pytest

from servers import wait_until
from wire import Nats, config

STACK = {
    "without": ("drain", "project"),
    "hotpath": config("hotpath.conf", ("timeout=5s", "timeout=1s"),
                      ("ping_interval    5s", "ping_interval    300ms")),
}

# Every family the module documents, of which a dashboard may hold.
FAMILIES = {
    "hotpath_write_requests_total", "hotpath_read_requests_total",
    "hotpath_publish_messages_total", "hotpath_publish_events_total",
    "hotpath_publish_errors_total", "hotpath_nats_connects_total",
    "hotpath_nats_connections", "hotpath_push_documents_total",
    "hotpath_push_gaps_total", "hotpath_push_listening",
    "hotpath_redis_errors_total", "hotpath_postgres_errors_total",
    "hotpath_postgres_timeouts_total", "hotpath_postgres_refused_total",
    "hotpath_postgres_cancels_total", "hotpath_postgres_retries_total",
    "hotpath_postgres_connections", "hotpath_postgres_busy",
    "hotpath_postgres_waiting", "hotpath_postgres_breaker_open",
    "hotpath_limit_rejected_total", "hotpath_limit_forced_evictions_total",
    "hotpath_limit_bypassed_total", "hotpath_inflight_rejected_total",
    "hotpath_idempotency_forced_evictions_total",
    "hotpath_cache_entries", "hotpath_cache_used_bytes",
    "hotpath_cache_size_bytes", "hotpath_cache_stores_total",
    "hotpath_cache_evictions_total", "hotpath_cache_refused_older_total",
    "hotpath_cache_lock_busy_total", "hotpath_cache_resets_total",
    "hotpath_warm_documents_total", "hotpath_warm_unfinished_total",
    "hotpath_warming", "hotpath_purges_total",
    "hotpath_purged_entries_total", "hotpath_purged_redis_total",
    "hotpath_purge_errors_total",
}

SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="[^"\\\n]*"(,[a-z_]+="[^"\\\n]*")*\})?'
                    r" [0-9]+(\.[0-9]+)?")


def ready(stack):
    """(status, {check: up}) of one answer."""
    answer = stack.get("/health/ready")
    body = answer.json()
    assert body["status"] == ("ready" if answer.status == 200 else "unready")
    assert answer.status in (200, 503)
    assert {check["name"]: check["required"] for check in body["checks"]} == {
        "broker": True, "streams": True, "queue": True, "cache": True,
        "push": False, "redis": False, "postgres": False}
    assert (answer.status == 200) == all(
        check["status"] == "up" for check in body["checks"]
        if check["required"])
    return answer.status, {check["name"]: check["status"] == "up"
                           for check in body["checks"]}


def wait_down(stack, status, *names):
    """Until exactly these are down, twice the workers' number in a row."""
    def check():
        return all(
            found == status and {name for name, up in checks.items()
                                 if not up} == set(names)
            for found, checks in (ready(stack) for _ in range(8)))
    wait_until(check, 20, f"ready answers {status}, down is {names}")


def test_live(own_stack):
    answer = own_stack.get("/health/live")
    assert answer.status == 200
    assert answer.json() == {"status": "live"}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    head = own_stack.request("HEAD", "/health/live")
    assert (head.status, head.body) == (200, b"")
    assert own_stack.request("POST", "/health/live", b"").status == 405


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_other_methods(own_stack, path):
    answer = own_stack.request("DELETE", path)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.json()["code"] == "method_not_allowed"


def test_ready(own_stack):
    wait_down(own_stack, 200)
    answer = own_stack.get("/health/ready")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"


def test_without_redis(own_stack):
    own_stack.stop("redis")
    try:
        wait_down(own_stack, 200, "redis")
    finally:
        own_stack.start("redis")
    wait_down(own_stack, 200)


def test_without_postgres(own_stack):
    own_stack.stop("postgres")
    try:
        wait_down(own_stack, 200, "postgres")
        assert own_stack.get("/health/live").status == 200
    finally:
        own_stack.start("postgres")
    wait_down(own_stack, 200)


def test_without_the_broker(own_stack):
    own_stack.stop("nats")
    try:
        wait_down(own_stack, 503, "broker", "streams", "push")
        assert own_stack.get("/health/live").status == 200
        assert own_stack.metric("hotpath_nats_connections") == 0
    finally:
        own_stack.start("nats")
    wait_down(own_stack, 200)
    # each worker comes back by itself
    wait_until(lambda: own_stack.metric("hotpath_nats_connections") == 2, 10,
               "both workers are connected")
    wait_until(lambda: own_stack.metric("hotpath_push_listening") == 1, 10,
               "one of them listens")


def test_with_a_frozen_broker(own_stack):
    """It is noticed by pings that nobody answers."""
    own_stack.freeze("nats")
    try:
        wait_down(own_stack, 503, "broker", "streams", "push")
    finally:
        own_stack.thaw("nats")
    wait_down(own_stack, 200)


def test_without_streams_that_keep_a_promise(own_stack):
    """One is gone, the other would drop old messages when full. The module
    looks every few seconds."""
    with Nats(own_stack.ports["nats"]) as nats:
        settings = nats.js("STREAM.INFO.HOTPATH_EVENTS_0")["config"]
        nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0",
                dict(settings, discard="old"))
        nats.js("STREAM.DELETE.HOTPATH_EVENTS_1")
        wait_down(own_stack, 503, "streams")
        wait_until(lambda: all(
            own_stack.log("nginx").count(f"stream HOTPATH_EVENTS_{text}") >= 2
            for text in ("0: discards_old", "1: missing")),
            10, "both workers say why")
        for partition in range(2):
            answer = own_stack.post({
                "idempotencyKey": f"none-{partition}", "eventType": "t",
                "payload": {"productId": "ac"[partition]}})
            assert answer.status == 503
            assert answer.json()["code"] == "stream_unfit"
        nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0", settings)
        own_stack.ctl("migrate")
        wait_down(own_stack, 200)


def samples(text):
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines() if not line.startswith("#")}


def test_metrics_text(own_stack):
    answer = own_stack.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == (
        "text/plain; version=0.0.4; charset=utf-8")
    assert answer.headers["Cache-Control"] == "no-store"
    text = answer.body.decode()
    assert text.endswith("\n")
    kinds, family = {}, None
    for line in text.splitlines():
        help_ = re.fullmatch(r"# HELP ([a-z_]+) \S.*\.", line)
        kind = re.fullmatch(r"# TYPE ([a-z_]+) (counter|gauge)", line)
        if help_:
            assert help_.group(1) not in kinds
            family = help_.group(1)
        elif kind:
            assert kind.group(1) == family
            kinds[family] = kind.group(2)
        else:
            assert SAMPLE.fullmatch(line), line
            assert re.split(r"[{ ]", line)[0] == family
    assert set(kinds) >= FAMILIES
    for name, kind in kinds.items():
        assert name.endswith("_total") == (kind == "counter")
    assert len(samples(text)) == text.count("\n") - text.count("# ")


def test_open_metrics(own_stack):
    plain = own_stack.get("/metrics")
    answer = own_stack.get("/metrics", {
        "Accept": "text/html, application/openmetrics-text;version=1.0.0"})
    assert answer.headers["Content-Type"] == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8")
    text = answer.body.decode()
    assert text.endswith("\n# EOF\n")
    assert text.count("# EOF") == 1
    for line in text.splitlines()[:-1]:
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+", line)
            assert not line.split()[2].endswith("_total")
        else:
            assert SAMPLE.fullmatch(line), line
    assert set(samples(text)) == set(samples(plain.body.decode()))


def test_counters_outlive_workers_and_reloads(own_stack):
    own_stack.expect_log("exited on signal 9")
    for _ in range(5):
        assert own_stack.request("PUT", "/events").status == 405
    before = samples(own_stack.get("/metrics").body.decode())
    name = 'hotpath_write_requests_total{result="refused"}'
    assert before[name] >= 5
    old = own_stack.nginx_workers()
    own_stack.reload()
    wait_until(lambda: not set(old) & set(own_stack.nginx_workers()), 20,
               "the old workers are gone")
    assert own_stack.metric("hotpath_write_requests_total",
                            "refused") == before[name]
    own_stack.kill_workers()
    wait_until(lambda: len(own_stack.nginx_workers()) == 2, 10,
               "workers are back")
    wait_down(own_stack, 200)
    after = samples(own_stack.get("/metrics").body.decode())
    assert after[name] == before[name]
    assert after["hotpath_nats_connections"] == 2
    assert after["hotpath_push_listening"] == 1


def test_a_zone_counts_itself(own_stack):
    def found(name):
        return own_stack.metric(name, 'zone="documents"')
    before = found("hotpath_cache_entries")
    stored = found("hotpath_cache_stores_total")
    for n in range(20):
        own_stack.get(f"/prices/counted-{n}")
    assert found("hotpath_cache_entries") == before + 20
    assert found("hotpath_cache_stores_total") == stored + 20
    assert 0 < found("hotpath_cache_used_bytes") < found(
        "hotpath_cache_size_bytes") <= 64 * 1024 * 1024
    assert found("hotpath_cache_evictions_total") == 0
