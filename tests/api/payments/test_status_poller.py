"""
Money whose webhook never comes, outcomes nobody knows, and pages that must not stay payable: the reconciler
asks the gateway.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from support.waiting import eventually
from support.work import one_round

from paytrust.payments.jobs import StatusPoller
from paytrust.plugins.registry import Registry
from paytrust.services import Services

TOTAL = "514550"


@pytest.fixture(params=["xendit", "midtrans"])
def gateway(request):
    return request.param


@pytest.fixture
def far(seller, sandbox, gateway):
    """The gateway's server. Its webhooks are switched off."""
    found = getattr(sandbox, gateway)
    found.webhook_url = ""
    found.fault("lost", on="webhook")
    return found


@pytest.fixture
def xendit(seller, sandbox):
    sandbox.xendit.fault("lost", on="webhook")
    return sandbox.xendit


@pytest.fixture
def payments(database):
    """The attempts of an invoice, as they are in the table."""
    return lambda invoice: database.rows(
        "SELECT * FROM payments WHERE invoice_id = $1 ORDER BY attempt", invoice["invoice_id"]
    )


@pytest.fixture
def look(database):
    """
    Let the time of the next look come for an invoice, and wait until somebody has looked: then the next one
    is not soon.
    """

    def look_(invoice, *, wait=True):
        database.rows(
            "UPDATE payments SET next_check_at = now(), created_at = created_at - interval '10 minutes' WHERE invoice_id = $1",
            invoice["invoice_id"],
        )
        due = "SELECT count(*) FROM payments WHERE invoice_id = $1 AND next_check_at < now() + interval '10 minutes'"
        if wait:
            eventually(lambda: not database.value(due, invoice["invoice_id"]), "the poller has looked", 60)

    return look_


@pytest.fixture
def forget(session_owner_url):
    """Bring a payment back to what a crash between the gateway's answer and our note of it leaves behind."""

    def forget_(invoice, *, age="2 minutes"):
        async def change():
            connection = await asyncpg.connect(session_owner_url)
            try:
                async with connection.transaction():
                    await connection.execute("SET LOCAL session_replication_role = replica")
                    await connection.execute(
                        "DELETE FROM paytrust.transfers WHERE invoice_id = $1", invoice["invoice_id"]
                    )
                    await connection.execute(
                        "DELETE FROM paytrust.book_accounts WHERE invoice_id = $1", invoice["invoice_id"]
                    )
                    await connection.execute(
                        "UPDATE paytrust.invoices SET status = 'draft', payment_initiated_at = NULL WHERE id = $1",
                        invoice["invoice_id"],
                    )
                    await connection.execute(
                        "UPDATE paytrust.payments SET status = 'creating', gateway_payment_id = NULL, payment_url = NULL,"
                        f" updated_at = now() - interval '{age}' WHERE invoice_id = $1",
                        invoice["invoice_id"],
                    )
            finally:
                await connection.close()

        asyncio.run(change())

    return forget_


def post_twin(outside, xendit, payment):
    twin = {"external_id": payment.reference, "amount": int(payment.amount), "currency": "IDR"}
    outside.post(f"{xendit.url}/v2/invoices", auth=(xendit.key, ""), json=twin).raise_for_status()


# --- the webhook never comes ---------------------------------------------------------------------------------------------------


def test_a_payment_whose_webhook_never_came_is_applied(seller, far, gateway, look, payments):
    invoice = seller.invoice(gateway)
    far.pay(seller.reference(invoice))
    look(invoice, wait=False)
    seller.wait(invoice, "paid", timeout_s=40)
    assert seller.get(invoice, "/overpayment") | {"invoice_id": None} == {
        "invoice_id": None,
        "currency": "IDR",
        "total_amount": invoice["total_amount"],
        "total_paid": invoice["total_amount"],
        "overpayment_amount": "0",
    }
    eventually(lambda: payments(invoice)[0]["next_check_at"] is None)


def test_an_attempt_is_first_looked_at_after_five_minutes_then_after_an_hour(
    seller, far, gateway, look, payments, database
):
    invoice = seller.invoice(gateway)
    [attempt] = payments(invoice)
    assert 290 < (attempt["next_check_at"] - attempt["created_at"]).total_seconds() < 360
    look(invoice)
    [attempt] = payments(invoice)
    assert attempt["status"] == "open"
    assert 3590 < (attempt["next_check_at"] - attempt["created_at"]).total_seconds() < 3660


