"""What a gateway answers may be odd: money that its answer names arrives all the same (product.md 15, trials A1 to A6)."""

from __future__ import annotations

import pytest

ODD = {
    "xendit": [
        ("list", {"expiry_date": None, "paid_at": 7}, ()),
        ("list", {}, ("currency",)),
    ],
    "midtrans": [
        ("status", {"va_numbers": None, "actions": "none"}, ()),
        ("status", {"settlement_time": "2030-01-01T10:00:00+07:00"}, ()),
        ("status", {"expiry_time": None}, ("transaction_time",)),
    ],
}
CASES = [(gateway, *odd) for gateway, all_ in ODD.items() for odd in all_]


@pytest.mark.parametrize(("gateway", "operation", "fields", "without"), CASES)
def test_an_odd_field_beside_the_money_does_not_stop_it(
    merchant, sandbox, gateway, operation, fields, without
):
    far = getattr(sandbox, gateway)
    invoice = merchant.invoice(gateway)
    far.fault("odd_fields", on=operation, times=1_000, fields=fields, without=without)
    far.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")


@pytest.mark.parametrize("bi_snap", ["renamed", "not_found"])
@pytest.mark.parametrize("channel", ["dana", "bsi_va"])
def test_a_bi_snap_payment_arrives_by_the_id_that_its_webhook_named(merchant, sandbox, bi_snap, channel):
    sandbox.midtrans.settings(bi_snap=bi_snap)
    invoice = merchant.invoice("midtrans")
    sandbox.midtrans.pay(merchant.reference(invoice), channel=channel)
    merchant.wait(invoice, "paid")


def test_a_fee_that_midtrans_would_add_is_not_asked_of_the_payer(merchant, sandbox):
    sandbox.midtrans.settings(impose_fee=True)
    invoice = merchant.invoice("midtrans")
    paid = sandbox.midtrans.pay(merchant.reference(invoice), channel="other_qris")
    assert paid.paid_amount == paid.amount
    assert merchant.wait(invoice, "paid")["flags"] == []


@pytest.mark.parametrize(("returned", "left"), [(30_000, "partial_refund"), (None, "refund")])
def test_money_that_went_back_before_we_heard_of_it_has_been_paid(merchant, sandbox, returned, left):
    invoice = merchant.invoice("midtrans")
    reference = merchant.reference(invoice)
    sandbox.midtrans.pay(reference, channel="gopay", silent=True)
    sandbox.midtrans.refund(reference, returned)
    assert merchant.wait(invoice, "paid")["payment_url"] is None, left
