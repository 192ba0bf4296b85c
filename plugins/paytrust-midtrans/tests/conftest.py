from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from paytrust import Customer, Money, PaymentLine, PaymentRequest

NOW = datetime(2030, 1, 1, 3, 0, 0, 678000, UTC)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def new_request():
    """Make a payment request of one or more lines in IDR; anything may be replaced."""

    def make(*lines, **changes):
        lines = lines or (PaymentLine("Widget", 1, Money(150_000, "IDR")), PaymentLine("Service fee", 1, Money(4_000, "IDR")))
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
