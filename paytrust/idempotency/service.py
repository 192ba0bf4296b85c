"""
The protocol of Idempotency-Key, in short transactions of its own.

Claim the key, carry the request out, keep the answer before it is sent. An object that a try makes has the id that
the claim allotted, so a try that follows a lost one finds it and goes on instead of making a second.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from paytrust.errors import Busy, Unavailable
from paytrust.idempotency import model, store
from paytrust.idempotency.model import ADMINISTRATION, Answer, Claim, KeyReused, RequestInProgress
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.secrets.model import Outdated, Sealed
from paytrust.secrets.service import Secrets

LEASE: Final = timedelta(seconds=60)
"""
Longer than any request takes. A slower one is taken over while it runs, and its own answer is then not sent.
"""
KEPT: Final = timedelta(hours=24)
RESEALED_AT_ONCE: Final = 100

log = structlog.stdlib.get_logger("paytrust.idempotency")


class Idempotency:
    """Keep who is at a request, and how it was answered."""

    def __init__(self, db: Database, secrets: Secrets) -> None:
        self._db = db
        self._secrets = secrets

    async def claim(self, scope: UUID, key: str, fingerprint: bytes) -> Claim | Answer:
        """
        The right to carry the request out, or the answer it got already.

        Raises `KeyReused` when the key names another request, or `RequestInProgress`.
        """

        async def work(tx: Transaction) -> Claim | Answer:
            claimed = await store.claim(
                tx, scope, key, fingerprint=fingerprint, object_id=new_id(), lease=LEASE
            )
            return claimed or self._answered(scope, key, fingerprint, await store.find(tx, scope, key))

        return await self._db.run(work, **_of(scope))

    def _answered(self, scope: UUID, key: str, fingerprint: bytes, row: Any) -> Answer:
        if row is not None and row["fingerprint"] != fingerprint:
            raise KeyReused("this key was used for another request; a new request needs a new key")
        if row is None or row["answer"] is None:  # no row: it was released a moment ago
            raise RequestInProgress("the first request with this key is still running; repeat it in a moment")
        opened = self._secrets.open(
            Sealed(row["answer"], row["wrapped_key"]), model.place_of_answer(scope, key)
        )
        return msgspec.msgpack.decode(opened, type=Answer)

    async def complete(self, claim: Claim, answer: Answer) -> None:
        """
        Note how the request ended, before its answer is sent.

        A success is kept for repeats. After a refusal that did nothing the key is free again. After anything
        else the claim is given back, and a repeat goes on with it. Raises `RequestInProgress` when another
        try has taken over, and `Unavailable`: then a success must not be sent.
        """
        if model.is_final(answer):
            sealed = await self._secrets.seal(
                msgspec.msgpack.encode(answer), model.place_of_answer(claim.scope, claim.key)
            )
            if not await self._db.run(lambda tx: store.keep(tx, claim, sealed), **_of(claim.scope)):
                raise RequestInProgress(
                    "another request with this key has taken over; repeat it for the answer"
                )
            return
        end = store.release if model.did_nothing(answer, claim) else store.give_back
        try:
            await self._db.run(lambda tx: end(tx, claim), **_of(claim.scope))
        except (Unavailable, Busy) as exc:  # the lease will run out by itself
            log.warning("claim not given back", reason=exc.detail)

    async def remove_old(self, *, at_once: int = 500) -> int:
        """Remove keys that are older than 24 h. Returns how many."""
        async with self._db.transaction(system=True) as tx:
            return await store.remove_older(tx, KEPT, at_once)

    async def sealed_before(self, after: tuple[Any, ...] | None) -> list[Outdated]:
        """The next answers that another key has sealed than the one that seals for their scope now."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            rows = await store.sealed_before(tx, after or (ADMINISTRATION, ""), RESEALED_AT_ONCE)
        return [
            Outdated(
                model.place_of_answer(row["scope"], row["key"]),
                Sealed(row["answer"], row["wrapped_key"]),
                (row["scope"], row["key"]),
            )
            for row in rows
        ]

    async def replace_sealed(self, stale: Outdated, sealed: bytes) -> bool:
        """Keep the same answer, sealed anew; False when it was removed meanwhile."""
        scope, key = stale.at
        async with self._db.transaction(system=True) as tx:
            return await store.replace_sealed(tx, scope, key, stale.sealed.value, sealed)

    async def under_master_keys(self) -> dict[str, int]:
        """How many answers each master key has sealed by itself."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return {row["master_key"]: row["values"] for row in await store.under_master_keys(tx)}


async def hold(tx: Transaction, claim: Claim) -> None:
    """
    Keep the claim until this transaction ends, for work that must not follow another try's.

    Raises `RequestInProgress` when another try has taken over.
    """
    if not await store.lock(tx, claim):
        raise RequestInProgress("another request with this key has taken over; repeat it for the answer")


def _of(scope: UUID) -> dict[str, Any]:
    return {"system": True} if scope == ADMINISTRATION else {"tenant": scope}
