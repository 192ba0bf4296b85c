"""Xendit's rate limit: a sliding minute per endpoint, told in headers on every answer."""

import time
from collections import defaultdict, deque

WINDOW_S = 60.0


class RateLimit:
    """
    Counts the calls of each operation in the last minute. Enforced only where asked: load tests want to know
    the headers, not the wall.
    """

    def __init__(self) -> None:
        self._calls: dict[str, deque[float]] = defaultdict(deque)

    def count(self, operation: str, limit: int) -> tuple[bool, dict[str, str]]:
        """Count one call. Returns whether it is within *limit*, and the headers to answer with."""
        now = time.monotonic()
        calls = self._calls[operation]
        while calls and calls[0] <= now - WINDOW_S:
            calls.popleft()
        allowed = len(calls) < limit
        if allowed:
            calls.append(now)
        reset_s = WINDOW_S - (now - calls[0]) if calls else WINDOW_S
        headers = {
            "rate-limit-limit": str(limit),
            "rate-limit-remaining": str(limit - len(calls)),
            "rate-limit-reset": f"{reset_s:.2f}",
        }
        return allowed, headers

    def reset(self) -> None:
        self._calls.clear()
