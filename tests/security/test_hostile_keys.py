"""
Keys that are none, and what is made with the admin key. Which key opens which route is in
test_isolation_matrix.py.
"""

from __future__ import annotations

import secrets
from uuid import uuid4

import pytest


@pytest.fixture(scope="module")
def new_key(admin, shop):
    def make(*scopes):
        body = {"tenant_id": shop.tenant_id} | ({"scopes": scopes} if scopes else {})
        answer = admin.post("/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return make


@pytest.fixture
def using(anonymous, call):
    """Send to a route with these headers only."""

    def send(route, headers, **how):
        request = {"json": route.sample()} if route.schema else {}
        return anonymous.request(route.method, route.url(), headers=headers, **(request | how))

    return send


def guarded(routes, *audiences):
    return [route for route in routes if route.audience in audiences]


@pytest.mark.usefixtures("nothing_written")
def test_without_a_key_every_guarded_route_is_401(routes, using, problem):
    for route in guarded(routes, "admin", "merchant"):
        problem(using(route, {}), 401, "unauthenticated")
        problem(using(route, {"x-api-key": "", "x-admin-key": ""}), 401, "unauthenticated")
        problem(
            using(route, {"authorization": f"Bearer {'0' * 64}", "cookie": "x-api-key=1"}),
            401,
            "unauthenticated",
        )


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(
    "key",
    [
        "x",
        "0" * 63,
        "0" * 65,
        "G" * 64,
        "A" * 64,
        "0" * 63 + "\t0",
        "\u0660" * 64,
        "' OR 1=1 --",
        "0" * 64 + "," + "0" * 64,
    ],
)
def test_a_malformed_key_is_400(routes, using, problem, key):
    for route in guarded(routes, "merchant"):
        problem(using(route, {"x-api-key": key.encode()}), 400, "malformed_key")


@pytest.mark.usefixtures("nothing_written")
def test_a_wrong_admin_key_is_401(routes, using, problem, service):
    right = service.admin_api_key.get_secret_value()
    for route in guarded(routes, "admin"):
        for wrong in ("x", right[:-1], right + "x", right.upper(), "\u00e9", f"{right},{right}"):
            problem(using(route, {"x-admin-key": wrong.encode()}), 401, "unauthenticated")


def test_a_revoked_key_is_dead_at_once(admin, anonymous, problem, new_key):
    key = new_key()
    headers = {"x-api-key": key["api_key"]}
    assert anonymous.get("/invoices", headers=headers).status_code == 200
    assert admin.delete(f"/api-keys/{key['key_id']}").status_code == 204
    unknown = problem(anonymous.get("/invoices", headers={"x-api-key": secrets.token_hex(32)}), 401)
    revoked = problem(anonymous.get("/invoices", headers=headers), 401)
    assert revoked | {"request_id": ""} == unknown | {"request_id": ""}
    assert admin.delete(f"/api-keys/{key['key_id']}").status_code == 204


def test_a_key_is_shown_once_and_never_stored(admin, database, new_key):
    key = new_key()
    listed = admin.get("/api-keys", params={"tenant_id": key["tenant_id"], "limit": 200})
    assert key["key_id"] in listed.text
    assert key["api_key"] not in listed.text
    stored = str(database.rows("SELECT * FROM api_keys WHERE id = $1", key["key_id"]))
    assert key["api_key"] not in stored
    assert "argon2id" in stored


@pytest.mark.parametrize("path", ["/api-keys", "/gateway-accounts"])
def test_nothing_can_be_made_for_a_tenant_that_does_not_exist(admin, problem, nothing_written, path):
    account = {
        "gateway": "xendit",
        "name": "x",
        "credentials": {"secret_key": "a", "callback_token": "b"},
        "currencies": {"IDR": {}},
    }
    body = {"tenant_id": str(uuid4())} | (account if path == "/gateway-accounts" else {})
    problem(admin.post(path, json=body), 404, "not_found")


# --- gateway accounts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def account(shop, sandbox):
    return {
        "gateway": "xendit",
        "name": "x",
        "tenant_id": shop.tenant_id,
        "base_url": sandbox.xendit.url,
        "credentials": {"secret_key": "a", "callback_token": "b"},
        "currencies": {"IDR": {"percentage": "0.029", "fixed": "2000"}},
    }


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"gateway": "paypal"}, "#/gateway"),
        ({"currencies": {}}, "#/currencies"),
        ({"currencies": {"XXX": {}}}, "#/currencies/XXX"),
        ({"currencies": {"JPY": {}}}, "#/currencies/JPY"),
        ({"currencies": {"IDR": {"percentage": "1.1"}}}, "#/currencies/IDR"),
        ({"currencies": {"IDR": {"percentage": "NaN"}}}, "#/currencies/IDR"),
        ({"currencies": {"IDR": {"percentage": "1e-1"}}}, "#/currencies/IDR"),
        ({"currencies": {"IDR": {"fixed": "1.5"}}}, "#/currencies/IDR"),
        ({"currencies": {"IDR": {"fixed": "-1"}}}, "#/currencies/IDR"),
        ({"currencies": {"IDR": {"fixed": "9" * 30}}}, "#/currencies/IDR"),
        ({"currencies": {"X" * 50_000: {}}}, "#/currencies"),
        ({"currencies": {"ID~R/": {}}}, "#/currencies/ID~0R~1"),
        ({"credentials": {}}, "#/credentials"),
        ({"credentials": {"secret_key": "a"}}, "#/credentials"),
        ({"credentials": {"secret_key": "a", "callback_token": "b", "password": "c"}}, "#/credentials"),
        ({"credentials": {"secret_key": "a\nb: c", "callback_token": "b"}}, "#/credentials"),
        ({"credentials": {"secret_key": "", "callback_token": "b"}}, "#/credentials"),
        ({"options": {"unknown": 1}}, "#/options"),
        ({"base_url": "ftp://x"}, "#/base_url"),
        ({"base_url": "http://"}, "#/base_url"),
        ({"base_url": "http://user:password@x"}, "#/base_url"),
        ({"base_url": "http://x/?a=b"}, "#/base_url"),
        ({"base_url": "http://x/#a"}, "#/base_url"),
        ({"base_url": "http://[::1"}, "#/base_url"),
        ({"base_url": "http://x:99999999"}, "#/base_url"),
        ({"base_url": "http://x y/"}, "#/base_url"),
        ({"base_url": "http://x/\n"}, "#/base_url"),
        ({"base_url": "javascript:alert(1)"}, "#/base_url"),
        ({"base_url": ""}, "#/base_url"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_account_that_could_not_work_is_refused(
    admin, problem, nothing_written, shop, account, change, pointer
):
    for answer in (
        admin.post("/gateway-accounts", json=account | change),
        *(
            [admin.patch(f"/gateway-accounts/{shop.xendit_id}", json=change)]
            if "gateway" not in change
            else []
        ),
    ):
        problem(answer, 400, "invalid_request", [pointer])


def test_credentials_are_never_shown_and_never_stored_in_the_clear(admin, database, account):
    secret = secrets.token_hex(16)
    made = admin.post(
        "/gateway-accounts", json=account | {"credentials": {"secret_key": secret, "callback_token": secret}}
    )
    assert made.status_code == 201
    wrong = admin.patch(
        f"/gateway-accounts/{made.json()['gateway_id']}",
        json={"credentials": {"secret_key": secret, "x": secret}},
    )
    listed = admin.get("/gateway-accounts", params={"tenant_id": account["tenant_id"], "limit": 200})
    assert secret not in made.text + wrong.text + listed.text
    stored = database.rows("SELECT * FROM gateway_accounts WHERE id = $1", made.json()["gateway_id"])
    assert secret not in str(stored)
    assert secret.encode() not in stored[0]["credentials"]


def test_a_refused_gateway_key_is_not_in_the_answer(admin, shop, problem, account):
    made = admin.post(
        "/gateway-accounts",
        json=account | {"credentials": {"secret_key": "wrong-secret", "callback_token": "b"}},
    ).json()
    answer = shop.api.post("/invoices", json=shop.body() | {"gateway_id": made["gateway_id"]})
    problem(answer, 502, "gateway_rejected")
    assert "wrong-secret" not in answer.text
