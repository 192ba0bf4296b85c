"""What Xendit's answers mean."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_xendit import XenditGateway
from paytrust_xendit.mapping import created_payment, found_payments

from paytrust import (
    Answer,
    GatewayError,
    GatewayUnavailable,
    Money,
    OutcomeUnknown,
    PaymentLookup,
    PaymentStatus,
    UnreadableWebhook,
)

INVOICE = {
    "id": "6f1d2c3b4a59687766554433",
    "external_id": "PT-1001-1x",
    "user_id": "62440e3200aabbccddeeff00",
    "status": "PENDING",
    "merchant_name": "Sim Store",
    "merchant_profile_picture_url": "https://img.example/logo.png",
    "amount": 150000,
    "description": "Order 1001",
    "expiry_date": "2030-01-02T03:04:05.678Z",
    "invoice_url": "https://checkout-staging.xendit.co/web/6f1d2c3b4a59687766554433",
    "available_banks": [
        {"bank_code": "BNI", "collection_type": "POOL", "transfer_amount": 150000, "identity_amount": 0}
    ],
    "available_retail_outlets": [{"retail_outlet_name": "ALFAMART"}],
    "available_ewallets": [],
    "should_exclude_credit_card": False,
    "should_send_email": False,
    "created": "2030-01-01T03:04:05.678Z",
    "updated": "2030-01-01T03:04:05.678Z",
    "currency": "IDR",
    "items": [{"name": "Widget", "quantity": 1, "price": 145000}],
    "fees": [{"type": "ADMIN", "value": 5000}],
    "metadata": {"tenant": "t1"},
}
PAID = {
    "status": "PAID",
    "paid_amount": 150000,
    "paid_at": "2030-01-01T03:20:00.123Z",
    "payment_id": "ewc_3f6b1c0e",
}
JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text("aZ09:.-|\x00\xe9", max_size=30)
    | st.lists(st.integers())
)


ASKED = PaymentLookup(
    reference="PT-1001-1x", amount=Money(150_000, "IDR"), created_at=datetime(2030, 1, 1, tzinfo=UTC)
)


def answer(value, status=200, unsure=GatewayUnavailable):
    return Answer(status, msgspec.json.encode(value), unsure)


def invoice(**changes):
    return {key: value for key, value in (INVOICE | changes).items() if value is not ...}


def found(*invoices):
    return found_payments(answer(list(invoices)), ASKED)


def test_a_new_invoice_is_an_open_payment_with_a_page(new_request):
    payment = created_payment(answer(INVOICE, unsure=OutcomeUnknown), new_request())
    assert payment.gateway_payment_id == "6f1d2c3b4a59687766554433"
    assert payment.reference == "PT-1001-1x"
    assert payment.status is PaymentStatus.OPEN
    assert payment.amount == Money(150_000, "IDR")
    assert payment.payment_url == "https://checkout-staging.xendit.co/web/6f1d2c3b4a59687766554433"
    assert payment.expires_at == datetime(2030, 1, 2, 3, 4, 5, 678000, UTC)
    assert payment.paid is None


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 149999},
        {"amount": 150000.5},
        {"currency": "PHP"},
        {"currency": "XXX"},
        {"external_id": "PT-1002-1x"},
        {"status": "LIMBO"},
        {"amount": ...},
        {"invoice_url": ...},
        {"id": "../balance"},
        {"amount": -1},
        {"amount": 10**40},
    ],
    ids=str,
)
def test_an_invoice_other_than_asked_for_is_never_shown_to_the_payer(new_request, change):
    with pytest.raises(OutcomeUnknown):
        created_payment(answer(invoice(**change), unsure=OutcomeUnknown), new_request())


DEEP = b'{"unknown":' + b"[" * 200_000


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"1", b'"\xff"', b'{"id":"\xff"}', b"{}", DEEP],
    ids=lambda body: repr(body[:9]),
)
def test_an_unreadable_answer_to_a_create_is_an_unknown_outcome_and_to_a_read_no_answer(new_request, body):
    with pytest.raises(OutcomeUnknown):
        created_payment(Answer(200, body, OutcomeUnknown), new_request())
    for listed in (body, b"[" + body + b",]"):
        with pytest.raises(GatewayUnavailable):
            found_payments(Answer(200, listed, GatewayUnavailable), "PT-1001-1x")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("PENDING", PaymentStatus.OPEN),
        ("PAID", PaymentStatus.PAID),
        ("SETTLED", PaymentStatus.PAID),
        ("EXPIRED", PaymentStatus.EXPIRED),
    ],
)
def test_every_documented_status_has_one_meaning(status, expected):
    assert [payment.status for payment in found(invoice(status=status))] == [expected]


@pytest.mark.parametrize("status", ["", "paid", "UNKNOWN_ENUM_VALUE", "REFUNDED"])
def test_an_unknown_status_is_for_a_person(status):
    with pytest.raises(UnreadableWebhook):
        found(invoice(status=status))


def test_what_the_payer_paid_is_the_paid_amount():
    (payment,) = found(invoice(**PAID | {"paid_amount": 150500}))
    assert (payment.amount, payment.paid) == (Money(150_000, "IDR"), Money(150_500, "IDR"))
    assert payment.paid_at == datetime(2030, 1, 1, 3, 20, 0, 123000, UTC)


def test_without_a_paid_amount_the_payer_paid_what_was_asked():
    (payment,) = found(invoice(**PAID | {"paid_amount": ...}))
    assert payment.paid == Money(150_000, "IDR")


def test_money_that_came_after_the_expiry_is_money():
    (payment,) = found(invoice(**PAID | {"status": "EXPIRED"}))
    assert (payment.status, payment.paid) == (PaymentStatus.PAID, Money(150_000, "IDR"))


def test_money_is_in_the_currency_the_answer_names():
    (payment,) = found(invoice(**PAID | {"currency": "MYR", "amount": 19.9, "paid_amount": 19.99}))
    assert (payment.amount, payment.paid) == (Money(1_990, "MYR"), Money(1_999, "MYR"))


@pytest.mark.parametrize(
    "change",
    [
        {"paid_amount": 150000.25},
        {"currency": "ZZZ"},
        {"paid_amount": -5},
        {"amount": 10**30},
        {"paid_amount": "1E-30000000"},
        {"amount": "NaN"},
    ],
)
def test_money_that_cannot_be_told_exactly_is_for_a_person(change):
    with pytest.raises(UnreadableWebhook):
        found(invoice(**PAID | change))


def test_payments_under_one_reference_come_oldest_first():
    newer = invoice(id="b", created="2030-01-01T04:00:00.000Z")
    older = invoice(id="c", created="2030-01-01T03:59:59.999Z")
    assert [payment.gateway_payment_id for payment in found(newer, older)] == ["c", "b"]


def test_another_reference_is_never_ours_even_when_the_list_is_not_filtered():
    ours = invoice()
    assert found(invoice(external_id="PT-1001-2x"), ours, invoice(external_id="pt-1001-1X")) == found(ours)


def test_a_list_of_others_alone_does_not_say_that_ours_is_not_there():
    with pytest.raises(GatewayUnavailable):
        found(invoice(external_id="PT-1001-2x"), invoice(external_id="pt-1001-1X"))


def test_no_invoice_is_no_payment():
    assert found() == []


@given(minor=st.integers(0, 10**13), currency=st.sampled_from(sorted(XenditGateway.currencies)))
def test_an_amount_is_read_exactly_however_many_zeros_follow(minor, currency):
    money = Money(minor, currency)
    body = msgspec.json.Encoder(decimal_format="number").encode(
        [invoice(amount=Decimal(money.major), currency=currency)]
    )
    text = money.major if "." in money.major else f"{money.major}.0"
    floatlike = body.replace(b'"amount":' + money.major.encode(), b'"amount":' + text.encode())
    (payment,) = found_payments(Answer(200, floatlike, GatewayUnavailable), ASKED)
    assert payment.amount == money


@given(body=st.binary(max_size=60))
def test_no_answer_surprises_the_core(body):
    with suppress(GatewayError, UnreadableWebhook):
        found_payments(Answer(200, body, GatewayUnavailable), "PT-1001-1x")


@given(junk=st.dictionaries(st.sampled_from(sorted(INVOICE | PAID)), JUNK))
def test_no_field_surprises_the_core(junk):
    with suppress(GatewayError, UnreadableWebhook):
        found(INVOICE | PAID | junk)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            {"error_code": "INVALID_API_KEY", "message": "API key is invalid"},
            "INVALID_API_KEY: API key is invalid",
        ),
        (
            {
                "error_code": "API_VALIDATION_ERROR",
                "message": "Invalid format",
                "errors": ["amount is required", {"path": "x"}],
            },
            'API_VALIDATION_ERROR: Invalid format; amount is required; {"path":"x"}',
        ),
        ({"error_code": "SERVER_ERROR", "message": "x" * 1000}, "SERVER_ERROR: " + "x" * 500),
    ],
    ids=["text", "validation", "long"],
)
def test_a_refusal_is_explained_in_xendits_words(body, reason):
    assert XenditGateway.explain(answer(body, 400)) == reason


@pytest.mark.parametrize(
    "odd",
    [
        {"currency": ...},
        {"currency": None},
        {"expiry_date": None},
        {"created": "2030-01-01 03:04:05"},
        {"paid_at": 5},
        {"invoice_url": None},
        {"paid_amount": None},
    ],
    ids=str,
)
def test_an_odd_field_beside_the_money_does_not_stop_it(odd):
    (paid,) = found(invoice(**{"status": "PAID", "paid_at": "2030-01-01T04:00:00.000Z"} | odd))
    assert (paid.status, paid.paid) == (PaymentStatus.PAID, Money(150_000, "IDR"))


@pytest.mark.parametrize(
    "odd", [{"paid_amount": "much"}, {"amount": None}, {"currency": 3}, {"status": None}], ids=str
)
def test_an_odd_field_that_decides_about_money_stops_it(odd):
    with pytest.raises(GatewayUnavailable):
        found(invoice(**{"status": "PAID"} | odd))
