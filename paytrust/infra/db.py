"""
Our transaction, on asyncpg's pool and Piccolo's tables.

One round trip opens it: BEGIN with the tenant and the time-outs, all local to the transaction, so nothing has
to be reset and a pooler in front is welcome. The end is shielded from cancellation, a connection in doubt is
closed rather than reused, and nesting is refused. The stock transaction manager of Piccolo does none of this
(docs/adr/0004).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Literal, NoReturn, TypeVar
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from piccolo.columns import Column
from piccolo.engine.postgres import PostgresEngine
from piccolo.query import Select
from piccolo.querystring import QueryString

from paytrust.errors import Busy, ConfigurationError, Unavailable
from paytrust.infra import logs, migrations
from paytrust.infra.grants import USE_SCHEMA
from paytrust.infra.slots import Slots

T = TypeVar("T")
Record = asyncpg.Record
Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

ACQUIRE_TIMEOUT_S: Final = 2.0
BEGIN_TIMEOUT_S: Final = 2.0
STATEMENT_TIMEOUT_MS: Final = 15_000
ANSWER_MARGIN_S: Final = 1.0
"""
How much longer than the server's own time-out a statement may take as we see it. A server that is frozen, or
behind a broken network, ends nothing itself.
"""
END_TIMEOUT_S: Final = 5.0
PING_TIMEOUT_S: Final = 1.7
"""Whoever asks whether we are ready does not wait for 2 s."""
RECONNECT_S: Final = 1.0
LOCK_TIMEOUT_MS: Final = 5_000
TRIES: Final = 3
WAITERS: Final = 2
"""
Two waiters and their connections are what one crowded row may cost; product section 4 has everybody else told
at once.
"""
RETRYABLE: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.LockNotAvailableError,
)
LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg's word when the farewell of a killed backend crosses our next statement
    ConnectionError,
    OSError,
)

AWAY: Final = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
)
"""What passes by itself when a server starts; a wrong password or name does not."""

log = logs.get_logger("paytrust.db")
_current: ContextVar[Transaction | None] = ContextVar("paytrust_transaction", default=None)


class _Queue:
    """The waiters for rows, in one process: at most *most* for each row; no limit when that is None."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.waiting: Counter[UUID] = Counter()


class _Turn:
    """
    One caller's place in that queue. It keeps it from one try to the next, and leaves when it has the row or
    gives up.
    """

    def __init__(self, queue: _Queue) -> None:
        self._queue = queue
        self._key: UUID | None = None

    def wait_for(self, key: UUID) -> None:
        if self._key == key:
            return
        self.leave()
        if self._queue.most is not None and self._queue.waiting[key] >= self._queue.most:
            raise Busy("others are waiting to change the same rows; try again")
        self._queue.waiting[key] += 1
        self._key = key

    def leave(self) -> None:
        if self._key is not None:
            self._queue.waiting -= Counter([self._key])
            self._key = None


class Transaction:
    """One open transaction. Only the task that opened it may use it."""

    def __init__(
        self, connection: PoolConnectionProxy[Record], turn: _Turn | None, *, statement_timeout_ms: int
    ) -> None:
        self._connection = connection
        self._turn = turn
        self._timeout_s = statement_timeout_ms / 1000 + ANSWER_MARGIN_S
        self._task = asyncio.current_task()

    @property
    def connection(self) -> PoolConnectionProxy[Record]:
        """Asyncpg's own connection."""
        if asyncio.current_task() is not self._task:
            raise RuntimeError("a transaction belongs to the task that opened it; open another one here")
        return self._connection

    async def lock(self, table: str, tenant_id: UUID, key: UUID) -> bool:
        """
        Take the lock of a row; False when there is none. Waits up to 5 s, unless enough others wait already:
        then `Busy`.

        Only inside of `Database.run`, which tries again. *table* is ours, never anybody's input.
        """
        assert self._turn is not None, "a row lock is taken by work that can be tried again"
        sql = f"SELECT true FROM {table} WHERE tenant_id = $1 AND id = $2 FOR UPDATE"  # noqa: S608
        held = await self.fetchval(sql + " SKIP LOCKED", tenant_id, key)
        if held is None:  # somebody has it, or there is no such row
            self._turn.wait_for(key)
            held = await self.fetchval(sql, tenant_id, key)
        self._turn.leave()
        return bool(held)

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        return await self.connection.fetch(sql, *args, timeout=self._timeout_s)

    async def fetchrow(self, sql: str, *args: Any) -> Record | None:
        return await self.connection.fetchrow(sql, *args, timeout=self._timeout_s)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        return await self.connection.fetchval(sql, *args, timeout=self._timeout_s)

    async def select(self, query: Select[Any]) -> list[Record]:
        """Run a typed query (docs/adr/0028). It sees what the transaction's tenant or scope may see."""
        sql, args = query.querystrings[0].compile_string()
        return await self.fetch(sql, *args)

    async def execute(self, sql: str, *args: Any) -> int:
        """Run a statement and return how many rows it touched."""
        tag = await self.connection.execute(sql, *args, timeout=self._timeout_s)
        return int(tag.rpartition(" ")[2]) if tag[-1:].isdigit() else 0


