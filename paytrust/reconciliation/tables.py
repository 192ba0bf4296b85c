from __future__ import annotations

from piccolo.columns import UUID, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class Discrepancies(Table, tablename="differences", schema="paytrust", db=ENGINE):
    gateway_account_id = UUID(default=None)
    kind = Text(default=None)
    reference = Text(primary_key=True, default=None)
    gateway_payment_id = Text(default=None)
    tenant_id = UUID(default=None, null=True)
    ours = Text(default=None)
    theirs = Text(default=None)
    first_seen_at = Timestamptz(default=None)
    last_seen_at = Timestamptz(default=None)
    settled_at = Timestamptz(default=None, null=True)
