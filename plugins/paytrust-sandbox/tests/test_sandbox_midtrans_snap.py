"""Snap's rules, at the HTTP surface."""

import re
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest

WIB = timezone(timedelta(hours=7))


def wib(at):
    return f"{at.astimezone(WIB):%Y-%m-%d %H:%M:%S} +0700"


def test_a_new_transaction_is_201_with_a_token_and_a_page(transactions):
    answer = transactions.snap()
    assert answer.status_code == 201
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.json()["token"])
    assert answer.json()["redirect_url"].endswith(answer.json()["token"])


def test_a_wrong_key_is_401_with_two_messages(midtrans, browser):
    answer = browser.post(f"{midtrans.url}/snap/v1/transactions", json={}, auth=("wrong", ""))
    assert answer.status_code == 401
    assert len(answer.json()["error_messages"]) == 2
    assert answer.json()["error_messages"][0].startswith("Access denied due to unauthorized transaction")


@pytest.mark.parametrize("order_id", ["A" * 50, "aZ0-_~."])
def test_order_ids_of_the_allowed_alphabet_pass(transactions, order_id):
    assert transactions.snap(order_id).status_code == 201


@pytest.mark.parametrize("order_id", ["A" * 51, "a b", "a/b", "a#b", "", 7, None])
def test_other_order_ids_are_refused(transactions, order_id):
    answer = transactions.snap(order_id)
    assert answer.status_code == 400
    assert "order_id" in answer.json()["error_messages"][0]


@pytest.mark.parametrize("amount", [0, -1, 10**15, 10**4000, 10400.5, 10400.0, "10400", True, None])
def test_the_amount_must_be_a_positive_integer(transactions, amount):
    answer = transactions.snap(amount=amount)
    assert answer.status_code == 400
    assert "gross_amount" in answer.json()["error_messages"][0]


def test_an_empty_body_is_told_what_is_required(midtrans_api):
    answer = midtrans_api.post("/snap/v1/transactions", json={})
    assert answer.status_code == 400
    assert "transaction_details.order_id is required" in answer.json()["error_messages"]


def test_items_must_sum_up_to_the_gross_amount(transactions):
    item = {"name": "Widget", "price": 10_000, "quantity": 1}
    answer = transactions.snap(item_details=[item])
    assert answer.json()["error_messages"] == [
        "transaction_details.gross_amount is not equal to the sum of item_details"
    ]


def test_discounts_are_items_of_negative_price(transactions):
    items = [
        {"name": "Widget", "price": 6_000, "quantity": 2},
        {"id": "DISC", "name": "Discount", "price": -1_600, "quantity": 1},
    ]
    assert transactions.snap(item_details=items).status_code == 201


@pytest.mark.parametrize(
    "terms",
    [
        {"item_details": [{"name": "W" * 51, "price": 10_400, "quantity": 1}]},
        {"item_details": [{"name": "W", "price": 10_400.0, "quantity": 1}]},
        {"item_details": [{"name": "W", "price": 10_400, "quantity": 0}]},
        {"item_details": {"name": "W"}},
        {"customer_details": {"email": "ani"}},
        {"customer_details": {"first_name": "A" * 256}},
        {"callbacks": {"finish": "h" * 256}},
        {"custom_field1": "x" * 256},
        {"custom_field1": 7},
        {"callbacks": {"finish": 7}},
        {"callbacks": []},
        {"credit_card": "x"},
        {"enabled_payments": "bca_va"},
        {"enabled_payments": [["bca_va"]]},
        {"expiry": {"duration": 60}},
        {"expiry": {"duration": 0, "unit": "minutes"}},
        {"expiry": {"duration": 8, "unit": "days"}},
        {"expiry": {"duration": 1, "unit": "fortnight"}},
        {"expiry": {"start_time": "2030-01-01T10:00:00Z", "duration": 1, "unit": "hour"}},
        {"expiry": {"start_time": "2001-01-01 10:00:00 +0700", "duration": 1, "unit": "hour"}},
    ],
)
def test_other_mistakes_are_refused(transactions, terms):
    answer = transactions.snap(**terms)
    assert answer.status_code == 400
    assert answer.json()["error_messages"]


def test_optional_fields_may_be_null(transactions):
    items = [{"name": "W", "price": 10_400, "quantity": 1, "brand": None}]
    assert (
        transactions.snap(
            item_details=items, customer_details={"email": None}, callbacks=None, enabled_payments=None
        ).status_code
        == 201
    )


def test_more_than_three_notification_urls_are_refused(transactions):
    assert (
        transactions.snap(
            headers={"X-Append-Notification": "http://a,http://b,http://c,http://d"}
        ).status_code
        == 400
    )


def test_an_unpaid_order_id_gets_a_new_token_and_the_old_one_is_dead(transactions, midtrans, browser):
    first, second = transactions.snap().json(), transactions.snap().json()
    assert first["token"] != second["token"]
    assert "no longer valid" in browser.get(first["redirect_url"]).text
    assert [token["state"] for token in midtrans.payment("ORD-1").details["tokens"]] == ["replaced", "open"]


def test_an_order_id_that_is_active_or_paid_is_taken(transactions, midtrans):
    transactions.snap()
    midtrans.choose("ORD-1", "bca_va")
    assert transactions.snap().json()["error_messages"] == [
        "transaction_details.order_id has already been taken"
    ]
    midtrans.pay("ORD-1")
    assert "has been paid and utilized" in transactions.snap().json()["error_messages"][0]


def test_no_transaction_exists_until_a_method_is_chosen(transactions, midtrans):
    transactions.snap()
    missing = transactions.client.get("/v2/ORD-1/status")
    assert (missing.status_code, missing.json()["status_code"]) == (200, "404")
    assert midtrans.payment("ORD-1").status == "unchosen"
    midtrans.choose("ORD-1", "bca_va")
    assert re.fullmatch(r"[0-9a-f-]{36}", transactions.status()["transaction_id"])


