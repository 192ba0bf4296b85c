from __future__ import annotations

from piccolo.columns import JSONB, UUID, BigInt, Bytea, Numeric, SmallInt, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class Invoices(Table, tablename="invoices", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    external_id = Text(default=None, null=True)
    content_hash = Bytea(default=None)
    account_scope = UUID(default=None)
    gateway_account_id = UUID(default=None)
    gateway = Text(default=None)
    currency = Text(default=None)
    status = Text(default=None)
    subtotal = BigInt(default=None)
    tax = BigInt(default=None)
    fee = BigInt(default=None)
    total = BigInt(default=None)
    fee_percentage = Numeric(digits=(7, 6), default=None)
    fee_fixed = BigInt(default=None)
    description = Text(default=None, null=True)
    customer = JSONB(default=None)
    metadata = JSONB(default=None)
    success_url = Text(default=None, null=True)
    failure_url = Text(default=None, null=True)
    original_invoice_id = UUID(default=None, null=True)
    payment_initiated_at = Timestamptz(default=None, null=True)
    created_at = Timestamptz(default=None)
    updated_at = Timestamptz(default=None)
    expires_at = Timestamptz(default=None)
    fee_minimum = BigInt(default=None)
    fee_cap = BigInt(default=None, null=True)
    end_check_at = Timestamptz(default=None, null=True)


class LineItems(Table, tablename="line_items", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    invoice_id = UUID(default=None)
    number = SmallInt(default=None)
    id = UUID(primary_key=True, default=None)
    currency = Text(default=None)
    product_name = Text(default=None)
    quantity = BigInt(default=None)
    unit_price = BigInt(default=None)
    tax_rate = Numeric(digits=(5, 4), default=None)
    tax_category = Text(default=None, null=True)
    country_code = Text(default=None, null=True)
    subtotal = BigInt(default=None)
    tax = BigInt(default=None)
    tax_basis = JSONB(default=None, null=True)


class Installments(Table, tablename="installments", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    invoice_id = UUID(default=None)
    number = SmallInt(primary_key=True, default=None)
    currency = Text(default=None)
    due_at = Timestamptz(default=None)
    amount = BigInt(default=None)
    tax = BigInt(default=None)
    fee = BigInt(default=None)
    paid_at = Timestamptz(default=None, null=True)


class InvoiceHistory(Table, tablename="invoice_history", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    invoice_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    happened_at = Timestamptz(default=None)
    event = Text(default=None)
    reason = Text(default=None, null=True)
    details = JSONB(default=None)
