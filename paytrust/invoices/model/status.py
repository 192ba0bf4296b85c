"""The status of an invoice and of its installments, and which follows which."""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from uuid import UUID

from paytrust.errors import Conflict


class InvoiceStatus(StrEnum):
    DRAFT = "draft"
    """Written down, not yet payable: no gateway has opened a payment for it."""
    PENDING = "pending"
    PARTIALLY_PAID = "partially_paid"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class InstallmentStatus(StrEnum):
    UNPAID = "unpaid"
    PARTIALLY_PAID = "partially_paid"
    PAID = "paid"
    OVERDUE = "overdue"


REACHABLE: Final[dict[InvoiceStatus, frozenset[InvoiceStatus]]] = {
    # A webhook can be quicker than the gateway's answer to us: paid straight from draft.
    InvoiceStatus.DRAFT: frozenset(
        {
            InvoiceStatus.PENDING,
            InvoiceStatus.PARTIALLY_PAID,
            InvoiceStatus.PAID,
            InvoiceStatus.FAILED,
            InvoiceStatus.CANCELLED,
        }
    ),
    InvoiceStatus.PENDING: frozenset(
        {
            InvoiceStatus.PARTIALLY_PAID,
            InvoiceStatus.PAID,
            InvoiceStatus.FAILED,
            InvoiceStatus.EXPIRED,
            InvoiceStatus.CANCELLED,
        }
    ),
    InvoiceStatus.PARTIALLY_PAID: frozenset(
        {InvoiceStatus.PAID, InvoiceStatus.EXPIRED, InvoiceStatus.CANCELLED}
    ),
    # A bank transfer can arrive hours after the due time: the money is real.
    InvoiceStatus.EXPIRED: frozenset({InvoiceStatus.PAID}),
    InvoiceStatus.FAILED: frozenset({InvoiceStatus.PAID}),
}


class IllegalTransition(Conflict):
    """An invoice was asked to move to a status it cannot reach from here."""

    code = "illegal_transition"

    def __init__(self, *, invoice_id: UUID, current: str, target: str) -> None:
        super().__init__(f"invoice {invoice_id} is {current}, cannot become {target}")
