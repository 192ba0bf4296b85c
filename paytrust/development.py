"""
A whole PayTrust on one machine: embedded PostgreSQL, sandbox gateways, a tenant with a key. For developing,
never for money.

Everything it makes lies in one directory and is used again by the next start.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit
from uuid import UUID

import msgspec

from paytrust.accounts.model import CreateAccount, NewFee, UpdateAccount
from paytrust.commands.base import PAGE, pages
from paytrust.contract.sandboxes import Sandbox, SandboxAccount
from paytrust.errors import ConfigurationError
from paytrust.infra import migrations
from paytrust.infra.settings import Settings, load
from paytrust.keys.model import CreateKey
from paytrust.plugins.registry import Registry
from paytrust.services import Services
from paytrust.tenants.model import CreateTenant

DATABASE: Final = "paytrust_dev"
SERVICE_ROLE: Final = "paytrust_service"
FEES: Final = {"IDR": NewFee("0.029", "2000"), "MYR": NewFee("0.029", "1.00"), "USD": NewFee("0.029", "0.30")}


class _SavedState(msgspec.Struct):
    """Values that the next start uses again. Secrets of a toy, in a file only its owner may read."""

    admin_api_key: str = msgspec.field(default_factory=lambda: secrets.token_hex(32))
    key_pepper: str = msgspec.field(default_factory=lambda: secrets.token_hex(32))
    database_password: str = msgspec.field(default_factory=lambda: secrets.token_hex(16))
    encryption_key: str = msgspec.field(
        default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode()
    )
    tenant_id: UUID | None = None
    api_key: str | None = None


class DevEnvironment(msgspec.Struct, frozen=True):
    """A prepared environment: run a server with *settings* and call it with *api_key*."""

    settings: Settings
    tenant_id: UUID
    api_key: str
    accounts: dict[str, UUID]
    """`gateway_id` per gateway."""
    sandboxes: list[SandboxAccount]
    database: str


@contextlib.contextmanager
def environment(data: Path, *, port: int, **settings: Any) -> Iterator[DevEnvironment]:
    """
    Start PostgreSQL and the sandboxes, migrate, and make a tenant, a key and gateway accounts; stop all of it
    at the end.

    One process at a time may work in *data*: the accounts point at its sandboxes, and a second one would point
    them at its own. Raises `ConfigurationError` beside another.
    """
    data.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone(data))
        owner_url = os.environ.get("PAYTRUST_DATABASE_OWNER_URL") or os.environ.get("PAYTRUST_DATABASE_URL")
        if owner_url is None:
            owner_url = stack.enter_context(_embedded(data / "postgres"))
        kept = _read(data / "development.json")
        chosen = _settings(owner_url, kept, port, settings)
        registry = Registry(disabled=chosen.disabled_plugins)
        sandboxes = [stack.enter_context(_started(type_())) for type_ in registry.sandboxes.values()]
        offered = [(sandbox, account) for sandbox, accounts in sandboxes for account in accounts]
        ready = asyncio.run(_prepare(chosen, owner_url, kept, registry, offered))
        _write(data / "development.json", kept)
        yield ready


@contextlib.contextmanager
def serving(settings: Settings, *, registry: Registry | None = None) -> Iterator[str]:
    """Run the API in a thread and give its address: for demonstrations and tests."""
    from paytrust.app import create_app  # noqa: PLC0415 - it configures logging
    from paytrust.server import server  # noqa: PLC0415 - slow

    running = server(create_app(settings, registry=registry), settings)
    thread = threading.Thread(target=running.run, name="paytrust api")
    thread.start()
    try:
        while not running.started:
            if not thread.is_alive():
                raise ConfigurationError("the service did not start; the log says why")
            time.sleep(0.02)
        yield f"http://{settings.host}:{settings.port}"
    finally:
        running.should_exit = True
        thread.join()


def free_port() -> int:
    """A TCP port of this machine on which no process listens."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def create_database(owner_url: str, name: str) -> str:
    """Create *name* beside the database of *owner_url* unless it is there, and return its URL."""
    import asyncpg  # noqa: PLC0415 - asyncpg's import is slow, and most commands need no database

    async def create() -> None:
        connection = await asyncpg.connect(owner_url)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    asyncio.run(create())
    return with_database(owner_url, name)


def with_database(url: str, name: str, *, user: str | None = None, password: str | None = None) -> str:
    """
    *url* pointing at another database, and with *user* as another role. A socket's URL keeps its empty host.
    """
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    if user is not None:
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"{parts.scheme}://{login}@{host}/{name}" + (f"?{parts.query}" if parts.query else "")


