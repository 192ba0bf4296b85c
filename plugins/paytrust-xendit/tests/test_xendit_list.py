"""Xendit's list of invoices: every page of a period, and nothing that looks like the end but is not."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import msgspec
import pytest
from paytrust_xendit import mapping

from paytrust import GatewayUnavailable, ListsPayments, Money, PaymentStatus

HOUR = timedelta(hours=1)


@pytest.fixture
def now():
    return datetime.now(UTC)


async def listed(gateway, since, until):
    return [payment async for payment in gateway.list_payments(since, until)]


def post(xendit, *references, **changes):
    with httpx.Client(base_url=xendit.url, auth=(xendit.key, ""), trust_env=False) as http:
        for reference in references:
            body = {"external_id": reference, "amount": 10_000, "currency": "IDR"} | changes
            http.post("/v2/invoices", json=body).raise_for_status()


async def test_xendit_can_list(gateway):
    assert isinstance(gateway, ListsPayments)


@pytest.mark.parametrize("count", [0, 1, 100, 101, 200])
async def test_every_invoice_of_a_period_is_listed(gateway, xendit, now, count):
    post(xendit, *(f"R-{number}x" for number in range(count)))
    assert (
        len({payment.gateway_payment_id for payment in await listed(gateway, now - HOUR, now + HOUR)})
        == count
    )


async def test_what_was_made_before_the_period_and_paid_in_it_is_listed(gateway, xendit, request_now):
    request = request_now()
    await gateway.create_payment(request)
    xendit.advance(2 * 60)
    xendit.pay(request.reference)
    paid_at = datetime.fromisoformat(xendit.payment(request.reference).details["paid_at"])
    [payment] = await listed(gateway, paid_at - timedelta(seconds=30), paid_at + HOUR)
    assert (payment.status, payment.paid) == (PaymentStatus.PAID, Money(150_000, "IDR"))
    assert await listed(gateway, paid_at + HOUR, paid_at + 2 * HOUR) == []


@pytest.mark.parametrize("odd", [{"status": "ON_HOLD"}, {"amount": Decimal("0.5")}, {"currency": "XXX"}])
def test_an_invoice_of_another_program_that_makes_no_sense_is_left_out(now, odd):
    good = mapping.Invoice(
        id="1",
        external_id="R-1x",
        status="PENDING",
        amount=Decimal(10_000),
        currency="IDR",
        invoice_url="https://x",
        created=now,
        expiry_date=now,
    )
    assert [
        payment.gateway_payment_id
        for payment in mapping.readable([msgspec.structs.replace(good, id="2", **odd), good])
    ] == ["1"]


@pytest.mark.parametrize(
    "fault", ["http_503", "http_429", "malformed_json", "wrong_schema", "reset_before", "truncated"]
)
async def test_a_page_that_fails_is_no_end_of_the_list(gateway, xendit, now, fault):
    post(xendit, "R-1x")
    xendit.fault(fault, on="list", times=1)
    with pytest.raises(GatewayUnavailable):
        await listed(gateway, now - HOUR, now + HOUR)
