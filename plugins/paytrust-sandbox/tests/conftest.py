"""Real servers, real sockets: both gateways, a merchant that receives webhooks, and clients for the APIs."""

import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from paytrust_sandbox import MidtransRemote, Servers, XenditRemote


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Merchant:
    """
    A shop's webhook endpoint: keeps what comes, answers 200 or what *answers* says next: a status, or status
    and location.
    """

    url: str
    received: list[Received] = field(default_factory=list)
    answers: deque[int | tuple[int, str]] = field(default_factory=deque)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        merchant = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                merchant.received.append(
                    Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                )
                answer = merchant.answers.popleft() if merchant.answers else 200
                status, location = answer if isinstance(answer, tuple) else (answer, "")
                self.send_response(status)
                if location:
                    self.send_header("location", location)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        return Handler


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    # A day of retries passes in less than half a second.
    with Servers(clock_factor=200_000) as servers:
        yield servers


@pytest.fixture
def xendit(servers: Servers) -> XenditRemote:
    servers.xendit.reset()
    servers.xendit.webhook_url = ""
    return servers.xendit


@pytest.fixture
def midtrans(servers: Servers) -> MidtransRemote:
    servers.midtrans.reset()
    servers.midtrans.webhook_url = ""
    return servers.midtrans


@pytest.fixture
def merchant() -> Iterator[Merchant]:
    merchant = Merchant("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), merchant.handler())
    merchant.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield merchant
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[httpx.Client]:
    """A client without a key, as payers have."""
    with httpx.Client(trust_env=False, timeout=5) as client:
        yield client


@pytest.fixture(scope="session")
def xendit_client(servers: Servers) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=servers.xendit.url, auth=(servers.xendit.key, ""), trust_env=False, timeout=5
    ) as client:
        yield client


@pytest.fixture(scope="session")
def midtrans_client(servers: Servers) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=servers.midtrans.url, auth=(servers.midtrans.key, ""), trust_env=False, timeout=5
    ) as client:
        yield client


@pytest.fixture
def xendit_api(xendit: XenditRemote, xendit_client: httpx.Client) -> httpx.Client:
    return xendit_client


@pytest.fixture
def midtrans_api(midtrans: MidtransRemote, midtrans_client: httpx.Client) -> httpx.Client:
    return midtrans_client


class Invoices:
    """Creates Xendit invoices with as little ado as a test deserves."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def create(self, **terms: Any) -> dict[str, Any]:
        answer = self.client.post("/v2/invoices", json={"external_id": "ORD-1", "amount": 150_000, **terms})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, **terms: Any) -> dict[str, Any]:
        answer = self.client.post("/v2/invoices", json={"external_id": "ORD-1", "amount": 150_000, **terms})
        assert answer.status_code == 400, answer.text
        return answer.json()


@pytest.fixture
def invoices(xendit_api: httpx.Client) -> Invoices:
    return Invoices(xendit_api)


class Transactions:
    """Opens Snap pages and charges by Core."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def snap(
        self,
        order_id: str = "ORD-1",
        amount: Any = 10_400,
        headers: dict[str, str] | None = None,
        **terms: Any,
    ) -> httpx.Response:
        body = {"transaction_details": {"order_id": order_id, "gross_amount": amount}, **terms}
        return self.client.post("/snap/v1/transactions", json=body, headers=headers)

    def charge(
        self,
        order_id: str = "ORD-1",
        amount: Any = 10_400,
        headers: dict[str, str] | None = None,
        **terms: Any,
    ) -> dict[str, Any]:
        method = terms or {"payment_type": "bank_transfer", "bank_transfer": {"bank": "bca"}}
        body = {"transaction_details": {"order_id": order_id, "gross_amount": amount}, **method}
        return self.client.post("/v2/charge", json=body, headers=headers).json()

    def status(self, identity: str = "ORD-1") -> dict[str, Any]:
        return self.client.get(f"/v2/{identity}/status").json()

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        return self.client.post(f"/v2/{path}", json=body if body is not None else {}, headers=headers).json()

    def card(self, number: str = "4811111111111114") -> str:
        token = self.client.get("/v2/token", params={"card_number": number}).json()["token_id"]
        assert isinstance(token, str)
        return token


@pytest.fixture
def transactions(midtrans_api: httpx.Client) -> Transactions:
    return Transactions(midtrans_api)


class Wire:
    """A bare TCP connection with one HTTP request on it."""

    def __init__(self, client: httpx.Client, method: str, path: str, body: bytes = b"") -> None:
        request = client.build_request(
            method, path, content=body, headers={"content-type": "application/json"}
        )
        signed = next(client.auth.sync_auth_flow(request)) if client.auth else request
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in signed.headers.items()),
            "",
            "",
        ]
        self.socket = socket.create_connection((request.url.host, request.url.port), timeout=5)
        self.socket.sendall("\r\n".join(lines).encode() + body)

    def read(self, timeout_s: float = 5.0) -> bytes:
        """Return everything until the peer closes or *timeout_s* passes without a byte."""
        self.socket.settimeout(timeout_s)
        received = b""
        try:
            while chunk := self.socket.recv(65536):
                received += chunk
        except TimeoutError:
            pass
        return received

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def wire(xendit_api: httpx.Client) -> Iterator[Any]:
    opened: list[Wire] = []

    def connect(
        method: str = "POST",
        path: str = "/v2/invoices",
        body: bytes = b'{"external_id":"ORD-1","amount":150000}',
    ) -> Wire:
        opened.append(Wire(xendit_api, method, path, body))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()
