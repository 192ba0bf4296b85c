"""Whether two requests ask for the same invoice."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from paytrust.invoices.model.invoice import Invoice
from paytrust.invoices.model.requests import CreateInvoice, NewLineItem, literal, positive
from paytrust.money import Money, parse_rate


def content_hash(data: CreateInvoice, original: Invoice | None = None) -> bytes:
    """
    Equal for requests that ask for the same invoice, however their JSON was written. Raises ValueError on
    unreadable amounts.
    """
    asked = [
        [
            new.product_name,
            new.quantity,
            positive(new.unit_price, data.currency).minor,
            _ratio(new),
            new.tax_category,
            new.country_code,
        ]
        for new in data.line_items
    ]
    expires_at_s = data.expires_at and data.expires_at.timestamp()
    given: list[Any] = [data.gateway_id, data.currency, asked, data.external_id, expires_at_s, data.customer]
    given += [data.description, sorted(data.metadata.items()), data.success_url, data.failure_url]
    if data.installments is not None:
        amounts = [
            Money.parse(literal(raw) or "", data.currency).minor for raw in data.installments.amounts or ()
        ]
        given += [
            data.installments.count,
            amounts,
            [due.timestamp() for due in data.installments.due_dates or ()],
        ]
    if original is not None:
        given.append(original.id)
    return hashlib.sha256(msgspec.json.encode(given)).digest()


def matches(invoice: Invoice, data: CreateInvoice, original: Invoice | None = None) -> bool:
    """
    Whether *data* asks for what *invoice* is, though it may have become invalid since: its account closed,
    its expiry near.
    """
    try:
        return invoice.content_hash == content_hash(data, original)
    except ValueError:
        return False


def _ratio(new: NewLineItem) -> tuple[int, int] | None:
    """The rate as it was asked for: what a tax rule answered is no part of the request."""
    text = literal(new.tax_rate)
    return None if text is None else parse_rate(text).as_integer_ratio()
