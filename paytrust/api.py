"""
The manners of the HTTP API, the same on every route (product section 11).

Bodies are decoded from the raw bytes by msgspec, strictly: the framework's own path goes through floats and lax
coercion. Errors are RFC 9457 problems with a stable `code`, a request id and JSON pointers.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.types import Scope

from paytrust import cards
from paytrust.access import ANONYMOUS, Caller, Network, Principal, client_address, neighbourhood
from paytrust.access import Scope as KeyScope
from paytrust.errors import Busy, CardNumber, FieldError, Forbidden, Invalid, NotFound, PayTrustError, TooManyRequests, Unavailable, pointer
from paytrust.ids import new_id
from paytrust.rates import Allowance, Quota, Windows

MAX_BODY_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_DETAIL: Final = 300
MAX_ERRORS: Final = 10
PROBLEM: Final = "application/problem+json"

_PATH = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
_TOKEN = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)
# Characters that PostgreSQL or XML cannot hold, and DEL, raw or escaped. Most raw ones are invalid JSON already.
_CONTROL = re.compile(rb"\x7f|\xef\xbf[\xbe\xbf]|\\(?:[bf]|u(?:00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F]|7[fF])|[fF]{3}[eEfF]))")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
# The closing quote may be missing: searching for it again from every quote would take quadratic time.
_STRING = re.compile(rb'"[^"]*"?')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

log = structlog.stdlib.get_logger("paytrust.api")


class Malformed(Invalid):
    """The body is not JSON we accept at all."""

    code = "malformed_body"
    title = "The body cannot be read"


class UnsupportedMediaType(PayTrustError):
    """The body says it is something else than JSON, or is compressed."""

    code = "unsupported_media_type"
    status = 415
    title = "Send JSON"


class MethodNotAllowed(PayTrustError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405
    title = "This path does not take that method"


class RequestTimeout(PayTrustError):
    """The body did not arrive in time. Nothing was done."""

    code = "request_timeout"
    status = 408
    title = "The request came too slowly"


class BodyTooLarge(PayTrustError):
    """The body is over the limit."""

    code = "body_too_large"
    status = 413
    title = "The body is too large"


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457 problem details. `code` is stable; `errors` name fields by JSON pointer."""

    type: str
    title: str
    status: int
    code: str
    request_id: str
    detail: str = ""
    errors: tuple[FieldError, ...] = ()


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """For `responses=` of a route: each status is documented as a problem."""
    titles = {400: "Malformed or invalid", 401: "No valid key", 403: "Not with this key", 404: "No such object", 405: "Method not allowed"}
    titles |= {
        408: "Came too slowly",
        409: "The state forbids it",
        413: "Body too large",
        415: "Not JSON",
        422: "Cannot be processed",
        429: "Too many requests",
        500: "Our fault",
    }
    titles |= {502: "The gateway refused", 503: "Try again later", 504: "The gateway did not answer"}
    return {s: ResponseSpec(Problem, description=titles[s], media_type=PROBLEM, generate_examples=False) for s in statuses}


# --- requests -----------------------------------------------------------------------------------------------------------


class StrictRequest(Request[Any, Any, Any]):
    """Decodes its body into the handler's type, strictly and from the bytes."""

    async def json(self) -> Any:
        content_type, _ = self.content_type
        if content_type != "application/json" or self.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType(f"expected an uncompressed application/json body, got {content_type[:80] or 'no content type'}")
        field = self.route_handler.parsed_data_field
        return decode(Any if field is None else field.annotation, await self.body())


@functools.lru_cache(maxsize=256)
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_, strict=True)


def decode(type_: Any, body: bytes) -> Any:
    """Decode *body* as *type_*, or raise `Malformed` or `Invalid` with a pointer."""
    # Without escaped backslashes and quotes, what looks like an escape is one and what looks like the end of a string is it.
    plain = body.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in body else body
    if _too_deep(plain):
        raise Malformed(f"the body is nested deeper than {MAX_DEPTH} levels")
    if _holds_control(plain):
        raise Malformed("the body holds control characters, which are not accepted in any text")
    try:
        body.decode()
        decoded = _decoder(type_).decode(body)
    except msgspec.ValidationError as exc:
        raise _invalid(_field_error(str(exc))) from exc
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise Malformed(f"the body is not valid JSON in UTF-8: {exc}"[:MAX_DETAIL]) from exc
    _refuse_repeated_keys(body)
    _refuse_card_numbers(decoded)
    return decoded


