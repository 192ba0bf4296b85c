"""
When each gateway posts a webhook again. A rule looks at the attempts so far and names the gap, or None for
"no more".
"""

import random
from collections.abc import Callable, Sequence

from paytrust_sandbox.records import Attempt

RetryRule = Callable[[Sequence[Attempt]], float | None]

MINUTE, HOUR = 60.0, 3600.0
XENDIT_GAPS_S = (15 * MINUTE, 45 * MINUTE, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR)
MIDTRANS_GAPS_S = (2 * MINUTE, 10 * MINUTE, 30 * MINUTE, 90 * MINUTE, 210 * MINUTE)
# How often Midtrans repeats itself depends on what it was told.
MIDTRANS_REPEATS = {500: 1, 503: 4, 400: 2, 404: 2, 301: 0, 302: 0, 303: 0}
MIDTRANS_SHIFT = 0.1


def succeeded(attempt: Attempt) -> bool:
    return attempt.status is not None and 200 <= attempt.status < 300


def xendit_rule(attempts: Sequence[Attempt]) -> float | None:
    """Six more times in 24 hours, whatever went wrong."""
    repeats = len(attempts) - 1
    if succeeded(attempts[-1]) or repeats >= len(XENDIT_GAPS_S):
        return None
    return XENDIT_GAPS_S[repeats]


def midtrans_rule(attempts: Sequence[Attempt]) -> float | None:
    """As often as the last answer deserves, each gap shifted a little."""
    repeats, last = len(attempts) - 1, attempts[-1]
    allowed = (
        len(MIDTRANS_GAPS_S)
        if last.status is None
        else MIDTRANS_REPEATS.get(last.status, len(MIDTRANS_GAPS_S))
    )
    if succeeded(last) or repeats >= allowed:
        return None
    return MIDTRANS_GAPS_S[repeats] * random.uniform(1 - MIDTRANS_SHIFT, 1 + MIDTRANS_SHIFT)  # noqa: S311 - a jitter, no secret
