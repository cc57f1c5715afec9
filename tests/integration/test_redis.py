"""The connection to Redis as an operator writes it: who it is, where, how.

Users of the access control lists, passwords and the file of one, databases,
unix sockets, TLS, names that come to stand for another address. nginx is
reloaded with another hotpath_redis for each; a document that lies in Redis
alone shows that it is spoken to. What Redis does to reads when it fails is in
tests/faults/test_redis_faults.py.
"""

import os
import re
import socket
import subprocess
import uuid

import pytest

from pressure import GarbageServer, Pings
from redises import Nameserver, OwnRedis, Proxy, certificates
from servers import local, price_set, wait_until
from wire import Redis, golden

STACK = {
    "without": ("drain", "project"),
    "workers": 1,
    "log_level": "info",
    "server": "add_header X-Worker $pid always;",
}

# What the reference says that a user needs.
ALL = ("~hotpath:*", "+ping", "+select", "+get", "+mget", "+set", "+unlink",
       "+getrange", "+eval", "+evalsha")


UNKNOWN = ("(unable to get local issuer certificate"
           "|self-signed certificate in certificate chain)")


def key():
    return uuid.uuid4().hex


def configure(stack, line, http=""):
    """Reloads with another hotpath_redis; the old worker is gone after it.
    The log from here on is what the test has to look at."""
    old = set(stack.nginx_workers())
    stack.log_begin = len(stack.log("nginx"))
    stack.reload(http=http, backends=lambda text: re.sub(
        r"hotpath_redis [^;]*;", f"hotpath_redis {line};", text))
    wait_until(lambda: not old & set(stack.nginx_workers()), 15,
               "the old worker is gone")


def log(stack):
    return stack.log("nginx")[stack.log_begin:]


def is_up(stack):
    checks = stack.get("/health/ready").json()["checks"]
    return {each["name"]: each["status"] for each in checks}["redis"] == "up"


def wait_up(stack):
    wait_until(lambda: is_up(stack), 10, "redis is up")


def wait_logged(stack, pattern, timeout_s=10):
    wait_until(lambda: re.search(pattern, log(stack)), timeout_s,
               f"the log has {pattern}")


def errors(stack):
    """Of the new worker: the old one has its last words."""
    worker, = stack.nginx_workers()
    return [line for line in log(stack).splitlines()
            if f"[error] {worker}#" in line and "redis" in line]


def store(redis, text, name=None):
    """A document that only this Redis has; its path."""
    name = name or key()
    redis("SET", f"hotpath:doc:prices:default:{name}", golden.doc_value(
        golden.document(text.encode(), name.encode(), b"default", 1)))
    return f"/prices/{name}"


def check_served(stack, redis, text='{"from":"redis"}'):
    """It is read from there, and what Postgres has is written there."""
    answer = stack.get(store(redis, text))
    assert (answer.status, answer.body) == (200, text.encode())
    assert "detail=redis" in answer.headers["Cache-Status"]
    name = key()
    stack.sql("INSERT INTO hotpath.prices VALUES"
              " ('default', %s, 1, %s, now(), false, 0, 1)", (name, text))
    answer = stack.get(f"/prices/{name}")
    assert "detail=postgres" in answer.headers["Cache-Status"]
    wait_until(lambda: redis(
        "EXISTS", f"hotpath:doc:prices:default:{name}") == 1, 5,
        "the document is in Redis too")


@pytest.fixture
def redis(own_stack):
    with Redis(own_stack.ports["redis"]) as connection:
        yield connection
        connection("CONFIG", "SET", "requirepass", "")


@pytest.fixture
def port(own_stack):
    return own_stack.ports["redis"]


# Who.

def test_user_of_the_access_control_list(own_stack, redis, port):
    redis("ACL", "SETUSER", "front", "reset", "on", ">s3 cret", *ALL)
    configure(own_stack, f'127.0.0.1:{port} user=front "password=s3 cret"')
    wait_up(own_stack)
    assert b"user=front" in redis("CLIENT", "LIST")
    check_served(own_stack, redis)
    assert not errors(own_stack)


def test_password_alone(own_stack, redis, port):
    redis("CONFIG", "SET", "requirepass", "open-sesame")
    configure(own_stack, f"127.0.0.1:{port} password=open-sesame")
    wait_up(own_stack)
    check_served(own_stack, redis)


@pytest.mark.parametrize("text", ["s3cret", "s3cret\n", "s3cret\r\nmore\n"])
def test_password_from_a_file(own_stack, redis, port, text):
    path = own_stack.path("nginx", "redis-password")
    with open(path, "w", encoding="ascii", newline="") as file:
        file.write(text)
    os.chmod(path, 0o644)
    redis("CONFIG", "SET", "requirepass", "s3cret")
    configure(own_stack, f"127.0.0.1:{port} password_file=redis-password")
    wait_up(own_stack)
    check_served(own_stack, redis)


