"""
Statements with named parameters, and the parts that rooms contribute to them.

A store writes SQL about the tables of its own room. Where one statement has to touch the tables of several, each
room's store offers its part as a `Fragment`, and the store of the highest of them joins the parts: once, while it
is imported, so that PostgreSQL still sees a constant text, and one round trip (docs/adr/0029).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from paytrust.infra.db import Record

T = TypeVar("T")

_PARAMETER: Final = re.compile(r"\$([a-z][a-z_]*)")


class Fragment(msgspec.Struct, frozen=True):
    """A part of a statement that a room lends to the rooms above it. Parameters are named: `$total`."""

    text: str


class Writes(Fragment, Generic[T], frozen=True):
    """Writes a `T` into the room's own tables; *values* gives the parameters."""

    values: Callable[[T], dict[str, Any]]


class Columns(Fragment, Generic[T], frozen=True):
    """The columns of which *read* makes a `T`."""

    read: Callable[[Record], T]


class Statement:
    """A statement whose parameters have names; to PostgreSQL they are `$1`, `$2`, in the order of the text."""

    def __init__(self, text: str) -> None:
        self._names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        numbers = {name: f"${number}" for number, name in enumerate(self._names, 1)}
        self.sql = _PARAMETER.sub(lambda found: numbers[found[1]], text)

    def bind(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The statement and its arguments, as `Transaction.fetch` takes them."""
        return (self.sql, *(values[name] for name in self._names))

    def variants(self) -> Iterator[str]:
        """Every text that PostgreSQL can be sent."""
        yield self.sql


class Filtered:
    """
    A SELECT with only those of its conditions whose parameter is given: PostgreSQL plans `$1 IS NULL OR a = $1`
    once for both cases. A condition is named after its parameter; *select* ends in a condition that always holds.
    """

    def __init__(self, select: str, conditions: Mapping[str, str], end: str) -> None:
        self._select = select
        self._conditions = dict(conditions)
        self._end = end
        self._made: dict[tuple[str, ...], Statement] = {}  # as many as there are sets of conditions

    def bind(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The statement for the filters that are not None in *values*, and its arguments."""
        given = tuple(name for name in self._conditions if values.get(name) is not None)
        return self._with(given).bind(values)

    def variants(self) -> Iterator[str]:
        """Without a filter, with each alone, and with all: the texts of the others consist of the same parts."""
        for given in ((), *((name,) for name in self._conditions), tuple(self._conditions)):
            yield self._with(given).sql

    def _with(self, given: tuple[str, ...]) -> Statement:
        if given not in self._made:
            conditions = "".join(f" AND {self._conditions[name]}" for name in given)
            self._made[given] = Statement(f"{self._select}{conditions} {self._end}")
        return self._made[given]
