"""
SQL is written down, not put together: PostgreSQL has parsed and checked every statement before any value is
known.
"""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

ROOT = Path(__file__).parents[3]
FILES = [
    path
    for path in sorted((ROOT / "paytrust").glob("*/**/*.py"))
    if path.relative_to(ROOT).parts[1] not in {"embedded", "infra"} and "tx." in path.read_text()
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "paytrust")))
async def test_every_statement_is_a_constant_that_postgresql_accepts(path, owner_url, statements):
    """
    T127: the roadmap's compile-time check. No value is part of a statement, and every column it names is
    there.
    """
    connection = await asyncpg.connect(owner_url)
    try:
        for line, sql in statements(path):
            try:
                await connection.prepare(sql)
            except asyncpg.PostgresError as exc:
                pytest.fail(f"{path.relative_to(ROOT)}:{line}: {exc}")
    finally:
        await connection.close()


def test_the_statements_of_every_store_are_looked_at(statements):
    stores = list((ROOT / "paytrust").glob("*/store.py"))
    assert len(stores) >= 9
    assert all(any(statements(path)) for path in stores)
