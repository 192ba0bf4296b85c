"""
What one payment may be: as declared, and as the stand-in sees it, which has its own copy of the
documentation.
"""

import pytest

from paytrust import GatewayRejected, Limits, Money, PaymentLine, PaymentStatus

LEAST = [Money(1, "IDR"), Money(1_00, "MYR"), Money(1_00, "PHP")]
MOST = [Money(50_000_000_000, "IDR"), Money(1_000_000_00, "MYR"), Money(700_000_00, "PHP")]
BEYOND = [amount - Money(1, amount.currency) for amount in LEAST if amount.minor > 1] + [
    amount + Money(1, amount.currency) for amount in MOST
]


async def ask(gateway, request_now, amount):
    return await gateway.create_payment(request_now(PaymentLine("Widget", 1, amount)))


@pytest.mark.parametrize("amount", LEAST + MOST, ids=str)
async def test_an_amount_at_a_limit_is_declared_and_taken(gateway, request_now, amount):
    assert gateway.limits(amount.currency).objection(amount) is None
    assert (await ask(gateway, request_now, amount)).status is PaymentStatus.OPEN


@pytest.mark.parametrize("amount", BEYOND, ids=str)
async def test_an_amount_beyond_a_limit_is_neither(gateway, request_now, amount):
    assert gateway.limits(amount.currency).objection(amount)
    with pytest.raises(GatewayRejected, match="TRANSFER_AMOUNT_ERROR"):
        await ask(gateway, request_now, amount)


@pytest.mark.parametrize("currency", ["THB", "VND", "USD"])
def test_where_no_limits_are_documented_none_are_declared(gateway, currency):
    assert gateway.limits(currency) == Limits()
