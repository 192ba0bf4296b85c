"""
Xendit disputes: a payer's bank asks for a card or QR payment back. Like refunds, they never touch the
invoice.
"""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from paytrust_sandbox.http import Request, Response, json_response
from paytrust_sandbox.money import text
from paytrust_sandbox.xendit.channels import CARD, QR
from paytrust_sandbox.xendit.invoices import Invoice, stamp
from paytrust_sandbox.xendit.validation import refuse

DISPUTABLE = frozenset({CARD, QR})
EVIDENCE_WITHIN = timedelta(days=7)
REASONS = {"WON": "CHALLENGED", "LOST": "EXCEEDED_DEADLINE"}


@dataclass
class Dispute:
    """One dispute over one payment."""

    invoice: Invoice
    amount: Decimal
    created_at: datetime
    updated_at: datetime
    id: str = field(default_factory=lambda: f"mi-dspt-{uuid.uuid4()}")
    payment_id: str = field(default_factory=lambda: f"py-{uuid.uuid4()}")
    status: str = "ACTION_REQUIRED"

    def end(self, status: str, at: datetime) -> None:
        self.status, self.updated_at = status, at

    def seen(self) -> dict[str, Any]:
        """Return the dispute as the API answers it, and with an `event` as its webhook says it."""
        card = self.invoice.payment["payment_method"] == CARD
        taken = text(self.amount, self.invoice.currency)
        return {
            "id": self.id,
            "channel_code": "CARDS" if card else self.invoice.payment["payment_channel"],
            **({"card_brands": "VISA"} if card else {}),
            "status": self.status,
            **({"status_reason": REASONS[self.status]} if self.status in REASONS else {}),
            "currency": self.invoice.currency,
            "amount": {"initial": taken, "terminal": taken if self.status == "LOST" else None},
            "created_at": stamp(self.created_at),
            "updated_at": stamp(self.updated_at),
            "due_date": stamp(self.created_at + EVIDENCE_WITHIN),
            "category": {"name": "fraud", "allowed_evidence": []},
            "related_disputes": [],
            "payment_id": self.invoice.payment.get("payment_id", self.payment_id),
            "reference_id": self.invoice.external_id,
        }


class Disputes:
    """The `/v1/disputes` endpoints, as far as they are read."""

    def __init__(self) -> None:
        self.by_id: dict[str, Dispute] = {}

    def open(self, invoice: Invoice, amount: Decimal, at: datetime) -> Dispute:
        dispute = Dispute(invoice, amount, at, at)
        self.by_id[dispute.id] = dispute
        return dispute

    def of(self, invoice: Invoice) -> list[Dispute]:
        return [dispute for dispute in self.by_id.values() if dispute.invoice is invoice]

    def lost(self, invoice: Invoice) -> Decimal:
        """Return how much of *invoice* was taken back."""
        return sum((dispute.amount for dispute in self.of(invoice) if dispute.status == "LOST"), Decimal(0))

    def clear(self) -> None:
        self.by_id.clear()

    def index(self, request: Request) -> Response:
        query = dict(request.query)
        seen = [dispute.seen() for dispute in self.by_id.values()]
        found = [
            one
            for one in seen
            if all(query.get(name) in {None, one[name]} for name in ("status", "payment_id", "currency"))
        ]
        return json_response({"data": found, "pagination": {"next_cursor": None, "has_more": False}})

    def get(self, request: Request) -> Response:
        dispute = self.by_id.get(request.params["id"])
        if dispute is None:
            raise refuse("DATA_NOT_FOUND", "There is no such dispute", 404)
        return json_response(dispute.seen())
