"""`GET /v2/invoices`: filters, limits and the cursor, in both ways that clients spell them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from paytrust_sandbox.xendit.invoices import Invoice, Invoices, stamp
from paytrust_sandbox.xendit.validation import refuse

DEFAULT_LIMIT, LARGEST_LIMIT = 10, 100
PERIODS = ("created", "paid", "expired")
Query = list[tuple[str, str]]


def listed(invoices: Invoices, query: Query) -> list[Invoice]:
    """Return the invoices *query* asks for, newest first. Raises Refusal for a query that makes no sense."""
    external_id = _one(query, "external_id")
    found: Iterable[Invoice] = invoices.by_id.values() if external_id is None else invoices.under(external_id)
    statuses, channels = _many(query, "statuses"), _many(query, "payment_channels")
    periods = [_period(query, name) for name in PERIODS]
    wanted = [
        invoice
        for invoice in reversed(list(found))
        if (not statuses or invoice.status in statuses)
        and (not channels or invoice.payment.get("payment_channel") in channels)
        and all(_inside(_time(invoice, name), period) for name, period in zip(PERIODS, periods, strict=True))
    ]
    return _after(wanted, _one(query, "last_invoice") or _one(query, "last_invoice_id"))[: _limit(query)]


def _one(query: Query, name: str) -> str | None:
    return dict(query).get(name)


def _many(query: Query, name: str) -> list[str]:
    """Return the values of *name*, repeated (`a=1&a=2`) or as one JSON array (`a=["1","2"]`)."""
    values = [value for key, value in query if key in {name, f"{name}[]"}]
    if len(values) != 1 or not values[0].startswith("["):
        return values
    try:
        return [str(value) for value in json.loads(values[0])]
    except ValueError as exc:
        raise refuse("API_VALIDATION_ERROR", f"{name} is not an array") from exc


def _limit(query: Query) -> int:
    """Return the limit; clients write 10 and 10.0."""
    given = _one(query, "limit")
    try:
        limit = float(given) if given else DEFAULT_LIMIT
    except ValueError:
        limit = 0
    if not 1 <= limit <= LARGEST_LIMIT:
        raise refuse("API_VALIDATION_ERROR", f"limit must be from 1 to {LARGEST_LIMIT}")
    return int(limit)


def _after(invoices: list[Invoice], last: str | None) -> list[Invoice]:
    ids = [invoice.id for invoice in invoices]
    return invoices[ids.index(last) + 1 :] if last in ids else invoices


def _period(query: Query, name: str) -> tuple[str, str] | None:
    after, before = _one(query, f"{name}_after"), _one(query, f"{name}_before")
    if after is None and before is None:
        return None
    if after is None or before is None:
        raise refuse("API_VALIDATION_ERROR", f"{name}_after and {name}_before must be given together")
    return _moment(after), _moment(before)


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as exc:
        raise refuse("API_VALIDATION_ERROR", f"{text!r} is not a time") from exc
    return stamp(at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC))


def _time(invoice: Invoice, name: str) -> Any:
    times = {
        "created": stamp(invoice.created_at),
        "paid": invoice.payment.get("paid_at"),
        "expired": stamp(invoice.expires_at),
    }
    return times[name]


def _inside(time: str | None, period: tuple[str, str] | None) -> bool:
    return period is None or (time is not None and period[0] <= time <= period[1])
