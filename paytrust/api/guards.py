"""Access to routes: keys, scopes and rate limits, and who the caller is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Scope

from paytrust.api.options import options_of
from paytrust.api.problems import MAX_DETAIL, MAX_ERRORS, invalid, request_id
from paytrust.errors import FieldError, Forbidden, PayTrustError, TooManyRequests, at_parameter
from paytrust.infra.rate_limits import ANONYMOUS_POLICY, Decision, RateLimits, SlidingWindow
from paytrust.security import card_numbers
from paytrust.security.access import ANONYMOUS, Caller, Network, Principal, client_address, subnet
from paytrust.security.access import Scope as KeyScope

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
Connection = ASGIConnection[Any, Any, Any, Any]
Authenticate = Callable[[str | None, Caller, KeyScope], Awaitable[Principal]]
AdmitAdmin = Callable[[str | None, Caller], Caller]

_SUBJECT: Final = {"api-key": "API key", "admin-key": "admin key", ANONYMOUS_POLICY: "client address"}
"""The subject of each policy, for people."""


def access_guard(
    authenticate: Authenticate,
    admit_admin: AdmitAdmin,
    *,
    is_cached: Callable[[str | None], bool],
    rates: RateLimits,
    trusted_proxies: Sequence[Network],
) -> Callable[..., Awaitable[None]]:
    """
    A Litestar guard that reads the route's `access`: "read", "write", "admin" or "public". No `access`, no
    entry.

    A public route is limited by address, unless it says `limited: False`. A key that this process has not
    verified yet (*is_cached*) is counted against its address before anything is looked up, and not at all once it
    has proved good.
    """

    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        options = options_of(handler)
        access = options.access
        caller = caller_of(connection, trusted_proxies)
        connection.scope["paytrust.caller"] = caller  # type: ignore[typeddict-unknown-key]
        if access == "public":
            if options.limited:
                _grant(connection, rates.anonymous.hit(subnet(caller.address)))
            return
        if access == "admin":
            with _blamed(connection, rates.anonymous, caller, beforehand=False):
                caller = admit_admin(connection.headers.get("x-admin-key"), caller)
            connection.scope["paytrust.caller"] = caller  # type: ignore[typeddict-unknown-key]
            _grant(connection, await rates.admins.hit(caller.actor))
        elif access in {"read", "write"}:
            key = connection.headers.get("x-api-key")
            with _blamed(connection, rates.anonymous, caller, beforehand=not is_cached(key)):
                principal = await authenticate(key, caller, KeyScope(access))
            connection.scope["paytrust.principal"] = principal  # type: ignore[typeddict-unknown-key]
            structlog.contextvars.bind_contextvars(tenant_id=str(principal.tenant_id))
            _grant(connection, await rates.keys.hit(str(principal.key_id)))
        else:
            raise Forbidden("this route is not accessible")
        _check_query(connection, handler)

    return guard


def anonymous_guard(anonymous: SlidingWindow, *, trusted_proxies: Sequence[Network]) -> Callable[..., None]:
    """A Litestar guard for routes that are open to everybody: limited by address."""

    def guard(connection: Connection, _: BaseRouteHandler) -> None:
        _grant(connection, anonymous.hit(subnet(caller_of(connection, trusted_proxies).address)))

    return guard


@contextlib.contextmanager
def _blamed(
    connection: Connection, anonymous: SlidingWindow, caller: Caller, *, beforehand: bool
) -> Iterator[None]:
    """
    Count a failure of the caller against his address: *beforehand* what may still succeed, so that a crowd
    cannot slip through.

    Errors that are not the caller's fault do not count.
    """
    address = subnet(caller.address)
    if beforehand:
        _grant(connection, anonymous.hit(address))
    blame = False
    try:
        yield
    except PayTrustError as exc:
        blame = exc.status < 500
        if blame and not beforehand:
            _grant(connection, anonymous.hit(address))
        raise
    finally:
        if beforehand and not blame:
            anonymous.undo(address)


def _grant(connection: Connection, decision: Decision) -> None:
    if refused := limited(connection.scope, decision):
        raise refused


def limited(scope: Scope, decision: Decision) -> TooManyRequests | None:
    """
    Note *decision* for the headers of the answer; the error to answer with when it does not grant the
    request.
    """
    scope["paytrust.decision"] = decision  # type: ignore[typeddict-unknown-key]
    if decision.granted:
        return None
    return TooManyRequests(
        f"rate limit exceeded: {decision.limit} requests per minute per {_SUBJECT[decision.policy]}",
        retry_after_s=decision.more_in_s,
    )


def already_logged(scope: Scope) -> bool:
    """
    Whether the request was counted against its address, which was over its limit before: thousands of lines
    would say the same.
    """
    decision: Decision | None = scope.get("paytrust.decision")  # type: ignore[assignment]
    return (
        decision is not None
        and decision.policy == ANONYMOUS_POLICY
        and not decision.granted
        and not decision.should_log
    )


def rate_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers of an answer about the limit that was checked last; empty where none was."""
    decision: Decision | None = scope.get("paytrust.decision")  # type: ignore[assignment]
    return [] if decision is None else decision.headers()


def _check_query(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse what the framework would pass over: a misspelt filter must not list everything."""
    errors: list[FieldError] = []
    for name, values in connection.query_params.dict().items():
        if name not in handler.parsed_fn_signature.parameters:
            name = name[:MAX_DETAIL]  # noqa: PLW2901 - it is said, not looked up any more
            errors.append(at_parameter(name, "there is no such parameter"))
        elif len(values) > 1:
            errors.append(at_parameter(name, "this parameter is given twice"))
        elif _UNPRINTABLE.search(values[0]):
            errors.append(at_parameter(name, "holds control characters"))
        elif name not in card_numbers.BY_PROGRAMS and card_numbers.holds_card(values[0]):
            errors.append(at_parameter(name, "holds what looks like a card number"))
    if errors:
        raise invalid(*errors[:MAX_ERRORS])


def caller_of(connection: Connection, trusted_proxies: Sequence[Network]) -> Caller:
    """The client at the other end, before any key was checked."""
    peer = connection.client.host if connection.client else None
    address = client_address(peer, connection.headers.getall("x-forwarded-for", ()), trusted_proxies)
    return msgspec.structs.replace(ANONYMOUS, address=address, request_id=request_id(connection.scope))


def principal_of(request: Request[Any, Any, Any]) -> Principal:
    """The holder of the key that the guard admitted."""
    principal: Principal = request.scope["paytrust.principal"]  # type: ignore[typeddict-item]
    return principal


def admitted(request: Request[Any, Any, Any]) -> Caller:
    """Whom the guard let in, and from where; on an admin's route which admin key."""
    caller: Caller = request.scope["paytrust.caller"]  # type: ignore[typeddict-item]
    return caller
