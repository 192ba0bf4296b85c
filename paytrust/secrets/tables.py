from __future__ import annotations

from piccolo.columns import UUID, Bytea, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class DataKeys(Table, tablename="data_keys", schema="paytrust", db=ENGINE):
    tenant_id = UUID(default=None, null=True)
    scope = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    wrapped = Bytea(default=None, null=True)
    master_key = Text(default=None, null=True)
    created_at = Timestamptz(default=None)
    wrapped_at = Timestamptz(default=None)
    retired_at = Timestamptz(default=None, null=True)
