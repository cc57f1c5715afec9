"""schemas/openapi.yaml against routes, problem codes and real answers.

The document is taken apart here and not by a validator of OpenAPI, which no
Debian packages: every reference leads somewhere, every schema in it is one,
every location of config/routes.conf has its path and the other way round, and
every problem code stands under its own status. Answers of the shared instance
must be described: status, media type, and a body that its schema takes.
"""

import json
import os
import re
import uuid

import jsonschema
import pytest
import yaml

from servers import ROOT, wait_until

with open(os.path.join(ROOT, "schemas", "openapi.yaml"),
          encoding="utf-8") as file:
    DOCUMENT = yaml.safe_load(file)


def resolve(node):
    while isinstance(node, dict) and "$ref" in node:
        target = node["$ref"]
        assert target.startswith("#/"), target
        node = DOCUMENT
        for name in target[2:].split("/"):
            assert name in node, target
            node = node[name]
    return node


def walk(node, path=""):
    yield path, node
    pairs = node.items() if isinstance(node, dict) else enumerate(
        node if isinstance(node, list) else ())
    for name, child in pairs:
        yield from walk(child, f"{path}/{name}")


def table():
    """code -> status, from the module."""
    with open(os.path.join(ROOT, "ngx_module", "ngx_http_hotpath_answer.h"),
              encoding="utf-8") as header:
        return {code: status for code, status in re.findall(
            r'X\([A-Z_0-9]+, "([a-z_0-9]+)", (\d{3}),', header.read())}


