"""Several processes that answer on one listening socket: uvicorn's supervisor, with our server in each."""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import threading
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess, multiprocess

from paytrust.app import create_app
from paytrust.infra import logs
from paytrust.infra.db import Database
from paytrust.infra.settings import Settings, load
from paytrust.server import server

HUNG_S: Final = 30
"""A process that does not answer its supervisor for so long is replaced; so long may one take to start."""


class Process(multiprocess.Process):
    """One of the processes. It reads the settings by itself, with *given* from the command line."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], *, given: dict[str, Any]
    ) -> None:
        self._given = given
        super().__init__(config, sockets)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Run our server in the new process, where uvicorn would run one without our bounds."""
        settings = load(**self._given)
        asyncio.run(_database_is_there(settings))  # or one that cannot start ends all of them
        self._server = server(create_app(settings), settings)
        threading.Thread(target=self.always_pong, daemon=True).start()
        self._server.run(sockets)


async def _database_is_there(settings: Settings) -> None:
    database = Database(settings.database_url.get_secret_value(), size=1)
    await database.open(wait_s=settings.start_timeout_s)
    await database.close()


class Supervisor(Multiprocess):
    """
    Stops when it is told to, also while it replaces processes, and closes its own copy of the sockets with theirs, or
    clients would wait for an answer that does not come.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.should_exit.set())

    def terminate_all(self) -> None:
        super().terminate_all()
        for listener in self.sockets:
            listener.close()


def serve_with(workers: int, settings: Settings, listener: socket.socket, *, given: dict[str, Any]) -> int:
    """
    Serve with so many processes until we are told to stop. Returns the exit code: not 0 when one could not start.

    One that dies or hangs is replaced. On SIGHUP each is replaced by one of its own, which is ready first.
    """
    logs.configure(settings)
    # uvicorn names its class of processes in four places, and takes no other.
    multiprocess.Process = functools.partial(Process, given=given)  # type: ignore[misc,assignment]
    config = uvicorn.Config(
        "paytrust.app:create_app", workers=workers, log_config=None, timeout_worker_healthcheck=HUNG_S
    )
    supervisor = Supervisor(config, [listener])
    supervisor.run()
    return int(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))
