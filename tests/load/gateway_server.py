"""
As much of Xendit's `POST /v2/invoices` as the benchmark needs, over real HTTP, in a process of its own.

Not the sandbox: that one validates, remembers and sends webhooks, and would be what is measured.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import msgspec

_ids: Final = itertools.count(1)
_ANSWER: Final = (
    b'{"id":"%024x","external_id":"%s","user_id":"bench","status":"PENDING","merchant_name":"Bench","amount":%s,"currency":"%s",'
    b'"invoice_url":"http://127.0.0.1/pay/%024x","created":"2030-01-01T00:00:00.000Z","updated":"2030-01-01T00:00:00.000Z",'
    b'"expiry_date":"2030-01-02T00:00:00.000Z"}'
)


class Asked(msgspec.Struct):
    """What comes back in the answer. The amount stays as it was written."""

    external_id: str
    amount: msgspec.Raw
    currency: str


_decoder: Final = msgspec.json.Decoder(Asked)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI: every POST is a new invoice."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status, answer = (200, _opened(body)) if scope["method"] == "POST" else (404, b"{}")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _opened(body: bytes) -> bytes:
    asked = _decoder.decode(body)
    number = next(_ids)
    return _ANSWER % (
        number,
        asked.external_id.encode(),
        bytes(asked.amount),
        asked.currency.encode(),
        number,
    )
