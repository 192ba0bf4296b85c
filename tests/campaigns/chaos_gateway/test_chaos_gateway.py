"""
Each fault of a gateway once, somewhere: afterwards nothing is left over. `make chaos-gateway` plays all of
them everywhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
SLACK_S = 5
"""A machine that runs all tests at once answers later than one that does nothing else."""


@pytest.mark.timeout(600)
def test_a_fault_of_a_gateway_leaves_nothing_over(postgres):
    command = [
        sys.executable,
        "-m",
        "campaigns.chaos_gateway.campaign",
        "--sample",
        "--slack",
        str(SLACK_S),
        "--server",
        postgres,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580, cwd=TESTS)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-20_000:]
