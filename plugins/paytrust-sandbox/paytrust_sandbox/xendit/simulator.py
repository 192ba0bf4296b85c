"""The Xendit API: invoices and refunds."""

import json
import uuid
from typing import Any

from paytrust_sandbox.commands import Forgery, Settings, refused
from paytrust_sandbox.control import Control
from paytrust_sandbox.http import Request, Response, Route, json_response, to_json
from paytrust_sandbox.records import Payment
from paytrust_sandbox.retries import xendit_rule
from paytrust_sandbox.simulator import Simulator
from paytrust_sandbox.webhooks import Habits, Message
from paytrust_sandbox.xendit.acts import Acts
from paytrust_sandbox.xendit.invoices import Invoice, Invoices, described
from paytrust_sandbox.xendit.limits import RateLimit
from paytrust_sandbox.xendit.listing import listed
from paytrust_sandbox.xendit.pages import Pages
from paytrust_sandbox.xendit.refunds import Refunds
from paytrust_sandbox.xendit.tampering import tampered
from paytrust_sandbox.xendit.validation import checked, error, refuse

USER_ID = "62440e3200aabbccddeeff00"
HABITS = Habits(timeout_s=30, follows=frozenset(), retry=xendit_rule)


class XenditSettings(Settings, kw_only=True, forbid_unknown_fields=True):
    """`send_webhook_id` and `send_expired` are dashboard or product variations; `rate_limit` is per minute and operation."""

    send_webhook_id: bool = True
    send_expired: bool = True
    nest_refund_webhook: bool = False
    settle_refunds: bool = True
    rate_limit: int = 60
    enforce_rate_limit: bool = False


