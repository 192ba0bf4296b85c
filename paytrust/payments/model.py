"""Payments: the rules, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from paytrust.books import model as books
from paytrust.books.model import BoundedAccount, Cause, Transfer
from paytrust.errors import Conflict, PayTrustError
from paytrust.gateways import Customer, GatewayPayment, PaymentLine, PaymentRequest, PaymentStatus
from paytrust.invoices.model import Installment, Invoice, InvoiceStatus, Moment, ReceiptFlag
from paytrust.money import Money


class AttemptStatus(StrEnum):
    CREATING = "creating"
    """Written down; the gateway is being asked, or we died while asking."""
    OPEN = "open"
    PAID = "paid"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    """Never reached the gateway."""
    UNKNOWN = "unknown"
    """Sent, no answer: looked up at the gateway before anything else happens."""


LIVE: Final = {AttemptStatus.CREATING, AttemptStatus.OPEN, AttemptStatus.UNAVAILABLE, AttemptStatus.UNKNOWN}
"""At most one of these per installment: the database says so too."""

FLAGGED: Final = {
    InvoiceStatus.EXPIRED: ReceiptFlag.LATE,
    InvoiceStatus.FAILED: ReceiptFlag.LATE,
    InvoiceStatus.CANCELLED: ReceiptFlag.AFTER_CANCEL,
    InvoiceStatus.PAID: ReceiptFlag.AFTER_PAID,
}
"""Money that comes in one of these is kept, and somebody should look at it."""

COLLECTING: Final = {InvoiceStatus.DRAFT, InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to collect *amount* for one installment."""

    id: UUID
    tenant_id: UUID
    invoice_id: UUID
    installment_number: int
    account_id: UUID
    attempt: int
    reference: str
    amount: Money
    status: AttemptStatus
    gateway_payment_id: str | None
    payment_url: str | None
    instructions: dict[str, str] | None
    error_code: str | None
    created_at: datetime
    updated_at: datetime
    opened_at: datetime | None
    received: Money


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Money that came on the attempt *reference*. *paid_at* is the gateway's word, *received_at* our clock."""

    installment_number: int
    reference: str
    gateway_payment_id: str
    amount: Money
    paid_at: datetime
    received_at: datetime
    flag: ReceiptFlag | None


class NothingDue(Conflict):
    """There is nothing left to pay, or paying is over."""

    code = "nothing_due"


class AmountNotCollectable(Conflict):
    """What is left to pay is outside of what the gateway takes in one payment, such as the rest of an underpaid installment."""

    code = "amount_not_collectable"


class OutOfSequence(Conflict):
    """Installments are paid in order: only the lowest unpaid one has a payment page."""

    code = "installment_out_of_sequence"


class CurrencyMismatch(PayTrustError):
    """Money came in another currency than the invoice's: nothing is applied."""

    code = "currency_mismatch"
    status = 409
    title = "The currencies differ"


class PaymentReversed(PayTrustError):
    """A gateway takes back a payment that is in our books: a person has to look, and the books keep what happened."""

    code = "payment_reversed"
    status = 409
    title = "The gateway reversed a payment"


NO_NEW_PAYMENT: Final = {
    InvoiceStatus.PAID: "is paid",
    InvoiceStatus.CANCELLED: "was cancelled",
    InvoiceStatus.EXPIRED: "has expired",
    InvoiceStatus.FAILED: "has failed",
}


def check_payable(invoice: Invoice, now: datetime, *, number: int | None = None) -> Installment:
    """The installment to collect next, or `NothingDue`; `OutOfSequence` when it is not *number* (FR-060)."""
    part = invoice.due_next
    reason = NO_NEW_PAYMENT.get(invoice.status)
    if reason is None and invoice.expires_at <= now:
        reason = "has expired"
    if reason is not None or part is None:
        raise NothingDue(f"invoice {invoice.id} {reason or 'is paid'}")
    if number not in {None, part.number}:
        raise OutOfSequence(f"installment {part.number} is due next, not {number}")
    return part


def asks_for_what_is_due(attempt: Attempt, invoice: Invoice) -> bool:
    """Whether a payer may still pay this attempt: its invoice is being collected, and this is what is due next, to the unit."""
    due = invoice.due_next
    return invoice.status in COLLECTING and due is not None and (attempt.installment_number, attempt.amount) == (due.number, due.due)


def as_created(attempt: Attempt, gateway_payment_id: str) -> GatewayPayment:
    """What `create_payment` returned for an open attempt, as far as closing it needs."""
    return GatewayPayment(
        reference=attempt.reference, gateway_payment_id=gateway_payment_id, status=PaymentStatus.OPEN, amount=attempt.amount
    )


def request_for(invoice: Invoice, *, reference: str, part: Installment, amount: Money, webhook_url: str, now: datetime) -> PaymentRequest:
    """What the gateway is asked. *amount* is what is due of *part*, all of it or the rest."""
    title = invoice.description or f"Invoice {invoice.external_id or invoice.id}"
    if len(invoice.installments) > 1:
        title = f"{title}, installment {part.number} of {len(invoice.installments)}"
    customer = invoice.customer
    return PaymentRequest(
        reference=reference,
        amount=amount,
        lines=_lines(invoice, amount, title),
        description=title,
        now=now,
        expires_at=invoice.expires_at,
        customer=Customer(name=customer.name, email=customer.email, phone=customer.phone, country=customer.country),
        success_url=invoice.success_url,
        failure_url=invoice.failure_url,
        webhook_url=webhook_url,
    )


