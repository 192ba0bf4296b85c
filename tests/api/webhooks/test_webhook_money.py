"""
What webhooks do to money: each payment counts once, in whatever order, number and amount its news arrives.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from support.waiting import eventually

from paytrust.payments.model.attempt import payment_reference
from paytrust.webhooks import jobs, service

TOTAL = "514550"
GATEWAYS = ["xendit", "midtrans"]


@pytest.fixture(params=GATEWAYS)
def gateway(request):
    return request.param


@pytest.fixture
def far(gateway, seller, sandbox):
    return getattr(sandbox, gateway)


class Sale:
    """An invoice, what the gateway calls it, and what is written about it."""

    def __init__(self, seller, database, invoice):
        self._seller, self._database, self.invoice = seller, database, invoice
        self.reference = seller.reference(invoice)

    @property
    def status(self):
        return self._seller.get(self.invoice)["status"]

    @property
    def paid(self):
        told = self._seller.get(self.invoice, "/overpayment")
        return told["total_paid"], told["overpayment_amount"]

    @property
    def receipts(self):
        return self._database.value(
            "SELECT count(*) FROM receipts WHERE invoice_id = $1", self.invoice["invoice_id"]
        )

    @property
    def webhooks(self):
        return self._database.rows("SELECT * FROM webhooks WHERE reference = $1 ORDER BY id", self.reference)

    @property
    def statuses(self):
        return [webhook["status"] for webhook in self.webhooks]

    def wait(self, status):
        return self._seller.wait(self.invoice, status)

    def processed(self):
        """Wait until no webhook waits."""
        eventually(lambda: "received" not in self.statuses, lambda: self.statuses)

    def failed_once(self):
        """The webhooks, once the first of them could not be applied."""
        return (rows := self.webhooks) and rows[0]["error_code"] is not None and rows

    def settled(self, *statuses):
        """Wait until the webhooks have these statuses."""
        eventually(lambda: self.statuses == list(statuses), lambda: (self.statuses, self.status))

    def age(self):
        """Let the invoice's own time be up."""
        self._database.value(
            "UPDATE invoices SET expires_at = created_at + interval '1 millisecond' WHERE id = $1",
            self.invoice["invoice_id"],
        )


@pytest.fixture
def sell(seller, database, gateway):
    return lambda **changes: Sale(seller, database, seller.invoice(gateway, **changes))


@pytest.fixture
def sale(sell, far):
    return sell()


@pytest.fixture(autouse=True)
def balanced(database, shop):
    """
    After each test every account of the books is the sum of its transfers, and every status what the books
    say.
    """
    yield
    wrong = database.rows(
        """
        SELECT a.name FROM book_accounts a WHERE a.tenant_id = $1
            AND (a.debits <> (SELECT coalesce(sum(amount), 0) FROM transfers t
                              WHERE (t.tenant_id, t.currency, t.debit) = (a.tenant_id, a.currency, a.name))
              OR a.credits <> (SELECT coalesce(sum(amount), 0) FROM transfers t
                               WHERE (t.tenant_id, t.currency, t.credit) = (a.tenant_id, a.currency, a.name)))
        UNION ALL
        SELECT i.id::text FROM invoices i WHERE i.tenant_id = $1
            AND (SELECT coalesce(sum(amount), 0) FROM receipts r WHERE r.invoice_id = i.id)
             <> (SELECT coalesce(sum(amount), 0) FROM transfers t WHERE t.invoice_id = i.id AND t.cause = 'receipt')
        """,
        shop.tenant_id,
    )
    assert wrong == []


# --- once, however often and in whatever order -----------------------------------------------------------------------------------


def test_a_webhook_is_acknowledged_in_well_under_a_second(sale, far):
    far.pay(sale.reference)
    sale.wait("paid")
    # The news of a step on the way can be enough to find the money, while the last one is still sent.
    eventually(lambda: all(delivery.attempts for delivery in far.deliveries))
    for delivery in far.deliveries:
        assert [attempt.status for attempt in delivery.attempts] == [200]
        assert delivery.attempts[0].duration_s < 1