def test_late_money_for_an_expired_invoice_is_found_in_the_week_after(
    seller, xendit, look, payments, database
):
    invoice = seller.invoice()
    assert seller.api.post(f"/invoices/{invoice['invoice_id']}/cancel").status_code == 200
    xendit.pay_late(seller.reference(invoice), leave_expired=True)
    [attempt] = payments(invoice)
    assert attempt["status"] == "expired"
    look(invoice, wait=False)
    eventually(lambda: seller.get(invoice, "/overpayment")["overpayment_amount"] == TOTAL, timeout_s=40)


def test_after_a_week_nobody_asks_about_a_closed_attempt_any_more(seller, xendit, database, payments):
    invoice = seller.invoice()
    assert seller.api.post(f"/invoices/{invoice['invoice_id']}/cancel").status_code == 200
    database.rows(
        "UPDATE payments SET updated_at = now() - interval '8 days', next_check_at = now() WHERE invoice_id = $1",
        invoice["invoice_id"],
    )
    eventually(lambda: payments(invoice)[0]["next_check_at"] is None, timeout_s=40)


def test_while_the_gateway_is_away_the_look_waits_and_is_repeated(seller, sandbox, xendit, look, payments):
    invoice = seller.invoice()
    xendit.pay(seller.reference(invoice))
    xendit.fault("http_503", on="list")
    look(invoice, wait=False)
    eventually(lambda: any(request.operation == "list" for request in xendit.requests), timeout_s=40)
    eventually(
        lambda: (
            payments(invoice)[0]["next_check_at"] > payments(invoice)[0]["updated_at"] + timedelta(minutes=4)
        )
    )
    assert payments(invoice)[0]["status"] == "open"
    xendit.clear_faults()
    look(invoice, wait=False)
    seller.wait(invoice, "paid", timeout_s=40)


# --- nobody knows ---------------------------------------------------------------------------------------------------------------


def test_a_crash_after_the_gateway_made_the_page_heals_by_itself(
    seller, far, gateway, look, forget, payments
):
    invoice = seller.invoice(gateway)
    if gateway == "midtrans":
        far.choose(seller.reference(invoice))  # until then Midtrans does not know the order
    forget(invoice)
    assert seller.get(invoice)["status"] == "draft"
    look(invoice)
    assert [payment["status"] for payment in payments(invoice)] == ["open"]
    assert seller.get(invoice)["status"] == "pending"
    assert len(far.payments) == 1
    far.pay(seller.reference(invoice))
    look(invoice, wait=False)
    seller.wait(invoice, "paid", timeout_s=40)


def test_a_payment_made_before_a_crash_and_paid_since_is_applied(seller, far, gateway, look, forget):
    invoice = seller.invoice(gateway)
    far.pay(seller.reference(invoice))
    forget(invoice)
    look(invoice, wait=False)
    seller.wait(invoice, "paid", timeout_s=40)


def test_what_the_gateway_does_not_know_stays_unknown_and_is_made_again_only_on_demand(
    seller, xendit, look, problem, payments, payable
):
    xendit.fault("reset_before", on="create", times=1)
    body = seller.body(external_id=f"order-{uuid4()}")
    problem(seller.api.post("/invoices", json=body), 504)
    [invoice] = seller.api.get("/invoices", params={"external_id": body["external_id"]}).json()["invoices"]
    look(invoice)
    assert [payment["status"] for payment in payments(invoice)] == ["unknown"]
    assert xendit.payments == []
    assert seller.api.post(f"/invoices/{invoice['invoice_id']}/payment-url").status_code == 200
    assert (len(payments(invoice)), payable(xendit)) == (1, 1)


def test_an_attempt_that_is_just_being_made_is_left_alone(seller, xendit, look, forget, payments):
    invoice = seller.invoice()
    forget(invoice, age="1 second")
    look(invoice, wait=False)
    time.sleep(12)  # a whole pause of the worker
    [attempt] = payments(invoice)
    assert attempt["status"] == "creating"
    assert [
        request.operation
        for request in xendit.requests
        if attempt["reference"] in request.target + request.body
    ] == ["create"]


def test_of_several_made_by_an_unknown_call_the_oldest_is_adopted_and_the_others_expire(
    outside, seller, xendit, look, problem
):
    xendit.fault("reset_after", on="create", times=1)
    body = seller.body(external_id=f"order-{uuid4()}")
    problem(seller.api.post("/invoices", json=body), 504)
    [first] = xendit.payments
    for _ in range(2):
        post_twin(outside, xendit, first)
    [invoice] = seller.api.get("/invoices", params={"external_id": body["external_id"]}).json()["invoices"]
    look(invoice)
    assert seller.get(invoice)["payment_url"] == first.page_url
    assert [payment.status for payment in xendit.payments] == ["PENDING", "EXPIRED", "EXPIRED"]


