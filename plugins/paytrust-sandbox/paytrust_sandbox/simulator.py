"""
What the two gateways have in common: an ASGI application with faults outermost, then the key, then the
operation.
"""

import asyncio
import base64
import binascii
import inspect
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from paytrust_sandbox.clock import Clock
from paytrust_sandbox.commands import Action, Forgery, Settings
from paytrust_sandbox.effects import EFFECTS, Case
from paytrust_sandbox.exchange import Exchange, Receive, Send
from paytrust_sandbox.exchange import Message as AsgiMessage
from paytrust_sandbox.faults import Faults
from paytrust_sandbox.http import Refusal, Request, Response, Route, Router, json_response
from paytrust_sandbox.records import Fault, Payment, ReceivedRequest
from paytrust_sandbox.state import State
from paytrust_sandbox.webhooks import Courier, Habits, Message

LOG_LIMIT = 10_000
UNRECORDED = frozenset({"control", "page"})
WITHOUT_KEY = UNRECORDED | {"elsewhere"}


class Simulator(ABC):
    """One gateway: state in memory, everything on one event loop."""

    name: ClassVar[str]
    state: State
    actions: dict[str, Action]
    unrelated: dict[str, Callable[[], None]]

    def __init__(self, *, clock_factor: float, habits: Habits) -> None:
        self.clock = Clock(clock_factor)
        self.faults = Faults()
        self.courier = Courier(self.clock, self.faults, habits, self.tampered_message)
        self.requests: deque[ReceivedRequest] = deque(maxlen=LOG_LIMIT)
        self.router = Router()
        self._befallen: set[Exchange] = set()

    async def __call__(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """Serve one request; the fault, if there is one, decides what becomes of it."""
        started = time.monotonic()
        exchange = await Exchange.open(scope, receive, send)
        request = exchange.request
        route = self.router.match(request)
        operation = route.operation if route else "unknown"
        process = partial(self._process, request, route)
        fault = self.faults.take(operation)
        record = self._record(request, operation, fault.name if fault else None)
        if fault is None:
            await exchange.respond(await process())
        else:
            self._befallen.add(exchange)
            try:
                await EFFECTS[fault.name](Case(exchange, fault, operation, self, process))
            finally:
                self._befallen.discard(exchange)
        if record:
            record.status = exchange.status
            record.duration_s = round(time.monotonic() - started, 4)

    @property
    def base_url(self) -> str:
        return self.state.base_url

    def release_hanging(self) -> None:
        """Drop the connections that a fault keeps open."""
        for exchange in list(self._befallen):
            exchange.abort()

    def reset(self) -> None:
        """Forget everything that happened; keys and webhook URL stay, as they do in a dashboard."""
        self.release_hanging()
        self.faults.switch_off()
        self.courier.reset()
        self.requests.clear()
        self.clock.reset()
        self.configure(type(self.state.settings)())
        self.forget()

    def configure(self, settings: Settings) -> None:
        self.state.settings = settings
        self.courier.delay_s = settings.webhook_delay_s

    async def close(self) -> None:
        self.release_hanging()
        await self.courier.close()

    def given_key(self, request: Request) -> str | None:
        """Return the user of a Basic authorization with an empty password."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user if scheme.lower() == "basic" and not password else None

    async def perform(self, route: Route, request: Request) -> Response:
        """Carry out one API operation. Gateways wrap it where they have manners of their own."""
        if self.state.settings.latency_s:
            await asyncio.sleep(self.state.settings.latency_s)
        return await _answer(route, request)

    @abstractmethod
    def tick(self) -> None:
        """Let everything happen whose time has come."""

    @abstractmethod
    def forget(self) -> None: ...

    @abstractmethod
    def payments(self) -> list[Payment]: ...

    @abstractmethod
    def payment(self, reference: str) -> Payment:
        """
        Return the payment that control calls mean by *reference*, the gateway's id or ours. Raises Refusal
        (404).
        """

    @abstractmethod
    def forged(self, reference: str, forgery: Forgery) -> Message: ...

    @abstractmethod
    def resend_headers(self) -> dict[str, str]:
        """Return the headers that tell one sending of the same webhook from another."""

    @abstractmethod
    def rejection(self, operation: str) -> Response: ...

    @abstractmethod
    def unauthorized(self, operation: str) -> Response: ...

    @abstractmethod
    def forbidden(self, operation: str) -> Response: ...

    @abstractmethod
    def not_found(self, operation: str) -> Response: ...

    @abstractmethod
    def rate_limited(self) -> Response: ...

    @abstractmethod
    def tampered(self, fault: Fault, value: object) -> object:
        """Return an answer or webhook body as *fault* shows it."""

    @abstractmethod
    def tampered_message(self, fault: Fault, message: Message) -> Message: ...

    async def _process(self, request: Request, route: Route | None) -> Response:
        self.tick()
        try:
            if route is None:
                return json_response({"message": "no such page"}, 404)
            if route.operation in WITHOUT_KEY:
                return await _answer(route, request)
            if self.given_key(request) != self.state.key:
                return self.unauthorized(route.operation)
            return await self.perform(route, request)
        except Refusal as refusal:
            return refusal.response

    def _record(self, request: Request, operation: str, fault: str | None) -> ReceivedRequest | None:
        if operation in UNRECORDED:
            return None
        record = ReceivedRequest(
            at=self.clock.now().isoformat(),
            operation=operation,
            method=request.method,
            target=request.target,
            headers=request.headers,
            body=request.body.decode("utf-8", "replace"),
            fault=fault,
        )
        self.requests.append(record)
        return record


async def _answer(route: Route, request: Request) -> Response:
    answer = route.handler(request)
    return await answer if inspect.isawaitable(answer) else answer
