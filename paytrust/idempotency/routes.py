"""
The header Idempotency-Key on every route that makes or changes something, without a word in the route.

A guard, which runs after the one that checks the key, claims; a middleware around it keeps the answer before
it is sent. Both only add to what the host of our router has. A request without the header pays for neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState

from paytrust.api import guards, problems
from paytrust.idempotency import model
from paytrust.idempotency.model import ADMINISTRATION, HEADER, Answer, Claim
from paytrust.idempotency.service import Idempotency

METHODS: Final = frozenset({"POST", "PATCH"})
_HEADER: Final = HEADER.lower().encode()
_CLAIM: Final = "paytrust.claim"

Service = Callable[[], Idempotency]
"""A closure: Litestar copies what a router holds, and the service with its connections must not be copied."""


class Replay(Exception):
    """The request was answered already. Litestar lets a guard end a request only by raising."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def applies_to(handler: BaseRouteHandler) -> bool:
    """Whether a route takes the header: it makes or changes something for a client with a key."""
    return (
        isinstance(handler, HTTPRouteHandler)
        and bool(METHODS & handler.http_methods)
        and handler.opt.get("access") != "public"
    )


def claim_guard(service: Service) -> Callable[..., Awaitable[None]]:
    """
    A Litestar guard, for after the one that checks who is calling: a replay is for those who may make the
    request.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        given = connection.headers.getall(HEADER, None)
        if given is None or not applies_to(handler):
            return
        key = model.read_key(given)
        request = cast("Request[Any, Any, Any]", connection)
        scope = ADMINISTRATION if handler.opt["access"] == "admin" else guards.principal_of(request).tenant_id
        fingerprint = model.fingerprint(
            request.method,
            request.scope["path_template"],
            request.path_params,
            request.scope["query_string"],
            await request.body(),
        )
        claimed = await service().claim(scope, key, fingerprint)
        if isinstance(claimed, Answer):
            raise Replay(claimed)
        request.scope[_CLAIM] = claimed  # type: ignore[typeddict-unknown-key]

    return guard


def claim_of(request: Request[Any, Any, Any]) -> Claim | None:
    """The claim of a request that carries a key, for the verb that makes something."""
    return request.scope.get(_CLAIM)  # type: ignore[return-value]


def replay(_: Request[Any, Any, Any], exc: Replay) -> Response[bytes]:
    """The stored answer, byte for byte, marked as a repeat."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in exc.answer.headers}
    return Response(
        exc.answer.body,
        status_code=exc.answer.status,
        media_type=headers.pop("content-type", None),
        headers=headers | {"Idempotent-Replayed": "true"},
    )


class KeepAnswers(ASGIMiddleware):
    """Holds an answer back until it is known what a repeat of its request will get."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["method"] not in METHODS or all(name != _HEADER for name, _ in scope["headers"]):  # type: ignore[typeddict-item]
            await next_app(scope, receive, send)
            return
        # What is kept is for whoever repeats the request, so it is not compressed for the one who sent it
        # first: neither by what reads the headers, nor by what uses those that the host has read already.
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
        ScopeState.from_scope(scope).headers = Headers(scope["headers"])
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await next_app(scope, receive, hold)
        claim: Claim | None = scope.get(_CLAIM)  # type: ignore[assignment]
        if claim is not None:
            try:
                await self._service().complete(claim, _answer(held))
            except Exception as exc:  # noqa: BLE001 - every exception of our routes ends in the same place
                request = Request[Any, Any, Any](scope, receive, send)
                await problems.on_error(request, exc).to_asgi_response(app=None, request=request)(
                    scope, receive, send
                )
                return
        for message in held:
            await send(message)


def _answer(messages: list[Message]) -> Answer:
    start, *rest = messages
    assert start["type"] == "http.response.start"
    headers = [
        (bytes(name), bytes(value)) for name, value in start["headers"] if name.lower() != b"content-length"
    ]
    return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in rest))  # type: ignore[misc]


_PARAMETER: Final = Parameter(
    name=HEADER,
    param_in="header",
    required=False,
    schema=Schema(type=OpenAPIType.STRING, min_length=1, max_length=255, pattern="^[!-~]+$"),
    description=(
        "Makes the request safe to repeat for 24 hours: a repeat with the same key and body gets the stored answer, "
        "with `Idempotent-Replayed: true`. A new request needs a new key, such as a UUID."
    ),
)


@dataclass
class RepeatableOperation(Operation):
    """An operation of the OpenAPI document that takes the header."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), _PARAMETER]


def document(handler: HTTPRouteHandler) -> None:
    """Say in the OpenAPI document that the route takes the header, and what it may answer for it."""
    if applies_to(handler):
        handler.operation_class = RepeatableOperation
        handler.responses = problems.problems(400, 409, 422) | dict(handler.responses or {})
