"""One request and everything that may be done to its connection, including what no proper server would do."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from paytrust_sandbox.http import Request, Response

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
TRANSPORT = "paytrust_sandbox.transport"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Exchange:
    """
    A request, the way to answer it, and the transport beneath. `status` is what was answered, None for
    nothing.
    """

    def __init__(self, request: Request, scope: Message, receive: Receive, send: Send) -> None:
        self.request = request
        self.status: int | None = None
        self._transport: asyncio.Transport = scope[TRANSPORT]
        self._receive = receive
        self._send = send

    @classmethod
    async def open(cls, scope: Message, receive: Receive, send: Send) -> "Exchange":
        """Read the whole request."""
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        target = scope["raw_path"].decode("latin-1") + (
            "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
        )
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        return cls(Request(scope["method"], target, headers, body), scope, receive, send)

    async def respond(self, response: Response) -> None:
        """Answer as a proper server does."""
        headers = {**response.headers, "content-length": str(len(response.body))}
        await self._start(response.status, headers)
        await self._send({"type": "http.response.body", "body": response.body})

    async def stream(self, status: int, headers: dict[str, str], chunks: AsyncIterator[bytes]) -> None:
        """Answer piece by piece until the peer has gone."""
        await self._start(status, headers)
        tasks = [asyncio.create_task(self._send_all(chunks)), asyncio.create_task(self.until_gone())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def write_and_close(self, status: int, raw: bytes) -> None:
        """
        Write *raw* bytes past the HTTP machinery, which would not let a wrong length through, and close.
        """
        self.status = status
        self._transport.write(raw)
        self._transport.close()
        await self.until_gone()

    async def reset(self) -> None:
        """Reset the connection: the peer sees RST, not an end of stream."""
        reset(self._transport)
        await self.until_gone()

    async def until_gone(self) -> None:
        """Wait, without a word, until the connection is no more."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def abort(self) -> None:
        self._transport.abort()

    async def _send_all(self, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            if self._transport.is_closing():
                return
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})


def reset(transport: asyncio.WriteTransport) -> None:
    """End a connection with RST instead of an end of stream."""
    handle: socket.socket = transport.get_extra_info("socket")
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
