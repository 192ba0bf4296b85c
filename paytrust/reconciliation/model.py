from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class DiscrepancyKind(StrEnum):
    NOT_APPLIED = "not_applied"
    """Paid there, and not in our books."""
    UNKNOWN_HERE = "unknown_here"
    """Has a reference of ours, and we never made it."""
    MISSING_THERE = "missing_there"
    """Open or paid here, and the gateway does not know it."""
    AMOUNT_DIFFERS = "amount_differs"
    """Another amount or currency than we asked for, or than is in our books."""


class Discrepancy(msgspec.Struct, frozen=True, kw_only=True):
    """
    One point on which a gateway's list and our books do not agree. *resolved*: it was applied when it was
    found.
    """

    account_id: UUID
    kind: DiscrepancyKind
    reference: str
    gateway_payment_id: str
    tenant_id: UUID | None
    ours: str
    theirs: str
    resolved: bool = False
    seen_at: datetime | None = None
