"""The main job: invoice -> payment URL -> webhook -> paid."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_an_invoice_is_paid_with_one_call_and_one_webhook(merchant, sandbox, gateway):
    invoice = merchant.invoice(gateway, external_id="order-1001")
    assert invoice["status"] == "pending"
    assert invoice["payment_url"].startswith(getattr(sandbox, gateway).url)
    getattr(sandbox, gateway).pay(merchant.reference(invoice))
    paid = merchant.wait(invoice, "paid")
    assert paid["payment_url"] is None
    assert len(getattr(sandbox, gateway).deliveries) >= 1
    assert merchant.get(invoice, "/overpayment") == {
        "invoice_id": invoice["invoice_id"],
        "currency": "IDR",
        "total_amount": "514550",
        "total_paid": "514550",
        "overpayment_amount": "0",
    }
