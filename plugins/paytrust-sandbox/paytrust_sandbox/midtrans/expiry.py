"""
When a Snap page closes and when a chosen method stops taking money. Every function raises ValueError for a
senseless expiry.
"""

from datetime import datetime, timedelta
from typing import Any

from paytrust_sandbox.midtrans.channels import CHANNELS
from paytrust_sandbox.midtrans.times import duration, moment

Fields = dict[str, Any]
PAGE_DEFAULT = timedelta(hours=24)
TOKEN_MAXIMUM = timedelta(days=7)
METHOD_MAXIMUM = timedelta(days=180)


def page_expiry(body: Fields, now: datetime) -> datetime:
    """Return when the Snap page of *body* closes: page_expiry, else expiry, else a day."""
    if body.get("page_expiry") is not None:
        return now + _length(body["page_expiry"], "page_expiry", "duration", TOKEN_MAXIMUM)
    if body.get("expiry") is None:
        return now + PAGE_DEFAULT
    end = _start(body["expiry"], "expiry", "start_time", now) + _length(
        body["expiry"], "expiry", "duration", TOKEN_MAXIMUM
    )
    if end <= now:
        raise ValueError("expiry is in the past")
    return end


def snap_expiry(body: Fields, channel: str, now: datetime) -> datetime:
    """
    Return when *channel*, chosen *now*, stops waiting. Without a start_time the clock starts at the choice.
    """
    expiry = body.get("expiry")
    if expiry is None:
        return now + timedelta(seconds=CHANNELS[channel].waits_s)
    return _start(expiry, "expiry", "start_time", now) + _length(expiry, "expiry", "duration", TOKEN_MAXIMUM)


def core_expiry(body: Fields, channel: str, now: datetime) -> datetime:
    """Return when a Core charge over *channel* stops waiting."""
    expiry = body.get("custom_expiry")
    if expiry is None:
        return now + timedelta(seconds=CHANNELS[channel].waits_s)
    length = _length(expiry, "custom_expiry", "expiry_duration", METHOD_MAXIMUM, default_unit="minute")
    end = _start(expiry, "custom_expiry", "order_time", now) + length
    if end <= now:
        raise ValueError("custom_expiry is in the past")
    return end


def _start(expiry: object, where: str, name: str, now: datetime) -> datetime:
    given = expiry.get(name) if isinstance(expiry, dict) else None
    start = now if given is None else moment(given)
    if start is None:
        raise ValueError(f"{where}.{name} must look like 2030-01-01 10:00:00 +0700")
    return start


def _length(
    expiry: object, where: str, name: str, most: timedelta, default_unit: str | None = None
) -> timedelta:
    fields = expiry if isinstance(expiry, dict) else {}
    length = duration(fields.get(name), fields.get("unit", default_unit))
    if length is None or length > most:
        raise ValueError(
            f"{where} needs a {name} of at least 1 and a unit, together at most {most.days} days"
        )
    return length