class _NoConnection(PostgresEngine):
    """
    The engine that all our Piccolo tables share. It tells Piccolo the dialect, and runs nothing.

    It holds no connection, so two applications with two databases can live in one process.
    """

    def __init__(self) -> None:
        super().__init__(config={})

    async def check_version(self) -> None:
        """Nothing to ask: there is no connection."""

    async def prep_database(self) -> None:
        """Nothing to prepare: migrations do that."""

    async def run_querystring(self, querystring: QueryString, in_pool: bool = True) -> NoReturn:  # noqa: ARG002, FBT001, FBT002
        raise RuntimeError("a query runs in a transaction: await tx.select(query)")


ENGINE: Final = _NoConnection()


def one_of(column: Column, values: list[Any]) -> QueryString:
    """
    `column = ANY(values)`, for `where`: one parameter, so one statement for any number of values. Piccolo's
    `is_in` has as many parameters as values.
    """
    return QueryString("{} = ANY({})", column, values)


class Database:
    """
    A pool of connections of the service's own role.

    *waiters* bounds how many of its callers wait for one row, and *share* how many connections one tenant has at
    once. Work in the background has no bounds: its own schedule repeats it.
    """

    def __init__(
        self,
        dsn: str,
        *,
        size: int,
        name: str = "paytrust",
        waiters: int | None = WAITERS,
        share: int | None = None,
    ) -> None:
        self._dsn, self._size, self._name = dsn, size, name
        self._queue = _Queue(waiters)
        self._tenants = None if share is None else Slots(share)
        self._pool: asyncpg.Pool[Record] | None = None
        # Asyncpg's pool lets a newcomer overtake those who wait, and who was overtaken goes to the end of the
        # queue.
        self._turns = asyncio.Semaphore(size)

    async def open(self, *, wait_s: float = 0) -> None:
        """Connect one connection; the rest follow with demand. Waits *wait_s* for a server that is away."""
        deadline_s = time.monotonic() + wait_s
        while self._pool is None:
            try:
                self._pool = await self._connect()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
                if not isinstance(exc, AWAY) or time.monotonic() >= deadline_s:
                    raise ConfigurationError(
                        f"cannot connect to PostgreSQL with PAYTRUST_DATABASE_URL: {type(exc).__name__}: {exc}"
                    ) from exc
                log.warning("waiting for the database", error=type(exc).__name__)
                await asyncio.sleep(RECONNECT_S)

    async def _connect(self) -> asyncpg.Pool[Record]:
        return await asyncpg.create_pool(
            self._dsn,
            min_size=1,
            max_size=self._size,
            reset=_nothing_to_reset,
            max_inactive_connection_lifetime=300,
            timeout=10,
            command_timeout=STATEMENT_TIMEOUT_MS / 1000 + ANSWER_MARGIN_S,
            server_settings={
                "application_name": self._name,
                "search_path": "paytrust",
                "timezone": "UTC",
            },
        )

    async def close(self) -> None:
        """
        Open no more transactions, and let those under way finish: at most 5 s, then they lose their
        connection.
        """
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), END_TIMEOUT_S)
            except TimeoutError:
                self._pool.terminate()

    @contextlib.asynccontextmanager
    async def transaction(
        self,
        *,
        tenant: UUID | None = None,
        system: bool = False,
        isolation: Isolation = "READ COMMITTED",
        readonly: bool = False,
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
        within_s: float = ACQUIRE_TIMEOUT_S + BEGIN_TIMEOUT_S,
        turn: _Turn | None = None,
    ) -> AsyncIterator[Transaction]:
        """
        Open a transaction that sees *tenant*'s rows, or with *system* the rows of the few tables that work
        across tenants.

        Raises `Unavailable` when the pool is exhausted, or the database is away or does not answer: it is open
        *within_s*, and no statement takes longer than its time-out.
        """
        assert (tenant is None) == system, "a transaction is for one tenant, or for the system"
        assert _current.get() is None, "transactions do not nest"
        deadline_s = time.monotonic() + within_s
        connection = await self._acquire(tenant, min(within_s, ACQUIRE_TIMEOUT_S))
        doubtful = True
        try:
            await connection.execute(
                _begin(tenant, isolation, readonly=readonly, statement_timeout_ms=statement_timeout_ms),
                timeout=max(deadline_s - time.monotonic(), 0.001),
            )
            tx = Transaction(connection, turn, statement_timeout_ms=statement_timeout_ms)
            token = _current.set(tx)
            try:
                yield tx
            except TimeoutError:
                raise  # whoever does not answer a statement does not answer a ROLLBACK
            except BaseException:
                doubtful = not await _end(connection, "ROLLBACK")
                raise
            finally:
                _current.reset(token)
            await _commit(connection)
            doubtful = False
        except TimeoutError as exc:
            raise Unavailable("the database did not answer in time") from exc
        except LOST as exc:
            raise Unavailable("the database connection was lost") from exc
        finally:
            await self._release(tenant, connection, doubtful=doubtful)

    async def run(
        self, work: Callable[[Transaction], Awaitable[T]], *, tenant: UUID | None = None, system: bool = False
    ) -> T:
        """
        Run *work* in a transaction, again when it lost a race: at most 3 tries, 100 and 200 ms apart, +-20
        ms.

        The connection goes back to the pool between tries. Raises `Busy` when every try lost.
        """
        turn = _Turn(self._queue)
        try:
            for attempt in range(1, TRIES + 1):
                try:
                    async with self.transaction(tenant=tenant, system=system, turn=turn) as tx:
                        return await work(tx)
                except RETRYABLE as exc:
                    if attempt == TRIES:
                        raise Busy("another request is changing the same rows; try again") from exc
                    await asyncio.sleep(0.1 * attempt + random.uniform(-0.02, 0.02))  # noqa: S311 - jitter, not a secret
        finally:
            turn.leave()
        raise AssertionError("unreachable")

    async def ping(self) -> None:
        """Raise unless the database answers, soon: an open transaction says that it does."""
        async with self.transaction(system=True, readonly=True, within_s=PING_TIMEOUT_S):
            pass

    async def _acquire(self, tenant: UUID | None, within_s: float) -> PoolConnectionProxy[Record]:
        if self._pool is None:
            raise Unavailable("the service is not running")
        try:
            async with asyncio.timeout(within_s):
                await self._enter(tenant)
                try:
                    return await self._pool.acquire()
                except BaseException:
                    self._leave(tenant)
                    raise
        except TimeoutError as exc:
            raise Unavailable("all database connections are busy, or the database does not answer") from exc
        except (*LOST, asyncpg.PostgresError) as exc:
            raise Unavailable("the database cannot be reached") from exc

    async def _enter(self, tenant: UUID | None) -> None:
        """Wait for a place among the tenant's connections, then for one among all."""
        if self._tenants is not None and tenant is not None:
            await self._tenants.acquire(tenant)
        try:
            await self._turns.acquire()
        except BaseException:
            self._leave_share(tenant)
            raise

    def _leave(self, tenant: UUID | None) -> None:
        self._turns.release()
        self._leave_share(tenant)

    def _leave_share(self, tenant: UUID | None) -> None:
        if self._tenants is not None and tenant is not None:
            self._tenants.release(tenant)

    async def _release(
        self, tenant: UUID | None, connection: PoolConnectionProxy[Record], *, doubtful: bool
    ) -> None:
        assert self._pool is not None
        try:
            if doubtful:
                with contextlib.suppress(
                    asyncpg.InterfaceError
                ):  # it broke, and went back to the pool by itself
                    connection.terminate()
            with contextlib.suppress(
                *LOST, TimeoutError
            ):  # it broke on the way back: its place is free, and what was done is done
                await self._pool.release(
                    connection, timeout=END_TIMEOUT_S
                )  # which no cancellation interrupts
        finally:
            self._leave(tenant)


