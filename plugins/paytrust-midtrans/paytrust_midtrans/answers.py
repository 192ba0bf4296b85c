"""From Midtrans's words to PayTrust's: what its authenticated answers say about a payment."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Final, TypeVar

import msgspec

from paytrust import (
    DECIDES,
    Answer,
    GatewayPayment,
    GatewayRejected,
    GatewayUnavailable,
    Money,
    OutcomeUnknown,
    PaymentRequest,
    PaymentStatus,
    ReturnedBy,
    UnreadableWebhook,
)
from paytrust_midtrans.requests import WIB, snap_expires_at

T = TypeVar("T")
Id = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,100}\Z")]
Amount = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,15}\.[0-9]{2}\Z")]
ENDINGS: Final = {"pending": "expire", "authorize": "cancel", "capture": "cancel", "settlement": "cancel"}
"""
The Core API's word that ends a transaction not paid yet; of captured and settled ones, those held for review.
"""

RETURNED_BY: Final = {
    "refund": ReturnedBy.REFUND,
    "partial_refund": ReturnedBy.REFUND,
    "chargeback": ReturnedBy.CHARGEBACK,
    "partial_chargeback": ReturnedBy.CHARGEBACK,
}

NO_SUCH_TRANSACTION: Final = "404"
ORDER_TAKEN: Final = "406"
EXPIRED_BY_US: Final = "407"
"""An error by its number, but what a successful expire and every look at an expired transaction say."""

SNAP_ORDER_TAKEN: Final = re.compile(
    "already been taken|sudah digunakan|been paid and utilized", re.IGNORECASE
)
"""Snap has no code for it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """
    What both products say about success: Core a *status_code* even inside HTTP 200, Snap a list of errors.
    """

    status_code: str = ""
    status_message: str = ""
    validation_messages: list[str] = []
    error_messages: list[str] = []

    @property
    def is_error(self) -> bool:
        return self.status_code >= "400" and self.status_code != EXPIRED_BY_US

    @property
    def reason(self) -> str:
        return "; ".join(self.error_messages or self.validation_messages) or self.status_message


class SnapPage(msgspec.Struct, frozen=True):
    token: Id
    redirect_url: str


class PartPaid(msgspec.Struct, frozen=True):
    amount: Decimal


class GrossAmountInfo(msgspec.Struct, frozen=True):
    original_amount: Decimal


class ExtraInfo(msgspec.Struct, frozen=True):
    """Where the payer bears the fee ("Automatic Fee Imposition"): what was asked for, without it."""

    gross_amount_info: GrossAmountInfo | None = None


class VirtualAccount(msgspec.Struct, frozen=True):
    bank: str
    va_number: str


class Action(msgspec.Struct, frozen=True):
    name: str
    url: str


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """
    The status object, which charge answers with too. New fields may appear any time; null ones are left out.
    """

    status_code: str
    transaction_id: Id
    order_id: str
    transaction_status: str
    gross_amount: Decimal
    currency: Annotated[str, DECIDES] = "IDR"
    fraud_status: Annotated[str | None, DECIDES] = None
    merchant_id: str | None = None
    extra_info: ExtraInfo | None = None
    refund_amount: Decimal | None = None
    payment_type: str = ""
    transaction_time: str | None = None
    settlement_time: str | None = None
    expiry_time: str | None = None
    expire_time: str | None = None
    payment_amounts: Annotated[list[PartPaid] | None, DECIDES] = None
    va_numbers: list[VirtualAccount] = []
    permata_va_number: str = ""
    bill_key: str = ""
    biller_code: str = ""
    payment_code: str = ""
    store: str = ""
    qr_string: str = ""
    redirect_url: str = ""
    actions: list[Action] = []


def read(answer: Answer, type_: type[T]) -> T:
    """
    Decode *answer*. Raises what the core raises for HTTP errors when the body carries an error code inside
    HTTP 200.
    """
    verdict = answer.json(Verdict)
    if not verdict.is_error:
        return answer.json(type_)
    what = f"midtrans: {verdict.status_code}: {verdict.reason}"
    if verdict.status_code == "429":
        raise GatewayUnavailable(what)
    if verdict.status_code >= "500":
        raise answer.unsure(what)
    raise GatewayRejected(what)


