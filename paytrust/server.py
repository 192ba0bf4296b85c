"""
The HTTP server under the service: uvicorn, with what it leaves out.

Bounds on what a stranger may send before the application sees anything of it, on how long he may take to send
and to read, and an end that a balancer sees coming.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from paytrust.api import problems
from paytrust.errors import Invalid, PayTrustError
from paytrust.infra.settings import Settings

STOP_S: Final = 16
"""
For requests under way: a gateway call of 15 s and writing down its outcome. Then workers have 4 s and pools 5
s: 25 s in all.
"""
GRACE_S: Final = 2.0
"""How much longer than the application the connection waits, so that the application's answer comes first."""
MAX_URL_BYTES: Final = 8 * 1024
MAX_HEADERS: Final = 100
MAX_HEAD_BYTES: Final = 32 * 1024
"""Names and values of all headers of a request, trailers included."""
PIECE_BYTES: Final = 16 * 1024
"""
How much is parsed before the bounds are looked at: with it, less than 64 KB of a head are ever held.
"""
SAID_EVERY_S: Final = 60.0

LOOPBACK: Final = ("127.0.0.1", 0)
"""The address of what comes over a unix socket: this machine's."""

log = logging.getLogger("uvicorn.error")


class MalformedRequest(Invalid):
    """What came is no HTTP."""

    code = "malformed_request"
    title = "The request cannot be read"


class UrlTooLong(PayTrustError):
    """The address is over the limit."""

    code = "url_too_long"
    status = 414
    title = "The URL is too long"


class HeadTooLarge(PayTrustError):
    """There are too many headers, or they are too large."""

    code = "head_too_large"
    status = 431
    title = "The headers are too large"


def server(app: Any, settings: Settings) -> uvicorn.Server:
    """A server for *app*, as *settings* have it. The `on_drain` of *app* is called when it is told to stop."""
    log.addFilter(_once_a_minute)
    connection = functools.partial(
        _Connection, receive_s=settings.receive_timeout_s + GRACE_S, send_s=settings.send_timeout_s
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=connection,  # type: ignore[arg-type]
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        reset_contextvars=True,  # or a request that was sent behind another begins with the other's log fields
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=STOP_S,
    )
    return _Server(config, drain_s=settings.drain_s, on_drain=app.on_drain)


class _Server(uvicorn.Server):
    """
    On SIGTERM it serves on for a while, not ready any more, so that a balancer looks elsewhere before the port
    closes. A second signal, or SIGINT, ends the wait.
    """

    def __init__(self, config: uvicorn.Config, *, drain_s: float, on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._on_drain = on_drain
        self._drained_at_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or self._drained_at_s is not None or not self.started or not self._drain_s:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._drained_at_s = time.monotonic() + self._drain_s
        self._on_drain()
        # Whoever keeps connections to us opens the next one elsewhere.
        self.config.encoded_headers.append((b"connection", b"close"))

    async def on_tick(self, counter: int) -> bool:
        drained = self._drained_at_s is not None and time.monotonic() >= self._drained_at_s
        return drained or await super().on_tick(counter)


class _OnceAMinute(logging.Filter):
    """What a stranger can have uvicorn say as often as he likes is said once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING or not isinstance(record.msg, str):
            return True
        now_s = time.monotonic()
        if now_s - self._said_s.get(record.msg, -SAID_EVERY_S) < SAID_EVERY_S:
            return False
        self._said_s[record.msg] = now_s  # uvicorn's own texts, of which there are few
        return True


_once_a_minute: Final = _OnceAMinute()


class _Connection(HttpToolsProtocol):
    """
    Refuses a head over the bounds, and closes a connection whose request does not come to its end in time, or
    whose answers nobody reads.

    uvicorn puts headers together without a bound, and waits for ever for the head of a request, which the
    application never sees, for a body that nobody reads, and for a client to take what it was sent.
    """

    def __init__(self, *args: Any, receive_s: float, send_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receive_s, self._send_s = receive_s, send_s
        self._receiving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._refusal: PayTrustError | None = None
        self._unheard_bytes = 0
        """Received since the parser last handed something of a request over."""
        self._head_bytes = self._head_lines = 0
        self._head_ended = False

    # --- what may be sent ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._unheard_bytes += len(piece)
            super().data_received(piece)
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            if self._unheard_bytes > MAX_HEAD_BYTES:
                self._refusal = HeadTooLarge(f"the limit is {MAX_HEAD_BYTES} bytes")
                self.send_400_response("")
                return

    def on_message_begin(self) -> None:
        self._head_bytes = self._head_lines = 0
        self._head_ended = False
        if self._receiving is None:
            self._start_receiving()
        if not self.transport.get_write_buffer_size():
            self._stop_sending()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(UrlTooLong(f"the limit is {MAX_URL_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_lines += 1
        self._head_bytes += len(name) + len(value) + len(": \r\n")
        if self._head_lines > MAX_HEADERS:
            self._refuse(HeadTooLarge(f"the limit is {MAX_HEADERS} headers"))
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(f"the limit is {MAX_HEAD_BYTES} bytes"))
        if not self._head_ended:  # else it is a trailer, which would change a request that was let in
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_ended = True
        self._unheard_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unheard_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unheard_bytes = 0
        self._stop_receiving()
        super().on_message_complete()

    def _refuse(self, refusal: PayTrustError) -> None:
        self._refusal = refusal
        raise refusal  # out of the parser, which makes an error of it that uvicorn answers

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Answer what the application does not see, and close."""
        refusal = self._refusal or MalformedRequest("the bytes on the connection are not an HTTP request")
        scope: Any = {"headers": []}
        body = msgspec.json.encode(problems.problem(scope, refusal))
        headers = {
            "content-type": problems.PROBLEM,
            "content-length": str(len(body)),
            "x-request-id": problems.request_id(scope),
            "connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        self.transport.write(STATUS_LINE[refusal.status] + head.encode() + body)
        self._close()

    # --- how long it may take -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is None:  # over a unix socket
            self.client = LOOPBACK
        self._start_receiving()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_receiving()
        self._stop_sending()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_sending()

    def resume_writing(self) -> None:
        self._stop_sending()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._start_sending()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def shutdown(self) -> None:
        super().shutdown()
        self._start_sending()

    def _close(self) -> None:
        self.transport.close()
        self._start_sending()

    def _start_receiving(self) -> None:
        self._receiving = self.loop.call_later(self._receive_s, self._close)

    def _stop_receiving(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _start_sending(self) -> None:
        if self._sending is None and self.transport.get_write_buffer_size():
            self._sending = self.loop.call_later(self._send_s, self._give_up_sending)

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _give_up_sending(self) -> None:
        self._sending = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # to close it would wait for the reader
