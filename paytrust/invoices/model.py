"""Invoices: the violations, without I/O."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import iso3166
import msgspec
from msgspec import Meta

from paytrust.accounts.model import Account, Fee
from paytrust.contract.gateways import NO_LIMITS, Limits
from paytrust.contract.taxes import TaxBasis, TaxQuery, TaxRule, decide
from paytrust.errors import Conflict, FieldError, Invalid
from paytrust.money import EXPONENT, MAX_MINOR, Money, distribute, parse_rate, split
from paytrust.security import urls

T = TypeVar("T")

EXPIRY_DEFAULT: Final = timedelta(hours=24)
EXPIRY_MIN: Final = timedelta(hours=1)
EXPIRY_MAX: Final = timedelta(days=30)
INSTALLMENT_EVERY: Final = timedelta(days=30)

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_PHONE = re.compile(r"\+?[0-9][0-9 ()-]*", re.ASCII)
_LITERAL = re.compile(rb'"([^"\\]*)"|([^"]*)')


class InvoiceStatus(StrEnum):
    DRAFT = "draft"
    """Written down, not yet payable: no gateway has opened a payment for it."""
    PENDING = "pending"
    PARTIALLY_PAID = "partially_paid"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class InstallmentStatus(StrEnum):
    UNPAID = "unpaid"
    PARTIALLY_PAID = "partially_paid"
    PAID = "paid"
    OVERDUE = "overdue"


class ReceiptFlag(StrEnum):
    """Why money that came needs a look. It is kept all the same."""

    LATE = "late"
    """It came when the invoice had expired or failed, and was applied."""
    AFTER_CANCEL = "after_cancel"
    AFTER_PAID = "after_paid"


REACHABLE: Final[dict[InvoiceStatus, frozenset[InvoiceStatus]]] = {
    # A webhook can be quicker than the gateway's answer to us: paid straight from draft.
    InvoiceStatus.DRAFT: frozenset(
        {
            InvoiceStatus.PENDING,
            InvoiceStatus.PARTIALLY_PAID,
            InvoiceStatus.PAID,
            InvoiceStatus.FAILED,
            InvoiceStatus.CANCELLED,
        }
    ),
    InvoiceStatus.PENDING: frozenset(
        {
            InvoiceStatus.PARTIALLY_PAID,
            InvoiceStatus.PAID,
            InvoiceStatus.FAILED,
            InvoiceStatus.EXPIRED,
            InvoiceStatus.CANCELLED,
        }
    ),
    InvoiceStatus.PARTIALLY_PAID: frozenset(
        {InvoiceStatus.PAID, InvoiceStatus.EXPIRED, InvoiceStatus.CANCELLED}
    ),
    # A bank transfer can arrive hours after the due time: the money is real.
    InvoiceStatus.EXPIRED: frozenset({InvoiceStatus.PAID}),
    InvoiceStatus.FAILED: frozenset({InvoiceStatus.PAID}),
}


class IllegalTransition(Conflict):
    """An invoice was asked to move to a status it cannot reach from here."""

    code = "illegal_transition"

    def __init__(self, *, invoice_id: UUID, current: str, target: str) -> None:
        super().__init__(f"invoice {invoice_id} is {current}, cannot become {target}")


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


# --- what a merchant sends ------------------------------------------------------------------------------------------------

Amount = Annotated[
    msgspec.Raw,
    Meta(
        extra_json_schema={
            "description": 'An amount in major units, exact: a decimal string such as "19.99" (preferred), or a JSON number.',
            "extra": {
                "one_of": [
                    {"type": "string", "pattern": r"^(0|[1-9][0-9]{0,18})(\.[0-9]{1,4})?$"},
                    {"type": "number", "minimum": 0},
                ]
            },
        },
    ),
]
Rate = Annotated[
    msgspec.Raw,
    Meta(
        extra_json_schema={
            "description": 'A rate between 0 and 1 with at most 4 decimals, such as "0.11".',
            "extra": {
                "one_of": [
                    {"type": "string", "pattern": r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$"},
                    {"type": "number", "minimum": 0, "maximum": 1},
                    {"type": "null"},
                ]
            },
        },
    ),
]
Url = Annotated[str, Meta(min_length=1, max_length=255)]


class NewLineItem(msgspec.Struct, forbid_unknown_fields=True):
    product_name: Annotated[str, Meta(min_length=1, max_length=255)]
    quantity: Annotated[int, Meta(ge=1, le=10**12)]
    unit_price: Amount
    tax_rate: Rate = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    tax_category: Annotated[str, Meta(min_length=1, max_length=50)] | None = None
    country_code: Annotated[str, Meta(min_length=2, max_length=2)] | None = None


class NewCustomer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    email: (
        Annotated[str, Meta(min_length=3, max_length=254, extra_json_schema={"format": "email"})] | None
    ) = None
    phone: Annotated[str, Meta(min_length=3, max_length=32)] | None = None
    country: Annotated[str, Meta(min_length=2, max_length=2)] | None = None


class NewInstallments(msgspec.Struct, forbid_unknown_fields=True):
    """
    Either *count* equal parts, or *amounts* that sum to the total; due every 30 days unless *due_dates* say
    otherwise.
    """

    count: Annotated[int, Meta(ge=2, le=12)] | None = None
    amounts: Annotated[list[Amount], Meta(min_length=2, max_length=12)] | None = None
    due_dates: (
        Annotated[list[Annotated[datetime, Meta(tz=True)]], Meta(min_length=2, max_length=12)] | None
    ) = None


class CreateSupplementary(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """
    More to pay for an invoice: gateway account and currency are the original's, and so is the customer unless
    given.
    """

    line_items: Annotated[list[NewLineItem], Meta(min_length=1, max_length=500)]
    external_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    installments: NewInstallments | None = None
    customer: NewCustomer | None = None
    description: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    metadata: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=500)]],
        Meta(max_length=50),
    ] = {}
    success_url: Url | None = None
    failure_url: Url | None = None


class CreateInvoice(CreateSupplementary, kw_only=True):
    gateway_id: UUID
    currency: Annotated[str, Meta(min_length=1, max_length=10)]


# --- what we keep ---------------------------------------------------------------------------------------------------------


class LineItem(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    number: int
    product_name: str
    quantity: int
    unit_price: Money
    tax_rate: Decimal
    tax_category: str | None
    country_code: str | None
    subtotal: Money
    tax: Money
    tax_basis: TaxBasis | None = None
    """Why the rate is what it is, when a tax rule said so."""


class Installment(msgspec.Struct, frozen=True, kw_only=True):
    """One dated part. *amount* contains *tax* and *fee*; *paid* is what the books have credited to it."""

    number: int
    due_at: datetime
    amount: Money
    tax: Money
    fee: Money
    paid: Money
    paid_at: datetime | None = None

    @property
    def due(self) -> Money:
        return self.amount - self.paid

    def status(self, at: datetime) -> InstallmentStatus:
        """Derived, never stored: an unpaid one is overdue from its due date on."""
        if self.due.minor == 0:
            return InstallmentStatus.PAID
        if self.due_at < at:
            return InstallmentStatus.OVERDUE
        return InstallmentStatus.PARTIALLY_PAID if self.paid.minor else InstallmentStatus.UNPAID


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    tenant_id: UUID
    external_id: str | None
    content_hash: bytes
    account_id: UUID
    account_scope: UUID
    gateway: str
    currency: str
    status: InvoiceStatus
    subtotal: Money
    tax: Money
    fee: Money
    total: Money
    fee_terms: Fee
    """Frozen from the gateway account."""
    description: str | None
    customer: NewCustomer
    metadata: dict[str, str]
    success_url: str | None
    failure_url: str | None
    original_invoice_id: UUID | None
    payment_initiated_at: datetime | None
    created_at: datetime
    expires_at: datetime
    read_at: datetime
    """The database's clock when this was read: what is overdue depends on it."""
    lines: tuple[LineItem, ...]
    installments: tuple[Installment, ...]
    payment_url: str | None = None
    instructions: dict[str, str] | None = None
    flags: tuple[ReceiptFlag, ...] = ()

    @property
    def due_next(self) -> Installment | None:
        """The lowest installment that is not paid; None when all are."""
        return next((installment for installment in self.installments if installment.due.minor > 0), None)


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that happened to an invoice. *reason* is for people, *details* are numbers and names for
    programs.
    """

    at: datetime
    event: str
    reason: str | None = None
    details: dict[str, Any] = {}


class Violations:
    """Collects every broken rule with its pointer, so that a caller learns of all at once."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def add(self, at: str, detail: str) -> None:
        self.errors.append(FieldError(at, detail))

    def parse(self, at: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ValueError as exc:
            self.add(at, str(exc))
            return None

    def check(self) -> None:
        if self.errors:
            first = self.errors[0]
            error = InvalidCurrency if first.pointer == "#/currency" else Invalid
            raise error(f"{first.pointer}: {first.detail}", errors=tuple(self.errors))


class InvalidCurrency(Invalid):
    """Not an ISO 4217 code, or not one this gateway account collects."""

    code = "invalid_currency"


def literal(raw: msgspec.Raw) -> str | None:
    """
    The text of a JSON string or number exactly as written; None for null. Raises ValueError for anything
    else.
    """
    body = bytes(raw)
    if body == b"null":
        return None
    if len(body) > 64:
        raise ValueError("expected a plain decimal")
    match = _LITERAL.fullmatch(body)
    text = (match[1] if match[1] is not None else match[2]) if match else b""
    return text.decode("ascii", "replace")


def draft(
    data: CreateInvoice,
    *,
    invoice_id: UUID,
    tenant_id: UUID,
    account: Account | None,
    now: datetime,
    new_id: Callable[[], UUID],
    tax_rules: Sequence[TaxRule] = (),
    original: Invoice | None = None,
    limits: Limits = NO_LIMITS,
    insecure: bool = False,
) -> Invoice:
    """
    Compute a new invoice: every amount, the expiry and the schedule. *account* is None when there is no such
    account.
    *limits* are those of one payment at its gateway. *insecure* lets a payment page lead back to http.

    Raises `Invalid` with all broken violations, or `TaxRuleFailed`.
    """
    if original is not None:
        _check_original(original)
    violations = Violations()
    _check_account(violations, data, account)
    lines = _lines(violations, data, new_id, tax_rules, now)
    due_at = _due_dates(violations, data.installments, now)
    expires_at = _expiry(violations, data.expires_at, now, last_due_at=due_at[-1] if due_at else None)
    _check_people(violations, data, insecure=insecure)
    violations.check()
    assert account is not None
    sums = violations.parse("#/line_items", lambda: _sums(lines, account.fees[data.currency]))
    violations.check()
    assert sums is not None
    subtotal, tax, fee, total = sums
    amounts = _amounts(violations, data.installments, total)
    violations.check()
    _check_limits(violations, data.installments, amounts, limits)
    violations.check()
    fee_terms = account.fees[data.currency]
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
        created_at=now,
        expires_at=expires_at,
        read_at=now,
        lines=tuple(lines),
        installments=schedule(amounts, due_at or [expires_at], tax=tax, fee=fee),
    )


