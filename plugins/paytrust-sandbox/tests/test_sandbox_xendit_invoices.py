"""Xendit's invoice rules, at the HTTP surface."""

import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

ALWAYS_PRESENT = {
    "external_id",
    "user_id",
    "status",
    "merchant_name",
    "merchant_profile_picture_url",
    "amount",
    "expiry_date",
    "invoice_url",
    "available_banks",
    "available_retail_outlets",
    "available_ewallets",
    "available_qr_codes",
    "available_direct_debits",
    "available_paylaters",
    "should_send_email",
    "created",
    "updated",
}


@pytest.mark.parametrize("path", ["/v2/invoices", "/v2/invoices/"])
def test_create_is_accepted_with_and_without_a_trailing_slash(xendit_api, path):
    assert xendit_api.post(path, json={"external_id": "ORD-1", "amount": 1.0}).status_code == 200


def test_every_answer_has_the_seventeen_fields_clients_rely_on(invoices):
    assert set(invoices.create()) >= ALWAYS_PRESENT


def test_ids_are_24_hex_digits_and_times_utc_milliseconds(invoices):
    invoice = invoices.create(invoice_duration=60)
    assert re.fullmatch("[0-9a-f]{24}", invoice["id"])
    for name in ("created", "updated", "expiry_date"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", invoice[name])
    created, expiry = (datetime.fromisoformat(invoice[name]) for name in ("created", "expiry_date"))
    assert expiry - created == timedelta(seconds=60)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer x",
        "Basic !!!",
        "Basic d3Jvbmc6",
        httpx.BasicAuth("xnd_development_SANDBOX", "password")._auth_header,
    ],
)
def test_a_missing_or_wrong_key_is_401(xendit, authorization, browser):
    headers = {"authorization": authorization} if authorization else {}
    answer = browser.post(
        f"{xendit.url}/v2/invoices", headers=headers, json={"external_id": "a", "amount": 1}
    )
    assert (answer.status_code, answer.json()["error_code"]) == (401, "INVALID_API_KEY")
    assert xendit.payments == []


@pytest.mark.parametrize(
    "terms",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": "150000"},
        {"amount": None},
        {"amount": True},
        {"amount": 0.9},
        {"amount": 10**15},
        {"amount": 10**4000},
        {"external_id": ""},
        {"external_id": "x" * 256},
        {"external_id": 7},
        {"invoice_duration": 0},
        {"invoice_duration": 31_536_001},
        {"items": [{"name": "a", "quantity": 1, "price": 1}] * 76},
        {"items": [{"name": "a", "quantity": 0, "price": 1}]},
        {"items": [{"quantity": 1, "price": 1}]},
        {"fees": [{"type": "ADMIN", "value": 1}] * 11},
        {"success_redirect_url": "x" * 256},
        {"metadata": {str(number): "" for number in range(51)}},
        {"customer": {"given_names": ""}},
        {"locale": "fr"},
        {"amount": 10.001, "currency": "MYR"},
    ],
)
def test_an_invalid_field_is_a_validation_error(invoices, terms):
    assert invoices.refused(**terms)["error_code"] == "API_VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"currency": "PHP"}, "UNSUPPORTED_CURRENCY"),
        ({"currency": "XXX"}, "UNSUPPORTED_CURRENCY"),
        ({"payer_email": "ani"}, "EMAIL_FORMAT_ERROR"),
        ({"customer": {"email": "ani"}}, "EMAIL_FORMAT_ERROR"),
        ({"payment_methods": ["GCASH"]}, "UNAVAILABLE_PAYMENT_METHOD_ERROR"),
        ({"amount": 50_000_000_001}, "MAXIMUM_TRANSFER_AMOUNT_ERROR"),
        ({"amount": 0.5, "currency": "MYR"}, "MINIMAL_TRANSFER_AMOUNT_ERROR"),
        ({"reminder_time": 31, "reminder_time_unit": "days"}, "INVALID_REMINDER_TIME"),
        ({"reminder_time": 2, "reminder_time_unit": ["hours"]}, "INVALID_REMINDER_TIME"),
        ({"reminder_time": 25, "reminder_time_unit": "hours"}, "INVALID_REMINDER_TIME"),
    ],
)
def test_some_mistakes_have_codes_of_their_own(invoices, terms, code):
    assert invoices.refused(**terms)["error_code"] == code


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b"[" * 100_000, b'{"external_id":"a","amount":1e999999}']
)
def test_what_is_not_json_is_said_so(xendit_api, body):
    answer = xendit_api.post("/v2/invoices", content=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_JSON_FORMAT")


def test_the_same_external_id_twice_makes_two_invoices(invoices):
    assert invoices.create()["id"] != invoices.create()["id"]


def test_decimals_of_idr_are_cut_off(invoices):
    assert invoices.create(amount=4550.99)["amount"] == 4550


@pytest.mark.parametrize("currency", ["MYR", "USD"])
def test_cents_survive_where_the_currency_has_them(xendit_api, currency):
    answer = xendit_api.post("/v2/invoices", json={"external_id": "a", "amount": 10.05, "currency": currency})
    assert '"amount":10.05,' in answer.text


def test_an_amount_that_differs_from_items_and_fees_wins(invoices):
    items = [{"name": "Widget", "quantity": 2, "price": 1}]
    assert invoices.create(items=items, fees=[{"type": "ADMIN", "value": -1}])["amount"] == 150_000


def test_optional_fields_may_be_null(invoices):
    assert "description" not in invoices.create(
        description=None, invoice_duration=None, customer=None, items=None, payment_methods=None
    )


def test_the_account_of_a_sub_account_is_echoed(xendit_api):
    answer = xendit_api.post(
        "/v2/invoices",
        json={"external_id": "a", "amount": 1},
        headers={"for-user-id": "62efe4c33e45694d63f585f0"},
    )
    assert answer.json()["user_id"] == "62efe4c33e45694d63f585f0"


def test_an_unknown_invoice_is_404(xendit_api):
    answer = xendit_api.get("/v2/invoices/000000000000000000000000")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "INVOICE_NOT_FOUND_ERROR")


