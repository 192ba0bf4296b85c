"""
Pure translation between PayTrust's words and Xendit's: request to body, answer to payment, webhook to notice.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from paytrust import (
    DECIDES,
    Answer,
    Customer,
    GatewayPayment,
    GatewayUnavailable,
    Money,
    OutcomeUnknown,
    PaymentLine,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    UnreadableWebhook,
    Webhook,
    WebhookNotice,
)

Id = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,100}\Z")]
Text = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,255}\Z")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]

MAX_DURATION_S: Final = 31_536_000
MAX_ITEMS: Final = 75
PAGE: Final = 100
BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)
MAX_QUANTITY: Final = 510_000
E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)

STATUS: Final = {
    "PENDING": PaymentStatus.OPEN,
    "PAID": PaymentStatus.PAID,
    "SETTLED": PaymentStatus.PAID,
    "EXPIRED": PaymentStatus.EXPIRED,
}


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """
    What we need of Xendit's invoice object; other fields may come and go. Without a *currency*, which its
    own SDK takes for optional, it is the one that was asked for.
    """

    id: Id
    external_id: str
    status: str
    amount: Decimal
    currency: Annotated[str | None, DECIDES] = None
    paid_amount: Annotated[Decimal | None, DECIDES] = None
    invoice_url: str | None = None
    created: Time | None = None
    expiry_date: Time | None = None
    paid_at: Time | None = None


class InvoiceCallback(msgspec.Struct, frozen=True, kw_only=True):
    """What we need of the webhook: only names, because its body is not signed."""

    id: Id
    external_id: Text
    status: Text
    payment_id: Text | None = None
    paid_at: Text | None = None


class OtherData(msgspec.Struct, frozen=True, kw_only=True):
    reference_id: Text | None = None


class OtherCallback(msgspec.Struct, frozen=True, kw_only=True):
    """The fields by which a callback of another product may name a payment of ours."""

    external_id: Text | None = None
    event: Text | None = None
    data: OtherData | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The layout of *errors* is not documented: texts or objects."""

    error_code: str
    message: str = ""
    errors: list[Any] = []


def invoice_body(request: PaymentRequest) -> dict[str, Any]:
    """
    Return the body of `POST /v2/invoices`. Xendit believes *amount* and never compares it with the items:
    they agree here.
    """
    duration_s = int((request.expires_at - request.now).total_seconds())
    body: dict[str, Any] = {
        "external_id": request.reference,
        "amount": _number(request.amount),
        "currency": request.amount.currency,
        "invoice_duration": min(max(duration_s, 1), MAX_DURATION_S),
        "items": _items(request),
        "should_send_email": False,
        "description": request.description,
        "customer": _customer(request.customer),
        "success_redirect_url": request.success_url,
        "failure_redirect_url": request.failure_url,
    }
    return {name: value for name, value in body.items() if value not in (None, "", {})}


def created_payment(answer: Answer, request: PaymentRequest) -> GatewayPayment:
    """
    Return the payment just opened, or raise `OutcomeUnknown`: a page may exist that nobody must be sent to.
    """
    invoice = answer.json(Invoice)
    try:
        payment = _payment(invoice, request.amount.currency)
    except UnreadableWebhook as exc:
        raise OutcomeUnknown(exc.detail) from exc
    if payment.payment_url is None:
        raise OutcomeUnknown(f"xendit: invoice {invoice.id} was created, but its answer has no page")
    if (payment.reference, payment.amount) != (request.reference, request.amount):
        raise OutcomeUnknown(
            f"xendit: asked for {request.amount} as {request.reference}, but invoice {invoice.id} "
            f"asks for {payment.amount} as {payment.reference}; it must not be shown to the payer"
        )
    return payment


def found_payments(answer: Answer, lookup: PaymentLookup) -> list[GatewayPayment]:
    """
    Return the listed invoices that carry the reference, oldest first. Raises `GatewayUnavailable` for a list of
    others.
    """
    invoices = answer.json(list[Invoice])
    ours = [invoice for invoice in invoices if invoice.external_id == lookup.reference]
    if invoices and not ours:
        raise GatewayUnavailable(
            f"xendit: asked for {lookup.reference}, was told about others"
        )  # ours may be on another page of such a list
    ours.sort(key=lambda invoice: (invoice.created or BEFORE_ALL, invoice.id))
    return [_payment(invoice, lookup.amount.currency) for invoice in ours]


def period(moment: str, since: datetime, until: datetime) -> dict[str, str]:
    """
    Return the query for a first page of the invoices that were "created" or "paid" in a period: the two
    bounds go together.
    """
    bounds = {
        f"{moment}_{side}": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
        for side, at in (("after", since), ("before", until))
    }
    return {"limit": str(PAGE), **bounds}


