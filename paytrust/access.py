"""Who is calling, as far as every room needs to know."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

import msgspec


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    WRITE = "write"


class Principal(msgspec.Struct, frozen=True):
    """The holder of one key of one tenant."""

    tenant_id: UUID
    key_id: UUID
    scopes: frozenset[Scope]
