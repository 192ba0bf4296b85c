"""
Notice when something blocks the event loop, and say what.

Everything in a process waits while a plugin computes or calls something that blocks. It cannot be cut off
from outside, but it can be named: a thread looks whether the loop still turns, and logs where it stands when
it does not.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from typing import Final

from paytrust.infra import logs

BLOCKED_S: Final = 0.1
LOOK_EVERY_S: Final = 0.05
"""Whatever blocks for 150 ms is seen; 20 looks a second cost nothing that can be measured."""
TELL_EVERY_S: Final = 10.0
FRAMES: Final = 12

log = logs.get_logger("paytrust.watchdog")


class Watchdog:
    """
    Watches the loop it is started in, until `stop`. One warning in 10 s at most, with how many went unsaid.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        watched = (asyncio.get_running_loop(), threading.get_ident())
        self._thread = threading.Thread(
            target=self._watch, args=watched, name="paytrust watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        told_at, unsaid = -TELL_EVERY_S, 0
        while not self._stopping.wait(LOOK_EVERY_S):
            turned = threading.Event()
            asked_at, computed_s = time.monotonic(), time.process_time()
            try:
                loop.call_soon_threadsafe(turned.set)
            except RuntimeError:
                return  # the loop is closed
            if turned.wait(BLOCKED_S) or self._stopping.is_set():
                continue
            if time.monotonic() - asked_at > 2 * BLOCKED_S and time.process_time() - computed_s < BLOCKED_S:
                continue  # we were late ourselves and the process did not compute: the machine is busy, not the loop
            stack = _stack(thread_id)
            if turned.wait(0):
                continue
            while not turned.wait(LOOK_EVERY_S):
                if self._stopping.is_set() or loop.is_closed():
                    break
            if asked_at - told_at < TELL_EVERY_S:
                unsaid += 1
                continue
            log.warning(
                "the event loop was blocked",
                seconds=round(time.monotonic() - asked_at, 2),
                stack=stack,
                unsaid=unsaid,
            )
            told_at, unsaid = asked_at, 0


def _stack(thread_id: int) -> str:
    """
    Where a thread stands: files, lines and functions, the innermost last. No values, which may be secrets.
    """
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - documented, for exactly this
    return "" if frame is None else "".join(traceback.format_stack(frame)[-FRAMES:])
