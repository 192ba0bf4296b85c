from __future__ import annotations

from piccolo.columns import UUID, Array, Bytea, Text, Timestamptz
from piccolo.table import Table

from paytrust.db import ENGINE


class ApiKeys(Table, tablename="api_keys", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    prefix = Text(default=None)
    lookup = Bytea(default=None)
    hash = Text(default=None)
    description = Text(default=None)
    scopes = Array(base_column=Text(), default=None)
    created_at = Timestamptz(default=None)
    revoked_at = Timestamptz(default=None, null=True)
