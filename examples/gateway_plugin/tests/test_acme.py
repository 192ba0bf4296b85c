"""The rules every gateway has to keep, tried against a real local server."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from acme_server import SIGNING_KEY, AcmeServer
from paytrust_acme import AcmeGateway

from paytrust import (
    GatewayRejected,
    InvalidSignature,
    Money,
    OutcomeUnknown,
    PaymentLine,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    UnreadableWebhook,
    Webhook,
)

Connect = Callable[..., AcmeGateway]
NewRequest = Callable[..., PaymentRequest]


def lookup(reference: str = "PT-1001-1x", hints: tuple[str, ...] = ()) -> PaymentLookup:
    """What the core asks with."""
    return PaymentLookup(
        reference=reference,
        amount=Money(154_000, "IDR"),
        created_at=datetime(2030, 1, 1, 3, tzinfo=UTC),
        hints=hints,
    )


def signed(body: bytes, key: str = SIGNING_KEY) -> Webhook:
    return Webhook({"acme-signature": hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}, body)


def asking(new_request: NewRequest, amount: Money) -> PaymentRequest:
    return new_request(amount=amount, lines=(PaymentLine("Widget", 1, amount),))


async def test_a_payment_is_opened_for_the_exact_amount(
    acme: AcmeServer, connect: Connect, new_request: NewRequest
) -> None:
    request = new_request()
    payment = await connect().create_payment(request)
    assert (payment.status, payment.reference, payment.amount) == (
        PaymentStatus.OPEN,
        request.reference,
        request.amount,
    )
    assert payment.payment_url == acme.payments[0]["page"]
    assert acme.payments[0]["amount"] == 19.99


@pytest.mark.parametrize(("money", "sent"), [(Money(1_500_000, "IDR"), 1500000), (Money(1050, "MYR"), 10.5)])
async def test_amounts_go_out_in_major_units(
    acme: AcmeServer, connect: Connect, new_request: NewRequest, money: Money, sent: float
) -> None:
    await connect().create_payment(asking(new_request, money))
    assert acme.payments[0]["amount"] == sent


async def test_a_refusal_carries_the_reason_of_the_gateway(connect: Connect, new_request: NewRequest) -> None:
    with pytest.raises(GatewayRejected, match="the amount must be at least 1"):
        await connect().create_payment(asking(new_request, Money(99, "USD")))


@pytest.mark.parametrize(
    ("least", "below"), [(Money(1_00, "USD"), Money(99, "USD")), (Money(1, "IDR"), None)]
)
async def test_the_declared_limits_are_those_of_the_gateway(
    connect: Connect, new_request: NewRequest, least: Money, below: Money | None
) -> None:
    limits = connect().limits(least.currency)
    assert limits.objection(least) is None
    assert (await connect().create_payment(asking(new_request, least))).status is PaymentStatus.OPEN
    assert below is None or "below 1.00 USD" in str(limits.objection(below))


async def test_a_wrong_key_is_a_refusal(connect: Connect, new_request: NewRequest) -> None:
    with pytest.raises(GatewayRejected, match="unknown key"):
        await connect(secret_key="wrong").create_payment(new_request())


async def test_no_answer_is_an_unknown_outcome_that_can_be_looked_up(
    acme: AcmeServer, connect: Connect, new_request: NewRequest
) -> None:
    acme.silent = True
    with pytest.raises(OutcomeUnknown):
        await connect().create_payment(new_request())
    acme.silent = False
    found = await connect().find_payments(lookup())
    assert [payment.status for payment in found] == [PaymentStatus.OPEN]


async def test_a_reference_nobody_knows_finds_nothing(connect: Connect) -> None:
    assert await connect().find_payments(lookup("PT-9999-1x")) == []


async def test_a_paid_payment_says_what_was_paid(
    acme: AcmeServer, connect: Connect, new_request: NewRequest
) -> None:
    await connect().create_payment(new_request())
    acme.payments[0] |= {"state": "paid", "paid_amount": 25.5, "paid_at": "2030-01-01T10:00:00+07:00"}
    [payment] = await connect().find_payments(lookup())
    assert (payment.status, payment.paid) == (PaymentStatus.PAID, Money(2550, "USD"))


@pytest.mark.parametrize(
    "change", [{"state": "on_the_moon"}, {"currency": "XXX"}, {"state": "paid"}, {"amount": Decimal("1.234")}]
)
async def test_what_is_not_understood_is_never_guessed(
    acme: AcmeServer, connect: Connect, new_request: NewRequest, change: dict[str, object]
) -> None:
    await connect().create_payment(new_request())
    acme.payments[0] |= {
        name: float(value) if isinstance(value, Decimal) else value for name, value in change.items()
    }
    with pytest.raises(UnreadableWebhook):
        await connect().find_payments(lookup())


async def test_expiring_twice_is_harmless_and_a_paid_payment_refuses(
    acme: AcmeServer, connect: Connect, new_request: NewRequest
) -> None:
    payment = await connect().create_payment(new_request())
    await connect().expire_payment(payment)
    await connect().expire_payment(payment)
    assert [found.status for found in await connect().find_payments(lookup())] == [PaymentStatus.EXPIRED]
    acme.payments[0]["state"] = "paid"
    with pytest.raises(GatewayRejected, match="has been paid"):
        await connect().expire_payment(payment)


async def test_a_signed_webhook_names_its_payment(connect: Connect) -> None:
    webhook = signed(
        json.dumps({"event_id": "ev_1", "type": "payment.paid", "reference": "PT-1001-1x"}).encode()
    )
    gateway = connect()
    gateway.verify_webhook(webhook)
    notice = gateway.read_webhook(webhook)
    assert (notice.event_key, notice.reference, notice.event) == ("ev_1", "PT-1001-1x", "payment.paid")


@pytest.mark.parametrize(
    "webhook",
    [
        Webhook({}, b"{}"),
        Webhook({"acme-signature": ""}, b"{}"),
        Webhook({"acme-signature": "é"}, b"{}"),
        signed(b"{}", "another key"),
    ],
    ids=["none", "empty", "not ASCII", "another key"],
)
async def test_a_forged_webhook_is_refused(connect: Connect, webhook: Webhook) -> None:
    with pytest.raises(InvalidSignature):
        connect().verify_webhook(webhook)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"event_id": 1}', b"\xff", b'{"event_id": "", "type": "x", "reference": "y"}']
)
async def test_a_webhook_that_cannot_be_read_is_kept_for_a_person(connect: Connect, body: bytes) -> None:
    with pytest.raises(UnreadableWebhook):
        connect().read_webhook(signed(body))