@contextlib.contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the lock of *data*, which the kernel drops when this process dies."""
    if sys.platform == "win32":  # no flock
        yield
        return
    from paytrust.embedded.lock import attempt  # noqa: PLC0415 - not on every platform

    path = data / "development.lock"
    with attempt(path) as held:
        if held is None:
            raise ConfigurationError(
                f"another `paytrust dev` or demo (process {path.read_text().strip()}) works in {data}: stop it,"
                " or give this one a directory of its own with --data or PAYTRUST_DATA"
            )
        os.truncate(held, 0)
        os.write(held, f"{os.getpid()}\n".encode())
        yield


@contextlib.contextmanager
def _embedded(data: Path) -> Iterator[str]:
    from paytrust.embedded import EmbeddedPostgres  # noqa: PLC0415 - not on every platform

    server = EmbeddedPostgres(data)
    admin_url = server.start()
    try:
        yield create_database(admin_url, DATABASE)
    finally:
        server.stop()


@contextlib.contextmanager
def _started(sandbox: Sandbox) -> Iterator[tuple[Sandbox, list[SandboxAccount]]]:
    accounts = list(sandbox.start())
    try:
        yield sandbox, accounts
    finally:
        sandbox.stop()


def _settings(owner_url: str, kept: _SavedState, port: int, given: dict[str, Any]) -> Settings:
    parts = urlsplit(owner_url)
    embedded = not parts.hostname
    service_url = with_database(
        owner_url,
        parts.path.strip("/"),
        user=SERVICE_ROLE if embedded else f"{SERVICE_ROLE}:{kept.key_pepper[:32]}",
    )
    return load(
        **{
            "database_url": service_url,
            "admin_api_key": kept.admin_api_key,
            "key_pepper": kept.key_pepper,
            "encryption_keys": f"dev:{kept.encryption_key}",
            "public_url": f"http://127.0.0.1:{port}",
            "port": port,
            "insecure_gateways": True,
            "log_format": "console",
            "log_level": "warning",
            **given,
        }
    )


async def _prepare(
    settings: Settings,
    owner_url: str,
    kept: _SavedState,
    registry: Registry,
    offered: list[tuple[Sandbox, SandboxAccount]],
) -> DevEnvironment:
    await migrations.migrate(owner_url)
    await migrations.ensure_service_login(owner_url, settings.database_url.get_secret_value())
    services = Services(settings, registry)
    await services.db.open()
    try:
        await services.secrets.check()
        await services.pepper.check()
        await _tenant(services, kept)
        assert kept.tenant_id is not None
        assert kept.api_key is not None
        accounts = {
            account.gateway: await _account(services, kept.tenant_id, sandbox, account)
            for sandbox, account in offered
        }
    finally:
        await services.db.close()
    return DevEnvironment(
        settings, kept.tenant_id, kept.api_key, accounts, [account for _, account in offered], owner_url
    )


async def _tenant(services: Services, kept: _SavedState) -> None:
    """The tenant and key of the last start, if this database still knows them; else new ones."""
    every = pages(lambda after: services.tenants.page(limit=PAGE, after=after), lambda t: t.tenant_id)
    known = {tenant.tenant_id async for page in every for tenant in page}
    if kept.tenant_id in known and kept.api_key is not None:
        return
    kept.tenant_id = (await services.tenants.create(CreateTenant("Development"))).tenant_id
    kept.api_key = (await services.keys.create(CreateKey(kept.tenant_id, "made by paytrust dev"))).api_key


async def _account(services: Services, tenant_id: UUID, sandbox: Sandbox, offered: SandboxAccount) -> UUID:
    """One account per sandbox gateway, pointed at where the sandbox runs now."""
    currencies = {code: FEES.get(code, NewFee()) for code in offered.currencies}
    every = pages(
        lambda after: services.accounts.page(limit=PAGE, after=after, tenant_id=tenant_id),
        lambda a: a.gateway_id,
    )
    present = {(known.gateway, known.name): known async for page in every for known in page}
    account = present.get((offered.gateway, offered.name))
    if account is None:
        account = await services.accounts.create(
            CreateAccount(
                gateway=offered.gateway,
                name=offered.name,
                credentials=dict(offered.credentials),
                currencies=currencies,
                tenant_id=tenant_id,
                options=dict(offered.options),
                base_url=offered.base_url,
            )
        )
    else:
        changed = UpdateAccount(
            credentials=dict(offered.credentials),
            currencies=currencies,
            options=dict(offered.options),
            base_url=offered.base_url,
        )
        account = await services.accounts.update(account.gateway_id, changed)
    sandbox.configure_webhook(offered, account.webhook_url)
    return account.gateway_id


def _read(path: Path) -> _SavedState:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_SavedState)
    except FileNotFoundError:
        return _SavedState()
    except msgspec.MsgspecError as exc:
        raise ConfigurationError(f"{path} cannot be read ({exc}); delete it to start afresh") from exc


def _write(path: Path, kept: _SavedState) -> None:
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    fresh.replace(path)
