"""The loop in the background: nothing ends it but being told to stop."""

from __future__ import annotations

import asyncio
import time

import pytest

from paytrust.errors import Unavailable
from paytrust.infra import worker as worker_module
from paytrust.infra.worker import Worker


class Steps:
    """
    Work that behaves as scripted: a number is returned, an exception raised; afterwards there is nothing to
    do.
    """

    def __init__(self, *script):
        self.script, self.called = list(script), []

    async def reach(self, number):
        """Wait until it was called *number* times."""
        async with asyncio.timeout(10):
            while len(self.called) < number:  # noqa: ASYNC110 - an event would be set by what is under test
                await asyncio.sleep(0.01)

    async def __call__(self):
        self.called.append(time.monotonic())
        result = self.script.pop(0) if self.script else 0
        if isinstance(result, Exception):
            raise result
        return result


@pytest.mark.parametrize(
    "trouble", [Unavailable("the database is away"), RuntimeError("a bug"), TimeoutError()]
)
async def test_a_step_that_fails_does_not_end_the_loop(trouble):
    steps = Steps(trouble, trouble, 1)
    worker = Worker("test", steps)
    worker.start()
    await steps.reach(4)
    await worker.stop()


async def test_while_there_is_work_it_does_not_pause_and_then_it_pauses_longer_and_longer():
    steps = Steps(1, 1, 1)
    worker = Worker("test", steps)
    worker.start()
    await steps.reach(6)
    await worker.stop()
    busy, (first, second) = (
        steps.called[:4],
        (steps.called[4] - steps.called[3], steps.called[5] - steps.called[4]),
    )
    assert busy[3] - busy[0] < 0.1
    assert 0.15 < first < second


async def test_waking_it_ends_the_pause():
    steps = Steps()
    worker = Worker("test", steps)
    worker.start()
    await steps.reach(4)  # the pause is 1.6 s by now
    woken = time.monotonic()
    worker.wake()
    await steps.reach(5)
    assert time.monotonic() - woken < 1
    await worker.stop()


async def test_stopping_lets_the_step_finish():
    done = []

    async def step():
        await asyncio.sleep(0.3)
        done.append(True)
        return 0

    worker = Worker("test", step)
    worker.start()
    await asyncio.sleep(0.1)
    await worker.stop()
    assert done == [True]


async def test_a_step_that_does_not_finish_is_cut_off(monkeypatch):
    monkeypatch.setattr(worker_module, "STOP_S", 0.2)
    cut = []

    async def step():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cut.append(True)
            raise

    worker = Worker("test", step)
    worker.start()
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        await worker.stop()
    assert cut == [True]


async def test_stopping_what_never_started_is_harmless():
    await Worker("test", Steps()).stop()
