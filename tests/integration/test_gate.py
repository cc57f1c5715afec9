"""The gate: rate limits, the bound on requests in flight, whose word counts.

All on real nginx workers, on a port of its own with reuseport, so that every
test uses both. What the limiter may admit is computed from the time that the
test itself took, never from a schedule. Held is an upstream that answers when
it is told to: a request is in flight for exactly as long as the test wants.
"""

import collections
import os
import re
import socket
import subprocess
import threading
import time
import uuid

import pytest

from servers import Client, local, wait_until

PORT = local.free_ports()["http"]
HELD_PORT = local.free_ports()["http"]
RATE = 200
BURST = 100

HTTP = f"""
hotpath_limit_zone $arg_key zone=gate:1m rate={RATE}r/s burst={BURST};
hotpath_limit_zone $arg_key zone=gate_tiny:32k rate=1r/m;
hotpath_limit_zone $arg_key zone=gate_spaced:1m rate=1r/m;
hotpath_limit_zone $http_x_key zone=gate_bytes:1m rate=1r/m;
hotpath_limit_zone $arg_key zone=gate_wide:1m rate=1r/m burst=50;
hotpath_limit_zone $arg_other zone=gate_narrow:1m rate=2r/m burst=3;

server {{
    listen 127.0.0.1:{PORT} reuseport;
    keepalive_requests 1000000;
    add_header X-Worker $pid always;

    location = /gate {{ hotpath_limit zone=gate; empty_gif; }}
    location = /tiny {{ hotpath_limit zone=gate_tiny; empty_gif; }}
    location = /spaced {{ hotpath_limit zone=gate_spaced; empty_gif; }}
    location = /bytes {{ hotpath_limit zone=gate_bytes; empty_gif; }}
    location = /wide {{ hotpath_limit zone=gate_wide; empty_gif; }}
    location = /both {{
        hotpath_limit zone=gate_wide policy=wide;
        hotpath_limit zone=gate_narrow;
        empty_gif;
    }}
    location = /redirected {{
        hotpath_limit zone=gate_wide;
        try_files /no/such/file /wide;
    }}
    location /held {{
        hotpath_inflight 5;
        location = /held/wait {{
            proxy_pass http://127.0.0.1:{HELD_PORT};
            proxy_read_timeout 60s;
        }}
        location = /held/now {{ empty_gif; }}
    }}
    location = /client {{
        hotpath_trusted_proxy 127.0.0.0/8 10.0.0.0/8 2001:db8::/32;
        return 200 "$hotpath_client_addr $hotpath_client_scheme
$hotpath_client_host";
    }}
    location = /stranger {{
        hotpath_trusted_proxy 192.0.2.1;
        return 200 "$hotpath_client_addr $hotpath_client_scheme
$hotpath_client_host";
    }}
}}
"""

STACK = {"workers": 2, "http": HTTP}


def key():
    return uuid.uuid4().hex


def get(path, headers=None):
    client = Client(PORT)
    try:
        return client.request("GET", path, None, headers)
    finally:
        client.close()


def reload(stack, **options):
    """Reloads; returns when the old workers accept no more connections."""
    old = stack.nginx_workers()
    stack.reload(**options)
    wait_until(lambda: all(map(is_ending, old)), 15, "old workers are ending")
    return old


def is_ending(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"shutting down" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return True


def fields(answer):
    """(remaining, seconds) of the one limit in RateLimit."""
    match = re.fullmatch(r'"([^"]+)";r=(\d+);t=(\d+)',
                         answer.headers["RateLimit"])
    assert match, answer.headers["RateLimit"]
    return int(match.group(2)), int(match.group(3))


class Hammer:
    """Asks for one path from threads, a new connection every 50 requests."""

    def __init__(self, path, threads=8):
        self.path = path
        self.statuses = collections.Counter()
        self.workers = set()
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._work, daemon=True)
                        for _ in range(threads)]

    def __enter__(self):
        self.begin = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        self.seconds = time.monotonic() - self.begin

    def _work(self):
        while not self.ended.is_set():
            client = Client(PORT, timeout_s=10)
            try:
                for _ in range(50):
                    answer = client.request("GET", self.path)
                    with self.lock:
                        self.statuses[answer.status] += 1
                        self.workers.add(answer.headers["X-Worker"])
            except (OSError, local.http.client.HTTPException):
                with self.lock:
                    self.statuses["lost"] += 1
            finally:
                client.close()

    def check(self, bypassed):
        """Not one too many; and the rate was used up."""
        admitted = self.statuses[200]
        lost = self.statuses["lost"]
        most = BURST + RATE * self.seconds
        assert admitted <= most + bypassed, self.statuses
        assert admitted >= 0.9 * most - lost, self.statuses
        assert set(self.statuses) <= {200, 429, "lost"}, self.statuses


