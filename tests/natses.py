"""NATS servers of a test's own, and who may come to them.

    with OwnNats(stack, conf) as server:     a nats-server with this text added
        server.port, .log(), .signal(sig)    to its configuration
    Key("user")              an nkey: .seed, .public, .sign(data) -> base64url
    operator() -> (conf, credentials)        a server that trusts an operator,
                                             and a file of one of its users
    Client(port, tls=context, **connect)     wire.Nats with credentials
    make_streams(client)                     the sample's two streams
    backends(port, more)                     for TestStack: nginx at that server
    GarbageServer(port, FakeBroker())        says that it has the streams; what
                                             becomes of a message is the test's

The openssl command signs. Every wait has a deadline.
"""

import base64
import collections
import json
import os
import re
import subprocess
import tempfile
import time

from servers import ROOT, local
from wire import Nats, Stream

# "S" and the kinds; the letters come from the upper five bits.
_KINDS = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_SEED = 18 << 3
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


def _crc(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    return crc.to_bytes(2, "little")


def _base32(data):
    data += _crc(data)
    return base64.b32encode(data).decode().rstrip("=")


def _base64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    def __init__(self, kind):
        raw = os.urandom(32)
        prefix = _KINDS[kind]
        self._der = _PKCS8 + raw
        self.seed = _base32(
            bytes([_SEED | prefix >> 5, (prefix & 31) << 3]) + raw)
        public = subprocess.run(
            ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform",
             "DER"], input=self._der, capture_output=True, check=True,
            timeout=20).stdout[-32:]
        self.public = _base32(bytes([prefix]) + public)

    def sign(self, data):
        with tempfile.TemporaryDirectory() as directory:
            names = [os.path.join(directory, name) for name in ("key", "data")]
            for name, content in zip(names, (self._der, data)):
                with open(name, "wb") as file:
                    file.write(content)
            return _base64(subprocess.run(
                ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", names[0],
                 "-keyform", "DER", "-in", names[1]], capture_output=True,
                check=True, timeout=20).stdout)


def jwt(issuer, subject, name, nats):
    head = _base64(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    body = _base64(json.dumps({
        "jti": base64.b32encode(os.urandom(20)).decode(), "name": name,
        "iat": int(time.time()) - 5, "iss": issuer.public, "sub": subject,
        "nats": nats}).encode())
    text = f"{head}.{body}"
    return f"{text}.{issuer.sign(text.encode())}"


def operator():
    """Text for OwnNats, text of a credentials file, the user's JWT and key."""
    boss, system, account, user = (
        Key(kind) for kind in ("operator", "account", "account", "user"))
    limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1,
              "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1,
               "consumer": -1}
    kinds = {"type": "account", "version": 2}
    accounts = {
        system.public: jwt(boss, system.public, "SYS",
                           {"limits": limits, **kinds}),
        account.public: jwt(boss, account.public, "A",
                            {"limits": {**limits, **storage}, **kinds})}
    boss_jwt = jwt(boss, boss.public, "O", {
        "type": "operator", "version": 2, "system_account": system.public})
    user_jwt = jwt(account, user.public, "U", {
        "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
        "type": "user", "version": 2})
    conf = (f"operator: {boss_jwt}\nsystem_account: {system.public}\n"
            "resolver: MEMORY\nresolver_preload: {\n" + "".join(
                f"{name}: {text}\n" for name, text in accounts.items()) + "}\n")
    credentials = (
        "-----BEGIN NATS USER JWT-----\n" + user_jwt +
        "\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n\n"
        "-----BEGIN USER NKEY SEED-----\n" + user.seed +
        "\n------END USER NKEY SEED------\n")
    return conf, credentials, user_jwt, user


