"""
The statements of the stores without their tenant filter, run as the service's role: row-level security alone
keeps tenants apart.

The services work for merchant B through its whole life, and every statement that they send for B is heard,
with its arguments. Each is then sent again in a transaction of merchant A: with the same arguments, which
name B and what is B's, and without `tenant_id = ...`, as if the filter had been forgotten. No row of B comes
back, and every row of B stays as it was.

A statement that filters by tenant and was not heard fails: lead the services through it in `live`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import re
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import pytest
from pydantic import SecretStr
from support.work import one_round

import paytrust.services
from paytrust.accounts import service as accounts
from paytrust.accounts.model import NO_TENANT, CreateAccount, NewFee, UpdateAccount
from paytrust.errors import OutcomeUnknown
from paytrust.idempotency.model import Answer
from paytrust.idempotency.service import hold
from paytrust.infra.db import Database
from paytrust.installments.model import AdjustInstallments
from paytrust.invoices.model import CreateInvoice, CreateSupplementary
from paytrust.keys.model import AuditFilters, CreateKey
from paytrust.payments.jobs import InvoiceExpiry, StatusPoller
from paytrust.payments.model import InvoiceFilters, ReceiptFlag
from paytrust.plugins.registry import Registry
from paytrust.secrets.jobs import rotate
from paytrust.services import Services
from paytrust.tenants.model import CreateTenant
from paytrust.webhooks.jobs import WebhookJobs
from paytrust.webhooks.model import FailedFilters
from paytrust.webhooks.service import Alarm

FILTER = re.compile(
    r"(?:\b\w+\.)?\b(?:tenant_id|scope) = (?:(?P<parameter>\$\d+)|\w+\.(?:tenant_id|scope)\b)"
)
TYPED_FILTER = re.compile(
    r'"(?P<table>\w+)"\."(?:tenant_id|scope)" = (?:(?P<one>\$\d+)|ANY\((?P<many>\$\d+)\))'
)


def forgetful(sql):
    """The statement as it would be if nobody had thought of tenants."""
    sql = TYPED_FILTER.sub(
        lambda found: (
            f"{found['one']}::uuid IS NOT NULL" if found["one"] else f"{found['many']}::uuid[] IS NOT NULL"
        ),
        sql,
    )
    return FILTER.sub(
        lambda found: f"{found['parameter']}::uuid IS NOT NULL" if found["parameter"] else "true", sql
    )


def is_typed(heard):
    """Whether the statement was written by Piccolo."""
    return heard.sql.startswith("SELECT ALL ")


UUIDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Heard(NamedTuple):
    sql: str
    args: tuple


class Listening(Database):
    """The services' database. What is said in a tenant's transaction is kept."""

    heard: dict[UUID, dict[Heard, None]] = {}  # noqa: RUF012 - of this file's services

    @contextlib.asynccontextmanager
    async def transaction(self, *, tenant=None, **how):
        def listen(query):
            if query.args and (
                "paytrust." in query.query or '"paytrust"' in query.query
            ):  # asyncpg asks about types
                self.heard.setdefault(tenant, {})[Heard(query.query, tuple(map(_frozen, query.args)))] = None

        async with super().transaction(tenant=tenant, **how) as tx:
            tx.connection.add_query_logger(listen)
            try:
                yield tx
            finally:
                if not tx.connection.is_closed():
                    tx.connection.remove_query_logger(listen)


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


class Life:
    """A merchant with an account at the sandbox, and all that its invoices can go through."""

    def __init__(self, services, sandbox, owner, tenant_id, account):
        self.services, self.far, self.owner, self.tenant_id, self.account = (
            services,
            sandbox.xendit,
            owner,
            tenant_id,
            account,
        )

    @classmethod
    async def of(cls, name, services, sandbox, owner):
        tenant_id = (await services.tenants.create(CreateTenant(name))).tenant_id
        made = await services.accounts.create(cls._account(name, tenant_id, sandbox.xendit))
        async with services.db.transaction(tenant=tenant_id) as tx:
            account = await accounts.find(tx, made.gateway_id)
        return cls(services, sandbox, owner, tenant_id, account)

    @staticmethod
    def _account(name, tenant_id, far):
        return CreateAccount(
            gateway="xendit",
            name=name,
            tenant_id=tenant_id,
            base_url=far.url,
            credentials={"secret_key": far.key, "callback_token": far.callback_token},
            currencies={"IDR": NewFee()},
        )

    def body(self, type_=CreateInvoice, **changes):
        body = {"line_items": [{"product_name": "Course", "quantity": 1, "unit_price": "90000"}]} | changes
        if type_ is CreateInvoice:
            body |= {"gateway_id": str(self.account.id), "currency": "IDR"}
        return msgspec.json.decode(msgspec.json.encode(body), type=type_)

    async def invoice(self, **changes):
        return (await self.services.invoicing.create(self.tenant_id, self.body(**changes)))[0]

    async def pages(self, filters, before=None):
        """A page of invoices without their lines, and with them."""
        for lines in (False, True):
            await self.services.payments.page(self.tenant_id, filters, limit=50, before=before, lines=lines)

    async def paid(self, invoice, amount=None):
        """Pay what is due next, and hear of it."""
        attempts = await self.services.payments.of_invoice(self.tenant_id, invoice.id)
        reference = attempts[-1].reference
        self.far.pay(reference, **({"amount": amount} if amount else {}))
        applied = await self.services.payments.confirm(
            self.tenant_id, self.account, reference, hint="another id"
        )
        await self.services.payments.collection.collect_next(applied)
        await self.services.payments.check_soon(self.tenant_id, self.account.id, reference)

    async def live(self):
        services, tenant_id = self.services, self.tenant_id
        paid = await self.invoice(external_id="order-1")
        assert (await self.invoice(external_id="order-1")).id == paid.id
        await self.paid(paid, amount=100_000)
        parts = await self.invoice(installments={"count": 3})
        await self.paid(parts)
        adjusted = msgspec.convert(
            {"installments": [{"number": 2, "amount": msgspec.Raw(b'"40000"')}]}, AdjustInstallments
        )
        await services.invoicing.adjust(tenant_id, parts.id, adjusted)
        await services.invoicing.supplement(tenant_id, parts.id, self.body(CreateSupplementary))
        cancelled = await self.invoice()
        await services.invoicing.cancel(tenant_id, cancelled.id)
        doubted = await self.invoice()
        with contextlib.suppress(OutcomeUnknown):
            self.far.fault("reset_after", on="expire", times=1)
            await services.invoicing.cancel(tenant_id, doubted.id)
        self.far.clear_faults()
        with contextlib.suppress(OutcomeUnknown):
            self.far.fault("reset_after", on="create", times=1)
            await self.invoice(external_id="order-2")
        self.far.clear_faults()
        lost = await self.invoice(external_id="order-2")
        await services.payments.collection.ensure_open(tenant_id, lost.id)
        await self._late_page()
        await self._expire(lost)
        await self._read(parts)
        await self._claim()

    async def _expire(self, invoice):
        async with self.owner.transaction():
            await self.owner.execute("SET LOCAL session_replication_role = replica")
            past = (
                "SET created_at = created_at - interval '2 days', expires_at = now() - interval '2 minutes',"
                " end_check_at = now() - interval '2 minutes'"
            )
            await self.owner.execute(f"UPDATE paytrust.invoices {past} WHERE id = $1", invoice.id)
        await self.owner.execute(
            "UPDATE paytrust.payments SET next_check_at = now() WHERE tenant_id = $1", self.tenant_id
        )
        self.far.fault("http_401", on="any")
        await InvoiceExpiry(self.services.db, self.services.payments).step()
        self.far.clear_faults()
        await one_round(StatusPoller(self.services.db, self.services.payments).window)

    async def _late_page(self):
        """An attempt is closed while its page is being made; the next page is asked about after a while."""
        self.far.fault("late_answer", on="create", times=1, seconds=0.5)
        making = asyncio.create_task(self.invoice(external_id="order-3"))
        await asyncio.sleep(0.25)
        late = "UPDATE paytrust.payments SET status = 'expired' WHERE tenant_id = $1 AND status = 'creating'"
        await self.owner.execute(late, self.tenant_id)
        invoice = await making
        for _ in range(2):
            await self.services.payments.collection.ensure_open(self.tenant_id, invoice.id)
            past = (
                "UPDATE paytrust.payments SET opened_at = opened_at - interval '1 hour' WHERE invoice_id = $1"
            )
            await self.owner.execute(past, invoice.id)

    async def _read(self, invoice):
        services, tenant_id = self.services, self.tenant_id
        every = {
            "status": invoice.status,
            "currency": invoice.currency,
            "account_id": invoice.account_id,
            "external_id": "order-1",
            "created_from": invoice.created_at,
            "created_to": invoice.created_at + timedelta(days=1),
            "original_id": invoice.id,
            "flag": ReceiptFlag.LATE,
        }
        assert every.keys() == set(InvoiceFilters.__struct_fields__)
        for filters in ({}, *({name: value} for name, value in every.items())):
            await self.pages(InvoiceFilters(**filters))
        await self.pages(InvoiceFilters(), before=invoice.id)
        await self.pages(InvoiceFilters(**every), before=invoice.id)
        await services.payments.show(tenant_id, invoice.id)
        await services.installments.overpayment(tenant_id, invoice.id)
        await services.payments.timeline(tenant_id, invoice.id)
        await services.proofs.verify(tenant_id)
        now = await self.owner.fetchval("SELECT now()")
        await services.reconciliation.compare(self.account, now - timedelta(days=1), now)

    async def administrate(self):
        """What administration asks about one tenant is not said in its name."""
        services, first = self.services, UUID(int=0)
        await services.accounts.update(self.account.id, UpdateAccount(name="B"))
        mistyped = await services.accounts.create(self._account("mistyped", self.tenant_id, self.far))
        await services.accounts.remove(mistyped.gateway_id)
        await services.tenants.page(limit=50, after=first)
        await services.accounts.page(limit=50, after=first, tenant_id=self.tenant_id)
        for _ in range(2):
            await services.keys.create(CreateKey(self.tenant_id))
        await services.keys.page(limit=50, after=first, tenant_id=self.tenant_id)
        (newest,) = await services.keys.audit(AuditFilters(self.tenant_id), limit=1, before=None)
        await services.keys.audit(AuditFilters(self.tenant_id), limit=50, before=newest.audit_id)
        headers = {"x-callback-token": self.far.callback_token}
        await services.webhooks.receive("xendit", self.account.webhook_token, headers, b"{}")
        failed = FailedFilters(self.account.id)
        (webhook,) = await services.inbox.failed(failed, limit=50)
        assert await services.inbox.replay_failed(failed) == [webhook.event_id]
        await one_round(WebhookJobs(services.db, services.accounts, services.payments, Alarm()).window)
        (attempt,) = (await services.inbox.get(webhook.event_id)).attempts
        assert attempt.outcome == "failed"

    async def _claim(self):
        """
        As a request that is refused, one that fails and is then answered, and one that is still running.
        """
        idempotency, fingerprint = self.services.idempotency, b"f" * 32
        for key, status in (("refused", 400), ("key", 503), ("key", 200), ("running", None)):
            claim = await idempotency.claim(self.tenant_id, key, fingerprint)
            async with self.services.db.transaction(tenant=self.tenant_id) as tx:
                await hold(tx, claim)
            if status is not None:
                await idempotency.complete(claim, Answer(status, [], b"{}"))
        assert (await idempotency.claim(self.tenant_id, "key", fingerprint)).status == 200


class Arena:
    """The statements that the services sent for B, the lists they sent, and a connection that sends both for A."""

    def __init__(self, connection, a, b, heard, listed):
        self.connection, self.a, self.b, self.heard, self.listed = connection, a, b, heard, listed

    async def said_by(self, tenant_id, heard, *, as_service):
        """
        One statement without its filter, in a transaction of this tenant: its rows, how many it touched, and
        whether rows of B changed.
        """
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            before = await self._rows_of_b()
            await self.connection.execute(f"SELECT set_config('app.tenant', '{tenant_id}', true)")
            if as_service:
                await self.connection.execute("SET LOCAL ROLE paytrust_app")
            statement = await self.connection.prepare(forgetful(heard.sql))
            rows = await statement.fetch(*heard.args)
            touched = int(statement.get_statusmsg().split()[-1])
            await self.connection.execute("RESET ROLE")
            return rows, touched, await self._rows_of_b() != before
        finally:
            await transaction.rollback()

    async def _rows_of_b(self):
        """
        Every row that names B. They have no other way of belonging to it, but for attempts at webhooks, which
        no tenant sees.
        """
        tables = await self.connection.fetch(
            "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'paytrust'"
        )
        rows = [
            f"SELECT t::text AS written FROM paytrust.{table['name']} t WHERE t::text LIKE '%{self.b}%'"
            for table in tables
        ]
        return sorted(row["written"] for row in await self.connection.fetch(" UNION ALL ".join(rows)))

    async def ids_of_b(self):
        return {one for row in await self._rows_of_b() for one in UUIDS.findall(row)} - {str(NO_TENANT)}


@pytest.fixture(scope="module")
async def arena(module_owner_url, settings_for, sandbox):
    sandbox.xendit.reset()
    owner = await asyncpg.connect(module_owner_url, server_settings={"search_path": "paytrust"})
    settings = settings_for(module_owner_url, worker=False)
    master_keys = {"new": SecretStr(base64.b64encode(b"n" * 32).decode())} | settings.encryption_keys
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paytrust.services, "Database", Listening)
        services = Services(settings, Registry())
        rotating = Services(settings.model_copy(update={"encryption_keys": master_keys}), Registry())
    async with services.running():
        a = await Life.of("A", services, sandbox, owner)
        await a.invoice()
        b = await Life.of("B", services, sandbox, owner)
        await b.live()
        await b.administrate()
    async with rotating.running():
        await rotate(rotating.secrets, rotating.sealed_stores, new_data_keys=True, propagation_s=0)
    listed = [heard for heard in Listening.heard[None] if is_typed(heard)]
    yield Arena(owner, a.tenant_id, b.tenant_id, list(Listening.heard[b.tenant_id]), listed)
    await owner.close()


def in_one_line(sql):
    return " ".join(sql.split())


async def test_every_statement_that_filters_by_tenant_was_heard(arena, statements):
    heard = {in_one_line(one.sql) for said in Listening.heard.values() for one in said}
    stores = (Path(__file__).parents[2] / "paytrust").glob("*/store.py")
    filtering = {
        in_one_line(sql)
        for path in stores
        for _, sql in statements(path)
        if "tenant_id = $" in sql or "scope = $" in sql
    }
    assert len(filtering) > 25
    assert filtering - heard == set(), "lead the services through these in `live`"


def test_every_typed_query_that_filters_by_tenant_was_heard(arena):
    heard = {found["table"] for one in arena.listed for found in TYPED_FILTER.finditer(one.sql)}
    filtered = set()
    for path in (Path(__file__).parents[2] / "paytrust").glob("*/store.py"):
        for name in re.findall(r"(?:where|one_of)\((\w+)\.(?:tenant_id|scope)\b", path.read_text()):
            tables = importlib.import_module(f"paytrust.{path.parent.name}.tables")
            filtered.add(getattr(tables, name)._meta.tablename)
    assert filtered == heard == {"api_keys", "key_audit", "gateway_accounts", "gateway_account_currencies"}


async def test_a_list_without_its_filter_shows_one_tenant_nothing_of_another(arena):
    """The typed queries of administration, asked in a transaction of merchant A."""
    ids = await arena.ids_of_b()
    for heard in arena.listed:
        rows, _, changed = await arena.said_by(arena.a, heard, as_service=True)
        assert not changed, heard.sql
        for row in rows:
            found = set(UUIDS.findall(str(tuple(row))))
            assert found, f"{heard.sql} answers {row}, and nobody can say whose that is"
            assert not found & ids, f"{heard.sql} answers {row}"
        _, touched, _ = await arena.said_by(arena.a, heard, as_service=False)
        assert touched, f"{heard.sql} finds nothing, whoever asks"


async def test_a_statement_without_its_filter_reads_and_changes_nothing_of_another_tenant(arena):
    ids = await arena.ids_of_b()
    refused = 0
    for heard in arena.heard:
        try:
            rows, _, changed = await arena.said_by(arena.a, heard, as_service=True)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError) as exc:
            # It writes a row of B; or follows a row of B, which the trigger that looks for it does not see.
            assert "row-level security" in str(exc) or "cannot supplement" in str(exc), heard.sql  # noqa: PT017 - some are refused, some not
            refused += 1
            continue
        assert not changed, heard.sql
        for row in rows:
            written = str(tuple(row))
            found = set(UUIDS.findall(written))
            assert found, f"{heard.sql} answers {written}, and nobody can say whose that is"
            assert not found & ids, f"{heard.sql} answers {written}"
    assert refused > 5


async def test_it_is_row_level_security_that_keeps_them_apart(arena):
    """The same statements, sent by one whom row-level security does not hold, read and change what is B's."""
    kept = set()
    for heard in arena.heard:
        try:
            _, touched, _ = await arena.said_by(arena.a, heard, as_service=False)
        except asyncpg.IntegrityConstraintViolationError:
            touched = 1  # what it writes is there already
        if touched:
            kept.add(in_one_line(heard.sql))
    # The others find nothing whoever asks: proofs of the books that hold, and steps from a state that is over
    # by now.
    said = {in_one_line(heard.sql) for heard in arena.heard}
    assert len(kept) > 0.5 * len(said), sorted(said - kept)
