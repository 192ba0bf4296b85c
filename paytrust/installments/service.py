from __future__ import annotations

from typing import Protocol
from uuid import UUID

from paytrust.accounts import service as accounts
from paytrust.accounts.service import Accounts
from paytrust.books import service as books
from paytrust.contract.gateways import Limits
from paytrust.errors import Busy, Conflict, GatewayError
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.installments import model, store
from paytrust.installments.model import AdjustInstallments
from paytrust.invoices import service as invoices
from paytrust.invoices.model import Installment, Invoice
from paytrust.money import Money

log = logs.get_logger("paytrust.installments")


class MovesPayments(Protocol):
    """What installments need of payments, which lies to their right."""

    async def asked(self, tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> dict[int, Money]:
        """What live attempts of a locked invoice ask for, by installment number."""
        ...

    async def ensure_open(self, tenant_id: UUID, invoice_id: UUID) -> Invoice:
        """Return the invoice with a live payment page for what is due next, making one when there is none."""
        ...

    async def expire_open_attempts(self, tenant_id: UUID, invoice_id: UUID) -> None:
        """Make every live attempt unpayable at its gateway; what was paid meanwhile is applied first."""
        ...


class Installments:
    """Read and change the schedule of an invoice. A single payment is a schedule of one."""

    def __init__(self, db: Database, payments: MovesPayments, gateways: Accounts) -> None:
        self._db = db
        self._payments = payments
        self._gateways = gateways

    async def schedule(self, tenant_id: UUID, invoice_id: UUID) -> Invoice:
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await invoices.get(tx, tenant_id, invoice_id)

    async def adjust(self, tenant_id: UUID, invoice_id: UUID, data: AdjustInstallments) -> Invoice:
        """
        Give unpaid installments new amounts. A page for an old amount expires at the gateway first, and a new
        one is opened.

        Raises `ScheduleClosed`, `InstallmentPaid`, `Invalid`, `Busy`, or a `GatewayError`: then nothing
        changed, though the page may be closed; it is made again on demand.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            limits = await self._limits(tx, invoice)
        reopen = _asks_otherwise(invoice, model.adjust(invoice, data, limits))
        try:
            if reopen:
                await self._payments.expire_open_attempts(tenant_id, invoice_id)
            await self._db.run(
                lambda tx: self._adjust(tx, tenant_id, invoice_id, data, limits), tenant=tenant_id
            )
        finally:
            if reopen:
                await self._reopen(tenant_id, invoice_id)
        return await self.schedule(tenant_id, invoice_id)

    async def _limits(self, tx: Transaction, invoice: Invoice) -> Limits:
        """What one payment of the invoice may be at its gateway."""
        return self._gateways.limits(await accounts.get(tx, invoice.account_id), invoice.currency)

    async def _adjust(
        self, tx: Transaction, tenant_id: UUID, invoice_id: UUID, data: AdjustInstallments, limits: Limits
    ) -> None:
        invoice = await invoices.lock(tx, tenant_id, invoice_id)
        schedule = model.adjust(invoice, data, limits)
        changed = [new for old, new in zip(invoice.installments, schedule, strict=True) if new != old]
        asked = await self._payments.asked(tx, tenant_id, invoice_id)
        if any(
            installment.number in asked and asked[installment.number] != installment.due
            for installment in changed
        ):
            raise Busy("a payment page for the old amount was opened meanwhile; try again")
        if not changed:
            return
        transfers = model.moves(invoice, schedule, adjustment_id=new_id())
        await store.save(tx, tenant_id, invoice_id, changed)
        await books.post(tx, tenant_id, [], transfers)
        await invoices.close_installments(
            tx, invoice, [installment.number for installment in changed if installment.due.minor == 0]
        )
        await invoices.note(
            tx,
            tenant_id,
            invoice_id,
            "schedule_adjusted",
            details={
                "from": [installment.amount.major for installment in invoice.installments],
                "to": [installment.amount.major for installment in schedule],
            },
        )

    async def _reopen(self, tenant_id: UUID, invoice_id: UUID) -> None:
        """Open the page of what is due next. Where that fails it is made on demand."""
        try:
            await self._payments.ensure_open(tenant_id, invoice_id)
        except (GatewayError, Conflict) as exc:
            log.warning("the next payment page was not made", invoice_id=str(invoice_id), reason=exc.detail)

    async def overpayment(self, tenant_id: UUID, invoice_id: UUID) -> tuple[Invoice, Money, Money]:
        """The invoice, everything paid for it, and what of that lies beyond its total (FR-065)."""
        async with self._db.transaction(tenant=tenant_id, isolation="REPEATABLE READ", readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            overpaid = Money(await books.overpaid(tx, tenant_id, invoice_id), invoice.currency)
        return (
            invoice,
            Money(sum(installment.paid.minor for installment in invoice.installments), invoice.currency)
            + overpaid,
            overpaid,
        )


def _asks_otherwise(invoice: Invoice, schedule: tuple[Installment, ...]) -> bool:
    """Whether what is due next, and so its payment page, changes."""
    due_next = invoice.due_next
    return due_next is not None and schedule[due_next.number - 1].amount != due_next.amount