class Held:
    """An upstream that keeps requests until release(); counts arrivals."""

    def __init__(self):
        self.arrived = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", HELD_PORT),
                                             backlog=128)
        self.answers = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._keep, args=(connection,),
                             daemon=True).start()

    def _keep(self, connection):
        with connection:
            connection.recv(65536)
            with self.lock:
                self.arrived += 1
            self.released.wait(60)
            try:
                connection.sendall(b"HTTP/1.0 200 OK\r\n"
                                   b"Content-Length: 0\r\n\r\n")
            except OSError:
                pass

    def ask(self, count):
        """Sends so many requests at once; their ends go to answers."""
        for _ in range(count):
            threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self):
        try:
            status = get("/held/wait").status
        except (OSError, local.http.client.HTTPException):
            status = "lost"
        with self.lock:
            self.answers.append(status)

    def release(self):
        self.released.set()


@pytest.fixture
def held():
    with Held() as upstream:
        yield upstream


def test_never_more_than_burst_and_rate(own_stack):
    before = own_stack.metric("hotpath_limit_bypassed_total")
    rejected = own_stack.metric("hotpath_limit_rejected_total")
    with Hammer(f"/gate?key={key()}") as hammer:
        wait_until(lambda: hammer.statuses[429] > 2000, 60, "2000 refusals")
    assert len(hammer.workers) == 2
    hammer.check(own_stack.metric("hotpath_limit_bypassed_total") - before)
    assert (own_stack.metric("hotpath_limit_rejected_total") - rejected
            == hammer.statuses[429])


def test_the_limit_outlives_killed_workers(own_stack):
    own_stack.expect_log("exited on signal 9")
    before = own_stack.metric("hotpath_limit_bypassed_total")
    with Hammer(f"/gate?key={key()}") as hammer:
        for round_ in range(1, 9):
            wait_until(lambda: hammer.statuses[429] > 250 * round_, 60,
                       "refusals between kills")
            own_stack.kill_workers(own_stack.nginx_workers()[:1])
    hammer.check(own_stack.metric("hotpath_limit_bypassed_total") - before)
    assert len(hammer.workers) > 2


def test_the_limit_outlives_a_reload(own_stack):
    before = own_stack.metric("hotpath_limit_bypassed_total")
    with Hammer(f"/gate?key={key()}") as hammer:
        for round_ in range(1, 4):
            wait_until(lambda: hammer.statuses[429] > 300 * round_, 60,
                       "refusals between reloads")
            reload(own_stack)
    hammer.check(own_stack.metric("hotpath_limit_bypassed_total") - before)


def test_a_changed_rate_holds_at_once(own_stack):
    name = key()
    assert get(f"/spaced?key={name}").status == 200
    assert get(f"/spaced?key={name}").status == 429
    faster = HTTP.replace("gate_spaced:1m rate=1r/m",
                          "gate_spaced:1m rate=1000r/s")
    try:
        reload(own_stack, http=faster)
        answer = get(f"/spaced?key={name}")
        assert int(answer.headers.get("Retry-After", 1)) == 1
        wait_until(lambda: get(f"/spaced?key={name}").status == 200, 10,
                   "the new rate admits what the old one would not")
    finally:
        reload(own_stack, http=HTTP)


def test_fields_of_admitted_and_refused(own_stack):
    name = key()
    first = get(f"/spaced?key={name}")
    assert first.status == 200
    assert first.headers["RateLimit-Policy"] == '"gate_spaced";q=1;w=60'
    assert fields(first) == (0, 60)
    assert "Retry-After" not in first.headers
    second = get(f"/spaced?key={name}")
    assert second.status == 429
    assert second.headers["RateLimit-Policy"] == '"gate_spaced";q=1;w=60'
    remaining, seconds = fields(second)
    assert remaining == 0 and 50 <= seconds <= 60
    assert second.headers["Retry-After"] == str(seconds)
    assert second.headers["Content-Type"] == "application/problem+json"
    assert second.json()["code"] == "rate_limited"
    assert second.json()["status"] == 429
    assert get(f"/spaced?key={key()}").status == 200


