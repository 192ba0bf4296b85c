"""Changing a schedule that is being paid: new amounts for unpaid parts, and nothing else moves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.waiting import eventually

from paytrust.infra.db import Database
from paytrust.reconciliation.service import Proofs


def adjust(merchant, invoice, *amounts, **body):
    changes = [{"number": number, "amount": amount} for number, amount in amounts]
    return merchant.api.patch(
        f"/invoices/{invoice['invoice_id']}/installments", json={"installments": changes, **body}
    )


def column(answer, field="amount"):
    parts = answer["installments"] if isinstance(answer, dict) else answer.json()["installments"]
    return [part[field] for part in parts]


def schedule(merchant, invoice):
    return merchant.get(invoice, "/installments")


def myr(merchant, *amounts, unit_price="100.00"):
    """An invoice in MYR without tax or fee: its total is *unit_price*."""
    line = {"product_name": "Course", "quantity": 1, "unit_price": unit_price, "tax_rate": "0"}
    return merchant.invoice(currency="MYR", line_items=[line], installments={"amounts": list(amounts)})


def pay(merchant, sandbox, invoice, number, amount=None, *, then="partially_paid"):
    """Pay the page of *number*, and wait for the next page."""
    paid = merchant.reference(invoice)
    assert f"-{number}-" in paid
    sandbox.xendit.pay(paid, **({"amount": amount} if amount else {}))
    if then == "partially_paid":
        eventually(lambda: merchant.reference(invoice) != paid and merchant.get(invoice)["payment_url"])
    merchant.wait(invoice, then)


@pytest.fixture
def books_agree(service, merchant):
    yield

    async def verify():
        db = Database(service.database_url.get_secret_value(), size=1)
        await db.open()
        try:
            return await Proofs(db).verify(merchant.tenant_id)
        finally:
            await db.close()

    assert asyncio.run(verify()) == []


pytestmark = pytest.mark.usefixtures("books_agree")


def test_three_installments_in_myr_adjusted_and_overpaid(merchant, sandbox):
    """The second is adjusted after the first is paid, and the last is overpaid by 50."""
    invoice = myr(merchant, "30.00", "30.00", "40.00")
    pay(merchant, sandbox, invoice, 1)
    answer = adjust(merchant, invoice, (2, "50.00"))
    assert answer.status_code == 200, answer.text
    assert column(answer) == ["30.00", "50.00", "20.00"]
    pay(merchant, sandbox, invoice, 2)
    pay(merchant, sandbox, invoice, 3, "70.00", then="paid")
    assert column(schedule(merchant, invoice), "paid_amount") == ["30.00", "50.00", "20.00"]
    told = merchant.get(invoice, "/overpayment")
    assert (told["total_amount"], told["total_paid"], told["overpayment_amount"]) == (
        "100.00",
        "150.00",
        "50.00",
    )


def test_a_page_for_the_old_amount_expires_at_the_gateway_and_is_replaced(merchant, sandbox, payable):
    invoice = myr(merchant, "40.00", "60.00")
    old = invoice["payment_url"]
    answer = adjust(merchant, invoice, (1, "10.00"))
    assert column(answer) == ["10.00", "90.00"]
    new = column(answer, "payment_url")[0]
    assert new not in {None, old}
    assert payable(sandbox.xendit) == 1
    attempts = merchant.get(invoice, "/payments")["payments"]
    assert [(attempt["status"], attempt["amount"]) for attempt in attempts] == [
        ("expired", "40.00"),
        ("open", "10.00"),
    ]


def test_a_page_whose_amount_stays_is_left_alone(merchant):
    invoice = myr(merchant, "40.00", "30.00", "30.00")
    answer = adjust(merchant, invoice, (2, "10.00"), (1, "40.00"))
    assert column(answer) == ["40.00", "10.00", "50.00"]
    assert column(answer, "payment_url")[0] == invoice["payment_url"]
    assert len(merchant.get(invoice, "/payments")["payments"]) == 1


def test_unnamed_unpaid_installments_share_the_rest_equally(merchant):
    """The last one takes what is left of the division."""
    invoice = myr(merchant, "25.00", "25.00", "25.00", "25.00")
    assert column(adjust(merchant, invoice, (1, "1.01"))) == ["1.01", "32.99", "32.99", "33.01"]
    assert column(adjust(merchant, invoice, (1, "1.02"))) == ["1.02", "32.99", "32.99", "33.00"]


def test_tax_and_fee_follow_the_amounts_and_still_sum_to_the_invoice(merchant, sandbox):
    invoice = merchant.invoice(installments={"count": 3})
    pay(merchant, sandbox, invoice, 1)
    before = schedule(merchant, invoice)
    after = adjust(merchant, invoice, (2, "1")).json()
    assert after["installments"][0] | {"payment_url": None} == before["installments"][0] | {
        "payment_url": None
    }
    for field, total in (
        ("tax_amount", "total_tax_amount"),
        ("service_fee_amount", "total_service_fee_amount"),
    ):
        assert sum(map(int, column(after, field))) == int(invoice[total])
    assert column(after)[1] == "1"
    assert all(
        int(p["tax_amount"]) + int(p["service_fee_amount"]) <= int(p["amount"]) for p in after["installments"]
    )


def test_a_part_may_shrink_to_what_was_paid_on_it_and_is_paid_then(merchant, sandbox):
    invoice = myr(merchant, "40.00", "60.00")
    pay(merchant, sandbox, invoice, 1, "15.00")
    answer = adjust(merchant, invoice, (1, "15.00"))
    assert column(answer) == ["15.00", "85.00"]
    assert column(answer, "status") == ["paid", "unpaid"]
    assert column(answer, "paid_at")[0] is not None
    pay(merchant, sandbox, invoice, 2, then="paid")


def test_a_paid_part_keeps_its_amount(merchant, sandbox, problem):
    invoice = myr(merchant, "40.00", "60.00")
    pay(merchant, sandbox, invoice, 1)
    problem(adjust(merchant, invoice, (1, "40.00")), 409, "installment_paid")
    problem(adjust(merchant, invoice, (1, "50.00"), (2, "50.00")), 409, "installment_paid")
    assert column(schedule(merchant, invoice)) == ["40.00", "60.00"]


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ([(4, "10.00")], ["#/installments/0/number"]),
        ([(0, "10.00")], ["#/installments/0/number"]),
        ([(13, "10.00")], ["#/installments/0/number"]),
        ([("1", "10.00")], ["#/installments/0/number"]),
        ([(1, "10.00"), (1, "10.00")], ["#/installments/1/number"]),
        ([(1, "0")], ["#/installments/0/amount"]),
        ([(1, "-1.00")], ["#/installments/0/amount"]),
        ([(1, "1.001")], ["#/installments/0/amount"]),
        ([(1, "1e1")], ["#/installments/0/amount"]),
        ([(1, "NaN")], ["#/installments/0/amount"]),
        ([(1, None)], ["#/installments/0/amount"]),
        ([(1, "9" * 30)], ["#/installments/0/amount"]),
        ([(1, "100.00")], ["#/installments"]),
        ([(1, "99.99")], ["#/installments"]),
        ([(1, "92233720368547758.07")], ["#/installments"]),
        ([(1, "10.00"), (2, "10.00"), (3, "79.99")], ["#/installments"]),
        ([(1, "10.00"), (2, "10.00"), (3, "80.01")], ["#/installments"]),
        ([], ["#/installments"]),
        ([(1, "1.00")] * 13, ["#/installments"]),
        (
            [(9, "x"), (1, "y")],
            ["#/installments/0/amount", "#/installments/0/number", "#/installments/1/amount"],
        ),
    ],
)
def test_a_change_that_breaks_a_rule_is_refused_with_its_pointer_and_nothing_moves(
    merchant, problem, changes, pointers
):
    invoice = myr(merchant, "30.00", "30.00", "40.00")
    problem(adjust(merchant, invoice, *changes), 400, "invalid_request", pointers)
    assert column(schedule(merchant, invoice)) == ["30.00", "30.00", "40.00"]
    assert merchant.get(invoice)["payment_url"] == invoice["payment_url"]


def test_an_amount_below_what_was_paid_on_the_part_is_refused(merchant, sandbox, problem):
    invoice = myr(merchant, "40.00", "30.00", "30.00")
    pay(merchant, sandbox, invoice, 1, "15.00")
    problem(adjust(merchant, invoice, (1, "14.99")), 400, "invalid_request", ["#/installments/0/amount"])
    problem(adjust(merchant, invoice, (2, "80.00")), 400, "invalid_request", ["#/installments"])


def test_an_invoice_that_is_over_has_no_schedule_to_change(merchant, sandbox, problem):
    paid, cancelled = merchant.invoice(), myr(merchant, "40.00", "60.00")
    sandbox.xendit.pay(merchant.reference(paid))
    merchant.wait(paid, "paid")
    assert merchant.api.post(f"/invoices/{cancelled['invoice_id']}/cancel").status_code == 200
    problem(adjust(merchant, paid, (1, "1")), 409, "schedule_closed")
    problem(adjust(merchant, cancelled, (1, "1.00")), 409, "schedule_closed")


def test_an_invoice_paid_at_once_has_one_part_that_keeps_the_total(merchant, problem):
    invoice = merchant.invoice()
    assert adjust(merchant, invoice, (1, invoice["total_amount"])).status_code == 200
    problem(adjust(merchant, invoice, (1, "1")), 400, "invalid_request", ["#/installments"])


def test_what_was_paid_just_before_the_page_closed_counts_and_the_change_is_refused(
    merchant, sandbox, problem
):
    invoice = myr(merchant, "40.00", "60.00")
    sandbox.xendit.fault("lost", on="webhook")
    sandbox.xendit.pay(merchant.reference(invoice))
    problem(adjust(merchant, invoice, (1, "10.00")), 409, "installment_paid")
    found = merchant.get(invoice)
    assert found["status"] == "partially_paid"
    assert "-2-1x" in merchant.reference(invoice), "the page of the next part is made all the same"


def test_while_the_gateway_is_away_the_schedule_stays_as_it_is(merchant, sandbox, problem):
    invoice = myr(merchant, "40.00", "60.00")
    sandbox.xendit.fault("http_503", on="list", times=1)
    problem(adjust(merchant, invoice, (1, "10.00")), 503, "gateway_unavailable")
    assert column(schedule(merchant, invoice)) == ["40.00", "60.00"]
    assert column(adjust(merchant, invoice, (1, "10.00"))) == ["10.00", "90.00"]


def test_rival_changes_end_in_one_of_them_with_one_page(merchant, sandbox, payable):
    invoice = myr(merchant, "40.00", "60.00")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: adjust(merchant, invoice, (1, f"{n}.00")), range(11, 19)))
    assert {answer.status_code for answer in answers} <= {200, 409}, [answer.text for answer in answers]
    final = schedule(merchant, invoice)
    assert sum(float(amount) for amount in column(final)) == 100
    if column(final, "payment_url")[0] is None:  # the last one to ask met another that was still at it
        merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url")
    assert payable(sandbox.xendit) == 1
    assert (
        merchant.get(invoice, "/payments")["payments"][-1]["amount"] == column(schedule(merchant, invoice))[0]
    )


def test_another_tenants_schedule_is_not_found(merchant, make_merchant, problem):
    invoice = myr(merchant, "40.00", "60.00")
    problem(adjust(make_merchant("Other"), invoice, (1, "10.00")), 404, "not_found")


def test_late_money_on_an_old_page_closes_the_page_for_the_old_amount(merchant, sandbox, payable):
    invoice = myr(merchant, "40.00", "60.00")
    old = merchant.reference(invoice)
    adjust(merchant, invoice, (1, "50.00"))
    sandbox.xendit.pay(old, amount="20.00")
    merchant.wait(invoice, "partially_paid")
    eventually(lambda: merchant.reference(invoice).endswith("-1-3x") and merchant.get(invoice)["payment_url"])
    assert payable(sandbox.xendit) == 1
    assert merchant.get(invoice, "/payments")["payments"][-1]["amount"] == "30.00"


def test_late_money_that_pays_everything_leaves_nothing_payable(merchant, sandbox, payable):
    invoice = myr(merchant, "40.00", "60.00")
    old = merchant.reference(invoice)
    adjust(merchant, invoice, (1, "50.00"))
    sandbox.xendit.pay(old, amount="100.00")
    merchant.wait(invoice, "paid")
    eventually(lambda: payable(sandbox.xendit) == 0)