@pytest.mark.parametrize("path", ["/invoices/{}/expire!", "/invoices/{}/expire%21"])
def test_expire_lives_outside_v2_and_ends_in_an_exclamation_mark(invoices, xendit_api, path):
    invoice = invoices.create()
    assert xendit_api.post(path.format(invoice["id"])).json()["status"] == "EXPIRED"
    assert xendit_api.post(f"/v2/invoices/{invoice['id']}/expire!").status_code == 404


def test_only_a_pending_invoice_can_be_expired(invoices, xendit_api, xendit):
    invoice = invoices.create()
    xendit.pay(invoice["id"])
    answer = xendit_api.post(f"/invoices/{invoice['id']}/expire!")
    assert answer.status_code == 400
    assert answer.json()["error_code"]
    assert xendit.payment(invoice["id"]).status == "PAID"


def test_an_invoice_expires_when_its_time_is_up(invoices, xendit, xendit_api):
    invoice = invoices.create(invoice_duration=3600)
    xendit.advance(3599)
    assert xendit.payment(invoice["id"]).status == "PENDING"
    xendit.advance(2)
    assert xendit_api.get(f"/v2/invoices/{invoice['id']}").json()["status"] == "EXPIRED"


def test_expiry_can_come_without_a_webhook(invoices, xendit, xendit_api, merchant):
    xendit.webhook_url = merchant.url
    xendit.settings(send_expired=False)
    invoice = invoices.create(invoice_duration=60)
    xendit.advance(61)
    assert xendit_api.get(f"/v2/invoices/{invoice['id']}").json()["status"] == "EXPIRED"
    assert xendit_api.get("/v2/invoices?external_id=ORD-1").json()[0]["status"] == "EXPIRED"
    assert xendit.deliveries == []


