"""Gateway time: the real time of day, waiting that goes faster than life, and a hand to move it ahead."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta


class Clock:
    """`now()` is real time plus whatever `advance` added; `sleep` takes 1/factor of the time it names."""

    def __init__(self, factor: float) -> None:
        assert factor > 0
        self.factor = factor
        self._ahead = timedelta()
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the clock ahead and wake everything that sleeps, so that it may find its time has come."""
        self._ahead += timedelta(seconds=seconds)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def reset(self) -> None:
        self._ahead = timedelta()

    async def sleep(self, seconds: float) -> None:
        """Wait *seconds* of gateway time."""
        left = seconds
        while left > 0:
            started, ahead = time.monotonic(), self._ahead
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left / self.factor)
            left -= (time.monotonic() - started) * self.factor + (self._ahead - ahead).total_seconds()
