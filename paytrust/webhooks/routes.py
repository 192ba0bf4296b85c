from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from paytrust.api.pagination import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Timestamp,
    decode_cursor,
    decode_timestamp,
    encode_cursor,
    page_of,
)
from paytrust.api.problems import BodyTooLarge, problems
from paytrust.errors import FieldError, Invalid, pointer
from paytrust.security.access import Caller
from paytrust.webhooks.model import MAX_BODY_BYTES, REPLAY_AT_ONCE, FailedFilters, WebhookContent, WebhookOut
from paytrust.webhooks.service import Inbox, Webhooks

MAX_CODE: Final = 50
Time = Annotated[
    str, msgspec.Meta(max_length=40, extra_json_schema={"extra": {"format": "date-time"}})
]  # "extra" is where Litestar looks


@dataclass
class _TakesAnything(Operation):
    """An operation whose body is whatever the gateway sends: a plugin reads it, not we."""

    def __post_init__(self) -> None:
        anything = OpenAPIMediaType(schema=Schema(description="What the gateway sends, byte for byte."))
        self.request_body = RequestBody(content={"*/*": anything}, required=False)


@post(
    "/webhooks/{gateway:str}/{token:str}",
    summary="Receive a webhook",
    opt={
        "access": "public",
        "limited": False,
        "sender": "gateway",
    },  # its service limits: it knows the tokens
    status_code=HTTP_200_OK,
    operation_class=_TakesAnything,
    responses=problems(401, 404, 413, 503),
)
async def receive_webhook(
    gateway: FromPath[str],
    token: FromPath[str],
    request: Request[Any, Any, Any],
    webhooks: NamedDependency[Webhooks],
    caller: NamedDependency[Caller],
) -> Response[dict[str, str]]:
    """
    Where a gateway delivers. The token names one gateway account; the gateway's own check proves the sender.
    """
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"the limit is {MAX_BODY_BYTES} bytes")
    # Header bytes are Latin-1; what PostgreSQL could not store is percent-encoded.
    headers = {
        name.lower(): quote(value, safe="".join(map(chr, range(32, 127))), encoding="latin-1")
        for name, value in request.headers.items()
    }
    stored = await webhooks.receive(gateway, token, headers, body, sender=caller.address)
    return Response({"status": "received" if stored else "repeated"})


class WebhookPage(msgspec.Struct, frozen=True):
    webhooks: list[WebhookOut]
    next_cursor: str | None


class ReplayFailed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Which failed webhooks to process again: those received in [received_from, received_to), of one gateway
    account, with one code.
    """

    received_from: Time
    received_to: Time
    gateway_id: UUID | None = None
    code: Annotated[str, msgspec.Meta(max_length=MAX_CODE)] | None = None
    cursor: Annotated[str, msgspec.Meta(max_length=40)] | None = None


class Replayed(msgspec.Struct, frozen=True):
    replayed: int
    next_cursor: str | None


@get(
    "/webhooks/failed", summary="List failed webhooks", opt={"access": "admin"}, responses=problems(400, 401)
)
async def list_failed(
    inbox: NamedDependency[Inbox],
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    gateway_id: FromQuery[UUID | None] = None,
    code: Annotated[
        str | None, QueryParameter(max_length=MAX_CODE, description="`error_code` of the last attempt.")
    ] = None,
    received_from: Timestamp = None,
    received_to: Timestamp = None,
) -> WebhookPage:
    """List webhooks that were given up, newest first, with every attempt to process them."""
    filters = FailedFilters(
        gateway_id,
        code,
        decode_timestamp("received_from", received_from),
        decode_timestamp("received_to", received_to),
    )

    def read(most: int, before: UUID | None) -> Awaitable[list[WebhookOut]]:
        return inbox.failed(filters, limit=most, before=before)

    return WebhookPage(*await page_of(read, lambda found: found.event_id, limit=limit, cursor=cursor))


@get(
    "/webhooks/{event_id:uuid}",
    summary="Read a webhook",
    opt={"access": "admin"},
    responses=problems(401, 404),
)
async def read_webhook(event_id: FromPath[UUID], inbox: NamedDependency[Inbox]) -> WebhookContent:
    """
    Read one webhook with its body, as the gateway sent it, and its headers, without those that may hold
    secrets.
    """
    return await inbox.get(event_id)


@post(
    "/webhooks/{event_id:uuid}/replay",
    summary="Process a webhook again",
    opt={"access": "admin"},
    status_code=HTTP_200_OK,
    responses=problems(401, 404, 409),
)
async def replay_webhook(event_id: FromPath[UUID], inbox: NamedDependency[Inbox]) -> WebhookContent:
    """
    Have one webhook processed again, with all its tries before it. Money that it has moved is not moved
    again.
    """
    return await inbox.replay(event_id)


@post(
    "/webhooks/replay",
    summary="Process failed webhooks again",
    opt={"access": "admin"},
    status_code=HTTP_200_OK,
    responses=problems(400, 401, 413, 415),
)
async def replay_failed(data: JSONBody[ReplayFailed], inbox: NamedDependency[Inbox]) -> Replayed:
    """
    Have failed webhooks of a period processed again, oldest first, at most 1000 in one call; `next_cursor`
    goes on.
    """
    since, until = (decode_timestamp(name, getattr(data, name)) for name in ("received_from", "received_to"))
    assert since is not None
    assert until is not None
    if until < since:
        raise Invalid(
            "the period ends before it begins",
            errors=(FieldError(pointer("received_to"), "is before received_from"),),
        )
    filters = FailedFilters(data.gateway_id, data.code, since, until)
    done = await inbox.replay_failed(filters, after=decode_cursor(data.cursor))
    return Replayed(len(done), encode_cursor(done[-1]) if len(done) == REPLAY_AT_ONCE else None)


HANDLERS = [receive_webhook, list_failed, read_webhook, replay_webhook, replay_failed]
