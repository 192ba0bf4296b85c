"""
A gateway plugin that raises, dawdles or passes nonsense on: no payer is sent astray, no money is booked that
is none, the rest works.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest
from support.waiting import eventually

from paytrust import development
from paytrust.plugins.registry import GROUP, PluginState, Registry

TEMPLATE = Path(__file__).parents[3] / "examples/gateway_plugin"
CARELESS = '''
"""Plugins as they should not be: the template of a gateway plugin, which talks to a real server, with a mistake in each."""

import asyncio

from paytrust import hookimpl
from paytrust_acme import AcmeGateway


class Raises(AcmeGateway):
    code = "raises"

    async def create_payment(self, request):
        await super().create_payment(request)
        return {}["page"]


class Dawdles(AcmeGateway):
    code = "dawdles"

    async def create_payment(self, request):
        await super().create_payment(request)
        await asyncio.sleep(3600)


class CannotLook(AcmeGateway):
    code = "cannotlook"

    async def find_payments(self, lookup):
        return 1 / 0


class CannotVerify(AcmeGateway):
    code = "cannotverify"

    def verify_webhook(self, webhook):
        raise LookupError("acme-signature")


class Babbles(AcmeGateway):
    code = "babbles"

    def read_webhook(self, webhook):
        notice = super().read_webhook(webhook)
        return type(notice)(event_key=notice.event_key, reference="\\0" + notice.reference, event=notice.event)


class Strict(AcmeGateway):
    code = "strict"

    def page_hosts(self):
        return ("acme.example",)


class CannotSay(AcmeGateway):
    code = "cannotsay"

    def page_hosts(self):
        return "acme.example"


@hookimpl
def register_gateways(register):
    for gateway in (AcmeGateway, Raises, Dawdles, CannotLook, CannotVerify, Babbles, Strict, CannotSay):
        register(gateway)
'''


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The careless plugins, found as every plugin is found."""
    folder = tmp_path_factory.mktemp("careless")
    (folder / "paytrust_careless.py").write_text(CARELESS)
    with pytest.MonkeyPatch.context() as patch:
        for path in (TEMPLATE, TEMPLATE / "tests", folder):
            patch.syspath_prepend(str(path))
        found = Registry(entry_points=[EntryPoint("careless", "paytrust_careless", GROUP)])
        assert [plugin.state for plugin in found.plugins] == [PluginState.LOADED], found.plugins
        yield found


@pytest.fixture(scope="module")
def acme(registry):
    """The server of the provider that all of them speak to."""
    from acme_server import AcmeServer

    with AcmeServer() as server:
        yield server


@pytest.fixture
def webhooks(own_database):
    """Status and error of every webhook that was stored."""
    return lambda: [
        (row["status"], row["error_code"])
        for row in own_database.rows("SELECT status, error_code FROM webhooks ORDER BY id")
    ]


@pytest.fixture
def admin(settings, registry):
    """PayTrust with the careless plugins, and a client with the admin key."""
    with (
        development.serving(settings, registry=registry) as url,
        httpx.Client(
            base_url=url,
            headers={"X-Admin-Key": settings.admin_api_key.get_secret_value()},
            timeout=30,
            verify=False,
        ) as client,
    ):
        yield client


