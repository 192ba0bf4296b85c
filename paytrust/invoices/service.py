from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import NO_LIMITS
from paytrust.contract.taxes import TaxRule
from paytrust.errors import NotFound
from paytrust.infra import logs
from paytrust.infra.db import Transaction
from paytrust.infra.ids import new_id
from paytrust.invoices import model, store
from paytrust.invoices.model import (
    CreateInvoice,
    Installment,
    Invoice,
    InvoiceStatus,
    Terms,
    TimelineEntry,
)

HIGH_TAX_RATE: Final = Decimal("0.27")

log = logs.get_logger("paytrust.invoices")


class Invoices:
    """Draft invoices by the tax rules of this application and the limits of its gateways."""

    def __init__(
        self, gateways: Accounts, *, tax_rules: Sequence[TaxRule] = (), insecure: bool = False
    ) -> None:
        self._gateways = gateways
        self._tax_rules = tax_rules
        self._insecure = insecure

    def draft(
        self,
        data: CreateInvoice,
        account: Account | None,
        *,
        invoice_id: UUID,
        tenant_id: UUID,
        now: datetime,
        original: Invoice | None = None,
    ) -> Invoice:
        """
        The invoice that *data* asks for, not written yet; *account* is None when there is no usable one.

        Raises `Invalid`, `NotSupplementable`, or `TaxRuleFailed` or `GatewayUnavailable` when a plugin fails.
        """
        limits = (
            self._gateways.limits(account, data.currency)
            if account is not None and data.currency in account.fees
            else NO_LIMITS
        )
        terms = Terms(
            account=account,
            now=now,
            new_id=new_id,
            limits=limits,
            tax_rules=self._tax_rules,
            insecure=self._insecure,
        )
        return model.draft(data, terms, invoice_id=invoice_id, tenant_id=tenant_id, original=original)


async def now(tx: Transaction) -> datetime:
    """The database's clock, where nothing else was read that knows it."""
    return await store.now(tx)


async def get(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice:
    return _found(await store.find(tx, tenant_id, invoice_id), invoice_id)


async def share(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice:
    """Read the invoice and keep it from changing until this transaction ends."""
    return _found(await store.share(tx, tenant_id, invoice_id), invoice_id)


async def hold(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> None:
    """Take the invoice's row lock, which every change to it and to its payments takes first."""
    if not await store.hold(tx, tenant_id, invoice_id):
        raise unknown(invoice_id)


async def lock(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice:
    """Read the invoice under its row lock."""
    await hold(tx, tenant_id, invoice_id)
    return await get(tx, tenant_id, invoice_id)


def unknown(invoice_id: UUID) -> NotFound:
    return NotFound(f"there is no invoice {invoice_id}")


def _found(invoice: Invoice | None, invoice_id: UUID) -> Invoice:
    if invoice is None:
        raise unknown(invoice_id)
    return invoice


async def initiate(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> datetime | None:
    """Draft -> pending: from now on the invoice cannot change. None when it was not a draft any more."""
    return await store.initiate(tx, tenant_id, invoice_id)


async def save(tx: Transaction, invoice: Invoice, *, was: InvoiceStatus, reason: str) -> None:
    """Write the status of a locked invoice, and in its history why it changed."""
    if invoice.status is was:
        return
    if not await store.save_status(tx, invoice, was=was):
        raise AssertionError(f"invoice {invoice.id} moved although it was locked")
    await note(
        tx,
        invoice.tenant_id,
        invoice.id,
        "status_changed",
        reason,
        details={"from": was, "to": invoice.status},
    )


async def claim_ends(
    tx: Transaction, limit: int, *, slack: timedelta, lease: timedelta
) -> list[tuple[UUID, UUID]]:
    """
    Claim invoices whose end came *slack* ago, as (tenant, invoice), for *lease*. Needs a system transaction.
    """
    return await store.claim_ends(tx, limit, slack=slack, lease=lease)


async def ended(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> None:
    """Look no more at the end of an invoice, unless it is still being collected."""
    await store.ended(tx, tenant_id, invoice_id)


async def reschedule(tx: Transaction, invoice: Invoice, changed: Sequence[Installment]) -> None:
    """Write new amounts of installments of a locked invoice; all of them still sum to its total."""
    await store.reschedule(tx, invoice.tenant_id, invoice.id, changed)


async def close_installments(tx: Transaction, invoice: Invoice, numbers: list[int]) -> None:
    """Note that installments of a locked invoice are paid in full."""
    if numbers:
        await store.close_installments(tx, invoice.tenant_id, invoice.id, numbers)


async def note(
    tx: Transaction,
    tenant_id: UUID,
    invoice_id: UUID,
    event: str,
    reason: str | None = None,
    *,
    details: Mapping[str, Any] = {},
    once_as: UUID | None = None,
) -> None:
    """Keep in an invoice's history that something happened; with *once_as* only the first time it does."""
    await store.note(
        tx, tenant_id, invoice_id, once_as or new_id(), event, reason, msgspec.json.encode(details).decode()
    )


async def history(tx: Transaction, tenant_id: UUID, invoice_id: UUID, *, limit: int) -> list[TimelineEntry]:
    """The newest *limit* notes about an invoice, newest first."""
    return await store.history(tx, tenant_id, invoice_id, limit=limit)


def warn_of_odd_taxes(invoice: Invoice) -> None:
    """
    Log what was accepted and deserves a look: a very high rate (FR-058), and a category that no tax rule knows.
    """
    for line in invoice.lines:
        if line.tax_rate > HIGH_TAX_RATE:
            log.warning(
                "tax rate over 0.27",
                invoice_id=str(invoice.id),
                line_item_id=str(line.id),
                tax_rate=str(line.tax_rate),
            )
        elif line.tax_category and not line.tax_rate and line.tax_basis is None:
            log.warning(
                "no tax for this category",
                invoice_id=str(invoice.id),
                line_item_id=str(line.id),
                tax_category=line.tax_category,
            )
