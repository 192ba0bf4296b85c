"""Tests share one service: the work that one leaves must not be done while another looks."""

from __future__ import annotations

import pytest
from support.waiting import eventually


@pytest.fixture(autouse=True)
def left_alone(request, database):
    """
    What a test leaves is left alone by work in the background, which would visit it while later tests look.
    """
    yield
    if "sandbox" in request.fixturenames:
        sandbox = request.getfixturevalue("sandbox")
        sandbox.xendit.reset()
        sandbox.midtrans.reset()
    database.execute("UPDATE payments SET next_check_at = NULL WHERE next_check_at IS NOT NULL")
    database.execute(
        "UPDATE webhooks SET next_attempt_at = 'infinity' WHERE status = 'received' AND next_attempt_at <> 'infinity'"
    )
    working = "SELECT count(*) FROM webhooks WHERE status = 'received' AND lease_until > now()"
    eventually(lambda: not database.value(working), "no webhook is being processed")
