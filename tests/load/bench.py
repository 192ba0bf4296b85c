"""
Create-invoice: PayTrust beside pgbench and beside FastAPI + SQLAlchemy, interleaved in one run, as ratios.

    make bench                                          about six minutes
    .venv/bin/python tests/load/bench.py --quick        a smoke run of seconds
    .venv/bin/python tests/load/bench.py --rounds 9 --json out.json

What is measured and what it means: docs/explanation/performance.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import ground
import processes
import recording
import report
from cases import VARIANTS, Bench, Case, Sample

ROOT = Path(__file__).parents[2]


@click.command()
@click.option("--rounds", default=5, show_default=True, help="How often every case is measured, in random order.")
@click.option("--seconds", default=4.0, show_default=True, help="How long one sample is.")
@click.option("--workers", default="1,2", show_default=True, help="Numbers of worker processes to try, comma-separated.")
@click.option("--only", default="", help="Only the cases whose name holds this text, and pgbench.")
@click.option("--quick", is_flag=True, help="One short round with one worker: shows that everything works, measures nothing.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write every sample, the medians and the ratios to this file.")
@click.option("--data", type=click.Path(path_type=Path), default=ROOT / ".data" / "bench", help="Where PostgreSQL keeps its files.")
def main(rounds: int, seconds: float, workers: str, only: str, quick: bool, out: Path | None, data: Path) -> None:  # noqa: FBT001 - a flag
    """Measure create-invoice beside pgbench and FastAPI + SQLAlchemy on this machine."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stop what was started
    counts = [1] if quick else [int(count) for count in workers.split(",")]
    rounds, seconds, warm_s = (1, 0.8, 0.5) if quick else (rounds, seconds, 1.5)
    folder = data / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with standing(data, folder, counts, only, warm_s=warm_s, seconds=seconds) as (bench, cases):
        samples = asyncio.run(measure(bench, cases, rounds))
        result = report.summary(samples, data=data, seconds=seconds)
    click.echo(report.table(result))
    if out is not None:
        report.write(out, result, samples)
    if any(sample.failed for sample in samples):
        raise SystemExit(1)


@contextlib.contextmanager
def standing(
    data: Path, folder: Path, counts: list[int], only: str, *, warm_s: float, seconds: float
) -> Iterator[tuple[Bench, list[Case]]]:
    """Start the gateway, PostgreSQL and the applications; stop all of it at the end."""
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(processes.uvicorn("gateway_server:app", folder=folder, environ={}))
        base = stack.enter_context(ground.prepared(data, gateway.url))
        cases = [Case("pgbench")]
        for count in counts:
            for name, target in (("paytrust", "app:create"), ("fastapi", "fastapi_app:app")):
                wanted = [variant for variant in VARIANTS if only in f"{name} {variant} {count}w"]
                if wanted:
                    options: dict[str, Any] = {"environ": base.environ, "workers": count, "factory": name == "paytrust"}
                    server = stack.enter_context(processes.uvicorn(target, folder=folder, **options))
                    cases += [Case(f"{name} {variant} {count}w", server, variant) for variant in wanted]
        script = recording.script(*asyncio.run(recording.record(base)), base)
        for server in (gateway, *(case.server for case in cases if case.server)):
            server.wait()
        yield Bench(base, script, gateway, folder, warm_s, seconds), cases


async def measure(bench: Bench, cases: list[Case], rounds: int) -> list[Sample]:
    """Measure every case once per round, after all have filled their caches and pools."""
    for case in cases:
        await bench.prime(case)
    samples = []
    for number in range(rounds):
        for case in random.sample(cases, len(cases)):
            sample = await bench.sample(case)
            samples.append(sample)
            click.echo(f"round {number + 1}/{rounds}  {report.line(sample)}", err=True)
    return samples


if __name__ == "__main__":
    main()
