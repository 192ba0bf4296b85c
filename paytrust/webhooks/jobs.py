from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.errors import PayTrustError
from paytrust.infra import logs
from paytrust.infra.db import Database
from paytrust.infra.window import CANDIDATES, Due, Room, Window
from paytrust.payments.model import OUR_REFERENCE
from paytrust.payments.service import Payments
from paytrust.webhooks import store
from paytrust.webhooks.model import (
    MAX_CLAIMS,
    RETRY_AFTER,
    TRANSIENT,
    ClaimedWebhook,
    UnknownReference,
    WebhookStatus,
    WorkerLost,
    read,
)
from paytrust.webhooks.service import Alarm

AT_ONCE: Final = 16
OF_ACCOUNT: Final = 3
"""One less than work in the background may have at an account at once: looks at payments go on beside a flood."""
OF_GATEWAY: Final = AT_ONCE // 2
MATCH_AT_ONCE: Final = 100
MATCH_AGAIN: Final = timedelta(hours=1)
MATCH_FOR: Final = timedelta(days=30)

log = logs.get_logger("paytrust.webhooks")


class WebhookJobs:
    """Turn stored webhooks into payments: ask the gateway what is true, and apply that."""

    def __init__(self, db: Database, gateways: Accounts, payments: Payments, alarm: Alarm) -> None:
        self._db = db
        self._gateways = gateways
        self._payments = payments
        self._alarm = alarm
        self.window = Window(
            self._claim, self._process, size=AT_ONCE, of_account=OF_ACCOUNT, of_gateway=OF_GATEWAY
        )

    async def _claim(self, room: Room) -> Sequence[tuple[Due, ClaimedWebhook]]:
        async with self._db.transaction(system=True) as tx:
            candidates = await store.due(
                tx,
                but_accounts=room.full_accounts,
                but_gateways=room.full_gateways,
                of_account=OF_ACCOUNT,
                limit=CANDIDATES,
            )
            claims = [(due, await store.claim(tx, due)) for due in room.choose(candidates)]
        return [(due, webhook) for due, webhook in claims if webhook is not None]

    async def _process(self, webhook: ClaimedWebhook) -> None:
        tenant_id, status = webhook.tenant_id, WebhookStatus.IGNORED
        try:
            located = await self._locate(webhook)
            if located is not None:
                tenant_id = located[0]
                if await self._apply(webhook, *located):
                    status = WebhookStatus.APPLIED
        except asyncio.CancelledError:
            async with self._db.transaction(system=True) as tx:
                await store.give_back(
                    tx, webhook
                )  # we are told to stop: another process need not wait for our lease to end
            raise
        except PayTrustError as exc:
            await self._failed(webhook, tenant_id, exc.code, exc.detail, transient=isinstance(exc, TRANSIENT))
        except (Exception, SystemExit) as exc:
            log.exception("webhook processing failed", event_id=str(webhook.id))
            await self._failed(webhook, tenant_id, "internal_error", type(exc).__name__, transient=True)
        else:
            async with self._db.transaction(system=True) as tx:
                await store.finish(tx, webhook, status, tenant_id=tenant_id)

    async def _apply(
        self, webhook: ClaimedWebhook, tenant_id: UUID, account: Account, reference: str
    ) -> bool:
        """Ask the gateway what is true of the payment, and write that down; whether anything changed."""
        applied = await self._payments.confirm(tenant_id, account, reference, hint=webhook.gateway_payment_id)
        await self._payments.collection.collect_next(applied)
        applied.check()
        if not applied.changed:
            await self._payments.check_soon(tenant_id, account.id, reference)
        return applied.changed

    async def _locate(self, webhook: ClaimedWebhook) -> tuple[UUID, Account, str] | None:
        """
        Whose payment it is about, and which; None when it is not about ours. The account is the one its URL
        named, so nobody can speak of another's invoices.
        """
        if webhook.tries > MAX_CLAIMS:
            raise WorkerLost(f"claimed {webhook.tries} times without an end")
        async with self._db.transaction(system=True, readonly=True) as tx:
            account = await accounts.get(tx, webhook.gateway_account_id)
        reference = webhook.reference or await self._read_again(webhook, account)
        if not OUR_REFERENCE.fullmatch(reference):
            return None
        tenant_id = await self._payments.tenant_of(account.id, reference)
        if tenant_id is None or webhook.tenant_id not in {None, tenant_id}:
            raise UnknownReference(f"no payment has the reference {reference!r}")
        return tenant_id, account, reference

    async def _read_again(self, webhook: ClaimedWebhook, account: Account) -> str:
        """
        Read what could not be read when it came, and was replayed: the plugin may have learned it meanwhile.
        """
        async with self._db.transaction(system=True, readonly=True) as tx:
            arrived = await store.contents(tx, webhook.id)
        notice = read(self._gateways.gateway(account), arrived)
        async with self._db.transaction(system=True) as tx:
            await store.reread(tx, webhook, notice)
        return notice.reference

    async def match(self) -> int:
        """
        Give webhooks another cycle of tries whose payment has become known since they were given up: after a
        restored backup, say.

        Looks at each of them hourly, for 30 days. Returns how many it looked at.
        """
        async with self._db.transaction(system=True) as tx:
            unmatched = await store.claim_unmatched(
                tx, MATCH_AT_ONCE, again_after=MATCH_AGAIN, give_up_after=MATCH_FOR
            )
        for webhook_id, account_id, reference in unmatched:
            if await self._payments.tenant_of(account_id, reference) is not None:
                async with self._db.transaction(system=True) as tx:
                    await store.replay(tx, webhook_id)
        return len(unmatched)

    async def _failed(
        self, webhook: ClaimedWebhook, tenant_id: UUID | None, code: str, detail: str, *, transient: bool
    ) -> None:
        retry_after = _retry_after(webhook.tries) if transient else None
        async with self._db.transaction(system=True) as tx:
            await store.fail(
                tx, webhook, tenant_id=tenant_id, code=code, detail=detail, retry_after=retry_after
            )
        if retry_after is None:
            self._alarm.given_up(webhook.gateway_account_id, webhook.id, code, detail)
        else:
            log.warning(
                "webhook will be tried again", event_id=str(webhook.id), code=code, attempt=webhook.attempt
            )


def _retry_after(attempt: int) -> timedelta | None:
    """How long after the first failure the next attempt is due; None after the last one."""
    return RETRY_AFTER[attempt - 1] if attempt <= len(RETRY_AFTER) else None
