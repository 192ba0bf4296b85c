"""
PayTrust in an application that has everything switched on: the API's refusals are the API's there too, and
the host's own routes stay as they were.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time

import pytest
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    NotAuthorizedException,
    PermissionDeniedException,
    ServiceUnavailableException,
    TooManyRequestsException,
)
from litestar.middleware import ASGIMiddleware
from pydantic import SecretStr

PAGE = "the shop's own page"
NOBODY = "01935c1e-0000-7000-8000-000000000000"
JSON = {"content-type": "application/json"}
REFUSALS = {
    "our path itself": ("GET", "", {}, 404, "not_found"),
    "our path with a slash": ("GET", "/", {}, 404, "not_found"),
    "no route": ("GET", "/nothing/at/all", {}, 404, "not_found"),
    "an id that is none": ("GET", "/invoices/x", {}, 404, "not_found"),
    "an id that is none, deeper": ("POST", "/invoices/x/cancel", {}, 404, "not_found"),
    "no key": ("GET", "/invoices", {}, 401, "unauthenticated"),
    "a malformed key": ("GET", "/invoices", {"headers": {"x-api-key": "x"}}, 400, "malformed_key"),
    "a wrong key": ("GET", "/invoices", {"headers": {"x-api-key": "0" * 64}}, 401, "unauthenticated"),
    "a wrong admin key": ("GET", "/tenants", {"headers": {"x-admin-key": "x" * 40}}, 401, "unauthenticated"),
    "a wrong method": ("PUT", "/invoices", {}, 405, "method_not_allowed"),
    "a method that Litestar does not know": ("PROPFIND", "/invoices", {}, 405, "method_not_allowed"),
    "OPTIONS": ("OPTIONS", "/invoices", {}, 405, "method_not_allowed"),
    "TRACE": ("TRACE", "/invoices", {}, 405, "method_not_allowed"),
    "a wrong method for an id": ("PUT", f"/invoices/{NOBODY}", {}, 405, "method_not_allowed"),
    "no JSON": ("POST", "/tenants", {"content": b"{", "headers": JSON}, 400, "malformed_body"),
    "no body": ("POST", "/tenants", {"headers": JSON}, 400, "invalid_request"),
    "a field too many": ("POST", "/tenants", {"json": {"name": "T", "x": 1}}, 400, "invalid_request"),
    "another type": ("POST", "/tenants", {"content": b"x", "headers": {}}, 415, "unsupported_media_type"),
    "too large": (
        "POST",
        "/tenants",
        {"content": b'"' + b"x" * 300_000, "headers": JSON},
        413,
        "body_too_large",
    ),
    "a card": ("POST", "/tenants", {"json": {"name": "4111 1111 1111 1111"}}, 422, "card_number"),
    "an unknown parameter": ("GET", "/tenants?lmit=1", {}, 400, "invalid_request"),
    "a parameter out of range": ("GET", "/tenants?limit=0", {}, 400, "invalid_request"),
    "a parameter of another type": ("GET", "/api-keys?tenant_id=x", {}, 400, "invalid_request"),
    "a foreign cursor": ("GET", "/tenants?cursor=x", {}, 400, "invalid_request"),
    "nobody's key": ("PUT", f"/api-keys/{NOBODY}/rotate", {}, 404, "not_found"),
    "nobody's account": ("PATCH", f"/gateway-accounts/{NOBODY}", {"json": {"name": "n"}}, 404, "not_found"),
    "nobody's webhook": ("POST", "/webhooks/xendit/nobody", {"content": b"{}"}, 404, "not_found"),
}


def is_problem(answer, status, code):
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
    told = answer.json()
    assert (told["status"], told["code"]) == (status, code)
    assert answer.headers.get_list("x-request-id") == [told["request_id"]]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert int(answer.headers.get("content-length", len(answer.content))) >= 0
    return told


@pytest.fixture
def ask(admin):
    def send(client, case, prefix="/v1/pay"):
        method, path, how, status, code = REFUSALS[case]
        headers = how.get("headers", {})
        if not {"x-api-key", "x-admin-key"} & headers.keys() and code != "unauthenticated":
            headers = headers | admin
        answer = client.request(method, prefix + path, **(how | {"headers": headers}))
        is_problem(answer, status, code)
        return answer

    return send


def test_every_refusal_of_the_api_stays_a_problem(host, ask):
    with host() as client:
        for case in REFUSALS:
            answer = ask(client, case)
            assert PAGE not in answer.text
            if answer.status_code == 405 and "Litestar" not in case:
                assert "GET" in answer.headers["allow"]


def test_every_refusal_is_a_problem_under_a_root_path(host, ask):
    """Behind a proxy that takes a prefix off, and tells it to the server."""
    with host(root_path="/behind") as client:
        for case in REFUSALS:
            ask(client, case)


def test_the_hosts_own_pages_stay_its_own(host, admin):
    with host() as client:
        assert client.get("/v1/nothing").text == PAGE
        assert client.get("/v1/payroll").text == PAGE
        assert client.post("/v1/orders").text == PAGE
        assert client.get("/v1/limits").json() == {"data": {"limit": 7}}
        thanks = client.get("/v1/pay/thanks")
        assert (thanks.status_code, thanks.headers["cache-control"]) == (200, "max-age=3600, public")
        assert thanks.headers["x-request-id"] == "the-shops"
        assert "content-security-policy" not in thanks.headers
        assert client.get("/v1/nothing", headers=admin).headers.get("ratelimit-policy") is None


def test_answers_have_the_apis_form_whatever_the_host_encodes(host, admin):
    with host() as client:
        made = client.post("/v1/pay/tenants", json={"name": "T"}, headers=admin)
        assert made.status_code == 201
        assert set(made.json()) == {"tenant_id", "name", "created_at"}
        assert not made.json()["tenant_id"].startswith("shop:")
        assert made.headers["cache-control"] == "no-store"
        assert "etag" not in made.headers
        assert (made.headers["x-powered-by"], made.headers["x-shop"]) == ("shop", "1")
        listed = client.get("/v1/pay/tenants?limit=1", headers=admin).json()
        assert len(listed["tenants"]) == 1
        assert listed["next_cursor"] is not None  # our own `limit`, not the host's of that name


def test_head_answers_like_get_without_a_body(host, admin):
    with host() as client:
        for path in ("/health/live", "/health/ready", "/tenants", "/api-keys/audit"):
            got, head = (client.request(verb, f"/v1/pay{path}", headers=admin) for verb in ("GET", "HEAD"))
            assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
            assert head.headers["content-type"] == got.headers["content-type"]
        is_head = client.head("/v1/pay/tenants")
        assert (is_head.status_code, is_head.content) == (401, b"")


# --- what the host refuses --------------------------------------------------------------------------------------------------

BY_EXCEPTION = {
    401: (NotAuthorizedException("log in"), "unauthenticated"),
    402: (HTTPException("pay first", status_code=402), "refused_by_host"),
    403: (PermissionDeniedException("no"), "forbidden"),
    429: (TooManyRequestsException(headers={"Retry-After": "17"}), "too_many_requests"),
    503: (ServiceUnavailableException("closed"), "unavailable"),
}


@pytest.mark.parametrize("status", BY_EXCEPTION)
@pytest.mark.parametrize("where", ["guards", "middleware"])
def test_a_refusal_of_the_hosts_is_a_problem_with_its_status(host, admin, status, where):
    exc, code = BY_EXCEPTION[status]

    async def guard(connection, _):
        if "/pay/" in str(connection.url):
            raise exc

    class Closed(ASGIMiddleware):
        async def handle(self, **_):
            raise exc

    with host(**{where: [guard if where == "guards" else Closed()]}) as client:
        answer = client.get("/v1/pay/tenants", headers=admin)
        told = is_problem(answer, status, code)
        assert "PayTrust is mounted" in told["detail"]
        if status in {429, 503}:
            assert int(answer.headers["retry-after"]) == (17 if status == 429 else 30)
        webhook = client.post("/v1/pay/webhooks/xendit/t", content=b"{}")
        assert webhook.status_code == (503 if status == 429 else status)
        assert webhook.json()["code"] == ("unavailable" if status == 429 else code)


def test_a_host_that_answers_before_our_route_answers_with_a_problem(host, admin):
    """Maintenance mode, allowed hosts: answers that are no exceptions."""

    async def closed(_: Request) -> Response[str]:
        return Response(
            "<h1>back soon</h1>", status_code=503, media_type="text/html", headers={"retry-after": "9"}
        )

    with host(before_request=closed) as client:
        answer = client.get("/v1/pay/tenants", headers=admin)
        is_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "9"
        is_problem(
            client.get("/v1/pay/tenants", headers=admin | {"host": "evil.example"}), 400, "invalid_request"
        )


def test_a_login_of_the_hosts_refuses_with_a_problem_unless_exempt(host, admin):
    with host(opt=None) as client:
        is_problem(client.get("/v1/pay/tenants", headers=admin), 401, "unauthenticated")


def test_a_browser_gets_its_answer_where_the_host_allows_its_origin(host):
    from litestar.config.cors import CORSConfig

    with host(cors_config=CORSConfig(allow_origins=["https://shop.example"])) as client:
        asked = {"origin": "https://shop.example", "access-control-request-method": "GET"}
        answer = client.options("/v1/pay/invoices", headers=asked)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"


# --- counting ---------------------------------------------------------------------------------------------------------------


def test_methods_and_paths_that_do_not_exist_count_against_the_address(host, settings_for, owner_url):
    settings = settings_for(owner_url, address_limit_per_minute=8)
    cases = [
        ("OPTIONS", "/invoices"),
        ("PROPFIND", "/invoices"),
        ("HEAD", "/nothing"),
        ("GET", "/invoices/x"),
    ]
    with host(settings=settings) as client:
        answers = [client.request(*case[:1], f"/v1/pay{case[1]}").status_code for case in cases * 4]
        assert answers[:8] == [405, 405, 404, 404] * 2
        assert answers[8:] == [429] * 8
        assert client.get("/v1/pay/health/live").status_code == 200


# --- tools of the host ------------------------------------------------------------------------------------------------------


def test_both_keep_their_names_in_the_openapi_document(host):
    with host() as client:
        document = client.app.openapi_schema.to_schema()
        schemas = document["components"]["schemas"]
        assert {"Key", "Scope", "InvoiceOut"} <= schemas.keys()
        assert schemas["Key"]["properties"].keys() == {"shop"}
        ours = {name for name in schemas if name.startswith("PayTrust")}
        theirs = json.dumps(document["paths"]["/v1/pay/thanks"])
        assert "PayTrust" not in theirs
        used = set()
        for path, operations in document["paths"].items():
            if path.startswith("/v1/pay/") and path != "/v1/pay/thanks":
                used |= {
                    part.split('"')[0] for part in json.dumps(operations).split("#/components/schemas/")[1:]
                }
                for operation in operations.values():
                    assert all(tag.startswith("PayTrust") for tag in operation["tags"])
                    assert "shopKey" not in json.dumps(operation["security"])
        assert used
        assert used <= ours


def test_a_refusal_has_a_status_code_and_no_traceback_in_the_hosts_log(host, admin, stdlib_lines):
    seen = []

    async def after(exc, _):
        seen.append(getattr(exc, "status_code", None))

    with host(after_exception=[after]) as client:
        client.get("/v1/pay/tenants", headers={"x-admin-key": "x" * 40})
        client.get("/v1/pay/invoices", headers={"x-api-key": "x"})
        client.get(f"/v1/pay/webhooks/{NOBODY}", headers=admin)
    assert seen == [401, 400, 404]
    assert not [line for line in stdlib_lines if line.exc_info or "Traceback" in line.getMessage()]


def test_nothing_of_a_request_stays_in_the_hosts_log_fields(host, admin):
    left = []

    class After(ASGIMiddleware):
        async def handle(self, scope, receive, send, next_app):
            with structlog.contextvars.bound_contextvars(request_id="shop-1", cart="c"):
                await next_app(scope, receive, send)
                left.append(structlog.contextvars.get_contextvars())

    with host(middleware=[After()]) as client:
        tenant_id = client.post("/v1/pay/tenants", json={"name": "T"}, headers=admin).json()["tenant_id"]
        made = client.post("/v1/pay/api-keys", json={"tenant_id": tenant_id}, headers=admin).json()
        answer = client.get("/v1/pay/invoices", headers={"x-api-key": made["api_key"]})
        assert answer.status_code == 200
        refused = client.get("/v1/pay/invoices")
    assert left == [{"request_id": "shop-1", "cart": "c"}] * 4
    assert answer.headers["x-request-id"] == refused.json()["request_id"] == "shop-1"


def test_every_access_line_of_a_refusal_has_its_code(host, ask, logged):
    from paytrust.api import context

    lines = logged(context)
    with host() as client:
        for case in REFUSALS:
            ask(client, case)
    wanted = [(status, code) for *_, status, code in REFUSALS.values()]
    assert [(line["status"], line.get("code")) for line in lines] == wanted


def test_a_host_without_structlog_gets_our_lines_with_their_levels(host, stdlib_lines, capfd):
    structlog.reset_defaults()
    with host() as client:
        client.get("/v1/pay/invoices")
        until = time.monotonic() + 5
        while not (lines := [line for line in stdlib_lines if line.name == "paytrust.access"]):
            assert time.monotonic() < until
    assert [line.levelno for line in lines] == [logging.INFO]
    assert "request" in lines[0].getMessage()
    assert "status=401" in lines[0].getMessage()
    assert "status=401" not in capfd.readouterr().out


# --- the command line -------------------------------------------------------------------------------------------------------

APP = """
import json, os
from litestar import Litestar
from paytrust.litestar import PayTrustPlugin, Registry, Settings

settings = Settings(_env_file=None, **json.loads(os.environ["SHOP_SETTINGS"]))
registry = Registry(entry_points=[])
app = Litestar(plugins=[PayTrustPlugin(settings, path="/pay", registry=registry)])
"""


def test_the_command_line_has_the_applications_settings_and_plugins(tmp_path, hosted):
    """No variable of ours is set: the application makes its settings itself."""
    (tmp_path / "shop.py").write_text(APP)
    given = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in hosted
        if name in {"database_url", "admin_api_key", "key_pepper", "public_url"}
    } | {
        "encryption_keys": {key: secret.get_secret_value() for key, secret in hosted.encryption_keys.items()}
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "litestar", "--app", "shop:app", "paytrust", *arguments],
            env=environment | {"SHOP_SETTINGS": json.dumps(given), "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    made = run("tenants", "create", "Of the shop")
    assert made.returncode == 0, made.stderr
    assert "Of the shop" in run("tenants", "list").stdout
    assert "xendit" not in run("gateways", "list").stdout
    assert "the database answers" in run("doctor").stdout