async def _nothing_to_reset(_: asyncpg.Connection[Record]) -> None:
    """Every setting is local to its transaction, so the round trip that would reset them is saved."""


def _begin(tenant: UUID | None, isolation: Isolation, *, readonly: bool, statement_timeout_ms: int) -> str:
    # A UUID and integers cannot carry SQL; SET takes no parameters.
    scope = "SET LOCAL app.scope = 'system'" if tenant is None else f"SET LOCAL app.tenant = '{tenant}'"
    return (
        f"BEGIN ISOLATION LEVEL {isolation}{' READ ONLY' if readonly else ''}; {scope}; "
        f"SET LOCAL statement_timeout = {statement_timeout_ms}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; "
        "SET LOCAL idle_in_transaction_session_timeout = 10000"
    )


async def _commit(connection: PoolConnectionProxy[Record]) -> None:
    """COMMIT, finished even when the task is cancelled meanwhile."""
    commit = asyncio.ensure_future(connection.execute("COMMIT", timeout=END_TIMEOUT_S))
    try:
        await asyncio.shield(commit)
    except asyncio.CancelledError:
        await asyncio.wait([commit])
        raise


async def _end(connection: PoolConnectionProxy[Record], command: str) -> bool:
    """ROLLBACK; whether the connection is fit for use again."""
    try:
        end = asyncio.ensure_future(connection.execute(command, timeout=END_TIMEOUT_S))
    except asyncpg.InterfaceError:
        return False  # it broke, and went back to the pool by itself
    await asyncio.wait([end])
    return end.exception() is None