def payment_reference(invoice_id: UUID, installment_number: int, attempt: int) -> str:
    """
    What names one attempt at the gateway: the same every time it is computed, so an unknown outcome can be
    looked up.

    37 characters, legal at every gateway; ends in a letter because Midtrans hashes its fields without
    delimiters.
    """
    encoded = base64.b32encode(invoice_id.bytes).decode().rstrip("=")
    return f"PT-{encoded}-{installment_number}-{attempt}x"


OUR_REFERENCE: Final = re.compile(r"PT-[A-Z2-7]{26}-[0-9]{1,2}-[0-9]{1,5}x", re.ASCII)
"""What `payment_reference` makes."""


def schedule(
    amounts: list[Money], due_at: list[datetime], *, tax: Money, fee: Money
) -> tuple[Installment, ...]:
    """Parts with what of tax and fee is contained in each."""
    nothing = Money(0, tax.currency)
    return tuple(
        Installment(number=n, due_at=due, amount=amount, tax=part_tax, fee=part_fee, paid=nothing)
        for n, (amount, due, (part_tax, part_fee)) in enumerate(
            zip(amounts, due_at, contained(tax, fee, amounts), strict=True), 1
        )
    )


def contained(tax: Money, fee: Money, amounts: list[Money]) -> list[tuple[Money, Money]]:
    """
    Tax and fee in each of *amounts*: their share rounded down, the last takes the rest (FR-052, FR-063).

    Where the last is too small to hold the rest, the parts before it take what does not fit, the later ones
    first.
    """
    shares = [
        [one.minor, other.minor]
        for one, other in zip(distribute(tax, amounts), distribute(fee, amounts), strict=True)
    ]
    duplicate_pages = sum(shares[-1]) - amounts[-1].minor
    for amount, share in zip(reversed(amounts[:-1]), reversed(shares[:-1]), strict=True):
        for kind in (0, 1):
            moved = max(0, min(duplicate_pages, amount.minor - sum(share), shares[-1][kind]))
            share[kind] += moved
            shares[-1][kind] -= moved
            duplicate_pages -= moved
    assert all(sum(share) <= amount.minor for amount, share in zip(amounts, shares, strict=True)), (
        "tax and fee are parts of the whole"
    )
    return [(Money(one, tax.currency), Money(other, fee.currency)) for one, other in shares]


