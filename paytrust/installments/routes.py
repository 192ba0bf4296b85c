from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get, patch
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from paytrust.api.problems import problems
from paytrust.installments.model import AdjustInstallments
from paytrust.installments.service import Installments
from paytrust.invoices.routes import InstallmentOut, schedule_out
from paytrust.security.access import Principal


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


@get(
    "/invoices/{invoice_id:uuid}/installments",
    summary="Get the schedule",
    opt={"access": "read"},
    responses=problems(401, 403, 404),
)
async def get_installments(
    invoice_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    installments: NamedDependency[Installments],
) -> ScheduleOut:
    """Get the dated parts of an invoice and what is paid on each. An invoice paid at once has one part."""
    invoice = await installments.schedule(principal.tenant_id, invoice_id)
    return ScheduleOut(invoice.id, invoice.currency, schedule_out(invoice))


@get(
    "/invoices/{invoice_id:uuid}/overpayment",
    summary="Get the overpayment",
    opt={"access": "read"},
    responses=problems(401, 403, 404),
)
async def get_overpayment(
    invoice_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    installments: NamedDependency[Installments],
) -> OverpaymentOut:
    """Get what was paid for an invoice in all, and what of it lies beyond the total."""
    invoice, paid, overpaid = await installments.overpayment(principal.tenant_id, invoice_id)
    return OverpaymentOut(invoice.id, invoice.currency, invoice.total.major, paid.major, overpaid.major)


@patch(
    "/invoices/{invoice_id:uuid}/installments",
    summary="Adjust the schedule",
    opt={"access": "write"},
    responses=problems(400, 401, 403, 404, 409, 413, 415, 502, 503, 504),
)
async def adjust_installments(
    invoice_id: FromPath[UUID],
    data: JSONBody[AdjustInstallments],
    principal: NamedDependency[Principal],
    installments: NamedDependency[Installments],
) -> ScheduleOut:
    """Give unpaid installments new amounts; the unpaid ones you do not name share the rest equally."""
    invoice = await installments.adjust(principal.tenant_id, invoice_id, data)
    return ScheduleOut(invoice.id, invoice.currency, schedule_out(invoice))


HANDLERS = [get_installments, adjust_installments, get_overpayment]
