"""Answers and webhooks that are right but for a field: what the fault `odd_fields` does to them."""

import hashlib
import json

import httpx
import midtransclient  # type: ignore[import-untyped]
import pytest

WIB_TIME = "2030-01-01T10:00:00+07:00"


def differing(odd: dict, true: dict) -> set[str]:
    return {name for name in odd.keys() | true.keys() if odd.get(name, ...) != true.get(name, ...)}


@pytest.mark.parametrize("on", ["create", "get", "list", "expire"])
def test_an_odd_xendit_answer_differs_in_its_odd_fields_only(xendit, xendit_api, invoices, on):
    true = invoices.create()
    ask = {
        "create": lambda: xendit_api.post(
            "/v2/invoices", json={"external_id": "ORD-1", "amount": 150_000}
        ).json(),
        "get": lambda: xendit_api.get(f"/v2/invoices/{true['id']}").json(),
        "list": lambda: xendit_api.get("/v2/invoices").json()[-1],
        "expire": lambda: xendit_api.post(f"/invoices/{true['id']}/expire!").json(),
    }
    xendit.fault("odd_fields", on=on, fields={"expiry_date": None, "amount": "150000"}, without=("currency",))
    told = ask[on]()
    assert (told["expiry_date"], told["amount"], "currency" in told) == (None, "150000", False)
    changing = {"id", "created", "updated", "expiry_date", "invoice_url", "status"}
    assert differing(told, true) - changing == {"amount", "currency"}
    assert xendit.payment("ORD-1").details["currency"] == "IDR"


def test_a_path_goes_through_every_element_of_a_list(xendit, invoices):
    xendit.fault(
        "odd_fields",
        fields={"available_banks.transfer_amount": "many"},
        without=("available_banks.bank_code",),
    )
    banks = invoices.create()["available_banks"]
    assert len(banks) > 1
    assert {bank["transfer_amount"] for bank in banks} == {"many"}
    assert not any("bank_code" in bank for bank in banks)


def test_a_path_that_leads_nowhere_changes_nothing(xendit, invoices):
    true = invoices.create(metadata={"a": "b"})
    xendit.fault("odd_fields", fields={"metadata.a.b": 1, "nothing.here": 1})
    assert differing(invoices.create(metadata={"a": "b"}), true) <= {
        "id",
        "created",
        "updated",
        "expiry_date",
        "invoice_url",
    }


def test_an_odd_midtrans_status_is_signed_over_what_it_says(midtrans, transactions):
    transactions.charge()
    midtrans.pay("ORD-1")
    true = transactions.status()
    fields = {"va_numbers": None, "settlement_time": WIB_TIME, "gross_amount": "10400"}
    midtrans.fault("odd_fields", on="status", fields=fields, without=("currency",))
    told = transactions.status()
    assert differing(told, true) == {*fields, "currency", "signature_key"}
    assert {name: told[name] for name in fields} == fields
    signed = f"{told['order_id']}{told['status_code']}10400{midtrans.key}"
    assert told["signature_key"] == hashlib.sha512(signed.encode()).hexdigest()


def test_a_signature_can_be_odd_itself(midtrans, transactions):
    transactions.charge()
    midtrans.fault("odd_fields", on="status", fields={"signature_key": None})
    assert transactions.status()["signature_key"] is None


def test_an_odd_snap_page_has_no_token(midtrans, transactions):
    midtrans.fault("odd_fields", on="create", without=("token",))
    answer = transactions.snap()
    assert (answer.status_code, list(answer.json())) == (201, ["redirect_url"])


def test_errors_are_never_odd(xendit, xendit_api, midtrans, transactions):
    xendit.fault("odd_fields", on="get", fields={"id": "7"})
    assert "id" not in xendit_api.get("/v2/invoices/nothing").json()
    midtrans.fault("odd_fields", on="any", fields={"status_code": "200", "token": "7"})
    assert transactions.status("nothing")["status_code"] == "404"
    assert set(transactions.snap(amount=0).json()) == {"error_messages"}


def test_an_expired_transaction_can_be_odd(midtrans, transactions):
    transactions.charge()
    midtrans.expire("ORD-1")
    midtrans.fault("odd_fields", on="status", fields={"expiry_time": None})
    told = transactions.status()
    assert (told["status_code"], told["expiry_time"]) == ("407", None)


def test_an_odd_webhook_keeps_its_authentication(xendit, invoices, midtrans, transactions, merchant):
    xendit.webhook_url = midtrans.webhook_url = merchant.url
    xendit.fault("odd_fields", on="webhook", times=1, fields={"paid_at": WIB_TIME}, without=("currency",))
    invoices.create()
    xendit.pay("ORD-1")
    xendit.wait_for_deliveries(1)
    (received,) = merchant.received
    told = json.loads(received.body)
    assert (told["paid_at"], "currency" in told, told["status"]) == (WIB_TIME, False, "PAID")
    assert received.headers["x-callback-token"] == xendit.callback_token
    midtrans.fault("odd_fields", on="webhook", times=1, fields={"va_numbers": None})
    transactions.charge("ORD-2")
    (delivery,) = midtrans.wait_for_deliveries(1)
    told = json.loads(delivery.body)
    signed = f"ORD-2201{told['gross_amount']}{midtrans.key}"
    assert (told["va_numbers"], delivery.fault) == (None, "odd_fields")
    assert told["signature_key"] == hashlib.sha512(signed.encode()).hexdigest()


def test_the_sdk_reads_an_odd_status(midtrans, transactions):
    transactions.charge()
    midtrans.fault("odd_fields", on="status", fields={"va_numbers": None}, without=("expiry_time",))
    core = midtransclient.CoreApi(server_key=midtrans.key, client_key="c", custom_headers={}, proxies={})
    core.api_config.CORE_SANDBOX_BASE_URL = midtrans.url
    told = core.transactions.status("ORD-1")
    assert (told["va_numbers"], "expiry_time" in told, told["transaction_status"]) == (None, False, "pending")


@pytest.mark.parametrize(
    ("name", "given"),
    [("odd_fields", {}), ("http_503", {"fields": {"amount": 1}}), ("wrong_types", {"without": ("amount",)})],
)
def test_fields_belong_to_odd_fields_which_needs_them(xendit, name, given):
    with pytest.raises(httpx.HTTPStatusError, match="odd_fields"):
        xendit.fault(name, **given)
