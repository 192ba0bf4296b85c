"""
What a gateway sends, read leniently: only what decides about money may stop it.

A field of a `msgspec.Struct` that has no default decides: identity, status, amount. One that has a default is an extra: it is left
out where it is null, of another type or in another format, and the log says so once. An extra that moves money all the same, such as
an amount that is not always there, is marked with `DECIDES`.
"""

from __future__ import annotations

import logging
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T")

DECIDES: Final = msgspec.Meta(extra={"decides": True})
"""Marks a field with a default that must be readable where it is given: `Annotated[Decimal | None, DECIDES] = None`."""

log = logging.getLogger("paytrust.gateways")

_told: set[tuple[str, str]] = set()


def decode(body: bytes, type_: type[T]) -> T:
    """
    Decode JSON as *type_*, a struct or a list of structs.

    Raises `msgspec.ValidationError` when a field that decides does not fit, `msgspec.DecodeError`, `UnicodeDecodeError` or
    `RecursionError` when it is not JSON at all.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError:
        return _read(msgspec.Raw(body), type_)  # type: ignore[no-any-return]


def _read(raw: msgspec.Raw, type_: Any) -> Any:
    if get_origin(type_) is list and _is_struct(get_args(type_)[0]):
        return [_read(each, get_args(type_)[0]) for each in msgspec.json.decode(raw, type=list[msgspec.Raw])]
    if _is_struct(type_):
        return _struct(raw, type_)
    return msgspec.json.decode(raw, type=type_)


def _struct(raw: msgspec.Raw, type_: type[msgspec.Struct]) -> msgspec.Struct:
    given = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(type_):
        if field.encode_name not in given:
            if field.required:
                raise msgspec.ValidationError(f"Object missing required field `{field.encode_name}`")
            continue
        try:
            values[field.name] = _read(given[field.encode_name], field.type)
        except msgspec.ValidationError as exc:
            if field.required or _decides(field.type):
                raise msgspec.ValidationError(f"{field.encode_name}: {exc}") from exc
            _tell(type_.__name__, field.encode_name, str(exc))
    return type_(**values)


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _decides(type_: Any) -> bool:
    marks = getattr(type_, "__metadata__", ())
    return any(isinstance(mark, msgspec.Meta) and (mark.extra or {}).get("decides") for mark in marks)


def _tell(type_: str, field: str, why: str) -> None:
    """Log it once: a gateway that changed a format repeats that in every answer."""
    if (type_, field) not in _told:
        _told.add((type_, field))
        log.warning("a field that a gateway sent was left out: %s.%s: %s", type_, field, why[:200])
