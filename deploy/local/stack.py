#!/usr/bin/python3
"""The real servers of one Hotpath instance, on loopback, below one directory.

nats-server, redis, a private postgres cluster, hotpath-drain, hotpath-project
and nginx with the module. As a command it is the stack of `make run`, below
var/run on fixed ports; the tests (tests/servers.py) and the benchmark make
stacks of their own, on free ports, from the same class and so with the same
configuration files (config/).

Started by root, every server runs as an unprivileged user; where that user
cannot reach the directory (a clone below /root), it gets the one capability
to look up and read files, so that no permission outside var/ is changed.

Standard library only. Owns its directory and nothing else. Must not happen
here: a file written elsewhere, a process stopped that it did not start, a
database superuser that can be reached over the network.
Documented in README.md ("Two commands"); tested by tests/integration/.
"""

import fcntl
import glob
import http.client
import json
import os
import pwd
import random
import re
import secrets
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from procs import (  # noqa: E402
    Process, StackError, port_owner, port_taken, tail, wait_until)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("HOTPATH_BUILD")
                        or os.path.join(ROOT, "var", "build"))
HOST = "127.0.0.1"

# Start order; stopped the other way round.
NAMES = ("nats", "redis", "postgres", "drain", "project", "nginx")

# What listens, the environment variable that changes the port of the local
# stack, and its default there.
PORTS = {
    "http": ("HOTPATH_PORT", 8080),
    "nats": ("HOTPATH_PORT_NATS", 14222),
    "nats_monitor": ("HOTPATH_PORT_NATS_MONITOR", 18222),
    "redis": ("HOTPATH_PORT_REDIS", 16379),
    "postgres": ("HOTPATH_PORT_POSTGRES", 15432),
    "drain": ("HOTPATH_PORT_DRAIN", 19101),
    "project": ("HOTPATH_PORT_PROJECT", 19102),
}

# The whole environment of a server, but for what is its own: one started from
# another terminal is no other server.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                       "/sbin:/bin", "LC_ALL": "C.UTF-8"}

NGINX_CONF = """\
# Written by deploy/local/stack.py at every start; change config/ instead.
load_module {module};
{main}
worker_processes {workers};
worker_shutdown_timeout 15s;
daemon off;
pid nginx.pid;
error_log stderr {log_level};
events {{
    worker_connections {connections};
}}
http {{
    include {config}/paths.conf;
    access_log off;
    include backends.conf;
    include {hotpath};
    {http}
    server {{
        listen {host}:{port} backlog=4096;
        {server}
        include {routes};
    }}
}}
"""

BACKENDS_CONF = """\
# Written by deploy/local/stack.py; the form to copy is config/backends.conf.
hotpath_nats nats://{host}:{nats};
hotpath_redis {host}:{redis} timeout=100ms;
hotpath_postgres "{conninfo}" connections=4;
"""


def default_ports():
    """The local stack's ports, as the environment wants them."""
    ports = {}
    for what, (variable, port) in PORTS.items():
        text = os.environ.get(variable, "") or str(port)
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise StackError(f"{variable}={text} is not a port")
        ports[what] = int(text)
    if len(set(ports.values())) != len(ports):
        raise StackError("two servers are given the same port: " + ", ".join(
            f"{PORTS[what][0]}={port}" for what, port in ports.items()))
    return ports


def free_ports():
    """As many ports as a stack needs, free just now and below the range
    from which outgoing connections take theirs."""
    ports = {}
    for what in PORTS:
        while True:
            port = random.randrange(20000, 32000)
            if port not in ports.values() and not port_taken(port):
                break
        ports[what] = port
    return ports


def http_get(port, path, timeout_s=1):
    """Status and text of a GET on loopback, None and "" without answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None, ""
    finally:
        connection.close()


def http_status(port, path):
    return http_get(port, path)[0]


def _reachable(path):
    """Whether any user may walk to a directory."""
    while True:
        if not os.stat(path).st_mode & 0o001:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def _postgres_bin():
    """Where the newest installed postgres has its programs."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"),
                   key=lambda path: int(path.split("/")[4]))
    return os.path.dirname(found[-1]) if found else "/usr/lib/postgresql"