class OwnNats:
    def __init__(self, stack, conf="", name="own", port=None):
        self.port = port or local.free_ports()["nats"]
        directory = stack._owned("nobody", f"nats-{name}")
        path = os.path.join(directory, "server.conf")
        with open(os.path.join(ROOT, "config", "nats-server.conf"),
                  encoding="utf-8") as file:
            text = re.sub(r"^server_name:.*$", f"server_name: {name}",
                          file.read(), flags=re.M)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + conf)
        binary = os.path.join(ROOT, "var", "bin", "nats-server")
        self.process = local.Process(
            f"nats-{name}", stack.directory,
            stack._as_user("nobody") + [
                binary, "-c", path, "-a", local.HOST, "-p", self.port,
                "-sd", directory],
            env=local.ENVIRONMENT, port=self.port,
            ready=lambda: local.port_taken(self.port))

    def log(self):
        with open(self.process.log, encoding="utf-8") as file:
            return file.read()

    def signal(self, number):
        self.process.signal(number)

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.stop()


class Client(Nats):
    def __init__(self, port, tls=None, first=False, key=None, timeout_s=15,
                 **connect):
        Stream.__init__(self, port, timeout_s)
        self.timeout_s = timeout_s
        self.sids = 0
        self.messages = collections.deque()
        if first:
            self.socket = tls.wrap_socket(self.socket,
                                          server_hostname="redis.test")
        self.info = json.loads(self.line().partition(b" ")[2])
        if tls and not first:
            self.socket = tls.wrap_socket(self.socket,
                                          server_hostname="redis.test")
        if key:
            connect["sig"] = key.sign(self.info["nonce"].encode())
        self.send(b"CONNECT " + json.dumps({
            "verbose": False, "pedantic": False, "lang": "test",
            "version": "1", "headers": True, "no_responders": True,
            **connect}).encode() + b"\r\n")
        self.ping()


def make_streams(client, **config):
    for partition in range(2):
        client.js(f"STREAM.CREATE.HOTPATH_EVENTS_{partition}", {
            "name": f"HOTPATH_EVENTS_{partition}",
            "subjects": [f"hotpath.events.{partition}"],
            "retention": "workqueue", "storage": "file", "discard": "new",
            "num_replicas": 1, "duplicate_window": 120 * 10**9, **config})


def backends(port, more=""):
    """nats://127.0.0.1:port in place of the stack's own, and more."""
    return lambda text: re.sub(r"hotpath_nats [^;]*;",
                               f"hotpath_nats {local.HOST}:{port};", text) \
        + more


class FakeBroker:
    """Talks to a connection of GarbageServer. Unless another published() says
    so, nothing is stored and nothing is answered."""

    INFO = (b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576,'
            b'"headers":true,"proto":1%s}\r\n')
    STREAM = (b'{"config":{"discard":"new","storage":"file","num_replicas":1,'
              b'"duplicate_window":120000000000,"subjects":["%s"]},'
              b'"created":"2026-01-31T12:00:00Z"}')

    def published(self, message, payload, answer):
        """message: its subject; answer(data, status=None) replies to it."""

    def wait(self, buffer):
        """Before it reads on, with what has come and was not read yet."""

    def __call__(self, connection):
        connection.sendall(self.INFO % b"")
        buffer, sid = b"", b""
        while True:
            self.wait(buffer)
            data = connection.recv(1 << 20)
            if not data:
                return
            buffer += data
            while b"\r\n" in buffer:
                line, _, rest = buffer.partition(b"\r\n")
                words = line.split()
                if words[0] in (b"PUB", b"HPUB"):
                    size = int(words[-1])
                    if len(rest) < size + 2:
                        break
                    self._message(connection, words[1], words[2], sid,
                                  rest[:size])
                    rest = rest[size + 2:]
                elif words[0] == b"SUB" and words[1].startswith(b"_INBOX."):
                    sid = words[2]
                elif words[0] == b"PING":
                    connection.sendall(b"PONG\r\n")
                buffer = rest

    def _message(self, connection, subject, reply, sid, payload):
        def answer(data, status=None):
            if status is None:
                connection.sendall(b"MSG %s %s %d\r\n%s\r\n" % (
                    reply, sid, len(data), data))
            else:
                head = b"NATS/1.0 %d\r\n\r\n" % status
                connection.sendall(b"HMSG %s %s %d %d\r\n%s\r\n" % (
                    reply, sid, len(head), len(head), head))
        if subject.startswith(b"$JS.API.STREAM.INFO."):
            answer(self.STREAM % (b"hotpath.events." + subject[-1:]))
        elif subject.startswith(b"hotpath.events."):
            self.published(subject, payload, answer)
