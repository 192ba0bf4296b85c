"""Answers of the API about invoices and their payments. Amounts are decimal strings in major units."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import msgspec

from paytrust.contract.taxes import TaxBasis
from paytrust.invoices.model import InstallmentStatus, InvoiceStatus, LineItem, NewCustomer, TimelineEntry
from paytrust.payments.model.attempt import Attempt, AttemptStatus, ReceiptFlag
from paytrust.payments.model.shown import ShownInvoice


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


class ListedInvoiceOut(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice in a list; amounts are decimal strings in major units."""

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
    line_items: list[LineItemOut] | msgspec.UnsetType = msgspec.UNSET
    """Only when they were asked for."""
    installment_schedule: list[InstallmentOut] | msgspec.UnsetType = msgspec.UNSET
    """Only when installments were asked for."""
    customer: NewCustomer
    description: str | None
    metadata: dict[str, str]
    success_url: str | None
    failure_url: str | None
    flags: list[ReceiptFlag]
    """Why money that came needs a look; empty when none does."""


class InvoiceOut(ListedInvoiceOut, frozen=True, kw_only=True):
    """An invoice; amounts are decimal strings in major units."""

    line_items: list[LineItemOut]


class Include(StrEnum):
    """Parts of the entries of a list that a client has to ask for."""

    LINE_ITEMS = "line_items"


Out = TypeVar("Out", bound=ListedInvoiceOut)


class InvoicePage(msgspec.Struct):
    invoices: list[ListedInvoiceOut]
    next_cursor: str | None


class CheckResult(StrEnum):
    """The outcome of asking the gateway about a payment."""

    CHANGED = "changed"
    """News: it was booked, or the attempt was closed."""
    UNCHANGED = "unchanged"
    NOT_FOUND = "not_found"
    """The gateway does not know it."""
    SKIPPED = "skipped"
    FAILED = "failed"


class CheckedPayment(msgspec.Struct, frozen=True):
    payment_id: UUID
    reference: str
    result: CheckResult
    reason: str | None
    """Why it was skipped, or the code of what failed."""


class CheckedInvoice(msgspec.Struct, frozen=True):
    invoice_id: UUID
    status: InvoiceStatus
    payments: list[CheckedPayment]
    """Newest first."""


class ScheduleOut(msgspec.Struct, frozen=True):
    invoice_id: UUID
    currency: str
    installments: list[InstallmentOut]


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


def invoice_out(invoice: ShownInvoice) -> InvoiceOut:
    return _out(InvoiceOut, invoice, [_line_out(line) for line in invoice.lines])


def listed_invoice_out(invoice: ShownInvoice) -> ListedInvoiceOut:
    """Without its lines."""
    return _out(ListedInvoiceOut, invoice, msgspec.UNSET)


def _out(kind: type[Out], invoice: ShownInvoice, lines: list[LineItemOut] | msgspec.UnsetType) -> Out:
    return kind(
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
        payment_instructions=None if invoice.instructions is None else _sorted(invoice.instructions),
        payment_initiated_at=invoice.payment_initiated_at,
        created_at=invoice.created_at,
        expires_at=invoice.expires_at,
        original_invoice_id=invoice.original_invoice_id,
        installment_schedule=schedule_out(invoice) if len(invoice.installments) > 1 else msgspec.UNSET,
        customer=invoice.customer,
        description=invoice.description,
        metadata=_sorted(invoice.metadata),
        success_url=invoice.success_url,
        failure_url=invoice.failure_url,
        flags=list(invoice.flags),
        line_items=lines,
    )


def _sorted(texts: dict[str, str]) -> dict[str, str]:
    """By name: the database keeps names in an order of its own, not in the one they were sent in."""
    return dict(sorted(texts.items()))


def schedule_out(invoice: ShownInvoice) -> list[InstallmentOut]:
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


def payment_out(attempt: Attempt) -> PaymentOut:
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