@pytest.mark.parametrize("new_id", [False, True])
def test_a_repeated_webhook_changes_nothing(sale, far, new_id):
    far.pay(sale.reference)
    sale.wait("paid")
    known, sent = len(sale.webhooks), len(far.deliveries)
    far.replay(sale.reference, times=5, new_id=new_id)
    repeats = far.wait_for_deliveries(sent + 5)[sent:]
    assert {attempt.answer for delivery in repeats for attempt in delivery.attempts} == {
        '{"status":"repeated"}'
    }
    assert (len(sale.webhooks), sale.receipts, sale.paid) == (known, 1, (TOTAL, "0"))


def test_a_webhook_that_comes_twice_at_once_counts_once(sale, far):
    far.fault("duplicate", on="webhook")
    far.pay(sale.reference)
    sale.wait("paid")
    assert (sale.receipts, sale.paid) == (1, (TOTAL, "0"))


def test_one_webhook_sent_sixteen_times_at_once_is_kept_once(outside, sale, far):
    far.hold_webhooks()
    far.pay(sale.reference)
    news = far.deliveries[-1]
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda _: outside.post(news.url, content=news.body, headers=news.headers), range(16))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["status"] for answer in answers) == ["received"] + ["repeated"] * 15
    sale.wait("paid")
    assert (sale.receipts, sale.paid) == (1, (TOTAL, "0"))


@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_the_order_in_which_news_arrives_does_not_matter(sale, far, gateway, order):
    far.hold_webhooks()
    if gateway == "midtrans":
        far.choose(sale.reference)
        far.pay(sale.reference)
    else:
        far.expire(sale.reference)
        far.pay_late(sale.reference)
    assert [delivery.state for delivery in far.deliveries] == ["held", "held"]
    far.release(order)
    sale.wait("paid")
    assert (sale.receipts, sale.paid) == (1, (TOTAL, "0"))
    far.replay(sale.reference, times=2)
    assert sale.status == "paid"


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_paid_and_then_settled_is_one_receipt(sale, far):
    far.pay(sale.reference)
    sale.wait("paid")
    far.settle(sale.reference)
    far.forge(sale.reference, {"status": "SETTLED"}, authentication="valid")
    sale.settled("applied", "ignored")
    assert (sale.receipts, sale.paid, sale.status) == (1, (TOTAL, "0"), "paid")


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
def test_captured_and_then_settled_is_one_receipt(sale, far):
    far.pay(sale.reference, channel="credit_card")
    sale.wait("paid")
    far.settle(sale.reference)
    far.wait_for_deliveries(len(far.deliveries))
    sale.processed()
    assert {webhook["event"] for webhook in sale.webhooks} >= {"capture", "settlement"}
    assert (sale.receipts, sale.paid, sale.status) == (1, (TOTAL, "0"), "paid")


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
def test_a_challenged_card_is_no_money_until_it_is_approved(sale, far):
    far.challenge(sale.reference)
    eventually(lambda: sale.statuses and "received" not in sale.statuses)
    assert (sale.receipts, sale.status) == (0, "pending")
    far.approve(sale.reference)
    sale.wait("paid")
    assert sale.receipts == 1


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
def test_a_denied_try_leaves_the_invoice_payable(sale, far):
    far.deny(sale.reference)
    far.pay(sale.reference)
    sale.wait("paid")
    assert (sale.receipts, sale.paid) == (1, (TOTAL, "0"))


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_two_kinds_of_news_about_one_payment_at_the_same_moment_count_once(outside, sell, far):
    for _ in range(3):
        sale = sell()
        far.hold_webhooks()
        far.pay(sale.reference)
        far.settle(sale.reference)
        for status in ("SETTLED", "PENDING", "EXPIRED"):
            far.forge(sale.reference, {"status": status}, authentication="valid")
        news = far.deliveries[-4:]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: outside.post(one.url, content=one.body, headers=one.headers), news))
        sale.wait("paid")
        sale.processed()
        assert sorted(sale.statuses) == ["applied", "ignored", "ignored", "ignored"]
        assert (sale.receipts, sale.paid) == (1, (TOTAL, "0"))


# --- more, less, late, or in another currency -----------------------------------------------------------------------------------------


