"""
What is wrong with the structure of a request: all of it at once, in the API's words.

msgspec says the first thing it meets, in Python's words. It decides whether a body is accepted; this looks
again at one that is not.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import inspect

from paytrust.errors import FieldError, pointer

MAX_NAME: Final = 100
"""A longer name is not repeated: the pointer ends at what holds it."""
At = tuple[str | int, ...]


def faults(type_: Any, value: Any) -> Iterator[FieldError]:
    """Where *value*, which was JSON, is not what *type_* asks for."""
    yield from _faults(inspect.type_info(type_), value, ())


def expected(node: inspect.Type) -> str:
    """What is accepted, in words that do not depend on a programming language; empty where that is anything."""
    return WORDS.get(type(node), lambda _: "")(node)


WORDS: Final[dict[type[inspect.Type], Callable[[Any], str]]] = {
    inspect.Metadata: lambda node: expected(node.type),
    # That a field may be null is no way to mend it.
    inspect.UnionType: lambda node: " or ".join(
        dict.fromkeys(expected(one) for one in node.types if not isinstance(one, inspect.NoneType))
    ),
    inspect.EnumType: lambda node: "one of " + ", ".join(str(member.value) for member in node.cls),
    inspect.LiteralType: lambda node: "one of " + ", ".join(map(str, node.values)),
    inspect.StrType: lambda node: (
        f"a text{_range(' of', node.min_length, node.max_length, ' characters')}"
        + (f" of the form {node.pattern}" if node.pattern else "")
    ),
    inspect.IntType: lambda node: f"a whole number{_range(' from', node.ge, node.le)}",
    inspect.ListType: lambda node: f"a list{_range(' of', node.min_length, node.max_length, ' items')}",
    inspect.DictType: lambda node: f"an object{_range(' of', node.min_length, node.max_length, ' fields')}",
    inspect.StructType: lambda _: "an object",
    inspect.BoolType: lambda _: "true or false",
    inspect.NoneType: lambda _: "null",
    inspect.UUIDType: lambda _: "a UUID",
    inspect.DateTimeType: lambda _: "a time such as 2026-11-22T10:00:00Z, with an offset or Z",
}


def _range(word: str, least: Any, most: Any, unit: str = "") -> str:
    if least is None and most is None:
        return ""
    if least is None:
        return f"{word.replace(' from', '')} at most {most}{unit}"
    return (
        f"{word.replace(' from', '')} at least {least}{unit}"
        if most is None
        else f"{word} {least} to {most}{unit}"
    )


def _faults(node: inspect.Type, value: Any, at: At) -> Iterator[FieldError]:
    if isinstance(node, inspect.Metadata):
        yield from _faults(node.type, value, at)
    elif isinstance(node, inspect.UnionType):
        yield from _faults_of_the_nearest(node, value, at)
    else:
        accepts = CHECKS.get(type(node))
        if accepts is not None and not accepts(node, value):
            yield _fault(node, value, at)
        yield from _faults_inside(node, value, at)


def _faults_inside(node: inspect.Type, value: Any, at: At) -> Iterator[FieldError]:
    match node, value:
        case inspect.StructType(), dict():
            yield from _faults_of_fields(node, value, at)
        case inspect.ListType(), list():
            for index, item in enumerate(value):
                yield from _faults(node.item_type, item, (*at, index))
        case inspect.DictType(), dict():
            for key, item in value.items():
                for fault in _faults(node.key_type, key, (*at, key)):
                    yield FieldError(fault.pointer, f"the name of this field: {fault.detail}")
                yield from _faults(node.value_type, item, (*at, key))


def _faults_of_fields(node: inspect.StructType, value: dict[str, Any], at: At) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in node.fields}
    for name, field in fields.items():
        if name in value:
            yield from _faults(field.type, value[name], (*at, name))
        elif field.required:
            wanted = expected(field.type)
            yield FieldError(
                _pointer(*at, name), "this field is required" + (f": {wanted}" if wanted else "")
            )
    if node.forbid_unknown_fields:
        for name in value:
            if name not in fields:
                yield FieldError(_pointer(*at, name), "there is no such field")


def _faults_of_the_nearest(node: inspect.UnionType, value: Any, at: At) -> Iterator[FieldError]:
    """Of what the value looks most like: what is wrong inside an object says more than that it is none."""
    tried = [list(_faults(member, value, at)) for member in node.types]
    if not all(tried):
        return
    inside = [found for found in tried if any(fault.pointer != _pointer(*at) for fault in found)]
    yield from inside[0] if inside else [_fault(node, value, at)]


CHECKS: Final[dict[type[inspect.Type], Callable[[Any, Any], bool]]] = {
    inspect.StructType: lambda _, value: isinstance(value, dict),
    inspect.DictType: lambda node, value: isinstance(value, dict) and _sized(node, value),
    inspect.ListType: lambda node, value: isinstance(value, list) and _sized(node, value),
    inspect.StrType: lambda node, value: (
        isinstance(value, str)
        and _sized(node, value)
        and (node.pattern is None or re.search(node.pattern, value) is not None)
    ),
    inspect.IntType: lambda node, value: type(value) is int and _fits(value, node.ge, node.le),
    inspect.BoolType: lambda _, value: isinstance(value, bool),
    inspect.NoneType: lambda _, value: value is None,
    inspect.EnumType: lambda node, value: value in [member.value for member in node.cls],
    inspect.LiteralType: lambda node, value: value in node.values,
    inspect.UUIDType: lambda _, value: _converts(value, UUID),
    inspect.DateTimeType: lambda node, value: _converts(value, Annotated[datetime, msgspec.Meta(tz=node.tz)]),
}
"""What is not here is left to msgspec: it has found something wrong, and it says what."""


def _sized(node: Any, value: Any) -> bool:
    return _fits(len(value), node.min_length, node.max_length)


def _fits(size: int, least: float | None, most: float | None) -> bool:
    return (-math.inf if least is None else least) <= size <= (math.inf if most is None else most)


def _converts(value: Any, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except (msgspec.ValidationError, OverflowError):
        return False
    return isinstance(value, str)


def _fault(node: inspect.Type, value: Any, at: At) -> FieldError:
    wanted = expected(node)
    got = KINDS.get(type(value), "a number")
    is_kind = _takes_text(node) if got == "a text" else got == "a number" and "number" in wanted
    return FieldError(
        _pointer(*at), f"expected {wanted}" + ("" if is_kind or got in wanted else f", got {got}")
    )


def _takes_text(node: inspect.Type) -> bool:
    members = node.types if isinstance(node, inspect.UnionType) else (node,)
    return any(isinstance(member, TEXTS) for member in members)


KINDS: Final = {str: "a text", bool: "true or false", type(None): "null", list: "a list", dict: "an object"}
TEXTS: Final = (inspect.EnumType, inspect.LiteralType, inspect.UUIDType, inspect.DateTimeType)


def _pointer(*parts: str | int) -> str:
    return pointer(*itertools.takewhile(lambda part: len(str(part)) <= MAX_NAME, parts))
