"""Server processes that outlive the program which starts them.

A Process is one server: its command, where its pid and log are, when it is
ready and how it ends. Each runs in a session of its own, so that a terminal's
Ctrl-C does not reach it. What a pid file names is only believed together with
the start time that /proc gives for that pid: no stranger who got the same pid
later is ever signalled. Every wait is for a condition and has a deadline.

Standard library only, and nothing here knows Hotpath; deploy/local/stack.py
says which servers there are. Must not happen here: a signal to a process that
was not started here, a wait without a deadline, a shell.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import time


# A log larger than this is put aside at the next start; one is kept.
LOG_MAX = 16 * 1024 * 1024


class StackError(Exception):
    """Something a person has to read; the message is all of it."""


def wait_until(condition, timeout_s, what, every_s=0.02):
    """The first true value that condition() gives, within timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise StackError(f"not within {timeout_s} s: {what}")
        time.sleep(every_s)


def _stat(pid):
    """(state, parent, session, start time) of a pid, or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1]), int(fields[3]), int(fields[19])


def _processes():
    """pid -> _stat() of everything alive."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(int(name))
            if stat and stat[0] not in "ZX":
                found[int(name)] = stat
    return found


def _kill(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def port_taken(port, host="127.0.0.1"):
    """1 where something listens there (or this user may not)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def port_owner(port):
    """'name (pid N)' of whoever listens on a TCP port, or ''."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except FileNotFoundError:
            continue
        inodes |= {
            f"socket:[{row[9]}]" for row in rows
            if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port
        }
    for pid in _processes() if inodes else ():
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                        return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue
    return ""


def tail(path, lines=20):
    """The last lines of a text file; '' where it is missing."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class Process:
    """One server.

    command  list of words            ready     called until it gives true
    env      its whole environment    cwd       its working directory
    watched  files; a change of one, of the command or of the environment
             makes stale() true       port      what it listens on
    stop_signals  tried in this order, before SIGKILL
    """

    def __init__(self, name, directory, command, env, ready, port, *,
                 cwd=None, watched=(), stop_signals=(signal.SIGTERM,)):
        self.name = name
        self.command = [str(word) for word in command]
        self.env = env
        self.ready = ready
        self.port = port
        self.cwd = cwd
        self.watched = [str(path) for path in watched]
        self.stop_signals = stop_signals
        self.log = os.path.join(directory, "log", f"{name}.log")
        self.pid_file = os.path.join(directory, "pid", f"{name}.json")
        self._child = None
        self._orphans = {}
        for path in (self.log, self.pid_file):
            os.makedirs(os.path.dirname(path), exist_ok=True)

    def _fingerprint(self):
        seen = [self.command, sorted(self.env.items())]
        for path in self.watched:
            stat = os.stat(path)
            seen.append([path, stat.st_mtime_ns, stat.st_size])
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def _record(self):
        try:
            with open(self.pid_file, encoding="utf-8") as file:
                return json.load(file)
        except (FileNotFoundError, ValueError):
            return None

    def _reap(self):
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def pid(self):
        """Its pid, or None where it does not run."""
        self._reap()
        record = self._record()
        stat = _stat(record["pid"]) if record else None
        if stat and stat[3] == record["start"] and stat[0] not in "ZX":
            return record["pid"]
        return None

    def stale(self):
        """Runs, but not what would be started now."""
        record = self._record()
        return bool(record) and record["fingerprint"] != self._fingerprint()

    def uptime_s(self):
        record = self._record()
        ticks = os.sysconf("SC_CLK_TCK")
        with open("/proc/uptime", encoding="ascii") as file:
            return float(file.read().split()[0]) - record["start"] / ticks

    def members(self):
        """Its pids, the first one first: its session and its descendants."""
        record = self._record()
        if not record:
            return []
        table = _processes()
        if record["pid"] in table and \
                table[record["pid"]][3] != record["start"]:
            return []  # somebody else has the number now
        mine = {record["pid"]}
        grown = True
        while grown:
            more = {
                pid for pid, (_, parent, session, start) in table.items()
                if (parent in mine or session == record["pid"])
                and start >= record["start"]
            }
            grown = not more <= mine
            mine |= more
        return sorted(mine & set(table), key=lambda pid: table[pid][3])

    def start(self, timeout_s=30):
        """Starts it and waits until it is ready."""
        if self.pid() is not None:
            raise StackError(f"{self.name} runs already (pid {self.pid()})")
        self.end_members()
        try:
            # a killed process is gone before all of its threads let go
            wait_until(lambda: not port_taken(self.port), 2, "a free port")
        except StackError:
            owner = port_owner(self.port)
            by = f" by {owner}" if owner else ""
            raise StackError(f"{self.name}: port {self.port} is taken"
                             f"{by}") from None
        if os.path.exists(self.log) and os.stat(self.log).st_size > LOG_MAX:
            os.replace(self.log, self.log + ".1")
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            self._child = subprocess.Popen(
                self.command, env=self.env, cwd=self.cwd, stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise StackError(f"{self.name}: {error}") from error
        finally:
            os.close(log)
        stat = _stat(self._child.pid)
        record = {"pid": self._child.pid, "start": stat[3],
                  "fingerprint": self._fingerprint(), "command": self.command}
        with open(self.pid_file + ".new", "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.replace(self.pid_file + ".new", self.pid_file)
        self.wait_ready(timeout_s)

    def wait_ready(self, timeout_s=30):
        def check():
            if self.pid() is None:
                raise StackError(f"{self.name} ended while it was starting; "
                                 f"the end of {self.log}:\n{tail(self.log)}")
            return self.ready()
        try:
            wait_until(check, timeout_s, f"{self.name} is ready")
        except StackError as error:
            if self.pid() is None:
                raise
            raise StackError(f"{error}; the end of {self.log}:\n"
                             f"{tail(self.log)}") from error

    def signal(self, number, everyone=False):
        """Sends a signal to the first process, or to all of its own."""
        if not everyone and self.pid() is None:
            raise StackError(f"{self.name} does not run")
        members = self.members()
        if number == signal.SIGKILL:
            # Children with sessions of their own cannot be found afterwards.
            self._orphans = {pid: _stat(pid) for pid in members}
        _kill(members if everyone else [self.pid()], number)

    def stop(self, timeout_s=20):
        """Asks it to end, in the end kills it. Quiet where nothing runs.
        True where it ended when asked."""
        asked = True
        if self.pid() is not None:
            self.signal(signal.SIGCONT, everyone=True)
            for number in self.stop_signals:
                self.signal(number)
                try:
                    wait_until(lambda: self.pid() is None, timeout_s,
                               f"{self.name} ends")
                    break
                except StackError:
                    asked = False
        self.end_members()
        return asked

    def end_members(self, timeout_s=10):
        """Kills whatever it left behind, and forgets its pid."""
        left = {pid: _stat(pid) for pid in self.members()}
        left.update(self._orphans)
        left = {pid: stat[3] for pid, stat in left.items() if stat}
        _kill([pid for pid in left if (_stat(pid) or [0] * 4)[3] == left[pid]],
              signal.SIGKILL)

        def gone():
            self._reap()
            alive = _processes()
            return not any(pid in alive and alive[pid][3] == start
                           for pid, start in left.items())
        wait_until(gone, timeout_s, f"{self.name} is gone")
        self._orphans = {}
        if os.path.exists(self.pid_file):
            os.remove(self.pid_file)
