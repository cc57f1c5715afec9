"""Fixtures of every test in Python; tests/servers.py says what they give.

    stack        one instance for the whole session: for tests that break and
                 reconfigure nothing
    own_stack    a fresh instance for this test module: for the ones that do;
                 a module-level STACK = {…} gives its options
    peer         a second nginx on own_stack's other servers
    make_stack   make_stack(**options): a fresh instance for this test alone
    origin       an upstream that a test writes the answers of (tests/origin.py)
    nginx_only   nginx in front of it and no other server; the options are what
                 STACK(port of the origin) gives
    path         an address that no other test uses

After each test the logs of every instance are read, and again after it was
stopped: a test fails whose servers wrote an alert, an emergency, a sanitizer's
report. Instances live below var/test/<pid>/; after a failure their logs stay
there. What an interrupted run has left behind is stopped and removed here.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess

import pytest

from origin import Origin
from servers import ROOT, Peer, TestStack

DIRECTORY = os.path.join(ROOT, "var", "test")
RUN = os.path.join(DIRECTORY, str(os.getpid()))
_stacks = []
_numbers = itertools.count()


def _remove_data(directory):
    """All of an instance but its logs."""
    for name in os.listdir(directory):
        if name != "log":
            path = os.path.join(directory, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Temporary directories of tests are below var/ like all else."""
    os.umask(0o022)
    os.makedirs(RUN, exist_ok=True)
    config.option.basetemp = config.option.basetemp or os.path.join(
        RUN, "tmp")


def _unmount(directory):
    """The small disks that a test had below it."""
    with open("/proc/mounts", encoding="utf-8") as file:
        places = [line.split()[1] for line in file]
    for place in places:
        if place.startswith(directory + "/"):
            subprocess.run(["umount", place], check=True, timeout=20)


def pytest_sessionstart():
    for name in os.listdir(DIRECTORY):
        if not name.isdigit() or os.path.exists(f"/proc/{name}"):
            continue
        left = os.path.join(DIRECTORY, name)
        for instance in os.listdir(left):
            if os.path.isdir(os.path.join(left, instance, "pid")):
                TestStack(os.path.join(left, instance)).down()
        _unmount(left)
        shutil.rmtree(left)


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == 0:
        shutil.rmtree(RUN, ignore_errors=True)
    elif session.testsfailed:
        print(f"\nlogs of the servers: {RUN}/*/log")


@contextlib.contextmanager
def _running(name, options):
    """A started instance, with its logs read once more after its end."""
    directory = os.path.join(RUN, f"{len(os.listdir(RUN))}-" +
                             re.sub(r"\W+", "-", name))
    stack = TestStack(directory, **options)
    _stacks.append(stack)
    try:
        stack.up()
        stack.wait_ready()
        yield stack
    finally:
        stack.down()
        _stacks.remove(stack)
        _remove_data(directory)
    assert not stack.forbidden_lines()


@pytest.fixture(scope="session")
def stack():
    with _running("shared", {}) as instance:
        yield instance


@pytest.fixture(scope="module")
def own_stack(request):
    options = getattr(request.module, "STACK", {})
    with _running(request.module.__name__, options) as instance:
        yield instance


@pytest.fixture
def make_stack(request):
    with contextlib.ExitStack() as running:
        yield lambda **options: running.enter_context(
            _running(request.node.name, options))


@pytest.fixture(scope="module")
def origin():
    with Origin() as instance:
        yield instance


@pytest.fixture
def path():
    return f"/p{next(_numbers)}"


@pytest.fixture(scope="module")
def nginx_only(request, origin):
    directory = os.path.join(RUN, f"{len(os.listdir(RUN))}-nginx")
    instance = TestStack(directory, **request.module.STACK(origin.port))
    _stacks.append(instance)
    try:
        instance.start("nginx")
        yield instance
    finally:
        instance.stop("nginx")
        _stacks.remove(instance)
        _remove_data(directory)
    assert not instance.forbidden_lines()


@pytest.fixture(scope="module")
def peer(own_stack):
    """A second nginx on own_stack's other servers, configured alike."""
    instance = Peer(own_stack)
    _stacks.append(instance)
    try:
        instance.up()
        instance.wait_ready()
        yield instance
    finally:
        instance.down()
        _stacks.remove(instance)
    assert not instance.forbidden_lines()


@pytest.fixture(autouse=True)
def clean_logs():
    yield
    lines = [line for stack in _stacks for line in stack.forbidden_lines()]
    assert not lines, "\n".join(lines)
