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
from paytrust.invoices.model import Amount, Installment, Invoice, InvoiceStatus, Rules, contained, positive
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
    rules = Rules()
    given = _given(rules, invoice, data)
    rules.check()
    unpaid = [part for part in invoice.installments if part.due.minor]
    amounts = _balanced(rules, unpaid, given)
    rules.check()
    _check_limits(rules, data, unpaid, amounts, limits)
    rules.check()
    paid = [part for part in invoice.installments if not part.due.minor]
    tax = Money(invoice.tax.minor - sum(part.tax.minor for part in paid), invoice.currency)
    fee = Money(invoice.fee.minor - sum(part.fee.minor for part in paid), invoice.currency)
    changed = {
        part.number: msgspec.structs.replace(part, amount=amount, tax=part_tax, fee=part_fee)
        for part, amount, (part_tax, part_fee) in zip(
            unpaid, amounts, contained(tax, fee, amounts), strict=True
        )
    }
    schedule = tuple(changed.get(part.number, part) for part in invoice.installments)
    assert sum(part.amount.minor for part in schedule) == invoice.total.minor
    return schedule


def _given(rules: Rules, invoice: Invoice, data: AdjustInstallments) -> dict[int, Money]:
    """The new amounts by number."""
    parts = {part.number: part for part in invoice.installments}
    given: dict[int, Money] = {}
    for n, new in enumerate(data.installments):
        at = f"#/installments/{n}"
        amount = rules.read(f"{at}/amount", lambda raw=new.amount: positive(raw, invoice.currency))  # type: ignore[misc]
        part = parts.get(new.number)
        if part is None:
            rules.refuse(f"{at}/number", f"the invoice has {len(parts)} installments")
        elif new.number in given:
            rules.refuse(f"{at}/number", f"installment {new.number} is given twice")
        elif not part.due.minor:
            raise InstallmentPaid(f"installment {new.number} is paid and keeps its amount of {part.amount}")
        elif amount is not None and amount.minor < part.paid.minor:
            rules.refuse(f"{at}/amount", f"{part.paid} was paid on installment {new.number} already")
        if amount is not None:
            given[new.number] = amount
    return given


def _balanced(rules: Rules, unpaid: list[Installment], given: dict[int, Money]) -> list[Money]:
    """Amounts for all unpaid parts that sum to what they sum to now."""
    balance = sum(part.amount.minor for part in unpaid)
    rest = balance - sum(amount.minor for amount in given.values())
    others = [part for part in unpaid if part.number not in given]
    currency = unpaid[0].amount.currency
    if not others:
        if rest:
            rules.refuse("#/installments", f"the unpaid installments must sum to {Money(balance, currency)}")
        return [given[part.number] for part in unpaid]
    if rest < len(others):
        rules.refuse(
            "#/installments",
            f"too much: of {Money(balance, currency)} nothing is left for the other {len(others)} unpaid installments",
        )
        return []
    shares = dict(
        zip((part.number for part in others), split(Money(rest, currency), len(others)), strict=True)
    )
    for part in others:
        if shares[part.number].minor < part.paid.minor:
            rules.refuse(
                "#/installments",
                f"leaves {shares[part.number]} for installment {part.number}, on which {part.paid} was paid already",
            )
    return [given.get(part.number) or shares[part.number] for part in unpaid]


def _check_limits(
    rules: Rules, data: AdjustInstallments, unpaid: list[Installment], amounts: list[Money], limits: Limits
) -> None:
    at = {new.number: f"#/installments/{n}/amount" for n, new in enumerate(data.installments)}
    for part, amount in zip(unpaid, amounts, strict=True):
        due = amount - part.paid
        objection = limits.objection(due) if due.minor and amount != part.amount else None
        if objection is not None:
            rules.refuse(at.get(part.number, "#/installments"), f"installment {part.number}: {objection}")


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
