"""Ids are UUIDv7: ordered by time, made here rather than by the database."""

from __future__ import annotations

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562), increasing within this process."""
    return uuid_utils.compat.uuid7()