def test_after_a_denied_attempt_the_same_order_can_be_paid(transactions, midtrans):
    transactions.snap()
    midtrans.deny("ORD-1", "credit_card")
    denied = transactions.status()
    assert denied["transaction_status"] == "deny"
    midtrans.pay("ORD-1", channel="gopay")
    paid = transactions.status()
    assert paid["transaction_status"] == "settlement"
    assert paid["transaction_id"] != denied["transaction_id"]
    assert transactions.status(denied["transaction_id"])["transaction_status"] == "deny"


def test_the_expiry_counts_from_its_start_time_in_jakarta_time(transactions, midtrans):
    start = datetime.now(UTC).replace(microsecond=0)
    transactions.snap(expiry={"start_time": wib(start), "duration": 2, "unit": "hours"})
    midtrans.choose("ORD-1", "bca_va")
    assert transactions.status()["expiry_time"] == wib(start + timedelta(hours=2)).removesuffix(" +0700")


def test_without_a_start_time_the_clock_starts_when_a_method_is_chosen(transactions, midtrans):
    transactions.snap(expiry={"duration": 10, "unit": "minute"}, page_expiry={"duration": 2, "unit": "days"})
    midtrans.advance(3600)
    midtrans.choose("ORD-1", "bca_va")
    body = transactions.status()
    chosen, expiry = (datetime.fromisoformat(body[name]) for name in ("transaction_time", "expiry_time"))
    assert expiry - chosen == timedelta(minutes=10)


def lives_for(midtrans) -> timedelta:
    """Return how long the newest page of the order is open."""
    payment = midtrans.payment("ORD-1")
    expires_at = datetime.fromisoformat(payment.details["tokens"][-1]["expires_at"])
    return expires_at - datetime.fromisoformat(payment.created_at)


@pytest.mark.parametrize(
    ("terms", "length"),
    [
        ({}, timedelta(hours=24)),
        ({"expiry": {"duration": 7, "unit": "days"}}, timedelta(days=7)),
        ({"page_expiry": {"duration": 30, "unit": "minutes"}}, timedelta(minutes=30)),
        (
            {"expiry": {"duration": 7, "unit": "days"}, "page_expiry": {"duration": 3, "unit": "hours"}},
            timedelta(hours=3),
        ),
    ],
)
def test_a_page_closes_when_it_was_asked_to_or_after_a_day(transactions, midtrans, browser, terms, length):
    page = transactions.snap(**terms).json()["redirect_url"]
    assert lives_for(midtrans) == length
    midtrans.advance(length.total_seconds() - 30)
    assert "Pay with" in browser.get(page).text
    midtrans.advance(30)
    assert "This page has expired." in browser.get(page).text
    with pytest.raises(httpx.HTTPStatusError, match="no open Snap page"):
        midtrans.pay("ORD-1")
    assert transactions.status()["status_code"] == "404"
    assert transactions.snap(**terms).status_code == 201


def test_a_page_can_be_closed_before_its_time(transactions, midtrans, browser):
    page = transactions.snap().json()["redirect_url"]
    midtrans.expire("ORD-1")
    assert "This page has expired." in browser.get(page).text
    assert midtrans.deliveries == []


def test_a_minimum_amount_can_be_set(transactions, midtrans):
    midtrans.settings(minimum_amounts={"IDR": 10_000})
    assert "greater than or equal to 10000" in transactions.snap(amount=9_999).json()["error_messages"][0]
    assert transactions.charge(amount=9_999, payment_type="gopay")["status_code"] == "400"
    assert transactions.snap(amount=10_000).status_code == 201


def test_a_page_that_expires_alone_is_not_notified(transactions, midtrans, browser):
    page = transactions.snap(page_expiry={"duration": 1, "unit": "hour"}).json()["redirect_url"]
    midtrans.advance(3601)
    assert "This page has expired." in browser.get(page).text
    assert midtrans.deliveries == []


def test_a_chosen_method_expires_with_a_notification(transactions, midtrans):
    transactions.snap(expiry={"duration": 1, "unit": "hour"})
    midtrans.choose("ORD-1", "bca_va")
    midtrans.advance(3601)
    assert transactions.status()["transaction_status"] == "expire"
    assert [delivery.event for delivery in midtrans.deliveries] == ["pending", "expire"]


def test_a_token_can_be_cancelled_once(transactions, midtrans_api):
    token = transactions.snap().json()["token"]
    cancelled = midtrans_api.post(f"/snap/v1/transactions/{token}/cancel")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", cancelled.json()["canceled_at"])
    assert midtrans_api.post(f"/snap/v1/transactions/{token}/cancel").json()["error_messages"] == [
        "token already canceled"
    ]


def test_a_token_in_use_or_unknown_cannot_be_cancelled(transactions, midtrans_api, midtrans):
    token = transactions.snap().json()["token"]
    midtrans.choose("ORD-1")
    assert midtrans_api.post(f"/snap/v1/transactions/{token}/cancel").json()["error_messages"] == [
        "Transaction is on progress"
    ]
    assert midtrans_api.post("/snap/v1/transactions/nothing/cancel").json()["error_messages"] == [
        "token not found"
    ]


def test_only_enabled_methods_are_offered(transactions, midtrans, browser):
    page = transactions.snap(enabled_payments=["bca_va", "cstore"]).json()["redirect_url"]
    assert re.findall("<option>(.*?)</option>", browser.get(page).text) == ["bca_va", "alfamart", "indomaret"]
    with pytest.raises(httpx.HTTPStatusError, match="not offered"):
        midtrans.pay("ORD-1", channel="gopay")
