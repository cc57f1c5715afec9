"""The module's way to NATS: TLS, who it is, which server, and what comes back.

Against real servers with the configuration in question, each beside the stack's
own. What must hold: an event is accepted over every way that is configured
right; over one that is not, nothing is, nothing secret leaves, and the log says
why; a server that goes costs no event.
"""

import collections
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import uuid

import pytest

from natses import (Client, FakeBroker, Key, OwnNats, backends, make_streams,
                    operator)
from pressure import GarbageServer, Writes
from redises import certificates
from servers import local, price_set, wait_until
from tcp_proxy import Proxy
from wire import Nats, config

HOTPATH = config(
    "hotpath.conf", ("timeout=5s", "timeout=2s"),
    ("connect_timeout  2s", "connect_timeout  1s"),
    ("ping_interval    5s", "ping_interval    300ms"))

STACK = {"without": ("drain", "project"), "workers": 1, "hotpath": HOTPATH}


def configure(stack, **options):
    """A reload, and the end of those that still have the old one."""
    stack.reload(**options)
    wait_until(lambda: len(stack.nginx_workers()) == 1, 20,
               "the old worker has ended")


@pytest.fixture(scope="module")
def files(own_stack):
    """A directory of keys and certificates, and a function to add to it."""
    directory = certificates(own_stack.path("files"))

    def add(text):
        path = os.path.join(directory, uuid.uuid4().hex)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o644)
        return path
    add.directory = directory
    return add


@pytest.fixture(autouse=True)
def as_before(own_stack):
    yield
    configure(own_stack, backends="", hotpath=HOTPATH)
    own_stack.wait_ready()


def post(stack, product="a", key=None):
    return stack.post(price_set(key or uuid.uuid4().hex, product, 1))


def wait_accepted(stack, product="a"):
    return wait_until(lambda: post(stack, product).status == 202, 15,
                      "events are accepted")


def streams_check(stack):
    checks = stack.get("/health/ready").json()["checks"]
    return next(each for each in checks if each["name"] == "streams")


def context(files, *chain):
    made = ssl.create_default_context(
        cafile=os.path.join(files.directory, "ca.pem"))
    if chain:
        made.load_cert_chain(*(os.path.join(files.directory, name)
                               for name in chain))
    return made


def tls_conf(files, more=""):
    where = files.directory
    return (f'tls {{ cert_file: "{where}/server.pem", '
            f'key_file: "{where}/server.key", ca_file: "{where}/ca.pem"'
            f"{more} }}\n")


TRUST = ("hotpath_nats_ssl_trusted_certificate {0}/ca.pem;"
         " hotpath_nats_ssl_name redis.test;")
OURS = (" hotpath_nats_ssl_certificate {0}/client.pem;"
        " hotpath_nats_ssl_certificate_key {0}/client.key;")


@pytest.mark.parametrize("server, client, more", [
    ("", "on", ""), (", handshake_first: true", "first", ""),
    (", verify: true", "on", OURS),
    (", verify: true, handshake_first: true", "first", OURS),
], ids=["tls", "first", "mutual", "mutual-first"])
def test_tls(own_stack, files, server, client, more):
    with OwnNats(own_stack, tls_conf(files, server)) as nats:
        chain = ("client.pem", "client.key") if more else ()
        with Client(nats.port, context(files, *chain),
                    client == "first") as made:
            make_streams(made)
            configure(own_stack, backends=backends(
                nats.port, f"hotpath_nats_ssl {client};"
                + (TRUST + more).format(files.directory)))
            wait_accepted(own_stack)
            assert post(own_stack, "c").status == 202
            assert made.js("STREAM.INFO.HOTPATH_EVENTS_1")[
                "state"]["messages"] == 1
            for number in range(2):
                made.js(f"STREAM.DELETE.HOTPATH_EVENTS_{number}")
    assert "with TLS" in own_stack.log("nginx")


def test_tls_in_pieces(own_stack, files):
    """Every record comes a byte at a time, both ways."""
    with OwnNats(own_stack, tls_conf(files), "pieces") as nats:
        with Client(nats.port, context(files)) as made:
            make_streams(made)
        with Proxy(nats.port) as proxy:
            proxy.flow(piece=1, requests=1)
            configure(own_stack, backends=backends(
                proxy.port, "hotpath_nats_ssl on;"
                + TRUST.format(files.directory)))
            wait_accepted(own_stack)
            for _ in range(5):
                assert post(own_stack).status == 202