# --- what must not stay payable ---------------------------------------------------------------------------------------------------


def test_of_a_create_that_ran_twice_only_the_page_we_gave_out_stays_payable(seller, xendit, look, payable):
    xendit.fault("duplicate", on="create", times=1)
    invoice = seller.invoice()
    assert payable(xendit) == 2
    look(invoice)
    assert {payment.page_url: payment.status for payment in xendit.payments}[
        invoice["payment_url"]
    ] == "PENDING"
    assert payable(xendit) == 1


def test_once_one_of_two_pages_is_paid_the_other_is_closed(seller, xendit, look, payable):
    xendit.fault("duplicate", on="create", times=1)
    invoice = seller.invoice()
    xendit.pay(xendit.payments[0].id)
    look(invoice)
    assert (seller.get(invoice)["status"], payable(xendit)) == ("paid", 0)


def test_a_page_reopened_behind_our_back_is_closed_after_a_cancellation(
    outside, seller, xendit, look, payable
):
    invoice = seller.invoice()
    [page] = xendit.payments
    assert seller.api.post(f"/invoices/{invoice['invoice_id']}/cancel").status_code == 200
    post_twin(outside, xendit, page)
    assert payable(xendit) == 1
    look(invoice)
    assert payable(xendit) == 0


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_the_page_of_an_invoice_that_is_over_does_not_stay_payable(
    seller, far, gateway, look, database, payable, payments, status
):
    invoice = seller.invoice(gateway)
    database.rows("UPDATE invoices SET status = $2 WHERE id = $1", invoice["invoice_id"], status)
    look(invoice)
    assert payable(far) == 0
    assert payments(invoice)[0]["status"] == "expired"


def test_when_a_late_payment_closes_the_invoice_the_newer_page_is_closed_too(
    seller, xendit, look, payable, payments
):
    invoice = seller.invoice()
    first = seller.reference(invoice)
    xendit.expire(first)
    look(invoice)
    assert seller.api.post(f"/invoices/{invoice['invoice_id']}/payment-url").status_code == 200
    assert payable(xendit) == 1
    xendit.pay_late(first)
    look(invoice, wait=False)
    seller.wait(invoice, "paid", timeout_s=40)
    eventually(
        lambda: [payment["status"] for payment in payments(invoice)] == ["paid", "expired"], timeout_s=40
    )
    assert payable(xendit) == 0


# --- many workers, bad rows ---------------------------------------------------------------------------------------------------------


def test_two_more_workers_side_by_side_apply_each_payment_once(service, seller, xendit, database):
    with ThreadPoolExecutor(4) as pool:
        invoices = list(pool.map(lambda _: seller.invoice(), range(12)))
    for payment in xendit.payments:
        xendit.pay(payment.id)
    ids = [invoice["invoice_id"] for invoice in invoices]

    async def work():
        services = Services(service, Registry())
        await services.work_db.open()
        await services.db.open()
        try:
            workers = [StatusPoller(services.work_db, services.payments) for _ in range(2)]
            while any(await asyncio.gather(*(one_round(worker.window) for worker in workers))):
                pass
        finally:
            await services.accounts.close()
            await services.db.close()
            await services.work_db.close()

    database.rows("UPDATE payments SET next_check_at = now() WHERE invoice_id = ANY($1::uuid[])", ids)
    asyncio.run(work())
    for invoice in invoices:
        seller.wait(invoice, "paid", timeout_s=40)
        assert seller.get(invoice, "/overpayment")["overpayment_amount"] == "0"
    assert database.value("SELECT count(*) FROM receipts WHERE invoice_id = ANY($1::uuid[])", ids) == 12


def test_a_payment_that_cannot_be_looked_at_does_not_hold_up_the_others(
    seller, sandbox, xendit, look, database
):
    """What Midtrans answers here is for a person; it is asked about first."""
    bad, good = seller.invoice("midtrans"), seller.invoice()
    sandbox.midtrans.fault("lost", on="webhook")
    sandbox.midtrans.pay(seller.reference(bad))
    sandbox.midtrans.fault("odd_fields", on="status", fields={"transaction_status": "limbo"})
    xendit.pay(seller.reference(good))
    database.rows(
        "UPDATE payments SET next_check_at = now() - interval '1 hour' WHERE invoice_id = $1",
        bad["invoice_id"],
    )
    look(good, wait=False)
    seller.wait(good, "paid", timeout_s=40)
    assert seller.get(bad)["status"] == "pending"
