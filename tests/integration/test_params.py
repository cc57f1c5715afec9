"""Typed parameters: every rule and source, and that nobody else hears of what
is refused.

Each location below hands its parameters to an upstream, which answers with
them and writes a line into a log of its own: so a test sees the one spelling
that a backend would get, and sees that a refused request never got there. The
rules themselves, value by value, are in tests/unit/test_param.c.
"""

import json
import subprocess
import uuid

import pytest

from servers import Client, local, wait_until
from wire import RawHTTP

ECHO = local.free_ports()["http"]

UUID = "01234567-89ab-4def-8123-456789abcdef"

# rule and options, what is taken as (query, value), what is refused as
# (query, reason)
KINDS = {
    "int": ("int(-5..100)",
            [("v=0", "0"), ("v=-5", "-5"), ("v=100", "100"),
             ("v=%31%30", "10"), ("x=1&v=7&y", "7"), ("%76=7", "7")],
            [("v=101", "param_range"), ("v=-6", "param_range"),
             ("v=99999999999999999999", "param_range"),
             ("v=", "param_type"), ("v", "param_type"), ("v=01", "param_type"),
             ("v=%2B1", "param_type"), ("v=+1", "param_type"),
             ("v=1.0", "param_type"), ("v=1e1", "param_type"),
             ("v=%201", "param_type"), ("v=0x1", "param_type"),
             ("v=%zz", "param_escape"), ("v=1%", "param_escape"),
             ("v=1%0", "param_escape"), ("v=1%00", "param_nul")]),
    "uint": ("uint(..10)", [("v=0", "0"), ("v=10", "10")],
             [("v=11", "param_range"), ("v=-1", "param_range"),
              ("v=-0", "param_type")]),
    "wide": ("int", [("v=9223372036854775807", "9223372036854775807"),
                     ("v=-9223372036854775808", "-9223372036854775808")],
             [("v=9223372036854775808", "param_range"),
              ("v=-9223372036854775809", "param_range")]),
    "clamp": ("int(5..10) clamp",
              [("v=7", "7"), ("v=4", "5"), ("v=-99999999999999999999", "5"),
               ("v=11", "10"), ("v=99999999999999999999", "10")],
              [("v=x", "param_type"), ("v=011", "param_type")]),
    "bool": ("bool", [("v=true", "true"), ("v=false", "false")],
             [("v=1", "param_type"), ("v=TRUE", "param_type"),
              ("v=", "param_type")]),
    "enum": ("enum(asc|desc)", [("v=asc", "asc"), ("v=%64esc", "desc")],
             [("v=up", "param_choice"), ("v=ASC", "param_choice"),
              ("v=asc|desc", "param_choice"), ("v=", "param_choice")]),
    "uuid": ("uuid", [(f"v={UUID}", UUID), (f"v={UUID.upper()}", UUID)],
             [(f"v={UUID[1:]}", "param_type"), (f"v={UUID}0", "param_type"),
              ("v={%s}" % UUID, "param_type")]),
    "date": ("date", [("v=2024-02-29", "2024-02-29")],
             [("v=2023-02-29", "param_type"), ("v=2024-2-9", "param_type")]),
    "time": ("time",
             [("v=2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000000Z"),
              ("v=2024-02-29T13:00:00.5%2B01:00",
               "2024-02-29T12:00:00.500000Z")],
             [("v=2024-02-29T13:00:00+01:00", "param_type"),
              ("v=2024-02-29", "param_type")]),
    "text": ("string", [("v=a", "a"), ("v=a+b%20c", "a b c"),
                        ("v=%C3%A4%2f%26%3D", "ä/&="),
                        ("v=" + "x" * 255, "x" * 255)],
             [("v=", "param_length"), ("v=" + "x" * 256, "param_length"),
              ("v=%ff", "param_characters"), ("v=%C3", "param_characters"),
              ("v=%ed%a0%80", "param_characters"),
              ("v=a%0d%0aX:1", "param_characters"),
              ("v=%7f", "param_characters"), ("v=%c2%85", "param_characters"),
              ("v=%00", "param_nul")]),
    "word": ("string(2..4,word)", [("v=a.b-", "a.b-"), ("v=%61b", "ab")],
             [("v=a", "param_length"), ("v=abcde", "param_length"),
              ("v=a/b", "param_characters"), ("v=a+b", "param_characters")]),
    "hex": ("string(8..8,hex)", [("v=0123abCD", "0123abCD")],
            [("v=0123abCg", "param_characters")]),
    "digits": ("string(1..1024,digits)", [("v=007", "007")],
               [("v=" + "1" * 1025, "param_length"),
                ("v=-1", "param_characters")]),
    "empty": ("string(0..3)", [("v=", ""), ("v", ""), ("v=abc", "abc")],
              [("v=abcd", "param_length")]),
}

