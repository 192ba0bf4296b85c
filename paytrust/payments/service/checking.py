"""Asking gateways about the payments of one invoice, because a person wants to know now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.errors import NotFound, PayTrustError
from paytrust.infra.db import Database
from paytrust.invoices import service as invoices
from paytrust.payments import model, store
from paytrust.payments.model import Attempt, AttemptStatus, CheckedInvoice, CheckedPayment, CheckResult
from paytrust.payments.service.payments import Payments
from paytrust.payments.service.reading import show

MOST: Final = 5
"""The newest attempts are asked about. Each may take as long as a call may, and a client waits for all."""


class Checking:
    """Asks at once, and answers a person, where the status poller asks on its schedule."""

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments

    async def check(self, tenant_id: UUID, invoice_id: UUID) -> CheckedInvoice:
        """
        Ask the gateway about the newest attempts of an invoice and book what it says; say for each attempt what was
        found, or why it was not asked about. After a failed call no other is made.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            account = await accounts.get(tx, invoice.account_id)
            attempts = (await store.of_invoice(tx, tenant_id, invoice_id))[::-1]
        checked: list[CheckedPayment] = []
        asked, failed = 0, False
        for attempt in attempts:
            reason = "after_a_failed_call" if failed else _not_asked(attempt, asked, invoice.read_at)
            if reason is not None:
                checked.append(_told(attempt, CheckResult.SKIPPED, reason))
                continue
            asked += 1
            told = await self._ask(account, attempt)
            failed = told.result is CheckResult.FAILED
            checked.append(told)
        return await self._after(tenant_id, invoice_id, checked)

    async def named(self, name: str) -> tuple[UUID, UUID]:
        """The tenant and the invoice that a reference or an invoice's id names, of all tenants. Raises `NotFound`."""
        try:
            invoice_id = model.invoice_of(name) or UUID(name)
        except ValueError as exc:
            raise NotFound(f"{name!r} is neither an invoice's id nor a reference of ours") from exc
        first = model.payment_reference(invoice_id, 1, 1)  # every invoice is written with this attempt
        async with self._db.transaction(system=True, readonly=True) as tx:
            found = await store.asked_for(tx, await accounts.ids(tx), [first])
        if first not in found:
            raise NotFound(f"there is no invoice {invoice_id}")
        return found[first][0], invoice_id

    async def _ask(self, account: Account, attempt: Attempt) -> CheckedPayment:
        try:
            if attempt.status in {AttemptStatus.CREATING, AttemptStatus.UNKNOWN}:
                applied = await self._payments.collection.resolve_unknown(account, attempt)
                if applied is None:
                    return _told(attempt, CheckResult.UNCHANGED)
            else:
                found = await self._payments.find(account, attempt.reference, attempt.tenant_id)
                if not found:
                    return _told(attempt, CheckResult.NOT_FOUND)
                applied = await self._payments.apply_found(
                    attempt.tenant_id, account, attempt.reference, found
                )
            await self._payments.collection.collect_next(applied)
            applied.check()
        except PayTrustError as exc:
            return _told(attempt, CheckResult.FAILED, exc.code)
        return _told(attempt, CheckResult.CHANGED if applied.changed else CheckResult.UNCHANGED)

    async def _after(
        self, tenant_id: UUID, invoice_id: UUID, checked: Sequence[CheckedPayment]
    ) -> CheckedInvoice:
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await show(tx, tenant_id, invoice_id)
        return CheckedInvoice(invoice_id, invoice.status, list(checked))


def _not_asked(attempt: Attempt, asked: int, now: datetime) -> str | None:
    """Why an attempt is not asked about; None when it is."""
    if attempt.status is AttemptStatus.REJECTED:
        return "rejected"
    if attempt.status is AttemptStatus.UNAVAILABLE:
        return "never_sent"
    if attempt.is_being_made(now):
        return "being_made"
    return "too_many" if asked >= MOST else None


def _told(attempt: Attempt, result: CheckResult, reason: str | None = None) -> CheckedPayment:
    return CheckedPayment(attempt.id, attempt.reference, result, reason)
