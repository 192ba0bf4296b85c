"""What happened to an invoice can be read, and money that came at an odd time is flagged."""

from __future__ import annotations

import asyncio
import re

import asyncpg
from support.waiting import eventually


def events(merchant, invoice):
    return [moment["event"] for moment in merchant.get(invoice, "/timeline")["timeline"]]


def test_a_paid_invoice_tells_its_story_in_order(merchant, sandbox):
    invoice = merchant.invoice()
    sandbox.xendit.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")
    told = merchant.get(invoice, "/timeline")["timeline"]
    assert [moment["event"] for moment in told] == [
        "created",
        "payment_requested",
        "payment_opened",
        "status_changed",
        "payment_received",
        "status_changed",
    ]
    assert [moment["at"] for moment in told] == sorted(moment["at"] for moment in told)
    assert told[-1]["details"] == {"from": "pending", "to": "paid"}
    assert told[-1]["reason"] == "514550 IDR came in"
    assert told[-2]["details"]["amount"] == invoice["total_amount"]
    assert told[-2]["details"]["flag"] is None


def test_every_operation_that_changes_an_invoice_is_in_its_timeline(routes, samples, merchant, database):
    """T126: a new route that writes and says nothing fails."""
    writing = [route for route in routes if route.scope == "write"]
    assert len(writing) >= 5
    for route in writing:
        api, method, url, body = samples.request(merchant, route)
        named = re.search(r"/invoices/([0-9a-f-]{36})", url)
        before = events(merchant, {"invoice_id": named[1]}) if named else []
        rows = database.fingerprint(merchant.tenant_id)
        answer = api.request(method, url, json=body)
        assert answer.is_success, answer.text
        changed = database.fingerprint(merchant.tenant_id) != rows
        about = {"invoice_id": named[1] if named else answer.json()["invoice_id"]}
        assert (len(events(merchant, about)) > len(before)) == changed, route


def test_every_attempt_and_every_receipt_is_in_the_timeline_with_its_time(merchant, sandbox, database):
    """
    T126: nothing that moved money, or tried to, is missing. Nobody can change what was noted: see
    test_schema_attacks.py.
    """
    invoice = merchant.invoice(installments={"count": 2})
    for number in (1, 2):
        eventually(
            lambda n=number: (
                f"-{n}-1x" in merchant.reference(invoice) and merchant.get(invoice)["payment_url"]
            )
        )
        sandbox.xendit.pay(merchant.reference(invoice))
        eventually(
            lambda n=number: merchant.get(invoice, "/installments")["installments"][n - 1]["status"] == "paid"
        )
    merchant.wait(invoice, "paid")
    told = merchant.get(invoice, "/timeline")["timeline"]
    assert all(moment["at"].endswith("Z") for moment in told)
    attempts = database.rows("SELECT reference FROM payments WHERE invoice_id = $1", invoice["invoice_id"])
    receipts = database.rows(
        "SELECT gateway_payment_id FROM receipts WHERE invoice_id = $1", invoice["invoice_id"]
    )
    assert (len(attempts), len(receipts)) == (2, 2)
    for event, field, rows in (
        ("payment_requested", "reference", attempts),
        ("payment_opened", "reference", attempts),
        ("payment_received", "gateway_payment_id", receipts),
    ):
        assert sorted(moment["details"][field] for moment in told if moment["event"] == event) == sorted(
            row[field] for row in rows
        )


def test_a_failed_attempt_says_why(merchant, sandbox):
    sandbox.xendit.fault("http_400", on="create", times=1)
    assert merchant.api.post("/invoices", json=merchant.body(external_id="x")).status_code == 502
    invoice = merchant.api.get("/invoices", params={"external_id": "x"}).json()["invoices"][0]
    assert merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url").status_code == 200
    told = merchant.get(invoice, "/timeline")["timeline"]
    failed = next(moment for moment in told if moment["event"] == "payment_failed")
    assert (failed["details"]["status"], failed["details"]["code"]) == ("rejected", "gateway_rejected")
    assert "HTTP 400" in failed["reason"]
    assert events(merchant, invoice)[-2:] == ["payment_opened", "status_changed"]


