from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.contract.gateways import PaymentStatus
from paytrust.errors import (
    Busy,
    GatewayError,
    GatewayRejected,
    PayTrustError,
    Unavailable,
)
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.window import CANDIDATES, Due, Room, Window
from paytrust.invoices import service as invoices
from paytrust.invoices.model import IllegalTransition, Invoice, InvoiceStatus, move
from paytrust.payments import model, store
from paytrust.payments.model import Applied, Attempt, AttemptStatus, Check
from paytrust.payments.service import Payments

AT_ONCE: Final = 8
OF_ACCOUNT: Final = 2
"""Beside the webhooks' 3 one more than work in the background may have at an account at once: one waits."""
OF_GATEWAY: Final = AT_ONCE // 2
LEASE: Final = timedelta(minutes=5)
"""Also when a look that failed is repeated."""

ENDS_AT_ONCE: Final = 16
PATIENCE: Final = timedelta(days=1)
"""
How long a gateway that is away, or refuses to close a page that may be open, keeps an invoice from ending: its pages
end by themselves, and the status poller finds money that came on one for a week.
"""

log = logs.get_logger("paytrust.payments")


class StatusPoller:
    """
    Ask gateways about payments on a schedule: money whose webhook never came, unknown outcomes, pages that
    must not stay payable.
    """

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments
        self.window = Window(
            self._claim, self._contained, size=AT_ONCE, of_account=OF_ACCOUNT, of_gateway=OF_GATEWAY
        )

    async def _claim(self, room: Room) -> Sequence[tuple[Due, Check]]:
        async with self._db.transaction(system=True) as tx:
            candidates = await store.due_checks(
                tx,
                but_accounts=room.full_accounts,
                but_gateways=room.full_gateways,
                of_account=OF_ACCOUNT,
                limit=CANDIDATES,
            )
            claims = [(due, await store.claim_check(tx, due, lease=LEASE)) for due in room.choose(candidates)]
        return [(due, check) for due, check in claims if check is not None]

    async def _contained(self, check: Check) -> None:
        try:
            await self._check(check)
        except Exception:
            log.exception("a payment could not be looked at", payment_id=str(check.payment_id))

    async def _check(self, check: Check) -> None:
        again = False
        try:
            await self._look(check)
        except PayTrustError as exc:
            # Whatever may go away by itself is tried again when the lease is over, everything else as if we
            # had looked.
            again = isinstance(exc, (GatewayError, Busy, Unavailable)) and not isinstance(
                exc, GatewayRejected
            )
            tell = log.warning if isinstance(exc, (GatewayError, Busy, Unavailable)) else log.error
            tell(
                "a look at a payment failed",
                payment_id=str(check.payment_id),
                code=exc.code,
                reason=exc.detail,
                again=again,
            )
        async with self._db.transaction(tenant=check.tenant_id) as tx:
            invoice, attempt = await _read(tx, check)
            next_at = model.next_check(attempt, invoice.expires_at, invoice.read_at)
            if not again or next_at is None:
                await store.checked(tx, check, next_at=next_at)

    async def _look(self, check: Check) -> None:
        async with self._db.transaction(tenant=check.tenant_id, readonly=True) as tx:
            invoice, attempt = await _read(tx, check)
            account = await accounts.get(tx, attempt.account_id)
        live = attempt.status in model.LIVE
        if invoice.status in model.COLLECTING and invoice.expires_at + model.EXPIRY_SLACK <= invoice.read_at:
            await self._expire(check)
            if live:
                return
        elif live and not model.asks_for_what_is_due(attempt, invoice):
            await self._payments.collection.expire_open_attempts(check.tenant_id, invoice.id, stale_only=True)
            return
        if attempt.status in {AttemptStatus.CREATING, AttemptStatus.UNKNOWN}:
            applied = await self._payments.collection.resolve_unknown(account, attempt)
            if applied is not None:
                await self._collect_next(applied)
        elif attempt.status is not AttemptStatus.UNAVAILABLE:
            await self._ask(check, account, attempt)

    async def _ask(self, check: Check, account: Account, attempt: Attempt) -> None:
        found = await self._payments.find(account, attempt.reference, check.tenant_id)
        if found:
            applied = await self._payments.apply_found(check.tenant_id, account, attempt.reference, found)
            await self._collect_next(applied)
            if applied.changed:
                log.warning(
                    "found out without a webhook",
                    reference=attempt.reference,
                    invoice_id=str(check.invoice_id),
                )
        async with self._db.transaction(tenant=check.tenant_id, readonly=True) as tx:
            _, attempt = await _read(tx, check)
        for page in model.duplicate_pages(attempt, found):
            await self._payments.expire(account, page, check.tenant_id)
            log.warning(
                "a duplicate page was closed",
                reference=attempt.reference,
                gateway_payment_id=page.gateway_payment_id,
            )

    async def _collect_next(self, applied: Applied) -> None:
        await self._payments.collection.collect_next(applied)
        applied.check()

    async def _expire(self, check: Check) -> None:
        """End an invoice whose time is up: the gateway is asked first, because paid beats expired."""
        await self._payments.collection.expire_open_attempts(check.tenant_id, check.invoice_id)

        async def work(tx: Transaction) -> None:
            current = await invoices.lock(tx, check.tenant_id, check.invoice_id)
            expirable = current.status in {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}
            if expirable and not await store.any_live(tx, check.tenant_id, check.invoice_id):
                await invoices.save(
                    tx, move(current, InvoiceStatus.EXPIRED), was=current.status, reason="its time was up"
                )

        await self._db.run(work, tenant=check.tenant_id)


