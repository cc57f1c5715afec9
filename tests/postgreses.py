"""Postgres servers beside a stack's own, and what the tests of the Postgres
backend say to all of them.

    open_gates(stack)           roles: postgres and replication from here
                                without a password, front and reader with one
    admin(stack, "SQL", …)      as superuser; port=… for another server
    with Replica(stack) as replica:
        replica.port, .process  a streaming copy on a port of its own
        replica.caught_up()     whether it has all that the primary has
    with Bouncer(stack, max_clients="50") as bouncer:
        bouncer.port, .process  the distribution's PgBouncer on
                                config/pgbouncer.ini, with what differs here
    SERVER                      locations whose statements do as they are told
    backends(postgres, …)       changes a stack's backends.conf

Directories are below the stack's own. Nothing sleeps here.
"""

import os
import signal
import subprocess

import psycopg2

from procs import Process
from servers import ROOT, local, wait_until

# Locations beside those of the sample. What follows the name is $2; the answer
# is one document. Nothing is kept for longer than a moment.
SERVER = """
    add_header X-Worker $pid always;
    location /say/ {
        hotpath_read say;
        hotpath_read_statement "SELECT 1::bigint, to_json($2::text)::text,
            0::bigint, $1 = ''";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
    location /sleep/ {
        hotpath_read sleep;
        hotpath_read_statement "SELECT 1::bigint, to_json($2::text)::text,
            0::bigint, $1 = '' FROM pg_sleep(split_part($2, '-', 1)::float)";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
    location /setting/ {
        hotpath_read setting;
        hotpath_read_statement "SELECT 1::bigint, to_json(current_setting(
            $2::text))::text, 0::bigint, $1 = ''";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
    location /divide/ {
        hotpath_read divide;
        hotpath_read_statement "SELECT 1::bigint, (10 / ($2::int % 10))::text,
            0::bigint, $1 = ''";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
    location /long/ {
        hotpath_read long;
        hotpath_read_statement "SELECT 1::bigint,
            to_json(repeat('x', $2::int))::text, 0::bigint, $1 = ''";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
    location /rows/ {
        hotpath_read rows;
        hotpath_read_statement "SELECT 1::bigint, repeat('x', 1000),
            0::bigint, $1 = '' FROM generate_series(1, $2::int)";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
    location /backend/ {
        hotpath_read backend;
        hotpath_read_statement "SELECT 1::bigint, json_build_object(
            'pid', pg_backend_pid(), 'port', inet_server_port(),
            'standby', pg_is_in_recovery(), 'user', current_user,
            'prepared', (SELECT count(*) FROM pg_prepared_statements),
            'key', $2::text)::text, 0::bigint, $1 = ''";
        hotpath_cache test ttl=1ms negative_ttl=1ms stale=0;
    }
"""
HTTP = "hotpath_cache_zone zone=test:4m;"


def backends(postgres, redis=False):
    """For TestStack: without Redis, and with other words for Postgres. In
    postgres, {port} and {…} of any name given later stand for numbers."""
    def change(text):
        lines = [line for line in text.splitlines()
                 if not line.startswith("hotpath_postgres")
                 and (redis or not line.startswith("hotpath_redis"))]
        return "\n".join(lines + [f"hotpath_postgres {postgres};"]) + "\n"
    return change


def open_gates(stack):
    path = stack.path("postgres", "pg_hba.conf")
    with open(path, "a", encoding="utf-8") as file:
        for line in ("host all postgres 127.0.0.1/32 trust",
                     "host replication postgres 127.0.0.1/32 trust",
                     "host hotpath front 127.0.0.1/32 scram-sha-256",
                     "host hotpath reader 127.0.0.1/32 md5"):
            file.write(line + "\n")
    stack["postgres"].signal(signal.SIGHUP)

    def enter():
        try:
            admin(stack, "SELECT 1")
            return True
        except psycopg2.OperationalError:
            return False
    wait_until(enter, 10, "postgres has read its new rules")
    admin(stack, "SET password_encryption = 'scram-sha-256';"
                 "CREATE ROLE front LOGIN PASSWORD 'fr0nt';"
                 "SET password_encryption = 'md5';"
                 "CREATE ROLE reader LOGIN PASSWORD 'r3ader'")