def test_refused_by_one_limit_takes_nothing_from_the_other(own_stack):
    wide, narrow = key(), key()
    path = f"/both?key={wide}&other={narrow}"
    statuses = [get(path).status for _ in range(20)]
    assert statuses == [200] * 3 + [429] * 17
    answer = get(path)
    assert answer.headers["RateLimit-Policy"] == (
        '"gate_narrow";q=3;w=90, "wide";q=50;w=3000')
    assert answer.headers["RateLimit"].startswith('"gate_narrow";r=0;')
    # 50, less the three that both admitted, less this one.
    assert fields(get(f"/wide?key={wide}"))[0] == 46
    only = get(f"/both?key={wide}")
    assert only.headers["RateLimit-Policy"] == '"wide";q=50;w=3000'
    assert fields(only)[0] == 45


def test_an_empty_key_is_not_limited(own_stack):
    answers = [get("/spaced") for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    assert not any("RateLimit" in answer.headers for answer in answers)


def test_an_internal_redirect_counts_once(own_stack):
    name = key()
    answer = get(f"/redirected?key={name}")
    assert answer.status == 200
    assert len(answer.headers.get_all("RateLimit")) == 1
    assert fields(get(f"/wide?key={name}"))[0] == 48


@pytest.mark.parametrize("length", [47, 48, 1000])
def test_long_keys_are_told_apart(own_stack, length):
    name = key().ljust(length - 1, "x")
    assert get(f"/spaced?key={name}a").status == 200
    assert get(f"/spaced?key={name}b").status == 200
    assert get(f"/spaced?key={name}a").status == 429
    assert get(f"/spaced?key={name}b").status == 429


def xxh64_twins():
    """Two texts of 16 bytes with one XXH64, whatever the seed: the first words
    differ in the bit that becomes the top one of the state, the second words in
    just that bit."""
    mask, prime1, prime2 = 2**64 - 1, 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F

    def rotated(word, bits):
        return (word << bits | word >> 64 - bits) & mask

    def other(word, bit):
        mixed = rotated(word * prime2 & mask, 31) * prime1 & mask ^ 1 << bit
        mixed = rotated(mixed * pow(prime1, -1, 2**64) & mask, 33)
        return mixed * pow(prime2, -1, 2**64) & mask

    while True:
        words = [int.from_bytes(os.urandom(8), "little") for _ in range(2)]
        twins = [b"".join(word.to_bytes(8, "little") for word in pair)
                 for pair in (words, (other(words[0], 36),
                                      other(words[1], 63)))]
        if all(byte > 0x20 and byte != 0x7f for byte in b"".join(twins)):
            return twins


def test_keys_of_one_hash_are_told_apart(own_stack):
    """Else anybody could make a key that spends another one's rate."""
    one, twin = xxh64_twins()
    assert one != twin
    assert get("/bytes", {"X-Key": one}).status == 200
    assert get("/bytes", {"X-Key": twin}).status == 200
    assert get("/bytes", {"X-Key": one}).status == 429


def test_a_full_zone_goes_on_admitting_new_keys(own_stack):
    before = own_stack.metric("hotpath_limit_forced_evictions_total")
    client = Client(PORT)
    statuses = {client.request("GET", f"/tiny?key={key()}").status
                for _ in range(2000)}
    client.close()
    assert statuses == {200}
    forced = own_stack.metric("hotpath_limit_forced_evictions_total") - before
    # 32k have room for less than 500 keys of 64 bytes.
    assert 1500 < forced < 2000


def test_inflight_is_bounded_and_given_back(own_stack, held):
    before = own_stack.metric("hotpath_inflight_rejected_total")
    held.ask(40)
    wait_until(lambda: held.arrived + len(held.answers) == 40, 30,
               "each of 40 requests is either held or refused")
    # Workers that admit at one moment do not see one another: one more at most.
    assert 5 <= held.arrived <= 6
    assert set(held.answers) == {503}
    assert (own_stack.metric("hotpath_inflight_rejected_total") - before
            == len(held.answers))
    refused = get("/held/now")
    assert refused.status == 503
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["code"] == "too_many_in_flight"
    held.release()
    wait_until(lambda: held.answers.count(200) == held.arrived, 30,
               "the held ones are answered")
    wait_until(lambda: get("/held/now").status == 200, 10,
               "what was in flight is given back")


def test_inflight_of_killed_workers_is_given_back(own_stack, held):
    own_stack.expect_log("exited on signal 9")
    held.ask(5)
    wait_until(lambda: held.arrived == 5, 30, "five are in flight")
    assert get("/held/now").status == 503
    own_stack.kill_workers()
    wait_until(lambda: held.answers == ["lost"] * 5, 30, "five are lost")

    def back():
        try:
            return get("/held/now").status == 200
        except (OSError, local.http.client.HTTPException):
            return False
    wait_until(back, 10, "new workers start from zero")


def test_inflight_counts_over_a_reload(own_stack, held):
    """Old workers' requests go on counting; those of killed ones do not, though
    no new process gets their place."""
    own_stack.expect_log("exited on signal 9")
    held.ask(5)
    wait_until(lambda: held.arrived == 5, 30, "five are in flight")
    old = reload(own_stack)
    answer = get("/held/now")
    assert answer.headers["X-Worker"] not in {str(pid) for pid in old}
    assert answer.status == 503
    own_stack.kill_workers(set(old) & set(own_stack.nginx_workers()))
    wait_until(lambda: held.answers == ["lost"] * 5, 30, "five are lost")
    wait_until(lambda: get("/held/now").status == 200, 10,
               "a dead process holds nothing")


TRUSTED = [f"10.0.0.{number}" for number in range(40)]


@pytest.mark.parametrize("lines, address", [
    ([], "127.0.0.1"),
    (["1.2.3.4"], "1.2.3.4"),
    (["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
    (["6.6.6.6, 1.2.3.4, 10.1.1.1"], "1.2.3.4"),
    (["6.6.6.6, 1.2.3.4", "10.1.1.1"], "1.2.3.4"),
    (["6.6.6.6", "1.2.3.4, 10.1.1.1", "10.2.2.2:99"], "1.2.3.4"),
    (["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
    (["1.2.3.4:5678"], "1.2.3.4"),
    (["[2001:DB9:0::1]:443"], "2001:db9::1"),
    (["7.7.7.7, 2001:db8::5, 10.0.0.1"], "7.7.7.7"),
    (["::ffff:9.8.7.6"], "9.8.7.6"),
    (["5.5.5.5, ::ffff:10.8.7.6"], "5.5.5.5"),
    (["1.2.3.4, unknown, 10.1.1.1"], "10.1.1.1"),
    (["1.2.3.4,,10.1.1.1"], "10.1.1.1"),
    (["1.2.3.4", "", "10.1.1.1"], "1.2.3.4"),
    (["1.2.3.4, "], "127.0.0.1"),
    (["client.example"], "127.0.0.1"),
    (["fe80::1%eth0"], "127.0.0.1"),
    (["999.1.1.1"], "127.0.0.1"),
    (["1.2.3.4 5.6.7.8"], "127.0.0.1"),
    (["5.5.5.5, " + ", ".join(TRUSTED[:31])], "5.5.5.5"),
    (["5.5.5.5, " + ", ".join(TRUSTED[:32])], TRUSTED[0]),
    (TRUSTED[:20], TRUSTED[12]),
])
def test_client_address(own_stack, lines, address):
    assert client_of("/client", [("X-Forwarded-For", line)
                                 for line in lines])[0] == address


@pytest.mark.parametrize("lines, scheme", [
    ([], "http"),
    (["https"], "https"),
    (["HTTPS"], "https"),
    (["https, http"], "http"),
    (["http", "https"], "https"),
    (["https, ftp"], "http"),
    (["https,"], "http"),
])
def test_client_scheme(own_stack, lines, scheme):
    assert client_of("/client", [("X-Forwarded-Proto", line)
                                 for line in lines])[1] == scheme


@pytest.mark.parametrize("lines, host", [
    ([], "front.example"),
    (["Shop.Example"], "shop.example"),
    (["evil.example, Shop.Example:8443"], "shop.example"),
    (["[2001:DB8::1]:8443"], "[2001:db8::1]"),
    (["shop.example/path"], "front.example"),
    (["shop.example,"], "front.example"),
    (["a" * 256], "front.example"),
])
def test_client_host(own_stack, lines, host):
    assert client_of("/client", [("X-Forwarded-Host", line)
                                 for line in lines])[2] == host


def test_a_stranger_is_not_believed(own_stack):
    assert client_of("/stranger", [
        ("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
    ]) == ["127.0.0.1", "http", "front.example"]


def client_of(path, headers):
    """What the three variables are; headers may repeat a name."""
    connection = local.http.client.HTTPConnection("127.0.0.1", PORT,
                                                  timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in [("Host", "Front.Example:8080"), *headers]:
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    words = response.read().decode().split()
    connection.close()
    assert response.status == 200 and len(words) == 3
    return words


def test_metrics_text(own_stack):
    text = own_stack.get("/metrics").body.decode()
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    helps = re.findall(r"^# HELP (\S+) \S", text, re.M)
    assert len(dict(types)) == len(types)
    assert [name for name, _ in types] == helps
    for name, kind in types:
        assert kind in ("counter", "gauge")
        assert name.endswith("_total") == (kind == "counter")
        assert re.search(rf"^{name}(?:{{.+}})? \d+$", text, re.M), name


def test_metrics_in_openmetrics(own_stack):
    answer = own_stack.get("/metrics", {
        "Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith(
        "application/openmetrics-text")
    text = answer.body.decode()
    assert text.endswith("\n# EOF\n")
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert types["hotpath_limit_rejected"] == "counter"
    assert not any(name.endswith("_total") for name in types)
    assert re.search(r"^hotpath_limit_rejected_total \d+$", text, re.M)


ZONE = "hotpath_limit_zone $arg_key zone=bad:1m rate=1r/s;"


@pytest.mark.parametrize("http, location, complaint", [
    ("hotpath_limit_zone $arg_key zone=bad rate=1r/s;", "",
     "invalid zone size"),
    ("hotpath_limit_zone $arg_key zone=bad:1k rate=1r/s;", "", "too small"),
    ("hotpath_limit_zone $arg_key zone=bad:1m rate=1;", "", "invalid rate"),
    ("hotpath_limit_zone $arg_key zone=bad:1m rate=0r/s;", "",
     "invalid rate"),
    ("hotpath_limit_zone $arg_key zone=bad:1m rate=1r/s burst=0;", "",
     "invalid burst"),
    ("hotpath_limit_zone $arg_key zone=bad:1m rate=1r/m burst=1000000000;",
     "", "out of range"),
    ("hotpath_limit_zone $arg_key zone=bad:1m rate=1r/m nodelay;", "",
     "invalid parameter"),
    (ZONE + ZONE, "", "already defined"),
    (ZONE, "hotpath_limit zone=bad; hotpath_limit zone=bad policy=b;",
     "twice"),
    (ZONE, "hotpath_limit policy=b;", 'must have a "zone"'),
    (ZONE, 'hotpath_limit zone=bad policy="b";', "invalid policy name"),
    (ZONE, "hotpath_limit zone=nowhere;", "zero size shared memory zone"),
    ("", "hotpath_inflight -1;", "invalid number"),
    ("", "hotpath_inflight 1; hotpath_inflight 2;", "duplicate"),
    ("", "hotpath_trusted_proxy 10.1.2;", "invalid address or network"),
    ("", "hotpath_trusted_proxy 10.0.0.0/33;", "invalid address or network"),
])
def test_configuration_errors(own_stack, tmp_path, http, location, complaint):
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"load_module {own_stack.module};\nevents {{}}\nhttp {{\n{http}\n"
        f"server {{ location / {{ {location} empty_gif; }} }}\n}}\n")
    done = subprocess.run(
        [own_stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path),
         "-c", str(conf)],
        capture_output=True, text=True, timeout=60, check=False,
        env=own_stack["nginx"].env)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "zero size" in complaint or re.search(
        rf" in {conf}:[45]$", done.stderr, re.M), done.stderr
