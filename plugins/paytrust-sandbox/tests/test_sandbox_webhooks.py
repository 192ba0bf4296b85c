"""Webhooks: what they look like, when they come again, and every way in which they come wrong."""

import json
import time

import httpx
import pytest
from paytrust_sandbox import Attempt
from paytrust_sandbox.retries import MIDTRANS_GAPS_S, XENDIT_GAPS_S, midtrans_rule, xendit_rule


def attempts(*statuses: int | None) -> list[Attempt]:
    return [Attempt(at="", status=status) for status in statuses]


def bodies(merchant) -> list[dict]:
    return [json.loads(received.body) for received in merchant.received]


def until(condition, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestXendit:
    def test_a_paid_invoice_is_announced_bare_with_the_callback_token(self, xendit, invoices, merchant):
        xendit.webhook_url = merchant.url
        invoice = invoices.create(description="Order 1001", success_redirect_url="https://shop.test/ok")
        xendit.pay("ORD-1", channel="OVO")
        xendit.wait_for_deliveries(1)
        (received,), (body,) = merchant.received, bodies(merchant)
        assert received.headers["x-callback-token"] == xendit.callback_token
        assert received.headers["content-type"] == "application/json"
        assert received.headers["webhook-id"]
        told = {
            name: body[name]
            for name in (
                "id",
                "external_id",
                "status",
                "amount",
                "paid_amount",
                "currency",
                "payment_channel",
            )
        }
        assert told == {
            "id": invoice["id"],
            "external_id": "ORD-1",
            "status": "PAID",
            "amount": 150_000,
            "paid_amount": 150_000,
            "currency": "IDR",
            "payment_channel": "OVO",
        }
        assert body["is_high"] is False
        assert body["paid_at"].endswith("Z")

    def test_an_expired_invoice_is_announced_without_payment_fields(self, xendit, invoices, merchant):
        xendit.webhook_url = merchant.url
        invoices.create()
        xendit.expire("ORD-1")
        xendit.wait_for_deliveries(1)
        (body,) = bodies(merchant)
        assert body["status"] == "EXPIRED"
        assert not {name for name in body if name.startswith(("paid", "payment"))}

    def test_the_expired_webhook_and_the_webhook_id_can_be_switched_off(self, xendit, invoices, merchant):
        xendit.settings(send_expired=False, send_webhook_id=False)
        xendit.webhook_url = merchant.url
        invoices.create()
        xendit.expire("ORD-1")
        xendit.act("ORD-1", "pay")
        xendit.wait_for_deliveries(1)
        assert "webhook-id" not in merchant.received[0].headers
        assert [body["status"] for body in bodies(merchant)] == ["PAID"]

    @pytest.mark.parametrize(
        ("amount", "paid"), [("over", 165_000), ("under", 75_000), ("123.5", 123.5), (7, 7)]
    )
    def test_more_or_less_than_billed_can_be_paid(self, xendit, invoices, merchant, amount, paid):
        xendit.webhook_url = merchant.url
        invoices.create()
        xendit.pay("ORD-1", amount=amount)
        xendit.wait_for_deliveries(1)
        assert (bodies(merchant)[0]["amount"], bodies(merchant)[0]["paid_amount"]) == (150_000, paid)

    def test_another_currency_can_be_paid(self, xendit, invoices, merchant):
        xendit.webhook_url = merchant.url
        invoices.create()
        assert xendit.pay("ORD-1", currency="USD").paid_currency == "USD"
        xendit.wait_for_deliveries(1)
        assert bodies(merchant)[0]["currency"] == "USD"

    @pytest.mark.parametrize(("leave", "status"), [(False, "PAID"), (True, "EXPIRED")])
    def test_a_late_payment_is_announced_as_paid_whatever_the_invoice_says(
        self, xendit, invoices, merchant, leave, status
    ):
        xendit.webhook_url = merchant.url
        invoices.create()
        xendit.expire("ORD-1")
        assert xendit.pay_late("ORD-1", leave_expired=leave).status == status
        xendit.wait_for_deliveries(2)
        until(lambda: sorted(body["status"] for body in bodies(merchant)) == ["EXPIRED", "PAID"])

    def test_what_is_paid_cannot_be_paid_again(self, xendit, invoices):
        invoices.create()
        xendit.pay("ORD-1")
        with pytest.raises(httpx.HTTPStatusError, match="PAID"):
            xendit.pay("ORD-1")


class TestMidtrans:
    def test_a_notification_comes_from_veritrans_with_the_status_and_custom_fields(
        self, midtrans, transactions, merchant
    ):
        midtrans.webhook_url = merchant.url
        transactions.snap(custom_field1="t1", metadata={"a": "b"})
        midtrans.pay("ORD-1", channel="bca_va")
        midtrans.wait_for_deliveries(2)
        received = next(one for one in merchant.received if b"settlement" in one.body)
        body = json.loads(received.body)
        assert received.headers["user-agent"] == "Veritrans"
        assert (body["status_message"], body["status_code"]) == ("midtrans payment notification", "200")
        assert (body["custom_field1"], body["metadata"]) == ("t1", {"a": "b"})
        assert body["payment_amounts"][0]["amount"] == "10400.00"

    @pytest.mark.parametrize(
        ("action", "status", "code"),
        [
            ("expire", "expire", "202"),
            ("cancel", "cancel", "202"),
            ("deny", "deny", "202"),
            ("fail", "failure", "202"),
            ("pay", "settlement", "200"),
        ],
    )
    def test_each_status_has_its_notification_code(self, midtrans, transactions, action, status, code):
        transactions.charge()
        midtrans.act("ORD-1", action)
        pending, last = (json.loads(delivery.body) for delivery in midtrans.deliveries)
        assert (pending["transaction_status"], pending["status_code"]) == ("pending", "201")
        assert (last["transaction_status"], last["status_code"]) == (status, code)

    def test_a_challenge_is_201_and_its_approval_200(self, midtrans, transactions):
        transactions.snap()
        midtrans.challenge("ORD-1")
        midtrans.approve("ORD-1")
        midtrans.settle("ORD-1")
        told = [json.loads(delivery.body) for delivery in midtrans.deliveries[1:]]
        assert [(one["transaction_status"], one["fraud_status"], one["status_code"]) for one in told] == [
            ("capture", "challenge", "201"),
            ("capture", "accept", "200"),
            ("settlement", "accept", "200"),
        ]

    def test_override_replaces_and_append_adds_addresses(self, midtrans, transactions):
        midtrans.webhook_url = "http://127.0.0.1:9/dashboard"
        transactions.snap(
            "ORD-1", headers={"X-Override-Notification": "http://127.0.0.1:9/a, http://127.0.0.1:9/b"}
        )
        transactions.charge("ORD-2", headers={"X-Append-Notification": "http://127.0.0.1:9/c"})
        midtrans.choose("ORD-1")
        urls = [(delivery.reference, delivery.url.rpartition("/")[2]) for delivery in midtrans.deliveries]
        assert sorted(urls) == [("ORD-1", "a"), ("ORD-1", "b"), ("ORD-2", "c"), ("ORD-2", "dashboard")]

    def test_variations_seen_in_the_wild_can_be_switched_on(self, midtrans, transactions):
        midtrans.settings(uppercase_status=True, omit_fraud_status=True, extra_fields=True)
        transactions.charge()
        body = json.loads(midtrans.deliveries[-1].body)
        assert body["transaction_status"] == "PENDING"
        assert "fraud_status" not in body
        assert "a_field_of_tomorrow" in body

    def test_an_underpayment_shows_in_payment_amounts(self, midtrans, transactions):
        transactions.charge()
        assert midtrans.pay("ORD-1", amount="under").paid_amount == "5200"
        body = transactions.status()
        assert (body["gross_amount"], body["payment_amounts"][0]["amount"]) == ("10400.00", "5200.00")

    def test_the_pending_notification_can_be_left_out(self, midtrans, transactions):
        midtrans.settings(send_pending=False)
        transactions.snap()
        midtrans.pay("ORD-1")
        assert [delivery.event for delivery in midtrans.deliveries] == ["settlement"]


class TestRetries:
    def test_xendit_tries_six_more_times_in_a_day(self):
        gaps = [xendit_rule(attempts(*[500] * count)) for count in range(1, 8)]
        assert gaps == [*XENDIT_GAPS_S, None]
        assert sum(XENDIT_GAPS_S) == 24 * 3600
        assert xendit_rule(attempts(500, 204)) is None

    @pytest.mark.parametrize(
        ("status", "repeats"),
        [
            (200, 0),
            (204, 0),
            (500, 1),
            (503, 4),
            (400, 2),
            (404, 2),
            (301, 0),
            (302, 0),
            (303, 0),
            (403, 5),
            (502, 5),
            (None, 5),
        ],
    )
    def test_midtrans_repeats_itself_by_the_answer_it_got(self, status, repeats):
        allowed = [count for count in range(1, 8) if midtrans_rule(attempts(*[status] * count)) is not None]
        assert len(allowed) == repeats

    def test_midtrans_shifts_each_gap_a_little(self):
        for count, gap_s in enumerate(MIDTRANS_GAPS_S, start=1):
            found = midtrans_rule(attempts(*[None] * count))
            assert found is not None
            assert gap_s * 0.9 <= found <= gap_s * 1.1

    def test_a_refused_webhook_comes_again_until_it_is_accepted(self, xendit, invoices, merchant):
        merchant.answers.extend([500, 503, 404])
        xendit.webhook_url = merchant.url
        invoices.create()
        xendit.pay("ORD-1")
        until(lambda: xendit.deliveries[0].state == "delivered")
        assert [attempt.status for attempt in xendit.deliveries[0].attempts] == [500, 503, 404, 200]
        assert len({received.headers["webhook-id"] for received in merchant.received}) == 1

    def test_a_webhook_that_is_never_accepted_is_given_up(self, midtrans, transactions, merchant):
        merchant.answers.extend([500] * 9)
        midtrans.webhook_url = merchant.url
        transactions.charge()
        until(lambda: midtrans.deliveries[0].state == "failed")
        assert len(merchant.received) == 2

    def test_a_dead_address_is_an_error_on_record(self, xendit, invoices):
        xendit.webhook_url = "http://127.0.0.1:9/"
        invoices.create()
        xendit.pay("ORD-1")
        (delivery,) = xendit.wait_for_deliveries(1)
        assert "ConnectError" in (delivery.attempts[0].error or "")

    def test_no_address_means_no_webhook(self, xendit, invoices):
        invoices.create()
        xendit.pay("ORD-1")
        assert [delivery.state for delivery in xendit.deliveries] == ["unaddressed"]

    def test_midtrans_follows_a_307_with_the_same_post_and_xendit_does_not(
        self, midtrans, xendit, transactions, invoices, merchant
    ):
        merchant.answers.append((307, "/other"))
        midtrans.webhook_url = merchant.url
        transactions.charge()
        midtrans.wait_for_deliveries(1)
        assert [received.path for received in merchant.received] == ["/hook", "/other"]
        assert merchant.received[0].body == merchant.received[1].body
        merchant.answers.append((307, "/other"))
        xendit.webhook_url = merchant.url
        invoices.create()
        xendit.pay("ORD-1")
        assert xendit.wait_for_deliveries(1)[0].attempts[0].status == 307


class TestMischief:
    @pytest.fixture(autouse=True)
    def _addressed(self, xendit, merchant):
        xendit.webhook_url = merchant.url

    def statuses(self, merchant) -> list[str]:
        return [body["status"] for body in bodies(merchant)]

    def test_held_webhooks_are_released_in_the_order_asked_for(self, xendit, invoices, merchant):
        xendit.hold_webhooks()
        for number in range(3):
            invoices.create(external_id=f"ORD-{number}")
            xendit.pay(f"ORD-{number}")
        assert [delivery.state for delivery in xendit.deliveries] == ["held"] * 3
        first = xendit.release([2])
        assert [delivery.reference for delivery in first] == ["ORD-2"]
        rest = xendit.release("newest_first")
        assert [delivery.attempts[0].status for delivery in rest] == [200, 200]
        assert [body["external_id"] for body in bodies(merchant)] == ["ORD-2", "ORD-1", "ORD-0"]

    def test_the_webhooks_about_one_payment_can_be_read_while_they_are_held(self, xendit, invoices, merchant):
        xendit.hold_webhooks()
        for reference in ("ORD-1", "ORD/2?a=b&c"):
            invoices.create(external_id=reference)
            xendit.expire(reference) if reference == "ORD-1" else xendit.pay(reference)
        [delivery] = xendit.deliveries_about("ORD/2?a=b&c")
        assert (delivery.state, delivery.event, delivery.url) == ("held", "invoice.paid", merchant.url)
        assert xendit.deliveries_about("ORD-3") == []

    def test_once_everything_is_released_webhooks_flow_again(self, xendit, invoices):
        xendit.hold_webhooks()
        invoices.create()
        xendit.expire("ORD-1")
        xendit.release()
        xendit.pay("ORD-1")
        xendit.wait_for_deliveries(2)

    @pytest.mark.parametrize("order", [[1], [0, 0], [-1]])
    def test_a_position_that_is_not_there_is_refused(self, xendit, invoices, order):
        xendit.hold_webhooks()
        invoices.create()
        xendit.pay("ORD-1")
        with pytest.raises(httpx.HTTPStatusError, match="positions"):
            xendit.release(order)

    def test_the_last_webhook_can_be_replayed_with_the_same_or_a_new_id(self, xendit, invoices, merchant):
        invoices.create()
        xendit.pay("ORD-1")
        xendit.wait_for_deliveries(1)
        xendit.replay()
        xendit.replay("ORD-1", new_id=True)
        xendit.wait_for_deliveries(3)
        assert len({received.body for received in merchant.received}) == 1
        assert len({received.headers["webhook-id"] for received in merchant.received}) == 2

    def test_a_webhook_that_was_given_up_can_be_sent_again(self, xendit, invoices, merchant):
        merchant.answers.extend([500] * 7)
        invoices.create()
        xendit.pay("ORD-1")
        until(lambda: xendit.deliveries[0].state == "failed")
        xendit.replay("ORD-1")
        until(lambda: xendit.deliveries[-1].state == "delivered")
        first, *_, last = merchant.received
        assert (last.body, last.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])

    def test_an_earlier_event_can_be_sent_again(self, midtrans, transactions, merchant):
        midtrans.webhook_url = merchant.url
        transactions.charge()
        midtrans.wait_for_deliveries(1)
        midtrans.pay("ORD-1")
        midtrans.wait_for_deliveries(2)
        midtrans.replay("ORD-1", event="pending")
        midtrans.wait_for_deliveries(3)
        first, _, last = merchant.received
        assert first.body == last.body
        with pytest.raises(httpx.HTTPStatusError, match="no webhook"):
            midtrans.replay("ORD-1", event="refund")

    def test_a_duplicated_webhook_comes_twice(self, xendit, invoices, merchant):
        xendit.fault("duplicate", on="webhook", times=1)
        invoices.create()
        xendit.pay("ORD-1")
        xendit.wait_for_deliveries(2)
        assert self.statuses(merchant) == ["PAID", "PAID"]

    def test_a_reordered_webhook_comes_after_the_next(self, xendit, invoices, merchant):
        xendit.fault("reorder", on="webhook", times=1)
        invoices.create()
        xendit.expire("ORD-1")
        xendit.pay("ORD-1")
        xendit.wait_for_deliveries(2)
        assert self.statuses(merchant) == ["PAID", "EXPIRED"]

    def test_a_delayed_webhook_comes_later(self, xendit, invoices, merchant):
        xendit.fault("delay", on="webhook", seconds=0.5)
        invoices.create()
        started = time.monotonic()
        xendit.pay("ORD-1")
        assert merchant.received == []
        xendit.wait_for_deliveries(1)
        assert time.monotonic() - started >= 0.5

    def test_a_lost_webhook_never_comes(self, xendit, invoices, merchant):
        xendit.fault("lost", on="webhook", times=1)
        invoices.create()
        xendit.expire("ORD-1")
        xendit.pay("ORD-1")
        xendit.wait_for_deliveries(1)
        assert self.statuses(merchant) == ["PAID"]

    def test_a_truncated_webhook_is_half_of_it_and_its_retries_are_whole(self, xendit, invoices, merchant):
        xendit.fault("truncated", on="webhook", times=1)
        merchant.answers.append(500)
        invoices.create()
        xendit.pay("ORD-1")
        until(lambda: len(merchant.received) == 2)
        cut, whole = (received.body for received in merchant.received)
        assert cut == whole[: len(whole) // 2]
        assert json.loads(whole)["status"] == "PAID"
        assert xendit.deliveries[0].fault == "truncated"

    def test_a_webhook_that_is_reset_while_it_is_sent_is_sent_again(self, xendit, invoices, merchant):
        xendit.fault("reset", on="webhook", times=1)
        invoices.create()
        xendit.pay("ORD-1")
        until(lambda: xendit.deliveries[0].state == "delivered")
        first, second = xendit.deliveries[0].attempts
        assert (first.status, second.status) == (None, 200)
        assert first.error.startswith("ConnectionResetError")
        assert self.statuses(merchant) == ["PAID"]

    @pytest.mark.parametrize(
        ("name", "token"), [("wrong_signature", "not-the-token"), ("missing_signature", None)]
    )
    def test_the_token_can_be_wrong_or_missing(self, xendit, invoices, merchant, name, token):
        xendit.fault(name, on="webhook")
        invoices.create()
        xendit.pay("ORD-1")
        xendit.wait_for_deliveries(1)
        assert merchant.received[0].headers.get("x-callback-token") == token

    def test_amount_and_currency_can_be_wrong(self, xendit, invoices, merchant):
        xendit.fault("wrong_amount", on="webhook", times=1)
        invoices.create()
        xendit.pay("ORD-1")
        xendit.wait_for_deliveries(1)
        assert (bodies(merchant)[0]["amount"], bodies(merchant)[0]["paid_amount"]) == (151_000, 151_000)
        assert merchant.received[0].headers["x-callback-token"] == xendit.callback_token

    @pytest.mark.parametrize(
        ("authentication", "token"),
        [("valid", "sandbox-callback-token"), ("wrong", "not-the-token"), ("missing", None)],
    )
    def test_a_forgery_says_what_it_likes_and_changes_nothing(
        self, xendit, invoices, merchant, authentication, token
    ):
        invoices.create()
        xendit.forge(
            "ORD-1",
            {"status": "PAID", "paid_amount": 1},
            without=("description",),
            authentication=authentication,
        )
        xendit.wait_for_deliveries(1)
        assert (bodies(merchant)[0]["status"], bodies(merchant)[0]["paid_amount"]) == ("PAID", 1)
        assert merchant.received[0].headers.get("x-callback-token") == token
        assert xendit.payment("ORD-1").status == "PENDING"

    def test_a_forged_notification_keeps_a_valid_signature_where_only_unsigned_fields_lie(
        self, midtrans, transactions, merchant
    ):
        midtrans.webhook_url = merchant.url
        transactions.charge()
        midtrans.wait_for_deliveries(1)
        midtrans.forge("ORD-1", {"transaction_status": "settlement"}, authentication="valid")
        midtrans.forge(
            "ORD-1", {"transaction_status": "settlement", "status_code": "200"}, authentication="wrong"
        )
        midtrans.wait_for_deliveries(3)
        true, captured, wrong = (json.loads(delivery.body) for delivery in midtrans.deliveries)
        assert captured["signature_key"] == true["signature_key"]
        assert captured["transaction_status"] == "settlement"
        assert wrong["signature_key"] == "0" * 128

    def test_a_settlement_can_come_before_its_pending(self, midtrans, transactions, merchant):
        midtrans.webhook_url = merchant.url
        midtrans.hold_webhooks()
        transactions.charge()
        midtrans.pay("ORD-1")
        midtrans.release("newest_first")
        assert [body["transaction_status"] for body in bodies(merchant)] == ["settlement", "pending"]
