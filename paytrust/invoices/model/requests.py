"""Requests of merchants, and how their amounts are read."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from paytrust.money import Money

_LITERAL: Final = re.compile(rb'"([^"\\]*)"|([^"]*)')


Amount = Annotated[
    msgspec.Raw,
    Meta(
        extra_json_schema={
            "description": 'An amount in major units, exact: a decimal string such as "19.99" (preferred), or a JSON number.',
            "extra": {
                "one_of": [
                    {"type": "string", "pattern": r"^(0|[1-9][0-9]{0,18})(\.[0-9]{1,4})?$"},
                    {"type": "number", "minimum": 0},
                ]
            },
        },
    ),
]
Rate = Annotated[
    msgspec.Raw,
    Meta(
        extra_json_schema={
            "description": 'A rate between 0 and 1 with at most 4 decimals, such as "0.11".',
            "extra": {
                "one_of": [
                    {"type": "string", "pattern": r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$"},
                    {"type": "number", "minimum": 0, "maximum": 1},
                    {"type": "null"},
                ]
            },
        },
    ),
]
Url = Annotated[str, Meta(min_length=1, max_length=255)]


class NewLineItem(msgspec.Struct, forbid_unknown_fields=True):
    product_name: Annotated[str, Meta(min_length=1, max_length=255)]
    quantity: Annotated[int, Meta(ge=1, le=10**12)]
    unit_price: Amount
    tax_rate: Rate = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    tax_category: Annotated[str, Meta(min_length=1, max_length=50)] | None = None
    country_code: Annotated[str, Meta(min_length=2, max_length=2)] | None = None


class NewCustomer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    email: (
        Annotated[str, Meta(min_length=3, max_length=254, extra_json_schema={"format": "email"})] | None
    ) = None
    phone: Annotated[str, Meta(min_length=3, max_length=32)] | None = None
    country: Annotated[str, Meta(min_length=2, max_length=2)] | None = None


class NewInstallments(msgspec.Struct, forbid_unknown_fields=True):
    """
    Either *count* equal parts, or *amounts* that sum to the total; due every 30 days unless *due_dates* say
    otherwise.
    """

    count: Annotated[int, Meta(ge=2, le=12)] | None = None
    amounts: Annotated[list[Amount], Meta(min_length=2, max_length=12)] | None = None
    due_dates: (
        Annotated[list[Annotated[datetime, Meta(tz=True)]], Meta(min_length=2, max_length=12)] | None
    ) = None


class CreateSupplementary(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """
    More to pay for an invoice: gateway account and currency are the original's, and so is the customer unless
    given.
    """

    line_items: Annotated[list[NewLineItem], Meta(min_length=1, max_length=500)]
    external_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    installments: NewInstallments | None = None
    customer: NewCustomer | None = None
    description: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    metadata: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=500)]],
        Meta(max_length=50),
    ] = {}
    success_url: Url | None = None
    failure_url: Url | None = None


class CreateInvoice(CreateSupplementary, kw_only=True):
    gateway_id: UUID
    currency: Annotated[str, Meta(min_length=1, max_length=10)]


def literal(raw: msgspec.Raw) -> str | None:
    """
    The text of a JSON string or number exactly as written; None for null. Raises ValueError for anything
    else.
    """
    body = bytes(raw)
    if body == b"null":
        return None
    if len(body) > 64:
        raise ValueError("expected a plain decimal")
    match = _LITERAL.fullmatch(body)
    text = (match[1] if match[1] is not None else match[2]) if match else b""
    return text.decode("ascii", "replace")


def positive(raw: msgspec.Raw, currency: str) -> Money:
    """Read an amount above zero, or raise ValueError."""
    amount = Money.parse(literal(raw) or "", currency)
    if amount.minor == 0:
        raise ValueError("must be more than zero")
    return amount