@pytest.mark.parametrize("more, why", [
    ("hotpath_nats_ssl_name other.test;", "hostname mismatch"),
    ("hotpath_nats_ssl_trusted_certificate {0}/stranger.pem;",
     "unable to get local issuer|self.signed"),
    ("", "unable to get local issuer|self.signed"),
], ids=["name", "authority", "system"])
def test_tls_not_the_server(own_stack, files, more, why):
    """The handshake ends, and neither password nor certificate were sent."""
    if "name" in more:
        more += "hotpath_nats_ssl_trusted_certificate {0}/ca.pem;"
    with OwnNats(own_stack, tls_conf(files, ", verify: true"),
                 "stranger") as nats:
        configure(own_stack, backends=backends(
            nats.port, ("hotpath_nats_ssl on; hotpath_nats_user u;"
                        "hotpath_nats_password secret;" + OURS + more).format(
                            files.directory)))
        wait_until(lambda: re.search(f":{nats.port}: .*({why})",
                                     own_stack.log("nginx"), re.I), 10,
                   "it is refused")
        answer = post(own_stack)
        assert (answer.status, answer.json()["code"]) == (
            503, "broker_unavailable")
    configure(own_stack, backends=backends(
        nats.port, "hotpath_nats_ssl on; hotpath_nats_ssl_verify off;"))


def test_tls_unverified(own_stack, files):
    with OwnNats(own_stack, tls_conf(files), "unverified") as nats:
        with Client(nats.port, context(files)) as made:
            make_streams(made)
        configure(own_stack, backends=backends(
            nats.port, "hotpath_nats_ssl on; hotpath_nats_ssl_verify off;"))
        wait_accepted(own_stack)


INFO = (b'INFO {"version":"2.10.0","max_payload":1048576,"headers":true,'
        b'"proto":1,"nonce":"abc"%s}\r\n')


@pytest.mark.parametrize("info, why", [
    (INFO % b"", "offers no TLS"),
    (INFO % b',"tls_required":true' + b"PING\r\n",
     "sent something before the handshake"),
    (INFO % b',"tls_required":true', None),
], ids=["none", "injected", "silent"])
def test_tls_nothing_before_it(own_stack, info, why):
    """A server in the middle sees a ClientHello at most."""
    got = []

    def talk(connection):
        connection.sendall(info)
        while True:
            data = connection.recv(65536)
            if not data:
                return
            got.append(data)
    port = local.free_ports()["nats"]
    with GarbageServer(port, talk) as server:
        configure(own_stack, backends=backends(
            port, "hotpath_nats_ssl on; hotpath_nats_user someone;"
            "hotpath_nats_password secret;"))
        wait_until(lambda: server.accepted >= 2, 15, "it was tried twice")
        if why:
            wait_until(lambda: why in own_stack.log("nginx"), 10, why)
    data = b"".join(got)
    assert b"CONNECT" not in data and b"secret" not in data
    assert not data or data.startswith(b"\x16\x03")


def test_a_scheme_of_tls(own_stack, files):
    with OwnNats(own_stack, tls_conf(files), "scheme") as nats:
        with Client(nats.port, context(files)) as made:
            make_streams(made)
        configure(own_stack, backends=lambda text: re.sub(
            r"hotpath_nats [^;]*;", f"hotpath_nats tls://{local.HOST}:"
            f"{nats.port};", text) + "hotpath_nats_ssl_trusted_certificate "
            f"{files.directory}/ca.pem;")   # for 127.0.0.1 itself
        wait_accepted(own_stack)


# Who we are.

def ways(files):
    user = Key("user")
    trusted, credentials, token, key = operator()
    return {
        "password": ('authorization { user: "f\\"r", password: "p\\\\w" }',
                     "hotpath_nats_user 'f\"r'; hotpath_nats_password 'p\\w';",
                     {"user": 'f"r', "pass": "p\\w"}),
        "token": ('authorization { token: "t0ken" }',
                  "hotpath_nats_token t0ken;", {"auth_token": "t0ken"}),
        "nkey": (f"authorization {{ users: [ {{ nkey: {user.public} }} ] }}",
                 f"hotpath_nats_nkey {files(user.seed)};",
                 {"nkey": user.public, "key": user}),
        "credentials": (trusted,
                        f"hotpath_nats_credentials {files(credentials)};",
                        {"jwt": token, "key": key}),
    }


