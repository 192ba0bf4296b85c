"""
Every rejection that the product names in money, invoices, payments, installments and currency isolation: its
status, code and pointer.

One row is one sentence of the contract. The hostile tests beside this one try many more ways of breaking each
rule.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from support.waiting import eventually


def after(**delta):
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


LINE = {
    "product_name": "Laptop sleeve",
    "quantity": 3,
    "unit_price": "150000",
    "tax_rate": "0.11",
}  # with the fee 514,550
PRICE, TOTAL, EXPIRY = "#/line_items/0/unit_price", "#/line_items", "#/expires_at"
COUNT, AMOUNTS, DUE = "#/installments/count", "#/installments/amounts", "#/installments/due_dates"


def line(**changes):
    return {"line_items": [LINE | changes]}


def installments(**plan):
    return {"installments": plan}


CREATION = {
    # 2. Money
    "an unknown currency": ({"currency": "XXX"}, "invalid_currency", ["#/currency"]),
    "more decimals than the currency has": (line(unit_price="150000.5"), "invalid_request", [PRICE]),
    "a trailing zero too many": (line(unit_price="150000.0"), "invalid_request", [PRICE]),
    "not a number": (line(unit_price="NaN"), "invalid_request", [PRICE]),
    "infinity": (line(unit_price="Infinity"), "invalid_request", [PRICE]),
    "an exponent": (line(unit_price="15e4"), "invalid_request", [PRICE]),
    "a negative amount": (line(unit_price="-150000"), "invalid_request", [PRICE]),
    "a price of zero": (line(unit_price="0"), "invalid_request", [PRICE]),
    "a JSON number that is not exact": (line(unit_price=0.1), "invalid_request", [PRICE]),
    "a product over the BIGINT range": (
        line(unit_price=str(2**62)),
        "invalid_request",
        ["#/line_items/0/quantity"],
    ),
    "a sum over the BIGINT range": (
        {"line_items": [LINE | {"quantity": 1, "unit_price": str(2**62)}] * 2},
        "invalid_request",
        [TOTAL],
    ),
    # 3. Invoices
    "an unknown gateway account": ({"gateway_id": str(uuid4())}, "invalid_request", ["#/gateway_id"]),
    "a currency the gateway account lacks": (
        {"currency": "PHP"} | line(unit_price="1.00"),
        "invalid_currency",
        ["#/currency"],
    ),
    "an unknown country of a line": (
        line(country_code="XX"),
        "invalid_request",
        ["#/line_items/0/country_code"],
    ),
    "an unknown country of the customer": (
        {"customer": {"country": "XX"}},
        "invalid_request",
        ["#/customer/country"],
    ),
    "no lines": ({"line_items": []}, "invalid_request", [TOTAL]),
    "a quantity below one": (line(quantity=0), "invalid_request", ["#/line_items/0/quantity"]),
    "a quantity that is no integer": (line(quantity=1.5), "invalid_request", ["#/line_items/0/quantity"]),
    "a product without a name": (line(product_name=""), "invalid_request", ["#/line_items/0/product_name"]),
    "a product name over 255 characters": (
        line(product_name="x" * 256),
        "invalid_request",
        ["#/line_items/0/product_name"],
    ),
    "a tax rate above one": (line(tax_rate="1.0001"), "invalid_request", ["#/line_items/0/tax_rate"]),
    "a tax rate with five decimals": (
        line(tax_rate="0.11111"),
        "invalid_request",
        ["#/line_items/0/tax_rate"],
    ),
    "an external_id over 255 characters": ({"external_id": "x" * 256}, "invalid_request", ["#/external_id"]),
    "metadata of 51 keys": (
        {"metadata": {str(n): "x" for n in range(51)}},
        "invalid_request",
        ["#/metadata"],
    ),
    "an expiry in less than an hour": ({"expires_at": after(minutes=59)}, "invalid_request", [EXPIRY]),
    "an expiry in more than 30 days": ({"expires_at": after(days=31)}, "invalid_request", [EXPIRY]),
    "an expiry before the last due date": (
        {"expires_at": after(days=59)} | installments(count=2),
        "invalid_request",
        [EXPIRY],
    ),
    "an expiry over 30 days after the last due date": (
        {"expires_at": after(days=91)} | installments(count=2),
        "invalid_request",
        [EXPIRY],
    ),
    "an unknown field": ({"total_amount": "1"}, "invalid_request", ["#/total_amount"]),
    "a total above what the gateway takes": (
        line(unit_price="50000000001", quantity=1),
        "invalid_request",
        [TOTAL],
    ),
    # 5. Installments
    "one installment": (installments(count=1), "invalid_request", [COUNT]),
    "thirteen installments": (installments(count=13), "invalid_request", [COUNT]),
    "count and amounts": (
        installments(count=2, amounts=["257275", "257275"]),
        "invalid_request",
        ["#/installments"],
    ),
    "neither count nor amounts": (installments(), "invalid_request", ["#/installments"]),
    "amounts below the total": (installments(amounts=["257275", "257274"]), "invalid_request", [AMOUNTS]),
    "amounts above the total": (installments(amounts=["257275", "257276"]), "invalid_request", [AMOUNTS]),
    "an installment of nothing": (installments(amounts=["514550", "0"]), "invalid_request", [f"{AMOUNTS}/1"]),
    "due dates that do not ascend": (
        installments(count=2, due_dates=[after(days=2), after(days=1)]),
        "invalid_request",
        [DUE],
    ),
    "a due date in the past": (
        installments(count=2, due_dates=[after(days=-1), after(days=1)]),
        "invalid_request",
        [DUE],
    ),
    "as many due dates as there are no parts": (
        installments(count=2, due_dates=[after(days=1)] * 3),
        "invalid_request",
        [DUE],
    ),
    "more parts than minor units": (
        {"currency": "MYR"} | line(quantity=1, unit_price="0.05", tax_rate="0") | installments(count=6),
        "invalid_request",
        [COUNT],
    ),
    "a part below what the gateway takes": (
        {"currency": "MYR"} | line(quantity=1, unit_price="2.99", tax_rate="0") | installments(count=3),
        "invalid_request",
        [COUNT],
    ),
}


@pytest.mark.parametrize("change", CREATION)
def test_an_invoice_is_refused_for(shop, problem, nothing_written, change):
    body, code, pointers = CREATION[change]
    problem(shop.api.post("/invoices", json=shop.body() | body), 400, code, pointers)


def test_an_invoice_is_refused_for_another_tenants_gateway_account(shop, make_merchant, problem):
    body = shop.body() | {"gateway_id": make_merchant().xendit_id}
    problem(shop.api.post("/invoices", json=body), 400, "invalid_request", ["#/gateway_id"])


def test_other_content_under_a_known_external_id_is_refused(seller, problem):
    invoice = seller.invoice(external_id=str(uuid4()))
    body = seller.body(external_id=invoice["external_id"], description="another")
    problem(seller.api.post("/invoices", json=body), 409, "external_id_conflict")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("http_400", 502, "gateway_rejected"), ("reset_after", 504, "gateway_outcome_unknown")],
)
def test_what_the_gateway_does_not_open_stays_a_draft(seller, sandbox, problem, fault, status, code):
    sandbox.xendit.fault(fault, on="create", times=1)
    body = seller.body(external_id=str(uuid4()))
    problem(seller.api.post("/invoices", json=body), status, code)
    (invoice,) = seller.api.get("/invoices", params={"external_id": body["external_id"]}).json()["invoices"]
    assert (invoice["status"], invoice["payment_initiated_at"]) == ("draft", None)


def post(merchant, invoice, path, **request):
    return merchant.api.post(f"/invoices/{invoice['invoice_id']}/{path}", **request)


def adjust(merchant, invoice, *given):
    body = {"installments": [{"number": number, "amount": amount} for number, amount in given]}
    return merchant.api.patch(f"/invoices/{invoice['invoice_id']}/installments", json=body)


@pytest.fixture
def paid(seller, sandbox):
    invoice = seller.invoice()
    sandbox.xendit.pay(seller.reference(invoice))
    return seller.wait(invoice, "paid")


@pytest.fixture
def half_paid(seller, sandbox):
    """Parts of 257,275: the first is paid."""
    invoice = seller.invoice(installments={"count": 2})
    sandbox.xendit.pay(seller.reference(invoice))
    return seller.wait(invoice, "partially_paid")


def test_a_paid_invoice_takes_no_other_payment_page_and_no_cancellation(seller, problem, paid):
    problem(post(seller, paid, "payment-url"), 409, "nothing_due")
    problem(post(seller, paid, "cancel"), 409, "illegal_transition")
    problem(adjust(seller, paid, (1, "1")), 409, "schedule_closed")


def test_a_cancelled_invoice_has_no_payment_page(seller, problem):
    invoice = seller.invoice()
    assert post(seller, invoice, "cancel").json()["status"] == "cancelled"
    problem(post(seller, invoice, "payment-url"), 409, "nothing_due")
    problem(adjust(seller, invoice, (1, "514550")), 409, "schedule_closed")


def test_an_installment_out_of_turn_is_refused(seller, problem):
    invoice = seller.invoice(installments={"count": 3})
    problem(
        post(seller, invoice, "payment-url", params={"installment": 2}), 409, "installment_out_of_sequence"
    )
    problem(post(seller, invoice, "payment-url", params={"installment": 13}), 400, "invalid_request")


def test_a_paid_installment_keeps_its_amount(seller, problem, half_paid):
    problem(adjust(seller, half_paid, (1, "257274")), 409, "installment_paid")


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ([(2, "257274")], "#/installments"),
        ([(2, "257276")], "#/installments"),
        ([(2, "0")], "#/installments/0/amount"),
        ([(2, "257275.5")], "#/installments/0/amount"),
        ([(3, "1")], "#/installments/0/number"),
        ([(2, "1"), (2, "257274")], "#/installments/1/number"),
    ],
)
def test_unpaid_amounts_sum_to_what_remains(seller, problem, half_paid, given, pointer):
    told = problem(adjust(seller, half_paid, *given), 400, "invalid_request")
    assert pointer in [error["pointer"] for error in told["errors"]]


def test_an_amount_below_what_was_credited_is_refused(seller, sandbox, problem):
    invoice = seller.invoice(installments={"count": 2})
    sandbox.xendit.pay(seller.reference(invoice), amount="100000")
    seller.wait(invoice, "partially_paid")
    eventually(lambda: seller.reference(invoice).endswith("-1-2x") and seller.get(invoice)["payment_url"])
    problem(adjust(seller, invoice, (1, "99999")), 400, "invalid_request", ["#/installments/0/amount"])


def test_a_rest_that_the_gateway_takes_in_no_payment_has_no_page(seller, sandbox, problem):
    invoice = seller.invoice(currency="MYR")
    assert invoice["total_amount"] == "66.57"
    sandbox.xendit.pay(seller.reference(invoice), amount="65.58")
    seller.wait(invoice, "partially_paid")
    told = problem(post(seller, invoice, "payment-url"), 409, "amount_not_collectable")
    assert "0.99 MYR is below 1.00 MYR" in told["detail"]


@pytest.mark.parametrize("path", ["", "/payments", "/installments", "/overpayment", "/timeline"])
def test_another_tenants_invoice_is_not_there(seller, make_merchant, problem, path):
    invoice = make_merchant().invoice()
    problem(seller.api.get(f"/invoices/{invoice['invoice_id']}{path}"), 404, "not_found")


@pytest.mark.parametrize("path", ["payment-url", "cancel"])
def test_nothing_is_done_to_another_tenants_invoice(seller, make_merchant, problem, path):
    other = make_merchant()
    invoice = other.invoice()
    problem(post(seller, invoice, path), 404, "not_found")
    problem(adjust(seller, invoice, (1, "514550")), 404, "not_found")
    assert other.get(invoice)["status"] == "pending"


def test_money_in_another_currency_is_kept_as_failed_and_applied_to_nothing(seller, sandbox, database):
    invoice = seller.invoice(currency="MYR")
    reference = seller.reference(invoice)
    sandbox.xendit.pay(reference, currency="USD")
    failed = "SELECT error_code FROM webhooks WHERE reference = $1 AND status = 'failed'"
    eventually(lambda: database.rows(failed, reference))
    assert database.value(failed, reference) == "currency_mismatch"
    told = seller.get(invoice, "/overpayment")
    assert (told["total_paid"], told["overpayment_amount"]) == ("0.00", "0.00")
    assert seller.get(invoice)["status"] == "pending"