UP = (f'proxy_set_header X-Value "[$hotpath_param_v]";'
      f" proxy_pass http://{local.HOST}:{ECHO};")

HTTP = f"""
hotpath_limit_zone $arg_client zone=slow:256k rate=1r/m;
log_format echo "$request_uri";
server {{
    listen {local.HOST}:{ECHO};
    access_log echo.log echo;
    location / {{ return 200 "$http_x_value$http_x_more"; }}
}}
"""

SERVER = "".join(
    f"location /kind/{name} {{ hotpath_param v arg {rule}; {UP} }}\n"
    for name, (rule, _, _) in KINDS.items()) + f"""
location /path/ {{ hotpath_param v path string(1..16); {UP} }}
location /path2/ {{ hotpath_param v path:2 string(1..16,word); {UP} }}
location /bare {{ hotpath_param v path:1 string(1..16,word); {UP} }}
location /named {{ hotpath_param v arg:filter[v] int; {UP} }}
location /header {{ hotpath_param v header int(1..9); {UP} }}
location /header2 {{ hotpath_param v header:X-Region enum(eu|us); {UP} }}
location /own_name {{
    hotpath_param x_region header enum(eu|us);
    proxy_set_header X-Value "[$hotpath_param_x_region]";
    proxy_pass http://{local.HOST}:{ECHO};
}}
location /default {{ hotpath_param v arg int(1..9) default=3; {UP} }}
location /default_time {{
    hotpath_param v arg time default=2024-02-29T13:00:00+01:00; {UP}
}}
location /optional {{ hotpath_param v arg int(1..9) default=; {UP} }}
location /several {{
    hotpath_param v arg int;
    hotpath_param w arg:ww uuid default=;
    hotpath_param id path:1 string(1..9,digits);
    proxy_set_header X-Value "[$hotpath_param_v]";
    proxy_set_header X-More "[$hotpath_param_w][$hotpath_param_id]";
    proxy_pass http://{local.HOST}:{ECHO};
}}
location /strict {{
    hotpath_param_strict on;
    hotpath_param v arg int default=0;
    hotpath_param w header int default=0;
    {UP}
}}
location /denied {{ deny all; hotpath_param v arg int; {UP} }}
location /limited {{
    hotpath_limit zone=slow;
    hotpath_param v arg int;
    {UP}
}}
location /outer {{
    hotpath_param v arg int(1..9);
    try_files /nowhere /inner?v=50;
}}
location /inner {{ hotpath_param v arg int(10..99); {UP} }}
location /again {{
    hotpath_param v arg int(1..9);
    proxy_intercept_errors on;
    error_page 404 = /inner?v=60;
    proxy_pass http://{local.HOST}:{ECHO}/;
}}
location /if {{
    hotpath_param v arg int(1..9);
    if ($arg_other) {{ proxy_pass http://{local.HOST}:{ECHO}; }}
    {UP}
}}
location /except {{
    hotpath_param v arg int(1..9);
    limit_except GET {{ hotpath_param v arg int(1..5); }}
    {UP}
}}
location /early {{
    set $early "$hotpath_param_v";
    hotpath_param v arg uuid;
    proxy_set_header X-Value "[$early][$hotpath_param_v]";
    proxy_pass http://{local.HOST}:{ECHO};
}}
location /nested/ {{
    hotpath_param v arg int(1..9);
    location /nested/own/ {{ hotpath_param v path string(1..9); {UP} }}
    location /nested/same/ {{ {UP} }}
}}
location = /read {{
    hotpath_param v arg uuid;
    hotpath_param lang header:Accept-Language string(2..5,word) default=en;
    hotpath_read prices key=$hotpath_param_v.$hotpath_param_lang;
    hotpath_cache documents;
}}
location /events2 {{ hotpath_param v header int; hotpath_write events; }}
"""

