"""Money that goes back after a payment: refunds, chargebacks, voids and reversals, announced or not."""

import json

import httpx
import midtransclient  # type: ignore[import-untyped]
import pytest
import xendit as official  # type: ignore[import-untyped]
from xendit.apis import InvoiceApi, RefundApi  # type: ignore[import-untyped]

CARD = ["CREDIT_CARD"]


def told(delivery) -> dict:
    return json.loads(delivery.body)


def until_refunded(xendit, reference: str):
    xendit.advance(1)
    return xendit.payment(reference)


class TestMidtrans:
    @pytest.fixture
    def paid(self, midtrans, transactions):
        transactions.charge(amount=104_900)
        return midtrans.pay("ORD-1", silent=True)

    @pytest.mark.parametrize(
        ("amount", "status", "back"),
        [
            (None, "refund", "104900"),
            (104_900, "refund", "104900"),
            (30_000, "partial_refund", "30000"),
            ("under", "partial_refund", "52450"),
        ],
    )
    @pytest.mark.usefixtures("paid")
    def test_a_dashboard_refund_shows_in_status_and_notification(
        self, midtrans, transactions, amount, status, back
    ):
        payment = midtrans.refund("ORD-1", amount)
        assert (payment.status, payment.paid_amount, payment.refunded_amount) == (status, "104900", back)
        for body in (transactions.status(), told(midtrans.deliveries[-1])):
            shown = (
                body["transaction_status"],
                body["status_code"],
                body["gross_amount"],
                body["refund_amount"],
            )
            assert shown == (status, "200", "104900.00", f"{back}.00")

    @pytest.mark.usefixtures("paid")
    def test_a_second_refund_makes_a_whole_one(self, midtrans, transactions):
        midtrans.refund("ORD-1", 30_000)
        assert midtrans.refund("ORD-1").status == "refund"
        assert [one["refund_amount"] for one in transactions.status()["refunds"]] == ["30000.00", "74900.00"]

    @pytest.mark.parametrize(
        ("amount", "status", "back"),
        [(None, "chargeback", "104900"), (30_000, "partial_chargeback", "30000")],
    )
    @pytest.mark.usefixtures("paid")
    def test_a_chargeback_is_notified_without_its_amount(self, midtrans, transactions, amount, status, back):
        payment = midtrans.chargeback("ORD-1", amount)
        assert (payment.status, payment.charged_back_amount) == (status, back)
        body = told(midtrans.deliveries[-1])
        assert (body["transaction_status"], body["status_code"], "refund_amount" in body) == (
            status,
            "200",
            False,
        )
        assert transactions.status()["transaction_status"] == status

    @pytest.mark.usefixtures("paid")
    def test_a_chargeback_takes_what_a_refund_left(self, midtrans):
        midtrans.refund("ORD-1", 30_000)
        with pytest.raises(httpx.HTTPStatusError, match="74900 left"):
            midtrans.chargeback("ORD-1", 74_901)
        assert midtrans.chargeback("ORD-1").charged_back_amount == "74900"

    @pytest.mark.usefixtures("paid")
    def test_more_than_is_left_cannot_go_back(self, midtrans):
        for back in (midtrans.refund, midtrans.chargeback):
            with pytest.raises(httpx.HTTPStatusError, match="104900 left"):
                back("ORD-1", 104_901)

    def test_what_is_not_settled_cannot_be_refunded(self, midtrans, transactions):
        transactions.charge()
        for back in (midtrans.refund, midtrans.chargeback):
            with pytest.raises(httpx.HTTPStatusError, match="pending"):
                back("ORD-1")

    def test_a_captured_card_payment_can_be_voided(self, midtrans, transactions):
        transactions.charge(payment_type="credit_card", credit_card={"token_id": transactions.card()})
        assert transactions.status()["transaction_status"] == "capture"
        assert midtrans.void("ORD-1").status == "cancel"
        assert (
            told(midtrans.deliveries[-1])["transaction_status"],
            transactions.status()["transaction_status"],
        ) == ("cancel", "cancel")

    @pytest.mark.parametrize(
        ("action", "status"),
        [("refund", "refund"), ("chargeback", "chargeback"), ("reverse", "deny")],
    )
    @pytest.mark.usefixtures("paid")
    def test_a_silent_change_is_seen_by_asking_only(self, midtrans, transactions, action, status):
        before = len(midtrans.deliveries)
        assert midtrans.act("ORD-1", action, silent=True).status == status
        assert len(midtrans.deliveries) == before
        assert transactions.status()["transaction_status"] == status
        assert [told(delivery)["transaction_status"] for delivery in midtrans.deliveries] == ["pending"]

    @pytest.mark.usefixtures("paid")
    def test_the_sdk_sees_what_the_dashboard_did(self, midtrans):
        core = midtransclient.CoreApi(server_key=midtrans.key, client_key="c", custom_headers={}, proxies={})
        core.api_config.CORE_SANDBOX_BASE_URL = midtrans.url
        midtrans.refund("ORD-1", 30_000, silent=True)
        status = core.transactions.status("ORD-1")
        assert (status["transaction_status"], status["refund_amount"]) == ("partial_refund", "30000.00")
        midtrans.chargeback("ORD-1", silent=True)
        assert core.transactions.status("ORD-1")["transaction_status"] == "chargeback"


