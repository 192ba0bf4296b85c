from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from paytrust.access import Principal
from paytrust.api import problems
from paytrust.installments.service import Installments
from paytrust.invoices.model import Installment


class InstallmentOut(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    due_date: datetime
    amount: str
    tax_amount: str
    service_fee_amount: str
    paid_amount: str
    status: Literal["unpaid", "partially_paid", "paid", "overdue"]
    paid_at: datetime | None


class ScheduleOut(msgspec.Struct, frozen=True):
    invoice_id: UUID
    currency: str
    installments: list[InstallmentOut]


class OverpaymentOut(msgspec.Struct, frozen=True):
    invoice_id: UUID
    currency: str
    total_amount: str
    total_paid: str
    overpayment_amount: str


@get("/invoices/{invoice_id:uuid}/installments", summary="Get the schedule", opt={"access": "read"}, responses=problems(401, 403, 404))
async def get_installments(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], installments: NamedDependency[Installments]
) -> ScheduleOut:
    """Get the dated parts of an invoice and what is paid on each. An invoice paid at once has one part."""
    invoice, now = await installments.schedule(principal.tenant_id, invoice_id)
    return ScheduleOut(invoice.id, invoice.currency, [_out(part, now) for part in invoice.installments])


@get("/invoices/{invoice_id:uuid}/overpayment", summary="Get the overpayment", opt={"access": "read"}, responses=problems(401, 403, 404))
async def get_overpayment(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], installments: NamedDependency[Installments]
) -> OverpaymentOut:
    """Get what was paid for an invoice in all, and what of it lies beyond the total."""
    invoice, paid, overpaid = await installments.overpayment(principal.tenant_id, invoice_id)
    return OverpaymentOut(invoice.id, invoice.currency, invoice.total.major, paid.major, overpaid.major)


def _out(part: Installment, now: datetime) -> InstallmentOut:
    status: Literal["unpaid", "partially_paid", "paid", "overdue"] = "unpaid"
    if part.due.minor == 0:
        status = "paid"
    elif part.due_at < now:
        status = "overdue"
    elif part.paid.minor:
        status = "partially_paid"
    return InstallmentOut(
        number=part.number,
        due_date=part.due_at,
        amount=part.amount.major,
        tax_amount=part.tax.major,
        service_fee_amount=part.fee.major,
        paid_amount=part.paid.major,
        status=status,
        paid_at=part.paid_at,
    )


HANDLERS = [get_installments, get_overpayment]