@pytest.mark.parametrize("way", ["password", "token", "nkey", "credentials"])
def test_who_we_are(own_stack, files, way):
    conf, more, connect = ways(files)[way]
    with OwnNats(own_stack, conf + "\n", f"auth-{way}") as nats:
        with Client(nats.port, **connect) as made:
            make_streams(made)
        configure(own_stack, backends=backends(nats.port, more))
        wait_accepted(own_stack)
        # and as nobody: once in the log, and not over and over
        before = nats.log().count("authentication error")
        configure(own_stack, backends=backends(nats.port))
        wait_until(lambda: "does not accept who we are" in
                   own_stack.log("nginx"), 10, "it is refused")
        assert post(own_stack).json()["code"] == "broker_unavailable"
        assert nats.log().count("authentication error") - before <= 3


@pytest.mark.parametrize("text, why", [
    ("", "holds no seed"), (Key("account").seed, "holds no seed"),
    ("x" * 70000, "larger than a key"), (None, "No such file"),
], ids=["empty", "account", "large", "missing"])
def test_a_key_that_is_none(own_stack, files, text, why):
    path = "/nonexistent/key" if text is None else files(text)
    directory = own_stack.path("conf-check")
    os.makedirs(directory, exist_ok=True)
    conf = os.path.join(directory, "nginx.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write(f"load_module {own_stack.module};\nevents {{ }}\n"
                   "http { hotpath_nats 127.0.0.1; hotpath_nats_nkey "
                   f"{path}; }}\n")
    done = subprocess.run(
        [own_stack.nginx, "-t", "-e", "stderr", "-c", conf, "-p", directory],
        capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0",
             "LD_PRELOAD": os.environ.get("HOTPATH_PRELOAD", "")})
    assert done.returncode != 0 and why in done.stderr, done.stderr


def test_no_right_to_publish(own_stack):
    """Told at once, by a code of its own, not at the deadline."""
    rights = ('authorization { users: [ { user: u, password: p, permissions: {'
              ' publish: { allow: ["$JS.API.>"], }, subscribe: ">" } },'
              " { user: admin, password: p } ] }\n")
    with OwnNats(own_stack, rights, "rights") as nats:
        with Client(nats.port, user="admin", **{"pass": "p"}) as made:
            make_streams(made)
        configure(own_stack, backends=backends(
            nats.port, "hotpath_nats_user u; hotpath_nats_password p;"))
        wait_until(lambda: streams_check(own_stack)["status"] == "up", 10,
                   "the streams are seen")
        for _ in range(3):
            answer = post(own_stack)
            assert (answer.status, answer.json()["code"]) == (
                503, "broker_denied")
            assert answer.headers["Retry-After"] == "30"
            assert answer.seconds < 1


def test_no_right_to_ask_or_hear(own_stack):
    for rights, why in (
            ('publish: "hotpath.>"', "may_not_be_asked_for"),
            ('subscribe: { deny: "_INBOX.>" }',
             "does not permit a subscription")):
        conf = ("authorization { users: [ { user: u, password: p,"
                f" permissions: {{ {rights} }} }} ] }}\n")
        with OwnNats(own_stack, conf, "deaf") as nats:
            configure(own_stack, backends=backends(
                nats.port, "hotpath_nats_user u; hotpath_nats_password p;"))
            wait_until(lambda: why in own_stack.log("nginx"), 10, why)
            assert post(own_stack).status == 503


# Which server.

def test_a_lame_duck(own_stack):
    """It says that it will stop: another is taken first, and no event lost."""
    lame = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "5s"\n'
    with OwnNats(own_stack, lame, "left") as one, \
            OwnNats(own_stack, lame, "right") as two:
        for nats in (one, two):
            with Client(nats.port) as made:
                make_streams(made)
        configure(own_stack, backends=lambda text: re.sub(
            r"hotpath_nats [^;]*;", f"hotpath_nats {local.HOST}:{one.port} "
            f"{local.HOST}:{two.port};", text))
        wait_accepted(own_stack)
        text = own_stack.log("nginx")
        first = max((one, two), key=lambda nats: text.rfind(
            f"connected to nats server {local.HOST}:{nats.port}"))
        other = two if first is one else one
        with Writes(own_stack, threads=4) as writes:
            writes.wait_accepted(50)
            first.signal(signal.SIGUSR2)
            wait_until(lambda: f"connected to nats server {local.HOST}:"
                       f"{other.port}" in own_stack.log("nginx")[len(text):],
                       10, "the other one is taken")
            writes.wait_accepted(50)
        # these two are no cluster, and one without its streams says so
        assert set(writes.codes()) <= {"202", "stream_unfit"}, writes.codes()
        unfit = [each.at for each in writes.answers
                 if each.code == "stream_unfit"]
        assert not unfit or max(unfit) - min(unfit) < 1.5
        assert "is about to stop" in own_stack.log("nginx")[len(text):]