def found_transaction(answer: Answer, names: Collection[str]) -> Transaction | None:
    """
    Return the transaction that was asked about, whose order or id is one of *names*; None while no payer has
    picked a method on its page.
    """
    if answer.json(Verdict).status_code == NO_SUCH_TRANSACTION:
        return None
    transaction = read(answer, Transaction)
    if {transaction.order_id, transaction.transaction_id}.isdisjoint(names):
        raise GatewayUnavailable(f"midtrans: asked for {' or '.join(sorted(names))}, was told about another")
    return transaction


def is_of(transaction: Transaction, reference: str, amount: Money, merchant_id: str | None) -> bool:
    """
    Whether a *transaction* that was asked about by its own id is the payment of *amount* under *reference*.

    BI-SNAP channels show the transaction's id for the order's. Then merchant and amount have to fit, too: of
    the notification that named the transaction, its id is not signed.
    """
    if transaction.order_id == reference:
        return True
    if transaction.order_id != transaction.transaction_id:
        return False
    if merchant_id is not None and transaction.merchant_id not in {merchant_id, None}:
        return False
    return asked(transaction) == amount


def asked(transaction: Transaction) -> Money:
    """What was asked for: the gross amount without a fee that Midtrans added for the payer to bear."""
    imposed = transaction.extra_info and transaction.extra_info.gross_amount_info
    amount = imposed.original_amount if imposed else transaction.gross_amount
    return Money.from_major(amount, transaction.currency)


def opened_page(answer: Answer, request: PaymentRequest) -> GatewayPayment:
    """
    Return the payment behind a new Snap page. It goes by the page's token until the payer picks a method.
    """
    page = read(answer, SnapPage)
    return GatewayPayment(
        reference=request.reference,
        gateway_payment_id=page.token,
        status=PaymentStatus.OPEN,
        amount=request.amount,
        payment_url=page.redirect_url,
        expires_at=snap_expires_at(request),
    )


def charged_payment(answer: Answer, request: PaymentRequest) -> GatewayPayment:
    """
    Return the payment just charged; `GatewayRejected` when it was denied, `OutcomeUnknown` when it is not
    what was asked.
    """
    if answer.status == 202:
        raise OutcomeUnknown("midtrans: an earlier request with this key is still running")
    code = answer.json(Verdict).status_code
    if code == ORDER_TAKEN:
        raise order_taken(request)
    if code == NO_SUCH_TRANSACTION:
        raise OutcomeUnknown(
            "midtrans: a charge was answered with 404, as a question about one is: it may have been made all the same"
        )
    transaction = read(answer, Transaction)
    try:
        payment = payment_from(transaction, retryable=False)
    except UnreadableWebhook as exc:
        raise OutcomeUnknown(exc.detail) from exc
    if (payment.reference, payment.amount) != (request.reference, request.amount):
        raise OutcomeUnknown(
            f"midtrans: asked for {request.amount} as {request.reference}, but transaction {transaction.transaction_id} "
            f"asks for {payment.amount} as {payment.reference}; it must not be shown to the payer"
        )
    if payment.status is PaymentStatus.FAILED:
        raise GatewayRejected(f"midtrans: {transaction.status_code}: the charge was denied")
    return payment


def order_taken(request: PaymentRequest) -> OutcomeUnknown:
    """
    References are used once, so an order that is there already is an earlier copy of *request*: ask what
    became of it.
    """
    return OutcomeUnknown(
        f"midtrans: order {request.reference} is taken: an earlier copy of this request must have arrived"
    )


def payment_from(
    transaction: Transaction, *, retryable: bool, reference: str | None = None
) -> GatewayPayment:
    """
    Map a transaction. *retryable*: the payer may try again under the same order, as Snap's page lets them.
    *reference* is the order's, where the transaction names itself instead.
    """
    status = _status(transaction, retryable=retryable)
    try:
        amount = asked(transaction)
        is_paid = status is PaymentStatus.PAID
        return GatewayPayment(
            reference=reference or transaction.order_id,
            gateway_payment_id=transaction.transaction_id,
            status=status,
            amount=amount,
            paid=_paid(transaction, amount) if is_paid else None,
            returned=_returned(transaction, amount),
            returned_by=RETURNED_BY.get(transaction.transaction_status.lower()),
            paid_at=_utc(transaction.settlement_time or transaction.transaction_time) if is_paid else None,
            payment_url=_page(transaction),
            instructions=_instructions(transaction) or None,
            expires_at=_utc(transaction.expiry_time or transaction.expire_time),
        )
    except ValueError as exc:
        raise UnreadableWebhook(f"midtrans: transaction {transaction.transaction_id}: {exc}") from exc


