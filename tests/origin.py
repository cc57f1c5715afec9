"""An upstream whose every answer a test chooses, on a real socket.

    with Origin() as origin:
        origin["/a"] = Reply(b"text", ETag='"1"', Cache_Control="max-age=9")
        origin["/b"] = lambda request: Reply(request.headers["x"].encode())
        …
        origin.count("/a")            how often it was asked for that path
        origin.last("/a").headers     what nginx sent, names in lower case
        with origin.hold("/a"):       answers to it wait until the block ends;
            origin.wait_held("/a", 1)   … until so many requests stand there
        origin.down(), origin.up()    nothing listens; on the same port again

A path that has no answer gets 404 without any freshness, and a query counts as
a part of the path. Reply can also lie: length= announces another length than
the body has, cut= closes after so many bytes of it, raw= is sent as it is; go=
is an Event that it waits for with the second half of the body.

One thread per connection; standard library only; nothing here sleeps.
"""

import collections
import socket
import threading

from servers import wait_until

Request = collections.namedtuple("Request", "method path headers lines body")


class Reply:
    """Keyword arguments are fields: Cache_Control="…"; a list: many lines."""

    def __init__(self, body=b"", status=200, *, chunked=False, length=None,
                 cut=None, raw=None, go=None, **fields):
        self.body = body.encode() if isinstance(body, str) else body
        self.status = status
        self.chunked = chunked
        self.length = length
        self.cut = cut
        self.raw = raw
        self.go = go
        self.fields = fields

    def head(self, request):
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        for name, value in self.fields.items():
            for each in value if isinstance(value, list) else [value]:
                lines.append(f"{name.replace('_', '-')}: {each}")
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.status not in (204, 304) and self.length != "none":
            length = len(self.body) if self.length is None else self.length
            lines.append(f"Content-Length: {length}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def payload(self, request):
        if request.method == "HEAD" or self.status in (204, 304):
            return b""
        body = self.body
        if self.chunked:
            pieces = [body[at:at + 1000] for at in range(0, len(body), 1000)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece)
                            for piece in pieces)
            body += b"0\r\n\r\n"
        return body if self.cut is None else body[:self.cut]

    def closes(self):
        return self.cut is not None or self.raw is not None \
            or self.length is not None


class Origin:
    def __init__(self):
        self.answers = {}
        self.requests = []
        self._lock = threading.Lock()
        self._gates = {}
        self._held = collections.Counter()
        self._connections = set()
        self._listener = None
        self.port = 0
        self.up()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._lock:
            gates, self._gates = list(self._gates.values()), {}
        for gate, _ in gates:
            gate.set()
        if self._listener:
            self.down()

    def __setitem__(self, path, answer):
        self.answers[path] = answer

    # Listening.

    def up(self):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(4096)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,),
                         daemon=True).start()

    def down(self):
        """From here on connections are refused, and those there are end."""
        listener, self._listener = self._listener, None
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self, listener):
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,),
                             daemon=True).start()

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as stream:
                while self._answer(connection, stream):
                    pass
        except OSError:
            pass  # nginx gave up on it: often what a test is about
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _answer(self, connection, stream):
        line = stream.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        lines = []
        while True:
            text = stream.readline().decode("latin-1").rstrip("\r\n")
            if not text:
                break
            name, _, value = text.partition(":")
            lines.append((name.lower(), value.strip()))
        headers = {}
        for name, value in lines:
            headers[name] = f"{headers[name]}, {value}" \
                if name in headers else value
        body = stream.read(int(headers.get("content-length", 0)))
        request = Request(line[0], line[1], headers, lines, body)
        with self._lock:
            self.requests.append(request)
            gate, method = self._gates.get(request.path, (None, None))
            if method not in (None, request.method):
                gate = None
            if gate:
                self._held[request.path] += 1
        if gate:
            gate.wait(60)
        answer = self.answers.get(request.path, Reply(b"no such thing", 404))
        if callable(answer):
            answer = answer(request)
        if answer is None:
            return False
        if answer.raw is not None:
            connection.sendall(answer.raw)
            return False
        payload = answer.payload(request)
        half = len(payload) // 2 if answer.go else 0
        connection.sendall(answer.head(request) + payload[:half])
        if answer.go:
            answer.go.wait(60)
        connection.sendall(payload[half:])
        return not answer.closes() and \
            headers.get("connection", "").lower() != "close" and \
            line[2] == "HTTP/1.1"

    # What it saw.

    def count(self, path, method=None):
        with self._lock:
            return sum(each.path == path and method in (None, each.method)
                       for each in self.requests)

    def last(self, path):
        with self._lock:
            return [each for each in self.requests if each.path == path][-1]

    # Making it wait.

    def hold(self, path):
        return _Hold(self, path)

    def wait_held(self, path, count):
        wait_until(lambda: self._held[path] >= count, 20,
                   f"{count} requests for {path} stand at the origin")


class _Hold:
    def __init__(self, origin, path):
        self.origin = origin
        self.path = path

    def __enter__(self):
        with self.origin._lock:
            self.origin._held[self.path] = 0
            self.gate = threading.Event()
            self.origin._gates[self.path] = self.gate, None
        return self

    def __exit__(self, *_):
        with self.origin._lock:
            self.origin._gates.pop(self.path, None)
        self.gate.set()

    def only(self, method):
        """Requests with other methods pass from here on."""
        with self.origin._lock:
            self.origin._gates[self.path] = self.gate, method
