"""Changing a schedule: the rules of product section 5, without I/O."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from paytrust.books import model as books
from paytrust.books.model import Cause, Transfer
from paytrust.contract.gateways import Limits
from paytrust.errors import Conflict
from paytrust.invoices.model import (
    Amount,
    Installment,
    Invoice,
    InvoiceStatus,
    Violations,
    contained,
    positive,
)
from paytrust.money import Money, split

ADJUSTABLE: Final = {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}


class NewAmount(msgspec.Struct, forbid_unknown_fields=True):
    number: Annotated[int, Meta(ge=1, le=12)]
    amount: Amount


class AdjustInstallments(msgspec.Struct, forbid_unknown_fields=True):
    """New amounts for some unpaid installments; the other unpaid ones share what they leave."""

    installments: Annotated[list[NewAmount], Meta(min_length=1, max_length=12)]


class ScheduleClosed(Conflict):
    """A schedule changes only while its invoice is being collected."""

    code = "schedule_closed"


class InstallmentPaid(Conflict):
    """A paid installment keeps its amount."""

    code = "installment_paid"


def adjust(invoice: Invoice, data: AdjustInstallments, limits: Limits) -> tuple[Installment, ...]:
    """
    The schedule with new amounts. Those given are set, the other unpaid parts share the rest equally, and the
    parts of tax and fee follow. An amount may not be below what was paid on its part; what equals it is paid
    from now on. What is then due on a changed part is one payment, within *limits*.

    Raises `ScheduleClosed`, `InstallmentPaid`, or `Invalid` with all broken rules.
    """
    if invoice.status not in ADJUSTABLE or invoice.expires_at <= invoice.read_at:
        raise ScheduleClosed(
            f"invoice {invoice.id} is {invoice.status}"
            + (" and its time is up" if invoice.status in ADJUSTABLE else "")
        )
    violations = Violations()
    given = _given(violations, invoice, data)
    violations.check()
    unpaid = [installment for installment in invoice.installments if installment.due.minor]
    amounts = _balanced(violations, unpaid, given)
    violations.check()
    _check_limits(violations, data, unpaid, amounts, limits)
    violations.check()
    paid = [installment for installment in invoice.installments if not installment.due.minor]
    tax = Money(invoice.tax.minor - sum(installment.tax.minor for installment in paid), invoice.currency)
    fee = Money(invoice.fee.minor - sum(installment.fee.minor for installment in paid), invoice.currency)
    changed = {
        installment.number: msgspec.structs.replace(installment, amount=amount, tax=part_tax, fee=part_fee)
        for installment, amount, (part_tax, part_fee) in zip(
            unpaid, amounts, contained(tax, fee, amounts), strict=True
        )
    }
    schedule = tuple(changed.get(installment.number, installment) for installment in invoice.installments)
    assert sum(installment.amount.minor for installment in schedule) == invoice.total.minor
    return schedule


def _given(violations: Violations, invoice: Invoice, data: AdjustInstallments) -> dict[int, Money]:
    """The new amounts by number."""
    parts = {installment.number: installment for installment in invoice.installments}
    given: dict[int, Money] = {}
    for n, new in enumerate(data.installments):
        at = f"#/installments/{n}"
        amount = violations.parse(f"{at}/amount", lambda raw=new.amount: positive(raw, invoice.currency))  # type: ignore[misc]
        installment = parts.get(new.number)
        if installment is None:
            violations.add(f"{at}/number", f"the invoice has {len(parts)} installments")
        elif new.number in given:
            violations.add(f"{at}/number", f"installment {new.number} is given twice")
        elif not installment.due.minor:
            raise InstallmentPaid(
                f"installment {new.number} is paid and keeps its amount of {installment.amount}"
            )
        elif amount is not None and amount.minor < installment.paid.minor:
            violations.add(f"{at}/amount", f"{installment.paid} was paid on installment {new.number} already")
        if amount is not None:
            given[new.number] = amount
    return given


def _balanced(violations: Violations, unpaid: list[Installment], given: dict[int, Money]) -> list[Money]:
    """Amounts for all unpaid parts that sum to what they sum to now."""
    balance = sum(installment.amount.minor for installment in unpaid)
    rest = balance - sum(amount.minor for amount in given.values())
    others = [installment for installment in unpaid if installment.number not in given]
    currency = unpaid[0].amount.currency
    if not others:
        if rest:
            violations.add(
                "#/installments", f"the unpaid installments must sum to {Money(balance, currency)}"
            )
        return [given[installment.number] for installment in unpaid]
    if rest < len(others):
        violations.add(
            "#/installments",
            f"too much: of {Money(balance, currency)} nothing is left for the other {len(others)} unpaid installments",
        )
        return []
    shares = dict(
        zip(
            (installment.number for installment in others),
            split(Money(rest, currency), len(others)),
            strict=True,
        )
    )
    for installment in others:
        if shares[installment.number].minor < installment.paid.minor:
            violations.add(
                "#/installments",
                f"leaves {shares[installment.number]} for installment {installment.number}, on which {installment.paid} was paid already",
            )
    return [given.get(installment.number) or shares[installment.number] for installment in unpaid]


def _check_limits(
    violations: Violations,
    data: AdjustInstallments,
    unpaid: list[Installment],
    amounts: list[Money],
    limits: Limits,
) -> None:
    at = {new.number: f"#/installments/{n}/amount" for n, new in enumerate(data.installments)}
    for installment, amount in zip(unpaid, amounts, strict=True):
        due = amount - installment.paid
        objection = limits.objection(due) if due.minor and amount != installment.amount else None
        if objection is not None:
            violations.add(
                at.get(installment.number, "#/installments"), f"installment {installment.number}: {objection}"
            )


def changed(invoice: Invoice, schedule: tuple[Installment, ...]) -> list[Installment]:
    """The installments of *schedule* that are not what they are in *invoice*."""
    return [new for old, new in zip(invoice.installments, schedule, strict=True) if new != old]


def changes_what_is_due(invoice: Invoice, schedule: tuple[Installment, ...]) -> bool:
    """Whether *schedule* asks for another amount next, so that the payment page must be another."""
    due_next = invoice.due_next
    return due_next is not None and schedule[due_next.number - 1].amount != due_next.amount


def moves(invoice: Invoice, schedule: tuple[Installment, ...], *, adjustment_id: UUID) -> list[Transfer]:
    """
    What an adjustment posts: claims move from parts that shrink to parts that grow, lowest numbers first.
    """
    changes = [
        (new.number, new.amount.minor - old.amount.minor)
        for old, new in zip(invoice.installments, schedule, strict=True)
    ]
    shrinking = [[number, -change] for number, change in changes if change < 0]
    transfers: list[Transfer] = []
    for number, change in changes:
        missing = change
        while missing > 0:
            moved = min(missing, shrinking[0][1])
            transfers.append(
                Transfer(
                    cause=Cause.ADJUST,
                    cause_id=adjustment_id,
                    leg=len(transfers),
                    invoice_id=invoice.id,
                    debit=books.receivable(invoice.id, number),
                    credit=books.receivable(invoice.id, shrinking[0][0]),
                    amount=Money(moved, invoice.currency),
                )
            )
            missing -= moved
            shrinking[0][1] -= moved
            if not shrinking[0][1]:
                shrinking.pop(0)
    assert not shrinking, "what shrinks is what grows"
    return transfers
