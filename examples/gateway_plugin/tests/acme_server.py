"""
Acme Pay as a small local server, written from its documentation (README.md) and from nothing else.

It shares no code with the plugin: a mistake made in both places would look right in every test.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

SECRET_KEY = "acme-secret-key"
SIGNING_KEY = "acme-signing-key"


class AcmeServer:
    """`with AcmeServer() as acme:` and it answers at `acme.url`."""

    def __init__(self) -> None:
        self.payments: list[dict[str, Any]] = []
        self.silent = False
        """Take requests, do what they ask, and hang up without an answer."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Handler(self, *args))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="acme"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        payment = {
            "id": f"ac_{secrets.token_hex(8)}",
            "reference": body["reference"],
            "state": "waiting",
            "amount": body["amount"],
            "currency": body["currency"],
            "paid_amount": None,
            "paid_at": None,
            "notify_url": body["notify_url"],
        }
        payment["page"] = f"{self.url}/pay/{payment['id']}"
        self.payments.append(payment)
        return payment

    def pay(self, reference: str) -> int:
        """The payer pays: returns the status that the receiver of the webhook answered."""
        payment = next(known for known in self.payments if known["reference"] == reference)
        payment |= {
            "state": "paid",
            "paid_amount": payment["amount"],
            "paid_at": datetime.now(UTC).isoformat(),
        }
        return self.notify(payment, "payment.paid")

    def notify(self, payment: dict[str, Any], event: str, *, signing_key: str = SIGNING_KEY) -> int:
        """Send one signed webhook and return the status of the answer."""
        body = json.dumps(
            {"event_id": f"ev_{secrets.token_hex(8)}", "type": event, "reference": payment["reference"]}
        ).encode()
        signature = hmac.new(signing_key.encode(), body, hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "acme-signature": signature}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(payment["notify_url"], body, headers), timeout=10
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            exc.close()
            return exc.code


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, acme: AcmeServer, *args: Any) -> None:
        self.acme = acme
        super().__init__(*args)

    def do_GET(self) -> None:
        reference = parse_qs(urlsplit(self.path).query).get("reference", [""])[0]
        self.answer(200, [payment for payment in self.acme.payments if payment["reference"] == reference])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path == "/v1/payments":
            self.create(json.loads(body))
        else:
            self.cancel(self.path.split("/")[3])

    def create(self, asked: dict[str, Any]) -> None:
        if asked["amount"] < 1:
            self.answer(422, {"error": "the amount must be at least 1"})
        elif datetime.fromisoformat(asked["expires_at"]) < datetime.now(UTC):
            self.answer(422, {"error": "expires_at lies in the past"})
        else:
            self.answer(201, self.acme.create(asked))

    def cancel(self, payment_id: str) -> None:
        payment = next(known for known in self.acme.payments if known["id"] == payment_id)
        if payment["state"] == "paid":
            self.answer(409, {"error": "the payment has been paid"})
        else:
            payment["state"] = "cancelled"
            self.answer(200, payment)

    def answer(self, status: int, body: Any) -> None:
        if self.headers.get("authorization") != f"Bearer {SECRET_KEY}":
            status, body = 401, {"error": "unknown key"}
        if self.acme.silent:
            return
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the argument's name in http.server
        """Tests are quiet."""
