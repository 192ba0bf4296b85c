"""Invoices: the rules, without I/O."""

from paytrust.invoices.model.content import content_hash, matches
from paytrust.invoices.model.drafting import (
    EXPIRY_DEFAULT,
    EXPIRY_MAX,
    EXPIRY_MIN,
    ExternalIdTaken,
    NotSupplementable,
    Terms,
    draft,
    supplementary,
)
from paytrust.invoices.model.invoice import Installment, Invoice, LineItem, TimelineEntry, move
from paytrust.invoices.model.requests import (
    Amount,
    CreateInvoice,
    CreateSupplementary,
    NewCustomer,
    NewInstallments,
    NewLineItem,
    literal,
    positive,
)
from paytrust.invoices.model.schedules import INSTALLMENT_EVERY, contained, schedule
from paytrust.invoices.model.status import (
    REACHABLE,
    IllegalTransition,
    InstallmentStatus,
    InvoiceStatus,
)
from paytrust.invoices.model.violations import InvalidCurrency, Violations

__all__ = [
    "EXPIRY_DEFAULT",
    "EXPIRY_MAX",
    "EXPIRY_MIN",
    "INSTALLMENT_EVERY",
    "REACHABLE",
    "Amount",
    "CreateInvoice",
    "CreateSupplementary",
    "ExternalIdTaken",
    "IllegalTransition",
    "Installment",
    "InstallmentStatus",
    "InvalidCurrency",
    "Invoice",
    "InvoiceStatus",
    "LineItem",
    "NewCustomer",
    "NewInstallments",
    "NewLineItem",
    "NotSupplementable",
    "Terms",
    "TimelineEntry",
    "Violations",
    "contained",
    "content_hash",
    "draft",
    "literal",
    "matches",
    "move",
    "positive",
    "schedule",
    "supplementary",
]
