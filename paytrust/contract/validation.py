"""
What a plugin hands over, checked before it is believed: nothing checks types when a plugin makes a struct.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

MAX_BYTES: Final = 64 * 1024


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
    return checked