# one worker: what was asked before is logged before
STACK = {"workers": 1, "without": ("drain", "project"), "http": HTTP,
         "server": SERVER}


def heard(stack):
    """What reached the upstream until now; nginx logs after the answer."""
    mark = f"/default?mark={uuid.uuid4().hex}"
    stack.get(mark)

    def lines():
        with open(stack.path("nginx", "echo.log"), encoding="utf-8") as file:
            found = file.read().splitlines()
        return found if mark in found else None
    return [line for line in wait_until(lines, 5, "the log has the mark")
            if "?mark=" not in line]


def check_refused(answer, code, parameter=None, reason=None):
    assert answer.status == 400, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem.pop("title") and problem.pop("type").endswith(code)
    expected = {"status": 400, "code": code, "parameter": parameter,
                "reason": reason}
    assert problem == {name: value for name, value in expected.items()
                       if value is not None}


def ask(stack, path, value, headers=None):
    answer = stack.get(path, headers)
    assert (answer.status, answer.body.decode()) == (200, value), path


@pytest.mark.parametrize("kind, query, value", [
    (kind, query, value) for kind, (_, good, _) in KINDS.items()
    for query, value in good])
def test_taken(own_stack, kind, query, value):
    path = f"/kind/{kind}?{query}"
    ask(own_stack, path, f"[{value}]")
    assert heard(own_stack)[-1] == path


@pytest.mark.parametrize("kind, query, reason", [
    (kind, query, reason) for kind, (_, _, bad) in KINDS.items()
    for query, reason in bad])
def test_refused(own_stack, kind, query, reason):
    before = heard(own_stack)
    check_refused(own_stack.get(f"/kind/{kind}?{query}"), "parameter_invalid",
                  "v", reason)
    assert heard(own_stack) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("query", [
    "v={0}&v={0}", "v={0}&%76={0}", "%76={0}&x=1&v={1}", "v={0}&v"])
def test_twice_is_refused(own_stack, kind, query):
    """Whoever decodes names would see both, and choose for himself."""
    values = [value.partition("=")[2] for value, _ in KINDS[kind][1]]
    query = query.format(values[0], values[-1])
    check_refused(own_stack.get(f"/kind/{kind}?{query}"), "parameter_invalid",
                  "v", "param_repeat")


@pytest.mark.parametrize("query", ["", "?", "?x=1", "?V=1", "?vv=1", "?=1"])
def test_missing(own_stack, query):
    check_refused(own_stack.get("/kind/int" + query), "parameter_required",
                  "v")


def test_path(own_stack):
    ask(own_stack, "/path/a", "[a]")
    ask(own_stack, "/path/a/b", "[a/b]")
    ask(own_stack, "/path/%C3%A4+b", "[ä+b]")
    ask(own_stack, "/path/a?v=b", "[a]")
    check_refused(own_stack.get("/path/"), "parameter_required", "v")
    check_refused(own_stack.get("/path/" + "a" * 17), "parameter_invalid",
                  "v", "param_length")
    check_refused(own_stack.get("/path/%ff"), "parameter_invalid", "v",
                  "param_characters")


def test_segments_of_the_path(own_stack):
    ask(own_stack, "/path2/a/b", "[b]")
    ask(own_stack, "/path2/a/b/c", "[b]")
    ask(own_stack, "/path2/a/b/", "[b]")
    ask(own_stack, "/path2//a//b", "[b]")     # nginx merges slashes
    check_refused(own_stack.get("/path2/a"), "parameter_required", "v")
    check_refused(own_stack.get("/path2/a/"), "parameter_required", "v")
    check_refused(own_stack.get("/path2/a/b%20"), "parameter_invalid", "v",
                  "param_characters")
    ask(own_stack, "/bare/a", "[a]")
    ask(own_stack, "/bare/a/b", "[a]")
    check_refused(own_stack.get("/bare"), "parameter_required", "v")


