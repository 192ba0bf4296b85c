from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec


class CreateTenant(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Tenant(msgspec.Struct, frozen=True):
    tenant_id: UUID
    name: str
    created_at: datetime
