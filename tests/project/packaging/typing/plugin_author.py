"""
The public types as a plugin author uses them. mypy reads this file, nothing runs it.

A line with `type: ignore[...]` is a mistake that has to be found: mypy fails here as soon as one is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, assert_type

import msgspec

from paytrust import (
    Answer,
    Credentials,
    Customer,
    Gateway,
    GatewayPayment,
    GatewayRejected,
    InvalidSignature,
    Limits,
    ListsPayments,
    Money,
    NoOptions,
    PaymentLine,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    PayTrustError,
    Sandbox,
    SandboxAccount,
    TaxAnswer,
    TaxQuery,
    TaxRule,
    Webhook,
    WebhookNotice,
    hookimpl,
)


class AcmeCredentials(Credentials, frozen=True):
    secret_key: str


class AcmeOptions(msgspec.Struct, frozen=True):
    country: str = "ID"


class AcmePayment(msgspec.Struct):
    id: str


class AcmeGateway(Gateway[AcmeCredentials, AcmeOptions], ListsPayments):
    code: ClassVar[str] = "acme"
    display_name: ClassVar[str] = "Acme"
    base_url: ClassVar[str] = "https://api.acme.example"
    currencies: ClassVar[frozenset[str]] = frozenset({"IDR"})
    credentials_type: ClassVar[type[Credentials]] = AcmeCredentials
    options_type: ClassVar[type[msgspec.Struct]] = AcmeOptions

    @classmethod
    def headers(cls, credentials: AcmeCredentials) -> dict[str, str]:
        assert_type(credentials.secret_key, str)
        return {"authorization": credentials.secret_key}

    @classmethod
    def explain(cls, answer: Answer) -> str | None:
        return assert_type(answer.json(AcmePayment), AcmePayment).id

    def limits(self, currency: str) -> Limits:
        return Limits(minimum=Money(1_00, currency))

    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        assert_type(self.credentials, AcmeCredentials)
        assert_type(self.options.country, str)
        assert_type(request.amount, Money)
        assert_type(request.lines, tuple[PaymentLine, ...])
        assert_type(request.customer, Customer)
        assert_type(request.expires_at, datetime)
        _ = self.credentials.password  # type: ignore[attr-defined]
        answer = await self.http.post("/v1/payments", json={"amount": request.amount.major})
        return _payment(answer.json(AcmePayment), request)

    async def find_payments(self, lookup: PaymentLookup) -> Sequence[GatewayPayment]:
        answer = await self.http.get("/v1/payments", params={"reference": lookup.reference})
        assert_type(answer.json(list[AcmePayment]), list[AcmePayment])
        return []

    async def expire_payment(self, payment: GatewayPayment) -> None:
        assert_type(payment.paid, Money | None)
        assert_type(payment.instructions, Mapping[str, str] | None)
        payment.status = PaymentStatus.EXPIRED  # type: ignore[misc]
        raise GatewayRejected("it is paid")

    def verify_webhook(self, webhook: Webhook) -> None:
        assert_type(webhook.headers, Mapping[str, str])
        assert_type(webhook.body, bytes)
        raise InvalidSignature("no header")

    def read_webhook(self, webhook: Webhook) -> WebhookNotice:
        event = webhook.body.decode()
        WebhookNotice(reference=event, event=event)  # type: ignore[call-arg]
        return WebhookNotice(event_key=event, reference=event, event=event)

    async def list_payments(self, since: datetime, until: datetime) -> AsyncIterator[GatewayPayment]:
        asked = PaymentLookup(reference=f"{since} {until}", amount=Money(1, "IDR"), created_at=since)
        for payment in await self.find_payments(asked):
            yield payment


class CarelessGateway(Gateway[AcmeCredentials, NoOptions]):
    # A webhook is let in by not raising: a verdict that is returned would be lost.
    def verify_webhook(self, webhook: Webhook) -> bool:  # type: ignore[override]
        return bool(webhook.body)

    # A gateway answers with all payments it knows, not with the one it likes best.
    async def find_payments(self, lookup: PaymentLookup) -> GatewayPayment:  # type: ignore[override]
        raise NotImplementedError(lookup.reference)


def _payment(found: AcmePayment, request: PaymentRequest) -> GatewayPayment:
    return GatewayPayment(
        reference=request.reference,
        gateway_payment_id=found.id,
        status=PaymentStatus.OPEN,
        amount=request.amount,
    )


def money(price: Money) -> None:
    assert_type(price + price, Money)
    assert_type(price.minor, int)
    assert_type(price.major, str)
    assert_type(Money.parse("19.99", "USD"), Money)
    Money(19.99, "USD")  # type: ignore[arg-type]
    Money("19.99", "USD")  # type: ignore[arg-type]
    Money(1999)  # type: ignore[call-arg]
    Money.from_major(19.99, "USD")  # type: ignore[arg-type]
    price + 1  # type: ignore[operator]
    price.minor = 0  # type: ignore[misc]


def errors(exc: PayTrustError) -> None:
    assert_type(exc.code, str)
    assert_type(exc.status, int)


class AcmeTax(TaxRule):
    name: ClassVar[str] = "tax-acme"

    def rate_for(self, query: TaxQuery) -> TaxAnswer | None:
        assert_type(query.category, str | None)
        assert_type(query.on, date)
        if query.country != "ID":
            return None
        TaxAnswer(rate=0.11, category="", jurisdiction="", reason="", effective_from=query.on)  # type: ignore[arg-type]
        return TaxAnswer(
            rate=Decimal("0.11"),
            category="goods",
            jurisdiction="ID",
            reason="UU 7/2021",
            effective_from=query.on,
        )


class AcmeSandbox(Sandbox):
    name: ClassVar[str] = "acme"

    def start(self) -> Sequence[SandboxAccount]:
        return [SandboxAccount("acme", "Acme", "http://127.0.0.1:8080", {"secret_key": "k"}, {}, ("IDR",))]

    def configure_webhook(self, account: SandboxAccount, url: str) -> None:
        assert_type(account.credentials[url], str)

    def stop(self) -> None: ...


@hookimpl
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    register(AcmeGateway)
    register(AcmeTax)  # type: ignore[arg-type]


@hookimpl
def register_tax_rules(register: Callable[[type[TaxRule]], None]) -> None:
    register(AcmeTax)


@hookimpl
def register_sandboxes(register: Callable[[type[Sandbox]], None]) -> None:
    register(AcmeSandbox)


Sandbox()  # type: ignore[abstract]
TaxRule()  # type: ignore[abstract]
