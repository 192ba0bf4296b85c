"""
Once a day a gateway's own list is compared with our books. Money found there is applied, all else is told to
a person.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from support.waiting import eventually

from paytrust.accounts import service as accounts
from paytrust.errors import GatewayUnavailable
from paytrust.plugins.registry import Registry
from paytrust.reconciliation.jobs import DailyReconciliation
from paytrust.services import Services

TOTAL = "514550"


@pytest.fixture
def xendit(merchant, sandbox):
    """Xendit, whose webhooks are all lost."""
    sandbox.xendit.fault("lost", on="webhook")
    return sandbox.xendit


@pytest.fixture
def with_comparison(service):
    """Run something with a comparison on the service's database, in a process that is not the service."""

    def run(work):
        async def work_():
            services = Services(service, Registry())
            await services.db.open()
            try:
                return await work(services)
            finally:
                await services.accounts.close()
                await services.db.close()

        return asyncio.run(work_())

    return run


@pytest.fixture
def compare(with_comparison, merchant):
    """Compare the merchant's Xendit account; gives (kind, reference, resolved) of each difference."""

    def compare_(*, until=None, account_id=None):
        async def work(services):
            async with services.db.transaction(system=True) as tx:
                account = await accounts.find(tx, UUID(account_id or merchant.xendit_id))
            end = until or account.read_at + timedelta(hours=1)  # nothing is under way any more
            return await services.reconciliation.compare(account, end - timedelta(days=2), end)

        return [
            (difference.kind.value, difference.reference, difference.resolved)
            for difference in with_comparison(work)
        ]

    return compare_


def post(outside, xendit, reference, amount=10_000, currency="IDR"):
    body = {"external_id": reference, "amount": amount, "currency": currency}
    outside.post(f"{xendit.url}/v2/invoices", auth=(xendit.key, ""), json=body).raise_for_status()


def test_where_both_agree_there_is_no_difference(merchant, xendit, compare):
    paid, _ = merchant.invoice(), merchant.invoice()
    xendit.clear_faults()
    xendit.pay(merchant.reference(paid))
    merchant.wait(paid, "paid")
    assert compare() == []


def test_money_that_is_there_and_not_here_is_applied_and_told(merchant, xendit, compare, database):
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    xendit.pay(reference)
    assert compare() == [("not_applied", reference, True)]
    assert merchant.get(invoice)["status"] == "paid"
    [row] = database.rows("SELECT * FROM differences WHERE reference = $1", reference)
    assert (row["theirs"], str(row["tenant_id"])) == (f"paid {TOTAL} IDR", merchant.tenant_id)
    assert compare() == []


def test_money_that_came_a_moment_ago_is_left_to_its_webhook(merchant, xendit, compare):
    xendit.pay(merchant.reference(merchant.invoice()))
    assert compare(until=datetime.now(UTC)) == []


def test_money_in_another_currency_is_told_and_not_applied(merchant, xendit, compare):
    invoice = merchant.invoice()
    xendit.pay(merchant.reference(invoice), amount="30", currency="USD")
    assert ("not_applied", merchant.reference(invoice), False) in compare()
    assert merchant.get(invoice)["status"] == "pending"


def test_a_reference_of_ours_that_we_never_made_is_told(outside, xendit, compare):
    reference = "PT-" + "A" * 26 + "-1-1x"
    post(outside, xendit, reference)
    assert compare() == [("unknown_here", reference, False)]


def test_what_other_programs_do_with_the_same_account_is_their_business(outside, xendit, compare):
    for reference in ("INV-1", "PT-1", "x" * 200):
        post(outside, xendit, reference)
    assert compare() == []


def test_a_payment_of_another_account_at_the_same_provider_is_known(merchant, make_merchant, xendit, compare):
    merchant.invoice()
    assert compare(account_id=make_merchant("Same provider").xendit_id) == []


def test_what_the_gateway_does_not_know_is_told(merchant, xendit, compare):
    reference = merchant.reference(merchant.invoice())
    xendit.reset()
    assert compare() == [("missing_there", reference, False)]


def test_another_amount_than_we_asked_for_is_told(merchant, outside, xendit, compare):
    reference = merchant.reference(merchant.invoice())
    xendit.reset()
    post(outside, xendit, reference, amount=12_345)
    assert compare() == [("amount_differs", reference, False)]