def test_a_list_with_dead_ones(own_stack):
    dead = [local.free_ports()["nats"] for _ in range(3)]
    configure(own_stack, backends=lambda text: re.sub(
        r"hotpath_nats ([^;]*);", "hotpath_nats " + " ".join(
            f"{local.HOST}:{port}" for port in dead) + r" \1;", text))
    wait_accepted(own_stack)


@pytest.mark.parametrize("found", [True, False])
def test_discovery(own_stack, found):
    """A server that only another one told of is as good."""
    routes = [local.free_ports()["nats"] for _ in range(2)]

    def cluster(mine, other):
        return (f"cluster {{ name: c, listen: {local.HOST}:{mine}, routes: "
                f"[ nats://{local.HOST}:{other} ] }}\n")
    with OwnNats(own_stack, cluster(*routes), "one") as one, \
            OwnNats(own_stack, cluster(*routes[::-1]), "two") as two:
        def listed():
            with socket.create_connection((local.HOST, one.port), 5) as raw:
                return str(two.port).encode() in raw.makefile("rb").readline()
        wait_until(listed, 20, "they know one another")
        configure(own_stack, backends=backends(one.port),
                  hotpath=HOTPATH.replace("discovery        on",
                                          "discovery        "
                                          + ("on" if found else "off")))
        begin = len(own_stack.log("nginx"))

        def said(text):
            return text in own_stack.log("nginx")
        wait_until(lambda: said(f"connected to nats server {local.HOST}:"
                                f"{one.port}"), 10, "it is connected")
        one.process.stop()
        there = f"connected to nats server {local.HOST}:{two.port}"
        if found:
            wait_until(lambda: said(there), 10, "the other is found")
        else:
            wait_until(lambda: own_stack.log("nginx")[begin:].count(
                "could not connect") > 0, 10, "it is tried in vain")
            assert not said(there)


# Messages sent again.

def messages(stack, partition=0):
    with Nats(stack.ports["nats"]) as nats:
        return nats.js(f"STREAM.INFO.HOTPATH_EVENTS_{partition}")[
            "state"]["messages"]


@pytest.fixture
def hop(own_stack):
    with Proxy(own_stack.ports["nats"]) as proxy:
        configure(own_stack, backends=backends(proxy.port))
        wait_accepted(own_stack)
        yield proxy
        proxy.go()
        configure(own_stack, backends="")


def in_background(stack, answers):
    thread = threading.Thread(target=lambda: answers.append(post(stack)),
                              daemon=True)
    thread.start()
    return thread


def test_an_ack_that_was_lost(own_stack, hop):
    before = messages(own_stack)
    repeats = own_stack.metric("hotpath_publish_repeats_total")
    answers = []
    hop.hold_answers()
    thread = in_background(own_stack, answers)
    wait_until(lambda: messages(own_stack) == before + 1, 5, "it is stored")
    hop.reset()
    hop.go()
    thread.join(10)
    assert answers[0].status == 202 and answers[0].seconds < 2
    assert messages(own_stack) == before + 1
    assert own_stack.metric("hotpath_publish_repeats_total") == repeats + 1


def test_a_message_that_was_lost(own_stack, hop):
    before = messages(own_stack)
    answers = []
    hop.hold_requests()
    thread = in_background(own_stack, answers)
    sent = own_stack.metric("hotpath_publish_messages_total")
    wait_until(lambda: own_stack.metric("hotpath_publish_messages_total")
               > sent or messages(own_stack) == before, 5, "it is sent")
    hop.reset()
    hop.go()
    thread.join(10)
    assert answers[0].status == 202
    assert messages(own_stack) == before + 1