def _refuse_card_numbers(decoded: Any) -> None:
    errors = tuple(FieldError(pointer(*at), "holds what looks like a card number") for at in cards.where(decoded))
    if errors:
        raise CardNumber("a text holds what looks like a card number, which must not be sent here", errors=errors[:MAX_ERRORS])


def _holds_control(plain: bytes) -> bool:
    # Most bodies hold none of the bytes that a control character begins with, and the expression looks at every byte.
    return any(byte in plain for byte in (b"\\", b"\x7f", b"\xef\xbf")) and _CONTROL.search(plain) is not None


def _invalid(*errors: FieldError) -> Invalid:
    return Invalid(f"{errors[0].pointer}: {errors[0].detail}", errors=errors)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""


def _refuse_repeated_keys(body: bytes) -> None:
    # Everybody reads {"a": 1, "a": 2} in his own way: what a proxy has checked must be what we take.
    if not _repeats_a_key(body):
        return
    written = json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    raise _invalid(FieldError(_repeated(written, ()) or pointer(), "this field is given twice"))


def _repeats_a_key(body: bytes) -> bool:
    repeats = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeats
        repeats = repeats or len(dict(pairs)) < len(pairs)

    json.loads(body, object_pairs_hook=look, parse_int=str, parse_float=str)
    return repeats


def _repeated(value: Any, at: tuple[str | int, ...]) -> str | None:
    """Where the first repeated key is."""
    seen: set[str | int] = set()
    children: Iterable[tuple[str | int, Any]] = value if isinstance(value, _Pairs) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        if key in seen:
            return pointer(*at, key)
        seen.add(key)
        if found := _repeated(inner, (*at, key)):
            return found
    return None


def _too_deep(plain: bytes) -> bool:
    # Brackets inside strings count too: a false alarm needs 33 of them, all open, which no honest body has.
    if plain.count(b"[") + plain.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", plain).translate(None, _NO_BRACKETS)
    # A loop over 256 KiB of brackets in Python would take a tenth of a second.
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH


def _field_error(message: str) -> FieldError:
    match = _PATH.search(message)
    detail = message[: match.start()] if match else message
    # Beyond a "..." msgspec does not say which key it means: point at what holds it.
    parts = [a or b for a, b in _TOKEN.findall(match[1].partition("[...]")[0])] if match else []
    if (field := _FIELD.fullmatch(detail)) and len(field[1]) <= MAX_DETAIL:
        parts.append(field[1])
    return FieldError(pointer(*parts), detail[:MAX_DETAIL])


# --- who is calling -----------------------------------------------------------------------------------------------------

STRANGERS: Final = "address"
"""The policy for whoever has shown no valid key."""

Connection = ASGIConnection[Any, Any, Any, Any]
Authenticate = Callable[[str | None, Caller, KeyScope], Awaitable[Principal]]
AdmitAdmin = Callable[[str | None, Caller], Caller]


class Rates(msgspec.Struct, frozen=True):
    """How often each API key, each admin key, and whoever has shown no valid key may ask."""

    keys: Quota
    admins: Quota
    strangers: Windows


def access_guard(
    authenticate: Authenticate,
    admit_admin: AdmitAdmin,
    *,
    knows: Callable[[str | None], bool],
    rates: Rates,
    trusted_proxies: Sequence[Network],
) -> Callable[..., Awaitable[None]]:
    """
    A Litestar guard that reads the route's `access`: "read", "write", "admin" or "public". No `access`, no entry.

    A public route is limited by address, unless it says `limited: False`. A key that this process has not verified
    yet (*knows*) is counted against its address before anything is looked up, and not at all once it has proved good.
    """

    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        access = handler.opt.get("access")
        caller = caller_of(connection, trusted_proxies)
        connection.scope["paytrust.caller"] = caller  # type: ignore[typeddict-unknown-key]
        if access == "public":
            if handler.opt.get("limited", True):
                _grant(connection, rates.strangers.take(neighbourhood(caller.address)))
            return
        if access == "admin":
            with _blamed(connection, rates.strangers, caller, beforehand=False):
                caller = admit_admin(connection.headers.get("x-admin-key"), caller)
            connection.scope["paytrust.caller"] = caller  # type: ignore[typeddict-unknown-key]
            _grant(connection, await rates.admins.take(caller.actor))
        elif access in {"read", "write"}:
            key = connection.headers.get("x-api-key")
            with _blamed(connection, rates.strangers, caller, beforehand=not knows(key)):
                principal = await authenticate(key, caller, KeyScope(access))
            connection.scope["paytrust.principal"] = principal  # type: ignore[typeddict-unknown-key]
            structlog.contextvars.bind_contextvars(tenant_id=str(principal.tenant_id))
            _grant(connection, await rates.keys.take(str(principal.key_id)))
        else:
            raise Forbidden("this route says nobody may use it")
        _check_query(connection, handler)

    return guard


