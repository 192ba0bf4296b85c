"""Which notifications are Midtrans's, and what they are about."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_midtrans import MidtransCredentials, MidtransGateway, MidtransOptions

from paytrust import InvalidSignature, UnreadableWebhook, Webhook

SERVER_KEY = "SB-Mid-server-TESTKEY"
NOTIFICATION = {
    "transaction_time": "2030-01-01 10:00:00",
    "transaction_status": "settlement",
    "transaction_id": "be03df7d-2f97-4c8c-a53c-8959f1b67295",
    "status_message": "midtrans payment notification",
    "status_code": "200",
    "signature_key": "0bedc3c9cad139c9394a76b068f10044da0e7203d449e00475f81387d2db80036e9deef5f5c9e59f0f4684c160ec7dcdb699a7a9811580bd82b5480524b4c045",
    "settlement_time": "2030-01-01 10:05:12",
    "payment_type": "bank_transfer",
    "payment_amounts": [{"paid_at": "2030-01-01 10:05:11", "amount": "154000.00"}],
    "va_numbers": [{"va_number": "812785002530231", "bank": "bca"}],
    "order_id": "PT-20300101-0001",
    "merchant_id": "G812785002",
    "gross_amount": "154000.00",
    "fraud_status": "accept",
    "currency": "IDR",
    "custom_field1": "t1",
}
REFUND = {
    "refund_amount": "5000.00",
    "refunds": [{"refund_key": "ref-1", "refund_amount": "5000.00", "refund_method": "online"}],
}
WORDS = "aZ09:.-|\x00\xe9"

gateway = MidtransGateway(MidtransCredentials(SERVER_KEY), MidtransOptions(), None)


def sign(order_id, status_code, gross_amount, key=SERVER_KEY):
    return hashlib.sha512(f"{order_id}{status_code}{gross_amount}{key}".encode()).hexdigest()


def webhook(body):
    return Webhook({}, body if isinstance(body, bytes) else msgspec.json.encode(body))


def changed(**changes):
    return {key: value for key, value in (NOTIFICATION | changes).items() if value is not ...}


def signed(**changes):
    """A notification as Midtrans itself would sign it."""
    body = changed(**changes)
    return webhook(
        body | {"signature_key": sign(body["order_id"], body["status_code"], body["gross_amount"])}
    )


def key(**changes):
    return gateway.read_webhook(signed(**changes)).event_key


def test_a_notification_signed_with_the_server_key_is_midtranss():
    gateway.verify_webhook(webhook(NOTIFICATION))


@pytest.mark.parametrize(
    ("order_id", "code", "amount", "status", "signature"),
    [
        (
            "PT-20300101-0001",
            "201",
            "154000.00",
            "pending",
            "0a6f94b800ec6a08c5fdcdfa25622e2bd95f731a31ef5c0e328f256df49f6f06fc7ea22425c51fcd2056aebca2af35108bbdaa7abe6f68398dbf26b19e488855",
        ),
        (
            "PT-20300101-0001",
            "202",
            "154000.00",
            "expire",
            "b47c7f17569db5ab90594b8cf27b0735a4c358aec225e899f4e20c95ac1282eb277a83677d8bc6f46268811edaf5b505e3b24220479d9c89f9a119c3b33b8f63",
        ),
        (
            "ORD-1",
            "407",
            "10400.00",
            "expire",
            "245d095c0b6e8c09bafe6693662d281cefd05c301af7377ed85ec3d860974c291b1338c68cefde393ef7b960bee44f923b45c56780f964b7253e16a92d00e215",
        ),
    ],
)
def test_the_signature_vectors_verify(order_id, code, amount, status, signature):
    fields = {
        "order_id": order_id,
        "status_code": code,
        "gross_amount": amount,
        "transaction_status": status,
        "signature_key": signature,
    }
    gateway.verify_webhook(webhook(NOTIFICATION | fields))


@pytest.mark.parametrize(
    "change",
    [
        {"order_id": "PT-20300101-0002"},
        {"gross_amount": "154000.01"},
        {"gross_amount": "254000.00"},
        {"status_code": "201", "transaction_status": "pending"},
        {"signature_key": "0" * 128},
        {"signature_key": NOTIFICATION["signature_key"][:-1]},
        {"signature_key": NOTIFICATION["signature_key"].upper()},
        {"signature_key": ""},
        {"signature_key": ...},
        {"signature_key": None},
    ],
    ids=str,
)
def test_a_notification_changed_where_it_is_signed_is_forged(change):
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook(changed(**change)))


def test_a_notification_signed_with_another_key_is_forged():
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(
            webhook(
                changed(signature_key=sign("PT-20300101-0001", "200", "154000.00", "SB-Mid-server-OTHER"))
            )
        )


@pytest.mark.parametrize(
    ("code", "status", "fraud"),
    [
        ("200", "pending", "accept"),
        ("200", "deny", "accept"),
        ("200", "cancel", "accept"),
        ("200", "expire", "accept"),
        ("200", "capture", "challenge"),
        ("201", "settlement", "accept"),
        ("201", "capture", "accept"),
        ("201", "authorize", ...),
        ("202", "settlement", "accept"),
        ("202", "SETTLEMENT", "accept"),
        ("407", "settlement", "accept"),
        ("201", "refund", "accept"),
        ("202", "partial_refund", "accept"),
    ],
)
def test_a_good_signature_under_another_status_is_forged(code, status, fraud):
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(signed(status_code=code, transaction_status=status, fraud_status=fraud))


@pytest.mark.parametrize(
    ("code", "status", "fraud"),
    [
        ("201", "pending", "accept"),
        ("201", "PENDING", ...),
        ("200", "authorize", "accept"),
        ("201", "authorize", "challenge"),
        ("200", "capture", "accept"),
        ("201", "capture", "challenge"),
        ("200", "settlement", ...),
        ("202", "deny", "deny"),
        ("202", "cancel", "accept"),
        ("202", "expire", ...),
        ("407", "expire", ...),
        ("202", "failure", ...),
        ("200", "refund", "accept"),
        ("200", "partial_refund", "accept"),
        ("200", "chargeback", "accept"),
    ],
)
def test_every_status_is_believed_with_its_own_code(code, status, fraud):
    webhook = signed(status_code=code, transaction_status=status, fraud_status=fraud)
    gateway.verify_webhook(webhook)
    assert gateway.read_webhook(webhook).event == status.lower()


@pytest.mark.parametrize(
    "change",
    [
        {"order_id": 20300101},
        {"status_code": 200},
        {"gross_amount": 154000.00},
        {"gross_amount": 154000},
        {"gross_amount": "154000"},
        {"gross_amount": "154000.0"},
        {"gross_amount": "154.000,00"},
        {"transaction_id": 1},
        {"transaction_id": "a|b"},
        {"transaction_status": None},
        {"transaction_status": True},
        {"order_id": "PT\x00x"},
    ],
    ids=str,
)
def test_a_field_of_another_shape_is_refused_even_when_its_text_would_sign_well(change):
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(signed(**change))


def test_unknown_fields_change_nothing():
    more = NOTIFICATION | {"brand_new_field": {"deep": [1, 2.5, None]}, "va_numbers": "no list at all"}
    gateway.verify_webhook(webhook(more))
    assert gateway.read_webhook(webhook(more)) == gateway.read_webhook(webhook(NOTIFICATION))


def test_a_field_given_twice_is_verified_as_it_is_read():
    """Two readers that disagree on which one counts are how a signature comes to cover something else."""
    text = msgspec.json.encode(NOTIFICATION).decode()
    forged_first = webhook(text.replace("{", '{"order_id":"PT-9x",', 1).encode())
    gateway.verify_webhook(forged_first)
    assert gateway.read_webhook(forged_first).reference == "PT-20300101-0001"
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook((text[:-1] + ',"order_id":"PT-9x"}').encode()))


@given(st.text("AZ-", min_size=1, max_size=9), st.integers(0, 10**12), st.integers(-4, 20))
def test_a_signature_covers_one_order_only_when_orders_end_in_a_letter(name, minor, shift):
    """
    The fields are signed without delimiters; moving the border between them must not yield another order of
    ours.
    """
    order_id, amount = f"{name}x", f"{minor}.00"
    text = f"{order_id}200{amount}"
    cut = len(order_id) + shift
    if shift == 0 or not 0 < cut <= len(text) - 3 or not text[cut - 1].isalpha():
        return
    moved = {"order_id": text[:cut], "status_code": text[cut : cut + 3], "gross_amount": text[cut + 3 :]}
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook(changed(signature_key=sign(order_id, "200", amount), **moved)))


def test_a_merchant_that_is_named_is_the_only_one_heard():
    ours = MidtransGateway(MidtransCredentials(SERVER_KEY, "G812785002"), MidtransOptions(), None)
    ours.verify_webhook(webhook(NOTIFICATION))
    for merchant_id in ("G000000000", ..., None):
        with pytest.raises(InvalidSignature):
            ours.verify_webhook(webhook(changed(merchant_id=merchant_id)))


@given(body=st.binary(max_size=80))
def test_no_body_surprises_the_core(body):
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook(body))
    with pytest.raises(UnreadableWebhook):
        gateway.read_webhook(webhook(body))


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"order_id":"\xff"}', b'{"refunds":' + b"[" * 200_000],
    ids=["deep", "not utf-8", "deep field"],
)
def test_no_hostile_body_surprises_the_core(body):
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook(body))
    with pytest.raises(UnreadableWebhook):
        gateway.read_webhook(webhook(body))


@given(
    junk=st.dictionaries(
        st.sampled_from(["order_id", "status_code", "gross_amount", "signature_key"]),
        st.text(WORDS, max_size=130),
        min_size=1,
    )
)
def test_a_forged_body_never_verifies(junk):
    if all(NOTIFICATION[field] == value for field, value in junk.items()):
        return
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook(NOTIFICATION | junk))


@given(
    junk=st.dictionaries(
        st.sampled_from(sorted(NOTIFICATION | REFUND)),
        st.none() | st.integers() | st.text(WORDS, max_size=300) | st.lists(st.integers()),
    )
)
def test_a_notice_always_fits_the_inbox(junk):
    try:
        notice = gateway.read_webhook(webhook(NOTIFICATION | junk))
    except UnreadableWebhook:
        return
    assert 0 < len(notice.event_key) <= 200
    assert notice.event_key.isprintable()


def test_a_notification_names_its_payment_and_what_happened():
    notice = gateway.read_webhook(webhook(NOTIFICATION))
    assert (notice.reference, notice.event) == ("PT-20300101-0001", "settlement")
    assert (
        notice.event_key
        == "PT-20300101-0001|be03df7d-2f97-4c8c-a53c-8959f1b67295|settlement|accept|200|154000.00"
    )


def test_a_signature_does_not_cover_another_orders_event():
    """
    The transaction_id is not signed. What has the name of an event that is still to come would pass for it,
    and silence it.
    """
    assert key(order_id="PT-20300101-0002") != key()


def test_a_repeat_has_the_same_key():
    assert key() == key(transaction_status="Settlement", custom_field1="other", brand_new_field=1)


def test_different_events_of_one_payment_have_different_keys():
    confirmed = [REFUND["refunds"][0] | {"bank_confirmed_at": "2030-01-03 10:00:00"}]
    keys = [
        key(transaction_status="pending", status_code="201"),
        key(),
        key(transaction_status="capture"),
        key(transaction_status="capture", fraud_status="challenge", status_code="201"),
        key(transaction_status="deny", status_code="202"),
        key(transaction_id="another-try"),
        key(transaction_status="refund"),
        key(transaction_status="refund", **REFUND),
        key(transaction_status="refund", **REFUND | {"refunds": confirmed}),
        key(transaction_status="refund", **REFUND | {"refund_amount": "6000.00"}),
    ]
    assert len(set(keys)) == len(keys)


def test_the_order_of_a_refunds_fields_makes_no_other_event():
    flipped = [dict(reversed(REFUND["refunds"][0].items()))]
    assert key(transaction_status="refund", **REFUND) == key(
        transaction_status="refund", **REFUND | {"refunds": flipped}
    )


def test_a_long_key_is_hashed_to_fit():
    ids = ["t" * 100, "t" * 99]
    keys = {
        key(transaction_id=long, transaction_status="refund", fraud_status="a" * 40, **REFUND) for long in ids
    }
    assert len(keys) == 2
    assert all(len(one) <= 200 for one in keys)


def test_an_authentic_status_nobody_documented_is_kept_for_a_person():
    unheard_of = signed(transaction_status="limbo")
    gateway.verify_webhook(unheard_of)
    with pytest.raises(UnreadableWebhook):
        gateway.read_webhook(unheard_of)
