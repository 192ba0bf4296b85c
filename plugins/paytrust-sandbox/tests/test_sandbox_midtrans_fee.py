"""Automatic Fee Imposition: the payer pays the merchant's fee on top of what was asked for."""

import hashlib
import json

import midtransclient  # type: ignore[import-untyped]
import pytest

OFF = {"enable": False}


def halves(payment_type: str) -> dict:
    return {
        "enable": True,
        "payment_fee_configs": [{"payment_type": payment_type, "customer_percentage": 50}],
    }


@pytest.fixture
def imposing(midtrans):
    midtrans.settings(impose_fee=True)
    return midtrans


def gross(transactions) -> str:
    return transactions.status()["gross_amount"]


def test_status_and_notification_say_the_amount_with_the_fee(imposing, transactions):
    transactions.snap(amount=100_000)
    payment = imposing.pay("ORD-1", channel="other_qris")
    assert (payment.amount, payment.paid_amount) == ("100000", "100705")
    for body in (transactions.status(), *(json.loads(delivery.body) for delivery in imposing.deliveries)):
        assert body["gross_amount"] == "100705.00"
        assert body["extra_info"] == {
            "gross_amount_info": {
                "original_amount": "100000",
                "gross_amount": 100_705,
                "customer_imposed_payment_fee": "705",
            }
        }
        signed = f"ORD-1{body['status_code']}100705.00{imposing.key}"
        assert body["signature_key"] == hashlib.sha512(signed.encode()).hexdigest()


@pytest.mark.parametrize(
    ("channel", "amount", "with_fee"),
    [
        ("other_qris", 10_000, "10071.00"),
        ("other_qris", 95_000, "95670.00"),
        ("gopay", 98_000, "100000.00"),
        ("bca_va", 10_000, "14440.00"),
        ("permata_va", 10_000, "14440.00"),
        ("alfamart", 10_000, "10000.00"),
        ("credit_card", 10_000, "10000.00"),
    ],
)
def test_each_method_has_its_fee_rounded_up(imposing, transactions, channel, amount, with_fee):
    transactions.snap(amount=amount)
    imposing.choose("ORD-1", channel)
    assert gross(transactions) == with_fee


def test_without_the_switch_nothing_is_added(midtrans, transactions):
    transactions.snap()
    midtrans.pay("ORD-1", channel="other_qris")
    assert gross(transactions) == "10400.00"
    assert "extra_info" not in transactions.status()


def test_a_token_request_can_refuse_the_fee(imposing, transactions):
    transactions.snap(customer_imposed_payment_fee=OFF)
    imposing.pay("ORD-1", channel="other_qris")
    assert gross(transactions) == "10400.00"


@pytest.mark.parametrize(
    ("fee", "channel", "with_fee"),
    [
        (halves("gopay"), "gopay", "100000.00"),
        (halves("bank_transfer"), "bni_va", "101220.00"),
        (halves("gopay"), "bni_va", "99000.00"),
    ],
)
def test_a_token_request_can_ask_for_a_part_of_it(midtrans, transactions, fee, channel, with_fee):
    transactions.snap(amount=99_000, customer_imposed_payment_fee=fee)
    midtrans.choose("ORD-1", channel)
    assert gross(transactions) == with_fee


@pytest.mark.parametrize(
    "fee",
    [
        "no",
        {},
        {"enable": "false"},
        {"enable": True},
        {"enable": True, "payment_fee_configs": []},
        {"enable": True, "payment_fee_configs": [{"payment_type": "gopay"}]},
        {"enable": True, "payment_fee_configs": [{"payment_type": "gopay", "customer_percentage": 101}]},
        {"enable": True, "payment_fee_configs": [{"payment_type": "gopay", "customer_percentage": True}]},
    ],
)
def test_a_fee_that_makes_no_sense_is_refused(transactions, fee):
    answer = transactions.snap(customer_imposed_payment_fee=fee)
    assert answer.status_code == 400
    assert "customer_imposed_payment_fee" in answer.json()["error_messages"][0]


def test_the_amounts_can_stand_in_the_metadata(imposing, transactions):
    imposing.settings(fee_info="metadata")
    transactions.snap(metadata={"a": "b"})
    imposing.choose("ORD-1", "other_qris")
    body = transactions.status()
    assert "extra_info" not in body
    assert body["metadata"]["a"] == "b"
    assert body["metadata"]["extra_info"]["gross_amount_info"]["original_amount"] == "10400"


def test_a_refund_gives_the_fee_back_too(imposing, transactions):
    transactions.snap(amount=100_000)
    imposing.pay("ORD-1", channel="other_qris")
    assert imposing.refund("ORD-1").refunded_amount == "100705"


def test_the_page_shows_the_fee_once_a_method_is_chosen(imposing, transactions, browser):
    page = transactions.snap(amount=100_000).json()["redirect_url"]
    assert "IDR 100,705" not in browser.get(page).text
    imposing.choose("ORD-1", "other_qris")
    assert all(text in browser.get(page).text for text in ("IDR 100,705", "Payment fee", "IDR 705"))


def test_half_of_the_bill_is_half_of_what_the_payer_owes(imposing, transactions):
    transactions.snap(amount=100_000)
    assert imposing.pay("ORD-1", amount="under", channel="other_qris").paid_amount == "50352"


def test_the_sdk_can_refuse_the_fee_and_see_it(imposing):
    snap = midtransclient.Snap(server_key=imposing.key, client_key="c", custom_headers={}, proxies={})
    snap.api_config.SNAP_SANDBOX_BASE_URL = f"{imposing.url}/snap/v1"
    snap.api_config.CORE_SANDBOX_BASE_URL = imposing.url
    for order_id, fee in (("ORD-1", {}), ("ORD-2", {"customer_imposed_payment_fee": OFF})):
        snap.create_transaction(
            {"transaction_details": {"order_id": order_id, "gross_amount": 100_000}, **fee}
        )
        imposing.pay(order_id, channel="other_qris")
    told = [snap.transactions.status(order_id)["gross_amount"] for order_id in ("ORD-1", "ORD-2")]
    assert told == ["100705.00", "100000.00"]
