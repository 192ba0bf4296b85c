"""
T128: who may tell us something: only the gateway, only at the address of the account, and only what it
signed.
"""

from __future__ import annotations

import json
import secrets

import pytest
from support.waiting import eventually

GATEWAYS = ["xendit", "midtrans"]


@pytest.fixture(params=GATEWAYS)
def gateway(request):
    return request.param


@pytest.fixture
def far(gateway, seller, sandbox):
    return getattr(sandbox, gateway)


@pytest.fixture
def stored(seller, database):
    """How many webhooks are kept for the shop's accounts."""

    def count():
        ids = [account["gateway_id"] for account in seller.accounts.values()]
        return database.value("SELECT count(*) FROM webhooks WHERE gateway_account_id = ANY($1::uuid[])", ids)

    return count


@pytest.fixture
def genuine(seller, far, gateway):
    """A true webhook about a paid invoice that did not reach us: where it goes, its headers and its body."""
    invoice = seller.invoice(gateway)
    far.hold_webhooks()
    far.pay(seller.reference(invoice))
    delivery = far.deliveries[-1]
    assert delivery.state == "held"
    return delivery


@pytest.fixture
def send(outside):
    """Send a webhook, changed or not."""

    def post(delivery, url=None, body=None, headers=None):
        content = delivery.body.encode() if body is None else body
        return outside.post(url or delivery.url, content=content, headers=delivery.headers | (headers or {}))

    return post


@pytest.fixture
def refused(problem, stored, seller, database):
    """The answer is 401, and nothing of the webhook is kept."""
    before = stored()

    def check(answer):
        problem(answer, 401, "invalid_signature")
        assert stored() == before

    return check


# --- forged ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
@pytest.mark.parametrize("token", [None, "", "wrong", "x" * 10_000, "\u00e9"], ids=ascii)
def test_xendit_must_know_the_callback_token(genuine, refused, outside, token):
    given = {} if token is None else {"x-callback-token": token.encode()}
    headers = {name: value for name, value in genuine.headers.items() if name != "x-callback-token"} | given
    refused(outside.post(genuine.url, content=genuine.body.encode(), headers=headers))


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        {"signature_key": None},
        {"signature_key": ""},
        {"signature_key": "0" * 128},
        {"signature_key": [1]},
        {"gross_amount": "1.00"},
        {"gross_amount": "5145500.00"},
        {"gross_amount": 514550},
        {"gross_amount": "1e999"},
        {"order_id": "PT-OTHER-1-1x"},
        {"order_id": None},
        {"status_code": "201"},
        {"status_code": 200},
        {"merchant_id": "G000000000"},
        {"merchant_id": None},
        {"transaction_status": "pending"},
        {"transaction_status": "expire"},
        {"transaction_status": "deny"},
        {"transaction_id": "../../etc"},
        {"transaction_id": "x" * 200},
    ],
    ids=str,
)
def test_midtrans_must_have_signed_what_it_says(send, genuine, refused, change):
    body = json.loads(genuine.body) | change
    refused(
        send(
            genuine,
            body=json.dumps({name: value for name, value in body.items() if value is not None}).encode(),
        )
    )


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
def test_the_signature_of_a_pending_does_not_make_it_a_settlement(send, seller, far, gateway, refused):
    invoice = seller.invoice(gateway)
    far.hold_webhooks()
    far.choose(seller.reference(invoice))
    pending = far.deliveries[-1]
    for status in ("settlement", "capture"):
        for code in ("201", "200"):
            refused(
                send(
                    pending,
                    body=json.dumps(
                        json.loads(pending.body) | {"transaction_status": status, "status_code": code}
                    ).encode(),
                )
            )
    assert seller.get(invoice)["status"] == "pending"


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"order_id": 1e999}',
        b"x" * 200_000,
    ],
    ids=lambda b: repr(b[:20]),
)
def test_a_body_without_a_signature_is_refused(send, genuine, refused, body):
    refused(send(genuine, body=body))


@pytest.mark.parametrize("authentication", ["wrong", "missing"])
def test_what_the_sandbox_forges_is_refused(seller, far, gateway, stored, authentication):
    invoice = seller.invoice(gateway)
    if gateway == "midtrans":
        far.settings(send_pending=False)
        far.choose(seller.reference(invoice))
    before, sent = stored(), len(far.deliveries)
    lie = (
        {"status": "PAID"}
        if gateway == "xendit"
        else {"transaction_status": "settlement", "status_code": "200"}
    )
    far.forge(seller.reference(invoice), lie, authentication=authentication)
    [forged] = far.wait_for_deliveries(sent + 1)[sent:]
    assert [attempt.status for attempt in forged.attempts[:1]] == [401]
    assert (stored(), seller.get(invoice)["status"]) == (before, "pending")


# --- the right address -------------------------------------------------------------------------------------------------------


def test_a_webhook_at_another_accounts_address_moves_nothing(
    send, genuine, make_merchant, admin, gateway, seller, problem, database
):
    other = make_merchant()
    secret = (
        {"secret_key": "x", "callback_token": "theirs"} if gateway == "xendit" else {"server_key": "theirs"}
    )
    admin.patch(
        f"/gateway-accounts/{other.accounts[gateway]['gateway_id']}", json={"credentials": secret}
    ).raise_for_status()
    problem(send(genuine, url=other.accounts[gateway]["webhook_url"]), 401, "invalid_signature")
    rows = "SELECT count(*) FROM webhooks WHERE gateway_account_id = $1"
    assert database.value(rows, other.accounts[gateway]["gateway_id"]) == 0


