"""
Would the tests notice? Bugs are put into a copy of the code, one at a time, and the tests of that part run.

    make mutants                        every seeded bug, and 200 sampled changes of operators
    make mutants SEEDED=0 SAMPLED=20
    cd tests && ../.venv/bin/python -m campaigns.mutants.campaign --only money --json out.json

A bug is caught when a test fails, or does not end; a test that fails once beside a bug and passes the second time has
caught nothing. Every group of tests passes without a bug first.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import click
from campaigns.mutants import operators
from campaigns.mutants.operators import Change

ROOT = Path(__file__).parents[3]
SEEDED = Path(__file__).with_name("seeded.toml")
ACCEPTED = Path(__file__).with_name("accepted.toml")
TIMEOUT_S = 600
NO_END = "no end"
TARGETS = {"seeded": 0.95, "sampled": 0.90}
# The tests of what sampled changes are made in.
TESTS_OF = {
    "paytrust/accounts": ["tests/api/accounts", "tests/api/invoices"],
    "paytrust/books": ["tests/api/payments", "tests/api/reconciliation", "tests/campaigns/test_invariants.py"],
    "paytrust/idempotency": ["tests/unit/idempotency", "tests/database/idempotency", "tests/api/idempotency"],
    "paytrust/installments": ["tests/api/installments"],
    "paytrust/invoices": ["tests/api/invoices", "tests/api/installments", "tests/security/test_hostile_invoices.py"],
    "paytrust/keys": ["tests/unit/keys", "tests/database/keys", "tests/api/keys"],
    "paytrust/payments": ["tests/unit/payments", "tests/api/payments", "tests/api/invoices", "tests/campaigns/histories"],
    "paytrust/reconciliation": ["tests/api/reconciliation"],
    "paytrust/secrets": ["tests/database/secrets"],
    "paytrust/tenants": ["tests/api/keys", "tests/security/test_isolation_matrix.py"],
    "paytrust/webhooks": ["tests/api/webhooks", "tests/api/payments"],
    "migrations": ["tests/database/test_schema_snapshot.py", "tests/database/test_schema_attacks.py", "tests/database/test_migrations.py", "tests/database/test_isolation.py", "tests/api/payments"],
}  # fmt: skip


class Mutant(NamedTuple):
    """One bug: a change of a file, what goes wrong, and the tests that must notice."""

    kind: str
    change: Change
    bug: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.change.path}:{self.change.line} {' '.join(self.change.was.split())[:60]!r} -> {' '.join(self.change.now.split())[:60]!r}"


class Outcome(NamedTuple):
    mutant: Mutant
    caught: bool
    by: str
    seconds: float


def seeded(root: Path = ROOT) -> list[Mutant]:
    """The bugs of seeded.toml. Raises `ValueError` for a text that does not stand in its file exactly once."""
    mutants, gone = [], []
    for group in tomllib.loads(SEEDED.read_text())["file"]:
        text = (root / group["path"]).read_text()
        for bug in group["bugs"]:
            if text.count(bug["was"]) != 1:
                gone.append(f"{group['path']} holds {text.count(bug['was'])} times: {bug['was']}")
                continue
            start = text.index(bug["was"])
            end, line = start + len(bug["was"]), text.count("\n", 0, start) + 1
            change = Change(group["path"], start, end, bug["was"], bug["now"], line)
            mutants.append(Mutant("seeded", change, bug["bug"], tuple(group["tests"])))
    if gone:
        raise ValueError("\n".join(gone))
    return mutants


def sampled(number: int, seed: int, root: Path = ROOT) -> list[Mutant]:
    """*number* changes of operators, two thirds of them in models, one third in SQL."""
    chance = random.Random(seed)
    rooms = [path for path in TESTS_OF if path.startswith("paytrust/")]
    models = [
        str(file.relative_to(root))
        for room in rooms
        for file in sorted([*(root / room).glob("model.py"), *(root / room).glob("model/*.py")])
        if file.name != "__init__.py"
    ]
    stores = [
        str(file.relative_to(root)) for room in rooms for file in sorted((root / room).glob("store.py"))
    ]
    migrations = [str(file.relative_to(root)) for file in sorted((root / "migrations").glob("*.up.sql"))]
    python = [change for path in models for change in operators.of_python(root, path)]
    sql = [change for path in (*stores, *migrations) for change in operators.of_sql(root, path)]
    share = min(len(sql), number // 3)
    chosen = chance.sample(sql, share) + chance.sample(python, min(len(python), number - share))
    return [Mutant("sampled", change, "an operator", _tests_of(change.path)) for change in chosen]


def _tests_of(path: str) -> tuple[str, ...]:
    return tuple(next(tests for part, tests in TESTS_OF.items() if path.startswith(part)))


def accepted() -> dict[str, str]:
    """Survivors that are no bugs, and why: a change that nobody can observe."""
    return {one["mutant"]: one["reason"] for one in tomllib.loads(ACCEPTED.read_text()).get("survivor", [])}


class Copy:
    """A copy of the code that bugs are put into. Tests run in it as they do in the original."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        sources = [folder, *sorted(path for path in (folder / "plugins").iterdir() if path.is_dir())]
        self._environ = os.environ | {
            "PYTHONPATH": ":".join(map(str, sources)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    async def passes(self, tests: tuple[str, ...]) -> tuple[bool, str]:
        """Whether the tests pass, and otherwise the first that does not."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pytest", "--no-cov", "-x", "-p", "no:cacheprovider", *tests),
            cwd=self._folder,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        except TimeoutError:
            os.killpg(process.pid, 9)
            await process.wait()
            return False, NO_END
        lines = said.decode(errors="replace").splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return process.returncode == 0, (failed or lines[-1:] or ["nothing was said"])[0][:160]

    async def plays(self, mutant: Mutant) -> Outcome:
        file = self._folder / mutant.change.path
        text = file.read_text()
        change = mutant.change
        assert text[change.start : change.end] == change.was
        began_s = time.monotonic()
        file.write_text(text[: change.start] + change.now + text[change.end :])
        try:
            caught, by = await self._catch(mutant.tests)
        finally:
            file.write_text(text)
        return Outcome(mutant, caught, by, time.monotonic() - began_s)

    async def _catch(self, tests: tuple[str, ...]) -> tuple[bool, str]:
        """Whether a test fails, and does so again: on a busy machine one may fail for want of time."""
        passed, said = await self.passes(tests)
        if passed or said == NO_END:
            return not passed, said
        one = said.split(" ")[1:2] if said.startswith("FAILED") else []
        if one and not (await self.passes(tuple(one)))[0]:
            return True, said
        passed, said = await self.passes(tests)
        return not passed, said


async def sound(copy: Copy, tests: tuple[str, ...]) -> None:
    """Raises unless the tests pass without any bug, if need be at the second try."""
    for _ in range(2):
        passed, said = await copy.passes(tests)
        if passed:
            return
    raise click.ClickException(f"without any bug these tests do not pass: {said}")


async def play(mutants: list[Mutant], folder: Path, workers: int) -> list[Outcome]:
    """Every mutant, with as many at once as there are *workers*."""
    copies = [Copy(folder / f"copy{number}") for number in range(workers)]
    click.echo(f"{len(mutants)} bugs")
    groups: dict[tuple[str, ...], list[Mutant]] = {}
    for mutant in mutants:
        groups.setdefault(mutant.tests, []).append(mutant)
    todo = list(groups.items())
    outcomes: list[Outcome] = []
    known = accepted()

    async def work(copy: Copy) -> None:
        while todo:
            tests, group = todo.pop(0)
            await sound(copy, tests)
            for mutant in group:
                outcome = await copy.plays(mutant)
                outcomes.append(outcome)
                word = "caught" if outcome.caught else "accepted" if mutant.name in known else "SURVIVED"
                click.echo(
                    f"{len(outcomes)}/{len(mutants)} {word:8} {outcome.seconds:4.0f} s  {mutant.name}"
                    f"  {outcome.by if outcome.caught else mutant.bug}"
                )

    await asyncio.gather(*map(work, copies))
    return outcomes


@click.command()
@click.option("--seeded", "seeded_", default=-1, show_default=True, help="How many seeded bugs; -1 for all.")
@click.option("--sampled", "sampled_", default=200, show_default=True, help="How many changes of operators.")
@click.option("--seed", default=1, show_default=True, help="Which changes are drawn, and which seeded bugs.")
@click.option("--only", default="", help="Only bugs of files whose path holds this text.")
@click.option("--workers", default=2, show_default=True, help="How many bugs at once.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write every outcome to this file.")
def main(seeded_: int, sampled_: int, seed: int, only: str, workers: int, out: Path | None) -> None:
    """Put bugs into the code, one at a time, and count those that the tests catch."""
    chance = random.Random(seed)
    known = [mutant for mutant in seeded() if only in mutant.change.path]
    mutants = known if seeded_ < 0 else chance.sample(known, min(seeded_, len(known)))
    mutants += [mutant for mutant in sampled(sampled_, seed) if only in mutant.change.path]
    with tempfile.TemporaryDirectory(prefix="paytrust-mutants-") as folder:
        outcomes = asyncio.run(play(mutants, Path(folder), workers))
    excused = accepted()
    failed = False
    for kind, target in TARGETS.items():
        of_kind = [one for one in outcomes if one.mutant.kind == kind]
        counted = [one for one in of_kind if one.caught or one.mutant.name not in excused]
        caught = sum(one.caught for one in counted)
        if counted:
            rate = caught / len(counted)
            failed |= rate < target
            click.echo(
                f"{kind}: {caught} of {len(counted)} caught ({rate:.0%}, at least {target:.0%} wanted)"
                f", {len(of_kind) - len(counted)} accepted"
            )
    for one in outcomes:
        if not one.caught and one.mutant.name not in excused:
            click.echo(f"survived: {one.mutant.name}: {one.mutant.bug}")
    if out is not None:
        told = [
            {"mutant": one.mutant.name, "kind": one.mutant.kind, "caught": one.caught, "by": one.by}
            for one in outcomes
        ]
        out.write_text(json.dumps(told, indent=1))
    click.echo(f"by file: {dict(Counter(one.mutant.change.path for one in outcomes if not one.caught))}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
