"""
Circuit breakers: an account whose calls keep failing is not called for a while. Each process learns for
itself.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final
from uuid import UUID

from paytrust.errors import GatewayUnavailable
from paytrust.infra import logs

WINDOW_S: Final = 30.0
"""
Failures longer ago say nothing about now. Two calls that ran into their deadlines, one after the other, lie
within.
"""
OPEN_S: Final = 10.0
"""
How long a failing account is left alone before one call tries again. Less than the first retry of a webhook,
1 min.
"""
MEMORY: Final = 100
BREAKERS_KEPT: Final = 1_000

log = logs.get_logger("paytrust.gateways")


class CircuitOpen(GatewayUnavailable):
    """An account is left alone: nothing was sent."""


class _Breaker:
    """The state of one account, by its latest calls. Closed; open until a time; then one call at a time may try."""

    def __init__(self) -> None:
        self.open_until: float | None = None
        self.probing = False
        self._results: deque[tuple[float, bool]] = deque(maxlen=MEMORY)

    def wait_s(self, now: float) -> float:
        """How long to leave the account alone; 0 when a call may go."""
        if self.open_until is None:
            return 0
        return max(self.open_until - now, 1.0 if self.probing else 0)

    def judge(self, now: float, failures: int, *, probe: bool, failed: bool | None) -> bool:
        """Take in how a call ended; False when nothing of this account has to be remembered any more."""
        if probe:
            self.probing = False
            if failed is not None:
                self.open_until = now + OPEN_S if failed else None
            return failed is not False
        if failed is None or self.open_until is not None:
            return True  # says nothing, or began before the account was closed
        self._results.append((now, failed))
        recent = [failed for at, failed in self._results if at > now - WINDOW_S]
        # At least half: an account that many share is not closed by the odd requests of one.
        if sum(recent) >= failures and 2 * sum(recent) >= len(recent):
            self.open_until = now + OPEN_S
        return any(recent)


class Breakers:
    """
    Leave an account alone whose calls keep failing: after *failures* within 30 s which are half of its calls
    or more; 0 never.

    Only what says that the gateway is away counts: no connection, no answer, an answer that makes no sense. A
    refusal is an answer, and what a plugin raises by itself is no fault of the gateway. Accounts without
    failures cost nothing.
    """

    def __init__(self, *, failures: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = failures
        self._clock = clock
        self._known: OrderedDict[UUID, _Breaker] = OrderedDict()

    def check(self, account_id: UUID, gateway: str) -> None:
        """Raise `GatewayUnavailable` while the circuit of the account is open."""
        breaker = self._known.get(account_id)
        if breaker is not None and (wait_s := breaker.wait_s(self._clock())) > 0:
            error = CircuitOpen(
                f"circuit open: calls to this {gateway} account kept failing; nothing was sent, next attempt in {wait_s:.0f} s"
            )
            error.retry_after_s = max(1, round(wait_s))
            raise error

    def try_acquire(self, account_id: UUID) -> bool:
        """A call begins; True when it is the one that tries whether the gateway is back."""
        breaker = self._known.get(account_id)
        if breaker is None or breaker.open_until is None:
            return False
        breaker.probing = True
        return True

    def record(
        self, account_id: UUID, *, probe: bool, failed: bool | None, reason: str | None = None
    ) -> None:
        """A call ended; *failed* is None when that says nothing about the gateway. *reason* is for the log."""
        breaker = self._known.get(account_id) or (
            self._new(account_id) if failed and self._failures else None
        )
        if breaker is None:
            return
        was_open = breaker.open_until is not None
        if not breaker.judge(self._clock(), self._failures, probe=probe, failed=failed):
            del self._known[account_id]
        if was_open is not (breaker.open_until is not None):
            log.warning(
                "circuit closed for gateway account" if was_open else "circuit opened for gateway account",
                gateway_id=str(account_id),
                **({} if was_open else {"reason": reason}),
            )

    def _new(self, account_id: UUID) -> _Breaker:
        if len(self._known) >= BREAKERS_KEPT:
            self._known.popitem(last=False)
        self._known[account_id] = _Breaker()
        return self._known[account_id]
