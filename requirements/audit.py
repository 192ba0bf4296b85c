"""
Look up every pinned distribution in a public list of known vulnerabilities (OSV), with pip-audit.

    make audit

Reads the exported requirement files and nothing that is installed. Ends with 1 when a vulnerability is known,
and with 2 when the list could not be asked about everything: then nothing is known, which is not the same as
nothing found.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PIN = re.compile(r"^([^\s=]+)(==\S+)(?: ;[^\\\n]*)?((?:.*\n(?!\S))*.*\n?)", re.MULTILINE)
FILES = sorted(HERE.rglob("*.txt"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, default=FILES)
    parser.add_argument(
        "--osv-url", help="of another service that speaks OSV's query API, such as a mirror of your own"
    )
    given = parser.parse_args()
    return max(audit(path, given.osv_url) for path in given.files)


def audit(path: Path, osv_url: str | None) -> int:
    try:
        found = [one for pins in everywhere(path.read_text()) for one in asked(pins, osv_url)]
    except LookupError as exc:
        return say(f"{path.name}: NOT AUDITED, the list of vulnerabilities could not be asked: {exc}", 2)
    if skipped := [one["name"] for one in found if "skip_reason" in one]:
        return say(
            f"{path.name}: NOT AUDITED, the list of vulnerabilities does not know {len(skipped)} of {len(found)}: {skipped}",
            2,
        )
    bad = [(one, vulnerability) for one in found for vulnerability in one["vulns"]]
    for one, vulnerability in bad:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        say(f"{path.name}: {one['name']} {one['version']}: {vulnerability['id']}, fixed in {fixed}", 1)
    return say(
        f"{path.name}: {len(found)} distributions audited, {len(bad)} known vulnerabilities", 1 if bad else 0
    )


def asked(pins: str, osv_url: str | None) -> list[dict[str, Any]]:
    """
    What pip-audit says about each of *pins*. Raises LookupError with its last words when it says nothing.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(pins)
        file.flush()
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "-s",
            "osv",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        command += [
            "--disable-pip",
            "--require-hashes",
            "--requirement",
            file.name,
            *(["--osv-url", osv_url] if osv_url else []),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise LookupError((done.stderr.strip() or "it said nothing").splitlines()[-1]) from None
    return found


def everywhere(exported: str) -> list[str]:
    """
    The pins of every platform, without their markers: pip-audit passes over those of others, and takes one
    version of a name in a file.
    """
    parts: list[dict[str, str]] = []
    for name, version, hashes in PIN.findall(exported):
        part = next((part for part in parts if name not in part), None)
        if part is None:
            parts.append(part := {})
        part[name] = f"{name}{version}{hashes}"
    return ["".join(part.values()) for part in parts]


def say(line: str, code: int) -> int:
    sys.stdout.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
