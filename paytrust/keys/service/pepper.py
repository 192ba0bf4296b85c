"""Notice a process whose key pepper is not the one that the API keys of its database are made with."""

from __future__ import annotations

import hmac

from paytrust.errors import ConfigurationError
from paytrust.infra.db import Database, Transaction
from paytrust.keys import model, store


class Pepper:
    """The pepper of the settings, beside what the database keeps of the one that its keys are made with."""

    def __init__(self, db: Database, pepper: str) -> None:
        self._db = db
        self._digest = model.pepper_digest(pepper)

    async def check(self) -> None:
        """Raise `ConfigurationError` unless keys are made with ours. A database that knows none adopts it."""
        async with self._db.transaction(system=True) as tx:
            await store.lock_peppers(tx)
            fits = await self._fits(tx)
            if fits is None:
                await store.adopt_pepper(tx, self._digest)
        if fits is False:
            raise ConfigurationError(model.WRONG_PEPPER)

    async def fits(self) -> bool | None:
        """Whether keys are made with our pepper; None while the database knows none."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await self._fits(tx)

    async def accept(self) -> None:
        """From now on keys are made with our pepper. Those made with another open nothing until it is back."""
        async with self._db.transaction(system=True) as tx:
            await store.adopt_pepper(tx, self._digest)

    async def _fits(self, tx: Transaction) -> bool | None:
        known = await store.pepper_digest(tx)
        return None if known is None else hmac.compare_digest(known, self._digest)
