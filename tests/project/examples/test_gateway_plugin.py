"""The template of a gateway plugin: its own tests pass, the core takes it, and a payment runs through it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import httpx
import pytest
from litestar import Litestar
from support.waiting import eventually

from paytrust.litestar import PayTrustPlugin
from paytrust.plugins.registry import GROUP, PluginState, Registry


@pytest.fixture
def folder(examples, importable):
    found = examples / "gateway_plugin"
    importable(found, "paytrust_acme")
    importable(found / "tests", "acme_server")
    return found


@pytest.fixture
def registry(folder):
    """What the core makes of the entry points that the template declares."""
    declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    return Registry(entry_points=[EntryPoint(name, value, GROUP) for name, value in declared.items()])


@pytest.fixture
def acme(folder):
    from acme_server import AcmeServer

    with AcmeServer() as server:
        yield server


@pytest.fixture
def api(settings, registry, serving_app):
    """PayTrust with the template as its only plugin, and a client with the admin key."""
    app = Litestar(plugins=[PayTrustPlugin(settings, registry=registry)], logging_config=None)
    headers = {"X-Admin-Key": settings.admin_api_key.get_secret_value()}
    with (
        serving_app(app, settings.port),
        httpx.Client(base_url=settings.public_url, headers=headers, timeout=30) as client,
    ):
        yield client


@pytest.fixture
def invoice_body(api, acme):
    """
    A tenant with an account at the local Acme: what an invoice for USD 19.99 is made from. The client gets
    the tenant's key.
    """
    tenant_id = api.post("/tenants", json={"name": "Shop"}).json()["tenant_id"]
    api.headers["X-API-Key"] = api.post("/api-keys", json={"tenant_id": tenant_id}).json()["api_key"]
    account = {
        "gateway": "acme",
        "name": "Acme",
        "tenant_id": tenant_id,
        "base_url": acme.url,
        "currencies": {"USD": {}},
    }
    account["credentials"] = {"secret_key": "acme-secret-key", "signing_key": "acme-signing-key"}
    answer = api.post("/gateway-accounts", json=account)
    assert answer.status_code == 201, answer.text
    lines = [{"product_name": "Widget", "quantity": 1, "unit_price": "19.99"}]
    return {
        "gateway_id": answer.json()["gateway_id"],
        "currency": "USD",
        "line_items": lines,
        "external_id": "order-1",
    }


def test_its_own_tests_pass_without_installing_it(folder, environ):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environ | {"PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_core_takes_it(registry):
    [plugin] = registry.plugins
    assert (plugin.state, plugin.provides) == (PluginState.LOADED, ["gateway acme"]), plugin.reason
    assert registry.gateways["acme"].display_name == "Acme Pay"


def test_an_invoice_is_paid_through_it(api, acme, invoice_body):
    answer = api.post("/invoices", json=invoice_body)
    assert answer.status_code == 201, answer.text
    invoice = answer.json()
    [payment] = acme.payments
    assert (invoice["status"], invoice["payment_url"]) == ("pending", payment["page"])
    assert (payment["amount"], payment["currency"]) == (19.99, "USD")
    assert acme.pay(payment["reference"]) == 200
    path = f"/invoices/{invoice['invoice_id']}"
    eventually(lambda: api.get(path).json()["status"] == "paid", "the invoice is paid")


def test_a_webhook_that_is_not_signed_is_refused(api, acme, invoice_body):
    api.post("/invoices", json=invoice_body)
    assert acme.notify(acme.payments[0], "payment.paid", signing_key="another") == 401


def test_an_answer_that_got_lost_is_looked_up_and_not_asked_for_again(api, acme, invoice_body):
    acme.silent = True
    lost = api.post("/invoices", json=invoice_body)
    assert (lost.status_code, lost.json()["code"]) == (504, "gateway_outcome_unknown")
    acme.silent = False
    found = api.post("/invoices", json=invoice_body)
    assert (found.status_code, found.json()["payment_url"]) == (200, acme.payments[0]["page"])
    assert len(acme.payments) == 1
