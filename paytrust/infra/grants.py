"""
The grants of the service's role: read from the migrations, and compared with a database.

A dump holds no roles, and a restore into a server without them loses every grant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import asyncpg
from asyncpg.pool import PoolConnectionProxy

APP_ROLE: Final = "paytrust_app"
_STATEMENT: Final = re.compile(
    rf"^(GRANT|REVOKE)\s+(.+?)\s+ON\s+(SCHEMA\s+)?(.+?)\s+(?:TO|FROM)\s+{APP_ROLE};", re.MULTILINE | re.DOTALL
)
_MISSING: Final = """
SELECT w.privilege, w.tablename, w.columnname
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS w(privilege, tablename, columnname, number)
JOIN pg_namespace n ON n.nspname = 'paytrust'
LEFT JOIN pg_roles r ON r.rolname = 'paytrust_app'
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.tablename
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.columnname AND a.attnum > 0
WHERE CASE WHEN r.oid IS NULL THEN true
           WHEN w.tablename = '' THEN NOT has_schema_privilege(r.oid, n.oid, w.privilege)
           WHEN c.oid IS NULL THEN false  -- of a migration that this database lacks, or dropped by a later one
           WHEN w.columnname = '' THEN NOT has_table_privilege(r.oid, c.oid, w.privilege)
           WHEN a.attnum IS NULL THEN false
           ELSE NOT has_column_privilege(r.oid, c.oid, a.attnum, w.privilege) END
ORDER BY w.number
"""


class Grant(NamedTuple):
    """One privilege on a table, on one of its columns, or (without a table) on the schema."""

    privilege: str
    table: str = ""
    column: str = ""

    def __str__(self) -> str:
        columns = f" ({self.column})" if self.column else ""
        return f"{self.privilege}{columns} ON {f'paytrust.{self.table}' if self.table else 'SCHEMA paytrust'}"


USE_SCHEMA: Final = Grant("USAGE")
"""Without it the role cannot read which migrations were applied."""


def expected(scripts: Iterable[str]) -> list[Grant]:
    """The grants that these scripts leave, run one after the other."""
    found: dict[Grant, None] = {}
    for script in scripts:
        for verb, privileges, schema, objects in _STATEMENT.findall(script):
            for each in _each(privileges, "" if schema else objects):
                if verb == "GRANT":
                    found[each] = None
                else:
                    found.pop(each, None)
    return list(found)


def _each(privileges: str, objects: str) -> Iterable[Grant]:
    for table in re.split(r",\s*", objects):
        for privilege, columns in re.findall(r"(\w+)(?:\s*\(([^)]*)\))?", privileges):
            for column in re.split(r",\s*", columns):
                yield Grant(privilege, table.removeprefix("paytrust."), column)


async def missing(
    connection: asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record],
    wanted: Iterable[Grant],
) -> list[Grant]:
    """Those that the role lacks. Reads only the catalogue, so that any role may ask."""
    columns = list(zip(*wanted, strict=True)) or [(), (), ()]
    return [Grant(*row) for row in await connection.fetch(_MISSING, *columns)]
