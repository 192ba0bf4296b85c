"""An invoice in parts: made, paid in order, over- and underpaid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.waiting import eventually


def in_days(number):
    return (datetime.now(UTC) + timedelta(days=number)).isoformat()


def amounts(schedule, field="amount"):
    return [part[field] for part in schedule]


def test_equal_parts_round_down_and_the_last_takes_the_rest(merchant):
    invoice = merchant.invoice(installments={"count": 4})
    parts = invoice["installment_schedule"]
    assert amounts(parts) == ["128637", "128637", "128637", "128639"]
    assert amounts(parts, "tax_amount") == ["12374", "12374", "12374", "12378"]
    assert amounts(parts, "service_fee_amount") == ["3762", "3762", "3762", "3764"]
    assert sum(map(int, amounts(parts, "tax_amount"))) == int(invoice["total_tax_amount"])
    assert sum(map(int, amounts(parts, "service_fee_amount"))) == int(invoice["total_service_fee_amount"])
    assert [part["payment_url"] is not None for part in parts] == [True, False, False, False]
    assert parts[0]["payment_url"] == invoice["payment_url"]


def test_parts_are_due_every_30_days_and_the_invoice_outlives_the_last(merchant):
    invoice = merchant.invoice(installments={"count": 2})
    created, *due = (
        datetime.fromisoformat(t)
        for t in (invoice["created_at"], *amounts(invoice["installment_schedule"], "due_date"))
    )
    assert [(d - created).days for d in due] == [30, 60]
    assert datetime.fromisoformat(invoice["expires_at"]) - due[-1] == timedelta(hours=24)


def test_an_invoice_paid_at_once_has_no_schedule_in_its_answer_and_one_part_in_its_books(merchant):
    invoice = merchant.invoice()
    assert "installment_schedule" not in invoice
    assert amounts(merchant.get(invoice, "/installments")["installments"]) == [invoice["total_amount"]]


def test_a_part_may_be_due_in_5_years(merchant):
    due = [in_days(1), in_days(5 * 365)]
    invoice = merchant.invoice(installments={"count": 2, "due_dates": due})
    assert datetime.fromisoformat(invoice["expires_at"]) - datetime.fromisoformat(due[-1]) == timedelta(
        hours=24
    )


def test_custom_parts_are_kept_as_given(merchant):
    line = {"product_name": "Course", "quantity": 1, "unit_price": "1000000"}
    merchant.admin.patch(f"/gateway-accounts/{merchant.xendit_id}", json={"currencies": {"IDR": {}}})
    invoice = merchant.invoice(
        line_items=[line], installments={"amounts": ["200000", 800000], "due_dates": [in_days(1), in_days(2)]}
    )
    assert amounts(invoice["installment_schedule"]) == ["200000", "800000"]


@pytest.mark.parametrize(
    ("installments", "pointer"),
    [
        ({"count": 1}, "#/installments/count"),
        ({"count": 13}, "#/installments/count"),
        ({"count": "2"}, "#/installments/count"),
        ({}, "#/installments"),
        ({"count": 2, "amounts": ["1", "2"]}, "#/installments"),
        ({"amounts": ["514550"]}, "#/installments/amounts"),
        ({"amounts": ["514549", "2"]}, "#/installments/amounts"),
        ({"amounts": ["514550", "0"]}, "#/installments/amounts/1"),
        ({"amounts": ["514550", "-1"]}, "#/installments/amounts/1"),
        ({"amounts": ["514549.5", "0.5"]}, "#/installments/amounts/0"),
        ({"count": 2, "due_dates": [in_days(1)]}, "#/installments/due_dates"),
        ({"count": 2, "due_dates": [in_days(1), in_days(2), in_days(3)]}, "#/installments/due_dates"),
        ({"count": 2, "due_dates": [in_days(2), in_days(1)]}, "#/installments/due_dates"),
        ({"count": 2, "due_dates": [in_days(-1), in_days(1)]}, "#/installments/due_dates"),
        ({"count": 2, "due_dates": [in_days(1), in_days(5 * 366)]}, "#/installments/due_dates/1"),
        ({"count": 2, "due_dates": [in_days(1), "9999-12-31T23:59:59Z"]}, "#/installments/due_dates/1"),
        ({"count": 2, "due_dates": [in_days(1), "9999-12-31T23:59:59-23:59"]}, "#/installments/due_dates/1"),
        ({"count": 2, "due_dates": ["0001-01-01T00:00:00+23:59", in_days(1)]}, "#/installments/due_dates"),
        ({"count": 2, "parts": 2}, "#/installments/parts"),
    ],
)
def test_a_schedule_that_breaks_a_rule_is_refused_with_its_pointer(merchant, installments, pointer):
    answer = merchant.api.post("/invoices", json=merchant.body(installments=installments))
    assert answer.status_code == 400, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_an_expiry_before_the_last_due_date_is_refused(merchant):
    body = merchant.body(installments={"count": 2}, expires_at=in_days(59))
    assert merchant.api.post("/invoices", json=body).json()["errors"][0]["pointer"] == "#/expires_at"
    assert merchant.api.post("/invoices", json=body | {"expires_at": in_days(89)}).status_code == 201


@pytest.mark.parametrize(
    "parts", [["514549", "1"], ["514548", "1", "1"], ["1", "514548", "1"], ["1", "1", "514547", "1"]]
)
def test_a_last_part_too_small_for_the_rest_of_tax_and_fee_leaves_it_to_those_before(merchant, parts):
    """
    Tax 49,500 and fee 15,050: both round down to one unit less, and a part of 1 cannot contain both units.
    """
    schedule = merchant.invoice(installments={"amounts": parts})["installment_schedule"]
    contents = [
        (int(part["amount"]), int(part["tax_amount"]), int(part["service_fee_amount"])) for part in schedule
    ]
    assert [amount for amount, _, _ in contents] == [int(part) for part in parts]
    assert [sum(column) for column in zip(*contents, strict=True)] == [514550, 49500, 15050]
    assert all(tax + fee <= amount for amount, tax, fee in contents)


def test_each_payment_opens_the_next_page_until_all_is_paid(merchant, sandbox):
    invoice = merchant.invoice(installments={"amounts": ["14550", "200000", "300000"]})
    for number in (1, 2, 3):
        reference = merchant.reference(invoice)
        assert f"-{number}-1x" in reference
        sandbox.xendit.pay(reference)
        merchant.wait(invoice, "paid" if number == 3 else "partially_paid")
        if number < 3:
            eventually(
                lambda n=number: (
                    merchant.reference(invoice).endswith(f"-{n + 1}-1x")
                    and merchant.get(invoice)["payment_url"]
                )
            )
    parts = merchant.get(invoice, "/installments")["installments"]
    assert amounts(parts, "status") == ["paid", "paid", "paid"]
    assert amounts(parts, "paid_amount") == amounts(parts)


def test_excess_rolls_forward_and_the_rest_is_overpayment(merchant, sandbox):
    invoice = merchant.invoice("midtrans", installments={"count": 3})
    sandbox.midtrans.pay(merchant.reference(invoice), amount="514600")
    merchant.wait(invoice, "paid")
    assert merchant.get(invoice, "/overpayment")["overpayment_amount"] == "50"
    assert amounts(merchant.get(invoice, "/installments")["installments"], "status") == ["paid"] * 3


def test_a_shortfall_stays_due_on_the_same_installment(merchant, sandbox):
    invoice = merchant.invoice(installments={"amounts": ["100000", "414550"]})
    sandbox.xendit.pay(merchant.reference(invoice), amount="40000")
    merchant.wait(invoice, "partially_paid")
    first = merchant.get(invoice, "/installments")["installments"][0]
    assert (first["status"], first["paid_amount"]) == ("partially_paid", "40000")
    eventually(lambda: merchant.reference(invoice).endswith("-1-2x"))
    assert merchant.get(invoice, "/payments")["payments"][-1]["amount"] == "60000"


def test_an_installment_out_of_turn_has_no_page(merchant):
    invoice = merchant.invoice(installments={"count": 2})
    path = f"/invoices/{invoice['invoice_id']}/payment-url"
    answer = merchant.api.post(path, params={"installment": 2})
    assert (answer.status_code, answer.json()["code"]) == (409, "installment_out_of_sequence")
    assert merchant.api.post(path, params={"installment": 1}).json()["payment_url"] == invoice["payment_url"]


def test_the_next_page_is_made_on_demand_when_the_gateway_was_away(merchant, sandbox):
    invoice = merchant.invoice(installments={"count": 2})
    reference = merchant.reference(invoice)
    sandbox.xendit.fault("http_503", on="create", times=1)
    sandbox.xendit.pay(reference)
    merchant.wait(invoice, "partially_paid")
    eventually(lambda: merchant.get(invoice, "/payments")["payments"][-1]["status"] == "unknown")
    answer = merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url")
    assert answer.status_code == 200, answer.text
    assert answer.json()["payment_url"] == merchant.get(invoice)["payment_url"] is not None
