"""Reads about payments that join the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from paytrust.infra.db import Transaction
from paytrust.invoices import service as invoices
from paytrust.money import Money
from paytrust.payments import store
from paytrust.payments.model import ShownInvoice


async def show(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> ShownInvoice:
    """An invoice with its live payment page."""
    invoice = await store.show(tx, tenant_id, invoice_id)
    if invoice is None:
        raise invoices.unknown(invoice_id)
    return invoice


async def asked_for(
    tx: Transaction, account_ids: Sequence[UUID], references: Sequence[str]
) -> dict[str, tuple[UUID, Money]]:
    """Whose attempts these are, and what was asked. Needs a system transaction."""
    return await store.asked_for(tx, account_ids, references)
