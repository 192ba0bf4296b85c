from __future__ import annotations

import base64

import pytest

from paytrust.accounts.model import CreateAccount, NewFee
from paytrust.plugins.registry import Registry
from paytrust.services import Services
from paytrust.tenants.model import CreateTenant

CREDENTIALS = {"secret_key": "canary-xnd-secret-5f2c81", "callback_token": "canary-callback-93ab07"}


def _keys(*names):
    return ",".join(f"{name}:{base64.b64encode(name.encode().ljust(32, b'.')).decode()}" for name in names)


@pytest.fixture
def keys():
    """The setting that holds these master keys, the first one first. A name always means the same key."""
    return _keys


@pytest.fixture
async def service_for(settings_for, owner_url):
    """Make the services of a process that has these master keys, the first one first."""
    opened = []

    async def make(*names, encryption_keys=None, connected=True):
        settings = settings_for(owner_url, encryption_keys=encryption_keys or _keys(*names))
        services = Services(settings, Registry())
        if connected:
            await services.db.open()
            opened.append(services)
        return services

    yield make
    for services in opened:
        await services.accounts.close()
        await services.db.close()


@pytest.fixture
async def owner(owner):
    await owner.execute("SET search_path = paytrust")
    return owner


@pytest.fixture
def account_of(canary):
    """Make a tenant with a gateway account; or, with *tenant_id* None, an account that all share: its id."""
    for name, value in CREDENTIALS.items():
        canary.learn(name, value)

    async def make(services, **changes):
        tenant_id = (
            changes["tenant_id"]
            if "tenant_id" in changes
            else (await services.tenants.create(CreateTenant("T"))).tenant_id
        )
        data = CreateAccount(
            gateway="xendit",
            name="x",
            credentials=CREDENTIALS,
            currencies={"IDR": NewFee()},
            tenant_id=tenant_id,
        )
        return (await services.accounts.create(data)).gateway_id

    return make


@pytest.fixture
def credentials_of():
    """What a gateway account of a process's services works with."""

    async def read(services: Services, account_id):
        from paytrust.accounts import service as accounts

        async with services.db.transaction(system=True, readonly=True) as tx:
            account = await accounts.find(tx, account_id)
        made = services.accounts.gateway(account).credentials
        return {"secret_key": made.secret_key, "callback_token": made.callback_token}

    return read
