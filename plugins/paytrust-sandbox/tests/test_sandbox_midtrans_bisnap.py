"""Methods that Midtrans runs on BI-SNAP: ids of their own, and look-ups that need a header."""

import hashlib
import json
import re
from datetime import UTC, datetime

import midtransclient  # type: ignore[import-untyped]
import pytest

SOURCE = {"transaction-source": "SNAP_API"}
METHODS = ["dana", "danamon_va", "bsi_va", "seabank_va", "saqu_va"]


@pytest.fixture(params=["as_others", "renamed", "not_found"])
def lookup(request, midtrans):
    midtrans.settings(bi_snap=request.param)
    return request.param


def opened(transactions, midtrans, channel: str = "dana") -> str:
    transactions.snap()
    return midtrans.choose("ORD-1", channel).id


def status(transactions, identity: str, headers=SOURCE) -> dict:
    return transactions.client.get(f"/v2/{identity}/status", headers=headers).json()


@pytest.mark.parametrize("channel", METHODS)
def test_their_ids_tell_the_second_in_utc(midtrans, transactions, channel):
    identity = opened(transactions, midtrans, channel)
    assert re.fullmatch(r"A1\d{14}[A-Za-z0-9]{10}ID", identity)
    made = datetime.strptime(identity[2:16], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    assert abs((made - datetime.now(UTC)).total_seconds()) < 5


@pytest.mark.parametrize("channel", METHODS)
def test_the_notification_names_the_merchants_order(midtrans, transactions, lookup, channel):
    identity = opened(transactions, midtrans, channel)
    midtrans.pay("ORD-1")
    for delivery in midtrans.deliveries:
        body = json.loads(delivery.body)
        assert (body["order_id"], body["transaction_id"]) == ("ORD-1", identity)
        assert (
            body["signature_key"]
            == hashlib.sha512(f"ORD-1{body['status_code']}10400.00{midtrans.key}".encode()).hexdigest()
        )


def test_by_transaction_id_with_the_header_the_order_is_named(midtrans, transactions, lookup):
    identity = opened(transactions, midtrans)
    midtrans.pay("ORD-1")
    body = status(transactions, identity)
    assert (body["order_id"], body["transaction_id"], body["transaction_status"]) == (
        "ORD-1",
        identity,
        "settlement",
    )


@pytest.mark.parametrize("by", ["order", "transaction"])
@pytest.mark.parametrize("headers", [{}, {"transaction-source": "OTHER"}])
def test_otherwise_the_answer_is_a_setting(midtrans, transactions, lookup, by, headers):
    identity = opened(transactions, midtrans)
    body = status(transactions, "ORD-1" if by == "order" else identity, headers)
    if lookup == "not_found":
        assert (body["status_code"], "transaction_id" in body) == ("404", False)
        return
    named = {"as_others": "ORD-1", "renamed": identity}[lookup]
    assert (body["order_id"], body["transaction_id"], body["gross_amount"]) == (named, identity, "10400.00")
    assert body["signature_key"] == hashlib.sha512(f"{named}20110400.00{midtrans.key}".encode()).hexdigest()


def test_the_header_does_not_help_by_order_id(midtrans, transactions):
    midtrans.settings(bi_snap="not_found")
    opened(transactions, midtrans)
    assert status(transactions, "ORD-1")["status_code"] == "404"


def test_other_methods_are_found_as_ever(midtrans, transactions, lookup):
    opened(transactions, midtrans, "bca_va")
    assert status(transactions, "ORD-1", {})["order_id"] == "ORD-1"


def test_a_cancel_names_nothing_and_works(midtrans, transactions, lookup):
    identity = opened(transactions, midtrans)
    body = transactions.post(f"{identity}/cancel", headers=SOURCE)
    assert (body["status_code"], body["transaction_status"]) == ("200", "cancel")
    assert ({"order_id", "transaction_id"} <= body.keys()) == (lookup == "as_others")
    assert midtrans.payment("ORD-1").status == "cancel"


def test_a_refund_names_the_transaction_as_its_order(midtrans, transactions, lookup):
    identity = opened(transactions, midtrans)
    midtrans.pay("ORD-1")
    body = transactions.post(f"{identity}/refund", {"refund_key": "a"}, headers=SOURCE)
    assert (body["status_code"], body["transaction_status"], body["refund_key"]) == ("200", "refund", "a")
    assert (body["order_id"], "transaction_id" in body) == (
        ("ORD-1", True) if lookup == "as_others" else (identity, False)
    )


def test_expire_is_not_for_them(midtrans, transactions, lookup):
    identity = opened(transactions, midtrans)
    code = transactions.post(f"{identity}/expire", headers=SOURCE)["status_code"]
    assert code == ("407" if lookup == "as_others" else "412")


def test_the_sdk_finds_them_by_transaction_id_with_the_header(midtrans, transactions):
    midtrans.settings(bi_snap="not_found")
    identity = opened(transactions, midtrans, "bsi_va")
    core = midtransclient.CoreApi(server_key=midtrans.key, client_key="c", custom_headers=SOURCE, proxies={})
    core.api_config.CORE_SANDBOX_BASE_URL = midtrans.url
    assert core.transactions.status(identity)["order_id"] == "ORD-1"
