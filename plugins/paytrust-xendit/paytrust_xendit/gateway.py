"""The verbs: map, send, map back."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final

import msgspec

from paytrust import (
    Answer,
    Credentials,
    Gateway,
    GatewayPayment,
    GatewayRejected,
    GatewayUnavailable,
    InvalidSignature,
    Limits,
    ListsPayments,
    Money,
    NoOptions,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    Webhook,
    WebhookNotice,
)
from paytrust_xendit import mapping

LIMITS: Final = {
    "IDR": Limits(minimum=Money(1, "IDR"), maximum=Money(50_000_000_000, "IDR")),
    "MYR": Limits(minimum=Money(1_00, "MYR"), maximum=Money(1_000_000_00, "MYR")),
    "PHP": Limits(minimum=Money(1_00, "PHP"), maximum=Money(700_000_00, "PHP")),
}
"""
From the least to the most that any channel of the currency takes (per channel, 2026-04); not documented for
the others.
"""

Key = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]+\Z")]


class XenditCredentials(Credentials, frozen=True):
    """*for_user_id* names a xenPlatform sub-account. It is no secret, but it belongs to who is calling."""

    secret_key: Key
    callback_token: Key
    for_user_id: Key | None = None


class XenditGateway(Gateway[XenditCredentials, NoOptions], ListsPayments):
    """Xendit's hosted invoice page, `/v2/invoices`."""

    code: ClassVar[str] = "xendit"
    display_name: ClassVar[str] = "Xendit"
    base_url: ClassVar[str] = "https://api.xendit.co"
    currencies: ClassVar[frozenset[str]] = frozenset({"IDR", "PHP", "THB", "VND", "MYR", "USD"})
    credentials_type: ClassVar[type[Credentials]] = XenditCredentials

    @classmethod
    def headers(cls, credentials: XenditCredentials) -> dict[str, str]:
        headers = {"authorization": "Basic " + b64encode(f"{credentials.secret_key}:".encode()).decode()}
        if credentials.for_user_id is not None:
            headers["for-user-id"] = credentials.for_user_id
        return headers

    @classmethod
    def explain(cls, answer: Answer) -> str | None:
        return mapping.reason(answer)

    def limits(self, currency: str) -> Limits:
        return LIMITS.get(currency, Limits())

    def page_hosts(self) -> Collection[str]:
        return ("xendit.co",)  # checkout.xendit.co, checkout-staging.xendit.co

    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        # This URL always exists, so a 404 comes from a proxy: the invoice may have been created.
        answer = await self.http.post("/v2/invoices", json=mapping.invoice_body(request), answers=(404,))
        return mapping.created_payment(answer, request)

    async def find_payments(self, lookup: PaymentLookup) -> Sequence[GatewayPayment]:
        answer = await self.http.get("/v2/invoices", params={"external_id": lookup.reference, "limit": "100"})
        return mapping.found_payments(answer, lookup)

    async def list_payments(self, since: datetime, until: datetime) -> AsyncIterator[GatewayPayment]:
        for moment in ("created", "paid"):
            params = mapping.period(moment, since, until)
            while page := mapping.listed_page(await self.http.get("/v2/invoices", params=params)):
                for payment in mapping.readable(page):
                    yield payment
                last = page[-1].id
                if params.get("last_invoice") == last:
                    raise GatewayUnavailable("xendit: the list of invoices does not move on")
                if len(page) < mapping.PAGE:
                    break
                # The SDK and the documentation name the cursor differently.
                params |= {"last_invoice": last, "last_invoice_id": last}

    async def expire_payment(self, payment: GatewayPayment) -> None:
        try:
            answer = await self.http.post(f"/invoices/{payment.gateway_payment_id}/expire!")
            status = mapping.invoice_status(answer, payment.amount)
        except GatewayRejected:
            # Undocumented: what Xendit says when the invoice is expired or paid already. So look.
            answer = await self.http.get(f"/v2/invoices/{payment.gateway_payment_id}")
            status = mapping.invoice_status(answer, payment.amount)
            if status is PaymentStatus.OPEN:
                raise
        if status is not PaymentStatus.EXPIRED:
            raise GatewayRejected(
                f"xendit: invoice {payment.gateway_payment_id} is {status} and cannot be expired"
            )

    def verify_webhook(self, webhook: Webhook) -> None:
        token = webhook.headers.get("x-callback-token", "").encode(errors="replace")
        if not token or not hmac.compare_digest(token, self.credentials.callback_token.encode()):
            raise InvalidSignature("xendit: the x-callback-token header is missing or wrong")

    def read_webhook(self, webhook: Webhook) -> WebhookNotice:
        return mapping.notice(webhook)
