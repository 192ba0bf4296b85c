from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from paytrust.contract.gateways import GatewayPayment
from paytrust.infra.db import Record, Transaction
from paytrust.infra.statements import Filtered, Statement
from paytrust.infra.window import Due
from paytrust.invoices.model import Invoice
from paytrust.invoices.store import COLUMNS as INVOICE_COLUMNS
from paytrust.invoices.store import HEAD as INVOICE_HEAD
from paytrust.invoices.store import INSERT as INSERT_INVOICE
from paytrust.money import Money
from paytrust.payments.model import (
    Attempt,
    AttemptStatus,
    Check,
    InvoiceFilters,
    Receipt,
    ReceiptFlag,
    ShownInvoice,
)

# One statement, so that invoice, lines, schedule and the first attempt exist together or not at all.
_CREATE: Final = Statement(f"""
WITH {INSERT_INVOICE.text}, attempt AS (
    INSERT INTO paytrust.payments (tenant_id, invoice_id, currency, gateway_account_id, id, installment_number, attempt, reference, amount,
        status)
    SELECT i.tenant_id, i.id, i.currency, i.gateway_account_id, $payment_id, 1, 1, $reference, $due, 'creating' FROM invoice i
)
SELECT id FROM invoice
""")

_BESIDE = """
p.payment_url, p.instructions,
    ARRAY(SELECT r.flag FROM paytrust.receipts r
          WHERE r.tenant_id = i.tenant_id AND r.invoice_id = i.id AND r.flag IS NOT NULL
          UNION SELECT 'returned' FROM paytrust.invoice_history h
          WHERE h.tenant_id = i.tenant_id AND h.invoice_id = i.id AND h.event = 'payment_returned'
          ORDER BY 1) AS flags
FROM paytrust.invoices i
LEFT JOIN LATERAL (
    SELECT payment_url, instructions FROM paytrust.payments
    WHERE tenant_id = i.tenant_id AND invoice_id = i.id AND status = 'open' AND i.status IN ('draft', 'pending', 'partially_paid')
        AND (expires_at IS NULL OR expires_at > now())
    ORDER BY installment_number LIMIT 1
) p ON true
"""
_SHOWN = f"SELECT {INVOICE_COLUMNS.text}, {_BESIDE}"
_CONDITIONS: Final = {
    "before": "(i.created_at, i.id) < (SELECT b.created_at, b.id FROM paytrust.invoices b"
    " WHERE b.tenant_id = $tenant_id AND b.id = $before)",
    "status": "i.status = $status",
    "currency": "i.currency = $currency",
    "account_id": "i.gateway_account_id = $account_id",
    "external_id": "i.external_id = $external_id",
    "created_from": "i.created_at >= $created_from",
    "created_to": "i.created_at < $created_to",
    "original_id": "i.original_invoice_id = $original_id",
    # Flagged money is rare, so it leads to the invoices: to try the newest invoices until enough have the flag would be
    # to try them all.
    "flag": "i.id = ANY (ARRAY(SELECT r.invoice_id FROM paytrust.receipts r"
    " WHERE r.tenant_id = $tenant_id AND r.flag = $flag"
    " UNION ALL SELECT h.invoice_id FROM paytrust.invoice_history h"
    " WHERE h.tenant_id = $tenant_id AND h.event = 'payment_returned' AND $flag = 'returned'))",
}
_NEWEST = "ORDER BY i.created_at DESC, i.id DESC LIMIT $limit"
_PAGE: Final = Filtered(
    f"SELECT {INVOICE_HEAD.text}, {_BESIDE} WHERE i.tenant_id = $tenant_id", _CONDITIONS, _NEWEST
)
_PAGE_WITH_LINES: Final = Filtered(f"{_SHOWN} WHERE i.tenant_id = $tenant_id", _CONDITIONS, _NEWEST)

_SELECT = """
SELECT p.*, coalesce((SELECT sum(r.amount) FROM paytrust.receipts r
                      WHERE r.tenant_id = p.tenant_id AND r.invoice_id = p.invoice_id AND r.payment_id = p.id), 0)::bigint AS received
FROM paytrust.payments p
"""


