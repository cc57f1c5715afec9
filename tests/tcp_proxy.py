"""What happens to connections on their way, for the fault tests.

    with Proxy(server_port) as proxy:      listens on proxy.port of 127.0.0.1
        proxy.stall()          nothing passes any more, either way, and nobody
                               is told: a network that is half-open
        proxy.hold_answers(), .hold_requests()     or one way only
        proxy.go()             what was held back passes
        proxy.flow(delay_s, piece, requests)   go; each answer comes so much
                               later, and in pieces of so many bytes; requests
                               in pieces of so many
        proxy.say(data)        to every client, as if the server had
        proxy.cut_after(1000)  so many more bytes from the server pass, and then
                               that connection is reset
        proxy.reset()          every connection is reset now; what was held back
                               never arrives
        proxy.shut()           and nobody is let in any more, until .unshut()
        proxy.accepted         how many there were; proxy.open: how many are
    with Proxy(server_port, host="127.0.0.2", port=5432): on another address

    with Deaf() as deaf:       deaf.port drops whatever wants to connect, as a
                               host does that is gone

Every byte goes through two threads for each direction, so this is no measure
of speed. Nothing here knows what passes.
"""

import queue
import socket
import threading
import time

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
        self.pieces = {True: 0, False: 0}   # of answers, of requests
        self.pairs = []
        self.threads = []
        self.left = None         # bytes from the server until a reset
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.passing = {True: threading.Event(), False: threading.Event()}
        self.open_target = None
        self.go()

    def __enter__(self):
        self._thread(self._accept)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.go()
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
        self.hold_answers()
        self.hold_requests()

    def hold_answers(self):
        self.passing[True].clear()

    def hold_requests(self):
        self.passing[False].clear()

    def go(self):
        for passing in self.passing.values():
            passing.set()

    def flow(self, delay_s=0, piece=0, requests=0):
        self.delay_s, self.pieces = delay_s, {True: piece, False: requests}
        self.go()

    def say(self, data):
        with self.lock:
            clients = [client for client, _ in self.pairs]
        for client in clients:
            try:
                client.sendall(data)
            except OSError:
                pass

    def shut(self):
        self.open_target, self.target = self.target, ("127.0.0.1", 1)
        self.reset()

    def unshut(self):
        self.target = self.open_target

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
        pieces = queue.Queue()
        self._thread(self._pass, pair, pieces, sink, answers)
        try:
            while True:
                data = source.recv(CHUNK)
                pieces.put((time.monotonic(), data))
                if not data:
                    return
                self._seen(data, answers)
        except OSError:
            pieces.put((0, None))

    def _seen(self, data, answers):
        """For whoever wants to know more than this does."""

    def _pass(self, pair, pieces, sink, answers):
        passing = self.passing[answers]
        try:
            while True:
                came, data = pieces.get()
                if answers and self.delay_s:
                    self.ended.wait(came + self.delay_s - time.monotonic())
                passing.wait()
                if data == b"":
                    sink.shutdown(socket.SHUT_WR)
                    return
                if data is None or (
                        answers and not self._allowed(sink, data)):
                    break
                size = self.pieces[answers] or len(data)
                for begin in range(0, len(data), size):
                    passing.wait()
                    sink.sendall(data[begin:begin + size])
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
