"""
Money: an integer of minor units beside its currency.

A float never comes near it, and nothing is rounded on the way in. The exponent of a currency says how many
decimals the integer hides: ISO 4217, except IDR = 0, because no Indonesian bank or gateway settles sen.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final, Self

import iso4217
import msgspec

MAX_MINOR: Final = 2**63 - 1
"""The largest amount a BIGINT column holds, in minor units."""

EXPONENT: Final[dict[str, int]] = {c.code: c.exponent for c in iso4217.Currency if c.exponent is not None} | {
    "IDR": 0
}
"""Decimals per active ISO 4217 code."""

_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,18})(?:\.([0-9]{1,4}))?", re.ASCII)
_PERCENTAGE = re.compile(r"(?:0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?)", re.ASCII)
_RATE = re.compile(r"(?:0(?:\.[0-9]{1,4})?|1(?:\.0{1,4})?)", re.ASCII)


class Money(msgspec.Struct, frozen=True, order=False):
    """*minor* units (may be zero, never negative) of *currency* (an ISO 4217 code)."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in EXPONENT:
            raise ValueError(f"{self.currency!r} is not an active ISO 4217 currency code")
        if not 0 <= self.minor <= MAX_MINOR:
            raise ValueError(f"the amount is outside 0 .. {MAX_MINOR} minor units")

    @classmethod
    def parse(cls, text: str, currency: str) -> Self:
        """
        Read a plain decimal string in major units, such as "19.99"; exact or ValueError.

        >>> Money.parse("19.99", "USD").minor
        1999
        """
        match = _AMOUNT.fullmatch(text)
        if match is None:
            raise ValueError(
                'expected a plain decimal such as "19.99": digits, at most one point, no sign or exponent'
            )
        whole, fraction = match[1], match[2] or ""
        exponent = EXPONENT.get(currency)
        if exponent is None:
            raise ValueError(f"{currency!r} is not an active ISO 4217 currency code")
        if len(fraction) > exponent:
            raise ValueError(f"{currency} has {exponent} decimals, not {len(fraction)}")
        return cls(int(whole + fraction.ljust(exponent, "0")), currency)

    @classmethod
    def from_major(cls, value: Decimal | int | str, currency: str) -> Self:
        """
        Read what a gateway sends: like `parse`, but zeros beyond the currency's decimals ("154000.00" IDR)
        are fine.
        """
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        # Bounded on both sides before anything is written out: 1E-30000000 has as many digits.
        if not number.is_finite() or number.adjusted() > 18 or number.as_tuple().exponent < -18:  # type: ignore[operator]
            raise ValueError(f"{str(value)[:40]!r} is not an amount of money")
        text = f"{number:f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        return cls.parse(text, currency)

    @property
    def major(self) -> str:
        """The amount as a decimal string in major units, with all the decimals the currency has."""
        exponent = EXPONENT[self.currency]
        if exponent == 0:
            return str(self.minor)
        digits = str(self.minor).rjust(exponent + 1, "0")
        return f"{digits[:-exponent]}.{digits[-exponent:]}"

    def __str__(self) -> str:
        return f"{self.major} {self.currency}"

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.minor - other.minor, self.currency)

    def __mul__(self, quantity: int) -> Money:
        return Money(self.minor * quantity, self.currency)

    def times(self, rate: Decimal) -> Money:
        """
        A computed part, such as a tax: rounded half up to the minor unit. Integers only, so no decimal
        context matters.
        """
        numerator, denominator = rate.as_integer_ratio()
        return Money((2 * self.minor * numerator + denominator) // (2 * denominator), self.currency)

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise ValueError(f"{self.currency} and {other.currency} cannot be mixed")


def split(total: Money, parts: int) -> list[Money]:
    """Split *total* into *parts*: equal, rounded down, the last takes the rest. The sum is always *total*."""
    assert parts > 0
    each = total.minor // parts
    amounts = [Money(each, total.currency)] * (parts - 1)
    amounts.append(Money(total.minor - each * (parts - 1), total.currency))
    assert sum(a.minor for a in amounts) == total.minor
    return amounts


def distribute(part: Money, over: list[Money]) -> list[Money]:
    """
    Give each amount of *over* its share of *part*, rounded down; the last takes the rest. The sum is always
    *part*.
    """
    whole = sum(amount.minor for amount in over)
    assert over
    assert whole > 0
    shares = [Money(part.minor * amount.minor // whole, part.currency) for amount in over[:-1]]
    shares.append(Money(part.minor - sum(share.minor for share in shares), part.currency))
    assert sum(share.minor for share in shares) == part.minor
    return shares


def parse_rate(text: str) -> Decimal:
    """Read a rate between 0 and 1 with at most 4 decimals (FR-058), or raise ValueError."""
    if not _RATE.fullmatch(text):
        raise ValueError('expected a rate between 0 and 1 with at most 4 decimals, such as "0.11"')
    return Decimal(text)


def parse_percentage(text: str) -> Decimal:
    """
    Read the percentage part of a fee, written as a fraction between 0 and 1 with at most 6 decimals, or raise
    ValueError.
    """
    if not _PERCENTAGE.fullmatch(text):
        raise ValueError(
            'expected a fraction between 0 and 1 with at most 6 decimals, such as "0.029" for 2.9 %'
        )
    return Decimal(text)
