from __future__ import annotations

from piccolo.columns import JSONB, UUID, BigInt, Boolean, SmallInt, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class Payments(Table, tablename="payments", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    invoice_id = UUID(default=None)
    installment_number = SmallInt(default=None)
    currency = Text(default=None)
    gateway_account_id = UUID(default=None)
    attempt = SmallInt(default=None)
    reference = Text(default=None)
    amount = BigInt(default=None)
    status = Text(default=None)
    gateway_payment_id = Text(default=None, null=True)
    payment_url = Text(default=None, null=True)
    instructions = JSONB(default=None, null=True)
    error_code = Text(default=None, null=True)
    error_detail = Text(default=None, null=True)
    created_at = Timestamptz(default=None)
    updated_at = Timestamptz(default=None)
    next_check_at = Timestamptz(default=None, null=True)
    live = Boolean(default=None)
    opened_at = Timestamptz(default=None, null=True)
    hint = Text(default=None, null=True)
    expires_at = Timestamptz(default=None, null=True)
    asked_at = Timestamptz(default=None, null=True)


class Receipts(Table, tablename="receipts", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    invoice_id = UUID(default=None)
    payment_id = UUID(default=None)
    currency = Text(default=None)
    gateway_account_id = UUID(default=None)
    gateway_payment_id = Text(default=None)
    amount = BigInt(default=None)
    paid_at = Timestamptz(default=None)
    received_at = Timestamptz(default=None)
    flag = Text(default=None, null=True)
