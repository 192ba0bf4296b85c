"""The official SDK, unchanged, against our Snap and Core."""

import midtransclient  # type: ignore[import-untyped]
import pytest
from midtransclient.error_midtrans import MidtransAPIError  # type: ignore[import-untyped]


def pointed_at(api, url):
    api.api_config.SNAP_SANDBOX_BASE_URL = f"{url}/snap/v1"
    api.api_config.CORE_SANDBOX_BASE_URL = url
    return api


@pytest.fixture
def snap(midtrans):
    return pointed_at(
        midtransclient.Snap(server_key=midtrans.key, client_key="c", custom_headers={}, proxies={}),
        midtrans.url,
    )


@pytest.fixture
def core(midtrans):
    return pointed_at(
        midtransclient.CoreApi(server_key=midtrans.key, client_key="c", custom_headers={}, proxies={}),
        midtrans.url,
    )


ORDER = {
    "transaction_details": {"order_id": "ORD-1", "gross_amount": 10_400},
    "item_details": [
        {"id": "SKU-1", "price": 10_000, "quantity": 1, "name": "Widget"},
        {"id": "FEE", "price": 400, "quantity": 1, "name": "Service fee"},
    ],
    "customer_details": {"first_name": "Ani", "email": "ani@example.com", "phone": "+628123456789"},
    "enabled_payments": ["bca_va", "gopay"],
    "callbacks": {"finish": "https://shop.test/ok"},
    "expiry": {"start_time": "2099-01-01 10:00:00 +0700", "unit": "minutes", "duration": 60},
    "custom_field1": "t1",
}
CHARGE = {
    "payment_type": "bank_transfer",
    "transaction_details": {"order_id": "ORD-1", "gross_amount": 10_400},
    "bank_transfer": {"bank": "bca"},
    "custom_expiry": {"order_time": "2099-01-01 10:00:00 +0700", "expiry_duration": 60, "unit": "minute"},
}


def test_the_sdk_opens_a_snap_page(snap):
    answer = snap.create_transaction(ORDER)
    assert answer["redirect_url"].endswith(f"/snap/v3/redirection/{answer['token']}")


def test_a_snap_order_has_no_status_until_a_method_is_chosen(snap, midtrans):
    snap.create_transaction(ORDER)
    with pytest.raises(MidtransAPIError) as missing:
        snap.transactions.status("ORD-1")
    assert missing.value.api_response_dict["status_code"] == "404"
    midtrans.choose("ORD-1", "gopay")
    assert snap.transactions.status("ORD-1")["transaction_status"] == "pending"


def test_the_sdk_charges_reads_and_cancels(core):
    charged = core.charge(CHARGE)
    assert (charged["status_code"], charged["transaction_status"], charged["gross_amount"]) == (
        "201",
        "pending",
        "10400.00",
    )
    assert charged["expiry_time"] == "2099-01-01 11:00:00"
    assert core.transactions.status(charged["transaction_id"])["va_numbers"] == charged["va_numbers"]
    assert core.transactions.cancel("ORD-1")["transaction_status"] == "cancel"


def test_the_sdk_takes_407_for_a_successful_expire(core):
    core.charge(CHARGE)
    expired = core.transactions.expire("ORD-1")
    assert (expired["status_code"], expired["transaction_status"]) == ("407", "expire")


def test_the_sdk_approves_only_challenged_cards(core, transactions):
    core.charge(CHARGE)
    with pytest.raises(MidtransAPIError) as refused:
        core.transactions.approve("ORD-1")
    assert refused.value.api_response_dict["status_code"] == "412"
    card = {"payment_type": "credit_card", "credit_card": {"token_id": transactions.card("4511111111111117")}}
    details = {"transaction_details": {"order_id": "ORD-2", "gross_amount": 10_400}}
    assert core.charge({**card, **details})["fraud_status"] == "challenge"
    assert core.transactions.approve("ORD-2")["fraud_status"] == "accept"


def test_the_sdk_refunds_a_settled_wallet_payment(core, midtrans):
    core.charge({**CHARGE, "payment_type": "gopay"})
    midtrans.pay("ORD-1")
    refund = core.transactions.refund(
        "ORD-1", {"refund_key": "ref-1", "amount": 5_000, "reason": "customer request"}
    )
    assert (refund["status_code"], refund["transaction_status"], refund["refund_amount"]) == (
        "200",
        "partial_refund",
        "5000.00",
    )
    again = core.transactions.refundDirect(
        "ORD-1", {"refund_key": "ref-1", "amount": 5_000, "reason": "customer request"}
    )
    assert again["refund_chargeback_id"] == refund["refund_chargeback_id"]


def test_the_sdk_passes_notification_and_idempotency_headers(midtrans):
    headers = {"X-Override-Notification": "http://127.0.0.1:9/a", "Idempotency-Key": "key-1"}
    core = pointed_at(
        midtransclient.CoreApi(server_key=midtrans.key, client_key="c", custom_headers=headers, proxies={}),
        midtrans.url,
    )
    assert core.charge(CHARGE)["transaction_id"] == core.charge(CHARGE)["transaction_id"]
    assert midtrans.wait_for_deliveries(1)[0].url == "http://127.0.0.1:9/a"
