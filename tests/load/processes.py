"""Start the processes of a bench and say how much CPU they used."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx
import msgspec

from paytrust.development import free_port

HERE: Final = Path(__file__).parent
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
START_S: Final = 60
KEEP_ALIVE_S: Final = 3600
"""No server closes a connection that its client is about to use, however long its turn takes to come."""


class Server(msgspec.Struct, frozen=True):
    """A uvicorn that was started."""

    pid: int
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(self.url, timeout=START_S, trust_env=False)
                return
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.05)
        raise RuntimeError(f"uvicorn does not answer:\n{self.log.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def uvicorn(
    target: str, *, folder: Path, environ: Mapping[str, str], workers: int = 1, factory: bool = False
) -> Iterator[Server]:
    """Serve *target* (`module:name`, beside this file), its standard error going to a log in *folder*."""
    port = free_port()
    options = [
        "--port",
        str(port),
        "--workers",
        str(workers),
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--lifespan",
        "on",
    ]
    options += [
        "--no-access-log",
        "--no-server-header",
        "--no-proxy-headers",
        "--log-level",
        "warning",
        "--timeout-keep-alive",
        str(KEEP_ALIVE_S),
        *(["--factory"] if factory else []),
    ]
    log = folder / f"{target.partition(':')[0]}-{workers}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), target, *options],
            cwd=folder,  # no .env or paytrust.toml of somebody's checkout
            env={**os.environ, **environ},
            stdout=output,
            stderr=output,
        )
    try:
        yield Server(process.pid, port, log)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """
    Keep the processors busy with something that gives way to everything else.

    A hypervisor gives a virtual processor that sleeps to others, and it comes back late: each wake-up of a
    half idle machine can take milliseconds, and none of a busy one.
    """
    spinners = [
        multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
        for _ in range(os.cpu_count() or 1)
    ]
    for spinner in spinners:
        spinner.start()
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.terminate()
            spinner.join()


def _spin() -> None:
    os.setsid()
    with contextlib.suppress(OSError):  # processor time is shared among sessions first (sched(7), autogroup)
        Path("/proc/self/autogroup").write_text("19")
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    parent = os.getppid()
    while os.getppid() == parent:  # which may be killed
        pass


class Usage(msgspec.Struct, frozen=True):
    """
    CPU seconds since their start, at one moment: of process trees, of all of them together, and of the whole
    machine.
    """

    at_s: float
    trees: dict[str, float]
    ours_s: float
    machine_s: float
    stolen_s: float
    """What the hypervisor gave to others while we wanted to run."""

    @property
    def foreign_s(self) -> float:
        """What processes had that are not ours."""
        return self.machine_s - self.ours_s


def usage(roots: Mapping[str, int]) -> Usage:
    """Read /proc. What a child used moves to its parent when it ends, so the sum of a tree only grows."""
    stats = dict(_stats())
    parents = {pid: parent for pid, (parent, _) in stats.items()}
    lines = {pid: set(_line(pid, parents)) for pid in stats}
    trees = {
        name: sum(seconds for pid, (_, seconds) in stats.items() if root in lines[pid])
        for name, root in roots.items()
    }
    ours_s = sum(seconds for pid, (_, seconds) in stats.items() if lines[pid].intersection(roots.values()))
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, stolen = (int(field) / TICKS_PER_S for field in fields[:8])
    return Usage(time.time(), trees, ours_s, user + nice + system + irq + softirq, stolen)


def _stats() -> Iterator[tuple[int, tuple[int, float]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), (int(fields[1]), sum(map(int, fields[11:15])) / TICKS_PER_S)


def _line(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid in parents:
        yield pid
        pid = parents[pid]
