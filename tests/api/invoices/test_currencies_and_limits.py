"""
Currencies with 0, 2 and 3 decimals, and what a gateway says it takes, through the API of a service with a
gateway of our own.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import httpx
import msgspec
import pytest
from support.waiting import eventually

from paytrust import (
    Credentials,
    Gateway,
    GatewayPayment,
    InvalidSignature,
    Limits,
    Money,
    NoOptions,
    PaymentStatus,
    WebhookNotice,
    development,
)
from paytrust.plugins.registry import Registry

LIMITS = {
    "JPY": Limits(minimum=Money(50, "JPY"), maximum=Money(1_000_000, "JPY")),
    "MYR": Limits(minimum=Money(2_00, "MYR"), exponent=0),
    "USD": Limits(minimum=Money(50, "USD"), maximum=Money(999_99, "USD")),
    "KWD": Limits(maximum=Money(5_000, "KWD"), exponent=2),
}


class NoSecrets(Credentials, frozen=True):
    pass


class WorldGateway(Gateway[NoSecrets, NoOptions]):
    """Collects in every currency; its books are a dictionary."""

    code = "world"
    display_name = "World"
    base_url = "http://127.0.0.1"
    currencies = frozenset({"IDR", "JPY", "MYR", "USD", "KWD", "BHD"})
    credentials_type = NoSecrets
    books: ClassVar[dict[str, GatewayPayment]] = {}

    @classmethod
    def headers(cls, credentials):  # noqa: ARG003
        return {}

    @classmethod
    def explain(cls, answer):  # noqa: ARG003
        return None

    def limits(self, currency):
        return LIMITS.get(currency, Limits())

    async def create_payment(self, request):
        opened = GatewayPayment(
            reference=request.reference, gateway_payment_id=request.reference, status=PaymentStatus.OPEN, amount=request.amount,
            payment_url="http://127.0.0.1/pay",
        )  # fmt: skip
        self.books[request.reference] = opened
        return opened

    async def find_payments(self, lookup):
        return [self.books[lookup.reference]]

    async def expire_payment(self, payment):
        self.books[payment.reference] = msgspec.structs.replace(payment, status=PaymentStatus.EXPIRED)

    def verify_webhook(self, webhook):
        if "world" not in webhook.headers:
            raise InvalidSignature("not ours")

    def read_webhook(self, webhook):
        return WebhookNotice(event_key=webhook.body.decode(), reference=webhook.body.decode(), event="paid")


class Confused(WorldGateway):
    """Its author made mistakes: the answers are wrong in the one currency and raise in another."""

    code = "confused"

    def limits(self, currency):
        return {"IDR": None, "JPY": Limits(minimum=Money(1, "IDR"))}[currency]


@pytest.fixture(scope="module")
def world(module_owner_url, settings_for):
    registry = Registry(entry_points=[])
    registry.gateways |= {"world": WorldGateway, "confused": Confused}
    settings = settings_for(module_owner_url)
    with (
        development.serving(settings, registry=registry) as url,
        httpx.Client(base_url=url, timeout=30) as api,
    ):
        admin = {"x-admin-key": settings.admin_api_key.get_secret_value()}

        def made(path, body):
            answer = api.post(path, json=body, headers=admin)
            assert answer.status_code == 201, answer.text
            return answer.json()

        tenant_id = made("/tenants", {"name": "Merchant"})["tenant_id"]
        api.headers["x-api-key"] = made("/api-keys", {"tenant_id": tenant_id})["api_key"]
        accounts = {
            code: made(
                "/gateway-accounts",
                {
                    "gateway": code,
                    "name": code,
                    "tenant_id": tenant_id,
                    "credentials": {},
                    "currencies": {currency: {} for currency in type_.currencies},
                },
            )
            for code, type_ in registry.gateways.items()
        }
        yield SimpleNamespace(api=api, accounts=accounts)


def body(world, currency, price, *, gateway="world", rate="0", **changes):
    line = {"product_name": "x", "quantity": 1, "unit_price": price, "tax_rate": rate}
    return {
        "gateway_id": world.accounts[gateway]["gateway_id"],
        "currency": currency,
        "line_items": [line],
        **changes,
    }


def post(world, *args, **changes):
    return world.api.post("/invoices", json=body(world, *args, **changes))


def count(world):
    return len(world.api.get("/invoices", params={"limit": 200}).json()["invoices"])


def pay(world, invoice, amount=None):
    """Somebody pays what is open of *invoice*, or *amount* in minor units, and the gateway says so."""
    attempts = world.api.get(f"/invoices/{invoice['invoice_id']}/payments").json()["payments"]
    reference = attempts[-1]["reference"]
    opened = WorldGateway.books[reference]
    paid = opened.amount if amount is None else Money(amount, opened.amount.currency)
    WorldGateway.books[reference] = msgspec.structs.replace(opened, status=PaymentStatus.PAID, paid=paid)
    answer = world.api.post(
        world.accounts["world"]["webhook_url"], content=reference, headers={"world": "yes"}
    )
    assert answer.status_code == 200, answer.text


def wait(world, invoice, condition):
    told = {}

    def fits():
        told.update(world.api.get(f"/invoices/{invoice['invoice_id']}").json())
        return condition(told)

    eventually(fits, lambda: told)
    return told


@pytest.mark.parametrize(
    ("currency", "price", "tax", "total", "parts"),
    [
        ("IDR", "1000001", "110000", "1110001", ["370000", "370000", "370001"]),
        ("JPY", "1003", "110", "1113", ["371", "371", "371"]),
        ("USD", "19.99", "2.20", "22.19", ["7.39", "7.39", "7.41"]),
        ("BHD", "1.234", "0.136", "1.370", ["0.456", "0.456", "0.458"]),
        ("BHD", "0.003", "0.000", "0.003", ["0.001", "0.001", "0.001"]),
    ],
)
def test_an_invoice_in_three_parts_is_exact_to_the_last_minor_unit_and_paid_in_order(
    world, currency, price, tax, total, parts
):
    answer = post(world, currency, price, rate="0.11", installments={"count": 3})
    assert answer.status_code == 201, answer.text
    invoice = answer.json()
    assert (invoice["total_tax_amount"], invoice["total_amount"]) == (tax, total)
    assert [part["amount"] for part in invoice["installment_schedule"]] == parts
    for number in range(1, 4):
        wait(world, invoice, lambda told: told["payment_url"] is not None)
        pay(world, invoice)
        wait(
            world,
            invoice,
            lambda told, n=number: (
                [part["status"] for part in told["installment_schedule"]].count("paid") == n
            ),
        )
    wait(world, invoice, lambda told: told["status"] == "paid")
    told = world.api.get(f"/invoices/{invoice['invoice_id']}/overpayment").json()
    assert (told["total_paid"], told["overpayment_amount"].strip("0.")) == (total, "")


TOTAL, COUNT = "#/line_items", "#/installments/count"


@pytest.mark.parametrize(
    ("currency", "price", "installments", "pointers", "words"),
    [
        ("JPY", "49", None, [TOTAL], "the total: 49 JPY is below 50 JPY, the least"),
        ("JPY", "1000001", None, [TOTAL], "1000001 JPY is above 1000000 JPY, the most"),
        ("JPY", "9223372036854775807", None, [TOTAL], "the most"),
        ("JPY", "149", {"count": 3}, [COUNT], "installment 1: 49 JPY is below 50 JPY"),
        ("JPY", "3000002", {"count": 3}, [COUNT], "installment 3: 1000002 JPY is above"),
        ("JPY", "100", {"amounts": ["51", "49"]}, ["#/installments/amounts/1"], "49 JPY is below"),
        ("JPY", "98", {"amounts": ["49", "49"]}, ["#/installments/amounts/0", "#/installments/amounts/1"], "49 JPY is below"),
        ("JPY", "1000100", {"amounts": ["99", "1000001"]}, ["#/installments/amounts/1"], "is above"),
        ("MYR", "2.50", None, [TOTAL], "2.50 MYR cannot be asked for: this gateway takes MYR with no decimals"),
        ("MYR", "100.00", {"count": 3}, [COUNT], "installment 1: 33.33 MYR cannot be asked for"),
        ("MYR", "100.00", {"amounts": ["50.50", "49.50"]}, ["#/installments/amounts/0", "#/installments/amounts/1"], "no decimals"),
        ("MYR", "1.00", None, [TOTAL], "below 2.00 MYR"),
        ("USD", "0.49", None, [TOTAL], "0.49 USD is below 0.50 USD"),
        ("USD", "1000.00", None, [TOTAL], "above 999.99 USD"),
        ("KWD", "1.234", None, [TOTAL], "1.234 KWD cannot be asked for: this gateway takes KWD with at most 2 decimals"),
        ("KWD", "5.010", None, [TOTAL], "above 5.000 KWD"),
        ("KWD", "1.000", {"count": 3}, [COUNT], "installment 1: 0.333 KWD"),
    ],
)  # fmt: skip
def test_what_a_gateway_does_not_take_in_one_payment_is_refused_before_anything_is_written(
    world, currency, price, installments, pointers, words
):
    before = count(world)
    answer = post(world, currency, price, **({"installments": installments} if installments else {}))
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert (problem["code"], [error["pointer"] for error in problem["errors"]]) == (
        "invalid_request",
        pointers,
    )
    assert words in problem["errors"][0]["detail"]
    assert count(world) == before


@pytest.mark.parametrize(
    ("currency", "price", "installments"),
    [
        ("JPY", "50", None),
        ("JPY", "1000000", None),
        ("JPY", "150", {"count": 3}),
        ("JPY", "3000000", {"count": 3}),  # too much for one payment, not for three
        ("MYR", "2.00", None),
        ("MYR", "100.00", {"count": 4}),
        ("MYR", "100.00", {"amounts": ["33.00", "67.00"]}),
        ("USD", "0.50", None),
        ("USD", "999.99", None),
        ("KWD", "1.230", None),
        ("KWD", "5.000", None),
        ("BHD", "0.001", None),
        ("BHD", "9223372036854775.807", None),
    ],
)
def test_what_lies_just_inside_the_limits_is_taken(world, currency, price, installments):
    answer = post(world, currency, price, **({"installments": installments} if installments else {}))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("currency", "price"),
    [("IDR", "1.5"), ("JPY", "1.0"), ("USD", "1.999"), ("KWD", "1.2345"), ("BHD", "0.0001")],
)
def test_more_decimals_than_a_currency_has_are_refused(world, currency, price):
    answer = post(world, currency, price)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/line_items/0/unit_price"]


def test_a_rest_below_the_minimum_has_no_payment_page_and_says_so(world):
    invoice = post(world, "USD", "10.00").json()
    pay(world, invoice, amount=9_51)
    told = wait(world, invoice, lambda told: told["status"] == "partially_paid")
    assert told["payment_url"] is None
    answer = world.api.post(f"/invoices/{invoice['invoice_id']}/payment-url")
    assert (answer.status_code, answer.json()["code"]) == (409, "amount_not_collectable")
    assert "0.49 USD is below 0.50 USD" in answer.json()["detail"]
    attempts = world.api.get(f"/invoices/{invoice['invoice_id']}/payments").json()["payments"]
    assert [attempt["status"] for attempt in attempts] == ["paid"]
    assert world.api.post(f"/invoices/{invoice['invoice_id']}/cancel").json()["status"] == "cancelled"


def test_the_rest_can_move_to_another_part(world):
    invoice = post(world, "USD", "10.00", installments={"count": 2}).json()
    pay(world, invoice, amount=4_99)
    wait(world, invoice, lambda told: told["status"] == "partially_paid")
    path = f"/invoices/{invoice['invoice_id']}"
    assert world.api.post(f"{path}/payment-url").json()["code"] == "amount_not_collectable"
    assert (
        world.api.patch(
            f"{path}/installments", json={"installments": [{"number": 1, "amount": "4.99"}]}
        ).status_code
        == 200
    )
    wait(world, invoice, lambda told: told["payment_url"])
    pay(world, invoice)
    wait(world, invoice, lambda told: told["status"] == "paid")


@pytest.mark.parametrize(
    ("amounts", "pointers"),
    [
        ({1: "0.49"}, ["#/installments/0/amount"]),
        ({2: "0.40", 1: "0.49"}, ["#/installments/1/amount", "#/installments/0/amount"]),
        ({1: "9.40"}, ["#/installments", "#/installments"]),
        ({1: "9.00", 2: "0.50", 3: "0.50"}, []),
    ],
)
def test_a_changed_schedule_stays_within_the_limits(world, amounts, pointers):
    invoice = post(world, "USD", "10.00", installments={"count": 3}).json()
    given = [{"number": number, "amount": amount} for number, amount in amounts.items()]
    answer = world.api.patch(f"/invoices/{invoice['invoice_id']}/installments", json={"installments": given})
    assert answer.status_code == (400 if pointers else 200), answer.text
    assert [error["pointer"] for error in answer.json().get("errors", [])] == pointers
    assert not pointers or "below 0.50 USD" in answer.json()["detail"]


def test_a_rest_that_the_gateway_cannot_represent_has_no_payment_page_and_says_so(world):
    invoice = post(world, "MYR", "10.00").json()
    pay(world, invoice, amount=5_50)
    wait(world, invoice, lambda told: told["status"] == "partially_paid")
    answer = world.api.post(f"/invoices/{invoice['invoice_id']}/payment-url")
    assert (answer.status_code, answer.json()["code"]) == (409, "amount_not_collectable")
    assert "4.50 MYR cannot be asked for" in answer.json()["detail"]


def test_a_rest_within_the_limits_has_a_payment_page(world):
    invoice = post(world, "USD", "10.00").json()
    pay(world, invoice, amount=9_50)
    wait(world, invoice, lambda told: told["status"] == "partially_paid" and told["payment_url"])


@pytest.mark.parametrize("currency", ["IDR", "JPY", "BHD"])
def test_a_plugin_that_gets_its_limits_wrong_is_503_and_nothing_is_written(world, currency):
    before = count(world)
    answer = post(world, currency, "100", gateway="confused")
    assert (answer.status_code, answer.json()["code"]) == (503, "gateway_unavailable")
    assert count(world) == before


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Limits(minimum=Money(2, "IDR"), maximum=Money(1, "IDR")),
        lambda: Limits(minimum=Money(1, "IDR"), maximum=Money(2, "MYR")),
        lambda: Limits(exponent=-1),
    ],
)
def test_limits_that_contradict_themselves_cannot_be_made(wrong):
    with pytest.raises(ValueError, match=r"outside|mixed|at least"):
        wrong()
