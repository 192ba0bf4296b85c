"""Each invariant holds of what really happened, and is shown to fail when its promise is broken."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import msgspec
import pytest
from support import invariants
from support.invariants import Answer, Far
from support.waiting import eventually

LINE = {"product_name": "x", "quantity": 1, "unit_price": "100000", "tax_rate": "0.11"}


@pytest.fixture(scope="module")
def world(make_merchant, sandbox, session_owner_url):
    """A merchant to whom about everything has happened, and another one."""
    merchant, other = make_merchant("Invariants"), make_merchant("Others")
    for far, account in (
        (sandbox.xendit, merchant.accounts["xendit"]),
        (sandbox.midtrans, merchant.accounts["midtrans"]),
    ):
        far.reset()
        far.webhook_url = account["webhook_url"]
    made = World(merchant, other, sandbox, session_owner_url)
    made.happen()
    return made


class World:
    def __init__(self, merchant, other, sandbox, owner_url):
        self.merchant, self.other, self.sandbox, self.owner_url = merchant, other, sandbox, owner_url
        self.tenant_id = uuid.UUID(merchant.tenant_id)
        self.answers = []

    def happen(self):
        merchant, xendit, midtrans = self.merchant, self.sandbox.xendit, self.sandbox.midtrans
        self.paid = self.ask("/invoices", merchant.body(metadata={"order": "1"}), key="key-1")
        self.parts = self.ask("/invoices", merchant.body(line_items=[LINE], installments={"count": 3}))
        self.open = self.ask("/invoices", merchant.body("midtrans"))
        self.over = self.ask("/invoices", merchant.body())
        refused = self.ask("/invoices", merchant.body())
        self.ask(f"/invoices/{self.over['invoice_id']}/cancel", {})
        change = {"installments": [{"number": 1, "amount": "20000"}]}
        assert merchant.api.patch(
            f"/invoices/{self.parts['invoice_id']}/installments", json=change
        ).is_success
        xendit.pay(merchant.reference(self.paid), amount="over")
        xendit.pay(merchant.reference(self.parts))
        xendit.pay(merchant.reference(refused), currency="USD")
        midtrans.choose(merchant.reference(self.open))
        merchant.wait(self.paid, "paid")
        merchant.wait(self.parts, "partially_paid")
        self.ask(f"/invoices/{self.paid['invoice_id']}/supplementary", {"line_items": [LINE]})
        self.foreign = self.other.invoice()
        eventually(lambda: not self.broken())

    def ask(self, path, body, key=None):
        answer = self.merchant.api.post(path, json=body, headers={"Idempotency-Key": key} if key else {})
        assert answer.is_success, answer.text
        self.answers.append(Answer(self.tenant_id, key, answer.status_code, answer.content))
        return answer.json()

    def broken(self, *statements, gateways=lambda fars: fars, answers=()):
        """
        What is broken after *statements*, of which nothing stays; and when the gateways or clients say
        something else.
        """

        async def look():
            fars = [invariants.look(self.sandbox.xendit), invariants.look(self.sandbox.midtrans)]
            owner = await asyncpg.connect(self.owner_url)
            try:
                transaction = owner.transaction(isolation="repeatable_read")
                await transaction.start()
                await owner.execute(
                    "SET LOCAL session_replication_role = replica"
                )  # no trigger and no foreign key minds
                for sql in statements:
                    assert (await owner.execute(sql)).rpartition(" ")[2] != "0", sql
                found = await invariants.broken(
                    owner, gateways(fars), tenants=[self.tenant_id], answers=[*self.answers, *answers]
                )
                await transaction.rollback()
            finally:
                await owner.close()
            return found

        return asyncio.run(look())


def names(broken):
    return {name for what in broken for name in what.split() if name[0] == "I" and name[1:].isdigit()}


def test_everything_holds_of_what_happened(world):
    assert world.broken() == []


BREAKS = {
    "an issue posted in another amount": ("I1", "UPDATE paytrust.transfers SET amount = amount + 1 WHERE invoice_id = '{paid}' AND credit = 'tax'"),
    "an account total that lost something": ("I1", "UPDATE paytrust.book_accounts SET debits = debits + 1 WHERE invoice_id = '{parts}' AND installment_number = 2"),
    "more paid on an installment than it is": ("I2", "UPDATE paytrust.installments SET amount = 1, tax = 0, fee = 0 WHERE invoice_id = '{parts}' AND number = 1"),
    "a payment received twice": ("I3", "INSERT INTO paytrust.receipts SELECT '{other}', gen_random_uuid(), invoice_id, payment_id, currency, gateway_account_id, gateway_payment_id, amount, paid_at, received_at, flag FROM paytrust.receipts WHERE tenant_id = '{tenant}'"),
    "a receipt that was not posted": ("I3", "DELETE FROM paytrust.transfers WHERE cause_id = (SELECT id FROM paytrust.receipts WHERE invoice_id = '{paid}')"),
    "a receipt posted by half": ("I3", "UPDATE paytrust.transfers SET amount = amount - 1 WHERE cause_id = (SELECT id FROM paytrust.receipts WHERE invoice_id = '{paid}')"),
    "money at the gateway that was never applied": (
        "I4",
        "DELETE FROM paytrust.transfers WHERE cause = 'receipt' AND invoice_id = '{paid}'",
        "DELETE FROM paytrust.receipts WHERE invoice_id = '{paid}'",
    ),
    "money in another currency that nobody was told of": ("I4", "DELETE FROM paytrust.invoice_history WHERE tenant_id = '{tenant}' AND event = 'payment_refused'"),
    "another amount than the gateway took": ("I5", "UPDATE paytrust.receipts SET amount = amount + 1 WHERE invoice_id = '{paid}'"),
    "transfers without a receipt": ("I5", "DELETE FROM paytrust.receipts WHERE invoice_id = '{paid}'"),
    "a status that the books do not give": ("I6", "UPDATE paytrust.invoices SET status = 'paid' WHERE id = '{parts}'"),
    "a paid attempt without money": ("I6", "UPDATE paytrust.payments SET status = 'paid' WHERE invoice_id = '{open}'"),
    "an attempt that nobody finished": ("I6", "UPDATE paytrust.payments SET status = 'creating' WHERE invoice_id = '{open}'"),
    "a live attempt of an invoice that is over": ("I6", "UPDATE paytrust.payments SET status = 'unknown' WHERE invoice_id = '{over}'"),
    "a paid invoice that became something else": (
        "I7",
        "UPDATE paytrust.invoice_history SET details = '{{\"from\": \"paid\", \"to\": \"expired\"}}' WHERE invoice_id = '{over}' AND event = 'status_changed'",
    ),
    "a webhook that was not processed": ("I8", "UPDATE paytrust.webhooks SET status = 'received' WHERE tenant_id = '{tenant}'"),
    "a webhook that was answered and not kept": ("I8", "DELETE FROM paytrust.webhooks WHERE tenant_id = '{tenant}' AND reference LIKE 'PT-%'"),
    "an order with two invoices": ("I10", "UPDATE paytrust.invoices SET metadata = '{{\"order\": \"1\"}}' WHERE id = '{open}'"),
    "an invoice that was answered and is gone": ("I10", "DELETE FROM paytrust.invoices WHERE id = '{open}'"),
    "a line that changed": ("I11", "UPDATE paytrust.line_items SET quantity = quantity + 1, subtotal = (quantity + 1) * unit_price WHERE invoice_id = '{paid}'"),
    "a tax that is not its rate's": ("I11", "UPDATE paytrust.line_items SET tax_rate = 0.12 WHERE invoice_id = '{paid}'"),
    "a fee that is not its schedule's": ("I11", "UPDATE paytrust.invoices SET fee_fixed = fee_fixed + 1 WHERE id = '{paid}'"),
    "an invoice that was answered with another total": ("I11", "UPDATE paytrust.invoices SET fee = fee + 1, total = total + 1 WHERE id = '{paid}'"),
    "a status that changed in silence": ("I12", "DELETE FROM paytrust.invoice_history WHERE invoice_id = '{paid}' AND event = 'status_changed'"),
    "an adjustment in silence": ("I12", "DELETE FROM paytrust.invoice_history WHERE invoice_id = '{parts}' AND event = 'schedule_adjusted'"),
    "a supplementary invoice in silence": ("I12", "DELETE FROM paytrust.invoice_history WHERE invoice_id = '{paid}' AND event = 'supplementary_created'"),
    "a key revoked in silence": ("I12", "UPDATE paytrust.api_keys SET revoked_at = now() WHERE tenant_id = '{tenant}'"),
    "a page for what was paid": ("I14", "UPDATE paytrust.installments SET amount = 1, tax = 0, fee = 0 WHERE invoice_id = '{open}'"),
    "a page of an invoice that is over": ("I14", "UPDATE paytrust.invoices SET status = 'cancelled' WHERE id = '{open}'"),
    "a page of an invoice whose time is up": ("I14", "UPDATE paytrust.invoices SET created_at = created_at - interval '2 days', expires_at = now() - interval '1 hour' WHERE id = '{open}'"),
    "totals that are not the sum of their transfers": ("I15", "UPDATE paytrust.book_accounts SET debits = debits + 1, credits = credits + 1 WHERE invoice_id = '{paid}' AND installment_number = 1"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_the_database_can_break(world, what):
    invariant, *statements = BREAKS[what]
    ids = {name: getattr(world, name)["invoice_id"] for name in ("paid", "parts", "open", "over")}
    found = world.broken(
        *(sql.format(**ids, tenant=world.tenant_id, other=world.other.tenant_id) for sql in statements)
    )
    assert invariant in names(found), found


def changed(change):
    """Let the first gateway, which is Xendit, know something else."""
    return lambda fars: [
        Far([page for old in fars[0].pages for page in change(old)], fars[0].acknowledged),
        *fars[1:],
    ]


FARS = {
    "money that is paid twice there": ("I4", lambda page: [page, *([msgspec.structs.replace(page, gateway_payment_id="again")] if page.paid else [])]),
    "money that was not paid there": ("I5", lambda page: [msgspec.structs.replace(page, paid=None)]),
    "a payment that is not there": ("I5", lambda page: [] if page.paid else [page]),
    "a page that we never asked for": ("I5", lambda page: [page, msgspec.structs.replace(page, reference="PT-NOBODYx", paid=None)]),
    "two pages": ("I14", lambda page: [page] * (2 if page.ways else 1)),
    "a page for another amount": ("I14", lambda page: [msgspec.structs.replace(page, amount=page.amount + 1)]),
}  # fmt: skip


@pytest.mark.parametrize("what", FARS)
def test_the_gateway_can_know_better(world, what):
    invariant, change = FARS[what]
    found = world.broken(gateways=changed(change))
    assert invariant in names(found), found


def test_a_webhook_answered_with_200_that_nobody_kept_is_lost(world):
    lost = [
        invariants.Delivery(
            world.merchant.accounts["xendit"]["webhook_url"], "PT-x", '{"id": "x", "status": "PAID"}'
        )
    ]
    assert names(world.broken(gateways=lambda fars: [Far([], lost), *fars])) == {"I8"}
    unread = [msgspec.structs.replace(lost[0], body="not JSON")]
    assert names(world.broken(gateways=lambda fars: [Far([], unread), *fars])) == {"I8"}


def test_money_that_a_gateway_took_back_may_be_in_the_books_or_not(world):
    taken_back = changed(lambda page: [msgspec.structs.replace(page, taken_back=page.paid is not None)])
    assert world.broken(gateways=taken_back) == []


def test_clients_can_be_told_wrong_things(world):
    def told(key, body):
        return names(world.broken(answers=[Answer(world.tenant_id, key, 201, msgspec.json.encode(body))]))

    assert told("key-1", {"other": "bytes"}) == {"I10"}
    assert told(None, {"invoice_id": str(uuid.uuid4())}) == {"I10"}
    assert told(None, {"list": [world.foreign["line_items"][0]["line_item_id"]]}) == {"I13"}
    assert told(None, {"tenant_id": world.other.tenant_id}) == {"I13"}
    assert told("key-2", world.paid) == set()
