from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from paytrust.infra.db import Transaction, rows
from paytrust.tenants.model import Tenant
from paytrust.tenants.tables import Tenants


async def insert(tx: Transaction, tenant_id: UUID, name: str) -> Tenant:
    """Write a tenant down. One that an earlier try of the same request wrote stays as it is."""
    created_at: datetime | None = await tx.fetchval(
        "INSERT INTO paytrust.tenants (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING RETURNING created_at",
        tenant_id,
        name,
    )
    if created_at is None:
        created_at = await tx.fetchval("SELECT created_at FROM paytrust.tenants WHERE id = $1", tenant_id)
    return Tenant(tenant_id, name, created_at)


async def page(_: Transaction, *, limit: int, after: UUID | None) -> list[Tenant]:
    """Oldest first: ids are ordered by time."""
    query = Tenants.select().order_by(Tenants.id).limit(limit)
    if after is not None:
        query = query.where(Tenants.id > after)
    return [_tenant(row) for row in await rows(query)]


async def exists(_: Transaction, tenant_id: UUID) -> bool:
    return bool(await rows(Tenants.select(Tenants.id).where(Tenants.id == tenant_id)))


def _tenant(row: dict[str, Any]) -> Tenant:
    return Tenant(row["id"], row["name"], row["created_at"])