async def create(tx: Transaction, invoice: Invoice, attempt: Attempt) -> bool:
    """
    Write the invoice and its first attempt. False when the tenant has this id or this external_id already.
    """
    values = {"payment_id": attempt.id, "reference": attempt.reference, "due": attempt.amount.minor}
    return await tx.fetchval(*_CREATE.bind(INSERT_INVOICE.values(invoice) | values)) is not None


async def show(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> ShownInvoice | None:
    row = await tx.fetchrow(_SHOWN + " WHERE i.tenant_id = $1 AND i.id = $2", tenant_id, invoice_id)
    return _shown(row) if row else None


async def find_existing(
    tx: Transaction, tenant_id: UUID, invoice_id: UUID, external_id: str | None
) -> ShownInvoice | None:
    """The invoice of an earlier request: it has this id, or this external_id."""
    row = await tx.fetchrow(
        _SHOWN + " WHERE i.tenant_id = $1 AND (i.id = $2 OR i.external_id = $3)",
        tenant_id,
        invoice_id,
        external_id,
    )
    return _shown(row) if row else None


async def page(
    tx: Transaction,
    tenant_id: UUID,
    filters: InvoiceFilters,
    *,
    limit: int,
    before: UUID | None,
    lines: bool,
) -> list[ShownInvoice]:
    """Newest first; *before* is the last id of the page before. Ids are ordered by time."""
    given: Mapping[str, Any] = msgspec.structs.asdict(filters)
    values = {**given, "tenant_id": tenant_id, "limit": limit, "before": before}
    if lines:
        rows = await tx.fetch(*_PAGE_WITH_LINES.bind(values))
    else:
        rows = await tx.fetch(*_PAGE.bind(values))
    return [_shown(row) for row in rows]


async def opened(tx: Transaction, attempt: Attempt, payment: GatewayPayment) -> bool:
    """
    Creating -> open; False when another process finished the attempt meanwhile (a webhook can be quicker than
    the answer).
    """
    return bool(
        await tx.execute(
            "UPDATE paytrust.payments SET status = 'open', opened_at = now(), gateway_payment_id = $3, payment_url = $4, instructions = $5, expires_at = $6,"
            " error_code = NULL, error_detail = NULL, updated_at = now(), next_check_at = least(next_check_at, now() + interval '5 minutes')"
            " WHERE tenant_id = $1 AND id = $2 AND status = 'creating'",
            attempt.tenant_id,
            attempt.id,
            payment.gateway_payment_id,
            payment.payment_url,
            msgspec.json.encode(payment.instructions).decode() if payment.instructions else None,
            payment.expires_at,
        )
    )


async def asked(tx: Transaction, attempt: Attempt) -> None:
    """Note that the gateway was asked about an open page, and had it."""
    await tx.execute(
        "UPDATE paytrust.payments SET asked_at = now() WHERE tenant_id = $1 AND id = $2",
        attempt.tenant_id,
        attempt.id,
    )


async def give_up(tx: Transaction, tenant_id: UUID, invoice_id: UUID, *, code: str, detail: str) -> None:
    """End every live attempt of a locked invoice, although its gateway was not heard; it is asked again later."""
    await tx.execute(
        "UPDATE paytrust.payments SET status = 'expired', error_code = $3, error_detail = left($4, 500), updated_at = now(),"
        " next_check_at = now() + interval '1 hour' WHERE tenant_id = $1 AND invoice_id = $2 AND live",
        tenant_id,
        invoice_id,
        code,
        detail,
    )


async def came_too_late(tx: Transaction, attempt: Attempt, payment: GatewayPayment) -> None:
    """Remember the page of an attempt that is over, until it is closed at the gateway."""
    await tx.execute(
        "UPDATE paytrust.payments SET status = CASE WHEN status = 'creating' THEN 'unknown' ELSE status END,"
        " gateway_payment_id = coalesce(gateway_payment_id, $3), updated_at = now(), next_check_at = now() + interval '1 minute'"
        " WHERE tenant_id = $1 AND id = $2 AND status <> 'paid'",
        attempt.tenant_id,
        attempt.id,
        payment.gateway_payment_id,
    )


async def any_live(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> bool:
    """Whether a payer may be able to pay something of this invoice."""
    found = await tx.fetchval(
        "SELECT id FROM paytrust.payments WHERE tenant_id = $1 AND invoice_id = $2 AND live LIMIT 1",
        tenant_id,
        invoice_id,
    )
    return found is not None


async def finish_attempt(
    tx: Transaction,
    attempt: Attempt,
    status: AttemptStatus,
    *,
    code: str | None = None,
    detail: str | None = None,
) -> bool:
    """
    Write how an attempt ended, unless it was paid meanwhile; False when that changes nothing or only repeats
    the last error.
    """
    return bool(
        await tx.fetchval(
            """
            UPDATE paytrust.payments p SET status = $3, error_code = $4, error_detail = left($5, 500), updated_at = now()
            FROM (SELECT id, error_code, error_detail FROM paytrust.payments WHERE tenant_id = $1 AND id = $2) was
            WHERE p.tenant_id = $1 AND p.id = was.id AND p.status <> 'paid'
            RETURNING (p.error_code, p.error_detail) IS DISTINCT FROM (was.error_code, was.error_detail)
            """,
            attempt.tenant_id,
            attempt.id,
            status,
            code,
            detail,
        )
    )


async def reclaim(tx: Transaction, attempt: Attempt) -> None:
    """Put a failed attempt back to work, under the lock of its invoice."""
    await tx.execute(
        "UPDATE paytrust.payments SET status = 'creating', updated_at = now() WHERE tenant_id = $1 AND id = $2",
        attempt.tenant_id,
        attempt.id,
    )


async def mark_unknown(tx: Transaction, attempt: Attempt, *, code: str, detail: str) -> None:
    """Whether it can still be paid is not known; unless it came to an end meanwhile."""
    await tx.execute(
        "UPDATE paytrust.payments SET status = 'unknown', error_code = $3, error_detail = left($4, 500), updated_at = now(),"
        " next_check_at = least(next_check_at, now() + interval '5 minutes') WHERE tenant_id = $1 AND id = $2 AND live",
        attempt.tenant_id,
        attempt.id,
        code,
        detail,
    )


async def insert(tx: Transaction, attempt: Attempt) -> None:
    await tx.execute(
        "INSERT INTO paytrust.payments (tenant_id, id, invoice_id, installment_number, currency, gateway_account_id, attempt, reference,"
        " amount, status) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'creating')",
        attempt.tenant_id,
        attempt.id,
        attempt.invoice_id,
        attempt.installment_number,
        attempt.amount.currency,
        attempt.account_id,
        attempt.attempt,
        attempt.reference,
        attempt.amount.minor,
    )


_DUE_CHECKS: Final = """
WITH RECURSIVE waiting (account_id) AS (
    (SELECT gateway_account_id FROM paytrust.payments WHERE next_check_at IS NOT NULL ORDER BY gateway_account_id LIMIT 1)
    UNION ALL
    SELECT (SELECT n.gateway_account_id FROM paytrust.payments n WHERE n.next_check_at IS NOT NULL AND n.gateway_account_id > w.account_id
            ORDER BY n.gateway_account_id LIMIT 1)
    FROM waiting w WHERE w.account_id IS NOT NULL
)
SELECT due.tenant_id, due.id, due.invoice_id, a.id AS account_id, a.gateway, due.next_check_at
FROM waiting JOIN paytrust.gateway_accounts a ON a.id = waiting.account_id
CROSS JOIN LATERAL (
    SELECT h.*, row_number() OVER (ORDER BY h.next_check_at) AS place FROM (
        SELECT tenant_id, id, invoice_id, next_check_at FROM paytrust.payments
        WHERE gateway_account_id = a.id AND next_check_at <= now() ORDER BY next_check_at LIMIT $3
    ) h
) due
WHERE a.id <> ALL($1::uuid[]) AND a.gateway <> ALL($2::text[])
ORDER BY due.place, due.next_check_at LIMIT $4
"""
"""Goes from account to account in the index, so that a pile of one account costs the others nothing."""


async def due_checks(
    tx: Transaction, *, but_accounts: list[UUID], but_gateways: list[str], of_account: int, limit: int
) -> list[Due]:
    """Attempts that are due for a look: every account's oldest first, then their second, and so on."""
    rows = await tx.fetch(_DUE_CHECKS, but_accounts, but_gateways, of_account, limit)
    return [
        Due(
            id=row["id"],
            tenant_id=row["tenant_id"],
            account_id=row["account_id"],
            gateway=row["gateway"],
            subject=row["invoice_id"],
            due_at=row["next_check_at"],
        )
        for row in rows
    ]


async def claim_check(tx: Transaction, due: Due, *, lease: timedelta) -> Check | None:
    """
    Claim one look, unless another worker was quicker; the claim of a process that dies ends after *lease*.
    """
    row = await tx.fetchrow(
        """
        UPDATE paytrust.payments SET next_check_at = now() + $3
        WHERE tenant_id = $1 AND id = (
            SELECT id FROM paytrust.payments WHERE tenant_id = $1 AND id = $2 AND next_check_at <= now() FOR UPDATE SKIP LOCKED
        )
        RETURNING tenant_id, invoice_id, id, next_check_at
        """,
        due.tenant_id,
        due.id,
        lease,
    )
    return (
        None if row is None else Check(row["tenant_id"], row["invoice_id"], row["id"], row["next_check_at"])
    )


async def checked(tx: Transaction, check: Check, *, next_at: datetime | None) -> None:
    """Say when to look again, None for never; unless the lease was lost, or a webhook asked for a look sooner."""
    await tx.execute(
        "UPDATE paytrust.payments SET next_check_at = $4::timestamptz + random() * interval '30 seconds'"
        " WHERE tenant_id = $1 AND id = $2 AND next_check_at = $3",
        check.tenant_id,
        check.payment_id,
        check.lease_until,
        next_at,
    )


async def latest(
    tx: Transaction, tenant_id: UUID, invoice_id: UUID, installment_number: int
) -> Attempt | None:
    """The newest attempt for an installment."""
    row = await tx.fetchrow(
        _SELECT
        + " WHERE p.tenant_id = $1 AND p.invoice_id = $2 AND p.installment_number = $3 ORDER BY p.attempt DESC LIMIT 1",
        tenant_id,
        invoice_id,
        installment_number,
    )
    return _attempt(row) if row else None


async def of_invoice(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> list[Attempt]:
    rows = await tx.fetch(
        _SELECT + " WHERE p.tenant_id = $1 AND p.invoice_id = $2 ORDER BY p.installment_number, p.attempt",
        tenant_id,
        invoice_id,
    )
    return [_attempt(row) for row in rows]


async def by_reference(tx: Transaction, account_id: UUID, reference: str) -> Attempt | None:
    """The attempt a gateway means. Unique per gateway account."""
    row = await tx.fetchrow(
        _SELECT + " WHERE p.gateway_account_id = $1 AND p.reference = $2", account_id, reference
    )
    return _attempt(row) if row else None


async def keep_hint(tx: Transaction, attempt: Attempt, hint: str) -> None:
    """Keep the id by which a webhook named the payment: some channels answer only to that."""
    await tx.execute(
        "UPDATE paytrust.payments SET hint = $3 WHERE tenant_id = $1 AND id = $2 AND hint IS DISTINCT FROM $3",
        attempt.tenant_id,
        attempt.id,
        hint,
    )


async def tenant_of_reference(tx: Transaction, account_id: UUID, reference: str) -> UUID | None:
    """
    Whose attempt it is. Needs a system transaction: a webhook on a shared account may be about any tenant.
    """
    found: UUID | None = await tx.fetchval(
        "SELECT tenant_id FROM paytrust.payments WHERE gateway_account_id = $1 AND reference = $2",
        account_id,
        reference,
    )
    return found


async def check_soon(
    tx: Transaction, tenant_id: UUID, account_id: UUID, reference: str, *, within: timedelta
) -> None:
    """Bring the next look at a live attempt forward."""
    await tx.execute(
        "UPDATE paytrust.payments SET next_check_at = least(next_check_at, now() + $4::interval)"
        " WHERE tenant_id = $1 AND gateway_account_id = $2 AND reference = $3 AND live",
        tenant_id,
        account_id,
        reference,
        within,
    )


async def insert_receipt(
    tx: Transaction,
    attempt: Attempt,
    payment: GatewayPayment,
    paid: Money,
    *,
    receipt_id: UUID,
    flag: ReceiptFlag | None,
) -> bool:
    """False when this money is already in the books, however it was announced."""
    written = await tx.fetchval(
        "INSERT INTO paytrust.receipts (tenant_id, id, invoice_id, payment_id, currency, gateway_account_id, gateway_payment_id, amount,"
        " paid_at, flag) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, now()), $10)"
        " ON CONFLICT (tenant_id, gateway_account_id, gateway_payment_id) DO NOTHING RETURNING true",
        attempt.tenant_id,
        receipt_id,
        attempt.invoice_id,
        attempt.id,
        paid.currency,
        attempt.account_id,
        payment.gateway_payment_id,
        paid.minor,
        payment.paid_at,
        flag,
    )
    return bool(written)


async def receipts_of(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> list[Receipt]:
    """The money that came for an invoice, in the order in which it was applied."""
    rows = await tx.fetch(
        "SELECT r.*, p.reference, p.installment_number FROM paytrust.receipts r"
        " JOIN paytrust.payments p ON p.tenant_id = r.tenant_id AND p.id = r.payment_id"
        " WHERE r.tenant_id = $1 AND r.invoice_id = $2 ORDER BY r.received_at, r.id",
        tenant_id,
        invoice_id,
    )
    return [
        Receipt(
            installment_number=row["installment_number"],
            reference=row["reference"],
            gateway_payment_id=row["gateway_payment_id"],
            amount=Money(row["amount"], row["currency"]),
            paid_at=row["paid_at"],
            received_at=row["received_at"],
            flag=ReceiptFlag(row["flag"]) if row["flag"] else None,
        )
        for row in rows
    ]


async def asked_for(
    tx: Transaction, account_ids: Sequence[UUID], references: Sequence[str]
) -> dict[str, tuple[UUID, Money]]:
    """Whose attempts these are, and what was asked. Needs a system transaction."""
    rows = await tx.fetch(
        "SELECT reference, tenant_id, amount, currency FROM paytrust.payments"
        " WHERE gateway_account_id = ANY($1::uuid[]) AND reference = ANY($2::text[])",
        account_ids,
        references,
    )
    return {row["reference"]: (row["tenant_id"], Money(row["amount"], row["currency"])) for row in rows}


def _shown(row: Record) -> ShownInvoice:
    return ShownInvoice.of(
        INVOICE_COLUMNS.read(row),
        payment_url=row["payment_url"],
        instructions=msgspec.json.decode(row["instructions"]) if row["instructions"] else None,
        flags=tuple(map(ReceiptFlag, row["flags"])),
    )


def _attempt(row: Record) -> Attempt:
    return Attempt(
        id=row["id"],
        tenant_id=row["tenant_id"],
        invoice_id=row["invoice_id"],
        installment_number=row["installment_number"],
        account_id=row["gateway_account_id"],
        attempt=row["attempt"],
        reference=row["reference"],
        amount=Money(row["amount"], row["currency"]),
        status=AttemptStatus(row["status"]),
        gateway_payment_id=row["gateway_payment_id"],
        hint=row["hint"],
        payment_url=row["payment_url"],
        instructions=msgspec.json.decode(row["instructions"]) if row["instructions"] else None,
        error_code=row["error_code"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        opened_at=row["opened_at"],
        expires_at=row["expires_at"],
        asked_at=row["asked_at"],
        received=Money(row["received"], row["currency"]),
    )
