"""PayTrust mounted in a host that has handlers, middleware, CSRF, error pages and OpenAPI of its own."""

from __future__ import annotations

import contextlib
import threading
import time

import httpx
import pytest
import uvicorn
from litestar import Litestar, Request, Response, get, post
from litestar.config.compression import CompressionConfig
from litestar.config.csrf import CSRFConfig
from litestar.config.response_cache import ResponseCacheConfig
from litestar.exceptions import HTTPException, ImproperlyConfiguredException
from litestar.middleware import ASGIMiddleware
from litestar.openapi.config import OpenAPIConfig
from support.waiting import eventually

from paytrust.litestar import PayTrustPlugin


@get("/")
async def front() -> dict[str, str]:
    return {"shop": "front page"}


@post("/orders")
async def order() -> dict[str, str]:
    return {"order": "1"}


@get("/broken")
async def broken() -> None:
    raise RuntimeError("the shop's own bug")


@get("/health/live")
async def shop_health() -> dict[str, str]:
    return {"shop": "alive"}


class Stamp(ASGIMiddleware):
    """The host's middleware: it sees every request, ours too."""

    async def handle(self, scope, receive, send, next_app):
        assert Request(scope).headers["host"]

        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-shop", b"1")]
            await send(message)

        await next_app(scope, receive, stamped)


def shop_error(_: Request, exc: Exception) -> Response[str]:
    return Response(
        f"shop says: {type(exc).__name__}",
        status_code=getattr(exc, "status_code", 500),
        media_type="text/plain",
    )


@contextlib.contextmanager
def hosting(plugin, port):
    app = Litestar(
        [front, order, broken, shop_health],
        plugins=[plugin],
        middleware=[Stamp()],
        compression_config=CompressionConfig("gzip", minimum_size=1),
        csrf_config=CSRFConfig(secret="s" * 32),
        exception_handlers={HTTPException: shop_error, RuntimeError: shop_error},
        openapi_config=OpenAPIConfig(title="Shop", version="9", path="/schema"),
        response_cache_config=ResponseCacheConfig(default_expiration=60),
        logging_config=None,
    )
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def hosted(settings_for, owner_url):
    """Settings whose public address lies under the host's prefix."""
    settings = settings_for(owner_url)
    return settings.model_copy(update={"public_url": f"{settings.public_url}/pay"})


@pytest.fixture
def shop(hosted):
    with hosting(PayTrustPlugin(hosted, path="/pay"), hosted.port) as client:
        yield client


def test_the_host_keeps_its_own(shop):
    assert shop.get("/").json() == {"shop": "front page"}
    assert shop.get("/health/live").json() == {"shop": "alive"}
    assert shop.get("/").headers["x-shop"] == "1"
    assert "content-security-policy" not in shop.get("/").headers
    assert "x-request-id" not in shop.get("/").headers
    assert shop.get("/nothing").text == "shop says: NotFoundException"
    assert shop.get("/broken").text == "shop says: RuntimeError"
    assert shop.delete("/orders").text == "shop says: MethodNotAllowedException"


def test_the_hosts_csrf_protects_the_host_and_leaves_the_api_alone(shop, hosted):
    assert shop.post("/orders").status_code == 403
    admin = {"X-Admin-Key": hosted.admin_api_key.get_secret_value()}
    assert shop.post("/pay/tenants", json={"name": "T"}, headers=admin).status_code == 201


def test_a_repeated_request_gets_its_answer_again_although_the_host_compresses(shop, hosted):
    headers = {"X-Admin-Key": hosted.admin_api_key.get_secret_value(), "Idempotency-Key": "k"}
    first, second = (shop.post("/pay/tenants", json={"name": "T" * 200}, headers=headers) for _ in range(2))
    plain = shop.post(
        "/pay/tenants", json={"name": "T" * 200}, headers=headers | {"Accept-Encoding": "identity"}
    )
    assert first.status_code == 201
    assert first.content == second.content == plain.content
    assert [answer.headers.get("idempotent-replayed") for answer in (first, second, plain)] == [
        None,
        "true",
        "true",
    ]
    assert {answer.headers["x-shop"] for answer in (first, second, plain)} == {"1"}
    assert shop.get("/pay/tenants", headers=headers).headers["content-encoding"] == "gzip"
    assert len(shop.get("/pay/tenants", headers=headers).json()["tenants"]) == 1


