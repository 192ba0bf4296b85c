"""
Amounts as the gateways see them: major units, and our own table of how many decimals a currency has (ISO
4217).
"""

from decimal import ROUND_DOWN, Decimal

EXPONENTS = {"IDR": 0, "VND": 0, "MYR": 2, "PHP": 2, "THB": 2, "USD": 2}
COMMON = 2
LIMIT = 10**15


def truncated(amount: Decimal, currency: str) -> Decimal:
    """Drop the decimals that *currency* does not have at the gateway."""
    return amount.quantize(Decimal(1).scaleb(-EXPONENTS.get(currency, COMMON)), rounding=ROUND_DOWN)


def wire(amount: Decimal) -> int | Decimal:
    """Return *amount* as it is written in JSON: no trailing zeros, integers without a point."""
    return int(amount) if amount == amount.to_integral_value() else amount.normalize()


def text(amount: Decimal, currency: str) -> str:
    """Return *amount* with exactly the decimals of *currency*."""
    return f"{amount:.{EXPONENTS.get(currency, COMMON)}f}"


def shown(amount: Decimal, currency: str) -> str:
    """Return *amount* for people to read, as in `IDR 150,000`."""
    return f"{currency} {amount:,.{EXPONENTS.get(currency, COMMON)}f}"


def asked(wanted: str, amount: Decimal, currency: str) -> Decimal:
    """
    Return what "full", "over", "under" or a number in *wanted* means for a bill of *amount*. Raises
    ValueError.
    """
    parts = {"full": Decimal(1), "over": Decimal("1.1"), "under": Decimal("0.5")}
    if wanted in parts:
        return truncated(amount * parts[wanted], currency)
    try:
        value = Decimal(wanted)
    except ArithmeticError as exc:
        raise ValueError(f"amount {wanted!r}: a number, full, over or under") from exc
    if not value.is_finite() or not 0 < value < LIMIT:
        raise ValueError(f"amount {wanted!r}: must be more than 0 and less than {LIMIT}")
    return value
