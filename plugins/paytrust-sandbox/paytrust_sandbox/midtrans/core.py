"""Core: charge, and everything done to a transaction afterwards, whether Snap or Core made it."""

from typing import Any

from paytrust_sandbox.http import Request, Response, Router, json_response
from paytrust_sandbox.midtrans import bisnap
from paytrust_sandbox.midtrans.acts import Acts
from paytrust_sandbox.midtrans.answers import (
    CONFLICT,
    INVALID,
    NOT_FOUND,
    UNCHANGEABLE,
    core_body,
    core_refusal,
)
from paytrust_sandbox.midtrans.bodies import STATUS_CODES, charged, detailed, dressed, signed, status_code
from paytrust_sandbox.midtrans.channels import channel_of, takes
from paytrust_sandbox.midtrans.expiry import core_expiry
from paytrust_sandbox.midtrans.notices import Notices
from paytrust_sandbox.midtrans.orders import Transaction, new_transaction
from paytrust_sandbox.midtrans.refunds import refund_of
from paytrust_sandbox.midtrans.state import MidtransState
from paytrust_sandbox.midtrans.validation import problems, recipients

FREE_AGAIN = ("cancel", "expire")


class Core:
    """The endpoints under `/v2`."""

    def __init__(self, state: MidtransState, acts: Acts, notices: Notices) -> None:
        self._state = state
        self._acts = acts
        self._notices = notices

    def add_to(self, router: Router) -> None:
        for method, path, operation, handler in (
            ("GET", "/v2/token", "token", self.token),
            ("POST", "/v2/charge", "charge", self.charge),
            ("POST", "/v2/capture", "capture", self.capture),
            ("GET", "/v2/{id}/status", "status", self.status),
            ("POST", "/v2/{id}/cancel", "cancel", self.cancel),
            ("POST", "/v2/{id}/expire", "expire", self.expire),
            ("POST", "/v2/{id}/approve", "approve", self.approve),
            ("POST", "/v2/{id}/deny", "deny", self.deny),
            ("POST", "/v2/{id}/refund", "refund", self.refund),
            ("POST", "/v2/{id}/refund/online/direct", "refund", self.refund),
        ):
            router.add(method, path, operation, handler)

    def charge(self, request: Request) -> Response:
        body = core_body(request)
        transaction = self._new(request, body)
        state = self._state
        state.orders.start(transaction)
        card = transaction.payment_type == "credit_card"
        if card and not body["credit_card"].get("authentication"):
            self._acts.paid(transaction)
        elif state.settings.send_pending:
            self._notices.send(transaction)
        message = f"Success, {transaction.payment_type.replace('_', ' ').title()} transaction is created"
        return self._answer(
            charged(transaction, state.merchant_id, status_code(transaction, STATUS_CODES), message)
        )

    def status(self, request: Request) -> Response:
        transaction = self._find(request)
        code, state = status_code(transaction, STATUS_CODES), self._state
        body = detailed(transaction, state.merchant_id, state.key, code, "Success, transaction is found")
        return self._answer(
            signed(bisnap.found(body, transaction, request, state.settings.bi_snap), state.key)
        )

    def cancel(self, request: Request) -> Response:
        transaction = self._moved(request, "cancel")
        body = self._fields(transaction, "200", "Success, transaction is canceled")
        return self._answer(bisnap.canceled(body, transaction, self._state.settings.bi_snap))

    def expire(self, request: Request) -> Response:
        """407 is how Midtrans says that it worked. Methods of BI-SNAP can be cancelled only."""
        if self._state.settings.bi_snap != "as_others" and self._find(request).bi_snap:
            raise core_refusal("412", UNCHANGEABLE)
        return self._about(self._moved(request, "expire"), "407", "Success, transaction is expired")

    def approve(self, request: Request) -> Response:
        transaction = self._challenged(request)
        self._acts.moved(transaction, transaction.status, fraud_status="accept")
        return self._about(transaction, "200", "Success, transaction is approved")

    def deny(self, request: Request) -> Response:
        transaction = self._challenged(request)
        self._acts.moved(transaction, "deny", fraud_status="deny")
        return self._about(transaction, "200", "Success, transaction is denied")

    def capture(self, request: Request) -> Response:
        body = core_body(request)
        transaction = self._state.orders.transactions.get(str(body.get("transaction_id")))
        if transaction is None:
            raise core_refusal("404", NOT_FOUND)
        if transaction.status != "authorize" or transaction.challenged:
            raise core_refusal("412", UNCHANGEABLE)
        self._acts.moved(transaction, "capture")
        return self._about(transaction, "200", "Success, transaction is captured")

    def refund(self, request: Request) -> Response:
        transaction = self._find(request)
        amount, key, reason = refund_of(transaction, core_body(request))
        if all(refund["refund_key"] != key for refund in transaction.refunds):
            self._acts.refunded(transaction, amount, key, reason)
        refund = next(refund for refund in transaction.refunds if refund["refund_key"] == key)
        shown = ("refund_chargeback_id", "refund_amount", "refund_key")
        body = self._fields(transaction, "200", "Success, refund request is approved")
        answer = {**body, **{name: refund[name] for name in shown}}
        return self._answer(bisnap.refunded(answer, transaction, self._state.settings.bi_snap))

    def token(self, request: Request) -> Response:
        """Tokenise a card, as the browser would with the client key."""
        number = dict(request.query).get("card_number", "")
        if not number.isdecimal():
            raise core_refusal("400", INVALID, "card_number is required")
        token = self._state.cards.token(number)
        return json_response(
            {
                "status_code": "200",
                "status_message": "Credit card token is created as Token ID.",
                "token_id": token,
            }
        )

    def _new(self, request: Request, body: dict[str, Any]) -> Transaction:
        channel = channel_of(body)
        found = problems(body, self._state.settings.minimum_amounts) + (
            [] if body.get("payment_type") else ["payment_type is required"]
        )
        if found:
            raise core_refusal("400", INVALID, *found)
        if channel is None:
            raise core_refusal("402", "Payment channel is not activated.")
        if not takes(channel, body["transaction_details"]["gross_amount"]):
            raise core_refusal(
                "400",
                INVALID,
                "transaction_details.gross_amount is not within the limits of the payment method",
            )
        card = body.get("credit_card")
        if channel == "credit_card" and not (
            isinstance(card, dict) and self._state.cards.known(card.get("token_id"))
        ):
            raise core_refusal("411", "Credit card token is missing, invalid or timed out.")
        details, now = body["transaction_details"], self._state.clock.now()
        self._check_free(details["order_id"])
        try:
            return new_transaction(
                order_id=details["order_id"],
                gross_amount=details["gross_amount"],
                channel=channel,
                body=body,
                recipients=recipients(request),
                at=now,
                expires_at=core_expiry(body, channel, now),
                base_url=self._state.base_url,
            )
        except ValueError as exc:
            raise core_refusal("400", INVALID, str(exc)) from exc

    def _check_free(self, order_id: str) -> None:
        """An order_id is free again once its attempts were cancelled before payment, or have expired."""
        attempts = self._state.orders.order(order_id).transactions
        if any(one.was_paid or one.status not in FREE_AGAIN for one in attempts):
            raise core_refusal("406", CONFLICT)

    def _moved(self, request: Request, target: str) -> Transaction:
        transaction = self._find(request)
        if not transaction.may(target):
            raise core_refusal("412", UNCHANGEABLE)
        self._acts.moved(transaction, target)
        return transaction

    def _challenged(self, request: Request) -> Transaction:
        transaction = self._find(request)
        if not transaction.challenged:
            raise core_refusal("412", UNCHANGEABLE)
        return transaction

    def _find(self, request: Request) -> Transaction:
        transaction = self._state.orders.find(request.params["id"])
        if transaction is None or not bisnap.reached(transaction, request, self._state.settings.bi_snap):
            raise core_refusal("404", NOT_FOUND)
        return transaction

    def _about(self, transaction: Transaction, code: str, message: str) -> Response:
        return self._answer(self._fields(transaction, code, message))

    def _fields(self, transaction: Transaction, code: str, message: str) -> dict[str, Any]:
        return charged(transaction, self._state.merchant_id, code, message)

    def _answer(self, body: dict[str, Any]) -> Response:
        return json_response(dressed(body, self._state.settings))
