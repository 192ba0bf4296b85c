"""The Midtrans APIs, Snap and Core on one port, and their notifications."""

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

from paytrust_sandbox.commands import Forgery, Settings, refused
from paytrust_sandbox.control import Control
from paytrust_sandbox.http import Refusal, Request, Response, Route, json_response, to_json
from paytrust_sandbox.midtrans import answers
from paytrust_sandbox.midtrans.acts import Acts
from paytrust_sandbox.midtrans.bodies import NOTIFICATION_CODES, described, detailed, signed, status_code, tampered
from paytrust_sandbox.midtrans.cards import Cards
from paytrust_sandbox.midtrans.channels import NOT_IDEMPOTENT, channel_of
from paytrust_sandbox.midtrans.core import Core
from paytrust_sandbox.midtrans.idempotency import Idempotency
from paytrust_sandbox.midtrans.orders import Order, Orders, Transaction
from paytrust_sandbox.midtrans.pages import Pages
from paytrust_sandbox.midtrans.snap import Snap
from paytrust_sandbox.records import Payment
from paytrust_sandbox.retries import midtrans_rule
from paytrust_sandbox.simulator import Simulator
from paytrust_sandbox.webhooks import Habits, Message

HABITS = Habits(timeout_s=15, follows=frozenset({307, 308}), retry=midtrans_rule)
HEADERS = {"user-agent": "Veritrans", "accept": "application/json", "content-type": "application/json"}
NOTICE = "midtrans payment notification"


class MidtransSettings(Settings, kw_only=True, forbid_unknown_fields=True):
    """Variations seen in the wild: `mirror_http` puts Core's status_code into HTTP, the others change what bodies say."""

    mirror_http: bool = False
    send_pending: bool = True
    uppercase_status: bool = False
    omit_fraud_status: bool = False
    extra_fields: bool = False


