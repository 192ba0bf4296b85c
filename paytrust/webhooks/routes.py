from __future__ import annotations

from typing import Any
from urllib.parse import quote

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK

from paytrust.api import BodyTooLarge, problems
from paytrust.webhooks.model import MAX_BODY_BYTES
from paytrust.webhooks.service import Webhooks


@post(
    "/webhooks/{gateway:str}/{token:str}",
    summary="Receive a webhook",
    opt={"access": "public"},
    status_code=HTTP_200_OK,
    responses=problems(401, 404, 413, 503),
)
async def receive_webhook(
    gateway: FromPath[str], token: FromPath[str], request: Request[Any, Any, Any], webhooks: NamedDependency[Webhooks]
) -> Response[dict[str, str]]:
    """Where a gateway delivers. The token names one gateway account; the gateway's own check proves the sender."""
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"the limit is {MAX_BODY_BYTES} bytes")
    # Header bytes are Latin-1; what PostgreSQL could not store is percent-encoded.
    headers = {
        name.lower(): quote(value, safe="".join(map(chr, range(32, 127))), encoding="latin-1") for name, value in request.headers.items()
    }
    stored = await webhooks.receive(gateway, token, headers, body)
    return Response({"status": "received" if stored else "repeated"})


HANDLERS = [receive_webhook]
