"""
The HTTP a gateway plugin speaks: one total deadline, a size limit, and every foreign error translated in one
place.

The deadline covers the whole call, because time-outs that count per read let a body that drips one byte at a
time never end. aiohttp is what sends (docs/adr/0018); plugins never see it.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import certifi
import msgspec

from paytrust.contract import decoding
from paytrust.errors import GatewayError, GatewayRejected, GatewayUnavailable, OutcomeUnknown
from paytrust.security import redaction
from paytrust.security.urls import Reach

T = TypeVar("T")

PUBLIC: Final = Reach()

DEADLINE_S: Final = 10.0
CONNECT_S: Final = 3.0
CONNECT_WAIT_S: Final = 5.0
"""For a connection, in the queue for one included."""
MAX_ANSWER_BYTES: Final = 1_000_000
MAX_REASON: Final = 300

NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)

_encoder = msgspec.json.Encoder(decimal_format="number")


class Answer(msgspec.Struct, frozen=True):
    """
    What a gateway answered: the HTTP *status* and the raw *body*. *unsure* is what to raise when it makes no
    sense.
    """

    status: int
    body: bytes
    unsure: type[GatewayError]

    def json(self, type: type[T]) -> T:  # noqa: A002 - the argument's name in msgspec
        """
        Decode the body as *type*, leniently (see `paytrust.contract.decoding`): a field with a default is
        left out where it does not fit. Numbers stay exact where the type says Decimal.

        Raises `OutcomeUnknown` (`GatewayUnavailable` after a read) when a field without a default does not fit.
        """
        try:
            return decoding.decode(self.body, type)
        except (ValueError, RecursionError) as exc:  # msgspec's errors and UnicodeDecodeError are ValueErrors
            raise self.unsure(f"HTTP {self.status} with an answer that cannot be read: {exc}") from exc


@functools.cache
def tls_context() -> ssl.SSLContext:
    """
    What every client of this process trusts: the same authorities wherever we run.

    To read them takes a quarter of a second. Whoever serves calls this beforehand, beside its loop.
    """
    return ssl.create_default_context(cafile=certifi.where())


def new_client(reach: Reach = PUBLIC) -> aiohttp.ClientSession:
    """
    One client for an application, made while its loop runs. It goes where *reach* goes: to public addresses
    by https.

    No proxies from the environment, no redirects, no compressed answers, and no cookies: accounts share the
    connections.
    """

    async def https_only(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if request.url.scheme != "https" and not reach.insecure:
            raise aiohttp.InvalidURL(request.url, "not https")
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,  # each gateway has its own places: see bulkheads.py
            keepalive_timeout=30,
            socket_factory=_socket_within(reach),
            ssl=tls_context(),
        ),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_WAIT_S, sock_connect=CONNECT_S),
        headers={"accept-encoding": "identity", "accept": "application/json", "user-agent": "paytrust"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        middlewares=[https_only, _once],
    )


def _socket_within(reach: Reach) -> Callable[[Any], socket.socket]:
    """
    Make the socket for each address that a name stands for, at the moment when aiohttp is about to connect to
    it.

    One that is not within *reach* raises `OSError`: then nothing is sent to it, and the next one is tried.
    """

    def make(info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        family, type_, protocol, _, address = info
        try:
            reach.check(address[0])
        except ValueError as exc:
            raise PermissionError(str(exc)) from exc
        return socket.socket(family, type_, protocol)

    return make


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """
    One call is one request: what breaks on a kept connection, aiohttp would send again by itself where it is
    a GET.
    """
    try:
        return await handler(request)
    except NEVER_SENT:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise aiohttp.ClientConnectionError(str(exc)) from exc


class GatewayHTTP:
    """
    The calls a gateway makes, made by the core.

    A call returns an `Answer` with a 2xx status, or one of *answers*; everything else raises:
    `GatewayRejected` for any other 4xx, `GatewayUnavailable` when it never left us, the gateway throttles, or
    a read failed, `OutcomeUnknown` when a write may have arrived: time-out, reset, 3xx, 5xx, compressed or
    oversized answer.
    *base_url* sends one call to another host of the same provider.
    """

    def __init__(
        self,
        client: aiohttp.ClientSession,
        *,
        gateway: str,
        base_url: str,
        headers: Mapping[str, str],
        explain: Callable[[Answer], str | None],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._client = client
        self._gateway = gateway
        self.base_url = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", **headers}
        self._explain = explain
        self._deadline_s = deadline_s

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        answers: Collection[int] = (),
        base_url: str | None = None,
    ) -> Answer:
        """Read. Whatever goes wrong on the way is `GatewayUnavailable`: reading twice is harmless."""
        return await self._call(
            "GET", path, answers, base_url, unsure=GatewayUnavailable, params=params, headers=headers
        )

    async def post(
        self,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        answers: Collection[int] = (),
        base_url: str | None = None,
    ) -> Answer:
        """Write. *json* may hold Decimals: they are sent as exact JSON numbers."""
        content = b"" if json is None else _encoder.encode(json)
        return await self._call(
            "POST", path, answers, base_url, unsure=OutcomeUnknown, content=content, headers=headers
        )

    async def _call(
        self,
        method: str,
        path: str,
        answers: Collection[int],
        base_url: str | None,
        *,
        unsure: type[GatewayError],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        what = f"{self._gateway} {method} {path}"
        for _ in range(
            2
        ):  # the loop looks at its sockets, then acts on what it saw: a kept connection may have been closed meanwhile
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self._deadline_s):
                response = await self._client.request(
                    method,
                    (base_url or self.base_url) + path,
                    params=params,
                    data=content,
                    headers={**self._headers, **headers} if headers else self._headers,
                    allow_redirects=False,
                )
                try:
                    answer = await _read(response, what, unsure)
                finally:
                    response.close()  # drops the connection, unless all of the answer was read
        except NEVER_SENT as exc:
            raise away(GatewayUnavailable, f"{what}: no connection: {type(exc).__name__}") from exc
        except TimeoutError as exc:
            raise away(unsure, f"{what}: no complete answer within {self._deadline_s:g} s") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise away(unsure, f"{what}: {type(exc).__name__}") from exc  # it may have arrived
        return self._judge(answer, what, answers)

    def _judge(self, answer: Answer, what: str, answers: Collection[int]) -> Answer:
        if answer.status in answers or 200 <= answer.status < 300:
            return answer
        if answer.status in {408, 425} or answer.status < 400 or answer.status >= 500:
            raise away(answer.unsure, f"{what}: HTTP {answer.status}")
        if answer.status == 429:
            raise away(GatewayUnavailable, f"{what}: HTTP 429, the gateway asks us to slow down")
        raise GatewayRejected(f"{what}: HTTP {answer.status}: {self._reason(answer)}")

    def _reason(self, answer: Answer) -> str:
        try:
            return redaction.redact(str(self._explain(answer) or "no reason given"))[
                :MAX_REASON
            ]  # some repeat the key they refuse
        except Exception:  # noqa: BLE001 - the refusal is certain, whatever the plugin makes of its reason
            return "no readable reason given"


async def _read(response: aiohttp.ClientResponse, what: str, unsure: type[GatewayError]) -> Answer:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise unsure(f"{what}: the answer is compressed, which we did not ask for")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise unsure(f"{what}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
    return Answer(response.status, bytes(body), unsure)


def away(error: type[GatewayError], detail: str) -> GatewayError:
    """*error*, which says that the gateway is away: only such errors count for its circuit breaker."""
    raised = error(detail)
    raised.away = True
    return raised
