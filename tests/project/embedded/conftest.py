"""
Real servers, in directories that the server's user can reach: those of pytest are closed to other users.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
import pytest
from support.waiting import eventually

from paytrust.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# These rules are about dropping from root to another user: without root there is nothing to run.
collect_ignore = [] if os.geteuid() == 0 else ["test_embedded_as_root.py"]

APP = """
import sys, time
from pathlib import Path
from paytrust.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}).start(), flush=True)
time.sleep(600)
"""


class Make(Protocol):
    """Make a supervisor that is stopped when the test ends."""

    def __call__(self, data: Path = ..., **options: Any) -> EmbeddedPostgres: ...


def open_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="paytrust-test-", dir="/tmp"))
    directory.chmod(0o755)
    return directory


def remove(directory: Path) -> None:
    """Remove it when the server of a killed application, which may still be going down, has left it."""
    eventually(lambda: not any(directory in cwd.parents for cwd in working_directories().values()))
    shutil.rmtree(directory)


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory that every user may enter."""
    directory = open_directory()
    yield directory
    remove(directory)


@pytest.fixture(scope="session")
def data() -> Iterator[Path]:
    """
    Give a database that all tests share: each must find it usable, whatever the one before did to its server.
    """
    directory = open_directory()
    with EmbeddedPostgres(directory / "data", settings={"fsync": "off"}):
        pass
    yield directory / "data"
    remove(directory)


@pytest.fixture
def own(place: Path, data: Path) -> Path:
    """Give a copy of the database to a test that moves or spoils its files."""
    subprocess.run(["cp", "-a", data, place / "data"], check=True)
    return place / "data"


@pytest.fixture
def home(place: Path) -> Path:
    """Give the place of what root must keep elsewhere, so that no test writes to /var/lib/paytrust."""
    return place / "home"


@pytest.fixture
def make(data: Path, home: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(data: Path = data, **options: Any) -> EmbeddedPostgres:
            server = EmbeddedPostgres(data, **{"home": home, **options})
            stack.callback(server.stop)
            return server

        yield make


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Return the first value of the last of some statements, or None."""

    async def answer(dsn: str, statements: tuple[str, ...]) -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return lambda dsn, *statements: asyncio.run(answer(dsn, statements))


@pytest.fixture
def app(data: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """
    Start another process that starts the server over a data directory, and give it as soon as it exists.
    """
    with ExitStack() as stack:

        def start(data: Path = data) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", APP, str(data)], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            stack.enter_context(closing(process.stdout))
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def postmaster() -> Callable[[Path], int]:
    """Return the pid in the lock file of a data directory."""
    return lambda data: int((data / "postmaster.pid").read_text().splitlines()[0])


@pytest.fixture
def processes() -> Callable[[Path], list[int]]:
    """Return the pids of the processes that work in a data directory."""
    return lambda data: [pid for pid, cwd in working_directories().items() if cwd == data]


def working_directories() -> dict[int, Path]:
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # gone, a zombie, or another user's
            if entry.name.isdigit():
                found[int(entry.name)] = (entry / "cwd").readlink()
    return found
