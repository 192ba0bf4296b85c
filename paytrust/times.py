"""Times that come from outside: with an offset, and where a rule asks for it near enough to calculate with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)


def is_sane(at: datetime) -> bool:
    """
    Whether the aware time *at* can be calculated with: near the ends of the calendar adding a day, or another
    offset, overflows.
    """
    return EARLIEST <= at < LATEST


def read(text: str) -> datetime:
    """
    The time in *text*, in UTC. Raises ValueError without an offset, or where UTC has no such year. A filter
    may be as far away as that: "9999-12-31T23:59:59Z" is a bound that cuts nothing off.
    """
    try:
        at: datetime = msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
        return at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as exc:
        raise ValueError("expected a time such as 2026-11-22T10:00:00Z, with an offset or Z") from exc
