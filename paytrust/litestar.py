"""
Mount PayTrust in any Litestar application.

    app = Litestar(route_handlers=[shop], plugins=[PayTrustPlugin(path="/pay")])

It adds a router, a lifespan and a before-send hook, and replaces nothing of the host: its handlers, error
pages, CSRF, OpenAPI and logging stay as they are. Nor does the host's reach ours (`paytrust.api.routing`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import click
from litestar import Litestar, Request, Router
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException, ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Tag
from litestar.plugins import CLIPlugin, InitPlugin

import paytrust.accounts.routes
import paytrust.installments.routes
import paytrust.keys.routes
import paytrust.payments.routes
import paytrust.tenants.routes
import paytrust.webhooks.routes
from paytrust.api import bodies, context, guards, health, openapi, problems, routing
from paytrust.api.admission import EarlyRateLimit
from paytrust.commands import Commands
from paytrust.idempotency import routes as idempotency
from paytrust.infra.settings import Settings, load
from paytrust.keys.service import AdminKeys, Keys
from paytrust.plugins.registry import Registry
from paytrust.security.access import Caller, Principal
from paytrust.services import Services

__all__ = ["PayTrustPlugin", "Registry", "Settings", "load"]


ROUTES: dict[str, list[HTTPRouteHandler]] = {
    "PayTrust invoices": [
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


class PayTrustPlugin(InitPlugin, CLIPlugin, openapi.PrefixedSchemas):
    """The whole of PayTrust under *path*. Settings come from the environment unless given."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        path: str = "/",
        registry: Registry | None = None,
        opt: Mapping[str, Any] | None = None,
    ) -> None:
        """*opt* is for what the application reads off a route, such as a key that exempts it from a login."""
        self.settings = settings or load()
        self.path = "/" + path.strip("/")
        self.opt = dict(opt or {})
        self.services = Services(self.settings, registry or Registry(disabled=self.settings.disabled_plugins))

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        if any(isinstance(plugin, PayTrustPlugin) and plugin is not self for plugin in app_config.plugins):
            raise ImproperlyConfiguredException("PayTrustPlugin is installed twice")
        app_config.route_handlers.append(self._router())
        app_config.lifespan.append(self._lifespan)
        app_config.before_send.append(
            context.Answers(
                self.path,
                anonymous=self.services.rates.anonymous,
                trusted_proxies=self.settings.trusted_proxies,
            )
        )
        if app_config.openapi_config is not None:
            app_config.openapi_config = _document(app_config.openapi_config)
        return app_config

    def on_cli_init(self, cli: click.Group) -> None:
        help_text = "PayTrust's own commands, with the settings and plugins of this application."
        cli.add_command(Commands("paytrust", help=help_text, services=self.services))

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
    async def _lifespan(self, app: Litestar) -> AsyncGenerator[None]:
        if app.logging_config is not None:  # a refusal is no crash: no traceback in the host's log
            app.logging_config.disable_stack_trace.update({idempotency.Replay, *problems.expected_errors()})
        async with self.services.running():
            yield

    def _router(self) -> Router:
        services = self.services
        # Litestar 2 deep-copies routers: a closure keeps the one object, a bound method would copy it.
        dependencies = {
            name: Provide(_constant(value), sync_to_thread=False)
            for name, value in {
                "accounts": services.accounts,
                "checking": services.checking,
                "db": services.db,
                "draining": services.draining,
                "inbox": services.inbox,
                "installments": services.installments,
                "invoicing": services.invoicing,
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
            route_handlers=[
                *routing.complete(openapi.documented(ROUTES, also=idempotency.document)),
                # A host may have a front page of its own.
                routing.nothing_here("/{rest:path}", *([] if self.path == "/" else ["/"])),
            ],
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
            exception_handlers={
                Exception: problems.on_error,
                HTTPException: problems.on_error,
                idempotency.Replay: idempotency.replay,
            },
            middleware=[
                context.RequestContext(self.settings.receive_timeout_s),
                idempotency.KeepAnswers(_constant(services.idempotency)),
            ],
            signature_types=[Caller, Principal],
            opt=self.opt,
        )


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
