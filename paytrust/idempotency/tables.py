from __future__ import annotations

from piccolo.columns import UUID, BigInt, Bytea, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class IdempotencyKeys(Table, tablename="idempotency_keys", schema="paytrust", db=ENGINE):
    scope = UUID(default=None)
    key = Text(primary_key=True, default=None)
    fingerprint = Bytea(default=None)
    object_id = UUID(default=None)
    attempt = BigInt(default=None)
    lease_until = Timestamptz(default=None)
    answer = Bytea(default=None, null=True)
    created_at = Timestamptz(default=None)
