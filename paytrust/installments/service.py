from __future__ import annotations

from uuid import UUID

from paytrust.books import service as books
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.installments import model
from paytrust.invoices import service as invoices
from paytrust.invoices.model import Installment, Invoice
from paytrust.money import Money


class Installments:
    """Read what the schedule of an invoice has brought. A single payment is a schedule of one."""

    def __init__(self, db: Database) -> None:
        self._db = db

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


async def rewrite(tx: Transaction, invoice: Invoice, schedule: tuple[Installment, ...]) -> None:
    """Give a locked invoice the schedule that `model.adjust` has made: its rows, the books, its history."""
    changed = model.changed(invoice, schedule)
    if not changed:
        return
    transfers = model.moves(invoice, schedule, adjustment_id=new_id())
    await invoices.reschedule(tx, invoice, changed)
    await books.post(tx, invoice.tenant_id, [], transfers)
    await invoices.close_installments(
        tx, invoice, [installment.number for installment in changed if installment.due.minor == 0]
    )
    await invoices.note(
        tx,
        invoice.tenant_id,
        invoice.id,
        "schedule_adjusted",
        details={
            "from": [installment.amount.major for installment in invoice.installments],
            "to": [installment.amount.major for installment in schedule],
        },
    )