def _write(path, text):
    """Replaces a file only where its text is another one."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        pass
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class Stack:
    """One instance. Every argument but the directory has a default.

    ports         dict with the keys of PORTS; default: free ones
    module        the module's file; nginx: the program that loads it
    workers       nginx worker processes; connections: of each
    hotpath       file or text for config/hotpath.conf (the http level)
    routes        file or text for config/routes.conf (the locations)
    backends      text added to backends.conf, or a function of its text
    main, http, server   text added at that level of nginx.conf
    env           dict added to the environment of the workers and of nginx
    settings      {"drain": {...}, "project": {...}} settings of one worker,
                  by their names in the settings file
    without       names of servers that up() only prepares
    """

    def __init__(self, directory, ports=None, *, module=None, nginx=None,
                 workers=2, connections=4096, hotpath=None, routes=None,
                 backends="", main="", http="", server="", env=None,
                 settings=None,
                 without=(), log_level="notice"):
        self.directory = os.path.abspath(directory)
        self.ports = ports or free_ports()
        self.module = os.path.abspath(
            module or os.environ.get("HOTPATH_MODULE")
            or os.path.join(BUILD, "ngx_http_hotpath_module.so"))
        self.nginx = (nginx or os.environ.get("HOTPATH_NGINX")
                      or "/usr/sbin/nginx")
        self.options = {"workers": workers, "connections": connections,
                        "main": main, "http": http, "server": server,
                        "log_level": log_level}
        self.hotpath = hotpath or self._config("hotpath.conf")
        self.routes = routes or self._config("routes.conf")
        self.backends = backends
        self.env = dict(env or {})
        self.settings = settings or {}
        self.without = tuple(without)
        self.url = f"http://{HOST}:{self.ports['http']}"
        os.makedirs(self.directory, exist_ok=True)
        self.processes = {}
        for name in NAMES:
            self.processes[name] = getattr(self, f"_make_{name}")()

    # What the servers are.

    @staticmethod
    def _config(name):
        return os.path.join(ROOT, "config", name)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def conninfo(self):
        return (f"host={HOST} port={self.ports['postgres']} "
                "user=hotpath dbname=hotpath")

    def worker_env(self, name=None):
        """The environment of a worker or of hotpathctl."""
        env = dict(
            ENVIRONMENT,
            HOTPATH_NATS_URL=f"nats://{HOST}:{self.ports['nats']}",
            HOTPATH_POSTGRES=self.conninfo(),
            HOTPATH_REDIS=f"{HOST}:{self.ports['redis']}",
            HOTPATH_SCHEMAS_DIR=os.path.join(ROOT, "schemas"))
        if name:
            env["HOTPATH_HEALTH_LISTEN"] = f"{HOST}:{self.ports[name]}"
        for key, value in self.settings.get(name, {}).items():
            env["HOTPATH_" + key.upper()] = str(value)
        env.update(self.env)
        return env

    def _as_user(self, user):
        """The words before a command that make it run as that user."""
        if os.geteuid() != 0:
            return []
        words = ["setpriv", f"--reuid={user}",
                 f"--regid={pwd.getpwnam(user).pw_gid}", "--init-groups"]
        if not _reachable(self.directory) or not _reachable(ROOT):
            words += ["--inh-caps=+dac_read_search",
                      "--ambient-caps=+dac_read_search"]
        return words

    def _owned(self, user, *parts):
        """A directory that belongs to the user a server runs as."""
        path = self.path(*parts)
        os.makedirs(path, exist_ok=True)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return path

    @staticmethod
    def _write_secret(path, user):
        """A file with a secret that only this user reads; made once."""
        if os.path.exists(path):
            return
        with open(path, "x", encoding="ascii", opener=lambda name, flags:
                  os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        if os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _process(self, name, user, command, ready, port, **more):
        more.setdefault("env", ENVIRONMENT)
        return Process(name, self.directory, self._as_user(user) + command,
                       ready=ready, port=self.ports[port], **more)

    def _make_nats(self):
        binary = os.path.join(ROOT, "var", "bin", "nats-server")
        conf = self._config("nats-server.conf")
        monitor = self.ports["nats_monitor"]
        with open(self._config("nats-server.env"), encoding="utf-8") as file:
            own = dict(re.findall(r"^(\w+)=(.*)$", file.read(), re.M))
        return self._process(
            "nats", "nobody",
            [binary, "-c", conf, "-a", HOST, "-p", self.ports["nats"],
             "-m", monitor, "-sd", self.path("nats")],
            lambda: http_status(monitor, "/healthz") == 200, "nats",
            watched=(conf,), env={**ENVIRONMENT, **own})

    def _redis_ready(self):
        try:
            with socket.create_connection(
                    (HOST, self.ports["redis"]), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _make_redis(self):
        conf = self._config("redis.conf")
        # Valkey understands the same words.
        binary = os.environ.get("HOTPATH_REDIS_SERVER") or "redis-server"
        return self._process(
            "redis", "nobody",
            [binary, conf, "--bind", HOST, "--port",
             self.ports["redis"], "--dir", self.path("redis")],
            self._redis_ready, "redis", watched=(conf,))

    def _make_postgres(self):
        binaries = _postgres_bin()
        probe = [os.path.join(binaries, "pg_isready"), "-q", "-t", "2",
                 "-h", HOST, "-p", str(self.ports["postgres"])]
        return self._process(
            "postgres", "postgres",
            [os.path.join(binaries, "postgres"), "-D", self.path("postgres"),
             "-c", f"listen_addresses={HOST}",
             "-c", f"port={self.ports['postgres']}",
             "-c", "unix_socket_directories=", "-c", "max_connections=100",
             "-c", "log_line_prefix=%m [%p] "],
            lambda: subprocess.run(probe, check=False).returncode == 0,
            "postgres", stop_signals=(signal.SIGINT, signal.SIGQUIT))

    def _make_worker(self, name):
        binary = os.path.join(BUILD, "workers", f"hotpath-{name}")
        conf = self._config(f"{name}.json")
        return self._process(
            name, "nobody", [binary, "-c", conf],
            lambda: http_status(self.ports[name], "/health/ready") == 200,
            name, env=self.worker_env(name),
            watched=(binary, conf, *sorted(glob.glob(
                os.path.join(ROOT, "schemas", "**", "*.[sj]*"),
                recursive=True))))

    def _make_drain(self):
        return self._make_worker("drain")

    def _make_project(self):
        return self._make_worker("project")

    def _make_nginx(self):
        conf = self.path("nginx", "nginx.conf")
        env = {**ENVIRONMENT, **self.env}
        # A module built with a sanitizer needs its runtime loaded first.
        if os.environ.get("HOTPATH_PRELOAD"):
            env["LD_PRELOAD"] = os.environ["HOTPATH_PRELOAD"]
            env.setdefault("ASAN_OPTIONS", "detect_leaks=0")
        samples = glob.glob(self._config("*.conf"))
        return self._process(
            "nginx", "nobody",
            [self.nginx, "-e", "stderr", "-p", self.path("nginx"),
             "-c", conf],
            lambda: http_status(self.ports["http"], "/health/live"), "http",
            env=env, watched=(conf, self.path("nginx", "backends.conf"),
                              self.module, *samples),
            stop_signals=(signal.SIGQUIT, signal.SIGTERM))

    # What has to be there before a server starts.

    def _prepare_nats(self):
        self._owned("nobody", "nats")

    def _prepare_redis(self):
        self._owned("nobody", "redis")

    def _prepare_postgres(self):
        data = self._owned("postgres", "postgres")
        os.chmod(data, 0o700)
        if os.path.exists(os.path.join(data, "hotpath-ready")):
            return
        for name in os.listdir(data):
            subprocess.run(["rm", "-rf", os.path.join(data, name)],
                           check=True)
        binaries = _postgres_bin()
        self._run(self._as_user("postgres") + [
            os.path.join(binaries, "initdb"), "-D", data, "-U", "postgres",
            "-E", "UTF8", "--locale=C.UTF-8", "--auth=reject", "--no-sync"])
        # One role, without rights beyond its own database, from this machine.
        _write(os.path.join(data, "pg_hba.conf"),
               f"host hotpath hotpath {HOST}/32 trust\n")
        self._run(self._as_user("postgres") + [
            os.path.join(binaries, "postgres"), "--single", "-D", data,
            "postgres"],
            "CREATE ROLE hotpath LOGIN\n"
            "CREATE DATABASE hotpath OWNER hotpath\n")
        _write(os.path.join(data, "hotpath-ready"), "")

    def _prepare_drain(self):
        """The schema and the streams stand before anybody uses them."""
        self.ctl("migrate")

    def _prepare_project(self):
        pass

    def _prepare_nginx(self):
        self._owned("nobody", "nginx")
        self._write_secret(self.path("nginx", "cursor.secret"), "nobody")
        self._write_secret(self.path("nginx", "purge.tokens"), "nobody")
        self.write_nginx_conf()

    def write_nginx_conf(self):
        """Also for a reload with other options: change self.options,
        self.routes …, call this, then signal SIGHUP."""
        os.makedirs(self.path("nginx"), exist_ok=True)
        files = {}
        for name in ("hotpath", "routes"):
            value = getattr(self, name)
            if os.path.isfile(value):
                files[name] = value
            else:
                files[name] = self.path("nginx", f"{name}.conf")
                _write(files[name], value + "\n")
        backends = BACKENDS_CONF.format(
            host=HOST, nats=self.ports["nats"], redis=self.ports["redis"],
            conninfo=self.conninfo())
        if callable(self.backends):
            backends = self.backends(backends)
        else:
            backends += self.backends
        _write(self.path("nginx", "backends.conf"), backends)
        _write(self.path("nginx", "nginx.conf"), NGINX_CONF.format(
            module=self.module, config=os.path.join(ROOT, "config"),
            host=HOST, port=self.ports["http"], **files, **self.options))

    def _run(self, command, text=None, env=None):
        done = subprocess.run(
            command, input=text, env=env, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=120, text=True, check=False,
            cwd="/")
        if done.returncode != 0:
            raise StackError(f"{' '.join(command)}: exit status "
                             f"{done.returncode}\n{done.stdout}")
        return done.stdout

    def ctl(self, *words):
        """Runs hotpathctl; gives what it prints."""
        return self._run([os.path.join(BUILD, "workers", "hotpathctl"),
                          *words], env=self.worker_env())

    def psql(self, query):
        """Runs SQL through psql; a list of rows, each a list of texts."""
        binary = os.path.join(_postgres_bin(), "psql")
        text = self._run([binary, "-X", "-q", "-A", "-t", "-F", "\t", "-v",
                          "ON_ERROR_STOP=1", "-d", self.conninfo(),
                          "-c", query])
        return [line.split("\t") for line in text.splitlines()]

    # Starting and stopping.

    def __getitem__(self, name):
        return self.processes[name]

    def start(self, name):
        getattr(self, f"_prepare_{name}")()
        self.processes[name].start()

    def stop(self, name):
        return self.processes[name].stop()

    def up(self, say=lambda text: None):
        """Starts what does not run, restarts what has changed. The names of
        what was started."""
        self._prepare_nginx()
        started = []
        for name in NAMES:
            process = self.processes[name]
            if name in self.without:
                getattr(self, f"_prepare_{name}")()
                continue
            if process.pid() is not None and process.stale():
                say(f"{name}: changed, restarting")
                process.stop()
            if process.pid() is None:
                self.start(name)
                started.append(name)
                say(f"{name}: up at {HOST}:{process.port}")
            else:
                process.wait_ready()
        return started

    def _connected(self):
        """Every nginx worker has its broker; 1 where it cannot be asked."""
        status, body = http_get(self.ports["http"], "/metrics")
        match = re.search(r"^hotpath_nats_connections (\d+)", body, re.M)
        return status != 200 or not match or (
            int(match.group(1)) >= int(self.options["workers"]))

    def wait_ready(self, timeout_s=30):
        """Until the instance says that it is ready for traffic. That is the
        word of the one worker that was asked; the metrics speak for all."""
        wait_until(
            lambda: http_status(self.ports["http"], "/health/ready") == 200,
            timeout_s, f"{self.url}/health/ready answers 200")
        wait_until(self._connected, timeout_s,
                   "every nginx worker is connected to the broker")

    def down(self, say=lambda text: None):
        for name in reversed(NAMES):
            process = self.processes[name]
            if process.pid() is not None:
                asked = process.stop()
                say(f"{name}: stopped" if asked else f"{name}: killed")
            else:
                process.end_members()

    def logs(self):
        """name -> path of the log."""
        return {name: self.processes[name].log for name in NAMES}


# The command line: the stack of `make run`.

RUN = os.path.join(ROOT, "var", "run")


def _ports_file():
    return os.path.join(RUN, "ports.json")


def local_stack():
    """The stack of `make run`: on the ports it runs on, if it runs."""
    ports = default_ports()
    try:
        with open(_ports_file(), encoding="utf-8") as file:
            last = json.load(file)
    except (FileNotFoundError, ValueError):
        return Stack(RUN, ports)
    running = Stack(RUN, {**ports, **last})
    if any(running[name].pid() for name in NAMES):
        return running
    return Stack(RUN, ports)


def _check_ports(stack):
    taken = []
    for name in NAMES:
        if stack[name].pid() is not None:
            continue
        key = "http" if name == "nginx" else name
        keys = [key, "nats_monitor"] if name == "nats" else [key]
        for what in keys:
            port = stack.ports[what]
            if port_taken(port):
                owner = port_owner(port)
                by = f" by {owner}" if owner else ""
                taken.append(f"port {port} ({what}) is taken{by}; choose "
                             f"another: make run {PORTS[what][0]}=PORT")
    if taken:
        raise StackError("\n".join(taken))


def command_up():
    stack = local_stack()
    wanted = default_ports()
    if stack.ports != wanted:
        print("stack: runs on the ports it was started with "
              "(make stop first, to change them)")
    for name in NAMES:
        if stack[name].pid() is None:
            stack[name].end_members()
    _check_ports(stack)
    with open(_ports_file(), "w", encoding="utf-8") as file:
        json.dump(stack.ports, file)
    started = stack.up(lambda text: print(f"stack: {text}", flush=True))
    stack.wait_ready()
    if not started:
        print("stack: already up")
    print(f"stack: ready at {stack.url}")


def command_down():
    stack = local_stack()
    stack.down(lambda text: print(f"stack: {text}", flush=True))
    print("stack: down; its data stays in var/run (make clean removes it)")


def command_status():
    stack = local_stack()
    down = 0
    for name in NAMES:
        process = stack[name]
        if process.pid() is None:
            down += 1
            print(f"{name:10} down")
            continue
        state = "ready" if process.ready() else "not ready"
        print(f"{name:10} {state:10} {HOST}:{process.port:<6} "
              f"pid {process.pid():<8} up {process.uptime_s():.0f} s")
    if down < len(NAMES):
        print(f"{'instance':10} {stack.url}/health/ready answers "
              f"{http_status(stack.ports['http'], '/health/ready')}")
        print(f"{'database':10} psql \"{stack.conninfo()}\"")
    return 1 if 0 < down < len(NAMES) else 0


def command_logs():
    for name, path in local_stack().logs().items():
        print(f"==> {name}: {path}")
        print(tail(path))


def command_ports():
    print("\n  Ports of the local stack, and how to change them:")
    for what, (variable, port) in PORTS.items():
        print(f"  {what:14} {port:<6} make run {variable}=PORT")


def main(words):
    commands = {"up": command_up, "down": command_down, "ports":
                command_ports, "status": command_status, "logs": command_logs}
    if len(words) != 1 or words[0] not in commands:
        print(f"usage: stack.py {'|'.join(commands)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # make logs | head
    os.umask(0o022)
    os.makedirs(RUN, exist_ok=True)
    try:
        with open(os.path.join(RUN, "lock"), "w", encoding="ascii") as lock:
            if words[0] in ("up", "down"):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StackError("another make run or make stop is at "
                                     "work here") from None
            return commands[words[0]]() or 0
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
