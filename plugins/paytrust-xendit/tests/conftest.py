from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from paytrust_sandbox import Servers, XenditConfig
from paytrust_xendit import XenditCredentials, XenditGateway

from paytrust import Customer, GatewayHTTP, Money, NoOptions, PaymentLine, PaymentRequest, Reach, new_client

NOW = datetime(2030, 1, 1, 3, 4, 5, 678000, UTC)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def new_request():
    """Make a payment request of one or more lines; anything may be replaced."""

    def make(*lines, **changes):
        lines = lines or (
            PaymentLine("Widget", 1, Money(145_000, "IDR")),
            PaymentLine("Service fee", 1, Money(5_000, "IDR")),
        )
        currency = lines[0].unit_price.currency
        request = PaymentRequest(
            reference="PT-1001-1x",
            amount=Money(sum(line.quantity * line.unit_price.minor for line in lines), currency),
            lines=lines,
            description="Order 1001",
            now=NOW,
            expires_at=NOW + timedelta(hours=24),
            customer=Customer(name="Ani", email="ani@example.com"),
            success_url="https://shop.example/ok",
            failure_url="https://shop.example/fail",
        )
        return msgspec.structs.replace(request, **changes)

    return make


@pytest.fixture(scope="session")
def servers():
    with Servers(xendit=XenditConfig(currencies=("IDR", "MYR", "USD", "PHP"))) as servers:
        yield servers


@pytest.fixture
def xendit(servers):
    """The local stand-in, as new. Nobody listens to its webhooks, but it remembers what it sent."""
    servers.xendit.reset()
    servers.xendit.webhook_url = "http://127.0.0.1:9/"
    return servers.xendit


@pytest.fixture
def request_now(new_request):
    """Make a payment request that starts now and ends in an hour."""

    def make(*lines, **changes):
        now = datetime.now(UTC)
        return new_request(*lines, **{"now": now, "expires_at": now + timedelta(hours=1)} | changes)

    return make


@pytest.fixture(scope="session")
async def client():
    async with new_client(Reach(insecure=True)) as client:
        yield client


@pytest.fixture
def connect(xendit, client):
    """Make a gateway for an account at the stand-in."""

    def make(deadline_s=10.0, **changes):
        credentials = XenditCredentials(
            **{"secret_key": xendit.key, "callback_token": xendit.callback_token} | changes
        )
        headers = XenditGateway.headers(credentials)
        http = GatewayHTTP(
            client,
            gateway="xendit",
            base_url=xendit.url,
            headers=headers,
            explain=XenditGateway.explain,
            deadline_s=deadline_s,
        )
        return XenditGateway(credentials, NoOptions(), http)

    return make


@pytest.fixture
def gateway(connect):
    return connect()
