from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from paytrust.infra import logs
from paytrust.infra.db import LOST
from paytrust.keys.service import Keys
from paytrust.keys.store import CHANNEL

AUDIT_POLL_S: Final = 5.0
RETRY_S: Final = 1.0
ASK_S: Final = 5.0
"""How often the connection is asked whether it still is one, and how long it may take to answer."""
ECHO_S: Final = 5.0

log = logs.get_logger("paytrust.keys")


class KeyChanges:
    """
    Hears from the database which keys were changed, on a connection of its own, and makes this process forget
    them.

    While there is no such connection, keys are believed for 30 s; when there is one again, every row is read
    again.
    """

    def __init__(self, dsn: str, keys: Keys) -> None:
        self._dsn = dsn
        self._keys = keys
        self._task: asyncio.Task[None] | None = None
        self._echo: asyncio.Future[None] | None = None
        self._own_word = ""
        self._told = False

    def start(self) -> None:
        self._task = asyncio.create_task(
            self._run(), name="paytrust key changes", context=contextvars.Context()
        )

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (*LOST, asyncpg.PostgresError, TimeoutError) as exc:
                if not self._told:
                    log.warning(
                        "changes of API keys are not heard of; a revoked one lives for up to 30 s",
                        error=type(exc).__name__,
                    )
                self._told = True
            except Exception:
                log.exception("listening to changes of API keys failed")
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Listen until the connection is lost."""
        lost = asyncio.Event()
        settings = {"application_name": "paytrust keys"}
        connection = await asyncpg.connect(
            self._dsn, timeout=10, command_timeout=ASK_S, server_settings=settings
        )
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._heard)
            self._keys.revalidate_all()
            self._told = False
            await self._check(connection)
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), ASK_S)
                    break
                await connection.execute(
                    "SELECT 1"
                )  # a connection that is cut on the way says nothing by itself
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, word: object) -> None:
        if word == self._own_word and self._echo is not None and not self._echo.done():
            self._echo.set_result(None)
            return
        try:
            self._keys.invalidate(UUID(str(word)))
        except ValueError:
            self._keys.revalidate_all()

    async def _check(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """
        Say so if what is told does not arrive: a pooler that lends connections by transaction loses it,
        without an error.
        """
        self._own_word, self._echo = str(uuid4()), asyncio.get_running_loop().create_future()
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, self._own_word)
        try:
            await asyncio.wait_for(self._echo, ECHO_S)
        except TimeoutError:
            log.warning(
                "the database does not deliver notifications; is a pooler in front? A revoked API key lives for up to 30 s"
            )