def test_argument_of_another_name(own_stack):
    ask(own_stack, "/named?filter[v]=1", "[1]")
    ask(own_stack, "/named?filter%5Bv%5D=1", "[1]")
    check_refused(own_stack.get("/named?v=1"), "parameter_required", "v")
    check_refused(own_stack.get("/named?filter[v]=1&filter%5bv]=1"),
                  "parameter_invalid", "v", "param_repeat")


def test_header(own_stack):
    ask(own_stack, "/header", "[7]", {"V": "7"})
    ask(own_stack, "/header", "[7]", {"v": " 7 "})
    check_refused(own_stack.get("/header?v=7"), "parameter_required", "v")
    check_refused(own_stack.get("/header", {"V": "0"}), "parameter_invalid",
                  "v", "param_range")
    check_refused(own_stack.get("/header", {"V": ""}), "parameter_invalid",
                  "v", "param_type")
    check_refused(own_stack.get("/header", {"V": "%37"}), "parameter_invalid",
                  "v", "param_type")
    ask(own_stack, "/header2", "[eu]", {"x-region": "eu"})
    ask(own_stack, "/own_name", "[us]", {"X-Region": "us"})
    check_refused(own_stack.get("/own_name", {"X-Region": "de"}),
                  "parameter_invalid", "x_region", "param_choice")


def test_header_twice(own_stack):
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(b"GET /header HTTP/1.1\r\nHost: t\r\nV: 7\r\nv: 7\r\n\r\n")
        answer = client.answer()
    assert answer.status == 400
    assert json.loads(answer.body)["reason"] == "param_repeat"


def test_bytes_in_a_header(own_stack):
    with RawHTTP(own_stack.ports["http"]) as client:
        client.send(b"GET /header2 HTTP/1.1\r\nHost: t\r\n"
                    b"X-Region: \xff\xfe\r\n\r\n")
        assert client.answer().status == 400


def test_default(own_stack):
    ask(own_stack, "/default", "[3]")
    ask(own_stack, "/default?v=4", "[4]")
    check_refused(own_stack.get("/default?v="), "parameter_invalid", "v",
                  "param_type")
    check_refused(own_stack.get("/default?v=10"), "parameter_invalid", "v",
                  "param_range")
    ask(own_stack, "/default_time", "[2024-02-29T12:00:00.000000Z]")
    ask(own_stack, "/optional", "[]")
    ask(own_stack, "/optional?v=4", "[4]")
    check_refused(own_stack.get("/optional?v="), "parameter_invalid", "v",
                  "param_type")


def test_several(own_stack):
    ask(own_stack, f"/several/12?ww={UUID.upper()}&v=1", f"[1][{UUID}][12]")
    ask(own_stack, "/several/12?v=1", "[1][][12]")
    check_refused(own_stack.get("/several/12?ww=x"), "parameter_required", "v")
    check_refused(own_stack.get("/several/12?ww=x&v=1"), "parameter_invalid",
                  "w", "param_type")
    check_refused(own_stack.get("/several/x?v=1"), "parameter_invalid", "id",
                  "param_characters")


def test_strict(own_stack):
    ask(own_stack, "/strict", "[0]")
    ask(own_stack, "/strict?v=1", "[1]")
    ask(own_stack, "/strict?%76=1&", "[1]")
    before = heard(own_stack)
    check_refused(own_stack.get("/strict?v=1&z=2"), "parameter_unknown", "z")
    check_refused(own_stack.get("/strict?V=1"), "parameter_unknown", "V")
    check_refused(own_stack.get("/strict?w=1"), "parameter_unknown", "w")
    for odd in ("%22", '"', "=1", "%ff", "\xc3\xa4", "x" * 65, "a\\b"):
        with RawHTTP(own_stack.ports["http"]) as client:
            client.send(f"GET /strict?{odd} HTTP/1.1\r\nHost: t\r\n\r\n"
                        .encode("latin-1"))
            answer = client.answer()
        assert answer.status == 400
        problem = json.loads(answer.body)
        assert problem["code"] == "parameter_unknown"
        assert "parameter" not in problem
    assert heard(own_stack) == before
    ask(own_stack, "/default?z=2", "[3]")


