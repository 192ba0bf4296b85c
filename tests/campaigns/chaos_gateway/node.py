"""
A node of PayTrust that only works in the background, and looks more often than a service does: nobody has to
wait for its next look.
"""

from __future__ import annotations

import asyncio
import signal

from paytrust.infra import logs
from paytrust.infra.settings import load
from paytrust.infra.worker import Worker
from paytrust.payments.jobs import StatusPoller
from paytrust.payments.service import Payments
from paytrust.plugins.breaker import Breakers
from paytrust.plugins.calls import Bulkhead
from paytrust.plugins.registry import Registry
from paytrust.services import Services
from paytrust.webhooks.jobs import WebhookJobs
from paytrust.webhooks.service import Alarm

POLL_S = 0.2


async def main() -> None:
    settings = load()
    logs.configure(settings)
    services = Services(settings, Registry())
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with services.running():
        calls = Bulkhead(Breakers(failures=settings.gateway_failures), calls=settings.gateway_calls)
        payments = Payments(services.work_db, services.accounts, calls=calls, insecure=True)
        workers = [
            Worker("reconciler", StatusPoller(services.work_db, payments).window, poll_s=POLL_S),
            Worker(
                "webhooks",
                WebhookJobs(services.work_db, services.accounts, payments, Alarm()).window,
                poll_s=POLL_S,
            ),
        ]
        for worker in workers:
            worker.start()
        await told.wait()
        await asyncio.gather(*(worker.stop() for worker in workers))


if __name__ == "__main__":
    asyncio.run(main())
