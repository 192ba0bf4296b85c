"""
Who carries webhooks: true ones with the patience of a gateway, forged ones as raw bytes on a connection of
their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp

CONNECTIONS: Final = 64
TRIES: Final = 12
LONGEST_WAIT_S: Final = 5.0
TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, eq=False)
class News:
    """One webhook that a gateway would have sent, and the scenario it belongs to."""

    reference: str
    way: str
    url: str
    headers: dict[str, str]
    body: bytes


class Sender:
    """Delivers to any of the nodes of a service, and remembers every answer."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = [urlsplit(node).netloc for node in nodes]
        self._turn = 0
        self._client: aiohttp.ClientSession
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """
        Answers to "true" and "forged" webhooks by status; "none" where the connection ended without one.
        """
        self.seconds: list[float] = []
        """How long each answer to a true webhook took."""
        self.stored = 0
        """How many were told that theirs is a new one."""
        self.undelivered: list[str] = []
        self.acknowledged: dict[News, float] = {}
        """When the first copy of each was acknowledged, by time.monotonic()."""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        self._client = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            skip_auto_headers=["user-agent"],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def send(self, news: News, waits_s: Sequence[float]) -> asyncio.Task[None]:
        """
        Send a copy after each of *waits_s*. The task ends when the last copy has been acknowledged, or was
        given up.
        """
        task = asyncio.get_running_loop().create_task(self._copies(news, waits_s))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def done(self) -> None:
        """Wait until everything that was handed in is delivered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def node(self) -> str:
        """Host and port of the node whose turn it is."""
        self._turn += 1
        return self._nodes[self._turn % len(self._nodes)]

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.undelivered.append(repr(failure))

    async def _copies(self, news: News, waits_s: Sequence[float]) -> None:
        await asyncio.gather(*(self._deliver(news, wait_s) for wait_s in waits_s))

    async def _deliver(self, news: News, wait_s: float) -> None:
        for number in range(TRIES):
            await asyncio.sleep(min(wait_s, LONGEST_WAIT_S) if number else wait_s)
            status, wait_s = await self._once(news)
            if status == "200":
                self.acknowledged.setdefault(news, time.monotonic())
                return
        self.undelivered.append(f"{news.way}: {status} for {news.reference}")

    async def _once(self, news: News) -> tuple[str, float]:
        started = time.perf_counter()
        wait_s = 0.5
        try:
            url = urlsplit(news.url)._replace(netloc=self.node()).geturl()
            async with self._client.post(url, data=news.body, headers=news.headers) as answer:
                text = await answer.text()
                status = str(answer.status)
                wait_s = float(answer.headers.get("retry-after", wait_s))
            self.seconds.append(time.perf_counter() - started)
            self.stored += text == '{"status":"received"}'
        except (aiohttp.ClientError, TimeoutError):
            status = "none"
        self.answers["true"][status] += 1
        return status, wait_s

    async def raw(self, pieces: Sequence[bytes | float | None]) -> str:
        """
        Send *pieces* on a new connection: bytes, seconds to wait, None for the end. Returns the status, or
        "none".
        """
        host, _, port = self.node().partition(":")
        received = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    received = await self._exchange(reader, writer, pieces)
                finally:
                    writer.close()
        status = received[9:12].decode() if received.startswith(b"HTTP/1.1 ") else "none"
        self.answers["forged"][status] += 1
        self.stored += received.count(b'{"status":"received"}')
        return status

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pieces: Sequence[bytes | float | None],
    ) -> bytes:
        answered = asyncio.create_task(_all_of(reader))
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if (
                    answered.done() or writer.is_closing()
                ):  # it may answer, and close, before it has read everything
                    break
                if piece is None:
                    writer.write_eof()
                elif isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await asyncio.sleep(piece)
        return await answered


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65_536):
            received += chunk
    return received


def request(path: str, content: bytes, *headers: tuple[str, str], announced: int | None = None) -> bytes:
    """A POST as it goes over the wire, with a Content-Length of *announced* bytes when it is to lie."""
    own = [
        ("host", "pay.example"),
        ("connection", "close"),
        ("content-length", str(len(content) if announced is None else announced)),
    ]
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in [*own, *headers]), "", ""]
    return "\r\n".join(lines).encode() + content


def percentile(values: Sequence[float], share: float) -> float:
    """The value that *share* of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def text_of(news: News) -> dict[str, Any]:
    """What a webhook says."""
    told: dict[str, Any] = json.loads(news.body)
    return told
