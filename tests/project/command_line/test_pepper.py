"""A process with another key pepper than the API keys were made with notices, before every key is unknown."""

from __future__ import annotations

import asyncio

import asyncpg
import httpx
import pytest

from paytrust import development
from paytrust.errors import ConfigurationError
from paytrust.infra import migrations
from paytrust.infra.db import Database
from paytrust.keys.service.pepper import Pepper

OTHER = {"PAYTRUST_KEY_PEPPER": "another-pepper-" + "q" * 40}
WRONG = "PAYTRUST_KEY_PEPPER is not the one that the API keys of this database are made with"


@pytest.fixture
def key(run):
    tenant_id = run("tenants", "create", "T")[1].strip()
    return run("keys", "create", tenant_id)[1].strip()


def test_serve_refuses_to_start_with_another_pepper(run_process, key):
    code, text = run_process("serve", changes=OTHER)
    assert code == 1
    assert f"Error: {WRONG}" in text
    assert "Traceback" not in text


def test_doctor_says_whether_the_pepper_fits(run, key):
    assert "the API keys are made with PAYTRUST_KEY_PEPPER" in run("doctor")[1]
    code, text = run("doctor", changes=OTHER)
    assert (code, f"no   {WRONG}" in text) == (1, True)


def test_doctor_adopts_nothing(run):
    for _ in range(2):
        assert "no process has started yet" in run("doctor", changes=OTHER)[1]


def test_no_key_is_made_with_another_pepper(run, key):
    tenant_id = run("tenants", "create", "T")[1].strip()
    (listed,) = run("keys", "list", "--json")[1].splitlines()
    key_id = listed.partition('"key_id":"')[2][:36]
    for command in (("create", tenant_id), ("rotate", key_id)):
        code, text = run("keys", *command, changes=OTHER)
        assert (code, WRONG in text) == (1, True)
    assert run("keys", "list", "--json")[1] == listed + "\n"


def test_a_lost_pepper_is_replaced_by_a_command_that_asks(run, key, settings):
    code, text = run("keys", "accept-pepper", changes=OTHER, given="n\n")
    assert (code, "open nothing any more" in text) == (1, True)
    assert WRONG in run("doctor", changes=OTHER)[1]
    assert run("keys", "accept-pepper", "--yes", changes=OTHER) == (0, "accepted\n")
    assert WRONG in run("doctor")[1], "the old one is another now"
    tenant_id = run("tenants", "create", "T")[1].strip()
    fresh = run("keys", "create", tenant_id, changes=OTHER)[1].strip()
    pepper = type(settings.key_pepper)(OTHER["PAYTRUST_KEY_PEPPER"])
    with development.serving(settings.model_copy(update={"key_pepper": pepper})) as url:
        statuses = [
            httpx.get(f"{url}/invoices", headers={"X-API-Key": each}).status_code for each in (fresh, key)
        ]
    assert statuses == [200, 401]


def test_an_installation_of_before_adopts_its_pepper(run, key, settings, owner_url):
    asyncio.run(migrations.rollback(owner_url, to="0015_data_keys"))
    asyncio.run(migrations.migrate(owner_url))
    assert "no process has started yet" in run("doctor")[1]
    with development.serving(settings) as url:
        assert httpx.get(f"{url}/invoices", headers={"X-API-Key": key}).status_code == 200
    assert WRONG in run("doctor", changes=OTHER)[1]


async def test_of_many_that_start_at_once_one_decides(settings, owner_url):
    async def start(number):
        database = Database(settings.database_url.get_secret_value(), size=1)
        await database.open()
        try:
            await Pepper(database, f"pepper {number % 2}").check()
        except ConfigurationError:
            return None
        else:
            return number % 2
        finally:
            await database.close()

    started = await asyncio.gather(*(start(number) for number in range(8)))
    assert sorted(started, key=str) in ([0] * 4 + [None] * 4, [1] * 4 + [None] * 4)
    connection = await asyncpg.connect(owner_url)
    assert await connection.fetchval("SELECT count(*) FROM paytrust.key_peppers") == 1
    await connection.close()
