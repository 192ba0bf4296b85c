"""
What each fault does to an exchange. `process` is the gateway doing its work: a fault chooses whether, and
what is seen of it.
"""

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from paytrust_sandbox.exchange import Exchange
from paytrust_sandbox.http import Response, json_response, to_json
from paytrust_sandbox.records import Fault

HUGE_BYTES = 50 * 1024 * 1024
CHUNK = b" " * 65536
TIME = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d)(\.\d{3})?(Z?)", re.ASCII)
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
GZIP = 31  # zlib's way to say: gzip container, largest window


class Answers(Protocol):
    """How this gateway words what any gateway may answer."""

    @property
    def base_url(self) -> str: ...
    def rejection(self, operation: str) -> Response: ...
    def unauthorized(self, operation: str) -> Response: ...
    def forbidden(self, operation: str) -> Response: ...
    def not_found(self, operation: str) -> Response: ...
    def rate_limited(self) -> Response: ...
    def tampered(self, fault: Fault, value: object) -> object: ...


@dataclass
class Case:
    """One fault befalling one exchange."""

    exchange: Exchange
    fault: Fault
    operation: str
    answers: Answers
    process: Callable[[], Awaitable[Response]]


Effect = Callable[[Case], Awaitable[None]]


async def reset_before(case: Case) -> None:
    await case.exchange.reset()


async def reset_after(case: Case) -> None:
    await case.process()
    await case.exchange.reset()


async def hang_before(case: Case) -> None:
    await case.exchange.until_gone()


async def hang_after(case: Case) -> None:
    await case.process()
    await case.exchange.until_gone()


async def late_answer(case: Case) -> None:
    """The work is done at once and the answer takes `seconds`: a webhook about it may arrive first."""
    response = await case.process()
    await asyncio.sleep(case.fault.seconds)
    await case.exchange.respond(response)


async def slow_drip(case: Case) -> None:
    """One byte per `seconds`: each read succeeds, the whole never ends in time."""
    response = await case.process()

    async def drops() -> AsyncIterator[bytes]:
        for position in range(len(response.body)):
            yield response.body[position : position + 1]
            await asyncio.sleep(case.fault.seconds)

    await case.exchange.stream(
        response.status, {**response.headers, "content-length": str(len(response.body))}, drops()
    )


