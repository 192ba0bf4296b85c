"""
Check that the tree agrees on a version before it is released, and write the release notes to dist.

    make release VERSION=0.2.0

Prints each objection and ends with 1 when there is one; then nothing is written.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

VERSION = re.compile(r"\d+\.\d+\.\d+(rc\d+)?")


def main() -> int:
    version = sys.argv[1] if len(sys.argv) > 1 else ""
    if not VERSION.fullmatch(version):
        return say(f"VERSION={version!r} is not a version: 0.2.0, or 0.2.0rc1 before it")
    changes = sections(Path("CHANGELOG.md").read_text())
    objections = [*wrong_versions(version), *missing_changes(version, changes), *uncommitted()]
    for objection in objections:
        say(objection)
    if objections:
        return 1
    Path("dist").mkdir(exist_ok=True)
    Path("dist/RELEASE_NOTES.md").write_text(notes(version, changes) + "\n")
    return 0


def sections(changelog: str) -> dict[str, str]:
    """Return what stands below each heading of the second level."""
    found = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)[1:]
    return {heading.strip(): text.strip() for heading, text in zip(found[::2], found[1::2], strict=True)}


def notes(version: str, changes: dict[str, str]) -> str:
    """Return the section of *version*, whose heading is `0.2.0 - 2027-01-15`; empty when there is none."""
    heading = re.compile(rf"{re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}")
    return next((text for name, text in changes.items() if heading.fullmatch(name)), "")


def wrong_versions(version: str) -> Iterator[str]:
    for path in [Path("pyproject.toml"), *sorted(Path("plugins").glob("*/pyproject.toml"))]:
        found = tomllib.loads(path.read_text())["project"]["version"]
        if found != version:
            yield f"{path} says {found}, not {version}: all distributions are released together, under one version"


def missing_changes(version: str, changes: dict[str, str]) -> Iterator[str]:
    if not notes(version, changes):
        yield f"CHANGELOG.md has nothing under a heading like `## {version} - 2027-01-15`"
    if changes.get("Unreleased"):
        yield f'CHANGELOG.md has entries under "Unreleased": they belong under {version}'


def uncommitted() -> Iterator[str]:
    changed = subprocess.run(
        ["git", "status", "--porcelain"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    if changed:
        yield f"{changed[0][3:]} is not as committed ({len(changed)} in all): a wheel would hold what no commit has"


def say(text: str) -> int:
    sys.stdout.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
