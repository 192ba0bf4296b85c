"""A gateway without a network: it answers in the process, so that the bench sees the core alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec

from paytrust import (
    Answer,
    Credentials,
    Gateway,
    GatewayPayment,
    InvalidSignature,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    UnreadableWebhook,
    Webhook,
    WebhookNotice,
    hookimpl,
)


class NoCredentials(Credentials, frozen=True):
    """There is nobody to convince."""


class InstantGateway(Gateway[NoCredentials, msgspec.Struct]):
    code: ClassVar[str] = "instant"
    display_name: ClassVar[str] = "Instant"
    base_url: ClassVar[str] = "http://127.0.0.1"
    currencies: ClassVar[frozenset[str]] = frozenset({"USD"})
    credentials_type: ClassVar[type[Credentials]] = NoCredentials

    @classmethod
    def headers(cls, credentials: NoCredentials) -> dict[str, str]:  # noqa: ARG003
        return {}

    @classmethod
    def explain(cls, answer: Answer) -> str | None:  # noqa: ARG003
        return None

    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        return GatewayPayment(
            reference=request.reference,
            gateway_payment_id=f"instant-{request.reference}",
            status=PaymentStatus.OPEN,
            amount=request.amount,
            payment_url=f"http://127.0.0.1/{request.reference}",
            expires_at=request.expires_at,
        )

    async def find_payments(self, lookup: PaymentLookup) -> Sequence[GatewayPayment]:  # noqa: ARG002
        return ()

    async def expire_payment(self, payment: GatewayPayment) -> None:
        """Nobody can pay here anyway."""

    def verify_webhook(self, webhook: Webhook) -> None:  # noqa: ARG002
        raise InvalidSignature("this gateway sends no webhooks")

    def read_webhook(self, webhook: Webhook) -> WebhookNotice:  # noqa: ARG002
        raise UnreadableWebhook("this gateway sends no webhooks")


@hookimpl
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    register(InstantGateway)
