"""A new invoice, computed from what a merchant sends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import iso3166
import msgspec

from paytrust.accounts.model import Account
from paytrust.contract.gateways import NO_LIMITS, Limits
from paytrust.contract.taxes import TaxRule
from paytrust.errors import Conflict, Invalid
from paytrust.invoices.model import people
from paytrust.invoices.model.content import content_hash
from paytrust.invoices.model.invoice import Invoice
from paytrust.invoices.model.lines import lines_of, sums
from paytrust.invoices.model.requests import CreateInvoice, CreateSupplementary, NewCustomer
from paytrust.invoices.model.schedules import amounts_of, check_limits, due_dates, schedule
from paytrust.invoices.model.status import InvoiceStatus
from paytrust.invoices.model.violations import Violations
from paytrust.money import EXPONENT
from paytrust.security import urls

EXPIRY_DEFAULT: Final = timedelta(hours=24)
EXPIRY_MIN: Final = timedelta(hours=1)
EXPIRY_MAX: Final = timedelta(days=30)


class NotSupplementable(Invalid):
    """Only an invoice that is being collected or paid can be supplemented, and no supplementary one."""

    code = "not_supplementable"


class ExternalIdTaken(Conflict):
    """The tenant has an invoice with this external_id and other content."""

    code = "external_id_conflict"

    def __init__(self, external_id: str, invoice_id: UUID) -> None:
        super().__init__(
            f"external_id {external_id!r} belongs to invoice {invoice_id}, which was made from another request"
        )


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an invoice is drafted by, beside the request. *account* is None when there is no such account, *limits*
    are those of one payment at its gateway, and *insecure* lets a payment page lead back to http.
    """

    account: Account | None
    now: datetime
    new_id: Callable[[], UUID]
    limits: Limits = NO_LIMITS
    tax_rules: Sequence[TaxRule] = ()
    insecure: bool = False


def draft(
    data: CreateInvoice, terms: Terms, *, invoice_id: UUID, tenant_id: UUID, original: Invoice | None = None
) -> Invoice:
    """
    Compute a new invoice: every amount, the expiry and the schedule.

    Raises `Invalid` with all broken rules, or `TaxRuleFailed`.
    """
    account = terms.account
    if original is not None:
        _check_original(original)
    violations = Violations()
    _check_account(violations, data, account)
    lines = lines_of(violations, data, terms.new_id, terms.tax_rules, terms.now)
    due_at = due_dates(violations, data.installments, terms.now)
    expires_at = _expiry(violations, data.expires_at, terms.now, last_due_at=due_at[-1] if due_at else None)
    _check_people(violations, data, insecure=terms.insecure)
    violations.check()
    assert account is not None
    fee_terms = account.fees[data.currency]
    totals = violations.parse("#/line_items", lambda: sums(lines, fee_terms))
    violations.check()
    assert totals is not None
    subtotal, tax, fee, total = totals
    amounts = amounts_of(violations, data.installments, total)
    violations.check()
    check_limits(violations, data.installments, amounts, terms.limits)
    violations.check()
    return Invoice(
        id=invoice_id,
        tenant_id=tenant_id,
        external_id=data.external_id,
        content_hash=content_hash(data, original),
        account_id=account.id,
        account_scope=account.scope,
        gateway=account.gateway,
        currency=data.currency,
        status=InvoiceStatus.DRAFT,
        subtotal=subtotal,
        tax=tax,
        fee=fee,
        total=total,
        fee_terms=fee_terms,
        description=data.description,
        customer=data.customer or NewCustomer(),
        metadata=data.metadata,
        success_url=data.success_url,
        failure_url=data.failure_url,
        original_invoice_id=original.id if original else None,
        payment_initiated_at=None,
        created_at=terms.now,
        expires_at=expires_at,
        read_at=terms.now,
        lines=tuple(lines),
        installments=schedule(amounts, due_at or [expires_at], tax=tax, fee=fee),
    )


def supplementary(original: Invoice, data: CreateSupplementary) -> CreateInvoice:
    """
    The request for an invoice that follows *original*: its gateway account, currency and, unless given, its
    customer.
    """
    given = msgspec.structs.asdict(data) | {"customer": data.customer or original.customer}
    return CreateInvoice(gateway_id=original.account_id, currency=original.currency, **given)


def _check_original(original: Invoice) -> None:
    if original.original_invoice_id is not None:
        raise NotSupplementable(
            f"invoice {original.id} is itself supplementary, to {original.original_invoice_id}"
        )
    if original.status not in {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID, InvoiceStatus.PAID}:
        raise NotSupplementable(
            f"invoice {original.id} is {original.status}; only a pending, partially paid or paid one can be supplemented"
        )


def _check_account(violations: Violations, data: CreateInvoice, account: Account | None) -> None:
    if data.currency not in EXPONENT:
        violations.add("#/currency", f"{data.currency!r} is not an active ISO 4217 currency code")
    elif account is not None and data.currency not in account.fees:
        violations.add(
            "#/currency",
            f"this gateway account collects {', '.join(sorted(account.fees)) or 'nothing'}, not {data.currency}",
        )
    if account is None:
        violations.add("#/gateway_id", "there is no such gateway account")


def _expiry(
    violations: Violations, asked: datetime | None, now: datetime, *, last_due_at: datetime | None
) -> datetime:
    """With installments everything counts from the last due date."""
    start = last_due_at or now
    if asked is None:
        return start + EXPIRY_DEFAULT
    if asked < now + EXPIRY_MIN:
        violations.add("#/expires_at", "must be at least 1 hour from now")
    elif last_due_at is not None and asked < last_due_at:
        violations.add("#/expires_at", "must not be before the last installment is due")
    elif asked > start + EXPIRY_MAX:
        violations.add(
            "#/expires_at", "must be at most 30 days from " + ("the last due date" if last_due_at else "now")
        )
    else:
        return asked.astimezone(UTC)  # as the database will give it back
    return start


def _check_people(violations: Violations, data: CreateInvoice, *, insecure: bool) -> None:
    country = data.customer.country if data.customer else None
    if country is not None and country not in iso3166.countries_by_alpha2:
        violations.add("#/customer/country", f"{country!r} is not an ISO 3166-1 alpha-2 country code")
        country = None  # said already
    given = data.customer or NewCustomer()
    if (email := given.email) is not None:
        violations.parse("#/customer/email", lambda: people.email(email))
    if (phone := given.phone) is not None:
        violations.parse("#/customer/phone", lambda: people.phone(phone, country))
    for field in ("success_url", "failure_url"):
        url = getattr(data, field)
        if url is not None:
            violations.parse(f"#/{field}", lambda url=url: urls.parse(url, insecure=insecure))  # type: ignore[misc]
