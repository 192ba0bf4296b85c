"""Invoices and their payments over HTTP. Routes lie here and not in lower rooms because answers show payment pages."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from paytrust.api.guards import principal_of
from paytrust.api.pagination import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Timestamp,
    decode_timestamp,
    page_of,
)
from paytrust.api.problems import problems
from paytrust.idempotency.routes import claim_of
from paytrust.installments.model import AdjustInstallments
from paytrust.invoices.model import CreateInvoice, CreateSupplementary, InvoiceStatus
from paytrust.payments.model import (
    CheckedInvoice,
    Include,
    InvoiceFilters,
    InvoiceOut,
    InvoicePage,
    ListedInvoiceOut,
    PaymentList,
    PaymentPageOut,
    ReceiptFlag,
    ScheduleOut,
    TimelineOut,
    invoice_out,
    listed_invoice_out,
    payment_out,
    schedule_out,
)
from paytrust.payments.service import Checking, Invoicing, Payments
from paytrust.security.access import Principal

READ_FIRST: Final = 50
"""A page of the default size is one read, though an invoice may have 25 KB of metadata."""
READ_FIRST_WITH_LINES: Final = 1
"""An invoice of 500 lines is a quarter of a megabyte."""
CREATE_PROBLEMS = problems(400, 401, 403, 409, 413, 415, 502, 503, 504)


@post(
    "/invoices",
    summary="Create an invoice",
    opt={"access": "write"},
    responses=CREATE_PROBLEMS
    | {
        200: ResponseSpec(
            InvoiceOut, description="The invoice that has this external_id", generate_examples=False
        )
    },
)
async def create_invoice(
    data: JSONBody[CreateInvoice], request: Request[Any, Any, Any], invoicing: NamedDependency[Invoicing]
) -> Response[InvoiceOut]:
    """
    Create an invoice and open a payment for it at the chosen gateway: the answer has everything the payer
    needs.
    """
    # Not a second dependency: Litestar starts a task for each of several.
    invoice, created = await invoicing.create(principal_of(request).tenant_id, data, claim=claim_of(request))
    return Response(invoice_out(invoice), status_code=201 if created else 200)


@post(
    "/invoices/{invoice_id:uuid}/supplementary",
    summary="Create a supplementary invoice",
    opt={"access": "write"},
    responses=CREATE_PROBLEMS
    | problems(404)
    | {
        200: ResponseSpec(
            InvoiceOut, description="The invoice that has this external_id", generate_examples=False
        )
    },
)
async def create_supplementary(
    invoice_id: FromPath[UUID],
    data: JSONBody[CreateSupplementary],
    principal: NamedDependency[Principal],
    invoicing: NamedDependency[Invoicing],
    request: Request[Any, Any, Any],
) -> Response[InvoiceOut]:
    """Create an invoice for more that is owed on another one, with its gateway account and currency."""
    invoice, created = await invoicing.supplement(
        principal.tenant_id, invoice_id, data, claim=claim_of(request)
    )
    return Response(invoice_out(invoice), status_code=201 if created else 200)


@get(
    "/invoices/{invoice_id:uuid}",
    summary="Get an invoice",
    opt={"access": "read"},
    responses=problems(401, 403, 404),
)
async def get_invoice(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], payments: NamedDependency[Payments]
) -> InvoiceOut:
    """Get one invoice with its lines, status and live payment page."""
    return invoice_out(await payments.show(principal.tenant_id, invoice_id))


@get("/invoices", summary="List invoices", opt={"access": "read"}, responses=problems(400, 401, 403))
async def list_invoices(
    principal: NamedDependency[Principal],
    payments: NamedDependency[Payments],
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    status: FromQuery[InvoiceStatus | None] = None,
    currency: Annotated[str | None, QueryParameter(max_length=3)] = None,
    gateway_id: FromQuery[UUID | None] = None,
    external_id: Annotated[str | None, QueryParameter(max_length=255)] = None,
    created_from: Timestamp = None,
    created_to: Timestamp = None,
    original_invoice_id: FromQuery[UUID | None] = None,
    flag: FromQuery[ReceiptFlag | None] = None,
    include: FromQuery[Include | None] = None,
) -> InvoicePage:
    """
    List invoices, newest first, without their lines unless `include=line_items` asks for them. `created_from`
    is included, `created_to` is not.
    """
    filters = InvoiceFilters(
        status=status,
        currency=currency,
        account_id=gateway_id,
        external_id=external_id,
        created_from=decode_timestamp("created_from", created_from),
        created_to=decode_timestamp("created_to", created_to),
        original_id=original_invoice_id,
        flag=flag,
    )
    lines = include is Include.LINE_ITEMS
    show = invoice_out if lines else listed_invoice_out

    async def read(most: int, before: UUID | None) -> list[ListedInvoiceOut]:
        found = await payments.page(principal.tenant_id, filters, limit=most, before=before, lines=lines)
        return [show(invoice) for invoice in found]

    first = READ_FIRST_WITH_LINES if lines else READ_FIRST
    page = await page_of(read, lambda invoice: invoice.invoice_id, limit=limit, cursor=cursor, first=first)
    return InvoicePage(*page)


@post(
    "/invoices/{invoice_id:uuid}/cancel",
    summary="Cancel an invoice",
    opt={"access": "write"},
    status_code=HTTP_200_OK,
    responses=problems(401, 403, 404, 409, 502, 503, 504),
)
async def cancel_invoice(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], invoicing: NamedDependency[Invoicing]
) -> InvoiceOut:
    """
    Cancel an invoice that is not paid in full, at the gateway as well. Money that comes all the same is kept
    and shown as overpayment.
    """
    return invoice_out(await invoicing.cancel(principal.tenant_id, invoice_id))


@get(
    "/invoices/{invoice_id:uuid}/installments",
    summary="Get the schedule",
    opt={"access": "read"},
    responses=problems(401, 403, 404),
)
async def get_installments(
    invoice_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    payments: NamedDependency[Payments],
) -> ScheduleOut:
    """Get the dated parts of an invoice and what is paid on each. An invoice paid at once has one part."""
    invoice = await payments.show(principal.tenant_id, invoice_id)
    return ScheduleOut(invoice.id, invoice.currency, schedule_out(invoice))


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
    invoicing: NamedDependency[Invoicing],
) -> ScheduleOut:
    """Give unpaid installments new amounts; the unpaid ones you do not name share the rest equally."""
    invoice = await invoicing.adjust(principal.tenant_id, invoice_id, data)
    return ScheduleOut(invoice.id, invoice.currency, schedule_out(invoice))


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
    return PaymentList(invoice_id, [payment_out(attempt) for attempt in attempts])


@post(
    "/invoices/{invoice_id:uuid}/payments/check",
    summary="Ask the gateway about payments",
    opt={"access": "write"},
    status_code=HTTP_200_OK,
    responses=problems(401, 403, 404),
)
async def check_payments(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], checking: NamedDependency[Checking]
) -> CheckedInvoice:
    """
    Ask the gateway about the newest attempts to collect an invoice and book what it says. The answer tells of each
    what was found, or why it was not asked about.
    """
    return await checking.check(principal.tenant_id, invoice_id)


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


HANDLERS = [
    create_invoice,
    create_supplementary,
    get_invoice,
    list_invoices,
    cancel_invoice,
    get_installments,
    adjust_installments,
    list_payments,
    check_payments,
    make_payment_url,
    get_timeline,
]