def test_money_for_another_amount_than_we_asked_for_is_told_and_not_applied(merchant, xendit, compare):
    invoice = merchant.invoice()
    xendit.pay(merchant.reference(invoice))
    xendit.fault("wrong_amount", on="list")
    assert compare() == [("amount_differs", merchant.reference(invoice), False)]
    assert merchant.get(invoice)["status"] == "pending"


def test_another_amount_than_is_in_our_books_is_told(merchant, xendit, compare):
    invoice = merchant.invoice()
    xendit.clear_faults()
    xendit.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")
    xendit.fault("wrong_amount", on="list")
    assert ("amount_differs", merchant.reference(invoice), False) in compare()


def test_every_page_of_the_list_is_read(merchant, outside, xendit, compare):
    invoice = merchant.invoice()
    for number in range(230):
        post(outside, xendit, f"other-{number}x")
    xendit.pay(merchant.reference(invoice))
    assert compare() == [("not_applied", merchant.reference(invoice), True)]
    pages = [
        request
        for request in xendit.requests
        if request.operation == "list" and "created_after" in str(request)
    ]
    assert len(pages) == 3


@pytest.mark.parametrize(
    "fault", ["http_503", "http_429", "malformed_json", "wrong_schema", "truncated", "reset_before"]
)
def test_half_a_list_says_nothing(merchant, xendit, compare, database, fault):
    reference = merchant.reference(merchant.invoice())
    xendit.fault(fault, on="list", times=1)
    with pytest.raises(GatewayUnavailable):
        compare()
    assert database.value("SELECT count(*) FROM differences WHERE reference = $1", reference) == 0


def test_a_gateway_without_a_list_is_not_compared(merchant, compare):
    merchant.invoice("midtrans")
    assert compare(account_id=merchant.midtrans_id) == []


def test_a_difference_that_is_seen_again_is_kept_once(outside, xendit, compare, database):
    reference = "PT-" + uuid4().hex.upper().translate(str.maketrans("0189", "ABCD"))[:26] + "-1-1x"
    post(outside, xendit, reference)
    assert compare() == compare()
    [row] = database.rows("SELECT * FROM differences WHERE reference = $1", reference)
    assert row["last_seen_at"] > row["first_seen_at"]


# --- every day ------------------------------------------------------------------------------------------------------------------


def test_an_account_is_compared_once_a_day_by_whoever_comes_first(
    merchant, xendit, with_comparison, database
):
    database.rows("UPDATE gateway_accounts SET compare_at = now() + interval '1 day'")
    database.rows("UPDATE gateway_accounts SET compare_at = now() WHERE id = $1", merchant.xendit_id)

    async def work(services):
        workers = [DailyReconciliation(services.db, services.payments) for _ in range(4)]
        return await asyncio.gather(*(worker.step() for worker in workers))

    assert sum(with_comparison(work)) <= 1, "the service's own worker may have been first"
    eventually(
        lambda: database.value(
            "SELECT compared_until FROM gateway_accounts WHERE id = $1", merchant.xendit_id
        ),
        timeout_s=60,
    )
    [row] = database.rows(
        "SELECT compare_at - now() AS rest FROM gateway_accounts WHERE id = $1", merchant.xendit_id
    )
    assert timedelta(hours=23) < row["rest"] <= timedelta(days=1)


def test_a_failed_reconciliation_is_repeated_in_an_hour(merchant, xendit, with_comparison, database):
    """It starts where the last one that succeeded ended."""
    database.rows("UPDATE gateway_accounts SET compare_at = now() + interval '1 day'")
    xendit.fault("http_503", on="list")
    database.rows("UPDATE gateway_accounts SET compare_at = now() WHERE id = $1", merchant.xendit_id)
    with_comparison(lambda services: DailyReconciliation(services.db, services.payments).step())
    [row] = database.rows(
        "SELECT compared_until, compare_at - now() AS rest FROM gateway_accounts WHERE id = $1",
        merchant.xendit_id,
    )
    assert row["compared_until"] is None
    assert row["rest"] <= timedelta(hours=1)


def test_a_disabled_account_is_not_compared(merchant, xendit, with_comparison, database, run):
    """It would fail every day; by its id it can still be compared. Enabled again, it is due at once."""

    def set_disabled(disabled):
        path = f"/gateway-accounts/{merchant.xendit_id}"
        assert merchant.admin.patch(path, json={"disabled": disabled}).status_code == 200

    def claimed():
        due = "UPDATE gateway_accounts SET compare_at = CASE WHEN id = $1 THEN now() ELSE now() + interval '1 day' END"
        database.rows(due, merchant.xendit_id)
        with_comparison(lambda services: DailyReconciliation(services.db, services.payments).step())
        still_due = "SELECT compare_at <= now() FROM gateway_accounts WHERE id = $1"
        return not database.value(still_due, merchant.xendit_id)

    set_disabled(True)
    assert not claimed()
    account = merchant.xendit_id
    assert "1 gateway accounts compared" in run("reconcile", "--gateway-id", account)[1]
    set_disabled(False)
    assert claimed()


