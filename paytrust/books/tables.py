from __future__ import annotations

from piccolo.columns import UUID, BigInt, SmallInt, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class BookAccounts(Table, tablename="book_accounts", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    currency = Text(default=None)
    name = Text(primary_key=True, default=None)
    invoice_id = UUID(default=None)
    installment_number = SmallInt(default=None, null=True)
    debits = BigInt(default=None)
    credits = BigInt(default=None)


class Transfers(Table, tablename="transfers", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    cause = Text(default=None)
    cause_id = UUID(primary_key=True, default=None)
    leg = SmallInt(default=None)
    currency = Text(default=None)
    invoice_id = UUID(default=None)
    debit = Text(default=None)
    credit = Text(default=None)
    amount = BigInt(default=None)
    posted_at = Timestamptz(default=None)
    bounded_debit = Text(default=None, null=True)
    bounded_credit = Text(default=None, null=True)
