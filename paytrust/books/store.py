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
    """What came beyond an invoice's total, in minor units."""
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


async def disagreements(tx: Transaction, tenant_id: UUID) -> list[Record]:
    """
    Invoices whose status differs from what the books say.

    `issued` is what the books were told the invoice is worth, `owed` what is still due on its installments,
    `received` what its receipts sum to, `overpaid` what of that lies beyond the total.
    """
    return await tx.fetch(
        """
        WITH books AS (
            SELECT invoice_id, sum(debits - credits) FILTER (WHERE installment_number IS NOT NULL) AS owed,
                   coalesce(sum(credits - debits) FILTER (WHERE installment_number IS NULL), 0) AS overpaid
            FROM paytrust.book_accounts WHERE tenant_id = $1 GROUP BY invoice_id
        ), posted AS (
            SELECT invoice_id, sum(amount) AS issued FROM paytrust.transfers WHERE tenant_id = $1 AND cause = 'issue' GROUP BY invoice_id
        ), money AS (
            SELECT invoice_id, sum(amount) AS received FROM paytrust.receipts WHERE tenant_id = $1 GROUP BY invoice_id
        ), parts AS (
            SELECT invoice_id, sum(amount) AS scheduled, sum(tax) AS tax, sum(fee) AS fee FROM paytrust.installments
            WHERE tenant_id = $1 GROUP BY invoice_id
        )
        SELECT i.id, i.status, i.total, p.scheduled, t.issued, b.owed, coalesce(b.overpaid, 0) AS overpaid,
               coalesce(m.received, 0) AS received
        FROM paytrust.invoices i
        JOIN parts p ON p.invoice_id = i.id
        LEFT JOIN posted t ON t.invoice_id = i.id
        LEFT JOIN books b ON b.invoice_id = i.id
        LEFT JOIN money m ON m.invoice_id = i.id
        CROSS JOIN LATERAL (SELECT i.total - coalesce(b.owed, i.total) AS paid) AS x
        WHERE i.tenant_id = $1 AND NOT (
            p.scheduled = i.total AND p.tax = i.tax AND p.fee = i.fee
            AND coalesce(m.received, 0) = x.paid + coalesce(b.overpaid, 0)
            AND (t.issued IS NULL) = (i.payment_initiated_at IS NULL)
            AND (t.issued IS NULL OR t.issued = i.total)
            AND (i.status = 'paid') = (x.paid = i.total)
            AND (i.status <> 'partially_paid' OR x.paid BETWEEN 1 AND i.total - 1)
        )
        """,
        tenant_id,
    )


async def misscheduled(tx: Transaction, tenant_id: UUID) -> list[Record]:
    """
    Installments whose amount differs from what the books were told they owe, or that are marked paid and are
    not, or the reverse.
    """
    return await tx.fetch(
        """
        WITH told AS (
            SELECT name, sum(amount) AS claim FROM (
                SELECT debit AS name, amount FROM paytrust.transfers WHERE tenant_id = $1 AND cause IN ('issue', 'adjust')
                UNION ALL
                SELECT credit, -amount FROM paytrust.transfers WHERE tenant_id = $1 AND cause = 'adjust'
            ) AS legs GROUP BY name
        )
        SELECT s.invoice_id, s.number, s.amount, t.claim, a.debits - a.credits AS due, s.paid_at
        FROM paytrust.installments s
        JOIN paytrust.book_accounts a ON a.tenant_id = s.tenant_id AND a.invoice_id = s.invoice_id AND a.installment_number = s.number
        LEFT JOIN told t ON t.name = a.name
        WHERE s.tenant_id = $1 AND (t.claim IS DISTINCT FROM s.amount OR (s.paid_at IS NULL) <> (a.debits > a.credits))
        """,
        tenant_id,
    )
