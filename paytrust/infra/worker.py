"""
Work in the background: a loop that claims rows and works on them until it is told to stop.

The rows are their own queue (docs/adr/0006): a claim takes a lease and counts an attempt in one statement, so
a crash counts too, and any number of processes may work side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Final

from paytrust.errors import Unavailable
from paytrust.infra import logs
from paytrust.infra.window import Window

POLL_MIN_S: Final = 0.2
POLL_MAX_S: Final = 2.0
STOP_S: Final = 4.0

log = logs.get_logger("paytrust.work")


class Worker:
    """
    Calls *step* until it finds nothing, then waits: until `wake`, or with growing pauses of at most *poll_s*.

    *step* claims and finishes some work and returns how much; its exceptions are logged and never end
    the loop. A window's step only begins it: the loop looks again whenever a place becomes free.
    """

    def __init__(
        self, name: str, step: Callable[[], Awaitable[int]] | Window[Any], *, poll_s: float = POLL_MAX_S
    ) -> None:
        self._name = name
        self._window = step if isinstance(step, Window) else None
        self._step = step.step if isinstance(step, Window) else step
        self._poll_s = poll_s
        self._wanted = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is new work: look at once."""
        self._wanted.set()

    def start(self) -> None:
        # An own context, or the loop would inherit the transaction and the log fields of whoever starts it.
        self._task = asyncio.create_task(
            self._run(), name=f"paytrust {self._name}", context=contextvars.Context()
        )

    async def stop(self) -> None:
        """
        Let what is under way finish, at most 4 s; its lease lets another process take over what was cut off.
        """
        if self._task is None:
            return
        self._stopping = True
        self._wanted.set()
        until = asyncio.get_running_loop().time() + STOP_S
        _, late = await asyncio.wait([self._task], timeout=STOP_S)
        for task in late:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._window is not None:
            await self._window.finish(max(0, until - asyncio.get_running_loop().time()))

    async def _run(self) -> None:
        if self._window is not None:
            self._window.on_free = self.wake
        pause_s = POLL_MIN_S
        while not self._stopping:
            self._wanted.clear()
            if await self._try():
                pause_s = POLL_MIN_S
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), pause_s)
            pause_s = min(pause_s * 2, self._poll_s)

    async def _try(self) -> int:
        try:
            return await self._step()
        except Unavailable as exc:
            log.warning("worker waits for the database", worker=self._name, reason=exc.detail)
        except Exception:
            log.exception("worker step failed", worker=self._name)
        return 0
