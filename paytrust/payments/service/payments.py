"""What gateways say about payments after their pages were opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import GatewayPayment, ListsPayments, PaymentStatus
from paytrust.errors import GatewayRejected, GatewayUnavailable, UnreadableWebhook
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.invoices import service as invoices
from paytrust.invoices.model import TimelineEntry
from paytrust.money import Money
from paytrust.payments import model, store
from paytrust.payments.model import Attempt
from paytrust.payments.service.collection import Collection
from paytrust.payments.service.receipts import Receipts
from paytrust.plugins.calls import Bulkhead

NEWS_AGAIN: Final = timedelta(seconds=60)
TIMELINE_NOTES: Final = 1_000

log = logs.get_logger("paytrust.payments")


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
    ) -> bool:
        """
        Ask the gateway about *reference* and apply what it answers; True when anything changed. *hint* is the
        id by which a webhook named the payment; it is kept for every later look-up.

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
        """What the gateway lists of a period; see `lists`."""
        return self.collection.at(account, account.tenant_id).list_payments(since, until)

    def lists(self, account: Account) -> bool:
        """Whether the account's gateway can list its payments."""
        return isinstance(self._gateways.gateway(account), ListsPayments)

    async def apply_found(
        self, tenant_id: UUID, account: Account, reference: str, found: Sequence[GatewayPayment]
    ) -> bool:
        """Apply what the gateway answered about *reference*; True when anything changed."""
        changed, refused = await self._receipts.record_all(tenant_id, account.id, found)
        if all(payment.status in {PaymentStatus.EXPIRED, PaymentStatus.FAILED} for payment in found):
            changed |= await self._end(tenant_id, account, reference, found)
        if changed:
            await self.collection.collect_next(tenant_id, account.id, reference)
        await self._close_twins(tenant_id, account, found)
        if refused is not None:
            raise refused
        return changed

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

    async def _close_twins(self, tenant_id: UUID, account: Account, found: Sequence[GatewayPayment]) -> None:
        """Where one of several payments with one reference was paid, nobody pays another."""
        if all(payment.status is not PaymentStatus.PAID for payment in found):
            return
        for twin in [payment for payment in found if payment.status is PaymentStatus.OPEN]:
            try:
                await self.expire(account, twin, tenant_id)
            except GatewayRejected as exc:
                log.warning(
                    "a twin of a paid payment stays open", reference=twin.reference, reason=exc.detail
                )  # unless paid meanwhile

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


async def asked_for(
    tx: Transaction, account_ids: Sequence[UUID], references: Sequence[str]
) -> dict[str, tuple[UUID, Money]]:
    """Whose attempts these are, and what was asked. Needs a system transaction."""
    return await store.asked_for(tx, account_ids, references)


async def received(
    tx: Transaction, tenant_id: UUID, account_id: UUID, gateway_payment_ids: Sequence[str]
) -> dict[str, Money]:
    """What is in our books of these gateway payments."""
    return await store.received(tx, tenant_id, account_id, gateway_payment_ids)


async def made_between(
    tx: Transaction, account_id: UUID, since: datetime, until: datetime
) -> list[tuple[UUID, str, Money]]:
    """
    Attempts of [since, until) that the gateway should know: open and paid ones. Needs a system transaction.
    """
    return await store.made_between(tx, account_id, since, until)
