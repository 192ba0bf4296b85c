"""A TCP port with uvicorn behind it, and a protocol that lets the application reach its transport."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from paytrust_sandbox.exchange import TRANSPORT
from paytrust_sandbox.simulator import Simulator

BACKLOG = 1024
POLL_S = 0.05


class OpenProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it; the transport travels in the scope, so that a fault can break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        served = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope[TRANSPORT] = transport
            await served(scope, receive, send)

        self.app = app


class Listener:
    """Serves one simulator on one port, and can stop listening and come back on the same port."""

    def __init__(self, simulator: Simulator, host: str, port: int) -> None:
        self.simulator = simulator
        self._socket: socket.socket | None = _bind(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        simulator.state.base_url = (
            f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"
        )
        self._server: uvicorn.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen. Returns when connections are accepted."""
        if self._server:
            return
        handle, self._socket = self._socket or _bind(self.host, self.port), None
        config = uvicorn.Config(
            self.simulator,
            http=OpenProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,  # like nginx: a client that keeps connections for 30 s must not meet one that we just closed
        )
        self._server = uvicorn.Server(config)
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets=[handle])),
            asyncio.create_task(self._tick()),
        ]
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Refuse connections from now on; what the gateway knows is kept."""
        if self._server is None:
            return
        self.simulator.release_hanging()
        self._server.should_exit = True
        serving, ticking = self._tasks
        ticking.cancel()
        await serving
        self._server = None

    async def close(self) -> None:
        await self.stop()
        await self.simulator.close()
        self.discard()

    def discard(self) -> None:
        """Give the port back without ever having listened on it."""
        if self._socket:
            self._socket.close()

    async def _tick(self) -> None:
        while True:
            self.simulator.tick()
            await asyncio.sleep(POLL_S)


def _bind(host: str, port: int) -> socket.socket:
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is: 40 ms an answer.
    handle = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        handle.bind((host, port))
    except OSError:
        handle.close()
        raise
    handle.listen(BACKLOG)
    return handle