async def check_service_role(db: Database) -> None:
    """
    Refuse a connection that row-level security does not hold: a superuser, a role that bypasses it, or an
    owner.

    Raises `ConfigurationError` with what to do.
    """
    async with db.transaction(system=True, readonly=True) as tx:
        row = await tx.fetchrow(
            """
            SELECT r.rolname AS name, r.rolsuper OR r.rolbypassrls AS almighty,
                   EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                           WHERE n.nspname = 'paytrust' AND pg_has_role(r.oid, c.relowner, 'MEMBER')) AS owner,
                   EXISTS (SELECT FROM pg_roles a WHERE a.rolname = 'paytrust_app' AND pg_has_role(r.oid, a.oid, 'USAGE')) AS admitted
            FROM pg_roles r WHERE r.rolname = session_user
            """
        )
    assert row is not None
    if row["almighty"] or row["owner"]:
        what = "is a superuser or bypasses row-level security" if row["almighty"] else "owns the tables"
        raise ConfigurationError(
            f"PAYTRUST_DATABASE_URL connects as {row['name']}, which {what}; use a plain login role, which `paytrust migrate` sets up"
        )
    if not row["admitted"]:
        raise ConfigurationError(
            f"the role {row['name']} is not a member of paytrust_app; run `paytrust migrate`"
        )


async def missing_migrations(db: Database) -> list[str]:
    """Names of migrations this version needs and the database lacks."""
    async with db.transaction(system=True, readonly=True) as tx:
        return await migrations.pending(tx.connection)


async def check_schema(db: Database) -> None:
    """Raise `ConfigurationError` unless the database has every migration and the service's role its grants."""
    async with db.transaction(system=True, readonly=True) as tx:
        lacking = await migrations.missing_grants(tx.connection)
    if USE_SCHEMA not in lacking and (missing := await missing_migrations(db)):
        raise ConfigurationError(f"the database lacks {', '.join(missing)}: run `paytrust migrate`")
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise ConfigurationError(
            f"the role paytrust_app lacks {', '.join(map(str, lacking[:3]))}{more}: run `paytrust migrate`"
        )


async def check(db: Database) -> None:
    """Refuse to serve with an unsafe role, an older schema or without grants: raises `ConfigurationError`."""
    await check_service_role(db)
    await check_schema(db)
