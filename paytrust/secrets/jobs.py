"""
What `paytrust secrets rotate` does, and what `paytrust doctor` says about keys.

Every step is a short transaction of its own that looks for what is left to do. So it may be killed and run
again, and two may run at once, beside a service that goes on writing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from paytrust.secrets.model import NO_TENANT, EncryptionContext, Outdated
from paytrust.secrets.service import FIRST, PROPAGATION_S, Change, Secrets
from paytrust.security.encryption import DecryptionFailed


class SealedStore(Protocol):
    """A room that keeps sealed values, and can write them anew."""

    async def sealed_before(self, after: tuple[Any, ...] | None) -> list[Outdated]: ...
    async def replace_sealed(self, stale: Outdated, sealed: bytes) -> bool: ...
    async def under_master_keys(self) -> dict[str, int]: ...


class Report(msgspec.Struct, frozen=True):
    """The work of a rotation, the values it could not open, and the uses of each master key afterwards."""

    rewrapped: int
    created: int
    resealed: dict[str, int]
    failed: list[str]
    needed: dict[str, dict[str, int]]
    """For each master key that is needed: of what it seals how many."""


async def rotate(
    secrets: Secrets,
    stores: Mapping[str, SealedStore],
    *,
    new_data_keys: bool = False,
    propagation_s: float = PROPAGATION_S,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """
    Seal every data key with the first master key, and with data keys what the master key itself sealed
    before.

    With *new_data_keys* every scope gets another data key, and what is kept is sealed anew with that.
    """
    started = await secrets.clock()
    rewrapped, failed = await _rewrap_all(secrets, progress)
    made = 0
    while change := (await secrets.replace(made_before=started if new_data_keys else None)).changed:
        made += change
        progress(f"new data keys: {made}")
    while (wait_s := await secrets.propagation_left_s(propagation_s)) > 0:
        progress(f"waiting {wait_s:.0f} s, until no process seals with what was replaced")
        await asyncio.sleep(wait_s)
    resealed: Counter[str] = Counter()
    for what, store in stores.items():
        resealed[what] = await _reseal_all(secrets, what, store, failed, progress)
    return Report(rewrapped, made, dict(resealed), failed, await needed(secrets, stores))


async def needed(secrets: Secrets, stores: Mapping[str, SealedStore]) -> dict[str, dict[str, int]]:
    """For each master key that something in the database is sealed with: of what how many."""
    found: dict[str, dict[str, int]] = {}
    counts = {"data keys": await secrets.counts()}
    counts |= {what: await store.under_master_keys() for what, store in stores.items()}
    for what, by_key in counts.items():
        for master_key, count in by_key.items():
            found.setdefault(master_key, {})[what] = count
    return found


def describe(uses: dict[str, int]) -> str:
    """The uses of a master key, for people: "data keys (3), credentials (1)"."""
    return ", ".join(f"{what} ({count})" for what, count in uses.items())


async def _rewrap_all(secrets: Secrets, progress: Callable[[str], None]) -> tuple[int, list[str]]:
    done = 0
    failed: list[str] = []
    change = Change(0, [], FIRST)
    while change.last is not None:
        change = await secrets.rewrap(change.last)
        done, failed = done + change.changed, [*failed, *change.failed]
        if change.changed:
            progress(f"data keys sealed anew: {done}")
    return done, failed


async def _reseal_all(
    secrets: Secrets, what: str, store: SealedStore, failed: list[str], progress: Callable[[str], None]
) -> int:
    done, after = 0, None
    while found := await store.sealed_before(after):
        for stale in found:
            try:
                sealed = await secrets.seal(secrets.open(stale.sealed, stale.context), stale.context)
            except DecryptionFailed as exc:
                failed.append(f"{_name(stale.context)}: {exc.detail}")
                continue
            done += await store.replace_sealed(stale, sealed)
        after = found[-1].at
        progress(f"{what} sealed anew: {done}")
    return done


def _name(context: EncryptionContext) -> str:
    owner = "" if context.scope == NO_TENANT else f" of tenant {context.scope}"
    return f"{context.table}.{context.field} in row {context.row}{owner}"
