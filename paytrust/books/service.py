from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from paytrust.books import store
from paytrust.books.model import BoundedAccount, Mistake, Transfer
from paytrust.infra.db import Transaction


async def post(
    tx: Transaction, tenant_id: UUID, accounts: Sequence[BoundedAccount], transfers: Sequence[Transfer]
) -> None:
    """
    Post transfers, opening the bounded accounts they touch. The database refuses to credit an installment too
    much.
    """
    await store.post(tx, tenant_id, accounts, transfers)


async def overpaid(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> int:
    """The overpayment of an invoice, in minor units."""
    return await store.overpaid(tx, tenant_id, invoice_id)


async def mistakes(tx: Transaction, tenant_id: UUID) -> list[Mistake]:
    """Recompute every balance of a tenant from its transfers. Empty means: all agree."""
    return [
        Mistake(f"account totals differ from their transfers: {dict(row)}")
        for row in await store.unbalanced(tx, tenant_id)
    ]
