"""
How often a client may ask: sliding windows of a minute.

Every request is counted at the time it came, so there is no edge of a window at which twice as many pass.
Refused requests do not count.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from paytrust.errors import ConfigurationError

WINDOW_S: Final = 60
MAX_SUBJECTS: Final = 10_000
STORE_DEADLINE_S: Final = 1.0
STORE_RETRY_S: Final = 5.0
STORE_CONNECTIONS: Final = 16
ANONYMOUS_POLICY: Final = "address"
"""The policy for requests without a valid key."""

log = structlog.stdlib.get_logger("paytrust.rates")


class Decision(msgspec.Struct, frozen=True):
    """
    Whether this request may pass, how many more may, and in how many seconds one more than that.
    """

    policy: str
    limit: int
    granted: bool
    remaining: int
    more_in_s: int
    should_log: bool = False
    """The first refusal of a subject in a window: worth a line in the log, which the others are not."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """As the IETF draft httpapi-ratelimit-headers has it."""
        policy = f'"{self.policy}";q={self.limit};w={WINDOW_S}'
        state = f'"{self.policy}";r={self.remaining};t={self.more_in_s}'
        return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode())]


class _Window(msgspec.Struct):
    times: deque[float] = msgspec.field(default_factory=deque)
    told_s: float = -math.inf
    """When a refusal was news last."""


class SlidingWindow:
    """
    Sliding windows in the memory of this process, one for each subject.

    At most *subjects* are known; the one who asked longest ago is forgotten first. Memory is
    bounded also by the requests of a minute, because each request forgets up to two subjects who have been
    silent that long.
    """

    def __init__(
        self,
        policy: str,
        limit: int,
        *,
        subjects: int = MAX_SUBJECTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.limit = limit
        self._subjects = subjects
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def __contains__(self, subject: str) -> bool:
        return subject in self._windows

    def hit(self, subject: str) -> Decision:
        """Count one request of *subject*, if it may come."""
        now_s = self._clock()
        self._forget_silent(now_s)
        window = self._windows.setdefault(subject, _Window())
        self._windows.move_to_end(subject)
        times = window.times
        while times and times[0] <= now_s - WINDOW_S:
            times.popleft()
        granted = len(times) < self.limit
        if granted:
            times.append(now_s)
        should_log = not granted and now_s - window.told_s >= WINDOW_S
        if should_log:
            window.told_s = now_s
        if len(self._windows) > self._subjects:
            self._windows.popitem(last=False)
        return _decision(
            self.policy,
            self.limit,
            len(times),
            granted=granted,
            oldest_age_s=now_s - times[0],
            should_log=should_log,
        )

    def refusal(self, subject: str) -> Decision | None:
        """The refusal that `hit` would give; None when it would grant, and then nothing is counted."""
        window = self._windows.get(subject)
        if window is None or len(window.times) < self.limit:
            return None
        decision = self.hit(subject)
        if not decision.granted:
            return decision
        self.undo(subject)
        return None

    def undo(self, subject: str) -> None:
        """The newest request of *subject* does not count after all."""
        if (window := self._windows.get(subject)) and window.times:
            window.times.pop()

    def _forget_silent(self, now_s: float) -> None:
        for _ in range(2):  # not all at once: that would take a while after a crowd
            if not self._windows:
                return
            subject, window = next(iter(self._windows.items()))
            if window.times and window.times[-1] > now_s - WINDOW_S:
                return
            del self._windows[subject]


class SharedLimit:
    """
    Sliding windows that all processes count together in *store*; each by itself without one, and while it is
    away.
    """

    def __init__(self, policy: str, limit: int, store: RateStore | None = None) -> None:
        self._own = SlidingWindow(policy, limit)
        self._store = store

    async def hit(self, subject: str) -> Decision:
        """Count one request of *subject*, if it may come."""
        shared = (
            None if self._store is None else await self._store.hit(self._own.policy, self._own.limit, subject)
        )
        return shared or self._own.hit(subject)


class RateStore:
    """
    Sliding windows in Redis or Valkey, each request one list entry, by one atomic script.

    Times are those of the asking machine, so clocks have to agree. While the store cannot be asked, one
    request in five seconds tries to, and waits for a second at most; the others do not.
    """

    def __init__(self, url: str) -> None:
        try:
            from limits import RateLimitItemPerMinute  # noqa: PLC0415 - the extra `redis`
            from limits.aio.strategies import MovingWindowRateLimiter  # noqa: PLC0415
            from limits.errors import StorageError  # noqa: PLC0415
            from limits.storage import storage_from_string  # noqa: PLC0415
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
        except ImportError as exc:
            raise ConfigurationError(
                "PAYTRUST_RATES_URL needs the extra `redis`: pip install 'paytrust[redis]'"
            ) from exc
        options: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": STORE_DEADLINE_S,
            "socket_connect_timeout": STORE_DEADLINE_S,
        }
        self._storage: Any = storage_from_string(
            f"async+{url}", implementation="redispy", key_prefix="paytrust", wrap_exceptions=True, **options
        )
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._item = RateLimitItemPerMinute
        self._lost_it = (StorageError, OSError, TimeoutError)
        self._free = asyncio.Semaphore(STORE_CONNECTIONS)
        self._away = False
        self._ask_again_s = 0.0

    async def hit(self, policy: str, limit: int, subject: str) -> Decision | None:
        """Count one request of *subject*, if it may come. None while the store is away."""
        now_s = time.monotonic()
        if self._away:
            if now_s < self._ask_again_s:
                return None
            self._ask_again_s = now_s + STORE_RETRY_S
        item = self._item(limit)
        try:
            async with asyncio.timeout(STORE_DEADLINE_S), self._free:
                granted = await self._limiter.hit(item, policy, subject)
                window = await self._limiter.get_window_stats(item, policy, subject)
        except self._lost_it as exc:
            self._lost(exc)
            return None
        if self._away:
            self._away = False
            log.info("rate-limit store available again")
        oldest_age_s = WINDOW_S - (window.reset_time - time.time())
        return _decision(policy, limit, limit - window.remaining, granted=granted, oldest_age_s=oldest_age_s)

    async def close(self) -> None:
        await self._storage.bridge.get_connection().aclose()

    def _lost(self, exc: BaseException) -> None:
        if not self._away:
            log.warning(
                "rate-limit store unavailable; each process counts by itself", error=type(exc).__name__
            )
        self._away = True
        self._ask_again_s = time.monotonic() + STORE_RETRY_S


def _decision(
    policy: str, limit: int, used: int, *, granted: bool, oldest_age_s: float, should_log: bool = False
) -> Decision:
    more_in_s = min(max(math.ceil(WINDOW_S - oldest_age_s), 1), WINDOW_S)
    return Decision(policy, limit, granted, max(limit - used, 0), more_in_s, should_log)


class RateLimits(msgspec.Struct, frozen=True):
    """How often each API key, each admin key, and each address without a valid key may ask."""

    keys: SharedLimit
    admins: SharedLimit
    anonymous: SlidingWindow
