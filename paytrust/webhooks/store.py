from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from piccolo.query import Select
from piccolo.querystring import QueryString

from paytrust.contract.gateways import Webhook, WebhookNotice
from paytrust.infra.db import Record, Transaction, one_of
from paytrust.infra.window import Due
from paytrust.webhooks.model import (
    ClaimedWebhook,
    FailedFilters,
    ProcessingAttempt,
    WebhookContent,
    WebhookOut,
    WebhookStatus,
)
from paytrust.webhooks.tables import WebhookAttempts, Webhooks

LEASE = timedelta(seconds=60)


async def insert(
    tx: Transaction,
    *,
    webhook_id: UUID,
    tenant_id: UUID | None,
    account_id: UUID,
    notice: WebhookNotice,
    headers: Mapping[str, str],
    body: bytes,
    status: WebhookStatus,
    failure: tuple[str, str] | None,
) -> bool:
    """
    Keep a webhook; False when we have the same event already. One that need not be processed has its last
    *status* from the start, and *failure* says why it failed.
    """
    written = await tx.fetchval(
        "INSERT INTO paytrust.webhooks (id, tenant_id, gateway_account_id, event_key, event, reference, headers, body, status, error_code,"
        " error_detail, gateway_payment_id, processed_at) VALUES ($1, $2, $3, $4, $5, nullif($6, ''), $7, $8, $9, $10, $11, $12,"
        " CASE WHEN $9 = 'ignored' THEN now() END)"
        " ON CONFLICT (gateway_account_id, event_key) DO NOTHING RETURNING true",
        webhook_id,
        tenant_id,
        account_id,
        notice.event_key,
        notice.event,
        notice.reference,
        msgspec.json.encode(headers).decode(),
        body,
        status,
        failure[0] if failure else None,
        failure[1] if failure else None,
        notice.gateway_payment_id,
    )
    return bool(written)


_DUE: Final = """
WITH RECURSIVE waiting (account_id) AS (
    (SELECT gateway_account_id FROM paytrust.webhooks WHERE status = 'received' ORDER BY gateway_account_id LIMIT 1)
    UNION ALL
    SELECT (SELECT n.gateway_account_id FROM paytrust.webhooks n WHERE n.status = 'received' AND n.gateway_account_id > w.account_id
            ORDER BY n.gateway_account_id LIMIT 1)
    FROM waiting w WHERE w.account_id IS NOT NULL
)
SELECT due.id, due.tenant_id, a.id AS account_id, a.gateway, due.next_attempt_at
FROM waiting JOIN paytrust.gateway_accounts a ON a.id = waiting.account_id
CROSS JOIN LATERAL (
    SELECT h.*, row_number() OVER (ORDER BY h.next_attempt_at) AS place FROM (
        SELECT id, tenant_id, next_attempt_at FROM paytrust.webhooks
        WHERE gateway_account_id = a.id AND status = 'received' AND next_attempt_at <= now()
            AND (lease_until IS NULL OR lease_until < now())
        ORDER BY next_attempt_at LIMIT $3
    ) h
) due
WHERE a.id <> ALL($1::uuid[]) AND a.gateway <> ALL($2::text[])
ORDER BY due.place, due.next_attempt_at LIMIT $4
"""
"""Goes from account to account in the index, so that a pile of one account costs the others nothing."""


async def due(
    tx: Transaction, *, but_accounts: list[UUID], but_gateways: list[str], of_account: int, limit: int
) -> list[Due]:
    """The webhooks that could be claimed: every account's oldest first, then their second, and so on."""
    rows = await tx.fetch(_DUE, but_accounts, but_gateways, of_account, limit)
    return [
        Due(
            id=row["id"],
            tenant_id=row["tenant_id"],
            account_id=row["account_id"],
            gateway=row["gateway"],
            subject=row["id"],
            due_at=row["next_attempt_at"],
        )
        for row in rows
    ]


