"""What is sealed opens in its own place only, and sealing asks the database nothing once the key is known."""

from __future__ import annotations

import asyncio
import base64
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytrust.errors import ConfigurationError, NotFound
from paytrust.idempotency.model import ADMINISTRATION, Answer
from paytrust.secrets import service as secrets_service
from paytrust.secrets.model import NO_TENANT, DataKey, EncryptionContext, Sealed
from paytrust.security.encryption import DecryptionFailed
from paytrust.tenants.model import CreateTenant

SCOPE, KEY_ID = uuid4(), uuid4()
PLACE = EncryptionContext(SCOPE, "gateway_accounts", "credentials", "1")
DONE = Answer(201, [], b"canary-answer-44d1")


@given(st.binary(max_size=2000), st.text(max_size=50))
def test_a_value_opens_in_its_row_and_in_no_other(plain, row):
    key = DataKey(SCOPE, KEY_ID, b"k" * 32)
    place = EncryptionContext(SCOPE, "t", "f", row)
    sealed = key.seal(plain, place)
    assert key.open(sealed, place) == plain
    assert len(plain) < 8 or plain not in sealed
    for other in (
        EncryptionContext(SCOPE, "t", "f", row + "x"),
        EncryptionContext(SCOPE, "t", "g", row),
        EncryptionContext(SCOPE, "u", "f", row),
    ):
        with pytest.raises(DecryptionFailed):
            key.open(sealed, other)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position, flip):
    key = DataKey(SCOPE, KEY_ID, b"k" * 32)
    sealed = bytearray(key.seal(b"secret", PLACE))
    sealed[position % len(sealed)] ^= flip
    with pytest.raises(DecryptionFailed):
        key.open(bytes(sealed), PLACE)


@pytest.mark.parametrize("length", [*range(46), 50])
def test_a_value_that_was_cut_off_does_not_open(length):
    key = DataKey(SCOPE, KEY_ID, b"k" * 32)
    whole = key.seal(b"secret", PLACE)
    assert len(whole) == 51
    with pytest.raises(DecryptionFailed):
        key.open(whole[:length], PLACE)


def test_a_key_belongs_to_one_tenant():
    sealed = DataKey(SCOPE, KEY_ID, b"k" * 32).seal(b"secret", PLACE)
    with pytest.raises(DecryptionFailed):
        DataKey(uuid4(), KEY_ID, b"k" * 32).open(sealed, PLACE)


def test_nothing_shows_a_data_key():
    key = DataKey(SCOPE, KEY_ID, b"canary-data-key-0123456789abcdef")
    assert "canary" not in repr(key) + str(vars(key))


async def test_every_tenant_has_a_data_key_of_its_own(service_for, account_of, credentials_of, owner):
    services = await service_for("one")
    first, second = await account_of(services), await account_of(services)
    shared = await account_of(services, tenant_id=None)
    assert {await owner.fetchval("SELECT master_key_of(credentials) FROM gateway_accounts")} == {None}
    assert (
        await owner.fetchval(
            "SELECT count(DISTINCT wrapped) FROM data_keys WHERE master_key = 'one' AND retired_at IS NULL"
        )
        == 3
    )
    named = "SELECT count(*) FROM gateway_accounts a JOIN data_keys k ON k.scope = a.scope AND k.id = data_key_of(a.credentials)"
    assert await owner.fetchval(named) == 3
    assert await owner.fetchval("SELECT scope FROM data_keys WHERE tenant_id IS NULL") == NO_TENANT
    for account_id in (first, second, shared):
        assert (await credentials_of(await service_for("one"), account_id))["secret_key"].startswith("canary")


async def test_answers_to_administrators_have_the_key_that_belongs_to_no_tenant(service_for, owner):
    services = await service_for("one")
    claim = await services.idempotency.claim(ADMINISTRATION, "k", b"f" * 32)
    await services.idempotency.complete(claim, DONE)
    assert await services.idempotency.claim(ADMINISTRATION, "k", b"f" * 32) == DONE
    named = "SELECT k.tenant_id IS NULL FROM idempotency_keys i JOIN data_keys k ON k.scope = i.scope AND k.id = data_key_of(i.answer)"
    assert await owner.fetchval(named) is True


async def test_sealing_asks_the_database_once_for_each_tenant(service_for, transactions, monkeypatch):
    monkeypatch.setattr(secrets_service, "FRESH_S", 3600)
    services = await service_for("one")
    tenant_id = (await services.tenants.create(CreateTenant("T"))).tenant_id
    begun = transactions(services.db)
    for number in range(20):
        claim = await services.idempotency.claim(tenant_id, str(number), b"f" * 32)
        await services.idempotency.complete(claim, DONE)
    assert len(begun) == 20 * 2 + 1


async def test_one_looks_for_a_newer_key_while_the_others_go_on(service_for, transactions):
    services = await service_for("one")
    tenant_id = (await services.tenants.create(CreateTenant("T"))).tenant_id
    place = EncryptionContext(tenant_id, "t", "f", "r")
    await services.secrets.seal(b"x", place)
    services.secrets._known[tenant_id].until_s = 0
    begun = transactions(services.db)
    await asyncio.gather(*(services.secrets.seal(b"x", place) for _ in range(50)))
    assert len(begun) == 1


