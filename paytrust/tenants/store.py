from __future__ import annotations

from datetime import datetime
from uuid import UUID

from paytrust.infra.db import Transaction
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
        (row,) = await tx.select(Tenants.select(Tenants.created_at).where(Tenants.id == tenant_id))
        created_at = row["created_at"]
    return Tenant(tenant_id, name, created_at)


async def page(tx: Transaction, *, limit: int, after: UUID | None) -> list[Tenant]:
    """Oldest first: ids are ordered by time."""
    query = Tenants.select(Tenants.id, Tenants.name, Tenants.created_at).order_by(Tenants.id).limit(limit)
    if after is not None:
        query = query.where(Tenants.id > after)
    return [Tenant(row["id"], row["name"], row["created_at"]) for row in await tx.select(query)]


async def exists(tx: Transaction, tenant_id: UUID) -> bool:
    return bool(await tx.select(Tenants.select(Tenants.id).where(Tenants.id == tenant_id)))
