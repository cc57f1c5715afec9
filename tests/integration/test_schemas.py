"""hotpath_schema: what is refused at the door, and where the fault is.

Each keyword once from both sides, with its code, pointer and the byte of the
body; payloads of all forms an event comes in; types with, without and with any
schema; and what `nginx -t` says of a file that is none. What a schema means is
tests/unit/test_schema.c's.
"""

import gzip
import json
import os
import subprocess
import uuid

import pytest

SCHEMAS = {
    "thing": {
        "type": "object",
        "required": ["id"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "minLength": 2, "maxLength": 4,
                   "pattern": "^[a-z]+$"},
            "kind": {"enum": ["a", "b"]},
            "one": {"const": 1},
            "n": {"type": "number", "minimum": 0, "maximum": 10},
            "x": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "at": {"type": "string", "format": "date-time"},
            "list": {"minItems": 1, "maxItems": 2,
                     "items": {"type": "integer"}},
            "a/b~c": {"minProperties": 1, "maxProperties": 2},
            "never": False,
        },
    },
    "number": {"type": "number"},
    "any": {"type": ["object", "null"]},
}

SERVER = """
location = /some {{ hotpath_write some;
    hotpath_schema thing {0}/thing.json;
    hotpath_schema number {0}/number.json; }}
location = /any {{ hotpath_write any;
    hotpath_schema thing {0}/thing.json;
    hotpath_schema * {0}/any.json; }}
location = /only {{ hotpath_write only; hotpath_schema_required on;
    hotpath_schema thing {0}/thing.json; }}
location /outer/ {{
    hotpath_schema thing {0}/thing.json;
    hotpath_schema_required on;
    location = /outer/inherits {{ hotpath_write inherits; }}
    location = /outer/own {{ hotpath_write own;
        hotpath_schema number {0}/number.json; }}
    location = /outer/off {{ hotpath_write off;
        hotpath_schema_required off; }}
}}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory, request):
    # beside pytest's own directory, which servers of another user cannot enter
    path = tmp_path_factory.getbasetemp().parent / "schemas"
    path.mkdir()
    for name, schema in SCHEMAS.items():
        (path / f"{name}.json").write_text(json.dumps(schema))
    request.module.STACK = {"without": ("project",),
                            "server": SERVER.format(path)}
    return path


@pytest.fixture
def door(directory, own_stack):
    return own_stack


def event(payload, kind="thing"):
    return {"idempotencyKey": f"schemas-{uuid.uuid4()}", "eventType": kind,
            "payload": payload}


def post(stack, body, path="/some", kind="application/json", **headers):
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    return stack.request("POST", path, body,
                         {"Content-Type": kind, **headers})


GOOD = {"id": "abc", "kind": "a", "one": 1.0, "n": 10, "x": 0.5,
        "at": "2026-01-31T12:00:00Z", "list": [1, 2], "a/b~c": {"x": 1}}


def test_good(door):
    for path in ("/some", "/any", "/only", "/outer/inherits"):
        assert post(door, event(GOOD), path).status == 202
        assert post(door, event({"id": "ab"}), path).status == 202


@pytest.mark.parametrize("change, code, pointer", [
    ({"id": None}, "schema_type", "/id"),
    ({"id": "a"}, "schema_min_length", "/id"),
    ({"id": "abcde"}, "schema_max_length", "/id"),
    ({"id": "ABC"}, "schema_pattern", "/id"),
    ({"kind": "c"}, "schema_enum", "/kind"),
    ({"one": 2}, "schema_const", "/one"),
    ({"n": -1}, "schema_minimum", "/n"),
    ({"n": 10.5}, "schema_maximum", "/n"),
    ({"x": 0}, "schema_exclusive_minimum", "/x"),
    ({"x": 1}, "schema_exclusive_maximum", "/x"),
    ({"at": "noon"}, "schema_format", "/at"),
    ({"list": []}, "schema_min_items", "/list"),
    ({"list": [1, 2, 3]}, "schema_max_items", "/list"),
    ({"list": [1, "2"]}, "schema_type", "/list/1"),
    ({"a/b~c": {}}, "schema_min_properties", "/a~1b~0c"),
    ({"a/b~c": {"x": 1, "y": 2, "z": 3}}, "schema_max_properties",
     "/a~1b~0c"),
    ({"never": 1}, "schema_false", "/never"),
    ({"mo\"re": 1}, "schema_additional", "/mo\"re")])
def test_violation(door, change, code, pointer):
    sent = event({**GOOD, **change})
    before = door.metric("hotpath_write_requests_total", "refused")
    answer = post(door, sent)
    assert answer.status == 422, answer
    problem = answer.json()
    assert (problem["code"], problem["pointer"]) == (code, pointer)
    assert set(problem) == {"type", "title", "status", "code", "pointer",
                            "offset"}
    assert door.metric("hotpath_write_requests_total",
                       "refused") == before + 1
    # nothing was stored under the key, so a better one may use it
    assert post(door, dict(sent, payload=GOOD)).status == 202


def test_missing_and_repeated_member(door):
    problem = post(door, event({"kind": "a"})).json()
    assert (problem["code"], problem["pointer"]) == ("schema_required", "/id")
    text = json.dumps(event(0)).replace(
        '"payload": 0', '"payload": {"id":"ab","id":"cd"}')
    problem = post(door, text).json()
    assert (problem["code"], problem["pointer"]) == ("schema_duplicate",
                                                     "/id")


def test_offset_is_that_of_the_body(door):
    """With white space, which is not stored, in a batch, and coded."""
    one = json.dumps(event({"id": "ab", "n": -12345}), indent=4)
    at = one.index("-12345")
    assert post(door, one).json()["offset"] == at
    assert post(door, gzip.compress(one.encode()),
                **{"Content-Encoding": "gzip"}).json()["offset"] == at
    good = json.dumps(event(GOOD))
    results = post(door, f"[{good}, {one}, {good}]").json()["results"]
    assert results[0]["status"] == "accepted"
    assert results[1]["problem"]["offset"] == at + len(good) + 3
    assert results[1]["problem"]["pointer"] == "/n"
    # the same event again: known
    assert results[2]["status"] == "accepted"


def test_types(door):
    assert post(door, event("free", "another")).status == 202
    assert post(door, event(7, "number")).status == 202
    assert post(door, event("7", "number")).json()["pointer"] == ""
    assert post(door, event("7", "another"), "/any").json()["code"] == \
        "schema_type"
    assert post(door, event(None, "another"), "/any").status == 202
    answer = post(door, event({}, "another"), "/only")
    assert (answer.status, answer.json()["code"]) == (422,
                                                      "event_type_unknown")


def test_inheritance(door):
    """A level with schemas of its own has none of those above."""
    assert post(door, event({}), "/outer/inherits").status == 422
    assert post(door, event(1, "number"), "/outer/inherits").json()[
        "code"] == "event_type_unknown"
    assert post(door, event(1, "number"), "/outer/own").status == 202
    assert post(door, event(GOOD), "/outer/own").json()["code"] == \
        "event_type_unknown"
    assert post(door, event(1, "number"), "/outer/off").status == 202
    assert post(door, event({}), "/outer/off").status == 422


def test_cloudevents(door):
    def cloud(**more):
        return {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/s",
                "type": "thing", **more}

    kind = "application/cloudevents+json"
    assert post(door, cloud(data=GOOD), kind=kind).status == 202
    text = json.dumps(cloud(data={"id": "ab", "n": 77}))
    problem = post(door, text, kind=kind).json()
    assert (problem["code"], problem["pointer"], problem["offset"]) == (
        "schema_maximum", "/n", text.index('"n": 77') + 5)
    # what is checked is what would be the payload
    for more in ({}, {"data_base64": "AA=="},
                 {"data": "x", "datacontenttype": "text/plain"}):
        assert post(door, cloud(**more), kind=kind).json()["code"] == \
            "schema_type"
    results = post(door, [cloud(data={}), cloud(data=GOOD)],
                   kind="application/cloudevents-batch+json").json()["results"]
    assert [each["status"] for each in results] == ["rejected", "accepted"]
    answer = post(door, '{"id":"ab","n":77}', **{
        "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s",
        "ce-type": "thing"})
    assert (answer.json()["pointer"], answer.json()["offset"]) == ("/n", 15)


@pytest.mark.parametrize("text, complaint", [
    ('{"type":"strin"}', "at byte"), ('{"frobnicate":1}', "frobnicate"),
    ('{"pattern":"("}', "at byte"), ("{", "at byte"), ("", "at byte"),
    (None, "failed")])
def test_what_is_wrong_with_a_file(door, tmp_path, text, complaint):
    """nginx -t names the file and the place."""
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_text(text)
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"load_module {door.module};\nevents {{}}\npid nginx.pid;\nhttp {{\n"
        "hotpath_nats 127.0.0.1:4222;\nserver { location / {\n"
        f"hotpath_write e; hotpath_schema t {path}; }} }} }}\n")
    done = subprocess.run(
        [door.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c",
         str(conf)], capture_output=True, text=True, timeout=60, check=False,
        env=door["nginx"].env)
    assert done.returncode != 0
    assert str(path) in done.stderr
    assert complaint in done.stderr
    assert f"{conf}:7" in done.stderr


@pytest.mark.parametrize("directives, complaint", [
    ("hotpath_schema t {0}/any.json; hotpath_schema t {0}/any.json;",
     "is duplicate"),
    ("hotpath_schema * {0}/any.json; hotpath_schema * {0}/any.json;",
     "is duplicate"),
    ("hotpath_schema t {0};", "is no file"),
    ("hotpath_batch_max 10001;", "between 0 and 10000"),
    ("hotpath_batch_size 65m;", "hotpath_batch_size"),
    ("hotpath_batch_size 60m;", "hotpath_body_memory"),
    ("hotpath_body_max 500k;", "group_size")])
def test_refused_configuration(door, directory, tmp_path, directives,
                               complaint):
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"load_module {door.module};\nevents {{}}\npid nginx.pid;\nhttp {{\n"
        "hotpath_nats 127.0.0.1:4222;\nserver { location / {\n"
        f"hotpath_write e; {directives.format(directory)} }} }} }}\n")
    done = subprocess.run(
        [door.nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c",
         str(conf)], capture_output=True, text=True, timeout=60, check=False,
        env=door["nginx"].env)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert os.path.basename(conf) in done.stderr
