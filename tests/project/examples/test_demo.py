"""The demo runs to its end: whoever types `make demo` first must not be its first reader."""

from __future__ import annotations

import subprocess
import sys


def test_the_demo_pays_an_invoice_at_each_gateway_and_proves_the_books(
    examples, environ, owner_url, tmp_path
):
    done = subprocess.run(
        [sys.executable, examples / "run_the_service/demo.py"],
        env=environ | {"PAYTRUST_DATABASE_URL": owner_url, "PAYTRUST_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "--- xendit ---" in done.stdout
    assert "--- midtrans ---" in done.stdout
    assert "all agree" in done.stdout