def supplementary(original: Invoice, data: CreateSupplementary) -> CreateInvoice:
    """
    The request for an invoice that follows *original*: its gateway account, currency and, unless given, its
    customer.
    """
    given = msgspec.structs.asdict(data) | {"customer": data.customer or original.customer}
    return CreateInvoice(gateway_id=original.account_id, currency=original.currency, **given)


def content_hash(data: CreateInvoice, original: Invoice | None = None) -> bytes:
    """
    Equal for requests that ask for the same invoice, however their JSON was written. Raises ValueError on
    unreadable amounts.
    """
    asked = [
        [
            new.product_name,
            new.quantity,
            positive(new.unit_price, data.currency).minor,
            _ratio(new),
            new.tax_category,
            new.country_code,
        ]
        for new in data.line_items
    ]
    expires_at_s = data.expires_at and data.expires_at.timestamp()
    given: list[Any] = [data.gateway_id, data.currency, asked, data.external_id, expires_at_s, data.customer]
    given += [data.description, sorted(data.metadata.items()), data.success_url, data.failure_url]
    if data.installments is not None:
        amounts = [
            Money.parse(literal(raw) or "", data.currency).minor for raw in data.installments.amounts or ()
        ]
        given += [
            data.installments.count,
            amounts,
            [due.timestamp() for due in data.installments.due_dates or ()],
        ]
    if original is not None:
        given.append(original.id)
    return hashlib.sha256(msgspec.json.encode(given)).digest()


