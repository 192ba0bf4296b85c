"""
True and forged webhooks, early, late, twice, shuffled and at once: a short campaign on the shared service.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_a_chaos_of_webhooks_loses_doubles_and_believes_nothing(service, session_owner_url):
    command = [
        sys.executable,
        "-m",
        "campaigns.chaos_webhooks.campaign",
        "--events",
        "60",
        "--forged",
        "60",
        "--bystanders",
        "1",
        "--pace",
        "5",
    ]
    # How quick an answer is, is measured by `make chaos-webhooks`, on a machine that does nothing else.
    command += ["--slack", "10", "--receive-timeout-s", "2", "--service", service.public_url]
    command += ["--admin-key", service.admin_api_key.get_secret_value(), "--owner-url", session_owner_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580, cwd=TESTS)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-20_000:]
