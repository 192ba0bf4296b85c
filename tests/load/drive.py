"""
The load: a closed loop of keep-alive connections over raw sockets, in a process of its own.

    python drive.py '{"port": 8000, "path": "/invoices", "seconds": 5, "requests": [["<api key>", "<body with EXTERNAL-ID>"]], "out": "f"}'

Every connection sends its own request again and again, each time with a new external_id of the same length.
Writes pairs of float64 (when the answer was complete, how long it took) to *out*, and a summary of the errors
to standard output.
"""

from __future__ import annotations

import array
import asyncio
import functools
import gc
import itertools
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

EXTERNAL_ID: Final = "EXTERNAL-ID"
ID_DIGITS: Final = 24
GRACE_S: Final = 10
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Order(msgspec.Struct):
    """*requests* are pairs of API key and body; the connections share them out."""

    port: int
    path: str
    seconds: float
    requests: list[tuple[str, str]]
    out: str
    connections: int = 64


class Load:
    """What all connections share."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.samples = array.array("d")
        self.errors: list[str] = []
        self.failed = 0
        self.until_s = time.monotonic() + order.seconds
        self.ids = itertools.count(time.time_ns())

    def note(self, status: bytes, answer: bytes, took_s: float) -> None:
        if status == b"201":
            self.samples.extend((time.time(), took_s))
        else:
            self.fail(answer.decode(errors="replace"))

    def fail(self, what: str) -> None:
        self.failed += 1
        self.errors = [*self.errors, what[-500:]][:3]


class Connection(asyncio.Protocol):
    """Sends, waits for the whole answer, sends again."""

    def __init__(self, load: Load, request: bytes) -> None:
        self.load = load
        self.before, self.after = request.split(EXTERNAL_ID.encode())
        self.buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.sent_s = time.perf_counter()
        self.transport.write(b"%s%0*x%s" % (self.before, ID_DIGITS, next(self.load.ids), self.after))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self.buffer, 0, end) if end > 0 else None
        if length is None or len(self.buffer) < end + 4 + int(length[1]):
            return
        self.load.note(self.buffer[9:12], self.buffer, time.perf_counter() - self.sent_s)
        self.buffer = b""
        if time.monotonic() < self.load.until_s:
            self.send()
        else:
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.load.fail(f"connection lost: {exc!r}")
            self.done.set_result(None)


def request(path: str, key: str, body: str) -> bytes:
    length = len(body) - len(EXTERNAL_ID) + ID_DIGITS
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    return (head + body).encode()


async def drive(order: Order) -> Load:
    load = Load(order)
    requests = itertools.cycle([request(order.path, key, body) for key, body in order.requests])
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(functools.partial(Connection, load, one), "127.0.0.1", order.port)
        for one in itertools.islice(requests, order.connections)
    ]
    _, late = await asyncio.wait([connection.done for _, connection in made], timeout=order.seconds + GRACE_S)
    for _ in late:
        load.fail(f"no answer {GRACE_S} s after the end")
    return load


def main() -> None:
    order = msgspec.json.decode(sys.argv[1], type=Order)
    gc.freeze()
    load = uvloop.run(drive(order))
    Path(order.out).write_bytes(load.samples.tobytes())
    sys.stdout.write(msgspec.json.encode({"failed": load.failed, "errors": load.errors}).decode())


if __name__ == "__main__":
    main()
