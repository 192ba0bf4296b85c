"""
What truly happens to payments, and in which order it is told.

A scenario makes an invoice, lets payers, banks and gateways do something, and hands what the gateway would have
given to the sender: each message in one to five copies, shuffled, all at once or spread over a second.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
from campaigns.chaos_webhooks.fixture import GATEWAYS, Account, Fixture, Tenant
from campaigns.chaos_webhooks.sender import News, request, text_of

from paytrust.payments.model.attempt import payment_reference

COPIES: Final = 5
SPREAD_S: Final = 1.0
CARD: Final = "credit_card"

Scenario = Callable[["Sale"], Awaitable[None]]
SCENARIOS: dict[tuple[str, str], tuple[int, Scenario]] = {}
"""How often each scenario is told in a round, and the scenario, by its name and gateway."""


def scenario(*gateways: str, share: int) -> Callable[[Scenario], Scenario]:
    """Register a scenario for *gateways* (all when none is named)."""

    def register(told: Scenario) -> Scenario:
        for gateway in gateways or GATEWAYS:
            SCENARIOS[told.__name__, gateway] = share, told
        return told

    return register


class Sale:
    """One invoice at one gateway account, and what is told about it."""

    def __init__(
        self, fixture: Fixture, account: Account, tenant: Tenant, chance: random.Random, way: str
    ) -> None:
        self.fixture, self.account, self.tenant, self.chance, self.way = fixture, account, tenant, chance, way
        self.external_id = str(uuid4())
        self.invoice: dict[str, Any] = {}
        self.reference = ""

    # --- at the service ---------------------------------------------------------------------------------------------------

    async def order(self, **changes: object) -> None:
        """Make the invoice and its first payment page."""
        async with self.account.creating:
            await self.post_order(**changes)
        self.reference = (await self.attempts())[0]["reference"]

    async def post_order(self, **changes: object) -> None:
        currency = self.chance.choice(self.account.currencies)
        price = self.chance.randrange(20_000, 400_000)
        line = {
            "product_name": "Laptop sleeve",
            "quantity": self.chance.randint(1, 4),
            "unit_price": str(price) if currency == "IDR" else f"{price / 1000:.2f}",
            "tax_rate": self.chance.choice(["0", "0.11", "0.0625"]),
        }
        body = {
            "gateway_id": self.account.gateway_id,
            "currency": currency,
            "external_id": self.external_id,
            "line_items": [line],
            **changes,
        }
        _, self.invoice = await self.tenant.call("POST", "/invoices", body)

    @property
    def path(self) -> str:
        return f"/invoices/{self.invoice['invoice_id']}"

    async def status(self) -> str:
        _, invoice = await self.tenant.call("GET", self.path)
        return str(invoice["status"])

    async def attempts(self) -> list[dict[str, Any]]:
        _, told = await self.tenant.call("GET", f"{self.path}/payments")
        attempts: list[dict[str, Any]] = told["payments"]
        return attempts

    async def becomes(self, *statuses: str) -> None:
        async def there() -> bool:
            return await self.status() in statuses

        await self.fixture.until(f"{self.way} {self.reference} to become {statuses}", there)

    async def next_page(self, *seen: str) -> str:
        """The reference of a page that can be paid and is none of *seen*; "" when the invoice is paid."""

        async def found() -> str | None:
            for attempt in await self.attempts():
                if attempt["status"] == "open" and attempt["reference"] not in seen:
                    return str(attempt["reference"])
            return "" if await self.status() == "paid" else None

        async def decided() -> list[str] | None:
            page = await found()
            return None if page is None else [page]

        [page] = await self.fixture.until(f"another page of {self.way} {seen}", decided)
        return str(page)

    # --- at the gateway ---------------------------------------------------------------------------------------------------

    async def act(self, action: str, reference: str | None = None, **how: object) -> None:
        await asyncio.to_thread(self.account.far.act, reference or self.reference, action, **how)

    async def try_to(self, action: str, reference: str | None = None, **how: object) -> None:
        """Do what the service may have done, or made impossible, a moment before."""
        try:
            await self.act(action, reference, **how)
        except httpx.HTTPStatusError as exc:
            if exc.response.status_code != 409:
                raise

    async def tell(self, *references: str) -> asyncio.Future[Any]:
        """
        Post everything new about *references*, or about the sale's own, in any order. The answer waits for
        all copies.
        """
        fresh = [
            news
            for each in references or [self.reference]
            for news in await self.fixture.news(self.account, each, self.way)
        ]
        self.chance.shuffle(fresh)
        return asyncio.gather(*(self.send(news) for news in fresh))

    def send(self, news: News) -> asyncio.Task[None]:
        copies = self.chance.randint(1, COPIES)
        at_once = self.chance.random() < 0.5
        together_s = self.chance.uniform(0, SPREAD_S)
        return self.fixture.sender.send(
            news, [together_s if at_once else self.chance.uniform(0, SPREAD_S) for _ in range(copies)]
        )


# --- in order ---------------------------------------------------------------------------------------------------------------


@scenario(share=16)
async def paid(sale: Sale) -> None:
    """Paid in full. Midtrans tells that it is pending and that it is settled, in any order."""
    await sale.order()
    await sale.act("pay")
    await sale.tell()


@scenario("xendit", share=10)
async def paid_then_settled(sale: Sale) -> None:
    await sale.order()
    await sale.act("pay")
    await sale.act("settle")
    # The sandbox tells it no more than Xendit's documentation says that Xendit does.
    await asyncio.to_thread(
        sale.account.far.forge, sale.reference, {"status": "SETTLED"}, authentication="valid"
    )
    await sale.tell()


@scenario("midtrans", share=7)
async def captured_then_settled(sale: Sale) -> None:
    """A card: pending, captured and settled, in any order."""
    await sale.order()
    await sale.act("pay", channel=CARD)
    await sale.act("settle")
    await sale.tell()


@scenario("midtrans", share=3)
async def challenged(sale: Sale) -> None:
    """A card that is held for a fraud check first; sometimes all of it is told only when it is settled."""
    await sale.order()
    await sale.act("challenge")
    if sale.chance.random() < 0.5:
        await sale.tell()
    await sale.act("approve")
    await sale.act("settle")
    await sale.tell()


@scenario("midtrans", share=3)
async def denied_then_paid(sale: Sale) -> None:
    """One try is refused, and the payer tries again on the same page."""
    await sale.order()
    await sale.act("deny")
    await sale.act("pay")
    await sale.tell()


@scenario(share=5)
async def installments(sale: Sale) -> None:
    """
    Each part is paid on a page of its own, that opens when the one before is paid; some pay more than the
    part.
    """
    await sale.order(installments={"count": sale.chance.randint(2, 4)})
    page, seen = sale.reference, []
    while page:
        await sale.act("pay", page, amount=sale.chance.choice(["full", "full", "over"]))
        seen.append(page)
        await sale.tell(page)
        page = await sale.next_page(*seen)
    await sale.tell(*seen)


# --- too early, too late ----------------------------------------------------------------------------------------------------


@scenario(share=9)
async def early(sale: Sale) -> None:
    """
    The payer is quicker than the gateway's answer to us: the news come before the creating request's last
    commit.

    On a busy machine they may not; then another order is made.
    """
    for _ in range(3):
        if await _early(Sale(sale.fixture, sale.account, sale.tenant, sale.chance, sale.way)):
            sale.fixture.early[sale.account.gateway] += 1
            break


async def _early(sale: Sale) -> bool:
    fixture, far = sale.fixture, sale.account.far
    async with sale.account.creating:
        await asyncio.to_thread(far.fault, "late_answer", "create", 1, sale.chance.uniform(0.5, 2.5))
        ordering = asyncio.create_task(sale.post_order())
        sale.reference = await fixture.until("the attempt", lambda: _reference(sale))
        await fixture.until("the page", lambda: _there(sale))
    await sale.act("pay")
    told = await sale.fixture.news(sale.account, sale.reference, sale.way)
    for news in told:
        sale.send(news)
    # One at once, and one at the very end, to meet the commit itself.
    fixture.sender.send(told[-1], [0.0, sale.chance.uniform(0.3, 2.3)])
    await ordering
    acknowledged = any(news in fixture.sender.acknowledged for news in told)
    await sale.becomes("paid")
    return acknowledged


async def _reference(sale: Sale) -> str | None:
    found: str | None = await sale.fixture.owner.fetchval(
        "SELECT p.reference FROM paytrust.payments p JOIN paytrust.invoices i ON (i.tenant_id, i.id) = (p.tenant_id, p.invoice_id)"
        " WHERE i.external_id = $1",
        sale.external_id,
    )
    return found


async def _there(sale: Sale) -> bool:
    try:
        await asyncio.to_thread(sale.account.far.payment, sale.reference)
    except httpx.HTTPStatusError:
        return False
    return True


@scenario("xendit", share=8)
async def late(sale: Sale) -> None:
    """The invoice has expired, and then the money comes. Some products go on calling it expired."""
    await sale.order()
    await sale.fixture.let_time_pass(sale.invoice["invoice_id"])
    await sale.try_to("expire")
    if sale.chance.random() < 0.5:
        await sale.tell()
        await sale.becomes("expired")
    await sale.act("pay", leave_expired=sale.chance.random() < 0.5)
    await sale.tell()


@scenario("xendit", share=4)
async def late_on_an_old_page(sale: Sale) -> None:
    """A page expired, the payer was given another, and pays both."""
    await sale.order()
    await sale.act("expire")
    await sale.tell()
    await sale.fixture.until("the page to be closed", lambda: _closed(sale))
    async with sale.account.creating:
        await sale.tenant.call("POST", f"{sale.path}/payment-url")
    fresh = await sale.next_page(sale.reference)
    await sale.act("pay", fresh)
    await sale.act("pay")
    await sale.tell(sale.reference, fresh)


async def _closed(sale: Sale) -> bool:
    return (await sale.attempts())[0]["status"] == "expired"


@scenario("midtrans", share=5)
async def expired_then_paid(sale: Sale) -> None:
    """A transaction expires before it is paid, its news come in any order, and another page is paid."""
    await sale.order()
    await sale.act("choose")
    await sale.act("expire")
    await sale.tell()
    await sale.fixture.until("the page to be closed", lambda: _closed(sale))
    async with sale.account.creating:
        await sale.tenant.call("POST", f"{sale.path}/payment-url")
    fresh = await sale.next_page(sale.reference)
    await sale.act("pay", fresh)
    await sale.tell(sale.reference, fresh)


@scenario(share=6)
async def cancelled(sale: Sale) -> None:
    """
    The merchant cancels; the payer had chosen a method, or (at Xendit) pays the closed page all the same.
    """
    await sale.order()
    if sale.account.gateway == "midtrans":
        await sale.act("choose")
    await sale.tenant.call("POST", f"{sale.path}/cancel")
    if sale.account.gateway == "xendit":
        await sale.act("pay")
    await sale.tell()


@scenario(share=3)
async def paid_then_cancelled(sale: Sale) -> None:
    """The payer has paid, and the merchant cancels before the news is here."""
    await sale.order()
    await sale.act("pay")
    await sale.tenant.call("POST", f"{sale.path}/cancel", fine=frozenset({409}))
    await sale.tell()


# --- another amount, another currency, another reference -----------------------------------------------------------------------


@scenario(share=4)
async def underpaid(sale: Sale) -> None:
    """Half of it comes, and sometimes the rest, on the page that opens for it."""
    await sale.order()
    await sale.act("pay", amount="under")
    await sale.tell()
    rest = await sale.next_page(sale.reference)
    if sale.chance.random() < 0.5:
        await sale.act("pay", rest)
        await sale.tell(rest, sale.reference)


@scenario(share=3)
async def overpaid(sale: Sale) -> None:
    await sale.order()
    await sale.act("pay", amount="over")
    await sale.tell()


@scenario(share=2)
async def paid_in_another_currency(sale: Sale) -> None:
    await sale.order()
    sale.fixture.foreign.add(sale.reference)
    await sale.act("pay", currency="MYR" if sale.invoice["currency"] == "USD" else "USD")
    await sale.tell()


@scenario(share=3)
async def unknown(sale: Sale) -> None:
    """A payment that is named like ours, and that we never asked for: as after a restored backup."""
    sale.reference = payment_reference(UUID(int=sale.chance.getrandbits(128)), 1, 1)
    sale.fixture.strange.add(sale.reference)
    await asyncio.to_thread(_made_elsewhere, sale.account, sale.reference)
    await sale.act("pay")
    await sale.tell()


def _made_elsewhere(account: Account, reference: str) -> None:
    at, body = {
        "xendit": ("/v2/invoices", {"external_id": reference, "amount": 250_000, "currency": "IDR"}),
        "midtrans": (
            "/snap/v1/transactions",
            {"transaction_details": {"order_id": reference, "gross_amount": 250_000}},
        ),
    }[account.gateway]
    httpx.post(
        account.far.url + at, auth=(account.far.key, ""), json=body, trust_env=False
    ).raise_for_status()


@scenario(share=3)
async def unknown_then_known(sale: Sale) -> None:
    """As after a restored backup: the news come when the payment is not known, and count when it is."""
    await sale.order()
    await sale.fixture.hide(sale.reference)
    await sale.act("pay")
    await (await sale.tell())
    await sale.fixture.until("the news to be unmatched", lambda: _unmatched(sale))
    await sale.fixture.find_again(sale.reference)
    await sale.fixture.hurry(sale.reference)
    await sale.becomes("paid")


async def _unmatched(sale: Sale) -> bool:
    return bool(
        await sale.fixture.owner.fetchval(
            "SELECT bool_and(error_code = 'unknown_reference' AND status = 'received' AND lease_until IS NULL) FROM paytrust.webhooks WHERE reference = $1",
            sale.reference,
        )
    )


@scenario("midtrans", share=2)
async def name_taken(sale: Sale) -> None:
    """
    Two orders of one amount. When one is paid, somebody sends its true settlement again under the transaction
    id of the other, which is not signed, before that one is paid: the true word about the other must still be
    new.
    """
    line = {"product_name": "Ticket", "quantity": 1, "unit_price": "100000"}
    other = Sale(sale.fixture, sale.account, sale.tenant, sale.chance, sale.way)
    for each in (sale, other):
        await each.order(line_items=[line], currency="IDR")
    await sale.act("pay")
    [pending, settled] = await sale.fixture.news(sale.account, sale.reference, sale.way)
    await asyncio.gather(sale.send(pending), sale.send(settled))
    await other.act("choose")
    [named] = await sale.fixture.news(sale.account, other.reference, sale.way)
    lie = json.dumps(text_of(settled) | {"transaction_id": text_of(named)["transaction_id"]}).encode()
    status = await sale.fixture.sender.raw([request(urlsplit(settled.url).path, lie)])
    assert status in {"200", "503"}, status
    await other.send(named)
    await sale.fixture.until("the pending to be processed", lambda: _processed(other))
    await other.act("pay")
    await other.tell()
    await other.becomes("paid")


async def _processed(sale: Sale) -> bool:
    return not await sale.fixture.owner.fetchval(
        "SELECT count(*) FROM paytrust.webhooks WHERE reference = $1 AND status = 'received'", sale.reference
    )


# --- for the forgers ------------------------------------------------------------------------------------------------------------


async def bystander(sale: Sale) -> None:
    """
    Nobody ever pays it. At Midtrans the payer has picked a method, which is told: forgers have something to
    doctor.
    """
    await sale.order()
    if sale.account.gateway == "midtrans":
        await sale.act("choose")
        await (await sale.tell())


async def victim(sale: Sale) -> None:
    """Paid and told before any forger comes: what they overhear first."""
    await paid(sale)
    await sale.becomes("paid")


def deck(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """At least *count* scenarios by name and gateway: first each kind once, then by their shares."""
    every = chance.sample(list(SCENARIOS), len(SCENARIOS))
    return every + chance.choices(
        every, weights=[SCENARIOS[kind][0] for kind in every], k=max(0, count - len(every))
    )
