"""A gateway account that was mistyped can be deleted, and one that is in use only disabled."""

from __future__ import annotations

from uuid import uuid4

import pytest


@pytest.fixture
def mistyped(merchant):
    """An account that nothing refers to."""
    body = {
        "gateway": "xendit",
        "name": "Mistyped",
        "tenant_id": merchant.tenant_id,
        "credentials": {"secret_key": "x", "callback_token": "y"},
        "currencies": {"IDR": {}, "MYR": {}},
    }
    answer = merchant.admin.post("/gateway-accounts", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["gateway_id"]


def remove(merchant, gateway_id):
    return merchant.admin.delete(f"/gateway-accounts/{gateway_id}")


def listed(merchant):
    found = merchant.admin.get(f"/gateway-accounts?tenant_id={merchant.tenant_id}").json()
    return {account["gateway_id"] for account in found["gateway_accounts"]}


def test_an_account_that_nothing_refers_to_is_deleted(merchant, mistyped, database):
    assert mistyped in listed(merchant)
    assert remove(merchant, mistyped).status_code == 204
    assert mistyped not in listed(merchant)
    left = "SELECT count(*) FROM gateway_account_currencies WHERE gateway_account_id = $1"
    assert database.value(left, mistyped) == 0
    assert remove(merchant, mistyped).status_code == 404
    line = {"product_name": "x", "quantity": 1, "unit_price": "50000"}
    order = {"gateway_id": mistyped, "currency": "IDR", "line_items": [line]}
    assert merchant.api.post("/invoices", json=order).status_code in {400, 404}


def test_an_account_of_an_invoice_stays(merchant):
    invoice = merchant.invoice()
    answer = remove(merchant, merchant.xendit_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "gateway_account_in_use")
    assert merchant.xendit_id in listed(merchant)
    assert merchant.get(invoice)["total_amount"] == invoice["total_amount"]
    assert merchant.invoice()["status"] == "pending", "its currencies are still there"


def test_an_account_that_got_a_webhook_stays(merchant, mistyped, database):
    database.rows(
        "INSERT INTO webhooks (id, tenant_id, gateway_account_id, event_key, event, headers, body, status)"
        " VALUES (gen_random_uuid(), $1, $2, 'x', 'x', '{}', '', 'ignored')",
        merchant.tenant_id,
        mistyped,
    )
    assert remove(merchant, mistyped).status_code == 409


def test_only_the_admin_key_deletes(merchant, mistyped):
    assert merchant.api.delete(f"/gateway-accounts/{mistyped}").status_code == 401
    assert remove(merchant, uuid4()).status_code == 404
    assert mistyped in listed(merchant)
