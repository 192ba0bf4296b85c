"""
What one payment may be: as declared for the account's method, and as the stand-in sees it, with its own copy
of the documentation.
"""

import pytest

from paytrust import GatewayRejected, Limits, Money, PaymentLine, PaymentStatus

BILLION = 10**9
METHODS = [
    ({"payment_type": "bank_transfer", "bank": "bca"}, 10_000, 20 * BILLION),
    ({"payment_type": "bank_transfer", "bank": "bni"}, 1, None),
    ({"payment_type": "bank_transfer", "bank": "bri"}, 1, 20 * BILLION),
    ({"payment_type": "bank_transfer", "bank": "cimb"}, 1, 250_000_000),
    ({"payment_type": "bank_transfer", "bank": "permata"}, 1, 9_999_999_999),
    ({"payment_type": "echannel"}, 1, 50 * BILLION),
    ({"payment_type": "qris"}, 1, 10_000_000),
    ({"payment_type": "gopay"}, 1, 20_000_000),
    ({"payment_type": "shopeepay"}, 1, 20_000_000),
    ({"payment_type": "cstore", "store": "alfamart"}, 1, 5_000_000),
    ({"payment_type": "cstore", "store": "indomaret"}, 10_000, 5_000_000),
]
INSIDE = [(method, amount) for method, least, most in METHODS for amount in (least, most) if amount]
BEYOND = [
    (method, amount)
    for method, least, most in METHODS
    for amount in (least - 1, most + 1 if most else None)
    if amount
]  # an amount of 0 is none


async def ask(gateway, request_now, amount):
    return await gateway.create_payment(request_now(PaymentLine("Widget", 1, Money(amount, "IDR"))))


@pytest.mark.parametrize(("method", "amount"), INSIDE, ids=str)
async def test_an_amount_at_a_methods_limit_is_declared_and_taken(connect, request_now, method, amount):
    gateway = connect(product="core", **method)
    assert gateway.limits("IDR").objection(Money(amount, "IDR")) is None
    assert (await ask(gateway, request_now, amount)).status is PaymentStatus.OPEN


@pytest.mark.parametrize(("method", "amount"), BEYOND, ids=str)
async def test_an_amount_beyond_a_methods_limit_is_neither(connect, request_now, method, amount):
    gateway = connect(product="core", **method)
    assert gateway.limits("IDR").objection(Money(amount, "IDR"))
    with pytest.raises(GatewayRejected, match="limits"):
        await ask(gateway, request_now, amount)


@pytest.mark.parametrize("amount", [1, 10**13])
async def test_a_snap_page_has_a_method_for_any_amount(snap, request_now, amount):
    assert snap.limits("IDR") == Limits(minimum=Money(1, "IDR"))
    assert (await ask(snap, request_now, amount)).status is PaymentStatus.OPEN
