"""Times as Midtrans writes them (Jakarta, no offset) and reads them (with one), and durations by unit."""

from datetime import datetime, timedelta, timezone

WIB = timezone(timedelta(hours=7))
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


def wib(at: datetime) -> str:
    """Return *at* as `YYYY-MM-DD HH:MM:SS` in Jakarta."""
    return f"{at.astimezone(WIB):%Y-%m-%d %H:%M:%S}"


def moment(text: object) -> datetime | None:
    """Read `yyyy-MM-dd HH:mm:ss +0700`; None for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z") if isinstance(text, str) else None
    except ValueError:
        return None


def duration(count: object, unit: object) -> timedelta | None:
    """Read a positive whole *count* of *unit*, singular or plural; None for anything else."""
    seconds = UNITS.get(unit.removesuffix("s")) if isinstance(unit, str) else None
    if (
        seconds is None
        or not isinstance(count, int)
        or isinstance(count, bool)
        or not 1 <= count <= 10_000_000
    ):
        return None
    return timedelta(seconds=count * seconds)
