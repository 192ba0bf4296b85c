"""Payments: the rules, without I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from paytrust.books import model as books
from paytrust.books.model import BoundedAccount, Cause, Transfer
from paytrust.contract.gateways import (
    Customer,
    GatewayPayment,
    PaymentLine,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
)
from paytrust.errors import Conflict, PayTrustError
from paytrust.invoices.model import Installment, Invoice, InvoiceStatus, ReceiptFlag, TimelineEntry
from paytrust.money import Money
from paytrust.security import urls


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
    hint: str | None = None
    """The id by which a webhook named the payment, where that is another."""
    payment_url: str | None
    instructions: dict[str, str] | None
    error_code: str | None
    created_at: datetime
    updated_at: datetime
    opened_at: datetime | None
    received: Money


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """
    Money that came on the attempt *reference*. *paid_at* is the gateway's word, *received_at* our clock.
    """

    installment_number: int
    reference: str
    gateway_payment_id: str
    amount: Money
    paid_at: datetime
    received_at: datetime
    flag: ReceiptFlag | None


class Check(msgspec.Struct, frozen=True):
    """One look at an attempt that a worker has claimed; others keep away until *lease_until*."""

    tenant_id: UUID
    invoice_id: UUID
    payment_id: UUID
    lease_until: datetime


class NothingDue(Conflict):
    """There is nothing left to pay, or paying is over."""

    code = "nothing_due"


class AmountNotCollectable(Conflict):
    """
    What is left to pay is outside of what the gateway takes in one payment, such as the rest of an underpaid
    installment.
    """

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
    """
    A gateway takes back a payment that is in our books: a person has to look, and the books keep what
    happened.
    """

    code = "payment_reversed"
    status = 409
    title = "The gateway reversed a payment"


def check_page(payment: GatewayPayment, *, hosts: Collection[str], insecure: bool) -> None:
    """
    Raise `ValueError` unless a payer may be sent where *payment* says: web addresses, the page at one of
    *hosts* if there are any.
    """
    if payment.payment_url is not None:
        host = urls.parse(payment.payment_url, insecure=insecure).host
        if hosts and not urls.is_within(host, hosts):
            raise ValueError(f"{host} is none of its hosts")
    if any(urls.runs_code(text) for text in (payment.instructions or {}).values()):
        raise ValueError("an instruction is code")


NO_NEW_PAYMENT: Final = {
    InvoiceStatus.PAID: "is paid",
    InvoiceStatus.CANCELLED: "was cancelled",
    InvoiceStatus.EXPIRED: "has expired",
    InvoiceStatus.FAILED: "has failed",
}


def check_payable(invoice: Invoice, now: datetime, *, number: int | None = None) -> Installment:
    """The installment to collect next, or `NothingDue`; `OutOfSequence` when it is not *number* (FR-060)."""
    installment = invoice.due_next
    reason = NO_NEW_PAYMENT.get(invoice.status)
    if reason is None and invoice.expires_at <= now:
        reason = "has expired"
    if reason is not None or installment is None:
        raise NothingDue(f"invoice {invoice.id} {reason or 'is paid'}")
    if number not in {None, installment.number}:
        raise OutOfSequence(f"installment {installment.number} is due next, not {number}")
    return installment


def asks_for_what_is_due(attempt: Attempt, invoice: Invoice) -> bool:
    """
    Whether a payer may still pay this attempt: its invoice is being collected, and this is what is due next,
    to the unit.
    """
    due = invoice.due_next
    return (
        invoice.status in COLLECTING
        and due is not None
        and (attempt.installment_number, attempt.amount) == (due.number, due.due)
    )


def asked_as(payment: GatewayPayment, amount: Money) -> bool:
    """
    Whether *payment* asks for *amount*. Xendit shows what was paid in another currency as if that had been
    asked for.
    """
    return payment.amount == amount or payment.amount.currency != amount.currency


EXPIRY_SLACK: Final = timedelta(minutes=1)
"""Gateways count expiry in whole seconds or minutes, so theirs may come a little before ours."""

EARLY_CHECKS: Final = (timedelta(minutes=5), timedelta(hours=1), timedelta(hours=6))
LATE_CHECK: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
GRACE: Final = timedelta(days=7)
"""How long after its end an attempt is still asked about: a bank transfer can take days."""


def next_check(attempt: Attempt, expires_at: datetime, now: datetime) -> datetime | None:
    """
    When the gateway is asked again whether *attempt* was paid; None for never.

    A live one: 5 min, 1 h and 6 h after it was made, then daily, and when the invoice's time is up. One that
    ended unpaid: 1 h after its end, then daily for a week. A paid one that we have just looked at needs no
    other look.
    """
    if attempt.status in {AttemptStatus.PAID, AttemptStatus.REJECTED}:
        return None
    if attempt.status in LIVE:
        start, last = attempt.created_at, expires_at + GRACE
        times = [*(start + after for after in EARLY_CHECKS), expires_at + EXPIRY_SLACK]
    else:
        start, last = attempt.updated_at, attempt.updated_at + GRACE
        times = [start + LATE_CHECK]
    times.append(start + ((now - start) // DAY + 1) * DAY)
    return min((at for at in times if now < at <= last), default=None)


def duplicate_pages(attempt: Attempt, found: Sequence[GatewayPayment]) -> list[GatewayPayment]:
    """
    What a payer could still pay and should not: pages beside the one we gave out, and every page of an
    attempt that is over.
    """
    payable = [payment for payment in found if payment.status is PaymentStatus.OPEN]
    ours = attempt.gateway_payment_id
    known = any(payment.gateway_payment_id == ours for payment in found)
    if attempt.status is AttemptStatus.OPEN:
        # Where our own is not among them it goes by another name (Midtrans: a page, then a transaction):
        # leave it alone.
        return [payment for payment in payable if known and payment.gateway_payment_id != ours]
    if payable and not known and ours is not None:
        payable.insert(0, as_created(attempt, ours))
    return payable


def lookup(attempt: Attempt) -> PaymentLookup:
    """How a gateway is asked about an attempt."""
    return PaymentLookup(
        reference=attempt.reference,
        amount=attempt.amount,
        created_at=attempt.created_at,
        gateway_payment_id=attempt.gateway_payment_id,
        hints=() if attempt.hint is None else (attempt.hint,),
    )


def as_created(attempt: Attempt, gateway_payment_id: str) -> GatewayPayment:
    """What `create_payment` returned for an open attempt, as far as closing it needs."""
    return GatewayPayment(
        reference=attempt.reference,
        gateway_payment_id=gateway_payment_id,
        status=PaymentStatus.OPEN,
        amount=attempt.amount,
    )


def request_for(
    invoice: Invoice,
    *,
    reference: str,
    installment: Installment,
    amount: Money,
    webhook_url: str,
    now: datetime,
) -> PaymentRequest:
    """What the gateway is asked. *amount* is what is due of *part*, all of it or the rest."""
    title = invoice.description or f"Invoice {invoice.external_id or invoice.id}"
    if len(invoice.installments) > 1:
        title = f"{title}, installment {installment.number} of {len(invoice.installments)}"
    customer = invoice.customer
    return PaymentRequest(
        reference=reference,
        amount=amount,
        lines=_lines(invoice, amount, title),
        description=title,
        now=now,
        expires_at=invoice.expires_at,
        customer=Customer(
            name=customer.name, email=customer.email, phone=customer.phone, country=customer.country
        ),
        success_url=invoice.success_url,
        failure_url=invoice.failure_url,
        webhook_url=webhook_url,
    )


def _lines(invoice: Invoice, amount: Money, title: str) -> tuple[PaymentLine, ...]:
    if amount != invoice.total:
        return (PaymentLine(title, 1, amount),)
    lines = [PaymentLine(line.product_name, line.quantity, line.unit_price) for line in invoice.lines]
    extra = (("Tax", invoice.tax), ("Service fee", invoice.fee))
    lines += [PaymentLine(name, 1, amount) for name, amount in extra if amount.minor]
    return tuple(lines)


def issue(invoice: Invoice) -> tuple[list[BoundedAccount], list[Transfer]]:
    """What issuing an invoice posts: each installment owes its part of revenue, tax and fee."""
    accounts: list[BoundedAccount] = []
    transfers: list[Transfer] = []
    for installment in invoice.installments:
        accounts.append(BoundedAccount(invoice.id, installment.number, invoice.currency))
        net = installment.amount - installment.tax - installment.fee
        for credit, amount in (
            (books.REVENUE, net),
            (books.TAX, installment.tax),
            (books.FEE, installment.fee),
        ):
            if amount.minor:
                transfers.append(
                    Transfer(
                        cause=Cause.ISSUE,
                        cause_id=invoice.id,
                        leg=len(transfers),
                        invoice_id=invoice.id,
                        debit=books.receivable(invoice.id, installment.number),
                        credit=credit,
                        amount=amount,
                    )
                )
    assert sum(t.amount.minor for t in transfers) == invoice.total.minor
    return accounts, transfers


class Application(msgspec.Struct, frozen=True):
    """
    What one receipt does: the transfers it posts, the installments it closes, and the invoice's new status.
    """

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
        for installment in invoice.installments:
            taken = min(rest.minor, installment.due.minor)
            if taken:
                credited[installment.number] = Money(taken, amount.currency)
                rest -= credited[installment.number]
    transfers = [
        Transfer(
            cause=Cause.RECEIPT,
            cause_id=receipt_id,
            leg=leg,
            invoice_id=invoice.id,
            debit=books.clearing(invoice.account_id),
            credit=credit,
            amount=share,
        )
        for leg, (credit, share) in enumerate(
            [
                *((books.receivable(invoice.id, n), share) for n, share in credited.items()),
                (books.overpaid(invoice.id), rest),
            ]
        )
        if share.minor
    ]
    assert sum(t.amount.minor for t in transfers) == amount.minor
    accounts = [BoundedAccount(invoice.id, None, invoice.currency)] if rest.minor else []
    closed = [
        installment.number
        for installment in invoice.installments
        if installment.number in credited and credited[installment.number] == installment.due
    ]
    owed = sum(installment.due.minor for installment in invoice.installments) - sum(
        share.minor for share in credited.values()
    )
    return Application(
        accounts, transfers, closed, _status_after(invoice, owed=owed, credited=bool(credited))
    )


def _status_after(invoice: Invoice, *, owed: int, credited: bool) -> InvoiceStatus:
    if credited and owed == 0:
        return InvoiceStatus.PAID
    return InvoiceStatus.PARTIALLY_PAID if credited and invoice.status in COLLECTING else invoice.status


def timeline(
    invoice: Invoice, notes: Sequence[TimelineEntry], attempts: Sequence[Attempt], receipts: Sequence[Receipt]
) -> list[TimelineEntry]:
    """
    What happened to an invoice, oldest first: from its own row, its attempts, the money that came, and the
    notes about the rest.
    """
    moments = [TimelineEntry(at=invoice.created_at, event="created", details={"amount": invoice.total.major})]
    for attempt in attempts:
        named = {
            "installment_number": attempt.installment_number,
            "reference": attempt.reference,
            "amount": attempt.amount.major,
        }
        moments.append(TimelineEntry(at=attempt.created_at, event="payment_requested", details=named))
        if attempt.opened_at is not None:
            moments.append(TimelineEntry(at=attempt.opened_at, event="payment_opened", details=named))
    if invoice.payment_initiated_at is not None:
        change = {"from": InvoiceStatus.DRAFT, "to": InvoiceStatus.PENDING}
        moments.append(
            TimelineEntry(
                at=invoice.payment_initiated_at,
                event="status_changed",
                reason="its first payment was opened",
                details=change,
            )
        )
    for receipt in receipts:
        named = {
            "installment_number": receipt.installment_number,
            "reference": receipt.reference,
            "amount": receipt.amount.major,
        }
        named |= {
            "gateway_payment_id": receipt.gateway_payment_id,
            "paid_at": receipt.paid_at,
            "flag": receipt.flag,
        }
        moments.append(TimelineEntry(at=receipt.received_at, event="payment_received", details=named))
    # The sort is stable: of one moment, what the notes say comes last, in the order in which they were
    # written.
    return sorted([*moments, *reversed(notes)], key=lambda moment: moment.at)
