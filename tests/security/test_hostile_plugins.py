"""
A gateway plugin that exits, blocks, babbles or never ends: its own calls fail with an error that names it,
everybody else goes on.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint

import httpx
import pytest

from paytrust import development
from paytrust.plugins.registry import GROUP, Registry

PLUGIN = """
import asyncio, datetime, sys, time

import msgspec
from paytrust import hookimpl
from paytrust.contract.gateways import Credentials, Gateway, GatewayPayment, PaymentStatus, WebhookNotice
from paytrust.money import Money


class Deeds(msgspec.Struct, frozen=True):
    create: str = ""
    find: str = ""
    verify: str = ""
    read: str = ""
    start: str = ""


class Nothing(Credentials, frozen=True):
    pass


class OwnBase(BaseException):
    pass


def payment(reference, amount, **changes):
    fields = dict(reference=reference, gateway_payment_id="p" + reference, status=PaymentStatus.OPEN, amount=amount,
                  payment_url="https://pay.example.com/1")
    return GatewayPayment(**{**fields, **changes})


async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if sys.is_finalizing() or stubborn.over:
                raise

stubborn.over = False


def raise_(exc):
    raise exc


DEEDS = {
    "raise": lambda p: raise_(LookupError("secret-in-a-message")),
    "exit": lambda p: sys.exit(3),
    "interrupt": lambda p: raise_(KeyboardInterrupt()),
    "own base": lambda p: raise_(OwnBase()),
    "cancel": lambda p: raise_(asyncio.CancelledError()),
    "stop": lambda p: raise_(StopIteration()),
    "not found": lambda p: raise_(__import__("paytrust.errors").errors.NotFound("x")),
    "none": lambda p: None,
    "dict": lambda p: {"reference": "x"},
    "class": lambda p: GatewayPayment,
    "text amount": lambda p: payment(p.reference, "100"),
    "float minor": lambda p: payment(p.reference, Money(float(p.amount.minor), "USD")),
    "bytes id": lambda p: payment(p.reference, p.amount, gateway_payment_id=bytearray(b"x")),
    "number url": lambda p: payment(p.reference, p.amount, payment_url=7),
    "naive time": lambda p: payment(p.reference, p.amount, expires_at=datetime.datetime(2030, 1, 1)),
    "nul": lambda p: payment(p.reference, p.amount, instructions={"a": chr(0)}),
    "surrogate": lambda p: payment(p.reference, p.amount, instructions={"a": chr(0xD800)}),
    "nested": lambda p: payment(p.reference, p.amount, instructions={"a": {"b": {}}}),
    "huge": lambda p: payment(p.reference, p.amount, instructions={"a": "x" * 50_000_000}),
    "block": lambda p: time.sleep(1.5) or payment(p.reference, p.amount),
}


class Steady(Gateway):
    code, display_name, base_url = "steady", "Steady", "https://steady.invalid"
    currencies = frozenset({"USD"})
    credentials_type, options_type = Nothing, Deeds

    @classmethod
    def headers(cls, credentials):
        return {}

    @classmethod
    def explain(cls, answer):
        return None

    async def create_payment(self, request):
        return payment(request.reference, request.amount)

    async def find_payments(self, lookup):
        return []

    async def expire_payment(self, payment):
        pass

    def verify_webhook(self, webhook):
        pass

    def read_webhook(self, webhook):
        return WebhookNotice(event_key="e", reference="r", event="x")


class Hostile(Steady):
    code = "hostile"

    def __init__(self, credentials, options, http):
        super().__init__(credentials, options, http)
        if options.start:
            DEEDS[options.start](None)

    async def create_payment(self, request):
        if self.options.create == "hang":
            await asyncio.sleep(3600)
        if self.options.create == "stubborn":
            await stubborn()
        return DEEDS[self.options.create](request) if self.options.create else await super().create_payment(request)

    async def find_payments(self, lookup):
        reference = lookup.reference
        many = lambda: iter(int, 1)
        return {
            "none": lambda: None,
            "generator": many,
            "text": lambda: reference,
            "many": lambda: [None] * 10_000_000,
            "others": lambda: [payment("PT-of-somebody-elsx", Money(100, "USD"))],
            "mixed": lambda: [payment(reference, Money(100, "USD")), 7],
            "exit": lambda: sys.exit(0),
        }[self.options.find]()

    def verify_webhook(self, webhook):
        async def later():
            pass
        verify = self.options.verify
        return {"": lambda: None, "false": lambda: False, "true": lambda: True, "coroutine": later, "exit": sys.exit}[verify]()

    def read_webhook(self, webhook):
        return {
            "": lambda: WebhookNotice(event_key="e", reference="r", event="x"),
            "none": lambda: None,
            "number": lambda: WebhookNotice(event_key=7, reference="r", event="x"),
            "exit": sys.exit,
        }[self.options.read]()


@hookimpl
def register_gateways(register):
    register(Steady)
    register(Hostile)
