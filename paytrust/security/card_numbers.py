"""
Card numbers (PANs) in texts that people type. PayTrust must not hold one, and refuses it (PCI DSS 3; catalogue D16).
An `external_id` is not searched: shops number their orders, and one number in ten passes for a card's.

A card number is 13 to 19 digits with a valid check digit (Luhn, ISO/IEC 7812) that begin and are as many as
those of a card network. They stand by themselves, not inside a longer number or word, in one piece or in
groups with spaces or dashes between them; every group but the last has at least 4 digits. Digits of all
scripts count. A UUID, a number after "+" (a telephone number) and a valid EAN-13 (a product's code) are none.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

import msgspec

MIN_DIGITS: Final = 13
MAX_DIGITS: Final = 19
PREFIX: Final = 4
INSTEAD: Final = "[card number]"

_ISSUED: Final = re.compile(
    r"""
      4(?:\d{12}|\d{15}|\d{18})                                          # Visa
    | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}  # Mastercard
    | 3[47]\d{13}                                                        # American Express
    | 3(?:0[0-59]|[689]\d)\d{11,16}                                      # Diners Club
    | (?:6011|64[4-9]\d|65\d\d)\d{12,15}                                # Discover
    | 35(?:2[89]|[3-8]\d)\d{12,15}                                       # JCB
    | (?:62|81)\d{14,17}                                                 # UnionPay
    | (?:50(?:18|20|38)|5893|6304|6759|676[1-3])\d{9,15}                 # Maestro
    | 220[0-4]\d{12,15}                                                  # Mir
    | (?:60\d\d|82\d\d|508[5-9])\d{12}                                  # RuPay
    """,
    re.ASCII | re.VERBOSE,
)
# Groups that can be those of a card: a short one can only be the last, and none is part of a word or follows
# a "+".
_GROUPS: Final = re.compile(
    r"""
      (?<![\w+]) (?=[0-9 -]{13}) [0-9]{4,} (?![\w+])
      (?: [ -]{1,3} [0-9]{4,} (?![\w+]) )*
      (?: [ -]{1,3} [0-9]{1,3} (?![\w+]) )?
    """,
    re.VERBOSE,
)
_NIK: Final = re.compile(
    r"""
      (?: 1[1-9] | 21 | 3[1-6] | 5[1-3] | 6[1-5] | 7[1-6] | 8[12] | 9[1-7] )  # the province
      (?!00) [0-37]\d  (?!00) \d\d                                           # regency or city, and district
      (?: 0[1-9] | [1256]\d | 3[01] | 4[1-9] | 7[01] )                        # the day of birth, of women plus 40
      (?: 0[1-9] | 1[0-2] ) \d\d                                              # the month and the year
      (?!0000) \d{4}
    """,
    re.ASCII | re.VERBOSE,
)
"""An Indonesian identity number: 51 to 53, for example, are provinces there and Mastercards elsewhere."""
BY_PROGRAMS: Final = frozenset({"external_id"})
"""Fields that hold what a program counts up, such as order numbers: never searched."""
IDENTITIES: Final = frozenset({"metadata"})
"""Fields whose values may be identity numbers."""
_GROUP: Final = re.compile(r"[0-9]+")
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
)
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")  # the sum of the digits of the double
_DASHES: Final = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"), "-")


def holds_card(text: str) -> bool:
    """Whether a card number stands in *text*."""
    return len(text) >= MIN_DIGITS and next(_found(text), None) is not None


def without_cards(text: str) -> str:
    """*text* with other words in place of card numbers, for what is about to be said or written down."""
    for start, end in reversed(list(_found(text))) if len(text) >= MIN_DIGITS else ():
        text = text[:start] + INSTEAD + text[end:]
    return text


def is_identity(text: str) -> bool:
    """Whether *text* is an identity number and nothing else."""
    return _NIK.fullmatch(text) is not None


def where(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """
    Where in a decoded body a text holds a card number. A name that holds one is not part of the path to it.
    """
    if isinstance(value, str):
        if holds_card(value) and not (at and at[0] in IDENTITIES and is_identity(value)):
            yield at
    elif isinstance(value, msgspec.Struct):
        fields = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        for name, written in ((name, written) for name, written in fields if written not in BY_PROGRAMS):
            yield from where(getattr(value, name), (*at, written))
    elif isinstance(value, dict):
        for name, inner in value.items():
            hidden = holds_card(str(name))
            if hidden:
                yield at
            yield from where(inner, at if hidden else (*at, str(name)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from where(inner, (*at, index))


def _found(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every card number, apart from each other."""
    plain = text if text.isascii() else _in_ascii(text)
    plain = _UUID.sub(lambda uuid: "x" * len(uuid[0]), plain)
    for sequence in _GROUPS.finditer(plain):
        yield from _windows(plain, [group.span() for group in _GROUP.finditer(plain, *sequence.span())])


def _windows(plain: str, groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    digits = "".join(plain[start:end] for start, end in groups)
    ends = list(itertools.accumulate(end - start for start, end in groups))
    first, begin = 0, 0
    while first < len(groups):
        lengths = _lengths(digits[begin : begin + PREFIX])
        for last in range(first, len(groups)) if lengths else ():
            end = ends[last]
            if end - begin > MAX_DIGITS:
                break
            if end - begin in lengths and _valid(digits[begin:end]):
                yield groups[first][0], groups[last][1]
                first = last
                break
        begin, first = ends[first], first + 1


@functools.lru_cache(maxsize=10**PREFIX)
def _lengths(prefix: str) -> frozenset[int]:
    """How many digits a card's number has that begins with *prefix*: none when no network has issued it."""
    return frozenset(n for n in range(MIN_DIGITS, MAX_DIGITS + 1) if _ISSUED.fullmatch(prefix.ljust(n, "0")))


def _valid(digits: str) -> bool:
    """Luhn's rule; but a valid EAN-13 is a product."""
    written = digits.encode()
    total = sum(written[-1::-2]) + sum(written[-2::-2].translate(_DOUBLED)) - ord("0") * len(written)
    return total % 10 == 0 and not (len(digits) == 13 and _weighed(digits, 3) % 10 == 0)


def _weighed(digits: str, weight: int) -> int:
    """
    The sum with every second digit, from the last but one, times *weight*: of an EAN-13 with 3 a multiple of
    10.
    """
    return sum(map(int, digits[-1::-2])) + weight * sum(map(int, digits[-2::-2]))


def _in_ascii(text: str) -> str:
    """
    Digits of every script as ASCII, all spaces and dashes as one kind; every character stays where it is.
    """
    return "".join(map(_ascii, text.translate(_DASHES)))


def _ascii(char: str) -> str:
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    return " " if char.isspace() or unicodedata.category(char) == "Cf" else char
