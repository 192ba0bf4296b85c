from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from paytrust.books.model import BoundedAccount, Transfer
from paytrust.infra.db import Record, Transaction

# The foreign keys of the transfers are checked when the statement ends, so the accounts may come with them.
_POST = """
WITH accounts AS (
    INSERT INTO paytrust.book_accounts (tenant_id, currency, name, invoice_id, installment_number)
    SELECT $1, currency, name, invoice_id, installment_number
    FROM jsonb_to_recordset($2) AS a(currency text, name text, invoice_id uuid, installment_number smallint)
    ON CONFLICT (tenant_id, currency, name) DO NOTHING
)
INSERT INTO paytrust.transfers (tenant_id, cause, cause_id, leg, currency, invoice_id, debit, credit, amount)
SELECT $1, cause, cause_id, leg, currency, invoice_id, debit, credit, amount
FROM jsonb_to_recordset($3)
    AS t(cause text, cause_id uuid, leg smallint, currency text, invoice_id uuid, debit text, credit text, amount bigint)
"""


async def post(
    tx: Transaction, tenant_id: UUID, accounts: Sequence[BoundedAccount], transfers: Sequence[Transfer]
) -> None:
    """
    Write the transfers, and the bounded accounts they need. A cause posted before is a unique violation.
    """
    opened = [
        {
            "currency": a.currency,
            "name": a.name,
            "invoice_id": a.invoice_id,
            "installment_number": a.installment_number,
        }
        for a in accounts
    ]
    written = [
        {
            "cause": t.cause,
            "cause_id": t.cause_id,
            "leg": t.leg,
            "currency": t.amount.currency,
            "invoice_id": t.invoice_id,
            "debit": t.debit,
            "credit": t.credit,
            "amount": t.amount.minor,
        }
        for t in transfers
    ]
    await tx.execute(
        _POST, tenant_id, msgspec.json.encode(opened).decode(), msgspec.json.encode(written).decode()
    )


async def overpaid(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> int:
    """The overpayment of an invoice, in minor units."""
    found: int | None = await tx.fetchval(
        "SELECT credits - debits FROM paytrust.book_accounts WHERE tenant_id = $1 AND invoice_id = $2 AND installment_number IS NULL",
        tenant_id,
        invoice_id,
    )
    return found or 0


async def unbalanced(tx: Transaction, tenant_id: UUID) -> list[Record]:
    """Bounded accounts whose kept totals differ from the sum of their transfers."""
    return await tx.fetch(
        """
        SELECT a.name, a.currency, a.debits, a.credits, coalesce(d.total, 0) AS posted_debits, coalesce(c.total, 0) AS posted_credits
        FROM paytrust.book_accounts a
        LEFT JOIN (SELECT currency, debit AS name, sum(amount) AS total FROM paytrust.transfers WHERE tenant_id = $1 GROUP BY 1, 2) d
            USING (currency, name)
        LEFT JOIN (SELECT currency, credit AS name, sum(amount) AS total FROM paytrust.transfers WHERE tenant_id = $1 GROUP BY 1, 2) c
            USING (currency, name)
        WHERE a.tenant_id = $1 AND (a.debits <> coalesce(d.total, 0) OR a.credits <> coalesce(c.total, 0))
        """,
        tenant_id,
    )
