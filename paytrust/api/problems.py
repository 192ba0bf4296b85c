"""Errors as RFC 9457 problems, with a stable `code`, a request id and JSON pointers (product section 11)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import Scope
from msgspec import inspect

from paytrust.api import structure
from paytrust.api.options import routed_options
from paytrust.errors import (
    Busy,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    PayTrustError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    at_parameter,
    pointer,
)
from paytrust.infra import logs
from paytrust.infra.ids import new_id
from paytrust.security import card_numbers

MAX_BODY_BYTES: Final = 256 * 1024
MAX_DETAIL: Final = 300
MAX_ERRORS: Final = 10
PROBLEM: Final = "application/problem+json"
RETRY_AFTER_S: Final = 30
"""What is said where an application refuses a request for now and does not say for how long."""
BY_HOST: Final = "the application in which PayTrust is mounted refused this request"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
log = logs.get_logger("paytrust.api")


class MethodNotAllowed(PayTrustError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405
    title = "This path does not take that method"

    def __init__(self, detail: str = "", *, allow: str = "") -> None:
        super().__init__(detail)
        self.headers = {"allow": allow} if allow else {}


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


class RefusedByHost(PayTrustError):
    """The application in which PayTrust is mounted refused the request, with a status that we never use."""

    code = "refused_by_host"
    title = "The application refused the request"

    def __init__(self, status: int) -> None:
        super().__init__(BY_HOST)
        self.status = self.status_code = status


REFUSALS: Final[dict[int, type[PayTrustError]]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    408: RequestTimeout,
    413: BodyTooLarge,
}
"""What a refusal of the application's is called, where ours of that status mean the same."""


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
    titles = {
        400: "Malformed or invalid",
        401: "No valid key",
        403: "Not with this key",
        404: "No such object",
        405: "Method not allowed",
    }
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
    return {
        s: ResponseSpec(Problem, description=titles[s], media_type=PROBLEM, generate_examples=False)
        for s in statuses
    }


def invalid(*errors: FieldError) -> Invalid:
    first = errors[0]
    where = first.pointer if first.parameter is None else f"the query parameter {first.parameter}"
    return Invalid(f"{where}: {first.detail}", errors=errors)


def request_id(scope: Scope) -> str:
    """
    The one that the application has bound for its logs, the caller's X-Request-ID when it is sane, else a new
    one; the same for the whole request.
    """
    known: str | None = scope.get("paytrust.request_id")  # type: ignore[assignment]
    if known is None:
        given = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), ""
        )
        bound = structlog.contextvars.get_contextvars().get("request_id")  # by a host, for all that it logs
        sane = (
            text
            for text in (bound, given)
            if isinstance(text, str) and _REQUEST_ID.fullmatch(text) and not card_numbers.holds_card(text)
        )
        known = next(sane, None) or str(new_id())
        scope["paytrust.request_id"] = known  # type: ignore[typeddict-unknown-key]
    return known


def problem(scope: Scope, exc: PayTrustError) -> Problem:
    """What is said about an error. It may quote what was sent, so card numbers are left out of it."""
    scope["paytrust.code"] = exc.code  # type: ignore[typeddict-unknown-key]
    return Problem(
        type=f"urn:paytrust:problem:{exc.code}",
        title=exc.title,
        status=exc.status,
        code=exc.code,
        request_id=request_id(scope),
        detail=card_numbers.without_cards(exc.detail),
        errors=tuple(_said(error, scope) for error in exc.errors),
    )


def _said(error: FieldError, scope: Scope) -> FieldError:
    """A broken rule without card numbers. A request without a body can only break rules of its parameters."""
    parameter = error.parameter
    if parameter is None and scope.get("method") in {"GET", "HEAD"}:
        parameter = error.pointer.removeprefix("#/").replace("~1", "/").replace("~0", "~")
    return FieldError(
        card_numbers.without_cards(error.pointer),
        card_numbers.without_cards(error.detail),
        None if parameter is None else card_numbers.without_cards(parameter),
    )


def problem_response(request: Request[Any, Any, Any], exc: PayTrustError) -> Response[Problem]:
    return Response(
        problem(request.scope, exc), status_code=exc.status, media_type=PROBLEM, headers=problem_headers(exc)
    )


