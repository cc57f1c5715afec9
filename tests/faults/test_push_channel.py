"""The push channel of one instance is cut: how old its answers become.

Two instances share everything but the way to NATS: own_stack's leads through a
hop that the test cuts, the peer's does not. Prices change through the peer, so
the chain behind it works all the time; asserted is what own_stack answers
meanwhile: never a value older than its bound, nothing slow, nothing refused,
and the pushed values again as soon as the channel is back.
"""

import itertools
import time
import uuid

import pytest

from pressure import Pings
from servers import Peer, price_set, wait_until
from tcp_proxy import Proxy
from wire import config

PING_S = 0.3

SERVER = """
add_header X-Worker $pid always;
location /fresh/ { hotpath_read prices; hotpath_cache documents ttl=10m; }
location /swr/ {
    hotpath_read prices; hotpath_cache second ttl=10m revalidate=10m;
}
location /short/ { hotpath_read prices; hotpath_cache third ttl=1s jitter=0%; }
"""

STACK = {
    "server": SERVER,
    "http": "hotpath_cache_zone zone=second:4m;"
            " hotpath_cache_zone zone=third:4m;",
    "hotpath": config("hotpath.conf",
                      ("ping_interval    5s", "ping_interval    300ms")),
}

PATHS = ("fresh", "swr", "short")
products = itertools.count(1)

# Until a dead connection is known as one: a PING, and its PONG that does not
# come; a busy machine takes its time.
KNOWN_S = 4 * PING_S + 1.5


@pytest.fixture(scope="module")
def hop(own_stack):
    with Proxy(own_stack.ports["nats"]) as proxy:
        own_stack.reload(backends=lambda text: text.replace(
            f":{own_stack.ports['nats']};", f":{proxy.port};"))
        own_stack.wait_ready()
        yield proxy


@pytest.fixture(scope="module")
def other(own_stack, hop):
    """Changes prices; its own way to NATS stays."""
    instance = Peer(own_stack, backends="")
    instance.up()
    instance.wait_ready()
    yield instance
    instance.down()


@pytest.fixture
def listening(own_stack, hop):
    hop.go()
    wait_until(lambda: own_stack.metric("hotpath_push_listening") == 1, 10,
               "it hears pushes")


def change(other, product, amount):
    assert other.post(price_set(uuid.uuid4().hex, product, amount)).status \
        == 202
    wait_until(lambda: amount_of(other, "fresh", product) == amount, 10,
               "the change is everywhere else")


def amount_of(stack, path, product):
    answer = stack.get(f"/{path}/{product}")
    return answer.json()["amount"] if answer.status == 200 else None


def known(own_stack, other):
    """A price that both instances have in all their zones."""
    product = next(products)
    change(other, product, 1)
    for path in PATHS:
        wait_until(lambda: amount_of(own_stack, path, product) == 1, 10,
                   "it is known")
    return product


def wait_lost(own_stack):
    wait_until(lambda: own_stack.metric("hotpath_push_listening") == 0,
               KNOWN_S + 5, "the loss is known")


@pytest.mark.parametrize("how", ["reset", "silent"])
def test_cut(own_stack, other, hop, listening, how):
    product = known(own_stack, other)
    with Pings(own_stack) as pings:
        begin = time.monotonic()
        hop.stall()
        if how == "reset":
            hop.reset()
        change(other, product, 2)
        wait_lost(own_stack)
        lost_s = time.monotonic() - begin
        assert lost_s < KNOWN_S + 2, lost_s

        # revalidated before it is trusted: at once the new one
        answer = own_stack.get(f"/fresh/{product}")
        assert answer.status == 200 and answer.json()["amount"] == 2
        assert answer.seconds < 0.5
        # in the background where that is allowed: the old one once, perhaps
        wait_until(lambda: amount_of(own_stack, "swr", product) == 2, 5,
                   "the background has it")
        # and what is fetched while nobody pushes is as old as its ttl at most
        change(other, product, 3)
        changed = time.monotonic()
        wait_until(lambda: amount_of(own_stack, "short", product) == 3, 5,
                   "its ttl is over")
        assert time.monotonic() - changed < 2.5

        hop.go()
        wait_until(lambda: own_stack.metric("hotpath_push_listening") == 1,
                   10, "it hears again")
        # what was stored while nobody pushed is not trusted either
        for path in PATHS:
            wait_until(lambda: amount_of(own_stack, path, product) == 3, 5,
                       "the newest is there")
        change(other, product, 4)
        begin = time.monotonic()
        for path in PATHS:
            wait_until(lambda: amount_of(own_stack, path, product) == 4, 5,
                       "it was pushed")
        assert time.monotonic() - begin < 1.5
    pings.check(least=20)


def test_never_back(own_stack, other, hop, listening):
    """Cut and mended over and over while a price changes: what is answered
    only ever goes up."""
    product = known(own_stack, other)
    last = {path: 1 for path in PATHS}
    amount = 1
    for round_ in range(6):
        if round_ % 2:
            hop.go()
        else:
            hop.stall()
            hop.reset()
        for _ in range(5):
            amount += 1
            other.post(price_set(uuid.uuid4().hex, product, amount))
            for path in PATHS:
                seen = amount_of(own_stack, path, product)
                assert seen is not None and seen >= last[path], (path, round_)
                last[path] = seen
    hop.go()
    for path in PATHS:
        wait_until(lambda: amount_of(own_stack, path, product) == amount, 15,
                   "the last one is everywhere")


def test_with_redis_away_too(own_stack, other, hop, listening):
    """Postgres is asked; nothing that is not trusted is given as fresh."""
    product = known(own_stack, other)
    hop.stall()
    hop.reset()
    change(other, product, 2)
    wait_lost(own_stack)
    own_stack.stop("redis")
    try:
        answer = own_stack.get(f"/fresh/{product}")
        assert answer.status == 200 and answer.json()["amount"] == 2
        assert "postgres" in answer.headers["cache-status"]
    finally:
        own_stack.start("redis")


def test_with_both_backends_away(own_stack, other, hop, listening):
    """The stale copy, told as such, rather than nothing."""
    product = known(own_stack, other)
    hop.stall()
    hop.reset()
    wait_lost(own_stack)
    own_stack.stop("redis")
    own_stack.freeze("postgres")
    try:
        answer = wait_until(
            lambda: (lambda got: got if "stale-if-error" in
                     got.headers["cache-status"] else None)(
                own_stack.get(f"/fresh/{product}")), 10, "nobody answers it")
        assert answer.status == 200 and answer.json()["amount"] == 1
    finally:
        own_stack.thaw("postgres")
        own_stack.start("redis")
