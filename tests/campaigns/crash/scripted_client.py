"""The one who leads the service to a point that chance comes to too seldom."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from campaigns.crash.clients import Client, Tenant

REACH_S = 30
POSTGRES_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class ScriptedClient(Client):
    """Brings about what chance brings too seldom."""

    def __init__(self, tenant: Tenant, admin: httpx.Client, seed: str) -> None:
        super().__init__(tenant, f"scripted {seed}")
        self.admin = admin
        self.keys: dict[str, bool] = {}
        """API keys that somebody was shown, and whether they work."""

    def bring(self, point: str) -> None:
        """Do what leads to *point*, once."""
        way = next(way for pattern, way in WAYS if re.match(pattern, point))
        with contextlib.suppress(
            httpx.TransportError, OSError, *POSTGRES_AWAY
        ):  # it died on the way, or PostgreSQL did
            way(self)

    def _made(self, parts: int, gateway: str = "xendit") -> dict[str, Any]:
        made = self.create(key=True, gateway=gateway, parts=parts)
        if made is None:
            raise httpx.TransportError("not made")
        return made

    def create_once(self) -> None:
        self.create(key=True)

    def supplement_once(self) -> None:
        self.supplement(self._made(parts=1))

    def cancel_once(self) -> None:
        self.cancel(self._made(parts=1))

    def adjust_once(self) -> None:
        self.adjust(self._made(parts=3))

    def create_unanswered(self) -> None:
        self.fixture.gateways.xendit.fault("reset_after", on="create", times=1)
        self.create(key=True, gateway="xendit")

    def _unknown(self) -> str:
        """The id of a draft invoice whose outcome is unknown, and that nobody asks for again."""
        self.fixture.gateways.xendit.fault("reset_after", on="create", times=1)
        external_id = str(uuid4())
        body = self._body("IDR", 1) | {
            "gateway_id": self.tenant.accounts["xendit"],
            "currency": "IDR",
            "external_id": external_id,
        }
        answer = self.http.post("/invoices", json=body)
        if answer.status_code != 504:  # somebody else met the fault
            return str(answer.json().get("invoice_id", ""))
        return str(
            self.http.get("/invoices", params={"external_id": external_id}).json()["invoices"][0][
                "invoice_id"
            ]
        )

    def page_of_unknown(self) -> None:
        self.page({"invoice_id": self._unknown()})

    def leave_unknown(self) -> None:
        self.fixture.abandon(self._unknown())

    def _closed(self) -> dict[str, Any]:
        """An invoice whose page the gateway has closed by itself, and we have heard of it."""
        invoice = self._made(parts=1)
        reference = self.reference(invoice)
        if reference is not None:
            with contextlib.suppress(httpx.HTTPStatusError):
                self.far(invoice).expire(reference)
            until = time.monotonic() + REACH_S
            while self.reference(invoice) is not None and time.monotonic() < until:
                time.sleep(0.05)
        return invoice

    def page_again(self) -> None:
        self.page(self._closed())

    def let_expire_unpayable(self) -> None:
        self.fixture.expire(self._closed()["invoice_id"])

    def pay_a_part(self) -> None:
        self.pay(self._made(parts=3))

    def pay_unheard(self) -> None:
        self.fixture.gateways.xendit.fault("http_503", on="list", times=1)
        self.pay(self._made(parts=1))

    def pay_untold(self) -> None:
        """No webhook comes; the reconciler finds out."""
        self.fixture.gateways.xendit.fault("lost", on="webhook", times=1)
        self.pay(self._made(parts=1))
        self.look_at_everything()

    def let_expire(self) -> None:
        """No webhook tells of the page that is closed: it would be quicker than the status poller."""
        invoice = self._made(parts=1)
        self.fixture.gateways.xendit.fault("lost", on="webhook", times=1)
        self.fixture.expire(invoice["invoice_id"])

    def let_end(self) -> None:
        invoice = self._made(parts=1)
        self.fixture.gateways.xendit.fault("lost", on="webhook", times=1)
        self.fixture.end(invoice["invoice_id"])

    def let_end_unpayable(self) -> None:
        """No payment is left to close, whose end would be the invoice's, too."""
        self.fixture.end(self._closed()["invoice_id"])

    def look_at_everything(self) -> None:
        self.fixture.look_now([self.tenant.tenant_id])

    def compare(self) -> None:
        """The gateway's list and the books disagree about a payment."""
        if not self.fixture.gateways.xendit.payments:  # as at the begin of an era
            self._made(parts=1)
        self.fixture.gateways.xendit.fault("wrong_amount", on="list", times=1)
        self.fixture.postgres.execute(
            "UPDATE paytrust.gateway_accounts SET compare_at = now() WHERE id = $1",
            UUID(self.tenant.accounts["xendit"]),
        )

    def change_keys(self) -> None:
        """
        Make an API key, give it a new secret, and take it away: the first is safe to repeat, for the others
        it is looked what happened.
        """
        key = str(uuid4())
        made = self._administer(
            "POST", "/api-keys", {"tenant_id": str(self.tenant.tenant_id)}, {"Idempotency-Key": key}
        )
        self.keys[made["api_key"]] = True
        path = f"/api-keys/{made['key_id']}"
        rotated = self._administer("PUT", f"{path}/rotate", None, {})
        del self.keys[made["api_key"]]
        self.keys[rotated["api_key"]] = True
        self.keys |= {made["api_key"]: False}
        self._administer("DELETE", path, None, {})
        self.keys[rotated["api_key"]] = False

    def _administer(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        for _ in range(900):
            with contextlib.suppress(httpx.TransportError):
                answer = self.admin.request(method, path, json=body, headers=headers)
                if answer.is_success:
                    return answer.json() if answer.content else None
            time.sleep(0.1)
        raise AssertionError(f"{method} {path} was never answered")

    def keys_broken(self) -> list[str]:
        """What was shown works until it was taken away."""
        found = []
        for key, works in self.keys.items():
            status = httpx.get(
                f"{self.fixture.service.url}/invoices?limit=1", headers={"X-API-Key": key}
            ).status_code
            if status != (200 if works else 401):
                found.append(
                    f"a key that {'works' if works else 'was taken away'} was answered with {status}"
                )
        return found


WAYS: tuple[tuple[str, Callable[[ScriptedClient], Any]], ...] = (
    (
        r"(claim_guard|Idempotency|create_invoice).*(give_back|payments\.finish_attempt|payments\.reclaim)",
        ScriptedClient.create_unanswered,
    ),
    (r"claim_guard|Idempotency|create_invoice", ScriptedClient.create_once),
    (r"create_supplementary", ScriptedClient.supplement_once),
    (r"make_payment_url.*(find_payments|payments\.reclaim)", ScriptedClient.page_of_unknown),
    (r"make_payment_url", ScriptedClient.page_again),
    (r"cancel_invoice", ScriptedClient.cancel_once),
    (r"adjust_installments", ScriptedClient.adjust_once),
    (r"WebhookJobs._process.*webhooks\.fail", ScriptedClient.pay_unheard),
    (r"receive_webhook|WebhookJobs", ScriptedClient.pay_a_part),
    (r"StatusPoller._claim", ScriptedClient.look_at_everything),
    (r"StatusPoller.*(payments\.reclaim|invoices\.initiate)", ScriptedClient.leave_unknown),
    (r"StatusPoller.*insert_receipt", ScriptedClient.pay_untold),
    (r"StatusPoller.*save_status", ScriptedClient.let_expire_unpayable),
    (r"StatusPoller", ScriptedClient.let_expire),
    (r"InvoiceExpiry.*save_status", ScriptedClient.let_end_unpayable),
    (r"InvoiceExpiry", ScriptedClient.let_end),
    (r"DailyReconciliation", ScriptedClient.compare),
    (r"(create|rotate|revoke)_key", ScriptedClient.change_keys),
)
"""What leads to a point: the first that fits."""
