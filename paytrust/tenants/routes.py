from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from paytrust.api.pagination import DEFAULT_PAGE, Cursor, Limit, page_of
from paytrust.api.problems import problems
from paytrust.idempotency.routes import claim_of
from paytrust.tenants.model import CreateTenant, Tenant
from paytrust.tenants.service import Tenants


class TenantPage(msgspec.Struct):
    tenants: list[Tenant]
    next_cursor: str | None


@post("/tenants", summary="Create a tenant", opt={"access": "admin"}, responses=problems(400, 401, 413, 415))
async def create_tenant(
    data: JSONBody[CreateTenant], tenants: NamedDependency[Tenants], request: Request[Any, Any, Any]
) -> Tenant:
    """Create a merchant. Its keys and gateway accounts come next."""
    return await tenants.create(data, claim=claim_of(request))


@get("/tenants", summary="List tenants", opt={"access": "admin"}, responses=problems(400, 401))
async def list_tenants(
    tenants: NamedDependency[Tenants], limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> TenantPage:
    """List merchants, oldest first."""

    def read(most: int, after: UUID | None) -> Awaitable[list[Tenant]]:
        return tenants.page(limit=most, after=after)

    return TenantPage(*await page_of(read, lambda found: found.tenant_id, limit=limit, cursor=cursor))


HANDLERS = [create_tenant, list_tenants]
