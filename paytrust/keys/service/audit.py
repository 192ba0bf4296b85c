"""The audit of keys: changes are written with the change, uses and failures are counted and written seldom."""

from __future__ import annotations

import time
from typing import Final
from uuid import UUID

import structlog

from paytrust.infra.db import Database
from paytrust.keys import store
from paytrust.keys.model import Action, Audited, Entry, Tally
from paytrust.security.access import Caller

MAX_TOLD_APART: Final = 10_000
MAX_FAILURES_TOLD_APART: Final = 1_000

log = structlog.stdlib.get_logger("paytrust.keys")


class Audit:
    """
    What was done with keys, and tried with them.

    Changes of a key are written with them, in one transaction. Use and failures only count here, which takes
    microseconds, and are written in the background: the first at once, then at most once an hour for each key
    and address.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._tallies = {
            Action.USED: Tally(limit=MAX_TOLD_APART),
            Action.FAILED: Tally(limit=MAX_FAILURES_TOLD_APART),
        }

    def note(self, about: Audited, caller: Caller) -> None:
        self._tallies[about.action].note(about, caller.request_id, now_s=time.monotonic())

    async def write(self, *, everything: bool = False) -> int:
        """
        Write what is due, and return how many entries that was. What cannot be written now is kept for the
        next time.
        """
        taken = [
            (tally, tally.take(now_s=time.monotonic(), everything=everything))
            for tally in self._tallies.values()
        ]
        entries = [entry for _, due in taken for entry in due]
        if not entries:
            return 0
        try:
            async with self._db.transaction(system=True) as tx:
                await store.add_audit(tx, entries)
        except BaseException:
            for tally, due in taken:
                tally.give_back(due, now_s=time.monotonic())
            raise
        return len(entries)

    async def finish(self) -> None:
        """Write all that was counted, because the process ends."""
        try:
            await self.write(everything=True)
        except Exception:
            log.exception("the last uses of API keys are not in the audit")


def entry(action: Action, by: Caller, tenant_id: UUID, key_id: UUID, *, old_hash: str | None = None) -> Entry:
    """A change of a key, made by *by*."""
    return Entry(Audited(action, by.actor, by.address, tenant_id, key_id), by.request_id, old_hash=old_hash)
