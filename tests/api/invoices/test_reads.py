"""
Reading: filters that agree with what was written, pages without gaps or repeats, and amounts that add up.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from paytrust.api.pagination import PAGE_BYTES


@pytest.fixture(scope="module")
def reader(make_merchant):
    """
    A merchant with twelve invoices: six of each gateway, some in dollars, some paid; and another's among them
    in time.
    """
    merchant, other = make_merchant("Reader"), make_merchant("Other")
    for gateway in ("xendit", "midtrans"):
        getattr(merchant.sandbox, gateway).reset()
        getattr(merchant.sandbox, gateway).webhook_url = merchant.accounts[gateway]["webhook_url"]
    merchant.made = []
    for number in range(12):
        gateway = "midtrans" if number % 2 else "xendit"
        currency = "USD" if number % 4 == 0 else "IDR"
        merchant.made.append(merchant.invoice(gateway, currency=currency, external_id=f"order-{number}"))
        other.invoice(gateway, external_id=f"order-{number}")
    for number in (1, 2, 3):
        invoice = merchant.made[number]
        getattr(merchant.sandbox, invoice["gateway"]).pay(merchant.reference(invoice))
        merchant.wait(invoice, "paid")
    merchant.ids = [invoice["invoice_id"] for invoice in reversed(merchant.made)]
    return merchant


def listed(merchant, **filters):
    answer = merchant.api.get("/invoices", params=filters)
    assert answer.status_code == 200, answer.text
    return [invoice["invoice_id"] for invoice in answer.json()["invoices"]]


def pages(api, path, name, **filters):
    """The rows of each page, one after the other."""
    cursor = None
    while True:
        page = api.get(path, params=filters | ({"cursor": cursor} if cursor else {})).json()
        yield page[name]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def test_invoices_are_listed_newest_first_and_only_ones_own(reader):
    assert listed(reader) == reader.ids


def test_a_listed_invoice_is_the_invoice(reader):
    listed_ = reader.api.get("/invoices", params={"include": "line_items"}).json()["invoices"]
    assert len(listed_) == len(reader.made)
    assert listed_ == [reader.get(invoice) for invoice in listed_]


def test_a_list_has_no_lines_unless_they_are_asked_for(reader):
    listed_ = reader.api.get("/invoices").json()["invoices"]
    whole = [reader.get(invoice) for invoice in listed_]
    for invoice in whole:
        del invoice["line_items"]
    assert listed_ == whole
    refused = reader.api.get("/invoices", params={"include": "everything"})
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "include")


@pytest.fixture(scope="module")
def large(make_merchant):
    """A merchant with 14 invoices that are as large as an invoice can be: the ids, newest first."""
    merchant = make_merchant("Large")
    line = {"product_name": "x" * 255, "quantity": 1, "unit_price": "1000"}
    metadata = {f"{number:040}": "m" * 500 for number in range(50)}
    made = [merchant.invoice(line_items=[line] * 500, metadata=metadata) for _ in range(14)]
    merchant.ids = [invoice["invoice_id"] for invoice in reversed(made)]
    return merchant


@pytest.mark.parametrize(("include", "most"), [({}, 14), ({"include": "line_items"}, 4)])
def test_a_page_is_bounded_in_bytes_and_the_next_goes_on(large, include, most):
    seen, cursor = [], None
    while cursor is not None or not seen:
        after = {} if cursor is None else {"cursor": cursor}
        answer = large.api.get("/invoices", params={"limit": 200} | include | after)
        assert len(answer.content) <= PAGE_BYTES + 1_000
        page = [invoice["invoice_id"] for invoice in answer.json()["invoices"]]
        assert 1 <= len(page) <= most
        seen += page
        cursor = answer.json()["next_cursor"]
    assert seen == large.ids


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 11, 12, 13, 200])
def test_pages_have_neither_gaps_nor_repeats(reader, limit):
    found = list(pages(reader.api, "/invoices", "invoices", limit=limit))
    assert [invoice["invoice_id"] for page in found for invoice in page] == reader.ids
    assert all(len(page) == limit for page in found[:-1])


def test_what_is_written_meanwhile_moves_no_page(make_merchant):
    merchant = make_merchant()
    old = [merchant.invoice()["invoice_id"] for _ in range(6)][::-1]
    seen = []
    for page in pages(merchant.api, "/invoices", "invoices", limit=2):
        seen += [invoice["invoice_id"] for invoice in page]
        merchant.invoice()
    assert seen == old


def test_large_pages_of_one_tenant_do_not_keep_others_waiting(large, reader):
    stop = threading.Event()

    def read_pages():
        while not stop.is_set():
            answer = large.api.get("/invoices", params={"limit": 200, "include": "line_items"})
            assert answer.status_code == 200

    with ThreadPoolExecutor(8) as readers:
        greedy = [readers.submit(read_pages) for _ in range(8)]
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert len(listed(reader, limit=50)) == len(reader.made)
            took.append(time.monotonic() - began)
        stop.set()
    for reading in greedy:
        reading.result()
    assert statistics.median(took) < 0.4, took


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"status": "paid"}, [1, 2, 3]),
        ({"status": "pending"}, [0, *range(4, 12)]),
        ({"status": "draft"}, []),
        ({"currency": "USD"}, [0, 4, 8]),
        ({"currency": "IDR"}, [1, 2, 3, 5, 6, 7, 9, 10, 11]),
        ({"currency": "MYR"}, []),
        ({"external_id": "order-7"}, [7]),
        ({"external_id": "order"}, []),
        ({"external_id": "%"}, []),
        ({"currency": "IDR", "status": "paid"}, [1, 2, 3]),
        ({"currency": "USD", "status": "paid"}, []),
        ({"currency": "IDR", "external_id": "order-4"}, []),
    ],
    ids=str,
)
def test_a_filter_lists_what_matches_and_nothing_else(reader, filters, wanted):
    expected = [reader.made[number]["invoice_id"] for number in reversed(wanted)]
    assert listed(reader, **filters) == expected
    paged = [
        invoice["invoice_id"]
        for page in pages(reader.api, "/invoices", "invoices", limit=2, **filters)
        for invoice in page
    ]
    assert paged == expected


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_the_filter_by_gateway_account_lists_its_invoices(reader, gateway):
    expected = [invoice["invoice_id"] for invoice in reversed(reader.made) if invoice["gateway"] == gateway]
    assert listed(reader, gateway_id=reader.accounts[gateway]["gateway_id"]) == expected


def test_the_created_range_includes_its_start_and_not_its_end(reader):
    times = [invoice["created_at"] for invoice in map(reader.get, reader.made)]
    assert listed(reader, created_from=times[4], created_to=times[8]) == reader.ids[4:8]
    assert listed(reader, created_to=times[0]) == []
    assert listed(reader, created_from=times[8], created_to=times[4]) == []


def test_a_time_means_the_same_in_every_offset(reader):
    moment = datetime.fromisoformat(reader.get(reader.made[6])["created_at"])
    for offset in (-11, 0, 7, 14):
        text = (moment + timedelta(hours=offset)).strftime(
            f"%Y-%m-%dT%H:%M:%S.%f{'-' if offset < 0 else '+'}{abs(offset):02}:00"
        )
        assert listed(reader, created_from=text) == reader.ids[:6]


def test_times_are_utc_with_z(reader):
    invoice = reader.get(reader.made[1])
    times = [invoice[name] for name in ("created_at", "expires_at", "payment_initiated_at")]
    times += [
        part[name]
        for part in reader.get(invoice, "/installments")["installments"]
        for name in ("due_date", "paid_at")
    ]
    times += [
        payment[name]
        for payment in reader.get(invoice, "/payments")["payments"]
        for name in ("created_at", "updated_at")
    ]
    for time_ in times:
        assert time_.endswith("Z")
        assert abs(datetime.fromisoformat(time_) - datetime.now(UTC)) < timedelta(hours=25)


# --- the parts of an invoice ---------------------------------------------------------------------------------------------------


def test_the_amounts_of_an_invoice_add_up(reader):
    for invoice in reader.made:
        exponent = 0 if invoice["currency"] == "IDR" else 2
        amounts = {name: value for name, value in invoice.items() if name.endswith("_amount")}
        amounts |= {
            f"{name}-{n}": line[name]
            for n, line in enumerate(invoice["line_items"])
            for name in ("subtotal_amount", "tax_amount", "unit_price")
        }
        for value in amounts.values():
            assert isinstance(value, str)
            assert len(value.partition(".")[2]) == exponent
        minor = {name: int(value.replace(".", "")) for name, value in amounts.items()}
        assert (
            minor["total_amount"]
            == minor["subtotal_amount"] + minor["total_tax_amount"] + minor["total_service_fee_amount"]
        )
        assert minor["subtotal_amount"] == minor["subtotal_amount-0"] == 3 * minor["unit_price-0"]


@pytest.mark.parametrize(("number", "paid"), [(1, True), (5, False)])
def test_payments_installments_and_overpayment_tell_the_same_story(reader, number, paid):
    invoice = reader.get(reader.made[number])
    total = invoice["total_amount"]
    received = total if paid else "0"
    [payment] = reader.get(invoice, "/payments")["payments"]
    assert (payment["amount"], payment["paid_amount"], payment["status"]) == (
        total,
        received,
        "paid" if paid else "open",
    )
    assert (payment["installment_number"], payment["attempt"], payment["error_code"]) == (1, 1, None)
    schedule = reader.get(invoice, "/installments")
    [part] = schedule["installments"]
    assert schedule["currency"] == invoice["currency"]
    assert (part["number"], part["amount"], part["paid_amount"], part["status"]) == (
        1,
        total,
        received,
        "paid" if paid else "unpaid",
    )
    assert (part["tax_amount"], part["service_fee_amount"]) == (
        invoice["total_tax_amount"],
        invoice["total_service_fee_amount"],
    )
    assert (part["paid_at"] is not None) == paid
    assert part["due_date"] == invoice["expires_at"]
    told = reader.get(invoice, "/overpayment")
    assert (told["total_amount"], told["total_paid"], told["overpayment_amount"]) == (total, received, "0")


def test_an_unpaid_installment_is_overdue_once_its_day_has_passed(make_merchant, database):
    merchant = make_merchant()
    invoice = merchant.invoice()
    database.value(
        "UPDATE installments SET due_at = now() - interval '1 second' WHERE invoice_id = $1",
        invoice["invoice_id"],
    )
    assert merchant.get(invoice, "/installments")["installments"][0]["status"] == "overdue"
    merchant.sandbox.xendit.webhook_url = merchant.accounts["xendit"]["webhook_url"]
    merchant.sandbox.xendit.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")
    assert merchant.get(invoice, "/installments")["installments"][0]["status"] == "paid"


# --- what administrators read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "key"),
    [
        ("/tenants", "tenants", "tenant_id"),
        ("/api-keys", "api_keys", "key_id"),
        ("/gateway-accounts", "gateway_accounts", "gateway_id"),
    ],
)
def test_administrators_page_through_everything_oldest_first(admin, reader, path, name, key):
    whole = [row for page in pages(admin, path, name, limit=200) for row in page]
    by_two = [row for page in pages(admin, path, name, limit=2) for row in page]
    assert whole == by_two
    ids = [row[key] for row in whole]
    assert len(set(ids)) == len(ids) >= 2
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("path", "name"), [("/api-keys", "api_keys"), ("/gateway-accounts", "gateway_accounts")]
)
def test_administrators_may_look_at_one_tenant(admin, reader, path, name):
    rows = list(itertools.chain(*pages(admin, path, name, tenant_id=reader.tenant_id)))
    assert rows
    assert {row["tenant_id"] for row in rows} == {reader.tenant_id}
