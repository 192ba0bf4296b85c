"""
What surrounds every request: its id in the logs, the time its body may take, the headers of its response, its
access line; and that every refusal is a problem, whoever refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send
from litestar.utils import normalize_path

from paytrust.api import bodies, guards, problems
from paytrust.api.options import CLOSED, routed_options
from paytrust.errors import PayTrustError
from paytrust.infra import logs
from paytrust.infra.rate_limits import SlidingWindow
from paytrust.security.access import Network, client_address, subnet

log = logs.get_logger("paytrust.access")

API_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"
API_HEADERS: Final = {
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
    b"referrer-policy": b"no-referrer",
}
REPLACED: Final = frozenset({b"content-security-policy", b"x-request-id", b"etag", *API_HEADERS})
"""Ours alone to say on an answer of ours, whatever the application says on all of its own."""
OF_A_BODY: Final = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"etag", b"last-modified"}
)


class RequestContext(ASGIMiddleware):
    """Gives the logs of a request its id, notes when it began, and how long its body may take to arrive."""

    def __init__(self, receive_timeout_s: float) -> None:
        self._receive_timeout_s = receive_timeout_s

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["paytrust.started"] = time.perf_counter()  # type: ignore[typeddict-unknown-key]
        with _log_fields(request_id=problems.request_id(scope)):
            await next_app(scope, _in_time(receive, self._receive_timeout_s), send)


@contextmanager
def _log_fields(**fields: str) -> Iterator[None]:
    """
    Log with *fields*. What is bound in here, such as the tenant, ends with the request: the task goes on in
    the middleware of a host, and what that logs is not about one of our tenants.
    """
    before = structlog.contextvars.get_contextvars()
    structlog.contextvars.bind_contextvars(**fields)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**before)


def _in_time(receive: Receive, timeout_s: float) -> Receive:
    """*receive*, which raises `RequestTimeout` when the whole body is not here *timeout_s* from now."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    complete = False

    async def receive_in_time() -> Any:
        nonlocal complete
        if complete:  # what is waited for now is the end of the connection
            return await receive()
        try:
            async with asyncio.timeout_at(deadline_s):
                message = await receive()
        except TimeoutError as exc:
            raise problems.RequestTimeout(f"the whole request has to arrive within {timeout_s:g} s") from exc
        if message["type"] == "http.disconnect":  # Litestar would call it an error of ours
            raise bodies.Malformed("the connection ended before the body did")
        complete = not message.get("more_body", False)
        return message

    return receive_in_time


class Answers:
    """
    Sees every message of every answer last, as a hook before sending, and minds those to requests for us.

    Requests for us are those that found a route of ours, and those below our path that found none: these
    count against the address they came from.
    """

    def __init__(self, path: str, *, anonymous: SlidingWindow, trusted_proxies: Sequence[Network]) -> None:
        self._path = path
        self._anonymous = anonymous
        self._trusted = trusted_proxies

    async def __call__(self, message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            routed = routed_options(scope) is not None
            if routed or self._unrouted(scope):
                if refusal := self._refusal(message, scope, routed=routed):
                    _replace(message, scope, refusal)
                finish(message, scope)
        elif message["type"] == "http.response.body" and "paytrust.body" in scope:
            message["body"] = scope["paytrust.body"]  # type: ignore[typeddict-item]
            # The answer that was replaced may come in many messages.
            scope["paytrust.body"] = b""  # type: ignore[typeddict-unknown-key]

    def _unrouted(self, scope: Scope) -> bool:
        """Whether no route was found, of ours or the host's, and the path lies below ours."""
        if scope.get("route_handler") is not None:
            return False
        path = scope["path"]
        if root := scope.get("root_path"):  # as Litestar takes it off
            path = path.split(root, maxsplit=1)[-1]
        mount = normalize_path(f"{scope['litestar_app'].path}/{self._path}")
        return mount == "/" or f"{normalize_path(path)}/".startswith(f"{mount}/")

    def _refusal(
        self, message: HTTPResponseStartEvent, scope: Scope, *, routed: bool
    ) -> PayTrustError | None:
        """What has to be said in place of an answer: one that is none of ours, or of an address over its limit."""
        status, headers, is_ours = message["status"], _texts(message), "paytrust.code" in scope
        if routed:
            return None if is_ours or status < 400 else problems.refused(status, headers)
        if status < 400 and scope.get("method") == "OPTIONS":
            return None  # the application answers the questions of browsers before it looks for a route
        if "paytrust.decision" not in scope:  # an early refusal was decided before
            over = guards.limited(scope, self._anonymous.hit(subnet(self._address(scope))))
            if over:
                return over
        if is_ours:
            return None
        return problems.refused(404 if status < 400 else status, headers)

    def _address(self, scope: Scope) -> str | None:
        client = scope.get("client")
        forwarded = [
            value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"
        ]
        return client_address(client[0] if client else None, forwarded, self._trusted)


def _texts(message: HTTPResponseStartEvent) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}


def _replace(message: HTTPResponseStartEvent, scope: Scope, refusal: PayTrustError) -> None:
    """Say *refusal* in place of what the application says: it may be a page for people, or a way to a login."""
    refusal = problems.for_sender(scope, refusal)
    body = msgspec.json.encode(problems.problem(scope, refusal))
    scope["paytrust.body"] = body  # type: ignore[typeddict-unknown-key]
    headers = problems.problem_headers(refusal) | {
        "content-type": problems.PROBLEM,
        "content-length": str(len(body)),
    }
    message["status"] = refusal.status
    ours = {name.encode(): value.encode() for name, value in headers.items()}
    kept = [pair for pair in message["headers"] if pair[0].lower() not in OF_A_BODY | ours.keys()]
    message["headers"] = [*kept, *ours.items()]


def finish(message: HTTPResponseStartEvent, scope: Scope) -> None:
    """Give an answer the headers that every one of ours has, and log it."""
    options = routed_options(scope) or CLOSED
    message["headers"] = [
        *(pair for pair in message["headers"] if pair[0].lower() not in REPLACED),
        *API_HEADERS.items(),
        (b"content-security-policy", options.content_security_policy or API_POLICY),
        *guards.rate_headers(scope),
        (b"x-request-id", problems.request_id(scope).encode()),
    ]
    started = scope.get("paytrust.started")
    # An attacker's refusals would fill the disk: one line for each address and minute.
    (log.debug if guards.already_logged(scope) else log.info)(
        "request",
        method=scope.get("method"),
        route=scope.get("path_template", "-"),  # not the path: it may hold a webhook token
        status=message["status"],
        **({"code": scope["paytrust.code"]} if message["status"] >= 400 else {}),  # type: ignore[typeddict-item]
        ms=round((time.perf_counter() - started) * 1000, 1) if isinstance(started, float) else None,
        request_id=problems.request_id(scope),
    )
