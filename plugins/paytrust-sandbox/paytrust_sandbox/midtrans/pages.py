"""
Where a payer presses Pay: the Snap page of a token, and the stand-in for bank, wallet or 3DS page of a Core
charge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import urlencode

from paytrust_sandbox.commands import Act
from paytrust_sandbox.http import Refusal, Request, Response, Router, html_response, see_other
from paytrust_sandbox.midtrans.acts import Acts
from paytrust_sandbox.midtrans.bodies import STATUS_CODES, status_code
from paytrust_sandbox.midtrans.channels import enabled
from paytrust_sandbox.midtrans.orders import Order, Session, Transaction
from paytrust_sandbox.midtrans.state import MidtransState
from paytrust_sandbox.midtrans.times import wib
from paytrust_sandbox.money import shown
from paytrust_sandbox.page import Bill, Line, render

OVER = {
    "expire": "This payment has expired.",
    "cancel": "This payment was cancelled.",
    "failure": "This payment failed.",
    "deny": "This payment was denied.",
}
NUMBERS = ("permata_va_number", "biller_code", "bill_key", "payment_code", "masked_card")


@dataclass(frozen=True)
class View:
    """What one page is about. *session* is None for a Core charge."""

    path: str
    order: Order
    transaction: Transaction | None
    session: Session | None
    now: datetime

    @property
    def subject(self) -> Session | Transaction:
        subject = self.transaction or self.session
        assert subject is not None
        return subject

    @property
    def open(self) -> bool:
        """Whether a payment can be made here now; after a denied attempt a Snap page offers another."""
        status = self.transaction.status if self.transaction else None
        if self.session is None:
            return status == "pending"
        return (
            self.session.usable(self.now)
            and self.order.taken != "paid"
            and status in (None, "pending", "deny")
        )


See = Callable[[Request], View]


class Pages:
    """Shows orders to their payers and does what they press."""

    def __init__(self, state: MidtransState, acts: Acts) -> None:
        self._state = state
        self._acts = acts

    def add_to(self, router: Router) -> None:
        for path, view in (("/snap/v3/redirection/{token}", self._snap), ("/simulator/{id}", self._core)):
            router.add("GET", path, "page", partial(self._show, view))
            router.add("POST", path, "page", partial(self._press, view))
        router.add("GET", "/v2/{type}/{id}/qr-code", "page", self.qr_code)

    def qr_code(self, request: Request) -> Response:
        """A picture in the place of a QR code, with the address a scanner would open."""
        transaction = self._transaction(request)
        text = f"{self._state.base_url}/simulator/{transaction.transaction_id}"
        picture = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 120"><rect width="640" height="120" fill="#fff" stroke="#000"/>'
            f'<text x="320" y="66" font-size="14" text-anchor="middle">{text}</text></svg>'
        )
        return Response(200, picture.encode(), {"content-type": "image/svg+xml"})

    def _snap(self, request: Request) -> View:
        session = self._state.orders.sessions.get(request.params["token"])
        if session is None:
            raise Refusal(
                html_response(
                    "<!doctype html><title>Not found</title><p>There is no such payment page.</p>", 404
                )
            )
        order = self._state.orders.order(session.order_id)
        return View(request.path, order, order.transaction, session, self._state.clock.now())

    def _core(self, request: Request) -> View:
        transaction = self._transaction(request)
        order = self._state.orders.order(transaction.order_id)
        return View(request.path, order, transaction, None, self._state.clock.now())

    def _transaction(self, request: Request) -> Transaction:
        transaction = self._state.orders.transactions.get(request.params["id"])
        if transaction is None:
            raise Refusal(
                html_response(
                    "<!doctype html><title>Not found</title><p>There is no such transaction.</p>", 404
                )
            )
        return transaction

    def _show(self, see: See, request: Request) -> Response:
        return html_response(render(self._bill(see(request))))

    def _press(self, see: See, request: Request) -> Response:
        """Do what the payer pressed, then show the page again; on a page gone stale, only show it."""
        view, form = see(request), request.form
        if view.open:
            try:
                self._do(view, form)
            except ValueError as exc:
                return html_response(render(self._bill(view, problem=str(exc))), 400)
        return see_other(request.path)

    def _do(self, view: View, form: dict[str, str]) -> None:
        order_id, acts = view.order.order_id, self._acts
        if form.get("do") == "expire":
            acts.expire(order_id, Act())
        else:
            amount = form.get("amount", "") if form.get("do") == "pay_other" else None
            acts.pay(order_id, Act(amount=amount, channel=form.get("channel") or None))

    def _bill(self, view: View, problem: str = "") -> Bill:
        subject, transaction = view.subject, view.transaction
        body: dict[str, Any] = view.session.body if view.session else subject.body
        paid = transaction is not None and transaction.was_paid and transaction.status != "deny"
        until = (
            transaction.expires_at
            if transaction and transaction.status == "pending"
            else view.session and view.session.page_expires_at
        )
        return Bill(
            gateway="Midtrans",
            merchant=self._state.merchant_name,
            reference=subject.order_id,
            description=" ".join(_numbers(transaction)) if transaction else "",
            amount=shown(Decimal(subject.gross_amount), "IDR"),
            status=transaction.status if transaction else "open",
            action=view.path,
            channels=[transaction.channel]
            if transaction and transaction.status == "pending"
            else enabled(body.get("enabled_payments")),
            lines=[_line(item) for item in body.get("item_details") or ()] + _fee_line(transaction),
            result="" if view.open else _result(view),
            paid=paid,
            return_url=_return_url(body, transaction),
            expiry=f"Expires {wib(until)} WIB." if until else "",
            hints=[hint for hint in (problem, _last_attempt(view)) if hint],
        )


def _numbers(transaction: Transaction) -> list[str]:
    """Return what the payer would type in at the bank or the counter."""
    accounts = [
        f"{account['bank'].upper()} {account['va_number']}"
        for account in transaction.shown.get("va_numbers", ())
    ]
    return accounts + [str(transaction.shown[name]) for name in NUMBERS if name in transaction.shown]


def _line(item: dict[str, Any]) -> Line:
    return Line(
        f"{item['name']} x {item['quantity']}", shown(Decimal(item["price"] * item["quantity"]), "IDR")
    )


def _fee_line(transaction: Transaction | None) -> list[Line]:
    return (
        [Line("Payment fee", shown(Decimal(transaction.imposed_fee), "IDR"))]
        if transaction and transaction.imposed_fee
        else []
    )


def _last_attempt(view: View) -> str:
    return (
        "The last attempt was denied; another may be made."
        if view.open and view.transaction and view.transaction.status == "deny"
        else ""
    )


def _result(view: View) -> str:
    transaction, session = view.transaction, view.session
    if transaction and transaction.was_paid and transaction.status != "deny":
        waiting = " and waits for a fraud check" if transaction.challenged else ""
        return f"Paid {shown(Decimal(transaction.gross_amount), transaction.currency)} with {transaction.channel}{waiting}."
    if session and session.state != "open":
        return f"This page is no longer valid: its token was {session.state}."
    return (
        OVER.get(transaction.status, "")
        if transaction and transaction.status in OVER
        else "This page has expired."
    )


def _return_url(body: dict[str, Any], transaction: Transaction | None) -> str:
    """Return the finish URL with what Midtrans appends to it. Nothing in it proves anything."""
    url = (body.get("callbacks") or {}).get("finish") or ""
    if not url or transaction is None:
        return url
    told = {
        "order_id": transaction.order_id,
        "status_code": status_code(transaction, STATUS_CODES),
        "transaction_status": transaction.status,
    }
    return f"{url}{'&' if '?' in url else '?'}{urlencode(told)}"
