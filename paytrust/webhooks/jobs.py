from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.db import Database
from paytrust.errors import PayTrustError
from paytrust.payments.service import Payments
from paytrust.webhooks import store
from paytrust.webhooks.model import MAX_CLAIMS, RETRY_AFTER, TRANSIENT, Received, UnknownReference, WebhookStatus, WorkerLost

AT_ONCE: Final = 4

log = structlog.stdlib.get_logger("paytrust.webhooks")


class WebhookJobs:
    """Turn stored webhooks into payments: ask the gateway what is true, and apply that."""

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments

    async def step(self) -> int:
        """Process what is due, a few at once. Returns how many were claimed."""
        async with self._db.transaction(system=True) as tx:
            claimed = await store.claim(tx, AT_ONCE)
        await asyncio.gather(*(self._process(webhook) for webhook in claimed))
        return len(claimed)

    async def _process(self, webhook: Received) -> None:
        tenant_id = webhook.tenant_id
        try:
            tenant_id, account = await self._locate(webhook)
            assert webhook.reference is not None
            changed = await self._payments.confirm(tenant_id, account, webhook.reference)
        except PayTrustError as exc:
            await self._failed(webhook, tenant_id, exc.code, exc.detail, transient=isinstance(exc, TRANSIENT))
        except Exception as exc:
            log.exception("webhook processing failed", webhook_id=str(webhook.id))
            await self._failed(webhook, tenant_id, "internal_error", type(exc).__name__, transient=True)
        else:
            async with self._db.transaction(system=True) as tx:
                status = WebhookStatus.APPLIED if changed else WebhookStatus.IGNORED
                await store.finish(tx, webhook, status, tenant_id=tenant_id)

    async def _locate(self, webhook: Received) -> tuple[UUID, Account]:
        """Whose payment it is about. The account is the one its URL named, so nobody can speak of another's invoices."""
        if webhook.attempt > MAX_CLAIMS:
            raise WorkerLost(f"claimed {webhook.attempt} times without an end")
        async with self._db.transaction(system=True, readonly=True) as tx:
            found = await accounts.find(tx, webhook.gateway_account_id)
        assert found is not None, "the foreign key keeps the account"
        tenant_id = await self._payments.tenant_of(webhook.gateway_account_id, webhook.reference or "")
        if tenant_id is None or webhook.tenant_id not in {None, tenant_id}:
            raise UnknownReference(f"no payment has the reference {webhook.reference!r}")
        return tenant_id, found[0]

    async def _failed(self, webhook: Received, tenant_id: UUID | None, code: str, detail: str, *, transient: bool) -> None:
        retry_after = _retry_after(webhook.attempt) if transient else None
        async with self._db.transaction(system=True) as tx:
            await store.fail(tx, webhook, tenant_id=tenant_id, code=code, detail=detail, retry_after=retry_after)
        if retry_after is None:
            log.critical("webhook given up", webhook_id=str(webhook.id), code=code, detail=detail)
        else:
            log.warning("webhook will be tried again", webhook_id=str(webhook.id), code=code, attempt=webhook.attempt)


def _retry_after(attempt: int) -> timedelta | None:
    """How long after the first failure the next attempt is due; None after the last one."""
    return RETRY_AFTER[attempt - 1] if attempt <= len(RETRY_AFTER) else None