def _lines(invoice: Invoice, amount: Money, title: str) -> tuple[PaymentLine, ...]:
    if amount != invoice.total:
        return (PaymentLine(title, 1, amount),)
    lines = [PaymentLine(line.product_name, line.quantity, line.unit_price) for line in invoice.lines]
    extra = (("Tax", invoice.tax), ("Service fee", invoice.fee))
    lines += [PaymentLine(name, 1, part) for name, part in extra if part.minor]
    return tuple(lines)


def issue(invoice: Invoice) -> tuple[list[BoundedAccount], list[Transfer]]:
    """What issuing an invoice posts: each installment owes its part of revenue, tax and fee."""
    accounts: list[BoundedAccount] = []
    transfers: list[Transfer] = []
    for part in invoice.installments:
        accounts.append(BoundedAccount(invoice.id, part.number, invoice.currency))
        net = part.amount - part.tax - part.fee
        for credit, amount in ((books.REVENUE, net), (books.TAX, part.tax), (books.FEE, part.fee)):
            if amount.minor:
                transfers.append(
                    Transfer(
                        cause=Cause.ISSUE,
                        cause_id=invoice.id,
                        leg=len(transfers),
                        invoice_id=invoice.id,
                        debit=books.receivable(invoice.id, part.number),
                        credit=credit,
                        amount=amount,
                    )
                )
    assert sum(t.amount.minor for t in transfers) == invoice.total.minor
    return accounts, transfers


class Application(msgspec.Struct, frozen=True):
    """What one receipt does: the transfers it posts, the installments it closes, and the invoice's new status."""

    accounts: list[BoundedAccount]
    transfers: list[Transfer]
    closed: list[int]
    status: InvoiceStatus


def apply(invoice: Invoice, amount: Money, *, receipt_id: UUID) -> Application:
    """
    Spread *amount* over the installments, lowest first; what is left is overpayment (FR-065).

    Money for a cancelled or a paid invoice is kept as overpayment. The books get exactly *amount*.
    """
    rest = amount
    credited: dict[int, Money] = {}
    if invoice.status is not InvoiceStatus.CANCELLED:
        for part in invoice.installments:
            taken = min(rest.minor, part.due.minor)
            if taken:
                credited[part.number] = Money(taken, amount.currency)
                rest -= credited[part.number]
    transfers = [
        Transfer(
            cause=Cause.RECEIPT,
            cause_id=receipt_id,
            leg=leg,
            invoice_id=invoice.id,
            debit=books.clearing(invoice.account_id),
            credit=credit,
            amount=part,
        )
        for leg, (credit, part) in enumerate(
            [*((books.receivable(invoice.id, n), part) for n, part in credited.items()), (books.overpaid(invoice.id), rest)]
        )
        if part.minor
    ]
    assert sum(t.amount.minor for t in transfers) == amount.minor
    accounts = [BoundedAccount(invoice.id, None, invoice.currency)] if rest.minor else []
    closed = [part.number for part in invoice.installments if part.number in credited and credited[part.number] == part.due]
    owed = sum(part.due.minor for part in invoice.installments) - sum(part.minor for part in credited.values())
    return Application(accounts, transfers, closed, _status_after(invoice, owed=owed, credited=bool(credited)))


def _status_after(invoice: Invoice, *, owed: int, credited: bool) -> InvoiceStatus:
    if credited and owed == 0:
        return InvoiceStatus.PAID
    return InvoiceStatus.PARTIALLY_PAID if credited and invoice.status in COLLECTING else invoice.status


def timeline(invoice: Invoice, notes: Sequence[Moment], attempts: Sequence[Attempt], receipts: Sequence[Receipt]) -> list[Moment]:
    """What happened to an invoice, oldest first: from its own row, its attempts, the money that came, and the notes about the rest."""
    moments = [Moment(at=invoice.created_at, event="created", details={"amount": invoice.total.major})]
    for attempt in attempts:
        named = {"installment_number": attempt.installment_number, "reference": attempt.reference, "amount": attempt.amount.major}
        moments.append(Moment(at=attempt.created_at, event="payment_requested", details=named))
        if attempt.opened_at is not None:
            moments.append(Moment(at=attempt.opened_at, event="payment_opened", details=named))
    if invoice.payment_initiated_at is not None:
        change = {"from": InvoiceStatus.DRAFT, "to": InvoiceStatus.PENDING}
        moments.append(
            Moment(at=invoice.payment_initiated_at, event="status_changed", reason="its first payment was opened", details=change)
        )
    for receipt in receipts:
        named = {"installment_number": receipt.installment_number, "reference": receipt.reference, "amount": receipt.amount.major}
        named |= {"gateway_payment_id": receipt.gateway_payment_id, "paid_at": receipt.paid_at, "flag": receipt.flag}
        moments.append(Moment(at=receipt.received_at, event="payment_received", details=named))
    # The sort is stable: of one moment, what the notes say comes last, in the order in which they were written.
    return sorted([*moments, *reversed(notes)], key=lambda moment: moment.at)
