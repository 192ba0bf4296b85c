"""
The control API under `/_sandbox`: what a person, a bank or bad luck would do. Nothing of it exists at a real
gateway.
"""

from contextlib import nullcontext

import msgspec

from paytrust_sandbox.commands import (
    Act,
    Address,
    Advance,
    Forgery,
    Release,
    Replay,
    SendUnrelated,
    command,
    refused,
)
from paytrust_sandbox.http import Request, Response, Router, json_response
from paytrust_sandbox.records import Delivery, Fault
from paytrust_sandbox.simulator import Simulator


class Control:
    """The control calls of one simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._faults = simulator.faults
        self._courier = simulator.courier

    def add_to(self, router: Router) -> None:
        for method, path, handler in (
            ("GET", "", self.overview),
            ("GET", "/", self.overview),
            ("GET", "/payments", self.payments),
            ("GET", "/payments/{reference}", self.payment),
            ("POST", "/payments/{reference}/forge", self.forge),
            ("POST", "/payments/{reference}/{action}", self.act),
            ("GET", "/requests", self.requests),
            ("GET", "/webhooks", self.webhooks),
            ("PUT", "/webhooks/url", self.set_url),
            ("POST", "/webhooks/hold", self.hold),
            ("POST", "/webhooks/release", self.release),
            ("POST", "/webhooks/replay", self.replay),
            ("POST", "/webhooks/unrelated", self.unrelated),
            ("GET", "/faults", self.faults),
            ("POST", "/faults", self.switch_on),
            ("DELETE", "/faults", self.switch_all_off),
            ("DELETE", "/faults/{name}", self.switch_off),
            ("GET", "/settings", self.settings),
            ("PATCH", "/settings", self.change_settings),
            ("POST", "/clock", self.advance),
            ("POST", "/reset", self.reset),
        ):
            router.add(method, f"/_sandbox{path}", "control", handler)
        router.add("GET", "/_sandbox/elsewhere", "elsewhere", self.elsewhere)

    def overview(self, _: Request) -> Response:
        simulator = self._simulator
        return json_response(
            {
                "gateway": simulator.name,
                "url": simulator.state.base_url,
                "webhook_url": simulator.state.webhook_url,
                "now": simulator.clock.now().isoformat(),
                "clock_factor": simulator.clock.factor,
                "actions": sorted(simulator.actions),
                "unrelated": sorted(simulator.unrelated),
            }
        )

    def payments(self, request: Request) -> Response:
        wanted = dict(request.query).get("reference")
        return json_response(
            [payment for payment in self._simulator.payments() if wanted in {None, payment.reference}]
        )

    def payment(self, request: Request) -> Response:
        return json_response(self._simulator.payment(request.params["reference"]))

    def act(self, request: Request) -> Response:
        reference, name = request.params["reference"], request.params["action"]
        action = self._simulator.actions.get(name)
        if action is None:
            raise refused(
                404, f"no action {name!r}; there are {', '.join(sorted(self._simulator.actions))}, forge"
            )
        try:
            how = command(request, Act)
            with self._courier.silenced() if how.silent else nullcontext():
                action(reference, how)
        except ValueError as exc:
            raise refused(400, str(exc)) from exc
        return self.payment(request)

    def forge(self, request: Request) -> Response:
        self._courier.send(self._simulator.forged(request.params["reference"], command(request, Forgery)))
        return self.payment(request)

    def requests(self, request: Request) -> Response:
        wanted = dict(request.query).get("operation")
        return json_response(
            [received for received in self._simulator.requests if wanted in {None, received.operation}]
        )

    def webhooks(self, request: Request) -> Response:
        wanted = dict(request.query).get("reference")
        return json_response(
            [delivery for delivery in self._courier.deliveries if wanted in {None, delivery.reference}]
        )

    def set_url(self, request: Request) -> Response:
        self._simulator.state.webhook_url = command(request, Address).url
        return self.overview(request)

    def hold(self, _: Request) -> Response:
        self._courier.holding = True
        return json_response({"holding": True})

    async def release(self, request: Request) -> Response:
        """Answers when each released webhook has been tried once."""
        order = command(request, Release).order
        held = range(len(self._courier.held))
        positions = order if isinstance(order, list) else held[:: -1 if order == "newest_first" else 1]
        if any(position not in held for position in positions) or len(set(positions)) < len(positions):
            raise refused(400, f"order must name distinct positions below {len(held)}")
        return json_response(await self._courier.release(positions))

    def replay(self, request: Request) -> Response:
        what = command(request, Replay)
        delivery = self._last(what)
        url = delivery.url or self._simulator.state.webhook_url
        if not url:
            raise refused(409, "there is no webhook URL to send to")
        headers = self._simulator.resend_headers() if what.new_id else {}
        return json_response(self._courier.resend(delivery, url, headers, what.times))

    def faults(self, _: Request) -> Response:
        return json_response(self._faults.active)

    def switch_on(self, request: Request) -> Response:
        try:
            self._faults.switch_on(command(request, Fault))
        except ValueError as exc:
            raise refused(400, str(exc)) from exc
        return self.faults(request)

    def switch_all_off(self, request: Request) -> Response:
        self._faults.switch_off()
        self._simulator.release_hanging()
        return self.faults(request)

    def switch_off(self, request: Request) -> Response:
        self._faults.switch_off(request.params["name"])
        return self.faults(request)

    def settings(self, _: Request) -> Response:
        return json_response(self._simulator.state.settings)

    def change_settings(self, request: Request) -> Response:
        settings = self._simulator.state.settings
        changed = msgspec.structs.asdict(settings) | command(request, dict[str, object])
        try:
            self._simulator.configure(msgspec.convert(changed, type(settings)))
        except msgspec.ValidationError as exc:
            raise refused(400, str(exc)) from exc
        return self.settings(request)

    def advance(self, request: Request) -> Response:
        self._simulator.clock.advance(command(request, Advance).seconds)
        self._simulator.tick()
        return self.overview(request)

    def reset(self, request: Request) -> Response:
        self._simulator.reset()
        return self.overview(request)

    def elsewhere(self, _: Request) -> Response:
        """
        Where redirects lead: a client that follows one, with its key in hand, shows up among the requests.
        """
        return json_response({"message": "you should not be here"})

    def unrelated(self, request: Request) -> Response:
        """Answers with the webhooks that this sends."""
        kind = command(request, SendUnrelated).kind
        send = self._simulator.unrelated.get(kind)
        if send is None:
            raise refused(404, f"no kind {kind!r}; there are {', '.join(sorted(self._simulator.unrelated))}")
        earlier = {delivery.id for delivery in self._courier.deliveries}
        send()
        return json_response(
            [delivery for delivery in self._courier.deliveries if delivery.id not in earlier]
        )

    def _last(self, what: Replay) -> Delivery:
        for delivery in reversed(self._courier.deliveries):
            if what.reference in {None, delivery.reference} and what.event in {None, delivery.event}:
                return delivery
        raise refused(404, "no webhook to send again")
