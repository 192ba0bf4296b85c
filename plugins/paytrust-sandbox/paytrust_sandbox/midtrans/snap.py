"""Snap: a token and a page. No transaction exists until the payer picks a method on it."""

import uuid
from typing import Any

from paytrust_sandbox.http import Request, Response, Router, json_response
from paytrust_sandbox.midtrans.answers import snap_refusal
from paytrust_sandbox.midtrans.expiry import page_expiry, snap_expiry
from paytrust_sandbox.midtrans.orders import Session
from paytrust_sandbox.midtrans.state import MidtransState
from paytrust_sandbox.midtrans.validation import problems, recipients

TAKEN = {
    "paid": "transaction_details.order_id has been paid and utilized, please use another order ID",
    "active": "transaction_details.order_id has already been taken",
}


class Snap:
    """The endpoints under `/snap/v1`."""

    def __init__(self, state: MidtransState) -> None:
        self._state = state

    def add_to(self, router: Router) -> None:
        router.add("POST", "/snap/v1/transactions", "create", self.create)
        router.add("POST", "/snap/v1/transactions/{token}/cancel", "cancel_token", self.cancel)

    def create(self, request: Request) -> Response:
        body = self._valid(request)
        orders, details, now = self._state.orders, body["transaction_details"], self._state.clock.now()
        if taken := orders.order(details["order_id"]).taken:
            raise snap_refusal(400, TAKEN[taken])
        try:
            session = self._session(request, body)
        except ValueError as exc:
            raise snap_refusal(400, str(exc)) from exc
        orders.open(session)
        assert session.usable(now)
        return json_response({"token": session.token, "redirect_url": session.url}, 201)

    def cancel(self, request: Request) -> Response:
        session = self._state.orders.sessions.get(request.params["token"])
        now = self._state.clock.now()
        if session is None:
            raise snap_refusal(404, "token not found")
        if session.state != "open":
            raise snap_refusal(400, "token already canceled")
        if self._state.orders.order(session.order_id).taken:
            raise snap_refusal(400, "Transaction is on progress")
        session.state = "canceled"
        return json_response({"canceled_at": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z"})

    def _session(self, request: Request, body: dict[str, Any]) -> Session:
        details, now, token = body["transaction_details"], self._state.clock.now(), str(uuid.uuid4())
        snap_expiry(body, "bca_va", now)
        url = f"{self._state.base_url}/snap/v3/redirection/{token}"
        page_expires_at = page_expiry(body, now)
        return Session(
            token,
            details["order_id"],
            details["gross_amount"],
            body,
            recipients(request),
            now,
            page_expires_at,
            url,
        )

    def _valid(self, request: Request) -> dict[str, Any]:
        try:
            body = request.json() if request.body.strip() else {}
        except ValueError as exc:
            raise snap_refusal(400, "the request body is not valid JSON") from exc
        if found := problems(body, self._state.settings.minimum_amounts):
            raise snap_refusal(400, *found)
        assert isinstance(body, dict)
        return body
