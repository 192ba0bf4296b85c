"""
What one process of the campaign has to itself: both gateways' servers, a shop for each round, and a look into
the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs
from paytrust_sandbox import Servers
from support import invariants

from paytrust.development import free_port


class Database:
    """
    The service's database, seen by its owner: row-level security hides nothing, and rows can be made older
    than they are.
    """

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url, server_settings={"search_path": "paytrust"}))

    def rows(self, sql, *args):
        return [dict(row) for row in self._runner.run(self._connection.fetch(sql, *args))]

    def value(self, sql, *args):
        return self._runner.run(self._connection.fetchval(sql, *args))

    def execute(self, sql, *args) -> None:
        self._runner.run(self._connection.execute(sql, *args))

    def broken(self, far, tenant_id: str) -> list[str]:
        """Which invariants of a service at rest do not hold for this tenant."""
        seen = invariants.look(far)
        if any(delivery.fault == "truncated" for delivery in far.deliveries):
            seen = structs.replace(
                seen, acknowledged=()
            )  # what was answered with 200 is not what the sandbox meant to send
        return self._runner.run(invariants.broken(self._connection, [seen], tenants=[UUID(tenant_id)]))

    def against_the_rules(self, sql, *args) -> None:
        """Write what the schema would refuse: only time does it otherwise."""

        async def write() -> None:
            async with self._connection.transaction():
                await self._connection.execute("SET LOCAL session_replication_role = replica")
                await self._connection.execute(sql, *args)

        self._runner.run(write())


class Impostor:
    """A TLS server whose certificate nobody has signed."""

    def __init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            pem = Path(folder, "pem")
            pem.write_bytes(_certificate())
            context.load_cert_chain(pem)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._context = context
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with (
                contextlib.suppress(OSError),
                self._context.wrap_socket(connection, server_side=True) as wrapped,
            ):
                wrapped.recv(65_536)


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


class Lane:
    """
    Everything a round is played with. Rounds of one lane follow each other, so a fault befalls the round that
    it was meant for.
    """

    def __init__(self, service_url: str, admin_key: str, owner_url: str, slack_s: float) -> None:
        self.sandbox = Servers()
        self.sandbox.start()
        self.database = Database(owner_url)
        self.slack_s = slack_s
        self.admin = httpx.Client(
            base_url=service_url, headers={"X-Admin-Key": admin_key}, timeout=60, trust_env=False
        )
        self.api = httpx.Client(base_url=service_url, timeout=60, trust_env=False)
        self.nowhere = {
            "connection_refused": f"http://127.0.0.1:{free_port()}",
            "no_tls": self.sandbox.xendit.url.replace("http:", "https:"),
            "strange_certificate": Impostor().url,
            "no_such_name": "http://gateway.invalid",
        }
        """Where an account may point in vain, by the name of the fault."""

    def account(self, gateway: str) -> dict:
        """
        A new tenant's gateway account, whose key `api` shows from now on: what one round did says nothing to
        the next.
        """
        tenant_id = self.admin.post("/tenants", json={"name": "Chaos"}).json()["tenant_id"]
        self.api.headers["X-API-Key"] = self.admin.post("/api-keys", json={"tenant_id": tenant_id}).json()[
            "api_key"
        ]
        far = getattr(self.sandbox, gateway)
        credentials = (
            {"secret_key": far.key, "callback_token": far.callback_token}
            if gateway == "xendit"
            else {"server_key": far.key, "merchant_id": far.merchant_id}
        )
        body = {
            "gateway": gateway,
            "name": "chaos",
            "tenant_id": tenant_id,
            "base_url": far.url,
            "credentials": credentials,
        }
        answer = self.admin.post(
            "/gateway-accounts", json=body | {"currencies": {"IDR": {"percentage": "0.029", "fixed": "2000"}}}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()
