"""
Create-invoice: PayTrust beside pgbench and beside FastAPI + SQLAlchemy, interleaved in one run, as ratios.

    make bench                                          about six minutes
    .venv/bin/python tests/load/bench.py --quick        a smoke run of seconds
    .venv/bin/python tests/load/bench.py --rounds 9 --json out.json

What is measured and what it means: docs/evidence/benchmark.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import processes
import recording
import report
from cases import VARIANTS, Bench, Case, Sample
from fixture import prepared

ROOT = Path(__file__).parents[2]


class Size(msgspec.Struct, frozen=True):
    """How much is measured, and how often at most for a quiet sample."""

    rounds: int
    seconds: float
    warm_s: float = 1.5
    tenants: int = 16
    kept: int = 3_200
    connections: int = 64
    tries: int = 3


QUICK = Size(rounds=1, seconds=0.5, warm_s=0.3, tenants=4, kept=64, connections=16, tries=1)


@click.command()
@click.option(
    "--rounds", default=5, show_default=True, help="How often every case is measured, in random order."
)
@click.option("--seconds", default=4.0, show_default=True, help="How long one sample is.")
@click.option(
    "--workers", default="1,2", show_default=True, help="Numbers of worker processes to try, comma-separated."
)
@click.option("--only", default="", help="Only the cases whose name holds this text, and pgbench.")
@click.option(
    "--quick",
    is_flag=True,
    help="One short round with one worker: shows that everything works, measures nothing.",
)
@click.option(
    "--json",
    "out",
    type=click.Path(path_type=Path),
    help="Write every sample, the medians and the ratios to this file.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=ROOT / ".data" / "bench",
    help="Where PostgreSQL keeps its files.",
)
def main(
    rounds: int,
    seconds: float,
    workers: str,
    only: str,
    quick: bool,  # noqa: FBT001 - a flag
    out: Path | None,
    data: Path,
) -> None:
    """Measure create-invoice beside pgbench and FastAPI + SQLAlchemy on this machine."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stop what was started
    size = QUICK if quick else Size(rounds, seconds)
    counts = [1] if quick else [int(count) for count in workers.split(",")]
    folder = data / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with standing(data, folder, counts, only, size=size) as (bench, cases):
        samples = asyncio.run(measure(bench, cases, size))
    result = report.summary(samples, data=data, bench=bench)
    click.echo(report.table(result))
    if out is not None:
        report.write(out, result, samples)
    failed = {sample.case for sample in samples if sample.failed}
    for log in {case.server.log for case in cases if case.server and case.name in failed}:
        click.echo(f"\n{log.name}:\n{log.read_text(errors='replace')[-3000:]}", err=True)
    if failed:
        raise SystemExit(1)


@contextlib.contextmanager
def standing(
    data: Path, folder: Path, counts: list[int], only: str, *, size: Size
) -> Iterator[tuple[Bench, list[Case]]]:
    """Start the gateway, PostgreSQL and the applications; stop all of it at the end."""
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(processes.uvicorn("gateway_server:app", folder=folder, environ={}))
        base = stack.enter_context(prepared(data, gateway.url, tenants=size.tenants))
        cases = [Case("pgbench")]
        for count in counts:
            for name, target in (("paytrust", "app:create"), ("fastapi", "fastapi_app:app")):
                wanted = [variant for variant in VARIANTS if only in f"{name} {variant} {count}w"]
                if wanted:
                    options: dict[str, Any] = {
                        "environ": base.environ,
                        "workers": count,
                        "factory": name == "paytrust",
                    }
                    server = stack.enter_context(processes.uvicorn(target, folder=folder, **options))
                    cases += [Case(f"{name} {variant} {count}w", server, variant) for variant in wanted]
        script = recording.script(*asyncio.run(recording.record(base)), base)
        for server in (gateway, *(case.server for case in cases if case.server)):
            server.wait()
        yield (
            Bench(base, script, gateway, folder, size.warm_s, size.seconds, size.kept, size.connections),
            cases,
        )


async def measure(bench: Bench, cases: list[Case], size: Size) -> list[Sample]:
    """
    Measure every case once per round, after all have filled their caches and pools; again when others kept
    the machine busy.
    """
    await bench.fill()
    for _, group in itertools.groupby(cases[1:], key=lambda case: case.server):
        await bench.prime(list(group))
    samples = []
    for number in range(size.rounds):
        for case in random.sample(cases, len(cases)):
            for _ in range(size.tries):
                samples.append(await bench.sample(case))
                click.echo(f"round {number + 1}/{size.rounds}  {report.line(samples[-1])}", err=True)
                if samples[-1].quiet:
                    break
    return samples


if __name__ == "__main__":
    main()
