"""
What surrounds every request: its id in the logs, the time its body may take, the headers of its response, its
access line.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPResponseStartEvent, Receive, Scope, Send

from paytrust.api import bodies, guards, problems

log = structlog.stdlib.get_logger("paytrust.access")

API_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]


class RequestContext(ASGIMiddleware):
    """Gives the logs of a request its id, notes when it began, and how long its body may take to arrive."""

    def __init__(self, receive_timeout_s: float) -> None:
        self._receive_timeout_s = receive_timeout_s

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["paytrust.started"] = time.perf_counter()  # type: ignore[typeddict-unknown-key]
        with structlog.contextvars.bound_contextvars(request_id=problems.request_id(scope)):
            await next_app(scope, _in_time(receive, self._receive_timeout_s), send)


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


def finish(message: HTTPResponseStartEvent, scope: Scope) -> None:
    """Add to a response the headers that every one of ours has, and log it."""
    given = list(message["headers"])
    names = {name.lower() for name, _ in given}
    given += [header for header in API_HEADERS if header[0] not in names]
    given += [*guards.rate_headers(scope), (b"x-request-id", problems.request_id(scope).encode())]
    message["headers"] = given
    started = scope.get("paytrust.started")
    # An attacker's refusals would fill the disk: one line for each address and minute.
    (log.debug if guards.already_logged(scope) else log.info)(
        "request",
        method=scope.get("method"),
        route=scope.get("path_template", "-"),  # not the path: it may hold a webhook token
        status=message["status"],
        ms=round((time.perf_counter() - started) * 1000, 1) if isinstance(started, float) else None,
        request_id=problems.request_id(scope),
    )
