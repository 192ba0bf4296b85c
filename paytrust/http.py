"""
The HTTP a gateway plugin speaks: one total deadline, a size limit, and every foreign error translated in one place.

httpx's time-outs count per read, so a body that drips one byte at a time never ends; the deadline here covers the whole call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import httpx
import msgspec

from paytrust.errors import GatewayError, GatewayRejected, GatewayUnavailable, OutcomeUnknown

T = TypeVar("T")

DEADLINE_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 1_000_000

_encoder = msgspec.json.Encoder(decimal_format="number")


class Answer(msgspec.Struct, frozen=True):
    """What a gateway answered: the HTTP *status* and the raw *body*. *unsure* is what to raise when it makes no sense."""

    status: int
    body: bytes
    unsure: type[GatewayError]

    def json(self, type: type[T]) -> T:  # noqa: A002 - the argument's name in msgspec
        """
        Decode the body as *type*, strictly; numbers stay exact where the type says Decimal.

        Raises `OutcomeUnknown` (`GatewayUnavailable` after a read) when it is something else.
        """
        try:
            return msgspec.json.decode(self.body, type=type)
        except (ValueError, RecursionError) as exc:  # msgspec's errors and UnicodeDecodeError are ValueErrors
            raise self.unsure(f"HTTP {self.status} with an answer that cannot be read: {exc}") from exc


def new_client() -> httpx.AsyncClient:
    """One client for an application. No proxies from the environment, no redirects, no compressed answers."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(DEADLINE_S, connect=3.0, pool=2.0),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=50, keepalive_expiry=30.0),
        headers={"accept-encoding": "identity", "accept": "application/json", "user-agent": "paytrust"},
        follow_redirects=False,
        trust_env=False,
    )


class GatewayHTTP:
    """
    The calls a gateway makes, made by the core.

    A call returns an `Answer` with a 2xx status, or one of *answers*; everything else raises:
    `GatewayRejected` for any other 4xx, `GatewayUnavailable` when it never left us, the gateway throttles, or a read failed,
    `OutcomeUnknown` when a write may have arrived: time-out, reset, 3xx, 5xx, compressed or oversized answer.
    *base_url* sends one call to another host of the same provider.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
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
        self._headers = dict(headers)
        self._explain = explain
        self._deadline_s = deadline_s

    async def get(
        self, path: str, *, params: Mapping[str, str] | None = None, answers: Collection[int] = (), base_url: str | None = None
    ) -> Answer:
        """Read. Whatever goes wrong on the way is `GatewayUnavailable`: reading twice is harmless."""
        request = self._request("GET", path, base_url, params=params)
        return await self._call(request, answers, unsure=GatewayUnavailable)

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
        request = self._request("POST", path, base_url, content=content, headers=headers)
        return await self._call(request, answers, unsure=OutcomeUnknown)

    def _request(
        self,
        method: str,
        path: str,
        base_url: str | None,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        return self._client.build_request(
            method,
            (base_url or self.base_url) + path,
            params=params,
            content=content,
            headers={"content-type": "application/json", **self._headers, **(headers or {})},
        )

    async def _call(self, request: httpx.Request, answers: Collection[int], *, unsure: type[GatewayError]) -> Answer:
        what = f"{self._gateway} {request.method} {request.url.path}"
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._send(request, what, unsure)
        except TimeoutError as exc:
            raise unsure(f"{what}: no complete answer within {self._deadline_s:g} s") from exc
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
            raise GatewayUnavailable(f"{what}: {type(exc).__name__}") from exc  # never left us
        except httpx.HTTPError as exc:
            raise unsure(f"{what}: {type(exc).__name__}") from exc  # it may have arrived
        return self._judge(answer, what, answers)

    async def _send(self, request: httpx.Request, what: str, unsure: type[GatewayError]) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise unsure(f"{what}: the answer is compressed, which we did not ask for")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise unsure(f"{what}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
            return Answer(response.status_code, bytes(body), unsure)
        finally:
            await response.aclose()

    def _judge(self, answer: Answer, what: str, answers: Collection[int]) -> Answer:
        if answer.status in answers or 200 <= answer.status < 300:
            return answer
        if answer.status in {408, 425} or answer.status < 400 or answer.status >= 500:
            raise answer.unsure(f"{what}: HTTP {answer.status}")
        if answer.status == 429:
            raise GatewayUnavailable(f"{what}: HTTP 429, the gateway asks us to slow down")
        raise GatewayRejected(f"{what}: HTTP {answer.status}: {self._reason(answer)}")

    def _reason(self, answer: Answer) -> str:
        try:
            return self._explain(answer) or "no reason given"
        except GatewayError:
            return "no readable reason given"
