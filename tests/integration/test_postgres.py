"""hotpath_postgres against real servers: its parameters, its sessions, what a
pipeline has to stand, PgBouncer, replicas, names.

What a statement says of its own session (locations in tests/postgreses.py) is
what is believed here. Servers that freeze, die or vanish are in
tests/faults/test_postgres_faults.py.
"""

import concurrent.futures
import os
import re
import socket
import struct
import subprocess
import threading
import uuid

import psycopg2.extensions
import pytest

from postgreses import (HTTP, SERVER, Bouncer, Replica, admin, backends,
                        open_gates)
from servers import Client, wait_until
from tcp_proxy import Proxy
from wire import Nats, golden

DIRECT = ('"host=127.0.0.1 port={port} user=hotpath dbname=hotpath"'
          " connections=4")
STACK = {
    "without": ("project", "drain"),
    "server": SERVER,
    "http": HTTP,
    "backends": lambda text: backends(postgres_of(text, DIRECT))(text),
}


def postgres_of(text, words, **more):
    """{port} is the stack's own server, as its backends.conf has it."""
    port = re.search(r"hotpath_postgres .*port=(\d+)", text).group(1)
    return words.format(port=port, **more)


def use(stack, words, **options):
    """Reloads with these words after hotpath_postgres."""
    words = words.replace("{port}", str(stack.ports["postgres"]))
    old = set(stack.nginx_workers())
    stack.reload(backends=backends(words), **options)
    wait_until(lambda: not old & set(stack.nginx_workers()), 20,
               "the old workers are gone")


def ask_many(stack, paths, threads=8):
    """path -> Answer, over a few connections at once."""
    def ask(part):
        client = Client(stack.ports["http"])
        try:
            return {path: client.request("GET", path) for path in part}
        finally:
            client.close()
    answers = {}
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for each in pool.map(ask, [paths[n::threads]
                                   for n in range(threads)]):
            answers.update(each)
    return answers


def statuses(answers):
    return {answer.status for answer in answers.values()}


def key():
    return uuid.uuid4().hex