def test_minimum_amounts_can_be_set_by_currency(invoices, xendit):
    told = xendit.settings(minimum_amounts={"IDR": 10_000, "USD": "0.75"})
    assert told["minimum_amounts"] == {"IDR": 10_000, "USD": 0.75}
    assert invoices.refused(amount=9_999)["message"] == "The minimum amount is 10000"
    assert invoices.refused(amount=0.74, currency="USD")["error_code"] == "MINIMAL_TRANSFER_AMOUNT_ERROR"
    assert invoices.refused(amount=0.99, currency="MYR")["message"] == "The minimum amount is 1"
    assert invoices.create(amount=10_000)["amount"] == 10_000


def test_a_paid_invoice_never_expires(invoices, xendit):
    invoice = invoices.create(invoice_duration=60)
    xendit.pay(invoice["id"])
    xendit.advance(120)
    assert xendit.payment(invoice["id"]).status == "PAID"


def test_paid_becomes_settled_without_a_webhook(invoices, xendit, merchant):
    xendit.webhook_url = merchant.url
    invoices.create()
    xendit.pay("ORD-1")
    assert xendit.settle("ORD-1").status == "SETTLED"
    assert [delivery.event for delivery in xendit.wait_for_deliveries(1)] == ["invoice.paid"]


def test_lists_are_arrays_newest_first_and_both_spellings_of_arrays_work(invoices, xendit_api, xendit):
    first, second = invoices.create()["id"], invoices.create()["id"]
    xendit.pay(first)

    def listed(query: str) -> list[str]:
        return [invoice["id"] for invoice in xendit_api.get(f"/v2/invoices?external_id=ORD-1&{query}").json()]

    assert (
        listed("")
        == listed("statuses=PENDING&statuses=PAID&limit=10.0")
        == listed('statuses=["PENDING","PAID"]')
        == [second, first]
    )
    assert listed("statuses=PAID") == listed('statuses=["PAID"]') == [first]
    assert listed("limit=1") == [second]
    assert listed(f"last_invoice={second}") == listed(f"last_invoice_id={second}") == [first]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "created_after=2030-01-01T00:00:00Z", "statuses=[x"]
)
def test_a_list_query_that_makes_no_sense_is_refused(xendit_api, query):
    assert xendit_api.get(f"/v2/invoices?{query}").status_code == 400


def test_lists_can_be_cut_by_time(invoices, xendit_api):
    invoices.create()
    now = datetime.now(UTC)
    past, soon = (now - timedelta(hours=2)).isoformat(), (now + timedelta(hours=2)).isoformat()
    assert (
        len(xendit_api.get("/v2/invoices", params={"created_after": past, "created_before": soon}).json())
        == 1
    )
    assert xendit_api.get("/v2/invoices", params={"created_after": soon, "created_before": soon}).json() == []
    assert xendit_api.get("/v2/invoices", params={"paid_after": past, "paid_before": soon}).json() == []


def test_every_answer_tells_the_rate_limit_and_it_can_be_enforced(invoices, xendit_api, xendit):
    xendit.settings(rate_limit=2, enforce_rate_limit=True)
    invoices.create()
    second = xendit_api.post("/v2/invoices", json={"external_id": "a", "amount": 1})
    assert (second.headers["rate-limit-limit"], second.headers["rate-limit-remaining"]) == ("2", "0")
    third = xendit_api.post("/v2/invoices", json={"external_id": "a", "amount": 1})
    assert (third.status_code, third.json()["error_code"]) == (429, "RATE_LIMIT_EXCEEDED")


def test_numbers_come_back_as_json_numbers_without_needless_decimals(xendit_api):
    body = {
        "external_id": "a",
        "amount": 150000.0,
        "items": [{"name": "W", "quantity": 2.0, "price": 72500.0}],
    }
    answer = xendit_api.post("/v2/invoices", content=json.dumps(body))
    assert '"amount":150000,' in answer.text
    assert '"quantity":2,"price":72500' in answer.text


