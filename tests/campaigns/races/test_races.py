"""
Rivals at one invoice, over real connections: whatever comes first, money is applied once, the books agree,
and one page is payable.

Each pair runs in rounds, with a shift between the two that differs from round to round. `make races` runs 500
rounds of each; RACE_ROUNDS says how many.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import httpx
import pytest
from support.waiting import eventually

from paytrust.infra.db import Database
from paytrust.reconciliation.service import Proofs

ROUNDS = int(os.environ.get("RACE_ROUNDS", "4"))
SHIFT_S = 0.06
"""About as long as one of the rivals takes, so that each meets the other at every point of its way."""
FINE = {200, 201, 409}


@pytest.fixture
def chance(request):
    seed = int(os.environ.get("RACE_SEED", random.randrange(2**32)))
    print(f"RACE_SEED={seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)


@pytest.fixture
def rivals(chance):
    """Let two do something at about the same time."""
    with ThreadPoolExecutor(2) as pool:

        def meet(first, second):
            barrier = threading.Barrier(2)
            shifts = [0, chance.uniform(0, SHIFT_S)]
            chance.shuffle(shifts)

            def go(call, shift_s):
                barrier.wait(10)
                time.sleep(shift_s)
                return call()

            return [
                each.result()
                for each in [pool.submit(go, *pair) for pair in zip((first, second), shifts, strict=True)]
            ]

        yield meet


@pytest.fixture
def check(service, merchant, sandbox, payable):
    """
    The invariants: what the gateway got is what the books have, once; nothing disagrees; at most one page is
    payable.
    """
    far = sandbox.xendit

    async def verify():
        db = Database(service.database_url.get_secret_value(), size=1)
        await db.open()
        try:
            return await Proofs(db).verify(merchant.tenant_id)
        finally:
            await db.close()

    def applied(invoice):
        overpayment = merchant.get(invoice, "/overpayment")
        return Decimal(overpayment["total_paid"])

    def check_(invoice, *, paid, pages):
        eventually(lambda: applied(invoice) == paid, timeout_s=30)
        eventually(lambda: payable(far) in pages, timeout_s=30)
        time.sleep(0.05)
        assert applied(invoice) == paid
        assert asyncio.run(verify()) == []
        assert payable(far) in pages

    return check_


@pytest.fixture(params=range(ROUNDS))
def far(request, merchant, sandbox):
    return sandbox.xendit


def plain(merchant, **changes):
    """An invoice over IDR 100,000 without tax, and without the fee of the tests' accounts."""
    line = {"product_name": "x", "quantity": 1, "unit_price": "100000", "tax_rate": "0"}
    return merchant.invoice(line_items=[line], **changes)


def pay(far, reference):
    try:
        far.pay(reference)
    except httpx.HTTPStatusError:
        return False
    return True


def test_pay_and_pay(merchant, far, rivals, check):
    """One payment is told by two webhooks at once, while somebody asks for the page."""
    invoice = plain(merchant)
    far.hold_webhooks()
    reference = merchant.reference(invoice)
    far.pay(reference)
    rivals(
        lambda: (far.release(), far.replay(reference, times=2)),
        lambda: merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url"),
    )
    check(invoice, paid=Decimal(invoice["total_amount"]), pages={0})
    assert merchant.get(invoice)["status"] == "paid"


def test_pay_and_adjust(merchant, far, rivals, check):
    invoice = plain(merchant, installments={"count": 3})
    first = merchant.get(invoice, "/installments")["installments"][0]
    reference = merchant.reference(invoice)
    change = {"installments": [{"number": 1, "amount": "20000"}]}
    paid, adjusted = rivals(
        lambda: pay(far, reference),
        lambda: merchant.api.patch(f"/invoices/{invoice['invoice_id']}/installments", json=change),
    )
    assert adjusted.status_code in FINE, adjusted.text
    check(invoice, paid=Decimal(first["amount"]) if paid else 0, pages={1})
    parts = merchant.get(invoice, "/installments")["installments"]
    assert sum(Decimal(part["amount"]) for part in parts) == Decimal(invoice["total_amount"])


