"""
Request bodies, decoded from the raw bytes by msgspec, strictly: the framework's own path goes through floats
and lax coercion.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from litestar import Request

from paytrust.api import structure
from paytrust.api.problems import MAX_DETAIL, MAX_ERRORS, invalid
from paytrust.errors import CardNumber, FieldError, Invalid, PayTrustError, pointer
from paytrust.security import card_numbers

MAX_DEPTH: Final = 32
_PATH = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
_TOKEN = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)
_WORD = re.compile(r"`(\w+)`")
WORDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "uuid": "a UUID",
    "datetime": "a time",
}
# Characters that PostgreSQL or XML cannot hold, and DEL, raw or escaped. Most raw ones are invalid JSON
# already.
_CONTROL = re.compile(
    rb"\x7f|\xef\xbf[\xbe\xbf]|\\(?:[bf]|u(?:00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F]|7[fF])|[fF]{3}[eEfF]))"
)
# The closing quote may be missing: searching for it again from every quote would take quadratic time.
_STRING = re.compile(rb'"[^"]*"?')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]


class Malformed(Invalid):
    """The body is not JSON we accept at all."""

    code = "malformed_body"
    title = "The body cannot be read"


class UnsupportedMediaType(PayTrustError):
    """The body says it is something else than JSON, or is compressed."""

    code = "unsupported_media_type"
    status = 415
    title = "Send JSON"


class StrictRequest(Request[Any, Any, Any]):
    """Decodes its body into the handler's type, strictly and from the bytes."""

    async def json(self) -> Any:
        content_type, _ = self.content_type
        if (
            content_type != "application/json"
            or self.headers.get("content-encoding", "identity") != "identity"
        ):
            raise UnsupportedMediaType(
                f"expected an uncompressed application/json body, got {content_type[:80] or 'no content type'}"
            )
        field = self.route_handler.parsed_data_field
        return decode(Any if field is None else field.annotation, await self.body())


@functools.lru_cache(maxsize=256)
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_, strict=True)


def decode(type_: Any, body: bytes) -> Any:
    """Decode *body* as *type_*, or raise `Malformed` or `Invalid` with a pointer."""
    # Without escaped backslashes and quotes, what looks like an escape is one and what looks like the end of
    # a string is it.
    plain = body.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in body else body
    if _too_deep(plain):
        raise Malformed(f"the body is nested deeper than {MAX_DEPTH} levels")
    if _holds_control(plain):
        raise Malformed("the body holds control characters, which are not accepted in any text")
    try:
        body.decode()
        decoded = _decoder(type_).decode(body)
    except msgspec.ValidationError as exc:
        raise _all_faults(type_, body, exc) from exc
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise _malformed(exc) from exc
    _refuse_repeated_keys(body)
    _refuse_card_numbers(decoded)
    return decoded


def _refuse_card_numbers(decoded: Any) -> None:
    errors = tuple(
        FieldError(pointer(*at), "holds what looks like a card number") for at in card_numbers.where(decoded)
    )
    if errors:
        raise CardNumber(
            "a text holds what looks like a card number, which must not be sent here",
            errors=errors[:MAX_ERRORS],
        )


def _holds_control(plain: bytes) -> bool:
    # Most bodies hold none of the bytes that a control character begins with, and the expression looks at
    # every byte.
    return any(byte in plain for byte in (b"\\", b"\x7f", b"\xef\xbf")) and _CONTROL.search(plain) is not None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""


def _refuse_repeated_keys(body: bytes) -> None:
    # Everybody reads {"a": 1, "a": 2} in his own way: what a proxy has checked must be what we take.
    if not _repeats_a_key(body):
        return
    written = json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    raise invalid(FieldError(_repeated(written, ()) or pointer(), "this field is given twice"))


def _repeats_a_key(body: bytes) -> bool:
    repeats = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeats
        repeats = repeats or len(dict(pairs)) < len(pairs)

    json.loads(body, object_pairs_hook=look, parse_int=str, parse_float=str)
    return repeats


def _repeated(value: Any, at: tuple[str | int, ...]) -> str | None:
    """Where the first repeated key is."""
    seen: set[str | int] = set()
    children: Iterable[tuple[str | int, Any]] = (
        value if isinstance(value, _Pairs) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in children:
        if key in seen:
            return pointer(*at, key)
        seen.add(key)
        if found := _repeated(inner, (*at, key)):
            return found
    return None


def _too_deep(plain: bytes) -> bool:
    # Brackets inside strings count too: a false alarm needs 33 of them, all open, which no honest body has.
    if plain.count(b"[") + plain.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", plain).translate(None, _NO_BRACKETS)
    # A loop over 256 KiB of brackets in Python would take a tenth of a second.
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH


def _all_faults(type_: Any, body: bytes, first: msgspec.ValidationError) -> Invalid:
    """All that is wrong with the structure of *body*; what msgspec says where only msgspec sees it."""
    try:
        faults = list(itertools.islice(structure.faults(type_, msgspec.json.decode(body)), MAX_ERRORS))
    except msgspec.ValidationError:  # a number beyond all types
        faults = []
    except msgspec.DecodeError as exc:  # the first fault stands before the end of the JSON
        return _malformed(exc)
    return invalid(*(faults or [_field_error(str(first))]))


def _malformed(exc: Exception) -> Malformed:
    return Malformed(f"the body is not valid JSON in UTF-8: {exc}"[:MAX_DETAIL])


def _field_error(message: str) -> FieldError:
    match = _PATH.search(message)
    detail = message[: match.start()] if match else message
    # Beyond a "..." msgspec does not say which key it means: point at what holds it.
    parts = [a or b for a, b in _TOKEN.findall(match[1].partition("[...]")[0])] if match else []
    if (field := _FIELD.fullmatch(detail)) and len(field[1]) <= MAX_DETAIL:
        parts.append(field[1])
    words = _WORD.sub(lambda word: WORDS.get(word[1], word[1]), detail)
    return FieldError(pointer(*parts), f"{words[:1].lower()}{words[1:MAX_DETAIL]}")