async def claim(tx: Transaction, due: Due) -> ClaimedWebhook | None:
    """
    Take one that is due, unless another worker was quicker: nobody else gets it while the lease lasts, and
    the attempt counts even if we die.
    """
    row = await tx.fetchrow(
        """
        UPDATE paytrust.webhooks SET attempts = attempts + 1, lease_until = now() + $2
        WHERE id = (
            SELECT id FROM paytrust.webhooks
            WHERE id = $1 AND status = 'received' AND next_attempt_at <= now() AND (lease_until IS NULL OR lease_until < now())
            FOR UPDATE SKIP LOCKED
        )
        RETURNING id, tenant_id, gateway_account_id, reference, event, gateway_payment_id, attempts, attempts_before
        """,
        due.id,
        LEASE,
    )
    return None if row is None else _received(row)


async def finish(
    tx: Transaction, webhook: ClaimedWebhook, status: WebhookStatus, *, tenant_id: UUID | None
) -> None:
    """Write the outcome, unless another worker took over after our lease had run out."""
    done = await tx.execute(
        "UPDATE paytrust.webhooks SET status = $3, tenant_id = coalesce(tenant_id, $4), lease_until = NULL, processed_at = now(),"
        " error_code = NULL, error_detail = NULL WHERE id = $1 AND attempts = $2",
        webhook.id,
        webhook.attempt,
        status,
        tenant_id,
    )
    if done:
        await _log_attempt(tx, webhook, status, None, None)


async def give_back(tx: Transaction, webhook: ClaimedWebhook) -> None:
    """End our lease before its time: whoever looks next may take the webhook."""
    await tx.execute(
        "UPDATE paytrust.webhooks SET lease_until = NULL WHERE id = $1 AND attempts = $2",
        webhook.id,
        webhook.attempt,
    )


async def fail(
    tx: Transaction,
    webhook: ClaimedWebhook,
    *,
    tenant_id: UUID | None,
    code: str,
    detail: str,
    retry_after: timedelta | None,
) -> None:
    """Note a failed attempt; due again *retry_after* the first failure, or given up when that is None."""
    done = await tx.execute(
        "UPDATE paytrust.webhooks SET status = CASE WHEN $3::interval IS NULL THEN 'failed' ELSE 'received' END,"
        " first_failed_at = coalesce(first_failed_at, now()), next_attempt_at = coalesce(first_failed_at, now()) + coalesce($3, '0'),"
        " tenant_id = coalesce(tenant_id, $4), lease_until = NULL, error_code = $5, error_detail = left($6, 500),"
        " processed_at = CASE WHEN $3::interval IS NULL THEN now() END WHERE id = $1 AND attempts = $2",
        webhook.id,
        webhook.attempt,
        retry_after,
        tenant_id,
        code,
        detail,
    )
    if done:
        await _log_attempt(tx, webhook, "retry" if retry_after else WebhookStatus.FAILED, code, detail)


async def contents(tx: Transaction, webhook_id: UUID) -> Webhook:
    """What arrived, for reading it again."""
    (row,) = await tx.select(
        Webhooks.select(Webhooks.headers, Webhooks.body).where(Webhooks.id == webhook_id)
    )
    return Webhook(msgspec.json.decode(row["headers"]), row["body"])


async def reread(tx: Transaction, webhook: ClaimedWebhook, notice: WebhookNotice) -> None:
    """Write down what a webhook is about that could not be read when it came."""
    await tx.execute(
        "UPDATE paytrust.webhooks SET event = $2, reference = nullif($3, '') WHERE id = $1",
        webhook.id,
        notice.event,
        notice.reference,
    )


_PRUNE: Final = """
DELETE FROM paytrust.webhooks WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER newest AS place, sum(size) OVER newest AS size
        FROM (SELECT id, octet_length(body) AS size FROM paytrust.webhooks WHERE gateway_account_id = $1 AND
"""
_BEYOND: Final = """
              ORDER BY id DESC LIMIT $2::bigint + $4) kept
        WINDOW newest AS (ORDER BY id DESC)
    ) ranked WHERE place > $2 OR size > $3
) AND
"""
_UNMATCHED: Final = (
    "status = 'received' AND error_code = 'unknown_reference' AND attempts > attempts_before"
    " AND (lease_until IS NULL OR lease_until < now())"
)
"""Tried without a match since it came or was replayed: one that is due again was promised a try."""
_IGNORED: Final = "status = 'ignored'"
_FAILED: Final = "status = 'failed'"
_PRUNE_AT_ONCE: Final = 1_000


