"""The lines of a new invoice, their taxes and what they sum to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import iso3166
import msgspec

from paytrust.accounts.model import Fee
from paytrust.contract.taxes import TaxQuery, TaxRule, civil_day, decide
from paytrust.invoices.model.invoice import LineItem
from paytrust.invoices.model.requests import CreateInvoice, NewLineItem, literal, positive
from paytrust.invoices.model.violations import Violations
from paytrust.money import EXPONENT, MAX_MINOR, Money, parse_rate


def lines_of(
    violations: Violations,
    data: CreateInvoice,
    new_id: Callable[[], UUID],
    tax_rules: Sequence[TaxRule],
    now: datetime,
) -> list[LineItem]:
    made = [_line(violations, n, new, data, new_id) for n, new in enumerate(data.line_items, 1)]
    return [
        _taxed(line, new, data, tax_rules, now)
        for line, new in zip(made, data.line_items, strict=True)
        if line is not None
    ]


def _line(
    violations: Violations, number: int, new: NewLineItem, data: CreateInvoice, new_id: Callable[[], UUID]
) -> LineItem | None:
    at = f"#/line_items/{number - 1}"
    currency = data.currency
    # How many decimals a price may have depends on a currency that is known.
    price = (
        violations.parse(f"{at}/unit_price", lambda: positive(new.unit_price, currency))
        if currency in EXPONENT
        else None
    )
    rate = violations.parse(
        f"{at}/tax_rate", lambda: parse_rate("0" if (text := literal(new.tax_rate)) is None else text)
    )
    if new.country_code is not None and new.country_code not in iso3166.countries_by_alpha2:
        violations.add(
            f"{at}/country_code", f"{new.country_code!r} is not an ISO 3166-1 alpha-2 country code"
        )
    if price is None or rate is None:
        return None
    subtotal = violations.parse(f"{at}/quantity", lambda: price * new.quantity)
    if subtotal is None:
        return None
    return LineItem(
        id=new_id(),
        number=number,
        product_name=new.product_name,
        quantity=new.quantity,
        unit_price=price,
        tax_rate=rate,
        tax_category=new.tax_category,
        country_code=new.country_code,
        subtotal=subtotal,
        tax=subtotal.times(rate),
    )


def _taxed(
    line: LineItem, new: NewLineItem, data: CreateInvoice, tax_rules: Sequence[TaxRule], now: datetime
) -> LineItem:
    """
    The line with the rate of a tax rule, unless the merchant gave one (which wins), no country is known or no
    rule answers.
    """
    country = new.country_code or (data.customer.country if data.customer else None)
    if literal(new.tax_rate) is not None or country is None:
        return line
    on = civil_day(now, country)
    query = TaxQuery(country=country, category=new.tax_category, subtotal=line.subtotal, on=on)
    basis = decide(tax_rules, query)
    if basis is None:
        return line
    return msgspec.structs.replace(
        line, tax_rate=basis.rate, tax=line.subtotal.times(basis.rate), tax_basis=basis
    )


def sums(lines: list[LineItem], fee_terms: Fee) -> tuple[Money, Money, Money, Money]:
    """Subtotal, tax, fee and total. Raises ValueError when one of them is too large."""
    subtotal = _total([line.subtotal for line in lines])
    tax = _total([line.tax for line in lines])
    fee = fee_terms.of(subtotal)
    return subtotal, tax, fee, subtotal + tax + fee


def _total(amounts: list[Money]) -> Money:
    total = sum(amount.minor for amount in amounts)
    if total > MAX_MINOR:
        raise ValueError("the sum of the lines is too large")
    return Money(total, amounts[0].currency)
