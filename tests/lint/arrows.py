#!/usr/bin/python3
"""Who may include whom: the dependency arrows of the design, by #include.

ALLOWED is the whole table. A room that is not in it is a complaint, so that a
new file is placed on purpose. Only direct includes are looked at; as every
room's own list is closed, that holds the indirect ones too. The arrows keep
rooms replaceable and testable alone; a room that needs one that it may not
know gets a callback instead.
"""

import os
import re
import sys

from project import complain, files, line_of, read, verdict

COMMENT = re.compile(r"/\*.*?\*/", re.S)
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)

# room of ngx_module/ -> rooms it may include beside itself and core. ANY: the
# rooms that join the others.
ANY = None
ALLOWED = {
    "core": (),
    "shm": (),
    "answer": (),
    "backend": (),
    "body": ("answer", "metrics"),
    "conninfo": (),
    "secret": (),
    "cursor": ("secret",),
    "forwarded": (),
    "metrics": ("shm",),
    "inflight": ("shm", "metrics"),
    "limit": ("shm", "metrics", "inflight"),
    "cache": ("shm", "metrics"),
    "idempotency": ("shm", "metrics"),
    "hold": ("body", "wait"),
    "capture": (),
    "compress": ("cache", "metrics"),
    "gather": (),
    "direct": (),
    "head": (),
    "schema": (),
    "rules": ("cache",),
    "serve": ("answer", "cache", "compress", "gather", "head", "rules"),
    "guard": ANY,
    "guard_answer": ANY,
    "guard_claim": ANY,
    "guard_conf": ANY,
    "guarded": ANY,
    "ask": ANY,
    "collapse": ("flight", "metrics"),
    "kept": ("cache", "head"),
    "output": ANY,
    "output_conf": ANY,
    "relay": ANY,
    "storable": ANY,
    "variant": ANY,
    "nats": ("metrics", "nats_conf", "nats_link"),
    "nats_auth": ("nats_conf",),
    "nats_conf": ("nats_auth",),
    "nats_link": ("nats_auth", "nats_servers", "nats_tls"),
    "nats_servers": ("nats_conf",),
    "nats_tls": ("nats_conf",),
    "group": ("nats",),
    "publish": ("group", "nats", "metrics", "shm", "stream"),
    "publish_conf": ANY,
    "stream": ("nats",),
    "redis": ("backend", "metrics", "redis_link"),
    "redis_conf": ("redis_link",),
    "redis_guard": (),
    "redis_link": ("backend", "metrics", "redis", "redis_guard", "redis_tls"),
    "redis_tls": (),
    "pgcancel": ("backend",),
    "pgconnect": ("backend", "conninfo"),
    "pgwatch": (),
    "pglink": ("backend", "metrics", "pgcancel", "pgconnect", "pgwatch"),
    "pgconf": ("conninfo", "pglink"),
    "postgres": ("backend", "metrics", "pgcancel", "pgconf", "pglink"),
    "push": ANY,
    "flight": ("shm", "backend"),
    "wait": ("shm", "backend", "metrics"),
    "fetch": ANY,
    "list": ANY,
    "param": ANY,
    "fleet": ANY,
    "purge": ANY,
    "fanout": ANY,
    "task": ANY,
    "purge_http": ANY,
    "hot": ANY,
    "warm": ANY,
    "read": ANY,
    "accept": ANY,
    "request": ANY,
    "write": ANY,
    "result": ANY,
    "follow": ANY,
    "status": ANY,
    "health": ANY,
    "module": ANY,
}

# directory of workers/ -> directories whose headers it may include.
WORKERS = {
    "lib": ("lib",),
    "drain": ("drain", "lib"),
    "project": ("project", "lib"),
    "ctl": ("ctl", "lib"),
}


def room_of(name):
    """The room of a file or include of the module."""
    base = os.path.basename(name)
    if base.startswith("hp_"):
        return "core"
    match = re.fullmatch(r"ngx_http_hotpath_(\w+)\.[ch]", base)
    return match.group(1) if match else None


def check_module(path, includes):
    room = "core" if path.startswith("ngx_module/core/") else room_of(path)
    if room not in ALLOWED:
        complain(path, 1, f"room '{room}' is not in the table of arrows.py")
        return
    for line, name in includes:
        other = room_of(name)
        if other is None:
            complain(path, line, f"'{name}' is no file of a room")
        elif other not in (room, "core") and ALLOWED[room] is not ANY \
                and other not in ALLOWED[room]:
            complain(path, line, f"{room} may not know {other} ({name})")


def check_workers(path, includes, headers):
    directory = path.split("/")[1]
    if directory not in WORKERS:
        complain(path, 1, f"workers/{directory} is not in arrows.py")
        return
    for line, name in includes:
        base = os.path.basename(name)
        if base.startswith("ngx_"):
            complain(path, line, f"workers never know the module ({name})")
        elif not base.startswith("hp_"):
            homes = headers.get(base, set())
            if not homes & set(WORKERS[directory]):
                complain(path, line, f"workers/{directory} may not know "
                                     f"{name} ({', '.join(homes) or '?'})")


def main():
    sources = files(".c", ".h")
    headers = {}
    for path in sources:
        if path.startswith("workers/") and path.endswith(".h"):
            headers.setdefault(os.path.basename(path), set()).add(
                path.split("/")[1])
    for path in sources:
        text = read(path)
        includes = [(line_of(text, match.start()), match.group(1))
                    for match in INCLUDE.finditer(text)]
        if path.startswith("ngx_module/"):
            check_module(path, includes)
            if path.startswith("ngx_module/core/"):
                code = COMMENT.sub(
                    lambda match: "\n" * match.group().count("\n"), text)
                for match in re.finditer(r"\bngx_\w+", code):
                    complain(path, line_of(code, match.start()),
                             f"core knows no nginx ({match.group()})")
        elif path.startswith("workers/"):
            check_workers(path, includes, headers)
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