def test_less_than_due_is_kept_and_the_invoice_is_partially_paid(sale, far, seller):
    far.pay(sale.reference, amount="under")
    sale.wait("partially_paid")
    assert sale.paid == ("257275", "0")
    [part] = seller.get(sale.invoice, "/installments")["installments"]
    assert (part["paid_amount"], part["status"], part["paid_at"]) == ("257275", "partially_paid", None)


def test_the_rest_of_a_partial_payment_is_asked_for_on_a_new_page(sale, far, seller):
    far.pay(sale.reference, amount="under")
    sale.wait("partially_paid")
    # The worker makes the page too; whoever comes second is told to wait.
    path = f"/invoices/{sale.invoice['invoice_id']}/payment-url"

    def answer():
        answer = seller.api.post(path)
        return answer.status_code != 409 and answer

    assert eventually(answer).status_code == 200
    first, second = seller.get(sale.invoice, "/payments")["payments"]
    assert (first["status"], first["paid_amount"], second["status"], second["amount"]) == (
        "paid",
        "257275",
        "open",
        "257275",
    )
    far.pay(second["reference"])
    sale.wait("paid")
    assert (sale.receipts, sale.paid) == (2, (TOTAL, "0"))


def test_more_than_due_is_paid_and_the_rest_is_overpayment(sale, far):
    far.pay(sale.reference, amount="over")
    sale.wait("paid")
    assert sale.paid == ("566005", "51455")


def test_another_currency_is_never_applied_and_the_webhook_is_kept_as_failed(sale, far):
    far.pay(sale.reference, currency="USD")
    eventually(lambda: "failed" in sale.statuses, lambda: sale.statuses)
    failed = next(webhook for webhook in sale.webhooks if webhook["status"] == "failed")
    assert (failed["error_code"], failed["attempts"]) == ("currency_mismatch", 1)
    assert failed["processed_at"] is not None
    assert (sale.receipts, sale.paid, sale.status) == (0, ("0", "0"), "pending")


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
@pytest.mark.parametrize(("currency", "total"), [("USD", "68.61"), ("MYR", "66.57")])
def test_cents_arrive_to_the_cent(sell, far, currency, total):
    sale = sell(currency=currency)
    assert sale.invoice["total_amount"] == total
    far.pay(sale.reference)
    sale.wait("paid")
    assert sale.paid == (total, "0.00")


def test_an_expiry_is_of_the_attempt_and_the_invoice_stays_payable_while_its_own_time_lasts(
    sale, far, gateway, seller
):
    if gateway == "midtrans":
        far.choose(sale.reference)
    far.expire(sale.reference)
    eventually(lambda: seller.get(sale.invoice, "/payments")["payments"][0]["status"] == "expired")
    told = seller.get(sale.invoice)
    assert (told["status"], told["payment_url"]) == ("pending", None)
    fresh = seller.api.post(f"/invoices/{sale.invoice['invoice_id']}/payment-url").json()["payment_url"]
    assert fresh not in {None, sale.invoice["payment_url"]}
    far.pay(seller.get(sale.invoice, "/payments")["payments"][1]["reference"])
    sale.wait("paid")


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
def test_when_a_transaction_expires_its_page_is_closed_too(sale, far, seller, payable):
    far.choose(sale.reference)
    far.expire(sale.reference)
    eventually(lambda: seller.get(sale.invoice, "/payments")["payments"][0]["status"] == "expired")
    assert payable(far) == 0


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)  # at Midtrans the page is closed by then
def test_an_invoice_expires_with_its_last_attempt_and_late_money_still_counts(sale, far, seller, problem):
    sale.age()
    far.expire(sale.reference)
    sale.wait("expired")
    problem(seller.api.post(f"/invoices/{sale.invoice['invoice_id']}/payment-url"), 409, "nothing_due")
    far.pay(sale.reference)
    sale.wait("paid")
    assert (sale.receipts, sale.paid) == (1, (TOTAL, "0"))


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_late_money_counts_although_the_gateway_goes_on_calling_it_expired(sale, far):
    sale.age()
    far.expire(sale.reference)
    sale.wait("expired")
    far.pay_late(sale.reference, leave_expired=True)
    sale.wait("paid")
    assert sale.paid == (TOTAL, "0")


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_an_expired_invoice_that_gets_less_than_due_stays_expired_and_keeps_the_money(sale, far):
    sale.age()
    far.expire(sale.reference)
    sale.wait("expired")
    far.pay(sale.reference, amount="under")
    eventually(lambda: sale.receipts != 0)
    assert sale.status == "expired"
    assert int(sale.paid[0]) > 0


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_money_on_a_second_attempt_after_the_first_was_paid_is_overpayment(sale, far, seller):
    far.expire(sale.reference)
    eventually(lambda: seller.get(sale.invoice)["payment_url"] is None)
    seller.api.post(f"/invoices/{sale.invoice['invoice_id']}/payment-url").raise_for_status()
    first, second = (payment["reference"] for payment in seller.get(sale.invoice, "/payments")["payments"])
    far.pay(second)
    sale.wait("paid")
    far.pay(first)
    eventually(lambda: sale.paid[1] != "0")
    assert (sale.receipts, sale.paid, sale.status) == (2, (str(2 * int(TOTAL)), TOTAL), "paid")


