"""
Fuzz the running service by its OpenAPI document, and by themselves the functions that read what anonymous
send.

    make fuzz                      20,000 requests, and 45 seconds for each function; FUZZ_CASES= and FUZZ_SEED= change it
    cd tests && python -m campaigns.fuzz.campaign --cases 300 --seconds 1

Ends with 1 when a promise is broken, with the case that shows it, and with 3 when only something was never
reached.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import httpx
from campaigns.fuzz import api, targets
from campaigns.fuzz.fixture import Fixture, prepared
from campaigns.fuzz.targets import TARGETS, Seen

SMALL: Final = 2_000
"""Below this many cases the systematic phase, which has 1,800 of its own, is left out."""
OUTCOMES: Final = {
    "refused": "broken data was refused",
    "replayed": "a repeat got the stored answer",
    "malformed key": "a key that cannot be one was 400",
    "phase stateful": "an answer was followed by its links",
}


class Fuzz:
    """What all processes together have seen of the API."""

    def __init__(self, fixture: Fixture, folder: Path, seed: int) -> None:
        self.fixture, self.folder, self.seed = fixture, folder, seed
        self.cases, self.rounds = 0, 0
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def play(self, cases: int) -> None:
        """
        Play rounds until *cases* were sent or one has failed. All processes play at once, each at a service
        of its own.
        """
        started = time.monotonic()
        with ThreadPoolExecutor(len(self.fixture.urls)) as threads:
            while self.cases < cases and not self.failures:
                missing = cases - self.cases
                phases = (
                    "examples,coverage,fuzzing,stateful"
                    if cases >= SMALL and self.rounds == 0
                    else "fuzzing,stateful"
                )
                examples = max(1, min(120, missing // (60 * len(self.fixture.urls))))
                for done in list(
                    threads.map(
                        lambda url, phases=phases, examples=examples: self._round(url, phases, examples),
                        self.fixture.urls,
                    )
                ):
                    self.cases += done.cases
                    self.counts += done.counts
                    self.failures += [done.failures] if done.failures else []
                say(f"{self.cases:>7} requests by schemathesis, {time.monotonic() - started:.0f} s")

    def _round(self, url: str, phases: str, examples: int) -> api.Round:
        self.rounds += 1
        seed = self.seed + self.rounds
        return api.play(
            self.fixture,
            url,
            folder=self.folder / str(self.rounds),
            seed=seed,
            examples=examples,
            phases=phases,
        )

    def missing(self) -> list[str]:
        document = httpx.get(f"{self.fixture.urls[0]}/openapi.json", trust_env=False).json()
        operations = [
            f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
        ]
        succeeded = {key.rpartition(" ")[0] for key in self.counts if key.rpartition(" ")[2].startswith("2")}
        return [f"{name} succeeded" for name in operations if name not in succeeded] + [
            sentence for name, sentence in OUTCOMES.items() if not self.counts[name]
        ]

    def alive(self) -> bool:
        """Whether the keys that everything was asked with are good, or most of it was refused for nothing."""
        ask = {
            "/invoices": {"x-api-key": self.fixture.api_key},
            "/tenants": {"x-admin-key": self.fixture.admin_key},
        }
        return all(
            httpx.get(url + path, headers=headers, trust_env=False).status_code == 200
            for url in self.fixture.urls
            for path, headers in ask.items()
        )

    def complaints(self) -> list[str]:
        """What the services logged as unexpected: also what no answer showed, such as in background work."""
        lines = [
            line for log in self.fixture.logs for line in Path(log).read_text(errors="replace").splitlines()
        ]
        return [
            line[:4000] for line in lines if '"event": "unexpected error"' in line or "Traceback" in line
        ][:5]

    def table(self) -> Iterator[str]:
        statuses: dict[str, Counter[str]] = {}
        for key, number in self.counts.items():
            name, _, status = key.rpartition(" ")
            if status.isdigit():
                statuses.setdefault(name, Counter())[status] += number
        for name, seen in sorted(statuses.items()):
            yield f"{sum(seen.values()):>8}  {name:<48} " + "  ".join(
                f"{status}: {number}" for status, number in sorted(seen.items())
            )
        for name in (
            "sent positive",
            "sent negative",
            "phase coverage",
            "phase fuzzing",
            "phase stateful",
            "refused",
            "replayed",
            "malformed key",
        ):
            yield f"{self.counts[name]:>8}  {name}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fuzz_functions(seconds: float, seed: int, processes: int) -> list[Seen]:
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        found: list[Future[Seen]] = [
            pool.submit(targets.fuzzed, one.name, seconds=seconds, seed=seed) for one in TARGETS
        ]
        for done in as_completed(found):
            seen = done.result()
            taken, refused = (seen.outcomes[name] for name in (targets.TAKEN, targets.REFUSED))
            say(
                f"{taken + refused:>9} inputs  {taken:>8} taken  slowest {seen.slowest_ms:5.1f} ms of CPU  {seen.name}"
            )
        return [done.result() for done in found]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=20_000, help="requests, made by schemathesis")
    parser.add_argument("--seconds", type=float, default=45, help="for each function")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--server", help="URL of a PostgreSQL superuser; one is started when it is left out")
    given = parser.parse_args()
    started = time.monotonic()
    say(f"seed {given.seed}")
    functions = fuzz_functions(given.seconds, given.seed, given.processes)
    broken = [f"{seen.name}: {seen.failure}" for seen in functions if seen.failure]
    missing = [
        f"{seen.name}: {name}"
        for seen in functions
        for name in (targets.TAKEN, targets.REFUSED)
        if not seen.outcomes[name]
    ]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paytrust-fuzz-")))
        fixture = stack.enter_context(prepared(given.processes, given.server))
        fuzz = Fuzz(fixture, folder, given.seed)
        fuzz.play(given.cases)
        missing += fuzz.missing()
        broken += (
            fuzz.failures
            + fuzz.complaints()
            + ([] if fuzz.alive() else ["a key that everything was asked with is no longer good"])
        )
    lines = [
        *fuzz.table(),
        "",
        f"{fuzz.cases} requests, {sum(sum(seen.outcomes.values()) for seen in functions)} inputs of functions",
    ]
    lines += [f"not held against the service: {name}, because {why}" for name, why in api.EXCEPTIONS.items()]
    lines += [
        *(f"never reached: {name}" for name in missing),
        *broken,
        f"seed {given.seed}, {time.monotonic() - started:.0f} s",
    ]
    say("\n".join(["", *lines]))
    if broken:
        return 1
    return 3 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
