"""
Every error PayTrust raises on purpose, sorted by what the caller may do.

* PayTrustError
  x Invalid                  400  the request breaks a rule; `errors` point at the fields
  x Unauthenticated          401  no key, or none that we know
    + InvalidSignature       401  a webhook that the gateway did not send
  x Forbidden                403  the key is good but may not do this
  x NotFound                 404  no such thing, or somebody else's
  x Conflict                 409  the object's state forbids it
    + Busy                   409  somebody else is at it; safe to repeat
  x Unprocessable            422  well-formed, but cannot be done
    + CardNumber             422  a text holds a card number; nothing was kept of it
  x TooManyRequests          429  over the limit; safe to repeat in `retry_after_s`
  x Unavailable              503  we cannot do it now; safe to repeat
  x GatewayError
    + GatewayRejected        502  refused; final
    + GatewayUnavailable     503  never sent, or only a read; safe to repeat
    + OutcomeUnknown         504  sent, no answer: money may have moved; ask, never repeat
  x ConfigurationError            PayTrust refuses to start; the message says what to change
  x UnreadableWebhook             authentic, but not in a form the plugin knows; kept, never retried
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One broken rule: a JSON pointer (RFC 6901, in fragment form such as "#/line_items/0/quantity") and a
    sentence.
    """

    pointer: str
    detail: str
    parameter: str | None = None
    """The name of the query parameter, where it is one and no field of the body."""


def at_parameter(name: str, detail: str) -> FieldError:
    """A broken rule of the query parameter *name*."""
    return FieldError(pointer(name), detail, name)


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) in fragment form: `pointer("line_items", 0)` is "#/line_items/0"."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


class PayTrustError(Exception):
    """Root of the tree. `code` is stable and meant for programs; the message is meant for people."""

    code: ClassVar[str] = "error"
    status: int = 500
    status_code: int = 500
    """The status under the name by which frameworks and error trackers tell a refusal from a crash."""
    title: ClassVar[str] = "Something went wrong"
    retry_after_s: int = 1
    """When to repeat what is safe to repeat."""
    headers: Mapping[str, str] = MappingProxyType({})
    """What the answer carries beside the problem."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.status_code = cls.status

    def __init__(self, detail: str = "", *, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class Invalid(PayTrustError):
    """The request breaks a rule of the API."""

    code = "invalid_request"
    status = 400
    title = "The request is invalid"


class Unauthenticated(PayTrustError):
    """No key, or none that we know."""

    code = "unauthenticated"
    status = 401
    title = "A valid key is needed"


class InvalidSignature(Unauthenticated):
    """A webhook failed the gateway's own check: the gateway did not send it."""

    code = "invalid_signature"
    title = "The signature does not match"


class Forbidden(PayTrustError):
    """The key is good, but lacks the scope."""

    code = "forbidden"
    status = 403
    title = "This key may not do that"


class NotFound(PayTrustError):
    """There is no such object, or it belongs to somebody else: both look the same from outside."""

    code = "not_found"
    status = 404
    title = "Not found"


class Conflict(PayTrustError):
    """The state of the object forbids it."""

    code = "conflict"
    status = 409
    title = "The current state does not allow this"


class Busy(Conflict):
    """Somebody else is working on the same rows, and did not finish in time. Safe to repeat."""

    code = "payment_in_progress"
    title = "Another request is working on this"


class Unprocessable(PayTrustError):
    """Well-formed, but it cannot be done."""

    code = "unprocessable"
    status = 422
    title = "The request cannot be processed"


class CardNumber(Unprocessable):
    """A text holds a card number, which PayTrust must not hold. `errors` point at it and do not repeat it."""

    code = "card_number"
    title = "Card numbers are not accepted"


class TooManyRequests(PayTrustError):
    """
    More requests than the limit allows. Nothing was looked at; the next one may come in *retry_after_s*.
    """

    code = "too_many_requests"
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unavailable(PayTrustError):
    """PayTrust cannot do it now; nothing happened and the request may be repeated."""

    code = "unavailable"
    status = 503
    title = "Temporarily unavailable"


class GatewayError(PayTrustError):
    """Something between us and the gateway."""

    code = "gateway_error"
    status = 502
    title = "The payment gateway failed"
    away: bool = False
    """Whether it says that the gateway is away: no connection, no answer in time, a failure of its server."""


class GatewayRejected(GatewayError):
    """The gateway refused. Final: repeating the same request gives the same answer."""

    code = "gateway_rejected"
    title = "The payment gateway refused"


class GatewayUnavailable(GatewayError):
    """The request never reached the gateway, or it only read. Safe to repeat."""

    code = "gateway_unavailable"
    status = 503
    title = "The payment gateway cannot be reached"


class OutcomeUnknown(GatewayError):
    """
    The request was sent and no usable answer came: it may have had its effect. Ask the gateway; never just
    repeat.
    """

    code = "gateway_outcome_unknown"
    status = 504
    title = "The payment gateway did not answer"


class UnreadableWebhook(PayTrustError):
    """
    An authentic webhook in a form, or with a status, the plugin does not know. Kept for a person, never
    retried.

    *reference* is what it names as its payment, where the plugin could read that: "" when it is about another
    product of the provider. A webhook that names no payment of ours needs no person.
    """

    code = "unreadable_webhook"
    status = 422
    title = "The webhook cannot be read"

    def __init__(self, detail: str = "", *, reference: str | None = None) -> None:
        super().__init__(detail)
        self.reference = reference


class ConfigurationError(PayTrustError):
    """PayTrust refuses to start: the message says what to change."""

    code = "configuration"
    title = "The configuration is wrong"
