"""
A gateway that refuses, hangs, resets or lies: an honest answer within the deadline, and afterwards exactly
one way to pay.

What was refused is final; what never left us may be repeated; what may have arrived is looked up before
anything else.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from support.waiting import eventually

UNKNOWN = [
    *["reset_before", "reset_after", "truncated", "malformed_json", "wrong_schema", "redirect"],
    *["http_500_html", "http_503", "http_502_after", "not_found_though_created"],
]
FLOODS = ["huge_body", "gzip_bomb"]
REFUSED = ["http_400", "http_401", "http_403"]
SLOW = ["hang_before", "hang_after", "slow_drip"]
GATEWAYS = ["xendit", "midtrans", "midtrans core"]
TELLS_THE_AMOUNT = ["xendit", "midtrans core"]
DEADLINE_S = 11.5  # 10 s, and what a busy machine adds


@pytest.fixture(scope="module", autouse=True)
def core_account(shop, admin, sandbox):
    """A third account: Midtrans without a page."""
    body = {
        "gateway": "midtrans",
        "name": "core",
        "tenant_id": shop.tenant_id,
        "base_url": sandbox.midtrans.url,
        "credentials": {"server_key": sandbox.midtrans.key, "merchant_id": sandbox.midtrans.merchant_id},
        "currencies": {"IDR": {}},
        "options": {"product": "core", "payment_type": "bank_transfer", "bank": "bca"},
    }
    answer = admin.post("/gateway-accounts", json=body)
    assert answer.status_code == 201, answer.text
    shop.accounts["midtrans core"] = answer.json()


@pytest.fixture(params=GATEWAYS)
def gateway(request):
    return request.param


@pytest.fixture
def far(gateway, seller, sandbox):
    """
    The gateway's server, as new. It says nothing before money comes, or our own look at it would use the
    faults up.
    """
    if gateway != "xendit":
        sandbox.midtrans.settings(send_pending=False)
    return getattr(sandbox, gateway.split()[0])


class Order:
    """One invoice that is asked for again and again."""

    def __init__(self, seller, gateway, payable, currency="IDR"):
        self.payable = payable
        self.seller = seller
        self.body = seller.body(gateway, currency=currency, external_id=f"order-{uuid4()}")

    def post(self):
        return self.seller.api.post("/invoices", json=self.body)

    @property
    def invoice(self):
        [invoice] = self.seller.api.get("/invoices", params={"external_id": self.body["external_id"]}).json()[
            "invoices"
        ]
        return invoice

    @property
    def payments(self):
        return self.seller.get(self.invoice, "/payments")["payments"]

    def payment_url(self):
        return self.seller.api.post(f"/invoices/{self.invoice['invoice_id']}/payment-url")


@pytest.fixture
def order(seller, gateway, payable):
    return Order(seller, gateway, payable)


def way_to_pay(invoice):
    return invoice["payment_url"] or invoice["payment_instructions"]


AGAIN = {"the same POST": lambda order: order.post(), "POST payment-url": lambda order: order.payment_url()}


@pytest.fixture(params=AGAIN.values(), ids=AGAIN)
def again(request):
    """A way to ask once more."""
    return request.param


def assert_healed(order, far, answer):
    assert answer.status_code == 200, answer.text
    invoice = order.invoice
    assert invoice["status"] == "pending"
    assert way_to_pay(invoice)
    assert order.payable(far) == 1
    assert (answer.json()["payment_url"], answer.json()["payment_instructions"]) == (
        invoice["payment_url"],
        invoice["payment_instructions"],
    )
    far.pay(order.payments[-1]["reference"])
    paid = order.seller.wait(invoice, "paid")
    assert order.seller.get(paid, "/overpayment")["overpayment_amount"] == "0"


# --- refused ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_is_502_and_the_invoice_stays_a_draft(order, far, problem, fault, payable):
    far.fault(fault, on="create", times=1)
    problem(order.post(), 502, "gateway_rejected")
    assert (order.invoice["status"], way_to_pay(order.invoice)) == ("draft", None)
    assert [(payment["status"], payment["error_code"]) for payment in order.payments] == [
        ("rejected", "gateway_rejected")
    ]
    assert payable(far) == 0


def test_after_a_refusal_asking_again_is_a_new_attempt(order, far, problem, again):
    far.fault("http_400", on="create", times=1)
    problem(order.post(), 502, "gateway_rejected")
    assert_healed(order, far, again(order))
    assert [payment["status"] for payment in order.payments] == ["rejected", "paid"]
    assert len({payment["reference"] for payment in order.payments}) == 2


# --- never reached ------------------------------------------------------------------------------------------------------------


def test_a_gateway_that_is_down_is_503_and_asking_again_is_safe(order, far, sandbox, problem, again, gateway):
    sandbox.go_down(gateway.split()[0])
    try:
        first, second = order.post(), again(order)
    finally:
        sandbox.come_back(gateway.split()[0])
    for answer in (first, second):
        problem(answer, 503, "gateway_unavailable")
        assert answer.headers["retry-after"]
    assert (order.invoice["status"], way_to_pay(order.invoice)) == ("draft", None)
    assert_healed(order, far, again(order))
    assert len(order.payments) == 1


def test_a_gateway_that_throttles_is_503(order, far, problem, again):
    far.fault("http_429", on="create", times=1)
    problem(order.post(), 503, "gateway_unavailable")
    assert_healed(order, far, again(order))


# --- no answer, or none that can be believed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", UNKNOWN)
def test_no_usable_answer_is_504_and_what_exists_is_adopted(order, far, problem, fault):
    far.fault(fault, on="create", times=1)
    answer = order.post()
    problem(answer, 504, "gateway_outcome_unknown")
    assert answer.elapsed.total_seconds() < DEADLINE_S
    assert order.invoice["status"] == "draft"
    assert [payment["status"] for payment in order.payments] == ["unknown"]
    assert_healed(order, far, order.payment_url())
    assert len(order.payments) == 1


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)  # the flood is stopped before a plugin sees it
@pytest.mark.parametrize("fault", FLOODS)
def test_a_flood_of_an_answer_is_cut_off(order, far, problem, fault):
    far.fault(fault, on="create", times=1)
    problem(order.post(), 504, "gateway_outcome_unknown")
    assert_healed(order, far, order.payment_url())


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_the_same_post_again_adopts_what_exists(order, far, problem, fault):
    far.fault(fault, on="create", times=1)
    problem(order.post(), 504, "gateway_outcome_unknown")
    assert_healed(order, far, order.post())
    assert len(order.payments) == 1


@pytest.mark.parametrize("gateway", TELLS_THE_AMOUNT, indirect=True)
@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency"])
def test_a_page_for_other_money_than_asked_is_shown_to_nobody(order, far, problem, again, fault):
    far.fault(fault, on="create", times=1)
    problem(order.post(), 504, "gateway_outcome_unknown")
    assert way_to_pay(order.invoice) is None
    assert_healed(order, far, again(order))


@pytest.mark.parametrize("gateway", TELLS_THE_AMOUNT, indirect=True)
@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency"])
def test_a_lookup_that_tells_of_other_money_adopts_nothing(order, far, problem, fault):
    far.fault("reset_after", on="create", times=1)
    far.fault(fault, on="any", times=1)
    order.post()
    problem(order.payment_url(), 504, "gateway_outcome_unknown")
    assert way_to_pay(order.invoice) is None
    assert_healed(order, far, order.payment_url())


@pytest.mark.parametrize("fault", ["http_503", "malformed_json", "reset_before", "http_401"])
def test_while_the_lookup_fails_nothing_new_is_made(order, far, problem, fault, payable):
    far.fault("reset_after", on="create", times=1)
    order.post()
    made = len(far.payments)
    far.fault(fault, on="any", times=2)
    for _ in range(2):
        problem(order.payment_url(), {502, 503, 504})
    assert len(far.payments) == made == payable(far)
    assert [payment["status"] for payment in order.payments] == ["unknown"]
    assert_healed(order, far, order.payment_url())


def test_what_was_paid_while_we_did_not_know_is_found_paid(order, far, problem, database):
    far.fault("reset_after", on="create", times=1)
    problem(order.post(), 504)
    far.fault("lost", on="webhook")
    far.pay(order.payments[-1]["reference"])
    answer = order.post()
    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], way_to_pay(answer.json())) == ("paid", None)
    assert order.seller.get(order.invoice, "/overpayment")["total_paid"] == answer.json()["total_amount"]


@pytest.mark.parametrize("gateway", ["midtrans", "midtrans core"], indirect=True)
def test_a_lookup_that_tells_what_nobody_understands_changes_nothing(order, far, problem):
    far.fault("reset_after", on="create", times=1)
    far.fault("lost", on="webhook")
    problem(order.post(), 504)
    far.pay(order.payments[-1]["reference"])
    far.fault("odd_fields", on="status", fields={"transaction_status": "limbo"})
    for _ in range(2):
        problem(order.payment_url(), 504, "gateway_outcome_unknown")
    assert [payment["status"] for payment in order.payments] == ["unknown"]


def test_eight_at_once_after_an_unknown_outcome_still_make_one_way_to_pay(order, far, problem, payable):
    far.fault("reset_after", on="create", times=1)
    problem(order.post(), 504)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: order.payment_url(), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert any(answer.status_code == 200 for answer in answers)
    assert payable(far) == 1
    assert len(order.payments) == 1


@pytest.mark.timeout(60)
def test_silence_is_504_within_the_deadline_and_the_order_heals(seller, sandbox, problem, payable):
    orders = [
        (Order(seller, gateway, payable), getattr(sandbox, gateway))
        for gateway in ("xendit", "midtrans")
        for _ in SLOW
    ]
    for gateway in ("xendit", "midtrans"):
        for fault in SLOW:
            getattr(sandbox, gateway).fault(fault, on="create", times=1)
    with ThreadPoolExecutor(len(orders)) as pool:
        started = time.monotonic()
        answers = list(pool.map(lambda pair: pair[0].post(), orders))
        took_s = time.monotonic() - started
    assert 9.5 < took_s < DEADLINE_S
    for answer in answers:
        problem(answer, 504, "gateway_outcome_unknown")
    for gateway in ("xendit", "midtrans"):
        getattr(sandbox, gateway).clear_faults()
    for order, far in orders:
        assert order.payment_url().status_code == 200
        assert len(order.payments) == 1
        far.pay(order.payments[-1]["reference"])
    for order, _ in orders:
        seller.wait(order.invoice, "paid")
    for gateway in ("xendit", "midtrans"):
        assert payable(getattr(sandbox, gateway)) == 0
        assert len(getattr(sandbox, gateway).payments) == len(SLOW)


# --- duplicates, and the time in between -------------------------------------------------------------------------------------


def test_of_several_at_xendit_the_oldest_is_kept_and_the_others_expire(
    outside, seller, sandbox, problem, payable
):
    order = Order(seller, "xendit", payable)
    sandbox.xendit.fault("reset_after", on="create", times=1)
    problem(order.post(), 504)
    [first] = sandbox.xendit.payments
    for _ in range(2):
        twin = {"external_id": first.reference, "amount": int(first.amount), "currency": "IDR"}
        outside.post(
            f"{sandbox.xendit.url}/v2/invoices", auth=(sandbox.xendit.key, ""), json=twin
        ).raise_for_status()
    assert payable(sandbox.xendit) == 3
    assert order.payment_url().json()["payment_url"] == first.page_url
    assert [payment.status for payment in sandbox.xendit.payments] == ["PENDING", "EXPIRED", "EXPIRED"]
    sandbox.xendit.pay(first.id)
    seller.wait(order.invoice, "paid")


def test_money_on_a_duplicate_that_nobody_knew_of_is_not_lost(seller, sandbox, payable):
    order = Order(seller, "xendit", payable)
    sandbox.xendit.fault("duplicate", on="create", times=1)
    assert order.post().status_code == 201
    for payment in sandbox.xendit.payments:
        sandbox.xendit.pay(payment.id)
    seller.wait(order.invoice, "paid")
    eventually(lambda: seller.get(order.invoice, "/overpayment")["overpayment_amount"] != "0")
    assert seller.get(order.invoice, "/overpayment")["overpayment_amount"] == order.invoice["total_amount"]


def test_a_webhook_that_comes_before_the_gateways_answer_is_applied(far, seller, gateway, payable):
    order = Order(
        seller, gateway, payable, currency="USD" if gateway == "xendit" else "IDR"
    )  # a short answer, given byte by byte
    far.fault("slow_drip", on="create", times=1, seconds=0.001)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(order.post)
        eventually(lambda: far.payments)
        far.pay(far.payments[0].reference)
        assert not answer.done()
        paid = seller.wait(order.invoice, "paid")
        answered = answer.result()
    assert answered.status_code == 201, answered.text
    assert (answered.json()["status"], way_to_pay(answered.json())) == ("paid", None)
    assert seller.get(paid, "/overpayment")["overpayment_amount"] in {"0", "0.00"}
    assert [payment["status"] for payment in order.payments] == ["paid"]
    assert order.post().json() == seller.get(paid)


def test_a_paid_invoice_gets_no_new_page(order, far, problem, seller):
    order.post()
    far.pay(order.payments[-1]["reference"])
    seller.wait(order.invoice, "paid")
    problem(order.payment_url(), 409, "nothing_due")
    assert len(order.payments) == 1


def test_a_live_page_is_given_again_without_asking_the_gateway(order, far):
    first = order.post().json()
    asked = len(far.requests)
    answer = order.payment_url().json()
    assert (answer["payment_url"], answer["payment_instructions"]) == (
        first["payment_url"],
        first["payment_instructions"],
    )
    assert len(far.requests) == asked


def test_the_request_that_reaches_the_gateway_holds_the_whole_amount_and_our_reference(order, far):
    invoice = order.post().json()
    [payment] = far.payments
    assert (payment.reference, payment.amount, payment.currency) == (
        order.payments[0]["reference"],
        invoice["total_amount"],
        "IDR",
    )
