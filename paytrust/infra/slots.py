"""Slots for each of many callers, so that none of them has everything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable


class Slots:
    """So many at once for each key. Only keys in use are kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._semaphores: dict[Hashable, asyncio.Semaphore] = {}
        self._users: Counter[Hashable] = Counter()

    async def acquire(self, key: Hashable) -> None:
        self._users[key] += 1
        try:
            await self._semaphores.setdefault(key, asyncio.Semaphore(self._size)).acquire()
        except BaseException:
            self._forget(key)
            raise

    def release(self, key: Hashable) -> None:
        self._semaphores[key].release()
        self._forget(key)

    def _forget(self, key: Hashable) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key], self._semaphores[key]