def test_who_shares_the_gateways_secret_still_speaks_only_of_his_own_invoices(
    send, genuine, make_merchant, gateway, database
):
    other = make_merchant()
    answer = send(genuine, url=other.accounts[gateway]["webhook_url"])
    assert answer.status_code == 200
    kept = "SELECT status, error_code, tenant_id::text FROM webhooks WHERE gateway_account_id = $1"

    def failed():
        rows = database.rows(kept, other.accounts[gateway]["gateway_id"])
        return rows and rows[0]["error_code"] is not None and rows

    assert eventually(failed) == [
        {"status": "received", "error_code": "unknown_reference", "tenant_id": other.tenant_id}
    ]
    reference = json.loads(genuine.body).get("external_id") or json.loads(genuine.body)["order_id"]
    assert database.rows("SELECT status FROM payments WHERE reference = $1", reference) == [
        {"status": "open"}
    ]


@pytest.mark.parametrize(
    "path",
    [
        *[
            "{gateway}/{random}",
            "{gateway}/{token}0",
            "{gateway}/{cut}",
            "{gateway}/{upper}",
            "{gateway}/{token}%00",
            "{gateway}/{token}%0A",
        ],
        *[
            "{gateway}/%25",
            "{gateway}",
            "{other}/{token}",
            "paypal/{token}",
            "{gateway}%00/{token}",
            "x{gateway}/{token}",
            "%2e%2e/{token}",
        ],
        *["{long}/{token}", "{gateway}/{long}", "{gateway}/{token}/x"],
    ],
)
def test_at_any_other_address_there_is_nothing(
    send, genuine, gateway, service, seller, problem, stored, path
):
    before = stored()
    token = seller.accounts[gateway]["webhook_url"].rpartition("/")[2]
    tokens = {
        "token": token,
        "cut": token[:-1],
        "upper": f"{token.upper()}A",
        "random": secrets.token_hex(16),
        "long": "a" * 5_000,
    }
    other = GATEWAYS[1 - GATEWAYS.index(gateway)]
    problem(
        send(
            genuine,
            url=f"{service.public_url}/webhooks/{path.format(gateway=gateway, other=other, **tokens)}",
        ),
        {404, 405},
    )
    assert stored() == before


def test_an_address_does_not_depend_on_the_query(send, genuine):
    assert send(genuine, url=f"{genuine.url}?utm=1&utm=2&x=%00").status_code == 200


@pytest.mark.parametrize("size", [262_145, 1_000_000])
def test_a_webhook_over_the_limit_is_413(send, genuine, problem, stored, size):
    before = stored()
    problem(send(genuine, body=b'{"x": "' + b"x" * size + b'"}'), 413, "body_too_large")
    assert stored() == before


# --- lies with a good signature ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
@pytest.mark.parametrize(
    "lie",
    [{"status": "PAID"}, {"status": "PAID", "paid_amount": 1}, {"status": "SETTLED"}, {"status": "EXPIRED"}],
    ids=str,
)
def test_an_unsigned_body_moves_no_money_that_the_gateway_does_not_confirm(
    seller, far, gateway, database, lie
):
    invoice = seller.invoice(gateway)
    far.forge(seller.reference(invoice), lie, authentication="valid")
    wait_for_webhooks(database, seller.reference(invoice), ["ignored"])
    assert seller.get(invoice)["status"] == "pending"
    assert seller.get(invoice, "/overpayment")["total_paid"] == "0"
    far.pay(seller.reference(invoice))
    seller.wait(invoice, "paid")


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_an_unconfirmed_webhook_is_tried_again_within_a_minute(seller, far, gateway, database):
    """It may be a lie, or its webhooks may be ahead of its own API."""
    invoice = seller.invoice(gateway)
    due = "SELECT next_check_at - now() FROM payments WHERE reference = $1"
    assert database.value(due, seller.reference(invoice)).total_seconds() > 120
    far.forge(seller.reference(invoice), {"status": "PAID"}, authentication="valid")
    wait_for_webhooks(database, seller.reference(invoice), ["ignored"])
    assert 0 < database.value(due, seller.reference(invoice)).total_seconds() <= 60


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_a_true_event_with_a_false_amount_counts_with_the_true_one(send, seller, genuine, database):
    body = json.loads(genuine.body) | {"paid_amount": 1, "amount": 1, "currency": "USD"}
    assert send(genuine, body=json.dumps(body).encode()).status_code == 200
    wait_for_webhooks(database, body["external_id"], ["applied"])
    invoice_id = database.value("SELECT invoice_id FROM payments WHERE reference = $1", body["external_id"])
    assert seller.get({"invoice_id": invoice_id}, "/overpayment")["total_paid"] == "514550"


def wait_for_webhooks(database, reference, statuses):
    def found():
        rows = database.rows("SELECT status FROM webhooks WHERE reference = $1 ORDER BY id", reference)
        return [row["status"] for row in rows]

    eventually(lambda: found() == statuses, found)


def test_a_stored_webhook_keeps_its_bytes_and_no_secret(send, genuine, database, far):
    secret = getattr(far, "callback_token", None)
    assert (
        send(
            genuine,
            headers={
                "authorization": "Basic secret",
                "cookie": "a=secret",
                "x-odd": "\u00e9".encode("latin-1"),
            },
        ).status_code
        == 200
    )
    [row] = database.rows(
        "SELECT headers, body FROM webhooks WHERE gateway_account_id = $1 ORDER BY id DESC LIMIT 1",
        genuine_account(database, genuine),
    )
    assert row["body"] == genuine.body.encode()
    assert "secret" not in row["headers"]
    assert secret is None or secret not in row["headers"]
    assert "%E9" in row["headers"]


def genuine_account(database, delivery):
    return database.value(
        "SELECT id FROM gateway_accounts WHERE webhook_token = $1", delivery.url.rpartition("/")[2]
    )