def check_conf(stack, words):
    """What nginx -t says of hotpath_postgres with these words; "" is good."""
    path = stack.path(f"check-{key()}.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"load_module {stack.module};\nerror_log stderr;\n"
                   f"pid {path}.pid;\nevents {{}}\n"
                   f"http {{ hotpath_postgres {words}; }}\n")
    done = subprocess.run(
        [stack.nginx, "-e", "stderr", "-p", stack.path(), "-t", "-c", path],
        env=stack["nginx"].env, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout


# Parameters.

@pytest.mark.parametrize("words", [
    '"host=127.0.0.1"',
    '"postgresql://front@127.0.0.1:5432,127.0.0.2:5433/hotpath"',
    '"host=127.0.0.1,127.0.0.2 port=1,2 target_session_attrs=read-write"',
    '"host=a,b hostaddr=127.0.0.1,127.0.0.2 sslmode=verify-full"',
    '"hostaddr=::1"', '"host=/run/postgresql"', '"user=x"',
    '"host=localhost" connections=64 queue=100000 timeout=60s',
    '"host=127.0.0.1" statement_timeout=0', '"host=::1" prepare=off',
    '"host=127.0.0.1" pgbouncer=on prepare=on max_result=64k',
    '"host=127.0.0.1" pgbouncer=on statement_timeout=0',
    '"host=127.0.0.1 connect_timeout=3"',
])
def test_accepted(own_stack, words):
    assert check_conf(own_stack, words) == ""


@pytest.mark.parametrize("words, complaint", [
    ('"host=127.0.0.1" connections=0', "invalid parameter"),
    ('"host=127.0.0.1" connections=65', "invalid parameter"),
    ('"host=127.0.0.1" queue=0', "invalid parameter"),
    ('"host=127.0.0.1" timeout=0', "invalid parameter"),
    ('"host=127.0.0.1" timeout=61s', "invalid parameter"),
    ('"host=127.0.0.1" statement_timeout=x', "invalid parameter"),
    ('"host=127.0.0.1" max_result=1k', "invalid parameter"),
    ('"host=127.0.0.1" prepare=yes', "invalid parameter"),
    ('"host=127.0.0.1" prepare=on1', "invalid parameter"),
    ('"host=127.0.0.1" pgbouncer', "invalid parameter"),
    ('"host=127.0.0.1" other=1', "invalid parameter"),
    ('"host=127.0.0.1" pgbouncer=on statement_timeout=1s', "PgBouncer"),
    ('"nonsense=1"', "invalid connection string"),
    ('"service=x"', '"service" is not supported'),
    ('"host=no-such-name.invalid"', "host not found"),
    ('"host=127.0.0.1,127.0.0.1 port=1,2,3"', "another number of ports"),
    ('"host=a,b hostaddr=127.0.0.1"', "another number of addresses"),
    ('"host=127.0.0.1 target_session_attrs=some"', "target_session_attrs"),
    ('"host=127.0.0.1 connect_timeout=0"', "connect_timeout"),
    ('"host=%s"' % ",".join(["127.0.0.1"] * 17), "more than 16 hosts"),
])
def test_refused(own_stack, words, complaint):
    text = check_conf(own_stack, words)
    assert complaint in text, text
    assert "check-" in text


def test_no_password_in_the_log(own_stack):
    for words in ('"host=no-such-name.invalid password=s3cret"',
                  '"host=127.0.0.1 password=s3cret connect_timeout=0"'):
        text = check_conf(own_stack, words)
        assert text and "s3cret" not in text


# Sessions.

def test_sessions_have_a_time_limit_and_a_name(own_stack):
    use(own_stack, DIRECT)
    assert own_stack.get("/setting/statement_timeout").json() == "1250ms"
    assert own_stack.get("/setting/application_name").json() == "hotpath"
    assert own_stack.get("/setting/client_encoding").json() == "UTF8"


@pytest.mark.parametrize("words, limit", [
    (" timeout=2s", "2500ms"), (" statement_timeout=7s", "7s"),
    (" statement_timeout=0", "0"), (" pgbouncer=on", "0"),
])
def test_statement_timeout(own_stack, words, limit):
    use(own_stack, DIRECT + words)
    assert own_stack.get("/setting/statement_timeout").json() == limit


def test_the_operators_own_options_win(own_stack):
    use(own_stack, DIRECT.replace(
        "dbname=hotpath", "dbname=hotpath application_name=mine"
        " options='-c statement_timeout=3s -c work_mem=5MB'"))
    assert own_stack.get("/setting/statement_timeout").json() == "3s"
    assert own_stack.get("/setting/work_mem").json() == "5MB"
    assert own_stack.get("/setting/application_name").json() == "mine"


def test_the_servers_own_time_limit_is_an_error_and_no_more(own_stack):
    """Postgres gives up by itself, long before the module would."""
    use(own_stack, DIRECT + " statement_timeout=100ms timeout=5s")
    before = own_stack.metric("hotpath_postgres_timeouts_total")
    answer = own_stack.get(f"/sleep/2-{key()}")
    assert answer.status == 503
    assert 0.09 < answer.seconds < 1.5
    assert own_stack.get(f"/say/{key()}").status == 200
    assert own_stack.metric("hotpath_postgres_timeouts_total") == before


@pytest.mark.parametrize("words, prepared", [
    ("", True), (" prepare=off", False), (" pgbouncer=on", False),
    (" pgbouncer=on prepare=on", True),
])
def test_prepared_or_not(own_stack, words, prepared):
    use(own_stack, DIRECT + words)
    answers = ask_many(own_stack, [f"/backend/{key()}" for _ in range(20)])
    assert statuses(answers) == {200}
    assert {answer.json()["prepared"] > 0
            for answer in answers.values()} == {prepared}


def test_connections_are_as_many_as_allowed_and_used(own_stack):
    """More than one while one is not enough, never more than said."""
    use(own_stack, DIRECT.replace("connections=4", "connections=2"))
    paths = [f"/sleep/0.02-{key()}" for _ in range(200)]
    assert statuses(ask_many(own_stack, paths, threads=40)) == {200}
    (most,), = own_stack.sql(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'hotpath'")
    assert 3 <= most <= 4  # two workers
    assert own_stack.metric("hotpath_postgres_connections") == most
    assert own_stack.metric("hotpath_postgres_waiting") == 0
    assert own_stack.metric("hotpath_postgres_busy") == 0
    assert own_stack.metric("hotpath_postgres_breaker_open") == 0


def test_metrics_of_what_is_under_way(own_stack):
    use(own_stack, DIRECT.replace("connections=4", "connections=1")
        + " timeout=10s", workers=1)
    try:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = [pool.submit(own_stack.get, f"/sleep/0.2-{key()}")
                       for _ in range(24)]
            # 8 are sent, the rest is queued
            wait_until(
                lambda: own_stack.metric("hotpath_postgres_waiting") >= 10
                and own_stack.metric("hotpath_postgres_busy") == 1, 10,
                "calls wait")
            assert {each.result().status for each in answers} == {200}
        assert own_stack.metric("hotpath_postgres_waiting") == 0
        assert own_stack.metric("hotpath_postgres_busy") == 0
    finally:
        use(own_stack, DIRECT, workers=2)


# What a pipeline has to stand.

def test_an_error_in_a_pipeline_is_nobody_elses(own_stack):
    use(own_stack, DIRECT.replace("connections=4", "connections=1"))
    before = own_stack.metric("hotpath_postgres_retries_total")
    for _ in range(3):
        paths = [f"/divide/{n}" for n in range(200)] + [
            f"/divide/{key()}x" for _ in range(20)]
        answers = ask_many(own_stack, paths, threads=24)
        for path, answer in answers.items():
            number = path.rpartition("/")[2]
            bad = not number.isdigit() or int(number) % 10 == 0
            assert answer.status == (503 if bad else 200), path
            if not bad:
                assert answer.json() == 10 // (int(number) % 10)
    assert own_stack.metric("hotpath_postgres_retries_total") == before
    # and the connection is the one it was
    (count,), = own_stack.sql(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'hotpath'")
    assert count <= 2


@pytest.fixture
def changing(own_stack):
    own_stack.sql("DROP TABLE IF EXISTS hotpath.changing")
    own_stack.sql("CREATE TABLE hotpath.changing"
                  " (key text, document text DEFAULT '1')")
    own_stack.sql("INSERT INTO hotpath.changing (key)"
                  " SELECT 'k' || n FROM generate_series(1, 50) AS n")
    own_stack.reload(server=SERVER + """
        location /changing/ {
            hotpath_read changing;
            hotpath_read_statement "SELECT 1::bigint, document, 0::bigint,
                $1 = '' FROM hotpath.changing WHERE key = $2";
            hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
        }
    """)
    yield
    own_stack.reload(server=SERVER)


@pytest.mark.parametrize("words", ["", " prepare=off"])
def test_a_table_changed_under_its_statement(own_stack, changing, words):
    """"cached plan must not change result type" is nothing clients see."""
    use(own_stack, DIRECT + words)
    stop = threading.Event()
    wrong = []
    count = 0

    def read(number):
        nonlocal count
        client = Client(own_stack.ports["http"])
        while not stop.is_set():
            answer = client.request("GET", f"/changing/k{number % 50 + 1}")
            number += 7
            count += 1
            if (answer.status, answer.body) != (200, b"1"):
                wrong.append(answer)
        client.close()

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    try:
        for kind in ("varchar(10)", "text", "varchar(20)", "text"):
            seen = count
            wait_until(lambda: count > seen + 200, 20, "reads go on")
            own_stack.sql("ALTER TABLE hotpath.changing"
                          f" ALTER COLUMN document TYPE {kind}")
        seen = count
        wait_until(lambda: count > seen + 200, 20, "reads go on")
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not wrong, wrong[:3]
    if not words:
        assert "cached plan must not change" in own_stack.log("nginx")


def test_what_gives_no_document(own_stack):
    """Another number of columns, no rows at all: 503, and a line in the log;
    the connection serves on."""
    def location(name, sql):
        return (f"location /{name}/ {{ hotpath_read {name}; hotpath_cache test"
                f' ttl=1ms stale=0; hotpath_read_statement "{sql}"; }}')
    where = "WHERE $1::text IS NOT NULL AND $2::text IS NOT NULL"
    own_stack.reload(server=SERVER + "".join([
        location("three", f"SELECT 1::bigint, '1', 0::bigint {where}"),
        location("five", f"SELECT 1::bigint, '1', 0::bigint, false, 1 {where}"),
        location("none", f"DELETE FROM hotpath.prices {where} AND false"),
        location("missing", f"SELECT 1 FROM hotpath.no_such_table {where}"),
        location("copies", "COPY (SELECT 1) TO STDOUT"),
        location("wrong", "SELEKT $1, $2"),
    ]))
    use(own_stack, DIRECT.replace("connections=4", "connections=1"))
    try:
        pids = {answer.json()["pid"] for answer in ask_many(
            own_stack, [f"/backend/{key()}" for _ in range(20)]).values()}
        for name in ("three", "five", "none", "missing", "copies", "wrong"):
            answer = own_stack.get(f"/{name}/{key()}")
            assert answer.status == 503, name
            assert answer.json()["code"] == "backend_unavailable"
            assert answer.seconds < 1
            assert own_stack.get(f"/say/{name}").json() == name
        log = own_stack.log("nginx")
        for line in ("gives 3 columns", "gives 5 columns", "it gives no rows",
                     "no_such_table", "syntax error"):
            assert line in log, line
        assert pids >= {answer.json()["pid"] for answer in ask_many(
            own_stack, [f"/backend/{key()}" for _ in range(20)]).values()}
    finally:
        own_stack.reload(server=SERVER)


def test_values_of_every_kind_arrive(own_stack):
    use(own_stack, DIRECT)
    for text in ("a b", "x'; DROP TABLE t; --", "é漢\U0001f600", "$1", "\\"):
        path = "/say/" + "".join(f"%{byte:02x}" for byte in text.encode())
        assert own_stack.get(path).json() == text
    # what Postgres cannot hold is refused before it is asked
    assert own_stack.get("/say/%ff%fe").status in (400, 503)
    assert own_stack.get("/say/after").json() == "after"


def high_water(stack):
    """VmHWM in MiB of the workers, and a fresh start for it."""
    most = 0
    for pid in stack.nginx_workers():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            most = max(most, int(re.search(r"VmHWM:\s+(\d+)",
                                           file.read()).group(1)) / 1024)
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    return most


@pytest.mark.parametrize("path", ["/long/300000000", "/rows/300000"])
def test_a_result_without_end_is_bounded(own_stack, path):
    """300 MB of answer, in one row or in many: refused at max_result, or what
    a server on the same machine sends while that is being found out."""
    use(own_stack, DIRECT + " max_result=2m timeout=20s")
    assert own_stack.get("/long/1000").json() == "x" * 1000
    high_water(own_stack)
    before = high_water(own_stack)
    retries = own_stack.metric("hotpath_postgres_retries_total")
    answer = own_stack.get(path)
    assert answer.status == 503
    assert high_water(own_stack) - before < 150
    # on a machine that is busy the time to read it may end first
    log = own_stack.log("nginx")
    assert ("larger than max_result" in log
            or "a result takes too long to read" in log)
    # what is too large is not asked for again
    assert own_stack.metric("hotpath_postgres_retries_total") == retries
    assert own_stack.get("/long/1500000").json() == "x" * 1500000
    assert own_stack.get("/rows/1000").status == 200


# PgBouncer.

FRONT = '"host=127.0.0.1 port=%d user=%s password=%s dbname=hotpath"'


@pytest.fixture(scope="module")
def gates(own_stack):
    open_gates(own_stack)
    # what the tests above have left the server to do
    wait_until(lambda: own_stack.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
        == [(0,)], 60, "Postgres has nothing to do")


class Asking:
    """Asks for what never repeats, from threads, until the block ends."""

    def __init__(self, stack, path="/backend/", threads=8):
        self.stack = stack
        self.path = path
        self.answers = []
        self.failures = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._ask, daemon=True)
                        for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.more(50)
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(30)

    def _ask(self):
        client = Client(self.stack.ports["http"])
        while not self.ended.is_set():
            answer = client.request("GET", self.path + key())
            (self.answers if answer.status == 200 else
             self.failures).append(answer)
        client.close()

    def more(self, count):
        seen = len(self.answers)
        wait_until(lambda: len(self.answers) >= seen + count, 30,
                   f"{count} more answers; failed: {self.failures[:2]}")

    def of(self, name):
        return {answer.json()[name] for answer in self.answers}

    def latest(self, name):
        return {answer.json()[name] for answer in self.answers[-50:]}


@pytest.mark.parametrize("auth, user, password", [
    ("scram-sha-256", "front", "fr0nt"), ("md5", "reader", "r3ader"),
])
def test_pgbouncer_in_transaction_mode(own_stack, gates, auth, user, password):
    """Many clients on few server connections, which are replaced meanwhile."""
    with Bouncer(own_stack, auth_type=auth, default_pool_size=3) as bouncer:
        use(own_stack, FRONT % (bouncer.port, user, password)
            + " connections=6 pgbouncer=on")
        # it remembers for a while that it could not log in
        wait_until(lambda: own_stack.get(f"/backend/{key()}").status == 200,
                   30, "PgBouncer has its first server connection")
        with Asking(own_stack, threads=16) as asking:
            asking.more(500)
            pids = asking.of("pid")
            assert 1 < len(pids) <= 3
            for _ in range(3):
                bouncer.reconnect(3)
                seen = len(asking.answers) + 50
                wait_until(lambda: len(asking.answers) > seen
                           and not asking.latest("pid") & pids, 20,
                           "all server connections are new")
                pids = asking.latest("pid")
            asking.more(500)
            clients = [each for each in bouncer.console("SHOW CLIENTS")
                       if each["database"] == "hotpath"]
            assert len(clients) > 3
        assert not asking.failures, asking.failures[:3]
        assert asking.of("user") == {user}
        assert asking.of("prepared") == {0}


def test_pgbouncer_leaves_errors_and_limits_alone(own_stack, gates):
    admin(own_stack, "ALTER ROLE front SET statement_timeout = '150ms'")
    try:
        with Bouncer(own_stack, default_pool_size=2) as bouncer:
            use(own_stack, FRONT % (bouncer.port, "front", "fr0nt")
                + " pgbouncer=on connections=2")
            assert own_stack.get(
                "/setting/statement_timeout").json() == "150ms"
            answer = own_stack.get(f"/sleep/3-{key()}")
            assert answer.status == 503 and answer.seconds < 0.9
            answers = ask_many(own_stack, [f"/divide/{n}" for n in range(100)],
                               threads=16)
            for path, answer in answers.items():
                assert answer.status == (503 if path.endswith("0") else 200)
    finally:
        admin(own_stack, "ALTER ROLE front RESET statement_timeout")


def test_the_sample_says_what_pgbouncer_takes(own_stack, gates):
    """Without pgbouncer=on the session's start is refused, and the log says
    so; with it the sample works as it stands."""
    with Bouncer(own_stack) as bouncer:
        words = FRONT % (bouncer.port, "front", "fr0nt")
        begun = os.path.getsize(bouncer.process.log)
        use(own_stack, words)
        assert own_stack.get(f"/say/{key()}").status == 503
        wait_until(lambda: "unsupported startup parameter"
                   in own_stack.log("nginx"), 10, "the log says why")
        use(own_stack, words + " pgbouncer=on")
        wait_until(lambda: own_stack.get("/say/x").status == 200, 30,
                   "the sample works")
        assert own_stack.get("/say/x").json() == "x"
        with open(bouncer.process.log, encoding="utf-8") as file:
            file.seek(begun)
            lines = file.readlines()
        assert not [line for line in lines
                    if re.search("ERROR|WARNING", line)
                    and "unsupported startup parameter" not in line
                    and "pooler error" not in line]


def pgbouncer_version():
    text = subprocess.run(["pgbouncer", "--version"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    return tuple(int(each) for each in
                 re.search(r"(\d+)\.(\d+)", text).groups())


@pytest.mark.skipif(pgbouncer_version() < (1, 21),
                    reason="needs PgBouncer 1.21")
def test_pgbouncer_with_prepared_statements(own_stack, gates):
    with Bouncer(own_stack, default_pool_size=3,
                 max_prepared_statements=50) as bouncer:
        use(own_stack, FRONT % (bouncer.port, "front", "fr0nt")
            + " connections=6 pgbouncer=on prepare=on")
        with Asking(own_stack, threads=16) as asking:
            asking.more(300)
            bouncer.reconnect(3)
            asking.more(300)
        assert not asking.failures, asking.failures[:3]
        assert 0 not in asking.of("prepared")


# Replicas.

@pytest.fixture(scope="module")
def replica(own_stack, gates):
    with Replica(own_stack) as instance:
        yield instance


def pair(stack, replica, more="", attrs="prefer-standby"):
    """The primary first, so that it is no accident where a read went."""
    return ('"host=127.0.0.1,127.0.0.1 user=postgres dbname=hotpath'
            f' port={stack.ports["postgres"]},{replica.port}'
            f' target_session_attrs={attrs}{more}" connections=3')


@pytest.mark.parametrize("attrs, standby", [
    ("prefer-standby", True), ("standby", True), ("read-only", True),
    ("read-write", False), ("primary", False), ("any", False),
])
def test_the_server_that_is_wanted(own_stack, replica, attrs, standby):
    use(own_stack, pair(own_stack, replica, attrs=attrs))
    answers = ask_many(own_stack, [f"/backend/{key()}" for _ in range(40)])
    assert statuses(answers) == {200}
    assert {answer.json()["standby"]
            for answer in answers.values()} == {standby}


def test_a_replica_goes_and_comes_back(own_stack, replica):
    """Nobody notices but the primary; and it is left again."""
    use(own_stack, pair(own_stack, replica))
    with Asking(own_stack, threads=6) as asking:
        assert asking.of("standby") == {True}
        replica.process.stop()
        try:
            asking.more(100)
            wait_until(lambda: asking.latest("standby") == {False}, 20,
                       "the primary answers")
        finally:
            replica.process.start()
        wait_until(lambda: asking.latest("standby") == {True}, 60,
                   "the replica answers again")
        asking.more(200)
    assert not asking.failures, asking.failures[:3]


def test_the_primary_moves(own_stack, gates):
    """target_session_attrs=read-write finds the one that was promoted."""
    with Replica(own_stack, "next") as other:
        use(own_stack, pair(own_stack, other, attrs="read-write"))
        with Asking(own_stack, threads=4) as asking:
            assert asking.of("port") == {own_stack.ports["postgres"]}
            own_stack.stop("postgres")
            try:
                admin(own_stack, "SELECT pg_promote()", port=other.port)
                wait_until(lambda: asking.latest("port") == {other.port}, 30,
                           "the promoted one answers")
            finally:
                own_stack.start("postgres")


def fetches(stack):
    return stack.metric("hotpath_read_requests_total", 'source="postgres"')


def answers_of_fetches(stack, name, count=30):
    """{(status, body)} of all answers while it is fetched so many times."""
    found = set()
    begin = fetches(stack)

    def ask():
        answer = stack.get(f"/short/{name}")
        found.add((answer.status, answer.body))
        return fetches(stack) >= begin + count
    wait_until(ask, 30, "it is fetched again and again")
    return found


def test_a_replica_that_lags_does_not_turn_time_back(own_stack, replica):
    """A pushed version, a pushed deletion: what the replica still has is
    older, and replaces neither."""
    kept, gone = key(), key()
    own_stack.reload(server=SERVER + """
        location /short/ {
            hotpath_read prices;
            hotpath_cache test ttl=20ms negative_ttl=20ms jitter=0%
                          stale=10m;
        }
    """)
    use(own_stack, pair(own_stack, replica))
    for name in (kept, gone):
        own_stack.sql("INSERT INTO hotpath.prices VALUES ('default', %s, 1,"
                      " '{\"v\":1}', now(), false, 0, 1)", (name,))
    wait_until(replica.caught_up, 20, "the replica has both")
    admin(own_stack, "SELECT pg_wal_replay_pause()", port=replica.port)
    try:
        for name in (kept, gone):
            assert own_stack.get(f"/short/{name}").json() == {"v": 1}
        own_stack.sql("UPDATE hotpath.prices SET version = 2,"
                      " document = '{\"v\":2}', deleted = key = %s"
                      " WHERE key IN (%s, %s)", (gone, kept, gone))
        with Nats(own_stack.ports["nats"]) as nats:
            nats.push("prices", [
                golden.document(b'{"v":2}', kept.encode(), b"default", 2),
                golden.document(b"", gone.encode(), b"default", 2,
                                deleted=True)])
        wait_until(lambda: own_stack.get(f"/short/{kept}").json() == {"v": 2}
                   and own_stack.get(f"/short/{gone}").status == 404, 10,
                   "both pushes have come")
        assert answers_of_fetches(own_stack, kept) == {(200, b'{"v":2}')}
        assert {status for status, _ in
                answers_of_fetches(own_stack, gone)} == {404}
    finally:
        admin(own_stack, "SELECT pg_wal_replay_resume()", port=replica.port)
    own_stack.sql("UPDATE hotpath.prices SET version = 3, deleted = false,"
                  " document = '{\"v\":3}' WHERE key IN (%s, %s)",
                  (kept, gone))
    for name in (kept, gone):
        wait_until(lambda: own_stack.get(f"/short/{name}").status == 200
                   and own_stack.get(f"/short/{name}").json() == {"v": 3}, 20,
                   "what is newer comes through the replica")


# Names.

class Names:
    """A name server on loopback: answers A with .address, others with none."""

    def __init__(self, address):
        self.address = address
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join(10)
        self.socket.close()

    def _answer(self):
        while True:
            try:
                query, sender = self.socket.recvfrom(512)
            except OSError:
                return
            if len(query) < 17:
                return
            self.asked += 1
            end = query.index(b"\0", 12) + 5
            found = (query[end - 4:end - 2] == b"\0\1"
                     and self.address is not None)
            head = query[:2] + struct.pack(
                ">HHHHH", 0x8180 if self.address else 0x8182, 1, found, 0, 0)
            body = query[12:end]
            if found:
                body += b"\xc0\x0c" + struct.pack(
                    ">HHIH", 1, 1, 1, 4) + socket.inet_aton(self.address)
            self.socket.sendto(head + body, sender)


def everybody_off(stack):
    admin(stack, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE application_name = 'hotpath'")


def test_a_name_is_asked_for_again(own_stack, gates):
    """The address behind a name moves: the next connection goes there. A name
    server that fails costs nothing but its own half second."""
    port = own_stack.ports["postgres"]
    with Names("127.0.0.1") as names, \
            Proxy(port, host="127.0.0.2", port=port) as moved:
        use(own_stack, DIRECT.replace("127.0.0.1", "localhost"), http=HTTP
            + f"resolver 127.0.0.1:{names.port} valid=1s ipv6=off;")
        try:
            assert own_stack.get(f"/say/{key()}").status == 200
            assert names.asked > 0 and moved.accepted == 0
            names.address = "127.0.0.2"

            def arrived():
                everybody_off(own_stack)
                return (own_stack.get(f"/say/{key()}").status == 200
                        and moved.accepted > 0)
            wait_until(arrived, 20, "connections go to the new address")
            names.address = None
            seen = moved.accepted

            def again():
                everybody_off(own_stack)
                return (own_stack.get(f"/say/{key()}").status == 200
                        and moved.accepted > seen
                        and "its last addresses stay" in own_stack.log("nginx"))
            wait_until(again, 20, "the last address stays")
        finally:
            use(own_stack, DIRECT, http=HTTP)


def test_without_a_resolver_addresses_stay(own_stack, gates):
    use(own_stack, DIRECT.replace("127.0.0.1", "localhost"))
    for _ in range(3):
        with Asking(own_stack, threads=4) as asking:
            everybody_off(own_stack)
            asking.more(100)
        # a server that comes back at once is not missed
        assert not asking.failures, asking.failures[:3]


@pytest.mark.skipif(psycopg2.extensions.libpq_version() < 160000,
                    reason="needs libpq 16")
def test_load_is_spread_over_hosts(own_stack, replica):
    use(own_stack, pair(own_stack, replica, " load_balance_hosts=random",
                        attrs="any"))

    def both():
        everybody_off(own_stack)
        with Asking(own_stack, threads=2) as asking:
            asking.more(20)
        return asking.of("standby") == {True, False}
    wait_until(both, 60, "either server was chosen")
