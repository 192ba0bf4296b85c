from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from paytrust.api import DEFAULT_PAGE, Cursor, Limit, decode_cursor, encode_cursor, problems
from paytrust.keys.model import CreatedKey, CreateKey, Key
from paytrust.keys.service import Keys


class KeyPage(msgspec.Struct):
    api_keys: list[Key]
    next_cursor: str | None


@post("/api-keys", summary="Create an API key", opt={"access": "admin"}, responses=problems(400, 401, 404, 413, 415))
async def create_key(data: JSONBody[CreateKey], keys: NamedDependency[Keys]) -> CreatedKey:
    """Create a key for a tenant. This answer is the only one that shows it."""
    return await keys.create(data)


@get("/api-keys", summary="List API keys", opt={"access": "admin"}, responses=problems(400, 401))
async def list_keys(
    keys: NamedDependency[Keys], limit: Limit = DEFAULT_PAGE, cursor: Cursor = None, tenant_id: FromQuery[UUID | None] = None
) -> KeyPage:
    """List keys, oldest first: their first four characters, never more."""
    found = await keys.page(limit=limit, after=decode_cursor(cursor), tenant_id=tenant_id)
    return KeyPage(found, encode_cursor(found[-1].key_id) if len(found) == limit else None)


@delete("/api-keys/{key_id:uuid}", summary="Revoke an API key", opt={"access": "admin"}, responses=problems(401, 404))
async def revoke_key(key_id: FromPath[UUID], keys: NamedDependency[Keys]) -> None:
    """Revoke a key: at once in this process, within 30 s in others."""
    await keys.revoke(key_id)


HANDLERS = [create_key, list_keys, revoke_key]
