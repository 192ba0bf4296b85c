"""
What became of a payment that we do not know about: the gateway is asked, what was paid counts, and at most
one page stays payable.

So when a page is asked for again, when an invoice is cancelled, and when its time is up.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.waiting import eventually


@pytest.fixture
def far(merchant, sandbox):
    """Xendit, which takes several invoices with one reference. It says nothing by itself: we have to ask."""
    sandbox.xendit.fault("lost", on="webhook")
    return sandbox.xendit


@pytest.fixture
def lost(merchant, far, problem):
    """An invoice whose payment exists at the gateway, though its answer never came."""
    far.fault("reset_after", on="create", times=1)
    problem(
        merchant.api.post("/invoices", json=merchant.body(external_id="lost")), 504, "gateway_outcome_unknown"
    )
    return by_external_id(merchant, "lost")


@pytest.fixture
def twin(far, outside):
    """Make another payment with the reference of the first, as a repeated request does."""

    def make():
        first = far.payments[0]
        body = {"external_id": first.reference, "amount": int(first.amount), "currency": "IDR"}
        answer = outside.post(f"{far.url}/v2/invoices", auth=(far.key, ""), json=body)
        answer.raise_for_status()
        return answer.json()["id"]

    return make


def by_external_id(merchant, external_id):
    [invoice] = merchant.api.get("/invoices", params={"external_id": external_id}).json()["invoices"]
    return invoice


def ask_for_page(merchant, invoice):
    return merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url")


def cancel(merchant, invoice):
    return merchant.api.post(f"/invoices/{invoice['invoice_id']}/cancel")


def attempts(merchant, invoice):
    return [payment["status"] for payment in merchant.get(invoice, "/payments")["payments"]]


def wait_for_request(merchant, far, operation):
    eventually(lambda: any(request.operation == operation for request in far.requests))


# --- asked for again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paid", [0, 1, 2])
def test_of_several_the_paid_one_counts_and_the_others_are_closed(merchant, far, lost, twin, payable, paid):
    ids = [far.payments[0].id, twin(), twin()]
    far.pay(ids[paid])
    assert ask_for_page(merchant, lost).json()["payment_url"] is None
    assert merchant.get(lost)["status"] == "paid"
    assert payable(far) == 0, "who has paid must not be able to pay again"
    assert merchant.get(lost, "/overpayment")["overpayment_amount"] == "0"
    assert attempts(merchant, lost) == ["paid"]


def test_what_was_paid_twice_is_in_the_books_twice(merchant, far, lost, twin):
    for payment_id in (far.payments[0].id, twin()):
        far.pay(payment_id)
    assert ask_for_page(merchant, lost).status_code == 200
    assert merchant.get(lost)["status"] == "paid"
    told = merchant.get(lost, "/overpayment")
    assert (told["total_paid"], told["overpayment_amount"]) == ("1029100", "514550")


def test_while_a_surplus_payment_cannot_be_closed_no_page_is_shown(
    merchant, far, lost, twin, problem, payable
):
    twin()
    far.fault("http_400", on="expire", times=1)
    problem(ask_for_page(merchant, lost), 502, "gateway_rejected")
    assert (merchant.get(lost)["payment_url"], attempts(merchant, lost)) == (None, ["unknown"])
    assert ask_for_page(merchant, lost).json()["payment_url"] == far.payments[0].page_url
    assert payable(far) == 1


def test_a_payment_that_ended_before_we_knew_of_it_is_followed_by_a_new_one(
    merchant, far, lost, problem, payable
):
    far.expire(far.payments[0].id)
    problem(ask_for_page(merchant, lost), 409, "payment_in_progress")
    assert attempts(merchant, lost) == ["expired"]
    answer = ask_for_page(merchant, lost)
    assert (answer.status_code, answer.json()["payment_url"]) == (200, far.payments[1].page_url), answer.text
    assert attempts(merchant, lost) == ["expired", "open"]
    assert payable(far) == 1


# --- cancelled -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_an_invoice_of_unknown_outcome_can_be_cancelled_and_nothing_stays_payable(
    merchant, far, payable, fault
):
    far.fault(fault, on="create", times=1)
    assert merchant.api.post("/invoices", json=merchant.body(external_id="x")).status_code == 504
    invoice = by_external_id(merchant, "x")
    assert cancel(merchant, invoice).json()["status"] == "cancelled"
    assert (attempts(merchant, invoice), payable(far)) == (["expired"], 0)


def test_an_invoice_whose_payment_is_being_opened_is_not_cancelled_underneath(
    merchant, far, problem, payable
):
    far.settings(latency_s=1.0)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(merchant.api.post, "/invoices", json=merchant.body(external_id="slow"))
        wait_for_request(merchant, far, "create")
        problem(cancel(merchant, by_external_id(merchant, "slow")), 409, "payment_in_progress")
        assert opening.result().status_code == 201
    assert by_external_id(merchant, "slow")["status"] == "pending"
    assert payable(far) == 1


def test_who_pays_while_we_cancel_has_paid(merchant, far):
    invoice = merchant.invoice()
    far.settings(latency_s=1.0)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(cancel, merchant, invoice)
        wait_for_request(merchant, far, "expire")  # we have looked: it was not paid
        far.pay(merchant.reference(invoice))
        assert (answer.result().status_code, answer.result().json()["code"]) == (409, "illegal_transition")
    assert merchant.get(invoice)["status"] == "paid"
    assert merchant.get(invoice, "/overpayment")["total_paid"] == "514550"


@pytest.mark.parametrize("paid", [0, 1])
def test_who_paid_one_of_several_pages_has_paid_and_the_other_is_closed(merchant, far, twin, payable, paid):
    invoice = merchant.invoice()
    ids = [far.payments[0].id, twin()]
    far.pay(ids[paid])
    assert cancel(merchant, invoice).json()["code"] == "illegal_transition"
    assert (merchant.get(invoice)["status"], payable(far)) == ("paid", 0)


def test_an_invoice_whose_page_the_gateway_does_not_close_is_not_cancelled(merchant, far, problem, payable):
    invoice = merchant.invoice()
    far.fault("http_400", on="expire", times=1)
    problem(cancel(merchant, invoice), 502, "gateway_rejected")
    assert (merchant.get(invoice)["status"], payable(far)) == ("pending", 1)
    assert cancel(merchant, invoice).json()["status"] == "cancelled"
    assert payable(far) == 0


CLOSES = {"xendit": "expire", "midtrans": "cancel_token"}


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
@pytest.mark.parametrize("gateway", CLOSES)
def test_a_page_that_may_have_been_closed_is_not_shown_again_before_the_gateway_was_asked(
    outside, merchant, sandbox, problem, payable, gateway, fault
):
    invoice, far = merchant.invoice(gateway), getattr(sandbox, gateway)
    far.fault("lost", on="webhook")
    far.fault(fault, on=CLOSES[gateway], times=1)
    problem(cancel(merchant, invoice), 504, "gateway_outcome_unknown")
    assert (merchant.get(invoice)["status"], merchant.get(invoice)["payment_url"]) == ("pending", None)
    eventually(lambda: ask_for_page(merchant, invoice).status_code == 200)
    assert payable(far) == 1
    assert 'value="pay"' in outside.get(merchant.get(invoice)["payment_url"]).text
    far.pay(merchant.reference(invoice))
    assert cancel(merchant, invoice).json()["code"] == "illegal_transition"
    assert merchant.get(invoice)["status"] == "paid"


def test_a_page_for_an_old_amount_that_may_have_been_closed_is_never_adopted(merchant, sandbox, payable):
    far, invoice = sandbox.xendit, merchant.invoice()
    first = merchant.reference(invoice)
    far.expire(first)
    eventually(lambda: attempts(merchant, invoice) == ["expired"])
    assert ask_for_page(merchant, invoice).status_code == 200
    far.fault("reset_before", on="expire", times=1)
    far.pay(first, amount="100000")
    eventually(lambda: attempts(merchant, invoice) == ["paid", "unknown"])
    eventually(lambda: ask_for_page(merchant, invoice).status_code == 200)
    [page] = [payment for payment in far.payments if payment.status == "PENDING"]
    assert (page.amount, page.page_url) == ("414550", merchant.get(invoice)["payment_url"])


# --- paid in another currency ------------------------------------------------------------------------------------------------


@pytest.fixture
def mismatched(merchant, far):
    """An invoice in IDR whose page was paid in USD. We have not heard of it."""
    invoice = merchant.invoice()
    far.pay(far.payments[0].id, currency="USD")
    return invoice


def test_what_was_paid_in_another_currency_does_not_keep_an_invoice_from_being_cancelled(
    merchant, mismatched
):
    answer = cancel(merchant, mismatched)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled"), answer.text
    assert merchant.get(mismatched, "/overpayment")["total_paid"] == "0"
    assert "payment_refused" in [
        moment["event"] for moment in merchant.get(mismatched, "/timeline")["timeline"]
    ]


def test_what_was_paid_in_another_currency_does_not_keep_an_invoice_from_expiring(
    merchant, mismatched, let_time_pass
):
    let_time_pass(mismatched)
    merchant.wait(mismatched, "expired")


def test_after_a_payment_in_another_currency_there_is_a_new_page(merchant, sandbox, payable):
    invoice = merchant.invoice()
    sandbox.xendit.pay(merchant.reference(invoice), currency="USD")
    eventually(lambda: attempts(merchant, invoice) == ["expired"])
    answer = ask_for_page(merchant, invoice)
    assert answer.status_code == 200, answer.text
    assert answer.json()["payment_url"] != invoice["payment_url"]
    assert payable(sandbox.xendit) == 1


def test_a_payment_in_another_currency_does_not_keep_its_twin_from_being_applied(
    merchant, sandbox, far, twin
):
    invoice = merchant.invoice()
    other = twin()
    far.pay(far.payments[0].id, currency="USD")
    far.clear_faults()
    far.pay(other)
    merchant.wait(invoice, "paid")


# --- its time is up --------------------------------------------------------------------------------------------------------


@pytest.fixture
def looked_after(merchant, database):
    """Wait until the worker has looked after an invoice; gives when it will look again, None for never."""

    def wait(invoice):
        query = "SELECT next_check_at FROM payments WHERE invoice_id = $1 ORDER BY attempt"
        due = (
            f"SELECT EXISTS ({query.partition(' ORDER')[0]} AND next_check_at <= now() + interval '1 minute')"
        )
        eventually(lambda: not database.value(due, invoice["invoice_id"]))
        return database.value(query, invoice["invoice_id"])

    return wait


def test_while_the_gateway_is_away_nothing_expires_and_we_come_back_to_it(
    merchant, sandbox, far, let_time_pass, looked_after
):
    invoice = merchant.invoice()
    sandbox.go_down("xendit")
    try:
        let_time_pass(invoice)
        assert looked_after(invoice) is not None
        assert merchant.get(invoice)["status"] == "pending"
    finally:
        sandbox.come_back("xendit")
    let_time_pass(invoice)
    merchant.wait(invoice, "expired")


def test_an_invoice_that_was_cancelled_before_its_time_was_up_stays_cancelled(
    merchant, far, let_time_pass, looked_after
):
    invoice = merchant.invoice()
    assert cancel(merchant, invoice).status_code == 200
    let_time_pass(invoice)
    assert looked_after(invoice) is not None, "money can still come for a week"
    assert merchant.get(invoice)["status"] == "cancelled"


def test_an_invoice_without_a_live_payment_expires_when_its_own_time_is_up(merchant, sandbox, let_time_pass):
    invoice = merchant.invoice()
    sandbox.xendit.expire(merchant.reference(invoice))
    eventually(lambda: attempts(merchant, invoice) == ["expired"])
    assert merchant.get(invoice)["status"] == "pending"
    let_time_pass(invoice)
    merchant.wait(invoice, "expired")


# --- told by a webhook -----------------------------------------------------------------------------------------------------


def test_who_paid_one_of_several_cannot_pay_another_once_we_were_told(merchant, sandbox, outside, payable):
    far, invoice = sandbox.xendit, merchant.invoice()
    body = {"external_id": merchant.reference(invoice), "amount": 514550, "currency": "IDR"}
    outside.post(f"{far.url}/v2/invoices", auth=(far.key, ""), json=body).raise_for_status()
    assert payable(far) == 2
    far.pay(far.payments[0].id)
    merchant.wait(invoice, "paid")
    eventually(lambda: payable(far) == 0)


@pytest.fixture
def slow_news(merchant, sandbox, database):
    """News of a payment at whose confirmation a worker is at work right now: the webhook's id."""
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    sandbox.xendit.settings(latency_s=1.0)
    sandbox.xendit.pay(reference)
    wait_for_request(merchant, sandbox.xendit, "list")
    yield invoice, database.value("SELECT id FROM webhooks WHERE reference = $1", reference)
    sandbox.xendit.settings(latency_s=0.0)