@pytest.mark.parametrize("who, code", [
    ("user=front password=wrong", "WRONGPASS"),
    ("user=nobody password=s3cret", "WRONGPASS"),
    ("", "NOAUTH"),
])
def test_refused_at_the_door(own_stack, redis, port, who, code):
    """It goes on trying, and says so once; reads come from Postgres."""
    redis("ACL", "SETUSER", "front", "reset", "on", ">s3cret", *ALL)
    redis("CONFIG", "SET", "requirepass", "other")

    def tries():
        text = redis("INFO", "stats").decode()
        return int(re.search(r"total_connections_received:(\d+)",
                             text).group(1))
    configure(own_stack, f"127.0.0.1:{port} {who}")
    wait_logged(own_stack, rf"\[error\].*refused \({code} ")
    seen = tries()
    wait_until(lambda: tries() > seen + 3, 15, "it tries again")
    assert len(errors(own_stack)) == 1, errors(own_stack)
    assert not is_up(own_stack)
    assert own_stack.metric("hotpath_redis_connections") == 0
    skipped = own_stack.metric("hotpath_redis_skipped_total", "down")
    answer = own_stack.get(f"/prices/{key()}")
    assert answer.status == 404 and answer.seconds < 0.5
    assert own_stack.metric("hotpath_redis_skipped_total", "down") > skipped
    # and it is let in as soon as it may
    redis("ACL", "SETUSER", "front", ">wrong")
    redis("ACL", "SETUSER", "nobody", "on", ">s3cret", *ALL)
    redis("CONFIG", "SET", "requirepass", "")
    wait_up(own_stack)
    redis("ACL", "DELUSER", "front", "nobody")


def test_user_who_may_not_read(own_stack, redis, port):
    """Every answer is an error: the breaker opens, the log has it once."""
    redis("ACL", "SETUSER", "front", "reset", "on", ">s3cret", *ALL, "-get")
    configure(own_stack, f"127.0.0.1:{port} user=front password=s3cret")
    wait_up(own_stack)
    for _ in range(50):
        answer = own_stack.get(f"/prices/{key()}")
        assert answer.status == 404 and answer.seconds < 0.5
    assert own_stack.metric("hotpath_redis_breakers_open", '"all"') == 1
    assert own_stack.metric("hotpath_redis_skipped_total", "breaker") > 0
    lines = [line for line in errors(own_stack) if "NOPERM" in line]
    assert len(lines) == 1, errors(own_stack)
    # with the right, the next probe closes it
    redis("ACL", "SETUSER", "front", "+get")
    wait_until(lambda: "detail=redis" in own_stack.get(
        store(redis, "{}")).headers.get("Cache-Status", ""), 5,
        "it is read again")
    assert own_stack.metric("hotpath_redis_breakers_open", '"all"') == 0
    redis("ACL", "DELUSER", "front")


def test_user_who_may_not_write(own_stack, redis, port):
    """Scripts are left out after a few; reads notice nothing."""
    redis("ACL", "SETUSER", "front", "reset", "on", ">s3cret", *ALL, "-set")
    configure(own_stack, f"127.0.0.1:{port} user=front password=s3cret")
    wait_up(own_stack)
    for _ in range(30):
        name = key()
        own_stack.sql("INSERT INTO hotpath.prices VALUES"
                      " ('default', %s, 1, '{}', now(), false, 0, 1)", (name,))
        assert own_stack.get(f"/prices/{name}").status == 200
        answer = own_stack.get(store(redis, "{}"))
        assert "detail=redis" in answer.headers["Cache-Status"]
    assert own_stack.metric("hotpath_redis_breakers_open", '"all"') == 0
    assert own_stack.metric("hotpath_redis_breakers_open", '"scripts"') == 1
    assert own_stack.metric("hotpath_redis_skipped_total", "breaker") > 0
    kinds = re.findall(r"answers with an error \((\w+)", log(own_stack))
    assert kinds and len(kinds) == len(set(kinds)), kinds
    redis("ACL", "DELUSER", "front")


# Where.

def test_database(own_stack, redis, port):
    configure(own_stack, f"127.0.0.1:{port} db=3")
    wait_up(own_stack)
    redis("SELECT", 3)
    check_served(own_stack, redis)


