from __future__ import annotations

from piccolo.columns import UUID, Array, BigInt, Bytea, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


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
    expires_at = Timestamptz(default=None, null=True)
    rotated_at = Timestamptz(default=None, null=True)
    allowed_addresses = Array(base_column=Text(), default=None)


class KeyAudit(Table, tablename="key_audit", schema="paytrust", db=ENGINE):
    id = UUID(primary_key=True, default=None)
    tenant_id = UUID(default=None, null=True)
    key_id = UUID(default=None, null=True)
    action = Text(default=None)
    reason = Text(default=None, null=True)
    actor = Text(default=None)
    address = Text(default=None, null=True)
    request_id = Text(default=None, null=True)
    old_hash = Text(default=None, null=True)
    times = BigInt(default=None)
    first_at = Timestamptz(default=None)
    at = Timestamptz(default=None)


class KeyPeppers(Table, tablename="key_peppers", schema="paytrust", db=ENGINE):
    id = UUID(primary_key=True, default=None)
    digest = Bytea(default=None)
    adopted_at = Timestamptz(default=None)
