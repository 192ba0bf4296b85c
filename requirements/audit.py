"""
Look up every pinned distribution in a public list of known vulnerabilities (OSV), with pip-audit.

    make audit

Reads the exported requirement files and nothing that is installed. Ends with 1 when a vulnerability is known, and with 2 when the list
could not be asked about everything: then nothing is known, which is not the same as nothing found.
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
MARKER = re.compile(r"^(\S+==\S+) ;[^\\\n]*", re.MULTILINE)
FILES = [HERE / name for name in ("service.txt", "dev.txt", "bootstrap.txt")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=FILES)
    parser.add_argument("--osv-url", help="of another service that speaks OSV's query API, such as a mirror of your own")
    given = parser.parse_args()
    return max(audit(path, given.osv_url) for path in given.files)


def audit(path: Path, osv_url: str | None) -> int:
    command = [sys.executable, "-m", "pip_audit", "-s", "osv", "--strict", "--format", "json", "--progress-spinner", "off"]
    with tempfile.TemporaryDirectory() as folder:
        everywhere = Path(folder, path.name)  # pip-audit passes over what another platform would install
        everywhere.write_text(MARKER.sub(r"\1", path.read_text()))
        command += ["--disable-pip", "--require-hashes", "--requirement", str(everywhere), *(["--osv-url", osv_url] if osv_url else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        return say(f"{path.name}: NOT AUDITED, the list of vulnerabilities could not be asked: {reason}", 2)
    if skipped := [one["name"] for one in found if "skip_reason" in one]:
        return say(f"{path.name}: NOT AUDITED, the list of vulnerabilities does not know {len(skipped)} of {len(found)}: {skipped}", 2)
    bad = [(one, vulnerability) for one in found for vulnerability in one["vulns"]]
    for one, vulnerability in bad:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        say(f"{path.name}: {one['name']} {one['version']}: {vulnerability['id']}, fixed in {fixed}", 1)
    return say(f"{path.name}: {len(found)} distributions audited, {len(bad)} known vulnerabilities", 1 if bad or done.returncode else 0)


def say(line: str, code: int) -> int:
    sys.stdout.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