# --- on the command line ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(service, tmp_path):
    """Run `paytrust ...` on the service's database; gives (exit code, everything printed)."""
    keys = ",".join(f"{name}:{key.get_secret_value()}" for name, key in service.encryption_keys.items())
    environ = os.environ | {
        "PAYTRUST_DATABASE_URL": service.database_url.get_secret_value(),
        "PAYTRUST_ADMIN_API_KEY": service.admin_api_key.get_secret_value(),
        "PAYTRUST_KEY_PEPPER": service.key_pepper.get_secret_value(),
        "PAYTRUST_ENCRYPTION_KEYS": keys,
        "PAYTRUST_INSECURE_GATEWAYS": "true",
        "COLUMNS": "300",
    }

    def run_(*args):
        command = [str(Path(sys.executable).with_name("paytrust")), *args]
        done = subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return run_


def test_reconcile_says_what_differs_and_exits_with_1(merchant, outside, xendit, run):
    code, text = run("reconcile", "--gateway-id", merchant.xendit_id)
    assert code == 0, text
    assert "1 gateway accounts compared, 0 discrepancies, 0 failures" in text.splitlines()
    assert "left out: payments of the last 15 minutes" in text
    reference = "PT-" + "B" * 26 + "-1-1x"
    post(outside, xendit, reference)
    code, text = run("reconcile", "--gateway-id", merchant.xendit_id)
    assert code == 1
    assert reference in text
    code, text = run("reconcile", "--gateway-id", merchant.xendit_id, "--show")
    assert code == 1
    assert "unknown_here" in text


def test_reconcile_says_which_account_could_not_be_compared(merchant, xendit, run):
    xendit.fault("http_503", on="list")
    code, text = run("reconcile", "--gateway-id", merchant.xendit_id)
    assert code == 1
    assert "could not be compared" in text
    assert (
        "there is no gateway account"
        in run("reconcile", "--gateway-id", "01935c1e-0000-7000-8000-000000000000")[1]
    )


def test_failed_webhooks_are_listed_and_replayed(merchant, sandbox, run, database):
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    sandbox.xendit.fault("http_503", on="list")
    sandbox.xendit.pay(reference)
    eventually(lambda: database.value("SELECT error_code FROM webhooks WHERE reference = $1", reference))
    sandbox.xendit.clear_faults()
    event_id = str(
        database.value("UPDATE webhooks SET status = 'failed' WHERE reference = $1 RETURNING id", reference)
    )
    code, text = run(
        "webhooks", "failed", "--gateway-id", merchant.xendit_id, "--code", "gateway_unavailable"
    )
    assert code == 1
    assert event_id in text
    assert run("webhooks", "replay", event_id) == (0, "queued 1 webhook for reprocessing\n")
    eventually(lambda: database.value("SELECT status FROM webhooks WHERE id = $1", event_id) == "applied")
    assert merchant.get(invoice)["status"] == "paid"
    database.rows("UPDATE webhooks SET status = 'failed', error_code = 'x' WHERE id = $1", event_id)
    choice = ("--from", "2020-01-01T00:00:00Z", "--gateway-id", merchant.xendit_id, "--code", "x")
    assert run("webhooks", "replay", *choice) == (0, "queued 1 webhook for reprocessing\n")
    assert run("webhooks", "failed", "--gateway-id", merchant.xendit_id, "--code", "x")[0] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "name an EVENT_ID, or a period"),
        (
            ("01935c1e-0000-7000-8000-000000000000", "--from", "2026-01-01T00:00:00Z"),
            "name an EVENT_ID, or a period",
        ),
        (("01935c1e-0000-7000-8000-000000000000",), "there is no webhook"),
        (("nonsense",), "not a valid UUID"),
        (("--from", "yesterday"), "is not a time such as"),
    ],
)
def test_a_replay_that_names_nothing_is_refused(run, args, message):
    code, text = run("webhooks", "replay", *args)
    assert code in {1, 2}
    assert message in text
    assert "Traceback" not in text
