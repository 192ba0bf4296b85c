"""
What others depend on does not move by accident: names that they import, the API's description, log events
that docs name.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
from pathlib import Path

import pytest

from paytrust.app import create_app

ROOT = Path(__file__).parents[3]
OPENAPI = Path(__file__).with_name("openapi.json")

PLUGIN_AUTHORS = """
    DECIDES EXPONENT Answer Credentials Customer Gateway GatewayError GatewayHTTP GatewayPayment GatewayRejected GatewayUnavailable
    InvalidSignature Limits ListsPayments Money NoOptions OutcomeUnknown PayTrustError PaymentLine PaymentLookup PaymentRequest PaymentStatus Reach
    ReturnedBy
    Sandbox SandboxAccount TaxAnswer TaxQuery TaxRule UnreadableWebhook Webhook WebhookNotice hookimpl new_client
"""
EMBEDDERS = {"paytrust.litestar": "PayTrustPlugin Registry Settings load", "paytrust.app": "create_app"}


def test_plugin_authors_import_these_names():
    assert set(importlib.import_module("paytrust").__all__) == set(PLUGIN_AUTHORS.split())


@pytest.mark.parametrize("module", EMBEDDERS)
def test_embedders_import_these_names(module):
    found = importlib.import_module(module)
    assert set(found.__all__) == set(EMBEDDERS[module].split())
    assert all(hasattr(found, name) for name in found.__all__)


def test_the_openapi_document_changes_only_with_its_copy(settings):
    """
    The copy beside this test is what clients were generated from: a difference is a change of the API.

    `REWRITE_OPENAPI=1 python -m pytest tests/project/architecture/test_public_face.py` takes the new document.
    """
    document = create_app(settings).openapi_schema.to_schema()
    document.pop("servers", None)
    text = json.dumps(document, indent=1, sort_keys=True, default=str) + "\n"
    if os.environ.get("REWRITE_OPENAPI"):
        OPENAPI.write_text(text)
    assert text == OPENAPI.read_text(), "the API's description has changed; see this test's docstring"


def logged_events():
    events = set()
    for path in (ROOT / "paytrust").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                events.add(node.value)
    return events


def test_every_log_event_that_operators_watch_for_is_logged():
    watched = (ROOT / "docs/how-to/deploy.md").read_text().partition("## Watch it")[2].partition("\n## ")[0]
    named = {
        name
        for name in re.findall(r"`([^`]+)`", watched)
        if re.fullmatch(r"[a-z][a-z0-9 .]* [a-z0-9 .]+", name)
    }
    commands = {name for name in named if name.startswith("paytrust ")}
    assert named - commands
    events = logged_events()
    assert not {name for name in named - commands if not any(event.startswith(name) for event in events)}