def stranger_guard(strangers: Windows, *, trusted_proxies: Sequence[Network]) -> Callable[..., None]:
    """A Litestar guard for routes that are open to everybody: limited by address."""

    def guard(connection: Connection, _: BaseRouteHandler) -> None:
        _grant(connection, strangers.take(neighbourhood(caller_of(connection, trusted_proxies).address)))

    return guard


@contextlib.contextmanager
def _blamed(connection: Connection, strangers: Windows, caller: Caller, *, beforehand: bool) -> Iterator[None]:
    """
    Count a failure of the caller against his address: *beforehand* what may still succeed, so that a crowd cannot slip through.

    What is not the caller's fault does not count.
    """
    address = neighbourhood(caller.address)
    if beforehand:
        _grant(connection, strangers.take(address))
    blame = False
    try:
        yield
    except PayTrustError as exc:
        blame = exc.status < 500
        if blame and not beforehand:
            _grant(connection, strangers.take(address))
        raise
    finally:
        if beforehand and not blame:
            strangers.give_back(address)


def _grant(connection: Connection, allowance: Allowance) -> None:
    if refused := limited(connection.scope, allowance):
        raise refused


def limited(scope: Scope, allowance: Allowance) -> TooManyRequests | None:
    """Note *allowance* for the headers of the answer; the error to answer with when it does not grant the request."""
    scope["paytrust.allowance"] = allowance  # type: ignore[typeddict-unknown-key]
    if allowance.granted:
        return None
    return TooManyRequests(f"the limit is {allowance.limit} requests a minute by {allowance.policy}", retry_after_s=allowance.more_in_s)


def is_old_news(scope: Scope) -> bool:
    """Whether the request was counted against its address, which was over its limit before: thousands of lines would say the same."""
    allowance: Allowance | None = scope.get("paytrust.allowance")  # type: ignore[assignment]
    return allowance is not None and allowance.policy == STRANGERS and not allowance.granted and not allowance.is_news


def rate_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What the answer says about the limit that was looked at last; nothing where none was."""
    allowance: Allowance | None = scope.get("paytrust.allowance")  # type: ignore[assignment]
    return [] if allowance is None else allowance.headers()


def _check_query(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse what the framework would pass over: a misspelt filter must not list everything."""
    errors: list[FieldError] = []
    for name, values in connection.query_params.dict().items():
        if name not in handler.parsed_fn_signature.parameters:
            errors.append(FieldError(pointer(name[:MAX_DETAIL]), "there is no such parameter"))
        elif len(values) > 1:
            errors.append(FieldError(pointer(name), "this parameter is given twice"))
        elif _UNPRINTABLE.search(values[0]):
            errors.append(FieldError(pointer(name), "holds control characters"))
        elif cards.holds_card(values[0]):
            errors.append(FieldError(pointer(name), "holds what looks like a card number"))
    if errors:
        raise _invalid(*errors[:MAX_ERRORS])


def caller_of(connection: Connection, trusted_proxies: Sequence[Network]) -> Caller:
    """Whoever is at the other end, before any key was looked at."""
    peer = connection.client.host if connection.client else None
    address = client_address(peer, connection.headers.getall("x-forwarded-for", ()), trusted_proxies)
    return msgspec.structs.replace(ANONYMOUS, address=address, request_id=request_id(connection.scope))


def principal_of(request: Request[Any, Any, Any]) -> Principal:
    """Whoever the guard let in."""
    principal: Principal = request.scope["paytrust.principal"]  # type: ignore[typeddict-item]
    return principal


def admitted(request: Request[Any, Any, Any]) -> Caller:
    """Whom the guard let in, and from where; on an admin's route which admin key."""
    caller: Caller = request.scope["paytrust.caller"]  # type: ignore[typeddict-item]
    return caller


def request_id(scope: Scope) -> str:
    """The caller's X-Request-ID when it is sane, else a new one; the same for the whole request."""
    known: str | None = scope.get("paytrust.request_id")  # type: ignore[assignment]
    if known is None:
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        known = given if _REQUEST_ID.fullmatch(given) and not cards.holds_card(given) else str(new_id())
        scope["paytrust.request_id"] = known  # type: ignore[typeddict-unknown-key]
    return known


