from __future__ import annotations

import asyncio
import contextvars
import hashlib
import hmac
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from paytrust.errors import (
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
    pointer,
)
from paytrust.idempotency import service as idempotency
from paytrust.idempotency.model import Claim
from paytrust.infra.db import Database, Record, Transaction
from paytrust.infra.ids import new_id
from paytrust.keys import model, store
from paytrust.keys.model import (
    Action,
    Audited,
    AuditEntry,
    AuditFilters,
    CreateKey,
    Key,
    Reason,
    ShownKey,
)
from paytrust.keys.service.audit import Audit, entry
from paytrust.security import access
from paytrust.security.access import ANONYMOUS, LOCAL, Caller, Network, Principal, Scope
from paytrust.tenants import service as tenants

CACHE_TTL_S: Final = 30.0
CACHE_SIZE: Final = 10_000
MAX_WAITING: Final = 32
"""Keys that may wait for Argon2 at once: about two seconds of it. The next one is told to come back."""


class MalformedKey(Invalid):
    """The header does not hold 64 hexadecimal characters."""

    code = "malformed_key"


class KeyNotLive(Conflict):
    """The key is revoked or expired, so it cannot be given a new secret: create another."""

    code = "key_not_live"


class AddressNotAllowed(Forbidden):
    """The key is good, but is not to be used from this address."""

    code = "address_not_allowed"


class _Verified(msgspec.Struct, frozen=True):
    principal: Principal
    networks: tuple[Network, ...]
    hash: str
    fresh_until_s: float


class _LookupBatch:
    """One question to the database, about all keys that were shown while the one before it was under way."""

    def __init__(self) -> None:
        self.lookups: set[bytes] = set()
        self.rows: dict[bytes, Record] | None = None
        self.failure: Exception | None = None


class _NotLive(Exception):
    """A key is unknown, revoked or expired: why, and which one it was."""

    def __init__(self, reason: Reason, tenant_id: UUID | None = None, key_id: UUID | None = None) -> None:
        self.reason, self.tenant_id, self.key_id = reason, tenant_id, key_id


class AdminKeys:
    """The admin key, and while it is being replaced the one before it."""

    def __init__(self, keys: list[str], audit: Audit, *, pepper: str) -> None:
        self._audit = audit
        self._known = {model.fingerprint(pepper, key): _digest(key) for key in keys}

    def admit(self, key: str | None, caller: Caller) -> Caller:
        """
        Say which admin key *caller* holds, or raise `Unauthenticated`. Every known key is compared, in
        constant time.
        """
        if not key:
            raise Unauthenticated("send the admin key in the header X-Admin-Key")
        matches = self._matches(key)
        if not matches:
            self._audit.note(model.refused(Reason.WRONG_ADMIN_KEY, caller), caller)
            raise Unauthenticated("send the admin key in the header X-Admin-Key")
        admin = msgspec.structs.replace(caller, actor=f"admin:{matches[0]}")
        self._audit.note(Audited(Action.USED, admin.actor, admin.address), admin)
        return admin

    def is_cached(self, key: str) -> bool:
        """Whether *key* is an admin key, without a word about it in the audit."""
        return bool(self._matches(key))

    def _matches(self, key: str) -> list[str]:
        given = _digest(key)
        return [name for name, digest in self._known.items() if hmac.compare_digest(digest, given)]


