"""The Xendit API: invoices, refunds and disputes."""

import json

from paytrust_sandbox.commands import Forgery
from paytrust_sandbox.control import Control
from paytrust_sandbox.http import Request, Response, Route, json_response, to_json
from paytrust_sandbox.records import Fault, Payment
from paytrust_sandbox.retries import xendit_rule
from paytrust_sandbox.simulator import Simulator
from paytrust_sandbox.webhooks import Habits, Message
from paytrust_sandbox.xendit.acts import Acts
from paytrust_sandbox.xendit.invoices import USER_ID, Invoice, described
from paytrust_sandbox.xendit.limits import RateLimit
from paytrust_sandbox.xendit.listing import listed
from paytrust_sandbox.xendit.notices import Notices
from paytrust_sandbox.xendit.pages import Pages
from paytrust_sandbox.xendit.state import XenditState
from paytrust_sandbox.xendit.tampering import tampered
from paytrust_sandbox.xendit.unrelated import Unrelated
from paytrust_sandbox.xendit.validation import checked, error, refuse

HABITS = Habits(timeout_s=30, follows=frozenset(), retry=xendit_rule)


class XenditSimulator(Simulator):
    """Invoices, refunds, disputes, their webhooks and the page to pay on."""

    name = "xendit"
    state: XenditState

    def __init__(
        self,
        *,
        key: str,
        callback_token: str,
        webhook_url: str,
        currencies: tuple[str, ...],
        clock_factor: float,
    ) -> None:
        super().__init__(clock_factor=clock_factor, habits=HABITS)
        self.state = XenditState(
            key=key,
            callback_token=callback_token,
            webhook_url=webhook_url,
            currencies=currencies,
            clock=self.clock,
            courier=self.courier,
        )
        self.limit = RateLimit()
        self.notices = Notices(self.state)
        self.acts = Acts(self.state, self.notices)
        self.actions = self.acts.by_name()
        self.unrelated = Unrelated(self.state, self.acts, self.notices).by_name()
        refunds, disputes = self.state.refunds, self.state.disputes
        for method, path, operation, handler in (
            ("POST", "/v2/invoices", "create", self.create),
            ("POST", "/v2/invoices/", "create", self.create),
            ("GET", "/v2/invoices", "list", self.index),
            ("GET", "/v2/invoices/", "list", self.index),
            ("GET", "/v2/invoices/{id}", "get", self.get),
            ("POST", "/invoices/{id}/expire!", "expire", self.expire),
            ("POST", "/refunds", "refund", refunds.create),
            ("GET", "/refunds", "list_refunds", refunds.index),
            ("GET", "/refunds/{id}", "get_refund", refunds.get),
            ("POST", "/refunds/{id}/cancel", "cancel_refund", refunds.cancel),
            ("GET", "/v1/disputes", "list_disputes", disputes.index),
            ("GET", "/v1/disputes/{id}", "get_dispute", disputes.get),
        ):
            self.router.add(method, path, operation, handler)
        Pages(self.state, self.acts).add_to(self.router)
        Control(self).add_to(self.router)

    def forget(self) -> None:
        self.state.invoices.clear()
        self.state.refunds.clear()
        self.state.disputes.clear()
        self.limit.reset()

    def tick(self) -> None:
        for invoice in self.state.invoices.expired_by(self.clock.now()):
            self.acts.let_expire(invoice)
        if self.state.settings.settle_refunds:
            self.acts.settle_refunds_due()

    async def perform(self, route: Route, request: Request) -> Response:
        allowed, headers = self.limit.count(route.operation, self.state.settings.rate_limit)
        if not allowed and self.state.settings.enforce_rate_limit:
            return self.rate_limited()
        response = await super().perform(route, request)
        return Response(response.status, response.body, {**response.headers, **headers})

    def create(self, request: Request) -> Response:
        try:
            body = request.json()
        except ValueError as exc:
            raise refuse("INVALID_JSON_FORMAT", "The body is not JSON") from exc
        user_id = request.headers.get("for-user-id", USER_ID)
        terms = checked(body, self.state.currencies, self.state.settings.minimum_amounts)
        now = self.clock.now()
        invoice = self.state.invoices.create(
            terms, at=now, base_url=self.base_url, user_id=user_id, merchant=self.state.merchant_name
        )
        return json_response(invoice.seen())

    def get(self, request: Request) -> Response:
        return json_response(self._invoice(request).seen())

    def index(self, request: Request) -> Response:
        return json_response([invoice.seen() for invoice in listed(self.state.invoices, request.query)])

    def expire(self, request: Request) -> Response:
        invoice = self._invoice(request)
        if invoice.status != "PENDING":
            raise refuse("INVALID_INVOICE_STATUS", f"The invoice is already {invoice.status}")
        self.acts.let_expire(invoice)
        return json_response(invoice.seen())

    def _invoice(self, request: Request) -> Invoice:
        invoice = self.state.invoices.by_id.get(request.params["id"])
        if invoice is None:
            raise refuse("INVOICE_NOT_FOUND_ERROR", "Invoice not found", 404)
        return invoice

    def payments(self) -> list[Payment]:
        return [self._described(invoice) for invoice in self.state.invoices.by_id.values()]

    def payment(self, reference: str) -> Payment:
        return self._described(self.acts.find(reference))

    def _described(self, invoice: Invoice) -> Payment:
        refunded = self.state.refunds.total(invoice, "SUCCEEDED")
        return described(invoice, refunded=refunded, charged_back=self.state.disputes.lost(invoice))

    def resend_headers(self) -> dict[str, str]:
        return self.notices.identity()

    def forged(self, reference: str, forgery: Forgery) -> Message:
        invoice = self.acts.find(reference)
        body = {
            name: value
            for name, value in {**invoice.announced(), **forgery.fields}.items()
            if name not in forgery.without
        }
        message = self.notices.message("forged", invoice.external_id, body)
        if forgery.authentication == "valid":
            return message
        return self.tampered_message(Fault(name=f"{forgery.authentication}_signature"), message)

    def rejection(self, operation: str) -> Response:
        return error(400, "API_VALIDATION_ERROR", f"The {operation} was rejected", ["amount is invalid"])

    def unauthorized(self, operation: str) -> Response:
        return error(401, "INVALID_API_KEY", f"The API key provided for this {operation} is invalid")

    def forbidden(self, operation: str) -> Response:
        return error(403, "REQUEST_FORBIDDEN_ERROR", f"The API key is forbidden to {operation}")

    def not_found(self, operation: str) -> Response:
        return (
            json_response([])
            if operation == "list"
            else error(404, "INVOICE_NOT_FOUND_ERROR", "Invoice not found")
        )

    def rate_limited(self) -> Response:
        response = error(429, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded")
        limit = str(self.state.settings.rate_limit)
        headers = {"rate-limit-limit": limit, "rate-limit-remaining": "0", "rate-limit-reset": "1.00"}
        return Response(response.status, response.body, {**response.headers, **headers})

    def tampered(self, fault: Fault, value: object) -> object:
        return tampered(fault, value)

    def tampered_message(self, fault: Fault, message: Message) -> Message:
        headers = dict(message.headers)
        if fault.name == "wrong_signature":
            headers["x-callback-token"] = "not-the-token"
        elif fault.name == "missing_signature":
            del headers["x-callback-token"]
        body = to_json(tampered(fault, json.loads(message.body)))
        return Message(message.reference, message.event, message.url, body, headers)
