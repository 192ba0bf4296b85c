"""What an answer says of an invoice: the same, to the byte, whichever request it answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

JAKARTA = timezone(timedelta(hours=7))


def at(days):
    return (datetime.now(UTC) + timedelta(days=days)).astimezone(JAKARTA).isoformat()


def same(merchant, answer, path=""):
    """*answer* is what a GET says directly afterwards, and all its times are in UTC with Z."""
    assert answer.is_success, answer.text
    again = merchant.api.get(f"/invoices/{answer.json()['invoice_id']}{path}")
    assert answer.content == again.content
    assert b"+0" not in answer.content
    return answer.json()


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": at(2)},
        {"installments": {"count": 2, "due_dates": [at(1), at(2)]}, "expires_at": at(3)},
        {"metadata": {"b": "2", "a": "1", "aa": "\u00e9"}, "customer": {"country": "ID", "name": "Siti"}},
    ],
    ids=["expiry", "schedule", "texts"],
)
def test_an_answer_to_a_post_is_what_get_says_afterwards(merchant, gateway, change):
    made = same(merchant, merchant.api.post("/invoices", json=merchant.body(gateway, **change)))
    more = {"line_items": merchant.body()["line_items"], "expires_at": at(2)}
    same(merchant, merchant.api.post(f"/invoices/{made['invoice_id']}/supplementary", json=more))
    same(merchant, merchant.api.post(f"/invoices/{made['invoice_id']}/cancel"))


def test_an_answer_to_a_patch_is_what_get_says_afterwards(merchant):
    made = merchant.invoice(installments={"count": 3, "due_dates": [at(1), at(2), at(3)]})
    change = {"installments": [{"number": 2, "amount": "100000"}]}
    same(
        merchant,
        merchant.api.patch(f"/invoices/{made['invoice_id']}/installments", json=change),
        "/installments",
    )
