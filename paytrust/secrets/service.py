"""
Seal what a tenant's rows keep secret, and change the keys under it while the service runs.

A secret is sealed with the data key of its scope, and that with a master key: so a master key is replaced by
sealing the data keys anew, however much they have sealed. Data keys that seal are kept in memory, so sealing
asks the database nothing (docs/adr/0025).
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from paytrust.errors import ConfigurationError, NotFound
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.secrets import model, store
from paytrust.secrets.model import NO_TENANT, DataKey, EncryptionContext, Sealed
from paytrust.secrets.store import Wrapped
from paytrust.security.encryption import DecryptionFailed, MasterKeys

FRESH_S: Final = 15.0
"""How long a process goes on with the key it knows before it looks whether there is another."""
PROPAGATION_S: Final = 40.0
"""
From then on no process seals with a key that was replaced: FRESH_S, the time a look takes, and the time to
write what was sealed.
"""
KEYS_KEPT: Final = 10_000
BATCH_SIZE: Final = 100
FIRST: Final = (NO_TENANT, NO_TENANT)


class _Known(msgspec.Struct):
    """The key that seals for a scope; None: the master key does."""

    key: DataKey | None
    until_s: float


class Change(msgspec.Struct, frozen=True):
    """
    What one step did with data keys: how many it changed, which it could not open, and where the next step
    begins.
    """

    changed: int
    failed: list[str]
    last: tuple[UUID, UUID] | None


class Secrets:
    """Everything that is sealed passes here."""

    def __init__(self, db: Database, vault: MasterKeys) -> None:
        self._db = db
        self._master_keys = vault
        self._known: dict[UUID, _Known] = {}

    @property
    def master_keys(self) -> list[str]:
        """The ids of the master keys in the settings, the one that seals first."""
        return self._master_keys.ids

    async def seal(self, plain: bytes, context: EncryptionContext) -> bytes:
        """
        Not inside of a transaction: the first time for a scope, its key is read, or made. Raises `NotFound`
        without the tenant.
        """
        key = await self._current(context.scope)
        return (
            key.seal(plain, context)
            if key
            else self._master_keys.seal(plain, context=context.under_master_key)
        )

    def open(self, sealed: Sealed, context: EncryptionContext) -> bytes:
        """Raises `DecryptionFailed`."""
        key_id = model.key_id_of(sealed.value)
        if key_id is None:
            return self._master_keys.open(sealed.value, context=context.under_master_key)
        if sealed.wrapped_key is None:
            raise DecryptionFailed(
                "a stored secret cannot be decrypted: its tenant has no such data key, so it was moved here from another row"
            )
        return self._unwrap(Wrapped(context.scope, key_id, sealed.wrapped_key)).open(sealed.value, context)

    async def _current(self, scope: UUID) -> DataKey | None:
        known, now_s = self._known.get(scope), time.monotonic()
        if known is not None:
            if known.until_s > now_s:
                return known.key
            known.until_s = now_s + FRESH_S  # one looks; the others go on meanwhile
        try:
            key = await self._look(scope)
        except BaseException:
            self._known.pop(scope, None)
            raise
        if scope not in self._known and len(self._known) >= KEYS_KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[scope] = _Known(key, now_s + FRESH_S)
        return key

    async def _look(self, scope: UUID) -> DataKey | None:
        async with self._db.transaction(system=True) as tx:
            found = await store.current(tx, scope)
            if found is None:
                await self._make(tx, scope)
                found = await store.current(tx, scope)
        assert found is not None
        return None if found.value is None else self._unwrap(found)

    async def _make(self, tx: Transaction, scope: UUID) -> None:
        key_id = new_id()
        wrapped = self._master_keys.seal(os.urandom(model.KEY_BYTES), context=model.wrapping(scope, key_id))
        try:
            await store.insert(tx, None if scope == NO_TENANT else scope, key_id, wrapped)
        except asyncpg.ForeignKeyViolationError as exc:
            raise NotFound(f"there is no tenant {scope}") from exc

    def _unwrap(self, key: Wrapped) -> DataKey:
        assert key.value is not None
        return DataKey(
            key.scope, key.id, self._master_keys.open(key.value, context=model.wrapping(key.scope, key.id))
        )

    # --- changing keys -----------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """
        Raise `ConfigurationError` unless the settings hold every master key that wraps a data key, and hold
        it right.
        """
        if wrong := [what for what in (await self.openable()).values() if what]:
            raise ConfigurationError("; ".join(wrong))

    async def openable(self) -> dict[str, str | None]:
        """Each master key that wraps data keys, with what is wrong with it."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            samples = await store.samples(tx)
        return {master_key: self._objection(master_key, sample) for master_key, sample in samples}

    def _objection(self, master_key: str, sample: Wrapped) -> str | None:
        if master_key not in self._master_keys.ids:
            return f"PAYTRUST_ENCRYPTION_KEYS lacks the master key {master_key}, which stored secrets need"
        try:
            self._unwrap(sample)
        except DecryptionFailed:
            return f"the master key {master_key} in PAYTRUST_ENCRYPTION_KEYS is not the one of that name that stored secrets need"
        return None

    async def rewrap(self, after: tuple[UUID, UUID] = FIRST) -> Change:
        """
        Seal the next data keys that are under another master key with the first one. The values that they
        have sealed stay as they are.
        """
        failed, changed = [], 0
        async with self._db.transaction(system=True) as tx:
            found = await store.lock_under_others(tx, self._master_keys.primary, after, BATCH_SIZE)
            for key in found:
                assert key.value is not None
                context = model.wrapping(key.scope, key.id)
                try:
                    plain = self._master_keys.open(key.value, context=context)
                except DecryptionFailed as exc:
                    failed.append(f"data key {key.id} of {_owner(key.scope)}: {exc.detail}")
                    continue
                await store.rewrap(
                    tx, Wrapped(key.scope, key.id, self._master_keys.seal(plain, context=context))
                )
                changed += 1
        return Change(changed, failed, _last(found))

    async def replace(self, *, made_before: datetime | None) -> Change:
        """
        Give the next scopes that seal with the master key itself a data key, and those whose key was
        *made_before* another.
        """
        async with self._db.transaction(system=True) as tx:
            found = await store.lock_replaceable(tx, made_before, BATCH_SIZE)
            for old in found:
                await store.retire(tx, old)
                await self._make(tx, old.scope)
        self._known.clear()
        return Change(len(found), [], _last(found))

    async def clock(self) -> datetime:
        """The database's time."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.clock(tx)

    async def propagation_left_s(self, propagation_s: float = PROPAGATION_S) -> float:
        """For how many seconds a process may still seal with a key that was replaced."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.propagation_left_s(tx, propagation_s)

    async def counts(self) -> dict[str, int]:
        """How many data keys each master key wraps."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.counts(tx)


def _last(keys: list[Wrapped]) -> tuple[UUID, UUID] | None:
    return (keys[-1].scope, keys[-1].id) if keys else None


def _owner(scope: UUID) -> str:
    return "no tenant" if scope == NO_TENANT else f"tenant {scope}"
