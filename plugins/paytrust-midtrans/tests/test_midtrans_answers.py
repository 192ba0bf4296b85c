"""What Midtrans's answers mean."""

from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_midtrans import MidtransGateway
from paytrust_midtrans.answers import (
    SNAP_ORDER_TAKEN,
    Transaction,
    Verdict,
    charged_payment,
    ending,
    found_transaction,
    opened_page,
    payment_from,
    read,
)

from paytrust import (
    Answer,
    GatewayError,
    GatewayRejected,
    GatewayUnavailable,
    Money,
    OutcomeUnknown,
    PaymentStatus,
    UnreadableWebhook,
)

REFERENCE = "PT-20300101-0001x"
CHARGED = {
    "status_code": "201",
    "status_message": "Success, Bank Transfer transaction is created",
    "transaction_id": "be03df7d-2f97-4c8c-a53c-8959f1b67295",
    "order_id": REFERENCE,
    "merchant_id": "G812785002",
    "gross_amount": "154000.00",
    "currency": "IDR",
    "payment_type": "bank_transfer",
    "transaction_time": "2030-01-01 10:00:00",
    "transaction_status": "pending",
    "fraud_status": "accept",
    "va_numbers": [{"bank": "bca", "va_number": "812785002530231"}],
    "expiry_time": "2030-01-02 10:00:00",
}
SETTLED = CHARGED | {
    "status_code": "200",
    "transaction_status": "settlement",
    "settlement_time": "2030-01-01 10:05:12",
    "payment_amounts": [{"paid_at": "2030-01-01 10:05:11", "amount": "154000.00"}],
}
PAGE = {
    "token": "66e4fa55-fdac-4ef9-91b5-733b97d1b862",
    "redirect_url": "https://app.sandbox.midtrans.com/snap/v3/redirection/66e4fa55-fdac-4ef9-91b5-733b97d1b862",
}
DUPLICATE = {
    "status_code": "406",
    "status_message": "The request could not be completed due to a conflict with the current state of the target resource, please try again",
    "id": "0b8f",
}
NOT_THERE = {"status_code": "404", "status_message": "Transaction doesn't exist.", "id": "0b8f"}
JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("aZ09:.-|\x00\xe9", max_size=30)
    | st.lists(st.integers())
)


def answer(value, status=200, unsure=GatewayUnavailable):
    return Answer(status, msgspec.json.encode(value), unsure)


def written(value, status=200):
    return answer(value, status, OutcomeUnknown)


def changed(base, **changes):
    return {key: value for key, value in (base | changes).items() if value is not ...}


def payment(base, *, retryable=True, **changes):
    return payment_from(msgspec.convert(changed(base, **changes), Transaction), retryable=retryable)


def test_a_snap_page_is_an_open_payment_named_by_its_token(new_request):
    opened = opened_page(written(PAGE, 201), new_request())
    assert (opened.reference, opened.gateway_payment_id, opened.status) == (
        REFERENCE,
        PAGE["token"],
        PaymentStatus.OPEN,
    )
    assert opened.payment_url == PAGE["redirect_url"]
    assert opened.amount == Money(154_000, "IDR")
    assert opened.expires_at == datetime(2030, 1, 2, 3, 0, tzinfo=UTC)


def test_a_charge_is_an_open_payment_with_instructions(new_request):
    charged = charged_payment(written(CHARGED), new_request())
    assert (charged.gateway_payment_id, charged.status) == (
        "be03df7d-2f97-4c8c-a53c-8959f1b67295",
        PaymentStatus.OPEN,
    )
    assert charged.instructions == {"bank": "bca", "va_number": "812785002530231"}
    assert charged.payment_url is None
    assert charged.expires_at == datetime(2030, 1, 2, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "instructions", "url"),
    [
        ({"permata_va_number": "850003072869607"}, {"bank": "permata", "va_number": "850003072869607"}, None),
        (
            {"bill_key": "990000000260", "biller_code": "70012"},
            {"bill_key": "990000000260", "biller_code": "70012"},
            None,
        ),
        (
            {"payment_code": "010811223344", "store": "alfamart"},
            {"payment_code": "010811223344", "store": "alfamart"},
            None,
        ),
        (
            {
                "qr_string": "00020101",
                "actions": [{"name": "generate-qr-code", "method": "GET", "url": "https://api/qr"}],
            },
            {"qr_string": "00020101", "qr_url": "https://api/qr"},
            "https://api/qr",
        ),
        (
            {
                "actions": [
                    {"name": "generate-qr-code", "url": "https://api/qr"},
                    {"name": "deeplink-redirect", "url": "https://gojek/pay"},
                ]
            },
            {"qr_url": "https://api/qr", "deeplink_url": "https://gojek/pay"},
            "https://gojek/pay",
        ),
        ({"redirect_url": "https://akulaku/pay"}, None, "https://akulaku/pay"),
    ],
    ids=["permata", "mandiri bill", "store", "qris", "gopay", "redirect"],
)
def test_each_method_tells_the_payer_what_they_need(new_request, fields, instructions, url):
    charged = charged_payment(written(changed(CHARGED, va_numbers=..., **fields)), new_request())
    assert (charged.instructions, charged.payment_url) == (instructions, url)


