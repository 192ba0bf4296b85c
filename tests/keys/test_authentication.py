from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import asyncpg
import pytest

from paytrust.access import Scope
from paytrust.db import Database
from paytrust.errors import NotFound, Unauthenticated
from paytrust.keys import service
from paytrust.keys.model import CreateKey
from paytrust.keys.service import Keys, MalformedKey
from paytrust.tenants.model import CreateTenant
from paytrust.tenants.service import Tenants


@pytest.fixture
async def db(settings):
    database = Database(settings.database_url.get_secret_value(), size=4)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def keys(db):
    return Keys(db, pepper="p" * 32)


@pytest.fixture
async def created(db, keys):
    tenant = await Tenants(db).create(CreateTenant("T"))
    return await keys.create(CreateKey(tenant.tenant_id, "test", [Scope.READ]))


async def test_a_key_says_whose_it_is_and_what_it_may_do(keys, created):
    principal = await keys.authenticate(created.api_key)
    assert (principal.tenant_id, principal.key_id, principal.scopes) == (created.tenant_id, created.key_id, {Scope.READ})


async def test_the_database_holds_nothing_from_which_a_key_could_be_used(created, owner_url):
    connection = await asyncpg.connect(owner_url)
    try:
        stored = repr(dict(await connection.fetchrow("SELECT * FROM paytrust.api_keys")))
    finally:
        await connection.close()
    assert created.api_key not in stored
    assert created.api_key[4:] not in stored
    assert created.prefix == created.api_key[:4]
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in stored


@pytest.mark.parametrize("key", ["x", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "é" * 64])
async def test_a_malformed_key_is_told_apart_before_any_look_up(keys, key):
    with pytest.raises(MalformedKey):
        await keys.authenticate(key)


@pytest.mark.parametrize("key", [None, "", "0" * 64])
async def test_a_missing_or_unknown_key_is_refused(keys, key):
    with pytest.raises(Unauthenticated):
        await keys.authenticate(key)


async def test_another_pepper_makes_every_key_unknown(db, created):
    with pytest.raises(Unauthenticated):
        await Keys(db, pepper="q" * 32).authenticate(created.api_key)


async def test_argon2_runs_once_however_many_ask_at_once(keys, created):
    hashes = 0
    verify = keys._verify

    async def counted(hash_, key):
        nonlocal hashes
        hashes += 1
        await verify(hash_, key)

    keys._verify = counted
    await keys.authenticate(created.api_key)
    await asyncio.gather(*(keys.authenticate(created.api_key) for _ in range(50)))
    assert hashes == 1


async def test_unknown_keys_never_reach_argon2(keys):
    started = time.perf_counter()
    for n in range(50):
        with pytest.raises(Unauthenticated):
            await keys.authenticate(f"{n:064x}")
    assert time.perf_counter() - started < 2, "50 Argon2 verifications would take longer"


async def test_a_revoked_key_is_dead_at_once_here_and_after_the_cache_elsewhere(db, keys, created):
    elsewhere = Keys(db, pepper="p" * 32)
    await elsewhere.authenticate(created.api_key)
    await keys.authenticate(created.api_key)
    await keys.revoke(created.key_id)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(created.api_key)
    assert await elsewhere.authenticate(created.api_key), "remembered for up to 30 s"
    for lookup, known in elsewhere._verified.items():
        elsewhere._verified[lookup] = service._Verified(known.principal, known.hash, 0.0)
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(created.api_key)


async def test_revoking_an_unknown_key_is_not_found(keys):
    with pytest.raises(NotFound):
        await keys.revoke(uuid4())


async def test_a_key_for_an_unknown_tenant_is_not_made(keys):
    with pytest.raises(NotFound):
        await keys.create(CreateKey(uuid4()))


async def test_the_cache_is_bounded(keys):
    for n in range(service.CACHE_SIZE + 10):
        keys._remember(n.to_bytes(32, "big"), service._Verified(None, "", 0.0))
    assert len(keys._verified) == service.CACHE_SIZE
