"""hotpath_cache in front of an upstream: RFC 9111 and what belongs to it.

What may be stored and for how long, what is validated and how, what may be
used when it is stale, what varies: ngx_module/ngx_http_hotpath_storable.c,
kept, variant and relay, against an origin that answers what a test tells it to
(tests/origin.py). Nearly every assertion is a count of the origin's requests.
"""

import email.utils
import gzip
import threading
import time

import pytest

import cached
from cached import (
    ERROR, OVER, STALE, get, purge, status, stored, twice)
from origin import Reply
from servers import Client, wait_until

STACK = cached.options


# What may be stored (RFC 9111, section 3).

@pytest.mark.parametrize("code", [200, 203, 204, 300, 301, 308, 404, 410])
def test_statuses_that_are_stored(nginx_only, origin, path, code):
    origin[path] = Reply("x", code, Location="/elsewhere")
    first, second, asked = twice(nginx_only, origin, path)
    assert asked == 1 and first.status == second.status == code
    assert second.headers["Location"] == "/elsewhere"
    ttl_s = 30 if code in (404, 410) else 60
    assert int(status(second)["ttl"]) in (ttl_s, ttl_s - 1)


@pytest.mark.parametrize("code", [201, 202, 302, 303, 307, 400, 401, 403, 405,
                                  429, 500, 501, 503])
def test_statuses_that_need_a_lifetime(nginx_only, origin, path, code):
    origin[path] = Reply("x", code)
    first, _, asked = twice(nginx_only, origin, path)
    assert asked == 2 and "stored" not in status(first)
    origin[path] = Reply("x", code, Cache_Control="max-age=60")
    _, second, asked = twice(nginx_only, origin, path)
    assert asked == 1 and second.status == code and second.body == b"x"


def test_partial_content_is_not_stored(nginx_only, origin, path):
    origin[path] = Reply("part", 206, Content_Range="bytes 0-3/9",
                         Cache_Control="max-age=60")
    assert twice(nginx_only, origin, path)[2] == 2


@pytest.mark.parametrize("fields, detail", [
    (dict(Cache_Control="no-store"), "no-store"),
    (dict(Cache_Control="private"), "private"),
    (dict(Cache_Control='private="x-one"'), "private"),
    (dict(Cache_Control=["max-age=60", "PRIVATE"]), "private"),
    (dict(Cache_Control="max-age=60", Set_Cookie="a=b"), "set-cookie"),
    (dict(Cache_Control="max-age=60", Vary="*"), "vary"),
    (dict(Cache_Control="max-age=60", Vary="a, *"), "vary"),
    (dict(Cache_Control="max-age=60", Vary="a b"), "vary"),
    (dict(Content_Type="text/event-stream"), "stream"),
    (dict(X_Accel_Buffering="no"), "stream"),
    (dict(Cache_Control="max-age=0"), "stale"),
    (dict(Cache_Control="no-cache"), "stale"),
    (dict(Cache_Control="max-age=x"), "stale"),
    (dict(Cache_Control="max-age=10", Age="11"), "stale"),
    (dict(Expires="0"), "stale"),
    (dict(Expires="Sun, 06 Nov 1994 08:49:37 GMT"), "stale"),
    (dict(X_Accel_Expires="0", Cache_Control="max-age=60"), "stale"),
    (dict(X_Accel_Expires="@1", Cache_Control="max-age=60"), "stale"),
    (dict(X_Big="x" * 3500, X_Big2="x" * 3500, X_Big3="x" * 3500,
          X_Big4="x" * 3500, X_Big5="x" * 3500), "header-size"),
])
def test_not_stored(nginx_only, origin, path, fields, detail):
    if "stale" in detail:
        fields = dict(fields)
        fields["Cache_Control"] = ", ".join(filter(None, [
            fields.get("Cache_Control"), "stale-if-error=0",
            "stale-while-revalidate=0"]))
    target = ("/heads" if detail == "header-size" else "") + path
    origin[target] = Reply("x", **fields)
    first, second, asked = twice(nginx_only, origin, target)
    assert asked == 2, second.headers
    assert first.body == second.body == b"x"
    assert status(first)["detail"] == detail


@pytest.mark.parametrize("control, asked", [
    ("max-age=60", 2), (None, 2), ("public", 1), ("max-age=60, public", 1),
    ("s-maxage=60", 1), ("max-age=60, must-revalidate", 1)])
