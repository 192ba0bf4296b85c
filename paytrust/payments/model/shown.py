"""An invoice as the API shows it: with its payment page, and with what needs a look."""

from __future__ import annotations

from datetime import datetime
from typing import Self
from uuid import UUID

import msgspec

from paytrust.invoices.model import Invoice, InvoiceStatus
from paytrust.payments.model.attempt import ReceiptFlag


class ShownInvoice(Invoice, frozen=True, kw_only=True):
    """An invoice with its live payment page and the flags of its receipts, read in one statement."""

    payment_url: str | None = None
    instructions: dict[str, str] | None = None
    flags: tuple[ReceiptFlag, ...] = ()

    @classmethod
    def of(
        cls,
        invoice: Invoice,
        *,
        payment_url: str | None = None,
        instructions: dict[str, str] | None = None,
        flags: tuple[ReceiptFlag, ...] = (),
    ) -> Self:
        """Without anything else: an invoice that was just written, and has no page and no receipt yet."""
        return cls(
            **msgspec.structs.asdict(invoice),
            payment_url=payment_url,
            instructions=instructions,
            flags=flags,
        )


class InvoiceFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which invoices to list; None: whatever they are. Created in [created_from, created_to)."""

    status: InvoiceStatus | None = None
    currency: str | None = None
    account_id: UUID | None = None
    external_id: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    original_id: UUID | None = None
    flag: ReceiptFlag | None = None
