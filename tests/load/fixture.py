"""
What all cases stand on: one embedded PostgreSQL with durable settings, one database, and merchants in it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import msgspec
from app import registry
from drive import EXTERNAL_ID

from paytrust import development
from paytrust.accounts.model import CreateAccount, NewFee
from paytrust.embedded import EmbeddedPostgres
from paytrust.infra import migrations
from paytrust.infra.settings import load
from paytrust.keys.model import CreateKey
from paytrust.services import Services
from paytrust.tenants.model import CreateTenant

KEPT: Final = {"migrations", "tenants", "api_keys", "gateway_accounts", "gateway_account_currencies"}
"""Tables that a sample only reads."""
RESTORE_TRIES: Final = 50
# One case's dead rows would be vacuumed while another is measured.
SETTINGS: Final = {"autovacuum": "off"}


class Merchant(msgspec.Struct, frozen=True):
    """A tenant with a key and an account per variant: "http" and "instant"."""

    tenant_id: UUID
    api_key: str
    accounts: dict[str, UUID]

    def body(self, variant: str) -> str:
        """POST /invoices with three lines. The external_id is left to the load generator."""
        return msgspec.json.encode(
            {
                "gateway_id": self.accounts[variant],
                "currency": "USD",
                "external_id": EXTERNAL_ID,
                "customer": {"name": "Siti Rahma", "email": "siti@example.com", "country": "ID"},
                "description": "Order 10293, spring collection",
                "metadata": {"channel": "web", "cart": "a1c7"},
                "success_url": "https://shop.example.com/thanks",
                "line_items": [
                    {
                        "product_name": "Annual subscription, team plan",
                        "quantity": 1,
                        "unit_price": "99.99",
                        "tax_rate": "0.11",
                    },
                    {
                        "product_name": "Onboarding workshop, two hours",
                        "quantity": 2,
                        "unit_price": "19.99",
                        "tax_rate": "0.11",
                    },
                    {
                        "product_name": "Priority support, first month",
                        "quantity": 1,
                        "unit_price": "10.00",
                        "tax_rate": "0",
                    },
                ],
            }
        ).decode()


class Fixture(msgspec.Struct, frozen=True):
    """
    The database as its owner and as the service, the settings as environment variables, and the merchants.
    """

    owner_url: str
    service_url: str
    environ: dict[str, str]
    merchants: list[Merchant]
    postmaster: int
    """Process id of PostgreSQL."""


@contextlib.contextmanager
def prepared(data: Path, gateway_url: str, *, tenants: int) -> Iterator[Fixture]:
    """
    Start PostgreSQL over *data*, make a database that is dropped again, and fill in what requests refer to.
    """
    server = EmbeddedPostgres(data / "postgres", settings=SETTINGS)
    admin_url = server.start()
    name = f"bench_{uuid4().hex[:8]}"
    try:
        owner_url = development.create_database(admin_url, name)
        service_url = development.with_database(owner_url, name, user="paytrust_bench")
        asyncio.run(migrations.migrate(owner_url))
        asyncio.run(migrations.ensure_service_login(owner_url, service_url))
        environ = _environ(service_url)
        os.environ |= environ
        merchants = asyncio.run(_merchants(gateway_url, tenants))
        postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
        yield Fixture(owner_url, service_url, environ, merchants, postmaster)
    finally:
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            asyncio.run(execute(admin_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        server.stop()


def _environ(service_url: str) -> dict[str, str]:
    return {
        "PAYTRUST_DATABASE_URL": service_url,
        "PAYTRUST_ADMIN_API_KEY": "3f9c1b7e5a20d8465e1f0a9b7c6d2e834b5a",
        "PAYTRUST_KEY_PEPPER": "pepper-" + "p" * 40,
        "PAYTRUST_ENCRYPTION_KEYS": "bench:" + base64.b64encode(b"k" * 32).decode(),
        "PAYTRUST_INSECURE_GATEWAYS": "true",
        "PAYTRUST_LOG_LEVEL": "info",
        "PAYTRUST_KEY_LIMIT_PER_MINUTE": "1000000",
    }


async def _merchants(gateway_url: str, tenants: int) -> list[Merchant]:
    services = Services(load(), registry())
    await services.db.open()
    try:
        return [await _merchant(services, gateway_url, number) for number in range(tenants)]
    finally:
        await services.db.close()


async def _merchant(services: Services, gateway_url: str, number: int) -> Merchant:
    tenant_id = (await services.tenants.create(CreateTenant(f"Merchant {number}"))).tenant_id
    key = await services.keys.create(CreateKey(tenant_id))
    credentials = {"http": {"secret_key": "xnd_development_bench", "callback_token": "bench"}, "instant": {}}
    accounts = {
        variant: await services.accounts.create(
            CreateAccount(
                gateway="xendit" if variant == "http" else "instant",
                name=variant,
                credentials=credentials[variant],
                currencies={"USD": NewFee("0.029", "0.30")},
                tenant_id=tenant_id,
                base_url=gateway_url if variant == "http" else None,
            )
        )
        for variant in ("http", "instant")
    }
    return Merchant(
        tenant_id, key.api_key, {variant: account.gateway_id for variant, account in accounts.items()}
    )


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def keep(fixture: Fixture) -> None:
    """Remember the rows that are there: every sample begins with them."""
    statements = ["CREATE SCHEMA kept"]
    statements += [
        f"CREATE TABLE kept.{name} AS SELECT {columns} FROM paytrust.{name}"
        for name, columns in (await _tables(fixture)).items()
    ]
    await execute(fixture.owner_url, *statements)


async def restore(fixture: Fixture) -> None:
    """
    Make the tables as `keep` found them, with statistics, and let no earlier write-back disturb what follows.

    On empty tables without statistics PostgreSQL takes plans that no database at work would see.
    """
    tables = await _tables(fixture)
    names = ", ".join(f"paytrust.{name}" for name in tables)
    # Only so do the triggers let it happen that keep books and invoices from being emptied.
    statements = [
        "BEGIN",
        "SET LOCAL session_replication_role = replica",
        "SET LOCAL lock_timeout = '200ms'",
        f"TRUNCATE {names}",
    ]
    statements += [
        f"INSERT INTO paytrust.{name} ({columns}) SELECT {columns} FROM kept.{name}"
        for name, columns in tables.items()
    ]
    for _ in range(RESTORE_TRIES):
        # Workers of the service read several of the tables at once: who waits for them long while holding
        # others meets a deadlock.
        with contextlib.suppress(asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await execute(fixture.owner_url, "; ".join([*statements, "COMMIT"]))
            break
    else:
        raise RuntimeError("the tables are never free")
    await execute(fixture.owner_url, f"VACUUM ANALYZE {names}", "CHECKPOINT")


async def written(fixture: Fixture) -> dict[str, int]:
    """Rows per table, and how many invoices a payer can pay."""
    connection = await asyncpg.connect(fixture.owner_url)
    try:
        counts = {
            name: await connection.fetchval(f"SELECT count(*) FROM paytrust.{name}")
            for name in await _tables(fixture)
        }
        counts["pending"] = await connection.fetchval(
            "SELECT count(*) FROM paytrust.invoices i JOIN paytrust.payments p ON p.tenant_id = i.tenant_id AND p.invoice_id = i.id"
            " JOIN paytrust.book_accounts b ON b.tenant_id = i.tenant_id AND b.invoice_id = i.id"
            " WHERE i.status = 'pending' AND p.status = 'open' AND b.debits = i.total"
        )
        return {name: int(count) for name, count in counts.items()}
    finally:
        await connection.close()


async def _tables(fixture: Fixture) -> dict[str, str]:
    """Tables that a sample writes, and their columns but generated ones."""
    connection = await asyncpg.connect(fixture.owner_url)
    try:
        rows: list[Any] = await connection.fetch(
            "SELECT c.relname AS name, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'paytrust'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
            " AND a.attgenerated = '' GROUP BY 1 ORDER BY 1"
        )
        return {row["name"]: row["columns"] for row in rows if row["name"] not in KEPT}
    finally:
        await connection.close()
