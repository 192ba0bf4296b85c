from __future__ import annotations

from uuid import UUID

from paytrust.books import service as books
from paytrust.db import Database
from paytrust.invoices import service as invoices
from paytrust.invoices.model import Invoice
from paytrust.money import Money


class Installments:
    """Read the schedule of an invoice. A single payment is a schedule of one."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def schedule(self, tenant_id: UUID, invoice_id: UUID) -> Invoice:
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await invoices.get(tx, tenant_id, invoice_id)

    async def overpayment(self, tenant_id: UUID, invoice_id: UUID) -> tuple[Invoice, Money, Money]:
        """The invoice, everything paid for it, and what of that lies beyond its total (FR-065)."""
        async with self._db.transaction(tenant=tenant_id, isolation="REPEATABLE READ", readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            balances = await books.balances(tx, tenant_id, invoice_id)
        overpaid = Money(balances.overpaid, invoice.currency)
        return invoice, Money(sum(balances.paid.values()), invoice.currency) + overpaid, overpaid
