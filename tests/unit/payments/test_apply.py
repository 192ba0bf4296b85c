"""Spreading money over installments: the rules of product section 5, for any schedule and any amount."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytrust.accounts.model import Fee
from paytrust.contract.gateways import REFERENCE, Customer
from paytrust.errors import Conflict
from paytrust.invoices.model import (
    REACHABLE,
    IllegalTransition,
    Invoice,
    InvoiceStatus,
    NewCustomer,
    move,
    schedule,
)
from paytrust.money import Money
from paytrust.payments.model import apply, check_payable, issue, payment_reference, request_for

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def invoice_of(amounts, *, paid=(), status=InvoiceStatus.PENDING, currency="MYR", tax=0, fee=0):
    money = [Money(amount, currency) for amount in amounts]
    total = Money(sum(amounts), currency)
    parts = schedule(
        money,
        [NOW + timedelta(days=n) for n in range(len(money))],
        tax=Money(tax, currency),
        fee=Money(fee, currency),
    )
    parts = tuple(
        msgspec.structs.replace(part, paid=Money(paid[n] if n < len(paid) else 0, currency))
        for n, part in enumerate(parts)
    )
    return Invoice(
        id=uuid4(),
        tenant_id=uuid4(),
        external_id=None,
        content_hash=b"",
        account_id=uuid4(),
        account_scope=UUID(int=0),
        gateway="xendit",
        currency=currency,
        status=status,
        subtotal=total - Money(tax + fee, currency),
        tax=Money(tax, currency),
        fee=Money(fee, currency),
        total=total,
        fee_terms=Fee.in_minor_units(currency, Decimal(0), 0, 0, None),
        description=None,
        customer=NewCustomer(),
        metadata={},
        success_url=None,
        failure_url=None,
        original_invoice_id=None,
        payment_initiated_at=NOW,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
        read_at=NOW,
        lines=(),
        installments=parts,
    )


schedules = st.lists(st.integers(1, 10**9), min_size=1, max_size=12)


@given(schedules, st.lists(st.integers(1, 10**10), min_size=1, max_size=6))
def test_every_minor_unit_is_booked_once(amounts, payments):
    """And no installment gets more than it is owed."""
    invoice = invoice_of(amounts)
    overpaid = 0
    for minor in payments:
        applied = apply(invoice, Money(minor, "MYR"), receipt_id=uuid4())
        assert sum(transfer.amount.minor for transfer in applied.transfers) == minor
        paid = {}
        for transfer in applied.transfers:
            assert transfer.debit == f"clearing:{invoice.account_id}"
            kind, _, rest = transfer.credit.partition(":")
            if kind == "overpaid":
                overpaid += transfer.amount.minor
            else:
                paid[int(rest.partition(":")[2])] = transfer.amount.minor
        parts = tuple(
            msgspec.structs.replace(part, paid=part.paid + Money(paid.get(part.number, 0), "MYR"))
            for part in invoice.installments
        )
        assert all(part.paid.minor <= part.amount.minor for part in parts)
        assert applied.closed == [
            part.number for part in parts if part.due.minor == 0 and part.number in paid
        ]
        invoice = msgspec.structs.replace(invoice, installments=parts, status=applied.status)
        filled = [part.due.minor == 0 for part in parts]
        assert filled == sorted(filled, reverse=True), "installments are paid in order"
    assert overpaid == max(0, sum(payments) - sum(amounts))
    assert (invoice.status is InvoiceStatus.PAID) == (sum(payments) >= sum(amounts))


@pytest.mark.parametrize(
    ("paid", "amount", "closed", "status", "over"),
    [
        ((), 99, [], InvoiceStatus.PARTIALLY_PAID, 0),
        ((), 100, [1], InvoiceStatus.PARTIALLY_PAID, 0),
        ((100,), 250, [2], InvoiceStatus.PARTIALLY_PAID, 0),
        ((100,), 500, [2, 3], InvoiceStatus.PAID, 0),
        ((100, 200, 250), 100, [3], InvoiceStatus.PAID, 50),
        ((100, 200, 300), 1, [], InvoiceStatus.PENDING, 1),
    ],
)
def test_excess_rolls_forward_and_what_is_left_is_overpayment(paid, amount, closed, status, over):
    applied = apply(invoice_of([100, 200, 300], paid=paid), Money(amount, "MYR"), receipt_id=uuid4())
    assert (applied.closed, applied.status) == (closed, status)
    assert sum(t.amount.minor for t in applied.transfers if t.credit.startswith("overpaid")) == over
    assert len(applied.accounts) == bool(over)


def test_money_for_a_cancelled_invoice_is_kept_as_overpayment():
    applied = apply(invoice_of([100], status=InvoiceStatus.CANCELLED), Money(100, "MYR"), receipt_id=uuid4())
    assert [t.credit.partition(":")[0] for t in applied.transfers] == ["overpaid"]
    assert applied.status is InvoiceStatus.CANCELLED


@given(schedules, st.integers(0, 10**6), st.integers(0, 10**6))
def test_issuing_debits_each_installment_with_exactly_its_amount(amounts, tax, fee):
    amounts = [amount + tax + fee for amount in amounts]
    invoice = invoice_of(amounts, tax=tax, fee=fee)
    accounts, transfers = issue(invoice)
    for part, account in zip(invoice.installments, accounts, strict=True):
        assert sum(t.amount.minor for t in transfers if t.debit == account.name) == part.amount.minor
    for name, total in (("tax", tax), ("fee", fee)):
        assert sum(t.amount.minor for t in transfers if t.credit == name) == total
    assert [t.leg for t in transfers] == list(range(len(transfers)))


@given(st.uuids(), st.integers(1, 12), st.integers(1, 32_767))
def test_a_reference_is_legal_at_every_gateway_and_names_one_attempt(invoice_id, number, attempt):
    reference = payment_reference(invoice_id, number, attempt)
    assert REFERENCE.fullmatch(reference)
    assert len(reference) <= 50
    assert reference == payment_reference(invoice_id, number, attempt)
    assert reference != payment_reference(invoice_id, number, attempt + 1)


@pytest.mark.parametrize("status", [InvoiceStatus.EXPIRED, InvoiceStatus.FAILED])
def test_late_money_is_applied_and_only_all_of_it_makes_the_invoice_paid(status):
    assert InvoiceStatus.PAID in REACHABLE[status]
    invoice = invoice_of([40, 60], status=status)
    assert apply(invoice, Money(99, "MYR"), receipt_id=uuid4()).status is status
    assert apply(invoice, Money(100, "MYR"), receipt_id=uuid4()).status is InvoiceStatus.PAID


def test_a_paid_invoice_never_becomes_anything_else():
    for target in InvoiceStatus:
        invoice = invoice_of([1], status=InvoiceStatus.PAID)
        if target is InvoiceStatus.PAID:
            assert move(invoice, target) is invoice
        else:
            with pytest.raises(IllegalTransition):
                move(invoice, target)


@pytest.mark.parametrize(
    "status", [InvoiceStatus.PAID, InvoiceStatus.CANCELLED, InvoiceStatus.EXPIRED, InvoiceStatus.FAILED]
)
def test_nothing_is_collected_for_an_invoice_that_is_over(status):
    with pytest.raises(Conflict):
        check_payable(invoice_of([1], status=status), NOW)


def test_nothing_is_collected_after_the_expiry_or_when_all_is_paid():
    with pytest.raises(Conflict, match="expired"):
        check_payable(invoice_of([1]), NOW + timedelta(days=2))
    with pytest.raises(Conflict):
        check_payable(invoice_of([1], paid=(1,)), NOW)
    assert check_payable(invoice_of([5, 7], paid=(5,)), NOW).number == 2


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=12))
def test_an_installment_is_asked_for_as_one_line_of_its_amount(amounts):
    invoice = invoice_of(amounts)
    part = invoice.installments[-1]
    request = request_for(
        invoice, reference="PT-x", installment=part, amount=part.due, webhook_url="https://h", now=NOW
    )
    assert [(line.quantity, line.unit_price) for line in request.lines] == [(1, part.amount)]
    assert f"installment {len(amounts)} of {len(amounts)}" in request.description


def test_an_older_invoice_is_collected_without_what_is_no_address():
    customer = NewCustomer(name="Siti", email="siti..nur@example.com", phone="12", country="ID")
    invoice = msgspec.structs.replace(invoice_of([5, 7]), customer=customer)
    part = invoice.installments[0]
    request = request_for(
        invoice, reference="PT-x", installment=part, amount=part.due, webhook_url="https://h", now=NOW
    )
    assert request.customer == Customer(name="Siti", country="ID")
