"""Core's Idempotency-Key: one answer per key for five minutes, whatever the body and wherever it is sent."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from paytrust_sandbox.http import Request, Response, json_response

LONGEST = 46
KEPT = timedelta(minutes=5)
IN_FLIGHT = json_response(
    {"status_code": "202", "status_message": "A request with this Idempotency-Key is still being processed."},
    202,
)


class Idempotency:
    """The answers kept by key, and the keys being worked on."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._answers: dict[str, tuple[datetime, Response]] = {}
        self._in_flight: set[str] = set()

    async def once(self, request: Request, work: Callable[[], Awaitable[tuple[Response, bool]]]) -> Response:
        """
        Return the answer kept for the key of *request*, or that of *work*, which also says whether it may be
        kept.
        """
        key = request.headers.get("idempotency-key", "")
        if not key or len(key) > LONGEST:
            return (await work())[0]
        kept = self._answers.get(key)
        if kept and self._now() - kept[0] < KEPT:
            return kept[1]
        if key in self._in_flight:
            return IN_FLIGHT
        self._in_flight.add(key)
        try:
            response, may_be_kept = await work()
        finally:
            self._in_flight.discard(key)
        if may_be_kept:
            self._answers[key] = (self._now(), response)
        return response