def matches(invoice: Invoice, data: CreateInvoice, original: Invoice | None = None) -> bool:
    """
    Whether *data* asks for what *invoice* is, though it may have become invalid since: its account closed,
    its expiry near.
    """
    try:
        return invoice.content_hash == content_hash(data, original)
    except ValueError:
        return False


def _ratio(new: NewLineItem) -> tuple[int, int] | None:
    """The rate as it was asked for: what a tax rule answered is no part of the request."""
    text = literal(new.tax_rate)
    return None if text is None else parse_rate(text).as_integer_ratio()


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


def _lines(
    violations: Violations,
    data: CreateInvoice,
    new_id: Callable[[], UUID],
    tax_rules: Sequence[TaxRule],
    now: datetime,
) -> list[LineItem]:
    made = [_line(violations, n, new, data, new_id) for n, new in enumerate(data.line_items, 1)]
    return [
        _taxed(line, new, data, tax_rules, now)
        for line, new in zip(made, data.line_items, strict=True)
        if line is not None
    ]


def _line(
    violations: Violations, number: int, new: NewLineItem, data: CreateInvoice, new_id: Callable[[], UUID]
) -> LineItem | None:
    at = f"#/line_items/{number - 1}"
    currency = data.currency
    # How many decimals a price may have depends on a currency that is known.
    price = (
        violations.parse(f"{at}/unit_price", lambda: positive(new.unit_price, currency))
        if currency in EXPONENT
        else None
    )
    rate = violations.parse(
        f"{at}/tax_rate", lambda: parse_rate("0" if (text := literal(new.tax_rate)) is None else text)
    )
    if new.country_code is not None and new.country_code not in iso3166.countries_by_alpha2:
        violations.add(
            f"{at}/country_code", f"{new.country_code!r} is not an ISO 3166-1 alpha-2 country code"
        )
    if price is None or rate is None:
        return None
    subtotal = violations.parse(f"{at}/quantity", lambda: price * new.quantity)
    if subtotal is None:
        return None
    return LineItem(
        id=new_id(),
        number=number,
        product_name=new.product_name,
        quantity=new.quantity,
        unit_price=price,
        tax_rate=rate,
        tax_category=new.tax_category,
        country_code=new.country_code,
        subtotal=subtotal,
        tax=subtotal.times(rate),
    )


def _taxed(
    line: LineItem, new: NewLineItem, data: CreateInvoice, tax_rules: Sequence[TaxRule], now: datetime
) -> LineItem:
    """
    The line with the rate of a tax rule, unless the merchant gave one (which wins), no country is known or no
    rule answers.
    """
    country = new.country_code or (data.customer.country if data.customer else None)
    if literal(new.tax_rate) is not None or country is None:
        return line
    basis = decide(
        tax_rules, TaxQuery(country=country, category=new.tax_category, subtotal=line.subtotal, on=now.date())
    )
    if basis is None:
        return line
    return msgspec.structs.replace(
        line, tax_rate=basis.rate, tax=line.subtotal.times(basis.rate), tax_basis=basis
    )


