from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from paytrust.accounts.model import Fee
from paytrust.contract.taxes import TaxBasis
from paytrust.infra.db import Record, Transaction
from paytrust.infra.statements import Columns, Writes
from paytrust.invoices.model import (
    Installment,
    Invoice,
    InvoiceStatus,
    LineItem,
    NewCustomer,
    TimelineEntry,
)
from paytrust.money import Money

_INSERT = """
invoice AS (
    INSERT INTO paytrust.invoices (tenant_id, id, external_id, content_hash, account_scope, gateway_account_id, gateway, currency, subtotal,
        tax, fee, total, fee_percentage, fee_fixed, fee_minimum, fee_cap, description, customer, metadata, success_url, failure_url,
        original_invoice_id, expires_at, end_check_at)
    VALUES ($tenant_id, $invoice_id, $external_id, $content_hash, $account_scope, $account_id, $gateway, $currency, $subtotal,
        $tax, $fee, $total, $fee_percentage, $fee_fixed, $fee_minimum, $fee_cap, $description, $customer, $metadata, $success_url, $failure_url,
        $original_invoice_id, $expires_at, $expires_at)
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, id, currency, gateway_account_id
), lines AS (
    INSERT INTO paytrust.line_items (tenant_id, invoice_id, currency, number, id, product_name, quantity, unit_price, tax_rate,
        tax_category, country_code, subtotal, tax, tax_basis)
    SELECT i.tenant_id, i.id, i.currency, l.* FROM invoice i, jsonb_to_recordset($lines) AS l(number smallint, id uuid, product_name text,
        quantity bigint, unit_price bigint, tax_rate numeric, tax_category text, country_code text, subtotal bigint, tax bigint,
        tax_basis jsonb)
), schedule AS (
    INSERT INTO paytrust.installments (tenant_id, invoice_id, currency, number, due_at, amount, tax, fee)
    SELECT i.tenant_id, i.id, i.currency, s.* FROM invoice i, jsonb_to_recordset($schedule)
        AS s(number smallint, due_at timestamptz, amount bigint, tax bigint, fee bigint)
)
"""

_LINES = """
    (SELECT jsonb_agg(jsonb_build_array(l.id, l.number, l.product_name, l.quantity, l.unit_price, l.tax_rate::text, l.tax_category,
            l.country_code, l.subtotal, l.tax, l.tax_basis) ORDER BY l.number)
     FROM paytrust.line_items l WHERE l.tenant_id = i.tenant_id AND l.invoice_id = i.id)
"""
_HEAD = """
i.*, now() AS read_at,
    (SELECT jsonb_agg(jsonb_build_array(s.number, s.due_at, s.amount, s.tax, s.fee, coalesce(s.amount - b.debits + b.credits, 0), s.paid_at) ORDER BY s.number)
     FROM paytrust.installments s
     LEFT JOIN paytrust.book_accounts b ON b.tenant_id = s.tenant_id AND b.invoice_id = s.invoice_id
        AND b.installment_number = s.number
     WHERE s.tenant_id = i.tenant_id AND s.invoice_id = i.id) AS schedule
"""
_COLUMNS = f"{_HEAD}, {_LINES} AS lines"
_FIND = f"SELECT {_COLUMNS} FROM paytrust.invoices i WHERE i.tenant_id = $1 AND i.id = $2"

_Lines = msgspec.json.Decoder(
    list[tuple[UUID, int, str, int, int, Decimal, str | None, str | None, int, int, TaxBasis | None]]
)
_Schedule = msgspec.json.Decoder(list[tuple[int, datetime, int, int, int, int, datetime | None]])


async def now(tx: Transaction) -> datetime:
    """The database's clock."""
    clock: datetime = await tx.fetchval("SELECT now()")
    return clock


