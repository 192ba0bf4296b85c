from __future__ import annotations

from piccolo.columns import UUID, BigInt, SmallInt, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


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
