from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from paytrust.access import Principal, Scope
from paytrust.db import Database
from paytrust.errors import Invalid, NotFound, Unauthenticated
from paytrust.ids import new_id
from paytrust.keys import model, store
from paytrust.keys.model import CreatedKey, CreateKey, Key
from paytrust.tenants import service as tenants

CACHE_TTL_S: Final = 30.0
CACHE_SIZE: Final = 10_000


class MalformedKey(Invalid):
    """The header does not hold 64 hexadecimal characters."""

    code = "malformed_key"


class _Verified(msgspec.Struct, frozen=True):
    principal: Principal
    hash: str
    fresh_until_s: float


class Keys:
    """
    Create and recognise API keys.

    A key is looked up by its HMAC, so an unknown one costs microseconds; a known one is verified by Argon2id once per
    process, off the event loop and one at a time, and then remembered. Every 30 s the row is read again.
    """

    def __init__(self, db: Database, *, pepper: str) -> None:
        self._db = db
        self._pepper = pepper
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's Argon2id parameters
        self._hashing = asyncio.Lock()
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def create(self, data: CreateKey) -> CreatedKey:
        """Make a key. The answer shows it; nothing else ever will."""
        secret = model.new_key()
        hash_ = await self._hash(secret)
        key = Key(
            key_id=new_id(),
            tenant_id=data.tenant_id,
            prefix=secret[:4],
            description=data.description,
            scopes=sorted(set(data.scopes)),
            created_at=datetime.now(UTC),  # replaced by the database's clock
            revoked_at=None,
        )
        async with self._db.transaction(system=True) as tx:
            await tenants.require(tx, data.tenant_id)
            key = await store.insert(tx, key, lookup=model.lookup(self._pepper, secret), hash=hash_)
        return CreatedKey(**msgspec.structs.asdict(key), api_key=secret)

    async def page(self, *, limit: int, after: UUID | None, tenant_id: UUID | None) -> list[Key]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.page(tx, limit=limit, after=after, tenant_id=tenant_id)

    async def revoke(self, key_id: UUID) -> None:
        """Make a key useless: here at once, in other processes when they read its row again (30 s)."""
        async with self._db.transaction(system=True) as tx:
            if not await store.revoke(tx, key_id):
                raise NotFound(f"there is no API key {key_id}")
        for lookup, verified in list(self._verified.items()):
            if verified.principal.key_id == key_id:
                del self._verified[lookup]

    async def authenticate(self, key: str | None) -> Principal:
        """Say who holds *key*, or raise `Unauthenticated` or `MalformedKey`."""
        if not key:
            raise Unauthenticated("send your API key in the header X-API-Key")
        if not model.KEY.fullmatch(key):
            raise MalformedKey("an API key is 64 hexadecimal characters, in lower case")
        lookup = model.lookup(self._pepper, key)
        known = self._verified.get(lookup)
        if known is not None and time.monotonic() < known.fresh_until_s:
            return known.principal
        async with self._db.transaction(system=True, readonly=True) as tx:
            row = await store.find(tx, lookup)
        if row is None:
            self._verified.pop(lookup, None)
            raise Unauthenticated("this API key is unknown or revoked")
        if known is None or known.hash != row["hash"]:
            await self._verify(row["hash"], key)
        principal = Principal(row["tenant_id"], row["id"], frozenset(map(Scope, row["scopes"])))
        self._remember(lookup, _Verified(principal, row["hash"], time.monotonic() + CACHE_TTL_S))
        return principal

    def _remember(self, lookup: bytes, verified: _Verified) -> None:
        self._verified[lookup] = verified
        self._verified.move_to_end(lookup)
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)

    async def _hash(self, key: str) -> str:
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, key)

    async def _verify(self, hash_: str, key: str) -> None:
        try:
            async with self._hashing:
                await asyncio.to_thread(self._hasher.verify, hash_, key)
        except VerificationError as exc:
            raise Unauthenticated("this API key is unknown or revoked") from exc
