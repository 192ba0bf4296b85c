"""Xendit refunds: objects of their own. They end pending, and never touch the invoice they belong to."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from paytrust_sandbox.http import Refusal, Request, Response, json_response
from paytrust_sandbox.money import truncated, wire
from paytrust_sandbox.xendit.channels import REFUNDABLE
from paytrust_sandbox.xendit.invoices import Invoice, Invoices, stamp
from paytrust_sandbox.xendit.validation import error, number, refuse

REASONS = ("FRAUDULENT", "DUPLICATE", "REQUESTED_BY_CUSTOMER", "CANCELLATION", "OTHERS")
KINDS = {"CREDIT_CARD": "CARD"}


@dataclass(kw_only=True)
class Refund:
    """One refund of one paid invoice. What is *silent* ends without a webhook."""

    id: str
    invoice: Invoice
    amount: Decimal
    reason: str
    created_at: datetime
    updated_at: datetime
    reference_id: str | None = None
    metadata: dict[str, Any] | None = None
    status: str = "PENDING"
    failure_code: str | None = None
    silent: bool = False

    def move(self, status: str, at: datetime, failure_code: str | None = None) -> None:
        self.status, self.updated_at, self.failure_code = status, at, failure_code

    def seen(self) -> dict[str, Any]:
        kind = self.invoice.payment["payment_method"]
        return {
            "id": self.id,
            "payment_id": self.invoice.payment.get("payment_id"),
            "invoice_id": self.invoice.id,
            "payment_method_type": KINDS.get(kind, kind),
            "channel_code": self.invoice.payment["payment_channel"],
            "currency": self.invoice.currency,
            "amount": wire(self.amount),
            "status": self.status,
            "reason": self.reason,
            "reference_id": self.reference_id,
            "failure_code": self.failure_code,
            "refund_fee_amount": None,
            "metadata": self.metadata,
            "created": stamp(self.created_at),
            "updated": stamp(self.updated_at),
        }


class Refunds:
    """The `/refunds` endpoints."""

    def __init__(self, invoices: Invoices, now: Callable[[], datetime]) -> None:
        self.by_id: dict[str, Refund] = {}
        self._by_invoice: dict[str, list[Refund]] = {}
        self._by_key: dict[str, tuple[bytes, Refund]] = {}
        self._invoices = invoices
        self._now = now

    def create(self, request: Request) -> Response:
        key = request.headers.get("idempotency-key")
        if key in self._by_key:
            body, earlier = self._by_key[key]
            if body != request.body:
                raise refuse("IDEMPOTENCY_ERROR", "The idempotency key was used with another body", 409)
            return json_response(earlier.seen())
        refund = self._opened_for(_body(request))
        if key:
            self._by_key[key] = (request.body, refund)
        return json_response(refund.seen())

    def get(self, request: Request) -> Response:
        return json_response(self._find(request).seen())

    def index(self, request: Request) -> Response:
        query = dict(request.query)
        found = [
            refund for refund in self.by_id.values() if query.get("invoice_id") in {None, refund.invoice.id}
        ]
        return json_response({"data": [refund.seen() for refund in found], "has_more": False})

    def cancel(self, request: Request) -> Response:
        refund = self._find(request)
        if refund.status != "PENDING":
            raise refuse("INELIGIBLE_TRANSACTION", f"The refund is {refund.status}")
        refund.move("CANCELLED", self._now())
        return json_response(refund.seen())

    def clear(self) -> None:
        self.by_id.clear()
        self._by_invoice.clear()
        self._by_key.clear()

    def pending(self) -> list[Refund]:
        return [refund for refund in self.by_id.values() if refund.status == "PENDING"]

    def of(self, invoice: Invoice) -> list[Refund]:
        return self._by_invoice.get(invoice.id, [])

    def total(self, invoice: Invoice, *statuses: str) -> Decimal:
        """Return how much of *invoice* is in refunds that have one of these *statuses*."""
        return sum((refund.amount for refund in self.of(invoice) if refund.status in statuses), Decimal(0))

    def left(self, invoice: Invoice) -> Decimal:
        """Return how much of *invoice* can still be refunded."""
        return (invoice.paid_amount or Decimal(0)) - self.total(invoice, "PENDING", "SUCCEEDED")

    def open(self, invoice: Invoice, amount: Decimal, **terms: Any) -> Refund:
        """Return a new pending refund; *terms* are reason, reference_id, metadata and silent."""
        now = self._now()
        refund = Refund(
            id=f"rfd-{uuid.uuid4()}", invoice=invoice, amount=amount, created_at=now, updated_at=now, **terms
        )
        self.by_id[refund.id] = refund
        self._by_invoice.setdefault(invoice.id, []).append(refund)
        return refund

    def _opened_for(self, body: dict[str, Any]) -> Refund:
        invoice = self._invoices.by_id.get(str(body.get("invoice_id")))
        if invoice is None:
            raise refuse("DATA_NOT_FOUND", "There is no such invoice", 404)
        amount = self._amount(invoice, body)
        if body.get("reason") not in REASONS:
            raise refuse("API_VALIDATION_ERROR", f"reason must be one of {', '.join(REASONS)}")
        return self.open(
            invoice,
            amount,
            reason=body["reason"],
            reference_id=body.get("reference_id"),
            metadata=body.get("metadata"),
        )

    def _amount(self, invoice: Invoice, body: dict[str, Any]) -> Decimal:
        if invoice.paid_amount is None:
            raise refuse("INELIGIBLE_TRANSACTION_STATUS", "The invoice is not paid")
        if invoice.payment["payment_method"] not in REFUNDABLE:
            raise refuse("REFUND_NOT_SUPPORTED", "This channel cannot be refunded", 403)
        if body.get("currency", invoice.currency) != invoice.currency:
            raise refuse("INVALID_VALUE_ERROR", "The currency is not that of the payment")
        left = self.left(invoice)
        asked = left if body.get("amount") is None else number(body["amount"])
        if asked is None or asked <= 0:
            raise refuse("API_VALIDATION_ERROR", "amount must be a number greater than 0")
        amount = truncated(asked, invoice.currency)
        if amount > left:
            raise refuse("MAXIMUM_REFUND_AMOUNT_REACHED", f"No more than {left} can be refunded")
        return amount

    def _find(self, request: Request) -> Refund:
        refund = self.by_id.get(request.params["id"])
        if refund is None:
            raise Refusal(error(404, "DATA_NOT_FOUND", "There is no such refund"))
        return refund


def _body(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError as exc:
        raise refuse("INVALID_JSON_FORMAT", "The body is not JSON") from exc
    if not isinstance(body, dict):
        raise refuse("API_VALIDATION_ERROR", "The body must be an object")
    return body