def test_unix_socket(own_stack):
    path = own_stack.path("redis-own", "socket")
    with OwnRedis(own_stack, "--unixsocket", path) as own:
        configure(own_stack, f"unix:{path}")
        wait_up(own_stack)
        with Redis(own.port) as redis:
            check_served(own_stack, redis)
            text = redis("CLIENT", "LIST").decode()
        assert re.search(r"addr=\S*socket:0 ", text), text
    wait_until(lambda: not is_up(own_stack), 10, "it is gone")


def test_script_that_was_forgotten(own_stack, redis, port):
    """After SCRIPT FLUSH one document is lost, and the next is written."""
    configure(own_stack, f"127.0.0.1:{port}")
    wait_up(own_stack)
    check_served(own_stack, redis)
    redis("SCRIPT", "FLUSH", "SYNC")

    def written():
        name = key()
        own_stack.sql("INSERT INTO hotpath.prices VALUES"
                      " ('default', %s, 1, '{}', now(), false, 0, 1)", (name,))
        own_stack.get(f"/prices/{name}")
        try:
            wait_until(lambda: redis(
                "EXISTS", f"hotpath:doc:prices:default:{name}") == 1, 1, "")
            return True
        except Exception:
            return False
    assert [written(), written(), written()][1:] == [True, True]
    assert not errors(own_stack)


# TLS.

@pytest.fixture(scope="module")
def tls(own_stack):
    """The directory of the certificates, if this build speaks TLS."""
    directory = certificates(own_stack.path("nginx", "tls"))
    done = check_configuration(own_stack, "127.0.0.1 tls=on")
    if done.returncode:
        assert "needs a hiredis with TLS" in done.stderr
        assert not os.path.exists("/usr/include/hiredis/hiredis_ssl.h")
        pytest.skip("this build's hiredis has no TLS")
    return directory


class TLSRedis(OwnRedis):
    def __init__(self, stack, directory, *words, port=None):
        port = port or stack.ports["drain"]  # which does not run
        super().__init__(
            stack, "--port", 0, "--tls-port", port, "--tls-ca-cert-file",
            os.path.join(directory, "ca.pem"), "--tls-cert-file",
            os.path.join(directory, "server.pem"), "--tls-key-file",
            os.path.join(directory, "server.key"), "--tls-auth-clients", "no",
            "--unixsocket", stack.path("redis-own", "socket"), *words,
            port=port)
        self.socket = stack.path("redis-own", "socket")


