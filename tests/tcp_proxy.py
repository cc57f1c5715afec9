"""What happens to connections on their way, for the fault tests.

    with Proxy(server_port) as proxy:      listens on proxy.port of 127.0.0.1
        proxy.stall()          nothing passes any more, either way, and nobody
                               is told: a network that is half-open
        proxy.go()             what was held back passes
        proxy.delay_s = 0.2    every piece from the server comes that much later
        proxy.cut_after(1000)  so many more bytes from the server pass, and then
                               that connection is reset
        proxy.reset()          every connection is reset now
        proxy.accepted         how many there were; proxy.open: how many are
    with Proxy(server_port, host="127.0.0.2", port=5432): on another address

    with Deaf() as deaf:       deaf.port drops whatever wants to connect, as a
                               host does that is gone

Every byte goes through two threads for each connection, so this is no measure
of speed. Nothing here knows what passes.
"""

import socket
import threading

CHUNK = 65536


def _reset(connection):
    """Closes with RST instead of FIN; wakes who waits on it."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


class Proxy:
    def __init__(self, target_port, host="127.0.0.1", port=0,
                 target_host="127.0.0.1"):
        self.target = (target_host, target_port)
        self.listener = socket.create_server((host, port), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self.delay_s = 0.0
        self.pairs = []
        self.threads = []
        self.left = None         # bytes from the server until a reset
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.passing = threading.Event()
        self.passing.set()

    def __enter__(self):
        self._thread(self._accept)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.passing.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.reset()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()

    @property
    def open(self):
        with self.lock:
            return len(self.pairs)

    def stall(self):
        self.passing.clear()

    def go(self):
        self.passing.set()

    def cut_after(self, count):
        with self.lock:
            self.left = count

    def reset(self):
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self._end(pair)

    def _thread(self, target, *args):
        self.threads.append(threading.Thread(target=target, args=args,
                                             daemon=True))
        self.threads[-1].start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(self.target, 10)
            except OSError:
                _reset(client)
                continue
            pair = (client, server)
            for each in pair:
                each.settimeout(None)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.append(pair)
            self._thread(self._pump, pair, client, server, False)
            self._thread(self._pump, pair, server, client, True)

    def _pump(self, pair, source, sink, answers):
        try:
            while True:
                data = source.recv(CHUNK)
                if answers and self.delay_s:
                    self.ended.wait(self.delay_s)
                self.passing.wait()
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if answers and not self._allowed(sink, data):
                    break
                sink.sendall(data)
        except OSError:
            pass
        self._end(pair)

    def _allowed(self, sink, data):
        """False where the connection ends within these bytes."""
        with self.lock:
            left = self.left
            if left is None or len(data) < left:
                self.left = left and left - len(data)
                return True
            self.left = None
        sink.sendall(data[:left])
        return False

    def _end(self, pair):
        with self.lock:
            if pair not in self.pairs:
                return
            self.pairs.remove(pair)
        for each in pair:
            _reset(each)


class Deaf:
    """A port whose queue of new connections is full and stays so."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self.listener.getsockname()[1]
        self.queued = []

    def __enter__(self):
        while True:
            connection = socket.socket()
            connection.settimeout(0.3)
            self.queued.append(connection)
            try:
                connection.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return self

    def __exit__(self, *_):
        for each in (self.listener, *self.queued):
            each.close()
