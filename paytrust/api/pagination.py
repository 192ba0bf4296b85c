"""Lists: their pages, cursors and times."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Final, TypeVar
from uuid import UUID

import msgspec
from litestar.params import QueryParameter

from paytrust import times
from paytrust.api.problems import invalid
from paytrust.errors import at_parameter

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 200
PAGE_BYTES: Final = 1024 * 1024
"""A page ends before it is longer, so that what one request costs does not depend on what a tenant stored."""
READ_BYTES: Final = 128 * 1024
"""How much of a page is read at once, judged by what came before."""

T = TypeVar("T", bound=msgspec.Struct)
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
        raise invalid(at_parameter("cursor", "this cursor is not one of ours")) from exc


async def page_of(
    read: Callable[[int, UUID | None], Awaitable[Sequence[T]]],
    id_of: Callable[[T], UUID],
    *,
    limit: int,
    cursor: str | None,
    first: int = MAX_PAGE,
) -> tuple[list[T], str | None]:
    """
    At most *limit* entries, and at most `PAGE_BYTES` of them but never none, with the cursor of the next page.

    *read* is asked for *first* entries, then for about `READ_BYTES` at once, after the last id: neither a
    connection nor the loop is kept from others for a whole page.
    """
    page: list[T] = []
    last, used, asked = decode_cursor(cursor), 0, min(first, limit)
    while asked:
        found = await read(asked, last)
        for entry in found:
            used += len(msgspec.json.encode(entry)) + 1
            if page and used > PAGE_BYTES:
                return page, encode_cursor(id_of(page[-1]))
            page.append(entry)
            last = id_of(entry)
        if len(found) < asked:
            return page, None
        asked = min(limit - len(page), max(1, READ_BYTES * len(page) // used))
    return page, encode_cursor(id_of(page[-1]))


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
        raise invalid(at_parameter(name, str(exc))) from exc