async def test_what_is_kept_in_memory_is_bounded(service_for, monkeypatch):
    monkeypatch.setattr(secrets_service, "KEYS_KEPT", 3)
    services = await service_for("one")
    for _ in range(5):
        tenant_id = (await services.tenants.create(CreateTenant("T"))).tenant_id
        await services.secrets.seal(b"x", EncryptionContext(tenant_id, "t", "f", "r"))
    assert len(services.secrets._known) == 3


async def test_of_many_processes_that_need_a_first_key_one_makes_it(service_for, owner):
    processes = [await service_for("one") for _ in range(6)]
    tenant_id = (await processes[0].tenants.create(CreateTenant("T"))).tenant_id
    place = EncryptionContext(tenant_id, "t", "f", "r")
    sealed = await asyncio.gather(
        *(services.secrets.seal(b"x", place) for services in processes for _ in range(3))
    )
    assert len({value[1:17] for value in sealed}) == 1
    (wrapped,) = [row["wrapped"] for row in await owner.fetch("SELECT wrapped FROM data_keys")]
    assert {processes[0].secrets.open(Sealed(value, wrapped), place) for value in sealed} == {b"x"}


async def test_a_tenant_that_is_none_has_no_key(service_for, account_of, owner):
    services = await service_for("one")
    with pytest.raises(NotFound, match="there is no tenant"):
        await account_of(services, tenant_id=uuid4())
    assert await owner.fetchval("SELECT count(*) FROM data_keys") == 0


MOVES = {
    "another tenant's value": "UPDATE gateway_accounts b SET credentials = a.credentials FROM gateway_accounts a WHERE a.id = $1 AND b.id = $2",
    "another tenant's value with its key": """
        WITH retired AS (UPDATE data_keys SET retired_at = now() WHERE scope = (SELECT scope FROM gateway_accounts WHERE id = $2)),
             moved AS (INSERT INTO data_keys (tenant_id, id, wrapped, retired_at)
                       SELECT b.tenant_id, k.id, k.wrapped, now() FROM gateway_accounts a, gateway_accounts b, data_keys k
                       WHERE a.id = $1 AND b.id = $2 AND k.scope = a.scope)
        UPDATE gateway_accounts b SET credentials = a.credentials FROM gateway_accounts a WHERE a.id = $1 AND b.id = $2""",
    "another tenant's key under the same id": """
        UPDATE data_keys k SET wrapped = (SELECT wrapped FROM data_keys o JOIN gateway_accounts a ON a.scope = o.scope WHERE a.id = $1)
        FROM gateway_accounts b WHERE b.id = $2 AND k.scope = b.scope""",
    "a value cut off": "UPDATE gateway_accounts SET credentials = substring(credentials FOR 40) WHERE id = $2 AND $1::uuid IS NOT NULL",
    "a value cut to its header": "UPDATE gateway_accounts SET credentials = substring(credentials FOR 17) WHERE id = $2 AND $1::uuid IS NOT NULL",
    "a value cut to one byte": "UPDATE gateway_accounts SET credentials = substring(credentials FOR 1) WHERE id = $2 AND $1::uuid IS NOT NULL",
    "nothing": "UPDATE gateway_accounts SET credentials = '' WHERE id = $2 AND $1::uuid IS NOT NULL",
    "a version nobody knows": r"UPDATE gateway_accounts SET credentials = '\x03' || credentials WHERE id = $2 AND $1::uuid IS NOT NULL",
}


@pytest.mark.parametrize("move", MOVES)
async def test_what_was_moved_or_cut_does_not_open(service_for, account_of, credentials_of, owner, move):
    services = await service_for("one")
    a, b = await account_of(services), await account_of(services)
    await owner.execute(MOVES[move], a, b)
    with pytest.raises(DecryptionFailed) as failed:
        await credentials_of(services, b)
    assert "canary" not in str(failed.value)
    assert (await credentials_of(services, a))["secret_key"].startswith("canary")


async def test_an_answer_of_one_tenant_does_not_open_for_another(service_for, owner):
    services = await service_for("one")
    tenants = [(await services.tenants.create(CreateTenant(name))).tenant_id for name in "AB"]
    for tenant_id in tenants:
        await services.idempotency.complete(await services.idempotency.claim(tenant_id, "k", b"f" * 32), DONE)
    await owner.execute(
        "UPDATE idempotency_keys SET answer = (SELECT answer FROM idempotency_keys WHERE scope = $1) WHERE scope = $2",
        *tenants,
    )
    with pytest.raises(DecryptionFailed):
        await services.idempotency.claim(tenants[1], "k", b"f" * 32)


async def test_a_service_without_a_master_key_that_is_needed_does_not_start(service_for, account_of):
    await account_of(await service_for("one"))
    with pytest.raises(ConfigurationError, match="lacks the master key one"):
        async with (await service_for("two", connected=False)).running():
            pass
    async with (await service_for("two", "one", connected=False)).running():
        pass


async def test_a_service_with_another_key_of_the_same_name_does_not_start(service_for, account_of):
    await account_of(await service_for("one"))
    wrong = await service_for(encryption_keys="one:" + base64.b64encode(b"w" * 32).decode(), connected=False)
    with pytest.raises(ConfigurationError, match="master key one in PAYTRUST_ENCRYPTION_KEYS is not the one"):
        async with wrong.running():
            pass
