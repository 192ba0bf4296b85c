from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from acme_server import SECRET_KEY, SIGNING_KEY, AcmeServer
from paytrust_acme import AcmeCredentials, AcmeGateway

from paytrust import GatewayHTTP, Money, NoOptions, PaymentLine, PaymentRequest, Reach, new_client


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def acme() -> Iterator[AcmeServer]:
    with AcmeServer() as server:
        yield server


@pytest.fixture(scope="session")
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with new_client(Reach(insecure=True)) as client:
        yield client


@pytest.fixture
def connect(acme: AcmeServer, client: aiohttp.ClientSession) -> Callable[..., AcmeGateway]:
    """Make the gateway for an account at the local Acme, as the core does."""

    def make(**changes: str) -> AcmeGateway:
        credentials = AcmeCredentials(**{"secret_key": SECRET_KEY, "signing_key": SIGNING_KEY} | changes)
        headers = AcmeGateway.headers(credentials)
        http = GatewayHTTP(
            client,
            gateway="acme",
            base_url=acme.url,
            headers=headers,
            explain=AcmeGateway.explain,
            deadline_s=2,
        )
        return AcmeGateway(credentials, NoOptions(), http)

    return make


@pytest.fixture
def new_request() -> Callable[..., PaymentRequest]:
    """Make what the core asks for: USD 19.99, payable for an hour."""

    def make(**changes: Any) -> PaymentRequest:
        now = datetime.now(UTC)
        price = Money(1999, "USD")
        given: dict[str, Any] = {
            "reference": "PT-1001-1x",
            "amount": price,
            "lines": (PaymentLine("Widget", 1, price),),
            "description": "Order 1001",
        }
        given |= {
            "now": now,
            "expires_at": now + timedelta(hours=1),
            "webhook_url": "http://127.0.0.1:9/never-called",
        }
        return PaymentRequest(**given | changes)

    return make
