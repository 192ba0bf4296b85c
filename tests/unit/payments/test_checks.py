"""When a gateway is asked again, and which of its pages are surplus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.money import Money
from paytrust.payments.model import Attempt, AttemptStatus, duplicate_pages, next_check

MADE = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
UNTIL = MADE + timedelta(hours=24)
IDR = Money(10_000, "IDR")
ATTEMPT = Attempt(
    id=UUID(int=1),
    tenant_id=UUID(int=2),
    invoice_id=UUID(int=3),
    installment_number=1,
    account_id=UUID(int=4),
    attempt=1,
    reference="PT-1x",
    amount=IDR,
    status=AttemptStatus.OPEN,
    gateway_payment_id="ours",
    payment_url="https://x",
    instructions=None,
    error_code=None,
    created_at=MADE,
    updated_at=MADE,
    opened_at=MADE,
    received=Money(0, "IDR"),
)


def after(**how):
    return timedelta(**how)


def looks(attempt, expires_at, since):
    """Every look there will be, when nothing ever changes."""
    now, found = since, []
    while (now := next_check(attempt, expires_at, now)) is not None:
        found.append(now - since)
        assert len(found) < 1000
    return found


def test_an_open_attempt_is_asked_about_until_a_week_after_the_invoice_expires():
    first = [after(minutes=5), after(hours=1), after(hours=6), after(days=1), after(days=1, minutes=1)]
    assert looks(ATTEMPT, UNTIL, MADE) == [*first, *(after(days=n) for n in range(2, 9))]


def test_one_that_ended_unpaid_is_asked_about_for_a_week():
    attempt = msgspec.structs.replace(ATTEMPT, status=AttemptStatus.EXPIRED, updated_at=UNTIL)
    assert looks(attempt, UNTIL, UNTIL) == [after(hours=1), *(after(days=n) for n in range(1, 8))]


@pytest.mark.parametrize("status", [AttemptStatus.PAID, AttemptStatus.REJECTED])
def test_one_that_is_settled_is_not_asked_about(status):
    assert next_check(msgspec.structs.replace(ATTEMPT, status=status), UNTIL, MADE) is None


@pytest.mark.parametrize("days", [30, 365])
def test_a_long_life_is_asked_about_daily(days):
    assert len(looks(ATTEMPT, MADE + timedelta(days=days), MADE)) == 3 + days + 7 + 1


def page(name, status=PaymentStatus.OPEN):
    paid = IDR if status is PaymentStatus.PAID else None
    return GatewayPayment(reference="PT-1x", gateway_payment_id=name, status=status, amount=IDR, paid=paid)


@pytest.mark.parametrize(
    ("status", "found", "expected"),
    [
        (AttemptStatus.OPEN, [page("ours")], []),
        (AttemptStatus.OPEN, [page("older"), page("ours"), page("newer")], ["older", "newer"]),
        (AttemptStatus.OPEN, [page("another name of ours")], []),
        (AttemptStatus.OPEN, [page("ours", PaymentStatus.EXPIRED), page("newer")], ["newer"]),
        (AttemptStatus.PAID, [page("ours", PaymentStatus.PAID), page("newer")], ["newer"]),
        (AttemptStatus.PAID, [page("older", PaymentStatus.PAID), page("ours")], ["ours"]),
        (AttemptStatus.PAID, [page("another name of ours", PaymentStatus.PAID)], []),
        (AttemptStatus.EXPIRED, [page("ours")], ["ours"]),
        (AttemptStatus.EXPIRED, [page("another name of ours")], ["ours", "another name of ours"]),
        (AttemptStatus.EXPIRED, [page("ours", PaymentStatus.EXPIRED)], []),
        (AttemptStatus.OPEN, [], []),
    ],
)
def test_what_could_be_paid_and_should_not_is_surplus(status, found, expected):
    attempt = msgspec.structs.replace(ATTEMPT, status=status)
    assert [payment.gateway_payment_id for payment in duplicate_pages(attempt, found)] == expected
