"""
What a campaign has to have kept: nothing lost, nothing doubled, nothing believed that was not true, and every
answer in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from campaigns.chaos_webhooks.fixture import Account, Fixture
from campaigns.chaos_webhooks.forgeries import MARK, WAYS
from campaigns.chaos_webhooks.scenarios import Sale
from campaigns.chaos_webhooks.sender import percentile
from support import invariants

P99_S: Final = 1.0
LONGEST_S: Final = 3.0
BOOKED_S: Final = 60.0
"""Long before anybody asks the gateway by schedule: what comes later did not come by its webhook."""
ANSWERS: Final = {
    "true": {"200", "503"},
    "forged": {"200", "400", "401", "404", "408", "413", "414", "431", "503", "none"},
}
"""
What docs/reference/http-api.md says; 400 is the server's word for what is no HTTP, and "none" a connection
that ended.
"""
PAID_EVENTS: Final = ["PAID", "SETTLED", "capture", "settlement"]


async def rest(fixture: Fixture) -> None:
    """
    Post what nobody has posted yet, and wait until every webhook has come to its end: failed tries are
    hurried along.
    """
    ids = [account.gateway_id for account in fixture.accounts]
    while True:
        for news in await fixture.leftovers():
            fixture.sender.send(news, [0.0])
        await fixture.sender.done()
        await fixture.until(
            "the inbox to be processed",
            lambda: _none(
                fixture,
                "SELECT count(*) FROM paytrust.webhooks WHERE gateway_account_id = ANY($1::uuid[]) AND status = 'received'"
                " AND (next_attempt_at <= now() OR lease_until > now())",
                ids,
            ),
            300,
        )
        if not await fixture.hurry() and not await fixture.leftovers():
            return


async def _none(fixture: Fixture, sql: str, *args: object) -> bool:
    return not await fixture.owner.fetchval(sql, *args)


async def broken(fixture: Fixture, bystanders: Sequence[Sale], *, slack: float) -> list[str]:
    """
    Every promise that does not hold, with what breaks it. *slack* times as much time may pass as is promised.
    """
    tenants = {UUID(tenant.tenant_id) for group in fixture.tenants.values() for tenant in group}
    async with fixture.owner.acquire() as connection:
        found = await invariants.broken(
            connection, [await _far(fixture, account) for account in fixture.accounts], tenants=tenants
        )
    found += [f"never acknowledged: {what}" for what in fixture.sender.undelivered]
    found += _answers(fixture, slack)
    found += await _inbox(fixture)
    found += await _forged(fixture)
    if (slowest_s := max(await booked_after_s(fixture))) > BOOKED_S * slack:
        found.append(f"a payment was in the books {slowest_s:.0f} s after its first webhook")
    found += await _untouched(fixture, bystanders)
    return found + await _for_a_person(fixture)


async def _far(fixture: Fixture, account: Account) -> invariants.Far:
    pages = (await asyncio.to_thread(invariants.look, account.far)).pages
    told = [
        invariants.Delivery(news.url, news.reference, news.body.decode())
        for news in fixture.overheard[account]
        if news in fixture.sender.acknowledged
    ]
    # Nobody takes money back here, and a page that nobody asked us for is in no books.
    return invariants.Far(
        [
            msgspec.structs.replace(page, taken_back=False)
            for page in pages
            if page.reference not in fixture.strange
        ],
        told,
    )


def _answers(fixture: Fixture, slack: float) -> list[str]:
    found = [
        f"{kind} webhooks were answered with {status}, {count} times"
        for kind, answers in fixture.sender.answers.items()
        for status, count in answers.items()
        if status not in ANSWERS[kind]
    ]
    p99_s, longest_s = percentile(fixture.sender.seconds, 0.99), max(fixture.sender.seconds)
    if p99_s >= P99_S * slack:
        found.append(f"one true webhook in a hundred waited {p99_s:.2f} s or longer for its answer")
    if longest_s >= LONGEST_S * slack:
        found.append(f"a true webhook waited {longest_s:.2f} s for its answer")
    return found


async def _inbox(fixture: Fixture) -> list[str]:
    kept = await fixture.owner.fetchval(
        "SELECT count(*) FROM paytrust.webhooks WHERE gateway_account_id = ANY($1::uuid[])",
        [account.gateway_id for account in fixture.accounts],
    )
    return (
        []
        if kept == fixture.sender.stored
        else [f"{fixture.sender.stored} were told that theirs is new, and the inbox has {kept}"]
    )


async def _forged(fixture: Fixture) -> list[str]:
    """What is in the inbox of the forgers' is lies only, and none of it is a lie that moved anything."""
    rows = await fixture.owner.fetch(
        f"SELECT headers->>'{MARK}' AS way, count(*) FROM paytrust.webhooks WHERE headers ? '{MARK}'"
        " AND gateway_account_id = ANY($1::uuid[]) GROUP BY 1",
        [account.gateway_id for account in fixture.accounts],
    )
    return [
        f"forged, and kept: {row['way']}, {row['count']} times"
        for row in rows
        if row["way"] not in WAYS or not WAYS[row["way"]].lies
    ]


