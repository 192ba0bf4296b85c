"""Every rule that a request breaks, told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from paytrust.errors import FieldError, Invalid

T = TypeVar("T")


class InvalidCurrency(Invalid):
    """Not an ISO 4217 code, or not one this gateway account collects."""

    code = "invalid_currency"


class Violations:
    """Collects every broken rule with its pointer, so that a caller learns of all at once."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def add(self, at: str, detail: str) -> None:
        self.errors.append(FieldError(at, detail))

    def parse(self, at: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ValueError as exc:
            self.add(at, str(exc))
            return None

    def check(self) -> None:
        if self.errors:
            first = self.errors[0]
            error = InvalidCurrency if first.pointer == "#/currency" else Invalid
            raise error(f"{first.pointer}: {first.detail}", errors=tuple(self.errors))
