"""
Sending webhooks: at once, held back, in another order, twice, never; and again by the gateway's retry rule.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx

from paytrust_sandbox.clock import Clock
from paytrust_sandbox.exchange import reset
from paytrust_sandbox.faults import Faults
from paytrust_sandbox.records import Attempt, Delivery, Fault
from paytrust_sandbox.retries import RetryRule, succeeded

LOG_LIMIT = 10_000
ANSWER_LIMIT = 2_000
MAX_REDIRECTS = 5
# A connection kept alive may be a dead one by the next webhook: the receiver's restart is not to look like
# its refusal.
FRESH_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=0)
CUT_OFF = frozenset({"truncated", "reset"})
PLAIN_FAULTS = frozenset({"duplicate", "reorder", "delay", "lost"}) | CUT_OFF


@dataclass(frozen=True)
class Message:
    """A webhook ready to send: *reference* and *event* say, for the record, what it is about."""

    reference: str
    event: str
    url: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Habits:
    """How a gateway delivers: its patience, which redirects it follows, and when it tries again."""

    timeout_s: float
    follows: frozenset[int]
    retry: RetryRule


class Courier:
    """Delivers the webhooks of one gateway and remembers every attempt."""

    def __init__(
        self, clock: Clock, faults: Faults, habits: Habits, tamper: Callable[[Fault, Message], Message]
    ) -> None:
        self.deliveries: list[Delivery] = []
        self.holding = False
        self.delay_s = 0.0
        self._clock = clock
        self._faults = faults
        self._habits = habits
        self._tamper = tamper
        self._held: list[Delivery] = []
        self._set_aside: list[Delivery] = []
        self._to_cut_off: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self._count = 0
        self._silent = False

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Send nothing of what happens inside."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def send(self, message: Message) -> None:
        """Send *message* as the faults of the day will have it."""
        if self._silent:
            return
        fault = self._faults.take("webhook")
        name = fault.name if fault else ""
        if fault and name not in PLAIN_FAULTS:
            message = self._tamper(fault, message)
        for delivery in [self._record(message, name) for _ in range(2 if name == "duplicate" else 1)]:
            if name in CUT_OFF:
                self._to_cut_off[delivery.id] = name
            if name == "lost":
                delivery.state = "lost"
            elif not delivery.url:
                delivery.state = "unaddressed"
            elif name == "reorder":
                self._set_aside.append(delivery)
            elif self.holding:
                self._hold(delivery)
            else:
                self._start(delivery, self.delay_s + (fault.seconds if fault and name == "delay" else 0))

    def resend(self, delivery: Delivery, url: str, headers: dict[str, str], times: int = 1) -> list[Delivery]:
        """
        Send an earlier delivery again, as the dashboard's resend button does: same body, *headers* on top.
        """
        message = Message(
            delivery.reference, delivery.event, url, delivery.body.encode(), {**delivery.headers, **headers}
        )
        again = [self._record(message) for _ in range(times)]
        for copy in again:
            self._start(copy, 0)
        return again

    async def release(self, order: Iterable[int]) -> list[Delivery]:
        """
        Deliver held webhooks one after the other, in *order* (positions in the queue); the rest stays held.
        """
        chosen = [self._held[position] for position in order]
        self._held = [delivery for delivery in self._held if delivery not in chosen]
        self.holding = bool(self._held)
        for delivery in chosen:
            await self._attempt(delivery)
            self._spawn(self._retry(delivery))
        return chosen

    @property
    def held(self) -> list[Delivery]:
        return list(self._held)

    def reset(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.deliveries, self._held, self._set_aside, self._to_cut_off = [], [], [], {}
        self.holding = False

    async def close(self) -> None:
        tasks = list(self._tasks)
        self.reset()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client:
            await self._client.aclose()
            self._client = None

    def _record(self, message: Message, fault: str = "") -> Delivery:
        self._count += 1
        parts: dict[str, Any] = {
            "headers": message.headers,
            "body": message.body.decode(),
            "state": "sending",
            "fault": fault or None,
        }
        delivery = Delivery(
            id=self._count, reference=message.reference, event=message.event, url=message.url, **parts
        )
        self.deliveries.append(delivery)
        del self.deliveries[:-LOG_LIMIT]
        return delivery

    def _hold(self, delivery: Delivery) -> None:
        delivery.state = "held"
        self._held.append(delivery)

    def _start(self, delivery: Delivery, delay_s: float) -> None:
        overtaken, self._set_aside = self._set_aside, []
        self._spawn(self._deliver(delivery, delay_s, overtaken))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: Delivery, delay_s: float, overtaken: list[Delivery]) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        await self._attempt(delivery)
        for late in overtaken:
            self._start(late, 0)
        await self._retry(delivery)

    async def _retry(self, delivery: Delivery) -> None:
        while (gap_s := self._habits.retry(delivery.attempts)) is not None:
            delivery.state = "retrying"
            await self._clock.sleep(gap_s)
            await self._attempt(delivery)
        delivery.state = "delivered" if succeeded(delivery.attempts[-1]) else "failed"

    async def _attempt(self, delivery: Delivery) -> None:
        started = time.monotonic()
        attempt = Attempt(at=self._clock.now().isoformat())
        cut_off = self._to_cut_off.pop(delivery.id, None)
        try:
            if cut_off == "reset":
                await self._break_off(delivery)
            answer = await self._post(delivery, whole=cut_off is None)
            attempt.status, attempt.answer = answer.status_code, answer.text[:ANSWER_LIMIT]
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
            attempt.error = f"{type(exc).__name__}: {exc}"
        attempt.duration_s = round(time.monotonic() - started, 4)
        delivery.attempts.append(attempt)

    async def _break_off(self, delivery: Delivery) -> NoReturn:
        """
        Send the head and half of the body, then reset the connection. Raises ConnectionResetError, as for any
        sender it would.
        """
        url = httpx.URL(delivery.url)
        body = delivery.body.encode()
        headers = {"host": url.netloc.decode(), **delivery.headers, "content-length": str(len(body))}
        head = "\r\n".join(
            [
                f"POST {url.raw_path.decode()} HTTP/1.1",
                *(f"{name}: {value}" for name, value in headers.items()),
                "",
                "",
            ]
        )
        _, writer = await asyncio.open_connection(url.host, url.port or 80)
        writer.write(head.encode("latin-1") + body[: len(body) // 2])
        await writer.drain()
        reset(writer.transport)
        raise ConnectionResetError("the connection was reset while the body was sent")

    async def _post(self, delivery: Delivery, *, whole: bool = True) -> httpx.Response:
        if self._client is None:
            timeout = httpx.Timeout(self._habits.timeout_s, pool=None)
            self._client = httpx.AsyncClient(trust_env=False, timeout=timeout, limits=FRESH_CONNECTIONS)
        url = httpx.URL(delivery.url)
        body = delivery.body.encode()
        body = body if whole else body[: len(body) // 2]
        answer = await self._client.post(url, content=body, headers=delivery.headers)
        for _ in range(MAX_REDIRECTS):
            if answer.status_code not in self._habits.follows or "location" not in answer.headers:
                break
            url = url.join(answer.headers["location"])
            answer = await self._client.post(url, content=body, headers=delivery.headers)
        return answer