async def prune(tx: Transaction, account_id: UUID, *, rows: int, size: int) -> int:
    """
    Delete the oldest of an account's webhooks that came to nothing: of each kind *rows* and *size* bytes of
    bodies stay. How many were deleted.

    Each kind by itself, so that many steps on the way do not push out those that wait for a person.
    """
    bounds = (account_id, rows, size, _PRUNE_AT_ONCE)
    # Said twice: a row that another transaction has just made due again is looked at once more before it goes.
    deleted = await tx.execute(_PRUNE + _IGNORED + _BEYOND + _IGNORED, *bounds)
    deleted += await tx.execute(_PRUNE + _FAILED + _BEYOND + _FAILED, *bounds)
    return deleted + await tx.execute(_PRUNE + _UNMATCHED + _BEYOND + _UNMATCHED, *bounds)


# --- administration ---------------------------------------------------------------------------------------------------------

_SHOWN: Final = (
    Webhooks.id,
    Webhooks.tenant_id,
    Webhooks.gateway_account_id,
    Webhooks.event,
    Webhooks.reference,
    Webhooks.status,
    Webhooks.error_code,
    Webhooks.error_detail,
    Webhooks.received_at,
    Webhooks.processed_at,
)

_AGAIN = """
status = 'received', next_attempt_at = now(), first_failed_at = NULL, attempts_before = attempts, lease_until = NULL, processed_at = NULL
"""


async def failed(
    tx: Transaction, filters: FailedFilters, *, limit: int, before: UUID | None
) -> list[WebhookOut]:
    """Newest first: ids are ordered by time."""
    query = _failed(Webhooks.select(*_SHOWN), filters).order_by(Webhooks.id, ascending=False).limit(limit)
    if before is not None:
        query = query.where(Webhooks.id < before)
    rows = await tx.select(query)
    attempts = await _attempts(tx, [row["id"] for row in rows])
    return [WebhookOut(**_told(row), attempts=attempts[row["id"]]) for row in rows]


def _failed(query: Select[Webhooks], filters: FailedFilters) -> Select[Webhooks]:
    # In the text and no parameter: the index of the failed ones is partial.
    query = query.where(QueryString("{} = 'failed'", Webhooks.status))
    if filters.account_id is not None:
        query = query.where(Webhooks.gateway_account_id == filters.account_id)
    if filters.code is not None:
        query = query.where(Webhooks.error_code == filters.code)
    if filters.received_from is not None:
        query = query.where(Webhooks.received_at >= filters.received_from)
    if filters.received_to is not None:
        query = query.where(Webhooks.received_at < filters.received_to)
    return query


async def find(tx: Transaction, webhook_id: UUID) -> WebhookContent | None:
    query = Webhooks.select(*_SHOWN, Webhooks.headers, Webhooks.body).where(Webhooks.id == webhook_id)
    rows = await tx.select(query)
    if not rows:
        return None
    attempts = await _attempts(tx, [webhook_id])
    return WebhookContent(
        **_told(rows[0]),
        attempts=attempts[webhook_id],
        headers=msgspec.json.decode(rows[0]["headers"]),
        body=rows[0]["body"].decode(errors="replace"),
    )


async def _attempts(tx: Transaction, webhook_ids: list[UUID]) -> dict[UUID, list[ProcessingAttempt]]:
    """Every attempt to process these webhooks, in their order."""
    query = (
        WebhookAttempts.select(
            WebhookAttempts.webhook_id,
            WebhookAttempts.number,
            WebhookAttempts.outcome,
            WebhookAttempts.error_code,
            WebhookAttempts.error_detail,
            WebhookAttempts.ended_at,
        )
        .where(one_of(WebhookAttempts.webhook_id, webhook_ids))
        .order_by(WebhookAttempts.webhook_id, WebhookAttempts.number)
    )
    attempts: dict[UUID, list[ProcessingAttempt]] = defaultdict(list)
    for row in await tx.select(query):
        attempts[row["webhook_id"]].append(
            ProcessingAttempt(
                number=row["number"],
                outcome=row["outcome"],
                error_code=row["error_code"],
                error_detail=row["error_detail"],
                ended_at=row["ended_at"],
            )
        )
    return attempts


