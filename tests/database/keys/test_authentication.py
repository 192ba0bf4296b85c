from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from paytrust.errors import NotFound, Unauthenticated, Unavailable
from paytrust.infra.db import Database
from paytrust.keys import service
from paytrust.keys.model import AuditFilters, CreateKey
from paytrust.keys.service import Keys, MalformedKey
from paytrust.keys.service.audit import Audit
from paytrust.security.access import Caller, Scope
from paytrust.tenants.model import CreateTenant
from paytrust.tenants.service import Tenants


@pytest.fixture
async def keys(db):
    return Keys(db, pepper="p" * 32)


@pytest.fixture
async def created(db, keys):
    tenant = await Tenants(db).create(CreateTenant("T"))
    return await keys.create(CreateKey(tenant.tenant_id, "test", [Scope.READ]))


async def test_a_key_says_whose_it_is_and_what_it_may_do(keys, created):
    principal = await keys.authenticate(created.api_key)
    assert (principal.tenant_id, principal.key_id, principal.scopes) == (
        created.tenant_id,
        created.key_id,
        {Scope.READ},
    )


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


@pytest.fixture
def hashes(keys):
    """Every hash that is verified from now on."""
    verified = []
    verify = keys._hasher.verify

    class Counting:
        def verify(self, hash_, key):
            verified.append(hash_)
            return verify(hash_, key)

    keys._hasher = Counting()
    return verified


async def test_argon2_runs_once_however_many_ask_at_once(keys, created, hashes):
    await asyncio.gather(*(keys.authenticate(created.api_key) for _ in range(3 * service.MAX_WAITING)))
    await keys.authenticate(created.api_key)
    assert len(hashes) == 1


async def test_a_request_that_is_given_up_does_not_cost_the_others_their_verification(keys, created, hashes):
    impatient, patient = (asyncio.create_task(keys.authenticate(created.api_key)) for _ in range(2))
    while not keys._waiting:  # noqa: ASYNC110 - nobody is told of it
        await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).key_id == created.key_id
    assert len(hashes) == 1


async def test_the_line_before_argon2_is_bounded_and_what_is_beyond_may_come_again(keys, created):
    """C3: whoever has many keys must not be able to stop the service with them."""
    made = [f"{n:064x}" for n in range(service.MAX_WAITING + 5)]
    hash_ = service.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(made[0])
    answers = await asyncio.gather(*(keys._verify(hash_, key) for key in made), return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 5
    assert answers[0] is True
    assert await keys.authenticate(created.api_key)


async def test_unknown_keys_never_reach_argon2(keys, hashes):
    for n in range(50):
        with pytest.raises(Unauthenticated):
            await keys.authenticate(f"{n:064x}")
    assert not hashes


async def test_a_crowd_of_strangers_costs_a_look_or_two(db, keys, created, transactions):
    begun = transactions(db)
    shown = [*(f"{number:064x}" for number in range(200)), created.api_key]
    answers = await asyncio.gather(*map(keys.authenticate, shown), return_exceptions=True)
    assert [type(answer) for answer in answers[:-1]] == [Unauthenticated] * 200
    assert answers[-1].key_id == created.key_id
    assert len(begun) <= 2


async def test_when_a_look_fails_all_who_waited_for_it_are_told_and_the_next_is_a_new_one(settings, created):
    away = Database(settings.database_url.get_secret_value(), size=4)
    keys = Keys(away, pepper="p" * 32)
    shown = [created.api_key, "a" * 64]
    answers = await asyncio.gather(*map(keys.authenticate, shown), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 2
    await away.open()
    try:
        assert (await keys.authenticate(created.api_key)).key_id == created.key_id
    finally:
        await away.close()


async def test_a_process_that_is_told_nothing_notices_a_revoked_key_after_30_seconds(db, keys, created):
    elsewhere = Keys(db, pepper="p" * 32)
    await elsewhere.authenticate(created.api_key)
    await keys.authenticate(created.api_key)
    await keys.revoke(created.key_id)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(created.api_key)
    [known] = elsewhere._verified.values()
    assert 0 < known.fresh_until_s - time.monotonic() <= 30
    elsewhere.revalidate_all()  # as if they were over
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(created.api_key)


async def test_a_key_in_doubt_is_read_again_and_not_hashed_again(keys, created, hashes):
    await keys.authenticate(created.api_key)
    keys.revalidate_all()
    await keys.authenticate(created.api_key)
    assert len(hashes) == 1


async def test_a_key_that_is_revoked_while_it_is_being_verified_is_not_let_in(db, keys, created):
    """What was read before the change must not be remembered after it."""
    elsewhere = Keys(db, pepper="p" * 32)
    async with elsewhere._hashing:
        waiting = asyncio.create_task(elsewhere.authenticate(created.api_key))
        while not elsewhere._waiting:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)
        await keys.revoke(created.key_id)
        elsewhere.invalidate(created.key_id)
    with pytest.raises(Unauthenticated):
        await waiting


async def test_a_key_dies_at_its_time_and_not_when_the_cache_is_over(db, keys, created, owner_url):
    ends = datetime.now(UTC) + timedelta(seconds=2)
    mortal = await keys.create(CreateKey(created.tenant_id, expires_at=ends))
    assert await keys.authenticate(mortal.api_key)
    [known] = [known for known in keys._verified.values() if known.principal.key_id == mortal.key_id]
    assert known.fresh_until_s - time.monotonic() <= 2
    await asyncio.sleep(2.1)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(mortal.api_key)
    with pytest.raises(service.KeyNotLive):
        await keys.rotate(mortal.key_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE paytrust.key_audit SET actor = 'nobody'",
        "DELETE FROM paytrust.key_audit",
        "TRUNCATE paytrust.key_audit",
    ],
)
async def test_not_even_the_owner_may_change_the_audit(created, db, owner_url, statement):
    connection = await asyncpg.connect(owner_url)
    try:
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(statement)
    finally:
        await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.transaction(system=True) as tx:
            await tx.execute(statement)