def test_authorization(nginx_only, origin, path, control, asked):
    origin[path] = Reply("x", **({"Cache_Control": control} if control else
                                 {}))
    assert twice(nginx_only, origin, path, Authorization="Basic eDp5")[2] \
        == asked


def lifetime(nginx_only, origin, path, **fields):
    origin[path] = Reply("x", **fields)
    return int(status(get(nginx_only, path))["ttl"])


def date(offset_s):
    return email.utils.formatdate(time.time() + offset_s, usegmt=True)


@pytest.mark.parametrize("fields, ttl_s", [
    (dict(Cache_Control="max-age=100"), 100),
    (dict(Cache_Control="max-age=100, s-maxage=200"), 200),
    (dict(Cache_Control="max-age=100, s-maxage=20"), 20),
    (dict(Cache_Control='max-age="100"'), 100),
    (dict(Cache_Control="max-age=100, max-age=5"), 100),
    (dict(Cache_Control=["public", "max-age=100"]), 100),
    (dict(Cache_Control="max-age=99999999999999999999"), 2 ** 31),
    (dict(Cache_Control="max-age=100", Age="30"), 70),
    (dict(Cache_Control="max-age=100", Age="soon"), 100),
    (dict(Cache_Control="max-age=100", Age="-5"), 100),
    (dict(Cache_Control="max-age=100", Expires="0"), 100),
    (dict(Expires=date(500), Date=date(400)), 100),
    (dict(X_Accel_Expires="7", Cache_Control="max-age=100"), 7),
    (dict(X_Accel_Expires="soon", Cache_Control="max-age=100"), 100),
    (dict(Pragma="no-cache"), 60),
    ({}, 60),
])
def test_lifetimes(nginx_only, origin, path, fields, ttl_s):
    assert lifetime(nginx_only, origin, path, **fields) in (ttl_s, ttl_s - 1)
    # Age goes on from where it was
    age = fields.get("Age", "0")
    assert get(nginx_only, path).headers["Age"] in (
        age if age.isdigit() else "0", str(int(age) + 1)
        if age.isdigit() else "1")


def test_expires_without_date(nginx_only, origin, path):
    assert 95 <= lifetime(nginx_only, origin, path, Expires=date(100)) <= 100


def test_ignored_fields(nginx_only, origin, path):
    """proxy_ignore_headers means here what it means to proxy_cache."""
    path = "/ignore" + path
    origin[path] = Reply("x", Cache_Control="no-store", Set_Cookie="a=b",
                         Vary="*", Expires="0")
    first, second, asked = twice(nginx_only, origin, path)
    assert asked == 1 and first.headers["Set-Cookie"] == "a=b"
    assert "Set-Cookie" not in second.headers


def test_hidden_fields_count(nginx_only, origin, path):
    path = "/hide" + path
    origin[path] = Reply("x", Cache_Control="private")
    first, _, asked = twice(nginx_only, origin, path)
    assert asked == 2 and "Cache-Control" not in first.headers


def test_fields_of_one_hop_are_not_stored(nginx_only, origin, path):
    origin[path] = Reply(
        "x", Connection="close, X-Hop", X_Hop="1", Keep_Alive="timeout=9",
        Proxy_Authenticate="Basic", TE="trailers", Trailer="X-T", Upgrade="h9",
        Age="5", X_End="1", Cache_Control="max-age=100")
    get(nginx_only, path)
    second = get(nginx_only, path)
    assert "hit" in status(second)
    for name in ("X-Hop", "Keep-Alive", "Proxy-Authenticate", "TE", "Trailer",
                 "Upgrade"):
        assert name not in second.headers, name
    assert second.headers["X-End"] == "1"


def test_cache_status_of_the_upstream_stands_in_front(nginx_only, origin,
                                                      path):
    origin[path] = Reply("x", Cache_Status="Inner; hit")
    for answer in (get(nginx_only, path), get(nginx_only, path)):
        members = ", ".join(answer.headers.get_all("Cache-Status")).split(", ")
        assert members[0] == "Inner; hit"
        assert len(members) == 2 and members[1].startswith("Hotpath; ")


