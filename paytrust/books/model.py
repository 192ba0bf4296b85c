from __future__ import annotations

from enum import StrEnum
from uuid import UUID

import msgspec

from paytrust.money import Money


class Cause(StrEnum):
    """Why a transfer was posted. One cause posts once: (tenant, cause, cause id, leg) is the key."""

    ISSUE = "issue"
    RECEIPT = "receipt"
    ADJUST = "adjust"
    """Moves what is owed from one installment of an invoice to another."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """*amount* moves from the account *debit* to the account *credit*, both of the amount's currency."""

    cause: Cause
    cause_id: UUID
    leg: int
    invoice_id: UUID
    debit: str
    credit: str
    amount: Money

    def __post_init__(self) -> None:
        assert self.amount.minor > 0
        assert self.debit != self.credit


class BoundedAccount(msgspec.Struct, frozen=True):
    """
    An account whose balance the database bounds: what an installment is owed, or what an invoice was paid too
    much.
    """

    invoice_id: UUID
    installment_number: int | None
    currency: str

    @property
    def name(self) -> str:
        if self.installment_number is None:
            return overpaid(self.invoice_id)
        return receivable(self.invoice_id, self.installment_number)


class Mistake(msgspec.Struct, frozen=True):
    """Something the books do not agree with, in words."""

    what: str


REVENUE = "revenue"
TAX = "tax"
FEE = "fee"


def receivable(invoice_id: UUID, installment_number: int) -> str:
    """Debited when the invoice is issued, credited by payments, never above what it is owed."""
    return f"receivable:{invoice_id}:{installment_number}"


def overpaid(invoice_id: UUID) -> str:
    """Credited with what came beyond the invoice's total."""
    return f"overpaid:{invoice_id}"


def clearing(gateway_account_id: UUID) -> str:
    """Debited with what a gateway says it collected."""
    return f"clearing:{gateway_account_id}"