def ending(transaction: Transaction) -> str | None:
    """
    Return the word that ends an open *transaction*; None when it was refused, and only its page is open
    still.
    """
    if (transaction.fraud_status or "").lower() == "deny":
        return None
    return ENDINGS.get(transaction.transaction_status.lower())


def cannot_modify(answer: Answer) -> bool:
    """Whether a transaction refused a word, in its state or at all."""
    return answer.json(Verdict).status_code == "412"


def _paid(transaction: Transaction, amount: Money) -> Money:
    """The sum of the payments, where a virtual account takes several; a fee that the payer bore is not ours."""
    gross = Money.from_major(transaction.gross_amount, transaction.currency)
    parts = [
        Money.from_major(part.amount, transaction.currency) for part in transaction.payment_amounts or ()
    ]
    paid = sum(parts[1:], parts[0]) if parts else gross
    return amount if paid == gross else paid


def _returned(transaction: Transaction, amount: Money) -> Money | None:
    """What went back so far: all of it, unless the status says that it is a part and the answer says which."""
    status = transaction.transaction_status.lower()
    if status not in RETURNED_BY:
        return None
    if status.startswith("partial_") and transaction.refund_amount is not None:
        return Money.from_major(transaction.refund_amount, transaction.currency)
    return amount


def _status(transaction: Transaction, *, retryable: bool) -> PaymentStatus:
    """Closed world: what the table of statuses does not list is for a person."""
    refused = PaymentStatus.OPEN if retryable else PaymentStatus.FAILED
    match transaction.transaction_status.lower(), (transaction.fraud_status or "accept").lower():
        case "capture" | "settlement", "accept" if transaction.status_code == "200":
            status = PaymentStatus.PAID
        case word, _ if word in RETURNED_BY:
            status = PaymentStatus.PAID  # what went back has been paid
        case ("pending" | "authorize", "accept" | "challenge") | ("capture" | "settlement", "challenge"):
            status = PaymentStatus.OPEN
        case "deny", _ if transaction.settlement_time is not None:
            status = (
                PaymentStatus.FAILED
            )  # a reversal: the bank took the money back, and the order is used up
        case ("deny", _) | ("pending" | "authorize" | "capture" | "settlement", "deny"):
            status = refused
        case "expire", _ if transaction.payment_type == "credit_card" and retryable:
            status = PaymentStatus.OPEN  # only this try with this card ran out
        case "expire" | "cancel", _:
            status = PaymentStatus.EXPIRED
        case "failure", _:
            status = PaymentStatus.FAILED
        case word, fraud:
            raise UnreadableWebhook(
                f"midtrans: transaction {transaction.transaction_id} is {word} (code {transaction.status_code}, fraud status {fraud})"
            )
    return status


def _page(transaction: Transaction) -> str | None:
    urls = {action.name: action.url for action in transaction.actions}
    return transaction.redirect_url or urls.get("deeplink-redirect") or urls.get("generate-qr-code")


def _instructions(transaction: Transaction) -> dict[str, str]:
    permata = (
        [VirtualAccount("permata", transaction.permata_va_number)] if transaction.permata_va_number else []
    )
    account = next(iter(transaction.va_numbers + permata), VirtualAccount("", ""))
    urls = {action.name: action.url for action in transaction.actions}
    known = {
        "bank": account.bank,
        "va_number": account.va_number,
        "bill_key": transaction.bill_key,
        "biller_code": transaction.biller_code,
        "payment_code": transaction.payment_code,
        "store": transaction.store,
        "qr_string": transaction.qr_string,
        "qr_url": urls.get("generate-qr-code"),
        "deeplink_url": urls.get("deeplink-redirect"),
    }
    return {key: value for key, value in known.items() if value}


def _utc(time: str | None) -> datetime | None:
    """
    Read a time of Midtrans: Jakarta's (WIB) unless it says another; None where it cannot be read.
    """
    if time is None:
        return None
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=WIB)).astimezone(UTC)
