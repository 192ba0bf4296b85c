"""
Hosts that PayTrust is mounted in: Litestar applications of somebody else's, behind a real server.

`FullHost` has everything switched on that an application can switch on for all of its routes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from uuid import UUID

import httpx
import msgspec
import pytest
import uvicorn
from litestar import Litestar, Request, Response, get, post
from litestar.config.allowed_hosts import AllowedHostsConfig
from litestar.config.app import AppConfig
from litestar.config.compression import CompressionConfig
from litestar.config.csrf import CSRFConfig
from litestar.config.response_cache import ResponseCacheConfig
from litestar.datastructures import CacheControlHeader, ETag, ResponseHeader
from litestar.di import NamedDependency, Provide
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotAuthorizedException,
    NotFoundException,
    ValidationException,
)
from litestar.logging import LoggingConfig
from litestar.middleware import ASGIMiddleware
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.openapi.config import OpenAPIConfig
from litestar.params import HeaderParameter
from litestar.plugins import InitPlugin
from litestar.security.session_auth import SessionAuth

from paytrust.errors import PayTrustError
from paytrust.litestar import PayTrustPlugin

PAGE = "the shop's own page"
EXEMPT = {"shop_open_to_all": True}
"""What the host's login and CSRF look for on a route that they leave alone."""


class Key(msgspec.Struct):
    """Types of the host that are called like ours."""

    shop: str


class Scope(msgspec.Struct):
    key: Key


class InvoiceOut(msgspec.Struct):
    scope: Scope


class Principal(msgspec.Struct):
    name: str


class ShopResponse(Response):
    """The host's own way to answer."""

    def render(self, content, media_type, *args):
        return (
            b'{"shop": "renders"}'
            if isinstance(content, msgspec.Struct)
            else super().render(content, media_type, *args)
        )


class Stamp(ASGIMiddleware):
    """The host's middleware: it names every answer, and logs under an id of its own."""

    async def handle(self, scope, receive, send, next_app):
        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-shop", b"1"), (b"X-Request-ID", b"the-shops")]
            await send(message)

        await next_app(scope, receive, stamped)


class LatePlugin(InitPlugin):
    """It comes after ours and sets what ours may have looked at already."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.csrf_config = CSRFConfig(secret="s" * 32, exclude_from_csrf_key="shop_takes_no_cookies")
        app_config.exception_handlers[HTTPException] = page
        return app_config


def page(_: Request, exc: Exception) -> Response[str]:
    return Response(PAGE, status_code=getattr(exc, "status_code", 500), media_type="text/html")


def front_page(_: Request, __: Exception) -> Response[str]:
    """How an application of one page answers every path that it does not know."""
    return Response(PAGE, status_code=200, media_type="text/html")


def provides(value):
    return lambda: value


def allow(*_) -> None:
    """A guard of the host's that has nothing against anybody."""


async def envelope(response: Response) -> Response:
    response.content = {"data": response.content}
    return response


@get("/", opt=EXEMPT)
async def front() -> dict[str, str]:
    return {"shop": "front page"}


@post("/orders", opt={"shop_open_to_all": False})
async def order() -> dict[str, str]:
    return {"order": "1"}


@get("/pay/thanks", opt=EXEMPT)
async def thanks() -> InvoiceOut:
    """A page of the host's below our path."""
    return InvoiceOut(Scope(Key("thanks")))


@get("/limits", opt=EXEMPT)
async def limits(limit: NamedDependency[int]) -> dict[str, int]:
    return {"limit": limit}


def full_host(plugin, port, **changes):
    """An application with everything switched on, with PayTrust in it."""
    names = ("limit", "cursor", "gateway", "status", "flag", "db", "invoices", "principal", "caller", "token")
    auth = SessionAuth[dict, ServerSideSessionConfig](
        retrieve_user_handler=lambda *_: None,
        session_backend_config=ServerSideSessionConfig(session_id_bytes=16),
        exclude_opt_key="shop_open_to_all",
        exclude=["/schema"],
    )
    options = {
        "path": "/v1",
        "exception_handlers": {
            404: front_page,
            **dict.fromkeys((400, 401, 403, 405, 409, 413, 422, 429, 500, 503), page),
            **dict.fromkeys(
                (
                    ClientException,
                    ValidationException,
                    NotFoundException,
                    NotAuthorizedException,
                    MethodNotAllowedException,
                    PayTrustError,
                    LookupError,
                    Exception,
                ),
                page,
            ),
        },
        "guards": [allow],
        "middleware": [RateLimitConfig(rate_limit=("minute", 100_000)).middleware, Stamp()],
        "on_app_init": [auth.on_app_init],
        "cache_control": CacheControlHeader(public=True, max_age=3600),
        "etag": ETag(value="shop"),
        "allowed_hosts": AllowedHostsConfig(allowed_hosts=[f"127.0.0.1:{port}"]),
        "compression_config": CompressionConfig("gzip", minimum_size=1),
        "response_cache_config": ResponseCacheConfig(default_expiration=60),
        "logging_config": LoggingConfig(log_exceptions="always"),
        "openapi_config": OpenAPIConfig(title="Shop", version="9", path="/schema"),
        "dependencies": {
            name: Provide(provides(f"the shop's {name}"), sync_to_thread=False) for name in names
        }
        | {"limit": Provide(provides(7), sync_to_thread=False)},
        "parameters": {"currency": HeaderParameter(name="x-shop-currency", annotation=str, default="")},
        "signature_types": [Principal],
        "type_encoders": {UUID: lambda value: f"shop:{value}"},
        "response_class": ShopResponse,
        "response_headers": [ResponseHeader(name="x-powered-by", value="shop")],
        "after_request": envelope,
        "opt": {"access": "admin", "limited": False, "paytrust": "the shop's own"},
        "security": [{"shopKey": []}],
        "tags": ["shop"],
        "debug": False,
    } | changes
    return Litestar([front, order, thanks, limits], plugins=[plugin, LatePlugin()], **options)


@contextlib.contextmanager
def serving(app, port, **config):
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, **config))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session", name="serving")
def _serving():
    """Serve an application: `with serving(app, port) as client`."""
    return serving


@pytest.fixture
def hosted(settings_for, owner_url):
    """Settings whose public address lies under the host's prefix."""
    settings = settings_for(owner_url)
    return settings.model_copy(update={"public_url": f"{settings.public_url}/v1/pay"})


@pytest.fixture
def host(hosted):
    """Start a full host, perhaps with changes of its arguments."""

    @contextlib.contextmanager
    def start(*, root_path="", opt=EXEMPT, settings=hosted, **changes):
        plugin = PayTrustPlugin(settings, path="/pay", opt=opt)
        app = full_host(plugin, settings.port, **changes)
        with serving(app, settings.port, root_path=root_path) as client:
            client.app = app
            yield client

    return start


@pytest.fixture
def admin(hosted):
    return {"X-Admin-Key": hosted.admin_api_key.get_secret_value()}


@pytest.fixture
def stdlib_lines():
    """What Python's own logging is told by us and by the framework."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    handler, loggers = Keep(), [logging.getLogger(name) for name in ("paytrust", "litestar")]
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)
