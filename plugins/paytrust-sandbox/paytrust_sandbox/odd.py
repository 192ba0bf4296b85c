"""
Answers and webhooks that are right but for some fields: null, missing, of another type, or in another format.
"""

from typing import Any

from msgspec import UNSET

from paytrust_sandbox.records import Fault


def with_odd_fields(value: Any, fault: Fault) -> Any:
    """Return *value* with the fields of *fault* over its own, and without those it takes away."""
    for path, odd in (*fault.fields.items(), *((path, UNSET) for path in fault.without)):
        value = _changed(value, path.split("."), odd)
    return value


def _changed(value: Any, path: list[str], odd: Any) -> Any:
    """
    Change what *path* leads to. It passes through every element of a list, and ends where an object is not
    there.
    """
    if isinstance(value, list):
        return [_changed(one, path, odd) for one in value]
    if not isinstance(value, dict):
        return value
    name, *rest = path
    if rest:
        return {**value, name: _changed(value[name], rest, odd)} if name in value else value
    if odd is UNSET:
        return {other: one for other, one in value.items() if other != name}
    return {**value, name: odd}
