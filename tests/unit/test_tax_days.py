"""Which day it is for a line's tax."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import msgspec
import pytest

from paytrust.contract.taxes import ZONES, TaxAnswer, TaxRule, civil_day
from paytrust.invoices.model import CreateInvoice, NewCustomer, NewLineItem, Violations
from paytrust.invoices.model.lines import lines_of

CHANGE = date(2027, 1, 1)


class Changing(TaxRule):
    name = "changing"

    def rate_for(self, query):
        rate = Decimal("0.12") if query.on >= CHANGE else Decimal("0.11")
        return TaxAnswer(
            rate=rate, category="x", jurisdiction=query.country, reason="x", effective_from=CHANGE
        )


def rates(now, *countries, customer=None):
    lines = [NewLineItem("x", 1, msgspec.Raw(b"1000"), country_code=country) for country in countries]
    data = CreateInvoice(line_items=lines, customer=customer, gateway_id=uuid4(), currency="IDR")
    return [str(line.tax_rate) for line in lines_of(Violations(), data, uuid4, [Changing()], now)]


def test_tax_is_asked_for_the_civil_day_of_the_lines_country():
    at_one_in_jakarta = datetime(2026, 12, 31, 18, 0, tzinfo=UTC)
    assert rates(at_one_in_jakarta, "ID", "MY", "DE") == ["0.12", "0.12", "0.11"]
    before_midnight = at_one_in_jakarta - timedelta(hours=1, microseconds=1)
    assert rates(before_midnight, "ID", "MY", "DE") == ["0.11", "0.12", "0.11"]
    assert rates(at_one_in_jakarta, None, customer=NewCustomer(country="ID")) == ["0.12"]


@pytest.mark.parametrize("country", ZONES)
def test_a_day_of_a_country_begins_before_that_of_utc(country):
    assert civil_day(datetime(2026, 12, 31, 17, 0, tzinfo=UTC), country) == CHANGE
    assert civil_day(datetime(2026, 12, 31, 15, 59, tzinfo=UTC), country) == date(2026, 12, 31)
