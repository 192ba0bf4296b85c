"""What an operator does with webhooks that could not be applied: see them, and have them processed again."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from support.waiting import eventually

TOTAL = "514550"
UUID_OF_NOBODY = "01935c1e-0000-7000-8000-000000000000"


@pytest.fixture
def fail(database, seller, sandbox):
    """A webhook about a payment that was paid, kept as failed; gives its invoice and its event id."""

    def fail_(code="gateway_unavailable", invoice=None):
        invoice = invoice or seller.invoice()
        sandbox.xendit.fault("http_503", on="list")
        sandbox.xendit.pay(seller.reference(invoice))
        reference = seller.reference(invoice)
        eventually(lambda: database.value("SELECT error_code FROM webhooks WHERE reference = $1", reference))
        sandbox.xendit.clear_faults()
        [row] = database.rows(
            "UPDATE webhooks SET status = 'failed', error_code = $2, attempts = 4, attempts_before = 0 WHERE reference = $1 RETURNING id",
            reference,
            code,
        )
        return invoice, str(row["id"])

    return fail_


def listed(admin, **params):
    answer = admin.get("/webhooks/failed", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_failed_webhook_is_listed_with_every_attempt(admin, fail, seller):
    invoice, event_id = fail()
    [told] = [
        one for one in listed(admin, gateway_id=seller.xendit_id)["webhooks"] if one["event_id"] == event_id
    ]
    assert told["reference"] == seller.reference(invoice)
    assert (told["status"], told["error_code"], told["event"]) == ("failed", "gateway_unavailable", "PAID")
    assert told["tenant_id"] == seller.tenant_id
    assert told["attempts"][0] | {"ended_at": None, "error_detail": None} == {
        "number": 1,
        "outcome": "retry",
        "error_code": "gateway_unavailable",
        "error_detail": None,
        "ended_at": None,
    }
    assert "body" not in told
    assert "headers" not in told


def test_one_webhook_is_read_with_its_body_and_without_secrets(admin, fail, sandbox):
    _, event_id = fail()
    told = admin.get(f"/webhooks/{event_id}").json()
    assert '"status":"PAID"' in told["body"].replace(" ", "")
    assert told["headers"]["x-callback-token"] == "[removed]"
    assert sandbox.xendit.callback_token not in str(told)


def test_the_list_is_filtered_and_paged(admin, fail, make_merchant):
    code = f"test_{uuid4().hex[:8]}"
    events = [fail(code)[1] for _ in range(3)]
    first = listed(admin, code=code, limit=2)
    rest = listed(admin, code=code, limit=2, cursor=first["next_cursor"])
    assert [one["event_id"] for one in first["webhooks"] + rest["webhooks"]] == events[::-1]
    assert rest["next_cursor"] is None
    middle = first["webhooks"][1]["received_at"]
    assert [one["event_id"] for one in listed(admin, code=code, received_from=middle)["webhooks"]] == events[
        :0:-1
    ]
    assert [one["event_id"] for one in listed(admin, code=code, received_to=middle)["webhooks"]] == events[:1]
    assert listed(admin, code=code, gateway_id=make_merchant("Other").xendit_id)["webhooks"] == []


def test_a_replayed_webhook_is_processed_and_the_payment_applied(admin, fail, seller):
    invoice, event_id = fail()
    answer = admin.post(f"/webhooks/{event_id}/replay")
    assert (answer.status_code, answer.json()["status"]) == (200, "received"), answer.text
    seller.wait(invoice, "paid")
    eventually(lambda: admin.get(f"/webhooks/{event_id}").json()["status"] == "applied")
    assert [one["number"] for one in admin.get(f"/webhooks/{event_id}").json()["attempts"]] == [1, 5]


def test_a_replay_moves_no_money_twice(admin, fail, seller):
    invoice, event_id = fail()
    for _ in range(3):
        assert admin.post(f"/webhooks/{event_id}/replay").status_code in {200, 409}
        eventually(lambda: admin.get(f"/webhooks/{event_id}").json()["status"] in {"applied", "ignored"})
    assert seller.get(invoice, "/overpayment")["total_paid"] == TOTAL
    assert seller.get(invoice, "/overpayment")["overpayment_amount"] == "0"


def test_a_replay_starts_a_fresh_cycle_of_tries(admin, fail, seller, sandbox, database):
    _, event_id = fail()
    sandbox.xendit.fault("http_503", on="list")
    assert admin.post(f"/webhooks/{event_id}/replay").status_code == 200
    eventually(lambda: len(admin.get(f"/webhooks/{event_id}").json()["attempts"]) == 2)
    [row] = database.rows(
        "SELECT *, next_attempt_at - first_failed_at AS pause FROM webhooks WHERE id = $1", event_id
    )
    assert (row["status"], row["pause"].total_seconds()) == ("received", 60)


def test_a_webhook_that_killed_its_workers_gets_as_many_claims_again(admin, fail, seller, database):
    invoice, event_id = fail("worker_lost")
    database.rows("UPDATE webhooks SET attempts = 11 WHERE id = $1", event_id)
    assert admin.post(f"/webhooks/{event_id}/replay").status_code == 200
    seller.wait(invoice, "paid")


def test_a_webhook_that_is_being_processed_cannot_be_replayed_at_that_moment(admin, fail, problem, database):
    _, event_id = fail()
    database.rows("UPDATE webhooks SET lease_until = now() + interval '1 minute' WHERE id = $1", event_id)
    problem(admin.post(f"/webhooks/{event_id}/replay"), 409, "payment_in_progress")


def test_what_could_not_be_read_is_read_again(admin, fail, seller, database):
    """As after an update of the plugin that has learned a new status."""
    invoice, event_id = fail("unreadable_webhook")
    database.rows("UPDATE webhooks SET reference = NULL, event = 'unreadable' WHERE id = $1", event_id)
    assert admin.post(f"/webhooks/{event_id}/replay").status_code == 200
    seller.wait(invoice, "paid")
    told = admin.get(f"/webhooks/{event_id}").json()
    assert (told["reference"], told["event"]) == (seller.reference(invoice), "PAID")


def test_what_still_cannot_be_read_stays_failed(admin, fail, seller, database):
    _, event_id = fail("unreadable_webhook")
    database.rows(
        "UPDATE webhooks SET reference = NULL, event = 'unreadable', body = '\\x7b7d' WHERE id = $1", event_id
    )
    assert admin.post(f"/webhooks/{event_id}/replay").status_code == 200
    eventually(lambda: admin.get(f"/webhooks/{event_id}").json()["status"] == "failed")
    assert admin.get(f"/webhooks/{event_id}").json()["error_code"] == "unreadable_webhook"


def test_all_failed_ones_of_a_period_are_replayed_at_once(admin, fail, seller):
    code = f"test_{uuid4().hex[:8]}"
    made = [fail(code) for _ in range(3)]
    times = [admin.get(f"/webhooks/{event_id}").json()["received_at"] for _, event_id in made]
    body = {"received_from": times[0], "received_to": times[2], "code": code}
    assert admin.post("/webhooks/replay", json=body).json() == {"replayed": 2, "next_cursor": None}
    for invoice, _ in made[:2]:
        seller.wait(invoice, "paid")
    assert admin.post("/webhooks/replay", json=body).json()["replayed"] == 0
    assert admin.get(f"/webhooks/{made[2][1]}").json()["status"] == "failed"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"received_to": "2026-01-01T00:00:00Z", "received_from": "2026-01-02T00:00:00Z"}, "#/received_to"),
        ({"received_from": "2026-01-01T00:00:00"}, "#/received_from"),
        ({"received_to": "0001-01-01T00:00:00+14:00"}, "#/received_to"),
        ({"received_to": "tomorrow"}, "#/received_to"),
        ({"cursor": "?"}, "#/cursor"),
        ({"gateway_id": "x"}, "#/gateway_id"),
        ({"code": "x" * 51}, "#/code"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused(admin, problem, changes, pointer):
    body = {"received_from": "2026-01-01T00:00:00Z", "received_to": "2026-01-02T00:00:00Z"} | changes
    problem(admin.post("/webhooks/replay", json=body), 400, "invalid_request", [pointer])


def test_an_unknown_event_is_404(admin, problem):
    problem(admin.get(f"/webhooks/{UUID_OF_NOBODY}"), 404, "not_found")
    problem(admin.post(f"/webhooks/{UUID_OF_NOBODY}/replay"), 404, "not_found")
    problem(admin.post("/webhooks/nonsense/replay"), 404, "not_found")


def test_a_merchants_key_opens_none_of_it(fail, seller, problem):
    _, event_id = fail()
    for path in ("/webhooks/failed", f"/webhooks/{event_id}"):
        problem(seller.api.get(path), 401, "unauthenticated")
    problem(seller.api.post(f"/webhooks/{event_id}/replay"), 401, "unauthenticated")
    problem(seller.api.post("/webhooks/replay", json={}), 401, "unauthenticated")


def test_a_given_up_webhook_is_matched_when_its_payment_appears(session_owner_url, fail, seller, database):
    """As after a restored backup, into which the payments of the last hours find their way later."""
    invoice, event_id = fail("unknown_reference")
    reference = seller.reference(invoice)

    async def rename(old, new):
        connection = await asyncpg.connect(session_owner_url)
        try:
            await connection.execute(
                "UPDATE paytrust.payments SET reference = $2 WHERE reference = $1", old, new
            )
        finally:
            await connection.close()

    asyncio.run(rename(reference, reference + "gone"))
    database.rows("UPDATE webhooks SET next_attempt_at = now() WHERE id = $1", event_id)
    eventually(
        lambda: database.value("SELECT next_attempt_at > now() FROM webhooks WHERE id = $1", event_id),
        timeout_s=90,
    )
    assert database.value("SELECT status FROM webhooks WHERE id = $1", event_id) == "failed"
    asyncio.run(rename(reference + "gone", reference))
    database.rows("UPDATE webhooks SET next_attempt_at = now() WHERE id = $1", event_id)
    seller.wait(invoice, "paid", timeout_s=90)


def test_after_a_month_nobody_looks_for_its_payment_any_more(fail, seller, database):
    _, event_id = fail("unknown_reference")
    database.rows(
        "UPDATE webhooks SET reference = 'nobodys', next_attempt_at = now(), received_at = now() - interval '31 days' WHERE id = $1",
        event_id,
    )
    eventually(
        lambda: database.value("SELECT next_attempt_at = 'infinity' FROM webhooks WHERE id = $1", event_id),
        timeout_s=90,
    )