class TestXendit:
    @pytest.fixture
    def client(self, xendit):
        configuration = official.Configuration(host=xendit.url)
        configuration.api_key = xendit.key
        configuration.retries = False
        with official.ApiClient(configuration) as client:
            yield client
            client.rest_client.pool_manager.clear()

    @pytest.fixture
    def paid(self, xendit, invoices):
        invoice = invoices.create(payment_methods=CARD)
        xendit.pay("ORD-1", silent=True)
        return invoice

    @pytest.mark.parametrize(("amount", "back"), [(None, "150000"), (50_000, "50000")])
    def test_a_dashboard_refund_is_announced_once_it_succeeded(self, xendit, xendit_api, paid, amount, back):
        xendit.refund("ORD-1", amount)
        payment = until_refunded(xendit, "ORD-1")
        assert (payment.status, payment.paid_amount, payment.refunded_amount) == ("PAID", "150000", back)
        (delivery,) = xendit.deliveries
        body = told(delivery)
        assert (body["event"], body["data"]["invoice_id"], body["data"]["amount"]) == (
            "refund.succeeded",
            paid["id"],
            int(back),
        )
        assert xendit_api.get(f"/v2/invoices/{paid['id']}").json()["status"] == "PAID"
        (listed,) = xendit_api.get(f"/refunds?invoice_id={paid['id']}").json()["data"]
        assert (listed["id"], listed["status"]) == (body["data"]["id"], "SUCCEEDED")

    @pytest.mark.usefixtures("paid")
    def test_a_dashboard_refund_can_fail(self, xendit):
        xendit.settings(settle_refunds=False)
        xendit.refund("ORD-1")
        assert xendit.act("ORD-1", "refund_fail").refunded_amount is None
        assert [delivery.event for delivery in xendit.deliveries] == ["refund.failed"]

    @pytest.mark.usefixtures("paid")
    def test_more_than_is_left_cannot_be_refunded(self, xendit):
        xendit.refund("ORD-1", 100_000)
        with pytest.raises(httpx.HTTPStatusError, match="50000 left"):
            xendit.refund("ORD-1", 50_001)

    @pytest.mark.parametrize("methods", [["BNI"], ["ALFAMART"]])
    def test_a_transfer_cannot_be_refunded_or_disputed(self, xendit, invoices, methods):
        invoices.create(payment_methods=methods)
        xendit.pay("ORD-1")
        for back, able in ((xendit.refund, "refundable are"), (xendit.dispute, "disputable are")):
            with pytest.raises(httpx.HTTPStatusError, match=able):
                back("ORD-1")

    def test_what_is_not_paid_cannot_go_back(self, xendit, invoices):
        invoices.create(payment_methods=CARD)
        for back in (xendit.refund, xendit.dispute):
            with pytest.raises(httpx.HTTPStatusError, match="PENDING"):
                back("ORD-1")

    @pytest.mark.usefixtures("paid")
    def test_a_silent_refund_is_seen_by_asking_only(self, xendit, xendit_api):
        xendit.refund("ORD-1", silent=True)
        assert until_refunded(xendit, "ORD-1").refunded_amount == "150000"
        assert xendit.deliveries == []
        assert [one["status"] for one in xendit_api.get("/refunds").json()["data"]] == ["SUCCEEDED"]

    @pytest.mark.usefixtures("paid")
    def test_a_lost_dispute_is_a_chargeback(self, xendit, xendit_api):
        assert xendit.dispute("ORD-1", 50_000).charged_back_amount is None
        payment = xendit.lose_dispute("ORD-1")
        assert (payment.status, payment.charged_back_amount) == ("PAID", "50000")
        opened, lost = (told(delivery) for delivery in xendit.deliveries)
        assert (opened["event"], opened["status"], opened["amount"]) == (
            "dispute.action_required",
            "ACTION_REQUIRED",
            {"initial": "50000", "terminal": None},
        )
        assert (lost["event"], lost["status_reason"], lost["amount"]["terminal"]) == (
            "dispute.lost",
            "EXCEEDED_DEADLINE",
            "50000",
        )
        assert (lost["id"], lost["reference_id"], lost["channel_code"]) == (opened["id"], "ORD-1", "CARDS")
        del lost["event"]
        assert xendit_api.get(f"/v1/disputes/{lost['id']}").json() == lost
        assert xendit_api.get("/v1/disputes?status=LOST").json()["data"] == [lost]
        assert xendit_api.get("/v1/disputes?status=WON").json()["data"] == []

    @pytest.mark.usefixtures("paid")
    def test_a_won_dispute_takes_nothing_back(self, xendit):
        xendit.dispute("ORD-1")
        assert xendit.win_dispute("ORD-1").charged_back_amount is None
        assert [delivery.event for delivery in xendit.deliveries] == [
            "dispute.action_required",
            "dispute.won",
        ]
        with pytest.raises(httpx.HTTPStatusError, match="no dispute is open"):
            xendit.lose_dispute("ORD-1")

    @pytest.mark.usefixtures("paid")
    def test_a_silent_chargeback_is_seen_by_asking_only(self, xendit, xendit_api):
        xendit.dispute("ORD-1", silent=True)
        xendit.lose_dispute("ORD-1", silent=True)
        assert xendit.deliveries == []
        assert [one["status"] for one in xendit_api.get("/v1/disputes").json()["data"]] == ["LOST"]

    def test_a_dispute_that_is_not_there_is_404(self, xendit_api):
        answer = xendit_api.get("/v1/disputes/nothing")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "DATA_NOT_FOUND")

    def test_the_sdk_sees_what_the_dashboard_did(self, xendit, client, paid):
        xendit.refund("ORD-1", 50_000, silent=True)
        until_refunded(xendit, "ORD-1")
        (refund,) = RefundApi(client).get_all_refunds(invoice_id=paid["id"]).data
        assert (refund["status"], refund["amount"]) == ("SUCCEEDED", 50_000)
        assert str(InvoiceApi(client).get_invoice_by_id(paid["id"]).status) == "PAID"


def test_a_payment_can_be_silent_and_the_next_event_is_not(xendit, invoices):
    invoices.create(payment_methods=CARD)
    xendit.pay("ORD-1", silent=True)
    assert xendit.deliveries == []
    xendit.dispute("ORD-1")
    assert [delivery.event for delivery in xendit.deliveries] == ["dispute.action_required"]


def test_what_is_refused_silently_leaves_webhooks_on(xendit, invoices):
    invoices.create()
    with pytest.raises(httpx.HTTPStatusError):
        xendit.act("ORD-1", "settle", silent=True)
    xendit.pay("ORD-1")
    assert [delivery.event for delivery in xendit.deliveries] == ["invoice.paid"]
