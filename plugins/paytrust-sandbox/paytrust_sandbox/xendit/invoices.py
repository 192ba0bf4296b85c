"""Xendit invoices: the status machine, and how an invoice looks on the wire."""

import heapq
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from paytrust_sandbox.money import text, wire
from paytrust_sandbox.records import Payment
from paytrust_sandbox.xendit.channels import availability, offered, payment_fields

DAY_S = 86_400
USER_ID = "62440e3200aabbccddeeff00"
ECHOED = (
    "description",
    "payer_email",
    "customer",
    "customer_notification_preference",
    "success_redirect_url",
    "failure_redirect_url",
    "items",
    "fees",
    "locale",
    "metadata",
    "mid_label",
    "channel_properties",
    "reminder_time",
    "reminder_time_unit",
)
IN_WEBHOOK = ("payer_email", "description", "items", "fees", "success_redirect_url", "failure_redirect_url")


@dataclass
class Invoice:
    """One invoice. *body* is the validated request it came from."""

    id: str
    user_id: str
    merchant_name: str
    body: dict[str, Any]
    url: str
    created_at: datetime
    expires_at: datetime
    updated_at: datetime
    currency: str
    status: str = "PENDING"
    paid_amount: Decimal | None = None
    payment: dict[str, Any] = field(default_factory=dict)

    @property
    def external_id(self) -> str:
        return str(self.body["external_id"])

    @property
    def amount(self) -> Decimal:
        return Decimal(self.body["amount"])

    @property
    def channels(self) -> dict[str, str]:
        return offered(self.body["currency"], self.body.get("payment_methods"))

    def pay(self, *, at: datetime, amount: Decimal, currency: str, channel: str | None) -> None:
        """
        Book a payment over *channel*, by default the first offered. Raises ValueError for one that is not
        offered.
        """
        code = channel or next(iter(self.channels))
        if code not in self.channels:
            raise ValueError(f"channel {code!r} is not offered; there are {', '.join(self.channels)}")
        token = str(uuid.uuid4())
        self.payment = {**payment_fields(code, self.channels[code], token), "paid_at": stamp(at)}
        self.paid_amount, self.currency = amount, currency
        self.move("PAID", at)

    def move(self, status: str, at: datetime) -> None:
        self.status, self.updated_at = status, at

    def seen(self) -> dict[str, Any]:
        """Return the invoice as create, get, list and expire answer it."""
        seen = {
            **self._identity(),
            "merchant_profile_picture_url": "https://sandbox.invalid/logo.png",
            "amount": wire(self.amount),
            "expiry_date": stamp(self.expires_at),
            "invoice_url": self.url,
            **availability(self.channels, self.amount, self.merchant_name),
            "should_send_email": self.body.get("should_send_email") or False,
            **self._times(),
            **self._echo(ECHOED),
            **self.payment,
        }
        return seen if self.paid_amount is None else {**seen, "paid_amount": wire(self.paid_amount)}

    def announced(self) -> dict[str, Any]:
        """Return the invoice as its webhook shows it."""
        announced = {
            **self._identity(),
            "is_high": False,
            "amount": wire(self.amount),
            **self._times(),
            **self._echo(IN_WEBHOOK),
        }
        if self.paid_amount is None:
            return announced
        return {**announced, **self.payment, "paid_amount": wire(self.paid_amount)}

    def _identity(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "external_id": self.external_id,
            "user_id": self.user_id,
            "status": self.status,
            "merchant_name": self.merchant_name,
            "currency": self.currency,
        }

    def _times(self) -> dict[str, str]:
        return {"created": stamp(self.created_at), "updated": stamp(self.updated_at)}

    def _echo(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: _tidy(self.body[name]) for name in names if self.body.get(name) is not None}


class Invoices:
    """All invoices, by id and by external_id, and the order in which they expire."""

    def __init__(self) -> None:
        self.by_id: dict[str, Invoice] = {}
        self._by_external_id: dict[str, list[Invoice]] = {}
        self._expiring: list[tuple[datetime, str]] = []

    def clear(self) -> None:
        self.by_id.clear()
        self._by_external_id.clear()
        self._expiring.clear()

    def create(
        self, body: dict[str, Any], *, at: datetime, base_url: str, user_id: str, merchant: str
    ) -> Invoice:
        identity = f"{int(at.timestamp()):08x}{secrets.token_hex(8)}"
        expires_at = at + timedelta(seconds=float(body.get("invoice_duration") or DAY_S))
        url = f"{base_url}/web/{identity}"
        invoice = Invoice(identity, user_id, merchant, body, url, at, expires_at, at, body["currency"])
        self.by_id[identity] = invoice
        self._by_external_id.setdefault(invoice.external_id, []).append(invoice)
        heapq.heappush(self._expiring, (expires_at, identity))
        return invoice

    def under(self, external_id: str) -> list[Invoice]:
        """Return the invoices of *external_id*, oldest first: it is not unique."""
        return self._by_external_id.get(external_id, [])

    def expired_by(self, now: datetime) -> list[Invoice]:
        """Return, once, the unpaid invoices whose time is up."""
        due = []
        while self._expiring and self._expiring[0][0] <= now:
            invoice = self.by_id[heapq.heappop(self._expiring)[1]]
            if invoice.status == "PENDING":
                due.append(invoice)
        return due


def described(invoice: Invoice, *, refunded: Decimal, charged_back: Decimal) -> Payment:
    """Return *invoice* as the control API shows it."""
    paid = None if invoice.paid_amount is None else text(invoice.paid_amount, invoice.currency)
    return Payment(
        id=invoice.id,
        reference=invoice.external_id,
        status=invoice.status,
        amount=text(invoice.amount, invoice.body["currency"]),
        currency=invoice.body["currency"],
        page_url=invoice.url,
        created_at=invoice.created_at.isoformat(),
        paid_amount=paid,
        paid_currency=None if paid is None else invoice.currency,
        refunded_amount=text(refunded, invoice.currency) if refunded else None,
        charged_back_amount=text(charged_back, invoice.currency) if charged_back else None,
        details=invoice.seen(),
    )


def stamp(at: datetime) -> str:
    """Return *at*, which is UTC, with milliseconds and Z."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _tidy(value: Any) -> Any:
    """Return *value* as it is echoed: 150000.0 comes back as 150000, and what is null is left out."""
    if isinstance(value, Decimal):
        return wire(value)
    if isinstance(value, dict):
        return {name: _tidy(one) for name, one in value.items() if one is not None}
    return [_tidy(one) for one in value] if isinstance(value, list) else value