"""
RAISES = ["raise", "exit", "interrupt", "own base", "cancel", "stop", "not found"]
BABBLES = [
    "none",
    "dict",
    "class",
    "text amount",
    "float minor",
    "bytes id",
    "number url",
    "naive time",
    "nul",
    "surrogate",
    "nested",
    "huge",
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "paytrust_hostile_of_a_test.py").write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        found = Registry(entry_points=[EntryPoint("hostile", "paytrust_hostile_of_a_test", GROUP)])
        assert found.plugins[0].reason is None
        yield found
        import paytrust_hostile_of_a_test

        paytrust_hostile_of_a_test.stubborn.over = True


@pytest.fixture(scope="module")
def house(module_owner_url, settings_for, registry):
    """A service with these plugins, and a tenant's client with the admin key too."""
    settings = settings_for(module_owner_url)
    with (
        development.serving(settings, registry=registry) as base,
        httpx.Client(
            base_url=base, headers={"X-Admin-Key": settings.admin_api_key.get_secret_value()}, timeout=30
        ) as client,
    ):
        tenant_id = client.post("/tenants", json={"name": "Shop"}).json()["tenant_id"]
        client.headers["X-API-Key"] = client.post("/api-keys", json={"tenant_id": tenant_id}).json()[
            "api_key"
        ]
        yield client


@pytest.fixture
def account(house):
    def make(gateway, **deeds):
        body = {
            "gateway": gateway,
            "name": gateway,
            "credentials": {},
            "currencies": {"USD": {}},
            "options": deeds,
        }
        answer = house.post("/gateway-accounts", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return make


@pytest.fixture
def order(house):
    """POST /invoices at an account; the same *external_id* asks again."""

    def post(account, **changes):
        lines = [{"product_name": "Widget", "quantity": 1, "unit_price": "19.99"}]
        return house.post(
            "/invoices",
            json={"gateway_id": account["gateway_id"], "currency": "USD", "line_items": lines, **changes},
        )

    return post


@pytest.fixture
def steady(account, order):
    """Order at the gateway beside it, and say how long that took in seconds."""
    beside = account("steady")

    def take():
        started = time.monotonic()
        assert order(beside).status_code == 201
        return time.monotonic() - started

    return take


@pytest.mark.parametrize("deed", RAISES + BABBLES)
def test_whatever_creating_does_is_an_unknown_outcome_that_names_the_plugin(
    order, account, steady, problem, deed
):
    told = problem(order(account("hostile", create=deed)), 504, "gateway_outcome_unknown")
    assert "the plugin of the gateway hostile failed" in told["detail"]
    assert "secret-in-a-message" not in told["detail"]
    assert steady() < 5


@pytest.mark.parametrize("deed", ["none", "generator", "text", "many", "others", "mixed", "exit"])
def test_whatever_finding_does_is_an_unavailable_gateway_that_names_the_plugin(
    order, account, steady, problem, deed
):
    hostile = account("hostile", create="raise", find=deed)
    problem(order(hostile, external_id=deed), 504, "gateway_outcome_unknown")
    told = problem(order(hostile, external_id=deed), 503, "gateway_unavailable")
    assert "the plugin of the gateway hostile failed" in told["detail"]
    assert steady() < 5


@pytest.mark.parametrize("deed", ["raise", "exit"])
def test_a_gateway_that_cannot_be_made_is_unavailable_and_nothing_is_written(
    order, account, steady, problem, house, deed
):
    hostile = account("hostile", start=deed)
    told = problem(order(hostile, external_id=f"start {deed}"), 503, "gateway_unavailable")
    assert "the plugin of the gateway hostile failed to start" in told["detail"]
    assert house.get("/invoices", params={"external_id": f"start {deed}"}).json()["invoices"] == []
    assert steady() < 5


@pytest.mark.parametrize(
    "deeds",
    [{"verify": deed} for deed in ("false", "true", "coroutine", "exit")]
    + [{"read": deed} for deed in ("none", "number", "exit")],
    ids=str,
)
def test_a_verification_that_does_not_raise_as_it_should_lets_nothing_in(
    house, account, steady, problem, deeds
):
    url = account("hostile", **deeds)["webhook_url"]
    problem(httpx.post(url, content=b"{}"), 503, "unavailable")
    assert steady() < 5


def test_a_verification_that_is_as_it_should_be_lets_it_in(account):
    assert httpx.post(account("hostile")["webhook_url"], content=b"{}").status_code == 200


@pytest.mark.parametrize("deed", ["hang", "stubborn"])
def test_a_plugin_that_never_ends_is_cut_off_and_the_others_do_not_notice(
    order, account, steady, problem, deed
):
    hostile = account("hostile", create=deed)
    with ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        hanging = [pool.submit(order, hostile) for _ in range(4)]
        time.sleep(0.5)
        assert sorted(steady() for _ in range(9))[4] < 1  # half of them; a busy machine has its moments
        answers = [each.result() for each in hanging]
    assert time.monotonic() - started < 20
    for answer in answers:
        told = problem(answer, 504, "gateway_outcome_unknown")
        assert "the plugin of the gateway hostile did not finish within 15 s" in told["detail"]


def test_a_plugin_that_blocks_the_loop_stalls_everybody_for_that_long_and_no_longer(order, account, steady):
    assert order(account("hostile", create="block")).status_code == 201
    assert steady() < 1.5


def test_a_tenant_that_hangs_at_a_gateway_leaves_the_others_their_places(order, account, problem, house):
    """
    A quarter of 64 places are one tenant's; further calls of his are told so, and another tenant's are made.
    """
    hostile = account("hostile", create="hang")
    fine = account("hostile")
    with ThreadPoolExecutor(24) as pool:
        hanging = [pool.submit(order, hostile) for _ in range(20)]
        time.sleep(3)
        told = [each.result() for each in hanging if each.done()]
        assert order(fine).status_code == 201
        assert len(told) == 4
        for answer in told:
            assert (
                "too many calls to hostile are under way; nothing was sent"
                in problem(answer, 503, "gateway_unavailable")["detail"]
            )
            assert answer.headers["retry-after"]
        assert {each.result().status_code for each in hanging} == {503, 504}
