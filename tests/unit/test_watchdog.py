"""The watchdog names what blocks the loop, tells it seldom, and lets the loop go."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from paytrust.infra import watchdog
from paytrust.infra.watchdog import Watchdog


@pytest.fixture
async def told(logged):
    """What the watchdog of this test's loop logs."""
    logs = logged(watchdog)
    dog = Watchdog()
    dog.start()
    await asyncio.sleep(0.1)
    yield logs
    dog.stop()
    dog._thread.join(2)
    assert not dog._thread.is_alive()


def a_plugin_that_blocks(seconds):
    time.sleep(seconds)


async def test_what_blocks_the_loop_is_named(told):
    a_plugin_that_blocks(0.6)
    await asyncio.sleep(0.3)
    [warning] = [entry for entry in told if entry["event"] == "the event loop was blocked"]
    assert warning["log_level"] == "warning"
    assert 0.3 < warning["seconds"] < 2
    assert "a_plugin_that_blocks" in warning["stack"]


async def test_it_is_told_once_in_a_while_however_often_it_happens(told):
    for _ in range(4):
        a_plugin_that_blocks(0.3)
        await asyncio.sleep(0.15)
    assert len(told) == 1


async def test_computing_is_noticed_too(told):
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        sum(range(1000))
    await asyncio.sleep(0.3)
    assert "test_computing_is_noticed_too" in told[0]["stack"]


def test_it_ends_with_its_loop():
    async def run():
        dog = Watchdog()
        dog.start()
        await asyncio.sleep(0.06)
        return dog._thread

    thread = asyncio.run(run())
    thread.join(2)
    assert not thread.is_alive()
    assert thread not in threading.enumerate()
