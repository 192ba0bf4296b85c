"""Notifications. The signature covers three fields only, so everything else in one is a hint."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Any, Final

import msgspec

from paytrust import InvalidSignature, UnreadableWebhook, Webhook, WebhookNotice
from paytrust_midtrans.answers import Amount, Id

Code = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{3}\Z")]
Text = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,100}\Z")]
Signature = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
Word = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z_]{1,40}\Z")]

CODES: Final = {
    "pending": {"201"},
    "authorize": {"200", "201"},
    "capture": {"200", "201"},
    "settlement": {"200"},
    "deny": {"202"},
    "cancel": {"202"},
    "expire": {"202", "407"},
    "refund": {"200"},
    "partial_refund": {"200"},
    # Not documented, so not held against it.
    "failure": None,
    "chargeback": None,
    "partial_chargeback": None,
}
"""The `status_code`, which is signed, that goes with each `transaction_status`, which is not."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """
    What we need of a notification. Verifying and reading decode the same way, so they cannot see different
    things.

    The shapes of code and amount keep the undelimited fields of the signature apart: of an order that ends in
    a letter, as ours do, a signed string can be cut in one way only.
    """

    order_id: Text
    status_code: Code
    gross_amount: Amount
    signature_key: Signature
    transaction_id: Id
    transaction_status: Word
    fraud_status: Word | None = None
    merchant_id: str | None = None
    refund_amount: Any = None
    refunds: Any = None

    @property
    def signed(self) -> str:
        return f"{self.order_id}{self.status_code}{self.gross_amount}"


class LinkedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A payer linked or unlinked a GoPay account: signed with our key, and about no payment."""

    account_id: Text
    account_status: Word
    status_code: Code
    signature_key: Signature

    @property
    def signed(self) -> str:
        return f"{self.account_id}{self.account_status}{self.status_code}"


def verify(webhook: Webhook, *, server_key: str, merchant_id: str | None) -> None:
    """
    Raise `InvalidSignature` unless who sent it knows *server_key* and what it says fits what was signed.
    """
    try:
        told = _decoded(webhook)
    except (ValueError, RecursionError) as exc:
        raise InvalidSignature("midtrans: not a notification") from exc
    signed = hashlib.sha512(f"{told.signed}{server_key}".encode()).hexdigest()
    if not hmac.compare_digest(signed, told.signature_key):
        raise InvalidSignature("midtrans: the signature_key is wrong")
    if isinstance(told, LinkedAccount):
        return
    if merchant_id is not None and told.merchant_id != merchant_id:
        raise InvalidSignature("midtrans: the notification is another merchant's")
    if not _fits(told):
        raise InvalidSignature(
            f"midtrans: {told.transaction_status} never comes with code {told.status_code}: a doctored notification"
        )


def notice(webhook: Webhook) -> WebhookNotice:
    """
    Name the event. Midtrans has no event ids, so the key is made of everything that tells two events apart.

    Of that only order, code and amount are signed: without the order, somebody with one true signature could
    take the name of another order's event, and that one would be dropped as a repeat when it comes.
    """
    try:
        told = _decoded(webhook)
    except (ValueError, RecursionError) as exc:
        raise UnreadableWebhook(f"midtrans: not a notification: {exc}") from exc
    if isinstance(told, LinkedAccount):
        raise UnreadableWebhook("midtrans: about a linked account, and no payment", reference="")
    status = told.transaction_status.lower()
    if status not in CODES:
        raise UnreadableWebhook(f"midtrans: unknown transaction status {status!r}", reference=told.order_id)
    key = "|".join(
        (
            told.order_id,
            told.transaction_id,
            status,
            (told.fraud_status or "").lower(),
            told.status_code,
            told.gross_amount,
        )
    )
    if told.refund_amount or told.refunds:
        # Each refund is told twice, the second time with bank_confirmed_at.
        refund = msgspec.json.encode([told.refund_amount, told.refunds], order="deterministic")
        key += f"|{hashlib.sha256(refund).hexdigest()}"
    if len(key) > 200:
        key = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    return WebhookNotice(
        event_key=key, reference=told.order_id, event=status, gateway_payment_id=told.transaction_id
    )


def _decoded(webhook: Webhook) -> Notification | LinkedAccount:
    try:
        return msgspec.json.decode(webhook.body, type=Notification)
    except msgspec.ValidationError:
        if b'"order_id"' in webhook.body:
            raise
        return msgspec.json.decode(webhook.body, type=LinkedAccount)


def _fits(told: Notification) -> bool:
    status = told.transaction_status.lower()
    codes = CODES.get(status)
    if status in {"authorize", "capture"}:
        codes = {"201"} if (told.fraud_status or "").lower() == "challenge" else {"200"}
    return codes is None or told.status_code in codes
