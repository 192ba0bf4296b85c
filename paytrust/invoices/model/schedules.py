"""The dated parts of an invoice: how many, how much and when."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

from paytrust.contract.gateways import Limits
from paytrust.invoices.model.invoice import Installment
from paytrust.invoices.model.requests import NewInstallments, positive
from paytrust.invoices.model.violations import Violations
from paytrust.money import Money, distribute, split

INSTALLMENT_EVERY: Final = timedelta(days=30)
DUE_WITHIN: Final = timedelta(days=5 * 365 + 2)
"""Five years, whichever of them are leap years."""


def due_dates(violations: Violations, plan: NewInstallments | None, now: datetime) -> list[datetime]:
    """When each installment is due; empty for an invoice that is paid at once."""
    if plan is None:
        return []
    if (plan.count is None) == (plan.amounts is None):
        violations.add("#/installments", "give either count or amounts")
        return []
    number = plan.count or len(plan.amounts or ())
    if plan.due_dates is None:
        return [now + INSTALLMENT_EVERY * n for n in range(1, number + 1)]
    if len(plan.due_dates) != number:
        violations.add("#/installments/due_dates", f"expected {number} dates, one for each installment")
    far = [n for n, due in enumerate(plan.due_dates) if due > now + DUE_WITHIN]
    for n in far:
        violations.add(f"#/installments/due_dates/{n}", "must be at most 5 years from now")
    if far:
        return []  # nothing can be calculated from it
    in_order = all(earlier < later for earlier, later in itertools.pairwise([now, *plan.due_dates]))
    if len(plan.due_dates) == number and not in_order:
        violations.add("#/installments/due_dates", "must lie in the future, each after the one before")
        return plan.due_dates
    return [due.astimezone(UTC) for due in plan.due_dates]  # as the database will give them back


def amounts_of(violations: Violations, plan: NewInstallments | None, total: Money) -> list[Money]:
    """The amount of each installment. Equal parts round down, the last takes the rest (FR-063)."""
    if plan is None:
        return [total]
    if plan.amounts is None:
        assert plan.count is not None
        if total.minor < plan.count:
            violations.add(
                "#/installments/count",
                f"{total} cannot be split into {plan.count} parts of at least one minor unit",
            )
            return [total]
        return split(total, plan.count)
    given = [
        violations.parse(f"#/installments/amounts/{n}", lambda raw=raw: positive(raw, total.currency))  # type: ignore[misc]
        for n, raw in enumerate(plan.amounts)
    ]
    amounts = [amount for amount in given if amount is not None]
    if len(amounts) == len(given) and sum(amount.minor for amount in amounts) != total.minor:
        violations.add("#/installments/amounts", f"must sum to the invoice's total, which is {total}")
    return amounts


def check_limits(
    violations: Violations, plan: NewInstallments | None, amounts: list[Money], limits: Limits
) -> None:
    """Each part is one payment at the gateway; of an invoice that is paid at once that is the total."""
    for n, amount in enumerate(amounts):
        objection = limits.objection(amount)
        if objection is None:
            continue
        if plan is None:
            violations.add("#/line_items", f"the total: {objection}")
        elif plan.amounts is not None:
            violations.add(f"#/installments/amounts/{n}", objection)
        else:
            violations.add("#/installments/count", f"installment {n + 1}: {objection}")
            return  # equal parts break the same rule


def schedule(
    amounts: list[Money], due_at: list[datetime], *, tax: Money, fee: Money
) -> tuple[Installment, ...]:
    """Parts with what of tax and fee is contained in each."""
    nothing = Money(0, tax.currency)
    return tuple(
        Installment(number=n, due_at=due, amount=amount, tax=part_tax, fee=part_fee, paid=nothing)
        for n, (amount, due, (part_tax, part_fee)) in enumerate(
            zip(amounts, due_at, contained(tax, fee, amounts), strict=True), 1
        )
    )


def contained(tax: Money, fee: Money, amounts: list[Money]) -> list[tuple[Money, Money]]:
    """
    Tax and fee in each of *amounts*: their share rounded down, the last takes the rest (FR-052, FR-063).

    Where the last is too small to hold the rest, the parts before it take what does not fit, the later ones
    first.
    """
    shares = [
        [one.minor, other.minor]
        for one, other in zip(distribute(tax, amounts), distribute(fee, amounts), strict=True)
    ]
    excess = sum(shares[-1]) - amounts[-1].minor
    for amount, share in zip(reversed(amounts[:-1]), reversed(shares[:-1]), strict=True):
        for kind in (0, 1):
            moved = max(0, min(excess, amount.minor - sum(share), shares[-1][kind]))
            share[kind] += moved
            shares[-1][kind] -= moved
            excess -= moved
    assert all(sum(share) <= amount.minor for amount, share in zip(amounts, shares, strict=True)), (
        "tax and fee are parts of the whole"
    )
    return [(Money(one, tax.currency), Money(other, fee.currency)) for one, other in shares]