def test_looks_that_say_nothing_new_are_told_once(merchant, sandbox):
    sandbox.xendit.fault("reset_before", on="create", times=1)
    sandbox.xendit.fault("http_503", on="list")
    assert merchant.api.post("/invoices", json=merchant.body(external_id="x")).status_code == 504
    invoice = merchant.api.get("/invoices", params={"external_id": "x"}).json()["invoices"][0]
    assert {
        merchant.api.post(f"/invoices/{invoice['invoice_id']}/payment-url").status_code for _ in range(3)
    } == {503}
    told = [
        moment["reason"]
        for moment in merchant.get(invoice, "/timeline")["timeline"]
        if moment["event"] == "payment_failed"
    ]
    assert len(told) == 2
    assert told[1].startswith("still unknown: ")


def test_adjusting_supplementing_and_cancelling_are_told(merchant):
    invoice = merchant.invoice(installments={"count": 2})
    merchant.api.patch(
        f"/invoices/{invoice['invoice_id']}/installments",
        json={"installments": [{"number": 1, "amount": "1000"}]},
    )
    line = {"product_name": "Delivery", "quantity": 1, "unit_price": "5000"}
    more = merchant.api.post(
        f"/invoices/{invoice['invoice_id']}/supplementary", json={"line_items": [line]}
    ).json()
    merchant.api.post(f"/invoices/{invoice['invoice_id']}/cancel")
    told = {moment["event"]: moment for moment in merchant.get(invoice, "/timeline")["timeline"]}
    assert told["schedule_adjusted"]["details"] == {"from": ["257275", "257275"], "to": ["1000", "513550"]}
    assert told["supplementary_created"]["details"]["invoice_id"] == more["invoice_id"]
    assert told["status_changed"]["reason"] == "cancelled by the merchant"
    assert "payment_closed" in told


def test_money_in_another_currency_is_told_and_not_applied(merchant, sandbox):
    invoice = merchant.invoice(currency="USD")
    sandbox.xendit.pay(merchant.reference(invoice), currency="MYR")
    eventually(lambda: "payment_refused" in events(merchant, invoice))
    assert merchant.get(invoice)["status"] == "pending"


def test_money_for_a_cancelled_invoice_is_kept_and_flagged(merchant, sandbox):
    invoice = merchant.invoice()
    merchant.api.post(f"/invoices/{invoice['invoice_id']}/cancel")
    pay_late(merchant, sandbox, invoice)
    eventually(lambda: merchant.get(invoice)["flags"] == ["after_cancel"])
    assert merchant.get(invoice)["status"] == "cancelled"
    assert merchant.get(invoice, "/overpayment")["overpayment_amount"] == invoice["total_amount"]
    listed = merchant.api.get("/invoices", params={"flag": "after_cancel"}).json()["invoices"]
    assert [one["invoice_id"] for one in listed] == [invoice["invoice_id"]]
    assert merchant.api.get("/invoices", params={"flag": "late"}).json()["invoices"] == []


def test_money_for_an_expired_invoice_is_applied_and_flagged(merchant, sandbox, session_owner_url):
    invoice = merchant.invoice()
    asyncio.run(expire(session_owner_url, invoice))
    merchant.wait(invoice, "expired")
    pay_late(merchant, sandbox, invoice)
    found = merchant.wait(invoice, "paid")
    assert found["flags"] == ["late"]


def pay_late(merchant, sandbox, invoice):
    sandbox.xendit.pay_late(merchant.reference(invoice))


async def expire(owner_url, invoice):
    connection = await asyncpg.connect(owner_url)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(
                "UPDATE paytrust.invoices SET created_at = created_at - interval '2 days', expires_at = now() - interval '2 minutes' WHERE id = $1",
                invoice["invoice_id"],
            )
            await connection.execute(
                "UPDATE paytrust.payments SET next_check_at = now() WHERE invoice_id = $1",
                invoice["invoice_id"],
            )
    finally:
        await connection.close()