class TestRefunds:
    def test_a_refund_ends_pending_then_succeeds_by_webhook_and_leaves_the_invoice_alone(
        self, invoices, xendit_api, xendit, merchant
    ):
        invoice = invoices.create()
        xendit.pay(invoice["id"], channel="OVO")
        xendit.webhook_url = merchant.url
        refund = xendit_api.post("/refunds", json={"invoice_id": invoice["id"], "reason": "OTHERS"}).json()
        assert (refund["status"], refund["amount"]) == ("PENDING", 150_000)
        xendit.wait_for_deliveries(1)
        envelope = json.loads(merchant.received[0].body)
        assert (envelope["event"], envelope["data"]["id"]) == ("refund.succeeded", refund["id"])
        assert xendit.payment(invoice["id"]).status == "PAID"

    def test_the_envelope_may_be_nested_in_itself(self, invoices, xendit_api, xendit, merchant):
        xendit.settings(nest_refund_webhook=True, settle_refunds=False)
        invoice = invoices.create()
        xendit.pay(invoice["id"])
        xendit.webhook_url = merchant.url
        xendit_api.post("/refunds", json={"invoice_id": invoice["id"], "reason": "OTHERS"})
        xendit.act(invoice["id"], "refund_fail")
        xendit.wait_for_deliveries(1)
        body = json.loads(merchant.received[0].body)
        assert body["data"]["event"] == "refund.failed"
        assert body["data"]["data"]["failure_code"] == "REFUND_FAILED"

    @pytest.mark.parametrize(
        ("channel", "terms", "code"),
        [
            ("OVO", {"amount": 150_001}, "MAXIMUM_REFUND_AMOUNT_REACHED"),
            ("OVO", {"amount": 0}, "API_VALIDATION_ERROR"),
            ("OVO", {"reason": "WHIM"}, "API_VALIDATION_ERROR"),
            ("OVO", {"currency": "MYR"}, "INVALID_VALUE_ERROR"),
            ("OVO", {"invoice_id": "x"}, "DATA_NOT_FOUND"),
            ("BCA", {}, "REFUND_NOT_SUPPORTED"),
        ],
    )
    def test_a_refund_that_cannot_be_is_refused(self, invoices, xendit_api, xendit, channel, terms, code):
        invoice = invoices.create()
        xendit.pay(invoice["id"], channel=channel)
        answer = xendit_api.post("/refunds", json={"invoice_id": invoice["id"], "reason": "OTHERS", **terms})
        assert answer.json()["error_code"] == code

    def test_refunds_together_never_exceed_what_was_paid(self, invoices, xendit_api, xendit):
        invoice = invoices.create()
        xendit.pay(invoice["id"])
        asked = {"invoice_id": invoice["id"], "reason": "OTHERS", "amount": 100_000}
        assert xendit_api.post("/refunds", json=asked).status_code == 200
        assert xendit_api.post("/refunds", json=asked).json()["error_code"] == "MAXIMUM_REFUND_AMOUNT_REACHED"

    def test_an_unpaid_invoice_cannot_be_refunded(self, invoices, xendit_api):
        answer = xendit_api.post("/refunds", json={"invoice_id": invoices.create()["id"], "reason": "OTHERS"})
        assert answer.json()["error_code"] == "INELIGIBLE_TRANSACTION_STATUS"

    def test_an_idempotency_key_is_bound_to_its_body(self, invoices, xendit_api, xendit):
        invoice = invoices.create()
        xendit.pay(invoice["id"])
        asked = {"invoice_id": invoice["id"], "reason": "OTHERS", "amount": 1000}
        headers = {"idempotency-key": "k"}
        first = xendit_api.post("/refunds", json=asked, headers=headers).json()
        assert xendit_api.post("/refunds", json=asked, headers=headers).json()["id"] == first["id"]
        other = xendit_api.post("/refunds", json={**asked, "amount": 2000}, headers=headers)
        assert (other.status_code, other.json()["error_code"]) == (409, "IDEMPOTENCY_ERROR")

    def test_only_a_pending_refund_can_be_cancelled(self, invoices, xendit_api, xendit):
        xendit.settings(settle_refunds=False)
        invoice = invoices.create()
        xendit.pay(invoice["id"])
        refund = xendit_api.post("/refunds", json={"invoice_id": invoice["id"], "reason": "OTHERS"}).json()
        assert xendit_api.post(f"/refunds/{refund['id']}/cancel").json()["status"] == "CANCELLED"
        assert xendit_api.post(f"/refunds/{refund['id']}/cancel").status_code == 400
