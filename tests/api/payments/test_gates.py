"""
What the roadmap wants to see before a phase counts as done, as far as it is about creating invoices and
paying them.
"""

from __future__ import annotations

import pytest
from support.waiting import eventually


def pay_in_order(merchant, sandbox, invoice, numbers, amount=None):
    """
    Pay the parts *numbers* one after the other, each on the page that opens when the one before is paid.
    """
    for number in numbers:
        eventually(
            lambda n=number: (
                f"-{n}-1x" in merchant.reference(invoice) and merchant.get(invoice)["payment_url"]
            )
        )
        sandbox.xendit.pay(merchant.reference(invoice), **({"amount": amount} if amount else {}))
        eventually(
            lambda n=number: merchant.get(invoice, "/installments")["installments"][n - 1]["status"] == "paid"
        )


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_three_lines_are_paid_with_one_call_and_one_webhook(merchant, sandbox, gateway):
    """Phase 3."""
    lines = [
        {"product_name": "Laptop sleeve", "quantity": 3, "unit_price": "150000", "tax_rate": "0.11"},
        {"product_name": "Mouse", "quantity": 1, "unit_price": "99999", "tax_rate": "0.11"},
        {"product_name": "Engraving", "quantity": 2, "unit_price": "12345"},
    ]
    invoice = merchant.invoice(gateway, line_items=lines)
    assert [line["tax_amount"] for line in invoice["line_items"]] == ["49500", "11000", "0"]
    assert (invoice["subtotal_amount"], invoice["total_tax_amount"]) == ("574689", "60500")
    assert (invoice["total_service_fee_amount"], invoice["total_amount"]) == ("18666", "653855")
    assert invoice["payment_url"]
    getattr(sandbox, gateway).pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")


def test_a_million_rupiah_is_paid_as_two_hundred_and_eight_hundred_thousand(merchant, sandbox):
    """US3."""
    merchant.admin.patch(
        f"/gateway-accounts/{merchant.xendit_id}", json={"currencies": {"IDR": {}}}
    ).raise_for_status()
    line = {"product_name": "Course", "quantity": 1, "unit_price": "1000000"}
    invoice = merchant.invoice(line_items=[line], installments={"amounts": ["200000", "800000"]})
    assert [
        (part["amount"], part["payment_url"] is not None) for part in invoice["installment_schedule"]
    ] == [
        ("200000", True),
        ("800000", False),
    ]
    pay_in_order(merchant, sandbox, invoice, [1])
    half = merchant.wait(invoice, "partially_paid")
    assert [part["status"] for part in half["installment_schedule"]] == ["paid", "unpaid"]
    assert merchant.get(invoice, "/overpayment")["total_paid"] == "200000"
    pay_in_order(merchant, sandbox, invoice, [2])
    merchant.wait(invoice, "paid")
    assert merchant.get(invoice, "/overpayment") == {
        "invoice_id": invoice["invoice_id"], "currency": "IDR",
        "total_amount": "1000000", "total_paid": "1000000", "overpayment_amount": "0",
    }  # fmt: skip
    payments = merchant.get(invoice, "/payments")["payments"]
    assert [(p["installment_number"], p["status"], p["paid_amount"]) for p in payments] == [
        (1, "paid", "200000"),
        (2, "paid", "800000"),
    ]


def test_three_installments_in_ringgit_with_the_second_adjusted_and_the_last_overpaid(
    merchant, sandbox, database
):
    """Phase 5."""
    line = {"product_name": "Course", "quantity": 1, "unit_price": "100.00", "tax_rate": "0.06"}
    invoice = merchant.invoice(currency="MYR", line_items=[line], installments={"count": 3})
    parts = invoice["installment_schedule"]
    assert [part["amount"] for part in parts] == ["35.33", "35.33", "35.34"]
    assert [part["tax_amount"] for part in parts] == ["1.99", "1.99", "2.02"]
    pay_in_order(merchant, sandbox, invoice, [1])
    eventually(lambda: merchant.get(invoice)["payment_url"])
    path = f"/invoices/{invoice['invoice_id']}/installments"
    changed = merchant.api.patch(path, json={"installments": [{"number": 2, "amount": "50.00"}]})
    assert changed.status_code == 200, changed.text
    assert [part["amount"] for part in changed.json()["installments"]] == ["35.33", "50.00", "20.67"]
    eventually(
        lambda: (
            merchant.get(invoice, "/payments")["payments"][-1]["amount"] == "50.00"
            and merchant.get(invoice)["payment_url"]
        )
    )
    sandbox.xendit.pay(merchant.reference(invoice))
    pay_in_order(merchant, sandbox, invoice, [3], amount="70.67")
    merchant.wait(invoice, "paid")
    told = merchant.get(invoice, "/overpayment")
    assert (told["total_amount"], told["total_paid"], told["overpayment_amount"]) == (
        "106.00",
        "156.00",
        "50.00",
    )
    currencies = "SELECT DISTINCT currency FROM transfers WHERE tenant_id = $1"
    assert database.rows(currencies, merchant.tenant_id) == [{"currency": "MYR"}], (
        "the books know no other currency"
    )