class Keys:
    """
    Create, rotate, revoke and recognise API keys.

    A key is looked up by its HMAC, so an unknown one costs microseconds; a known one is verified by Argon2id
    once per process, off the event loop and one at a time, and then remembered. Every 30 s the row is read
    again, and at once when the database says that it was changed.
    """

    def __init__(self, db: Database, *, pepper: str, audit: Audit | None = None) -> None:
        self._db = db
        self._pepper = pepper
        self._audit = audit or Audit(db)
        self._hasher = PasswordHasher(
            time_cost=2, memory_cost=19 * 1024, parallelism=1
        )  # OWASP's Argon2id parameters
        self._hashing = asyncio.Lock()
        self._waiting = 0
        self._recognising: dict[bytes, asyncio.Task[_Verified]] = {}
        self._looking = asyncio.Lock()
        self._next_look = _LookupBatch()
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._changes = 0

    async def create(self, data: CreateKey, *, by: Caller = LOCAL, claim: Claim | None = None) -> ShownKey:
        """
        Make a key. The answer shows it; nothing else ever will.

        When an earlier try with this claim made it and was lost before it could answer, it is rotated: nobody
        has seen the first secret. Raises `KeyNotLive` when it was revoked meanwhile.
        """
        allowed = model.normalised(data.allowed_addresses)
        model.check_end(data.expires_at)
        secret = model.new_key()
        hash_ = await self._hash(secret)
        key = Key(
            key_id=claim.object_id if claim else new_id(),
            tenant_id=data.tenant_id,
            prefix=secret[:4],
            description=data.description,
            scopes=sorted(set(data.scopes)),
            allowed_addresses=allowed,
            created_at=datetime.now(UTC),  # replaced by the database's clock
            rotated_at=None,
            expires_at=data.expires_at,
            revoked_at=None,
        )
        async with self._db.transaction(system=True) as tx:
            if claim is not None:
                await idempotency.hold(
                    tx, claim
                )  # or a late try would replace the secret that was handed out
                if (was := await store.get(tx, key.key_id)) is not None:
                    key = await self._replace(tx, key.key_id, was, secret, hash_, by)
                    return ShownKey(**msgspec.structs.asdict(key), api_key=secret)
            await tenants.require(tx, data.tenant_id)
            key = await store.insert(tx, key, lookup=model.lookup(self._pepper, secret), hash=hash_)
            if key.expires_at is not None and key.expires_at <= key.created_at:
                raise Invalid(
                    "#/expires_at: is in the past",
                    errors=(FieldError(pointer("expires_at"), "is in the past"),),
                )
            await store.add_audit(tx, [entry(Action.CREATED, by, key.tenant_id, key.key_id)])
        return ShownKey(**msgspec.structs.asdict(key), api_key=secret)

    async def rotate(self, key_id: UUID, *, by: Caller = LOCAL) -> ShownKey:
        """
        Give a key a new secret, shown in this answer only. The old one is dead: here at once, in other
        processes within a second.

        Raises `NotFound`; `KeyNotLive` for a revoked or expired key; `Conflict` when somebody else changed it
        meanwhile.
        """
        async with self._db.transaction(system=True, readonly=True) as tx:
            was = await store.get(tx, key_id)
        if was is None:
            raise NotFound(f"there is no API key {key_id}")
        secret = model.new_key()
        hash_ = await self._hash(secret)
        async with self._db.transaction(system=True) as tx:
            key = await self._replace(tx, key_id, was, secret, hash_, by)
        self.invalidate(key_id)
        return ShownKey(**msgspec.structs.asdict(key), api_key=secret)

    async def _replace(
        self, tx: Transaction, key_id: UUID, was: Record, secret: str, hash_: str, by: Caller
    ) -> Key:
        """Put *secret* in place of the one that *was* read with."""
        if was["dead"]:
            raise KeyNotLive(f"API key {key_id} is revoked or expired; create another")
        key = await store.rotate(
            tx,
            key_id,
            prefix=secret[:4],
            lookup=model.lookup(self._pepper, secret),
            hash=hash_,
            was=was["hash"],
        )
        if key is None:
            raise Conflict(f"API key {key_id} was rotated or revoked by another request meanwhile")
        await store.add_audit(tx, [entry(Action.ROTATED, by, key.tenant_id, key_id, old_hash=was["hash"])])
        return key

    async def revoke(self, key_id: UUID, *, by: Caller = LOCAL) -> None:
        """
        Make a key useless: here at once, in other processes within a second. Revoking twice keeps the first
        time.
        """
        async with self._db.transaction(system=True) as tx:
            tenant_id = await store.revoke(tx, key_id)
            if tenant_id is not None:
                await store.add_audit(tx, [entry(Action.REVOKED, by, tenant_id, key_id)])
            elif await store.get(tx, key_id) is None:
                raise NotFound(f"there is no API key {key_id}")
        self.invalidate(key_id)

    async def page(self, *, limit: int, after: UUID | None, tenant_id: UUID | None) -> list[Key]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.page(tx, limit=limit, after=after, tenant_id=tenant_id)

    async def audit(self, filters: AuditFilters, *, limit: int, before: UUID | None) -> list[AuditEntry]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.audit(tx, filters, limit=limit, before=before)

    async def authenticate(
        self, key: str | None, caller: Caller = ANONYMOUS, *, needs: Scope | None = None
    ) -> Principal:
        """
        Say who holds *key*, which *caller* sent, and note its use.

        Raises `Unauthenticated`, `MalformedKey`, `AddressNotAllowed`, `Forbidden` without the scope it
        *needs*, and `Unavailable` when too many keys wait for their first verification.
        """
        if not key:
            raise Unauthenticated("send your API key in the header X-API-Key")
        if not model.KEY.fullmatch(key):
            self._note(model.refused(Reason.MALFORMED_KEY, caller), caller)
            raise MalformedKey("an API key is 64 hexadecimal characters, in lower case")
        lookup = model.lookup(self._pepper, key)
        known = self._verified.get(lookup)
        if known is None or time.monotonic() >= known.fresh_until_s:
            known = await self._verify_once(lookup, key, caller)
        who = known.principal
        if known.networks and not access.contains(known.networks, caller.address):
            self._refuse(Reason.ADDRESS_NOT_ALLOWED, who, caller)
            raise AddressNotAllowed("this API key is not to be used from this address")
        if needs is not None and needs not in who.scopes:
            self._refuse(Reason.MISSING_SCOPE, who, caller)
            raise Forbidden(f"this API key lacks the scope {needs.value!r}")
        self._note(
            Audited(Action.USED, f"api_key:{who.key_id}", caller.address, who.tenant_id, who.key_id), caller
        )
        return who

    def is_cached(self, key: str | None) -> bool:
        """
        Whether this process has verified *key*, or is about to: `authenticate` then costs one look at its row
        at most.
        """
        lookup = model.lookup(self._pepper, key or "")
        return lookup in self._verified or lookup in self._recognising

    def invalidate(self, key_id: UUID) -> None:
        """A key was changed: read its row again before it is believed."""
        self._changes += 1
        for lookup, verified in list(self._verified.items()):
            if verified.principal.key_id == key_id:
                del self._verified[lookup]

    def revalidate_all(self) -> None:
        """
        Keys may have been changed without our hearing of it: read every row again, but verify no hash twice.
        """
        self._changes += 1
        for lookup, verified in list(self._verified.items()):
            self._verified[lookup] = msgspec.structs.replace(verified, fresh_until_s=0.0)

    async def _verify_once(self, lookup: bytes, key: str, caller: Caller) -> _Verified:
        """All who ask for the same key at once wait for one look at its row, and for one verification."""
        recognition = self._recognising.get(lookup)
        if recognition is None:
            # An own context: it outlives the request that began it, if that is cancelled.
            recognition = asyncio.create_task(self._look_up(lookup, key), context=contextvars.Context())
            self._recognising[lookup] = recognition
            recognition.add_done_callback(lambda _: self._recognising.pop(lookup))
        try:
            return await asyncio.shield(recognition)
        except _NotLive as exc:
            self._note(model.refused(exc.reason, caller, tenant_id=exc.tenant_id, key_id=exc.key_id), caller)
            raise Unauthenticated(
                _UNKNOWN
            ) from None  # the same answer whatever the reason, which only the audit tells

    async def _look_up(self, lookup: bytes, key: str) -> _Verified:
        """Read the key's row, verify its hash unless this process has done that, and remember it."""
        while True:
            changes, read_at_s = self._changes, time.monotonic()
            row = await self._find(lookup)
            known = self._verified.get(lookup)
            if (known is None or known.hash != row["hash"]) and not await self._verify(row["hash"], key):
                raise Unauthenticated(_UNKNOWN)
            # What was read may be older than a change that was heard of meanwhile: then it is read again.
            current = changes == self._changes
            lives_s = CACHE_TTL_S if row["ends_in_s"] is None else min(CACHE_TTL_S, row["ends_in_s"])
            verified = _Verified(
                Principal(row["tenant_id"], row["id"], frozenset(map(Scope, row["scopes"]))),
                tuple(map(access.network, row["allowed_addresses"])),
                row["hash"],
                read_at_s + lives_s if current else 0.0,
            )
            self._remember(lookup, verified)
            if current:
                return verified

    async def _find(self, lookup: bytes) -> Record:
        """The row of a live key, or `_NotLive`."""
        row = await self._row(lookup)
        if row is not None and not row["revoked"] and (row["ends_in_s"] is None or row["ends_in_s"] > 0):
            return row
        self._verified.pop(lookup, None)
        if row is None:
            raise _NotLive(Reason.UNKNOWN_KEY)
        raise _NotLive(
            Reason.REVOKED_KEY if row["revoked"] else Reason.EXPIRED_KEY, row["tenant_id"], row["id"]
        )

    async def _row(self, lookup: bytes) -> Record | None:
        """
        Read one row: a crowd with keys that nobody knows takes one connection, and leaves the others to those
        who have one.
        """
        look = self._next_look
        look.lookups.add(lookup)
        async with self._looking:
            if look.failure is not None:
                raise look.failure
            if look.rows is None:
                self._next_look = _LookupBatch()
                try:
                    async with self._db.transaction(system=True, readonly=True) as tx:
                        look.rows = await store.find(tx, look.lookups)
                except Exception as exc:
                    look.failure = exc
                    raise
        return look.rows.get(lookup)

    def _refuse(self, reason: Reason, who: Principal, caller: Caller) -> None:
        self._note(model.refused(reason, caller, tenant_id=who.tenant_id, key_id=who.key_id), caller)

    def _note(self, about: Audited, caller: Caller) -> None:
        self._audit.note(about, caller)

    def _remember(self, lookup: bytes, verified: _Verified) -> None:
        self._verified[lookup] = verified
        self._verified.move_to_end(lookup)
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)

    async def _hash(self, key: str) -> str:
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, key)

    async def _verify(self, hash_: str, key: str) -> bool:
        """Whether *key* has this hash. One at a time, and the line is bounded."""
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many API keys are used for the first time at once")
        self._waiting += 1
        try:
            async with self._hashing:
                return await asyncio.to_thread(self._hasher.verify, hash_, key)
        except VerificationError:
            return False
        finally:
            self._waiting -= 1


_UNKNOWN: Final = "this API key is unknown, expired or revoked"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