class XenditSimulator(Simulator):
    """Invoices, refunds, their webhooks and the page to pay on."""

    name = "xendit"
    settings: XenditSettings

    def __init__(self, *, key: str, callback_token: str, webhook_url: str, currencies: tuple[str, ...], clock_factor: float) -> None:
        super().__init__(key=key, webhook_url=webhook_url, clock_factor=clock_factor, habits=HABITS)
        self.callback_token = callback_token
        self.currencies = currencies
        self.limit = RateLimit()
        self.acts = Acts(self)
        self.actions = self.acts.by_name()
        self.invoices = Invoices()
        self.refunds = Refunds(self.invoices, self.clock.now)
        for method, path, operation, handler in (
            ("POST", "/v2/invoices", "create", self.create),
            ("POST", "/v2/invoices/", "create", self.create),
            ("GET", "/v2/invoices", "list", self.index),
            ("GET", "/v2/invoices/", "list", self.index),
            ("GET", "/v2/invoices/{id}", "get", self.get),
            ("POST", "/invoices/{id}/expire!", "expire", self.expire),
            ("POST", "/refunds", "refund", self.refunds.create),
            ("GET", "/refunds", "list_refunds", self.refunds.index),
            ("GET", "/refunds/{id}", "get_refund", self.refunds.get),
            ("POST", "/refunds/{id}/cancel", "cancel_refund", self.refunds.cancel),
        ):
            self.router.add(method, path, operation, handler)
        Pages(self).add_to(self.router)
        Control(self).add_to(self.router)

    def default_settings(self) -> XenditSettings:
        return XenditSettings()

    def forget(self) -> None:
        self.invoices.clear()
        self.refunds.clear()
        self.limit.reset()

    def tick(self) -> None:
        for invoice in self.invoices.expired_by(self.clock.now()):
            self.acts.let_expire(invoice)
        if self.settings.settle_refunds:
            self.acts.settle_refunds_due()

    async def perform(self, route: Route, request: Request) -> Response:
        allowed, headers = self.limit.count(route.operation, self.settings.rate_limit)
        if not allowed and self.settings.enforce_rate_limit:
            return self.rate_limited()
        response = await super().perform(route, request)
        return Response(response.status, response.body, {**response.headers, **headers})

    def create(self, request: Request) -> Response:
        try:
            body = request.json()
        except ValueError as exc:
            raise refuse("INVALID_JSON_FORMAT", "The body is not JSON") from exc
        user_id = request.headers.get("for-user-id", USER_ID)
        terms = checked(body, self.currencies)
        now = self.clock.now()
        invoice = self.invoices.create(terms, at=now, base_url=self.base_url, user_id=user_id, merchant=self.merchant_name)
        return json_response(invoice.seen())

    def get(self, request: Request) -> Response:
        return json_response(self._invoice(request).seen())

    def index(self, request: Request) -> Response:
        return json_response([invoice.seen() for invoice in listed(self.invoices, request.query)])

    def expire(self, request: Request) -> Response:
        invoice = self._invoice(request)
        if invoice.status != "PENDING":
            raise refuse("INVALID_INVOICE_STATUS", f"The invoice is already {invoice.status}")
        self.acts.let_expire(invoice)
        return json_response(invoice.seen())

    def _invoice(self, request: Request) -> Invoice:
        invoice = self.invoices.by_id.get(request.params["id"])
        if invoice is None:
            raise refuse("INVOICE_NOT_FOUND_ERROR", "Invoice not found", 404)
        return invoice

    def find(self, reference: str) -> Invoice:
        """Return the invoice with this id, or the newest with this external_id."""
        same = self.invoices.under(reference)
        invoice = self.invoices.by_id.get(reference) or (same[-1] if same else None)
        if invoice is None:
            raise refused(404, f"no invoice {reference!r}")
        return invoice

    def payments(self) -> list[Payment]:
        return [described(invoice) for invoice in self.invoices.by_id.values()]

    def payment(self, reference: str) -> Payment:
        return described(self.find(reference))

    def announcement(self, event: str, reference: str, body: dict[str, Any], token: str | None = None) -> Message:
        """Return *body* as a webhook, with the callback token or *token* instead of it."""
        headers = {"content-type": "application/json", "x-callback-token": self.callback_token if token is None else token}
        return Message(reference, event, self.webhook_url, to_json(body), headers | self.resend_headers())

    def resend_headers(self) -> dict[str, str]:
        return {"webhook-id": str(uuid.uuid4())} if self.settings.send_webhook_id else {}

    def forged(self, reference: str, forgery: Forgery) -> Message:
        invoice = self.find(reference)
        body = {name: value for name, value in {**invoice.announced(), **forgery.fields}.items() if name not in forgery.without}
        message = self.announcement("forged", invoice.external_id, body)
        return message if forgery.authentication == "valid" else self.tampered_message(f"{forgery.authentication}_signature", message)

    def rejection(self, operation: str) -> Response:
        return error(400, "API_VALIDATION_ERROR", f"The {operation} was rejected", ["amount is invalid"])

    def unauthorized(self, operation: str) -> Response:
        return error(401, "INVALID_API_KEY", f"The API key provided for this {operation} is invalid")

    def forbidden(self, operation: str) -> Response:
        return error(403, "REQUEST_FORBIDDEN_ERROR", f"The API key is forbidden to {operation}")

    def not_found(self, operation: str) -> Response:
        return json_response([]) if operation == "list" else error(404, "INVOICE_NOT_FOUND_ERROR", "Invoice not found")

    def rate_limited(self) -> Response:
        response = error(429, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded")
        limit = str(self.settings.rate_limit)
        headers = {"rate-limit-limit": limit, "rate-limit-remaining": "0", "rate-limit-reset": "1.00"}
        return Response(response.status, response.body, {**response.headers, **headers})

    def tampered(self, fault: str, value: object) -> object:
        return tampered(fault, value)

    def tampered_message(self, fault: str, message: Message) -> Message:
        headers = dict(message.headers)
        if fault == "wrong_signature":
            headers["x-callback-token"] = "not-the-token"
        elif fault == "missing_signature":
            del headers["x-callback-token"]
        body = to_json(tampered(fault, json.loads(message.body)))
        return Message(message.reference, message.event, message.url, body, headers)
