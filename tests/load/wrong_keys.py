"""
What wrong keys cost those who have a good one: how long a good key waits, alone and beside 1,000 wrong keys a second.

    make wrongkeys

One service process. Three measurements take turns: the good key alone; beside wrong keys that go to a neighbour, which answers 401 to all;
and beside wrong keys that go to the service. What the neighbour's do to the good key is the machine's doing: they share its processors
with the one who sends them. A ratio is the median of the rounds, because one bad moment of the machine spoils one. A request's time
counts from when it was due, not from when it could be sent. The aim is a p99 of less than twice as long. The CPU time of a wrong key is
what the service used beside it and not alone. With --addresses each wrong key comes from an address of its own, which no limit stops:
then every one is looked up. Exit code 1 when wrong keys were not refused, or a good one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
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


ALONE, NEIGHBOUR, SERVICE = "alone", "beside a neighbour's wrong keys", "beside its own wrong keys"
WHERE: Final = (ALONE, NEIGHBOUR, SERVICE)


class Measured(msgspec.Struct):
    """One measurement: what good and wrong keys saw, and how long the service's processor worked meanwhile."""

    good: Seen
    wrong: Seen
    cpu_s: float

    @property
    def p99_ms(self) -> float:
        return percentile(self.good, 99)


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each measurement of a round.")
@click.option("--wrong", default=1000, show_default=True, help="Wrong keys a second.")
@click.option("--addresses", is_flag=True, help="Each wrong key comes from another address.")
def main(rounds: int, seconds: float, wrong: int, *, addresses: bool) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="paytrust-wrong-keys-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        ground = stack.enter_context(prepared(Path(folder), "http://127.0.0.1:1", tenants=1))
        environ = ground.environ | {"PAYTRUST_TRUSTED_PROXIES": "127.0.0.1"}
        server = stack.enter_context(uvicorn("app:create", folder=Path(folder), environ=environ, factory=True))
        neighbour = stack.enter_context(uvicorn("neighbour:app", folder=Path(folder), environ={}))
        server.wait()
        neighbour.wait()
        processes = stack.enter_context(ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")))
        good = ground.merchants[0].api_key
        # The first request of a key runs Argon2, and the first task of a process loads what it needs.
        list(processes.map(send, [server.port] * 2, [good] * 2, [GOOD_PER_S] * 2, [1.0] * 2))
        seen = []
        for number in range(rounds):
            one = {}
            for where in random.sample(WHERE, len(WHERE)):
                started_s = cpu_s(server.pid)
                port = neighbour.port if where == NEIGHBOUR else server.port
                guesses = None if where == ALONE else processes.submit(send, port, None, wrong, seconds, addresses=addresses)
                served = processes.submit(send, server.port, good, GOOD_PER_S, seconds).result()
                guessed = guesses.result() if guesses else Seen()
                one[where] = Measured(served, guessed, cpu_s(server.pid) - started_s)
            seen.append(one)
            click.echo(f"round {number + 1:>2}: p99 " + ", ".join(f"{one[where].p99_ms:.1f} ms {where}" for where in WHERE))
    report(seen)


def report(rounds: list[dict[str, Measured]]) -> None:
    good = {where: total(one[where].good for one in rounds) for where in WHERE}
    wrong = total(one[SERVICE].wrong for one in rounds)
    cpu_ms = statistics.median(1000 * (one[SERVICE].cpu_s - one[ALONE].cpu_s) / len(one[SERVICE].wrong.took_ms) for one in rounds)
    for where in WHERE:
        p99_ms = statistics.median(one[where].p99_ms for one in rounds)
        click.echo(f"good key {where:<32} p50 {percentile(good[where], 50):6.1f} ms   p99 {p99_ms:6.1f} ms   {dict(good[where].statuses)}")
    click.echo(f"wrong keys {dict(wrong.statuses)}, {cpu_ms:.2f} ms of CPU each")
    for what, above, below in (
        ("what wrong keys do", SERVICE, ALONE),
        ("the machine's part", NEIGHBOUR, ALONE),
        ("the service's part", SERVICE, NEIGHBOUR),
    ):
        click.echo(f"p99 {what}: {statistics.median(one[above].p99_ms / one[below].p99_ms for one in rounds):.2f} times as long")
    if any(set(seen.statuses) != {"200"} for seen in good.values()) or not set(wrong.statuses) <= {"401", "429"}:
        sys.exit("a good key was refused, or a wrong one was not")


def cpu_s(pid: int) -> float:
    return usage({"service": pid}).trees["service"]


def percentile(seen: Seen, part: int) -> float:
    return statistics.quantiles(seen.took_ms, n=100)[part - 1]


def total(parts: Iterable[Seen]) -> Seen:
    seen = Seen()
    for part in parts:
        seen.took_ms += part.took_ms
        seen.statuses.update(part.statuses)
    return seen


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
