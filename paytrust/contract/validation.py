"""
What a plugin hands over, checked before it is believed: nothing checks types when a plugin makes a struct.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from paytrust import times

T = TypeVar("T", bound=msgspec.Struct)

MAX_BYTES: Final = 64 * 1024

log = logging.getLogger("paytrust.plugins")


class PluginError(Exception):
    """The plugin, not the far side, did something that it must not do."""


def validated(answer: object, type_: type[T]) -> T:
    """
    The answer with every field of the type it is declared with, of sane size and without control characters.

    Raises `PluginError`, saying what is wrong.
    """
    if not isinstance(answer, type_):
        raise PluginError(f"it answered {type(answer).__name__}, not {type_.__name__}")
    try:
        written = msgspec.json.encode(answer)
        if len(written) > MAX_BYTES:
            raise PluginError(f"its {type_.__name__} has more than {MAX_BYTES} bytes")
        if b"\\u00" in written:
            raise PluginError(f"its {type_.__name__} holds control characters")
        checked = msgspec.json.decode(written, type=type_)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise PluginError(f"its {type_.__name__} is not as declared: {exc}"[:300]) from exc
    for name in type_.__struct_fields__:
        value = getattr(checked, name)
        if isinstance(value, datetime) and value.tzinfo is None:
            raise PluginError(f"{name} of its {type_.__name__} has no time zone")
    return _with_sane_times(checked)


def _with_sane_times(answer: T) -> T:
    """
    *answer* without the times that nothing can be calculated with, such as the year 9999 for "never". They
    are extras: they must not keep money from its books.
    """
    odd = {
        field.name: None
        for field in msgspec.structs.fields(answer)
        if isinstance(value := getattr(answer, field.name), datetime) and not times.is_sane(value)
        if field.default is None
    }
    if odd:
        log.warning("times that a plugin told were left out: %s of %s", ", ".join(odd), type(answer).__name__)
    return msgspec.structs.replace(answer, **odd) if odd else answer
