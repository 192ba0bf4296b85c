"""
What every test may ask for: a real PostgreSQL, a real API server, real sandbox gateways, and a merchant of
its own. The fixtures lie in support/fixtures.

The server and the sandboxes serve the whole session; a test is apart from the others because its tenant is
its own. Each worker of `make test` is a session: it has all of this for itself. PAYTRUST_DATABASE_URL (the
owner of a PostgreSQL 14+) takes the place of the embedded one.
"""

from __future__ import annotations

import logging

import hypothesis
import pytest
import structlog

pytest.register_assert_rewrite("support")

import support.environment  # noqa: E402, F401 - first of all: it takes settings out of the environment
from support.canary import CANARY, listen  # noqa: E402

pytest_plugins = [
    "support.fixtures.inspection",
    "support.fixtures.postgres",
    "support.fixtures.service",
    "support.fixtures.merchants",
    "support.fixtures.api",
    "support.fixtures.durations",
]

# How long an example takes says nothing on a machine that does other things at the same time.
hypothesis.settings.register_profile("paytrust", deadline=None)
hypothesis.settings.load_profile("paytrust")


# The tests' own client would write the keys that it sends into the service's log.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def pytest_configure(config):
    config.pluginmanager.register(CANARY, "canary")
    config.add_cleanup(listen(CANARY).undo)


@pytest.fixture(scope="session")
def canary():
    """
    What listens to the whole session for secrets: `canary.look(where, text)` has it look at more,
    `canary.learn` teaches it one.
    """
    return CANARY


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_left_over_log_fields():
    structlog.contextvars.clear_contextvars()
