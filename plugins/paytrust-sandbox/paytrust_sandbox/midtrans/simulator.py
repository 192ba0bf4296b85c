"""The Midtrans APIs, Snap and Core on one port, and their notifications."""

import json
from functools import partial

from paytrust_sandbox.commands import Forgery, refused
from paytrust_sandbox.control import Control
from paytrust_sandbox.http import Refusal, Request, Response, Route, json_response, to_json
from paytrust_sandbox.midtrans import answers
from paytrust_sandbox.midtrans.acts import Acts
from paytrust_sandbox.midtrans.bodies import described, signed, tampered
from paytrust_sandbox.midtrans.cards import Cards
from paytrust_sandbox.midtrans.channels import NOT_IDEMPOTENT, channel_of
from paytrust_sandbox.midtrans.core import Core
from paytrust_sandbox.midtrans.idempotency import Idempotency
from paytrust_sandbox.midtrans.notices import Notices
from paytrust_sandbox.midtrans.orders import Orders
from paytrust_sandbox.midtrans.pages import Pages
from paytrust_sandbox.midtrans.snap import Snap
from paytrust_sandbox.midtrans.state import MidtransState
from paytrust_sandbox.midtrans.unrelated import Unrelated
from paytrust_sandbox.records import Fault, Payment
from paytrust_sandbox.retries import midtrans_rule
from paytrust_sandbox.simulator import Simulator
from paytrust_sandbox.webhooks import Habits, Message

HABITS = Habits(timeout_s=15, follows=frozenset({307, 308}), retry=midtrans_rule)


class MidtransSimulator(Simulator):
    """Snap, Core, their notifications and the pages to pay on."""

    name = "midtrans"
    state: MidtransState

    def __init__(self, *, key: str, merchant_id: str, webhook_url: str, clock_factor: float) -> None:
        super().__init__(clock_factor=clock_factor, habits=HABITS)
        self.state = MidtransState(
            key=key, merchant_id=merchant_id, webhook_url=webhook_url, clock=self.clock, courier=self.courier
        )
        self.notices = Notices(self.state)
        self.acts = Acts(self.state, self.notices)
        self.actions = self.acts.by_name()
        self.unrelated = Unrelated(self.state, self.acts).by_name()
        self.idempotency = Idempotency(self.clock.now)
        for part in (
            Snap(self.state),
            Core(self.state, self.acts, self.notices),
            Pages(self.state, self.acts),
            Control(self),
        ):
            part.add_to(self.router)

    def forget(self) -> None:
        self.state.orders = Orders()
        self.state.cards = Cards()
        self.idempotency = Idempotency(self.clock.now)

    def tick(self) -> None:
        for transaction in self.state.orders.expired_by(self.clock.now()):
            self.acts.moved(transaction, "expire")

    async def perform(self, route: Route, request: Request) -> Response:
        """
        Carry out a call; Core's POSTs honour the Idempotency-Key, and its codes may be mirrored into HTTP.
        """
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
        response = answers.mirrored(response, code) if self.state.settings.mirror_http else response
        return response, code < "300" or code == "407"

    def payments(self) -> list[Payment]:
        orders = self.state.orders.by_id.values()
        return [described(order, self.base_url) for order in orders if order.sessions or order.transactions]

    def payment(self, reference: str) -> Payment:
        return described(self.acts.find(reference), self.base_url)

    def forged(self, reference: str, forgery: Forgery) -> Message:
        """
        Return a notification that lies. A valid signature covers whatever the lie says; a wrong one does not.
        """
        transaction = self.acts.find(reference).transaction
        if transaction is None:
            raise refused(409, "no payment method has been chosen yet")
        body = {
            name: value
            for name, value in {**self.notices.body(transaction), **forgery.fields}.items()
            if name not in forgery.without
        }
        if "signature_key" not in forgery.fields:
            body = signed(body, self.state.key)
        message = next(iter(self.notices.messages(transaction, "forged", body)))
        if forgery.authentication == "valid":
            return message
        return self.tampered_message(Fault(name=f"{forgery.authentication}_signature"), message)

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
        return answers.mirrored(response, "404") if self.state.settings.mirror_http else response

    def rate_limited(self) -> Response:
        return json_response({"message": "API rate limit exceeded"}, 429)

    def tampered(self, fault: Fault, value: object) -> object:
        return tampered(fault, value, self.state.key)

    def tampered_message(self, fault: Fault, message: Message) -> Message:
        body = tampered(fault, json.loads(message.body), self.state.key)
        if fault.name == "wrong_signature":
            body["signature_key"] = "0" * 128
        elif fault.name == "missing_signature":
            del body["signature_key"]
        return Message(message.reference, message.event, message.url, to_json(body), message.headers)


def _never_kept(request: Request) -> bool:
    try:
        body = request.json()
    except ValueError:
        return False
    return isinstance(body, dict) and channel_of(body) in NOT_IDEMPOTENT