def responses():
    """(operation, status, media type, schema or None) of every answer."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                content = resolve(response).get("content", {None: {}})
                for kind, media in content.items():
                    yield f"{method} {path}", status, kind, media.get("schema")


def check(schema, value):
    jsonschema.Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}).validate(value)


def described(operation, answer):
    """The answer is one of those that the document has."""
    kind = (answer.headers["Content-Type"] or "").partition(";")[0] or None
    found = [schema for one, status, media, schema in responses()
             if (one, status, media) == (operation, str(answer.status), kind)]
    assert len(found) == 1, (operation, answer.status, kind)
    if kind and kind.endswith("json"):
        check(found[0], json.loads(answer.body))


def test_structure():
    assert DOCUMENT["openapi"].startswith("3.1.")
    names = []
    for path, node in walk(DOCUMENT):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            resolve(node)
        if path.endswith("/schema") or re.search(
                r"^/components/schemas/\w+$", path):
            jsonschema.Draft202012Validator.check_schema(node)
        if re.fullmatch(r"/paths/.*/(get|post)", path):
            names.append(node["operationId"])
            for status, response in node["responses"].items():
                assert resolve(response)["description"], (path, status)
            in_path = {resolve(each)["name"]
                       for each in node.get("parameters", ())
                       if resolve(each)["in"] == "path"}
            assert in_path == set(re.findall(r"\{(\w+)\}", path))
    assert len(names) == len(set(names)) == len(DOCUMENT["paths"])


def test_every_component_is_used():
    used = {node["$ref"] for _, node in walk(DOCUMENT)
            if isinstance(node, dict) and isinstance(node.get("$ref"), str)}
    for kind, components in DOCUMENT["components"].items():
        for name in components:
            if kind != "securitySchemes":  # named without a reference
                assert f"#/components/{kind}/{name}" in used, name


def test_routes():
    with open(os.path.join(ROOT, "config", "routes.conf"),
              encoding="utf-8") as conf:
        routes = set(re.findall(r"^location (?:= )?(\S+)", conf.read(), re.M))
    assert len(routes) > 5
    assert {re.sub(r"\{\w+\}$", "", path)
            for path in DOCUMENT["paths"]} == routes


def test_problem_codes():
    codes = table()
    assert len(codes) > 70
    listed = DOCUMENT["components"]["schemas"]["ProblemCode"]["enum"]
    assert sorted(listed) == sorted(codes)
    given = 0
    for operation, status, kind, schema in responses():
        if kind == "application/problem+json":
            for code in schema["allOf"][1]["properties"]["code"]["enum"]:
                assert codes[code] == status, (operation, code)
                given += 1
    assert given > 100


CLOUD = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize("path, body, headers, status", [
    ("/events", {"eventType": "t", "payload": 1, "idempotencyKey": "{}"}, {},
     202),
    ("/events", [{"eventType": "t", "payload": 1, "idempotencyKey": "{}"},
                 {"eventType": "t", "payload": 1, "idempotencyKey": "{}"},
                 {"eventType": "t", "payload": 2, "idempotencyKey": "{}"},
                 7], {}, 202),
    ("/events", {"eventType": "t", "payload": 1, "idempotencyKey": "{}"},
     {"Prefer": "respond-sync"}, 200),
    ("/events", [{"eventType": "t", "payload": 1, "idempotencyKey": "{}"}, 7],
     {"Prefer": "respond-sync"}, 200),
    ("/events", dict(CLOUD, id="{}"),
     {"Content-Type": "application/cloudevents+json"}, 202),
    ("/events", [dict(CLOUD, id="{}"), dict(CLOUD, time="now")],
     {"Content-Type": "application/cloudevents-batch+json"}, 202),
    ("/events", dict(CLOUD, x=[]),
     {"Content-Type": "application/cloudevents+json"}, 400),
    ("/events", "{", {}, 400),
    ("/events", "{}", {"Content-Type": "a/b"}, 415),
    ("/events", "{}", {"Content-Encoding": "br"}, 415),
    ("/events", " " * 2000000, {}, 413)])
def test_answers_to_writes(stack, path, body, headers, status):
    if not isinstance(body, str):
        body = json.dumps(body).replace("{}", f"api-{uuid.uuid4()}")
    answer = stack.request("POST", path, body, {
        "Content-Type": "application/json", **headers})
    assert answer.status == status, answer
    described("post /events", answer)


def purge_token(stack):
    with open(stack.path("nginx", "purge.tokens"), encoding="utf-8") as tokens:
        return tokens.readline().strip()


@pytest.mark.parametrize("body, status", [
    ({"model": "prices", "key": "1"}, 200), ({"model": "prices", "x": 1}, 400),
    ({"model": "prices", "tag": ""}, 400), ("{", 400), (None, 401)])
def test_answers_to_purges(stack, body, status):
    headers = {"Content-Type": "application/json"}
    if body is not None:
        headers["Authorization"] = f"Bearer {purge_token(stack)}"
    text = body if isinstance(body, str) else json.dumps(body)
    answer = stack.request("POST", "/purge", text, headers)
    assert answer.status == status, answer
    described("post /purge", answer)


def test_answers_to_reads(stack):
    name = f"api-{uuid.uuid4()}"
    product = uuid.uuid4().int % 10**15 + 1000
    operation = stack.post({
        "idempotencyKey": name, "eventType": "price_set", "payload": {
            "productId": product, "amount": 1, "currency": "EUR"}}).json()[
                "operationId"]
    stack.post({"idempotencyKey": name + "o", "eventType": "order_placed",
                "payload": {"orderId": name, "customer": name, "amount": 1,
                            "currency": "EUR"}})
    for path in (f"/prices/{product}", f"/orders/{name}"):
        wait_until(lambda path=path: stack.get(path).status == 200, 15,
                   f"{path} is there")
    etag = stack.get(f"/prices/{product}").headers["ETag"]
    for shape, path, headers, status in (
            ("/events/status/{operationId}", f"/events/status/{operation}",
             {}, 200),
            ("/events/status/{operationId}", "/events/status/x", {}, 400),
            ("/events/status/{operationId}",
             f"/events/status/{uuid.uuid4()}", {}, 404),
            ("/prices/{productId}", f"/prices/{product}", {}, 200),
            ("/prices/{productId}", f"/prices/{product}",
             {"If-None-Match": etag}, 304),
            ("/prices/{productId}", f"/prices/{product}",
             {"If-Match": '"x"'}, 412),
            ("/prices/{productId}", "/prices/1", {"X-Tenant": "a b"}, 400),
            ("/prices/{productId}", "/prices/none", {}, 404),
            ("/orders", f"/orders?customer={name}", {}, 200),
            ("/orders", "/orders", {}, 400),
            ("/orders", f"/orders?customer={name}&cursor=x", {}, 400),
            ("/orders/{orderId}", f"/orders/{name}", {}, 200),
            ("/orders/{orderId}", "/orders/none", {}, 404),
            ("/health/live", "/health/live", {}, 200),
            ("/health/ready", "/health/ready", {}, 200),
            ("/metrics", "/metrics", {}, 200), ("/ping", "/ping", {}, 200)):
        answer = stack.get(path, headers)
        assert answer.status == status, (path, answer)
        described(f"get {shape}", answer)
        if shape not in ("/ping", "/events/status/{operationId}"):
            described(f"get {shape}", stack.request("DELETE", path))
