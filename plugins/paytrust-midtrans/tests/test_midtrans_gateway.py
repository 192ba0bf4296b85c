"""The verbs, over real HTTP against the local stand-in."""

import json
from datetime import UTC, datetime

import pytest
from paytrust_midtrans import requests
from paytrust_midtrans.gateway import SNAP_HOSTS

from paytrust import (
    GatewayRejected,
    GatewayUnavailable,
    InvalidSignature,
    Money,
    OutcomeUnknown,
    PaymentLine,
    PaymentLookup,
    PaymentStatus,
    Webhook,
)

REFERENCE = "PT-20300101-0001x"
NEVER_A_SURE_ANSWER = [
    "reset_before",
    "reset_after",
    "hang_before",
    "hang_after",
    "slow_drip",
    "truncated",
    "malformed_json",
    "wrong_schema",
    "huge_body",
    "gzip_bomb",
    "redirect",
    "http_500_html",
    "http_503",
    "http_502_after",
]
REFUSALS = ["http_400", "http_401", "http_403"]
METHODS = [
    ({"payment_type": "bank_transfer", "bank": "bca"}, {"bank", "va_number"}),
    ({"payment_type": "bank_transfer", "bank": "permata"}, {"bank", "va_number"}),
    ({"payment_type": "echannel"}, {"bill_key", "biller_code"}),
    ({"payment_type": "qris"}, {"qr_string", "qr_url"}),
    ({"payment_type": "gopay"}, {"qr_url", "deeplink_url"}),
    ({"payment_type": "shopeepay"}, {"deeplink_url"}),
    ({"payment_type": "cstore", "store": "alfamart"}, {"payment_code", "store"}),
]


def lookup(reference=REFERENCE, hints=()):
    """What the core asks with."""
    return PaymentLookup(
        reference=reference,
        amount=Money(154_000, "IDR"),
        created_at=datetime(2030, 1, 1, 3, tzinfo=UTC),
        hints=hints,
    )


def patience(fault):
    """How long to wait for an answer that never comes in time; otherwise as long as it takes."""
    return 0.1 if fault in {"hang_before", "hang_after", "slow_drip"} else 5.0


def named(value):
    return "-".join(value.values()) if isinstance(value, dict) else ""


def delivered(midtrans, position=-1):
    """A notification as its receiver would see it."""
    delivery = midtrans.deliveries[position]
    return Webhook({name.lower(): value for name, value in delivery.headers.items()}, delivery.body.encode())


async def only(gateway):
    (payment,) = await gateway.find_payments(lookup())
    return payment


def page_state(midtrans):
    return midtrans.payment(REFERENCE).details["tokens"][-1]["state"]


async def test_a_snap_page_is_opened_and_nothing_is_found_until_a_method_is_picked(
    snap, midtrans, request_now
):
    opened = await snap.create_payment(request_now())
    assert opened.payment_url == midtrans.payment(REFERENCE).page_url
    assert opened.gateway_payment_id == midtrans.payment(REFERENCE).id
    assert await snap.find_payments(lookup()) == []
    midtrans.choose(REFERENCE)
    found = await only(snap)
    assert (found.status, found.amount) == (PaymentStatus.OPEN, Money(154_000, "IDR"))
    assert found.gateway_payment_id == midtrans.payment(REFERENCE).id != opened.gateway_payment_id


async def test_a_create_repeated_for_an_unused_page_replaces_it(snap, midtrans, request_now):
    first = await snap.create_payment(request_now())
    second = await snap.create_payment(request_now())
    assert first.payment_url != second.payment_url
    assert [token["state"] for token in midtrans.payment(REFERENCE).details["tokens"]] == ["replaced", "open"]


@pytest.mark.parametrize(("act", "status"), [("choose", PaymentStatus.OPEN), ("pay", PaymentStatus.PAID)])
async def test_a_page_for_an_order_that_is_taken_means_that_an_earlier_request_arrived(
    snap, midtrans, request_now, act, status
):
    await snap.create_payment(request_now())
    getattr(midtrans, act)(REFERENCE)
    with pytest.raises(OutcomeUnknown, match="taken"):
        await snap.create_payment(request_now())
    assert (await only(snap)).status is status


