"""
One round: a real request meets a fault at a gateway, the answer and the state in between are looked at, the
fault goes away, time passes.

Then nothing may be left over: every page belongs to an attempt, at most one is payable, and all money is in
the books once.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import httpx
from campaigns.chaos_gateway.fixture import Fixture
from campaigns.chaos_gateway.scenarios import (
    ARRIVING,
    LIES,
    REFUSED,
    STATUS,
    UNREACHABLE,
    Played,
    Scenario,
    answers,
    inbox_codes,
    may_show_two_pages,
)
from support.waiting import eventually

DEADLINE_S = 10.0
"""Of one call to a gateway: `paytrust.contract.http.DEADLINE_S`, as gateway plugins are promised it."""
INTAKE_S = 3.0
"""Within which a webhook is answered, whatever goes on."""
PATIENCE_S = 40.0
POLL_S = 0.1
OPERATIONS = {
    "xendit": {"create": "create", "get": "list", "expire": "expire"},
    "midtrans": {"create": "create", "get": "status"},
}
REACHED = (
    PAID_UNKNOWN := "paid on a page that we did not know of",
    PAID_IN_BETWEEN := "paid while the fault lasted",
    CONFIRMED_LATER := "webhook confirmed at a later try",
    SECOND_PAGE := "fault at the page after one that had expired",
    STILL_UNKNOWN := "healed, and the gateway knows of no page: made on demand",
    TWO_PAGES := "two pages for a while, by Xendit's doing",
)
"""What a campaign has to reach, or it has shown less than it says."""
DEAD = {"cancelled", "expired", "failed"}
NAMED_BY_ID = {"wrong_reference", "not_found_though_created"}
"""Faults of a look-up by our reference, which a look-up by the id in the notification passes by."""
PROBLEM = {"type", "title", "status", "detail", "code", "request_id"}


class Broken(AssertionError):
    """A promise was broken."""


def play(scenario: Scenario, fixture: Fixture) -> Played:
    """Play one round, and say what came of it."""
    played = Played(scenario)
    started = time.monotonic()
    try:
        Round(scenario, fixture, played).play()
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding, and the other rounds go on
        played.broken.append(traceback.format_exc(limit=-4))
    played.took_s = time.monotonic() - started
    return played


class Round:
    """One invoice at one gateway account."""

    def __init__(self, scenario: Scenario, fixture: Fixture, played: Played) -> None:
        self.scenario, self.fixture, self.played, self.chance = scenario, fixture, played, scenario.chance
        self.database = fixture.database
        self.far = getattr(fixture.sandbox, scenario.gateway)
        self.far.reset()
        self.far.webhook_url = ""
        if scenario.gateway == "midtrans":
            self.far.settings(send_pending=False)  # or our own look at it would use the fault up
        self.account = fixture.account(scenario.gateway)
        self.account_id = self.account["gateway_id"]
        self.chosen = False
        self.invoice_id: str | None = None
        line = {
            "product_name": "Sleeve",
            "quantity": 1,
            "unit_price": str(self.chance.randint(20_000, 9_000_000)),
            "tax_rate": "0.11",
        }
        self.body = {
            "gateway_id": self.account_id,
            "currency": "IDR",
            "external_id": f"order-{self.account_id}",
            "line_items": [line],
        }
        if self.chance.random() < 0.25:
            self.body["installments"] = {"count": 2}

    def play(self) -> None:
        if self.scenario.on_delivery:
            self.delivery()
        else:
            getattr(self, self.scenario.call)()
        self.mend()
        self.heal()
        self.check_rest()
        if "unknown" in self.attempts():
            self.reached(STILL_UNKNOWN)
        self.end()
        self.heal()
        self.check_rest()
        self.check_end()
        # Nobody is to ask this account's server about what it forgets now.
        self.database.execute(
            "UPDATE payments SET next_check_at = NULL WHERE gateway_account_id = $1", self.account_id
        )

    # --- the calls ---------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        if self.chance.random() < 0.3:
            self.open()
            if self.scenario.gateway == "midtrans":
                self.far.choose(
                    self.reference
                )  # of a page on which nobody picked anything, Midtrans does not say that it has expired
            self.reached(SECOND_PAGE)
            self.far.expire(self.reference)
            self.listen()
            self.pass_time()
            self.until(lambda: self.attempts()[-1] == "expired", "the expired page is not noticed")
            again = ask = self.payment_url
        else:
            ask, again = self.post, self.chance.choice([self.post, self.payment_url])
        times = self.break_("create")
        code = self.expect(ask(), answers(self.scenario.fault, "create", self.scenario.gateway, chosen=False))
        states = {
            "ok": "open",
            "gateway_rejected": "rejected",
            "gateway_unavailable": "unavailable",
            "gateway_outcome_unknown": "unknown",
        }
        self.must(
            self.attempts()[-1] == states[code], f"answered {code}, and the attempt is {self.attempts()}"
        )
        self.look_in_between()
        self.perhaps_pay()
        if times > 1:
            self.expect(
                again(),
                self.repeated(
                    answers(self.scenario.fault, "create", self.scenario.gateway, chosen=self.chosen)
                ),
            )
            self.look_in_between()

    def get(self) -> None:
        scenes = [self.get_unknown, self.get_before_cancelling]
        self.chance.choice(scenes if self.scenario.fault in UNREACHABLE else [*scenes, self.get_at_a_look])()

    def get_unknown(self) -> None:
        """The question what became of a payment whose answer was lost."""
        self.far.fault("reset_after", on="create", times=1)
        self.expect(self.post(), {"gateway_outcome_unknown"})
        self.perhaps_choose()
        times = self.break_("get")
        allowed = answers(self.scenario.fault, "find", self.scenario.gateway, chosen=self.chosen)
        for _ in range(times):
            self.expect(self.chance.choice([self.post, self.payment_url])(), allowed)
            self.look_in_between()
            allowed = self.repeated(allowed)
        self.perhaps_pay()

    def get_before_cancelling(self) -> None:
        """The question whether an invoice was paid, before its page is closed."""
        self.open()
        self.perhaps_choose()
        self.break_("get")
        self.expect_cancelled(answers(self.scenario.fault, "look", self.scenario.gateway, chosen=self.chosen))
        self.perhaps_pay()

    def get_at_a_look(self) -> None:
        """The reconciler's question, where no webhook came."""
        self.open()
        if self.chance.random() < 0.6:
            self.pay()
        self.break_("get")
        self.pass_time()
        self.until(self.hit, "the reconciler does not ask")
        self.until(
            lambda: all(request.duration_s is not None for request in self.far.requests),
            "a call does not end",
        )
        self.look_in_between()

    def expire(self) -> None:
        self.open()
        self.perhaps_choose()
        closing = self.chance.choice(["expire", "cancel_token"]) if self.chosen else "cancel_token"
        operation = closing if self.scenario.gateway == "midtrans" else "expire"
        if self.scenario.fault not in UNREACHABLE and self.chance.random() < 0.3:
            self.break_("expire", operation)
            self.let_its_time_pass()
            self.until(self.hit, "the reconciler closes nothing")
            self.until(
                lambda: all(request.duration_s is not None for request in self.far.requests),
                "a call does not end",
            )
            self.look_in_between()
        else:
            self.break_("expire", operation)
            allowed = answers(self.scenario.fault, "expire", self.scenario.gateway, chosen=self.chosen)
            if self.chosen and operation == "cancel_token" and self.scenario.fault in REFUSED:
                allowed = {"ok"}  # the transaction was ended, which is what counts
            self.expect_cancelled(allowed)
        self.perhaps_pay()

    def webhook(self) -> None:
        """The question whether a webhook tells the truth."""
        self.open()
        self.perhaps_choose()
        self.listen()
        arriving = self.chance.choice(ARRIVING)
        if arriving:
            self.far.fault(arriving, on="webhook", times=1, seconds=0.3)
        self.break_("get")
        self.pay()
        if arriving == "reset":
            self.until(
                lambda: any(delivery.attempts for delivery in self.far.deliveries), "no webhook was sent"
            )
            self.far.advance(1_000)
        self.until(
            lambda: self.inbox("status <> 'received' OR first_failed_at IS NOT NULL"),
            "the webhook is not processed",
        )
        self.until(self.hit, "nobody asks about the webhook")
        [webhook] = self.inbox("true")
        codes = inbox_codes(self.scenario.fault)
        if self.scenario.gateway == "midtrans" and self.scenario.fault in NAMED_BY_ID:
            codes = {*codes, None}  # the notification named the transaction, which is asked about then
        self.must(
            webhook["first_code"] in codes,
            f"the first try ended with {webhook['first_code']}",
        )
        if webhook["first_code"] is not None:
            self.reached(CONFIRMED_LATER)
            self.look_in_between()

    def delivery(self) -> None:
        """A webhook that suffers on its way to us."""
        self.open()
        self.listen()
        if self.scenario.fault == "reorder" and self.scenario.gateway == "midtrans":
            self.far.settings(send_pending=True)
        self.far.fault(
            self.scenario.fault, on="webhook", times=1, seconds=round(self.chance.uniform(0.1, 0.8), 2)
        )
        if self.scenario.fault == "reorder" and self.scenario.gateway == "xendit":
            self.far.expire(self.reference)
            self.far.pay_late(self.reference)
            self.played.payments += 1
        else:
            self.pay()
        self.until(
            lambda: any(each.attempts or each.state == "lost" for each in self.far.deliveries),
            "no webhook was sent",
        )
        self.far.advance(1_000)
        time.sleep(self.chance.uniform(0, 0.3))

    # --- what a merchant and a payer do ----------------------------------------------------------------------------------------

    def post(self) -> httpx.Response:
        return self.call("POST", "/invoices", json=self.body)

    def payment_url(self) -> httpx.Response:
        return self.call("POST", f"/invoices/{self.invoice_id}/payment-url")

    def cancel(self) -> httpx.Response:
        return self.call("POST", f"/invoices/{self.invoice_id}/cancel")

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        started = time.monotonic()
        answer = self.fixture.api.request(method, path, **how)
        took_s = time.monotonic() - started
        self.played.asked += 1
        self.played.longest_answer_s = max(self.played.longest_answer_s, took_s)
        self.must(
            took_s <= DEADLINE_S + self.fixture.slack_s, f"{method} {path} was answered after {took_s:.2f} s"
        )
        self.must(answer.status_code != 500, answer.text)
        if self.invoice_id is None:
            found = self.fixture.api.get(
                "/invoices", params={"external_id": self.body["external_id"]}
            ).json()["invoices"]
            self.invoice_id = found[0]["invoice_id"]
        return answer

    def open(self) -> None:
        self.must(self.post().status_code == 201, "a healthy gateway opens no page")

    def open_pages(self) -> list[str]:
        """By what the sandbox knows each page that a payer could pay now."""
        pages = []
        for payment in self.far.payments:
            tokens = [token for token in payment.details.get("tokens", []) if token["state"] == "open"]
            if "tokens" in payment.details and payment.status == "unchosen":
                pages += [payment.reference] * len(tokens)
            elif payment.status in {"PENDING", "pending"}:
                pages.append(payment.id if self.scenario.gateway == "xendit" else payment.reference)
        return pages

    def pay(self) -> None:
        page = self.chance.choice(self.open_pages())
        self.far.pay(page)
        self.played.payments += 1

    def perhaps_choose(self) -> None:
        if self.scenario.gateway == "midtrans" and self.chance.random() < 0.5:
            self.far.choose(self.reference)
            self.chosen = True

    def perhaps_pay(self) -> None:
        """Whoever has found a page pays, whatever we know of it."""
        if self.open_pages() and self.chance.random() < 0.4:
            if self.chance.random() < 0.5:
                self.listen()
            known = self.attempts()[-1]
            self.pay()
            self.reached(PAID_UNKNOWN if known == "unknown" else PAID_IN_BETWEEN)

    # --- faults, and time ------------------------------------------------------------------------------------------------------

    def break_(self, call: str, operation: str | None = None) -> int:
        """Switch the fault on; returns how many calls it befalls."""
        fault, times = self.scenario.fault, 1 if self.scenario.is_slow else self.chance.choice([1, 1, 2])
        if fault in UNREACHABLE:
            self.point_at(self.fixture.nowhere[fault])
            return times
        seconds = (
            self.chance.choice([-1, 1]) * self.chance.uniform(60, 1e9)
            if fault == "wrong_clock"
            else self.chance.uniform(0.5, 2)
        )
        operation = operation or OPERATIONS[self.scenario.gateway][call]
        self.far.fault(fault, on=operation, times=times, seconds=round(seconds, 2))
        return times

    def hit(self) -> bool:
        """Whether the fault has befallen somebody, in the sandbox's own words where the sandbox did it."""
        if self.scenario.fault in UNREACHABLE:  # then it cannot know: the inbox says so, or the answer did
            self.played.fired |= any(
                "no connection" in (webhook["error_detail"] or "") for webhook in self.inbox("true")
            )
        befallen = self.far.deliveries if self.scenario.on_delivery else self.far.requests
        self.played.fired |= any(each.fault == self.scenario.fault for each in befallen)
        return self.played.fired

    def mend(self) -> None:
        self.must(self.hit(), f"{self.scenario.fault} befell nothing")
        self.far.clear_faults()
        if self.scenario.fault in UNREACHABLE:
            self.point_at(self.far.url)
        self.listen()

    def point_at(self, url: str) -> None:
        answer = self.fixture.admin.patch(f"/gateway-accounts/{self.account_id}", json={"base_url": url})
        assert answer.status_code == 200, answer.text

    def listen(self) -> None:
        self.far.webhook_url = self.account["webhook_url"]

    def pass_time(self) -> None:
        """Ten minutes go by: everything that waits is due."""
        self.database.execute(
            "UPDATE payments SET next_check_at = now(), created_at = created_at - interval '10 minutes',"
            " updated_at = CASE WHEN status = 'creating' THEN updated_at - interval '10 minutes' ELSE updated_at END"
            " WHERE gateway_account_id = $1 AND next_check_at IS NOT NULL",
            self.account_id,
        )
        self.database.execute(
            "UPDATE webhooks SET next_attempt_at = now() WHERE gateway_account_id = $1 AND status = 'received'",
            self.account_id,
        )

    def let_its_time_pass(self) -> None:
        """The invoice's time is up."""
        self.database.expire(self.invoice_id)
        self.pass_time()

    def heal(self) -> None:
        """Let time pass until nobody has anything left to do."""
        until = time.monotonic() + PATIENCE_S
        while True:
            self.pass_time()
            step = time.monotonic() + 8
            while self.busy() and time.monotonic() < step:
                time.sleep(POLL_S)
            if not self.busy():
                break
            self.must(time.monotonic() < until, f"it does not heal: {self.attempts()}, {self.inbox('true')}")
        self.until(
            lambda: all(delivery.state != "sending" for delivery in self.far.deliveries),
            "a webhook stays under way",
        )

    def busy(self) -> bool:
        """
        Whether somebody still has to look. A look that failed is due in 5 minutes, after one that went well
        the next is later.
        """
        return self.database.value(
            "SELECT EXISTS (SELECT FROM payments WHERE gateway_account_id = $1 AND (next_check_at < now() + interval '7 minutes'"
            " OR status = 'creating'))"
            " OR EXISTS (SELECT FROM webhooks WHERE gateway_account_id = $1 AND status = 'received')",
            self.account_id,
        )

    # --- what must hold ----------------------------------------------------------------------------------------------------------

    def look_in_between(self) -> None:
        """
        While the fault lasts: nothing is called failed or paid that is not known to be, and no second page is
        shown.
        """
        if self.invoice_id is None:
            return
        status = self.invoice()["status"]
        received = self.database.value(
            "SELECT count(*) FROM receipts WHERE gateway_account_id = $1", self.account_id
        )
        paid = [payment for payment in self.far.payments if payment.paid_amount is not None]
        self.must(received <= len(paid), f"{received} receipts for {len(paid)} payments")
        if received == 0:
            self.must(status in {"draft", "pending", "cancelled", "expired"}, f"the invoice is {status}")
        if status in DEAD:
            self.must(not self.open_pages(), f"the invoice is {status} and can be paid")
        if len(self.open_pages()) == 2:
            self.reached(TWO_PAGES)
        self.must(
            len(self.open_pages()) <= (2 if may_show_two_pages(self.scenario) else 1),
            f"payable: {self.open_pages()}",
        )

    def end(self) -> None:
        """
        The merchant goes on: an invoice that is not over has a page again; then it is paid, cancelled, or
        left alone.
        """
        if not self.is_over():
            self.until(self.has_page, "no page can be had")
        wanted = self.chance.choice(["pay", "pay", "cancel", "leave"])
        if self.is_over() or wanted == "leave":
            return
        if wanted == "cancel":
            self.expect_cancelled({"ok"})
            return
        while not self.is_over():
            before = self.receipts()
            self.pay()
            self.until(lambda: len(self.receipts()) > len(before), "money does not arrive")  # noqa: B023 - called at once
            self.until(lambda: self.is_over() or self.open_pages(), "the next page does not open")

    def has_page(self) -> bool:
        """
        Breakers may be open still, and what the gateway has closed is followed by another page only when
        asked again.
        """
        answer = self.payment_url()
        if answer.status_code in {409, 503} and not self.is_over():
            time.sleep(int(answer.headers.get("retry-after", "1")))
        self.must(answer.status_code in {200, 409, 503}, answer.text)
        return answer.status_code == 200 or self.is_over()

    def check_rest(self) -> None:
        """
        Nobody has anything left to do: no orphan, at most one page, every payment in the books once, every
        call within its deadline.
        """
        self.played.broken += self.fixture.broken(self.far, self.account["tenant_id"])
        paid = [int(payment.paid_amount) for payment in self.far.payments if payment.paid_amount is not None]
        self.must(
            len(paid) == len(self.receipts()) == self.played.payments,
            f"{self.played.payments} paid, {paid} at the gateway, {self.receipts()}",
        )
        invoice = self.invoice()
        if sum(paid) >= int(invoice["total_amount"]) and invoice["status"] not in DEAD:
            self.must(invoice["status"] == "paid", f"all is paid, and the invoice is {invoice['status']}")
        for webhook in self.inbox("status = 'failed'"):
            self.must(self.may_fail(webhook), f"a webhook was given up: {webhook}")
        self.check_deadlines()

    def check_end(self) -> None:
        """Whatever is not over can be paid, in one way."""
        invoice, pages = self.invoice(), self.open_pages()
        live = invoice["status"] in {"pending", "partially_paid"}
        self.must(
            len(pages) == live,
            f"the invoice is {invoice['status']}, {len(pages)} pages can be paid, attempts {self.attempts()}",
        )
        self.must(invoice["status"] != "draft", "the invoice is still a draft")
        self.must("unknown" not in self.attempts(), f"attempts {self.attempts()}")

    def may_fail(self, webhook: dict) -> bool:
        if self.scenario.on_delivery:
            return self.scenario.fault == "truncated" and webhook["error_code"] == "unreadable_webhook"
        return self.scenario.fault == "wrong_currency" and webhook["error_code"] == "currency_mismatch"

    def check_deadlines(self) -> None:
        self.until(
            lambda: all(request.duration_s is not None for request in self.far.requests),
            "a call is under way for ever",
        )
        for request in self.far.requests:
            self.played.longest_call_s = max(self.played.longest_call_s, request.duration_s)
            self.must(
                request.duration_s <= DEADLINE_S + self.fixture.slack_s,
                f"{request.method} {request.target} took {request.duration_s} s",
            )
        for attempt in [attempt for delivery in self.far.deliveries for attempt in delivery.attempts]:
            self.must(
                attempt.duration_s <= INTAKE_S + self.fixture.slack_s,
                f"a webhook was answered after {attempt.duration_s} s",
            )

    def expect(self, answer: httpx.Response, allowed: set[str]) -> str:
        """
        Check that *answer* is one of those, and where it is an error a proper one; returns its code, or "ok".
        """
        code = "ok"
        if answer.is_error:
            told = answer.json()
            code = told["code"]
            proper = answer.headers["content-type"] == "application/problem+json" and set(told) >= PROBLEM
            self.must(proper and told["status"] == answer.status_code, f"no proper problem: {answer.text}")
            self.must(
                (answer.status_code == 503) == ("retry-after" in answer.headers)
                or code == "payment_in_progress",
                f"retry-after: {answer.headers}",
            )
            self.played.fired |= self.scenario.fault in UNREACHABLE and "no connection" in told["detail"]
        self.must(code in allowed, f"told {code}, not one of {sorted(allowed)}: {answer.text}")
        self.must(answer.status_code in STATUS.get(code, {409}), f"{code} with {answer.status_code}")
        self.played.answers.append(code)
        return code

    def expect_cancelled(self, allowed: set[str]) -> None:
        if self.expect(self.cancel(), allowed) == "ok":
            self.must(self.invoice()["status"] == "cancelled", "answered ok, and not cancelled")
            self.must(not self.open_pages(), "cancelled, and payable")
        else:
            self.must(self.invoice()["status"] not in DEAD, "answered with an error, and over")
        self.look_in_between()

    def repeated(self, allowed: set[str]) -> set[str]:
        """
        What asking again may lead to while the fault lasts: what is there was adopted, or is about to be.
        """
        found = answers(self.scenario.fault, "find", self.scenario.gateway, chosen=self.chosen)
        over = (
            {"nothing_due"} if self.invoice()["status"] == "paid" else set()
        )  # the webhook of who has found the page was first
        return {"ok", "payment_in_progress", *allowed, *over} | (
            found if self.scenario.fault in LIES else set()
        )

    # --- what is --------------------------------------------------------------------------------------------------------------------

    @property
    def reference(self) -> str:
        return self.database.value(
            "SELECT reference FROM payments WHERE gateway_account_id = $1 ORDER BY attempt DESC LIMIT 1",
            self.account_id,
        )

    def invoice(self) -> dict:
        return self.fixture.api.get(f"/invoices/{self.invoice_id}").json()

    def is_over(self) -> bool:
        return self.invoice()["status"] in {"paid", *DEAD}

    def attempts(self) -> list[str]:
        rows = self.database.rows(
            "SELECT status FROM payments WHERE gateway_account_id = $1 ORDER BY installment_number, attempt",
            self.account_id,
        )
        return [row["status"] for row in rows]

    def receipts(self) -> list[tuple[str, int]]:
        rows = self.database.rows(
            "SELECT gateway_payment_id, amount FROM receipts WHERE gateway_account_id = $1", self.account_id
        )
        return sorted((row["gateway_payment_id"], row["amount"]) for row in rows)

    def inbox(self, where: str) -> list[dict]:
        return self.database.rows(
            "SELECT status, error_code, error_detail, event, (SELECT a.error_code FROM webhook_attempts a WHERE a.webhook_id = w.id"
            f" ORDER BY a.number LIMIT 1) AS first_code FROM webhooks w WHERE gateway_account_id = $1 AND ({where})",
            self.account_id,
        )

    def reached(self, what: str) -> None:
        self.played.reached.append(what)

    def until(self, condition: Callable[[], Any], otherwise: str) -> None:
        eventually(
            condition,
            lambda: f"{otherwise}: {self.attempts()}, {self.inbox('true')}",
            timeout_s=PATIENCE_S,
            pause_s=POLL_S,
        )

    def must(self, holds: object, otherwise: str) -> None:
        if not holds:
            raise Broken(otherwise)
