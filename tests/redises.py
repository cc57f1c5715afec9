"""What the tests of the Redis backend put between and beside the servers.

    with OwnRedis(stack, "--port", …):   a server of the test's own, with the
        …                                stack's configuration and these words
    certificates(directory)              an authority, and what it has signed
    with Proxy(port) as proxy:           tcp_proxy's, and more:
        proxy.sent("GET")                commands of that name that came by
    FakeRedis(port, b"-LOADING …\\r\\n")    talks the protocol; PING is PONG
    with Nameserver({"a.test": [address, …]}) as names: names.port, .asked

Standard library and the openssl command only; every wait has a deadline.
"""

import collections
import os
import socket
import struct
import subprocess
import threading

import tcp_proxy
from pressure import GarbageServer
from servers import local, wait_until


class OwnRedis:
    """A redis-server beside the stack's; words are its own options."""

    def __init__(self, stack, *words, name="own", port=None,
                 host=local.HOST):
        command = list(stack["redis"].command)
        where = command.index("--port")
        self.port = port or local.free_ports()["redis"]
        del command[where:where + 2]
        command[command.index("--dir") + 1] = stack._owned(
            "nobody", f"redis-{name}")
        if "--port" not in words:
            words = ("--port", self.port, *words)
        self.process = local.Process(
            f"redis-{name}", stack.directory, [*command, *words],
            env=local.ENVIRONMENT, port=self.port,
            ready=lambda: local.port_taken(self.port, host))

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.stop()


def _openssl(directory, *words):
    subprocess.run(["openssl", *words], cwd=directory, check=True, timeout=60,
                   capture_output=True)


def certificates(directory):
    """ca.pem has signed server (for redis.test and 127.0.0.1) and client, whose
    key is there as locked.key too, encrypted; stranger.pem has signed nothing.
    """
    os.makedirs(directory, exist_ok=True)
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt",
           "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("ca", "stranger"):
        _openssl(directory, *new, "-subj", f"/CN={name}", "-addext",
                 "keyUsage=critical,keyCertSign,cRLSign", "-keyout",
                 f"{name}.key", "-out", f"{name}.pem")
    for name, names in (("server", "DNS:redis.test,IP:127.0.0.1"),
                        ("client", "DNS:front.test")):
        _openssl(directory, *new, "-subj", f"/CN={name}", "-CA", "ca.pem",
                 "-CAkey", "ca.key", "-addext", f"subjectAltName={names}",
                 "-addext", "basicConstraints=critical,CA:FALSE",
                 "-keyout", f"{name}.key", "-out", f"{name}.pem")
    _openssl(directory, "pkey", "-in", "client.key", "-aes128", "-passout",
             "pass:secret", "-out", "locked.key")
    for name in os.listdir(directory):
        os.chmod(os.path.join(directory, name), 0o644)
    return directory


class Proxy(tcp_proxy.Proxy):
    """Adds to it: commands counted."""

    def __init__(self, target_port):
        super().__init__(target_port)
        self._counted = collections.Counter()

    def _seen(self, data, answers):
        if answers:
            return
        with self.lock:
            for word in data.split(b"\r\n"):
                if word.isalpha() and word.isupper():
                    self._counted[word.decode()] += 1

    def sent(self, name):
        with self.lock:
            return self._counted[name]


class FakeRedis(GarbageServer):
    """Reads commands and answers PING with PONG, the rest with the reply that
    it is given. got counts them."""

    def __init__(self, port, reply):
        super().__init__(port, self._serve)
        self.reply = reply
        self.got = collections.Counter()

    def _serve(self, connection):
        with connection.makefile("rb") as file:
            while True:
                head = file.readline()
                if not head:
                    return
                words = []
                for _ in range(int(head[1:])):
                    size = int(file.readline()[1:])
                    words.append(file.read(size + 2)[:-2])
                self.got[words[0].decode()] += 1
                connection.sendall(b"+PONG\r\n" if words[0] == b"PING"
                                   else self.reply)


class Nameserver:
    """Answers for addresses of version 4; what it does not know is no name."""

    def __init__(self, names):
        self.names = names
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((local.HOST, 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.sendto(b"", (local.HOST, self.port))
        self.thread.join(10)
        self.socket.close()

    def _serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            if not query:
                return
            self.asked += 1
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            question = query[12:at + 5]
            kind = struct.unpack("!H", query[at + 1:at + 3])[0]
            addresses = self.names.get(".".join(labels))
            found = addresses if kind == 1 and addresses else []
            self.socket.sendto(
                query[:2] + struct.pack("!HHHHH", 0x8180 if addresses
                                        else 0x8183, 1, len(found), 0, 0)
                + question + b"".join(
                    b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4)
                    + socket.inet_aton(address) for address in found), client)


def wait_commands(proxy, name, count, timeout_s=10):
    seen = proxy.sent(name)
    wait_until(lambda: proxy.sent(name) >= seen + count, timeout_s,
               f"{count} more of {name} came by")
