"""The server: started when it does not run, attached to when it does."""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Self
from urllib.parse import quote

from paytrust.embedded import binaries, cluster, paths
from paytrust.embedded.cluster import SUPERUSER
from paytrust.embedded.errors import DataUnusableError, StartFailedError
from paytrust.embedded.lock import attempt, is_shared, share, unshare
from paytrust.embedded.os_user import environment, named, owner_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from paytrust.embedded.os_user import OSUser

logger = logging.getLogger(__name__)

HOME = Path("/var/lib/paytrust")
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    # Payers' names and account numbers stay out of the log: no statements, no parameters, no DETAIL lines
    # with the failing row.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}
LOG_LIMIT_BYTES = 10_000_000
POLL_S = 0.01
ANSWER_S = 5
STOP_S = 60
PROTOCOL = 3 << 16
SUPERVISOR = Path(__file__).with_name("supervisor.py")


class EmbeddedPostgres:
    """
    One PostgreSQL server over the data directory *data*, reached through a unix socket only.

    *settings* are PostgreSQL's own (`{"fsync": "off"}` for tests) and win over ours. *user* matters to root
    only: the user of the server of a new database (default `$PAYTRUST_PG_USER`, else `nobody`). *home* is
    where root puts files that this user cannot reach. Not for use from several threads at once; `start` may be
    called from any thread, also one that ends.
    """

    def __init__(
        self,
        data: Path,
        *,
        settings: Mapping[str, str] | None = None,
        user: str | None = None,
        home: Path = HOME,
        timeout_s: float = 300,
    ) -> None:
        self.data = data.resolve()
        self._requested = self.data
        self._settings = {**SETTINGS, **(settings or {})}
        self._user = user
        self._home = home
        self._timeout_s = timeout_s
        self._socket = self.data
        self._share: BinaryIO | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._process = os.getpid()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def attached(self) -> bool:
        """True when another process started the server that we use."""
        return self._share is not None and self._supervisor is None

    @property
    def log(self) -> Path:
        """Where the server writes its log; `<log>.old` holds what came before the last 10 MB."""
        return self._beside("log")

    def start(self) -> str:
        """
        Make sure that the server answers and return the superuser's DSN to database `postgres`.

        Attaches to a server that another process (or object) started over the same data; it then has the
        settings of that one. The server runs until `stop` or the end of the process, however it ends. Raises
        `EmbeddedPostgresError`.
        """
        try:
            self._start()
            atexit.register(self.stop)
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise DataUnusableError(data=self.data, reason=str(error)) from error
            raise
        return self.dsn("postgres")

    def dsn(self, database: str, user: str = SUPERUSER) -> str:
        """
        Return a URL for asyncpg and libpq, valid after `start`. Any role may connect: no other
        user gets to the socket.
        """
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={quote(str(self._socket))}&port={paths.PORT}"

    def stop(self) -> None:
        """
        Leave. The last user's leaving shuts the server down cleanly (open transactions are rolled back),
        which this waits for.
        """
        atexit.unregister(self.stop)
        share, self._share = self._share, None
        supervisor, self._supervisor = self._supervisor, None
        if share is None or os.getpid() != self._process:
            return  # a fork has no say: what it inherited is its parent's
        unshare(share)
        over = self._wait_for_shutdown()
        if supervisor is None:
            return
        if not over:
            supervisor.returncode = 0  # left to the other users: neither waited for nor warned about
        elif (code := supervisor.wait()) != 0:
            logger.warning(
                "embedded PostgreSQL over %s ended with code %s\n%s", self.data, code, log_tail(self.log)
            )

    def _wait_for_shutdown(self) -> bool:
        give_up = time.monotonic() + STOP_S
        while time.monotonic() < give_up:
            with attempt(self._beside("lock")) as free:
                if free is not None:
                    return True
            if is_shared(self._beside("users")):
                return False
            time.sleep(POLL_S)
        logger.warning("embedded PostgreSQL over %s has not shut down after %s s", self.data, STOP_S)
        return False

    def _start(self) -> None:
        give_up = time.monotonic() + self._timeout_s
        user = self._resolve_data_dir()
        self._forget_dead_supervisor()
        launched = False
        while not (self._join() and accepting(self._socket)):
            if not launched:
                launched = self._launch_if_nobody_does(user)
            elif self._supervisor is None or self._supervisor.poll() is not None:
                self._fail("ended while it started")
            if time.monotonic() > give_up:
                self._fail(f"does not answer after {self._timeout_s} s")
            time.sleep(POLL_S)

    def _resolve_data_dir(self) -> OSUser:
        first = owner_of(self._requested) or named(self._user)
        self.data = paths.resolve_data_dir(self._requested, first, self._home)
        user = owner_of(self.data) or first
        self._socket = paths.socket_directory(self.data, user)
        return user

    def _forget_dead_supervisor(self) -> None:
        if self._supervisor is not None and self._supervisor.poll() is not None:
            self._supervisor = None

    def _join(self) -> bool:
        # First of all: while we hold a share, no supervisor shuts down the server that we are about to find at
        # work.
        if self._share is None:
            self._share = share(self._beside("users"))
        return self._share is not None

    def _launch_if_nobody_does(self, user: OSUser) -> bool:
        with attempt(self._beside("lock")) as lock:
            if lock is None or self._share is None:
                return False
            if self._supervisor is not None:
                self._supervisor.wait()  # of a server that died this moment
            self._launch(user, lock)
            return True

    def _launch(self, user: OSUser, lock: int) -> None:
        bins = binaries.reachable(binaries.find(), user, self._home)
        sync = self._settings["fsync"] != "off"
        cluster.prepare(self.data, bins=bins, user=user, lock=lock, sync=sync)
        settings = {
            **self._settings,
            "port": str(paths.PORT),
            "unix_socket_directories": f'"{self._socket}"',
            "unix_socket_permissions": "0700",
        }
        order = {
            "lock": lock,
            "uid": user.uid if user.switch else None,
            "gid": user.gid if user.switch else None,
            "users": str(self._beside("users")),
            "data": str(self.data),
            "stale": [str(path) for path in paths.locks(self.data, self._socket)],
            "argv": [
                str(bins / "postgres"),
                "-D",
                str(self.data),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
        }
        with fresh_log(self.log) as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", SUPERVISOR, json.dumps(order)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                pass_fds=[
                    lock
                ],  # held as long as the server lives: who gets the lock knows that there is none
                start_new_session=True,
            )

    def _beside(self, suffix: str) -> Path:
        return self.data.with_name(f"{self.data.name}.{suffix}")

    def _fail(self, reason: str) -> NoReturn:
        raise StartFailedError(data=self.data, reason=reason, log=log_tail(self.log))


def accepting(directory: Path) -> bool:
    """
    Ask the server for a session: a pid proves nothing (a zombie, a reused one), nor does a socket that merely
    listens.
    """
    names = f"user\0{SUPERUSER}\0database\0postgres\0\0".encode()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(f"{directory}/.s.PGSQL.{paths.PORT}")
            connection.sendall(struct.pack("!ii", len(names) + 8, PROTOCOL) + names + b"X\0\0\0\4")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return False
    # SQLSTATE class 57P: starting, recovering or shutting down. Any other answer, "too many clients" too, is
    # that of a server at work.
    return answer != b"" and b"C57P" not in answer


def fresh_log(log: Path) -> BinaryIO:
    """Open *log* to append; one that has grown beyond 10 MB becomes `<log>.old` first."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_name(f"{log.name}.old"))
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def log_tail(log: Path) -> str:
    """Return the last lines of *log*, for an error message."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])
