"""Acme Pay for PayTrust. Acme does not exist; its API is written down in README.md."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final

import msgspec

from paytrust import (
    Answer,
    Credentials,
    Gateway,
    GatewayPayment,
    InvalidSignature,
    Limits,
    Money,
    NoOptions,
    OutcomeUnknown,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    PayTrustError,
    UnreadableWebhook,
    Webhook,
    WebhookNotice,
    hookimpl,
)

STATES: Final = {
    "waiting": PaymentStatus.OPEN,
    "paid": PaymentStatus.PAID,
    "expired": PaymentStatus.EXPIRED,
    "cancelled": PaymentStatus.EXPIRED,
    "declined": PaymentStatus.FAILED,
}


class AcmeCredentials(Credentials, frozen=True):
    secret_key: str
    signing_key: str


class AcmePayment(msgspec.Struct, frozen=True, kw_only=True):
    """What we need of Acme's payment object; other fields may come and go."""

    id: str
    reference: str
    state: str
    amount: Decimal
    currency: str
    page: str
    paid_amount: Decimal | None = None
    paid_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class AcmeEvent(msgspec.Struct, frozen=True, kw_only=True):
    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    type: str
    reference: str


class AcmeError(msgspec.Struct, frozen=True):
    error: str


class AcmeGateway(Gateway[AcmeCredentials, NoOptions]):
    """Acme's hosted payment page."""

    code: ClassVar[str] = "acme"
    display_name: ClassVar[str] = "Acme Pay"
    base_url: ClassVar[str] = "https://api.acme.example"
    currencies: ClassVar[frozenset[str]] = frozenset({"IDR", "MYR", "USD"})
    credentials_type: ClassVar[type[Credentials]] = AcmeCredentials

    @classmethod
    def headers(cls, credentials: AcmeCredentials) -> dict[str, str]:
        return {"authorization": f"Bearer {credentials.secret_key}"}

    @classmethod
    def explain(cls, answer: Answer) -> str | None:
        return answer.json(AcmeError).error

    def limits(self, currency: str) -> Limits:
        return Limits() if currency == "IDR" else Limits(minimum=Money(1_00, currency))

    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        body = {
            "reference": request.reference,
            "amount": Decimal(request.amount.major),  # a Decimal is sent as an exact JSON number
            "currency": request.amount.currency,
            "description": request.description,
            "expires_at": request.expires_at,
            "return_url": request.success_url,
            "notify_url": request.webhook_url,
        }
        answer = await self.http.post("/v1/payments", json=body)
        # Sent but not understood: a payment page may exist, so the outcome is unknown, not failed.
        return _payment(answer.json(AcmePayment), OutcomeUnknown)

    async def find_payments(self, lookup: PaymentLookup) -> Sequence[GatewayPayment]:
        answer = await self.http.get("/v1/payments", params={"reference": lookup.reference})
        return [_payment(found, UnreadableWebhook) for found in answer.json(list[AcmePayment])]

    async def expire_payment(self, payment: GatewayPayment) -> None:
        # Already cancelled is a 200 at Acme; paid meanwhile is a 409, which arrives here as GatewayRejected.
        await self.http.post(f"/v1/payments/{payment.gateway_payment_id}/cancel")

    def verify_webhook(self, webhook: Webhook) -> None:
        expected = hmac.new(self.credentials.signing_key.encode(), webhook.body, hashlib.sha256).hexdigest()
        given = webhook.headers.get("acme-signature", "")
        if not hmac.compare_digest(given.encode(errors="replace"), expected.encode()):
            raise InvalidSignature("acme: the header acme-signature is missing or wrong")

    def read_webhook(self, webhook: Webhook) -> WebhookNotice:
        event = webhook.json(AcmeEvent)
        return WebhookNotice(event_key=event.event_id, reference=event.reference, event=event.type)


def _payment(found: AcmePayment, unsure: type[PayTrustError]) -> GatewayPayment:
    """Translate Acme's words. What we do not know raises *unsure*: an error, never a guess."""
    status = STATES.get(found.state)
    if status is None:
        raise unsure(f"acme: payment {found.id} has the unknown state {found.state!r}")
    try:
        paid = found.paid_amount if status is PaymentStatus.PAID else None
        return GatewayPayment(
            reference=found.reference,
            gateway_payment_id=found.id,
            status=status,
            amount=Money.from_major(found.amount, found.currency),
            paid=None if paid is None else Money.from_major(paid, found.currency),
            paid_at=found.paid_at,
            payment_url=found.page,
        )
    except ValueError as exc:
        raise unsure(f"acme: payment {found.id}: {exc}") from exc


@hookimpl
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    register(AcmeGateway)
