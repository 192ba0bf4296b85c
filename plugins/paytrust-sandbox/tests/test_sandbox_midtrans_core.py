"""Core's rules, at the HTTP surface."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

VA = {"payment_type": "bank_transfer", "bank_transfer": {"bank": "bca"}}
GOPAY = {"payment_type": "gopay"}
KEY = {"Idempotency-Key": "key-1"}


def test_amounts_are_strings_with_two_decimals_and_times_naive_jakarta_time(transactions):
    body = transactions.charge()
    assert body["gross_amount"] == "10400.00"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", body["transaction_time"])
    assert (
        abs(
            datetime.fromisoformat(f"{body['transaction_time']}+07:00").timestamp()
            - datetime.now(UTC).timestamp()
        )
        < 5
    )


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ({"payment_type": "bank_transfer", "bank_transfer": {"bank": "bni"}}, "va_numbers"),
        ({"payment_type": "bank_transfer", "bank_transfer": {"bank": "permata"}}, "permata_va_number"),
        ({"payment_type": "permata"}, "permata_va_number"),
        ({"payment_type": "echannel", "echannel": {"bill_info1": "a", "bill_info2": "b"}}, "bill_key"),
        ({"payment_type": "gopay"}, "actions"),
        ({"payment_type": "qris", "qris": {"acquirer": "gopay"}}, "qr_string"),
        ({"payment_type": "shopeepay"}, "actions"),
        ({"payment_type": "cstore", "cstore": {"store": "indomaret"}}, "payment_code"),
        ({"payment_type": "akulaku"}, "redirect_url"),
    ],
)
def test_each_method_answers_with_what_its_payer_needs(transactions, method, field):
    body = transactions.charge(**method)
    assert (body["status_code"], body["transaction_status"]) == ("201", "pending")
    assert body[field]


def test_qris_spells_its_expiry_in_its_own_way(transactions):
    assert "expire_time" in transactions.charge(payment_type="qris")
    assert "expiry_time" in transactions.charge("ORD-2", **GOPAY)


def test_retail_outlets_have_no_fraud_status(transactions):
    assert "fraud_status" not in transactions.charge(payment_type="cstore", cstore={"store": "alfamart"})


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ({"payment_type": "bank_transfer", "bank_transfer": {"bank": "acme"}}, "402"),
        ({"payment_type": "barter"}, "402"),
        ({"payment_type": "credit_card", "credit_card": {"token_id": "stale"}}, "411"),
        ({"payment_type": "credit_card"}, "411"),
        ({**VA, "custom_expiry": {"expiry_duration": 181, "unit": "day"}}, "400"),
        ({**VA, "custom_expiry": {"order_time": "2030", "expiry_duration": 1}}, "400"),
        ({**VA, "item_details": [{"name": "W", "price": 1, "quantity": 1}]}, "400"),
    ],
)
def test_a_charge_that_cannot_be_is_refused(transactions, method, code):
    assert transactions.charge(**method)["status_code"] == code


def test_the_default_unit_of_a_custom_expiry_is_the_minute(transactions):
    body = transactions.charge(**VA, custom_expiry={"expiry_duration": 90})
    start, end = (datetime.fromisoformat(body[name]) for name in ("transaction_time", "expiry_time"))
    assert end - start == timedelta(minutes=90)


@pytest.mark.parametrize(("body", "code"), [(b"{", "413"), (b"null", "500"), (b"{}", "400")])
def test_bodies_that_are_no_charge_are_told_apart(midtrans_api, body, code):
    answer = midtrans_api.post("/v2/charge", content=body)
    assert answer.json()["status_code"] == code
    assert answer.status_code == (400 if code == "400" else 200)


def test_a_wrong_key_is_a_real_401(midtrans, browser):
    answer = browser.get(f"{midtrans.url}/v2/ORD-1/status", auth=("wrong", ""))
    assert (answer.status_code, answer.json()["status_code"]) == (401, "401")


def test_codes_in_the_body_can_be_mirrored_into_http(midtrans, midtrans_api, transactions):
    assert midtrans_api.get("/v2/ORD-1/status").status_code == 200
    midtrans.settings(mirror_http=True)
    assert midtrans_api.get("/v2/ORD-1/status").status_code == 404
    assert (
        midtrans_api.post(
            "/v2/charge", json={"transaction_details": {"order_id": "a", "gross_amount": 10_000}, **VA}
        ).status_code
        == 201
    )
    assert midtrans_api.post("/v2/a/expire").status_code == 407


class TestOrderIds:
    def test_a_second_charge_of_an_order_conflicts(self, transactions):
        transactions.charge()
        assert transactions.charge()["status_code"] == "406"

    @pytest.mark.parametrize("way", ["cancel", "expire"])
    def test_cancelling_or_expiring_a_pending_order_frees_its_id(self, transactions, way):
        transactions.charge()
        transactions.post(f"ORD-1/{way}")
        assert transactions.charge()["status_code"] == "201"

    def test_a_paid_order_is_taken_for_good(self, transactions):
        transactions.charge(payment_type="credit_card", credit_card={"token_id": transactions.card()})
        assert transactions.post("ORD-1/cancel")["transaction_status"] == "cancel"
        assert transactions.charge()["status_code"] == "406"


class TestTransitions:
    def test_expire_answers_407_and_the_notification_says_202(self, transactions, midtrans):
        transactions.charge()
        assert transactions.post("ORD-1/expire")["status_code"] == "407"
        assert '"status_code":"202"' in midtrans.deliveries[-1].body
        assert transactions.status()["status_code"] == "407"

    def test_a_settled_payment_can_be_neither_cancelled_nor_expired(self, transactions, midtrans):
        transactions.charge()
        midtrans.pay("ORD-1")
        assert transactions.post("ORD-1/cancel")["status_code"] == "412"
        assert transactions.post("ORD-1/expire")["status_code"] == "412"
        assert transactions.status()["transaction_status"] == "settlement"

    @pytest.mark.parametrize("way", ["cancel", "expire", "approve", "deny", "refund"])
    def test_what_does_not_exist_is_404(self, transactions, way):
        assert transactions.post(f"nothing/{way}")["status_code"] == "404"

    @pytest.mark.parametrize(
        ("number", "status", "fraud", "code"),
        [
            ("4811111111111114", "capture", "accept", "200"),
            ("4911111111111113", "deny", "accept", "202"),
            ("4611111111111116", "deny", "deny", "202"),
            ("4511111111111117", "capture", "challenge", "201"),
        ],
    )
    def test_test_cards_decide_their_own_fate(self, transactions, number, status, fraud, code):
        body = transactions.charge(
            payment_type="credit_card", credit_card={"token_id": transactions.card(number)}
        )
        assert (body["transaction_status"], body["fraud_status"], body["status_code"]) == (
            status,
            fraud,
            code,
        )
        assert body["masked_card"] == f"{number[:8]}-{number[-4:]}"

    def test_a_challenge_ends_in_approve_or_deny(self, transactions):
        for order_id, way, status in (("ORD-1", "approve", "capture"), ("ORD-2", "deny", "deny")):
            transactions.charge(
                order_id,
                payment_type="credit_card",
                credit_card={"token_id": transactions.card("4511111111111117")},
            )
            assert transactions.post(f"{order_id}/{way}")["transaction_status"] == status
        assert transactions.post("ORD-1/approve")["status_code"] == "412"

    def test_a_card_with_3ds_waits_on_its_page(self, transactions, browser):
        card = {"token_id": transactions.card(), "authentication": True}
        body = transactions.charge(payment_type="credit_card", credit_card=card)
        assert body["transaction_status"] == "pending"
        browser.post(body["redirect_url"], data={"do": "pay"})
        assert transactions.status()["transaction_status"] == "capture"

    def test_an_authorized_card_is_captured_later(self, transactions):
        card = {"token_id": transactions.card(), "type": "authorize"}
        body = transactions.charge(payment_type="credit_card", credit_card=card)
        assert body["transaction_status"] == "authorize"
        captured = transactions.post(
            "capture", {"transaction_id": body["transaction_id"], "gross_amount": 10_400}
        )
        assert captured["transaction_status"] == "capture"
        assert (
            transactions.post("capture", {"transaction_id": body["transaction_id"]})["status_code"] == "412"
        )

    def test_a_settlement_can_be_reversed(self, transactions, midtrans):
        transactions.charge()
        midtrans.pay("ORD-1")
        assert midtrans.reverse("ORD-1").status == "deny"
        assert midtrans.deliveries[-1].event == "deny"


class TestIdempotency:
    def test_a_key_repeats_its_answer_whatever_the_body_and_the_endpoint(self, transactions):
        first = transactions.charge(headers=KEY)
        assert transactions.charge("ORD-2", 5, headers=KEY) == first
        assert transactions.post("ORD-1/cancel", headers=KEY) == first
        assert transactions.status()["transaction_status"] == "pending"

    def test_after_five_minutes_a_key_means_nothing(self, transactions, midtrans):
        transactions.charge(headers=KEY)
        midtrans.advance(301)
        assert transactions.charge(headers=KEY)["status_code"] == "406"

    def test_failures_are_not_kept(self, transactions):
        assert transactions.charge(amount=0, headers=KEY)["status_code"] == "400"
        assert transactions.charge(headers=KEY)["status_code"] == "201"

    def test_a_key_of_more_than_46_characters_is_ignored(self, transactions):
        headers = {"Idempotency-Key": "k" * 47}
        transactions.charge(headers=headers)
        assert transactions.charge(headers=headers)["status_code"] == "406"

    def test_some_methods_keep_nothing(self, transactions):
        transactions.charge(payment_type="cstore", cstore={"store": "indomaret"}, headers=KEY)
        again = transactions.charge(payment_type="cstore", cstore={"store": "indomaret"}, headers=KEY)
        assert again["status_code"] == "406"

    def test_a_second_request_while_the_first_is_worked_on_is_202(self, midtrans, midtrans_api):
        midtrans.settings(latency_s=0.3)
        body = {"transaction_details": {"order_id": "ORD-1", "gross_amount": 10_400}, **VA}

        def charge(_: int) -> int:
            return midtrans_api.post("/v2/charge", json=body, headers=KEY).status_code

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(charge, range(2))) == [200, 202]

    def test_snap_knows_no_idempotency(self, transactions):
        tokens = {transactions.snap(headers=KEY).json()["token"] for _ in range(2)}
        assert len(tokens) == 2


class TestRefunds:
    def test_the_same_key_is_the_same_refund_and_another_key_another(self, transactions, midtrans):
        transactions.charge(**GOPAY)
        midtrans.pay("ORD-1")
        first = transactions.post("ORD-1/refund", {"refund_key": "a", "amount": 400})
        assert first["transaction_status"] == "partial_refund"
        transactions.post("ORD-1/refund", {"refund_key": "a", "amount": 400})
        assert transactions.status()["refund_amount"] == "400.00"
        second = transactions.post("ORD-1/refund", {"refund_key": "b"})
        assert (second["transaction_status"], second["refund_amount"]) == ("refund", "10000.00")
        assert transactions.status()["refund_amount"] == "10400.00"

    def test_a_refund_is_notified_twice_the_second_time_confirmed_by_the_bank(self, transactions, midtrans):
        transactions.charge(**GOPAY)
        midtrans.pay("ORD-1")
        transactions.post("ORD-1/refund", {"amount": 400})
        first, second = midtrans.deliveries[-2:]
        assert "bank_confirmed_at" not in first.body
        assert "bank_confirmed_at" in second.body

    @pytest.mark.parametrize(
        ("method", "refund", "code"),
        [
            (GOPAY, {"amount": 10_401}, "414"),
            (GOPAY, {"amount": 0}, "414"),
            (GOPAY, {"amount": 1.5}, "414"),
            ({"payment_type": "ovo"}, {"amount": 400}, "414"),
            (VA, {}, "412"),
            (GOPAY, {"refund_key": "a b"}, "400"),
        ],
    )
    def test_a_refund_that_cannot_be_is_refused(self, transactions, midtrans, method, refund, code):
        transactions.charge(**method)
        midtrans.pay("ORD-1")
        assert transactions.post("ORD-1/refund", refund)["status_code"] == code

    def test_an_unsettled_payment_cannot_be_refunded(self, transactions):
        transactions.charge(**GOPAY)
        assert transactions.post("ORD-1/refund")["status_code"] == "412"

    def test_a_key_with_another_amount_is_a_conflict(self, transactions, midtrans):
        transactions.charge(**GOPAY)
        midtrans.pay("ORD-1")
        transactions.post("ORD-1/refund", {"refund_key": "a", "amount": 400})
        assert transactions.post("ORD-1/refund", {"refund_key": "a", "amount": 500})["status_code"] == "406"
