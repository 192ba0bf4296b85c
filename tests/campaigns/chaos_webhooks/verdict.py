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
from campaigns.chaos_webhooks.forgeries import MARK, WAYS
from campaigns.chaos_webhooks.post import percentile
from campaigns.chaos_webhooks.stories import Sale
from campaigns.chaos_webhooks.world import Account, World
from support import invariants

P99_S: Final = 1.0
LONGEST_S: Final = 3.0
BOOKED_S: Final = 60.0
"""Long before anybody asks the gateway by schedule: what comes later did not come by its webhook."""
ANSWERS: Final = {"true": {"200", "503"}, "forged": {"200", "400", "401", "404", "408", "413", "503", "none"}}
"""
What docs/reference/http-api.md says; 400 is the server's word for what is no HTTP, and "none" a connection
that ended.
"""
PAID_EVENTS: Final = ["PAID", "SETTLED", "capture", "settlement"]


async def rest(world: World) -> None:
    """
    Post what nobody has posted yet, and wait until every webhook has come to its end: failed tries are
    hurried along.
    """
    ids = [account.gateway_id for account in world.accounts]
    while True:
        for news in await world.leftovers():
            world.post.send(news, [0.0])
        await world.post.done()
        await world.until(
            "the inbox to be processed",
            lambda: _none(
                world,
                "SELECT count(*) FROM paytrust.webhooks WHERE gateway_account_id = ANY($1::uuid[]) AND status = 'received'"
                " AND (next_attempt_at <= now() OR lease_until > now())",
                ids,
            ),
            300,
        )
        if not await world.hurry() and not await world.leftovers():
            return


async def _none(world: World, sql: str, *args: object) -> bool:
    return not await world.owner.fetchval(sql, *args)


async def broken(world: World, bystanders: Sequence[Sale], *, slack: float) -> list[str]:
    """
    Every promise that does not hold, with what breaks it. *slack* times as much time may pass as is promised.
    """
    tenants = {UUID(shop.tenant_id) for shops in world.shops.values() for shop in shops}
    async with world.owner.acquire() as connection:
        found = await invariants.broken(
            connection, [await _far(world, account) for account in world.accounts], tenants=tenants
        )
    found += [f"never acknowledged: {what}" for what in world.post.undelivered]
    found += _answers(world, slack)
    found += await _inbox(world)
    found += await _forged(world)
    if (slowest_s := max(await booked_after_s(world))) > BOOKED_S * slack:
        found.append(f"a payment was in the books {slowest_s:.0f} s after its first webhook")
    found += await _untouched(world, bystanders)
    return found + await _for_a_person(world)


async def _far(world: World, account: Account) -> invariants.Far:
    pages = (await asyncio.to_thread(invariants.look, account.far)).pages
    told = [
        invariants.Delivery(news.url, news.reference, news.body.decode())
        for news in world.overheard[account]
        if news in world.post.acknowledged
    ]
    # Nobody takes money back here, and a page that nobody asked us for is in no books.
    return invariants.Far(
        [
            msgspec.structs.replace(page, taken_back=False)
            for page in pages
            if page.reference not in world.strange
        ],
        told,
    )


def _answers(world: World, slack: float) -> list[str]:
    found = [
        f"{kind} webhooks were answered with {status}, {count} times"
        for kind, answers in world.post.answers.items()
        for status, count in answers.items()
        if status not in ANSWERS[kind]
    ]
    p99_s, longest_s = percentile(world.post.seconds, 0.99), max(world.post.seconds)
    if p99_s >= P99_S * slack:
        found.append(f"one true webhook in a hundred waited {p99_s:.2f} s or longer for its answer")
    if longest_s >= LONGEST_S * slack:
        found.append(f"a true webhook waited {longest_s:.2f} s for its answer")
    return found


async def _inbox(world: World) -> list[str]:
    kept = await world.owner.fetchval(
        "SELECT count(*) FROM paytrust.webhooks WHERE gateway_account_id = ANY($1::uuid[])",
        [account.gateway_id for account in world.accounts],
    )
    return (
        []
        if kept == world.post.stored
        else [f"{world.post.stored} were told that theirs is new, and the inbox has {kept}"]
    )


async def _forged(world: World) -> list[str]:
    """What is in the inbox of the forgers' is lies only, and none of it is a lie that moved anything."""
    rows = await world.owner.fetch(
        f"SELECT headers->>'{MARK}' AS way, count(*) FROM paytrust.webhooks WHERE headers ? '{MARK}'"
        " AND gateway_account_id = ANY($1::uuid[]) GROUP BY 1",
        [account.gateway_id for account in world.accounts],
    )
    return [
        f"forged, and kept: {row['way']}, {row['count']} times"
        for row in rows
        if row["way"] not in WAYS or not WAYS[row["way"]].lies
    ]


async def _untouched(world: World, bystanders: Sequence[Sale]) -> list[str]:
    """Invoices that nobody paid are as they were, and nothing ever happened to them."""
    rows = await world.owner.fetch(
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


async def _for_a_person(world: World) -> list[str]:
    """What we never asked for, and what came in another currency, is on the list of failed webhooks."""
    listed = await failed(world)
    expected = dict.fromkeys(world.strange, "unknown_reference") | dict.fromkeys(
        world.foreign, "currency_mismatch"
    )
    return [
        f"{reference} is not listed as {code}"
        for reference, code in expected.items()
        if (reference, code) not in listed
    ]


async def failed(world: World) -> set[tuple[str | None, str]]:
    """What `GET /webhooks/failed` lists of the campaign: references and codes."""
    listed: set[tuple[str | None, str]] = set()
    for account in world.accounts:
        params: dict[str, Any] = {"gateway_id": account.gateway_id, "limit": 200}
        while params:
            async with world.admin.get("/webhooks/failed", params=params) as answer:
                page = await answer.json()
            listed.update((webhook["reference"], webhook["error_code"]) for webhook in page["webhooks"])
            params = params | {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
    return listed


async def booked_after_s(world: World) -> list[float]:
    """
    From a payment's first webhook that said it is paid to its receipt. What was hidden meanwhile, or found
    without one, is left out.
    """
    rows = await world.owner.fetch(
        """
        SELECT extract(epoch FROM r.received_at - w.first)::float8 AS seconds
        FROM paytrust.receipts r
        JOIN paytrust.payments p ON (p.tenant_id, p.id) = (r.tenant_id, r.payment_id)
        JOIN (SELECT gateway_account_id, reference, min(received_at) AS first FROM paytrust.webhooks WHERE event = ANY($2) GROUP BY 1, 2) w
            ON (w.gateway_account_id, w.reference) = (p.gateway_account_id, p.reference)
        WHERE r.gateway_account_id = ANY($1::uuid[]) AND p.reference <> ALL($3) AND r.received_at >= w.first
        """,
        [account.gateway_id for account in world.accounts],
        PAID_EVENTS,
        list(world.hidden),
    )
    return [row["seconds"] for row in rows]
