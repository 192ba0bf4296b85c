"""Two tries of one request: the later one wins, and the earlier one does no harm when it wakes up."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from paytrust.errors import ConfigurationError, Unauthenticated
from paytrust.idempotency.model import ADMINISTRATION, Answer, Claim, KeyReused, RequestInProgress
from paytrust.idempotency.service import Idempotency
from paytrust.keys.model import CreateKey
from paytrust.keys.service import KeyNotLive, Keys
from paytrust.secrets.service import Secrets
from paytrust.security.encryption import MasterKeys
from paytrust.tenants.model import CreateTenant
from paytrust.tenants.service import Tenants

ONE, OTHER = b"1" * 32, b"2" * 32
DONE = Answer(201, [(b"content-type", b"application/json")], b'{"done": true}')


@pytest.fixture
def idempotency(db, settings):
    return Idempotency(db, Secrets(db, MasterKeys(settings.master_keys())))


@pytest.fixture(params=["administration", "a tenant"])
async def scope(request, db):
    return (
        ADMINISTRATION
        if request.param == "administration"
        else (await Tenants(db).create(CreateTenant("T"))).tenant_id
    )


async def lose_the_lease(owner):
    """As if the process that held it had died a minute ago."""
    await owner.execute("UPDATE paytrust.idempotency_keys SET lease_until = now() - interval '1 second'")


async def test_a_key_is_claimed_once(idempotency, scope):
    claimed = await idempotency.claim(scope, "k", ONE)
    assert (claimed.scope, claimed.key, claimed.attempt) == (scope, "k", 1)
    with pytest.raises(RequestInProgress):
        await idempotency.claim(scope, "k", ONE)
    with pytest.raises(KeyReused):
        await idempotency.claim(scope, "k", OTHER)


async def test_of_many_at_once_one_gets_the_claim(idempotency, scope):
    got = await asyncio.gather(
        *(idempotency.claim(scope, "k", ONE) for _ in range(16)), return_exceptions=True
    )
    assert sum(isinstance(one, Claim) for one in got) == 1
    assert {type(one) for one in got} == {Claim, RequestInProgress}


async def test_of_many_at_once_one_takes_over(idempotency, scope, owner):
    first = await idempotency.claim(scope, "k", ONE)
    await lose_the_lease(owner)
    got = await asyncio.gather(
        *(idempotency.claim(scope, "k", ONE) for _ in range(16)), return_exceptions=True
    )
    [taken] = [one for one in got if isinstance(one, Claim)]
    assert (taken.object_id, taken.attempt) == (first.object_id, 2)


async def test_a_lost_lease_is_taken_over_by_the_same_request_only(idempotency, scope, owner):
    await idempotency.claim(scope, "k", ONE)
    await lose_the_lease(owner)
    with pytest.raises(KeyReused):
        await idempotency.claim(scope, "k", OTHER)


async def test_an_answer_is_kept_as_it_is(idempotency, scope, owner):
    await idempotency.complete(await idempotency.claim(scope, "k", ONE), DONE)
    await lose_the_lease(owner)
    assert await idempotency.claim(scope, "k", ONE) == DONE
    with pytest.raises(KeyReused):
        await idempotency.claim(scope, "k", OTHER)


async def test_the_answer_of_a_try_that_was_overtaken_is_neither_kept_nor_sent(idempotency, scope, owner):
    early = await idempotency.claim(scope, "k", ONE)
    await lose_the_lease(owner)
    late = await idempotency.claim(scope, "k", ONE)
    with pytest.raises(RequestInProgress):
        await idempotency.complete(early, Answer(201, [], b"early"))
    await idempotency.complete(late, DONE)
    with pytest.raises(RequestInProgress):
        await idempotency.complete(early, Answer(201, [], b"early"))
    for failed in (400, 503):
        await idempotency.complete(early, Answer(failed, [], b""))
    assert await idempotency.claim(scope, "k", ONE) == DONE


async def test_a_try_that_was_overtaken_cannot_replace_the_secret_that_was_handed_out(idempotency, db, owner):
    keys = Keys(db, pepper="p" * 32)
    wanted = CreateKey((await Tenants(db).create(CreateTenant("T"))).tenant_id)
    early = await idempotency.claim(ADMINISTRATION, "k", ONE)
    await lose_the_lease(owner)
    late = await idempotency.claim(ADMINISTRATION, "k", ONE)
    made = await keys.create(wanted, claim=late)
    with pytest.raises(RequestInProgress):
        await keys.create(wanted, claim=early)
    assert (await keys.authenticate(made.api_key)).key_id == made.key_id == late.object_id


async def test_a_key_that_nobody_saw_gets_a_new_secret_and_stays_revoked(idempotency, db, owner):
    keys = Keys(db, pepper="p" * 32)
    wanted = CreateKey((await Tenants(db).create(CreateTenant("T"))).tenant_id)
    lost = await keys.create(wanted, claim=await idempotency.claim(ADMINISTRATION, "k", ONE))
    await lose_the_lease(owner)
    made = await keys.create(wanted, claim=await idempotency.claim(ADMINISTRATION, "k", ONE))
    assert made.key_id == lost.key_id
    assert made.created_at == lost.created_at
    assert made.prefix == made.api_key[:4]
    assert (await keys.authenticate(made.api_key)).key_id == made.key_id
    with pytest.raises(Unauthenticated):
        await keys.authenticate(lost.api_key)
    await keys.revoke(made.key_id)
    await lose_the_lease(owner)
    with pytest.raises(KeyNotLive):
        await keys.create(wanted, claim=await idempotency.claim(ADMINISTRATION, "k", ONE))
    entries = await owner.fetch(
        "SELECT action FROM paytrust.key_audit WHERE key_id = $1 AND action <> 'used' ORDER BY id",
        made.key_id,
    )
    assert [entry["action"] for entry in entries] == ["created", "rotated", "revoked"]


async def test_a_day_later_the_key_is_gone_unless_somebody_is_at_it(idempotency, scope, owner):
    for key in ("old-and-done", "old-and-given-up", "old-and-at-work", "young"):
        claimed = await idempotency.claim(scope, key, ONE)
        if key == "old-and-done":
            await idempotency.complete(claimed, DONE)
    await owner.execute(
        "UPDATE paytrust.idempotency_keys SET created_at = now() - interval '24 hours 1 second' WHERE key LIKE 'old%'"
    )
    await owner.execute(
        "UPDATE paytrust.idempotency_keys SET created_at = now() - interval '23 hours 59 minutes' WHERE key = 'young'"
    )
    await owner.execute(
        "UPDATE paytrust.idempotency_keys SET lease_until = now() WHERE key IN ('old-and-given-up', 'young')"
    )
    assert await idempotency.remove_old() == 2
    assert {row["key"] for row in await owner.fetch("SELECT key FROM paytrust.idempotency_keys")} == {
        "old-and-at-work",
        "young",
    }
    assert isinstance(await idempotency.claim(scope, "old-and-done", OTHER), Claim)


async def test_old_keys_go_in_batches_that_two_processes_share(idempotency, db, owner):
    await owner.execute(
        "INSERT INTO paytrust.idempotency_keys (scope, key, fingerprint, object_id, lease_until, created_at)"
        " SELECT gen_random_uuid(), n, decode(repeat('00', 32), 'hex'), gen_random_uuid(), now(), now() - interval '2 days'"
        " FROM generate_series(1, 25) n"
    )
    assert sum(await asyncio.gather(*(idempotency.remove_old(at_once=10) for _ in range(2)))) == 20
    assert [await idempotency.remove_old(at_once=10) for _ in range(2)] == [5, 0]


async def test_an_answer_moved_to_another_key_does_not_open(idempotency, scope, owner):
    for key in ("a", "b"):
        await idempotency.complete(await idempotency.claim(scope, key, ONE), DONE)
    await owner.execute(
        "UPDATE paytrust.idempotency_keys SET answer = (SELECT answer FROM paytrust.idempotency_keys WHERE key = 'a') WHERE key = 'b'"
    )
    assert await idempotency.claim(scope, "a", ONE) == DONE
    with pytest.raises(ConfigurationError):
        await idempotency.claim(scope, "b", ONE)


async def test_a_claim_is_of_its_scope(idempotency, scope):
    mine, theirs = await idempotency.claim(scope, "k", ONE), await idempotency.claim(uuid4(), "k", OTHER)
    assert mine.object_id != theirs.object_id
