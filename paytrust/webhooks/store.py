from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import msgspec

from paytrust.db import Record, Transaction
from paytrust.gateways import WebhookNotice
from paytrust.webhooks.model import Received, WebhookStatus

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
    """Keep a webhook; False when we have the same event already. With *failure* it is kept as failed from the start."""
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


async def claim(tx: Transaction, limit: int) -> list[Received]:
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
        RETURNING w.id, w.tenant_id, w.gateway_account_id, w.reference, w.event, w.attempts
        """,
        limit,
        LEASE,
    )
    return [_received(row) for row in rows]


async def finish(tx: Transaction, webhook: Received, status: WebhookStatus, *, tenant_id: UUID | None) -> None:
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


async def fail(
    tx: Transaction, webhook: Received, *, tenant_id: UUID | None, code: str, detail: str, retry_after: timedelta | None
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


async def _log_attempt(tx: Transaction, webhook: Received, outcome: str, code: str | None, detail: str | None) -> None:
    await tx.execute(
        "INSERT INTO paytrust.webhook_attempts (webhook_id, number, outcome, error_code, error_detail) VALUES ($1, $2, $3, $4, left($5, 500))",
        webhook.id,
        webhook.attempt,
        outcome,
        code,
        detail,
    )


def _received(row: Record) -> Received:
    return Received(
        id=row["id"],
        tenant_id=row["tenant_id"],
        gateway_account_id=row["gateway_account_id"],
        reference=row["reference"],
        event=row["event"],
        attempt=row["attempts"],
    )
