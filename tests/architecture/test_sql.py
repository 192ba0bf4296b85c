"""SQL is written down, not put together: PostgreSQL has parsed and checked every statement before any value is known."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import asyncpg
import pytest

ROOT = Path(__file__).parents[2]
RUN = {"fetch", "fetchrow", "fetchval", "execute", "executemany"}


def calls(path):
    """Every call of the file that runs SQL."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            place = ast.unparse(node.func.value)
            if node.func.attr in RUN and place in {"tx", "tx.connection", "connection"}:
                yield node


FILES = [path for path in sorted((ROOT / "paytrust").glob("*/*.py")) if path.parent.name != "embedded" and any(calls(path))]


def statements(path):
    """The SQL of each call, evaluated with nothing but the constants of its module: anything else raises NameError."""
    module = importlib.import_module(f"paytrust.{path.parent.name}.{path.stem}")
    constants = {"__builtins__": {}} | {name: value for name, value in vars(module).items() if isinstance(value, str)}
    for call in calls(path):
        yield call.lineno, eval(compile(ast.Expression(call.args[0]), path.name, "eval"), constants)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_every_statement_is_a_constant_that_postgresql_accepts(path, owner_url):
    """T127: the roadmap's compile-time check. No value is part of a statement, and every column it names is there."""
    connection = await asyncpg.connect(owner_url)
    try:
        for line, sql in statements(path):
            try:
                await connection.prepare(sql)
            except asyncpg.PostgresError as exc:
                pytest.fail(f"{path.relative_to(ROOT)}:{line}: {exc}")
    finally:
        await connection.close()


def test_the_statements_of_every_store_are_looked_at():
    assert {path.parent.name for path in FILES if path.name == "store.py"} == {
        path.parent.name for path in (ROOT / "paytrust").glob("*/store.py")
    }
