"""Times that come from outside, however far away and with whatever offset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paytrust import times
from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.contract.validation import validated
from paytrust.errors import Invalid
from paytrust.invoices.model import CreateInvoice, NewInstallments, NewLineItem, Terms, draft
from paytrust.keys.model import check_end
from paytrust.money import Money

NOW = datetime(2026, 12, 1, tzinfo=UTC)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(timezones=OFFSETS)
FIRST = datetime.min.replace(tzinfo=timezone(timedelta(minutes=1439)))
LAST = datetime.max.replace(tzinfo=timezone(timedelta(minutes=-1439)))


def create(expires_at, due_dates):
    return CreateInvoice(
        line_items=[NewLineItem("Course", 1, msgspec.Raw(b"100000"))],
        expires_at=expires_at,
        installments=NewInstallments(count=2, due_dates=due_dates),
        gateway_id=uuid4(),
        currency="IDR",
    )


@given(TIMES, TIMES, TIMES)
@example(LAST, NOW + timedelta(days=1), LAST)
@example(FIRST, FIRST, FIRST)
def test_every_time_of_an_invoice_is_accepted_or_refused_in_words(expires_at, first, second):
    terms = Terms(account=None, now=NOW, new_id=uuid4)
    with pytest.raises(Invalid):  # there is no such gateway account; all other rules are checked too
        draft(create(expires_at, [first, second]), terms, invoice_id=uuid4(), tenant_id=uuid4())


@given(TIMES)
@example(FIRST)
@example(LAST)
def test_a_filter_is_read_or_refused(at):
    try:
        assert times.read(at.isoformat()) == at
    except ValueError:
        assert not times.is_sane(at)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-12-01", "2026-12-01T00:00:00", "9999-12-31T23:59:59-12:00"]
)
def test_what_is_no_time_with_an_offset_is_refused(text):
    with pytest.raises(ValueError, match="expected a time such as"):
        times.read(text)


@given(TIMES)
def test_a_key_ends_at_a_time_that_can_be_calculated_with(at):
    if times.is_sane(at):
        check_end(at)
        assert at + timedelta(days=365)
    else:
        with pytest.raises(Invalid):
            check_end(at)


@given(TIMES)
@example(LAST)
def test_an_odd_time_of_a_gateway_does_not_stop_the_money(at):
    told = GatewayPayment(
        reference="pt-1-a",
        gateway_payment_id="1",
        status=PaymentStatus.PAID,
        amount=Money(5, "IDR"),
        paid=Money(5, "IDR"),
        paid_at=at,
    )
    checked = validated(told, GatewayPayment)
    assert checked.paid == told.paid
    assert checked.paid_at == (at if times.is_sane(at) else None)