async def _read(tx: Transaction, check: Check) -> tuple[Invoice, Attempt]:
    invoice = await invoices.get(tx, check.tenant_id, check.invoice_id)
    attempts = await store.of_invoice(tx, check.tenant_id, check.invoice_id)
    return invoice, next(attempt for attempt in attempts if attempt.id == check.payment_id)


class InvoiceExpiry:
    """End invoices whose time is up. The gateway is asked first, because paid beats expired."""

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments

    async def step(self) -> int:
        """Look at what is due, all at once. Returns how many were claimed."""
        async with self._db.transaction(system=True) as tx:
            claimed = await invoices.claim_ends(tx, ENDS_AT_ONCE, slack=model.EXPIRY_SLACK, lease=LEASE)
        await asyncio.gather(*(self._contained(*one) for one in claimed))
        return len(claimed)

    async def _contained(self, tenant_id: UUID, invoice_id: UUID) -> None:
        try:
            await self._look(tenant_id, invoice_id)
        except Exception:
            log.exception("an invoice could not be ended", invoice_id=str(invoice_id))

    async def _look(self, tenant_id: UUID, invoice_id: UUID) -> None:
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
        if invoice.status in {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}:
            await self._end(invoice)
        async with self._db.transaction(tenant=tenant_id) as tx:
            if invoice.status is not InvoiceStatus.DRAFT or not await store.any_live(
                tx, tenant_id, invoice_id
            ):
                await invoices.ended(tx, tenant_id, invoice_id)

    async def _end(self, invoice: Invoice) -> None:
        try:
            await self._payments.collection.end(
                invoice.tenant_id, invoice.id, InvoiceStatus.EXPIRED, reason="its time was up"
            )
        except IllegalTransition:
            pass  # paid meanwhile
        except PayTrustError as exc:
            given_up = invoice.expires_at + PATIENCE <= invoice.read_at or (
                isinstance(exc, GatewayRejected) and not await self._may_be_paid(invoice)
            )
            log.warning(
                "an invoice whose time is up could not be closed at its gateway",
                invoice_id=str(invoice.id),
                code=exc.code,
                reason=exc.detail,
                given_up=given_up,
            )
            if given_up:
                await self._give_up(invoice, exc)

    async def _may_be_paid(self, invoice: Invoice) -> bool:
        """
        Whether a page of it may be open at the gateway: it says so, or does not know the page before a payer has been
        there (Midtrans). False where it does not answer us at all.
        """
        async with self._db.transaction(tenant=invoice.tenant_id, readonly=True) as tx:
            account = await accounts.get(tx, invoice.account_id)
            attempts = await store.of_invoice(tx, invoice.tenant_id, invoice.id)
        gateway = self._payments.collection.at(account, invoice.tenant_id)
        for attempt in attempts:
            if attempt.status in model.LIVE:
                with contextlib.suppress(GatewayError):
                    found = await gateway.find_payments(model.lookup(attempt))
                    if not found or any(payment.status is PaymentStatus.OPEN for payment in found):
                        return True
        return False

    async def _give_up(self, invoice: Invoice, why: PayTrustError) -> None:
        """
        Let an invoice expire although its gateway cannot be asked: its pages ended with it, and the status poller
        finds money that came all the same.
        """

        async def work(tx: Transaction) -> None:
            current = await invoices.lock(tx, invoice.tenant_id, invoice.id)
            if current.status in {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}:
                await store.give_up(tx, invoice.tenant_id, invoice.id, code=why.code, detail=why.detail)
                reason = f"its time was up; the gateway could not be asked: {why.detail}"
                await invoices.save(
                    tx, move(current, InvoiceStatus.EXPIRED), was=current.status, reason=reason
                )

        await self._db.run(work, tenant=invoice.tenant_id)
