"""Receipts of money and ends of attempts, written to the books; nothing here calls a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from paytrust.accounts.model import Account
from paytrust.books import service as books
from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.errors import GatewayUnavailable, PayTrustError, Unprocessable
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.invoices import service as invoices
from paytrust.invoices.model import Invoice, InvoiceStatus, move
from paytrust.payments import model, store
from paytrust.payments.model import Applied, Attempt, AttemptStatus, CurrencyMismatch, PaymentReversed

log = logs.get_logger("paytrust.payments")


class Receipts:
    """Apply the money that came, and note which attempts can no longer be paid."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def record_all(
        self, tenant_id: UUID, account: Account, reference: str, found: Sequence[GatewayPayment]
    ) -> Applied:
        """Apply every paid payment of *found*; a refused one keeps no other from being applied."""
        changed, refused = False, None
        paid = [payment for payment in found if payment.status is PaymentStatus.PAID]
        for payment in paid:
            try:
                changed |= await self.record(tenant_id, account.id, payment)
            except (CurrencyMismatch, Unprocessable) as exc:
                refused = exc
        still_open = [payment for payment in found if payment.status is PaymentStatus.OPEN]
        return Applied(
            tenant_id=tenant_id,
            account=account,
            reference=reference,
            changed=changed,
            duplicates=tuple(still_open if paid else ()),
            refused=refused,
        )

    async def record(self, tenant_id: UUID, account_id: UUID, payment: GatewayPayment) -> bool:
        """
        Apply one confirmed payment; False when it is already in the books. Harmless when the gateway tells us
        twice.
        """
        try:
            return await self._db.run(
                lambda tx: self._record(tx, tenant_id, account_id, payment), tenant=tenant_id
            )
        except (CurrencyMismatch, Unprocessable) as exc:
            await self._note_refusal(tenant_id, account_id, payment.reference, exc)
            raise

    async def _note_refusal(
        self, tenant_id: UUID, account_id: UUID, reference: str, exc: PayTrustError
    ) -> None:
        async with self._db.transaction(tenant=tenant_id) as tx:
            attempt = await store.by_reference(tx, account_id, reference)
            assert attempt is not None, "callers found the tenant by this reference"
            details = named(attempt) | {"code": exc.code}
            once_as = uuid5(attempt.id, exc.code)
            if attempt.status in model.LIVE:
                await store.finish_attempt(tx, attempt, AttemptStatus.EXPIRED)  # its page is used up
            await invoices.note(
                tx,
                tenant_id,
                attempt.invoice_id,
                "payment_refused",
                exc.detail,
                details=details,
                once_as=once_as,
            )

    async def _record(
        self, tx: Transaction, tenant_id: UUID, account_id: UUID, payment: GatewayPayment
    ) -> bool:
        attempt, invoice = await locked(tx, tenant_id, account_id, payment.reference)
        paid = payment.paid
        assert paid is not None, "only a paid payment is recorded"
        if paid.currency != invoice.currency:
            raise CurrencyMismatch(
                f"{paid} was paid for an invoice in {invoice.currency}; nothing was applied"
            )
        if not model.asked_as(payment, attempt.amount):
            # What was paid may be more or less; what was asked for may not. So it is not this payment that
            # the gateway tells of.
            raise GatewayUnavailable(
                f"asked for {attempt.amount} as {attempt.reference}, and was told of {payment.amount}; nothing was applied"
            )
        if paid.minor == 0:
            raise Unprocessable("the gateway reports a payment of nothing")
        receipt_id = new_id()
        flag = model.FLAGGED.get(invoice.status)
        inserted = await store.insert_receipt(tx, attempt, payment, paid, receipt_id=receipt_id, flag=flag)
        if payment.returned is not None:
            await _note_return(tx, attempt, payment)
        if not inserted:
            return False
        if invoice.status is InvoiceStatus.DRAFT and await issue(tx, invoice):
            invoice = move(
                invoice, InvoiceStatus.PENDING
            )  # the webhook was quicker than the gateway's answer to us
        applied = model.apply(invoice, paid, receipt_id=receipt_id)
        await books.post(tx, tenant_id, applied.accounts, applied.transfers)
        await invoices.close_installments(tx, invoice, applied.closed)
        await store.finish_attempt(tx, attempt, AttemptStatus.PAID)
        await invoices.save(tx, move(invoice, applied.status), was=invoice.status, reason=f"{paid} came in")
        if flag is not None:
            log.warning("money needs a look", invoice_id=str(invoice.id), amount=str(paid), flag=flag)
        log.info("payment applied", invoice_id=str(invoice.id), amount=str(paid), status=applied.status)
        return True

    async def close(self, tenant_id: UUID, account_id: UUID, reference: str) -> bool:
        """Note that an attempt can no longer be paid; the invoice expires with it when its own time is up."""
        try:
            return await self._db.run(
                lambda tx: self._close(tx, tenant_id, account_id, reference), tenant=tenant_id
            )
        except PaymentReversed as exc:
            await self._note_refusal(tenant_id, account_id, reference, exc)
            raise

    async def _close(self, tx: Transaction, tenant_id: UUID, account_id: UUID, reference: str) -> bool:
        attempt, invoice = await locked(tx, tenant_id, account_id, reference)
        if attempt.status is AttemptStatus.PAID:
            raise PaymentReversed(
                f"{reference} is paid in our books and no longer at the gateway; nothing was changed"
            )
        if attempt.status is AttemptStatus.EXPIRED:
            return False
        await store.finish_attempt(tx, attempt, AttemptStatus.EXPIRED)
        await invoices.note(
            tx,
            tenant_id,
            invoice.id,
            "payment_closed",
            "can no longer be paid at the gateway",
            details=named(attempt),
        )
        if (
            invoice.status in {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}
            and invoice.expires_at <= invoice.read_at + model.EXPIRY_SLACK
            and not await store.any_live(tx, tenant_id, invoice.id)
        ):
            await invoices.save(
                tx, move(invoice, InvoiceStatus.EXPIRED), was=invoice.status, reason="its time was up"
            )
        return True


