"""From PayTrust's words to Midtrans's: what a payment asks of Snap or of the Core API."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal

import msgspec

from paytrust import Customer, Limits, Money, PaymentRequest

WIB: Final = timezone(timedelta(hours=7))
MIN_MINUTES: Final = 5
DAY_MINUTES: Final = 24 * 60
SNAP_MAX_MINUTES: Final = 7 * DAY_MINUTES
CORE_MAX_MINUTES: Final = {"bank_transfer": 180 * DAY_MINUTES, "echannel": 180 * DAY_MINUTES}
"""Virtual accounts live for up to 180 days; of all other methods the shortest documented limit is 5 days."""

BILLION: Final = 10**9
RANGE: Final[dict[str, tuple[int, int | None]]] = {
    "bca": (10_000, 20 * BILLION),
    "bni": (1, None),
    "bri": (1, 20 * BILLION),
    "cimb": (1, 250_000_000),
    "permata": (1, 9_999_999_999),
    "echannel": (1, 50 * BILLION),
    "qris": (1, 10_000_000),
    "gopay": (1, 20_000_000),
    "shopeepay": (1, 20_000_000),
    "alfamart": (1, 5_000_000),
    "indomaret": (10_000, 5_000_000),
}
"""What the acquirers take in one payment, in rupiah (2026-03), by bank, store or method."""

IDEMPOTENCY_KEY_MAX: Final = 46
NO_IMPOSED_FEE: Final = {"customer_imposed_payment_fee": {"enable": False}}
"""
A merchant's dashboard may have a fee added for the payer to bear ("Automatic Fee Imposition"): not to what an
invoice asks.
"""


class MidtransOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    *product* "snap" opens a hosted page with every active method; "core" charges one method, named by the
    other fields.
    """

    product: Literal["snap", "core"] = "snap"
    payment_type: Literal["bank_transfer", "echannel", "qris", "gopay", "shopeepay", "cstore"] | None = None
    bank: Literal["bca", "bni", "bri", "cimb", "permata"] | None = None
    store: Literal["alfamart", "indomaret"] | None = None
    acquirer: Literal["gopay", "airpay shopee"] | None = None

    def __post_init__(self) -> None:
        if (self.product == "core") != (self.payment_type is not None):
            raise ValueError('payment_type belongs to the product "core", which needs it')
        for name, owner, needed in (
            ("bank", "bank_transfer", True),
            ("store", "cstore", True),
            ("acquirer", "qris", False),
        ):
            given = getattr(self, name) is not None
            if given and self.payment_type != owner:
                raise ValueError(f"{name} belongs to the payment_type {owner}")
            if needed and not given and self.payment_type == owner:
                raise ValueError(f"the payment_type {owner} needs {name}")


def limits(options: MidtransOptions) -> Limits:
    """
    Return those of the account's one Core method; a Snap page offers the methods that take the amount, and
    some take any.
    """
    if options.payment_type is None:
        return Limits(minimum=Money(1, "IDR"))
    least, most = RANGE[options.bank or options.store or options.payment_type]
    return Limits(minimum=Money(least, "IDR"), maximum=None if most is None else Money(most, "IDR"))


def snap_expires_at(request: PaymentRequest) -> datetime:
    """Return when the page dies: a Snap token lives at most 7 days, so perhaps before the request does."""
    return request.now.replace(microsecond=0) + timedelta(minutes=_minutes(request, SNAP_MAX_MINUTES))


def snap_body(request: PaymentRequest) -> dict[str, Any]:
    """Return the body of `POST /snap/v1/transactions`."""
    callbacks = {"finish": request.success_url, "error": request.failure_url}
    return _order(request) | {
        # Without start_time the clock would start when the payer picks a method.
        "expiry": {
            "start_time": _wib(request.now),
            "unit": "minutes",
            "duration": _minutes(request, SNAP_MAX_MINUTES),
        },
        "callbacks": {key: url for key, url in callbacks.items() if url},
        **NO_IMPOSED_FEE,
    }


def charge_body(request: PaymentRequest, options: MidtransOptions) -> dict[str, Any]:
    """Return the body of `POST /v2/charge`."""
    assert options.payment_type is not None
    limit = CORE_MAX_MINUTES.get(options.payment_type, 5 * DAY_MINUTES)
    return _order(request) | {
        "payment_type": options.payment_type,
        options.payment_type: _method(request, options),
        "custom_expiry": {
            "order_time": _wib(request.now),
            "unit": "minute",
            "expiry_duration": _minutes(request, limit),
        },
    }


def notify_headers(request: PaymentRequest) -> dict[str, str]:
    """Send this payment's notifications to this account's own URL, whatever the dashboard says."""
    return {"x-override-notification": request.webhook_url} if request.webhook_url else {}


def charge_headers(request: PaymentRequest) -> dict[str, str]:
    """
    Add the Idempotency-Key, unless Midtrans would ignore it for its length: a repeated order_id is refused
    anyway.
    """
    key = {"idempotency-key": request.reference} if len(request.reference) <= IDEMPOTENCY_KEY_MAX else {}
    return notify_headers(request) | key


def _order(request: PaymentRequest) -> dict[str, Any]:
    assert request.amount.currency == "IDR"
    order: dict[str, Any] = {
        "transaction_details": {"order_id": request.reference, "gross_amount": request.amount.minor},
        "item_details": [
            # Alfamart refuses "|" in names.
            {
                "id": f"L{n}",
                "name": line.name[:50].replace("|", "/"),
                "quantity": line.quantity,
                "price": line.unit_price.minor,
            }
            for n, line in enumerate(request.lines, 1)
        ],
    }
    customer = _customer(request.customer)
    return order | ({"customer_details": customer} if customer else {})


def _customer(customer: Customer) -> dict[str, str]:
    first, _, last = (customer.name or "").strip().partition(" ")
    known = {
        "first_name": first[:255],
        "last_name": last.strip()[:255],
        "email": customer.email,
        "phone": customer.phone,
    }
    return {key: value for key, value in known.items() if value}


def _method(request: PaymentRequest, options: MidtransOptions) -> dict[str, Any]:
    back = {"callback_url": request.success_url} if request.success_url else {}
    methods: dict[str | None, dict[str, Any]] = {
        "bank_transfer": {"bank": options.bank},
        "cstore": {"store": options.store},
        "echannel": {"bill_info1": "Payment", "bill_info2": (request.description or request.reference)[:30]},
        "qris": {"acquirer": options.acquirer or "gopay"},
        "gopay": {"enable_callback": True, **back} if back else {},
        "shopeepay": back,
    }
    return methods[options.payment_type]


def _minutes(request: PaymentRequest, limit: int) -> int:
    """Return the whole minutes left, between the least that both Midtrans documents allow and *limit*."""
    left = int((request.expires_at - request.now).total_seconds()) // 60
    return min(max(left, MIN_MINUTES), limit)


def _wib(at: datetime) -> str:
    return f"{at.astimezone(WIB):%Y-%m-%d %H:%M:%S} +0700"
