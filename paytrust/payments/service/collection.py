"""Payment pages at gateways: opening what is due next, and closing what must not be paid any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.errors import (
    Busy,
    Conflict,
    GatewayError,
    GatewayRejected,
    GatewayUnavailable,
    OutcomeUnknown,
)
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.invoices import service as invoices
from paytrust.invoices.model import Installment, Invoice, InvoiceStatus, payment_reference
from paytrust.money import Money
from paytrust.payments import model, store
from paytrust.payments.model import AmountNotCollectable, Attempt, AttemptStatus
from paytrust.payments.service.receipts import Receipts, issue, locked, named
from paytrust.plugins.calls import Bulkhead, GatewayClient

ABANDONED_AFTER: Final = timedelta(seconds=60)
"""An attempt that has been "creating" for longer lost the process that was creating it."""
FAILED_AS: Final = {
    GatewayRejected: AttemptStatus.REJECTED,
    GatewayUnavailable: AttemptStatus.UNAVAILABLE,
    OutcomeUnknown: AttemptStatus.UNKNOWN,
}

log = logs.get_logger("paytrust.payments")


class Collection:
    """Collect what is due at gateways. No transaction is open while one is asked."""

    def __init__(
        self, db: Database, gateways: Accounts, receipts: Receipts, *, calls: Bulkhead, insecure: bool
    ) -> None:
        self._db = db
        self._gateways = gateways
        self._receipts = receipts
        self._calls = calls
        self._insecure = insecure

    def at(self, account: Account, tenant_id: UUID | None) -> GatewayClient:
        """The account's gateway, for calls on behalf of this tenant; None: of all that share it."""
        return self._calls.guard(self._gateways.gateway(account), account_id=account.id, tenant_id=tenant_id)

    async def open_first(
        self, invoice: Invoice, account: Account, *, payment_id: UUID, now: datetime
    ) -> Invoice:
        """
        Open the payment whose attempt was written with the invoice. Raises a `GatewayError` after noting it.
        """
        first = invoice.installments[0]
        return await self._create(invoice, account, _new_attempt(invoice, first, 1, now, payment_id), now)

    async def ensure_open(self, tenant_id: UUID, invoice_id: UUID, *, number: int | None = None) -> Invoice:
        """
        Return the invoice with a live payment page for what is due next, making one when there is none.

        An attempt with an unknown outcome is looked up at the gateway first, and what is found is adopted.
        *number* names the installment the caller has in mind: `OutOfSequence` when another one is due. Raises
        `NothingDue`, `AmountNotCollectable`, `Busy` or a `GatewayError`.
        """
        invoice, account, attempt, now = await self._db.run(
            lambda tx: self._claim_attempt(tx, tenant_id, invoice_id, number), tenant=tenant_id
        )
        if not model.asks_for_what_is_due(attempt, invoice):
            await self.expire_attempt(account, attempt)
            return await self.ensure_open(tenant_id, invoice_id, number=number)
        if attempt.status is AttemptStatus.OPEN:
            return invoice
        if attempt.status is AttemptStatus.UNAVAILABLE or attempt.created_at == now:
            return await self._create(invoice, account, attempt, now)
        return await self._resolve(invoice, account, attempt) or await self._create(
            invoice, account, attempt, now
        )

    async def resolve_unknown(self, account: Account, attempt: Attempt) -> None:
        """
        Ask the gateway what became of an attempt whose outcome is not known, and adopt what it has; nothing
        new is made.

        Raises `Busy` while it is being made, or a `GatewayError`.
        """
        invoice = await self._db.run(lambda tx: self._reclaim(tx, attempt), tenant=attempt.tenant_id)
        if invoice is not None and await self._resolve(invoice, account, attempt) is None:
            await self._note_failure(attempt, OutcomeUnknown("the gateway does not know it (yet)"))

    async def _reclaim(self, tx: Transaction, attempt: Attempt) -> Invoice | None:
        attempt, invoice = await locked(tx, attempt.tenant_id, attempt.account_id, attempt.reference)
        if (
            attempt.status is AttemptStatus.CREATING
            and attempt.updated_at > invoice.read_at - ABANDONED_AFTER
        ):
            raise Busy("another request is opening this payment; try again in a moment")
        if attempt.status not in {AttemptStatus.CREATING, AttemptStatus.UNKNOWN}:
            return None
        await store.reclaim(tx, attempt)
        return invoice

    async def _claim_attempt(
        self, tx: Transaction, tenant_id: UUID, invoice_id: UUID, number: int | None
    ) -> tuple[Invoice, Account, Attempt, datetime]:
        """
        Claim the right to work on the installment due next: its attempt comes back as it was before the
        claim.
        """
        invoice = await invoices.lock(tx, tenant_id, invoice_id)
        account = await accounts.get(tx, invoice.account_id)
        now = account.read_at
        installment = model.check_payable(invoice, now, number=number)
        newest = await store.latest(tx, tenant_id, invoice_id, installment.number)
        if newest is None:
            attempt = self._next_attempt(invoice, account, installment, 1, now)
            await store.insert(tx, attempt)
            return invoice, account, attempt, now
        attempt = newest
        if attempt.status is AttemptStatus.CREATING and attempt.updated_at > now - ABANDONED_AFTER:
            raise Busy("another request is opening this payment; try again in a moment")
        if attempt.status not in model.LIVE:
            attempt = self._next_attempt(invoice, account, installment, attempt.attempt + 1, now)
            await store.insert(tx, attempt)
        elif attempt.status is not AttemptStatus.OPEN and model.asks_for_what_is_due(attempt, invoice):
            await store.reclaim(tx, attempt)
        return invoice, account, attempt, now

    def _next_attempt(
        self, invoice: Invoice, account: Account, installment: Installment, number: int, now: datetime
    ) -> Attempt:
        objection = self._gateways.limits(account, invoice.currency).objection(installment.due)
        if objection is not None:
            raise AmountNotCollectable(
                f"what is due on installment {installment.number} cannot be collected: {objection}"
            )
        return _new_attempt(invoice, installment, number, now, new_id())

    async def _create(self, invoice: Invoice, account: Account, attempt: Attempt, now: datetime) -> Invoice:
        installment = next(
            installment
            for installment in invoice.installments
            if installment.number == attempt.installment_number
        )
        try:
            hosts = self._gateways.page_hosts(account)
            request = model.request_for(
                invoice,
                reference=attempt.reference,
                installment=installment,
                amount=attempt.amount,
                webhook_url=self._gateways.webhook_url(account),
                now=now,
            )
            opened = await self.at(account, invoice.tenant_id).create_payment(request)
            self._check(attempt, opened, hosts)
        except GatewayError as exc:
            await self._note_failure(attempt, exc)
            raise
        return await self._db.run(
            lambda tx: self._opened(tx, invoice, attempt, opened), tenant=invoice.tenant_id
        )

    async def _resolve(self, invoice: Invoice, account: Account, attempt: Attempt) -> Invoice | None:
        """
        Ask the gateway what became of an attempt: found one, adopt it; several, keep a paid one or the
        oldest; None when it knows none.
        """
        try:
            gateway = self.at(account, invoice.tenant_id)
            found = await gateway.find_payments(model.lookup(attempt))
            live = [
                payment for payment in found if payment.status in {PaymentStatus.OPEN, PaymentStatus.PAID}
            ]
            live.sort(key=lambda payment: payment.status is not PaymentStatus.PAID)
            for duplicate in live[1:]:
                if duplicate.status is PaymentStatus.OPEN:
                    await gateway.expire_payment(duplicate)
            if live:
                self._check(attempt, live[0], self._gateways.page_hosts(account))
        except GatewayError as exc:
            await self._note_failure(attempt, OutcomeUnknown(f"still unknown: {exc.detail}"))
            raise
        if not found:
            return None
        if not live:
            await self._receipts.close(invoice.tenant_id, attempt.account_id, attempt.reference)
            raise Busy("the gateway had closed the earlier attempt; ask again for a new payment page")
        return await self._adopt(invoice, attempt, live)

    async def _adopt(self, invoice: Invoice, attempt: Attempt, live: Sequence[GatewayPayment]) -> Invoice:
        log.info("payment adopted", invoice_id=str(invoice.id), reference=attempt.reference, found=len(live))
        if live[0].status is PaymentStatus.OPEN:
            return await self._db.run(
                lambda tx: self._opened(tx, invoice, attempt, live[0]), tenant=invoice.tenant_id
            )
        _, refused = await self._receipts.record_all(invoice.tenant_id, attempt.account_id, live)
        if refused is not None:
            raise refused
        async with self._db.transaction(tenant=invoice.tenant_id, readonly=True) as tx:
            found = await invoices.get(tx, invoice.tenant_id, invoice.id)
        return (
            await self.ensure_open(invoice.tenant_id, invoice.id)
            if found.status is InvoiceStatus.PARTIALLY_PAID
            else found
        )

    async def _opened(
        self, tx: Transaction, invoice: Invoice, attempt: Attempt, payment: GatewayPayment
    ) -> Invoice:
        """Note the payment page; the first one issues the invoice and posts it to the books."""
        # The invoice's row before the payment's, as everywhere: a webhook may be at it at this moment.
        initiated_at = await issue(tx, invoice)
        if not await store.opened(tx, attempt, payment):
            return await invoices.get(tx, invoice.tenant_id, invoice.id)  # a webhook was quicker
        return msgspec.structs.replace(
            invoice,
            status=InvoiceStatus.PENDING if initiated_at else invoice.status,
            payment_initiated_at=initiated_at or invoice.payment_initiated_at,
            payment_url=payment.payment_url,
            instructions=dict(payment.instructions) if payment.instructions else None,
        )

    async def _note_failure(self, attempt: Attempt, exc: GatewayError) -> None:
        status = FAILED_AS.get(type(exc), AttemptStatus.UNKNOWN)
        async with self._db.transaction(tenant=attempt.tenant_id) as tx:
            if not await store.finish_attempt(tx, attempt, status, code=exc.code, detail=exc.detail):
                return
            await invoices.note(
                tx,
                attempt.tenant_id,
                attempt.invoice_id,
                "payment_failed",
                exc.detail,
                details=named(attempt) | {"status": status, "code": exc.code},
            )

    def _check(self, attempt: Attempt, payment: GatewayPayment, hosts: frozenset[str]) -> None:
        """A payable page for something else than we asked must never reach a payer."""
        if payment.reference != attempt.reference or payment.amount != attempt.amount:
            raise OutcomeUnknown(
                f"asked for {attempt.amount} as {attempt.reference}, got {payment.amount} as {payment.reference}"
            )
        try:
            model.check_page(payment, hosts=hosts, insecure=self._insecure)
        except ValueError as exc:
            raise OutcomeUnknown(
                f"the gateway answered with an address that no payer should be sent to: {exc}"
            ) from exc

    # --- closing -----------------------------------------------------------------------------------------------------

    async def expire_open_attempts(
        self, tenant_id: UUID, invoice_id: UUID, *, stale_only: bool = False
    ) -> None:
        """
        Make every live attempt of an invoice unpayable at its gateway; what was paid meanwhile is applied
        first.

        With *stale_only* just those that ask for something else than what is due next.
        Raises `Busy` while one is being opened, or a `GatewayError`: then something may still be payable.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            account = await accounts.get(tx, invoice.account_id)
            attempts = [
                attempt
                for attempt in await store.of_invoice(tx, tenant_id, invoice_id)
                if attempt.status in model.LIVE
            ]
        if stale_only:
            attempts = [attempt for attempt in attempts if not model.asks_for_what_is_due(attempt, invoice)]
        for attempt in attempts:
            if (
                attempt.status is AttemptStatus.CREATING
                and attempt.updated_at > account.read_at - ABANDONED_AFTER
            ):
                raise Busy("another request is opening this payment; try again in a moment")
            await self.expire_attempt(account, attempt)

    async def expire_attempt(self, account: Account, attempt: Attempt) -> None:
        gateway = self.at(account, attempt.tenant_id)
        found = await gateway.find_payments(model.lookup(attempt))
        handles = {
            payment.gateway_payment_id: payment for payment in found if payment.status is PaymentStatus.OPEN
        }
        paid = [payment for payment in found if payment.status is PaymentStatus.PAID]
        if not paid and attempt.gateway_payment_id is not None:
            handles[attempt.gateway_payment_id] = model.as_created(attempt, attempt.gateway_payment_id)
        try:
            for payment in handles.values():
                await gateway.expire_payment(payment)
        except GatewayRejected:
            # It may have been paid since we looked.
            found = await gateway.find_payments(model.lookup(attempt))
            paid = [payment for payment in found if payment.status is PaymentStatus.PAID]
            if not paid:
                raise
        except OutcomeUnknown as exc:
            await self._mark_unknown(attempt, exc)
            raise
        await self._receipts.record_all(
            attempt.tenant_id, attempt.account_id, paid
        )  # a refusal is noted, and nobody can pay that page again
        if not paid:
            await self._receipts.close(attempt.tenant_id, attempt.account_id, attempt.reference)

    async def _mark_unknown(self, attempt: Attempt, exc: OutcomeUnknown) -> None:
        """Its page may be closed by now, so it is shown to nobody before the gateway was asked."""
        async with self._db.transaction(tenant=attempt.tenant_id) as tx:
            await store.mark_unknown(tx, attempt, code=exc.code, detail=exc.detail)
            details = named(attempt) | {"status": AttemptStatus.UNKNOWN, "code": exc.code}
            await invoices.note(
                tx, attempt.tenant_id, attempt.invoice_id, "payment_failed", exc.detail, details=details
            )

    async def collect_next(self, tenant_id: UUID, account_id: UUID, reference: str) -> None:
        """
        Close the pages that ask for something else than what is due next by now, and open one for that,
        without anyone asking.

        Where that fails the page is made on demand.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            attempt = await store.by_reference(tx, account_id, reference)
            assert attempt is not None
            invoice = await invoices.get(tx, tenant_id, attempt.invoice_id)
        try:
            await self.expire_open_attempts(tenant_id, invoice.id, stale_only=True)
            if invoice.status is InvoiceStatus.PARTIALLY_PAID:
                await self.ensure_open(tenant_id, invoice.id)
        except (GatewayError, Conflict) as exc:
            log.warning("the next payment page was not made", invoice_id=str(invoice.id), reason=exc.detail)

    async def asked(self, tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> dict[int, Money]:
        """
        What live attempts ask for, by installment number. The invoice is locked, so none can appear
        meanwhile.
        """
        attempts = await store.of_invoice(tx, tenant_id, invoice_id)
        return {
            attempt.installment_number: attempt.amount for attempt in attempts if attempt.status in model.LIVE
        }


def _new_attempt(
    invoice: Invoice, installment: Installment, number: int, now: datetime, payment_id: UUID
) -> Attempt:
    return Attempt(
        id=payment_id,
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.id,
        installment_number=installment.number,
        account_id=invoice.account_id,
        attempt=number,
        reference=payment_reference(invoice.id, installment.number, number),
        amount=installment.due,
        status=AttemptStatus.CREATING,
        gateway_payment_id=None,
        payment_url=None,
        instructions=None,
        error_code=None,
        created_at=now,
        updated_at=now,
        opened_at=None,
        received=Money(0, invoice.currency),
    )
