"""What is asked of Snap and of the Core API."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_midtrans import MidtransOptions
from paytrust_midtrans.requests import charge_body, charge_headers, notify_headers, snap_body, snap_expires_at

from paytrust import Customer, Money, PaymentLine

BCA = MidtransOptions("core", "bank_transfer", bank="bca")


def test_a_snap_page_carries_all_that_the_request_says(new_request):
    assert snap_body(new_request()) == {
        "transaction_details": {"order_id": "PT-20300101-0001x", "gross_amount": 154_000},
        "item_details": [
            {"id": "L1", "name": "Widget", "quantity": 1, "price": 150_000},
            {"id": "L2", "name": "Service fee", "quantity": 1, "price": 4_000},
        ],
        "customer_details": {
            "first_name": "Ani",
            "last_name": "Wijaya Kusuma",
            "email": "ani@example.com",
            "phone": "+628123456789",
        },
        "expiry": {"start_time": "2030-01-01 10:00:00 +0700", "unit": "minutes", "duration": 1440},
        "callbacks": {"finish": "https://shop.example/ok", "error": "https://shop.example/fail"},
        "customer_imposed_payment_fee": {"enable": False},
    }


def test_a_core_charge_names_its_one_method(new_request):
    body = charge_body(new_request(), BCA)
    assert body["payment_type"] == "bank_transfer"
    assert body["bank_transfer"] == {"bank": "bca"}
    assert body["custom_expiry"] == {
        "order_time": "2030-01-01 10:00:00 +0700",
        "unit": "minute",
        "expiry_duration": 1440,
    }
    assert body["transaction_details"] == {"order_id": "PT-20300101-0001x", "gross_amount": 154_000}


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (MidtransOptions("core", "bank_transfer", bank="permata"), {"bank": "permata"}),
        (MidtransOptions("core", "echannel"), {"bill_info1": "Payment", "bill_info2": "Order 1001"}),
        (MidtransOptions("core", "cstore", store="alfamart"), {"store": "alfamart"}),
        (MidtransOptions("core", "qris"), {"acquirer": "gopay"}),
        (MidtransOptions("core", "qris", acquirer="airpay shopee"), {"acquirer": "airpay shopee"}),
        (
            MidtransOptions("core", "gopay"),
            {"enable_callback": True, "callback_url": "https://shop.example/ok"},
        ),
        (MidtransOptions("core", "shopeepay"), {"callback_url": "https://shop.example/ok"}),
    ],
    ids=lambda value: getattr(value, "payment_type", ""),
)
def test_each_method_gets_its_own_object(new_request, options, method):
    assert charge_body(new_request(), options)[options.payment_type] == method


@pytest.mark.parametrize("payment_type", ["gopay", "shopeepay"])
def test_an_app_is_told_no_way_back_when_there_is_none(new_request, payment_type):
    assert (
        charge_body(new_request(success_url=None), MidtransOptions("core", payment_type))[payment_type] == {}
    )


def test_what_is_not_known_is_left_out_rather_than_sent_empty(new_request):
    body = snap_body(
        new_request(customer=Customer(name="", email=None, phone=""), success_url=None, failure_url=None)
    )
    assert "customer_details" not in body
    assert body["callbacks"] == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ani", {"first_name": "Ani"}),
        (" Ani  Wijaya ", {"first_name": "Ani", "last_name": "Wijaya"}),
        ("A" * 300, {"first_name": "A" * 255}),
        ("   ", None),
    ],
)
def test_a_name_is_split_at_its_first_space(new_request, name, expected):
    assert snap_body(new_request(customer=Customer(name=name))).get("customer_details") == expected


@given(
    lines=st.lists(
        st.builds(
            PaymentLine,
            st.text("aZ09 |\xe9", min_size=1, max_size=120),
            st.integers(1, 1_000),
            st.integers(0, 10**9).map(lambda minor: Money(minor, "IDR")),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_items_sum_to_the_gross_amount_and_keep_midtranss_limits(new_request, lines):
    body = snap_body(new_request(*lines))
    items = body["item_details"]
    assert (
        sum(item["price"] * item["quantity"] for item in items) == body["transaction_details"]["gross_amount"]
    )
    assert all(1 <= len(item["name"]) <= 50 and "|" not in item["name"] for item in items)
    assert len({item["id"] for item in items}) == len(items)


def test_a_longer_name_than_midtrans_takes_is_cut(new_request):
    body = snap_body(new_request(PaymentLine("W" * 51, 1, Money(10, "IDR"))))
    assert body["item_details"][0]["name"] == "W" * 50


def test_every_amount_is_an_integer_of_rupiah(new_request):
    body = snap_body(new_request())
    amounts = [body["transaction_details"]["gross_amount"], *(item["price"] for item in body["item_details"])]
    assert {type(amount) for amount in amounts} == {int}


@pytest.mark.parametrize(
    ("left", "minutes"),
    [
        (timedelta(hours=1), 60),
        (timedelta(minutes=30, seconds=59), 30),
        (timedelta(seconds=10), 5),
        (timedelta(days=7), 10_080),
        (timedelta(days=30), 10_080),
    ],
)
def test_a_page_lives_as_long_as_asked_within_five_minutes_and_seven_days(new_request, left, minutes):
    request = new_request()
    request = new_request(expires_at=request.now + left)
    assert snap_body(request)["expiry"]["duration"] == minutes
    assert snap_expires_at(request) == datetime(2030, 1, 1, 3, 0, tzinfo=UTC) + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("options", "days"),
    [
        (BCA, 30),
        (MidtransOptions("core", "echannel"), 30),
        (MidtransOptions("core", "qris"), 5),
        (MidtransOptions("core", "gopay"), 5),
    ],
    ids=lambda value: getattr(value, "payment_type", value),
)
def test_a_charge_lives_no_longer_than_its_method_allows(new_request, options, days):
    request = new_request()
    body = charge_body(new_request(expires_at=request.now + timedelta(days=30)), options)
    assert body["custom_expiry"]["expiry_duration"] == days * 24 * 60


def test_times_are_jakartas_wherever_the_clock_stands(new_request):
    elsewhere = datetime(2029, 12, 31, 22, 0, tzinfo=timezone(timedelta(hours=-5)))
    request = new_request(now=elsewhere, expires_at=elsewhere + timedelta(hours=1))
    assert snap_body(request)["expiry"]["start_time"] == "2030-01-01 10:00:00 +0700"


def test_notifications_go_to_the_accounts_own_url(new_request):
    assert notify_headers(new_request()) == {
        "x-override-notification": "https://pay.example/webhooks/midtrans/t0ken"
    }
    assert notify_headers(new_request(webhook_url=None)) == {}


def test_a_charge_is_idempotent_by_its_reference(new_request):
    assert charge_headers(new_request(webhook_url=None)) == {"idempotency-key": "PT-20300101-0001x"}


def test_a_key_that_midtrans_would_ignore_is_not_sent(new_request):
    assert "idempotency-key" in charge_headers(new_request(reference="P" * 46))
    assert "idempotency-key" not in charge_headers(new_request(reference="P" * 47))
