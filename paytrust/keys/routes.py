from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from paytrust.api.pagination import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Timestamp,
    decode_timestamp,
    page_of,
)
from paytrust.api.problems import problems
from paytrust.idempotency.routes import claim_of
from paytrust.keys.model import AuditEntry, AuditFilters, CreateKey, Key, ShownKey
from paytrust.keys.service import Keys
from paytrust.security.access import Caller


class KeyPage(msgspec.Struct):
    api_keys: list[Key]
    next_cursor: str | None


class AuditPage(msgspec.Struct):
    audit: list[AuditEntry]
    next_cursor: str | None


@post(
    "/api-keys",
    summary="Create an API key",
    opt={"access": "admin"},
    responses=problems(400, 401, 404, 413, 415),
)
async def create_key(
    data: JSONBody[CreateKey],
    keys: NamedDependency[Keys],
    caller: NamedDependency[Caller],
    request: Request[Any, Any, Any],
) -> ShownKey:
    """Create a key for a tenant. This answer is the only one that shows it."""
    return await keys.create(data, by=caller, claim=claim_of(request))


@get("/api-keys", summary="List API keys", opt={"access": "admin"}, responses=problems(400, 401))
async def list_keys(
    keys: NamedDependency[Keys],
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    tenant_id: FromQuery[UUID | None] = None,
) -> KeyPage:
    """List keys, oldest first: their first four characters, never more."""

    def read(most: int, after: UUID | None) -> Awaitable[list[Key]]:
        return keys.page(limit=most, after=after, tenant_id=tenant_id)

    return KeyPage(*await page_of(read, lambda found: found.key_id, limit=limit, cursor=cursor))


@put(
    "/api-keys/{key_id:uuid}/rotate",
    summary="Give an API key a new secret",
    opt={"access": "admin"},
    responses=problems(401, 404, 409),
)
async def rotate_key(
    key_id: FromPath[UUID], keys: NamedDependency[Keys], caller: NamedDependency[Caller]
) -> ShownKey:
    """
    Give a key a new secret, which only this answer shows. The old one is dead at once: in every process
    within a second.
    """
    return await keys.rotate(key_id, by=caller)


@delete(
    "/api-keys/{key_id:uuid}",
    summary="Revoke an API key",
    opt={"access": "admin"},
    responses=problems(401, 404),
)
async def revoke_key(
    key_id: FromPath[UUID], keys: NamedDependency[Keys], caller: NamedDependency[Caller]
) -> None:
    """Revoke a key: in every process within a second."""
    await keys.revoke(key_id, by=caller)


@get(
    "/api-keys/audit",
    summary="Read the audit of API keys",
    opt={"access": "admin"},
    responses=problems(400, 401),
)
async def read_audit(
    keys: NamedDependency[Keys],
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    tenant_id: FromQuery[UUID | None] = None,
    key_id: FromQuery[UUID | None] = None,
    created_from: Timestamp = None,
    created_to: Timestamp = None,
) -> AuditPage:
    """
    What was done with keys and tried with them, newest first. Use and failures are counted: at most one entry
    an hour for each key and address.
    """
    filters = AuditFilters(
        tenant_id,
        key_id,
        decode_timestamp("created_from", created_from),
        decode_timestamp("created_to", created_to),
    )

    def read(most: int, before: UUID | None) -> Awaitable[list[AuditEntry]]:
        return keys.audit(filters, limit=most, before=before)

    return AuditPage(*await page_of(read, lambda found: found.audit_id, limit=limit, cursor=cursor))


HANDLERS = [create_key, list_keys, rotate_key, revoke_key, read_audit]
