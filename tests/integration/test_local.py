"""The tool that starts every server, on small programs in a server's place.

What is held here: a port in use is named together with its owner and the way
out; a pid file never leads a signal to a stranger; what a dead server left
behind is ended before it is started again; a change of what would be started
is noticed; the harness fails a test for what a server wrote into its log.
"""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from servers import TestStack, local, wait_until
from procs import Process, StackError

# Says that it listens, and then waits for its end.
SERVER = """
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
signal.pause()
"""
# The same, with a child in its session that outlives it.
PARENT = """
import os, signal, socket, sys
if os.fork() == 0:
    while True:
        signal.pause()
""" + SERVER


@pytest.fixture
def make_process(tmp_path):
    made = []

    def make(source=SERVER, **options):
        port = local.free_ports()["http"]
        process = Process(
            "server", str(tmp_path),
            [sys.executable, "-c", source, str(port)],
            dict(local.ENVIRONMENT),
            lambda: "ready" in open(process.log, encoding="utf-8").read(),
            port, **options)
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()


def alive(pid):
    return os.path.exists(f"/proc/{pid}") and "State:\tZ" not in open(
        f"/proc/{pid}/status", encoding="utf-8").read()


def test_starts_and_stops(make_process):
    process = make_process()
    assert process.pid() is None
    process.start()
    pid = process.pid()
    assert alive(pid) and os.getsid(pid) == pid
    assert process.stop()
    assert not alive(pid) and process.pid() is None
    assert process.stop()


def test_taken_port_is_named_with_its_owner(make_process):
    process = make_process()
    with socket.create_server(("127.0.0.1", process.port)):
        with pytest.raises(StackError) as error:
            process.start()
    assert str(process.port) in str(error.value)
    assert f"pid {os.getpid()}" in str(error.value)


def test_the_local_stack_says_how_to_change_a_taken_port(tmp_path,
                                                         monkeypatch):
    stack = TestStack(str(tmp_path))
    with socket.create_server(("127.0.0.1", stack.ports["http"])):
        with pytest.raises(StackError, match="make run HOTPATH_PORT="):
            local._check_ports(stack)
    monkeypatch.setenv("HOTPATH_PORT", "eighty")
    with pytest.raises(StackError, match="HOTPATH_PORT=eighty"):
        local.default_ports()
    monkeypatch.setenv("HOTPATH_PORT", str(local.PORTS["nats"][1]))
    with pytest.raises(StackError, match="same port"):
        local.default_ports()


def test_a_stranger_with_the_same_pid_is_left_alone(make_process):
    process = make_process()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        with open(process.pid_file, "w", encoding="utf-8") as file:
            json.dump({"pid": stranger.pid, "start": 1,
                       "fingerprint": "", "command": []}, file)
        assert process.pid() is None
        process.stop()
        process.start()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_what_a_dead_server_left_is_ended(make_process):
    process = make_process(PARENT)
    process.start()
    first, child = process.members()
    process.signal(signal.SIGKILL)
    wait_until(lambda: process.pid() is None, 5, "the first one is dead")
    assert alive(child)
    process.start()
    assert not alive(child) and process.pid() != first


def test_a_server_that_will_not_end_is_killed(make_process):
    process = make_process(SERVER.replace(
        "print(", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint("))
    process.start()
    pid = process.pid()
    assert not process.stop(timeout_s=0.2)
    assert not alive(pid)


def test_a_server_that_ends_at_once_shows_its_log(make_process):
    process = make_process("print('no such luck')")
    with pytest.raises(StackError, match="no such luck"):
        process.start()


def test_a_change_of_what_runs_is_noticed(make_process, tmp_path):
    watched = tmp_path / "settings"
    watched.write_text("one")
    process = make_process(watched=(watched,))
    process.start()
    assert not process.stale()
    watched.write_text("two!")
    assert process.stale()


def test_forbidden_log_lines_are_found_once(tmp_path):
    stack = TestStack(str(tmp_path))
    with open(stack["nginx"].log, "w", encoding="utf-8") as log:
        log.write("[notice] fine\n[alert] 1#1: bad\nruntime error: worse\n")
    stack.expect_log("worse")
    assert stack.forbidden_lines() == ["nginx: [alert] 1#1: bad"]
    assert stack.forbidden_lines() == []
