"""Attempts to collect an installment, and the money that came on them."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from paytrust.invoices.model import Installment, Invoice
from paytrust.money import Money

ABANDONED_AFTER: Final = timedelta(seconds=60)
"""An attempt that has been "creating" for longer lost the process that was creating it."""
SEEN_FOR: Final = timedelta(seconds=60)
"""A page that was not seen at its gateway for longer is asked about before it is handed out again."""
MAX_ATTEMPTS: Final = 100
"""For one installment; far below what the column and the reference can hold."""
OUR_REFERENCE: Final = re.compile(r"PT-[A-Z2-7]{26}-[0-9]{1,2}-[0-9]{1,5}x", re.ASCII)
"""Matches every reference of `payment_reference`."""


class AttemptStatus(StrEnum):
    CREATING = "creating"
    """Written down; the gateway is being asked, or we died while asking."""
    OPEN = "open"
    PAID = "paid"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    """Never reached the gateway."""
    UNKNOWN = "unknown"
    """Sent, no answer: looked up at the gateway before anything else happens."""


class ReceiptFlag(StrEnum):
    """Why money that came needs a look. It is kept all the same."""

    LATE = "late"
    """It came when the invoice had expired or failed, and was applied."""
    AFTER_CANCEL = "after_cancel"
    AFTER_PAID = "after_paid"
    RETURNED = "returned"
    """Some of it went back to the payer, at the gateway. No receipt has it: the timeline says when and how."""


LIVE: Final = {AttemptStatus.CREATING, AttemptStatus.OPEN, AttemptStatus.UNAVAILABLE, AttemptStatus.UNKNOWN}
"""At most one of these per installment: the database says so too."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to collect *amount* for one installment."""

    id: UUID
    tenant_id: UUID
    invoice_id: UUID
    installment_number: int
    account_id: UUID
    attempt: int
    reference: str
    amount: Money
    status: AttemptStatus
    gateway_payment_id: str | None
    hint: str | None = None
    """The id by which a webhook named the payment, where that is another."""
    payment_url: str | None
    instructions: dict[str, str] | None
    error_code: str | None
    created_at: datetime
    updated_at: datetime
    opened_at: datetime | None
    expires_at: datetime | None = None
    """When the gateway ends its page, where that is known."""
    asked_at: datetime | None = None
    """When the gateway was last asked about its page and had it."""
    received: Money

    def is_being_made(self, at: datetime) -> bool:
        """Whether a process is asking the gateway for it."""
        return self.status is AttemptStatus.CREATING and self.updated_at > at - ABANDONED_AFTER

    def has_ended(self, at: datetime) -> bool:
        """Whether its page is over by the gateway's own word, so that no payer is sent there."""
        return self.expires_at is not None and self.expires_at <= at

    def was_seen(self, at: datetime) -> bool:
        """Whether its page was at the gateway lately."""
        seen = max((moment for moment in (self.opened_at, self.asked_at) if moment), default=self.created_at)
        return seen > at - SEEN_FOR


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """
    Money that came on the attempt *reference*. *paid_at* is the gateway's word, *received_at* our clock.
    """

    installment_number: int
    reference: str
    gateway_payment_id: str
    amount: Money
    paid_at: datetime
    received_at: datetime
    flag: ReceiptFlag | None


class Check(msgspec.Struct, frozen=True):
    """One look at an attempt that a worker has claimed; others keep away until *lease_until*."""

    tenant_id: UUID
    invoice_id: UUID
    payment_id: UUID
    lease_until: datetime


def payment_reference(invoice_id: UUID, installment_number: int, attempt: int) -> str:
    """
    What names one attempt at the gateway: the same every time it is computed, so an unknown outcome can be
    looked up.

    37 characters, legal at every gateway; ends in a letter because Midtrans hashes its fields without
    delimiters.
    """
    encoded = base64.b32encode(invoice_id.bytes).decode().rstrip("=")
    return f"PT-{encoded}-{installment_number}-{attempt}x"


def new_attempt(
    invoice: Invoice, installment: Installment, number: int, *, payment_id: UUID, now: datetime
) -> Attempt:
    """The attempt *number* to collect what is due on *installment*, not written yet."""
    return Attempt(
        id=payment_id,
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.id,
        installment_number=installment.number,
        account_id=invoice.account_id,
        attempt=number,
        reference=payment_reference(invoice.id, installment.number, number),
        amount=installment.due,
        status=AttemptStatus.CREATING,
        gateway_payment_id=None,
        payment_url=None,
        instructions=None,
        error_code=None,
        created_at=now,
        updated_at=now,
        opened_at=None,
        received=Money(0, invoice.currency),
    )


def invoice_of(reference: str) -> UUID | None:
    """The invoice in a `payment_reference`; None when it is not one of ours."""
    if OUR_REFERENCE.fullmatch(reference) is None:
        return None
    return UUID(bytes=base64.b32decode(reference.split("-")[1] + "======"))