def test_nothing_after_the_answer(own_stack, hop):
    """No other connection in time: outcome unknown, and that was all."""
    before = messages(own_stack)
    answers = []
    sent = own_stack.metric("hotpath_publish_messages_total")
    hop.hold_requests()
    thread = in_background(own_stack, answers)
    wait_until(lambda: own_stack.metric("hotpath_publish_messages_total")
               == sent + 1, 5, "it is sent")
    hop.shut()
    hop.go()
    late = post(own_stack)
    assert late.json()["code"] == "broker_unavailable"
    thread.join(10)
    assert answers[0].json()["code"] == "outcome_unknown"
    assert messages(own_stack) == before
    hop.unshut()
    wait_accepted(own_stack)
    assert messages(own_stack) == before + 1


def test_a_short_duplicate_window(own_stack, hop):
    """The broker would not know the message again: it is not sent again."""
    with Nats(own_stack.ports["nats"]) as nats:
        kept = nats.js("STREAM.INFO.HOTPATH_EVENTS_0")["config"]
        nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0",
                dict(kept, duplicate_window=10**9))
        try:
            wait_until(lambda: streams_check(own_stack).get("reason")
                       == "duplicate_window_too_short", 10, "it is told")
            assert own_stack.get("/health/ready").status == 503
            before = messages(own_stack)
            answers = []
            hop.hold_answers()
            thread = in_background(own_stack, answers)
            wait_until(lambda: messages(own_stack) == before + 1, 5, "stored")
            hop.reset()
            hop.go()
            thread.join(10)
            assert answers[0].json()["code"] == "outcome_unknown"
            assert messages(own_stack) == before + 1
        finally:
            nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0", kept)
    wait_until(lambda: streams_check(own_stack)["status"] == "up", 10,
               "it is as before")


# What streams have to be, and what they refuse.

@pytest.mark.parametrize("change, reason, status", [
    ({"discard": "old"}, "discards_old", 503),
    ({"subjects": ["elsewhere.0"]}, "subject_not_bound", 503),
    ({"max_msg_size": 4096}, "max_msg_size_too_small", 202),
], ids=["discard", "subject", "size"])
def test_a_stream_that_is_not_as_said(own_stack, change, reason, status):
    with Nats(own_stack.ports["nats"]) as nats:
        kept = nats.js("STREAM.INFO.HOTPATH_EVENTS_0")["config"]
        nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0", {**kept, **change})
        try:
            found = wait_until(lambda: (lambda check: check if check.get(
                "reason") == reason else None)(streams_check(own_stack)), 10,
                reason)
            assert found["stream"] == "HOTPATH_EVENTS_0"
            assert own_stack.get("/health/ready").status == 503
            answer = post(own_stack)
            assert answer.status == status
            if status == 503:
                assert answer.json()["code"] == "stream_unfit"
            assert post(own_stack, "c").status == 202
        finally:
            nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0", kept)
    wait_until(lambda: own_stack.get("/health/ready").status == 200, 10,
               "it is as before")
    assert own_stack.log("nginx").count(f"HOTPATH_EVENTS_0: {reason}") == 1


def test_what_was_said_of_replicas(own_stack):
    configure(own_stack, hotpath=config(
        "hotpath.conf", ("durability=sync", "durability=replicated"),
        ("replicas=1", "replicas=3")))
    wait_until(lambda: streams_check(own_stack).get("reason")
               == "too_few_replicas", 10, "it is told")
    assert streams_check(own_stack)["durability"] == "replicated"
    wait_until(lambda: own_stack.metric("hotpath_durability", "replicated")
               == 1 and own_stack.metric("hotpath_durability", "sync") == 0,
               20, "the metric says so")


def test_a_full_stream(own_stack):
    with Nats(own_stack.ports["nats"]) as nats:
        kept = nats.js("STREAM.INFO.HOTPATH_EVENTS_0")["config"]
        for limit in ({"max_msgs": 1}, {"max_bytes": 200},
                      {"max_msgs_per_subject": 1, "discard_new_per_subject":
                       True}):
            nats.js("STREAM.PURGE.HOTPATH_EVENTS_0")
            nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0", {**kept, **limit})
            try:
                answers = [post(own_stack) for _ in range(3)]
                assert answers[-1].json()["code"] == "stream_full"
                assert answers[-1].headers["Retry-After"] == "5"
                assert answers[-1].seconds < 1
            finally:
                nats.js("STREAM.UPDATE.HOTPATH_EVENTS_0", kept)
        assert post(own_stack).status == 202


