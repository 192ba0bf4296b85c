from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from paytrust.books import store
from paytrust.books.model import BoundedAccount, Transfer
from paytrust.infra.db import Database, Transaction


class Mistake(msgspec.Struct, frozen=True):
    """Something the books do not agree with, in words."""

    what: str


async def post(
    tx: Transaction, tenant_id: UUID, accounts: Sequence[BoundedAccount], transfers: Sequence[Transfer]
) -> None:
    """
    Post transfers, opening the bounded accounts they touch. The database refuses to credit an installment too
    much.
    """
    await store.post(tx, tenant_id, accounts, transfers)


async def overpaid(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> int:
    """What came beyond an invoice's total, in minor units."""
    return await store.overpaid(tx, tenant_id, invoice_id)


async def mistakes(tx: Transaction, tenant_id: UUID) -> list[Mistake]:
    """Recompute every balance and status of a tenant from its transfers. Empty means: all agree."""
    totals = await store.unbalanced(tx, tenant_id)
    invoices = await store.disagreements(tx, tenant_id)
    parts = await store.misscheduled(tx, tenant_id)
    return [
        *(Mistake(f"account totals differ from their transfers: {dict(row)}") for row in totals),
        *(Mistake(f"invoice and books disagree: {dict(row)}") for row in invoices),
        *(Mistake(f"installment and books disagree: {dict(row)}") for row in parts),
    ]


class Books:
    """Proofs over the whole ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def verify(self, tenant_id: UUID) -> list[Mistake]:
        """What `mistakes` finds, in one snapshot."""
        async with self._db.transaction(
            tenant=tenant_id, isolation="REPEATABLE READ", readonly=True, statement_timeout_ms=600_000
        ) as tx:
            return await mistakes(tx, tenant_id)