def test_the_expiry_of_a_qr_code_is_spelt_its_own_way():
    assert payment(CHARGED, expiry_time=..., expire_time="2030-01-01 10:15:00").expires_at == datetime(
        2030, 1, 1, 3, 15, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "change",
    [
        {"gross_amount": "153999.00"},
        {"gross_amount": "154000.50"},
        {"gross_amount": "1e5.00"},
        {"currency": "USD"},
        {"currency": "XXX"},
        {"order_id": "PT-20300101-0002x"},
        {"transaction_status": "limbo"},
        {"transaction_id": "../../etc"},
        {"transaction_id": ...},
        {"status_code": 201},
    ],
    ids=str,
)
def test_a_charge_other_than_asked_for_is_never_shown_to_the_payer(new_request, change):
    with pytest.raises(OutcomeUnknown):
        charged_payment(written(changed(CHARGED, **change)), new_request())


def test_a_charge_denied_at_once_is_refused(new_request):
    with pytest.raises(GatewayRejected):
        charged_payment(
            written(changed(CHARGED, status_code="202", transaction_status="deny")), new_request()
        )


def test_a_charge_still_running_under_the_same_key_is_an_unknown_outcome(new_request):
    with pytest.raises(OutcomeUnknown):
        charged_payment(written(CHARGED, 202), new_request())


@pytest.mark.parametrize(
    ("code", "charging", "looking"),
    [
        ("400", GatewayRejected, GatewayRejected),
        ("401", GatewayRejected, GatewayRejected),
        ("402", GatewayRejected, GatewayRejected),
        ("406", OutcomeUnknown, GatewayRejected),
        ("412", GatewayRejected, GatewayRejected),
        ("429", GatewayUnavailable, GatewayUnavailable),
        ("500", OutcomeUnknown, GatewayUnavailable),
        ("503", OutcomeUnknown, GatewayUnavailable),
        ("505", OutcomeUnknown, GatewayUnavailable),
    ],
)
def test_an_error_code_inside_http_200_is_an_error(new_request, code, charging, looking):
    body = DUPLICATE | {"status_code": code}
    with pytest.raises(charging):
        charged_payment(written(body), new_request())
    with pytest.raises(looking):
        found_transaction(answer(body), {REFERENCE})


@pytest.mark.parametrize(
    "words",
    [
        "transaction_details.order_id has already been taken",
        "transaction_details.order_id sudah digunakan",
        "transaction_details.order_id has been paid and utilized, please use another order ID",
    ],
)
def test_a_taken_order_is_known_by_every_wording_seen(words):
    assert SNAP_ORDER_TAKEN.search(f"midtrans POST /snap/v1/transactions: HTTP 400: {words}")


def test_407_is_no_error_but_the_word_for_expired():
    assert read(answer(CHARGED | {"status_code": "407"}), Verdict).status_code == "407"
    assert payment(CHARGED, status_code="407", transaction_status="expire").status is PaymentStatus.EXPIRED


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_on_which_no_method_was_picked_has_no_transaction_yet(status):
    assert found_transaction(answer(NOT_THERE, status), {REFERENCE}) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Not Found</html>", b"{}", b"[]", b"[" * 200_000, b'{"status_code":"\xff"}'],
    ids=lambda body: repr(body[:9]),
)
@pytest.mark.parametrize("status", [200, 404])
def test_an_unreadable_answer_is_no_answer_and_never_an_absent_payment(new_request, body, status):
    with pytest.raises(GatewayUnavailable):
        found_transaction(Answer(status, body, GatewayUnavailable), {REFERENCE})
    with pytest.raises(OutcomeUnknown):
        charged_payment(Answer(200, body, OutcomeUnknown), new_request())
    with pytest.raises(OutcomeUnknown):
        opened_page(Answer(201, body, OutcomeUnknown), new_request())


def test_an_answer_about_another_order_is_no_answer():
    with pytest.raises(GatewayUnavailable):
        found_transaction(answer(CHARGED | {"order_id": "PT-9x"}), {REFERENCE})


