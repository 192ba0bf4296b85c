"""
Work on rows that are due, so many at once: a place that becomes free is filled at once, whatever the others
are waiting for.

Places are shared out, so that what is slow, greedy or hostile holds up itself only: an account has a few of
them, all accounts of one gateway half of them, and of two accounts the one goes first that has fewer at work.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from paytrust.infra import logs

T = TypeVar("T")

CANDIDATES: Final = 500
"""Rows that are looked at for one choice, those of all accounts in turn."""
TURNS_KEPT: Final = 10_000

log = logs.get_logger("paytrust.work")


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is due. Two about one *subject* are never worked on at once."""

    id: UUID
    tenant_id: UUID | None
    account_id: UUID
    gateway: str
    subject: UUID
    due_at: datetime


class Room(Protocol):
    """The places that a window has left when it claims."""

    @property
    def full_accounts(self) -> list[UUID]:
        """Accounts that have no place left: their rows need not be read."""

    @property
    def full_gateways(self) -> list[str]:
        """Gateways whose accounts have no place left."""

    def choose(self, candidates: Sequence[Due]) -> list[Due]:
        """Those that there is a place for, by id: every worker takes them in one order."""


Claim = Callable[[Room], Awaitable[Sequence[tuple[Due, T]]]]
"""Reads what is due, and takes what the room has chosen of it, unless another process was quicker."""


class Window(Generic[T]):
    """
    At most *size* rows at work, *of_account* of one account, *of_gateway* of all accounts of one gateway.

    *claim* gives a claim a lease, so that another process takes it over when this one dies; *work* notes by
    itself how it ended. `on_free` is called whenever a place becomes free.
    """

    def __init__(
        self,
        claim: Claim[T],
        work: Callable[[T], Awaitable[None]],
        *,
        size: int,
        of_account: int,
        of_gateway: int,
    ) -> None:
        self._claim = claim
        self._work = work
        self._size, self._of_account, self._of_gateway = size, of_account, of_gateway
        self._under_way: dict[asyncio.Task[None], Due] = {}
        self._turn = 0
        self._turns: OrderedDict[UUID, int] = OrderedDict()
        self.on_free: Callable[[], None] = _nothing

    async def step(self) -> int:
        """Claim for the free places, and begin. Returns how many were claimed; waits for none of them."""
        if len(self._under_way) >= self._size:
            return 0
        claimed = await self._claim(self)
        for due, row in claimed:
            task = asyncio.create_task(self._contained(row))
            self._under_way[task] = due
            task.add_done_callback(self._ended)
            self._note_turn(due.account_id)
        return len(claimed)

    async def finish(self, within_s: float | None = None) -> None:
        """Wait for the work under way, and cut off the rest after *within_s*."""
        if not self._under_way:
            return
        _, late = await asyncio.wait(list(self._under_way), timeout=within_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    @property
    def full_accounts(self) -> list[UUID]:
        at_work = Counter(due.account_id for due in self._under_way.values())
        return [account_id for account_id, number in at_work.items() if number >= self._of_account]

    @property
    def full_gateways(self) -> list[str]:
        at_work = Counter(due.gateway for due in self._under_way.values())
        return [gateway for gateway, number in at_work.items() if number >= self._of_gateway]

    def choose(self, candidates: Sequence[Due]) -> list[Due]:
        """The next ones: of the account with the fewest at work, then of the one whose last turn is longest ago."""
        busy = list(self._under_way.values())
        accounts = Counter(due.account_id for due in busy)
        gateways = Counter(due.gateway for due in busy)
        subjects = {due.subject for due in busy}
        waiting: dict[UUID, list[Due]] = {}
        for due in sorted(candidates, key=lambda due: due.due_at, reverse=True):
            waiting.setdefault(due.account_id, []).append(due)
        chosen: list[Due] = []
        while waiting and len(busy) + len(chosen) < self._size:
            account_id = min(waiting, key=lambda one: (accounts[one], self._turns.get(one, 0), one))
            due = waiting[account_id].pop()
            if not waiting[account_id]:
                del waiting[account_id]
            if accounts[account_id] >= self._of_account or gateways[due.gateway] >= self._of_gateway:
                waiting.pop(account_id, None)
            elif due.subject not in subjects:
                chosen.append(due)
                subjects.add(due.subject)
                accounts[account_id] += 1
                gateways[due.gateway] += 1
        return sorted(chosen, key=lambda due: due.id)

    def _note_turn(self, account_id: UUID) -> None:
        self._turn += 1
        self._turns[account_id] = self._turn
        self._turns.move_to_end(account_id)
        if len(self._turns) > TURNS_KEPT:
            self._turns.popitem(last=False)

    async def _contained(self, row: T) -> None:
        try:
            await self._work(row)
        except Exception:  # its lease ends, and then it is claimed again
            log.exception("work ended with an error that it did not note")

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self.on_free()


def _nothing() -> None:
    """Stand in for a listener."""
