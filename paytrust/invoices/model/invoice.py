"""Invoices as the database keeps them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from paytrust.accounts.model import Fee
from paytrust.contract.taxes import TaxBasis
from paytrust.invoices.model.requests import NewCustomer
from paytrust.invoices.model.status import (
    REACHABLE,
    IllegalTransition,
    InstallmentStatus,
    InvoiceStatus,
)
from paytrust.money import Money


class LineItem(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    number: int
    product_name: str
    quantity: int
    unit_price: Money
    tax_rate: Decimal
    tax_category: str | None
    country_code: str | None
    subtotal: Money
    tax: Money
    tax_basis: TaxBasis | None = None
    """Why the rate is what it is, when a tax rule said so."""


class Installment(msgspec.Struct, frozen=True, kw_only=True):
    """One dated part. *amount* contains *tax* and *fee*; *paid* is what the books have credited to it."""

    number: int
    due_at: datetime
    amount: Money
    tax: Money
    fee: Money
    paid: Money
    paid_at: datetime | None = None

    @property
    def due(self) -> Money:
        return self.amount - self.paid

    def status(self, at: datetime) -> InstallmentStatus:
        """Derived, never stored: an unpaid one is overdue from its due date on."""
        if self.due.minor == 0:
            return InstallmentStatus.PAID
        if self.due_at < at:
            return InstallmentStatus.OVERDUE
        return InstallmentStatus.PARTIALLY_PAID if self.paid.minor else InstallmentStatus.UNPAID


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    tenant_id: UUID
    external_id: str | None
    content_hash: bytes
    account_id: UUID
    account_scope: UUID
    gateway: str
    currency: str
    status: InvoiceStatus
    subtotal: Money
    tax: Money
    fee: Money
    total: Money
    fee_terms: Fee
    """Frozen from the gateway account."""
    description: str | None
    customer: NewCustomer
    metadata: dict[str, str]
    success_url: str | None
    failure_url: str | None
    original_invoice_id: UUID | None
    payment_initiated_at: datetime | None
    created_at: datetime
    expires_at: datetime
    read_at: datetime
    """The database's clock when this was read: what is overdue depends on it."""
    lines: tuple[LineItem, ...]
    installments: tuple[Installment, ...]

    @property
    def due_next(self) -> Installment | None:
        """The lowest installment that is not paid; None when all are."""
        return next((installment for installment in self.installments if installment.due.minor > 0), None)


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that happened to an invoice. *reason* is for people, *details* are numbers and names for
    programs.
    """

    at: datetime
    event: str
    reason: str | None = None
    details: dict[str, Any] = {}


def move(invoice: Invoice, target: InvoiceStatus) -> Invoice:
    """Return *invoice* in status *target*; the same object if it is there already."""
    if target is invoice.status:
        return invoice  # gateways repeat themselves
    if target not in REACHABLE.get(invoice.status, ()):
        raise IllegalTransition(invoice_id=invoice.id, current=invoice.status, target=target)
    return msgspec.structs.replace(invoice, status=target)
