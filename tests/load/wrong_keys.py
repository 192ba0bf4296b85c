"""
What wrong keys cost those who have a good one: how long a good key waits, alone and beside 1,000 wrong keys a
second.

    make wrongkeys

One service process. Three measurements take turns: the good key alone; beside wrong keys that go to a
neighbour, which answers 401 to all; and beside wrong keys that go to the service. What the neighbour's do to
the good key is the machine's doing: they share its processors with the one who sends them. A request's time
counts from when it was due, not from when it could be sent. The aim is a p99 of less than twice as long. The
CPU time of a wrong key is what the service used beside it and not alone. With --addresses each wrong key
comes from an address of its own, which no limit stops: then every one is looked up.

On a virtual machine the hypervisor's other guests decide a p99. So the processors are kept awake, and a
second counts only when they and other processes had hardly any of it and of the one before.

Exit code 1 when wrong keys were not refused or a good one was, or when too few seconds count.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import multiprocessing
import os
import random
import secrets
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from fixture import prepared
from processes import Usage, awake, usage, uvicorn

GOOD_PER_S: Final = 50
CONNECTIONS: Final = 20
STOLEN_S: Final = 0.01
FOREIGN_S: Final = 0.1
"""
What the hypervisor's other guests, and other processes, may have of all processors in a second that counts.
What processes have is known to some 50 ms only: the kernel counts in ticks.
"""
CATCH_UP_S: Final = 0.1
"""
What a guesser lets lie that is later than this: 1,000 a second are not to become 2,000 after a second in
which all stood still.
"""


class Seen(msgspec.Struct):
    """
    When each request was due (`time.perf_counter`), the milliseconds from then to its whole answer, and its
    status.
    """

    due_s: list[float] = msgspec.field(default_factory=list)
    took_ms: list[float] = msgspec.field(default_factory=list)
    statuses: Counter[str] = msgspec.field(default_factory=Counter)


ALONE, NEIGHBOUR, SERVICE = "alone", "beside a neighbour's wrong keys", "beside its own wrong keys"
WHERE: Final = (ALONE, NEIGHBOUR, SERVICE)


class Measured(msgspec.Struct):
    """
    What good keys saw in the seconds that count, and wrong ones in all; and how long the service's processor
    worked meanwhile.
    """

    took_s: float = 0.0
    quiet_s: float = 0.0
    quiet_ms: list[float] = msgspec.field(default_factory=list)
    good: Counter[str] = msgspec.field(default_factory=Counter)
    wrong: Counter[str] = msgspec.field(default_factory=Counter)
    cpu_s: float = 0.0

    def percentile(self, part: int) -> float:
        return statistics.quantiles(self.quiet_ms, n=100)[part - 1]


@click.command()
@click.option("--quiet", default=60, show_default=True, help="Seconds that must count of each measurement.")
@click.option("--rounds", default=20, show_default=True, help="After which it gives up.")
@click.option("--seconds", default=30.0, show_default=True, help="Of each measurement of a round.")
@click.option("--wrong", default=1000, show_default=True, help="Wrong keys a second.")
@click.option("--all-count", is_flag=True, help="Every second counts, whatever others had of it.")
@click.option("--addresses", is_flag=True, help="Each wrong key comes from another address.")
def main(quiet: int, rounds: int, seconds: float, wrong: int, *, all_count: bool, addresses: bool) -> None:
    """Measure."""
    with (
        tempfile.TemporaryDirectory(prefix="paytrust-wrong-keys-") as folder,
        contextlib.ExitStack() as stack,
    ):
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        fixture = stack.enter_context(prepared(Path(folder), "http://127.0.0.1:1", tenants=1))
        environ = fixture.environ | {"PAYTRUST_TRUSTED_PROXIES": "127.0.0.1"}
        server = stack.enter_context(
            uvicorn("app:create", folder=Path(folder), environ=environ, factory=True)
        )
        neighbour = stack.enter_context(uvicorn("neighbour:app", folder=Path(folder), environ={}))
        server.wait()
        neighbour.wait()
        processes = stack.enter_context(
            ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
        )
        key = fixture.merchants[0].api_key
        # The first request of a key runs Argon2, and the first task of a process loads what it needs.
        list(processes.map(serve, [server.port] * 2, [key] * 2, [1.0] * 2))
        stack.enter_context(awake())
        roots = {"service": server.pid, "postgres": fixture.postmaster, "bench": os.getpid()}
        measured = {where: Measured() for where in WHERE}
        for number in range(rounds):
            if min(one.quiet_s for one in measured.values()) >= quiet:
                break
            for where in random.sample(WHERE, len(WHERE)):
                one = measured[where]
                port = neighbour.port if where == NEIGHBOUR else server.port
                guesses = (
                    None
                    if where == ALONE
                    else processes.submit(guess, port, wrong, seconds, addresses=addresses)
                )
                serves = processes.submit(serve, server.port, key, seconds)
                moments = list(moments_of(serves, roots))
                one.wrong += guesses.result() if guesses else Counter()
                count(one, serves.result(), moments, all_count=all_count)
                p99 = f"p99 {one.percentile(99):.1f} ms" if len(one.quiet_ms) > 1 else "-"
                click.echo(
                    f"round {number + 1}, good key {where}: {p99}, of {one.quiet_s:.0f} seconds that count of {one.took_s:.0f}"
                )
    if min(one.quiet_s for one in measured.values()) < quiet:
        sys.exit("too few seconds count: others have too much of this machine. Try again another time.")
    report(measured)


def moments_of(task: Future[Any], roots: Mapping[str, int]) -> Iterator[tuple[float, Usage]]:
    """
    About once a second until *task* is done: when (`time.perf_counter`), and who has had how much of the
    processors so far.
    """
    while not task.done():
        yield time.perf_counter(), usage(roots)
        wait([task], timeout=1)
    yield time.perf_counter(), usage(roots)


def count(one: Measured, seen: Seen, moments: list[tuple[float, Usage]], *, all_count: bool) -> None:
    """
    Add what was *seen* to *one*, where others had hardly anything of a second and of the one before, or where
    *all_count*.
    """
    seconds = list(itertools.pairwise(used for _, used in moments))
    ours = [
        all_count or (b.stolen_s - a.stolen_s <= STOLEN_S and b.foreign_s - a.foreign_s <= FOREIGN_S)
        for a, b in seconds
    ]
    quiet = [now and before for before, now in itertools.pairwise([True, *ours])]
    starts = [at_s for at_s, _ in moments[:-1]]
    one.took_s += moments[-1][0] - moments[0][0]
    one.quiet_s += sum(b.at_s - a.at_s for (a, b), counts in zip(seconds, quiet, strict=True) if counts)
    one.good += seen.statuses
    one.cpu_s += moments[-1][1].trees["service"] - moments[0][1].trees["service"]
    one.quiet_ms += [
        took_ms
        for due_s, took_ms in zip(seen.due_s, seen.took_ms, strict=True)
        if quiet[max(0, bisect.bisect_right(starts, due_s) - 1)]
    ]


def report(measured: dict[str, Measured]) -> None:
    alone, beside = measured[ALONE], measured[SERVICE]
    for where, one in measured.items():
        click.echo(
            f"good key {where:<32} p50 {one.percentile(50):6.1f} ms   p99 {one.percentile(99):6.1f} ms   {dict(one.good)}"
        )
    cpu_ms = 1000 * (beside.cpu_s - alone.cpu_s) / beside.wrong.total()
    click.echo(
        f"wrong keys {dict(beside.wrong)}, {beside.wrong.total() / beside.took_s:.0f} a second, {cpu_ms:.2f} ms of CPU each"
    )
    for what, above, below in (
        ("what wrong keys do", SERVICE, ALONE),
        ("the machine's part", NEIGHBOUR, ALONE),
        ("the service's part", SERVICE, NEIGHBOUR),
    ):
        click.echo(
            f"p99 {what}: {measured[above].percentile(99) / measured[below].percentile(99):.2f} times as long"
        )
    if any(set(one.good) != {"200"} for one in measured.values()) or not set(beside.wrong) <= {"401", "429"}:
        sys.exit("a good key was refused, or a wrong one was not")


# --- in a process of its own ------------------------------------------------------------------------------------------------


def serve(port: int, key: str, seconds: float) -> Seen:
    """GET /invoices GOOD_PER_S times a second with *key*."""
    return asyncio.run(_serve(port, key, seconds))


async def _serve(port: int, key: str, seconds: float) -> Seen:
    seen, due = Seen(), itertools.count()
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    started = time.perf_counter()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (due_s := started + next(due) / GOOD_PER_S) < started + seconds:
            await asyncio.sleep(due_s - time.perf_counter())
            writer.write(request(key, "192.0.2.2"))
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            seen.due_s.append(due_s)
            seen.took_ms.append((time.perf_counter() - due_s) * 1000)
            seen.statuses[head[9:12].decode()] += 1
        writer.close()

    async with asyncio.TaskGroup() as group:
        for streams in connections:
            group.create_task(connection(*streams))
    return seen


def guess(port: int, per_s: int, seconds: float, *, addresses: bool) -> Counter[str]:
    """
    The same *per_s* times a second with keys that are none; with *addresses* each from another one. Statuses
    of the answers.
    """
    statuses: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        # Sockets and no event loop: who guesses keys does not do it with the service's processors, so this
        # takes little of them.
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CONNECTIONS)
        ]
        due_s, waiting = time.perf_counter(), deque[socket.socket]()
        until_s = due_s + seconds
        while due_s < until_s:
            connection = connections.pop() if connections else answered(waiting.popleft(), statuses)
            time.sleep(max(0, due_s - time.perf_counter()))
            due_s = max(due_s + 1 / per_s, time.perf_counter() - CATCH_UP_S)
            connection.sendall(
                request(
                    secrets.token_hex(32),
                    str(IPv4Address(secrets.randbits(32))) if addresses else "192.0.2.1",
                )
            )
            waiting.append(connection)
        for connection in waiting:
            answered(connection, statuses)
    return statuses


def answered(connection: socket.socket, statuses: Counter[str]) -> socket.socket:
    """When its answer is there, which is a problem document."""
    answer = b""
    while not answer.endswith(b"}"):
        part = connection.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {answer!r}")
        answer += part
    statuses[answer[9:12].decode()] += 1
    return connection


def request(key: str, address: str) -> bytes:
    return f"GET /invoices HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {key}\r\nx-forwarded-for: {address}\r\n\r\n".encode()


if __name__ == "__main__":
    main()
