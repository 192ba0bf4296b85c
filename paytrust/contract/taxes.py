"""
The contract of a tax-rule plugin.

A rule is asked for a line whose merchant gave no rate: which rate holds for this category in this country on
this day? It computes nothing else: amounts and rounding are the core's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

import msgspec

from paytrust.contract.validation import PluginError, validated
from paytrust.errors import PayTrustError
from paytrust.money import Money, parse_rate

ZONES: Final[dict[str, tzinfo]] = {
    "ID": ZoneInfo("Asia/Jakarta"),
    "MY": ZoneInfo("Asia/Kuala_Lumpur"),
    "PH": ZoneInfo("Asia/Manila"),
    "SG": ZoneInfo("Asia/Singapore"),
    "TH": ZoneInfo("Asia/Bangkok"),
    "VN": ZoneInfo("Asia/Ho_Chi_Minh"),
}
"""The clock of a country's capital says which day it is for its taxes. Other countries go by UTC."""


def civil_day(now: datetime, country: str) -> date:
    """The day that it is in *country* at the aware time *now*."""
    return now.astimezone(ZONES.get(country, UTC)).date()


class TaxQuery(msgspec.Struct, frozen=True, kw_only=True):
    """
    One line: its *subtotal*, the *country* (ISO 3166-1 alpha-2), the merchant's *category* if any, and the
    day *on* which it is invoiced: the civil day there, by `civil_day`.
    """

    country: str
    category: str | None
    subtotal: Money
    on: date


class TaxAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a rule found. *rate* is what the subtotal is multiplied with, at most 4 decimals, whatever the law
    calls its parts.

    *reason* cites the law in a few words. The answer holds from the day *effective_from* to the day
    *effective_to*, both included; None: no end is known.
    """

    rate: Decimal
    category: str
    jurisdiction: str
    reason: str
    effective_from: date
    effective_to: date | None = None

    def __post_init__(self) -> None:
        parse_rate(f"{self.rate:f}")


class TaxRule(ABC):
    """The taxes of one jurisdiction. Pure: no I/O, no state, the same answer for the same question."""

    name: ClassVar[str]
    """Lower-case, unique among plugins: "tax-id"."""
    priority: ClassVar[int] = 0
    """Where several rules answer, the highest priority wins; among equals, the first name."""

    @abstractmethod
    def rate_for(self, query: TaxQuery) -> TaxAnswer | None:
        """The rate, or None when this rule has nothing to say about such a line."""


class Overruled(msgspec.Struct, frozen=True):
    """An answer that lost to one of higher priority."""

    rule: str
    rate: Decimal


class TaxBasis(msgspec.Struct, frozen=True, kw_only=True):
    """
    Why a line has its rate: kept with it for ever. *overruled* names the rules that said something else.
    """

    rule: str
    category: str
    jurisdiction: str
    reason: str
    effective_from: date
    effective_to: date | None
    rate: Decimal
    overruled: tuple[Overruled, ...] = ()


class TaxRuleFailed(PayTrustError):
    """A tax rule raised or answered nonsense. No invoice is made with a guessed tax."""

    code = "tax_rule_failed"
    status = 503
    title = "A tax rule failed"


def decide(rules: Sequence[TaxRule], query: TaxQuery) -> TaxBasis | None:
    """Ask every rule and let the highest priority win; None when no rule answers. Raises `TaxRuleFailed`."""
    answers = [
        (rule, answer)
        for rule in sorted(rules, key=lambda r: (-r.priority, r.name))
        if (answer := _ask(rule, query)) is not None
    ]
    if not answers:
        return None
    (winner, best), *others = answers
    return TaxBasis(
        rule=winner.name,
        category=best.category,
        jurisdiction=best.jurisdiction,
        reason=best.reason,
        effective_from=best.effective_from,
        effective_to=best.effective_to,
        rate=best.rate,
        overruled=tuple(
            Overruled(rule.name, answer.rate) for rule, answer in others if answer.rate != best.rate
        ),
    )


def _ask(rule: TaxRule, query: TaxQuery) -> TaxAnswer | None:
    try:
        answer = rule.rate_for(query)
        return None if answer is None else validated(answer, TaxAnswer)
    except PluginError as exc:
        raise TaxRuleFailed(f"the tax rule {rule.name} failed: {exc}") from exc
    except (Exception, SystemExit) as exc:
        raise TaxRuleFailed(f"the tax rule {rule.name} failed: {type(exc).__name__}") from exc
