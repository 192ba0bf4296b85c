from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.status_codes import HTTP_200_OK

from paytrust.api.problems import problems
from paytrust.invoices.model import TimelineEntry
from paytrust.payments.model import Attempt, AttemptStatus
from paytrust.payments.service import Payments
from paytrust.security.access import Principal


class PaymentOut(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to collect, and what came in on it."""

    payment_id: UUID
    installment_number: int
    attempt: int
    reference: str
    status: AttemptStatus
    amount: str
    paid_amount: str
    gateway_payment_id: str | None
    payment_url: str | None
    error_code: str | None
    created_at: datetime
    updated_at: datetime


class PaymentList(msgspec.Struct, frozen=True):
    invoice_id: UUID
    payments: list[PaymentOut]


class TimelineOut(msgspec.Struct, frozen=True):
    invoice_id: UUID
    timeline: list[TimelineEntry]


class PaymentPageOut(msgspec.Struct, frozen=True):
    invoice_id: UUID
    payment_url: str | None
    payment_instructions: dict[str, str] | None


@get(
    "/invoices/{invoice_id:uuid}/payments",
    summary="List payments",
    opt={"access": "read"},
    responses=problems(401, 403, 404),
)
async def list_payments(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], payments: NamedDependency[Payments]
) -> PaymentList:
    """List every attempt to collect an invoice."""
    attempts = await payments.of_invoice(principal.tenant_id, invoice_id)
    return PaymentList(invoice_id, [_out(attempt) for attempt in attempts])


@post(
    "/invoices/{invoice_id:uuid}/payment-url",
    summary="Get a live payment page",
    opt={"access": "write"},
    status_code=HTTP_200_OK,
    responses=problems(401, 403, 404, 409, 502, 503, 504),
)
async def make_payment_url(
    invoice_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    payments: NamedDependency[Payments],
    installment: Annotated[
        int | None,
        QueryParameter(ge=1, le=12, description="The installment you mean; refused when another is due."),
    ] = None,
) -> PaymentPageOut:
    """Get the live payment page of what is due next, making one when it is missing or has expired."""
    invoice = await payments.collection.ensure_open(principal.tenant_id, invoice_id, number=installment)
    return PaymentPageOut(invoice.id, invoice.payment_url, invoice.instructions)


@get(
    "/invoices/{invoice_id:uuid}/timeline",
    summary="Get what happened",
    opt={"access": "read"},
    responses=problems(401, 403, 404),
)
async def get_timeline(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], payments: NamedDependency[Payments]
) -> TimelineOut:
    """Get everything that happened to an invoice, oldest first, with reasons."""
    return TimelineOut(invoice_id, await payments.timeline(principal.tenant_id, invoice_id))


def _out(attempt: Attempt) -> PaymentOut:
    return PaymentOut(
        payment_id=attempt.id,
        installment_number=attempt.installment_number,
        attempt=attempt.attempt,
        reference=attempt.reference,
        status=attempt.status,
        amount=attempt.amount.major,
        paid_amount=attempt.received.major,
        gateway_payment_id=attempt.gateway_payment_id,
        payment_url=attempt.payment_url,
        error_code=attempt.error_code,
        created_at=attempt.created_at,
        updated_at=attempt.updated_at,
    )


HANDLERS = [list_payments, make_payment_url, get_timeline]
