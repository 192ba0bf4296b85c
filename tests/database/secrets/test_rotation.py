"""
Keys are changed beside a service that goes on: whatever is interrupted, runs twice or comes in between,
nothing is lost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paytrust.accounts.model import UpdateAccount
from paytrust.idempotency.model import ADMINISTRATION, Answer
from paytrust.infra import migrations
from paytrust.secrets import jobs
from paytrust.secrets import service as secrets_service
from paytrust.secrets.model import EncryptionContext
from paytrust.tenants.model import CreateTenant

DONE = Answer(201, [], b"canary-answer-44d1")
ONE = b"f" * 32
STALE = "SELECT count(*) FROM gateway_accounts WHERE data_key_of(credentials) IS NULL"


async def keep_an_answer(services, tenant_id, key):
    await services.idempotency.complete(await services.idempotency.claim(tenant_id, key, ONE), DONE)


async def tenants(services, count):
    """Tenants with a data key each."""
    made = [(await services.tenants.create(CreateTenant("T"))).tenant_id for _ in range(count)]
    for tenant_id in made:
        await services.secrets.seal(b"x", EncryptionContext(tenant_id, "t", "f", "r"))
    return made


async def rotate(services, **options):
    return await jobs.rotate(services.secrets, services.sealed_stores, **options)


# --- the master key ---------------------------------------------------------------------------------------------------------


async def test_after_a_rotation_the_old_master_key_can_go(service_for, account_of, credentials_of, owner):
    before = await service_for("old")
    accounts = [await account_of(before), await account_of(before), await account_of(before, tenant_id=None)]
    was = await owner.fetch("SELECT id, credentials FROM gateway_accounts ORDER BY id")
    both = await service_for("new", "old")
    report = await rotate(both)
    assert (report.rewrapped, report.created, report.resealed, report.failed) == (
        3,
        0,
        {"credentials": 0, "kept answers": 0},
        [],
    )
    assert report.needed == {"new": {"data keys": 3}}
    assert await owner.fetch("SELECT id, credentials FROM gateway_accounts ORDER BY id") == was, (
        "what data keys seal stays as it is"
    )
    after = await service_for("new")
    await after.secrets.check()
    assert {(await credentials_of(after, account))["secret_key"] for account in accounts} == {
        "canary-xnd-secret-5f2c81"
    }
    again = await rotate(both)
    assert (again.rewrapped, again.created) == (0, 0)


async def test_a_process_goes_on_while_keys_are_rotated(service_for, account_of, credentials_of):
    running = await service_for("old", "new")  # knows the new one, as the instructions say
    account = await account_of(running)
    await rotate(await service_for("new", "old"))
    assert await credentials_of(running, account)
    tenant_id = (await running.tenants.create(CreateTenant("T"))).tenant_id
    await keep_an_answer(running, tenant_id, "k")
    second = await rotate(await service_for("new", "old"))
    assert second.rewrapped == 1, "the key that it made meanwhile"
    assert await running.idempotency.claim(tenant_id, "k", ONE) == DONE


async def test_what_the_settings_cannot_open_is_named_and_left_as_it_is(service_for, owner):
    (lost,) = await tenants(await service_for("lost"), 1)
    (kept,) = await tenants(await service_for("old"), 1)
    before = await owner.fetchval("SELECT wrapped FROM data_keys WHERE scope = $1", lost)
    report = await rotate(await service_for("new", "old"))
    assert report.rewrapped == 1
    (failed,) = report.failed
    assert str(lost) in failed
    assert "'lost'" in failed
    assert report.needed == {"new": {"data keys": 1}, "lost": {"data keys": 1}}
    assert await owner.fetchval("SELECT wrapped FROM data_keys WHERE scope = $1", lost) == before
    assert await owner.fetchval("SELECT master_key FROM data_keys WHERE scope = $1", kept) == "new"


async def test_a_wrong_key_of_the_right_name_changes_nothing(service_for, keys, owner):
    await tenants(await service_for("old"), 3)
    before = await owner.fetch("SELECT id, wrapped FROM data_keys ORDER BY id")
    wrong = "old:" + base64.b64encode(b"w" * 32).decode()
    services = await service_for(encryption_keys=f"{keys('new')},{wrong}")
    report = await rotate(services)
    assert (report.rewrapped, len(report.failed)) == (0, 3)
    assert await owner.fetch("SELECT id, wrapped FROM data_keys ORDER BY id") == before
    assert "is not the one of that name" in (await services.secrets.openable())["old"]


async def test_two_who_rotate_at_once_share_the_work(service_for, owner, monkeypatch):
    monkeypatch.setattr(secrets_service, "BATCH_SIZE", 3)
    await tenants(await service_for("old"), 20)
    reports = await asyncio.gather(*[rotate(await service_for("new", "old")) for _ in range(4)])
    assert sum(report.rewrapped for report in reports) == 20
    assert {tuple(report.failed) for report in reports} == {()}
    assert {row[0] for row in await owner.fetch("SELECT master_key FROM data_keys")} == {"new"}
    await (await service_for("new")).secrets.check()


async def test_two_who_give_new_data_keys_at_once_leave_one_current_key_each(
    service_for, account_of, credentials_of, owner, monkeypatch
):
    monkeypatch.setattr(secrets_service, "BATCH_SIZE", 3)
    services = await service_for("one")
    accounts = [await account_of(services) for _ in range(8)]
    both = [await service_for("one") for _ in range(3)]
    await asyncio.gather(*(rotate(one, new_data_keys=True, propagation_s=0) for one in both))
    assert await owner.fetchval("SELECT count(*) FROM data_keys WHERE retired_at IS NULL") == 8
    for account in accounts:
        assert await credentials_of(await service_for("one"), account)


# --- data keys --------------------------------------------------------------------------------------------------------------


async def test_new_data_keys_seal_everything_anew(service_for, account_of, credentials_of, owner):
    services = await service_for("one")
    account = await account_of(services)
    tenant_id = await owner.fetchval("SELECT tenant_id FROM gateway_accounts")
    await keep_an_answer(services, tenant_id, "k")
    await keep_an_answer(services, ADMINISTRATION, "k")
    report = await rotate(services, new_data_keys=True, propagation_s=0)
    assert (report.created, report.resealed, report.failed) == (2, {"credentials": 1, "kept answers": 2}, [])
    used = "SELECT count(*) FROM data_keys k WHERE retired_at IS NOT NULL AND id IN (SELECT data_key_of(credentials) FROM gateway_accounts"
    assert await owner.fetchval(used + " UNION SELECT data_key_of(answer) FROM idempotency_keys)") == 0
    fresh = await service_for("one")
    assert await credentials_of(fresh, account)
    assert (
        await fresh.idempotency.claim(tenant_id, "k", ONE)
        == await fresh.idempotency.claim(ADMINISTRATION, "k", ONE)
        == DONE
    )


async def test_what_was_sealed_with_a_retired_key_still_opens(service_for, owner):
    slow = await service_for("one")
    (tenant_id,) = await tenants(slow, 1)
    await rotate(await service_for("one"), new_data_keys=True, propagation_s=0)
    await keep_an_answer(slow, tenant_id, "late")  # it has not looked again yet
    assert await owner.fetchval(
        "SELECT retired_at IS NOT NULL FROM data_keys, idempotency_keys WHERE id = data_key_of(answer)"
    )
    assert await (await service_for("one")).idempotency.claim(tenant_id, "late", ONE) == DONE


async def test_credentials_given_meanwhile_are_not_overwritten(
    service_for, account_of, credentials_of, owner
):
    services = await service_for("one")
    account = await account_of(services)
    await owner.execute("UPDATE data_keys SET retired_at = now()")
    (stale,) = await services.accounts.sealed_before(None)
    given = {"secret_key": "newer", "callback_token": "newer"}
    await services.accounts.update(account, UpdateAccount(credentials=given))
    resealed = await services.secrets.seal(services.secrets.open(stale.sealed, stale.context), stale.context)
    assert not await services.accounts.replace_sealed(stale, resealed)
    assert await credentials_of(services, account) == given


async def test_a_damaged_value_is_named_and_the_rest_is_done(service_for, account_of, owner):
    services = await service_for("one")
    damaged, sound = await account_of(services), await account_of(services)
    was = dict(await owner.fetch("SELECT id, credentials FROM gateway_accounts"))
    await owner.execute(
        "UPDATE gateway_accounts SET credentials = substring(credentials FOR 30) WHERE id = $1", damaged
    )
    report = await rotate(services, new_data_keys=True, propagation_s=0)
    (failed,) = report.failed
    assert str(damaged) in failed
    assert report.resealed["credentials"] == 1
    now = dict(await owner.fetch("SELECT id, credentials FROM gateway_accounts"))
    assert now[sound] != was[sound]
    assert now[damaged] == was[damaged][:30]


# --- from the version before ------------------------------------------------------------------------------------------------


class Before:
    """
    What the version before migration 0015 does: everything under the first master key, and nothing else is
    understood.
    """

    def __init__(self, name, key, owner):
        self._name, self._key, self._owner = name, AESGCM(key), owner

    def seal(self, plain, context):
        nonce = os.urandom(12)
        return (
            b"\x01"
            + bytes([len(self._name)])
            + self._name.encode()
            + nonce
            + self._key.encrypt(nonce, plain, context.encode())
        )

    def open(self, sealed, context):
        end = 2 + sealed[1]
        assert (sealed[:1], sealed[2:end]) == (b"\x01", self._name.encode()), (
            "the version before does not understand this"
        )
        return self._key.decrypt(sealed[end : end + 12], sealed[end + 12 :], context.encode())

    async def give_credentials(self, account_id, credentials):
        sealed = self.seal(json.dumps(credentials).encode(), f"gateway_accounts/{account_id}/credentials")
        await self._owner.execute(
            "UPDATE gateway_accounts SET credentials = $2 WHERE id = $1", account_id, sealed
        )

    async def credentials(self, account_id):
        sealed = await self._owner.fetchval(
            "SELECT credentials FROM gateway_accounts WHERE id = $1", account_id
        )
        return json.loads(self.open(sealed, f"gateway_accounts/{account_id}/credentials"))


CREDENTIALS = {"secret_key": "canary-before-1", "callback_token": "canary-before-2"}


@pytest.fixture
async def before(owner, owner_url, service_for, account_of):
    """
    A database that was in use before migration 0015, now migrated: the version before, an account of a
    tenant, and a shared one.
    """
    old = Before("old", b"old".ljust(32, b"."), owner)
    services = await service_for("old")
    accounts = [await account_of(services), await account_of(services, tenant_id=None)]
    for account in accounts:
        await old.give_credentials(account, CREDENTIALS)
    await migrations.rollback(owner_url, to="0014_live_payments")
    await migrations.migrate(owner_url)
    return old, accounts


async def test_beside_the_version_before_everybody_reads_what_the_other_writes(
    before, service_for, credentials_of, owner
):
    old, accounts = before
    services = await service_for("old")
    for account in accounts:
        assert await credentials_of(services, account) == CREDENTIALS
        given = {"secret_key": "newer", "callback_token": "newer"}
        await services.accounts.update(account, UpdateAccount(credentials=given))
        assert await old.credentials(account) == given
        await old.give_credentials(account, CREDENTIALS)
    tenant_id = await owner.fetchval("SELECT id FROM tenants")
    for scope in (tenant_id, ADMINISTRATION):
        await keep_an_answer(services, scope, "k")
        sealed = await owner.fetchval("SELECT answer FROM idempotency_keys WHERE scope = $1", scope)
        assert b"canary-answer" in old.open(sealed, f"idempotency_keys/{scope}/k/answer")
    assert await owner.fetchval("SELECT count(wrapped) FROM data_keys") == 0


async def test_a_tenant_that_came_after_has_a_data_key_at_once(before, service_for, account_of, owner):
    made = await account_of(await service_for("old"))
    assert await owner.fetchval(
        "SELECT data_key_of(credentials) IS NOT NULL FROM gateway_accounts WHERE id = $1", made
    )


async def test_a_rotation_puts_data_keys_under_what_the_version_before_left(
    before, service_for, credentials_of, owner
):
    _, accounts = before
    services = await service_for("old")
    tenant_id = await owner.fetchval("SELECT id FROM tenants")
    await keep_an_answer(services, tenant_id, "k")
    assert (await jobs.needed(services.secrets, services.sealed_stores)) == {
        "old": {"credentials": 2, "kept answers": 1}
    }
    report = await rotate(await service_for("new", "old"), propagation_s=0)
    assert (report.created, report.resealed, report.failed) == (2, {"credentials": 2, "kept answers": 1}, [])
    assert report.needed == {"new": {"data keys": 2}}
    after = await service_for("new")
    for account in accounts:
        assert await credentials_of(after, account) == CREDENTIALS
    assert await after.idempotency.claim(tenant_id, "k", ONE) == DONE


async def test_a_rotation_waits_until_every_process_has_heard_and_leaves_nothing_behind(
    before, service_for, owner, monkeypatch
):
    monkeypatch.setattr(secrets_service, "FRESH_S", 0.3)
    _, (account, _) = before
    tenant_id = await owner.fetchval("SELECT id FROM tenants")
    busy, done = await service_for("old"), asyncio.Event()

    async def write():
        number = 0
        while not done.is_set():
            number += 1
            await keep_an_answer(busy, tenant_id, str(number))
            await busy.accounts.update(
                account, UpdateAccount(credentials={"secret_key": str(number), "callback_token": "c"})
            )
        return number

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.1)
    told = []
    report = await rotate(await service_for("old"), propagation_s=2, progress=told.append)
    done.set()
    written = await writing
    assert any("waiting" in line for line in told)
    assert (report.failed, report.needed) == ([], {"old": {"data keys": 2}})
    assert await owner.fetchval(STALE) == 0
    fresh = await service_for("old")
    for number in range(1, written + 1):
        assert await fresh.idempotency.claim(tenant_id, str(number), ONE) == DONE


async def test_killed_between_the_new_keys_and_the_rest_the_next_rotation_waits_and_goes_on(
    before, service_for, owner
):
    services = await service_for("old")
    while (await services.secrets.replace(made_before=None)).changed:
        pass  # and here it was killed
    told = []
    report = await rotate(services, propagation_s=1, progress=told.append)
    assert any("waiting" in line for line in told)
    assert (report.created, report.resealed["credentials"], report.needed) == (
        0,
        2,
        {"old": {"data keys": 2}},
    )


# --- the command ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def paytrust(settings, keys, tmp_path):
    """Start `paytrust ...` with these master keys, in a process of its own."""
    started = []

    def start(*args, master_keys):
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}
        environ |= {
            "PAYTRUST_DATABASE_URL": settings.database_url.get_secret_value(),
            "PAYTRUST_ADMIN_API_KEY": settings.admin_api_key.get_secret_value(),
            "PAYTRUST_KEY_PEPPER": settings.key_pepper.get_secret_value(),
            "PAYTRUST_ENCRYPTION_KEYS": keys(*master_keys),
        }
        command = [Path(sys.executable).with_name("paytrust"), *args]
        process = subprocess.Popen(
            command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


async def test_the_command_says_what_it_did_and_which_key_may_go(service_for, account_of, paytrust):
    await account_of(await service_for("old"))
    process = paytrust("secrets", "rotate", master_keys=("new", "old"))
    output, progress = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, output + progress
    assert output.splitlines() == [
        "data keys encrypted anew: 1",
        "new data keys: 0",
        "credentials encrypted anew: 0",
        "kept answers encrypted anew: 0",
        "master key new is needed for data keys (1)",
        "master key old is not needed any more: remove it from PAYTRUST_ENCRYPTION_KEYS when new comes first in the settings of every process",
    ]
    assert "data keys sealed anew: 1" in progress


async def test_the_command_fails_while_another_key_is_needed(service_for, paytrust):
    await tenants(await service_for("lost"), 1)
    process = paytrust("secrets", "rotate", master_keys=("new", "old"))
    output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "cannot be decrypted: data key" in output
    assert "master key lost is needed for data keys (1)" in output


async def test_killed_in_the_middle_the_command_goes_on_when_it_is_run_again(
    service_for, paytrust, owner, owner_url
):
    services = await service_for("old")
    made = sorted(await tenants(services, 150))
    holder = await asyncpg.connect(owner_url)
    await holder.execute("BEGIN")
    await holder.execute("SELECT FROM paytrust.data_keys WHERE scope = $1 FOR UPDATE", made[-1])
    process = paytrust("secrets", "rotate", master_keys=("new", "old"))
    line = await asyncio.to_thread(process.stderr.readline)
    assert line == "data keys sealed anew: 100\n"
    process.kill()
    await holder.execute("ROLLBACK")
    await holder.close()
    assert await owner.fetchval("SELECT count(*) FROM data_keys WHERE master_key = 'new'") == 100
    await (await service_for("new", "old")).secrets.check()  # a service that starts in between
    again = paytrust("secrets", "rotate", master_keys=("new", "old"))
    output, _ = await asyncio.to_thread(again.communicate)
    assert again.returncode == 0, output
    assert "data keys encrypted anew: 50" in output
    await (await service_for("new")).secrets.check()


async def test_the_doctor_says_which_master_keys_are_needed(service_for, before, paytrust):
    await tenants(await service_for("old"), 1)
    shown, _ = await asyncio.to_thread(paytrust("doctor", master_keys=("new", "old")).communicate)
    assert "the master key old is needed for data keys (1), credentials (2)" in shown
    assert "run `paytrust secrets rotate`: then only new is needed" in shown
    process = paytrust("doctor", master_keys=("new",))
    shown, _ = await asyncio.to_thread(process.communicate)
    assert "PAYTRUST_ENCRYPTION_KEYS lacks the master key old, which stored secrets need" in shown
    assert process.returncode == 1


async def test_the_doctor_says_which_master_key_may_go(service_for, paytrust):
    await tenants(await service_for("new"), 1)
    shown, _ = await asyncio.to_thread(paytrust("doctor", master_keys=("new", "old")).communicate)
    assert (
        "the master key old is not needed: remove it when new comes first in the settings of every process"
        in shown
    )


async def test_a_service_that_lacks_a_key_says_so_in_one_line(service_for, paytrust):
    await tenants(await service_for("old"), 1)
    process = paytrust("serve", "--port", "0", master_keys=("new",))
    _, said = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert (
        said.strip() == "Error: PAYTRUST_ENCRYPTION_KEYS lacks the master key old, which stored secrets need"
    )