def test_a_malformed_key_under_the_prefix_is_a_problem(shop, hosted):
    headers = {"X-Admin-Key": hosted.admin_api_key.get_secret_value(), "Idempotency-Key": '"'}
    answer = shop.post("/pay/tenants", json={"name": "T"}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_errors_under_the_prefix_are_problems(shop):
    for answer, status in (
        (shop.get("/pay/nothing"), 404),
        (shop.get("/pay/invoices"), 401),
        (shop.request("PUT", "/pay/invoices"), 405),
        (shop.post("/pay/invoices", content=b"x" * 400_000), 401),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_hosts_middleware_sees_our_requests(shop):
    assert shop.get("/pay/health/live").headers["x-shop"] == "1"


def test_a_path_that_only_begins_like_the_prefix_is_the_hosts(shop):
    assert shop.get("/payroll").text == "shop says: NotFoundException"


def test_both_are_in_the_hosts_openapi(shop):
    document = shop.get("/schema/openapi.json").json()
    assert document["info"]["title"] == "Shop"
    assert {"/orders", "/pay/invoices", "/pay/webhooks/{gateway}/{token}"} <= document["paths"].keys()
    assert {"paytrustApiKey", "paytrustAdminKey"} <= document["components"]["securitySchemes"].keys()
    assert "security" not in document["paths"]["/orders"]["post"]


def test_a_payment_runs_through_the_host(shop, hosted, sandbox):
    admin = {"X-Admin-Key": hosted.admin_api_key.get_secret_value()}
    tenant_id = shop.post("/pay/tenants", json={"name": "T"}, headers=admin).json()["tenant_id"]
    key = {
        "X-API-Key": shop.post("/pay/api-keys", json={"tenant_id": tenant_id}, headers=admin).json()[
            "api_key"
        ]
    }
    far = sandbox.xendit
    far.reset()
    account = shop.post(
        "/pay/gateway-accounts",
        headers=admin,
        json={
            "gateway": "xendit",
            "name": "x",
            "tenant_id": tenant_id,
            "base_url": far.url,
            "credentials": {"secret_key": far.key, "callback_token": far.callback_token},
            "currencies": {"MYR": {}},
        },
    ).json()
    assert account["webhook_url"].startswith(f"http://127.0.0.1:{hosted.port}/pay/webhooks/xendit/")
    far.webhook_url = account["webhook_url"]
    line = {"product_name": "Tea", "quantity": 3, "unit_price": "19.99"}
    created = shop.post(
        "/pay/invoices",
        json={"gateway_id": account["gateway_id"], "currency": "MYR", "line_items": [line]},
        headers=key,
    )
    assert created.status_code == 201, created.text
    invoice = created.json()
    assert invoice["total_amount"] == "59.97"
    path = f"/pay/invoices/{invoice['invoice_id']}"
    far.pay(shop.get(f"{path}/payments", headers=key).json()["payments"][0]["reference"])
    eventually(lambda: shop.get(path, headers=key).json()["status"] == "paid", "the invoice is paid")


def test_installing_it_twice_is_refused(hosted):
    with pytest.raises(ImproperlyConfiguredException, match="twice"):
        Litestar(plugins=[PayTrustPlugin(hosted, path="/a"), PayTrustPlugin(hosted, path="/b")])


def test_two_applications_with_two_databases_live_in_one_process(hosted, settings_for, another_owner_url):
    other = settings_for(another_owner_url)
    with (
        hosting(PayTrustPlugin(hosted, path="/pay"), hosted.port) as one,
        hosting(PayTrustPlugin(other, path="/pay"), other.port) as two,
    ):
        key = {"X-Admin-Key": hosted.admin_api_key.get_secret_value()}
        assert one.post("/pay/tenants", json={"name": "of one"}, headers=key).status_code == 201
        assert [tenant["name"] for tenant in one.get("/pay/tenants", headers=key).json()["tenants"]] == [
            "of one"
        ]
        assert two.get("/pay/tenants", headers=key).json()["tenants"] == []
