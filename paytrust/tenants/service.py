from __future__ import annotations

from uuid import UUID

from paytrust.errors import NotFound
from paytrust.idempotency.model import Claim
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.tenants import store
from paytrust.tenants.model import CreateTenant, Tenant


class Tenants:
    """Administration of merchants."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, data: CreateTenant, *, claim: Claim | None = None) -> Tenant:
        async with self._db.transaction(system=True) as tx:
            return await store.insert(tx, claim.object_id if claim else new_id(), data.name)

    async def page(self, *, limit: int, after: UUID | None) -> list[Tenant]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.page(tx, limit=limit, after=after)


async def require(tx: Transaction, tenant_id: UUID) -> None:
    """Raise `NotFound` unless there is such a tenant."""
    if not await store.exists(tx, tenant_id):
        raise NotFound(f"there is no tenant {tenant_id}")
