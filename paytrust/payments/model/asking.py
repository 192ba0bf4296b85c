"""The next amount to collect, and the request for it to the gateway."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from datetime import datetime
from typing import Final

from paytrust.contract.gateways import Customer, GatewayPayment, PaymentLine, PaymentLookup, PaymentRequest
from paytrust.errors import Conflict
from paytrust.invoices.model import Installment, Invoice, InvoiceStatus, NewCustomer, people
from paytrust.money import Money
from paytrust.payments.model.attempt import Attempt
from paytrust.security import urls

COLLECTING: Final = {InvoiceStatus.DRAFT, InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}
NO_NEW_PAYMENT: Final = {
    InvoiceStatus.PAID: "is paid",
    InvoiceStatus.CANCELLED: "was cancelled",
    InvoiceStatus.EXPIRED: "has expired",
    InvoiceStatus.FAILED: "has failed",
}


class NothingDue(Conflict):
    """There is nothing left to pay, or paying is over."""

    code = "nothing_due"


class AmountNotCollectable(Conflict):
    """
    What is left to pay is outside of what the gateway takes in one payment, such as the rest of an underpaid
    installment.
    """

    code = "amount_not_collectable"


class TooManyAttempts(Conflict):
    """An installment was tried too often; each attempt stays in the history."""

    code = "too_many_attempts"


class OutOfSequence(Conflict):
    """Installments are paid in order: only the lowest unpaid one has a payment page."""

    code = "installment_out_of_sequence"


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


def request_for(
    invoice: Invoice,
    *,
    reference: str,
    installment: Installment,
    amount: Money,
    webhook_url: str,
    now: datetime,
) -> PaymentRequest:
    """The request to the gateway. *amount* is due on *installment*: all of it, or the rest."""
    title = invoice.description or f"Invoice {invoice.external_id or invoice.id}"
    if len(invoice.installments) > 1:
        title = f"{title}, installment {installment.number} of {len(invoice.installments)}"
    return PaymentRequest(
        reference=reference,
        amount=amount,
        lines=_lines(invoice, amount, title),
        description=title,
        now=now,
        expires_at=invoice.expires_at,
        customer=_reached(invoice.customer),
        success_url=invoice.success_url,
        failure_url=invoice.failure_url,
        webhook_url=webhook_url,
    )


def _reached(customer: NewCustomer) -> Customer:
    """The payer as gateways take it. An invoice that was made under older rules is collected without the rest."""
    email, phone = None, None
    with contextlib.suppress(ValueError):
        email = None if customer.email is None else people.email(customer.email)
    with contextlib.suppress(ValueError):
        phone = None if customer.phone is None else people.phone(customer.phone, customer.country)
    return Customer(name=customer.name, email=email, phone=phone, country=customer.country)


def lookup(attempt: Attempt) -> PaymentLookup:
    """How a gateway is asked about an attempt."""
    return PaymentLookup(
        reference=attempt.reference,
        amount=attempt.amount,
        created_at=attempt.created_at,
        gateway_payment_id=attempt.gateway_payment_id,
        hints=() if attempt.hint is None else (attempt.hint,),
    )


def _lines(invoice: Invoice, amount: Money, title: str) -> tuple[PaymentLine, ...]:
    if amount != invoice.total:
        return (PaymentLine(title, 1, amount),)
    lines = [PaymentLine(line.product_name, line.quantity, line.unit_price) for line in invoice.lines]
    extra = (("Tax", invoice.tax), ("Service fee", invoice.fee))
    lines += [PaymentLine(name, 1, amount) for name, amount in extra if amount.minor]
    return tuple(lines)
