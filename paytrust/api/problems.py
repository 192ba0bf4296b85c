"""Errors as RFC 9457 problems, with a stable `code`, a request id and JSON pointers (product section 11)."""

from __future__ import annotations

import re
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import Scope

from paytrust.errors import Busy, FieldError, Invalid, NotFound, PayTrustError, Unavailable, pointer
from paytrust.infra.ids import new_id
from paytrust.security import card_numbers

MAX_BODY_BYTES: Final = 256 * 1024
MAX_DETAIL: Final = 300
MAX_ERRORS: Final = 10
PROBLEM: Final = "application/problem+json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
log = structlog.stdlib.get_logger("paytrust.api")


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
    return Invalid(f"{errors[0].pointer}: {errors[0].detail}", errors=errors)


def request_id(scope: Scope) -> str:
    """The caller's X-Request-ID when it is sane, else a new one; the same for the whole request."""
    known: str | None = scope.get("paytrust.request_id")  # type: ignore[assignment]
    if known is None:
        given = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), ""
        )
        known = (
            given if _REQUEST_ID.fullmatch(given) and not card_numbers.holds_card(given) else str(new_id())
        )
        scope["paytrust.request_id"] = known  # type: ignore[typeddict-unknown-key]
    return known


def problem(scope: Scope, exc: PayTrustError) -> Problem:
    """What is said about an error. It may quote what was sent, so card numbers are left out of it."""
    return Problem(
        type=f"urn:paytrust:problem:{exc.code}",
        title=exc.title,
        status=exc.status,
        code=exc.code,
        request_id=request_id(scope),
        detail=card_numbers.without_cards(exc.detail),
        errors=tuple(
            FieldError(card_numbers.without_cards(error.pointer), card_numbers.without_cards(error.detail))
            for error in exc.errors
        ),
    )


def problem_response(request: Request[Any, Any, Any], exc: PayTrustError) -> Response[Problem]:
    return Response(
        problem(request.scope, exc), status_code=exc.status, media_type=PROBLEM, headers=problem_headers(exc)
    )


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
    elif isinstance(
        exc, (asyncpg.QueryCanceledError, asyncpg.InsufficientResourcesError, asyncpg.PostgresConnectionError)
    ):
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
    return invalid(*errors) if errors else Invalid(str(exc.detail)[:MAX_DETAIL])


def _parameter_errors(exc: HTTPException) -> tuple[FieldError, ...]:
    extra = exc.extra if isinstance(exc.extra, list) else []
    return tuple(
        _parameter_error(str(e.get("key", "")), str(e.get("message", "")))
        for e in extra
        if isinstance(e, dict)
    )


def _parameter_error(name: str, message: str) -> FieldError:
    if name == "data":  # what our handlers call the body; what is in it was checked before
        return FieldError(pointer(), "a JSON body is needed")
    return FieldError(pointer(name), message[:MAX_DETAIL])
