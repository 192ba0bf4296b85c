"""
Where a campaign takes place: a running service, tenants, gateway accounts, and a sandbox for each owner of
accounts.

Every sandbox is a process of its own with secrets of its own, and holds its webhooks: the campaign sends them
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import asyncpg
from campaigns.chaos_webhooks.sender import News, Sender
from campaigns.chaos_webhooks.service import Service
from paytrust_sandbox import Delivery, MidtransRemote, Remote, XenditRemote
from support.database import expire, override
from support.merchant import account_body

GATEWAYS: Final = ("xendit", "midtrans")
PATIENCE_S: Final = 60.0
POLL_S: Final = 0.1
BUSY: Final = {409, 503}


@dataclass(frozen=True)
class Sandbox:
    """The two gateways of one owner of accounts."""

    xendit: XenditRemote
    midtrans: MidtransRemote


@contextlib.contextmanager
def sandboxes(count: int) -> Iterator[list[Sandbox]]:
    """Start *count* of them, each with keys and tokens that no other has."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_sandbox()) for _ in range(count)]
        yield [_announced(*each) for each in started]


@contextlib.contextmanager
def _sandbox() -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    own = {
        "secret-key": f"xnd_development_{secrets.token_hex(16)}",
        "callback-token": secrets.token_hex(24),
        "server-key": f"SB-Mid-server-{secrets.token_hex(12)}",
        "merchant-id": f"G{secrets.randbelow(10**9):09}",
    }
    options = [f"--{name}={value}" for name, value in own.items()]
    command = [sys.executable, "-m", "paytrust_sandbox", "--xendit-port=0", "--midtrans-port=0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process, own
    finally:
        process.terminate()
        process.wait(20)


def _announced(process: subprocess.Popen[str], own: dict[str, str]) -> Sandbox:
    assert process.stdout is not None
    xendit, midtrans = (process.stdout.readline().split()[1] for _ in GATEWAYS)
    sandbox = Sandbox(
        XenditRemote(url=xendit, key=own["secret-key"], callback_token=own["callback-token"]),
        MidtransRemote(url=midtrans, key=own["server-key"], merchant_id=own["merchant-id"]),
    )
    sandbox.xendit.hold_webhooks()
    sandbox.midtrans.hold_webhooks()
    return sandbox


class Account:
    """A gateway account: where its webhooks go, and the gateway that sends them."""

    def __init__(self, owner: str, gateway: str, far: Remote, told: dict[str, Any]) -> None:
        self.owner, self.gateway, self.far = owner, gateway, far
        self.gateway_id: str = told["gateway_id"]
        self.webhook_url: str = told["webhook_url"]
        self.currencies = sorted(told["currencies"])
        self.creating = asyncio.Lock()
        """Held by who opens a payment here, so that a fault befalls the payment it is meant for."""

    @property
    def secret(self) -> str:
        """What its webhooks prove themselves by."""
        return self.far.callback_token if isinstance(self.far, XenditRemote) else self.far.key


class Tenant:
    """A tenant, and its way to the API."""

    def __init__(self, tenant_id: str, http: aiohttp.ClientSession) -> None:
        self.tenant_id, self._http = tenant_id, http

    async def call(
        self, method: str, path: str, body: object = None, *, fine: frozenset[int] = frozenset()
    ) -> tuple[int, Any]:
        """
        The answer; what says that it is for later is asked for again, and anything but 2xx and *fine* raises.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            async with self._http.request(method, path, json=body) as answer:
                told = await answer.json(content_type=None)
                status = answer.status
            if status < 300 or status in fine:
                return status, told
            if status not in BUSY or time.monotonic() > until:
                raise RuntimeError(f"{method} {path}: {status} {told}")
            await asyncio.sleep(POLL_S)


@dataclass
class Fixture:
    """Everything a scenario or a forger may know or touch."""

    sender: Sender
    owner: asyncpg.Pool
    admin: aiohttp.ClientSession
    sandboxes: list[Sandbox]
    seed: int
    patience_s: float
    accounts: list[Account] = field(default_factory=list)
    tenants: dict[str, list[Tenant]] = field(default_factory=dict)
    """Who may use the accounts of an owner: a tenant its own, every tenant the shared ones."""
    overheard: defaultdict[Account, list[News]] = field(default_factory=lambda: defaultdict(list))
    """The true news of each account, as somebody sees them who reads along."""
    posted: set[tuple[str, int]] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)
    """References of payments at the gateways that nobody made through the service."""
    hidden: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)
    """True events by the scenario they belong to."""
    early: Counter[str] = field(default_factory=Counter)
    """By gateway, how often news were acknowledged before the request that made the page was answered."""

    def chance(self, *what: object) -> random.Random:
        """Luck that depends on nothing but the seed and *what* it is for."""
        return random.Random(f"{self.seed} {what}")

    async def news(self, account: Account, reference: str, way: str) -> list[News]:
        """What the gateway would have sent about *reference* and nobody has posted yet."""
        return self._unposted(account, await asyncio.to_thread(account.far.deliveries_about, reference), way)

    async def leftovers(self) -> list[News]:
        """
        Everything that nobody has posted yet: what the service itself caused at the gateways, after a scenario
        was over.
        """
        return [
            news
            for account in self.accounts
            for news in self._unposted(
                account, await asyncio.to_thread(lambda far=account.far: far.deliveries), "afterwards"
            )
        ]

    def _unposted(self, account: Account, deliveries: list[Delivery], way: str) -> list[News]:
        fresh = [delivery for delivery in deliveries if (account.far.url, delivery.id) not in self.posted]
        self.posted.update((account.far.url, delivery.id) for delivery in fresh)
        told = [
            News(delivery.reference, way, delivery.url, delivery.headers, delivery.body.encode())
            for delivery in fresh
        ]
        self.overheard[account] += told
        self.events[way] += len(told)
        return told

    async def until(
        self, what: str, condition: Callable[[], Awaitable[Any]], patience_s: float | None = None
    ) -> Any:
        """Wait for *condition* and return what it came to."""
        until = time.monotonic() + (patience_s or self.patience_s)
        while not (value := await condition()):
            if time.monotonic() > until:
                raise TimeoutError(f"waited in vain for {what}")
            await asyncio.sleep(POLL_S)
        return value

    # --- what only the owner of the database can do ---------------------------------------------------------------------

    async def let_time_pass(self, invoice_id: str) -> None:
        """Move the end of an invoice into the past."""
        async with self.owner.acquire() as connection:
            await expire(connection, invoice_id)

    async def hide(self, reference: str) -> None:
        """The database as it is after a restored backup: this attempt is not known."""
        self.hidden.add(reference)
        await self._override(
            "UPDATE paytrust.payments SET reference = 'H' || reference WHERE reference = $1", reference
        )

    async def find_again(self, reference: str) -> None:
        await self._override(
            "UPDATE paytrust.payments SET reference = $1 WHERE reference = 'H' || $1", reference
        )

    async def hurry(self, *references: str) -> int:
        """
        Let the time of the next try come now, for failed tries of all webhooks or of those about
        *references*. Returns how many.
        """
        done: str = await self.owner.execute(
            "UPDATE paytrust.webhooks SET next_attempt_at = now() WHERE status = 'received' AND error_code IS NOT NULL"
            " AND next_attempt_at > now() AND gateway_account_id = ANY($1::uuid[]) AND (cardinality($2::text[]) = 0 OR reference = ANY($2))",
            [account.gateway_id for account in self.accounts],
            list(references),
        )
        return int(done.rpartition(" ")[2])

    async def leave_alone(self) -> None:
        """
        Take everything off the schedule: the gateways will be gone, and the service may have other guests.
        """
        ours = [account.gateway_id for account in self.accounts]
        await self.owner.execute(
            "UPDATE paytrust.payments SET next_check_at = NULL WHERE gateway_account_id = ANY($1::uuid[])",
            ours,
        )
        await self.owner.execute(
            "UPDATE paytrust.webhooks SET next_attempt_at = 'infinity' WHERE status <> 'applied' AND gateway_account_id = ANY($1::uuid[])",
            ours,
        )

    async def _override(self, sql: str, *args: object) -> None:
        async with self.owner.acquire() as connection:
            await override(connection, sql, *args)


@contextlib.asynccontextmanager
async def prepared(
    service: Service, made: list[Sandbox], seed: int, *, slack: float
) -> AsyncIterator[Fixture]:
    """Two tenants with an account of their own at both gateways, and accounts at both that they share."""
    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(
            asyncpg.create_pool(service.owner_url, min_size=1, max_size=4)
        )
        admin = await stack.enter_async_context(_client(service.urls[0], {"X-Admin-Key": service.admin_key}))
        sender = await stack.enter_async_context(Sender(service.urls))
        fixture = Fixture(sender, owner, admin, made, seed, PATIENCE_S * slack)
        names = ["first", "second"]
        tenants = []
        for number, name in enumerate(names):
            tenant_id = (await _made(admin, "/tenants", {"name": f"chaos {name}"}))["tenant_id"]
            key = (await _made(admin, "/api-keys", {"tenant_id": tenant_id}))["api_key"]
            http = await stack.enter_async_context(
                _client(service.urls[number % len(service.urls)], {"X-API-Key": key})
            )
            tenants.append(Tenant(tenant_id, http))
            fixture.tenants[name] = [tenants[-1]]
            fixture.accounts += [
                await _account(admin, made[number], name, gateway, tenant_id) for gateway in GATEWAYS
            ]
        fixture.tenants["shared"] = tenants
        fixture.accounts += [await _account(admin, made[-1], "shared", gateway, None) for gateway in GATEWAYS]
        try:
            yield fixture
        finally:
            await fixture.leave_alone()


def _client(base: str, headers: dict[str, str]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(base, headers=headers, timeout=aiohttp.ClientTimeout(total=60))


async def _account(
    admin: aiohttp.ClientSession, sandbox: Sandbox, owner: str, gateway: str, tenant_id: str | None
) -> Account:
    far: Remote = getattr(sandbox, gateway)
    body = account_body(gateway, far, tenant_id, name=f"chaos {owner}")
    account = Account(owner, gateway, far, await _made(admin, "/gateway-accounts", body))
    far.webhook_url = account.webhook_url
    return account


async def _made(admin: aiohttp.ClientSession, path: str, body: object) -> Any:
    async with admin.post(path, json=body) as answer:
        text = await answer.text()
        assert answer.status == 201, f"{path}: {answer.status} {text}"
        return json.loads(text)
