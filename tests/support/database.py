"""Looking into the service's database, and turning its clock, as its owner."""

from __future__ import annotations

import asyncio
import contextlib
import re

import asyncpg

WHOSE = {
    "tenants": "t.id = $1::uuid",
    "key_audit": "t.tenant_id = $1::uuid AND t.action NOT IN ('used', 'failed')",
    "key_peppers": "$1::uuid IS NULL",  # no tenant's
    "webhook_attempts": "t.webhook_id IN (SELECT w.id FROM webhooks w WHERE w.tenant_id = $1::uuid)",
}
"""
A tenant's rows, in tables that have no column `tenant_id` or `scope` to say so, or where that says too much.
"""


async def override(connection, sql, *args):
    """Write what triggers would refuse: only time does it otherwise."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(sql, *args)


async def expire(connection, invoice_id):
    """Move the end of an invoice into the past: the database's clock decides, and cannot be turned."""
    await override(
        connection,
        "UPDATE paytrust.invoices SET created_at = created_at - interval '2 days',"
        " expires_at = now() - interval '2 minutes', end_check_at = now() - interval '2 minutes' WHERE id = $1",
        invoice_id,
    )


async def check_now(connection, invoice_id):
    """The status poller's time has come to look at the invoice's attempts."""
    await connection.execute(
        "UPDATE paytrust.payments SET next_check_at = now() WHERE invoice_id = $1", invoice_id
    )


class Database:
    """
    The service's database, seen by its owner: row-level security hides nothing, and rows can be made older
    than they are.
    """

    def __init__(self, url):
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url, server_settings={"search_path": "paytrust"}))

    def rows(self, sql, *args):
        return [dict(row) for row in self._runner.run(self._connection.fetch(sql, *args))]

    def value(self, sql, *args):
        return self._runner.run(self._connection.fetchval(sql, *args))

    def execute(self, sql, *args):
        """The command's tag, such as "UPDATE 1"."""
        return self._runner.run(self._connection.execute(sql, *args))

    def override(self, sql, *args):
        """Write what triggers would refuse: only time does it otherwise."""
        self._runner.run(override(self._connection, sql, *args))

    def expire(self, invoice_id):
        """Move the end of an invoice into the past."""
        self._runner.run(expire(self._connection, invoice_id))

    def run(self, work):
        """What `await work(connection)` comes to."""
        return self._runner.run(work(self._connection))

    def count(self):
        """
        How many rows each table has, but for the audit, which is there to be written when something is
        refused.
        """
        tables = self.rows(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'paytrust' AND tablename <> 'key_audit' ORDER BY 1"
        )
        sums = [
            f"SELECT '{t['tablename']}' AS name, count(*) AS rows FROM paytrust.{t['tablename']}"
            for t in tables
        ]
        return {row["name"]: row["rows"] for row in self.rows(" UNION ALL ".join(sums))}

    def fingerprint(self, tenant_id):
        """
        One value for all that a tenant has: the same exactly when each of its rows in every table is.

        Uses and refusals in the audit are left out: they say who tried.
        """
        hashes = [
            f"SELECT {table!r}, md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM {table} t WHERE {whose}"
            for table, whose in self._belonging().items()
        ]
        return self.rows(" UNION ALL ".join(hashes), tenant_id)

    def ids_of(self, tenant_id):
        """Every id that a row of the tenant names, but for those of what all tenants share."""
        texts = [
            f"SELECT t::text AS written FROM {table} t WHERE {whose}"
            for table, whose in self._belonging().items()
        ]
        written = " ".join(row["written"] for row in self.rows(" UNION ALL ".join(texts), tenant_id))
        return set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", written)) - {
            "00000000-0000-0000-0000-000000000000"
        }

    def _belonging(self):
        """
        Every table, and the condition of a tenant's rows in it. A table that does not say whose its rows are
        needs a line in WHOSE.
        """
        tables = self.rows(
            "SELECT t.tablename AS name, max(c.column_name) AS owner FROM pg_tables t LEFT JOIN information_schema.columns c"
            " ON c.table_schema = 'paytrust' AND c.table_name = t.tablename AND c.column_name IN ('tenant_id', 'scope')"
            " WHERE t.schemaname = 'paytrust' GROUP BY 1 ORDER BY 1"
        )
        return {
            table["name"]: WHOSE.get(table["name"]) or f"t.{table['owner']} = $1::uuid"
            for table in tables
            if table["name"] != "migrations"
        }

    @contextlib.contextmanager
    def holding(self, lock):
        """Hold a lock that the service comes up against."""
        self._runner.run(self._connection.execute(f"BEGIN; {lock}"))
        try:
            yield
        finally:
            self._runner.run(self._connection.execute("ROLLBACK"))

    def close(self):
        self._runner.run(self._connection.close())
        self._runner.close()
