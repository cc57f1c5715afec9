"""The shipped read models besides prices: an event, a row, a document.

prices has its tests in test_stack.py and test_push.py, orders in test_lists.py.
"""

import json
import uuid

import pytest

from servers import wait_until

SERVER = """
location ~ ^/config/(?<name>[A-Za-z0-9._-]+)$ {
    hotpath_read config key=$name; hotpath_cache documents;
}
location /profiles/ {
    hotpath_read profiles tag=team; hotpath_cache documents;
}
"""

STACK = {"server": SERVER}


def post(stack, event_type, payload, tenant):
    answer = stack.post({"idempotencyKey": uuid.uuid4().hex,
                         "eventType": event_type, "payload": payload},
                        {"X-Tenant": tenant})
    assert answer.status == 202


def becomes(stack, path, tenant, condition):
    return wait_until(
        lambda: (lambda answer: answer if condition(answer) else None)(
            stack.get(path, {"X-Tenant": tenant})), 10, f"{path} is as sent")


@pytest.fixture
def tenant():
    return f"t-{uuid.uuid4().hex[:12]}"


def rows(stack, model, tenant):
    return stack.sql(f"SELECT key, document, deleted FROM hotpath.{model}"
                     " WHERE tenant = %s ORDER BY key", (tenant,))


def test_config_of_a_tenant(own_stack, tenant):
    path = f"/config/{tenant}"
    assert own_stack.get(path, {"X-Tenant": tenant}).status == 404
    first = {"theme": "dark", "limits": {"seats": 25}}
    post(own_stack, "config_set", {"settings": first}, tenant)
    answer = becomes(own_stack, path, tenant, lambda each: each.status == 200)
    assert answer.json() == {"tenantId": tenant, "settings": first}
    tag = answer.headers["ETag"]
    assert own_stack.get(path, {"X-Tenant": tenant,
                                "If-None-Match": tag}).status == 304
    post(own_stack, "config_set", {"settings": {"theme": "light"}}, tenant)
    answer = becomes(own_stack, path, tenant,
                     lambda each: each.headers["ETag"] != tag)
    assert answer.json()["settings"] == {"theme": "light"}
    # nobody else's, whatever the path says
    assert own_stack.get(path, {"X-Tenant": "other"}).status == 404
    (key, document, deleted), = rows(own_stack, "config", tenant)
    assert (key, deleted) == (tenant, False)
    assert json.loads(document) == answer.json()


def test_profiles(own_stack, tenant):
    profile = {"name": "Ada", "team": "core", "since": 1843}
    post(own_stack, "profile_set", {"userId": "u-17", "profile": profile},
         tenant)
    answer = becomes(own_stack, "/profiles/u-17", tenant,
                     lambda each: each.status == 200)
    assert answer.json() == {"userId": "u-17", "team": "core",
                             "profile": profile}
    post(own_stack, "profile_set", {"userId": "u-18", "profile": {}}, tenant)
    answer = becomes(own_stack, "/profiles/u-18", tenant,
                     lambda each: each.status == 200)
    assert answer.json()["team"] is None
    post(own_stack, "profile_removed", {"userId": "u-17"}, tenant)
    becomes(own_stack, "/profiles/u-17", tenant,
            lambda each: each.status == 404)
    assert [(key, deleted) for key, _, deleted
            in rows(own_stack, "profiles", tenant)] == [
                ("u-17", True), ("u-18", False)]


@pytest.mark.parametrize("event_type, payload", [
    ("config_set", {}), ("config_set", {"settings": [1]}),
    ("profile_set", {"userId": 17, "profile": {}}),
    ("profile_set", {"userId": "", "profile": {}}),
    ("profile_set", {"userId": "u", "profile": "x"}),
])
def test_what_is_no_event_of_a_model_is_passed_over(own_stack, tenant,
                                                    event_type, payload):
    post(own_stack, event_type, payload, tenant)
    post(own_stack, "config_set", {"settings": {"last": True}}, tenant)
    post(own_stack, "profile_set", {"userId": "last", "profile": {}}, tenant)
    becomes(own_stack, f"/config/{tenant}", tenant,
            lambda each: each.status == 200)
    becomes(own_stack, "/profiles/last", tenant,
            lambda each: each.status == 200)
    assert len(rows(own_stack, "config", tenant)) == 1
    assert len(rows(own_stack, "profiles", tenant)) == 1
    (errors,), = own_stack.sql(
        "SELECT count(*) FROM hotpath.projection_errors")
    assert errors == 0
