"""
SQL is written down, not put together: PostgreSQL has parsed and checked every statement before any value is
known.
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import asyncpg
import pytest
from piccolo.table import Table

ROOT = Path(__file__).parents[3]
FILES = [
    path
    for path in sorted((ROOT / "paytrust").glob("*/**/*.py"))
    if path.relative_to(ROOT).parts[1] not in {"embedded", "infra"} and "tx." in path.read_text()
]


STORES = sorted((ROOT / "paytrust").glob("*/store.py"))
READS = {
    "accounts": {"secrets"},
    "idempotency": {"secrets"},
    "invoices": {"books"},
    "payments": {"accounts", "invoices"},
    "reconciliation": {"books", "invoices", "payments"},
    "webhooks": {"accounts"},
}
"""Whose tables a store may read beside its own. A new one is a decision (docs/adr/0029)."""

_NAMED = re.compile(
    r"(?P<how>INSERT INTO|DELETE FROM|UPDATE|TRUNCATE|LOCK TABLE|FROM|JOIN|USING|,)\s+(?:ONLY\s+)?(?:paytrust\.)?(?P<table>\w+)\b(?!\()"
    r"|paytrust\.(?P<bare>\w+)\b(?!\()",
    re.IGNORECASE,
)


def owners():
    """Each table and the room whose it is."""
    return {
        value._meta.tablename: path.parent.name
        for path in (ROOT / "paytrust").glob("*/tables.py")
        for value in vars(importlib.import_module(f"paytrust.{path.parent.name}.tables")).values()
        if isinstance(value, type) and issubclass(value, Table) and value is not Table
    }


def named(path):
    """Each table that a file's own text names, with its line and how: fragments of other files are no text of its own."""
    tables = owners()
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            for found in _NAMED.finditer(node.value):
                table = found["table"] or found["bare"]
                if table in tables:
                    how = (found["how"] or "lock").upper()
                    yield node.lineno, table, tables[table], how in {"FROM", "JOIN", "USING", ","}


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


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.parent.name)
def test_a_store_names_the_tables_of_its_own_room(path):
    """What it reads of rooms below is declared above, and it writes nothing there."""
    room = path.parent.name
    for line, table, owner, reads in named(path):
        what = f"{path.relative_to(ROOT)}:{line}: {table} is a table of {owner}"
        assert owner == room or (reads and owner in READS.get(room, ())), what


def test_every_declared_read_is_used():
    read = {
        path.parent.name: {owner for _, _, owner, _ in named(path)} - {path.parent.name} for path in STORES
    }
    assert {room: owners for room, owners in read.items() if owners} == READS


def test_no_other_file_names_a_table():
    others = [path for path in (ROOT / "paytrust").rglob("*.py") if path not in STORES]
    assert len(others) > 100
    tables = "|".join(owners())
    for path in others:
        found = re.search(rf"\b(?:INTO|FROM|UPDATE|JOIN)\s+paytrust\.(?:{tables})\b", path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found[0]}"
