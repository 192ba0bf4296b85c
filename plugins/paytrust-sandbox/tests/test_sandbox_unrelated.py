"""Authentic webhooks that are about no payment of this shop."""

import hashlib
import json

import httpx
import pytest

XENDIT = ["disbursement", "other_shop", "payout", "ping", "virtual_account_created", "virtual_account_paid"]
MIDTRANS = ["account_linked", "other_shop", "payout", "ping"]


def sent(gateway, merchant, kind: str):
    """Return what arrived, and the record of it."""
    gateway.webhook_url = merchant.url
    (delivery,) = gateway.send_unrelated(kind)
    gateway.wait_for_deliveries(1)
    (received,) = merchant.received
    assert received.body.decode() == delivery.body
    return received, json.loads(delivery.body)


@pytest.mark.parametrize("kind", XENDIT)
def test_xendits_carry_the_callback_token_and_may_exist(xendit, xendit_api, merchant, kind):
    received, body = sent(xendit, merchant, kind)
    assert received.headers["x-callback-token"] == xendit.callback_token
    assert received.headers["webhook-id"]
    known = xendit_api.get(f"/v2/invoices/{body.get('id', 'nothing')}").status_code == 200
    assert known == (kind == "other_shop")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ping", {"external_id": "invoice_123124123", "status": "PAID"}),
        ("other_shop", {"status": "PAID", "amount": 25_000, "currency": "IDR"}),
        ("payout", {"event": "v3_payout.succeeded"}),
        ("disbursement", {"status": "COMPLETED", "amount": 25_000}),
        ("virtual_account_created", {"status": "ACTIVE", "is_closed": False}),
        ("virtual_account_paid", {"bank_code": "BNI", "amount": 25_000}),
    ],
)
def test_xendits_look_like_their_product(xendit, merchant, kind, fields):
    _, body = sent(xendit, merchant, kind)
    assert {name: body[name] for name in fields} == fields


@pytest.mark.parametrize("kind", ["ping", "other_shop"])
def test_midtrans_signs_payments_it_knows_and_does_not_know(midtrans, transactions, merchant, kind):
    received, body = sent(midtrans, merchant, kind)
    assert received.headers["user-agent"] == "Veritrans"
    signed = body["order_id"] + body["status_code"] + body["gross_amount"] + midtrans.key
    assert body["signature_key"] == hashlib.sha512(signed.encode()).hexdigest()
    assert (body["transaction_status"], body["merchant_id"]) == ("settlement", midtrans.merchant_id)
    code = transactions.status(body["order_id"])["status_code"]
    assert code == {"ping": "404", "other_shop": "200"}[kind]


def test_a_ping_names_the_merchant_in_its_order_id(midtrans, merchant):
    _, body = sent(midtrans, merchant, "ping")
    assert body["order_id"].startswith(f"payment_notif_test_{midtrans.merchant_id}_")


def test_a_payout_is_signed_in_a_header_with_a_key_of_its_own(midtrans, merchant):
    received, body = sent(midtrans, merchant, "payout")
    assert set(body) == {"reference_no", "amount", "status", "updated_at"}
    assert (
        received.headers["iris-signature"]
        == hashlib.sha512(received.body + b"IRIS-merchant-SANDBOX").hexdigest()
    )


def test_a_linked_account_is_signed_over_its_status(midtrans, merchant):
    _, body = sent(midtrans, merchant, "account_linked")
    signed = body["account_id"] + body["account_status"] + body["status_code"] + midtrans.key
    assert body["signature_key"] == hashlib.sha512(signed.encode()).hexdigest()
    assert "order_id" not in body


def test_they_are_held_and_sent_again_like_any_other(xendit, merchant):
    xendit.webhook_url = merchant.url
    xendit.hold_webhooks()
    (held,) = xendit.send_unrelated("ping")
    assert (held.state, held.event, held.reference) == ("held", "ping", "invoice_123124123")
    xendit.release()
    xendit.replay(event="ping")
    xendit.wait_for_deliveries(2)
    assert len({received.body for received in merchant.received}) == 1


def test_the_overview_names_the_kinds(browser, xendit, midtrans):
    told = [browser.get(f"{gateway.url}/_sandbox").json()["unrelated"] for gateway in (xendit, midtrans)]
    assert told == [XENDIT, MIDTRANS]


def test_a_kind_that_does_not_exist_is_refused(midtrans):
    with pytest.raises(httpx.HTTPStatusError, match="there are account_linked, other_shop, payout, ping"):
        midtrans.send_unrelated("weather")


def test_every_kind_is_documented(request):
    readme = (request.path.parents[1] / "README.md").read_text()
    assert all(f"`{kind}`" in readme for kind in XENDIT + MIDTRANS)
