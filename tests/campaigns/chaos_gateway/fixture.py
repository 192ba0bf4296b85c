"""
What one process of the campaign has to itself: both gateways' servers, a shop for each round, and a look into
the database.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs
from paytrust_sandbox import Servers
from support import invariants
from support.database import Database
from support.merchant import FEE, account_body, open_account, sign_up

from paytrust.development import free_port


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


class Fixture:
    """
    Everything a round is played with. Rounds of one fixture follow each other, so a fault befalls the round that
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

    def broken(self, far, tenant_id: str) -> list[str]:
        """Which invariants of a service at rest do not hold for this tenant."""
        seen = invariants.look(far)
        if any(delivery.fault == "truncated" for delivery in far.deliveries):
            # What was answered with 200 is not what the sandbox meant to send.
            seen = structs.replace(seen, acknowledged=())
        return self.database.run(
            lambda connection: invariants.broken(connection, [seen], tenants=[UUID(tenant_id)])
        )

    def account(self, gateway: str) -> dict:
        """
        A new tenant's gateway account, whose key `api` shows from now on: what one round did says nothing to
        the next.
        """
        tenant_id, self.api.headers["X-API-Key"] = sign_up(self.admin, "Chaos")
        # One currency, so that news in another are a fault.
        body = account_body(
            gateway, getattr(self.sandbox, gateway), tenant_id, name="chaos", currencies={"IDR": FEE}
        )
        return open_account(self.admin, body)
