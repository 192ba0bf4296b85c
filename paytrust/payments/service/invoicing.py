"""The merchant's verbs about invoices: each needs invoices and payments both."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import Limits
from paytrust.contract.taxes import TaxRuleFailed
from paytrust.errors import Busy, GatewayUnavailable, Invalid
from paytrust.idempotency.model import Claim
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.installments import model as installments
from paytrust.installments.model import AdjustInstallments
from paytrust.installments.service import rewrite
from paytrust.invoices import service as invoices
from paytrust.invoices.model import (
    CreateInvoice,
    CreateSupplementary,
    ExternalIdTaken,
    Invoice,
    InvoiceStatus,
    matches,
    move,
    supplementary,
)
from paytrust.invoices.service import Invoices
from paytrust.payments import model, store
from paytrust.payments.model import Attempt, ShownInvoice, new_attempt
from paytrust.payments.service.collection import Collection
from paytrust.payments.service.reading import show


class _Created(NamedTuple):
    """An invoice that was just written, and what its first payment needs."""

    invoice: Invoice
    account: Account
    attempt: Attempt


class Invoicing:
    """Create, supplement, adjust and cancel invoices."""

    def __init__(self, db: Database, gateways: Accounts, drafts: Invoices, collection: Collection) -> None:
        self._db = db
        self._gateways = gateways
        self._drafts = drafts
        self._collection = collection

    async def create(
        self, tenant_id: UUID, data: CreateInvoice, *, claim: Claim | None = None
    ) -> tuple[ShownInvoice, bool]:
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
        return await self._open(written, claim)

    async def supplement(
        self, tenant_id: UUID, original_id: UUID, data: CreateSupplementary, *, claim: Claim | None = None
    ) -> tuple[ShownInvoice, bool]:
        """
        Create an invoice that follows another, with its gateway account and currency; as `create` in
        everything else.

        Raises also `NotSupplementable`, saying which rule the original breaks.
        """
        payment_id = new_id()

        async def work(tx: Transaction) -> _Created | ShownInvoice:
            original = await invoices.share(tx, tenant_id, original_id)
            written = await self._write(
                tx, tenant_id, supplementary(original, data), claim, payment_id, original
            )
            if isinstance(written, _Created):
                details = {"invoice_id": written.invoice.id, "amount": written.invoice.total.major}
                await invoices.note(tx, tenant_id, original_id, "supplementary_created", details=details)
            return written

        return await self._open(await self._db.run(work, tenant=tenant_id), claim)

    async def _open(self, written: _Created | ShownInvoice, claim: Claim | None) -> tuple[ShownInvoice, bool]:
        if isinstance(written, _Created):
            invoices.warn_of_odd_taxes(written.invoice)
            return await self._collection.open_first(*written), True
        if written.status is InvoiceStatus.DRAFT:
            written = await self._collection.ensure_open(written.tenant_id, written.id)
        return written, claim is not None and written.id == claim.object_id

    async def _write(
        self,
        tx: Transaction,
        tenant_id: UUID,
        data: CreateInvoice,
        claim: Claim | None,
        payment_id: UUID,
        original: Invoice | None = None,
    ) -> _Created | ShownInvoice:
        """A new invoice with its first attempt, or the one that an earlier request has made."""
        account = await accounts.find(tx, data.gateway_id)
        now = await invoices.now(tx) if account is None else account.read_at
        invoice_id = claim.object_id if claim else new_id()
        usable = account if account is not None and account.disabled_at is None else None
        try:
            invoice = self._drafts.draft(
                data, usable, invoice_id=invoice_id, tenant_id=tenant_id, now=now, original=original
            )
        except (Invalid, TaxRuleFailed, GatewayUnavailable):
            # A repeat finds its invoice, although the same request would be refused by now.
            repeatable = claim is not None or data.external_id is not None
            existing = (
                await store.find_existing(tx, tenant_id, invoice_id, data.external_id) if repeatable else None
            )
            if existing is None or not matches(existing, data, original):
                raise
            return existing
        assert usable is not None, "without an account the draft is refused"
        attempt = new_attempt(invoice, invoice.installments[0], 1, payment_id=payment_id, now=now)
        if await store.create(tx, invoice, attempt):
            return _Created(invoice, usable, attempt)
        existing = await store.find_existing(tx, tenant_id, invoice_id, data.external_id)
        assert existing is not None, "a conflicting row is visible to the next statement"
        if existing.content_hash != invoice.content_hash:
            raise ExternalIdTaken(existing.external_id or "", existing.id)
        return existing

    async def cancel(self, tenant_id: UUID, invoice_id: UUID) -> ShownInvoice:
        """
        Cancel what is not paid yet; it expires at the gateway first. Harmless when it is cancelled already.

        Raises `IllegalTransition` when it is over, also when it was paid meanwhile, `Busy` while a page is being
        opened, or a `GatewayError`: then it stays as it is. Money that comes all the same is kept as overpayment.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
        move(invoice, InvoiceStatus.CANCELLED)
        if invoice.status is not InvoiceStatus.CANCELLED:
            await self._collection.end(
                tenant_id, invoice_id, InvoiceStatus.CANCELLED, reason="cancelled by the merchant"
            )
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await show(tx, tenant_id, invoice_id)

    async def adjust(self, tenant_id: UUID, invoice_id: UUID, data: AdjustInstallments) -> ShownInvoice:
        """
        Give unpaid installments new amounts. A page for an old amount expires at the gateway first, and a new
        one is opened.

        Raises `ScheduleClosed`, `InstallmentPaid`, `Invalid`, `Busy`, or a `GatewayError`: then nothing
        changed, though the page may be closed; it is made again on demand.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            account = await accounts.get(tx, invoice.account_id)
        limits = self._gateways.limits(account, invoice.currency)
        reopen = installments.changes_what_is_due(invoice, installments.adjust(invoice, data, limits))
        try:
            if reopen:
                await self._collection.expire_open_attempts(tenant_id, invoice_id)
            await self._db.run(
                lambda tx: self._adjust(tx, tenant_id, invoice_id, data, limits), tenant=tenant_id
            )
        finally:
            if reopen:
                await self._collection.reopen(tenant_id, invoice_id)
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await show(tx, tenant_id, invoice_id)

    async def _adjust(
        self, tx: Transaction, tenant_id: UUID, invoice_id: UUID, data: AdjustInstallments, limits: Limits
    ) -> None:
        invoice = await invoices.lock(tx, tenant_id, invoice_id)
        schedule = installments.adjust(invoice, data, limits)
        due = {installment.number: installment.due for installment in schedule}
        changed = {installment.number for installment in installments.changed(invoice, schedule)}
        attempts = await store.of_invoice(tx, tenant_id, invoice_id)
        # The invoice is locked, so no other can appear meanwhile.
        if any(
            attempt.status in model.LIVE
            and attempt.installment_number in changed
            and attempt.amount != due[attempt.installment_number]
            for attempt in attempts
        ):
            raise Busy("a payment page for the old amount was opened meanwhile; try again")
        await rewrite(tx, invoice, schedule)
