"""Which webhooks are Xendit's, and what they are about."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_xendit import XenditCredentials, XenditGateway

from paytrust import InvalidSignature, UnreadableWebhook, Webhook

TOKEN = "callback-token-0123456789"
PAID = {
    "id": "6f1d2c3b4a59687766554433",
    "external_id": "PT-1001-1x",
    "user_id": "62440e3200aabbccddeeff00",
    "is_high": False,
    "status": "PAID",
    "merchant_name": "Sim Store",
    "amount": 150000,
    "paid_amount": 150000,
    "currency": "IDR",
    "payment_method": "EWALLET",
    "payment_channel": "OVO",
    "payment_id": "ewc_3f6b1c0e-6c0e-4f5a-8f5d-0a8e7c3b2a11",
    "paid_at": "2030-01-01T03:20:00.123Z",
    "created": "2030-01-01T03:04:05.678Z",
    "updated": "2030-01-01T03:20:03.456Z",
}
REFUND = {
    "event": "refund.succeeded",
    "business_id": "62440e32",
    "created": "2030-01-01T03:04:05Z",
    "data": {"id": "rfd-1", "status": "SUCCEEDED"},
}

gateway = XenditGateway(XenditCredentials("xnd_development_TESTKEY", TOKEN), None, None)


def webhook(body, headers=None):
    raw = (
        body
        if isinstance(body, bytes)
        else msgspec.json.encode({key: value for key, value in body.items() if value is not ...})
    )
    return Webhook({"x-callback-token": TOKEN} if headers is None else headers, raw)


def key(**changes):
    return gateway.read_webhook(webhook(PAID | changes)).event_key


def test_a_webhook_with_the_accounts_token_is_xendits():
    gateway.verify_webhook(webhook(PAID))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-callback-token": ""},
        {"x-callback-token": TOKEN[:-1]},
        {"x-callback-token": TOKEN + " "},
        {"x-callback-token": TOKEN.upper()},
        {"x-callback-token": "tökén"},
        {"x-callback-token": "\udcff"},
        {"authorization": TOKEN},
    ],
    ids=str,
)
def test_a_webhook_without_exactly_that_token_is_not(headers):
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook(PAID, headers))


@given(
    token=st.text("aZ09:.-|\x00\xe9\udcff").filter(lambda token: token != TOKEN), body=st.binary(max_size=50)
)
def test_no_other_token_verifies(token, body):
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(webhook(body, {"x-callback-token": token}))


def test_an_empty_configured_token_verifies_nothing():
    open_door = XenditGateway(XenditCredentials("key", ""), None, None)
    with pytest.raises(InvalidSignature):
        open_door.verify_webhook(webhook(PAID, {"x-callback-token": ""}))


def test_a_webhook_names_its_payment_and_what_happened():
    notice = gateway.read_webhook(webhook(PAID))
    assert (notice.reference, notice.event) == ("PT-1001-1x", "PAID")
    assert notice.event_key == "6f1d2c3b4a59687766554433|PAID|ewc_3f6b1c0e-6c0e-4f5a-8f5d-0a8e7c3b2a11"


def test_a_resend_has_the_same_key_whatever_its_webhook_id():
    first, again = (webhook(PAID, {"x-callback-token": TOKEN, "webhook-id": number}) for number in "12")
    assert gateway.read_webhook(first) == gateway.read_webhook(again)


def test_different_events_of_one_invoice_have_different_keys():
    keys = {
        key(),
        key(status="SETTLED"),
        key(status="EXPIRED", payment_id=..., paid_at=...),
        key(payment_id="other"),
        key(id="other"),
    }
    assert len(keys) == 5


def test_without_a_payment_id_the_time_of_payment_tells_payments_apart():
    assert key(payment_id=...) == "6f1d2c3b4a59687766554433|PAID|2030-01-01T03:20:00.123Z"


def test_a_long_key_is_hashed_to_fit():
    long, other = key(payment_id="p" * 255), key(payment_id="p" * 254)
    assert len(long) <= 200
    assert long != other


@pytest.mark.parametrize(
    "body",
    [
        REFUND,
        REFUND | {"data": REFUND},
        PAID | {"status": "LIMBO"},
        PAID | {"status": ...},
        PAID | {"external_id": ...},
        PAID | {"external_id": 1001},
        PAID | {"external_id": "PT\x00"},
        PAID | {"id": "a|b"},
        b"",
        b"null",
        b"[]",
        b"[" * 200_000,
        b'{"id":"\xff"}',
    ],
    ids=lambda body: str(body)[:40],
)
def test_what_is_no_invoice_webhook_is_kept_for_a_person(body):
    with pytest.raises(UnreadableWebhook):
        gateway.read_webhook(webhook(body))


@given(body=st.binary(max_size=80))
def test_no_body_surprises_the_core(body):
    with pytest.raises(UnreadableWebhook):
        gateway.read_webhook(webhook(body))


@given(
    junk=st.dictionaries(
        st.sampled_from(sorted(PAID)),
        st.none() | st.booleans() | st.integers() | st.text("aZ09:.-|\x00\xe9", max_size=300),
    )
)
def test_a_notice_always_fits_the_inbox(junk):
    try:
        notice = gateway.read_webhook(webhook(PAID | junk))
    except UnreadableWebhook:
        return
    assert 0 < len(notice.event_key) <= 200
    assert notice.event_key.isprintable()
    assert notice.event in {"PENDING", "PAID", "SETTLED", "EXPIRED"}