# --- what cannot be done now, or at all --------------------------------------------------------------------------------------------


@pytest.fixture
def unknown(outside, seller, sandbox, far, gateway, database):
    """
    News of a payment that is named like ours, and that we know nothing about: as after a restored backup.
    """
    reference = payment_reference(uuid4(), 1, 1)
    if gateway == "xendit":
        body = {"external_id": reference, "amount": 1000, "currency": "IDR"}
        outside.post(f"{far.url}/v2/invoices", auth=(far.key, ""), json=body).raise_for_status()
    else:
        far.settings(send_pending=False)
        body = {"transaction_details": {"order_id": reference, "gross_amount": 1000}}
        outside.post(f"{far.url}/snap/v1/transactions", auth=(far.key, ""), json=body).raise_for_status()
    far.pay(reference)
    [delivery] = far.wait_for_deliveries(1)
    assert delivery.attempts[0].status == 200
    account = seller.accounts[gateway]["gateway_id"]
    query = "SELECT * FROM webhooks WHERE reference = $1 AND gateway_account_id = $2 ORDER BY id DESC LIMIT 1"

    def row(attempts=1):
        def tried():
            rows = database.rows(query, reference, account)
            return rows and rows[0]["attempts"] >= attempts and rows[0]["lease_until"] is None and rows[0]

        return eventually(tried, lambda: database.rows(query, reference, account), timeout_s=6)

    return row


def test_news_of_an_unknown_payment_is_kept_and_tried_again(unknown, database):
    row = unknown()
    assert (row["status"], row["error_code"], row["attempts"], row["processed_at"]) == (
        "received",
        "unknown_reference",
        1,
        None,
    )
    assert row["next_attempt_at"] - row["first_failed_at"] == timedelta(minutes=1)
    first_failed_at = row["first_failed_at"]
    for attempt, minutes in ((2, 6), (3, 36)):
        hurry(database, row)
        row = unknown(attempts=attempt)
        assert (row["status"], row["next_attempt_at"] - row["first_failed_at"]) == (
            "received",
            timedelta(minutes=minutes),
        )
    hurry(database, row)
    row = unknown(attempts=4)
    assert (row["status"], row["error_code"], row["first_failed_at"]) == (
        "failed",
        "unknown_reference",
        first_failed_at,
    )
    tried = database.rows(
        "SELECT number, outcome, error_code FROM webhook_attempts WHERE webhook_id = $1 ORDER BY number",
        row["id"],
    )
    assert [(one["number"], one["outcome"]) for one in tried] == [
        (1, "retry"),
        (2, "retry"),
        (3, "retry"),
        (4, "failed"),
    ]


