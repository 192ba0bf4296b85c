"""The ready-made service: a Litestar application that is nothing but PayTrust and its documentation page."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.exceptions import InternalServerException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.static_files import create_static_files_router
from litestar.types import Message, Scope

from paytrust.api import guards, problems, routing
from paytrust.api.admission import EarlyRateLimit, problem_messages
from paytrust.api.options import OPT, RouteOptions
from paytrust.errors import NotFound
from paytrust.infra import logs
from paytrust.infra.settings import Settings, load
from paytrust.litestar import PayTrustPlugin
from paytrust.plugins.registry import Registry

__all__ = ["create_app"]

STATIC: Final = Path(__file__).parent / "api" / "static"

_PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>PayTrust API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/docs/assets/swagger-ui/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/assets/swagger-ui/swagger-ui-bundle.js"></script>
<script src="/docs/assets/docs.js"></script>
</body>
</html>
"""
_PAGE_POLICY: Final = b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"


class _DocsPage(OpenAPIRenderPlugin):
    """Swagger UI with nothing from elsewhere: no CDN, no inline script."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return _PAGE


async def _require_https(message: Message, _: Scope) -> None:
    """
    For two years browsers come back by https only. Not said where PayTrust is mounted: the host's name is not
    ours.
    """
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (b"strict-transport-security", b"max-age=63072000")]


def _no_such_asset(request: Request[Any, Any, Any], _: Exception) -> Response[Any]:
    """No file can have this name: it is too long (Litestar's internal error), or holds a NUL."""
    return problems.on_error(request, NotFound("there is nothing at this path"))


class _HeadOfPages(ReceiveRoutePlugin):
    """HEAD where a page of the documentation has GET: Litestar makes these routes itself."""

    def receive_route(self, route: BaseRoute) -> None:
        if isinstance(route, HTTPRoute) and route.path.startswith("/docs"):
            handlers = route.route_handler_map
            if "GET" in handlers:
                handlers.setdefault("HEAD", handlers["GET"])


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, opt={"access": "public"})
def _openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The OpenAPI document, generated from the routes."""
    return Response(_encoded(request.app), media_type="application/json")


@functools.lru_cache(maxsize=4)
def _encoded(app: Litestar) -> bytes:
    return msgspec.json.encode(app.openapi_schema.to_schema())


def _freeze_gc() -> None:
    """
    Take what the service consists of out of the garbage collector's sight: it lives as long as the process.

    There are 100,000 objects, and to look at all of them again and again stopped every request for 50 ms each
    time.
    """
    gc.collect()
    gc.freeze()


class _Service(Litestar):
    """The application behind its early rate limit, and what tells it that it is about to stop."""

    early_limit: EarlyRateLimit
    on_drain: Callable[[], None]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["litestar_app"] = self  # the hooks before sending look at it
        refusal = self.early_limit.check(scope) if scope["type"] == "http" else None
        if refusal is None:
            await super().__call__(scope, receive, send)
            return
        start, body = problem_messages(scope, refusal)
        for hook in self.before_send:
            await hook(start, scope)
        await send(start)
        await send(body)


def create_app(settings: Settings | None = None, *, registry: Registry | None = None) -> Litestar:
    """
    Build the service. Settings come from the environment and plugins from the entry points, unless given.
    """
    settings = settings or load()
    logs.configure(settings)
    plugin = PayTrustPlugin(settings, registry=registry)
    limited = guards.anonymous_guard(
        plugin.services.rates.anonymous, trusted_proxies=settings.trusted_proxies
    )
    docs = OpenAPIConfig(
        title="PayTrust",
        version=metadata.version("paytrust"),
        description="Payment orchestration: invoices, payments and their administration. Amounts are decimal strings in major units.",
        openapi_router=Router(
            "/docs",
            route_handlers=[],
            include_in_schema=False,
            guards=[limited],
            opt={OPT: RouteOptions("public", content_security_policy=_PAGE_POLICY)},
        ),
        render_plugins=[_DocsPage()],
    )
    assets = create_static_files_router(
        "/docs/assets",
        directories=[STATIC],
        include_in_schema=False,
        cache_control=None,
        guards=[limited],
        opt={OPT: RouteOptions("public")},
        exception_handlers={InternalServerException: _no_such_asset, ValueError: _no_such_asset},
    )
    app = _Service(
        route_handlers=[
            assets,
            Router("/", route_handlers=routing.complete([routing.ours(_openapi)]), guards=[limited]),
        ]
        if settings.docs
        else [],
        plugins=[plugin, _HeadOfPages()],
        openapi_config=docs if settings.docs else None,
        exception_handlers={Exception: problems.on_error},
        on_startup=[_freeze_gc],
        before_send=[_require_https] if settings.public_url.startswith("https://") else [],
        logging_config=None,
        debug=False,
    )
    app.early_limit = plugin.early_limit()
    app.on_drain = plugin.services.draining.begin
    return app