async def _untouched(fixture: Fixture, bystanders: Sequence[Sale]) -> list[str]:
    """Invoices that nobody paid are as they were, and nothing ever happened to them."""
    rows = await fixture.owner.fetch(
        "SELECT p.reference, p.status AS attempt, i.status, (SELECT count(*) FROM paytrust.invoice_history h"
        " WHERE (h.tenant_id, h.invoice_id) = (i.tenant_id, i.id)) AS told,"
        " (SELECT count(*) FROM paytrust.receipts r WHERE (r.tenant_id, r.invoice_id) = (i.tenant_id, i.id)) AS receipts"
        " FROM paytrust.payments p JOIN paytrust.invoices i ON (i.tenant_id, i.id) = (p.tenant_id, p.invoice_id)"
        " WHERE i.id = ANY($1::uuid[])",
        [sale.invoice["invoice_id"] for sale in bystanders],
    )
    assert len(rows) >= len(bystanders)
    return [
        f"moved by a lie: {dict(row)}"
        for row in rows
        if (row["attempt"], row["status"], row["told"], row["receipts"]) != ("open", "pending", 0, 0)
    ]


async def _for_a_person(fixture: Fixture) -> list[str]:
    """What we never asked for, and what came in another currency, is on the list of failed webhooks."""
    listed = await failed(fixture)
    expected = dict.fromkeys(fixture.strange, "unknown_reference") | dict.fromkeys(
        fixture.foreign, "currency_mismatch"
    )
    return [
        f"{reference} is not listed as {code}"
        for reference, code in expected.items()
        if (reference, code) not in listed
    ]


async def failed(fixture: Fixture) -> set[tuple[str | None, str]]:
    """What `GET /webhooks/failed` lists of the campaign: references and codes."""
    listed: set[tuple[str | None, str]] = set()
    for account in fixture.accounts:
        params: dict[str, Any] = {"gateway_id": account.gateway_id, "limit": 200}
        while params:
            async with fixture.admin.get("/webhooks/failed", params=params) as answer:
                page = await answer.json()
            listed.update((webhook["reference"], webhook["error_code"]) for webhook in page["webhooks"])
            params = params | {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
    return listed


async def booked_after_s(fixture: Fixture) -> list[float]:
    """
    From a payment's first webhook that said it is paid to its receipt. What was hidden meanwhile, or found
    without one, is left out.
    """
    rows = await fixture.owner.fetch(
        """
        SELECT extract(epoch FROM r.received_at - w.first)::float8 AS seconds
        FROM paytrust.receipts r
        JOIN paytrust.payments p ON (p.tenant_id, p.id) = (r.tenant_id, r.payment_id)
        JOIN (SELECT gateway_account_id, reference, min(received_at) AS first FROM paytrust.webhooks WHERE event = ANY($2) GROUP BY 1, 2) w
            ON (w.gateway_account_id, w.reference) = (p.gateway_account_id, p.reference)
        WHERE r.gateway_account_id = ANY($1::uuid[]) AND p.reference <> ALL($3) AND r.received_at >= w.first
        """,
        [account.gateway_id for account in fixture.accounts],
        PAID_EVENTS,
        list(fixture.hidden),
    )
    return [row["seconds"] for row in rows]
