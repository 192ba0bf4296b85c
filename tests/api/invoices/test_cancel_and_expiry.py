"""
The end of an invoice that is not paid: cancelled on request, or expired when its time is up. Paid always
wins.
"""

from __future__ import annotations

import threading
import time

import pytest
from support.waiting import eventually


def cancel(merchant, invoice):
    return merchant.api.post(f"/invoices/{invoice['invoice_id']}/cancel")


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_a_cancelled_invoice_is_not_payable_at_the_gateway_any_more(merchant, sandbox, gateway, payable):
    invoice = merchant.invoice(gateway)
    assert payable(getattr(sandbox, gateway)) == 1
    answer = cancel(merchant, invoice)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled"), answer.text
    assert merchant.get(invoice)["payment_url"] is None
    assert merchant.get(invoice, "/payments")["payments"][0]["status"] == "expired"
    assert payable(getattr(sandbox, gateway)) == 0
    assert cancel(merchant, invoice).status_code == 200, "cancelling twice is harmless"


def test_a_paid_invoice_cannot_be_cancelled(merchant, sandbox):
    invoice = merchant.invoice()
    sandbox.xendit.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")
    answer = cancel(merchant, invoice)
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_an_invoice_paid_before_we_heard_of_it_is_paid_and_not_cancelled(merchant, sandbox, gateway):
    far = getattr(sandbox, gateway)
    invoice = merchant.invoice(gateway)
    far.hold_webhooks()
    far.pay(merchant.reference(invoice))
    assert cancel(merchant, invoice).status_code == 409
    assert merchant.get(invoice)["status"] == "paid"


def test_money_for_a_cancelled_invoice_is_kept_as_overpayment(merchant, sandbox):
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    assert cancel(merchant, invoice).status_code == 200
    sandbox.xendit.pay_late(reference)
    eventually(lambda: merchant.get(invoice, "/overpayment")["overpayment_amount"] == "514550")
    assert merchant.get(invoice)["status"] == "cancelled"


def test_cancelling_while_the_gateway_is_away_changes_nothing(merchant, sandbox):
    invoice = merchant.invoice()
    sandbox.go_down("xendit")
    try:
        assert cancel(merchant, invoice).json()["code"] == "gateway_unavailable"
    finally:
        sandbox.come_back("xendit")
    assert merchant.get(invoice)["status"] == "pending"
    assert cancel(merchant, invoice).json()["status"] == "cancelled"


def test_a_draft_that_the_gateway_refused_can_be_cancelled(merchant, sandbox):
    sandbox.xendit.fault("http_400", on="create", times=1)
    body = merchant.body(external_id="refused")
    assert merchant.api.post("/invoices", json=body).status_code == 502
    (invoice,) = merchant.api.get("/invoices", params={"external_id": "refused"}).json()["invoices"]
    assert cancel(merchant, invoice).json()["status"] == "cancelled"


def test_another_tenants_invoice_cannot_be_cancelled(merchant, make_merchant):
    invoice = merchant.invoice()
    assert cancel(make_merchant("Other"), invoice).status_code == 404
    assert merchant.get(invoice)["status"] == "pending"


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_an_invoice_whose_time_is_up_expires_here_and_at_the_gateway(
    merchant, sandbox, let_time_pass, gateway, payable
):
    invoice = merchant.invoice(gateway)
    let_time_pass(invoice)
    eventually(lambda: merchant.get(invoice)["status"] == "expired", timeout_s=20)
    assert payable(getattr(sandbox, gateway)) == 0
    assert merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url").json()["code"] == "nothing_due"


def test_paid_beats_expired(merchant, sandbox, let_time_pass):
    invoice = merchant.invoice()
    sandbox.xendit.hold_webhooks()
    sandbox.xendit.pay(merchant.reference(invoice))
    let_time_pass(invoice)
    eventually(lambda: merchant.get(invoice)["status"] == "paid", timeout_s=20)


def test_money_that_comes_after_the_expiry_is_applied(merchant, sandbox, let_time_pass):
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    let_time_pass(invoice)
    eventually(lambda: merchant.get(invoice)["status"] == "expired", timeout_s=20)
    sandbox.xendit.pay_late(reference)
    merchant.wait(invoice, "paid")


SLOW_S = 0.8
"""What the gateway takes to answer that it made a page: within it everything else may happen."""


def while_the_gateway_is_slow(act):
    """The answers of *act*, started a while before this returns."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()
    time.sleep(SLOW_S / 4)
    return thread, answers


def test_cancelling_while_the_next_page_is_made_is_refused(merchant, sandbox, payable):
    """
    While the cancel asks about the first installment's page, that is paid, and the page of the second is being
    made: it is none of those that the cancel has closed.
    """
    far = sandbox.xendit
    invoice = merchant.invoice(installments={"count": 3})
    reference = merchant.reference(invoice)
    far.fault("late_answer", on="list", times=1, seconds=SLOW_S)
    far.fault("late_answer", on="create", times=1, seconds=SLOW_S)
    cancelling, answers = while_the_gateway_is_slow(lambda: cancel(merchant, invoice))
    far.pay(reference)
    cancelling.join()
    assert (answers[0].status_code, answers[0].json()["code"]) == (409, "payment_in_progress")
    eventually(lambda: merchant.get(invoice)["payment_url"], "the second page is open")
    answer = cancel(merchant, invoice)
    assert (answer.json()["status"], answer.json()["payment_url"], payable(far)) == ("cancelled", None, 0)


def test_a_page_that_comes_after_the_cancel_is_closed(merchant, sandbox, payable, database):
    """
    The process that asked for it was taken for dead: its attempt was closed and the invoice cancelled before the
    gateway answered.
    """
    far = sandbox.xendit
    invoice = merchant.invoice()
    far.expire(merchant.reference(invoice))
    eventually(lambda: merchant.get(invoice)["payment_url"] is None)
    far.fault("late_answer", on="create", seconds=SLOW_S)
    asking, answers = while_the_gateway_is_slow(
        lambda: merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url")
    )
    database.rows(
        "UPDATE payments SET status = 'expired' WHERE status = 'creating' AND invoice_id = $1",
        invoice["invoice_id"],
    )
    assert cancel(merchant, invoice).json()["status"] == "cancelled"
    asking.join()
    assert (answers[0].status_code, answers[0].json()["code"]) == (409, "nothing_due"), answers[0].text
    assert payable(far) == 0
