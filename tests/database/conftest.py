"""What tests of a database of their own share: the service's connections to it, and its owner's."""

from __future__ import annotations

import asyncpg
import pytest

from paytrust.infra.db import Database


@pytest.fixture
async def db(settings):
    database = Database(settings.database_url.get_secret_value(), size=8)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def owner(owner_url):
    connection = await asyncpg.connect(owner_url)
    yield connection
    await connection.close()
