"""Authentic webhooks about nothing, as many and as large as anyone likes: they are kept within bounds, and delay no money."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from support.waiting import eventually

from paytrust.payments.model.attempt import payment_reference
from paytrust.webhooks import jobs, model, service

LARGE = "x " * 10_000


def callback(external_id, **fields):
    return {"id": uuid4().hex[:24], "external_id": external_id, "status": "PAID", **fields}


KINDS = {
    "ignored": lambda: callback("of-another-shop", note=LARGE),
    "failed": lambda: callback(payment_reference(uuid4(), 1, 1), note=LARGE) | {"status": "WEIRD"},
    "received": lambda: callback(payment_reference(uuid4(), 1, 1), note=LARGE),
}


@pytest.fixture
def junk(outside, merchant, sandbox):
    """Send webhooks of a kind to the merchant's own address at Xendit."""

    def send(kind, number):
        def one(_):
            return outside.post(
                merchant.accounts["xendit"]["webhook_url"],
                json=KINDS[kind](),
                headers={"x-callback-token": sandbox.xendit.callback_token},
            ).status_code

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(one, range(number))) == {200}

    return send


@pytest.fixture
def kept(database, merchant):
    """How many webhooks the merchant's account has of a status, and how many bytes are in their bodies."""

    def count(status):
        [row] = database.rows(
            "SELECT count(*) AS rows, coalesce(sum(octet_length(body)), 0) AS bytes FROM webhooks"
            " WHERE gateway_account_id = $1 AND status = $2",
            merchant.xendit_id,
            status,
        )
        return row["rows"], row["bytes"]

    return count


@pytest.fixture
def tight(monkeypatch):
    """Bounds that a test reaches."""
    monkeypatch.setattr(model, "KEPT_ROWS", 3)
    monkeypatch.setattr(model, "PRUNE_EVERY", 1)


@pytest.mark.parametrize("kind", ["ignored", "failed"])
def test_webhooks_that_came_to_nothing_are_bounded_in_bytes(junk, kept, monkeypatch, kind):
    monkeypatch.setattr(model, "KEPT_BYTES", 60_000)
    monkeypatch.setattr(model, "PRUNE_EVERY", 4)
    junk(kind, 8)
    assert kept(kind)[0] == 2


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("kind", KINDS)
def test_webhooks_that_came_to_nothing_are_bounded_in_rows(junk, kept, kind):
    junk(kind, 6)
    eventually(lambda: junk(kind, 1) or kept(kind)[0] <= 4, lambda: kept(kind))


@pytest.mark.usefixtures("tight")
def test_junk_neither_delays_nor_removes_what_is_about_money(junk, merchant, sandbox, database):
    invoice = merchant.invoice()
    for kind in KINDS:
        junk(kind, 4)
    sandbox.xendit.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")
    for kind in KINDS:
        junk(kind, 4)
    statuses = "SELECT status FROM webhooks WHERE reference = $1"
    assert "applied" in {row["status"] for row in database.rows(statuses, merchant.reference(invoice))}


def test_money_whose_news_was_turned_away_is_found_all_the_same(merchant, sandbox, database):
    """As when more webhooks come to an address in a minute than it takes: the gateway hears 503, and gives up."""
    invoice = merchant.invoice()
    sandbox.xendit.fault("lost", on="webhook", times=10)
    sandbox.xendit.pay(merchant.reference(invoice))
    database.rows("UPDATE payments SET next_check_at = now() WHERE invoice_id = $1", invoice["invoice_id"])
    merchant.wait(invoice, "paid", timeout_s=40)


def test_many_that_cannot_be_read_are_one_alarm_an_hour(junk, logged):
    lines = [logged(service), logged(jobs)]
    junk("failed", 6)
    levels = [line["log_level"] for heard in lines for line in heard if line["event"] == "webhook given up"]
    assert sorted(levels) == ["critical", *["error"] * 5]
