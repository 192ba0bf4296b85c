"""
What makes two requests one: the key, the fingerprint, and what an answer says about a repeat.

The rules are those of draft-ietf-httpapi-idempotency-key-header; where it leaves a choice, docs/adr/0019 has
ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from paytrust.errors import Busy, CardNumber, FieldError, Invalid, Unprocessable, pointer
from paytrust.secrets.model import NO_TENANT, EncryptionContext
from paytrust.security.card_numbers import holds_card

HEADER: Final = "Idempotency-Key"
ADMINISTRATION: Final = NO_TENANT
"""The scope of the admin routes, which belong to no tenant."""

_BARE: Final = re.compile(r"[!-~]{1,255}")
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")


class KeyReused(Unprocessable):
    """This key has named another request already. Nothing was done; a new request needs a new key."""

    code = "idempotency_key_reused"
    title = "The Idempotency-Key belongs to another request"


class RequestInProgress(Busy):
    """
    The first request with this key is still running, or its process was lost a moment ago. Safe to repeat.
    """

    code = "request_in_progress"
    title = "The same request is still running"


class Claim(msgspec.Struct, frozen=True):
    """The right to carry out the request that a key names, until another try takes it over."""

    scope: UUID
    """The tenant, or `ADMINISTRATION`."""
    key: str
    object_id: UUID
    """The request makes its object under this id: an earlier try may have made it already."""
    attempt: int
    """1 for the first try."""


class Answer(msgspec.Struct, frozen=True):
    """An answer as it went over the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def read_key(given: Sequence[str]) -> str:
    """
    The key in the header's values: the draft's quoted form (an RFC 8941 string) and the bare one mean the
    same key.

    Raises `Invalid` unless there is exactly one, of 1 to 255 visible ASCII characters, and `CardNumber` for
    one that must not be kept.
    """
    value = given[0].strip(" \t") if len(given) == 1 else ""
    if value.startswith('"'):
        match = _QUOTED.fullmatch(value)
        value = _ESCAPED.sub(r"\1", match[1]) if match else ""
    if not _BARE.fullmatch(value):
        detail = "send one key of 1 to 255 visible ASCII characters, such as a UUID"
        raise Invalid(f"{HEADER}: {detail}", errors=(FieldError(pointer(HEADER), detail),))
    if holds_card(value):
        detail = "holds what looks like a card number"
        raise CardNumber(f"{HEADER}: {detail}", errors=(FieldError(pointer(HEADER), detail),))
    return value


def fingerprint(method: str, route: str, parameters: Mapping[str, Any], query: bytes, body: bytes) -> bytes:
    """
    SHA-256 over the request: equal for equal bytes, for every sender and however the path writes its
    ids.
    """
    asked = [
        method,
        route,
        sorted((name, str(value)) for name, value in parameters.items()),
        query.decode("latin-1"),
    ]
    return hashlib.sha256(msgspec.json.encode(asked) + b"\n" + body).digest()


def place_of_answer(scope: UUID, key: str) -> EncryptionContext:
    """Where the answer to a request is kept."""
    return EncryptionContext(scope, "idempotency_keys", "answer", f"{scope}/{key}")


def is_final(answer: Answer) -> bool:
    """Whether a repeat gets this answer again."""
    return 200 <= answer.status < 300


def did_nothing(answer: Answer, claim: Claim) -> bool:
    """
    Whether the request is as good as never sent, so that its key may name another one.

    Not after a 409, which a request that lost a race may get half-way, nor when an earlier try was cut off:
    its progress is unknown.
    """
    return claim.attempt == 1 and 400 <= answer.status < 500 and answer.status != 409