# --- errors -------------------------------------------------------------------------------------------------------------


def problem(scope: Scope, exc: PayTrustError) -> Problem:
    """What is said about an error. It may quote what was sent, so card numbers are left out of it."""
    return Problem(
        type=f"urn:paytrust:problem:{exc.code}",
        title=exc.title,
        status=exc.status,
        code=exc.code,
        request_id=request_id(scope),
        detail=cards.without_cards(exc.detail),
        errors=tuple(FieldError(cards.without_cards(error.pointer), cards.without_cards(error.detail)) for error in exc.errors),
    )


def problem_response(request: Request[Any, Any, Any], exc: PayTrustError) -> Response[Problem]:
    return Response(problem(request.scope, exc), status_code=exc.status, media_type=PROBLEM, headers=problem_headers(exc))


def problem_headers(exc: PayTrustError) -> dict[str, str]:
    if exc.status in {429, 503} or isinstance(exc, Busy):
        return {"retry-after": str(exc.retry_after_s)}
    return {"connection": "close"} if isinstance(exc, RequestTimeout) else {}


def on_error(request: Request[Any, Any, Any], exc: Exception) -> Response[Problem]:
    """Every exception of our routes ends here."""
    response = problem_response(request, _translate(exc))
    if isinstance(exc, MethodNotAllowedException):
        response.headers.update(exc.headers or {})
    return response


def _translate(exc: Exception) -> PayTrustError:
    if isinstance(exc, PayTrustError):
        if exc.status < 500 or exc.status in {502, 503, 504}:
            return exc
    elif isinstance(exc, HTTPException) and exc.status_code < 500:
        return _from_framework(exc)
    elif isinstance(exc, (asyncpg.QueryCanceledError, asyncpg.InsufficientResourcesError, asyncpg.PostgresConnectionError)):
        log.warning("database gave up", error=type(exc).__name__)
        return Unavailable("the database is overloaded or away")
    log.error("unexpected error", exc_info=exc)
    return PayTrustError("an unexpected error happened; quote the request id when you report it")


def _from_framework(exc: HTTPException) -> PayTrustError:
    if isinstance(exc, NotFoundException):
        return NotFound("there is nothing at this path")
    if isinstance(exc, MethodNotAllowedException):
        return MethodNotAllowed("see /docs for the methods of this path")
    if exc.status_code == 413:
        return BodyTooLarge(f"the limit is {MAX_BODY_BYTES} bytes")
    errors = _parameter_errors(exc)
    return _invalid(*errors) if errors else Invalid(str(exc.detail)[:MAX_DETAIL])


def _parameter_errors(exc: HTTPException) -> tuple[FieldError, ...]:
    extra = exc.extra if isinstance(exc.extra, list) else []
    return tuple(_parameter_error(str(e.get("key", "")), str(e.get("message", ""))) for e in extra if isinstance(e, dict))


def _parameter_error(name: str, message: str) -> FieldError:
    if name == "data":  # what our handlers call the body; what is in it was checked before
        return FieldError(pointer(), "a JSON body is needed")
    return FieldError(pointer(name), message[:MAX_DETAIL])


# --- pages --------------------------------------------------------------------------------------------------------------

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 200

Moment = Annotated[
    str | None, QueryParameter(max_length=40, schema_extra={"format": "date-time"}, description="RFC 3339 with an offset, or Z.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="How many at most.")]
Cursor = Annotated[str | None, QueryParameter(max_length=40, description="`next_cursor` of the page before.")]


def encode_cursor(last_id: UUID) -> str:
    """An opaque cursor; ids are ordered by time, so the last one of a page says where the next begins."""
    return base64.urlsafe_b64encode(last_id.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str | None) -> UUID | None:
    """The id in a cursor. Raises `Invalid` for anything we did not hand out."""
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except ValueError as exc:
        raise _invalid(FieldError(pointer("cursor"), "this cursor is not one of ours")) from exc


def decode_moment(name: str, text: str | None) -> datetime | None:
    """The time in the query parameter *name*. Raises `Invalid` for one without an offset, which would mean another hour to everybody."""
    if text is None:
        return None
    try:
        at: datetime = msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
        return at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as exc:
        raise _invalid(FieldError(pointer(name), "expected a time such as 2026-11-22T10:00:00Z, with an offset or Z")) from exc
