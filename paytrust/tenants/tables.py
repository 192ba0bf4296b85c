from __future__ import annotations

from piccolo.columns import UUID, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class Tenants(Table, tablename="tenants", schema="paytrust", db=ENGINE):
    id = UUID(primary_key=True, default=None)
    name = Text(default=None)
    created_at = Timestamptz(default=None)
