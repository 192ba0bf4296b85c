"""
A gateway in the same process, and the far side behind it: what a provider would know, apart from what we
believe.

It is loaded like any other plugin. Only the network is missing, so that thousands of histories fit into
minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec

from paytrust import (
    Answer,
    Credentials,
    Gateway,
    GatewayPayment,
    GatewayRejected,
    GatewayUnavailable,
    InvalidSignature,
    Money,
    OutcomeUnknown,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    UnreadableWebhook,
    Webhook,
    WebhookNotice,
    hookimpl,
)


class Page(msgspec.Struct):
    """One page a payer may pay on, as the provider keeps it."""

    id: str
    reference: str
    amount: Money
    status: PaymentStatus = PaymentStatus.OPEN
    paid: Money | None = None


class Far:
    """One provider account: its pages by reference, and what it does with the next page it is asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Page]] = {}
        self.next_create = "ok"

    def create(self, reference: str, amount: Money) -> Page:
        does, self.next_create = self.next_create, "ok"
        if does == "refused":
            raise GatewayRejected("not today")
        if does == "away":
            raise GatewayUnavailable("nobody is there")
        if does == "lost before":
            raise OutcomeUnknown("it never arrived")
        made = [self.add(reference, amount) for _ in range(2 if does == "twice" else 1)]
        if does in {"lost after", "twice"}:
            raise OutcomeUnknown("the answer never arrived")
        return made[0]

    def add(self, reference: str, amount: Money) -> Page:
        known = self.pages.setdefault(reference, [])
        known.append(Page(f"{reference}/{len(known)}", reference, amount))
        return known[-1]

    def pay(self, page: Page, paid: Money) -> None:
        """Also after it expired: a bank transfer may be under way that nobody can stop."""
        assert page.status is not PaymentStatus.PAID
        page.status, page.paid = PaymentStatus.PAID, paid

    def expire(self, page_id: str) -> None:
        (page,) = [page for pages in self.pages.values() for page in pages if page.id == page_id]
        if page.status is PaymentStatus.PAID:
            raise GatewayRejected("this has been paid")
        page.status = PaymentStatus.EXPIRED


FARS: dict[str, Far] = {}
"""By the name that an account's credentials hold."""


class FarCredentials(Credentials, frozen=True, forbid_unknown_fields=True):
    far: str


class HistoryGateway(Gateway[FarCredentials, msgspec.Struct]):
    code: ClassVar[str] = "history"
    display_name: ClassVar[str] = "History"
    base_url: ClassVar[str] = "https://history.example"
    currencies: ClassVar[frozenset[str]] = frozenset({"IDR", "MYR", "USD", "KWD"})
    credentials_type: ClassVar[type[Credentials]] = FarCredentials

    @property
    def far(self) -> Far:
        return FARS[self.credentials.far]

    @classmethod
    def headers(cls, credentials: FarCredentials) -> dict[str, str]:  # noqa: ARG003
        return {}

    @classmethod
    def explain(cls, answer: Answer) -> str | None:  # noqa: ARG003
        return None

    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        return _told(self.far.create(request.reference, request.amount))

    async def find_payments(self, lookup: PaymentLookup) -> Sequence[GatewayPayment]:
        return [_told(page) for page in self.far.pages.get(lookup.reference, ())]

    async def expire_payment(self, payment: GatewayPayment) -> None:
        self.far.expire(payment.gateway_payment_id)

    def verify_webhook(self, webhook: Webhook) -> None:  # noqa: ARG002
        raise InvalidSignature("this gateway sends no webhooks")

    def read_webhook(self, webhook: Webhook) -> WebhookNotice:  # noqa: ARG002
        raise UnreadableWebhook("this gateway sends no webhooks")


def _told(page: Page) -> GatewayPayment:
    return GatewayPayment(
        reference=page.reference,
        gateway_payment_id=page.id,
        status=page.status,
        amount=page.amount,
        paid=page.paid,
        payment_url=f"https://history.example/{page.id}",
    )


@hookimpl
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    register(HistoryGateway)