async def truncated(case: Case) -> None:
    """Half of the body that the Content-Length promises, then the end of the connection."""
    response = await case.process()
    lines = [
        f"HTTP/1.1 {response.status} OK",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    head = "\r\n".join([*lines, f"content-length: {len(response.body)}", "", ""])
    await case.exchange.write_and_close(response.status, head.encode("latin-1") + _half(response.body))


async def malformed_json(case: Case) -> None:
    response = await case.process()
    await case.exchange.respond(Response(response.status, _half(response.body), response.headers))


async def wrong_schema(case: Case) -> None:
    """Valid JSON, of a shape that is not documented."""
    response = await case.process()
    await case.exchange.respond(json_response({"result": [json.loads(response.body)]}, response.status))


async def wrong_types(case: Case) -> None:
    """The expected fields, with values of other types."""
    response = await case.process()
    body = to_json(_of_other_types(json.loads(response.body)))
    await case.exchange.respond(Response(response.status, body, response.headers))


async def wrong_clock(case: Case) -> None:
    """Every time in the answer is `seconds` ahead, or behind where that is negative."""
    response = await case.process()
    body = to_json(_shifted(json.loads(response.body), case.fault.seconds))
    await case.exchange.respond(Response(response.status, body, response.headers))


async def tampered(case: Case) -> None:
    response = await case.process()
    body = to_json(case.answers.tampered(case.fault, json.loads(response.body)))
    await case.exchange.respond(Response(response.status, body, response.headers))


async def huge_body(case: Case) -> None:
    """The right answer followed by 50 MB of white space, without a Content-Length to be warned by."""
    response = await case.process()

    async def chunks() -> AsyncIterator[bytes]:
        yield response.body
        for _ in range(HUGE_BYTES // len(CHUNK)):
            yield CHUNK

    await case.exchange.stream(response.status, response.headers, chunks())


async def gzip_bomb(case: Case) -> None:
    """The right answer with 50 MB of white space behind it, compressed to some 50 kB."""
    response = await case.process()
    body = await asyncio.to_thread(_bomb, response.body)
    await case.exchange.respond(
        Response(response.status, body, {**response.headers, "content-encoding": "gzip"})
    )


async def redirect(case: Case) -> None:
    await case.exchange.respond(
        Response(302, b"", {"location": f"{case.answers.base_url}/_sandbox/elsewhere"})
    )


async def duplicate(case: Case) -> None:
    """
    The request is carried out twice, as when a proxy on the way repeats it; the last answer is the one seen.
    """
    await case.process()
    await case.exchange.respond(await case.process())


async def not_found_though_created(case: Case) -> None:
    await case.process()
    await case.exchange.respond(case.answers.not_found(case.operation))


async def http_502_after(case: Case) -> None:
    await case.process()
    await case.exchange.respond(_error_page(502, "Bad Gateway"))


async def http_500_html(case: Case) -> None:
    await case.exchange.respond(_error_page(500, "Internal Server Error"))


async def http_503(case: Case) -> None:
    await case.exchange.respond(
        Response(503, b"no healthy upstream", {"content-type": "text/plain", "retry-after": "1"})
    )


async def http_429(case: Case) -> None:
    response = case.answers.rate_limited()
    await case.exchange.respond(
        Response(response.status, response.body, {**response.headers, "retry-after": "1"})
    )


async def http_400(case: Case) -> None:
    await case.exchange.respond(case.answers.rejection(case.operation))


async def http_401(case: Case) -> None:
    await case.exchange.respond(case.answers.unauthorized(case.operation))


async def http_403(case: Case) -> None:
    await case.exchange.respond(case.answers.forbidden(case.operation))


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _of_other_types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _of_other_types(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_of_other_types(one) for one in value] or {}
    return 1 if isinstance(value, str) else "one"


def _shifted(value: Any, seconds: float) -> Any:
    if isinstance(value, dict):
        return {name: _shifted(one, seconds) for name, one in value.items()}
    if isinstance(value, list):
        return [_shifted(one, seconds) for one in value]
    found = TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    day, between, time, fraction, zone = found.groups(default="")
    told = datetime.fromisoformat(f"{day}T{time}+00:00")
    moved = told + min(max(timedelta(seconds=seconds), EARLIEST - told), LATEST - told)
    return f"{moved.date()}{between}{moved:%H:%M:%S}{fraction}{zone}"


def _error_page(status: int, title: str) -> Response:
    page = f"<html><head><title>{status} {title}</title></head><body><center><h1>{status} {title}</h1></center></body></html>"
    return Response(status, page.encode(), {"content-type": "text/html; charset=utf-8"})


def _bomb(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=GZIP)
    parts = [compressor.compress(body)]
    parts += [compressor.compress(CHUNK) for _ in range(HUGE_BYTES // len(CHUNK))]
    return b"".join([*parts, compressor.flush()])


EFFECTS: dict[str, Effect] = {
    "reset_before": reset_before,
    "reset_after": reset_after,
    "hang_before": hang_before,
    "hang_after": hang_after,
    "late_answer": late_answer,
    "slow_drip": slow_drip,
    "truncated": truncated,
    "malformed_json": malformed_json,
    "wrong_schema": wrong_schema,
    "wrong_amount": tampered,
    "wrong_currency": tampered,
    "wrong_reference": tampered,
    "odd_fields": tampered,
    "wrong_types": wrong_types,
    "wrong_clock": wrong_clock,
    "huge_body": huge_body,
    "gzip_bomb": gzip_bomb,
    "redirect": redirect,
    "http_400": http_400,
    "http_401": http_401,
    "http_403": http_403,
    "http_429": http_429,
    "http_500_html": http_500_html,
    "http_503": http_503,
    "http_502_after": http_502_after,
    "not_found_though_created": not_found_though_created,
    "duplicate": duplicate,
}
