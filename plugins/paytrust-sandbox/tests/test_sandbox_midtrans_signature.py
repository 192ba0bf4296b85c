"""The signature against vectors computed elsewhere, and on the notifications themselves."""

import hashlib
import json

import pytest
from paytrust_sandbox.midtrans.signature import signature

KEY = "SB-Mid-server-TESTKEY"
VECTORS = [
    (
        "PT-20300101-0001",
        "200",
        "154000.00",
        "0bedc3c9cad139c9394a76b068f10044da0e7203d449e00475f81387d2db80036e9deef5f5c9e59f0f4684c160ec7dcdb699a7a9811580bd82b5480524b4c045",
    ),
    (
        "PT-20300101-0001",
        "201",
        "154000.00",
        "0a6f94b800ec6a08c5fdcdfa25622e2bd95f731a31ef5c0e328f256df49f6f06fc7ea22425c51fcd2056aebca2af35108bbdaa7abe6f68398dbf26b19e488855",
    ),
    (
        "PT-20300101-0001",
        "202",
        "154000.00",
        "b47c7f17569db5ab90594b8cf27b0735a4c358aec225e899f4e20c95ac1282eb277a83677d8bc6f46268811edaf5b505e3b24220479d9c89f9a119c3b33b8f63",
    ),
    (
        "ORD-1",
        "407",
        "10400.00",
        "245d095c0b6e8c09bafe6693662d281cefd05c301af7377ed85ec3d860974c291b1338c68cefde393ef7b960bee44f923b45c56780f964b7253e16a92d00e215",
    ),
]


@pytest.mark.parametrize(("order_id", "code", "amount", "expected"), VECTORS)
def test_the_signature_matches_the_published_construction(order_id, code, amount, expected):
    assert signature(order_id, code, amount, KEY) == expected


def test_a_notification_is_signed_over_the_strings_it_carries(transactions, midtrans, merchant):
    midtrans.webhook_url = merchant.url
    transactions.charge()
    midtrans.pay("ORD-1")
    midtrans.wait_for_deliveries(2)
    for received in merchant.received:
        body = json.loads(received.body)
        signed = body["order_id"] + body["status_code"] + body["gross_amount"] + midtrans.key
        assert body["signature_key"] == hashlib.sha512(signed.encode()).hexdigest()


def test_a_status_answer_is_signed_over_its_own_code(transactions, midtrans):
    transactions.charge()
    midtrans.expire("ORD-1")
    body = transactions.status()
    assert body["status_code"] == "407"
    assert body["signature_key"] == signature("ORD-1", "407", "10400.00", midtrans.key)
