"""
Apply the SQL files of `migrations/`, up and down.

All of one run happens in one transaction under an advisory lock: two starters cannot collide, and a failure
leaves the database as it was. A file that changed after it was applied is an error (docs/adr/0015).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from paytrust.errors import ConfigurationError
from paytrust.infra import grants
from paytrust.infra.grants import APP_ROLE

ADVISORY_LOCK: Final = 0x7061_7974_7275
_MAKE_APP_ROLE: Final = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN CREATE ROLE {APP_ROLE} NOLOGIN; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was quicker
END $$
"""


class Migration(msgspec.Struct, frozen=True):
    """One step: its name ("0001_ground"), and the SQL that goes forth and back."""

    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the way up, in hex."""
        return hashlib.sha256(self.up.encode()).hexdigest()


def available() -> list[Migration]:
    """The migrations of this version, in order."""
    folder = _folder()
    ups = sorted(path.name.removesuffix(".up.sql") for path in folder.glob("*.up.sql"))
    return [
        Migration(name, (folder / f"{name}.up.sql").read_text(), (folder / f"{name}.down.sql").read_text())
        for name in ups
    ]


def _folder() -> Path:
    installed = Path(str(resources.files("paytrust"))) / "_migrations"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "migrations"


async def migrate(owner_dsn: str) -> list[str]:
    """Apply what is missing, and return the names applied."""
    async with _owner(owner_dsn) as connection, connection.transaction():
        missing = _missing(await _applied(connection))
        await connection.execute(_MAKE_APP_ROLE)  # a dump that was restored elsewhere came without it
        for migration in missing:
            await connection.execute(migration.up)
            await connection.execute(
                "INSERT INTO paytrust.migrations (name, checksum) VALUES ($1, $2)",
                migration.name,
                migration.checksum,
            )
        return [migration.name for migration in missing]


async def restore_grants(owner_dsn: str) -> list[str]:
    """Grant the service's role again the privileges that a restored dump came without, and return them."""
    async with _owner(owner_dsn) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        lacking = await missing_grants(connection)
        for grant in lacking:
            await connection.execute(f"GRANT {grant} TO {APP_ROLE}")
        return [str(grant) for grant in lacking]


async def missing_grants(
    connection: asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record],
) -> list[grants.Grant]:
    """Those that the migrations give to the service's role, and this database does not."""
    return await grants.missing(connection, grants.expected(migration.up for migration in available()))


async def rollback(owner_dsn: str, *, to: str | None) -> list[str]:
    """Undo every migration after *to* (None: all of them), newest first, and return the names undone."""
    known = {migration.name: migration for migration in available()}
    if to is not None and to not in known:
        raise ConfigurationError(f"there is no migration {to!r}; known are {', '.join(known)}")
    async with _owner(owner_dsn) as connection, connection.transaction():
        done = await _applied(connection)
        undone = [name for name in sorted(done, reverse=True) if to is None or name > to]
        for name in undone:
            if name not in known:
                raise ConfigurationError(
                    f"migration {name} was applied by a newer version; undo it with that one"
                )
            await connection.execute(known[name].down)
            await connection.execute("DELETE FROM paytrust.migrations WHERE name = $1", name)
        return undone


async def pending(
    connection: asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record],
) -> list[str]:
    """The names of migrations that this database lacks. Needs only the service's role."""
    if not await connection.fetchval("SELECT to_regclass('paytrust.migrations') IS NOT NULL"):
        return [migration.name for migration in available()]
    done = {
        row["name"]: row["checksum"]
        for row in await connection.fetch("SELECT name, checksum FROM paytrust.migrations")
    }
    return [migration.name for migration in _missing(done)]


async def ensure_service_login(owner_dsn: str, service_dsn: str) -> bool:
    """
    Let the role of *service_dsn* use the service's tables; create it with its password when missing. True if
    created.
    """
    parts = urlsplit(service_dsn)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user:
        raise ConfigurationError(
            "PAYTRUST_DATABASE_URL names no user: postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    async with _owner(owner_dsn) as connection:
        quoted = await connection.fetchval("SELECT quote_ident($1)", user)
        secret = await connection.fetchval("SELECT quote_literal($1)", password)
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
            exists = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", user)
            if not exists:
                await connection.execute(
                    f"CREATE ROLE {quoted} LOGIN NOSUPERUSER NOBYPASSRLS"
                    + (f" PASSWORD {secret}" if password else "")
                )
            if not await connection.fetchval("SELECT pg_has_role($1, $2, 'USAGE')", user, APP_ROLE):
                await connection.execute(f"GRANT {APP_ROLE} TO {quoted}")
        return not exists


def _missing(done: dict[str, str]) -> Sequence[Migration]:
    migrations = available()
    for migration in migrations:
        if done.get(migration.name, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"migration {migration.name} was changed after it had been applied to this database"
            )
    return [migration for migration in migrations if migration.name not in done]


async def _applied(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    """Lock, make the record table if needed, and return the checksum of each applied migration."""
    await connection.execute("SET LOCAL lock_timeout = '30s'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
    await connection.execute("CREATE SCHEMA IF NOT EXISTS paytrust")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS paytrust.migrations"
        " (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
        " GRANT SELECT ON paytrust.migrations TO PUBLIC"
    )
    return {
        row["name"]: row["checksum"]
        for row in await connection.fetch("SELECT name, checksum FROM paytrust.migrations")
    }


@contextlib.asynccontextmanager
async def _owner(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as exc:
        raise ConfigurationError(
            f"cannot connect to PostgreSQL as its owner: {type(exc).__name__}: {exc}"
        ) from exc
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as exc:
        raise ConfigurationError(
            f"missing privilege of the role of PAYTRUST_DATABASE_OWNER_URL: {exc}; grant it CREATE on the database and CREATEROLE,"
            f" or let an administrator create {APP_ROLE} and the service's login role and grant the one to the other"
        ) from exc
    finally:
        await connection.close()
