"""Gateways' answers about payments: asking for them, applying them, showing what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import GatewayPayment, ListsPayments, PaymentStatus
from paytrust.errors import GatewayUnavailable, UnreadableWebhook
from paytrust.infra.db import Database
from paytrust.invoices import service as invoices
from paytrust.invoices.model import TimelineEntry
from paytrust.payments import model, store
from paytrust.payments.model import Applied, Attempt, InvoiceFilters, ShownInvoice
from paytrust.payments.service.collection import Collection
from paytrust.payments.service.reading import show
from paytrust.payments.service.receipts import Receipts
from paytrust.plugins.calls import Bulkhead

NEWS_AGAIN: Final = timedelta(seconds=60)
TIMELINE_NOTES: Final = 1_000


class Payments:
    """Hear what gateways say about payments, and apply it; *collection* opens and closes their pages."""

    def __init__(self, db: Database, gateways: Accounts, *, calls: Bulkhead, insecure: bool) -> None:
        self._db = db
        self._gateways = gateways
        self._receipts = Receipts(db)
        self.collection = Collection(db, gateways, self._receipts, calls=calls, insecure=insecure)

    async def tenant_of(self, account_id: UUID, reference: str) -> UUID | None:
        """Whose attempt a reference names; None when we never made it."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.tenant_of_reference(tx, account_id, reference)

    async def confirm(
        self, tenant_id: UUID, account: Account, reference: str, *, hint: str | None = None
    ) -> Applied:
        """
        Ask the gateway about *reference* and apply what it answers; the caller collects what is due next. *hint*
        is the id by which a webhook named the payment; it is kept for every later look-up.

        Raises `GatewayUnavailable` also when the gateway does not know the reference (yet).
        """
        found = await self.find(account, reference, tenant_id, hint=hint)
        if not found:
            raise GatewayUnavailable(f"the gateway does not know {reference} (yet)")
        return await self.apply_found(tenant_id, account, reference, found)

    async def check_soon(self, tenant_id: UUID, account_id: UUID, reference: str) -> None:
        """
        Have the gateway asked again within a minute: a webhook told of news that the gateway does not tell
        when asked, yet or ever.
        """
        async with self._db.transaction(tenant=tenant_id) as tx:
            await store.check_soon(tx, tenant_id, account_id, reference, within=NEWS_AGAIN)

    async def find(
        self, account: Account, reference: str, tenant_id: UUID, *, hint: str | None = None
    ) -> Sequence[GatewayPayment]:
        """
        What the gateway knows under *reference*, oldest first. Raises `UnreadableWebhook` for a status that
        the plugin does not know.
        """
        async with self._db.transaction(tenant=tenant_id) as tx:
            attempt = await store.by_reference(tx, account.id, reference)
            assert attempt is not None, "callers found the tenant by this reference"
            if hint not in {None, attempt.hint, attempt.gateway_payment_id}:
                await store.keep_hint(tx, attempt, hint)
                attempt = msgspec.structs.replace(attempt, hint=hint)
        return await self.collection.at(account, tenant_id).find_payments(
            model.lookup(attempt), unreadable=UnreadableWebhook
        )

    async def expire(self, account: Account, payment: GatewayPayment, tenant_id: UUID) -> None:
        """Make one page unpayable. Raises `GatewayRejected` when it has been paid meanwhile."""
        await self.collection.at(account, tenant_id).expire_payment(payment)

    def listed(self, account: Account, since: datetime, until: datetime) -> AsyncIterator[GatewayPayment]:
        """The gateway's list of payments of a period; see `lists`."""
        return self.collection.at(account, account.tenant_id).list_payments(since, until)

    def lists(self, account: Account) -> bool:
        """Whether the account's gateway can list its payments."""
        return isinstance(self._gateways.gateway(account), ListsPayments)

    async def apply_found(
        self, tenant_id: UUID, account: Account, reference: str, found: Sequence[GatewayPayment]
    ) -> Applied:
        """Apply what the gateway answered about *reference*. The caller collects what is due next."""
        applied = await self._receipts.record_all(tenant_id, account, reference, found)
        if all(payment.status in {PaymentStatus.EXPIRED, PaymentStatus.FAILED} for payment in found):
            ended = await self._end(tenant_id, account, reference, found)
            applied = msgspec.structs.replace(applied, changed=applied.changed or ended)
        return applied

    async def _end(
        self, tenant_id: UUID, account: Account, reference: str, found: Sequence[GatewayPayment]
    ) -> bool:
        """
        Close an attempt of which nothing found can be paid; its page too, where that outlives a transaction
        (Midtrans).
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            attempt = await store.by_reference(tx, account.id, reference)
        assert attempt is not None, "callers found the tenant by this reference"
        known = {None, *(payment.gateway_payment_id for payment in found)}
        if attempt.status in model.LIVE and attempt.gateway_payment_id not in known:
            await self.collection.expire_attempt(account, attempt)
            return True
        return await self._receipts.close(tenant_id, account.id, reference)

    async def show(self, tenant_id: UUID, invoice_id: UUID) -> ShownInvoice:
        """An invoice with its live payment page."""
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await show(tx, tenant_id, invoice_id)

    async def page(
        self,
        tenant_id: UUID,
        filters: InvoiceFilters,
        *,
        limit: int,
        before: UUID | None,
        lines: bool = False,
    ) -> list[ShownInvoice]:
        """Newest first, after the invoice *before*; with their lines only where *lines* says so."""
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await store.page(tx, tenant_id, filters, limit=limit, before=before, lines=lines)

    async def of_invoice(self, tenant_id: UUID, invoice_id: UUID) -> list[Attempt]:
        """Every attempt to collect an invoice, in order."""
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            await invoices.get(tx, tenant_id, invoice_id)
            return await store.of_invoice(tx, tenant_id, invoice_id)

    async def timeline(self, tenant_id: UUID, invoice_id: UUID) -> list[TimelineEntry]:
        """Everything that happened to an invoice, oldest first; of its notes the newest 1,000."""
        async with self._db.transaction(tenant=tenant_id, isolation="REPEATABLE READ", readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            notes = await invoices.history(tx, tenant_id, invoice_id, limit=TIMELINE_NOTES)
            attempts = await store.of_invoice(tx, tenant_id, invoice_id)
            receipts = await store.receipts_of(tx, tenant_id, invoice_id)
        return model.timeline(invoice, notes, attempts, receipts)
