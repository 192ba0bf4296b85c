"""The verbs, over real HTTP against the local stand-in."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from paytrust import (
    GatewayRejected,
    GatewayUnavailable,
    InvalidSignature,
    Money,
    OutcomeUnknown,
    PaymentLine,
    PaymentLookup,
    PaymentStatus,
    UnreadableWebhook,
    Webhook,
)

REFERENCE = "PT-1001-1x"
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


def delivered(xendit, position=-1):
    """A webhook as its receiver would see it."""
    delivery = xendit.deliveries[position]
    return Webhook({name.lower(): value for name, value in delivery.headers.items()}, delivery.body.encode())


async def only(gateway):
    (payment,) = await gateway.find_payments(lookup())
    return payment


async def test_a_created_payment_has_a_page_and_is_found_again(gateway, xendit, request_now):
    created = await gateway.create_payment(request_now())
    assert created.payment_url == xendit.payment(REFERENCE).page_url
    assert created.status is PaymentStatus.OPEN
    assert await gateway.find_payments(lookup()) == [created]


async def test_xendit_receives_the_request_authenticated_and_exact(gateway, xendit, request_now):
    await gateway.create_payment(request_now(PaymentLine("Widget", 3, Money(1_999, "MYR"))))
    (received,) = xendit.requests
    assert received.headers["authorization"].startswith("Basic ")
    assert '"amount":59.97,' in received.body
    assert json.loads(received.body)["invoice_duration"] == 3600


async def test_every_call_for_a_sub_account_names_it(connect, xendit, request_now):
    gateway = connect(for_user_id="62efe4c33e45694d63f585f0")
    await gateway.expire_payment(await gateway.create_payment(request_now()))
    await gateway.find_payments(lookup())
    assert {
        received.operation: received.headers["for-user-id"] for received in xendit.requests
    } == dict.fromkeys(("create", "expire", "list"), "62efe4c33e45694d63f585f0")


async def test_an_unknown_reference_has_no_payments(gateway, xendit, request_now):
    await gateway.create_payment(request_now(reference="PT-1001-2x"))
    assert await gateway.find_payments(lookup()) == []


@pytest.mark.parametrize(
    ("amount", "paid"),
    [
        (None, Money(150_000, "IDR")),
        ("over", Money(165_000, "IDR")),
        ("under", Money(75_000, "IDR")),
        ("150001", Money(150_001, "IDR")),
    ],
)
async def test_what_the_payer_paid_is_found(gateway, xendit, request_now, amount, paid):
    created = await gateway.create_payment(request_now())
    xendit.pay(REFERENCE, amount)
    found = await only(gateway)
    assert (found.status, found.amount, found.paid) == (PaymentStatus.PAID, Money(150_000, "IDR"), paid)
    assert found.gateway_payment_id == created.gateway_payment_id
    assert found.paid_at is not None


async def test_settling_changes_nothing_about_what_was_paid(gateway, xendit, request_now):
    await gateway.create_payment(request_now())
    xendit.pay(REFERENCE)
    paid = await only(gateway)
    xendit.settle(REFERENCE)
    assert await only(gateway) == paid


async def test_another_currency_than_asked_for_is_told_as_it_is(gateway, xendit, request_now):
    await gateway.create_payment(request_now())
    xendit.pay(REFERENCE, "10", "USD")
    assert (await only(gateway)).paid == Money(1_000, "USD")


@pytest.mark.parametrize("leave_expired", [False, True])
async def test_money_that_comes_after_the_expiry_is_found(gateway, xendit, request_now, leave_expired):
    await gateway.create_payment(request_now())
    xendit.advance(3_601)
    assert (await only(gateway)).status is PaymentStatus.EXPIRED
    xendit.pay_late(REFERENCE, leave_expired=leave_expired)
    found = await only(gateway)
    assert (found.status, found.paid) == (PaymentStatus.PAID, Money(150_000, "IDR"))


async def test_a_create_that_was_carried_out_twice_shows_both_invoices(gateway, xendit, request_now):
    xendit.fault("duplicate", times=1)
    created = await gateway.create_payment(request_now())
    found = await gateway.find_payments(lookup())
    assert {payment.gateway_payment_id for payment in found} == {payment.id for payment in xendit.payments}
    assert created in found
    assert len(found) == 2


async def test_several_invoices_of_one_reference_are_found_oldest_first(gateway, request_now):
    created = []
    for _ in range(3):
        created.append(await gateway.create_payment(request_now()))
        await asyncio.sleep(0.005)  # the age has milliseconds
    assert await gateway.find_payments(lookup()) == created


async def test_an_expired_payment_cannot_be_paid_and_expiring_again_is_harmless(gateway, request_now):
    created = await gateway.create_payment(request_now())
    await gateway.expire_payment(created)
    await gateway.expire_payment(created)
    assert (await only(gateway)).status is PaymentStatus.EXPIRED


@pytest.mark.parametrize("settled", [False, True])
async def test_a_payment_that_was_paid_meanwhile_is_not_expired(gateway, xendit, request_now, settled):
    created = await gateway.create_payment(request_now())
    xendit.pay(REFERENCE)
    if settled:
        xendit.settle(REFERENCE)
    with pytest.raises(GatewayRejected, match="paid"):
        await gateway.expire_payment(created)


async def test_a_payment_paid_late_is_not_expired_though_xendit_leaves_it_so(gateway, xendit, request_now):
    created = await gateway.create_payment(request_now())
    await gateway.expire_payment(created)
    xendit.pay_late(REFERENCE, leave_expired=True)
    with pytest.raises(GatewayRejected, match="paid"):
        await gateway.expire_payment(created)


async def test_an_expiry_that_was_refused_because_it_had_happened_is_done(gateway, xendit, request_now):
    created = await gateway.create_payment(request_now())
    xendit.fault("not_found_though_created", on="expire", times=1)
    await gateway.expire_payment(created)
    assert (await only(gateway)).status is PaymentStatus.EXPIRED


async def test_a_refused_expiry_of_an_open_payment_keeps_xendits_reason(gateway, xendit, request_now):
    created = await gateway.create_payment(request_now())
    xendit.fault("http_403", on="expire", times=1)
    with pytest.raises(GatewayRejected, match="REQUEST_FORBIDDEN_ERROR"):
        await gateway.expire_payment(created)


async def test_expiring_an_invoice_that_xendit_does_not_know_is_refused(gateway, xendit, request_now):
    created = await gateway.create_payment(request_now())
    xendit.reset()
    with pytest.raises(GatewayRejected, match="INVOICE_NOT_FOUND_ERROR"):
        await gateway.expire_payment(created)


@pytest.mark.parametrize("fault", NEVER_A_SURE_ANSWER)
async def test_a_create_without_a_sure_answer_may_have_arrived(connect, gateway, xendit, request_now, fault):
    xendit.fault(fault, on="create", times=1, seconds=0.1)
    with pytest.raises(OutcomeUnknown):
        await connect(patience(fault)).create_payment(request_now())
    assert [payment.gateway_payment_id for payment in await gateway.find_payments(lookup())] == [
        one.id for one in xendit.payments
    ]


@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency"])
async def test_a_page_for_another_sum_is_shown_to_nobody(gateway, xendit, request_now, fault):
    xendit.fault(fault, on="create")
    with pytest.raises(OutcomeUnknown, match="must not be shown"):
        await gateway.create_payment(request_now())


@pytest.mark.parametrize("fault", NEVER_A_SURE_ANSWER)
async def test_a_read_without_a_sure_answer_may_be_repeated(connect, gateway, xendit, request_now, fault):
    created = await gateway.create_payment(request_now())
    xendit.fault(fault, on="list", times=1, seconds=0.1)
    with pytest.raises(GatewayUnavailable):
        await connect(patience(fault)).find_payments(lookup())
    assert await gateway.find_payments(lookup()) == [created]


@pytest.mark.parametrize("fault", NEVER_A_SURE_ANSWER)
async def test_an_expiry_without_a_sure_answer_may_have_arrived_and_may_be_repeated(
    connect, gateway, xendit, request_now, fault
):
    created = await gateway.create_payment(request_now())
    xendit.fault(fault, on="expire", times=1, seconds=0.1)
    with pytest.raises(OutcomeUnknown):
        await connect(patience(fault)).expire_payment(created)
    await gateway.expire_payment(created)


@pytest.mark.parametrize("fault", REFUSALS)
async def test_a_refusal_is_final(gateway, xendit, request_now, fault):
    xendit.fault(fault, on="any")
    with pytest.raises(GatewayRejected):
        await gateway.create_payment(request_now())
    with pytest.raises(GatewayRejected):
        await gateway.find_payments(lookup())
    xendit.clear_faults()
    assert await gateway.find_payments(lookup()) == []


async def test_being_asked_to_slow_down_is_no_refusal(gateway, xendit, request_now):
    xendit.fault("http_429", on="any")
    with pytest.raises(GatewayUnavailable):
        await gateway.create_payment(request_now())
    with pytest.raises(GatewayUnavailable):
        await gateway.find_payments(lookup())


async def test_what_never_left_us_may_be_repeated(gateway, servers, xendit, request_now):
    servers.go_down("xendit")
    try:
        with pytest.raises(GatewayUnavailable):
            await gateway.create_payment(request_now())
        with pytest.raises(GatewayUnavailable):
            await gateway.find_payments(lookup())
    finally:
        servers.come_back("xendit")
    assert await gateway.find_payments(lookup()) == []


async def test_a_redirect_never_takes_the_key_elsewhere(gateway, xendit, request_now):
    xendit.fault("redirect", on="any")
    with pytest.raises(OutcomeUnknown):
        await gateway.create_payment(request_now())
    assert [received.operation for received in xendit.requests] == ["create"]


async def test_a_wrong_key_is_explained_and_not_repeated_in_the_explanation(connect, request_now):
    with pytest.raises(GatewayRejected, match="INVALID_API_KEY") as refused:
        await connect(secret_key="xnd_development_WRONG").create_payment(request_now())
    assert "WRONG" not in str(refused.value)


async def test_xendits_reason_for_a_refusal_is_passed_on(gateway, request_now):
    with pytest.raises(GatewayRejected, match="amount"):
        await gateway.create_payment(request_now(PaymentLine("Nothing", 1, Money(0, "IDR"))))


async def test_the_webhooks_of_a_payment_are_verified_and_read(gateway, xendit, request_now):
    created = await gateway.create_payment(request_now())
    xendit.advance(3_601)
    xendit.pay_late(REFERENCE)
    notices = []
    for position in (0, 1):
        webhook = delivered(xendit, position)
        gateway.verify_webhook(webhook)
        notices.append(gateway.read_webhook(webhook))
    assert [(notice.reference, notice.event) for notice in notices] == [
        (REFERENCE, "EXPIRED"),
        (REFERENCE, "PAID"),
    ]
    assert notices[0].event_key == f"{created.gateway_payment_id}|EXPIRED|"
    assert notices[1].event_key.startswith(f"{created.gateway_payment_id}|PAID|")


async def test_a_webhook_sent_again_is_the_same_event(gateway, xendit, request_now):
    await gateway.create_payment(request_now())
    xendit.pay(REFERENCE)
    xendit.replay(REFERENCE, new_id=True)
    first, again = delivered(xendit, 0), delivered(xendit, 1)
    assert first.headers["webhook-id"] != again.headers["webhook-id"]
    assert gateway.read_webhook(first) == gateway.read_webhook(again)


@pytest.mark.parametrize("authentication", ["wrong", "missing"])
async def test_a_webhook_without_the_token_is_refused(gateway, xendit, request_now, authentication):
    await gateway.create_payment(request_now())
    xendit.forge(REFERENCE, {"status": "PAID", "paid_amount": 150_000}, authentication=authentication)
    with pytest.raises(InvalidSignature):
        gateway.verify_webhook(delivered(xendit))


async def test_a_webhook_that_lies_with_the_right_token_is_only_a_hint(gateway, xendit, request_now):
    await gateway.create_payment(request_now())
    xendit.forge(REFERENCE, {"status": "PAID", "paid_amount": 150_000}, authentication="valid")
    webhook = delivered(xendit)
    gateway.verify_webhook(webhook)
    assert gateway.read_webhook(webhook).event == "PAID"
    assert (await only(gateway)).status is PaymentStatus.OPEN


async def test_a_refunds_webhook_is_authentic_and_for_a_person(gateway, xendit, request_now):
    created = await gateway.create_payment(request_now())
    xendit.pay(REFERENCE, channel="OVO")
    refund = {
        "invoice_id": created.gateway_payment_id,
        "reason": "REQUESTED_BY_CUSTOMER",
        "reference_id": "ref-1",
    }
    await gateway.http.post("/refunds", json=refund)
    xendit.act(REFERENCE, "refund_succeed")
    webhook = delivered(xendit)
    gateway.verify_webhook(webhook)
    with pytest.raises(UnreadableWebhook):
        gateway.read_webhook(webhook)
    assert (await only(gateway)).status is PaymentStatus.PAID
