"""Tables, migrations and database say the same; and the way back leads back."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import pkgutil
import re
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from piccolo.columns import Array
from piccolo.table import Table

import paytrust
from paytrust import development
from paytrust.errors import ConfigurationError
from paytrust.infra import migrations


def tables():
    for module in pkgutil.walk_packages(paytrust.__path__, "paytrust."):
        if module.name.endswith(".tables"):
            found = vars(importlib.import_module(module.name)).values()
            yield from (t for t in found if isinstance(t, type) and issubclass(t, Table) and t is not Table)


async def columns_of(connection, table):
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS type, attnotnull FROM pg_attribute"
        " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
        f"paytrust.{table._meta.tablename}",
    )
    return {row["attname"]: (row["type"], row["attnotnull"]) for row in rows}


def declared(table):
    names = {"timestamptz": "timestamp with time zone"}
    found = {}
    for column in table._meta.columns:
        kind = "text[]" if isinstance(column, Array) else column.column_type.lower().partition("(")[0]
        found[column._meta.db_column_name] = (names.get(kind, kind), not column._meta.null)
    return found


@pytest.mark.parametrize("table", list(tables()), ids=lambda table: table._meta.tablename)
async def test_a_table_class_matches_its_table(owner, table):
    assert declared(table) == await columns_of(owner, table)


async def test_every_table_has_a_class(owner):
    rows = await owner.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'paytrust' AND tablename <> 'migrations'"
    )
    assert {row["tablename"] for row in rows} == {table._meta.tablename for table in tables()}


SNAPSHOT = """
SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'paytrust'
UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'paytrust'::regnamespace
UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'paytrust'
UNION ALL SELECT 'function ' || oid::regprocedure || md5(pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = 'paytrust'::regnamespace
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'policy ' || tablename || policyname || coalesce(qual, '') || coalesce(with_check, '') || cmd FROM pg_policies WHERE schemaname = 'paytrust'
UNION ALL SELECT 'grant ' || table_name || privilege_type FROM information_schema.role_table_grants
    WHERE table_schema = 'paytrust' AND grantee = 'paytrust_app'
UNION ALL SELECT 'column grant ' || table_name || column_name || privilege_type FROM information_schema.role_column_grants
    WHERE table_schema = 'paytrust' AND grantee = 'paytrust_app'
ORDER BY 1
"""


async def snapshot(connection):
    return [row[0] for row in await connection.fetch(SNAPSHOT)]


@pytest.mark.parametrize("target", [None, *(m.name for m in migrations.available()[:-1])])
async def test_going_down_and_up_again_gives_the_same_schema(owner, owner_url, target):
    before = await snapshot(owner)
    undone = await migrations.rollback(owner_url, to=target)
    assert undone == [m.name for m in reversed(migrations.available()) if target is None or m.name > target]
    if target is None:
        assert await owner.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'paytrust'") == 1
        assert (
            await owner.fetchval("SELECT count(*) FROM pg_proc WHERE pronamespace = 'paytrust'::regnamespace")
            == 0
        )
    assert await migrations.migrate(owner_url) == list(reversed(undone))
    assert await snapshot(owner) == before


def test_numbers_are_used_once_and_a_gap_is_explained():
    names = [migration.name for migration in migrations.available()]
    numbers = [int(name[:4]) for name in names]
    assert len(set(numbers)) == len(numbers), names
    readme = (Path(__file__).parents[2] / "migrations" / "README.md").read_text()
    explained = {int(number) for number in re.findall(r"^\| (\d{4}) \| \w", readme, re.MULTILINE)}
    assert set(range(1, max(numbers) + 1)) - set(numbers) == explained


async def test_two_at_once_migrate_once(postgres):
    url = await asyncio.to_thread(development.create_database, postgres, "paytrust_race")
    try:
        applied = await asyncio.gather(*(migrations.migrate(url) for _ in range(4)))
        assert sorted(map(len, applied)) == [0, 0, 0, len(migrations.available())]
    finally:
        connection = await asyncpg.connect(postgres)
        await connection.execute("DROP DATABASE paytrust_race WITH (FORCE)")
        await connection.close()


async def test_a_migration_that_changed_after_it_was_applied_is_refused(owner, owner_url):
    await owner.execute("UPDATE paytrust.migrations SET checksum = 'other' WHERE name = '0002_tenants'")
    with pytest.raises(ConfigurationError, match="0002_tenants was changed"):
        await migrations.migrate(owner_url)


async def test_a_failing_migration_leaves_the_database_as_it_was(owner, owner_url, with_migrations):
    before = await snapshot(owner)
    broken = migrations.Migration("9999_broken", "CREATE TABLE paytrust.half (); SELECT 1/0", "")
    with with_migrations([*migrations.available(), broken]), pytest.raises(asyncpg.DivisionByZeroError):
        await migrations.migrate(owner_url)
    assert await snapshot(owner) == before
    assert await migrations.pending(owner) == []


@pytest.fixture
def with_migrations(tmp_path):
    """Run with other migration files: real ones, in a folder of this test."""

    @contextlib.contextmanager
    def use(wanted):
        for migration in wanted:
            (tmp_path / f"{migration.name}.up.sql").write_text(migration.up)
            (tmp_path / f"{migration.name}.down.sql").write_text(migration.down)
        original, migrations._folder = migrations._folder, lambda: tmp_path
        try:
            yield
        finally:
            migrations._folder = original

    return use


def test_a_rollback_to_an_unknown_migration_is_refused(owner_url):
    with pytest.raises(ConfigurationError, match="no migration 'nothing'"):
        asyncio.run(migrations.rollback(owner_url, to="nothing"))


async def test_the_services_login_is_made_once_and_owns_nothing(owner, owner_url):
    name = "paytrust_made_by_test"
    url = development.with_database(owner_url, "x", user=name, password='it\'s "quoted"')
    try:
        assert await migrations.ensure_service_login(owner_url, url)
        assert not await migrations.ensure_service_login(owner_url, url)
        role = await owner.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = $1", name
        )
        assert tuple(role) == (False, False, False, True)
    finally:
        await owner.execute(f"DROP ROLE {name}")


async def test_what_a_newer_version_applied_is_not_undone_by_this_one(owner, owner_url):
    await owner.execute("INSERT INTO paytrust.migrations (name, checksum) VALUES ('9999_newer', 'x')")
    with pytest.raises(ConfigurationError, match="9999_newer was applied by a newer version"):
        await migrations.rollback(owner_url, to=None)
    assert await migrations.pending(owner) == []


async def test_an_empty_database_lacks_every_migration(postgres):
    name = f"paytrust_empty_{uuid4().hex[:8]}"
    url = await asyncio.to_thread(development.create_database, postgres, name)
    connection = await asyncpg.connect(url)
    try:
        assert await migrations.pending(connection) == [
            migration.name for migration in migrations.available()
        ]
    finally:
        await connection.close()
        owner = await asyncpg.connect(postgres)
        await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await owner.close()


async def test_a_service_url_without_a_user_is_refused(owner_url):
    with pytest.raises(ConfigurationError, match="names no user"):
        await migrations.ensure_service_login(owner_url, "postgresql:///paytrust")


async def test_an_owner_url_that_leads_nowhere_is_said():
    with pytest.raises(ConfigurationError, match="cannot connect to PostgreSQL as its owner"):
        await migrations.migrate("postgresql://nobody@127.0.0.1:1/none")


async def test_every_key_of_a_tenants_table_starts_with_the_tenant(owner):
    """A unique violation on a key without the tenant would tell one tenant about another's rows."""
    rows = await owner.fetch(
        """
        SELECT i.indrelid::regclass::text AS table, c.relname AS index, a.attname AS first
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indisunique AND c.relnamespace = 'paytrust'::regnamespace
        """
    )
    # Random or secret-derived values, which nobody can collide with on purpose; and rows only the system
    # sees.
    apart = {
        "tenants_pkey",
        "api_keys_lookup_unique",
        "gateway_accounts_pkey",
        "gateway_accounts_token_unique",
        "webhooks_pkey",
    }
    apart |= {
        "webhooks_event_unique",
        "webhook_attempts_pkey",
        "payments_reference_unique",
        "key_audit_pkey",
        "key_peppers_pkey",
        "differences_pkey",
    }
    wrong = [
        row["index"]
        for row in rows
        if row["index"] != "migrations_pkey"
        and row["first"] not in {"tenant_id", "scope"}
        and row["index"] not in apart
    ]
    assert wrong == []
    assert apart <= {row["index"] for row in rows}


async def test_no_key_can_run_out(owner):
    """R27: a serial of 2^31 stopped a payment company for half an hour."""
    assert (
        await owner.fetchval(
            "SELECT count(*) FROM information_schema.sequences WHERE sequence_schema = 'paytrust'"
        )
        == 0
    )
    small = await owner.fetch(
        "SELECT table_name || '.' || column_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'paytrust' AND data_type IN ('integer')"
    )
    assert [row["name"] for row in small] == []