@pytest.mark.parametrize(("options", "instructions"), METHODS, ids=named)
async def test_a_core_charge_is_found_again_with_what_the_payer_needs(
    connect, request_now, options, instructions
):
    core = connect(product="core", **options)
    charged = await core.create_payment(request_now())
    assert set(charged.instructions) == instructions
    assert (charged.payment_url is not None) == ({"qr_url", "deeplink_url"} & instructions != set())
    found = await only(core)
    assert (found.gateway_payment_id, found.status, found.amount) == (
        charged.gateway_payment_id,
        PaymentStatus.OPEN,
        charged.amount,
    )
    assert found.expires_at == charged.expires_at


async def test_midtrans_receives_the_request_authenticated_with_its_notification_url_and_key(
    core, snap, midtrans, request_now
):
    await core.create_payment(request_now())
    await snap.create_payment(request_now(reference="PT-20300101-0002x"))
    charge, page = midtrans.requests
    assert (charge.target, page.target) == ("/v2/charge", "/snap/v1/transactions")
    assert charge.headers["idempotency-key"] == REFERENCE
    for received in (charge, page):
        assert received.headers["authorization"].startswith("Basic ")
        assert received.headers["x-override-notification"] == "http://127.0.0.1:9/midtrans/t0ken"
        assert json.loads(received.body)["transaction_details"]["gross_amount"] == 154_000


async def test_a_charge_that_was_carried_out_twice_is_one_transaction(core, midtrans, request_now):
    midtrans.fault("duplicate", times=1)
    charged = await core.create_payment(request_now())
    assert [attempt["transaction_id"] for attempt in midtrans.payment(REFERENCE).details["attempts"]] == [
        charged.gateway_payment_id
    ]


@pytest.mark.parametrize(("mirror_http", "status"), [(False, 200), (True, 406)])
async def test_a_second_charge_of_one_order_means_that_the_first_arrived(
    core, midtrans, request_now, mirror_http, status
):
    midtrans.settings(mirror_http=mirror_http)
    charged = await core.create_payment(request_now())
    midtrans.advance(301)  # Midtrans has forgotten the Idempotency-Key
    with pytest.raises(OutcomeUnknown, match="taken"):
        await core.create_payment(request_now())
    assert midtrans.requests[-1].status == status
    assert (await only(core)).gateway_payment_id == charged.gateway_payment_id


@pytest.mark.parametrize("mirror_http", [False, True])
async def test_the_code_in_the_body_counts_whatever_http_says(snap, core, midtrans, request_now, mirror_http):
    midtrans.settings(mirror_http=mirror_http)
    assert await snap.find_payments(lookup()) == []
    charged = await core.create_payment(request_now())
    await core.expire_payment(charged)
    assert midtrans.requests[-1].operation == "expire"
    assert (await only(core)).status is PaymentStatus.EXPIRED
    await core.expire_payment(charged)


@pytest.mark.parametrize(
    ("amount", "paid"),
    [
        (None, Money(154_000, "IDR")),
        ("over", Money(169_400, "IDR")),
        ("under", Money(77_000, "IDR")),
        ("154001", Money(154_001, "IDR")),
    ],
)
async def test_what_the_payer_paid_is_found(core, midtrans, request_now, amount, paid):
    charged = await core.create_payment(request_now())
    midtrans.pay(REFERENCE, amount)
    found = await only(core)
    assert (found.status, found.amount, found.paid) == (PaymentStatus.PAID, Money(154_000, "IDR"), paid)
    assert found.gateway_payment_id == charged.gateway_payment_id
    assert abs((found.paid_at - request_now().now).total_seconds()) < 60


async def test_another_currency_than_asked_for_is_told_as_it_is(core, midtrans, request_now):
    await core.create_payment(request_now())
    midtrans.pay(REFERENCE, currency="USD")
    assert (await only(core)).paid.currency == "USD"


