"""
One external_id, one invoice, one payment at the gateway: however often and however concurrently it is asked
for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest


@pytest.fixture
def order(seller):
    """A body with an external_id of its own."""
    return seller.body(external_id=f"order-{uuid4()}", metadata={"a": "1", "b": "2"})


def post(seller, body):
    return seller.api.post("/invoices", json=body)


def test_the_same_request_again_gives_the_same_invoice(seller, sandbox, order):
    first, second = post(seller, order), post(seller, order)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(sandbox.xendit.payments) == 1


def test_an_order_number_may_look_like_a_card_number(seller):
    numeric = seller.body(external_id="4111111111111111")
    assert post(seller, numeric).status_code == 201
    found = seller.api.get("/invoices", params={"external_id": "4111111111111111"})
    assert [invoice["external_id"] for invoice in found.json()["invoices"]] == ["4111111111111111"]
    assert post(seller, numeric).status_code == 200


def test_an_identity_number_is_accepted_in_metadata_only(seller):
    nik = "5171014107900006"  # of a woman of Denpasar, with a valid check digit by chance
    assert seller.invoice(metadata={"nik": nik})["metadata"] == {"nik": nik}
    for change in (
        {"description": nik},
        {"metadata": {"note": f"NIK {nik}"}},
        {"metadata": {"card": "5555555555554444"}},
    ):
        answer = post(seller, seller.body(**change))
        assert (answer.status_code, answer.json()["code"]) == (422, "card_number"), change


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"b": "2", "a": "1"}},
        {
            "line_items": [
                {"unit_price": 150000, "tax_rate": 0.11, "quantity": 3, "product_name": "Laptop sleeve"}
            ]
        },
        {
            "line_items": [
                {
                    "unit_price": "150000",
                    "tax_rate": "0.1100",
                    "quantity": 3,
                    "product_name": "Laptop sleeve",
                    "tax_category": None,
                }
            ]
        },
        {"customer": None, "description": None, "expires_at": None},
    ],
)
def test_the_same_content_written_differently_is_the_same(seller, order, change):
    assert (post(seller, order).status_code, post(seller, order | change).status_code) == (201, 200)


def test_the_same_moment_in_another_time_zone_is_the_same(seller, order):
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    jakarta = (moment + timedelta(hours=7)).strftime("%Y-%m-%dT%H:%M:%S+07:00")
    assert post(seller, order | {"expires_at": moment.isoformat()}).status_code == 201
    assert post(seller, order | {"expires_at": jakarta}).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"description": "other"},
        {"metadata": {}},
        {"customer": {"name": "Siti"}},
        {"success_url": "https://example.com"},
        {"expires_at": "2h"},
        {
            "line_items": [
                {"product_name": "Laptop sleeve", "quantity": 3, "unit_price": "150001", "tax_rate": "0.11"}
            ]
        },
        {"line_items": [{"product_name": "Laptop sleeve", "quantity": 3, "unit_price": "150000"}]},
        {
            "line_items": [
                {"product_name": "Laptop sleeve", "quantity": 3, "unit_price": "150000", "tax_rate": "0.11"}
            ]
            * 2
        },
        {"gateway_id": "midtrans"},
    ],
    ids=str,
)
def test_other_content_under_the_same_external_id_is_a_conflict(seller, sandbox, problem, order, change):
    if "expires_at" in change:
        change = {"expires_at": (datetime.now(UTC) + timedelta(hours=2)).isoformat()}
    if "gateway_id" in change:
        change = {"gateway_id": seller.midtrans_id}
    first = post(seller, order).json()
    told = problem(post(seller, order | change), 409, "external_id_conflict")
    assert first["invoice_id"] in told["detail"]
    assert len(sandbox.xendit.payments) + len(sandbox.midtrans.payments) == 1


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_sixteen_at_once_make_one_invoice_and_one_payment(seller, sandbox, database, gateway):
    body = seller.body(gateway, external_id=f"crowd-{uuid4()}")
    with httpx.Client(
        base_url=seller.api.base_url, headers=seller.api.headers, limits=httpx.Limits(max_connections=16)
    ) as crowd:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: crowd.post("/invoices", json=body), range(16)))
        again = crowd.post("/invoices", json=body)
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(201) == 1
    assert set(statuses) <= {200, 201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {
        "payment_in_progress"
    }
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
    assert again.status_code == 200
    assert {answer.json()["invoice_id"] for answer in [*answers, again] if answer.status_code < 300} == {
        again.json()["invoice_id"]
    }
    assert len(getattr(sandbox, gateway).payments) == 1
    assert database.value("SELECT count(*) FROM invoices WHERE external_id = $1", body["external_id"]) == 1
    assert len(seller.get(again.json(), "/payments")["payments"]) == 1


def test_a_repeat_finds_its_invoice_although_the_account_has_been_closed_since(make_merchant, admin):
    merchant = make_merchant()
    body = merchant.body(external_id="before")
    first = post(merchant, body)
    admin.patch(f"/gateway-accounts/{merchant.xendit_id}", json={"disabled": True}).raise_for_status()
    again = post(merchant, body)
    assert (again.status_code, again.json()["invoice_id"]) == (200, first.json()["invoice_id"])


def test_fees_changed_since_do_not_change_what_a_repeat_gets(make_merchant, admin):
    merchant = make_merchant()
    body = merchant.body(external_id="before")
    first = post(merchant, body).json()
    admin.patch(
        f"/gateway-accounts/{merchant.xendit_id}", json={"currencies": {"IDR": {"fixed": "9999"}}}
    ).raise_for_status()
    assert post(merchant, body).json() == first
    assert post(merchant, body | {"external_id": "after"}).json()["total_service_fee_amount"] == "9999"


def test_an_invalid_request_is_refused_even_under_a_known_external_id(seller, problem, order):
    post(seller, order)
    problem(post(seller, order | {"success_url": "nowhere"}), 400, "invalid_request", ["#/success_url"])