class UnixRedis(Redis):
    """Past the TLS that is tested."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        self.socket.connect(path)
        self.buffer = b""


def test_tls(own_stack, tls):
    with TLSRedis(own_stack, tls) as own:
        configure(own_stack, f"127.0.0.1:{own.port} tls=on tls_ca=tls/ca.pem")
        wait_up(own_stack)
        with UnixRedis(own.socket) as redis:
            check_served(own_stack, redis)
            # more than a record holds, both ways
            for size in (16300, 16400, 40000, 1000000):
                check_served(own_stack, redis, '"' + "x" * size + '"')
        assert not errors(own_stack)
    wait_until(lambda: not is_up(own_stack), 10, "it is gone")


@pytest.mark.parametrize("words, reason", [
    ("tls_ca=tls/stranger.pem", UNKNOWN),
    ("tls_ca=tls/ca.pem tls_name=other.test", "[Hh]ostname mismatch"),
    ("tls_ca=tls/ca.pem tls_name=127.0.0.2", "IP address mismatch"),
    ("", UNKNOWN),
])
def test_tls_with_somebody_else(own_stack, tls, words, reason):
    with TLSRedis(own_stack, tls) as own:
        configure(own_stack, f"127.0.0.1:{own.port} tls=on {words}")
        wait_logged(own_stack, rf"\[error\].*(lost|given up) \({reason}\)")
        assert not is_up(own_stack)
        assert own_stack.metric("hotpath_redis_connections") == 0
        assert own_stack.get(f"/prices/{key()}").status == 404
        # with the name that it is for
        configure(own_stack, f"127.0.0.1:{own.port} tls=on tls_ca=tls/ca.pem"
                             " tls_name=redis.test")
        wait_up(own_stack)


def test_tls_with_our_certificate(own_stack, tls):
    with TLSRedis(own_stack, tls, "--tls-auth-clients", "yes") as own:
        line = f"127.0.0.1:{own.port} tls=on tls_ca=tls/ca.pem"
        configure(own_stack, line)
        wait_logged(own_stack, r"\[error\].*lost \(.*certificate required")
        assert not is_up(own_stack)
        configure(own_stack, line + " tls_cert=tls/client.pem"
                                    " tls_key=tls/client.key")
        wait_up(own_stack)
        with UnixRedis(own.socket) as redis:
            check_served(own_stack, redis)


def test_tls_in_small_pieces(own_stack, tls):
    """Records come byte by byte: nothing waits in the loop, nothing is lost."""
    with TLSRedis(own_stack, tls) as own, Proxy(own.port) as proxy, \
            UnixRedis(own.socket) as redis:
        proxy.flow(piece=7)
        configure(own_stack, f"127.0.0.1:{proxy.port} tls=on timeout=2s"
                             " tls_ca=tls/ca.pem")
        wait_up(own_stack)
        with Pings(own_stack) as pings:
            for size in 4 * (10, 1000, 20000):
                check_served(own_stack, redis, '"' + "x" * size + '"')
        pings.check(least=20)
        assert not errors(own_stack)


@pytest.mark.parametrize("after", [0, 100, 700, 1500])
def test_tls_that_stops_in_the_handshake(own_stack, tls, after):
    """So many bytes of the server come, and then no more."""
    with TLSRedis(own_stack, tls) as own:
        def talk(connection):
            with socket.create_connection(("127.0.0.1", own.port), 5) as other:
                other.sendall(connection.recv(65536))
                connection.sendall(other.recv(after) if after else b"")
                while connection.recv(65536):
                    pass
        with GarbageServer(own_stack.ports["project"], talk) as server:
            configure(own_stack, f"127.0.0.1:{own_stack.ports['project']}"
                                 " tls=on tls_ca=tls/ca.pem")
            with Pings(own_stack) as pings:
                seen = server.accepted
                assert own_stack.get(f"/prices/{key()}").status == 404
                worker, = own_stack.nginx_workers()
                wait_logged(own_stack, rf"\[error\] {worker}#.*"
                                       r"given up \(no answer in time\)")
                wait_until(lambda: server.accepted > seen, 5, "it tries again")
        pings.check(least=20)


def test_tls_to_a_server_without(own_stack, tls, port):
    with Pings(own_stack):
        configure(own_stack, f"127.0.0.1:{port} tls=on tls_ca=tls/ca.pem")
        wait_logged(own_stack, r"\[error\].*connection to redis .* "
                               r"(lost|given up)")
    assert not is_up(own_stack)
    assert own_stack.get(f"/prices/{key()}").status == 404


class Projector:
    """The stack's own, with other settings for Redis."""

    def __init__(self, stack, **settings):
        template = stack["project"]
        self.process = local.Process(
            "project", stack.directory, template.command, ready=template.ready,
            port=template.port, env={**template.env, **{
                f"HOTPATH_REDIS{name}": str(value)
                for name, value in settings.items()}})

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.stop()

    def log(self):
        with open(self.process.log, encoding="utf-8") as file:
            return file.read()


def test_tls_of_the_projector(own_stack, tls):
    """It takes the same Redis, and only that one."""
    own_stack.start("drain")
    with TLSRedis(own_stack, tls, "--tls-auth-clients", "yes",
                  port=local.free_ports()["redis"]) as own:
        settings = {
            "": f"127.0.0.1:{own.port}", "_TLS": 1,
            "_TLS_CA": os.path.join(tls, "ca.pem"),
            "_TLS_CERT": os.path.join(tls, "client.pem"),
            "_TLS_KEY": os.path.join(tls, "client.key")}
        product = uuid.uuid4().int % 10 ** 9
        where = f"hotpath:doc:prices:default:{product}"
        with UnixRedis(own.socket) as redis:
            with Projector(own_stack, _TLS_NAME="other.test",
                           **settings) as projector:
                assert own_stack.post(price_set(key(), product, 1)) \
                    .status == 202
                wait_until(lambda: "certificate verify failed"
                           in projector.log(), 20, "it says what is wrong")
                assert redis("EXISTS", where) == 0
            with Projector(own_stack, **settings):
                wait_until(lambda: redis("EXISTS", where) == 1, 20,
                           "the document is in Redis")
    own_stack.stop("drain")


