"""
Mount PayTrust in any Litestar application.

    app = Litestar(route_handlers=[shop], plugins=[PayTrustPlugin(path="/pay")])

It adds a router, a lifespan and a before-send hook, and replaces nothing of the host: its handlers, error pages, CSRF,
OpenAPI and logging stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import click
import structlog
from litestar import HttpMethod, Litestar, Request, Response, Router, route
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException, ImproperlyConfiguredException, MethodNotAllowedException
from litestar.exceptions.responses import create_exception_response
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.openapi.spec import Tag
from litestar.params import FromPath
from litestar.plugins import CLIPlugin, InitPlugin
from litestar.types import ASGIApp, Message, Receive, Scope, Send

import paytrust.accounts.routes
import paytrust.installments.routes
import paytrust.invoices.routes
import paytrust.keys.routes
import paytrust.payments.routes
import paytrust.tenants.routes
import paytrust.webhooks.routes
from paytrust import api, db, health, openapi
from paytrust.access import Caller, Principal
from paytrust.accounts.service import Accounts
from paytrust.books.service import Books
from paytrust.bulkheads import WORK_SHARE, Breakers, Lane
from paytrust.db import Database
from paytrust.door import Door
from paytrust.errors import NotFound
from paytrust.idempotency import routes as idempotency
from paytrust.idempotency.service import Idempotency
from paytrust.installments.service import Installments
from paytrust.invoices.service import Invoices
from paytrust.keys.jobs import AUDIT_POLL_S, KeyChanges
from paytrust.keys.service import AdminKeys, Audit, Keys
from paytrust.payments.jobs import Comparison, Reconciler
from paytrust.payments.service import Payments
from paytrust.plugins import Registry
from paytrust.rates import Quota, Store, Windows
from paytrust.secrets.service import Secrets
from paytrust.settings import Settings, load
from paytrust.tenants.service import Tenants
from paytrust.urls import Reach
from paytrust.vault import Vault
from paytrust.watchdog import Watchdog
from paytrust.webhooks.jobs import WebhookJobs
from paytrust.webhooks.service import Inbox, Webhooks
from paytrust.work import Worker

__all__ = ["PayTrustPlugin", "Registry", "Settings", "load"]

log = structlog.stdlib.get_logger("paytrust.access")

RECONCILER_POLL_S = 10.0
SLOW_POLL_S = 60.0
API_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]

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


class Services:
    """Everything one application of PayTrust consists of, put together in one place."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        dsn = settings.database_url.get_secret_value()
        # Apart, so that neither a crowd of API calls nor a pile of work can delay the storing of a webhook.
        self.db = Database(dsn, size=settings.pool_size, name="paytrust api")
        self.intake_db = Database(dsn, size=settings.intake_pool_size, name="paytrust intake")
        self.work_db = Database(dsn, size=settings.work_pool_size, name="paytrust work", waiters=None)
        reach = Reach(insecure=settings.insecure_gateways, networks=settings.gateway_networks)
        self.secrets = Secrets(self.db, Vault(settings))
        self.accounts = Accounts(self.db, registry, self.secrets, public_url=settings.public_url, reach=reach)
        self.tenants = Tenants(self.db)
        self.idempotency = Idempotency(self.db, self.secrets)
        pepper = settings.key_pepper.get_secret_value()
        audit = Audit(self.work_db)
        self.keys = Keys(self.db, pepper=pepper, audit=audit)
        self.admin_keys = AdminKeys(settings.admin_keys(), audit, pepper=pepper)
        self.audit, self.audit_worker = audit, Worker("key audit", audit.write, poll_s=AUDIT_POLL_S)
        self.key_changes = KeyChanges((settings.database_listen_url or settings.database_url).get_secret_value(), self.keys)
        breakers = Breakers(failures=settings.gateway_failures)
        requests = Lane(breakers, calls=settings.gateway_calls)
        work_calls = Lane(breakers, calls=max(1, settings.gateway_calls // WORK_SHARE))
        self.payments = Payments(self.db, self.accounts, calls=requests, insecure=reach.insecure)
        self.invoices = Invoices(
            self.db, self.payments, self.accounts, tax_rules=list(registry.tax_rules.values()), insecure=reach.insecure
        )
        self.installments = Installments(self.db, self.payments, self.accounts)
        self.books = Books(self.db)
        self.inbox = Inbox(self.db)
        self.comparison = Comparison(self.db, self.payments)
        work = Payments(self.work_db, self.accounts, calls=work_calls, insecure=reach.insecure)
        webhook_jobs = WebhookJobs(self.work_db, self.accounts, work)
        self.webhook_worker = Worker("webhooks", webhook_jobs.step)
        self.workers = (
            self.webhook_worker,
            Worker("unmatched webhooks", webhook_jobs.match, poll_s=SLOW_POLL_S),
            Worker("reconciler", Reconciler(self.work_db, work).step, poll_s=RECONCILER_POLL_S),
            Worker("comparison", Comparison(self.work_db, work).step, poll_s=SLOW_POLL_S),
            Worker("idempotency keys", Idempotency(self.work_db, self.secrets).remove_old, poll_s=SLOW_POLL_S),
        )
        self.webhooks = Webhooks(self.intake_db, self.accounts, limit=settings.webhook_limit_per_minute, on_stored=self.webhook_worker.wake)
        self.rates_store = None if settings.rates_url is None else Store(settings.rates_url.get_secret_value())
        self.rates = api.Rates(
            keys=Quota("api-key", settings.key_limit_per_minute, self.rates_store),
            admins=Quota("admin-key", settings.admin_limit_per_minute, self.rates_store),
            strangers=Windows(api.STRANGERS, settings.address_limit_per_minute),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Connect, refuse an unsafe database, work; on the way out finish what is under way."""
        async with contextlib.AsyncExitStack() as stack:
            for database in (self.db, self.intake_db, self.work_db):
                await database.open()
                stack.push_async_callback(database.close)
            await db.check(self.db)
            await self.secrets.check()
            stack.push_async_callback(self.accounts.close)
            if self.rates_store is not None:
                stack.push_async_callback(self.rates_store.close)
            stack.push_async_callback(self.audit.finish)
            for listener in (self.audit_worker, self.key_changes):
                listener.start()
                stack.push_async_callback(listener.stop)
            if self.settings.watchdog:
                watchdog = Watchdog()
                watchdog.start()
                stack.callback(watchdog.stop)
            if self.settings.worker:
                for worker in self.workers:
                    worker.start()
                stack.push_async_callback(_stop, *self.workers)
            yield


async def _stop(*workers: Worker) -> None:
    """All at once: one after the other would take as many times as long."""
    await asyncio.gather(*(worker.stop() for worker in workers))


class PayTrustPlugin(InitPlugin, CLIPlugin):
    """The whole of PayTrust under *path*. Settings come from the environment unless given."""

    def __init__(self, settings: Settings | None = None, *, path: str = "/", registry: Registry | None = None) -> None:
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
        from paytrust.cli import cli as commands  # noqa: PLC0415 - the command line is needed only here

        cli.add_command(commands, name="paytrust")

    def door(self) -> Door:
        """For an application that is nothing but PayTrust: what turns strangers over their limit away before it."""
        return Door(
            self.services.rates.strangers,
            knows_key=self.services.keys.knows,
            knows_admin=self.services.admin_keys.knows,
            trusted_proxies=self.settings.trusted_proxies,
            open_to_all=[handler for found in ROUTES.values() for handler in found if not handler.opt.get("limited", True)],
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
            route_handlers=[*openapi.documented(ROUTES), _nothing_here],
            request_class=api.StrictRequest,
            request_max_body_size=api.MAX_BODY_BYTES,
            dependencies=dependencies,
            guards=[
                api.access_guard(
                    _late(services.keys),
                    _late_admin(services.admin_keys),
                    knows=_late_knows(services.keys),
                    rates=services.rates,
                    trusted_proxies=self.settings.trusted_proxies,
                ),
                idempotency.claim_guard(_constant(services.idempotency)),
            ],
            exception_handlers={Exception: api.on_error, idempotency.Replay: idempotency.replay},
            middleware=[
                _RequestContext(self.settings.receive_timeout_s),
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
            if message["type"] != "http.response.start" or not self._ours(scope["path"]):
                return
            given = list(message["headers"])
            names = {name.lower() for name, _ in given}
            given += [header for header in API_HEADERS if header[0] not in names]
            given += [*api.rate_headers(scope), (b"x-request-id", api.request_id(scope).encode())]
            message["headers"] = given
            started = scope.get("paytrust.started")
            # An attacker's refusals would fill the disk: one line for each address and minute.
            (log.debug if api.is_old_news(scope) else log.info)(
                "request",
                method=scope.get("method"),
                route=scope.get("path_template", "-"),  # not the path: it may hold a webhook token
                status=message["status"],
                ms=round((time.perf_counter() - started) * 1000, 1) if isinstance(started, float) else None,
                request_id=api.request_id(scope),
            )

        return before_send

    def _add_method_not_allowed(self, app_config: AppConfig) -> None:
        # Raised before a route is known, so only the application's handlers see it; the host's are kept for its own paths.
        handlers = dict(app_config.exception_handlers)
        known = (405, MethodNotAllowedException, HTTPException, Exception)
        host = next((handlers[key] for key in known if key in handlers), create_exception_response)

        def on_method_not_allowed(request: Request[Any, Any, Any], exc: Exception) -> Response[Any]:
            if self._ours(request.url.path):
                return api.on_error(request, exc)
            return host(request, exc)

        handlers[MethodNotAllowedException] = on_method_not_allowed
        app_config.exception_handlers = handlers


class _RequestContext(ASGIMiddleware):
    """Gives the logs of a request its id, notes when it began, and how long its body may take to arrive."""

    def __init__(self, receive_timeout_s: float) -> None:
        self._receive_timeout_s = receive_timeout_s

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["paytrust.started"] = time.perf_counter()  # type: ignore[typeddict-unknown-key]
        with structlog.contextvars.bound_contextvars(request_id=api.request_id(scope)):
            await next_app(scope, _in_time(receive, self._receive_timeout_s), send)


def _in_time(receive: Receive, timeout_s: float) -> Receive:
    """*receive*, which raises `RequestTimeout` when the whole body is not here *timeout_s* from now."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    complete = False

    async def receive_in_time() -> Any:
        nonlocal complete
        if complete:  # what is waited for now is the end of the connection
            return await receive()
        try:
            async with asyncio.timeout_at(deadline_s):
                message = await receive()
        except TimeoutError as exc:
            raise api.RequestTimeout(f"the whole request has to arrive within {timeout_s:g} s") from exc
        if message["type"] == "http.disconnect":  # Litestar would call it an error of ours
            raise api.Malformed("the connection ended before the body did")
        complete = not message.get("more_body", False)
        return message

    return receive_in_time


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
    return api.principal_of(request)


def _caller(request: Request[Any, Any, Any]) -> Caller:
    return api.admitted(request)


def _late(keys: Keys) -> api.Authenticate:
    # A bound method would be deep-copied with its object.
    return lambda key, caller, needs: keys.authenticate(key, caller, needs=needs)


def _late_knows(keys: Keys) -> Callable[[str | None], bool]:
    return lambda key: keys.knows(key)  # noqa: PLW0108 - see above


def _late_admin(keys: AdminKeys) -> api.AdmitAdmin:
    return lambda key, caller: keys.admit(key, caller)  # noqa: PLW0108 - see above


def _document(host: Any) -> Any:
    """The host's OpenAPI with our components and tags added. A copy: the default object is shared by all applications."""
    mine = copy.copy(host)
    present = host.components if isinstance(host.components, list) else [host.components]
    mine.components = [*present, openapi.components()]
    mine.tags = [*(host.tags or []), *(Tag(name=tag) for tag in ROUTES)]
    return mine
