from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from uuid import UUID

import asyncpg

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import Gateway, Webhook, WebhookNotice
from paytrust.errors import (
    Busy,
    InvalidSignature,
    NotFound,
    PayTrustError,
    Unavailable,
    UnreadableWebhook,
)
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.infra.rate_limits import Decision, SlidingWindow
from paytrust.security.access import subnet
from paytrust.webhooks import model, store
from paytrust.webhooks.model import FailedFilters, WebhookContent, WebhookOut, WebhookStatus

INTAKE_TIMEOUT_MS: Final = 2_000
ALARM_AGAIN_S: Final = 3_600.0
ALARMS_KEPT: Final = 10_000

log = logs.get_logger("paytrust.webhooks")


class Alarm:
    """
    Says that a webhook was given up: at level critical once per account and hour, so that one account cannot
    drown the alarm of another; at level error otherwise. Each process counts for itself.
    """

    def __init__(self) -> None:
        self._said: OrderedDict[UUID, float] = OrderedDict()

    def given_up(self, account_id: UUID, event_id: UUID, code: str, detail: str) -> None:
        now = time.monotonic()
        loud = now - self._said.get(account_id, -ALARM_AGAIN_S) >= ALARM_AGAIN_S
        if loud:
            self._said[account_id] = now
            self._said.move_to_end(account_id)
            if len(self._said) > ALARMS_KEPT:
                self._said.popitem(last=False)
        tell = log.critical if loud else log.error
        tell("webhook given up", event_id=str(event_id), gateway_id=str(account_id), code=code, detail=detail)


class Webhooks:
    """Take in what gateways send: check it, store it once, answer. Nothing here touches an invoice."""

    def __init__(
        self, db: Database, gateways: Accounts, *, limit: int, on_stored: Callable[[], None], alarm: Alarm
    ) -> None:
        self._db = db
        self._gateways = gateways
        self._on_stored = on_stored
        self._alarm = alarm
        self._addresses = SlidingWindow("webhook", limit)
        """What came to each address of a webhook that has proved to be one."""
        self._anonymous = SlidingWindow("webhook", limit)
        """What came to addresses that are none, by sender."""
        self._came: Counter[UUID] = Counter()
        self.refused: Counter[str] = Counter()
        """Forged webhooks per gateway since the start; nothing else of them is kept."""

    async def receive(
        self, gateway: str, token: str, headers: Mapping[str, str], body: bytes, *, sender: str | None = None
    ) -> bool:
        """
        Store one webhook for the account that *token* names; False when we have the same event already, which
        is then due at once if it waits for its next try or was given up.

        Raises `NotFound`, `InvalidSignature`, or `Unavailable` when it cannot be stored or too many come:
        then the gateway will try again. *sender* is its address.
        """
        address = f"{gateway}/{token}"
        known = address in self._addresses
        _require(self._addresses.hit(address) if known else self._anonymous.hit(subnet(sender)))
        if not model.ADDRESS.fullmatch(address):
            raise NotFound("there is nothing at this path")
        webhook = Webhook(headers, body)
        async with self._db.transaction(system=True, statement_timeout_ms=INTAKE_TIMEOUT_MS) as tx:
            account = await accounts.find_by_token(tx, gateway, token)
            if account is None:
                raise NotFound("there is nothing at this path")
            if not known:
                self._anonymous.undo(subnet(sender))
                self._addresses.hit(address)
            notice, status, failure = self._examine(account, webhook)
            event_id = new_id()
            stored = await store.insert(
                tx,
                webhook_id=event_id,
                tenant_id=account.tenant_id,
                account_id=account.id,
                notice=notice,
                headers=model.scrub(headers),
                body=body,
                status=status,
                failure=failure,
            )
            due = stored or await store.repeated(tx, account.id, notice.event_key)
        log.info(
            "webhook stored" if stored else "webhook repeated",
            gateway=gateway,
            event_kind=notice.event,
            reference=notice.reference,
            status=status,
        )
        if stored and failure:
            self._alarm.given_up(account.id, event_id, *failure)
        elif due and status is WebhookStatus.RECEIVED:
            self._on_stored()
        await self._prune(account.id)
        return stored

    async def _prune(self, account_id: UUID) -> None:
        """Every now and then, delete the oldest of an account's webhooks that came to nothing."""
        self._came[account_id] += 1
        if self._came[account_id] % model.PRUNE_EVERY:
            return
        try:
            async with self._db.transaction(system=True, statement_timeout_ms=INTAKE_TIMEOUT_MS) as tx:
                pruned = await store.prune(tx, account_id, rows=model.KEPT_ROWS, size=model.KEPT_BYTES)
        except (PayTrustError, asyncpg.PostgresError) as exc:  # this webhook is stored all the same
            log.warning(
                "old webhooks were not deleted", gateway_id=str(account_id), reason=type(exc).__name__
            )
        else:
            if pruned:
                log.warning("old webhooks were deleted", gateway_id=str(account_id), count=pruned)

    def _examine(
        self, account: Account, webhook: Webhook
    ) -> tuple[WebhookNotice, WebhookStatus, tuple[str, str] | None]:
        gateway = self._gateways.gateway(account)
        try:
            _verify(gateway, webhook)
            notice = model.read(gateway, webhook)
        except InvalidSignature:
            self.refused[account.gateway] += 1
            log.warning("webhook refused", gateway=account.gateway, gateway_id=str(account.id))
            raise
        except UnreadableWebhook as exc:
            return model.unreadable(webhook.body), WebhookStatus.FAILED, (exc.code, exc.detail)
        except (Exception, SystemExit) as exc:
            log.exception("gateway plugin failed on a webhook", gateway=account.gateway)
            raise Unavailable(
                f"the plugin of the gateway {account.gateway} could not check the webhook"
            ) from exc
        return notice, WebhookStatus.RECEIVED if model.is_ours(notice) else WebhookStatus.IGNORED, None


def _require(decision: Decision) -> None:
    # Not 429: gateways repeat what is answered with 503, and some take a 4xx for final.
    if not decision.granted:
        error = Unavailable(f"more than {decision.limit} webhooks came within a minute")
        error.retry_after_s = decision.more_in_s
        raise error


class Inbox:
    """
    What administrators do with stored webhooks: look at those that failed, and have them processed again.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def failed(
        self, filters: FailedFilters, *, limit: int, before: UUID | None = None
    ) -> list[WebhookOut]:
        """Newest first, after the webhook *before*."""
        async with self._snapshot() as tx:
            return await store.failed(tx, filters, limit=limit, before=before)

    async def get(self, webhook_id: UUID) -> WebhookContent:
        async with self._snapshot() as tx:
            found = await store.find(tx, webhook_id)
        if found is None:
            raise NotFound(f"there is no webhook {webhook_id}")
        return found

    def _snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """Webhooks and their attempts are read by two queries, which are to see the same state."""
        return self._db.transaction(system=True, readonly=True, isolation="REPEATABLE READ")

    async def replay(self, webhook_id: UUID) -> WebhookContent:
        """
        Have one webhook processed again, whatever became of it, with all its tries before it. What it applied
        stays applied once.

        Raises `NotFound`, or `Busy` while a worker is at it.
        """
        async with self._db.transaction(system=True) as tx:
            replayed = await store.replay(tx, webhook_id)
        found = await self.get(webhook_id)
        if not replayed:
            raise Busy("this webhook is being processed at this moment")
        log.info("webhook replayed", event_id=str(webhook_id))
        return found

    async def replay_failed(self, filters: FailedFilters, *, after: UUID | None = None) -> list[UUID]:
        """
        Have failed webhooks processed again, oldest first and after *after*: their ids, at most
        `REPLAY_AT_ONCE`.
        """
        async with self._db.transaction(system=True) as tx:
            replayed = await store.replay_failed(tx, filters, limit=model.REPLAY_AT_ONCE, after=after)
        log.info("failed webhooks replayed", count=len(replayed))
        return replayed


def _verify(gateway: Gateway[Any, Any], webhook: Webhook) -> None:
    said: object = gateway.verify_webhook(webhook)
    if said is not None:  # False, or a coroutine: it did not refuse, and nothing was verified
        if asyncio.iscoroutine(said):
            said.close()
        raise TypeError(f"verify_webhook answered {type(said).__name__} instead of raising")
