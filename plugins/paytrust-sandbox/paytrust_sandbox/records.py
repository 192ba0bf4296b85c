"""What the control API shows: the same structs are written by the servers and read back by the Python API."""

from typing import Any, Literal

import msgspec

DeliveryState = Literal[
    "held", "sending", "retrying", "delivered", "failed", "lost", "unaddressed", "cancelled"
]


class Payment(msgspec.Struct, kw_only=True):
    """
    One invoice or order. Amounts are decimal strings in major units; `details` is the gateway's own object.

    *refunded_amount* and *charged_back_amount* are what went back of what was paid, None where nothing did.
    """

    id: str
    reference: str
    status: str
    amount: str
    currency: str
    page_url: str
    created_at: str
    paid_amount: str | None = None
    paid_currency: str | None = None
    refunded_amount: str | None = None
    charged_back_amount: str | None = None
    details: dict[str, Any] = {}


class Attempt(msgspec.Struct, kw_only=True):
    """One POST of a webhook: the HTTP status it got, or the error instead of an answer."""

    at: str
    status: int | None = None
    answer: str = ""
    error: str | None = None
    duration_s: float = 0.0


class Delivery(msgspec.Struct, kw_only=True):
    """One webhook on its way to one URL, and every attempt made."""

    id: int
    reference: str
    event: str
    url: str
    headers: dict[str, str]
    body: str
    state: DeliveryState
    fault: str | None = None
    attempts: list[Attempt] = []


class ReceivedRequest(msgspec.Struct, kw_only=True):
    """
    One request a gateway received; `status` is None when it never answered.

    `duration_s` is how long it took until it was answered or its connection was gone; None while it is under
    way.
    """

    at: str
    operation: str
    method: str
    target: str
    headers: dict[str, str]
    body: str
    status: int | None = None
    fault: str | None = None
    duration_s: float | None = None


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    A fault switched on for an operation ("any" is every API call), for the next *times* uses or until
    switched off.

    *fields* and *without* belong to `odd_fields`: dotted paths, each of which passes through every element of
    a list.
    """

    name: str
    on: str = "any"
    times: int | None = None
    seconds: float = 0.5
    fields: dict[str, Any] = {}
    without: list[str] = []
