from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from paytrust_midtrans import MidtransCredentials, MidtransGateway, MidtransOptions
from paytrust_sandbox import Servers

from paytrust import Customer, GatewayHTTP, Money, PaymentLine, PaymentRequest, Reach, new_client

NOW = datetime(2030, 1, 1, 3, 0, 0, 678000, UTC)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def new_request():
    """Make a payment request of one or more lines in IDR; anything may be replaced."""

    def make(*lines, **changes):
        lines = lines or (
            PaymentLine("Widget", 1, Money(150_000, "IDR")),
            PaymentLine("Service fee", 1, Money(4_000, "IDR")),
        )
        request = PaymentRequest(
            reference="PT-20300101-0001x",
            amount=Money(sum(line.quantity * line.unit_price.minor for line in lines), "IDR"),
            lines=lines,
            description="Order 1001",
            now=NOW,
            expires_at=NOW + timedelta(hours=24),
            customer=Customer(name="Ani Wijaya Kusuma", email="ani@example.com", phone="+628123456789"),
            success_url="https://shop.example/ok",
            failure_url="https://shop.example/fail",
            webhook_url="https://pay.example/webhooks/midtrans/t0ken",
        )
        return msgspec.structs.replace(request, **changes)

    return make


@pytest.fixture(scope="session")
def servers():
    with Servers() as servers:
        yield servers


@pytest.fixture
def midtrans(servers):
    """The local stand-in, as new."""
    servers.midtrans.reset()
    return servers.midtrans


@pytest.fixture
def request_now(new_request):
    """Make a payment request that starts now and ends in an hour. Nobody listens to its notifications."""

    def make(*lines, **changes):
        now = datetime.now(UTC)
        common = {
            "now": now,
            "expires_at": now + timedelta(hours=1),
            "webhook_url": "http://127.0.0.1:9/midtrans/t0ken",
        }
        return new_request(*lines, **common | changes)

    return make


@pytest.fixture(scope="session")
async def client():
    async with new_client(Reach(insecure=True)) as client:
        yield client


@pytest.fixture
def connect(midtrans, client):
    """Make a gateway for an account at the stand-in, with *options*."""

    def make(server_key=midtrans.key, deadline_s=10.0, **options):
        credentials = MidtransCredentials(server_key, midtrans.merchant_id)
        headers = MidtransGateway.headers(credentials)
        http = GatewayHTTP(
            client,
            gateway="midtrans",
            base_url=midtrans.url,
            headers=headers,
            explain=MidtransGateway.explain,
            deadline_s=deadline_s,
        )
        return MidtransGateway(credentials, MidtransOptions(**options), http)

    return make


@pytest.fixture
def snap(connect):
    return connect()


@pytest.fixture
def core(connect):
    return connect(product="core", payment_type="bank_transfer", bank="bca")