def test_after_access_and_limits(own_stack):
    """A stranger, or one who asks too often, learns nothing of rules."""
    assert own_stack.get("/denied?v=x").status == 403
    client = uuid.uuid4()
    check_refused(own_stack.get(f"/limited?v=x&client={client}"),
                  "parameter_invalid", "v", "param_type")
    assert own_stack.get(f"/limited?v=x&client={client}").status == 429


def test_each_location_has_its_own_rule(own_stack):
    ask(own_stack, "/outer?v=5", "[50]")
    check_refused(own_stack.get("/outer?v=50"), "parameter_invalid", "v",
                  "param_range")
    ask(own_stack, "/if?v=5", "[5]")
    ask(own_stack, "/if?v=5&other=1", "[5]")
    check_refused(own_stack.get("/if?v=50&other=1"), "parameter_invalid", "v",
                  "param_range")
    check_refused(own_stack.get("/if?v=50"), "parameter_invalid", "v",
                  "param_range")
    ask(own_stack, "/except?v=9", "[9]")
    answer = own_stack.request("POST", "/except?v=9", b"{}")
    check_refused(answer, "parameter_invalid", "v", "param_range")
    answer = own_stack.request("POST", "/except?v=5", b"{}")
    assert (answer.status, answer.body) == (200, b"[5]")
    ask(own_stack, "/nested/own/abc", "[abc]")
    ask(own_stack, "/nested/same/abc?v=9", "[9]")
    check_refused(own_stack.get("/nested/same/abc?v=10"), "parameter_invalid",
                  "v", "param_range")


def test_variable_before_the_check(own_stack):
    ask(own_stack, f"/early?v={UUID.upper()}", f"[{UUID}][{UUID}]")
    check_refused(own_stack.get("/early?v=1"), "parameter_invalid", "v",
                  "param_type")


def test_head_and_bodies(own_stack):
    """A refusal leaves the connection in order."""
    answer = own_stack.request("HEAD", "/kind/int?v=x")
    assert (answer.status, answer.body) == (400, b"")
    client = Client(own_stack.ports["http"])
    for _ in range(3):
        check_refused(client.request("POST", "/kind/int?v=x", b"y" * 200000),
                      "parameter_invalid", "v", "param_type")
    answer = client.request("POST", "/kind/int?v=1", b"y" * 20000)
    assert (answer.status, answer.body) == (200, b"[1]")
    client.close()


def test_read_key(own_stack):
    """The one spelling is the key; what is refused asks no backend."""
    name = str(uuid.uuid4())
    own_stack.sql(
        "INSERT INTO hotpath.prices SELECT 'default', %s || lang, 1,"
        " '{\"lang\":\"' || lang || '\"}', now(), false, 0, 1"
        " FROM unnest(array['.en', '.de']) AS lang", (name,))
    assert own_stack.get(f"/read?v={name.upper()}").json() == {"lang": ".en"}
    hit = own_stack.get(f"/read?v={name}")
    assert "hit" in hit.headers["Cache-Status"]
    answer = own_stack.get(f"/read?v={name}", {"Accept-Language": "de"})
    assert answer.json() == {"lang": ".de"}
    before = own_stack.metric("hotpath_read_requests_total")
    check_refused(own_stack.get(f"/read?v={name}x"), "parameter_invalid", "v",
                  "param_type")
    check_refused(own_stack.get(f"/read?v={name}",
                                {"Accept-Language": "de, en;q=0.5"}),
                  "parameter_invalid", "lang", "param_length")
    check_refused(own_stack.get("/read"), "parameter_required", "v")
    assert own_stack.metric("hotpath_read_requests_total") == before


