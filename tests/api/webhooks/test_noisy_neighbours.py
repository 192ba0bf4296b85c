"""
One party is slow, or greedy: the others' money arrives as if it were not there. Each test measures what is usual
first, in the same run.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.waiting import eventually

EACH = 12
SLACK_S = 0.5
"""What a loaded machine may add to both."""


@pytest.fixture
def unpaid(merchant):
    """Invoices at one gateway, with their references."""

    def make(gateway):
        with ThreadPoolExecutor(4) as pool:
            invoices = list(pool.map(lambda _: merchant.invoice(gateway), range(EACH)))
            return dict(zip(map(merchant.reference, invoices), invoices, strict=True))

    return make


@pytest.fixture
def booked(database):
    """Wait until these invoices are paid; how long that took since *start*."""

    def wait(invoices, start):
        ids = [invoice["invoice_id"] for invoice in invoices.values()]
        paid = "SELECT count(*) FROM invoices WHERE id = ANY($1::uuid[]) AND status = 'paid'"
        eventually(lambda: database.value(paid, ids) == len(ids), "all are paid", timeout_s=60)
        return time.monotonic() - start

    return wait


def pay_all(far, references):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(far.pay, references))


def test_a_slow_gateway_does_not_hold_up_the_webhooks_of_another(merchant, sandbox, unpaid, booked):
    xendit, midtrans = sandbox.xendit, sandbox.midtrans
    first = unpaid("xendit")
    start = time.monotonic()
    pay_all(xendit, first)
    usual_s = booked(first, start)
    slow, quick = unpaid("midtrans"), unpaid("xendit")
    midtrans.fault("late_answer", on="status", times=1_000, seconds=8)
    pay_all(midtrans, slow)
    start = time.monotonic()
    pay_all(xendit, quick)
    took_s = booked(quick, start)
    assert any(merchant.get(invoice)["status"] == "pending" for invoice in slow.values())
    midtrans.clear_faults()
    assert took_s < 2 * usual_s + SLACK_S, (usual_s, took_s)


def test_a_slow_gateway_does_not_hold_up_the_looks_at_another(merchant, sandbox, unpaid, booked, database):
    xendit, midtrans = sandbox.xendit, sandbox.midtrans
    for far in (xendit, midtrans):
        far.webhook_url = ""
        far.fault("lost", on="webhook", times=1_000)

    def look(*sold):
        """Have them all looked at now; the clock starts with the first look."""
        ids = [invoice["invoice_id"] for invoices in sold for invoice in invoices.values()]
        database.rows("UPDATE payments SET next_check_at = now() WHERE invoice_id = ANY($1::uuid[])", ids)
        eventually(
            lambda: database.value(
                "SELECT count(*) FROM payments WHERE invoice_id = ANY($1::uuid[]) AND next_check_at > now()",
                ids,
            ),
            "a worker looks",
        )
        return time.monotonic()

    first = unpaid("xendit")
    pay_all(xendit, first)
    usual_s = booked(first, look(first))
    slow, quick = unpaid("midtrans"), unpaid("xendit")
    pay_all(midtrans, slow)
    pay_all(xendit, quick)
    midtrans.fault("late_answer", on="status", times=1_000, seconds=8)
    took_s = booked(quick, look(slow, quick))
    assert any(merchant.get(invoice)["status"] == "pending" for invoice in slow.values())
    midtrans.clear_faults()
    assert took_s < 2 * usual_s + SLACK_S, (usual_s, took_s)


def test_a_flood_of_one_tenant_does_not_hold_up_another(merchant, make_merchant, sandbox, booked, database):
    """600 true webhooks come at the greedy tenant's own address within seconds, each about another event."""
    greedy, xendit = make_merchant("Greedy"), sandbox.xendit

    def sale():
        invoice = merchant.invoice()
        start = time.monotonic()
        xendit.pay(merchant.reference(invoice))
        return booked({"": invoice}, start)

    usual_s = max(sale() for _ in range(3))
    pile = greedy.invoice()
    reference = greedy.reference(pile)
    xendit.fault("late_answer", on="list", times=10_000, seconds=0.2)
    slow_s = max(usual_s, sale())
    asyncio.run(_flood(greedy.accounts["xendit"]["webhook_url"], xendit.callback_token, reference))
    waiting = "SELECT count(*) FROM webhooks WHERE reference = $1 AND status = 'received'"
    assert database.value(waiting, reference) > 100
    took_s = sale()
    assert database.value(waiting, reference) > 100
    xendit.clear_faults()
    database.rows(
        "UPDATE webhooks SET next_attempt_at = 'infinity' WHERE reference = $1 AND status = 'received'",
        reference,
    )
    assert took_s < 2 * slow_s + SLACK_S, (usual_s, slow_s, took_s)


async def _flood(url, token, reference, number=600):
    gate = asyncio.Semaphore(16)
    body = {
        "external_id": reference,
        "status": "PAID",
        "amount": 514_550,
        "paid_amount": 514_550,
        "currency": "IDR",
    }
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as client:

        async def send(one):
            async with gate:
                answer = await client.post(
                    url,
                    json=body | {"id": f"{one:024x}", "payment_id": str(one)},
                    headers={"x-callback-token": token},
                )
                assert answer.status_code == 200, answer.text

        await asyncio.gather(*map(send, range(number)))