def test_added_headers_are_made_anew(nginx_only, origin, path):
    path = "/add" + path
    origin[path] = Reply("x")
    first, second, asked = twice(nginx_only, origin, path)
    assert asked == 1
    assert len(second.headers.get_all("X-Added")) == 1
    assert first.headers["X-Added"] != second.headers["X-Added"]


def test_rewritten_redirect(nginx_only, origin, path):
    origin[path] = Reply("", 301, Location="http://inner/there")
    for _ in range(2):
        answer = get(nginx_only, "/moved" + path)
        assert answer.headers["Location"].endswith("/moved/there")
    assert origin.count(path) == 1


@pytest.mark.parametrize("reply", [
    Reply("x" * 17000), Reply("x" * 40000, chunked=True)])
def test_too_large(nginx_only, origin, path, reply):
    path = "/small" + path
    origin[path] = reply
    first, second, asked = twice(nginx_only, origin, path)
    assert first.body == second.body == reply.body and asked == 2
    origin[path] = Reply("x" * 15000)
    assert twice(nginx_only, origin, path)[2] == 1


# Conditions and ranges of the client.

def test_condition_of_the_first(nginx_only, origin, path):
    """The origin sees none of it and the zone gets the whole."""
    origin[path] = Reply("whole" * 20000, ETag='"1"',
                         Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT")
    client = Client(nginx_only.ports["http"])
    answer = client.request("GET", path, headers={
        "If-None-Match": '"0", "1"',
        "If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"})
    assert (answer.status, answer.body) == (304, b"")
    seen = origin.last(path).headers
    assert not [name for name in seen if name.startswith("if-")]
    answer = client.request("GET", path)
    assert answer.body == b"whole" * 20000 and "hit" in status(answer)
    client.close()
    assert origin.count(path) == 1


def test_condition_of_a_hit(nginx_only, origin, path):
    origin[path] = Reply("x", ETag='W/"1"',
                         Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT")
    get(nginx_only, path)
    assert get(nginx_only, path, If_None_Match='"1"').status == 304
    assert get(nginx_only, path, If_None_Match='"2"').status == 200
    assert get(nginx_only, path, If_Modified_Since=
               "Sun, 06 Nov 1994 08:49:37 GMT").status == 304
    assert get(nginx_only, path, If_Match='"2"').status == 412
    assert origin.count(path) == 1


def test_condition_where_nothing_is_stored(nginx_only, origin, path):
    origin[path] = Reply("x", ETag='"1"', Cache_Control="no-store")
    answer = get(nginx_only, path, If_None_Match='"1"')
    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("headers", [
    {"Range": "bytes=0-1"}, {"If-Match": '"1"'},
    {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}])
def test_what_only_the_origin_can_answer(nginx_only, origin, path, headers):
    origin[path] = Reply("pa", 206, Content_Range="bytes 0-1/9")
    answer = nginx_only.get(path, headers)
    assert (answer.status, answer.body) == (206, b"pa")
    name, value = headers.popitem()
    assert origin.last(path).headers[name.lower()] == value
    origin[path] = Reply("pa and more", ETag='"1"', Last_Modified=
                         "Sun, 06 Nov 1994 08:49:37 GMT")
    get(nginx_only, path)
    answer = nginx_only.get(path, {name: value})
    assert answer.body == b"pa and more" and "hit" in status(answer)


# Validation (RFC 9111, section 4.3).

@pytest.mark.parametrize("fields, sent", [
    (dict(ETag='"v1"'), {"if-none-match": '"v1"'}),
    (dict(ETag='W/"v1"'), {"if-none-match": 'W/"v1"'}),
    (dict(Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT"),
     {"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}),
    (dict(ETag='"v1"', Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT"),
     {"if-none-match": '"v1"',
      "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"})])
def test_validation(nginx_only, origin, path, fields, sent):
    origin[path] = Reply("body", X_Old="1", X_Both="1", Age="20",
                         Content_Type="text/x", Cache_Control=OVER, **fields)
    get(nginx_only, path)
    origin[path] = Reply("", 304, X_Both="2", X_New="2", Content_Type="text/y",
                         Cache_Control="max-age=100", **fields)
    answer = get(nginx_only, path, If_None_Match='"client"')
    headers = origin.last(path).headers
    assert {name: value for name, value in headers.items()
            if name.startswith("if-")} == sent
    assert (answer.status, answer.body) == (200, b"body")
    shown = status(answer)
    assert shown.pop("ttl") in ("99", "100")
    assert shown == {"fwd": "stale", "fwd-status": "304", "stored": ""}
    again = get(nginx_only, path)
    assert "hit" in status(again) and again.body == b"body"
    for each in (answer, again):
        assert each.headers["X-Old"] == "1" and each.headers["X-New"] == "2"
        assert each.headers.get_all("X-Both") == ["2"]
        assert each.headers["Content-Type"] == "text/x"
        assert each.headers["Cache-Control"] == "max-age=100"
    assert origin.count(path) == 2


def test_validation_by_a_client_that_has_it(nginx_only, origin, path):
    origin[path] = Reply("body", ETag='"1"', Age="20", Cache_Control=OVER)
    get(nginx_only, path)
    origin[path] = Reply("", 304, ETag='"1"', Cache_Control="max-age=100")
    answer = get(nginx_only, path, If_None_Match='"1"')
    assert (answer.status, answer.body) == (304, b"")
    assert get(nginx_only, path).body == b"body"
    assert origin.count(path) == 2


def test_validation_that_fails_replaces(nginx_only, origin, path):
    origin[path] = Reply("one", ETag='"1"', Age="20", Cache_Control=OVER)
    get(nginx_only, path)
    origin[path] = Reply("two", ETag='"2"', Cache_Control="max-age=100")
    first, second, asked = twice(nginx_only, origin, path)
    assert first.body == second.body == b"two" and asked == 1
    assert status(first)["fwd"] == "stale"


def test_no_cache_is_validated_each_time(nginx_only, origin, path):
    origin[path] = lambda request: Reply(
        "" if "if-none-match" in request.headers else "body",
        304 if "if-none-match" in request.headers else 200,
        ETag='"1"', Cache_Control="no-cache")
    for _ in range(4):
        assert get(nginx_only, path).body == b"body"
    assert origin.count(path) == 4


def test_304_that_may_not_be_stored(nginx_only, origin, path):
    origin[path] = Reply("body", ETag='"1"', Age="20", Cache_Control=OVER)
    get(nginx_only, path)
    origin[path] = Reply("", 304, ETag='"1"', Cache_Control="no-store")
    assert get(nginx_only, path).body == b"body"
    origin[path] = Reply("new", ETag='"1"')
    assert get(nginx_only, path).body == b"new"
    assert "if-none-match" not in origin.last(path).headers


def test_304_with_another_tag(nginx_only, origin, path):
    """As a server says that forgets "-gzip" there: it was asked for one tag
    and says yes."""
    origin[path] = Reply("body", ETag='"1-gzip"', Age="20",
                         Cache_Control=OVER)
    get(nginx_only, path)
    origin[path] = Reply("", 304, ETag='"1"', Cache_Control="max-age=100")
    for _ in range(2):
        answer = get(nginx_only, path)
        assert answer.body == b"body" and answer.headers["ETag"] == '"1-gzip"'
    assert origin.count(path) == 2


def test_private_answer_takes_the_place(nginx_only, origin, path):
    """What cannot be stored says that what is stored is out of date."""
    origin[path] = Reply("all", ETag='"1"', Age="20", Cache_Control=ERROR)
    get(nginx_only, path)
    origin[path] = Reply("mine", Cache_Control="private")
    assert get(nginx_only, path).body == b"mine"
    origin[path] = Reply("broken", 500)
    assert get(nginx_only, path).status == 500


# Stale while it is renewed (RFC 5861).

def test_stale_while_revalidate(nginx_only, origin, path):
    stored(nginx_only, origin, path, "one", STALE)
    origin[path] = Reply("two", Cache_Control="max-age=100")
    with origin.hold(path):
        for _ in range(5):
            answer = get(nginx_only, path)
            assert answer.body == b"one"
            shown = status(answer)
            assert -11 <= int(shown.pop("ttl")) <= -10
            assert shown == {"hit": "", "detail": "stale-while-revalidate"}
        origin.wait_held(path, 1)
        assert origin.count(path) == 2
    wait_until(lambda: get(nginx_only, path).body == b"two", 10, "renewed")
    assert origin.count(path) == 2


def test_renewing_does_not_hold_the_next_request_up(nginx_only, origin, path):
    stored(nginx_only, origin, path, "one", STALE)
    client = Client(nginx_only.ports["http"], timeout_s=20)
    with origin.hold(path):
        first = client.request("GET", path)
        assert first.headers["Connection"] == "close"
        begin = time.monotonic()
        assert client.request("GET", path).body == b"one"
        assert time.monotonic() - begin < 5
        origin.wait_held(path, 1)
    client.close()


def test_renewed_by_304(nginx_only, origin, path):
    stored(nginx_only, origin, path, "one", STALE, ETag='"1"')
    origin[path] = Reply("", 304, Cache_Control="max-age=100")
    assert get(nginx_only, path, If_None_Match='"9"').body == b"one"
    wait_until(lambda: status(get(nginx_only, path)).get("ttl") in
               ("99", "100"), 10, "validated")
    assert origin.count(path) == 2
    assert origin.last(path).headers["if-none-match"] == '"1"'


def test_renewed_for_head(nginx_only, origin, path):
    stored(nginx_only, origin, path, "one", STALE)
    origin[path] = Reply("two", Cache_Control="max-age=100")
    assert nginx_only.request("HEAD", path).headers["Content-Length"] == "3"
    wait_until(lambda: get(nginx_only, path).body == b"two", 10, "renewed")
    assert origin.count(path) == origin.count(path, "GET") == 2


@pytest.mark.parametrize("size", [100000, 900000])
@pytest.mark.parametrize("prefix", ["", "/slow", "/nofile", "/unbuffered"])
def test_large_answers_are_renewed(nginx_only, origin, path, size, prefix):
    path = prefix + path
    stored(nginx_only, origin, path, "1" * size, STALE)
    origin[path] = Reply("2" * size, Cache_Control="max-age=100")
    assert get(nginx_only, path).body == b"1" * size
    wait_until(lambda: get(nginx_only, path).body == b"2" * size, 10,
               "renewed")
    assert origin.count(path) == 2


@pytest.mark.parametrize("reply", [
    Reply("broken", 500), Reply("cut", length=100), Reply(raw=b"garbage\r\n"),
    Reply("x" * 100, cut=10), Reply("x" * 5000, chunked=True, cut=3000)])
def test_renewal_that_fails_changes_nothing(nginx_only, origin, path, reply):
    stored(nginx_only, origin, path, "one", STALE)
    origin[path] = reply
    before = nginx_only.metric("hotpath_output_renewals_total")
    assert get(nginx_only, path).body == b"one"
    wait_until(lambda: origin.count(path) == 2, 10, "asked")
    # another one can begin, so that one has ended
    wait_until(lambda: get(nginx_only, path).body == b"one" and
               nginx_only.metric("hotpath_output_renewals_total")
               >= before + 2, 10, "asked again")


def test_renewal_that_may_not_be_stored_ends_it(nginx_only, origin, path):
    stored(nginx_only, origin, path, "one", STALE)
    origin[path] = Reply("mine", Cache_Control="private")
    assert get(nginx_only, path).body == b"one"
    wait_until(lambda: get(nginx_only, path).body == b"mine", 10, "dropped")


@pytest.mark.parametrize("control, windows", [
    ("max-age=10", "configured"),
    (STALE, "answer"),
    ("max-age=10, stale-while-revalidate=5", "over"),
    (OVER, "over"),
    ("max-age=10, must-revalidate", "over"),
    ("max-age=10, proxy-revalidate", "over"),
    ("max-age=10, must-revalidate, stale-while-revalidate=100", "over"),
    ("s-maxage=10", "over"),
    ("s-maxage=10, stale-while-revalidate=100", "answer")])
def test_windows(nginx_only, origin, path, control, windows):
    """Of the configuration, unless the answer says otherwise."""
    path = "/stale" + path
    origin[path] = Reply("one", ETag='"1"', Age="20", Cache_Control=control)
    get(nginx_only, path)
    origin[path] = Reply("two", Cache_Control="max-age=100")
    assert get(nginx_only, path).body == (b"two" if windows == "over"
                                          else b"one")


def test_refresh_ahead(nginx_only, origin, path):
    """One of eight hits in the last half of a life renews, on the average."""
    path = "/ahead" + path
    origin[path] = Reply("one", Age="60", Cache_Control="max-age=100")
    get(nginx_only, path)
    origin[path] = Reply("two", Cache_Control="max-age=100")
    wait_until(lambda: get(nginx_only, path).body == b"two", 20, "renewed")
    assert origin.count(path) == 2
    for _ in range(100):
        assert get(nginx_only, path).body == b"two"
    assert origin.count(path) == 2


# Stale where the origin fails. More of it is in tests/faults.

@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_stale_if_error(nginx_only, origin, path, code):
    stored(nginx_only, origin, path, "one", ERROR, X_Own="1")
    origin[path] = Reply("broken", code, X_Broken="1",
                         Cache_Control="max-age=60")
    answer = get(nginx_only, path)
    assert (answer.status, answer.body) == (200, b"one")
    assert answer.headers["X-Own"] == "1"
    assert "X-Broken" not in answer.headers
    assert status(answer)["detail"] == "stale-if-error"
    origin[path] = Reply("two")
    assert get(nginx_only, path).body == b"two"


@pytest.mark.parametrize("code", [400, 404, 429, 501])
def test_other_errors_are_answers(nginx_only, origin, path, code):
    stored(nginx_only, origin, path, "one", ERROR)
    origin[path] = Reply("no", code)
    assert get(nginx_only, path).status == code


@pytest.mark.parametrize("control", [
    OVER, "max-age=10, stale-if-error=5", "max-age=10, must-revalidate",
    "s-maxage=10"])
def test_stale_has_its_bounds(nginx_only, origin, path, control):
    origin[path] = Reply("one", ETag='"1"', Age="20", Cache_Control=control)
    get(nginx_only, path)
    origin[path] = Reply("broken", 503)
    assert get(nginx_only, path).status == 503


def test_stale_head_and_condition(nginx_only, origin, path):
    stored(nginx_only, origin, path, "one", ERROR, ETag='"1"')
    origin[path] = Reply("broken", 503)
    client = Client(nginx_only.ports["http"])
    head = client.request("HEAD", path)
    assert (head.status, head.headers["Content-Length"]) == (200, "3")
    answer = client.request("GET", path, headers={"If-None-Match": '"1"'})
    assert answer.status == 304
    assert client.request("GET", path).body == b"one"
    client.close()


# Vary.

def test_vary(nginx_only, origin, path):
    origin[path] = lambda request: Reply(
        request.headers.get("accept-language", "none"),
        Vary="Accept-Language")
    for language in ("de", "fr", None, ""):
        headers = {} if language is None else {"Accept-Language": language}
        for turn in range(2):
            answer = nginx_only.get(path, headers)
            assert answer.body.decode() == ("none" if language is None
                                            else language)
            if turn == 0 and language != "de":
                assert status(answer)["fwd"] == "vary-miss"
    assert origin.count(path) == 4


def test_vary_grows(nginx_only, origin, path):
    """An answer that varies by more does not make others wrong."""
    def answer(request):
        more = "a" in request.headers.get("x-a", "")
        return Reply(f"{request.headers.get('x-a')} "
                     f"{request.headers.get('x-b')}",
                     Vary="X-A, X-B" if more else "X-A")

    origin[path] = answer
    for a, b, want in [("1", "1", "1 1"), ("a", "1", "a 1"), ("a", "2", "a 2"),
                       ("a", "1", "a 1")]:
        assert get(nginx_only, path, X_A=a, X_B=b).body.decode() == want
    assert origin.count(path) == 3
    # without any Vary it is still one of them
    origin[path] = Reply("plain")
    assert get(nginx_only, path, X_A="z", X_B="1").body == b"plain"
    assert get(nginx_only, path, X_A="a", X_B="2").body == b"a 2"


def test_vary_by_many(nginx_only, origin, path):
    origin[path] = Reply("x", Vary=", ".join(f"X-{n}" for n in range(17)))
    assert twice(nginx_only, origin, path)[2] == 2


def test_accept_encoding_without_its_blanks(nginx_only, origin, path):
    origin[path] = Reply("x", Vary="accept-encoding")
    for value in ("gzip, br", "gzip,br", "GZIP,  br"):
        get(nginx_only, path, Accept_Encoding=value)
    assert origin.count(path) == 1


def test_coded_without_vary(nginx_only, origin, path):
    """An upstream that codes and does not say so."""
    def answer(request):
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Reply(gzip.compress(b"text"), Content_Encoding="gzip")
        return Reply("text")

    origin[path] = answer
    for _ in range(2):
        coded = get(nginx_only, path, Accept_Encoding="gzip")
        assert gzip.decompress(coded.body) == b"text"
        assert coded.headers["Content-Encoding"] == "gzip"
        plain = get(nginx_only, path, Accept_Encoding="identity")
        assert plain.body == b"text"
        assert "Content-Encoding" not in plain.headers
    assert origin.count(path) == 2


def test_configured_vary(nginx_only, origin, path):
    path = "/vary" + path
    origin[path] = lambda request: Reply(request.headers["x-kind"],
                                         Vary="X-Colour")
    for turn in range(2):
        for kind in ("a", "b"):
            answer = get(nginx_only, path, X_Kind=kind, X_Colour="red")
            assert answer.body.decode() == kind
            assert [each.lower() for each in
                    ", ".join(answer.headers.get_all("Vary")).split(", ")] \
                == ["x-colour", "x-kind"]
    assert origin.count(path) == 2


def test_unsafe_invalidates_all_variants(nginx_only, origin, path):
    origin[path] = lambda request: Reply(
        request.method + request.headers.get("x-a", ""), Vary="X-A")
    for value in "12":
        get(nginx_only, path, X_A=value)
    nginx_only.request("DELETE", path)
    for value in "12":
        get(nginx_only, path, X_A=value)
    assert origin.count(path, "GET") == 4


def test_variants_are_validated_apart(nginx_only, origin, path):
    def answer(request):
        tag = f'"{request.headers["x-a"]}"'
        if request.headers.get("if-none-match") == tag:
            return Reply("", 304, ETag=tag, Vary="X-A",
                         Cache_Control="max-age=100")
        return Reply(tag, ETag=tag, Vary="X-A", Age="20", Cache_Control=OVER)

    origin[path] = answer
    for _ in range(3):
        for value in "12":
            assert get(nginx_only, path, X_A=value).body.decode() == \
                f'"{value}"'
    assert origin.count(path) == 4


# What a client asks of a cache.

def test_request_control(nginx_only, origin, path):
    path = "/control" + path
    answer = get(nginx_only, path, Cache_Control="only-if-cached")
    assert answer.status == 504 and answer.json()["code"] == "not_cached"
    origin[path] = Reply("one")
    get(nginx_only, path)
    answer = get(nginx_only, path, Cache_Control="only-if-cached")
    assert answer.body == b"one" and origin.count(path) == 1
    for number, headers in enumerate([
            {"Cache-Control": "no-cache"}, {"Pragma": "no-cache"},
            {"Cache-Control": "min-fresh=100"}]):
        origin[path] = Reply(f"new {number}")
        answer = nginx_only.get(path, headers)
        assert answer.body == b"new %d" % number, headers
        assert status(answer)["fwd"] == "request"
        assert get(nginx_only, path).body == b"new %d" % number
    origin[path] = Reply("unseen")
    answer = nginx_only.get(path, {"Cache-Control": "max-stale=9",
                                   "Pragma": "no-cache"})
    assert answer.body == b"new 2"
    answer = nginx_only.get(path, {"Cache-Control": "no-store"})
    assert answer.body == b"unseen"
    assert get(nginx_only, path).body == b"new 2"


def test_request_control_is_ignored_by_default(nginx_only, origin, path):
    origin[path] = Reply("one")
    get(nginx_only, path)
    assert "hit" in status(get(nginx_only, path, Cache_Control="no-cache"))


# Purging.

def url(stack, path):
    return f"http://127.0.0.1:{stack.ports['http']}{path}"


def test_purge_by_key(nginx_only, origin, path):
    origin[path] = origin[path + "x"] = Reply("one")
    for each in (path, path + "x"):
        get(nginx_only, each)
        get(nginx_only, each, X_Tenant="acme")
    origin[path] = origin[path + "x"] = Reply("two")
    assert purge(nginx_only, model="@http", tenant="acme",
                 key=url(nginx_only, path)) == 1
    assert get(nginx_only, path).body == b"one"
    assert get(nginx_only, path + "x", X_Tenant="acme").body == b"one"
    first, second, asked = twice(nginx_only, origin, path, X_Tenant="acme")
    assert first.body == second.body == b"two" and asked == 1


def test_purge_by_name(nginx_only, origin, path):
    path = f"/key{path}?id=by-name"
    origin[path] = Reply("one")
    get(nginx_only, path)
    origin[path] = Reply("two")
    assert purge(nginx_only, model="@things", key="by-name") == 1
    assert get(nginx_only, path).body == b"two"
    assert purge(nginx_only, model="@things") >= 1
    origin[path] = Reply("three")
    assert get(nginx_only, path).body == b"three"


def test_purge_by_tag(nginx_only, origin, path):
    paths = {name: f"/tags{path}-{name}" for name in ("a", "b", "ab")}
    for name, each in paths.items():
        origin[each] = Reply("one", Cache_Tag=", ".join(
            path + letter for letter in name))
        get(nginx_only, each)
        origin[each] = Reply("two")
    assert purge(nginx_only, model="@http", tag=path + "b") == 2
    assert purge(nginx_only, model="@http", tag=path) == 0
    assert get(nginx_only, paths["a"]).body == b"one"
    assert get(nginx_only, paths["b"]).body == b"two"
    assert get(nginx_only, paths["ab"]).body == b"two"


@pytest.mark.parametrize("mode, body", [("soft", b"one"), ("hard", b"two")])
def test_soft_and_hard(nginx_only, origin, path, mode, body):
    """Soft leaves it to be used while it is renewed."""
    path = "/soft" + path
    origin[path] = Reply("one", ETag='"1"')
    get(nginx_only, path)
    origin[path] = Reply("two", ETag='"2"')
    assert purge(nginx_only, model="@http", key=url(nginx_only, path),
                 mode=mode) == 1
    assert get(nginx_only, path).body == body
    wait_until(lambda: get(nginx_only, path).body == b"two", 10, "renewed")
    assert origin.count(path) == 2


@pytest.mark.parametrize("mode, status", [("soft", 200), ("hard", 503)])
def test_purged_and_the_origin_down(nginx_only, origin, path, mode, status):
    path = path + "-down"
    origin[path] = Reply("one", Cache_Control="max-age=100, "
                         "stale-if-error=100")
    get(nginx_only, path)
    origin[path] = Reply("broken", 503)
    purge(nginx_only, model="@http", key=url(nginx_only, path), mode=mode)
    assert get(nginx_only, path).status == status


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_purge_of_a_url_is_one_of_all_its_variants(nginx_only, origin, path,
                                                   mode):
    path = "/soft" + path
    origin[path] = lambda request: Reply("one " + request.headers["x-a"],
                                         Vary="X-A", Cache_Tag=path)
    for value in "12":
        get(nginx_only, path, X_A=value)
    origin[path] = lambda request: Reply("two " + request.headers["x-a"],
                                         Vary="X-A")
    purge(nginx_only, model="@http", key=url(nginx_only, path), mode=mode)
    for value in "12":
        first = get(nginx_only, path, X_A=value).body
        # stale, if at all, for the first one that comes after it
        assert first == f"two {value}".encode() or \
            (mode == "soft" and value == "1")
        wait_until(lambda: get(nginx_only, path, X_A=value).body
                   == f"two {value}".encode(), 10, "renewed")


def test_purge_of_one_variant_by_its_tag(nginx_only, origin, path):
    path = "/tags" + path
    origin[path] = lambda request: Reply(
        "one", Vary="X-A", Cache_Tag=path + request.headers["x-a"])
    for value in "12":
        get(nginx_only, path, X_A=value)
    origin[path] = Reply("two", Vary="X-A")
    assert purge(nginx_only, model="@http", tag=path + "2") == 1
    assert get(nginx_only, path, X_A="1").body == b"one"
    assert get(nginx_only, path, X_A="2").body == b"two"


def test_purge_while_it_is_under_way(nginx_only, origin, path):
    """What was asked for before the purge is given, and not trusted."""
    origin[path] = Reply("old")
    answers = []
    with origin.hold(path):
        reader = threading.Thread(
            target=lambda: answers.append(get(nginx_only, path)))
        reader.start()
        origin.wait_held(path, 1)
        purge(nginx_only, model="@http", key=url(nginx_only, path))
    reader.join(20)
    assert answers[0].body == b"old"
    origin[path] = Reply("new")
    assert get(nginx_only, path).body == b"new"