@pytest.mark.parametrize(
    "changes", [{"uppercase_status": True}, {"omit_fraud_status": True}, {"extra_fields": True}], ids=str
)
async def test_variations_seen_in_the_wild_change_nothing(snap, midtrans, request_now, changes):
    midtrans.settings(**changes)
    await snap.create_payment(request_now())
    midtrans.pay(REFERENCE)
    assert (await only(snap)).paid == Money(154_000, "IDR")
    webhook = delivered(midtrans)
    snap.verify_webhook(webhook)
    assert snap.read_webhook(webhook).event == "settlement"


async def test_a_held_card_is_open_until_it_is_approved(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.challenge(REFERENCE)
    assert (await only(snap)).status is PaymentStatus.OPEN
    midtrans.approve(REFERENCE)
    captured = await only(snap)
    midtrans.settle(REFERENCE)
    settled = await only(snap)
    assert captured.status is settled.status is PaymentStatus.PAID
    assert (captured.gateway_payment_id, captured.paid) == (settled.gateway_payment_id, settled.paid)


async def test_a_denied_try_leaves_a_snap_page_open_for_the_next(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    midtrans.deny(REFERENCE)
    denied = await only(snap)
    midtrans.pay(REFERENCE)
    paid = await only(snap)
    assert (denied.status, paid.status) == (PaymentStatus.OPEN, PaymentStatus.PAID)
    assert denied.gateway_payment_id != paid.gateway_payment_id


async def test_a_denied_core_charge_has_failed(core, midtrans, request_now):
    charged = await core.create_payment(request_now())
    midtrans.deny(REFERENCE)
    assert (await only(core)).status is PaymentStatus.FAILED
    await core.expire_payment(charged)


async def test_a_settled_payment_that_the_bank_takes_back_has_failed(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.pay(REFERENCE, channel="permata_va")
    midtrans.reverse(REFERENCE)
    assert (await only(snap)).status is PaymentStatus.FAILED


@pytest.mark.parametrize("action", ["refund", "chargeback"])
async def test_a_refund_or_chargeback_is_of_money_that_was_paid(snap, midtrans, request_now, action):
    opened = await snap.create_payment(request_now())
    midtrans.pay(REFERENCE, channel="credit_card" if action == "chargeback" else "gopay")
    midtrans.act(REFERENCE, "settle") if action == "chargeback" else None
    midtrans.act(REFERENCE, action)
    (payment,) = await snap.find_payments(lookup())
    assert (payment.status, payment.paid, payment.returned_by) == (PaymentStatus.PAID, opened.amount, action)
    with pytest.raises(GatewayRejected, match="has been paid"):
        await snap.expire_payment(opened)


BI_SNAP = pytest.mark.parametrize("bi_snap", ["renamed", "not_found"])


@BI_SNAP
@pytest.mark.parametrize("channel", ["dana", "bsi_va"])
async def test_a_bi_snap_payment_is_found_by_the_id_that_its_webhook_named(
    snap, midtrans, request_now, bi_snap, channel
):
    await snap.create_payment(request_now())
    midtrans.settings(bi_snap=bi_snap)
    transaction_id = midtrans.pay(REFERENCE, channel=channel).id
    (payment,) = await snap.find_payments(lookup(hints=(transaction_id,)))
    assert (payment.reference, payment.gateway_payment_id) == (REFERENCE, transaction_id)
    assert (payment.status, payment.paid) == (PaymentStatus.PAID, payment.amount)


@BI_SNAP
async def test_a_bi_snap_transaction_of_another_amount_is_no_answer(snap, midtrans, request_now, bi_snap):
    await snap.create_payment(request_now(reference="PT-other-1x"))
    midtrans.settings(bi_snap=bi_snap)
    other = midtrans.pay("PT-other-1x", channel="dana").id
    assert await snap.find_payments(lookup(hints=(other,))) == []


async def test_a_payer_who_bears_the_fee_has_paid_what_was_asked(snap, midtrans, request_now, monkeypatch):
    monkeypatch.setattr(requests, "NO_IMPOSED_FEE", {})
    midtrans.settings(impose_fee=True)
    opened = await snap.create_payment(request_now())
    midtrans.pay(REFERENCE, channel="other_qris")
    (payment,) = await snap.find_payments(lookup())
    assert (payment.amount, payment.paid) == (opened.amount, opened.amount)


async def test_a_page_asks_midtrans_to_add_no_fee(snap, midtrans, request_now):
    midtrans.settings(impose_fee=True)
    await snap.create_payment(request_now())
    paid = midtrans.pay(REFERENCE, channel="other_qris")
    assert paid.paid_amount == paid.amount


async def test_a_page_nobody_used_is_cancelled_and_cancelling_again_is_harmless(snap, midtrans, request_now):
    opened = await snap.create_payment(request_now())
    await snap.expire_payment(opened)
    assert page_state(midtrans) == "canceled"
    await snap.expire_payment(opened)
    assert await snap.find_payments(lookup()) == []


@pytest.mark.parametrize("by_transaction", [False, True])
async def test_a_chosen_method_is_expired(snap, midtrans, request_now, by_transaction):
    opened = await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    await snap.expire_payment(await only(snap) if by_transaction else opened)
    assert (await only(snap)).status is PaymentStatus.EXPIRED


async def test_the_page_of_an_expired_transaction_is_closed_too(snap, midtrans, request_now):
    opened = await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    await snap.expire_payment(opened)
    assert page_state(midtrans) == "canceled"


async def test_a_held_card_is_cancelled(snap, midtrans, request_now):
    opened = await snap.create_payment(request_now())
    midtrans.challenge(REFERENCE)
    await snap.expire_payment(opened)
    assert midtrans.payment(REFERENCE).status == "cancel"
    assert (await only(snap)).status is PaymentStatus.EXPIRED


async def test_after_a_denied_try_the_page_itself_is_closed(snap, midtrans, request_now):
    opened = await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    midtrans.deny(REFERENCE)
    with pytest.raises(GatewayRejected, match="token is not known"):
        await snap.expire_payment(await only(snap))
    await snap.expire_payment(opened)
    assert page_state(midtrans) == "canceled"


async def test_a_page_known_only_by_an_earlier_try_is_never_reported_closed(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    midtrans.deny(REFERENCE)
    first_try = await only(snap)
    midtrans.choose(REFERENCE)
    midtrans.deny(REFERENCE)
    with pytest.raises(GatewayRejected, match="not found"):
        await snap.expire_payment(first_try)
    assert page_state(midtrans) == "open"


@pytest.mark.parametrize(("options", "_"), METHODS, ids=named)
async def test_a_core_charge_is_expired_and_expiring_again_is_harmless(connect, request_now, options, _):
    core = connect(product="core", **options)
    charged = await core.create_payment(request_now())
    await core.expire_payment(charged)
    await core.expire_payment(charged)
    assert (await only(core)).status is PaymentStatus.EXPIRED


async def test_a_charge_midtrans_does_not_know_needs_no_expiring(core, midtrans, request_now):
    charged = await core.create_payment(request_now())
    midtrans.reset()
    await core.expire_payment(charged)
    assert [received.operation for received in midtrans.requests] == ["status", "status"]


async def test_a_payment_that_was_paid_meanwhile_is_not_expired(snap, core, midtrans, request_now):
    opened = await snap.create_payment(request_now())
    charged = await core.create_payment(request_now(reference="PT-20300101-0002x"))
    midtrans.pay(opened.reference)
    midtrans.pay(charged.reference)
    for gateway, payment in ((snap, opened), (core, charged)):
        with pytest.raises(GatewayRejected, match="paid"):
            await gateway.expire_payment(payment)


@pytest.mark.parametrize("fault", NEVER_A_SURE_ANSWER)
async def test_a_create_without_a_sure_answer_may_have_arrived(connect, core, midtrans, request_now, fault):
    for options in ({}, {"product": "core", "payment_type": "bank_transfer", "bank": "bca"}):
        midtrans.fault(fault, on="create", times=1, seconds=0.1)
        with pytest.raises(OutcomeUnknown):
            await connect(deadline_s=patience(fault), **options).create_payment(
                request_now(reference=f"PT-{options.get('product', 'snap')}")
            )
    found = await core.find_payments(lookup("PT-core"))
    assert [payment.gateway_payment_id for payment in found] == [
        one.id for one in midtrans.payments if one.reference == "PT-core"
    ]


@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency"])
async def test_a_charge_for_another_sum_is_shown_to_nobody(core, midtrans, request_now, fault):
    midtrans.fault(fault, on="create")
    with pytest.raises(OutcomeUnknown, match="must not be shown"):
        await core.create_payment(request_now())


@pytest.mark.parametrize("fault", NEVER_A_SURE_ANSWER)
async def test_a_read_without_a_sure_answer_may_be_repeated(connect, core, midtrans, request_now, fault):
    charged = await core.create_payment(request_now())
    midtrans.fault(fault, on="status", times=1, seconds=0.1)
    with pytest.raises(GatewayUnavailable):
        await connect(deadline_s=patience(fault)).find_payments(lookup())
    assert (await only(core)).gateway_payment_id == charged.gateway_payment_id


@pytest.mark.parametrize(
    "fault", ["reset_after", "truncated", "malformed_json", "http_502_after", "http_503"]
)
@pytest.mark.parametrize("operation", ["expire", "cancel", "cancel_token"])
async def test_an_ending_without_a_sure_answer_may_have_arrived_and_may_be_repeated(
    snap, midtrans, request_now, operation, fault
):
    opened = await snap.create_payment(request_now())
    if operation == "expire":
        midtrans.choose(REFERENCE)
    if operation == "cancel":
        midtrans.challenge(REFERENCE)
    midtrans.fault(fault, on=operation, times=1)
    # A page's cancel answers with nothing that matters but its status.
    if (operation, fault) != ("cancel_token", "malformed_json"):
        with pytest.raises(OutcomeUnknown):
            await snap.expire_payment(opened)
    await snap.expire_payment(opened)
    await snap.expire_payment(opened)
    assert (
        midtrans.payment(REFERENCE).status
        == {"expire": "expire", "cancel": "cancel", "cancel_token": "unchosen"}[operation]
    )
    assert page_state(midtrans) == ("open" if operation == "cancel" else "canceled")


async def test_an_expiry_that_was_refused_because_it_had_happened_is_done(core, midtrans, request_now):
    charged = await core.create_payment(request_now())
    midtrans.fault("not_found_though_created", on="expire", times=1)
    await core.expire_payment(charged)
    assert (await only(core)).status is PaymentStatus.EXPIRED


async def test_a_page_on_which_the_payer_has_just_picked_a_method_is_for_the_next_try(
    snap, midtrans, request_now
):
    opened = await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    midtrans.fault("not_found_though_created", on="status", times=1)  # we looked just before
    with pytest.raises(GatewayUnavailable, match="picked a method"):
        await snap.expire_payment(opened)
    await snap.expire_payment(opened)
    assert (await only(snap)).status is PaymentStatus.EXPIRED


async def test_a_refused_expiry_of_an_open_payment_is_a_refusal(core, midtrans, request_now):
    charged = await core.create_payment(request_now())
    midtrans.fault("http_403", on="expire", times=1)
    with pytest.raises(GatewayRejected, match="403"):
        await core.expire_payment(charged)


@pytest.mark.parametrize("fault", REFUSALS)
async def test_a_refusal_is_final(snap, core, midtrans, request_now, fault):
    midtrans.fault(fault, on="any")
    for gateway in (snap, core):
        with pytest.raises(GatewayRejected):
            await gateway.create_payment(request_now())
        with pytest.raises(GatewayRejected):
            await gateway.find_payments(lookup())


async def test_being_asked_to_slow_down_is_no_refusal(snap, core, midtrans, request_now):
    midtrans.fault("http_429", on="any")
    for gateway in (snap, core):
        with pytest.raises(GatewayUnavailable):
            await gateway.create_payment(request_now())
        with pytest.raises(GatewayUnavailable):
            await gateway.find_payments(lookup())


async def test_what_never_left_us_may_be_repeated(snap, core, servers, midtrans, request_now):
    servers.go_down("midtrans")
    try:
        for gateway in (snap, core):
            with pytest.raises(GatewayUnavailable):
                await gateway.create_payment(request_now())
            with pytest.raises(GatewayUnavailable):
                await gateway.find_payments(lookup())
    finally:
        servers.come_back("midtrans")
    assert await snap.find_payments(lookup()) == []


@pytest.mark.parametrize("options", [{}, {"product": "core", "payment_type": "qris"}], ids=["snap", "core"])
async def test_a_wrong_key_is_explained_and_not_repeated_in_the_explanation(connect, request_now, options):
    with pytest.raises(GatewayRejected, match="server key") as refused:
        await connect(server_key="SB-Mid-server-WRONG", **options).create_payment(request_now())
    assert "WRONG" not in str(refused.value)


async def test_midtranss_reason_for_a_refusal_is_passed_on(snap, core, request_now):
    nothing = request_now(PaymentLine("Nothing", 1, Money(0, "IDR")))
    for gateway in (snap, core):
        with pytest.raises(GatewayRejected, match="gross_amount"):
            await gateway.create_payment(nothing)


async def test_the_notifications_of_a_payment_are_verified_and_read(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.challenge(REFERENCE)
    midtrans.approve(REFERENCE)
    midtrans.settle(REFERENCE)
    notices = []
    for position in range(len(midtrans.deliveries)):
        webhook = delivered(midtrans, position)
        snap.verify_webhook(webhook)
        notices.append(snap.read_webhook(webhook))
    assert [notice.event for notice in notices] == ["pending", "capture", "capture", "settlement"]
    assert {notice.reference for notice in notices} == {REFERENCE}
    assert len({notice.event_key for notice in notices}) == 4


async def test_both_notifications_of_a_refund_are_events(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.pay(REFERENCE, channel="gopay")
    midtrans.act(REFERENCE, "refund", amount="5000")
    keys = set()
    for position in (-2, -1):
        webhook = delivered(midtrans, position)
        snap.verify_webhook(webhook)
        notice = snap.read_webhook(webhook)
        assert notice.event == "partial_refund"
        keys.add(notice.event_key)
    assert len(keys) == 2


async def test_a_notification_sent_again_is_the_same_event(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.pay(REFERENCE)
    midtrans.replay(REFERENCE)
    assert snap.read_webhook(delivered(midtrans)) == snap.read_webhook(delivered(midtrans, -2))


@pytest.mark.parametrize("authentication", ["wrong", "missing"])
async def test_a_notification_without_the_signature_is_refused(snap, midtrans, request_now, authentication):
    await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    midtrans.forge(
        REFERENCE, {"transaction_status": "settlement", "status_code": "200"}, authentication=authentication
    )
    with pytest.raises(InvalidSignature):
        snap.verify_webhook(delivered(midtrans))


async def test_a_real_pending_notification_doctored_to_a_settlement_is_refused(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    pending = delivered(midtrans)
    doctored = pending.body.replace(b'"pending"', b'"settlement"')
    assert doctored != pending.body
    with pytest.raises(InvalidSignature):
        snap.verify_webhook(Webhook(pending.headers, doctored))


async def test_a_signed_lie_is_only_a_hint(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    midtrans.forge(
        REFERENCE, {"transaction_status": "settlement", "status_code": "200"}, authentication="valid"
    )
    webhook = delivered(midtrans)
    snap.verify_webhook(webhook)
    assert snap.read_webhook(webhook).event == "settlement"
    assert (await only(snap)).status is PaymentStatus.OPEN


async def test_another_merchants_notification_is_refused(snap, midtrans, request_now):
    await snap.create_payment(request_now())
    midtrans.choose(REFERENCE)
    midtrans.forge(REFERENCE, {"merchant_id": "G000000000"}, authentication="valid")
    with pytest.raises(InvalidSignature, match="merchant"):
        snap.verify_webhook(delivered(midtrans))


async def test_snap_has_a_host_of_its_own_at_midtrans_and_none_at_a_stand_in(connect):
    gateway = connect()
    assert gateway._snap_url == gateway.http.base_url
    for core_url, snap_url in SNAP_HOSTS.items():
        gateway.http.base_url = core_url
        assert gateway._snap_url == snap_url
