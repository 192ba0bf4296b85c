from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
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
    decode_cursor,
    decode_timestamp,
    encode_cursor,
)
from paytrust.api.problems import problems
from paytrust.contract.taxes import TaxBasis
from paytrust.idempotency.routes import claim_of
from paytrust.invoices.model import (
    CreateInvoice,
    CreateSupplementary,
    InstallmentStatus,
    Invoice,
    InvoiceStatus,
    LineItem,
    NewCustomer,
    ReceiptFlag,
)
from paytrust.invoices.service import Invoices
from paytrust.security.access import Principal


class LineItemOut(msgspec.Struct, frozen=True, kw_only=True):
    line_item_id: UUID
    product_name: str
    quantity: int
    unit_price: str
    tax_rate: str
    tax_category: str | None
    country_code: str | None
    subtotal_amount: str
    tax_amount: str
    tax_basis: TaxBasis | None
    """Why the rate is what it is, when a tax rule said so."""


class InstallmentOut(msgspec.Struct, frozen=True, kw_only=True):
    """One dated part; *amount* contains its parts of tax and service fee."""

    number: int
    due_date: datetime
    amount: str
    tax_amount: str
    service_fee_amount: str
    paid_amount: str
    status: InstallmentStatus
    paid_at: datetime | None
    payment_url: str | None
    """Only what is due next has one."""


class InvoiceOut(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice; amounts are decimal strings in major units."""

    invoice_id: UUID
    external_id: str | None
    status: InvoiceStatus
    currency: str
    gateway_id: UUID
    gateway: str
    subtotal_amount: str
    total_tax_amount: str
    total_service_fee_amount: str
    total_amount: str
    payment_url: str | None
    payment_instructions: dict[str, str] | None
    """What the payer needs where there is no page, such as a virtual account number."""
    payment_initiated_at: datetime | None
    created_at: datetime
    expires_at: datetime
    original_invoice_id: UUID | None
    line_items: list[LineItemOut]
    installment_schedule: list[InstallmentOut] | msgspec.UnsetType = msgspec.UNSET
    """Only when installments were asked for."""
    customer: NewCustomer
    description: str | None
    metadata: dict[str, str]
    success_url: str | None
    failure_url: str | None
    flags: list[ReceiptFlag]
    """Why money that came needs a look; empty when none does."""


class InvoicePage(msgspec.Struct):
    invoices: list[InvoiceOut]
    next_cursor: str | None


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
    data: JSONBody[CreateInvoice], request: Request[Any, Any, Any], invoices: NamedDependency[Invoices]
) -> Response[InvoiceOut]:
    """
    Create an invoice and open a payment for it at the chosen gateway: the answer has everything the payer
    needs.
    """
    # Not a second dependency: Litestar starts a task for each of several.
    invoice, created = await invoices.create(principal_of(request).tenant_id, data, claim=claim_of(request))
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
    invoices: NamedDependency[Invoices],
    request: Request[Any, Any, Any],
) -> Response[InvoiceOut]:
    """Create an invoice for more that is owed on another one, with its gateway account and currency."""
    invoice, created = await invoices.supplement(
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
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], invoices: NamedDependency[Invoices]
) -> InvoiceOut:
    """Get one invoice with its lines, status and live payment page."""
    return invoice_out(await invoices.get(principal.tenant_id, invoice_id))


@get("/invoices", summary="List invoices", opt={"access": "read"}, responses=problems(400, 401, 403))
async def list_invoices(
    principal: NamedDependency[Principal],
    invoices: NamedDependency[Invoices],
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
) -> InvoicePage:
    """List invoices, newest first. `created_from` is included, `created_to` is not."""
    found = await invoices.page(
        principal.tenant_id,
        limit=limit,
        before=decode_cursor(cursor),
        status=status,
        currency=currency,
        account_id=gateway_id,
        external_id=external_id,
        created_from=decode_timestamp("created_from", created_from),
        created_to=decode_timestamp("created_to", created_to),
        original_id=original_invoice_id,
        flag=flag,
    )
    return InvoicePage(
        [invoice_out(invoice) for invoice in found],
        encode_cursor(found[-1].id) if len(found) == limit else None,
    )


@post(
    "/invoices/{invoice_id:uuid}/cancel",
    summary="Cancel an invoice",
    opt={"access": "write"},
    status_code=HTTP_200_OK,
    responses=problems(401, 403, 404, 409, 502, 503, 504),
)
async def cancel_invoice(
    invoice_id: FromPath[UUID], principal: NamedDependency[Principal], invoices: NamedDependency[Invoices]
) -> InvoiceOut:
    """
    Cancel an invoice that is not paid in full, at the gateway as well. Money that comes all the same is kept
    and shown as overpayment.
    """
    return invoice_out(await invoices.cancel(principal.tenant_id, invoice_id))


def invoice_out(invoice: Invoice) -> InvoiceOut:
    return InvoiceOut(
        invoice_id=invoice.id,
        external_id=invoice.external_id,
        status=invoice.status,
        currency=invoice.currency,
        gateway_id=invoice.account_id,
        gateway=invoice.gateway,
        subtotal_amount=invoice.subtotal.major,
        total_tax_amount=invoice.tax.major,
        total_service_fee_amount=invoice.fee.major,
        total_amount=invoice.total.major,
        payment_url=invoice.payment_url,
        payment_instructions=invoice.instructions,
        payment_initiated_at=invoice.payment_initiated_at,
        created_at=invoice.created_at,
        expires_at=invoice.expires_at,
        original_invoice_id=invoice.original_invoice_id,
        line_items=[_line_out(line) for line in invoice.lines],
        installment_schedule=schedule_out(invoice) if len(invoice.installments) > 1 else msgspec.UNSET,
        customer=invoice.customer,
        description=invoice.description,
        metadata=invoice.metadata,
        success_url=invoice.success_url,
        failure_url=invoice.failure_url,
        flags=list(invoice.flags),
    )


def schedule_out(invoice: Invoice) -> list[InstallmentOut]:
    next_number = next_installment.number if (next_installment := invoice.due_next) else 0
    return [
        InstallmentOut(
            number=installment.number,
            due_date=installment.due_at,
            amount=installment.amount.major,
            tax_amount=installment.tax.major,
            service_fee_amount=installment.fee.major,
            paid_amount=installment.paid.major,
            status=installment.status(invoice.read_at),
            paid_at=installment.paid_at,
            payment_url=invoice.payment_url if installment.number == next_number else None,
        )
        for installment in invoice.installments
    ]


def _line_out(line: LineItem) -> LineItemOut:
    return LineItemOut(
        line_item_id=line.id,
        product_name=line.product_name,
        quantity=line.quantity,
        unit_price=line.unit_price.major,
        tax_rate=f"{line.tax_rate.normalize():f}",
        tax_category=line.tax_category,
        country_code=line.country_code,
        subtotal_amount=line.subtotal.major,
        tax_amount=line.tax.major,
        tax_basis=line.tax_basis,
    )


HANDLERS = [create_invoice, create_supplementary, get_invoice, list_invoices, cancel_invoice]