def positive(raw: msgspec.Raw, currency: str) -> Money:
    """Read an amount above zero, or raise ValueError."""
    amount = Money.parse(literal(raw) or "", currency)
    if amount.minor == 0:
        raise ValueError("must be more than zero")
    return amount


def _sums(lines: list[LineItem], fee_terms: Fee) -> tuple[Money, Money, Money, Money]:
    """Subtotal, tax, fee and total. Raises ValueError when one of them is too large."""
    subtotal = _total([line.subtotal for line in lines])
    tax = _total([line.tax for line in lines])
    fee = fee_terms.of(subtotal)
    return subtotal, tax, fee, subtotal + tax + fee


def _total(amounts: list[Money]) -> Money:
    total = sum(amount.minor for amount in amounts)
    if total > MAX_MINOR:
        raise ValueError("the sum of the lines is too large")
    return Money(total, amounts[0].currency)


def _due_dates(violations: Violations, plan: NewInstallments | None, now: datetime) -> list[datetime]:
    """When each installment is due; empty for an invoice that is paid at once."""
    if plan is None:
        return []
    if (plan.count is None) == (plan.amounts is None):
        violations.add("#/installments", "give either count or amounts")
        return []
    number = plan.count or len(plan.amounts or ())
    if plan.due_dates is None:
        return [now + INSTALLMENT_EVERY * n for n in range(1, number + 1)]
    if len(plan.due_dates) != number:
        violations.add("#/installments/due_dates", f"expected {number} dates, one for each installment")
    elif any(later <= earlier for earlier, later in itertools.pairwise([now, *plan.due_dates])):
        violations.add("#/installments/due_dates", "must lie in the future, each after the one before")
    return plan.due_dates


def _amounts(violations: Violations, plan: NewInstallments | None, total: Money) -> list[Money]:
    """What each installment asks for. Equal parts round down, the last takes the rest (FR-063)."""
    if plan is None:
        return [total]
    if plan.amounts is None:
        assert plan.count is not None
        if total.minor < plan.count:
            violations.add(
                "#/installments/count",
                f"{total} cannot be split into {plan.count} parts of at least one minor unit",
            )
            return [total]
        return split(total, plan.count)
    given = [
        violations.parse(f"#/installments/amounts/{n}", lambda raw=raw: positive(raw, total.currency))  # type: ignore[misc]
        for n, raw in enumerate(plan.amounts)
    ]
    amounts = [amount for amount in given if amount is not None]
    if len(amounts) == len(given) and sum(amount.minor for amount in amounts) != total.minor:
        violations.add("#/installments/amounts", f"must sum to the invoice's total, which is {total}")
    return amounts


def _check_limits(
    violations: Violations, plan: NewInstallments | None, amounts: list[Money], limits: Limits
) -> None:
    """Each part is one payment at the gateway; of an invoice that is paid at once that is the total."""
    for n, amount in enumerate(amounts):
        objection = limits.objection(amount)
        if objection is None:
            continue
        if plan is None:
            violations.add("#/line_items", f"the total: {objection}")
        elif plan.amounts is not None:
            violations.add(f"#/installments/amounts/{n}", objection)
        else:
            violations.add("#/installments/count", f"installment {n + 1}: {objection}")
            return  # equal parts break the same rule


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
    return asked


def _check_people(violations: Violations, data: CreateInvoice, *, insecure: bool) -> None:
    country = data.customer.country if data.customer else None
    if country is not None and country not in iso3166.countries_by_alpha2:
        violations.add("#/customer/country", f"{country!r} is not an ISO 3166-1 alpha-2 country code")
    for field, form, example in (
        ("email", _EMAIL, "siti@example.com"),
        ("phone", _PHONE, "+62 812 3456 7890"),
    ):
        given = getattr(data.customer, field, None)
        if given is not None and not form.fullmatch(given):
            violations.add(f"#/customer/{field}", f"expected something like {example}")
    for field in ("success_url", "failure_url"):
        url = getattr(data, field)
        if url is not None:
            violations.parse(f"#/{field}", lambda url=url: urls.parse(url, insecure=insecure))  # type: ignore[misc]


def move(invoice: Invoice, target: InvoiceStatus) -> Invoice:
    """Return *invoice* in status *target*; the same object if it is there already."""
    if target is invoice.status:
        return invoice  # gateways repeat themselves
    if target not in REACHABLE.get(invoice.status, ()):
        raise IllegalTransition(invoice_id=invoice.id, current=invoice.status, target=target)
    return msgspec.structs.replace(invoice, status=target)
