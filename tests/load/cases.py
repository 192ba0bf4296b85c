"""The cases of the bench, and one sample of one case."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
from drive import Order
from fixture import Fixture, keep, restore, written
from processes import HERE, Server, Usage, usage
from recording import Script

from paytrust.embedded import binaries

VARIANTS: Final = ("http", "instant")
CLIENTS: Final = 32
WINDOW_SLACK_S: Final = 0.3
GRACE_S: Final = 30
QUIET_CORES: Final = 0.35


class Case(msgspec.Struct, frozen=True):
    """What is measured: pgbench when there is no *server*."""

    name: str
    server: Server | None = None
    variant: str = ""


class Sample(msgspec.Struct, frozen=True):
    """
    One measurement. RateLimits are per second, CPU is per request (or transaction), *foreign* and *stolen* in
    cores.
    """

    case: str
    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    app_ms: float
    postgres_ms: float
    load_ms: float
    gateway_ms: float
    foreign: float
    stolen: float
    requests: int
    failed: int
    errors: list[str]
    rows: dict[str, float]
    """Rows per invoice and table."""

    @property
    def quiet(self) -> bool:
        """
        Whether the machine was ours: beside busy neighbours 32 processes get more than one does, and no ratio
        holds.
        """
        return self.foreign + self.stolen <= QUIET_CORES

    @property
    def cpu_ms(self) -> float:
        """CPU of application and PostgreSQL per request; pgbench is its own application."""
        return (self.app_ms or self.load_ms) + self.postgres_ms


class Bench(msgspec.Struct, frozen=True):
    """What a sample needs."""

    fixture: Fixture
    script: Script
    gateway: Server
    folder: Path
    warm_s: float
    seconds: float
    kept: int
    """How many invoices every sample begins with."""
    connections: int

    async def fill(self) -> None:
        """Let pgbench write the invoices that every sample begins with."""
        process = await self._start(self._pgbench(["-t", str(self.kept // CLIENTS)]))
        _, complaints = await process.communicate()
        assert process.returncode == 0, complaints.decode()
        await keep(self.fixture)

    async def prime(self, cases: list[Case]) -> None:
        """
        Let every process of an application meet every merchant: keys are verified, pools and statements made.
        """
        requests = [
            (merchant.api_key, merchant.body(case.variant))
            for case in cases
            for merchant in self.fixture.merchants
        ]
        server = cases[0].server
        assert server is not None
        process = await self._start(
            self._drive(server, requests, 0.5 + self.warm_s, connections=len(requests))
        )
        await process.communicate()

    async def sample(self, case: Case) -> Sample:
        """Put the tables back, let the case warm up, and measure it."""
        await restore(self.fixture)
        before_rows = await written(self.fixture)
        async with self._running(case) as process:
            await asyncio.sleep(self.warm_s)
            roots = self._roots(case, process.pid)
            before = usage(roots)
            await asyncio.sleep(self.seconds)
            after = usage(roots)
            output, complaints = await asyncio.wait_for(process.communicate(), GRACE_S)
        failed, errors, took = self._result(case, output, complaints, process.returncode)
        rows = {name: count - before_rows[name] for name, count in (await written(self.fixture)).items()}
        return _sample(case, before, after, failed, errors, took, rows)

    @contextlib.asynccontextmanager
    async def _running(self, case: Case) -> AsyncIterator[asyncio.subprocess.Process]:
        for old in self.folder.glob("samples*"):
            old.unlink()
        seconds = self.warm_s + self.seconds + WINDOW_SLACK_S
        process = await self._start(self._load(case, seconds))
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()

    async def _start(self, command: list[str]) -> asyncio.subprocess.Process:
        environ = {**os.environ, "PGOPTIONS": "-c search_path=paytrust -c timezone=UTC"}
        return await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder, env=environ
        )

    def _pgbench(self, amount: list[str]) -> list[str]:
        (self.folder / "create.sql").write_text(self.script.text)
        constants = [
            option
            for name, value in {**self.script.constants, "k": str(time.time_ns() // 10**6)}.items()
            for option in ("-D", f"{name}={value}")
        ]
        options = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", *amount, "-f", "create.sql"]
        return [
            str(binaries.find() / "pgbench"),
            *options,
            "-l",
            "--log-prefix=samples",
            *constants,
            self.fixture.service_url,
        ]

    def _load(self, case: Case, seconds: float) -> list[str]:
        if case.server is None:
            return self._pgbench(["-T", str(round(seconds + 0.5))])
        requests = [(merchant.api_key, merchant.body(case.variant)) for merchant in self.fixture.merchants]
        return self._drive(case.server, requests, seconds, self.connections)

    def _drive(
        self, server: Server, requests: list[tuple[str, str]], seconds: float, connections: int
    ) -> list[str]:
        order = Order(server.port, "/invoices", seconds, requests, str(self.folder / "samples"), connections)
        return [sys.executable, str(HERE / "drive.py"), msgspec.json.encode(order).decode()]

    def _roots(self, case: Case, load_pid: int) -> dict[str, int]:
        roots = {
            "postgres": self.fixture.postmaster,
            "gateway": self.gateway.pid,
            "load": load_pid,
            "bench": os.getpid(),
        }
        return roots | ({"app": case.server.pid} if case.server else {})

    def _result(
        self, case: Case, output: bytes, complaints: bytes, code: int | None
    ) -> tuple[int, list[str], list[tuple[float, float]]]:
        """How many failed, why, and when each of the others ended and how long it took."""
        if code != 0:
            return 1, [complaints.decode(errors="replace")[-2000:]], []
        if case.server is not None:
            told = msgspec.json.decode(output)
            samples = array.array("d", (self.folder / "samples").read_bytes())
            return told["failed"], told["errors"], list(zip(samples[::2], samples[1::2], strict=True))
        # client, transaction, microseconds, script, epoch seconds, microseconds
        lines = [
            line.split() for log in self.folder.glob("samples.*") for line in log.read_text().splitlines()
        ]
        good = [
            (int(line[4]) + int(line[5]) / 1e6, int(line[2]) / 1e6) for line in lines if line[2].isdigit()
        ]
        return len(lines) - len(good), [], good


def _sample(
    case: Case,
    before: Usage,
    after: Usage,
    failed: int,
    errors: list[str],
    took: list[tuple[float, float]],
    rows: dict[str, int],
) -> Sample:
    inside = sorted(seconds * 1000 for at_s, seconds in took if before.at_s <= at_s < after.at_s)
    elapsed_s, count = after.at_s - before.at_s, max(len(inside), 1)
    used = {name: after.trees[name] - before.trees[name] for name in after.trees}
    invoices = max(rows["invoices"], 1)
    return Sample(
        case=case.name,
        rps=len(inside) / elapsed_s,
        p50_ms=_percentile(inside, 0.50),
        p95_ms=_percentile(inside, 0.95),
        p99_ms=_percentile(inside, 0.99),
        app_ms=used.get("app", 0) * 1000 / count,
        postgres_ms=used["postgres"] * 1000 / count,
        load_ms=used["load"] * 1000 / count,
        gateway_ms=used["gateway"] * 1000 / count,
        foreign=(after.foreign_s - before.foreign_s) / elapsed_s,
        stolen=(after.stolen_s - before.stolen_s) / elapsed_s,
        requests=len(inside),
        failed=failed,
        errors=errors,
        rows={name: value / invoices for name, value in rows.items()},
    )


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("nan")
