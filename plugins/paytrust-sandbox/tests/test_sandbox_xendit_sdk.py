"""The official SDK, unchanged, against our Xendit."""

from datetime import timedelta

import pytest
import xendit as official  # type: ignore[import-untyped]
from xendit.apis import InvoiceApi, RefundApi  # type: ignore[import-untyped]
from xendit.invoice.model.create_invoice_request import CreateInvoiceRequest  # type: ignore[import-untyped]
from xendit.invoice.model.customer_object import CustomerObject  # type: ignore[import-untyped]
from xendit.invoice.model.invoice_fee import InvoiceFee  # type: ignore[import-untyped]
from xendit.invoice.model.invoice_item import InvoiceItem  # type: ignore[import-untyped]
from xendit.refund.model.create_refund import CreateRefund  # type: ignore[import-untyped]


@pytest.fixture
def client(xendit):
    configuration = official.Configuration(host=xendit.url)
    configuration.api_key = xendit.key
    configuration.retries = False
    with official.ApiClient(configuration) as client:
        yield client
        client.rest_client.pool_manager.clear()


@pytest.fixture
def sdk(client):
    return InvoiceApi(client)


def request(external_id="ORD-1", amount=150_000.0, **terms):
    return CreateInvoiceRequest(external_id=external_id, amount=amount, **terms)


def test_the_sdk_creates_an_invoice_with_everything_in_it(sdk):
    invoice = sdk.create_invoice(
        create_invoice_request=request(
            description="Order 1001",
            invoice_duration=3600.0,
            currency="IDR",
            payment_methods=["OVO", "QRIS"],
            customer=CustomerObject(given_names="Ani", email="ani@example.com"),
            items=[InvoiceItem(name="Widget", price=145_000.0, quantity=1.0)],
            fees=[InvoiceFee(type="ADMIN", value=5_000.0)],
            success_redirect_url="https://shop.test/ok",
            metadata={"tenant": "t1"},
        )
    )
    assert str(invoice.status) == "PENDING"
    assert invoice.amount == 150_000
    assert invoice.expiry_date - invoice.created == timedelta(hours=1)
    assert invoice.invoice_url.endswith(f"/web/{invoice.id}")
    assert [str(wallet.ewallet_type) for wallet in invoice.available_ewallets] == ["OVO"]
    assert invoice.available_banks == []


def test_the_sdk_reads_an_invoice_before_and_after_payment(sdk, xendit):
    created = sdk.create_invoice(create_invoice_request=request())
    assert str(sdk.get_invoice_by_id(created.id).status) == "PENDING"
    xendit.pay(created.id, channel="BNI")
    paid = sdk.get_invoice_by_id(created.id)
    assert (str(paid.status), paid.to_dict()["paid_amount"], paid.to_dict()["bank_code"]) == (
        "PAID",
        150_000,
        "BNI",
    )


def test_the_sdk_lists_every_invoice_of_an_external_id(sdk, xendit):
    first, second = (sdk.create_invoice(create_invoice_request=request()) for _ in range(2))
    sdk.create_invoice(create_invoice_request=request("ORD-2"))
    xendit.pay(first.id)
    both = sdk.get_invoices(external_id="ORD-1", statuses=["PENDING", "PAID"], limit=10.0)
    assert [invoice.id for invoice in both] == [second.id, first.id]
    assert [invoice.id for invoice in sdk.get_invoices(external_id="ORD-1", statuses=["PAID"])] == [first.id]


def test_the_sdk_expires_an_invoice(sdk):
    created = sdk.create_invoice(create_invoice_request=request())
    assert str(sdk.expire_invoice(created.id).status) == "EXPIRED"
    with pytest.raises(official.XenditSdkException) as refused:
        sdk.expire_invoice(created.id)
    assert refused.value.status == "400"


def test_the_sdk_understands_our_errors(sdk):
    with pytest.raises(official.XenditSdkException) as missing:
        sdk.get_invoice_by_id("6748105a77f16ebe0cc583a7")
    assert (missing.value.status, missing.value.errorCode) == ("404", "INVOICE_NOT_FOUND_ERROR")
    with pytest.raises(official.XenditSdkException) as invalid:
        sdk.create_invoice(create_invoice_request=request(currency="THB"))
    assert invalid.value.errorCode == "UNSUPPORTED_CURRENCY"


def test_the_sdk_refunds_a_paid_invoice(client, sdk, xendit):
    refunds = RefundApi(client)
    created = sdk.create_invoice(create_invoice_request=request())
    xendit.pay(created.id, channel="OVO")
    asked = CreateRefund(
        invoice_id=created.id,
        reference_id="ref-1",
        amount=50_000.0,
        currency="IDR",
        reason="REQUESTED_BY_CUSTOMER",
    )
    refund = refunds.create_refund(idempotency_key="idem-1", create_refund=asked)
    assert refund.id.startswith("rfd-")
    assert refunds.create_refund(idempotency_key="idem-1", create_refund=asked).id == refund.id
    assert refunds.get_refund(refund.id).amount == 50_000
    assert [one["id"] for one in refunds.get_all_refunds(invoice_id=created.id).data] == [refund.id]