@pytest.mark.parametrize("settings, complaint", [
    ({"_TLS_CA": "/no-such-file"}, "/no-such-file"),
    ({"_TLS_CERT": "/no-such-file"}, "go together"),
    ({"": "/socket"}, "not for a socket"),
])
def test_tls_settings_of_the_projector(own_stack, tls, settings, complaint):
    process = Projector(own_stack, **{"_TLS": 1, **settings}).process
    done = subprocess.run(process.command, env=process.env, timeout=20,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stdout + done.stderr


# What is refused.

def check_configuration(stack, words):
    conf = stack.path("nginx", "check.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write(f"load_module {stack.module};\nevents {{}}\n"
                   f"http {{\nhotpath_redis {words};\n}}\n")
    return subprocess.run(
        [stack.nginx, "-t", "-e", "stderr", "-p", stack.path("nginx"),
         "-c", conf], capture_output=True, text=True, timeout=60, check=False,
        env=stack["nginx"].env)


@pytest.mark.parametrize("words, complaint", [
    ("127.0.0.1 user=front", 'has "user" without "password"'),
    ("127.0.0.1 password=a password_file=b", "has both"),
    ("127.0.0.1 password_file=no-such-file", "no-such-file\" failed"),
    ("127.0.0.1 password_file=check-empty", "is no password"),
    ("127.0.0.1 password_file=check-long", "is no password"),
    ("127.0.0.1 password=", "invalid parameter"),
    ("127.0.0.1 db=1 db=2", 'duplicate parameter "db="'),
    ("127.0.0.1 user=a user=b", 'duplicate parameter "user="'),
    ("127.0.0.1 db=65536", "invalid parameter"),
    ("127.0.0.1 timeout=0", "invalid parameter"),
    ("127.0.0.1 timeout=61s", "invalid parameter"),
    ("127.0.0.1 pending=0", "invalid parameter"),
    ("127.0.0.1 tls=yes", "invalid parameter"),
    ("127.0.0.1 tls", "invalid parameter"),
    ("127.0.0.1 what=1", "invalid parameter"),
    ("127.0.0.1:99999", "invalid port"),
    ("127.0.0.1 tls_ca=ca.pem", 'without "tls=on"'),
    ("127.0.0.1 tls=off tls_name=a", 'without "tls=on"'),
    ("unix:/tmp/none tls=on", "unix socket"),
    ("127.0.0.1 tls=on tls_cert=a", "together"),
    ("127.0.0.1; hotpath_redis 127.0.0.2", "is duplicate"),
])
def test_configuration_errors(own_stack, words, complaint):
    for name, text in (("check-empty", "\nsecret\n"),
                       ("check-long", "x" * 1025)):
        with open(own_stack.path("nginx", name), "w",
                  encoding="ascii") as file:
            file.write(text)
    done = check_configuration(own_stack, words)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert re.search(r" in \S+check.conf:4$", done.stderr, re.M), done.stderr


@pytest.mark.parametrize("words, complaint", [
    ("tls_ca=no-such-file", "no-such-file"),
    ("tls_ca=check.conf", "check.conf"),
    ("tls_cert=tls/client.pem tls_key=tls/server.key", "server.key"),
    ("tls_cert=tls/client.pem tls_key=tls/locked.key", "locked.key"),
])
def test_tls_configuration_errors(own_stack, tls, words, complaint):
    done = check_configuration(own_stack, f"127.0.0.1 tls=on {words}")
    assert done.returncode != 0
    assert re.search(rf"TLS to Redis: .*{complaint}", done.stderr), done.stderr


# A name.

def test_name_that_comes_to_stand_for_another(own_stack):
    """Redis moves: at the next connection the resolver says where to."""
    port = own_stack.ports["drain"]

    def own(address):
        return OwnRedis(own_stack, "--bind", address, name=address, port=port,
                        host=address)
    with Nameserver({"localhost": ["127.0.0.2"]}) as names:
        old, new = own("127.0.0.1"), own("127.0.0.3")
        with old:
            configure(own_stack, f"localhost:{port}", http=f"""
                resolver 127.0.0.1:{names.port} ipv6=off valid=1s;""")
            wait_up(own_stack)
            # the first connection is to what the system knew at the start
            assert names.asked == 0
        wait_until(lambda: names.asked > 1, 10, "it is asked for")
        assert not is_up(own_stack)
        # of several it takes the next, until one is right
        names.names["localhost"] = ["127.0.0.2", "127.0.0.3"]
        new.process.start()
        try:
            wait_up(own_stack)
            command = ["redis-cli", "-h", "127.0.0.3", "-p", str(port),
                       "CLIENT", "LIST"]
            text = subprocess.run(command, capture_output=True, check=True,
                                  text=True, timeout=20).stdout
            assert "laddr=127.0.0.3" in text and "cmd=ping" in text, text
            # a resolver that knows nothing takes nothing away
            names.names.clear()
            new.process.stop()
            wait_logged(own_stack, r"not resolved \(.*Host not found")
            new.process.start()
            wait_up(own_stack)
        finally:
            new.process.stop()


def test_name_without_a_resolver(own_stack, redis, port):
    configure(own_stack, f"localhost:{port}")
    wait_up(own_stack)
    check_served(own_stack, redis)
    redis("CLIENT", "KILL", "TYPE", "normal")
    wait_up(own_stack)