def test_a_process_is_warned_of(own_stack):
    configure(own_stack, hotpath=config("hotpath.conf", (
        "durability=sync", "durability=process")))
    assert "not a power cut" in own_stack.log("nginx")


class Stuck(FakeBroker):
    """From the first bytes of an event on it reads nothing until it is told
    to; then everything there is."""

    def __init__(self):
        self.go = threading.Event()
        self.reading = set()
        self.whole = []

    def __call__(self, connection):
        self.reading.add(connection)
        try:
            super().__call__(connection)
        finally:
            self.reading.remove(connection)

    def wait(self, buffer):
        if self.whole or b"PUB hotpath.events." in buffer:
            self.go.wait(60)

    def published(self, message, payload, answer):
        self.whole.append(payload)


def test_a_server_that_takes_nothing(own_stack):
    """What is left in the buffer at the deadline never arrives, and the answer
    says so; what had left is unknown."""
    talk, port = Stuck(), local.free_ports()["nats"]
    answers = {}

    def one(key):
        answers[key] = own_stack.post(
            {"idempotencyKey": key, "eventType": "t",
             "payload": {"productId": key, "text": "x" * 60000}})
    with GarbageServer(port, talk):
        configure(own_stack, backends=backends(port), hotpath=HOTPATH.replace(
            "window=1\n", "window=32\n").replace("300ms", "30s"))
        wait_until(lambda: own_stack.get("/health/ready").status == 200, 15,
                   "it takes the fake for a broker")
        threads = [threading.Thread(target=one, args=(f"stuck-{n:04}",),
                                    daemon=True) for n in range(300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        talk.go.set()
        wait_until(lambda: len(talk.reading) <= 1, 20,
                   "it has read all that is left of connections which ended")
        arrived = set(re.findall(rb"stuck-\d{4}", b"".join(talk.whole)))
    codes = {key.encode(): answer.json()["code"]
             for key, answer in answers.items()}
    assert set(codes.values()) == {"outcome_unknown", "broker_unavailable"}
    assert arrived and arrived <= {key for key, code in codes.items()
                                   if code == "outcome_unknown"}
    assert "takes nothing" in own_stack.log("nginx")


class Hoarding(FakeBroker):
    """Acknowledges nothing until it is told to, and then one at a time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.held = []
        self.most = collections.Counter()
        self.sizes = []

    def published(self, message, payload, answer):
        with self.lock:
            self.held.append((message, answer))
            self.sizes.append(len(payload))
            open_now = collections.Counter(each for each, _ in self.held)
            for subject, count in open_now.items():
                self.most[subject] = max(self.most[subject], count)

    def acknowledge(self):
        with self.lock:
            if self.held:
                message, answer = self.held.pop(0)
                answer(b'{"stream":"HOTPATH_EVENTS_%s","seq":%d}' % (
                    message[-1:], len(self.sizes)))


def test_the_window(own_stack):
    """Never more messages on their way than it says, nor larger ones than
    group_size, however many events wait; and those go all the same."""
    broker, port = Hoarding(), local.free_ports()["nats"]
    answers = []
    with GarbageServer(port, broker):
        configure(own_stack, backends=backends(port), hotpath=HOTPATH.replace(
            "window=1\n", "window=2\n").replace("group_size=512k",
                                                "group_size=128k"))
        wait_until(lambda: own_stack.get("/health/ready").status == 200, 15,
                   "it takes the fake for a broker")
        threads = [threading.Thread(target=lambda: answers.append(
            own_stack.post({"idempotencyKey": uuid.uuid4().hex,
                            "eventType": "t", "payload": "x" * 20000})),
            daemon=True) for _ in range(100)]
        for thread in threads:
            thread.start()
        wait_until(lambda: dict(broker.most) == {
            b"hotpath.events.0": 2, b"hotpath.events.1": 2}, 5, "both are full")
        wait_until(lambda: broker.acknowledge() or len(answers) == 100, 15,
                   "all are answered", every_s=0.002)
        for thread in threads:
            thread.join(10)
    assert [answer.status for answer in answers] == [202] * 100
    assert set(broker.most.values()) == {2}
    assert 15 < len(broker.sizes) < 100
    assert 40000 < max(broker.sizes) <= 128 * 1024 + 256
