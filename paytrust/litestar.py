"""
Mount PayTrust in any Litestar application.

    app = Litestar(route_handlers=[shop], plugins=[PayTrustPlugin(path="/pay")])

It adds a router, a lifespan and a before-send hook, and replaces nothing of the host: its handlers, error
pages, CSRF, OpenAPI and logging stay as they are.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncGenerator, Callable
from typing import Any

import click
from litestar import HttpMethod, Litestar, Request, Response, Router, route
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException, ImproperlyConfiguredException, MethodNotAllowedException
from litestar.exceptions.responses import create_exception_response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Tag
from litestar.params import FromPath
from litestar.plugins import CLIPlugin, InitPlugin
from litestar.types import Message, Scope

import paytrust.accounts.routes
import paytrust.installments.routes
import paytrust.invoices.routes
import paytrust.keys.routes
import paytrust.payments.routes
import paytrust.tenants.routes
import paytrust.webhooks.routes
from paytrust.api import bodies, context, guards, health, openapi, problems
from paytrust.api.admission import EarlyRateLimit
from paytrust.commands import Commands
from paytrust.errors import NotFound
from paytrust.idempotency import routes as idempotency
from paytrust.infra.settings import Settings, load
from paytrust.keys.service import AdminKeys, Keys
from paytrust.plugins.registry import Registry
from paytrust.security.access import Caller, Principal
from paytrust.services import Services

__all__ = ["PayTrustPlugin", "Registry", "Settings", "load"]


ROUTES: dict[str, list[HTTPRouteHandler]] = {
    "PayTrust invoices": [
        *paytrust.invoices.routes.HANDLERS,
        *paytrust.installments.routes.HANDLERS,
        *paytrust.payments.routes.HANDLERS,
    ],
    "PayTrust webhooks": paytrust.webhooks.routes.HANDLERS,
    "PayTrust administration": [
        *paytrust.tenants.routes.HANDLERS,
        *paytrust.keys.routes.HANDLERS,
        *paytrust.accounts.routes.HANDLERS,
    ],
    "PayTrust health": health.HANDLERS,
}


class PayTrustPlugin(InitPlugin, CLIPlugin):
    """The whole of PayTrust under *path*. Settings come from the environment unless given."""

    def __init__(
        self, settings: Settings | None = None, *, path: str = "/", registry: Registry | None = None
    ) -> None:
        self.settings = settings or load()
        self.path = "/" + path.strip("/")
        self.services = Services(self.settings, registry or Registry(disabled=self.settings.disabled_plugins))

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        if any(isinstance(plugin, PayTrustPlugin) and plugin is not self for plugin in app_config.plugins):
            raise ImproperlyConfiguredException("PayTrustPlugin is installed twice")
        app_config.route_handlers.append(self._router())
        app_config.lifespan.append(self._lifespan)
        app_config.before_send.append(self._before_send())
        self._add_method_not_allowed(app_config)
        if app_config.openapi_config is not None:
            app_config.openapi_config = _document(app_config.openapi_config)
        return app_config

    def on_cli_init(self, cli: click.Group) -> None:
        cli.add_command(Commands("paytrust", help="PayTrust's own commands; they read its settings."))

    def early_limit(self) -> EarlyRateLimit:
        """
        For an application that is nothing but PayTrust: turns clients over their limit away before routing.
        """
        return EarlyRateLimit(
            self.services.rates.anonymous,
            is_cached_key=self.services.keys.is_cached,
            is_cached_admin=self.services.admin_keys.is_cached,
            trusted_proxies=self.settings.trusted_proxies,
            exempt_routes=[
                handler
                for found in ROUTES.values()
                for handler in found
                if not handler.opt.get("limited", True)
            ],
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncGenerator[None]:
        async with self.services.running():
            yield

    def _router(self) -> Router:
        services = self.services
        # Litestar 2 deep-copies routers: a closure keeps the one object, a bound method would copy it.
        dependencies = {
            name: Provide(_constant(value), sync_to_thread=False)
            for name, value in {
                "accounts": services.accounts,
                "db": services.db,
                "inbox": services.inbox,
                "installments": services.installments,
                "invoices": services.invoices,
                "keys": services.keys,
                "payments": services.payments,
                "tenants": services.tenants,
                "webhooks": services.webhooks,
            }.items()
        }
        dependencies["principal"] = Provide(_principal, sync_to_thread=False)
        dependencies["caller"] = Provide(_caller, sync_to_thread=False)
        return Router(
            self.path,
            route_handlers=[*openapi.documented(ROUTES, also=idempotency.document), _nothing_here],
            request_class=bodies.StrictRequest,
            request_max_body_size=problems.MAX_BODY_BYTES,
            dependencies=dependencies,
            guards=[
                guards.access_guard(
                    _late(services.keys),
                    _late_admin(services.admin_keys),
                    is_cached=_late_is_cached(services.keys),
                    rates=services.rates,
                    trusted_proxies=self.settings.trusted_proxies,
                ),
                idempotency.claim_guard(_constant(services.idempotency)),
            ],
            exception_handlers={Exception: problems.on_error, idempotency.Replay: idempotency.replay},
            middleware=[
                context.RequestContext(self.settings.receive_timeout_s),
                idempotency.KeepAnswers(_constant(services.idempotency)),
            ],
            signature_types=[Caller, Principal],
            opt={"exclude_from_csrf": True, "paytrust": True},
        )

    def _ours(self, path: str) -> bool:
        return self.path in {"/", path} or path.startswith(self.path + "/")

    def _before_send(self) -> Callable[[Message, Scope], Any]:
        async def before_send(message: Message, scope: Scope) -> None:
            # Also sees what is refused before a route is found, which the router's middleware does not.
            if message["type"] == "http.response.start" and self._ours(scope["path"]):
                context.finish(message, scope)

        return before_send

    def _add_method_not_allowed(self, app_config: AppConfig) -> None:
        # Raised before a route is known, so only the application's handlers see it; the host's are kept for
        # its own paths.
        handlers = dict(app_config.exception_handlers)
        known = (405, MethodNotAllowedException, HTTPException, Exception)
        host = next((handlers[key] for key in known if key in handlers), create_exception_response)

        def on_method_not_allowed(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
            if self._ours(request.url.path):
                return problems.on_error(request, exc)
            return host(request, exc)

        handlers[MethodNotAllowedException] = on_method_not_allowed
        app_config.exception_handlers = handlers


@route(
    "/{rest:path}",
    http_method=[HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE],
    include_in_schema=False,
    opt={"access": "public"},
)
async def _nothing_here(rest: FromPath[str]) -> None:
    """Every path of ours that is not a route: the same answer as for an object that is not yours."""
    del rest
    raise NotFound("there is nothing at this path")


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _principal(request: Request[Any, Any, Any]) -> Principal:
    return guards.principal_of(request)


def _caller(request: Request[Any, Any, Any]) -> Caller:
    return guards.admitted(request)


def _late(keys: Keys) -> guards.Authenticate:
    # A bound method would be deep-copied with its object.
    return lambda key, caller, needs: keys.authenticate(key, caller, needs=needs)


def _late_is_cached(keys: Keys) -> Callable[[str | None], bool]:
    return lambda key: keys.is_cached(key)  # noqa: PLW0108 - see above


def _late_admin(keys: AdminKeys) -> guards.AdmitAdmin:
    return lambda key, caller: keys.admit(key, caller)  # noqa: PLW0108 - see above


def _document(host: Any) -> Any:
    """
    The host's OpenAPI with our components and tags added. A copy: the default object is shared by all
    applications.
    """
    mine = copy.copy(host)
    present = host.components if isinstance(host.components, list) else [host.components]
    mine.components = [*present, openapi.components()]
    mine.tags = [*(host.tags or []), *(Tag(name=tag) for tag in ROUTES)]
    return mine