@pytest.mark.parametrize(
    ("gateway", "kind"),
    [
        *(("xendit", kind) for kind in ("ping", "other_shop", "payout", "disbursement")),
        *(("xendit", kind) for kind in ("virtual_account_created", "virtual_account_paid")),
        *(("midtrans", kind) for kind in ("ping", "other_shop", "account_linked")),
    ],
    indirect=["gateway"],
)
def test_what_is_about_no_payment_of_ours_is_ignored_without_an_alarm(
    merchant, sandbox, database, logged, gateway, kind
):
    lines, far = [logged(service), logged(jobs)], getattr(sandbox, gateway)
    far.send_unrelated(kind)
    for delivery in far.wait_for_deliveries(1):
        assert [attempt.status for attempt in delivery.attempts] == [200]
    rows = database.rows(
        "SELECT status, attempts, processed_at FROM webhooks WHERE gateway_account_id = $1",
        merchant.accounts[gateway]["gateway_id"],
    )
    assert {(row["status"], row["attempts"], row["processed_at"] is None) for row in rows} == {
        ("ignored", 0, False)
    }
    assert {line["log_level"] for heard in lines for line in heard} == {"info"}


def hurry(database, row):
    """Let the time of the next attempt come now."""
    database.value("UPDATE webhooks SET next_attempt_at = now() WHERE id = $1", row["id"])


def test_while_the_gateway_cannot_confirm_the_webhook_waits_and_then_counts(sale, far, database, gateway):
    far.fault("http_503", on="list" if gateway == "xendit" else "status", times=1)
    if gateway == "midtrans":
        far.settings(send_pending=False)
    far.pay(sale.reference)
    rows = eventually(sale.failed_once)
    assert (rows[0]["status"], rows[0]["error_code"], sale.status) == (
        "received",
        "gateway_unavailable",
        "pending",
    )
    hurry(database, rows[0])
    sale.wait("paid")
    sale.settled("applied")
    assert sale.webhooks[0]["error_code"] is None


@pytest.mark.parametrize("given_up", [False, True])
def test_a_repeat_of_what_could_not_be_applied_is_applied_at_once(sale, far, database, gateway, given_up):
    """As when a provider has recovered, and sends the same notification again."""
    far.fault("http_503", on="list" if gateway == "xendit" else "status", times=1)
    if gateway == "midtrans":
        far.settings(send_pending=False)
    far.pay(sale.reference)
    [row] = eventually(sale.failed_once)
    if given_up:
        database.rows("UPDATE webhooks SET status = 'failed', attempts = 4 WHERE id = $1", row["id"])
    far.replay(sale.reference)
    sale.wait("paid")
    sale.settled("applied")
    assert (sale.receipts, sale.paid) == (1, (TOTAL, "0"))


def test_a_repeat_does_not_bring_back_what_takes_its_workers_down(sale, far, database):
    far.pay(sale.reference)
    sale.wait("paid")
    sale.processed()
    database.rows(
        "UPDATE webhooks SET status = 'failed', error_code = 'worker_lost' WHERE reference = $1",
        sale.reference,
    )
    before, sent = sale.statuses, len(far.deliveries)
    far.replay(sale.reference)
    far.wait_for_deliveries(sent + 1)
    assert sale.statuses == before


