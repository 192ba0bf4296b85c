from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import NO_LIMITS
from paytrust.contract.taxes import TaxRule, TaxRuleFailed
from paytrust.errors import GatewayUnavailable, Invalid, NotFound
from paytrust.idempotency.model import Claim
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.invoices import model, store
from paytrust.invoices.model import (
    CreateInvoice,
    CreateSupplementary,
    ExternalIdTaken,
    Invoice,
    InvoiceStatus,
    ReceiptFlag,
    Terms,
    TimelineEntry,
)

HIGH_TAX_RATE: Final = Decimal("0.27")

log = logs.get_logger("paytrust.invoices")


class OpensPayments(Protocol):
    """What invoices need of payments, which lies to their right."""

    async def open_first(
        self, invoice: Invoice, account: Account, *, payment_id: UUID, now: datetime
    ) -> Invoice:
        """
        Open the payment whose attempt was written with the invoice. Raises a `GatewayError` after noting it.
        """
        ...

    async def ensure_open(self, tenant_id: UUID, invoice_id: UUID) -> Invoice:
        """Return the invoice with a live payment page for what is due next, making one when there is none."""
        ...

    async def expire_open_attempts(self, tenant_id: UUID, invoice_id: UUID) -> None:
        """Make every live attempt unpayable at its gateway; what was paid meanwhile is applied first."""
        ...