def test_write(own_stack):
    event = {"idempotencyKey": f"params-{uuid.uuid4()}", "eventType": "a",
             "payload": 1}
    check_refused(own_stack.request("POST", "/events2", event),
                  "parameter_required", "v")
    answer = own_stack.request("POST", "/events2", event, {"V": "1"})
    assert answer.status == 202


@pytest.mark.parametrize("path", [
    "%ff", "%c3", "%ed%a0%80", "a%c0%80", "%f5%80%80%80",
    "k" * 1023 + "%c3%a4"])
def test_read_key_that_is_no_text(own_stack, path):
    """Postgres could only refuse it, which would be 503 and its fault."""
    before = own_stack.metric("hotpath_postgres_errors_total")
    answer = own_stack.get(f"/prices/{path}")
    assert answer.status == 400
    assert answer.json()["code"] == "read_key_invalid"
    assert own_stack.metric("hotpath_postgres_errors_total") == before


@pytest.mark.parametrize("path", ["k" * 1022 + "%c3%a4", "%c3%a4", "%7f%01"])
def test_read_key_that_is_text(own_stack, path):
    assert own_stack.get(f"/prices/{path}").status == 404


RULES = "location / { hotpath_param %s; empty_gif; }"


@pytest.mark.parametrize("server, complaint", [
    (RULES % "v arg", "invalid number of arguments"),
    (RULES % "V arg int", 'invalid parameter name "V"'),
    (RULES % "1v arg int", "invalid parameter name"),
    (RULES % "v-w arg int", "invalid parameter name"),
    (RULES % ("v" * 33 + " arg int"), "invalid parameter name"),
    (RULES % "v query int", 'invalid source "query"'),
    (RULES % "v arg: int", 'invalid source "arg:"'),
    (RULES % "v arg:a%62 int", "invalid source"),
    (RULES % "v path:0 int", "invalid source"),
    (RULES % "v path:x int", "invalid source"),
    (RULES % "v arg integer", 'invalid rule "integer": no such type'),
    (RULES % "v arg int(5..1)", "the lower bound is above the upper one"),
    (RULES % "v arg int(1..5) default=6", "param_range"),
    (RULES % "v arg enum(a|b) default=c", "param_choice"),
    (RULES % "v arg uuid clamp", "only numbers can have"),
    (RULES % "v arg int something", 'invalid parameter "something"'),
    (RULES % "v arg int; hotpath_param v header int", "is duplicate"),
    ("location = /a { hotpath_param v path int; empty_gif; }", "by a prefix"),
    ("location ~ /a { hotpath_param v path int; empty_gif; }", "by a prefix"),
    ("location @a { hotpath_param v path int; empty_gif; }", "by a prefix"),
    ("hotpath_param v arg int;", "is not allowed here"),
    ("set $hotpath_param_v 1; " + RULES % "v arg int", "is there already"),
    ("location / { hotpath_param v arg int;"
     " return 200 $hotpath_param_w; }",
     'unknown "hotpath_param_w" variable'),
])
def test_configuration_errors(own_stack, tmp_path, server, complaint):
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"load_module {own_stack.module};\nevents {{}}\n"
                    f"http {{ server {{ {server} }} }}\n")
    done = subprocess.run(
        [own_stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c",
         str(conf)],
        capture_output=True, text=True, timeout=60, check=False,
        env=own_stack["nginx"].env)
    assert done.returncode != 0
    assert complaint in done.stderr, done.stderr


def test_sixteen_are_allowed(own_stack, tmp_path):
    rules = "".join(f"hotpath_param v{i} arg int default=0; "
                    for i in range(16))
    conf = tmp_path / "nginx.conf"
    for more, status in (("", 0), ("hotpath_param w arg int;", 1)):
        conf.write_text(
            f"load_module {own_stack.module};\nevents {{}}\nhttp {{ server {{"
            f" location / {{ {rules}{more} empty_gif; }} }} }}\n")
        done = subprocess.run(
            [own_stack.nginx, "-t", "-e", "stderr", "-p", str(tmp_path),
             "-c", str(conf)], capture_output=True, text=True, timeout=60,
            check=False, env=own_stack["nginx"].env)
        assert done.returncode == status, done.stderr
        assert status == 0 or "is there too often" in done.stderr