def listed_page(answer: Answer) -> list[Invoice]:
    """Return one page of the list, newest first."""
    return answer.json(list[Invoice])


def readable(invoices: list[Invoice]) -> Iterator[GatewayPayment]:
    """Leave out what makes no sense to us: the account may be used by other programs too."""
    for invoice in invoices:
        with contextlib.suppress(UnreadableWebhook):
            yield _payment(invoice, None)


def invoice_status(answer: Answer, asked: Money) -> PaymentStatus:
    """Return the status of the one invoice in *answer*, which asks for *asked*."""
    return _payment(answer.json(Invoice), asked.currency).status


def notice(webhook: Webhook) -> WebhookNotice:
    """Name the event. The key leaves `webhook-id` out: a resend from the dashboard carries a new one."""
    try:
        callback = webhook.json(InvoiceCallback)
    except UnreadableWebhook as exc:
        raise UnreadableWebhook(exc.detail, reference=_named(webhook)) from exc
    if callback.status not in STATUS:
        raise UnreadableWebhook(
            f"xendit: unknown invoice status {callback.status!r}", reference=callback.external_id
        )
    key = f"{callback.id}|{callback.status}|{callback.payment_id or callback.paid_at or ''}"
    if len(key) > 200:
        key = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    return WebhookNotice(
        event_key=key,
        reference=callback.external_id,
        event=callback.status,
        gateway_payment_id=callback.id,
    )


def _named(webhook: Webhook) -> str | None:
    """
    What a callback of another product names as its own reference: older ones are bare, like invoices, newer
    ones have an event around them. None where it is neither.
    """
    told = webhook.json(OtherCallback)
    if told.external_id is not None:
        return told.external_id
    if told.event is None:
        return None
    return told.data.reference_id if told.data is not None and told.data.reference_id is not None else ""


def reason(answer: Answer) -> str:
    """Return Xendit's own words in an error answer."""
    error = answer.json(ErrorBody)
    details = [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in error.errors]
    return f"{error.error_code}: " + "; ".join([error.message, *details])[:500]


def _payment(invoice: Invoice, asked_currency: str | None) -> GatewayPayment:
    """Map an invoice; where it names no currency, it is *asked_currency*."""
    status = STATUS.get(invoice.status)
    if status is None:
        raise UnreadableWebhook(f"xendit: invoice {invoice.id} has the unknown status {invoice.status!r}")
    if status is PaymentStatus.EXPIRED and invoice.paid_at is not None and invoice.paid_amount is not None:
        status = (
            PaymentStatus.PAID
        )  # a transfer came late: some products leave the invoice EXPIRED, but the money is real
    currency = invoice.currency or asked_currency
    if currency is None:
        raise UnreadableWebhook(f"xendit: invoice {invoice.id} names no currency")
    paid = None
    try:
        amount = Money.from_major(invoice.amount, currency)
        if status is PaymentStatus.PAID:
            paid = amount if invoice.paid_amount is None else Money.from_major(invoice.paid_amount, currency)
    except ValueError as exc:
        raise UnreadableWebhook(f"xendit: invoice {invoice.id}: {exc}") from exc
    return GatewayPayment(
        reference=invoice.external_id,
        gateway_payment_id=invoice.id,
        status=status,
        amount=amount,
        paid=paid,
        paid_at=invoice.paid_at,
        payment_url=invoice.invoice_url,
        expires_at=invoice.expiry_date,
    )


def _number(amount: Money) -> Decimal:
    return Decimal(amount.major)


def _items(request: PaymentRequest) -> list[dict[str, Any]]:
    if len(request.lines) > MAX_ITEMS:
        return [{"name": f"{len(request.lines)} items", "quantity": 1, "price": _number(request.amount)}]
    return [_item(line) for line in request.lines]


def _item(line: PaymentLine) -> dict[str, Any]:
    if line.quantity > MAX_QUANTITY:
        return {
            "name": f"{line.quantity} x {line.name}"[:256],
            "quantity": 1,
            "price": _number(line.unit_price * line.quantity),
        }
    return {"name": line.name[:256], "quantity": line.quantity, "price": _number(line.unit_price)}


def _customer(customer: Customer) -> dict[str, str]:
    # Xendit wants no empty keys, and mobile numbers as E.164 only.
    phone = customer.phone if customer.phone and E164.fullmatch(customer.phone) else None
    known = {"given_names": customer.name, "email": customer.email, "mobile_number": phone}
    return {key: value for key, value in known.items() if value}
