"""The timeline of an invoice, from all that is kept about it."""

from __future__ import annotations

from collections.abc import Sequence

from paytrust.invoices.model import Invoice, InvoiceStatus, TimelineEntry
from paytrust.payments.model.attempt import Attempt, Receipt


def timeline(
    invoice: Invoice, notes: Sequence[TimelineEntry], attempts: Sequence[Attempt], receipts: Sequence[Receipt]
) -> list[TimelineEntry]:
    """
    What happened to an invoice, oldest first: from its own row, its attempts, the money that came, and the
    notes about the rest.
    """
    moments = [TimelineEntry(at=invoice.created_at, event="created", details={"amount": invoice.total.major})]
    for attempt in attempts:
        named = {
            "installment_number": attempt.installment_number,
            "reference": attempt.reference,
            "amount": attempt.amount.major,
        }
        moments.append(TimelineEntry(at=attempt.created_at, event="payment_requested", details=named))
        if attempt.opened_at is not None:
            moments.append(TimelineEntry(at=attempt.opened_at, event="payment_opened", details=named))
    if invoice.payment_initiated_at is not None:
        change = {"from": InvoiceStatus.DRAFT, "to": InvoiceStatus.PENDING}
        moments.append(
            TimelineEntry(
                at=invoice.payment_initiated_at,
                event="status_changed",
                reason="its first payment was opened",
                details=change,
            )
        )
    for receipt in receipts:
        named = {
            "installment_number": receipt.installment_number,
            "reference": receipt.reference,
            "amount": receipt.amount.major,
        }
        named |= {
            "gateway_payment_id": receipt.gateway_payment_id,
            "paid_at": receipt.paid_at,
            "flag": receipt.flag,
        }
        moments.append(TimelineEntry(at=receipt.received_at, event="payment_received", details=named))
    # The sort is stable: of one moment, what the notes say comes last, in the order in which they were
    # written.
    return sorted([*moments, *reversed(notes)], key=lambda moment: moment.at)
