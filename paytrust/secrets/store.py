from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from paytrust.infra.db import Record, Transaction


class Wrapped(msgspec.Struct, frozen=True):
    """A data key as the database keeps it; without *value* the scope seals with the master key itself."""

    scope: UUID
    id: UUID
    value: bytes | None


async def current(tx: Transaction, scope: UUID) -> Wrapped | None:
    """The key that seals for *scope*."""
    row = await tx.fetchrow(
        "SELECT scope, id, wrapped FROM paytrust.data_keys WHERE scope = $1 AND retired_at IS NULL", scope
    )
    return _wrapped(row) if row else None


async def insert(tx: Transaction, tenant_id: UUID | None, key_id: UUID, value: bytes) -> None:
    """Write a first key down. The one that another process wrote meanwhile stays."""
    await tx.execute(
        "INSERT INTO paytrust.data_keys (tenant_id, id, wrapped) VALUES ($1, $2, $3)"
        " ON CONFLICT (scope) WHERE retired_at IS NULL DO NOTHING",
        tenant_id,
        key_id,
        value,
    )


async def lock_under_others(
    tx: Transaction, master_key: str, after: tuple[UUID, UUID], limit: int
) -> list[Wrapped]:
    """
    Keys that another master key wraps, in order and locked: two who rotate at once wait for each other and
    share the work.
    """
    rows = await tx.fetch(
        "SELECT scope, id, wrapped FROM paytrust.data_keys WHERE master_key <> $1 AND (scope, id) > ($2, $3)"
        " ORDER BY scope, id LIMIT $4 FOR UPDATE",
        master_key,
        *after,
        limit,
    )
    return [_wrapped(row) for row in rows]


async def rewrap(tx: Transaction, key: Wrapped) -> None:
    await tx.execute(
        "UPDATE paytrust.data_keys SET wrapped = $3, wrapped_at = now() WHERE scope = $1 AND id = $2",
        key.scope,
        key.id,
        key.value,
    )


async def lock_replaceable(tx: Transaction, before: datetime | None, limit: int) -> list[Wrapped]:
    """Current keys made before that time, and scopes that seal with the master key itself."""
    rows = await tx.fetch(
        "SELECT scope, id, wrapped FROM paytrust.data_keys WHERE retired_at IS NULL AND (wrapped IS NULL OR created_at < $1)"
        " ORDER BY scope LIMIT $2 FOR UPDATE",
        before,
        limit,
    )
    return [_wrapped(row) for row in rows]


async def retire(tx: Transaction, key: Wrapped) -> None:
    await tx.execute(
        "UPDATE paytrust.data_keys SET retired_at = now() WHERE scope = $1 AND id = $2", key.scope, key.id
    )


async def clock(tx: Transaction) -> datetime:
    now: datetime = await tx.fetchval("SELECT now()")
    return now


async def propagation_left_s(tx: Transaction, propagation_s: float) -> float:
    """
    How many seconds ago it has to become until every process has heard of the latest replacement; 0: it has.
    """
    seconds = await tx.fetchval(
        "SELECT greatest(0, $1 - extract(epoch FROM clock_timestamp() - max(retired_at)))::float8 FROM paytrust.data_keys",
        propagation_s,
    )
    return float(seconds or 0)


async def counts(tx: Transaction) -> dict[str, int]:
    """How many data keys each master key wraps."""
    rows = await tx.fetch(
        "SELECT master_key, count(*) AS keys FROM paytrust.data_keys WHERE master_key IS NOT NULL GROUP BY master_key ORDER BY master_key"
    )
    return {row["master_key"]: row["keys"] for row in rows}


async def samples(tx: Transaction) -> list[tuple[str, Wrapped]]:
    """One data key of each master key."""
    rows = await tx.fetch(
        "SELECT DISTINCT ON (master_key) master_key, scope, id, wrapped FROM paytrust.data_keys"
        " WHERE master_key IS NOT NULL ORDER BY master_key, scope, id"
    )
    return [(row["master_key"], _wrapped(row)) for row in rows]


def _wrapped(row: Record) -> Wrapped:
    return Wrapped(row["scope"], row["id"], row["wrapped"])
