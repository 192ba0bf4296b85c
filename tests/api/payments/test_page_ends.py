"""Pages end before their invoices do, at the gateway and by its own word; invoices end on a schedule of their own."""

from __future__ import annotations

import pytest
from support.waiting import eventually


@pytest.fixture
def far(seller, sandbox):
    """Xendit's server, with webhooks lost."""
    sandbox.xendit.fault("lost", on="webhook")
    return sandbox.xendit


@pytest.fixture
def unseen(database):
    """Let two minutes pass since anything was heard of an invoice's pages."""
    return lambda invoice: database.rows(
        "UPDATE payments SET opened_at = opened_at - interval '2 minutes', asked_at = NULL WHERE invoice_id = $1",
        invoice["invoice_id"],
    )


@pytest.fixture
def page_ends(database):
    """Bring the end of an invoice's pages."""
    return lambda invoice: database.rows(
        "UPDATE payments SET expires_at = now() - interval '1 second' WHERE invoice_id = $1",
        invoice["invoice_id"],
    )


def page(merchant, invoice):
    return merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url")


def listed(far):
    return sum(request.method == "GET" for request in far.requests)


def test_a_page_seen_lately_is_handed_out_at_once(seller, far):
    invoice = seller.invoice()
    before = listed(far)
    assert page(seller, invoice).json()["payment_url"] == invoice["payment_url"]
    assert listed(far) == before


def test_a_page_that_expired_unheard_is_replaced(seller, far, unseen, payable):
    invoice = seller.invoice()
    far.expire(seller.reference(invoice))
    unseen(invoice)
    answer = page(seller, invoice)
    assert answer.status_code == 200, answer.text
    assert answer.json()["payment_url"] not in {None, invoice["payment_url"]}
    assert payable(far) == 1


def test_a_page_that_was_paid_unheard_is_booked(seller, far, unseen):
    invoice = seller.invoice()
    far.pay(seller.reference(invoice))
    unseen(invoice)
    assert page(seller, invoice).json()["code"] == "nothing_due"
    assert seller.get(invoice)["status"] == "paid"


def test_an_open_page_is_asked_about_once_a_minute(seller, far, unseen):
    invoice = seller.invoice()
    unseen(invoice)
    before = listed(far)
    for _ in range(3):
        assert page(seller, invoice).json()["payment_url"] == invoice["payment_url"]
    assert listed(far) == before + 1


def test_while_the_gateway_is_away_the_page_is_handed_out(seller, far, unseen, sandbox):
    invoice = seller.invoice()
    unseen(invoice)
    sandbox.go_down("xendit")
    try:
        assert page(seller, invoice).json()["payment_url"] == invoice["payment_url"]
    finally:
        sandbox.come_back("xendit")


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_a_page_whose_own_end_has_come_is_replaced(seller, sandbox, page_ends, payable, gateway):
    invoice = seller.invoice(gateway)
    page_ends(invoice)
    assert seller.get(invoice)["payment_url"] is None
    answer = page(seller, invoice)
    assert answer.status_code == 200, answer.text
    assert answer.json()["payment_url"] not in {None, invoice["payment_url"]}
    assert payable(getattr(sandbox, gateway)) == 1


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_the_gateways_end_of_a_page_is_kept(seller, sandbox, database, gateway):
    invoice = seller.invoice(gateway)
    kept = "SELECT expires_at IS NOT NULL FROM payments WHERE invoice_id = $1"
    assert database.value(kept, invoice["invoice_id"])


def time_is_up(database, invoice, ago="2 minutes"):
    """Move an invoice's end into the past, and leave its payments as they are."""
    database.rows("SET session_replication_role = replica")
    database.rows(
        "UPDATE invoices SET created_at = created_at - interval '3 days', expires_at = now() - $2::text::interval,"
        " end_check_at = now() - $2::text::interval WHERE id = $1",
        invoice["invoice_id"],
        ago,
    )
    database.rows("RESET session_replication_role")


def test_an_invoice_expires_without_any_payment_to_look_at(seller, far, database):
    """What is left cannot be collected at this gateway, so no page is live and none is looked at again."""
    invoice = seller.invoice()
    database.rows(
        "UPDATE payments SET status = 'rejected', next_check_at = NULL WHERE invoice_id = $1",
        invoice["invoice_id"],
    )
    time_is_up(database, invoice)
    eventually(lambda: seller.get(invoice)["status"] == "expired", timeout_s=30)


def test_an_invoice_expires_although_the_gateway_refuses_us(seller, far, database):
    invoice = seller.invoice()
    far.fault("http_401", on="any")
    time_is_up(database, invoice)
    try:
        eventually(lambda: seller.get(invoice)["status"] == "expired", timeout_s=30)
    finally:
        far.reset()
    found = seller.get(invoice, "/payments")["payments"][0]
    assert (found["status"], seller.get(invoice)["payment_url"]) == ("expired", None)
    live = "SELECT count(*) FROM payments WHERE invoice_id = $1 AND live"
    assert database.value(live, invoice["invoice_id"]) == 0


@pytest.mark.parametrize(("gateway", "closing"), [("xendit", "expire"), ("midtrans", "cancel_token")])
def test_an_invoice_does_not_expire_while_its_page_may_be_open(
    seller, sandbox, database, payable, gateway, closing
):
    """The gateway answers, and refuses to close. Midtrans does not even know a page before a payer has been there."""
    far = getattr(sandbox, gateway)
    invoice = seller.invoice(gateway)
    far.fault("lost", on="webhook")
    far.fault("http_400", on=closing)
    for _ in range(2):  # the second look begins when the first is decided
        known = len(far.requests)
        time_is_up(database, invoice)
        eventually(
            lambda known=known: any(r.operation == closing for r in far.requests[known:]), timeout_s=30
        )
    assert (seller.get(invoice)["status"], payable(far)) == ("pending", 1)
    far.clear_faults()
    time_is_up(database, invoice)
    eventually(lambda: seller.get(invoice)["status"] == "expired", timeout_s=30)
    assert payable(far) == 0


def test_an_invoice_expires_a_day_after_its_end_while_its_gateway_is_away(seller, far, database):
    invoice = seller.invoice()
    far.fault("http_503", on="any")
    time_is_up(database, invoice, ago="25 hours")
    eventually(lambda: seller.get(invoice)["status"] == "expired", timeout_s=30)


def test_attempts_at_one_installment_have_an_end(seller, far, database):
    invoice = seller.invoice()
    far.expire(seller.reference(invoice))
    database.rows(
        "UPDATE payments SET attempt = 99, status = 'rejected' WHERE invoice_id = $1", invoice["invoice_id"]
    )
    assert page(seller, invoice).status_code == 200
    database.rows("UPDATE payments SET status = 'rejected' WHERE invoice_id = $1", invoice["invoice_id"])
    answer = page(seller, invoice)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_attempts")