async def _note_return(tx: Transaction, attempt: Attempt, payment: GatewayPayment) -> None:
    """Tell the merchant, once for each amount, that money went back to the payer; the books keep what came."""
    details = named(attempt) | {"amount": str(payment.returned), "by": payment.returned_by}
    await invoices.note(
        tx,
        attempt.tenant_id,
        attempt.invoice_id,
        "payment_returned",
        f"{payment.returned} went back to the payer by {payment.returned_by}",
        details=details,
        once_as=uuid5(attempt.id, f"{payment.returned_by}:{payment.returned}"),
    )
    log.warning("money went back to the payer", invoice_id=str(attempt.invoice_id), **details)


async def issue(tx: Transaction, invoice: Invoice) -> datetime | None:
    """The first payment page, or money that was quicker, makes a draft owed; None when it was owed already."""
    initiated_at = await invoices.initiate(tx, invoice.tenant_id, invoice.id)
    if initiated_at is not None:
        await books.post(tx, invoice.tenant_id, *model.issue(invoice))
    return initiated_at


async def locked(
    tx: Transaction, tenant_id: UUID, account_id: UUID, reference: str
) -> tuple[Attempt, Invoice]:
    """Read attempt and invoice under the invoice's lock."""
    attempt = await store.by_reference(tx, account_id, reference)
    assert attempt is not None, "callers found the tenant by this reference"
    invoice = await invoices.lock(tx, tenant_id, attempt.invoice_id)
    attempt = await store.by_reference(tx, account_id, reference)
    assert attempt is not None
    return attempt, invoice


def named(attempt: Attempt) -> dict[str, Any]:
    """How a note says which attempt it is about."""
    return {"installment_number": attempt.installment_number, "reference": attempt.reference}
