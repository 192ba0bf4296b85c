"""The transaction: what it sets, what it refuses, and that nothing leaks whatever happens to it."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import asyncpg
import pytest

from paytrust import development
from paytrust.errors import Busy, ConfigurationError, Unavailable
from paytrust.infra.db import Database, check_service_role
from paytrust.tenants.tables import Tenants


@pytest.fixture
async def db(settings):
    database = Database(settings.database_url.get_secret_value(), size=3)
    await database.open()
    yield database
    await database.close()


async def add_tenant(db, name="T"):
    tenant_id = uuid4()
    async with db.transaction(system=True) as tx:
        await tx.execute("INSERT INTO paytrust.tenants (id, name) VALUES ($1, $2)", tenant_id, name)
    return tenant_id


async def test_tenant_and_time_outs_are_set_and_gone_afterwards(db):
    tenant_id = uuid4()
    names = ("app.tenant", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    async with db.transaction(tenant=tenant_id) as tx:
        inside = [await tx.fetchval("SELECT current_setting($1)", name) for name in names]
        pid = await tx.fetchval("SELECT pg_backend_pid()")
    assert inside == [str(tenant_id), "15s", "5s", "10s"]
    async with db.transaction(system=True) as tx:
        assert await tx.fetchval("SELECT pg_backend_pid()") == pid
        assert not await tx.fetchval("SELECT current_setting('app.tenant', true)")


async def test_an_error_rolls_back(db):
    with pytest.raises(RuntimeError):
        async with db.transaction(system=True) as tx:
            await tx.execute("INSERT INTO paytrust.tenants (id, name) VALUES ($1, 'x')", uuid4())
            raise RuntimeError
    async with db.transaction(system=True) as tx:
        assert await tx.fetchval("SELECT count(*) FROM paytrust.tenants") == 0


async def test_transactions_do_not_nest(db):
    async with db.transaction(system=True):
        with pytest.raises(AssertionError, match="nest"):
            async with db.transaction(system=True):
                pass


async def test_a_transaction_is_for_a_tenant_or_for_the_system(db):
    with pytest.raises(AssertionError):
        async with db.transaction():
            pass
    with pytest.raises(AssertionError):
        async with db.transaction(tenant=uuid4(), system=True):
            pass


@pytest.fixture
async def shared(settings):
    """Four connections, of which a tenant has at most two."""
    database = Database(settings.database_url.get_secret_value(), size=4, share=2)
    await database.open()
    yield database
    await database.close()


async def hold(db, tenant, entered, leave):
    async with db.transaction(tenant=tenant):
        entered.release()
        await leave.wait()


async def test_a_tenant_has_at_most_its_share_of_the_connections(shared):
    greedy, other = uuid4(), uuid4()
    entered, leave = asyncio.Semaphore(0), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(hold(shared, greedy, entered, leave))
        for _ in range(2):
            await entered.acquire()
        async with asyncio.timeout(0.5):
            for scope in ({"tenant": other}, {"system": True}):
                async with shared.transaction(**scope) as tx:
                    assert await tx.fetchval("SELECT 1") == 1
        assert entered.locked()  # the other four wait
        leave.set()
    async with shared.transaction(tenant=greedy):  # and every place is free again
        pass


async def test_who_gives_up_waiting_for_its_share_leaves_no_trace(shared):
    greedy = uuid4()
    async with asyncio.TaskGroup() as group:
        entered, leave = asyncio.Semaphore(0), asyncio.Event()
        for _ in range(2):
            group.create_task(hold(shared, greedy, entered, leave))
            await entered.acquire()
        with pytest.raises(Unavailable):
            async with shared.transaction(tenant=greedy, within_s=0.1):
                pass
        leave.set()
    async with asyncio.TaskGroup() as group:
        entered, leave = asyncio.Semaphore(0), asyncio.Event()
        for _ in range(2):
            group.create_task(hold(shared, greedy, entered, leave))
        async with asyncio.timeout(1):
            for _ in range(2):
                await entered.acquire()
        leave.set()


async def test_another_task_may_not_use_the_transaction(db):
    async with db.transaction(system=True) as tx:
        with pytest.raises(RuntimeError, match="belongs to the task"):
            await asyncio.create_task(tx.fetchval("SELECT 1"))
        with pytest.raises(RuntimeError, match="belongs to the task"):
            await asyncio.create_task(tx.select(Tenants.select()))


async def test_a_typed_query_runs_in_the_transaction_it_is_given_to(db):
    tenant_id, _ = await add_tenant(db, "Piccolo"), await add_tenant(db, "another")
    async with db.transaction(tenant=tenant_id) as tx:
        assert [row["name"] for row in await tx.select(Tenants.select())] == ["Piccolo"]
    with pytest.raises(RuntimeError, match="runs in a transaction"):
        await Tenants.select()


@pytest.mark.parametrize("cancel_after_s", [0, 0.001, 0.003, 0.01, 0.05])
async def test_cancelling_anywhere_leaks_no_connection(db, cancel_after_s):
    async def work():
        async with db.transaction(system=True) as tx:
            await tx.execute("INSERT INTO paytrust.tenants (id, name) VALUES ($1, 'x')", uuid4())
            await tx.fetchval("SELECT pg_sleep(0.005)")

    for _ in range(12):
        task = asyncio.create_task(work())
        await asyncio.sleep(cancel_after_s)
        task.cancel()
        await asyncio.wait([task])
    async with asyncio.timeout(5):
        await asyncio.gather(*(db.ping() for _ in range(9)))


async def test_a_commit_that_is_cancelled_is_finished(db, owner):
    await owner.execute(
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON paytrust.tenants DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION public.slow()"
    )
    task = asyncio.create_task(add_tenant(db))
    await asyncio.sleep(0.15)  # in the COMMIT, which the deferred trigger makes slow
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await owner.fetchval("SELECT count(*) FROM paytrust.tenants") == 1
    await asyncio.gather(*(db.ping() for _ in range(9)))


async def test_a_failing_commit_leaks_no_connection(db, owner):
    await owner.execute(
        "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';"
        "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON paytrust.tenants DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION public.no()"
    )
    for _ in range(6):
        with pytest.raises(asyncpg.RaiseError):
            await add_tenant(db)
    await asyncio.gather(*(db.ping() for _ in range(9)))


async def test_killed_backends_heal_without_help(db, owner):
    await asyncio.gather(*(db.ping() for _ in range(3)))
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'paytrust_tests' AND datname = current_database()"
    )
    await asyncio.sleep(0.1)
    for _ in range(4):
        try:
            await db.ping()
        except Unavailable:
            continue
    await asyncio.gather(*(db.ping() for _ in range(9)))


async def test_an_exhausted_pool_says_unavailable_within_its_deadline(db):
    release = asyncio.Event()

    async def hold():
        async with db.transaction(system=True):
            await release.wait()

    holders = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0.2)
    async with asyncio.timeout(3):
        with pytest.raises(Unavailable, match="busy"):
            await db.ping()
    release.set()
    await asyncio.gather(*holders)
    await db.ping()


async def test_nobody_is_overtaken_for_long_while_waiting_for_a_connection(settings):
    db = Database(settings.database_url.get_secret_value(), size=2)
    await db.open()
    asked = given = 0
    overtaken_by = []

    async def work():
        nonlocal asked, given
        for _ in range(20):
            asked += 1
            turn = asked
            async with db.transaction(system=True, readonly=True) as tx:
                given += 1
                overtaken_by.append(given - turn)
                await tx.fetchval("SELECT 1")
            await asyncio.sleep(0.0005)

    try:
        await asyncio.gather(*[work() for _ in range(40)])
    finally:
        await db.close()
    # One connection may be quicker to begin than the other; with asyncpg's pool alone it was 37 to 75.
    assert max(overtaken_by) < 20


async def test_a_lost_race_is_tried_again_and_then_reported(db):
    tries = 0

    async def once_lost(tx):
        nonlocal tries
        tries += 1
        if tries == 1:
            raise asyncpg.DeadlockDetectedError
        return await tx.fetchval("SELECT 7")

    assert await db.run(once_lost, system=True) == 7
    assert tries == 2

    async def always_lost(tx):
        raise asyncpg.SerializationError

    with pytest.raises(Busy):
        await db.run(always_lost, system=True)


async def test_tries_are_100_and_200_ms_apart_and_the_connection_is_free_between_them(settings):
    db = Database(settings.database_url.get_secret_value(), size=1)
    await db.open()
    began, lost = [], []

    async def always_locked(tx):
        began.append(time.monotonic())
        try:
            await tx.execute(
                "DO $$ BEGIN RAISE EXCEPTION 'locked' USING ERRCODE = 'lock_not_available'; END $$"
            )
        finally:
            lost.append(time.monotonic())

    tries = asyncio.create_task(db.run(always_locked, system=True))
    pings = 0
    while not tries.done():
        await db.ping()  # there is one connection: it waits here while a try has it
        pings += 1
        await asyncio.sleep(0.01)
    with pytest.raises(Busy):
        await tries
    first, second = (began[i + 1] - lost[i] for i in range(2))
    assert 0.08 <= first < 0.5
    assert 0.18 <= second < 0.6
    assert pings > 4
    await db.close()


async def test_a_caller_that_gives_up_leaves_the_queue(db, owner):
    tenant_id = await add_tenant(db)

    async def wait(tx):
        tx._turn.wait_for(tenant_id)
        await asyncio.sleep(60)

    for _ in range(5):
        task = asyncio.create_task(db.run(wait, tenant=tenant_id))
        await asyncio.sleep(0.05)
        assert db._queue.waiting[tenant_id] == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not db._queue.waiting


async def test_a_statement_cached_before_an_online_change_is_prepared_again(db, owner):
    async def read(tx):
        return await tx.fetchrow("SELECT * FROM paytrust.tenants")

    await add_tenant(db)
    await db.run(read, system=True)
    await owner.execute("ALTER TABLE paytrust.tenants ADD COLUMN extra text")
    assert "extra" in await db.run(read, system=True)


async def test_the_service_refuses_an_owner_and_a_superuser(owner_url, settings, owner):
    plain = Database(settings.database_url.get_secret_value(), size=1)
    await plain.open()
    await check_service_role(plain)
    await plain.close()
    almighty = Database(owner_url, size=1)
    await almighty.open()
    with pytest.raises(ConfigurationError, match="superuser|owns the tables"):
        await check_service_role(almighty)
    await almighty.close()


async def test_a_database_that_is_away_is_named_in_the_error():
    database = Database("postgresql://nobody@127.0.0.1:1/none", size=1)
    with pytest.raises(ConfigurationError, match="PAYTRUST_DATABASE_URL"):
        await database.open()
    with pytest.raises(Unavailable):
        await database.ping()


async def test_closing_lets_a_transaction_finish_and_opens_no_more(db, owner):
    entered, release = asyncio.Event(), asyncio.Event()

    async def late():
        async with db.transaction(system=True) as tx:
            await tx.execute("INSERT INTO paytrust.tenants (id, name) VALUES ($1, 'late')", uuid4())
            entered.set()
            await release.wait()

    task = asyncio.create_task(late())
    await entered.wait()
    closing = asyncio.create_task(db.close())
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable):
        await db.ping()
    release.set()
    await task
    async with asyncio.timeout(4):  # it waited for the transaction, not for the deadline
        await closing
    assert await owner.fetchval("SELECT count(*) FROM paytrust.tenants") == 1


async def test_closing_does_not_wait_for_ever(db):
    entered, release = asyncio.Event(), asyncio.Event()

    async def stuck():
        async with db.transaction(system=True) as tx:
            entered.set()
            await release.wait()
            await tx.fetchval("SELECT 1")

    task = asyncio.create_task(stuck())
    await entered.wait()
    async with asyncio.timeout(9):
        await db.close()
    release.set()
    with pytest.raises(Unavailable):
        await task
    await db.close()


async def test_a_connection_that_breaks_inside_a_transaction_is_unavailable_and_not_used_again(db, owner):
    with pytest.raises(Unavailable, match="lost"):
        async with db.transaction(system=True) as tx:
            pid = await tx.fetchval("SELECT pg_backend_pid()")
            await owner.execute("SELECT pg_terminate_backend($1)", pid)
            for _ in range(100):
                await tx.fetchval("SELECT 1")
                await asyncio.sleep(0.02)
    async with db.transaction(system=True) as tx:
        assert await tx.fetchval("SELECT pg_backend_pid()") != pid


async def test_a_database_that_lets_nobody_in_is_unavailable_until_it_does(settings, owner, postgres):
    database = Database(settings.database_url.get_secret_value(), size=3)
    await database.open()
    name = await owner.fetchval("SELECT current_database()")
    gate = await asyncpg.connect(postgres)
    try:
        await gate.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await gate.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'paytrust_tests' AND datname = $1",
            name,
        )
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable):
            await database.ping()
        with pytest.raises(Unavailable, match="cannot be reached"):
            await database.ping()
        await gate.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await database.ping()
    finally:
        await gate.close()
        await database.close()


async def test_the_service_refuses_a_role_that_was_not_admitted(owner, owner_url):
    name = f"stranger_{uuid4().hex[:8]}"
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    database = Database(
        development.with_database(
            owner_url, owner_url.partition("?")[0].rpartition("/")[2], user=name, password="x"
        ),
        size=1,
    )
    try:
        await database.open()
        with pytest.raises(ConfigurationError, match=f"{name} is not a member of paytrust_app"):
            await check_service_role(database)
    finally:
        await database.close()
        await owner.execute(f"DROP ROLE {name}")
