from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from paytrust.contract.gateways import Webhook, WebhookNotice
from paytrust.infra.db import Record, Transaction
from paytrust.webhooks.model import (
    ClaimedWebhook,
    ProcessingAttempt,
    WebhookContent,
    WebhookOut,
    WebhookStatus,
)

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
    failure: tuple[str, str] | None,
) -> bool:
    """
    Keep a webhook; False when we have the same event already. With *failure* it is kept as failed from the
    start.
    """
    written = await tx.fetchval(
        "INSERT INTO paytrust.webhooks (id, tenant_id, gateway_account_id, event_key, event, reference, headers, body, status, error_code,"
        " error_detail) VALUES ($1, $2, $3, $4, $5, nullif($6, ''), $7, $8, $9, $10, $11)"
        " ON CONFLICT (gateway_account_id, event_key) DO NOTHING RETURNING true",
        webhook_id,
        tenant_id,
        account_id,
        notice.event_key,
        notice.event,
        notice.reference,
        msgspec.json.encode(headers).decode(),
        body,
        WebhookStatus.FAILED if failure else WebhookStatus.RECEIVED,
        failure[0] if failure else None,
        failure[1] if failure else None,
    )
    return bool(written)


async def claim(tx: Transaction, limit: int) -> list[ClaimedWebhook]:
    """Take what is due: nobody else gets it while the lease lasts, and the attempt counts even if we die."""
    rows = await tx.fetch(
        """
        UPDATE paytrust.webhooks w SET attempts = w.attempts + 1, lease_until = now() + $2
        FROM (
            SELECT id FROM paytrust.webhooks
            WHERE status = 'received' AND next_attempt_at <= now() AND (lease_until IS NULL OR lease_until < now())
            ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) due
        WHERE w.id = due.id
        RETURNING w.id, w.tenant_id, w.gateway_account_id, w.reference, w.event, w.attempts, w.attempts_before
        """,
        limit,
        LEASE,
    )
    return [_received(row) for row in rows]


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
    row = await tx.fetchrow("SELECT headers, body FROM paytrust.webhooks WHERE id = $1", webhook_id)
    assert row is not None
    return Webhook(msgspec.json.decode(row["headers"]), row["body"])


async def reread(tx: Transaction, webhook: ClaimedWebhook, notice: WebhookNotice) -> None:
    """Write down what a webhook is about that could not be read when it came."""
    await tx.execute(
        "UPDATE paytrust.webhooks SET event = $2, reference = $3 WHERE id = $1",
        webhook.id,
        notice.event,
        notice.reference,
    )


# --- administration ---------------------------------------------------------------------------------------------------------

_SELECT = """
SELECT w.id, w.tenant_id, w.gateway_account_id, w.event, w.reference, w.status, w.error_code, w.error_detail, w.received_at, w.processed_at,
    (SELECT jsonb_agg(jsonb_build_object('number', a.number, 'outcome', a.outcome, 'error_code', a.error_code,
            'error_detail', a.error_detail, 'ended_at', a.ended_at) ORDER BY a.number)
     FROM paytrust.webhook_attempts a WHERE a.webhook_id = w.id) AS tries
"""

_FAILED = """
w.status = 'failed' AND ($1::uuid IS NULL OR w.gateway_account_id = $1) AND ($2::text IS NULL OR w.error_code = $2)
    AND ($3::timestamptz IS NULL OR w.received_at >= $3) AND ($4::timestamptz IS NULL OR w.received_at < $4)
"""

_AGAIN = """
status = 'received', next_attempt_at = now(), first_failed_at = NULL, attempts_before = attempts, lease_until = NULL, processed_at = NULL
"""


async def failed(
    tx: Transaction,
    *,
    limit: int,
    before: UUID | None,
    account_id: UUID | None,
    code: str | None,
    received_from: datetime | None,
    received_to: datetime | None,
) -> list[WebhookOut]:
    """Newest first: ids are ordered by time."""
    rows = await tx.fetch(
        f"{_SELECT} FROM paytrust.webhooks w WHERE {_FAILED} AND ($5::uuid IS NULL OR w.id < $5) ORDER BY w.id DESC LIMIT $6",
        account_id,
        code,
        received_from,
        received_to,
        before,
        limit,
    )
    return [WebhookOut(**_told(row)) for row in rows]


async def find(tx: Transaction, webhook_id: UUID) -> WebhookContent | None:
    row = await tx.fetchrow(
        f"{_SELECT}, w.headers, w.body FROM paytrust.webhooks w WHERE w.id = $1", webhook_id
    )
    if row is None:
        return None
    return WebhookContent(
        **_told(row), headers=msgspec.json.decode(row["headers"]), body=row["body"].decode(errors="replace")
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
    tx: Transaction,
    *,
    limit: int,
    after: UUID | None,
    account_id: UUID | None,
    code: str | None,
    received_from: datetime,
    received_to: datetime,
) -> list[UUID]:
    """Make failed ones due again, oldest first; their ids, in that order."""
    rows = await tx.fetch(
        f"UPDATE paytrust.webhooks SET {_AGAIN} WHERE id IN (SELECT w.id FROM paytrust.webhooks w WHERE {_FAILED}"
        " AND ($5::uuid IS NULL OR w.id > $5) ORDER BY w.id LIMIT $6 FOR UPDATE) RETURNING id",
        account_id,
        code,
        received_from,
        received_to,
        after,
        limit,
    )
    return sorted(row["id"] for row in rows)


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
        "attempts": msgspec.json.decode(row["tries"] or "[]", type=list[ProcessingAttempt]),
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
        attempt=row["attempts"],
        tries=row["attempts"] - row["attempts_before"],
    )
