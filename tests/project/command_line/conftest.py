"""What the tests of the command line share: an environment, and `paytrust` in this process or in its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from paytrust.cli import cli

PAYTRUST = str(Path(sys.executable).with_name("paytrust"))


@pytest.fixture
def environ(settings, owner_url):
    """The environment of a service on this test's own database."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}
    return clean | {
        "PAYTRUST_DATABASE_URL": settings.database_url.get_secret_value(),
        "PAYTRUST_DATABASE_OWNER_URL": owner_url,
        "PAYTRUST_ADMIN_API_KEY": settings.admin_api_key.get_secret_value(),
        "PAYTRUST_KEY_PEPPER": settings.key_pepper.get_secret_value(),
        "PAYTRUST_ENCRYPTION_KEYS": ",".join(
            f"{k}:{v.get_secret_value()}" for k, v in settings.encryption_keys.items()
        ),
        "COLUMNS": "80",
    }


@pytest.fixture
def run(environ, tmp_path, monkeypatch):
    """
    Run `paytrust ...` in this process, which takes a tenth of the time; gives (exit code, everything
    printed).
    """

    def run_(*args, changes=None, given=""):
        handlers = logging.root.handlers[:]
        with monkeypatch.context() as patched:
            patched.chdir(tmp_path)
            told = CliRunner(env=dict.fromkeys(os.environ) | environ | (changes or {})).invoke(
                cli, args, given, catch_exceptions=False
            )
        logging.root.handlers[:] = handlers
        return told.exit_code, told.output

    return run_


@pytest.fixture
def run_process(environ, tmp_path):
    """The same as people run it: in a process of its own."""

    def run_(*args, changes=None):
        done = subprocess.run(
            [PAYTRUST, *args],
            env=environ | (changes or {}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    return run_
