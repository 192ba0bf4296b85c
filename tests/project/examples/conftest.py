"""Running what `examples/` holds."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="session")
def examples():
    return EXAMPLES


@pytest.fixture(scope="session")
def environ():
    """The environment without settings of ours, as a newcomer has it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PAYTRUST_") or name.startswith("PAYTRUST_PG_")
    }


@pytest.fixture
def importable(monkeypatch):
    """
    Let this test import from a folder, and forget afterwards what it imported: `importable(folder, "module",
    ...)`.
    """

    def add(folder, *modules):
        monkeypatch.syspath_prepend(str(folder))
        for module in modules:
            monkeypatch.delitem(sys.modules, module, raising=False)

    return add


@pytest.fixture(scope="session")
def serving_app():
    """Serve an application over real HTTP while a `with` block runs."""

    @contextlib.contextmanager
    def serve(app, port):
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the application did not start"
                time.sleep(0.02)
            yield
        finally:
            server.should_exit = True
            thread.join()

    return serve