def admin(stack, query, parameters=None, port=None):
    connection = psycopg2.connect(
        f"host={local.HOST} port={port or stack.ports['postgres']}"
        " user=postgres dbname=hotpath", connect_timeout=10)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def _free_port():
    return local.free_ports()["postgres"]


class _Beside:
    """A server of its own that ends with the block."""

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.stop()


class Replica(_Beside):
    def __init__(self, stack, name="replica", **settings):
        self.stack = stack
        self.port = _free_port()
        binaries = local._postgres_bin()
        data = stack._owned("postgres", name)
        os.chmod(data, 0o700)
        stack._run(stack._as_user("postgres") + [
            os.path.join(binaries, "pg_basebackup"), "-D", data, "-R",
            "-c", "fast", "-d", f"host={local.HOST} user=postgres"
            f" port={stack.ports['postgres']} application_name={name}"])
        words = [f"port={self.port}", f"listen_addresses={local.HOST}",
                 "unix_socket_directories="]
        words += [f"{key}={value}" for key, value in settings.items()]
        probe = [os.path.join(binaries, "pg_isready"), "-q", "-t", "2",
                 "-h", local.HOST, "-p", str(self.port)]
        command = [os.path.join(binaries, "postgres"), "-D", data]
        for word in words:
            command += ["-c", word]
        self.process = Process(
            name, stack.directory, stack._as_user("postgres") + command,
            local.ENVIRONMENT,
            lambda: subprocess.run(probe, check=False).returncode == 0,
            self.port, stop_signals=(signal.SIGINT, signal.SIGQUIT))

    def caught_up(self):
        (sent,), = admin(self.stack, "SELECT pg_current_wal_lsn()")
        (done,), = admin(
            self.stack, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn",
            (sent,), port=self.port)
        return done


class Bouncer(_Beside):
    """More words are settings of its [pgbouncer] section."""

    def __init__(self, stack, name="pgbouncer", **settings):
        self.port = _free_port()
        directory = stack._owned("nobody", name)
        with open(os.path.join(ROOT, "config", "pgbouncer.ini"),
                  encoding="utf-8") as file:
            text = file.read()
        users = os.path.join(directory, "users.txt")
        # the password itself serves md5, scram and the way to the server
        local._write(users, '"front" "fr0nt"\n"reader" "r3ader"\n')
        settings = {"listen_addr": local.HOST, "listen_port": self.port,
                    "auth_file": users, **settings}
        lines = []
        for line in text.splitlines():
            key = line.partition("=")[0].strip()
            if key in settings:
                line = f"{key} = {settings.pop(key)}"
            elif key == "hotpath":
                line = (f"hotpath = host={local.HOST}"
                        f" port={stack.ports['postgres']} dbname=hotpath")
            lines.append(line)
        lines += [f"{key} = {value}" for key, value in settings.items()]
        path = os.path.join(directory, "pgbouncer.ini")
        local._write(path, "\n".join(lines) + "\n")
        self.process = Process(
            name, stack.directory,
            stack._as_user("nobody") + ["pgbouncer", path],
            local.ENVIRONMENT, lambda: local.port_taken(self.port),
            self.port)

    def console(self, command):
        """Of the admin console: a list of dicts."""
        connection = psycopg2.connect(
            f"host={local.HOST} port={self.port} dbname=pgbouncer"
            " user=front password=fr0nt", connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(command)
                names = [each[0] for each in cursor.description or ()]
                return [dict(zip(names, row))
                        for row in (cursor.fetchall() if names else ())]
        finally:
            connection.close()

    def reconnect(self, servers):
        """Has that many server connections replaced, once all are there: one
        that RECONNECT cuts off in its login is a failed login to PgBouncer,
        and for a while it refuses everyone for that."""
        wait_until(lambda: servers == sum(
            pool["sv_active"] + pool["sv_idle"]
            for pool in self.console("SHOW POOLS")
            if pool["database"] == "hotpath"), 20,
            f"{servers} server connections are logged in")
        self.console("RECONNECT")
