"""Query parameters of lists: cursors, page sizes and times."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from litestar.params import QueryParameter

from paytrust import times
from paytrust.api.problems import invalid
from paytrust.errors import FieldError, pointer

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 200
Timestamp = Annotated[
    str | None,
    QueryParameter(
        max_length=40, schema_extra={"format": "date-time"}, description="RFC 3339 with an offset, or Z."
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="How many at most.")]
Cursor = Annotated[str | None, QueryParameter(max_length=40, description="`next_cursor` of the page before.")]


def encode_cursor(last_id: UUID) -> str:
    """An opaque cursor; ids are ordered by time, so the last one of a page says where the next begins."""
    return base64.urlsafe_b64encode(last_id.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str | None) -> UUID | None:
    """The id in a cursor. Raises `Invalid` for anything we did not hand out."""
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except ValueError as exc:
        raise invalid(FieldError(pointer("cursor"), "this cursor is not one of ours")) from exc


def decode_timestamp(name: str, text: str | None) -> datetime | None:
    """
    The time in the query parameter *name*. Raises `Invalid` for one without an offset, which would mean
    another hour to everybody.
    """
    if text is None:
        return None
    try:
        return times.read(text)
    except ValueError as exc:
        raise invalid(FieldError(pointer(name), str(exc))) from exc