class MidtransSimulator(Simulator):
    """Snap, Core, their notifications and the pages to pay on."""

    name = "midtrans"
    settings: MidtransSettings

    def __init__(self, *, key: str, merchant_id: str, webhook_url: str, clock_factor: float) -> None:
        super().__init__(key=key, webhook_url=webhook_url, clock_factor=clock_factor, habits=HABITS)
        self.merchant_id = merchant_id
        self.acts = Acts(self)
        self.actions = self.acts.by_name()
        self.forget()
        for part in (Snap(self), Core(self), Pages(self), Control(self)):
            part.add_to(self.router)

    def default_settings(self) -> MidtransSettings:
        return MidtransSettings()

    def forget(self) -> None:
        self.orders = Orders()
        self.cards = Cards()
        self.idempotency = Idempotency(self.clock.now)

    def tick(self) -> None:
        for transaction in self.orders.expired_by(self.clock.now()):
            self.acts.moved(transaction, "expire")

    async def perform(self, route: Route, request: Request) -> Response:
        """Carry out a call; Core's POSTs honour the Idempotency-Key, and its codes may be mirrored into HTTP."""
        if not request.path.startswith("/v2/"):
            return await super().perform(route, request)
        work = partial(self._core, route, request)
        if request.method != "POST" or _never_kept(request):
            return (await work())[0]
        return await self.idempotency.once(request, work)

    async def _core(self, route: Route, request: Request) -> tuple[Response, bool]:
        try:
            response = await super().perform(route, request)
        except Refusal as refusal:
            response = refusal.response
        code = str(json.loads(response.body)["status_code"])
        response = answers.mirrored(response, code) if self.settings.mirror_http else response
        return response, code < "300" or code == "407"

    def find(self, reference: str) -> Order:
        """Return the order that has this order_id, token or transaction_id."""
        session, transaction = self.orders.sessions.get(reference), self.orders.transactions.get(reference)
        named = session or transaction
        order = self.orders.by_id.get(named.order_id if named else reference)
        if order is None or not (order.sessions or order.transactions):
            raise refused(404, f"no order {reference!r}")
        return order

    def payments(self) -> list[Payment]:
        return [described(order, self.base_url) for order in self.orders.by_id.values() if order.sessions or order.transactions]

    def payment(self, reference: str) -> Payment:
        return described(self.find(reference), self.base_url)

    def notify(self, transaction: Transaction) -> None:
        """Send the notification of the status *transaction* is in now."""
        body = self._notification(transaction)
        event = f"{transaction.status}.{transaction.fraud_status}" if transaction.challenged else transaction.status
        for message in self._messages(transaction, event, body):
            self.courier.send(message)

    def dressed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return *body* with the variations that are switched on."""
        if self.settings.uppercase_status and "transaction_status" in body:
            body = {**body, "transaction_status": body["transaction_status"].upper()}
        if self.settings.omit_fraud_status:
            body = {name: value for name, value in body.items() if name != "fraud_status"}
        return {**body, "a_field_of_tomorrow": {"yes": [1, None]}} if self.settings.extra_fields else body

    def _notification(self, transaction: Transaction) -> dict[str, Any]:
        code = status_code(transaction, NOTIFICATION_CODES)
        return self.dressed(detailed(transaction, self.merchant_id, self.key, code, NOTICE))

    def _messages(self, transaction: Transaction, event: str, body: dict[str, Any]) -> Iterable[Message]:
        for url in transaction.recipients.urls(self.webhook_url):
            yield Message(transaction.order_id, event, url, to_json(body), dict(HEADERS))

    def forged(self, reference: str, forgery: Forgery) -> Message:
        """Return a notification that lies. A valid signature covers whatever the lie says; a wrong one does not."""
        transaction = self.find(reference).transaction
        if transaction is None:
            raise refused(409, "no payment method has been chosen yet")
        body = {name: value for name, value in {**self._notification(transaction), **forgery.fields}.items() if name not in forgery.without}
        if "signature_key" not in forgery.fields:
            body = signed(body, self.key)
        message = next(iter(self._messages(transaction, "forged", body)))
        return message if forgery.authentication == "valid" else self.tampered_message(f"{forgery.authentication}_signature", message)

    def resend_headers(self) -> dict[str, str]:
        """Return nothing: Midtrans has no id for a notification."""
        return {}

    def rejection(self, operation: str) -> Response:
        if operation == "create":
            return answers.snap_error(400, "transaction_details.gross_amount is required")
        return answers.core_error("400", answers.INVALID, "transaction_details.gross_amount is required")

    def unauthorized(self, operation: str) -> Response:
        if operation in ("create", "cancel_token"):
            return answers.snap_error(401, *answers.SNAP_UNAUTHORIZED)
        return answers.core_error("401", answers.CORE_UNAUTHORIZED)

    def forbidden(self, operation: str) -> Response:
        return answers.mirrored(answers.core_error("403", f"The {operation} is not acceptable."), "403")

    def not_found(self, operation: str) -> Response:
        if operation in ("create", "cancel_token"):
            return answers.snap_error(404, "token not found")
        response = answers.core_error("404", answers.NOT_FOUND)
        return answers.mirrored(response, "404") if self.settings.mirror_http else response

    def rate_limited(self) -> Response:
        return json_response({"message": "API rate limit exceeded"}, 429)

    def tampered(self, fault: str, value: object) -> object:
        return tampered(fault, value, self.key)

    def tampered_message(self, fault: str, message: Message) -> Message:
        body = tampered(fault, json.loads(message.body), self.key)
        if fault == "wrong_signature":
            body["signature_key"] = "0" * 128
        elif fault == "missing_signature":
            del body["signature_key"]
        return Message(message.reference, message.event, message.url, to_json(body), message.headers)


def _never_kept(request: Request) -> bool:
    try:
        body = request.json()
    except ValueError:
        return False
    return isinstance(body, dict) and channel_of(body) in NOT_IDEMPOTENT