async def test_the_database_takes_no_network_that_is_none(created, db, owner_url):
    connection = await asyncpg.connect(owner_url)
    try:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("UPDATE paytrust.api_keys SET allowed_addresses = '{everywhere}'")
    finally:
        await connection.close()


async def test_uses_are_counted_in_memory_and_written_together(db, created):
    audit = Audit(db)
    keys = Keys(db, pepper="p" * 32, audit=audit)
    for _ in range(100):
        await keys.authenticate(created.api_key, Caller("anonymous", "192.0.2.1", "r1"))
    assert await audit.write() == 1
    await keys.authenticate(created.api_key, Caller("anonymous", "192.0.2.1", "r2"))
    assert await audit.write() == 0, "the hour is not over"
    await audit.finish()
    found = await keys.audit(AuditFilters(key_id=created.key_id), limit=10, before=None)
    assert [(entry.action, entry.times, entry.request_id) for entry in found] == [
        ("used", 1, "r2"),
        ("used", 100, "r1"),
        ("created", 1, None),
    ]


async def test_what_could_not_be_written_is_written_later(db, created, settings):
    away = Database(settings.database_url.get_secret_value(), size=1)
    audit = Audit(away)
    keys = Keys(db, pepper="p" * 32, audit=audit)
    await keys.authenticate(created.api_key)
    with pytest.raises(Unavailable):
        await audit.write()
    await audit.finish()
    await away.open()
    try:
        assert await audit.write() == 1
    finally:
        await away.close()


async def test_revoking_an_unknown_key_is_not_found(keys):
    with pytest.raises(NotFound):
        await keys.revoke(uuid4())


async def test_a_key_for_an_unknown_tenant_is_not_made(keys):
    with pytest.raises(NotFound):
        await keys.create(CreateKey(uuid4()))


async def test_the_cache_is_bounded(keys):
    for n in range(service.CACHE_SIZE + 10):
        keys._remember(n.to_bytes(32, "big"), service._Verified(None, (), "", 0.0))
    assert len(keys._verified) == service.CACHE_SIZE
