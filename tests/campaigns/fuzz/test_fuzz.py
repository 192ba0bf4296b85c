"""A short campaign: a few hundred requests and a second of inputs. `make fuzz` is the long one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from paytrust.api import bodies, problems
from paytrust.invoices.model import CreateInvoice

TESTS = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_whatever_is_sent_is_taken_or_refused_as_the_document_says(postgres):
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("needs the group dev")
    command = [
        sys.executable,
        "-m",
        "campaigns.fuzz.campaign",
        "--cases",
        "200",
        "--seconds",
        "0.1",
        "--processes",
        "1",
        "--server",
        postgres,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=560, cwd=TESTS)
    # So few do not reach everything: `make fuzz` insists on it.
    assert done.returncode in {0, 3}, done.stdout[-20_000:] + done.stderr[-5_000:]


@pytest.mark.parametrize(
    "filler",
    [b"}", b"[]", b"{", b'"', b'\\"', b"\\", b'"[', b"\\\\u0000", b"1e1,", b'"a":1,', b"\xef\xbf"],
    ids=repr,
)
def test_no_body_takes_more_than_50_ms_of_cpu(least_cpu_s, filler):
    body = filler * (problems.MAX_BODY_BYTES // len(filler)) + b"[" * 33

    def decode():
        with pytest.raises(bodies.Malformed):
            bodies.decode(CreateInvoice, body)

    assert least_cpu_s(decode, 0.050) < 0.050
