from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from paytrust import Customer, Money, PaymentLine, PaymentRequest

NOW = datetime(2030, 1, 1, 3, 4, 5, 678000, UTC)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def new_request():
    """Make a payment request of one or more lines; anything may be replaced."""

    def make(*lines, **changes):
        lines = lines or (PaymentLine("Widget", 1, Money(145_000, "IDR")), PaymentLine("Service fee", 1, Money(5_000, "IDR")))
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
