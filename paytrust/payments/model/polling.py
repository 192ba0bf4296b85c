"""When a gateway is asked about an attempt again, and what of its answer must be closed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.payments.model.attempt import LIVE, Attempt, AttemptStatus

EXPIRY_SLACK: Final = timedelta(minutes=1)
"""Gateways count expiry in whole seconds or minutes, so theirs may come a little before ours."""

EARLY_CHECKS: Final = (timedelta(minutes=5), timedelta(hours=1), timedelta(hours=6))
LATE_CHECK: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
GRACE: Final = timedelta(days=7)
"""How long after its end an attempt is still asked about: a bank transfer can take days."""


def next_check(attempt: Attempt, expires_at: datetime, now: datetime) -> datetime | None:
    """
    When the gateway is asked again whether *attempt* was paid; None for never.

    A live one: 5 min, 1 h and 6 h after it was made, then daily, and when the invoice's time is up. One that
    ended unpaid: 1 h after its end, then daily for a week. A paid one that we have just looked at needs no
    other look.
    """
    if attempt.status in {AttemptStatus.PAID, AttemptStatus.REJECTED}:
        return None
    if attempt.status in LIVE:
        start, last = attempt.created_at, expires_at + GRACE
        times = [*(start + after for after in EARLY_CHECKS), expires_at + EXPIRY_SLACK]
    else:
        start, last = attempt.updated_at, attempt.updated_at + GRACE
        times = [start + LATE_CHECK]
    times.append(start + ((now - start) // DAY + 1) * DAY)
    return min((at for at in times if now < at <= last), default=None)


def duplicate_pages(attempt: Attempt, found: Sequence[GatewayPayment]) -> list[GatewayPayment]:
    """
    What a payer could still pay and should not: pages beside the one we gave out, and every page of an
    attempt that is over.
    """
    payable = [payment for payment in found if payment.status is PaymentStatus.OPEN]
    ours = attempt.gateway_payment_id
    known = any(payment.gateway_payment_id == ours for payment in found)
    if attempt.status is AttemptStatus.OPEN:
        # Where our own is not among them it goes by another name (Midtrans: a page, then a transaction):
        # leave it alone.
        return [payment for payment in payable if known and payment.gateway_payment_id != ours]
    if payable and not known and ours is not None:
        payable.insert(0, as_created(attempt, ours))
    return payable


def as_created(attempt: Attempt, gateway_payment_id: str) -> GatewayPayment:
    """The payment that `create_payment` returned for an open attempt, as far as closing it needs."""
    return GatewayPayment(
        reference=attempt.reference,
        gateway_payment_id=gateway_payment_id,
        status=PaymentStatus.OPEN,
        amount=attempt.amount,
    )