async def repeated(tx: Transaction, account_id: UUID, event_key: str) -> bool:
    """
    Have an event that came again processed now, with all its tries before it, if it waits for its next try or
    was given up; whether it was. Not what takes its workers down, nor what could not be read.
    """
    return bool(
        await tx.execute(
            f"UPDATE paytrust.webhooks SET {_AGAIN} WHERE gateway_account_id = $1 AND event_key = $2 AND reference IS NOT NULL"
            " AND (lease_until IS NULL OR lease_until < now())"
            " AND (status = 'failed' AND error_code <> 'worker_lost' OR status = 'received' AND next_attempt_at > now())",
            account_id,
            event_key,
        )
    )


async def replay(tx: Transaction, webhook_id: UUID) -> bool:
    """Due now, with all its tries before it; False while a worker holds it, or when there is none."""
    return bool(
        await tx.execute(
            f"UPDATE paytrust.webhooks SET {_AGAIN} WHERE id = $1 AND (lease_until IS NULL OR lease_until < now())",
            webhook_id,
        )
    )


async def replay_failed(
    tx: Transaction, filters: FailedFilters, *, limit: int, after: UUID | None
) -> list[UUID]:
    """Make failed ones due again, oldest first; their ids, in that order."""
    query = _failed(Webhooks.select(Webhooks.id), filters).order_by(Webhooks.id).limit(limit)
    if after is not None:
        query = query.where(Webhooks.id > after)
    ids = [row["id"] for row in await tx.select(query.lock_rows("UPDATE"))]
    await tx.execute(f"UPDATE paytrust.webhooks SET {_AGAIN} WHERE id = ANY($1)", ids)
    return ids


async def claim_unmatched(
    tx: Transaction, limit: int, *, again_after: timedelta, give_up_after: timedelta
) -> list[tuple[UUID, UUID, str]]:
    """Take failed webhooks (id, account, reference) whose payment may be known by now."""
    rows = await tx.fetch(
        """
        UPDATE paytrust.webhooks w
        SET next_attempt_at = CASE WHEN received_at > now() - $3::interval THEN now() + $2::interval ELSE 'infinity' END
        FROM (
            SELECT id FROM paytrust.webhooks
            WHERE status = 'failed' AND error_code = 'unknown_reference' AND next_attempt_at <= now()
            ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) due
        WHERE w.id = due.id
        RETURNING w.id, w.gateway_account_id, coalesce(w.reference, '') AS reference
        """,
        limit,
        again_after,
        give_up_after,
    )
    return [(row["id"], row["gateway_account_id"], row["reference"]) for row in rows]


def _told(row: Record) -> dict[str, Any]:
    return {
        "event_id": row["id"],
        "tenant_id": row["tenant_id"],
        "gateway_id": row["gateway_account_id"],
        "event": row["event"],
        "reference": row["reference"],
        "status": WebhookStatus(row["status"]),
        "error_code": row["error_code"],
        "error_detail": row["error_detail"],
        "received_at": row["received_at"],
        "processed_at": row["processed_at"],
    }


async def _log_attempt(
    tx: Transaction, webhook: ClaimedWebhook, outcome: str, code: str | None, detail: str | None
) -> None:
    await tx.execute(
        "INSERT INTO paytrust.webhook_attempts (webhook_id, number, outcome, error_code, error_detail) VALUES ($1, $2, $3, $4, left($5, 500))",
        webhook.id,
        webhook.attempt,
        outcome,
        code,
        detail,
    )


def _received(row: Record) -> ClaimedWebhook:
    return ClaimedWebhook(
        id=row["id"],
        tenant_id=row["tenant_id"],
        gateway_account_id=row["gateway_account_id"],
        reference=row["reference"],
        event=row["event"],
        gateway_payment_id=row["gateway_payment_id"],
        attempt=row["attempts"],
        tries=row["attempts"] - row["attempts_before"],
    )
