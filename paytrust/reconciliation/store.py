from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from paytrust.infra.db import Record, Transaction
from paytrust.money import Money
from paytrust.reconciliation.model import Discrepancy, DiscrepancyKind


async def save(tx: Transaction, discrepancies: Sequence[Discrepancy]) -> None:
    """Keep them, once each however often they are seen. Needs a system transaction."""
    for discrepancy in discrepancies:
        await tx.execute(
            "INSERT INTO paytrust.differences (gateway_account_id, kind, reference, gateway_payment_id, tenant_id, ours, theirs, settled_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END)"
            " ON CONFLICT (gateway_account_id, kind, reference, gateway_payment_id) DO UPDATE"
            " SET ours = excluded.ours, theirs = excluded.theirs, last_seen_at = now(), settled_at = excluded.settled_at",
            discrepancy.account_id,
            discrepancy.kind,
            discrepancy.reference,
            discrepancy.gateway_payment_id,
            discrepancy.tenant_id,
            discrepancy.ours,
            discrepancy.theirs,
            discrepancy.resolved,
        )


async def found(tx: Transaction, account_id: UUID | None, *, limit: int) -> list[Discrepancy]:
    """The discrepancies, newest first. Needs a system transaction."""
    rows = await tx.fetch(
        "SELECT * FROM paytrust.differences WHERE $1::uuid IS NULL OR gateway_account_id = $1 ORDER BY last_seen_at DESC LIMIT $2",
        account_id,
        limit,
    )
    return [
        Discrepancy(
            account_id=row["gateway_account_id"],
            kind=DiscrepancyKind(row["kind"]),
            reference=row["reference"],
            gateway_payment_id=row["gateway_payment_id"],
            tenant_id=row["tenant_id"],
            ours=row["ours"],
            theirs=row["theirs"],
            resolved=row["settled_at"] is not None,
            seen_at=row["last_seen_at"],
        )
        for row in rows
    ]


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


async def received(
    tx: Transaction, tenant_id: UUID, account_id: UUID, gateway_payment_ids: Sequence[str]
) -> dict[str, Money]:
    """The amounts in our books of these gateway payments."""
    rows = await tx.fetch(
        "SELECT gateway_payment_id, amount, currency FROM paytrust.receipts"
        " WHERE tenant_id = $1 AND gateway_account_id = $2 AND gateway_payment_id = ANY($3::text[])",
        tenant_id,
        account_id,
        gateway_payment_ids,
    )
    return {row["gateway_payment_id"]: Money(row["amount"], row["currency"]) for row in rows}


async def made_between(
    tx: Transaction, account_id: UUID, since: datetime, until: datetime
) -> list[tuple[UUID, str, Money]]:
    """
    Attempts of [since, until) that the gateway should know: open and paid ones. Needs a system transaction.
    """
    rows = await tx.fetch(
        "SELECT tenant_id, reference, amount, currency FROM paytrust.payments"
        " WHERE gateway_account_id = $1 AND created_at >= $2 AND created_at < $3 AND status IN ('open', 'paid')",
        account_id,
        since,
        until,
    )
    return [(row["tenant_id"], row["reference"], Money(row["amount"], row["currency"])) for row in rows]
