"""A window of work: a free place is filled at once, and no account, gateway or subject takes more than its share."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from paytrust.infra import worker as worker_module
from paytrust.infra.window import Due, Window
from paytrust.infra.worker import Worker

START = datetime(2030, 1, 1, tzinfo=UTC)


def due(number, account=1, gateway="slow", subject=None):
    return Due(
        id=UUID(int=number),
        tenant_id=None,
        account_id=UUID(int=account),
        gateway=gateway,
        subject=UUID(int=subject or number),
        due_at=START + timedelta(seconds=number),
    )


class Rows:
    """Rows that are due, and a worker's way with them: one is at work until `end` says that it is done."""

    def __init__(self, *rows, size=4, of_account=2, of_gateway=3):
        self.waiting, self.began, self.cut = list(rows), [], []
        self._ends = {}
        self.window = Window(self._claim, self._work, size=size, of_account=of_account, of_gateway=of_gateway)

    async def _claim(self, room):
        read = [
            row
            for row in self.waiting
            if row.account_id not in room.full_accounts and row.gateway not in room.full_gateways
        ]
        chosen = room.choose(read)
        self.waiting = [row for row in self.waiting if row not in chosen]
        return [(row, row) for row in chosen]

    async def _work(self, row):
        self.began.append(row.id.int)
        end = self._ends.setdefault(row.id.int, asyncio.Event())
        try:
            await end.wait()
        except asyncio.CancelledError:
            self.cut.append(row.id.int)
            raise

    async def step(self):
        """Claim until there is no room; the numbers that began."""
        before = len(self.began)
        while await self.window.step():
            pass
        await asyncio.sleep(0)
        return self.began[before:]

    async def end(self, *numbers):
        for number in numbers:
            self._ends.setdefault(number, asyncio.Event()).set()
        await asyncio.sleep(0.01)


async def test_a_free_place_is_filled_while_the_others_wait():
    rows = Rows(*(due(number, account=number, gateway=str(number)) for number in range(1, 7)))
    assert await rows.step() == [1, 2, 3, 4]
    await rows.end(3)
    assert await rows.step() == [5]
    await rows.end(5)
    assert await rows.step() == [6]


async def test_an_account_and_a_gateway_have_a_share_of_the_places():
    slow = [due(number, account=1 + number % 2) for number in range(1, 9)]
    rows = Rows(*slow, due(20, account=3, gateway="quick"), due(21, account=3, gateway="quick"), size=5)
    began = await rows.step()
    assert Counter(number < 20 for number in began) == {True: 3, False: 2}


async def test_within_an_account_the_oldest_goes_first():
    rows = Rows(*(due(number) for number in (3, 1, 2)), of_account=1)
    for number in (1, 2, 3):
        assert await rows.step() == [number]
        await rows.end(number)


async def test_the_account_with_the_fewest_at_work_goes_first():
    rows = Rows(*(due(number) for number in range(1, 9)), size=2, of_account=2, of_gateway=9)
    assert await rows.step() == [1, 2]
    rows.waiting.append(due(99, account=2))
    await rows.end(1)
    assert await rows.step() == [99]


async def test_of_two_accounts_with_piles_neither_waits_for_the_other():
    piles = [due(number, account=1) for number in range(1, 6)]
    late = [due(number, account=2) for number in range(11, 16)]
    rows = Rows(*piles, *late, size=1)
    order = []
    for _ in range(6):
        [number] = await rows.step()
        order.append(number)
        await rows.end(number)
    assert order == [1, 11, 2, 12, 3, 13]


async def test_two_about_one_subject_are_never_at_work_at_once():
    rows = Rows(due(1, subject=7), due(2, subject=7), due(3))
    assert await rows.step() == [1, 3]
    await rows.end(1)
    assert await rows.step() == [2]


async def test_a_worker_looks_again_when_a_place_becomes_free():
    rows = Rows(due(1), due(2), size=1)
    worker = Worker("test", rows.window, poll_s=60)
    worker.start()
    async with asyncio.timeout(5):
        while rows.began != [1]:  # noqa: ASYNC110 - an event would be set by what is under test
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        await rows.end(1)
        assert rows.began == [1, 2]
        await rows.end(2)
    await worker.stop()


async def test_stopping_waits_for_what_is_under_way_and_cuts_off_the_late(monkeypatch):
    monkeypatch.setattr(worker_module, "STOP_S", 0.3)
    rows = Rows(due(1), due(2), due(3, account=2))
    worker = Worker("test", rows.window)
    worker.start()
    while len(rows.began) < 3:  # noqa: ASYNC110 - an event would be set by what is under test
        await asyncio.sleep(0.01)
    await rows.end(2)
    async with asyncio.timeout(5):
        await worker.stop()
    assert (sorted(rows.cut), rows.waiting) == ([1, 3], [])


@pytest.mark.parametrize("trouble", [RuntimeError("a bug"), TimeoutError()])
async def test_work_that_raises_gives_its_place_back(trouble):
    async def work(row):
        raise trouble

    rows = Rows(due(1), due(2), size=1)
    rows.window._work = work
    assert await rows.window.step() == 1
    await rows.window.finish()
    assert await rows.window.step() == 1
    await rows.window.finish()
