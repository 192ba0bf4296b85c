"""Fuzz the running service by its own OpenAPI document, with schemathesis."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
from campaigns.fuzz.fixture import Fixture

TESTS: Final = Path(__file__).parents[2]
EXCEPTIONS: Final = {
    "positive_data_acceptance": "rules that no schema can say (an account that exists, an expiry within 30 days, amounts that sum) are 400",
}
"""Checks that are off, and why. All others are on."""
CONFIG: Final = """
request-timeout = 30.0
hooks = "hooks.py"

[warnings]
enabled = false

[auth.openapi]
paytrustApiKey = {{ api_key = "{fixture.api_key}" }}
paytrustAdminKey = {{ api_key = "{fixture.admin_key}" }}

[checks]
{off}

[generation]
database = "none"

[phases.stateful]
max-steps = 8
"""


class Round(msgspec.Struct):
    """
    What one run of schemathesis saw: how many cases, its words about what failed, and how often each thing
    happened.
    """

    cases: int
    failures: str
    counts: Counter[str]


def play(fixture: Fixture, url: str, *, folder: Path, seed: int, examples: int, phases: str) -> Round:
    """Run schemathesis once against *url*: at most *examples* cases for each operation and phase."""
    folder.mkdir()
    off = "\n".join(f"{name} = {{ enabled = false }}" for name in EXCEPTIONS)
    (folder / "schemathesis.toml").write_text(CONFIG.format(fixture=fixture, off=off))
    (folder / "hooks.py").write_text(
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\nfrom campaigns.fuzz.hooks import *\n"
    )
    (folder / "fixture.json").write_bytes(msgspec.json.encode(fixture))
    report, counts = folder / "report.json", folder / "counts.json"
    command = [
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "--no-color",
    ]
    command += ["--config-file", "schemathesis.toml", "run", f"{url}/openapi.json", "--continue-on-failure"]
    command += [
        "--phases",
        phases,
        "-n",
        str(examples),
        "--seed",
        str(seed),
        "--report",
        "json",
        "--report-json-path",
        str(report),
    ]
    environ = {
        **os.environ,
        "PAYTRUST_FUZZ_FIXTURE": "fixture.json",
        "PAYTRUST_FUZZ_COUNTS": str(counts),
        "PYTHONHASHSEED": "0",
    }
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    told: dict[str, Any] = (
        msgspec.json.decode(report.read_bytes()) if report.exists() else {"test_cases": {"generated": 0}}
    )
    seen = (
        Counter(msgspec.json.decode(counts.read_bytes(), type=dict[str, int]))
        if counts.exists()
        else Counter()
    )
    return Round(
        told["test_cases"]["generated"],
        "" if done.returncode == 0 else done.stdout + done.stderr[-3000:],
        seen,
    )