async def find(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice | None:
    row = await tx.fetchrow(_FIND, tenant_id, invoice_id)
    return _invoice(row) if row else None


async def hold(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> bool:
    """Take the invoice's row lock, which every change to it and its payments takes first."""
    return await tx.lock("paytrust.invoices", tenant_id, invoice_id)


async def initiate(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> datetime | None:
    """Draft -> pending, only if the invoice is still a draft; from now on the database keeps it as it is."""
    at: datetime | None = await tx.fetchval(
        "UPDATE paytrust.invoices SET status = 'pending', payment_initiated_at = now(), updated_at = now(),"
        " end_check_at = coalesce(end_check_at, expires_at) WHERE tenant_id = $1 AND id = $2 AND status = 'draft' RETURNING payment_initiated_at",
        tenant_id,
        invoice_id,
    )
    return at


async def save_status(tx: Transaction, invoice: Invoice, *, was: InvoiceStatus) -> bool:
    """Write the new status, only if the invoice has not moved since it was read."""
    return bool(
        await tx.execute(
            "UPDATE paytrust.invoices SET status = $3, updated_at = now() WHERE tenant_id = $1 AND id = $2 AND status = $4",
            invoice.tenant_id,
            invoice.id,
            invoice.status,
            was,
        )
    )


async def claim_ends(
    tx: Transaction, limit: int, *, slack: timedelta, lease: timedelta
) -> list[tuple[UUID, UUID]]:
    """
    Claim invoices whose end has come, as (tenant, invoice); the claim of a process that dies ends after *lease*.
    """
    rows = await tx.fetch(
        """
        UPDATE paytrust.invoices i SET end_check_at = now() + $3
        FROM (
            SELECT tenant_id, id FROM paytrust.invoices WHERE end_check_at <= now() - $2::interval
            ORDER BY end_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) due
        WHERE i.tenant_id = due.tenant_id AND i.id = due.id
        RETURNING i.tenant_id, i.id
        """,
        limit,
        slack,
        lease,
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def ended(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> None:
    """Look no more at the end of an invoice, unless it is still being collected."""
    await tx.execute(
        "UPDATE paytrust.invoices SET end_check_at = NULL WHERE tenant_id = $1 AND id = $2"
        " AND status NOT IN ('pending', 'partially_paid')",
        tenant_id,
        invoice_id,
    )


async def close_installments(tx: Transaction, tenant_id: UUID, invoice_id: UUID, numbers: list[int]) -> None:
    """Note when installments were paid in full; the first time counts."""
    await tx.execute(
        "UPDATE paytrust.installments SET paid_at = coalesce(paid_at, now())"
        " WHERE tenant_id = $1 AND invoice_id = $2 AND number = ANY($3::smallint[])",
        tenant_id,
        invoice_id,
        numbers,
    )


async def reschedule(
    tx: Transaction, tenant_id: UUID, invoice_id: UUID, changed: Iterable[Installment]
) -> None:
    """
    Write new amounts. One statement, because the database checks after each that they still sum to the
    invoice.
    """
    await tx.execute(
        "UPDATE paytrust.installments i SET amount = p.amount, tax = p.tax, fee = p.fee"
        " FROM jsonb_to_recordset($3) AS p(number smallint, amount bigint, tax bigint, fee bigint)"
        " WHERE i.tenant_id = $1 AND i.invoice_id = $2 AND i.number = p.number",
        tenant_id,
        invoice_id,
        _json([_installment_out(installment) for installment in changed]),
    )


async def share(tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> Invoice | None:
    """Read the invoice and keep it from changing until this transaction ends."""
    held = await tx.fetchval(
        "SELECT id FROM paytrust.invoices WHERE tenant_id = $1 AND id = $2 FOR SHARE", tenant_id, invoice_id
    )
    return await find(tx, tenant_id, invoice_id) if held else None


async def note(
    tx: Transaction,
    tenant_id: UUID,
    invoice_id: UUID,
    moment_id: UUID,
    event: str,
    reason: str | None,
    details: str,
) -> None:
    await tx.execute(
        "INSERT INTO paytrust.invoice_history (tenant_id, invoice_id, id, event, reason, details) VALUES ($1, $2, $3, $4, left($5, 500), $6)"
        " ON CONFLICT DO NOTHING",
        tenant_id,
        invoice_id,
        moment_id,
        event,
        reason,
        details,
    )


async def history(tx: Transaction, tenant_id: UUID, invoice_id: UUID, *, limit: int) -> list[TimelineEntry]:
    """The newest *limit* notes, newest first."""
    rows = await tx.fetch(
        "SELECT happened_at, event, reason, details FROM paytrust.invoice_history WHERE tenant_id = $1 AND invoice_id = $2"
        " ORDER BY id DESC LIMIT $3",
        tenant_id,
        invoice_id,
        limit,
    )
    return [
        TimelineEntry(
            at=row["happened_at"],
            event=row["event"],
            reason=row["reason"],
            details=msgspec.json.decode(row["details"]),
        )
        for row in rows
    ]


def _values(invoice: Invoice) -> dict[str, Any]:
    return {
        "tenant_id": invoice.tenant_id,
        "invoice_id": invoice.id,
        "external_id": invoice.external_id,
        "content_hash": invoice.content_hash,
        "account_scope": invoice.account_scope,
        "account_id": invoice.account_id,
        "gateway": invoice.gateway,
        "currency": invoice.currency,
        "subtotal": invoice.subtotal.minor,
        "tax": invoice.tax.minor,
        "fee": invoice.fee.minor,
        "total": invoice.total.minor,
        "fee_percentage": invoice.fee_terms.percentage,
        "fee_fixed": invoice.fee_terms.fixed.minor,
        "fee_minimum": invoice.fee_terms.minimum.minor,
        "fee_cap": None if invoice.fee_terms.cap is None else invoice.fee_terms.cap.minor,
        "description": invoice.description,
        "customer": _json(invoice.customer),
        "metadata": _json(invoice.metadata),
        "success_url": invoice.success_url,
        "failure_url": invoice.failure_url,
        "original_invoice_id": invoice.original_invoice_id,
        "expires_at": invoice.expires_at,
        "lines": _json([_line_out(line) for line in invoice.lines]),
        "schedule": _json([_installment_out(installment) for installment in invoice.installments]),
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _line_out(line: LineItem) -> dict[str, Any]:
    return {
        "number": line.number,
        "id": line.id,
        "product_name": line.product_name,
        "quantity": line.quantity,
        "unit_price": line.unit_price.minor,
        "tax_rate": line.tax_rate,
        "tax_category": line.tax_category,
        "country_code": line.country_code,
        "subtotal": line.subtotal.minor,
        "tax": line.tax.minor,
        "tax_basis": line.tax_basis,
    }


def _installment_out(installment: Installment) -> dict[str, Any]:
    return {
        "number": installment.number,
        "due_at": installment.due_at,
        "amount": installment.amount.minor,
        "tax": installment.tax.minor,
        "fee": installment.fee.minor,
    }


def _invoice(row: Record) -> Invoice:
    currency: str = row["currency"]
    return Invoice(
        id=row["id"],
        tenant_id=row["tenant_id"],
        external_id=row["external_id"],
        content_hash=row["content_hash"],
        account_id=row["gateway_account_id"],
        account_scope=row["account_scope"],
        gateway=row["gateway"],
        currency=currency,
        status=InvoiceStatus(row["status"]),
        subtotal=Money(row["subtotal"], currency),
        tax=Money(row["tax"], currency),
        fee=Money(row["fee"], currency),
        total=Money(row["total"], currency),
        fee_terms=Fee.in_minor_units(
            currency, row["fee_percentage"], row["fee_fixed"], row["fee_minimum"], row["fee_cap"]
        ),
        description=row["description"],
        customer=msgspec.json.decode(row["customer"], type=NewCustomer),
        metadata=msgspec.json.decode(row["metadata"], type=dict[str, str]),
        success_url=row["success_url"],
        failure_url=row["failure_url"],
        original_invoice_id=row["original_invoice_id"],
        payment_initiated_at=row["payment_initiated_at"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        read_at=row["read_at"],
        lines=tuple(_line(currency, *line) for line in _Lines.decode(row["lines"])),
        installments=tuple(
            _installment(currency, *installment) for installment in _Schedule.decode(row["schedule"])
        ),
    )


def _line(
    currency: str,
    id_: UUID,
    number: int,
    name: str,
    quantity: int,
    price: int,
    rate: Decimal,
    category: str | None,
    country: str | None,
    subtotal: int,
    tax: int,
    basis: TaxBasis | None,
) -> LineItem:
    return LineItem(
        id=id_,
        number=number,
        product_name=name,
        quantity=quantity,
        unit_price=Money(price, currency),
        tax_rate=rate,
        tax_category=category,
        country_code=country,
        subtotal=Money(subtotal, currency),
        tax=Money(tax, currency),
        tax_basis=basis,
    )


def _installment(
    currency: str,
    number: int,
    due_at: datetime,
    amount: int,
    tax: int,
    fee: int,
    paid: int,
    paid_at: datetime | None,
) -> Installment:
    return Installment(
        number=number,
        due_at=due_at,
        amount=Money(amount, currency),
        tax=Money(tax, currency),
        fee=Money(fee, currency),
        paid=Money(paid, currency),
        paid_at=paid_at,
    )


INSERT: Final = Writes(_INSERT, _values)
"""
An invoice with its lines and its schedule. A higher room's part follows in the same statement, from
`invoice(tenant_id, id, currency, gateway_account_id)`: no row when the tenant has this id or external_id already.
"""
HEAD: Final = Columns(f"{_HEAD}, '[]'::jsonb AS lines", _invoice)
"""Of `paytrust.invoices i`: the invoice without its lines, for lists."""
COLUMNS: Final = Columns(_COLUMNS, _invoice)
"""Of `paytrust.invoices i`: the invoice with its lines and its schedule, and what the books have credited to it."""
