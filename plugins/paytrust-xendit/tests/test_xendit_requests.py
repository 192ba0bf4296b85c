"""What is asked of Xendit."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_xendit import XenditGateway
from paytrust_xendit.mapping import invoice_body

from paytrust import Customer, Money, PaymentLine

CURRENCIES = sorted(XenditGateway.currencies)


def as_sent(body):
    """The JSON that leaves us, as the core encodes it."""
    return msgspec.json.Encoder(decimal_format="number").encode(body)


def test_an_invoice_carries_all_that_the_request_says(new_request):
    assert invoice_body(new_request()) == {
        "external_id": "PT-1001-1x",
        "amount": 150_000,
        "currency": "IDR",
        "invoice_duration": 86_400,
        "description": "Order 1001",
        "items": [
            {"name": "Widget", "quantity": 1, "price": 145_000},
            {"name": "Service fee", "quantity": 1, "price": 5_000},
        ],
        "customer": {"given_names": "Ani", "email": "ani@example.com"},
        "success_redirect_url": "https://shop.example/ok",
        "failure_redirect_url": "https://shop.example/fail",
        "should_send_email": False,
    }


def test_what_is_not_known_is_left_out_rather_than_sent_empty(new_request):
    body = invoice_body(
        new_request(
            description="", customer=Customer(name="", email=None), success_url=None, failure_url=None
        )
    )
    assert set(body) == {
        "external_id",
        "amount",
        "currency",
        "invoice_duration",
        "items",
        "should_send_email",
    }


@pytest.mark.parametrize(
    ("minor", "currency", "sent"),
    [
        (150_000, "IDR", b"150000"),
        (1_999, "MYR", b"19.99"),
        (1_990, "USD", b"19.90"),
        (70_000, "VND", b"70000"),
        (5, "PHP", b"0.05"),
    ],
)
def test_amounts_are_exact_numbers_in_major_units(new_request, minor, currency, sent):
    body = invoice_body(new_request(PaymentLine("Widget", 1, Money(minor, currency))))
    assert b'"amount":' + sent + b"," in as_sent(body)


@given(minor=st.integers(1, 10**13), currency=st.sampled_from(CURRENCIES))
def test_an_amount_survives_the_way_there_and_back(new_request, minor, currency):
    sent = as_sent(invoice_body(new_request(PaymentLine("Widget", 1, Money(minor, currency)))))
    echoed = msgspec.json.decode(sent, type=dict[str, msgspec.Raw])["amount"]
    assert Money.from_major(msgspec.json.decode(echoed, type=Decimal), currency) == Money(minor, currency)


@given(
    lines=st.lists(
        st.builds(
            PaymentLine,
            st.text("aZ09 |\xe9", min_size=1, max_size=400),
            st.integers(1, 2_000_000),
            st.integers(0, 10**9).map(lambda minor: Money(minor, "MYR")),
        ),
        min_size=1,
        max_size=120,
    )
)
def test_items_keep_xendits_limits_and_sum_to_the_amount(new_request, lines):
    body = invoice_body(new_request(*lines))
    assert len(body["items"]) <= 75
    assert all(1 <= len(item["name"]) <= 256 and 1 <= item["quantity"] <= 510_000 for item in body["items"])
    assert sum(item["quantity"] * item["price"] for item in body["items"]) == body["amount"]


def test_more_lines_than_xendit_shows_become_one(new_request):
    body = invoice_body(new_request(*[PaymentLine("Widget", 2, Money(1_000, "IDR"))] * 76))
    assert body["items"] == [{"name": "76 items", "quantity": 1, "price": 152_000}]


def test_a_longer_name_than_xendit_takes_is_cut(new_request):
    body = invoice_body(
        new_request(
            PaymentLine("W" * 257, 1, Money(10, "IDR")), PaymentLine("N" * 257, 510_001, Money(10, "IDR"))
        )
    )
    assert [item["name"] for item in body["items"]] == ["W" * 256, "510001 x " + "N" * 247]


def test_seventy_five_lines_are_shown_as_they_are(new_request):
    assert (
        len(invoice_body(new_request(*[PaymentLine("Widget", 2, Money(1_000, "IDR"))] * 75))["items"]) == 75
    )


def test_a_quantity_beyond_xendits_limit_moves_into_the_name(new_request):
    body = invoice_body(new_request(PaymentLine("Nail", 510_001, Money(10, "IDR"))))
    assert body["items"] == [{"name": "510001 x Nail", "quantity": 1, "price": 5_100_010}]


@pytest.mark.parametrize(
    ("left", "duration_s"),
    [
        (timedelta(hours=1), 3_600),
        (timedelta(seconds=90, microseconds=999_999), 90),
        (timedelta(milliseconds=1), 1),
        (timedelta(days=400), 31_536_000),
    ],
)
def test_the_duration_is_in_whole_seconds_between_one_and_a_year(new_request, left, duration_s):
    request = new_request()
    assert invoice_body(new_request(expires_at=request.now + left))["invoice_duration"] == duration_s


@pytest.mark.parametrize(
    ("phone", "kept"),
    [("+628123456789", True), ("08123456789", False), ("+0812345678", False), ("call me", False)],
)
def test_only_an_international_number_is_sent(new_request, phone, kept):
    customer = invoice_body(new_request(customer=Customer(name="Ani", phone=phone)))["customer"]
    assert customer == {"given_names": "Ani"} | ({"mobile_number": phone} if kept else {})
