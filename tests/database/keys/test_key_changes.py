"""Hearing of changed keys: on which connection, and what is said when nothing is heard."""

from __future__ import annotations

import asyncio

import pytest

from paytrust.keys import jobs
from paytrust.keys.jobs import KeyChanges
from paytrust.keys.service import Keys
from paytrust.plugins.registry import Registry
from paytrust.services import Services


async def listeners(owner):
    """Who listens to this database, as soon as anybody does."""
    sql = "SELECT usename FROM pg_stat_activity WHERE application_name = 'paytrust keys' AND datname = current_database()"
    async with asyncio.timeout(15):
        while not (found := await owner.fetch(sql)):  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.05)
    return [row["usename"] for row in found]


async def test_one_connection_listens_past_the_pooler_if_there_is_a_url_for_it(
    owner, owner_url, settings, settings_for
):
    mine = await owner.fetchval("SELECT current_user")
    async with Services(settings, Registry()).running():
        assert await listeners(owner) == ["paytrust_tests"]
    async with Services(
        settings_for(owner_url, database_listen_url=owner_url, worker=False), Registry()
    ).running():
        assert await listeners(owner) == [mine]


async def test_a_database_that_swallows_what_is_told_is_named_in_the_log(owner, monkeypatch, logged):
    """
    A pooler that lends connections by transaction takes a LISTEN without an error; here nobody listens at
    all.
    """
    monkeypatch.setattr(jobs, "ECHO_S", 0.5)
    logs = logged(jobs)
    await KeyChanges("", Keys(None, pepper="p" * 32))._check(owner)
    assert ["does not deliver notifications" in line["event"] for line in logs] == [True]


async def test_a_database_that_is_away_is_said_once_and_asked_again(monkeypatch, logged):
    monkeypatch.setattr(jobs, "RETRY_S", 0.05)
    changes = KeyChanges("postgresql://nobody@127.0.0.1:1/none", Keys(None, pepper="p" * 32))
    logs = logged(jobs)
    changes.start()
    await asyncio.sleep(1)
    await changes.stop()
    assert [line["event"] for line in logs] == [
        "changes of API keys are not heard of; a revoked one lives for up to 30 s"
    ]


@pytest.mark.parametrize("word", ["", "junk", "'; DROP TABLE x", None, "0" * 8000])
async def test_whatever_is_told_on_the_channel_does_no_harm(word):
    keys = Keys(None, pepper="p" * 32)
    KeyChanges("", keys)._heard(None, 0, "paytrust_keys", word)
    assert keys._changes == 1
