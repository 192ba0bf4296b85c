"""
A PostgreSQL that loses nothing it has committed, the sandbox gateways, and the service: each in processes of
its own, to be killed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import asyncpg
import httpx
import msgspec
from campaigns.crash.service import Armed
from paytrust_sandbox.remote import MidtransRemote, XenditRemote
from paytrust_sandbox.servers import MidtransConfig, XenditConfig
from support.database import check_now, expire
from support.waiting import eventually, is_ready

from paytrust import development
from paytrust.embedded import EmbeddedPostgres
from paytrust.infra import migrations

TESTS = Path(__file__).parents[2]
CLOCK_FACTOR = 900
"""Xendit repeats a webhook after 1, 3, 8 ... s instead of 15, 45, 120 ... min; Midtrans sooner."""
WAIT_S = 60
FIRST_S = 180
"""To import everything, on a machine that has other work."""


class Postgres:
    """Durable, as it comes: fsync, full_page_writes and synchronous_commit are on."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder / "postgres")
        url = self._server.start()
        self.owner_url = development.create_database(url, "crash")
        self.service_url = development.with_database(
            self.owner_url, "crash", user="paytrust_crash", password="tests-only"
        )
        asyncio.run(migrations.migrate(self.owner_url))
        asyncio.run(migrations.ensure_service_login(self.owner_url, self.service_url))

    @property
    def pid(self) -> int:
        return int((self._server.data / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def start(self) -> None:
        """What a supervisor does when the server is gone; harmless when it runs."""
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def run(self, work: Any) -> Any:
        """`await work(connection)` as the owner of the database."""

        async def connected() -> Any:
            connection = await asyncpg.connect(self.owner_url)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    def execute(self, sql: str, *args: Any) -> None:
        self.run(lambda connection: connection.execute(sql, *args))


class Gateways:
    """Both sandboxes in one process, which nobody kills: what they know is the truth."""

    def __init__(self, folder: Path) -> None:
        ports = development.free_port(), development.free_port()
        command = [sys.executable, "-m", "paytrust_sandbox", "--clock-factor", str(CLOCK_FACTOR)]
        command += ["--xendit-port", str(ports[0]), "--midtrans-port", str(ports[1])]
        with (folder / "sandbox.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        xendit, midtrans = XenditConfig(), MidtransConfig()
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.xendit = XenditRemote(url=urls[0], key=xendit.secret_key, callback_token=xendit.callback_token)
        self.midtrans = MidtransRemote(url=urls[1], key=midtrans.server_key, merchant_id=midtrans.merchant_id)
        eventually(lambda: all(_answers(f"{url}/_sandbox") for url in urls), "the sandboxes answer", FIRST_S)

    def stop(self) -> None:
        for remote in (self.xendit, self.midtrans):
            remote.close()
        self._process.terminate()
        self._process.wait(10)


class Service:
    """`paytrust serve`, started again whenever it is gone, as any supervisor does."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.port = development.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_key = secrets.token_hex(32)
        self.log, self.reached = folder / "service.log", folder / "reached.log"
        self._orders = folder / "orders"
        self.lives = 0
        self.died = threading.Event()
        self.statuses: list[int] = []
        self.started_at = 0.0
        self._over = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "campaigns.crash.service", self._orders, self.reached],
            cwd=TESTS,
            env=self._environment(database_url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("ab"),
            text=True,
        )
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()
        self.wait_until_ready(FIRST_S)

    def _environment(self, database_url: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}
        many = dict.fromkeys(
            [f"PAYTRUST_{of}_LIMIT_PER_MINUTE" for of in ("KEY", "ADMIN", "ADDRESS", "WEBHOOK")], "1000000"
        )
        return kept | many | {
            "PAYTRUST_DATABASE_URL": database_url,
            "PAYTRUST_ADMIN_API_KEY": self.admin_key,
            "PAYTRUST_KEY_PEPPER": secrets.token_hex(32),
            "PAYTRUST_ENCRYPTION_KEYS": "crash:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "PAYTRUST_PUBLIC_URL": self.url,
            "PAYTRUST_PORT": str(self.port),
            "PAYTRUST_INSECURE_GATEWAYS": "true",
            "PAYTRUST_LOG_LEVEL": "warning",
        }  # fmt: skip

    def _supervise(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        while not self._over:
            self.started_at = time.monotonic()
            self.lives += 1
            self._process.stdin.write("start\n")
            self._process.stdin.flush()
            self._pid = int(self._process.stdout.readline() or 0)
            status = self._process.stdout.readline()
            if not status:
                return
            self.statuses.append(os.waitstatus_to_exitcode(int(status)))
            self.died.set()
            if time.monotonic() - self.started_at < 1:
                time.sleep(0.2)  # PostgreSQL is away: try again, and not too often

    def arm(self, point: str, nth: int = 1, also: Sequence[int] = ()) -> None:
        self.died.clear()
        with _socket_to(self._orders) as orders:
            orders.send(msgspec.json.encode(Armed(point, nth, list(also))))

    def disarm(self) -> None:
        with contextlib.suppress(OSError):
            self.arm("")

    def wait_until_ready(self, timeout_s: float = WAIT_S) -> float:
        """Returns how long it took since the last start."""
        try:
            eventually(
                lambda: is_ready(self.url) and self._orders.exists(),
                "the service is ready",
                timeout_s,
            )
        except AssertionError as exc:
            exc.add_note(self.log.read_text()[-5000:])
            raise
        return time.monotonic() - self.started_at

    def stop(self) -> None:
        self._over = True
        self._process.kill()
        self._process.wait(10)
        self._supervisor.join(10)


@contextlib.contextmanager
def _socket_to(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
        orders.connect(str(path))
        yield orders


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


class Fixture:
    """All three."""

    def __init__(self, folder: Path) -> None:
        with contextlib.ExitStack() as stack:
            self.postgres = Postgres(folder)
            stack.callback(self.postgres.stop)
            self.gateways = Gateways(folder)
            stack.callback(self.gateways.stop)
            self.service = Service(folder, self.postgres.service_url)
            stack.callback(self.service.stop)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def let_time_pass(self, tenants: Sequence[UUID], passed: timedelta) -> None:
        """
        Move what waits into the past: leases, looks at attempts, tries of webhooks. The database's clock
        decides, and cannot be turned.

        Not the invoices: they are not to expire.
        """

        async def move(owner: asyncpg.Connection) -> None:
            await owner.execute(
                "UPDATE paytrust.idempotency_keys SET lease_until = lease_until - $1::interval WHERE answer IS NULL",
                passed,
            )
            await owner.execute(
                "UPDATE paytrust.webhooks SET next_attempt_at = next_attempt_at - $1::interval, lease_until = lease_until - $1::interval,"
                " first_failed_at = first_failed_at - $1::interval WHERE status = 'received'",
                passed,
            )
            await owner.execute(
                "UPDATE paytrust.payments SET created_at = created_at - $1::interval, updated_at = updated_at - $1::interval,"
                " next_check_at = next_check_at - $1::interval WHERE tenant_id = ANY($2) AND next_check_at IS NOT NULL",
                passed,
                list(tenants),
            )

        self.postgres.run(move)

    def look_now(self, tenants: Sequence[UUID]) -> None:
        """The reconciler's time has come to look at every attempt."""
        self.postgres.execute(
            "UPDATE paytrust.payments SET next_check_at = now() WHERE tenant_id = ANY($1) AND live",
            list(tenants),
        )

    def abandon(self, invoice_id: str) -> None:
        """Nobody has been at the invoice's attempts for a while, and they are looked at."""
        self.postgres.execute(
            "UPDATE paytrust.payments SET updated_at = updated_at - interval '6 minutes', next_check_at = now() WHERE invoice_id = $1",
            UUID(invoice_id),
        )

    def end(self, invoice_id: str) -> None:
        """The invoice's time is up, and the worker that ends invoices looks at it."""
        self.postgres.run(lambda owner: expire(owner, UUID(invoice_id)))

    def expire(self, invoice_id: str) -> None:
        """The invoice's time is up, and the status poller looks at its payments first."""
        self.end(invoice_id)
        self.postgres.execute(
            "UPDATE paytrust.invoices SET end_check_at = now() + interval '1 hour' WHERE id = $1",
            UUID(invoice_id),
        )
        self.postgres.run(lambda owner: check_now(owner, UUID(invoice_id)))