SNAP, CORE = True, False
OPEN, PAID, EXPIRED, FAILED = (
    PaymentStatus.OPEN,
    PaymentStatus.PAID,
    PaymentStatus.EXPIRED,
    PaymentStatus.FAILED,
)


@pytest.mark.parametrize(
    ("status", "fraud", "code", "snap", "core"),
    [
        ("pending", "accept", "201", OPEN, OPEN),
        ("pending", ..., "200", OPEN, OPEN),
        ("PENDING", "ACCEPT", "201", OPEN, OPEN),
        ("authorize", "accept", "200", OPEN, OPEN),
        ("authorize", "challenge", "201", OPEN, OPEN),
        ("capture", "challenge", "201", OPEN, OPEN),
        ("capture", "challenge", "200", OPEN, OPEN),
        ("capture", "accept", "200", PAID, PAID),
        ("settlement", "accept", "200", PAID, PAID),
        ("settlement", ..., "200", PAID, PAID),
        ("settlement", None, "200", PAID, PAID),
        ("Settlement", "Accept", "200", PAID, PAID),
        ("settlement", "challenge", "200", OPEN, OPEN),
        ("deny", "accept", "202", OPEN, FAILED),
        ("deny", "deny", "202", OPEN, FAILED),
        ("deny", ..., "200", OPEN, FAILED),
        ("capture", "deny", "202", OPEN, FAILED),
        ("cancel", "accept", "200", EXPIRED, EXPIRED),
        ("cancel", "deny", "202", EXPIRED, EXPIRED),
        ("expire", ..., "407", EXPIRED, EXPIRED),
        ("expire", ..., "202", EXPIRED, EXPIRED),
        ("failure", ..., "202", FAILED, FAILED),
    ],
)
def test_every_documented_status_has_one_meaning(status, fraud, code, snap, core):
    changes = {"transaction_status": status, "fraud_status": fraud, "status_code": code}
    assert payment(CHARGED, retryable=SNAP, **changes).status is snap
    assert payment(CHARGED, retryable=CORE, **changes).status is core


@pytest.mark.parametrize("retryable", [SNAP, CORE])
def test_a_settled_payment_that_is_denied_later_has_failed(retryable):
    assert (
        payment(SETTLED, retryable=retryable, transaction_status="deny", status_code="202").status is FAILED
    )


def test_a_card_that_timed_out_leaves_the_snap_page_open():
    changes = {"transaction_status": "expire", "payment_type": "credit_card", "status_code": "407"}
    assert payment(CHARGED, retryable=SNAP, **changes).status is OPEN
    assert payment(CHARGED, retryable=CORE, **changes).status is EXPIRED


@pytest.mark.parametrize(
    ("status", "fraud", "code"),
    [
        ("settlement", "accept", "201"),
        ("capture", "accept", "201"),
        ("capture", "accept", "202"),
        ("settlement", "review", "200"),
        ("limbo", "accept", "200"),
        ("", "accept", "200"),
    ],
)
def test_what_the_table_does_not_list_is_for_a_person(status, fraud, code):
    for retryable in (SNAP, CORE):
        with pytest.raises(UnreadableWebhook):
            payment(
                SETTLED, retryable=retryable, transaction_status=status, fraud_status=fraud, status_code=code
            )


@pytest.mark.parametrize(
    ("status", "fraud", "word"),
    [
        ("pending", "accept", "expire"),
        ("PENDING", None, "expire"),
        ("authorize", "accept", "cancel"),
        ("capture", "challenge", "cancel"),
        ("capture", "deny", None),
        ("pending", "DENY", None),
        ("deny", "accept", None),
        ("expire", "accept", None),
    ],
)
def test_an_open_transaction_ends_by_its_own_word_and_a_refused_one_has_ended(status, fraud, word):
    assert (
        ending(msgspec.convert(changed(CHARGED, transaction_status=status, fraud_status=fraud), Transaction))
        == word
    )


def test_a_settled_payment_was_paid_when_jakartas_clock_said_so():
    settled = payment(SETTLED)
    assert settled.gateway_payment_id == "be03df7d-2f97-4c8c-a53c-8959f1b67295"
    assert settled.paid == settled.amount == Money(154_000, "IDR")
    assert settled.paid_at == datetime(2030, 1, 1, 3, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("parts", "paid"),
    [
        ([], 154_000),
        (["154000.00"], 154_000),
        (["154500.00"], 154_500),
        (["100000.00", "54000.00"], 154_000),
        (["100000.00", "50000.00"], 150_000),
        (["0.00"], 0),
    ],
)
def test_what_the_payer_paid_is_the_sum_of_the_parts_where_there_are_any(parts, paid):
    settled = payment(
        SETTLED, payment_amounts=[{"paid_at": "2030-01-01 10:05:11", "amount": part} for part in parts]
    )
    assert (settled.amount, settled.paid) == (Money(154_000, "IDR"), Money(paid, "IDR"))


