"""More to pay for an invoice: another one, with the same gateway account and currency."""

from __future__ import annotations

import pytest

MORE = {
    "line_items": [{"product_name": "Delivery", "quantity": 1, "unit_price": "50000", "tax_rate": "0.11"}]
}


def supplement(merchant, invoice, **changes):
    return merchant.api.post(f"/invoices/{invoice['invoice_id']}/supplementary", json=MORE | changes)


def test_it_inherits_account_currency_and_customer_and_has_its_own_lines_schedule_and_page(merchant):
    original = merchant.invoice(customer={"name": "Siti"})
    answer = supplement(merchant, original, installments={"count": 2}, external_id="more")
    assert answer.status_code == 201, answer.text
    more = answer.json()
    assert more["original_invoice_id"] == original["invoice_id"]
    assert all(more[field] == original[field] for field in ("gateway_id", "currency", "customer"))
    assert (more["subtotal_amount"], more["total_tax_amount"], more["status"]) == ("50000", "5500", "pending")
    assert len(more["installment_schedule"]) == 2
    assert more["payment_url"] not in {None, original["payment_url"]}
    listed = merchant.api.get("/invoices", params={"original_invoice_id": original["invoice_id"]}).json()[
        "invoices"
    ]
    assert [invoice["invoice_id"] for invoice in listed] == [more["invoice_id"]]


def test_it_is_paid_by_itself_and_leaves_the_original_as_it_is(merchant, sandbox):
    original = merchant.invoice()
    more = supplement(merchant, original).json()
    sandbox.xendit.pay(merchant.reference(more))
    merchant.wait(more, "paid")
    assert merchant.get(original)["status"] == "pending"


def test_a_paid_invoice_can_be_supplemented(merchant, sandbox):
    original = merchant.invoice()
    sandbox.xendit.pay(merchant.reference(original))
    merchant.wait(original, "paid")
    assert supplement(merchant, original).status_code == 201


def test_a_supplementary_invoice_cannot_be_supplemented(merchant, problem):
    more = supplement(merchant, merchant.invoice()).json()
    told = problem(supplement(merchant, more), 400, "not_supplementable")
    assert "is itself supplementary" in told["detail"]


def test_an_invoice_that_is_over_cannot_be_supplemented_and_the_answer_says_its_status(
    merchant, sandbox, problem
):
    original = merchant.invoice()
    merchant.api.post(f"/invoices/{original['invoice_id']}/cancel")
    assert "is cancelled" in problem(supplement(merchant, original), 400, "not_supplementable")["detail"]


def test_a_draft_cannot_be_supplemented(merchant, sandbox, problem):
    sandbox.xendit.fault("http_400", on="create", times=1)
    refused = merchant.api.post("/invoices", json=merchant.body(external_id="draft"))
    assert refused.status_code == 502, refused.text
    draft = merchant.api.get("/invoices", params={"external_id": "draft"}).json()["invoices"][0]
    assert "is draft" in problem(supplement(merchant, draft), 400, "not_supplementable")["detail"]


def test_a_repeat_is_the_same_supplementary_invoice(
    merchant,
):
    """A repeat with the same external_id gets the same invoice, even when it would be refused by now."""
    original = merchant.invoice()
    first = supplement(merchant, original, external_id="delivery")
    assert (
        supplement(merchant, original, external_id="delivery").json()["invoice_id"]
        == first.json()["invoice_id"]
    )
    merchant.api.post(f"/invoices/{original['invoice_id']}/cancel")
    repeated = supplement(merchant, original, external_id="delivery")
    assert (repeated.status_code, repeated.json()["invoice_id"]) == (200, first.json()["invoice_id"])


def test_the_same_external_id_for_another_original_is_a_conflict(merchant, problem):
    supplement(merchant, merchant.invoice(), external_id="delivery")
    problem(supplement(merchant, merchant.invoice(), external_id="delivery"), 409, "external_id_conflict")


@pytest.mark.parametrize("field", ["gateway_id", "currency", "original_invoice_id"])
def test_what_is_inherited_cannot_be_given(merchant, problem, field):
    problem(
        supplement(merchant, merchant.invoice(), **{field: "IDR"}), 400, "invalid_request", [f"#/{field}"]
    )


def test_another_tenants_invoice_is_not_found(merchant, make_merchant, problem):
    problem(supplement(make_merchant("Other"), merchant.invoice()), 404, "not_found")
