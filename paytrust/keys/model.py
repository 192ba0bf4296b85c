from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec

from paytrust.access import Scope

KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class CreateKey(msgspec.Struct, forbid_unknown_fields=True):
    tenant_id: UUID
    description: Annotated[str, msgspec.Meta(max_length=200)] = ""
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=2)] = msgspec.field(
        default_factory=lambda: [Scope.READ, Scope.WRITE]
    )


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as we may show it: the key itself is gone."""

    key_id: UUID
    tenant_id: UUID
    prefix: str
    description: str
    scopes: list[Scope]
    created_at: datetime
    revoked_at: datetime | None


class CreatedKey(Key, frozen=True, kw_only=True):
    """The one answer that shows the key."""

    api_key: str


def new_key() -> str:
    """256 random bits in hex."""
    return secrets.token_hex(32)


def lookup(pepper: str, key: str) -> bytes:
    """What the database is searched by: useless without the pepper, which it does not hold."""
    return hmac.digest(pepper.encode(), key.encode(), hashlib.sha256)