@pytest.fixture
def shop(admin, acme):
    """
    A tenant's client. `shop("raises")` is the id and the webhook address of a new account at that gateway.
    """
    tenant_id = admin.post("/tenants", json={"name": "Shop"}).json()["tenant_id"]
    admin.headers["X-API-Key"] = admin.post("/api-keys", json={"tenant_id": tenant_id}).json()["api_key"]

    def account(gateway):
        body = {
            "gateway": gateway,
            "name": gateway,
            "tenant_id": tenant_id,
            "base_url": acme.url,
            "currencies": {"USD": {}},
        }
        body["credentials"] = {"secret_key": "acme-secret-key", "signing_key": "acme-signing-key"}
        answer = admin.post("/gateway-accounts", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["gateway_id"]

    return account


def order(api, gateway_id):
    lines = [{"product_name": "Widget", "quantity": 1, "unit_price": "19.99"}]
    return api.post(
        "/invoices",
        json={"gateway_id": gateway_id, "currency": "USD", "line_items": lines, "external_id": "order"},
    )


def the_invoice(api):
    [invoice] = api.get("/invoices").json()["invoices"]
    return invoice


def ask_for_page(api):
    return api.post(f"/invoices/{the_invoice(api)['invoice_id']}/payment-url")


@pytest.mark.parametrize(("gateway", "within_s"), [("raises", 5), ("dawdles", 20)])
def test_a_plugin_that_does_not_come_back_leaves_an_unknown_outcome_that_heals(
    admin, shop, acme, problem, gateway, within_s
):
    answer = order(admin, shop(gateway))
    problem(answer, 504, "gateway_outcome_unknown")
    assert answer.elapsed.total_seconds() < within_s
    assert the_invoice(admin)["status"] == "draft"
    assert ask_for_page(admin).json()["payment_url"] == acme.payments[-1]["page"]
    acme.pay(acme.payments[-1]["reference"])
    eventually(lambda: the_invoice(admin)["status"] == "paid")


def test_a_plugin_that_cannot_look_makes_the_webhook_wait(admin, shop, acme, webhooks):
    assert order(admin, shop("cannotlook")).status_code == 201
    assert acme.pay(acme.payments[-1]["reference"]) == 200
    eventually(lambda: webhooks() == [("received", "gateway_unavailable")])
    assert the_invoice(admin)["status"] == "pending"


def test_a_plugin_that_cannot_verify_lets_nothing_in_and_the_gateway_tries_again(admin, shop, acme, webhooks):
    assert order(admin, shop("cannotverify")).status_code == 201
    assert acme.pay(acme.payments[-1]["reference"]) == 503
    assert webhooks() == []


def test_words_that_no_gateway_uses_are_kept_for_a_person(admin, shop, acme, webhooks):
    assert order(admin, shop("babbles")).status_code == 201
    assert acme.pay(acme.payments[-1]["reference"]) == 200
    assert webhooks() == [("failed", "unreadable_webhook")]


@pytest.mark.parametrize(
    ("gateway", "page"),
    [
        *[
            ("acme", page)
            for page in (
                "javascript:alert(1)",
                "data:text/html,x",
                "//elsewhere.example/pay",
                "https://",
                "pay",
            )
        ],
        *[
            ("acme", page)
            for page in (
                "https://acme.example@elsewhere.example",
                "https://acme.example\\@elsewhere.example",
                "ftp://acme.example",
            )
        ],
        *[
            ("strict", page)
            for page in (
                "https://elsewhere.example/pay",
                "https://acme.example.elsewhere.example",
                "https://notacme.example",
            )
        ],
    ],
)
def test_a_payer_is_never_sent_to_what_is_no_page_of_the_gateway(admin, shop, acme, problem, gateway, page):
    """D15; PCI: the redirect to the page keeps its integrity."""
    acme.silent = True
    problem(order(admin, shop(gateway)), 504, "gateway_outcome_unknown")
    acme.silent = False
    good, acme.payments[-1]["page"] = acme.payments[-1]["page"], page
    problem(ask_for_page(admin), 504, "gateway_outcome_unknown")
    assert the_invoice(admin)["payment_url"] is None
    acme.payments[-1]["page"] = good
    assert ask_for_page(admin).json()["payment_url"] == good


def test_a_page_below_a_host_of_the_gateway_is_one_of_its_pages(admin, shop, acme, problem):
    acme.silent = True
    problem(order(admin, shop("strict")), 504, "gateway_outcome_unknown")
    acme.silent = False
    acme.payments[-1]["page"] = "https://pay.acme.example/1"
    assert ask_for_page(admin).json()["payment_url"] == "https://pay.acme.example/1"


def test_a_gateway_that_cannot_say_where_its_pages_are_is_not_asked_for_one(admin, shop, acme, problem):
    made = len(acme.payments)
    problem(order(admin, shop("cannotsay")), 503, "gateway_unavailable")
    assert len(acme.payments) == made


def test_a_payment_of_nothing_is_no_payment(admin, shop, acme, webhooks, own_database):
    assert order(admin, shop("acme")).status_code == 201
    payment = acme.payments[-1]
    payment |= {"state": "paid", "paid_amount": 0}
    assert acme.notify(payment, "payment.paid") == 200
    eventually(lambda: webhooks() == [("failed", "unprocessable")])
    assert the_invoice(admin)["status"] == "pending"
    assert own_database.rows("SELECT id FROM receipts") == []


def test_a_payment_that_the_gateway_takes_back_is_kept_for_a_person(admin, shop, acme, webhooks):
    assert order(admin, shop("acme")).status_code == 201
    payment = acme.payments[-1]
    acme.pay(payment["reference"])
    eventually(lambda: the_invoice(admin)["status"] == "paid")
    payment |= {"state": "declined", "paid_amount": None}
    assert acme.notify(payment, "payment.declined") == 200
    eventually(lambda: ("failed", "payment_reversed") in webhooks())
    assert the_invoice(admin)["status"] == "paid"


def test_an_account_whose_plugin_is_gone_is_unavailable_and_says_why(
    settings, registry, admin, shop, acme, problem
):
    gateway_id = shop("acme")
    key = {"X-API-Key": admin.headers["X-API-Key"]}
    without = settings.model_copy(update={"port": development.free_port(), "worker": False})
    with (
        development.serving(without, registry=Registry(entry_points=[])) as url,
        httpx.Client(base_url=url, headers=key) as api,
    ):
        answer = problem(order(api, gateway_id), 503, "gateway_unavailable")
        assert "plugin acme is not loaded" in answer["detail"]
        assert api.get("/invoices").json()["invoices"] == [], (
            "nothing is written for a gateway that cannot be asked"
        )
    assert order(admin, gateway_id).json()["payment_url"] == acme.payments[-1]["page"]
