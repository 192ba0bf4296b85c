from __future__ import annotations

from typing import Any
from uuid import UUID

from paytrust.access import Scope
from paytrust.db import Record, Transaction, rows
from paytrust.keys.model import Key
from paytrust.keys.tables import ApiKeys


async def insert(tx: Transaction, key: Key, *, lookup: bytes, hash: str) -> Key:  # noqa: A002 - the column's name
    created_at = await tx.fetchval(
        "INSERT INTO paytrust.api_keys (tenant_id, id, prefix, lookup, hash, description, scopes)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING created_at",
        key.tenant_id,
        key.key_id,
        key.prefix,
        lookup,
        hash,
        key.description,
        list(key.scopes),
    )
    return Key(
        key_id=key.key_id,
        tenant_id=key.tenant_id,
        prefix=key.prefix,
        description=key.description,
        scopes=key.scopes,
        created_at=created_at,
        revoked_at=None,
    )


async def find(tx: Transaction, lookup: bytes) -> Record | None:
    """The live key with this HMAC, in whatever tenant."""
    return await tx.fetchrow("SELECT tenant_id, id, hash, scopes FROM paytrust.api_keys WHERE lookup = $1 AND revoked_at IS NULL", lookup)


async def page(_: Transaction, *, limit: int, after: UUID | None, tenant_id: UUID | None) -> list[Key]:
    """Oldest first: ids are ordered by time."""
    query = ApiKeys.select().order_by(ApiKeys.id).limit(limit)
    if after is not None:
        query = query.where(ApiKeys.id > after)
    if tenant_id is not None:
        query = query.where(ApiKeys.tenant_id == tenant_id)
    return [_key(row) for row in await rows(query)]


async def revoke(tx: Transaction, key_id: UUID) -> bool:
    """False when there is no such key. Revoking twice keeps the first time."""
    return bool(await tx.execute("UPDATE paytrust.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1", key_id))


def _key(row: dict[str, Any]) -> Key:
    return Key(
        key_id=row["id"],
        tenant_id=row["tenant_id"],
        prefix=row["prefix"],
        description=row["description"],
        scopes=[Scope(scope) for scope in row["scopes"]],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )
