from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.db import Database
from paytrust.errors import InvalidSignature, NotFound, Unavailable, UnreadableWebhook
from paytrust.gateways import Webhook, WebhookNotice
from paytrust.ids import new_id
from paytrust.webhooks import model, store

INTAKE_TIMEOUT_MS: Final = 2_000

log = structlog.stdlib.get_logger("paytrust.webhooks")


class Webhooks:
    """Take in what gateways send: check it, store it once, answer. Nothing here touches an invoice."""

    def __init__(self, db: Database, gateways: Accounts, *, on_stored: Callable[[], None]) -> None:
        self._db = db
        self._gateways = gateways
        self._on_stored = on_stored
        self.refused: Counter[str] = Counter()
        """Forged webhooks per gateway since the start; nothing else of them is kept."""

    async def receive(self, gateway: str, token: str, headers: Mapping[str, str], body: bytes) -> bool:
        """
        Store one webhook for the account that *token* names; False when we have the same event already.

        Raises `NotFound`, `InvalidSignature`, or `Unavailable` when it cannot be stored: then the gateway will try again.
        """
        if not model.ADDRESS.fullmatch(f"{gateway}/{token}"):
            raise NotFound("there is nothing at this path")
        webhook = Webhook(headers, body)
        async with self._db.transaction(system=True, statement_timeout_ms=INTAKE_TIMEOUT_MS) as tx:
            account = await accounts.find_by_token(tx, gateway, token)
            if account is None:
                raise NotFound("there is nothing at this path")
            notice, failure = self._examine(account, webhook)
            stored = await store.insert(
                tx,
                webhook_id=new_id(),
                tenant_id=account.tenant_id,
                account_id=account.id,
                notice=notice,
                headers=model.scrub(headers),
                body=body,
                failure=failure,
            )
        log.info("webhook stored" if stored else "webhook repeated", gateway=gateway, event_kind=notice.event, reference=notice.reference)
        if stored:
            self._on_stored()
        return stored

    def _examine(self, account: Account, webhook: Webhook) -> tuple[WebhookNotice, tuple[str, str] | None]:
        gateway = self._gateways.gateway(account)
        try:
            gateway.verify_webhook(webhook)
            return model.checked(gateway.read_webhook(webhook)), None
        except InvalidSignature:
            self.refused[account.gateway] += 1
            log.warning("webhook refused", gateway=account.gateway, gateway_id=str(account.id))
            raise
        except UnreadableWebhook as exc:
            return model.unreadable(webhook.body), (exc.code, exc.detail)
        except Exception as exc:
            log.exception("gateway plugin failed on a webhook", gateway=account.gateway)
            raise Unavailable("the webhook could not be checked") from exc
