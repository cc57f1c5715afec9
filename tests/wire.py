"""Bytes as they go over the wire, for tests that must choose every one.

    golden            schemas/golden/make.py: frames, operation ids and
                      partitions, written from schemas/framing.md alone
    RawHTTP(port)     a socket that speaks what it is told:
        .send(b"…"), .post(body), .answer() -> RawAnswer, .closed()
    Redis(port)       redis("GET", key) -> bytes, a number or None
    Nats(port)        a client of the broker, in as few lines as that takes:
        .publish(subject, data), .request(subject, data) -> Message
        .subscribe(subject), .next(timeout_s) -> Message
        .js("STREAM.INFO.X", {...}) -> dict; a refusal is an AssertionError
        .push(model, documents, …), .events(partition, [event, …])
    config(name, (old, new), …)   the text of a file in config/ with each old,
                                  which must be there, replaced by new

Standard library only; every wait has a deadline. Nothing here knows the code
under test. Used by tests/integration/ and tests/faults/.
"""

import collections
import importlib.util
import json
import os
import socket
import time
import uuid

from servers import ROOT, local

_SPEC = importlib.util.spec_from_file_location(
    "golden", os.path.join(ROOT, "schemas", "golden", "make.py"))
golden = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden)

RawAnswer = collections.namedtuple("RawAnswer", "status headers body")
Message = collections.namedtuple("Message", "subject reply headers data")


def config(name, *changes):
    with open(os.path.join(ROOT, "config", name), encoding="utf-8") as file:
        text = file.read()
    for old, new in changes:
        assert old in text, f"config/{name} has no {old!r}"
        text = text.replace(old, new)
    return text


class Stream:
    """A socket with a buffer and one deadline for everything."""

    def __init__(self, port, timeout_s=15):
        self.socket = socket.create_connection((local.HOST, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        """False where the other side has closed."""
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def line(self):
        while b"\r\n" not in self.buffer:
            if not self.more():
                raise EOFError(f"closed after {self.buffer!r}")
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def exactly(self, count):
        while len(self.buffer) < count:
            if not self.more():
                raise EOFError(f"closed after {self.buffer!r}")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data


class RawHTTP(Stream):
    def post(self, body, *headers, path="/events", length=None):
        """Head and body of a POST in one write; length None: as it is."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        head = [f"POST {path} HTTP/1.1", "Host: test",
                "Content-Type: application/json",
                f"Content-Length: {len(body) if length is None else length}",
                *headers]
        self.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)

    def answer(self):
        """The next whole answer, chunked or with a length."""
        status = int(self.line().split()[1])
        headers = {}
        while True:
            line = self.line()
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while True:
                size = int(self.line(), 16)
                body += self.exactly(size)
                assert self.line() == b""
                if size == 0:
                    break
        elif status >= 200 and status not in (204, 304):
            body = self.exactly(int(headers["content-length"]))
        return RawAnswer(status, headers, body)

    def closed(self):
        """Waits for the other side to close; what came before is ignored."""
        try:
            while self.more():
                self.buffer = b""
        except ConnectionResetError:
            pass
        return True


def chunked(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece)
                    for piece in pieces) + b"0\r\n\r\n"


class Redis(Stream):
    def __call__(self, *words):
        """One command; bytes, a number or None, an error is an assertion."""
        words = [word if isinstance(word, bytes) else str(word).encode()
                 for word in words]
        self.send(b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        line = self.line()
        assert not line.startswith(b"-"), line
        if line[:1] == b":":
            return int(line[1:])
        if line[:1] == b"+":
            return line[1:]
        if line == b"$-1":
            return None
        assert line[:1] == b"$", line
        value = self.exactly(int(line[1:]))
        assert self.exactly(2) == b"\r\n"
        return value


class Nats(Stream):
    def __init__(self, port, timeout_s=15):
        super().__init__(port, timeout_s)
        self.timeout_s = timeout_s
        self.sids = 0
        self.messages = collections.deque()
        self.info = json.loads(self.line().partition(b" ")[2])
        self.send(b'CONNECT {"verbose":false,"pedantic":false,"lang":"test",'
                  b'"version":"1","headers":true,"no_responders":true}\r\n')
        self.ping()

    def ping(self):
        """Returns when the broker has taken everything sent before."""
        self.send(b"PING\r\n")
        while self._read() != "PONG":
            pass

    def publish(self, subject, data, headers=None, reply=""):
        words = [subject] + ([reply] if reply else [])
        if headers:
            head = "NATS/1.0\r\n" + "".join(
                f"{name}: {value}\r\n" for name, value in headers.items())
            head = (head + "\r\n").encode()
            words = ["HPUB", *words, str(len(head)),
                     str(len(head) + len(data))]
            data = head + data
        else:
            words = ["PUB", *words, str(len(data))]
        self.send(" ".join(words).encode() + b"\r\n" + data + b"\r\n")

    def subscribe(self, subject):
        self.sids += 1
        self.send(b"SUB %s %d\r\n" % (subject.encode(), self.sids))
        self.ping()
        return self.sids

    def next(self, timeout_s=None):
        """The next message of any subscription."""
        deadline = time.monotonic() + (timeout_s or self.timeout_s)
        while not self.messages:
            left = deadline - time.monotonic()
            assert left > 0, "no message came"
            self.socket.settimeout(left)
            try:
                self._read()
            finally:
                self.socket.settimeout(self.timeout_s)
        return self.messages.popleft()

    def request(self, subject, data=b"", headers=None):
        inbox = f"_INBOX.{uuid.uuid4().hex}"
        sid = self.subscribe(inbox)
        self.publish(subject, data, headers, inbox)
        while True:
            message = self.next()
            if message.subject == inbox:
                break
        self.send(b"UNSUB %d\r\n" % sid)
        return message

    def js(self, call, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        reply = json.loads(self.request("$JS.API." + call, data).data)
        assert "error" not in reply, (call, reply["error"])
        return reply

    def _read(self):
        line = self.line()
        words = line.decode("latin-1").split()
        kind = words[0].upper()
        if kind == "PING":
            self.send(b"PONG\r\n")
        elif kind in ("MSG", "HMSG"):
            counts = 2 if kind == "HMSG" else 1
            total = int(words[-1])
            head = int(words[-2]) if kind == "HMSG" else 0
            names = words[1:-counts]
            data = self.exactly(total)
            assert self.exactly(2) == b"\r\n"
            self.messages.append(Message(
                names[0], names[2] if len(names) > 2 else "", data[:head],
                data[head:]))
        else:
            assert kind in ("INFO", "PONG", "+OK"), line
        return kind

    # What Hotpath's own programs send.

    def push(self, model, documents, lane=0, epoch_us=1, sequence=1,
             count=None):
        self.publish(f"hotpath.push.{model}", golden.push(
            documents, lane, epoch_us, sequence, count))

    def events(self, partition, events):
        """One message of these events into a stream; its PubAck."""
        ack = json.loads(self.request(f"hotpath.events.{partition}",
                                      golden.event_group(events)).data)
        assert "error" not in ack, ack
        return ack