@pytest.mark.parametrize("the_gateway", ["answers", "hangs up"])
def test_a_worker_that_lost_its_lease_leaves_the_webhook_to_the_next(
    merchant, sandbox, database, slow_news, the_gateway
):
    invoice, webhook_id = slow_news
    # What another worker does when the lease of this one has run out.
    database.value("UPDATE webhooks SET attempts = attempts + 1 WHERE id = $1", webhook_id)
    if the_gateway == "answers":
        merchant.wait(invoice, "paid")
    else:
        sandbox.go_down("xendit")
        sandbox.come_back("xendit")
    time.sleep(0.5)  # the worker has had time to write, and does not
    assert database.rows("SELECT status, error_code FROM webhooks WHERE id = $1", webhook_id) == [
        {"status": "received", "error_code": None}
    ]
    database.value("UPDATE webhooks SET lease_until = now() WHERE id = $1", webhook_id)
    merchant.wait(invoice, "paid")
    eventually(lambda: database.value("SELECT status FROM webhooks WHERE id = $1", webhook_id) != "received")
    assert merchant.get(invoice, "/overpayment")["total_paid"] == "514550"


def test_a_webhook_that_takes_every_worker_down_is_given_up_and_not_tried_for_ever(
    merchant, sandbox, database
):
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    sandbox.xendit.fault("http_503", on="list")
    sandbox.xendit.pay(reference)
    eventually(
        lambda: database.value(
            "SELECT first_failed_at IS NOT NULL FROM webhooks WHERE reference = $1", reference
        )
    )
    # Ten claims without an end: each process died with it.
    database.value(
        "UPDATE webhooks SET attempts = 10, next_attempt_at = now() WHERE reference = $1", reference
    )
    eventually(
        lambda: database.value("SELECT status FROM webhooks WHERE reference = $1", reference) == "failed"
    )
    assert database.value("SELECT error_code FROM webhooks WHERE reference = $1", reference) == "worker_lost"