def problem_headers(exc: PayTrustError) -> dict[str, str]:
    headers = dict(exc.headers)
    if exc.status in {429, 503} or isinstance(exc, Busy):
        headers["retry-after"] = str(exc.retry_after_s)
    if isinstance(exc, RequestTimeout):
        headers["connection"] = "close"
    return headers


def on_error(request: Request[Any, Any, Any], exc: Exception) -> Response[Problem]:
    """Every exception of our routes ends here."""
    return problem_response(request, for_sender(request.scope, _translate(exc, request.scope)))


def is_expected(status: int) -> bool:
    """Whether an error of ours says all there is to say: no fault of ours that a traceback would explain."""
    return status < 500 or status in {502, 503, 504}


def expected_errors(root: type[PayTrustError] = PayTrustError) -> Iterator[type[PayTrustError]]:
    """Every class of expected errors, those of plugins included that are loaded."""
    for error in root.__subclasses__():
        if is_expected(error.status):
            yield error
        yield from expected_errors(error)


def for_sender(scope: Scope, exc: PayTrustError) -> PayTrustError:
    """What the sender of a request can make something of: a gateway takes 429 for final, and 503 for later."""
    options = routed_options(scope)
    if exc.status == 429 and options is not None and options.sender == "gateway":
        return _later(Unavailable(exc.detail), exc.retry_after_s)
    return exc


def refused(status: int, headers: Mapping[str, str]) -> PayTrustError:
    """An error of ours for a refusal of the application's, with the status that was meant."""
    wait_s = next((headers[name] for name in ("retry-after", "ratelimit-reset") if name in headers), "")
    retry_after_s = int(wait_s) if wait_s.isdecimal() else RETRY_AFTER_S
    if status == 405:
        return MethodNotAllowed("this path does not take that method", allow=headers.get("allow", ""))
    if status == 429:
        return TooManyRequests(BY_HOST, retry_after_s=retry_after_s)
    if status == 503:
        return _later(Unavailable(BY_HOST), retry_after_s)
    return REFUSALS[status](BY_HOST) if status in REFUSALS else RefusedByHost(status)


def _later(exc: PayTrustError, retry_after_s: int) -> PayTrustError:
    exc.retry_after_s = retry_after_s
    return exc


def _translate(exc: Exception, scope: Scope) -> PayTrustError:
    if isinstance(exc, PayTrustError):
        if is_expected(exc.status):
            return exc
    elif isinstance(exc, HTTPException) and exc.status_code != 500:
        return _from_framework(exc, scope)
    elif isinstance(
        exc, (asyncpg.QueryCanceledError, asyncpg.InsufficientResourcesError, asyncpg.PostgresConnectionError)
    ):
        log.warning("database gave up", error=type(exc).__name__)
        return Unavailable("the database is overloaded or away")
    log.error("unexpected error", exc_info=exc)
    return PayTrustError("an unexpected error happened; quote the request id when you report it")


def _from_framework(exc: HTTPException, scope: Scope) -> PayTrustError:
    """What the framework found wrong with a request, or what a host's guards and middleware raised about it."""
    if isinstance(exc, NotFoundException):
        return NotFound("there is nothing at this path")
    if exc.status_code == 413:
        return BodyTooLarge(f"the limit is {MAX_BODY_BYTES} bytes")
    if exc.status_code == 400:
        errors = _parameter_errors(exc, scope)
        return invalid(*errors) if errors else Invalid(str(exc.detail)[:MAX_DETAIL])
    return refused(exc.status_code, {name.lower(): value for name, value in (exc.headers or {}).items()})


def _parameter_errors(exc: HTTPException, scope: Scope) -> tuple[FieldError, ...]:
    extra = exc.extra if isinstance(exc.extra, list) else []
    return tuple(
        _parameter_error(str(e.get("key", "")), str(e.get("message", "")), scope)
        for e in extra
        if isinstance(e, dict)
    )


def _parameter_error(name: str, message: str, scope: Scope) -> FieldError:
    if name == "data":  # what our handlers call the body; what is in it was checked before
        return FieldError(pointer(), "a JSON body is needed")
    accepted = inspect.type_info(scope["route_handler"].signature_model)
    nodes = {field.name: field.type for field in accepted.fields}  # type: ignore[attr-defined]
    detail = f"expected {structure.expected(nodes[name])}" if name in nodes else message[:MAX_DETAIL]
    return at_parameter(name, detail)