def test_a_gateway_that_tells_of_another_amount_than_we_asked_for_is_asked_again_later(
    sale, far, database, gateway
):
    far.fault("wrong_amount", on="list" if gateway == "xendit" else "status", times=1)
    if gateway == "midtrans":
        far.settings(send_pending=False)
    far.pay(sale.reference)
    rows = eventually(sale.failed_once)
    assert (rows[0]["status"], rows[0]["error_code"], sale.status, sale.receipts) == (
        "received",
        "gateway_unavailable",
        "pending",
        0,
    )
    hurry(database, rows[0])
    sale.wait("paid")
    sale.settled("applied")


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"{}", b"\xff\xfe\x00", b"[" * 100_000, b'{"status": 1e999}'],
    ids=lambda body: repr(body[:20]),
)
def test_an_authentic_webhook_that_cannot_be_read_is_kept_for_a_person(
    outside, merchant, far, database, body
):
    headers = {"x-callback-token": far.callback_token, "content-type": "application/json"}
    answers = [
        outside.post(merchant.accounts["xendit"]["webhook_url"], content=body, headers=headers)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    rows = database.rows(
        "SELECT * FROM webhooks WHERE gateway_account_id = $1 AND body = $2", merchant.xendit_id, body
    )
    assert [(row["status"], row["error_code"], row["attempts"]) for row in rows] == [
        ("failed", "unreadable_webhook", 0)
    ]


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_a_webhook_that_cannot_be_read_is_an_alarm_at_once(outside, merchant, admin, far, logged):
    """The log names it as the API and the command line do; the second within the hour is no second alarm."""
    lines = logged(service)
    headers = {"x-callback-token": far.callback_token}
    for body in (b"{}", b"[]"):
        outside.post(merchant.accounts["xendit"]["webhook_url"], content=body, headers=headers)
    [alarm, error] = [line for line in lines if line["event"] == "webhook given up"]
    assert [line["log_level"] for line in (alarm, error)] == ["critical", "error"]
    assert (alarm["gateway_id"], alarm["code"]) == (merchant.xendit_id, "unreadable_webhook")
    assert admin.get(f"/webhooks/{alarm['event_id']}").json()["error_code"] == "unreadable_webhook"


def test_a_status_nobody_knows_is_kept_for_a_person(sale, far, gateway, seller, database):
    if gateway == "midtrans":
        far.settings(send_pending=False)
        far.choose(sale.reference)
    far.forge(sale.reference, {"status": "WEIRD", "transaction_status": "weird"}, authentication="valid")
    [delivery] = far.wait_for_deliveries(1)
    assert delivery.attempts[0].status == 200
    row = database.rows(
        "SELECT status, error_code, body FROM webhooks WHERE gateway_account_id = $1 ORDER BY id DESC LIMIT 1",
        seller.accounts[gateway]["gateway_id"],
    )
    assert row == [{"status": "failed", "error_code": "unreadable_webhook", "body": delivery.body.encode()}]
    assert sale.status == "pending"


@pytest.mark.parametrize("gateway", ["midtrans"], indirect=True)
def test_money_that_went_back_is_flagged_and_changes_no_status(sale, far, seller):
    far.pay(sale.reference)
    sale.wait("paid")
    far.refund(sale.reference, 30_000)

    def returned():
        timeline = seller.get(sale.invoice, "/timeline")["timeline"]
        return [entry["details"] for entry in timeline if entry["event"] == "payment_returned"]

    eventually(returned)
    assert [(entry["amount"], entry["by"]) for entry in returned()] == [("30000 IDR", "refund")]
    assert (sale.status, sale.paid) == ("paid", (TOTAL, "0"))
    assert seller.get(sale.invoice)["flags"] == ["returned"]
    found = seller.api.get("/invoices?flag=returned").json()["invoices"]
    assert [one["invoice_id"] for one in found] == [sale.invoice["invoice_id"]]
    assert found[0]["flags"] == ["returned"]


def test_a_webhook_waits_for_no_business_lock(outside, sale, far, database):
    far.hold_webhooks()
    far.pay(sale.reference)
    news = far.deliveries[-1]
    with database.holding(
        f"SELECT FROM paytrust.invoices WHERE id = '{sale.invoice['invoice_id']}' FOR UPDATE"
    ):
        answer = outside.post(news.url, content=news.body, headers=news.headers)
        assert (answer.status_code, answer.elapsed.total_seconds() < 1) == (200, True)
        assert sale.status == "pending"
    sale.wait("paid")


@pytest.mark.parametrize("gateway", ["xendit"], indirect=True)
def test_a_webhook_that_cannot_be_stored_is_503_so_that_it_comes_again(outside, sale, far, database, problem):
    far.hold_webhooks()
    far.pay(sale.reference)
    news = far.deliveries[-1]
    with database.holding("LOCK TABLE paytrust.webhooks"):
        answer = outside.post(news.url, content=news.body, headers=news.headers)
    problem(answer, 503, "unavailable")
    assert answer.elapsed.total_seconds() < 4
    assert outside.post(news.url, content=news.body, headers=news.headers).status_code == 200
    sale.wait("paid")


def test_ten_bad_webhooks_do_not_hold_up_a_good_one(outside, sale, far, seller, sandbox):
    for number in range(10):
        body = {"id": f"x{number}", "external_id": f"nobody-{number}", "status": "PAID"}
        outside.post(
            seller.accounts["xendit"]["webhook_url"],
            json=body,
            headers={"x-callback-token": sandbox.xendit.callback_token},
        ).raise_for_status()
    far.pay(sale.reference)
    sale.wait("paid")
