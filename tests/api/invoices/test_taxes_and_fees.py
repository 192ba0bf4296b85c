"""Tax rules and fee schedules, through the API."""

from __future__ import annotations

import pytest


def line(**changes):
    return {"product_name": "Laptop sleeve", "quantity": 3, "unit_price": "150000", **changes}


def test_a_line_without_a_rate_gets_the_rate_of_its_countrys_rule_and_keeps_the_reason(merchant):
    invoice = merchant.invoice(line_items=[line(country_code="ID")])
    (made,) = invoice["line_items"]
    assert (made["tax_rate"], made["tax_amount"]) == ("0.11", "49500")
    assert made["tax_basis"]["rule"] == "tax-id"
    assert "11/12" in made["tax_basis"]["reason"]
    assert merchant.get(invoice)["line_items"] == [made]


def test_the_merchants_own_rate_wins_even_when_it_is_zero(merchant):
    invoice = merchant.invoice(
        line_items=[line(country_code="ID", tax_rate="0"), line(country_code="ID", tax_rate="0.05")]
    )
    assert [made["tax_rate"] for made in invoice["line_items"]] == ["0", "0.05"]
    assert [made["tax_basis"] for made in invoice["line_items"]] == [None, None]


def test_the_customers_country_counts_where_the_line_names_none(merchant):
    invoice = merchant.invoice(line_items=[line()], customer={"country": "ID"})
    assert invoice["line_items"][0]["tax_rate"] == "0.11"


@pytest.mark.parametrize(
    "changes", [{}, {"country_code": "SG"}, {"country_code": "ID", "tax_category": "no-such-category"}]
)
def test_where_no_rule_answers_the_rate_is_zero(merchant, changes):
    (made,) = merchant.invoice(line_items=[line(**changes)])["line_items"]
    assert (made["tax_rate"], made["tax_amount"], made["tax_basis"]) == ("0", "0", None)


def test_a_repeat_finds_its_invoice_although_its_rates_came_from_a_rule(merchant):
    body = merchant.body(line_items=[line(country_code="ID")], external_id="taxed")
    first, again = merchant.api.post("/invoices", json=body), merchant.api.post("/invoices", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["invoice_id"] == again.json()["invoice_id"]


@pytest.mark.parametrize(
    ("fee", "expected"),
    [
        ({"percentage": "0.029", "fixed": "2000"}, "15050"),
        ({"percentage": "0.000001"}, "0"),
        ({"percentage": "0.0000011111"}, None),
        ({"percentage": "0.029", "minimum": "20000"}, "20000"),
        ({"percentage": "0.029", "fixed": "2000", "cap": "9999"}, "9999"),
        ({"fixed": "5000", "minimum": "1", "cap": "5000"}, "5000"),
        ({"minimum": "2", "cap": "1"}, None),
        ({"fixed": "0.5"}, None),
        ({"fixed": "-1"}, None),
    ],
)
def test_a_fee_schedule_is_percentage_and_fixed_within_its_bounds(merchant, fee, expected):
    changed = merchant.admin.patch(
        f"/gateway-accounts/{merchant.xendit_id}", json={"currencies": {"IDR": fee}}
    )
    assert changed.status_code == (400 if expected is None else 200), changed.text
    if expected is not None:
        assert merchant.invoice()["total_service_fee_amount"] == expected


def test_an_invoice_keeps_the_fee_it_was_made_with(merchant):
    invoice = merchant.invoice()
    merchant.admin.patch(
        f"/gateway-accounts/{merchant.xendit_id}", json={"currencies": {"IDR": {"percentage": "0.5"}}}
    )
    assert merchant.get(invoice)["total_service_fee_amount"] == "15050"
