"""The HTTP server under the service: uvicorn, with what it leaves out."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from paytrust.infra.settings import Settings

DRAIN_S: Final = 16
"""
For requests under way: a gateway call of 15 s and writing down its outcome. Then workers have 4 s and pools 5
s: 25 s in all.
"""
GRACE_S: Final = 2.0
"""How much longer than the application the connection waits, so that the application's answer comes first."""


def server(app: Any, settings: Settings) -> uvicorn.Server:
    """A server for *app*, as *settings* have it."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=functools.partial(_OnTime, within_s=settings.receive_timeout_s + GRACE_S),  # type: ignore[arg-type]
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )


class _OnTime(HttpToolsProtocol):
    """
    Closes a connection whose request does not come to its end in time.

    uvicorn waits for ever for the head of a request, which the application never sees, and for a body that
    is never read.
    """

    def __init__(self, *args: Any, within_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._within_s = within_s
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        if self._deadline is None:
            self._start()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._stop()
        super().on_message_complete()

    def _start(self) -> None:
        self._deadline = self.loop.call_later(self._within_s, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
