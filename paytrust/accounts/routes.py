from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from paytrust.accounts.model import AccountOut, CreateAccount, UpdateAccount
from paytrust.accounts.service import Accounts
from paytrust.api.pagination import DEFAULT_PAGE, Cursor, Limit, page_of
from paytrust.api.problems import problems
from paytrust.idempotency.routes import claim_of


class AccountPage(msgspec.Struct):
    gateway_accounts: list[AccountOut]
    next_cursor: str | None


@post(
    "/gateway-accounts",
    summary="Create a gateway account",
    opt={"access": "admin"},
    responses=problems(400, 401, 404, 413, 415),
)
async def create_account(
    data: JSONBody[CreateAccount], accounts: NamedDependency[Accounts], request: Request[Any, Any, Any]
) -> AccountOut:
    """
    Configure an account at a gateway, for one tenant or (without `tenant_id`) for all. Its id is the
    `gateway_id` of invoices.
    """
    return await accounts.create(data, claim=claim_of(request))


@get(
    "/gateway-accounts",
    summary="List gateway accounts",
    opt={"access": "admin"},
    responses=problems(400, 401),
)
async def list_accounts(
    accounts: NamedDependency[Accounts],
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    tenant_id: FromQuery[UUID | None] = None,
) -> AccountPage:
    """List gateway accounts, oldest first, without their credentials."""

    def read(most: int, after: UUID | None) -> Awaitable[list[AccountOut]]:
        return accounts.page(limit=most, after=after, tenant_id=tenant_id)

    return AccountPage(*await page_of(read, lambda found: found.gateway_id, limit=limit, cursor=cursor))


@patch(
    "/gateway-accounts/{gateway_id:uuid}",
    summary="Change a gateway account",
    opt={"access": "admin"},
    responses=problems(400, 401, 404, 409, 413, 415),
)
async def update_account(
    gateway_id: FromPath[UUID], data: JSONBody[UpdateAccount], accounts: NamedDependency[Accounts]
) -> AccountOut:
    """Change what is given. Invoices that exist keep the fees they were made with."""
    return await accounts.update(gateway_id, data)


@delete(
    "/gateway-accounts/{gateway_id:uuid}",
    summary="Delete a gateway account",
    opt={"access": "admin"},
    responses=problems(401, 404, 409),
)
async def remove_account(gateway_id: FromPath[UUID], accounts: NamedDependency[Accounts]) -> None:
    """Delete an account that nothing refers to, such as a mistyped one. Any other one can be disabled."""
    await accounts.remove(gateway_id)


HANDLERS = [create_account, list_accounts, update_account, remove_account]
