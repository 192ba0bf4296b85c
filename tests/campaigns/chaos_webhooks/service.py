"""A service of the campaign's own: processes on a PostgreSQL that keeps what it has committed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from support.waiting import eventually, is_ready

from paytrust import development
from paytrust.embedded import EmbeddedPostgres
from paytrust.infra import migrations

START_S: Final = 60.0
RECEIVE_TIMEOUT_S: Final = 3.0


class Service(msgspec.Struct, frozen=True):
    """
    Where the processes of a service are, the key of its administrator, and its database's URL for the owner.
    """

    urls: list[str]
    admin_key: str
    owner_url: str
    logs: list[Path] = []

    def errors(self) -> list[str]:
        """Lines of the logs with a stack: whatever anybody sends, that is a fault of the service."""
        return [
            line
            for log in self.logs
            for line in log.read_text(errors="replace").splitlines()
            if '"exception":' in line
        ]


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Service]:
    """
    Start *count* processes on a database of their own. Only their limits for API keys are not what an
    operator gets.
    """
    with tempfile.TemporaryDirectory(prefix="paytrust-chaos-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        server = EmbeddedPostgres(folder / "postgres")
        stack.callback(server.stop)
        owner_url = development.create_database(server.start(), "chaos")
        service_url = development.with_database(
            owner_url, "chaos", user="paytrust_chaos", password="tests-only"
        )
        asyncio.run(migrations.migrate(owner_url))
        asyncio.run(migrations.ensure_service_login(owner_url, service_url))
        ports = [development.free_port() for _ in range(count)]
        settings = {
            "DATABASE_URL": service_url,
            "ADMIN_API_KEY": secrets.token_hex(32),
            "KEY_PEPPER": secrets.token_hex(32),
            "ENCRYPTION_KEYS": "chaos:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "PUBLIC_URL": f"http://127.0.0.1:{ports[0]}",
            "INSECURE_GATEWAYS": "true",
            "RECEIVE_TIMEOUT_S": str(RECEIVE_TIMEOUT_S),
            "KEY_LIMIT_PER_MINUTE": "1000000",  # the campaign looks at its invoices more often than a merchant would
            "ADMIN_LIMIT_PER_MINUTE": "1000000",
            "LOG_LEVEL": "warning",
        }
        logs = [folder / f"log-{port}" for port in ports]
        for port, log in zip(ports, logs, strict=True):
            stack.enter_context(_node(folder, port, log, settings))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for url, log in zip(urls, logs, strict=True):
            _wait(url, log)
        yield Service(urls, settings["ADMIN_API_KEY"], owner_url, logs)


@contextlib.contextmanager
def _node(folder: Path, port: int, log: Path, settings: dict[str, str]) -> Iterator[None]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}
    environ |= {f"PAYTRUST_{name}": value for name, value in settings.items()} | {"PAYTRUST_PORT": str(port)}
    command = [str(Path(sys.executable).with_name("paytrust")), "serve"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(40)


def _wait(url: str, log: Path) -> None:
    eventually(lambda: is_ready(url), lambda: f"no service at {url}: {log.read_text()[-3000:]}", START_S)
