from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from paytrust.api.problems import problems
from paytrust.installments.service import Installments
from paytrust.security.access import Principal


class OverpaymentOut(msgspec.Struct, frozen=True):
    invoice_id: UUID
    currency: str
    total_amount: str
    total_paid: str
    overpayment_amount: str


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


HANDLERS = [get_overpayment]