def test_pay_and_cancel(merchant, far, rivals, check):
    invoice = plain(merchant)
    reference = merchant.reference(invoice)
    paid, cancelled = rivals(
        lambda: pay(far, reference), lambda: merchant.api.post(f"/invoices/{invoice['invoice_id']}/cancel")
    )
    assert cancelled.status_code in FINE, cancelled.text
    check(invoice, paid=Decimal(invoice["total_amount"]) if paid else 0, pages={0})
    found = merchant.get(invoice)
    assert found["status"] == ("cancelled" if cancelled.status_code == 200 else "paid")
    # Xendit takes money for an invoice that was just closed: it is kept, and flagged.
    assert found["flags"] == (["after_cancel"] if paid and found["status"] == "cancelled" else [])


SLOW_S = 0.8
"""What the gateway takes to answer that it made a page."""


@pytest.mark.parametrize("rival", ["pay", "payment-url", "adjust", "webhook"])
def test_cancel_and_a_page_that_is_being_made(merchant, far, rivals, payable, chance, rival):
    """After the 200 of a cancel nothing of the invoice can be paid, however slow the gateway is."""
    invoice = plain(merchant, installments={"count": 3})
    path = f"/invoices/{invoice['invoice_id']}"
    reference = merchant.reference(invoice)
    if rival == "payment-url":
        far.expire(reference)
        eventually(lambda: merchant.get(invoice)["payment_url"] is None)
    if rival == "webhook":
        far.hold_webhooks()
        far.pay(reference)
    change = {"installments": [{"number": 1, "amount": "20000"}]}
    act = {
        "pay": lambda: pay(far, reference),
        "webhook": far.release,
        "payment-url": lambda: merchant.api.post(f"{path}/payment-url"),
        "adjust": lambda: merchant.api.patch(f"{path}/installments", json=change),
    }[rival]
    far.fault("late_answer", on="create", seconds=SLOW_S)

    def cancel():
        time.sleep(chance.uniform(0, SLOW_S / 2) if chance.random() < 0.5 else 0)
        return merchant.api.post(f"{path}/cancel")

    _, cancelled = rivals(act, cancel)
    assert cancelled.status_code in FINE, cancelled.text
    if cancelled.status_code == 200:
        assert cancelled.json()["payment_url"] is None
        time.sleep(SLOW_S + 0.2)
        assert merchant.get(invoice)["status"] == "cancelled"
        assert (merchant.get(invoice)["payment_url"], payable(far)) == (None, 0)


def test_pay_and_expire(merchant, far, rivals, check, let_time_pass):
    invoice = plain(merchant)
    reference = merchant.reference(invoice)
    paid, _ = rivals(lambda: pay(far, reference), lambda: let_time_pass(invoice))
    check(invoice, paid=Decimal(invoice["total_amount"]) if paid else 0, pages={0})
    merchant.wait(invoice, "paid" if paid else "expired", timeout_s=30)


def test_the_webhook_and_our_second_commit(merchant, far, rivals, check):
    """
    The payer is quicker than the gateway's answer to us: his webhook comes before or while we write the page
    down.
    """
    order = {"external_id": str(uuid4())}

    def pay_as_soon_as_there_is_something():
        payments = eventually(lambda: far.payments, pause_s=0)
        assert pay(far, payments[0].reference)

    invoice, _ = rivals(lambda: plain(merchant, **order), pay_as_soon_as_there_is_something)
    check(invoice, paid=Decimal(invoice["total_amount"]), pages={0})
    assert merchant.get(invoice)["status"] == "paid"


def test_two_identical_orders(merchant, far, rivals, check, payable):
    body = merchant.body(external_id=str(uuid4()))
    answers = rivals(
        lambda: merchant.api.post("/invoices", json=body), lambda: merchant.api.post("/invoices", json=body)
    )
    assert {answer.status_code for answer in answers} <= FINE
    assert [answer.status_code for answer in answers].count(201) == 1
    [invoice] = merchant.api.get("/invoices", params={"external_id": body["external_id"]}).json()["invoices"]
    check(invoice, paid=0, pages={1})
    assert len(far.payments) == 1