def test_money_is_in_the_currency_the_answer_names():
    assert payment(SETTLED, currency="USD").paid == Money(15_400_000, "USD")


@pytest.mark.parametrize(
    "change",
    [{"currency": "XXX"}, {"gross_amount": "154000.50"}],
    ids=str,
)
def test_money_that_cannot_be_told_exactly_is_for_a_person(change):
    with pytest.raises(UnreadableWebhook):
        payment(SETTLED, **change)


@given(minor=st.integers(0, 10**15 - 1))
def test_every_amount_is_read_exactly(minor):
    assert payment(SETTLED, gross_amount=f"{minor}.00", payment_amounts=[]).paid == Money(minor, "IDR")


@given(
    junk=st.dictionaries(
        st.sampled_from(sorted(SETTLED | {"actions": [], "redirect_url": "", "validation_messages": []})),
        JUNK,
    )
)
def test_no_field_surprises_the_core(junk):
    with suppress(GatewayError, UnreadableWebhook):
        if transaction := found_transaction(answer(SETTLED | junk), {REFERENCE}):
            payment_from(transaction, retryable=True)


@given(body=st.binary(max_size=60))
def test_no_answer_surprises_the_core(body):
    with suppress(GatewayError):
        found_transaction(Answer(200, body, GatewayUnavailable), {REFERENCE})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error_messages": ["one is wrong", "two is wrong"]}, "one is wrong; two is wrong"),
        (DUPLICATE, DUPLICATE["status_message"]),
        (
            {
                "status_code": "400",
                "status_message": "One or more parameters in the payload is invalid.",
                "validation_messages": ["transaction_details.order_id is required"],
            },
            "transaction_details.order_id is required",
        ),
        ({"message": "API rate limit exceeded"}, ""),
    ],
    ids=["snap", "core", "core validation", "rate limit"],
)
def test_a_refusal_is_explained_in_midtranss_words(body, reason):
    assert MidtransGateway.explain(answer(body, 400)) == reason


@pytest.mark.parametrize(
    "odd",
    [
        {"va_numbers": None},
        {"va_numbers": [{"bank": "bca"}]},
        {"settlement_time": "2030-01-01T10:05:12+07:00"},
        {"settlement_time": "2030-13-01 10:00:00"},
        {"expiry_time": "tomorrow"},
        {"expiry_time": None},
        {"actions": "none"},
        {"payment_amounts": None},
        {"store": 7},
        {"extra_info": []},
        {"gross_amount": 154000},
        {"gross_amount": "154000"},
    ],
    ids=str,
)
def test_an_odd_field_beside_the_money_does_not_stop_it(odd):
    settled = payment_from(found_transaction(answer(SETTLED | odd), {REFERENCE}), retryable=True)
    assert (settled.status, settled.paid) == (PaymentStatus.PAID, Money(154_000, "IDR"))


@pytest.mark.parametrize(
    "odd", [{"gross_amount": None}, {"payment_amounts": [{}]}, {"currency": 3}, {"fraud_status": 1}]
)
def test_an_odd_field_that_decides_about_money_stops_it(odd):
    with pytest.raises(GatewayUnavailable):
        found_transaction(answer(SETTLED | odd), {REFERENCE})


def test_a_fee_that_the_payer_bore_is_not_the_merchants_money():
    imposed = {
        "gross_amount": "154705.00",
        "extra_info": {"gross_amount_info": {"original_amount": "154000"}},
        "payment_amounts": [{"paid_at": "2030-01-01 10:05:11", "amount": "154705.00"}],
    }
    settled = payment(SETTLED, **imposed)
    assert (settled.amount, settled.paid) == (Money(154_000, "IDR"), Money(154_000, "IDR"))


@pytest.mark.parametrize(
    ("status", "refund_amount", "returned", "by"),
    [
        ("refund", "154000.00", 154_000, "refund"),
        ("refund", None, 154_000, "refund"),
        ("partial_refund", "30000.00", 30_000, "refund"),
        ("chargeback", None, 154_000, "chargeback"),
        ("partial_chargeback", "50000.00", 50_000, "chargeback"),
    ],
)
def test_money_that_went_back_has_been_paid(status, refund_amount, returned, by):
    gone = payment(SETTLED, transaction_status=status, refund_amount=refund_amount)
    assert (gone.status, gone.paid) == (PaymentStatus.PAID, Money(154_000, "IDR"))
    assert (gone.returned, gone.returned_by) == (Money(returned, "IDR"), by)
