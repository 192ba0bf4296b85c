"""The composition root: which objects one application of PayTrust consists of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from paytrust.accounts.service import Accounts
from paytrust.api.health import Draining
from paytrust.contract.http import tls_context
from paytrust.idempotency.service import Idempotency
from paytrust.infra import db
from paytrust.infra.db import Database
from paytrust.infra.rate_limits import ANONYMOUS_POLICY, RateLimits, RateStore, SharedLimit, SlidingWindow
from paytrust.infra.settings import Settings
from paytrust.infra.watchdog import Watchdog
from paytrust.infra.worker import Worker
from paytrust.installments.service import Installments
from paytrust.invoices.service import Invoices
from paytrust.keys.jobs import AUDIT_POLL_S, KeyChanges
from paytrust.keys.service import AdminKeys, Keys
from paytrust.keys.service.audit import Audit
from paytrust.keys.service.pepper import Pepper
from paytrust.payments.jobs import InvoiceExpiry, StatusPoller
from paytrust.payments.model import invoice_of
from paytrust.payments.service import Checking, Invoicing, Payments
from paytrust.plugins.breaker import Breakers
from paytrust.plugins.calls import WORK_SHARE, WORK_SLOT_WAIT_S, Bulkhead
from paytrust.plugins.registry import Registry
from paytrust.reconciliation.jobs import DailyReconciliation
from paytrust.reconciliation.service import Proofs, Reconciliation
from paytrust.secrets.jobs import SealedStore
from paytrust.secrets.service import Secrets
from paytrust.security.encryption import MasterKeys
from paytrust.security.urls import Reach
from paytrust.tenants.service import Tenants
from paytrust.webhooks.jobs import WebhookJobs
from paytrust.webhooks.service import Alarm, Inbox, Webhooks

STATUS_POLL_S = 10.0
SLOW_POLL_S = 60.0
SHARE = 2
"""A tenant's requests have at most half of the API's connections: its long ones do not keep the others waiting."""


class Services:
    """Everything one application of PayTrust consists of, put together in one place."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self.draining = Draining()
        dsn = settings.database_url.get_secret_value()
        # Apart, so that neither a crowd of API calls nor a pile of work can delay the storing of a webhook.
        share = max(1, settings.pool_size // SHARE)
        self.db = Database(dsn, size=settings.pool_size, name="paytrust api", share=share)
        self.intake_db = Database(dsn, size=settings.intake_pool_size, name="paytrust intake")
        self.work_db = Database(dsn, size=settings.work_pool_size, name="paytrust work", waiters=None)
        reach = Reach(insecure=settings.insecure_gateways, networks=settings.gateway_networks)
        self.secrets = Secrets(self.db, MasterKeys(settings.master_keys()))
        self.accounts = Accounts(self.db, registry, self.secrets, public_url=settings.public_url, reach=reach)
        self.tenants = Tenants(self.db)
        self.idempotency = Idempotency(self.db, self.secrets)
        self.sealed_stores: dict[str, SealedStore] = {
            "credentials": self.accounts,
            "kept answers": self.idempotency,
        }
        pepper = settings.key_pepper.get_secret_value()
        audit = Audit(self.work_db)
        self.pepper = Pepper(self.db, pepper)
        self.keys = Keys(self.db, pepper=pepper, audit=audit)
        self.admin_keys = AdminKeys(settings.admin_keys(), audit, pepper=pepper)
        self.audit, self.audit_worker = audit, Worker("key audit", audit.write, poll_s=AUDIT_POLL_S)
        self.key_changes = KeyChanges(
            (settings.database_listen_url or settings.database_url).get_secret_value(), self.keys
        )
        breakers = Breakers(failures=settings.gateway_failures)
        requests = Bulkhead(breakers, calls=settings.gateway_calls, invoice_of=invoice_of)
        work_calls = Bulkhead(
            breakers,
            calls=max(1, settings.gateway_calls // WORK_SHARE),
            wait_s=WORK_SLOT_WAIT_S,
            invoice_of=invoice_of,
        )
        self.payments = Payments(self.db, self.accounts, calls=requests, insecure=reach.insecure)
        self.checking = Checking(self.db, self.payments)
        drafts = Invoices(self.accounts, tax_rules=list(registry.tax_rules.values()), insecure=reach.insecure)
        self.invoicing = Invoicing(self.db, self.accounts, drafts, self.payments.collection)
        self.installments = Installments(self.db)
        self.inbox = Inbox(self.db)
        self.reconciliation = Reconciliation(self.db, self.payments)
        self.proofs = Proofs(self.db)
        work = Payments(self.work_db, self.accounts, calls=work_calls, insecure=reach.insecure)
        alarm = Alarm()
        webhook_jobs = WebhookJobs(self.work_db, self.accounts, work, alarm)
        self.webhook_worker = Worker("webhooks", webhook_jobs.window)
        self.workers = (
            self.webhook_worker,
            Worker("unmatched webhooks", webhook_jobs.match, poll_s=SLOW_POLL_S),
            Worker("reconciler", StatusPoller(self.work_db, work).window, poll_s=STATUS_POLL_S),
            Worker("expiry", InvoiceExpiry(self.work_db, work).step, poll_s=STATUS_POLL_S),
            Worker("comparison", DailyReconciliation(self.work_db, work).step, poll_s=SLOW_POLL_S),
            Worker(
                "idempotency keys", Idempotency(self.work_db, self.secrets).remove_old, poll_s=SLOW_POLL_S
            ),
        )
        self.webhooks = Webhooks(
            self.intake_db,
            self.accounts,
            limit=settings.webhook_limit_per_minute,
            on_stored=self.webhook_worker.wake,
            alarm=alarm,
        )
        self.rates_store = (
            None if settings.rates_url is None else RateStore(settings.rates_url.get_secret_value())
        )
        self.rates = RateLimits(
            keys=SharedLimit("api-key", settings.key_limit_per_minute, self.rates_store),
            admins=SharedLimit("admin-key", settings.admin_limit_per_minute, self.rates_store),
            anonymous=SlidingWindow(ANONYMOUS_POLICY, settings.address_limit_per_minute),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Connect, refuse an unsafe database, work; on the way out finish what is under way."""
        async with contextlib.AsyncExitStack() as stack:
            for database in (self.db, self.intake_db, self.work_db):
                await database.open()
                stack.push_async_callback(database.close)
            await db.check(self.db)
            await self.secrets.check()
            await self.pepper.check()
            await asyncio.to_thread(tls_context)  # or the first call to a gateway stops every request
            stack.push_async_callback(self.accounts.close)
            if self.rates_store is not None:
                stack.push_async_callback(self.rates_store.close)
            stack.push_async_callback(self.audit.finish)
            for listener in (self.audit_worker, self.key_changes):
                listener.start()
                stack.push_async_callback(listener.stop)
            if self.settings.watchdog:
                watchdog = Watchdog()
                watchdog.start()
                stack.callback(watchdog.stop)
            if self.settings.worker:
                for worker in self.workers:
                    worker.start()
                stack.push_async_callback(_stop, *self.workers)
            yield


async def _stop(*workers: Worker) -> None:
    """All at once: one after the other would take as many times as long."""
    await asyncio.gather(*(worker.stop() for worker in workers))
