"""Whatever is killed, and when: the next start works without hands, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import asyncpg
import pytest
from support.waiting import eventually

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def supervisor(postmaster):
    """Return the pid of the supervisor of the server over a data directory."""

    def parent(data):
        status = Path(f"/proc/{postmaster(data)}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))

    return parent


@pytest.fixture
def crash(data, postmaster, supervisor, processes):
    """Kill the whole server at once, as a power cut does; its files stay."""

    def kill():
        # The postmaster first: it must not get round to shutting down.
        for pid in [postmaster(data), *processes(data), supervisor(data)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not processes(data))
        assert (data / "postmaster.pid").exists()

    return kill


def test_a_killed_postmaster_is_replaced_at_once(make, data, postmaster, ask):
    server = make()
    server.start()
    for _ in range(3):
        os.kill(postmaster(data), signal.SIGKILL)
        before = time.monotonic()
        assert ask(server.start(), "select 1") == 1
        assert time.monotonic() - before < 5


def test_another_supervisor_replaces_a_killed_postmaster_too(make, data, postmaster, ask):
    make().start()
    os.kill(postmaster(data), signal.SIGKILL)
    server = make()
    assert ask(server.start(), "select 1") == 1
    assert not server.attached


def test_a_killed_application_takes_the_server_down_cleanly(make, data, app, processes, ask):
    process = app()
    process.stdout.readline()
    process.kill()
    eventually(lambda: not processes(data))
    server = make()
    assert server.log.read_text().endswith("LOG:  database system is shut down\n")
    assert not (data / "postmaster.pid").exists()
    assert ask(server.start(), "select 1") == 1


def test_a_killed_guardian_takes_the_server_down_cleanly(make, data, supervisor, processes, ask):
    server = make()
    server.start()
    os.kill(supervisor(data), signal.SIGKILL)
    eventually(lambda: not processes(data))
    assert server.log.read_text().endswith("LOG:  database system is shut down\n")
    assert ask(server.start(), "select 1") == 1


def test_a_killed_guardian_does_not_delay_the_next_start(make, data, supervisor, ask):
    server = make()
    server.start()
    os.kill(supervisor(data), signal.SIGKILL)
    server.stop()
    assert ask(server.start(), "select 1") == 1


def test_everything_killed_at_once_is_recovered(make, app, crash, ask):
    process = app()
    process.stdout.readline()
    crash()
    process.kill()
    assert ask(make().start(), "select 1") == 1


def fails(ask, dsn, statement):
    with pytest.raises((OSError, asyncpg.PostgresError)):
        ask(dsn, statement)


def test_a_busy_orphan_of_a_killed_postmaster_does_not_block(make, data, postmaster, ask):
    server = make()
    dsn = server.start()
    # Pure computation: such a backend does not notice that its postmaster died.
    busy = threading.Thread(
        target=fails, args=(ask, dsn, "select count(*) from generate_series(1, 1e12::bigint)")
    )
    busy.start()
    time.sleep(0.3)
    os.kill(postmaster(data), signal.SIGKILL)
    assert ask(server.start(), "select 1") == 1
    busy.join()


def test_locks_that_name_a_strangers_pid_are_cleared(make, data, crash, ask):
    server = make()
    server.start()
    crash()
    who = {"user": data.stat().st_uid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], **who) as stranger:
        for lock in (data / "postmaster.pid", data / ".s.PGSQL.5432.lock"):
            _, *rest = lock.read_text().splitlines(keepends=True)
            lock.write_text("".join([f"{stranger.pid}\n", *rest]))
        dsn = server.start()
        assert stranger.poll() is None
        stranger.kill()
    assert ask(dsn, "select 1") == 1


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_a_zombie_postmaster_does_not_block(make, data, postmaster, supervisor, ask):
    server = make()
    server.start()
    zombie, keeper = postmaster(data), supervisor(data)
    # We take the place of a PID 1 that reaps nothing.
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        os.kill(keeper, signal.SIGSTOP)
        eventually(lambda: state(keeper) == "T")  # or it reaps the postmaster itself
        os.kill(zombie, signal.SIGKILL)
        os.kill(keeper, signal.SIGKILL)
        server.stop()
        assert ask(server.start(), "select 1") == 1
        assert state(zombie) == "Z"
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        os.waitpid(zombie, 0)


def test_half_an_initdb_is_thrown_away(place, make, ask):
    data = place / "new" / "data"
    half = data.with_name("data.init")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    assert ask(make(data, settings={"fsync": "off"}).start(), "select 1") == 1
    assert not half.exists()


@pytest.mark.parametrize("delay_s", [0, 0.3])
def test_an_application_killed_during_initdb_leaves_no_work(place, make, app, ask, delay_s):
    data = place / "data"
    process = app(data)
    eventually(place.joinpath("data.init").exists)
    time.sleep(delay_s)
    process.kill()
    assert ask(make(data, settings={"fsync": "off"}).start(), "select 1") == 1


WRITER = """
import asyncio, sys, asyncpg
async def write(dsn, number):
    connection = await asyncpg.connect(dsn)
    for n in range(10**9):
        await connection.execute("insert into kept values ($1, $2)", number, n)
        print(number, n, flush=True)
async def main():
    await asyncio.gather(*(write(sys.argv[1], number) for number in range(4)), return_exceptions=True)
asyncio.run(main())
"""


def test_no_acknowledged_row_is_lost_when_the_server_is_killed(make, ask, crash):
    server = make()
    ask(server.start(), "drop table if exists kept", "create table kept (writer bigint, n bigint)")
    for _ in range(2):
        ask(server.start(), "truncate kept")
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, server.dsn("postgres")], stdout=subprocess.PIPE, text=True
        ) as writer:
            lines = [writer.stdout.readline() for _ in range(100)]
            crash()
            lines += writer.stdout.readlines()
        acknowledged = {tuple(map(int, line.split())) for line in lines}
        assert len(acknowledged) >= 100
        assert acknowledged - asyncio.run(rows(server.start())) == set()


async def rows(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        return {tuple(row) for row in await connection.fetch("select writer, n from kept")}
    finally:
        await connection.close()
