"""
What wrong keys cost those who have a good one: how long a good key waits, alone and beside 1,000 wrong keys a second.

    make wrongkeys

One service process. Alone and beside take turns, so that both see the same machine, and the ratio is the median of the rounds: one bad
moment of the machine spoils one. A request's time counts from when it was due, not from when it could be sent. The aim is a p99 of less
than twice as long. The CPU time of a wrong key is what the service used beside it and not alone. With --addresses each wrong key comes
from an address of its own, which no limit stops: then every one is looked up. Exit code 1 when wrong keys were not refused, or a good one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import click
import msgspec
from ground import prepared
from processes import usage, uvicorn

GOOD_PER_S: Final = 50
CONNECTIONS: Final = 20


class Seen(msgspec.Struct):
    """Milliseconds from when each request was due to its whole answer, and how many answers had which status."""

    took_ms: list[float] = msgspec.field(default_factory=list)
    statuses: Counter[str] = msgspec.field(default_factory=Counter)


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--seconds", default=6.0, show_default=True, help="Of each half of a round.")
@click.option("--wrong", default=1000, show_default=True, help="Wrong keys a second.")
@click.option("--addresses", is_flag=True, help="Each wrong key comes from another address.")
def main(rounds: int, seconds: float, wrong: int, *, addresses: bool) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="paytrust-wrong-keys-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        ground = stack.enter_context(prepared(Path(folder), "http://127.0.0.1:1", tenants=1))
        environ = ground.environ | {"PAYTRUST_TRUSTED_PROXIES": "127.0.0.1"}
        server = stack.enter_context(uvicorn("app:create", folder=Path(folder), environ=environ, factory=True))
        server.wait()
        processes = stack.enter_context(ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")))
        good = ground.merchants[0].api_key
        # The first request of a key runs Argon2, and the first task of a process loads what it needs.
        list(processes.map(send, [server.port] * 2, [good] * 2, [GOOD_PER_S] * 2, [1.0] * 2))
        seen = []
        for number in range(rounds):
            before_s = cpu_s(server.pid)
            alone = processes.submit(send, server.port, good, GOOD_PER_S, seconds).result()
            between_s = cpu_s(server.pid)
            guesses = processes.submit(send, server.port, None, wrong, seconds, addresses=addresses)
            beside = processes.submit(send, server.port, good, GOOD_PER_S, seconds).result()
            guessed = guesses.result()
            extra_s = cpu_s(server.pid) - between_s - (between_s - before_s)
            seen.append(Round(alone, beside, guessed, extra_s * 1000 / sum(guessed.statuses.values())))
            click.echo(f"round {number + 1}: p99 {percentile(alone, 99):.1f} ms alone, {percentile(beside, 99):.1f} ms beside")
    report(seen, seconds=rounds * seconds)


class Round(msgspec.Struct):
    alone: Seen
    beside: Seen
    guessed: Seen
    cpu_ms: float
    """What a wrong key cost the service."""


def report(rounds: list[Round], *, seconds: float) -> None:
    alone, beside, guessed = Seen(), Seen(), Seen()
    for one in rounds:
        add(alone, one.alone)
        add(beside, one.beside)
        add(guessed, one.guessed)
    a50, a99, b50, b99 = (percentile(seen, part) for seen in (alone, beside) for part in (50, 99))
    ratio = statistics.median(percentile(one.beside, 99) / percentile(one.alone, 99) for one in rounds)
    click.echo(f"good key alone           p50 {a50:6.1f} ms   p99 {a99:6.1f} ms   {dict(alone.statuses)}")
    click.echo(f"good key beside wrong    p50 {b50:6.1f} ms   p99 {b99:6.1f} ms   {dict(beside.statuses)}")
    click.echo(f"wrong keys               {sum(guessed.statuses.values()) / seconds:.0f} a second   {dict(guessed.statuses)}")
    click.echo(f"CPU of a wrong key       {statistics.median(one.cpu_ms for one in rounds):.2f} ms")
    click.echo(f"p99 beside / alone       {ratio:.2f}")
    if set(alone.statuses + beside.statuses) != {"200"} or not set(guessed.statuses) <= {"401", "429"}:
        sys.exit("a good key was refused, or a wrong one was not")


def cpu_s(pid: int) -> float:
    return usage({"service": pid}).trees["service"]


def percentile(seen: Seen, part: int) -> float:
    return statistics.quantiles(seen.took_ms, n=100)[part - 1]


def add(to: Seen, more: Seen) -> None:
    to.took_ms += more.took_ms
    to.statuses.update(more.statuses)


# --- in a process of its own ------------------------------------------------------------------------------------------------


def send(port: int, key: str | None, per_s: int, seconds: float, *, addresses: bool = False) -> Seen:
    """GET /invoices *per_s* times a second with *key*, or each time with another that is none; with *addresses* from another one."""
    address = (lambda: str(IPv4Address(secrets.randbits(32)))) if addresses else (lambda: "192.0.2.1")
    return asyncio.run(_send(port, (lambda: key) if key else (lambda: secrets.token_hex(32)), address, per_s, seconds))


async def _send(port: int, key: Callable[[], str], address: Callable[[], str], per_s: int, seconds: float) -> Seen:
    seen, due = Seen(), itertools.count()
    started = time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (due_s := started + next(due) / per_s) < started + seconds:
            await asyncio.sleep(due_s - time.perf_counter())
            writer.write(
                f"GET /invoices HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {key()}\r\nx-forwarded-for: {address()}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            seen.took_ms.append((time.perf_counter() - due_s) * 1000)
            seen.statuses[head[9:12].decode()] += 1
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(connection())
    return seen


if __name__ == "__main__":
    main()