class Invoices:
    """Create, read and cancel invoices."""

    def __init__(
        self,
        db: Database,
        payments: OpensPayments,
        gateways: Accounts,
        *,
        tax_rules: Sequence[TaxRule] = (),
        insecure: bool = False,
    ) -> None:
        self._db = db
        self._gateways = gateways
        self._payments = payments
        self._tax_rules = tax_rules
        self._insecure = insecure

    async def create(
        self, tenant_id: UUID, data: CreateInvoice, *, claim: Claim | None = None
    ) -> tuple[Invoice, bool]:
        """
        Write the invoice down, then open its first payment; True when this request made it.

        The same external_id with the same content, or the same claim, gives the invoice that exists, and
        finishes opening its payment when that had failed. Raises `Invalid`, `ExternalIdTaken`, or a
        `GatewayError` (the invoice stays a draft).
        """
        payment_id = new_id()
        written = await self._db.run(
            lambda tx: self._write(tx, tenant_id, data, claim, payment_id), tenant=tenant_id
        )
        return await self._open(*written, payment_id, claim)

    async def supplement(
        self, tenant_id: UUID, original_id: UUID, data: CreateSupplementary, *, claim: Claim | None = None
    ) -> tuple[Invoice, bool]:
        """
        Create an invoice that follows another, with its gateway account and currency; as `create` in
        everything else.

        Raises also `NotSupplementable`, saying which rule the original breaks.
        """
        payment_id = new_id()

        async def work(tx: Transaction) -> tuple[Invoice, tuple[Account, datetime] | None]:
            original = await store.share(tx, tenant_id, original_id)
            if original is None:
                raise _not_found(original_id)
            written = await self._write(
                tx, tenant_id, model.supplementary(original, data), claim, payment_id, original
            )
            if written[1] is not None:
                await note(
                    tx,
                    tenant_id,
                    original_id,
                    "supplementary_created",
                    details={"invoice_id": written[0].id, "amount": written[0].total.major},
                )
            return written

        return await self._open(*await self._db.run(work, tenant=tenant_id), payment_id, claim)

    async def _open(
        self, invoice: Invoice, new: tuple[Account, datetime] | None, payment_id: UUID, claim: Claim | None
    ) -> tuple[Invoice, bool]:
        if new is not None:
            _warn_of_odd_taxes(invoice)
            account, now = new
            return await self._payments.open_first(invoice, account, payment_id=payment_id, now=now), True
        if invoice.status is InvoiceStatus.DRAFT:
            invoice = await self._payments.ensure_open(invoice.tenant_id, invoice.id)
        return invoice, claim is not None and invoice.id == claim.object_id

    async def _write(
        self,
        tx: Transaction,
        tenant_id: UUID,
        data: CreateInvoice,
        claim: Claim | None,
        payment_id: UUID,
        original: Invoice | None = None,
    ) -> tuple[Invoice, tuple[Account, datetime] | None]:
        """The invoice; when it is new also the account and the clock that its first payment needs."""
        account = await accounts.find(tx, data.gateway_id)
        now = account.read_at if account is not None else await store.now(tx)
        invoice_id = claim.object_id if claim else new_id()
        usable = account if account is not None and account.disabled_at is None else None
        try:
            limits = (
                self._gateways.limits(usable, data.currency)
                if usable is not None and data.currency in usable.fees
                else NO_LIMITS
            )
            terms = Terms(
                account=usable,
                now=now,
                new_id=new_id,
                limits=limits,
                tax_rules=self._tax_rules,
                insecure=self._insecure,
            )
            invoice = model.draft(data, terms, invoice_id=invoice_id, tenant_id=tenant_id, original=original)
        except (Invalid, TaxRuleFailed, GatewayUnavailable):
            repeatable = claim is not None or data.external_id is not None
            existing = (
                await store.find_existing(tx, tenant_id, invoice_id, data.external_id) if repeatable else None
            )
            if existing is None or not model.matches(existing, data, original):
                raise
            return (
                existing,
                None,
            )  # a repeat finds its invoice, although the same request would be refused by now
        assert usable is not None
        reference = model.payment_reference(invoice.id, 1, 1)
        if await store.insert(tx, invoice, payment_id=payment_id, reference=reference):
            return invoice, (usable, now)
        existing = await store.find_existing(tx, tenant_id, invoice_id, data.external_id)
        assert existing is not None, "a conflicting row is visible to the next statement"
        if existing.content_hash != invoice.content_hash:
            raise ExternalIdTaken(existing.external_id or "", existing.id)
        return existing, None

    async def get(self, tenant_id: UUID, invoice_id: UUID) -> Invoice:
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await get(tx, tenant_id, invoice_id)

    async def cancel(self, tenant_id: UUID, invoice_id: UUID) -> Invoice:
        """
        Cancel what is not paid yet; it expires at the gateway first. Harmless when it is cancelled already.

        Raises `IllegalTransition` when it is over, also when it was paid meanwhile, or a `GatewayError`: then
        it stays as it is. Money that comes all the same is kept as overpayment.
        """
        invoice = await self.get(tenant_id, invoice_id)
        model.move(invoice, InvoiceStatus.CANCELLED)
        if invoice.status is not InvoiceStatus.CANCELLED:
            await self._payments.expire_open_attempts(tenant_id, invoice_id)
        return await self._db.run(lambda tx: _cancel(tx, tenant_id, invoice_id), tenant=tenant_id)

    async def page(
        self,
        tenant_id: UUID,
        *,
        limit: int,
        before: UUID | None,
        status: InvoiceStatus | None = None,
        currency: str | None = None,
        account_id: UUID | None = None,
        external_id: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        original_id: UUID | None = None,
        flag: ReceiptFlag | None = None,
    ) -> list[Invoice]:
        """Newest first, after the invoice *before*; created in [created_from, created_to)."""
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await store.page(
                tx,
                tenant_id,
                limit=limit,
                before=before,
                status=status,
                currency=currency,
                account_id=account_id,
                external_id=external_id,
                created_from=created_from,
                created_to=created_to,
                original_id=original_id,
                flag=flag,
            )


async def get(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice:
    invoice = await store.find(tx, tenant_id, invoice_id)
    if invoice is None:
        raise _not_found(invoice_id)
    return invoice


def _not_found(invoice_id: UUID) -> NotFound:
    return NotFound(f"there is no invoice {invoice_id}")


async def lock(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice:
    """Read the invoice under its row lock, which every change to it and to its payments takes first."""
    invoice = await store.lock(tx, tenant_id, invoice_id)
    if invoice is None:
        raise _not_found(invoice_id)
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


async def _cancel(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice:
    invoice = await lock(tx, tenant_id, invoice_id)
    cancelled = model.move(invoice, InvoiceStatus.CANCELLED)
    await save(tx, cancelled, was=invoice.status, reason="cancelled by the merchant")
    return cancelled


async def close_installments(tx: Transaction, invoice: Invoice, numbers: list[int]) -> None:
    """Note that installments of a locked invoice are paid in full."""
    if numbers:
        await store.close_installments(tx, invoice.tenant_id, invoice.id, numbers)


def _warn_of_odd_taxes(invoice: Invoice) -> None:
    """
    Accepted, but somebody should look: a very high rate (FR-058), and a category that no tax rule knows.
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
