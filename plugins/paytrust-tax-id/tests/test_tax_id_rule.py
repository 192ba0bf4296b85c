"""What the rule answers, by category, country and day."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_tax_id import IndonesianVat, register_tax_rules
from paytrust_tax_id.rates import ALIASES, RATES

from paytrust import Money, TaxAnswer, TaxQuery, TaxRule
from paytrust.contract.taxes import Overruled, decide

TODAY = date(2026, 11, 22)
RULE = IndonesianVat()


def query(category=None, on=TODAY, country="ID", subtotal=450_000):
    return TaxQuery(country=country, category=category, subtotal=Money(subtotal, "IDR"), on=on)


def rate(category=None, on=TODAY):
    answer = RULE.rate_for(query(category, on))
    assert answer is not None
    return str(answer.rate)


def test_the_plugin_registers_its_rule():
    registered = []
    register_tax_rules(registered.append)
    assert registered == [IndonesianVat]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (date(2010, 4, 1), "0.10"),
        (date(2022, 3, 31), "0.10"),
        (date(2022, 4, 1), "0.11"),
        (date(2024, 12, 31), "0.11"),
        (date(2025, 1, 1), "0.11"),
        (TODAY, "0.11"),
    ],
    ids=str,
)
def test_the_standard_rate_of_each_era(on, expected):
    assert rate("standard", on) == expected


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (date(2022, 3, 31), "0.10"),
        (date(2022, 4, 1), "0.11"),
        (date(2024, 12, 31), "0.11"),
        (date(2025, 1, 1), "0.11"),
        (date(2025, 1, 31), "0.11"),
        (date(2025, 2, 1), "0.12"),
    ],
    ids=str,
)
def test_luxury_goods_pay_twelve_percent_after_a_month_of_transition(on, expected):
    assert rate("luxury", on) == expected


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (date(2022, 3, 31), "0.01"),
        (date(2022, 4, 1), "0.011"),
        (date(2024, 12, 31), "0.011"),
        (date(2025, 1, 1), "0.012"),
        (date(2025, 2, 3), "0.012"),
        (date(2025, 2, 4), "0.011"),
    ],
    ids=str,
)
@pytest.mark.parametrize("category", ["package_delivery", "travel_agency"])
def test_couriers_and_travel_agencies_pay_a_tenth(category, on, expected):
    assert rate(category, on) == expected


def test_the_effective_rate_is_twelve_percent_of_eleven_twelfths():
    assert Decimal(12) * 11 / 12 / 100 == RULE.rate_for(query()).rate


@pytest.mark.parametrize("subtotal", [12, 450_000, 1_000_000, 999_999_996])
def test_the_law_and_the_effective_rate_give_the_same_tax(subtotal):
    by_law = Money(subtotal * 11 // 12, "IDR").times(Decimal("0.12"))
    assert Money(subtotal, "IDR").times(RULE.rate_for(query()).rate) == by_law


@pytest.mark.parametrize(
    ("category", "subtotal", "tax"),
    [
        ("VAT", 450_000, 49_500),
        ("luxury", 450_000, 54_000),
        ("rice", 450_000, 0),
        ("courier", 450_000, 4_950),
        ("VAT", 1, 0),
        ("VAT", 5, 1),  # 0.55, rounded half up
        ("courier", 500, 6),  # 5.5
    ],
)
def test_exact_sums(category, subtotal, tax):
    asked = query(category, subtotal=subtotal)
    assert asked.subtotal.times(RULE.rate_for(asked).rate) == Money(tax, "IDR")


@pytest.mark.parametrize("word", [None, "VAT", "vat", "PPN", "standard", " Standard "])
def test_a_line_is_standard_unless_it_says_otherwise(word):
    assert RULE.rate_for(query(word)).category == "standard"


@pytest.mark.parametrize("word", ["Medical Services", "medical-services", "MEDICAL_SERVICES", "healthcare"])
def test_spelling_does_not_matter(word):
    assert RULE.rate_for(query(word)).category == "medical_services"


@pytest.mark.parametrize("on", [date(2010, 4, 1), date(2022, 3, 31), date(2022, 4, 1), TODAY], ids=str)
@pytest.mark.parametrize("category", sorted({row.category for row in RATES if not row.rate}))
def test_what_is_exempt_is_so_in_every_era_and_says_by_which_law(category, on):
    answer = RULE.rate_for(query(category, on))
    assert answer.rate == 0
    assert any(law in answer.reason for law in ("UU ", "PP "))


@pytest.mark.parametrize("country", ["MY", "SG", "id", "IDN", ""])
def test_other_countries_are_none_of_our_business(country):
    assert RULE.rate_for(query("VAT", country=country)) is None


@pytest.mark.parametrize("category", ["luxry", "restaurant", "", " ", "goods"])
def test_an_unknown_category_is_not_guessed(category):
    assert RULE.rate_for(query(category)) is None
    assert decide([RULE], query(category)) is None


@pytest.mark.parametrize("category", sorted({row.category for row in RATES}))
def test_there_is_no_answer_before_the_law_of_2009(category):
    assert RULE.rate_for(query(category, date(2010, 3, 31))) is None


def test_an_answer_says_when_it_held():
    was = RULE.rate_for(query("luxury", date(2025, 1, 15)))
    assert (was.effective_from, was.effective_to) == (date(2025, 1, 1), date(2025, 1, 31))
    now = RULE.rate_for(query("luxury"))
    assert (now.jurisdiction, now.effective_from, now.effective_to) == ("ID", date(2025, 2, 1), None)
    assert "PMK 131/2024" in now.reason


@given(
    country=st.sampled_from(["ID", "MY"]) | st.text(max_size=3),
    category=st.none() | st.sampled_from([*ALIASES, *(row.category for row in RATES)]) | st.text(max_size=50),
    on=st.dates(),
    minor=st.integers(0, 2**63 - 1),
)
def test_no_question_is_too_strange(country, category, on, minor):
    answer = RULE.rate_for(TaxQuery(country=country, category=category, subtotal=Money(minor, "IDR"), on=on))
    if answer is not None:
        assert country == "ID"
        assert any((answer.category, answer.rate) == (row.category, row.rate) for row in RATES)
        assert answer.effective_from <= on <= (answer.effective_to or date.max)


class House(TaxRule):
    """An operator's own rule."""

    name = "house"

    def rate_for(self, query):  # noqa: ARG002  a ruling for everything
        return TaxAnswer(
            rate=Decimal("0.05"),
            category="house",
            jurisdiction="ID",
            reason="a ruling",
            effective_from=date(2020, 1, 1),
        )


class Strong(House):
    priority = 10


class Weak(House):
    priority = -10


@pytest.mark.parametrize("turned", [False, True])
def test_a_rule_of_higher_priority_wins_and_ours_is_noted(turned):
    rules = [RULE, Strong()]
    basis = decide(rules[::-1] if turned else rules, query())
    assert (basis.rule, basis.rate, basis.overruled) == (
        "house",
        Decimal("0.05"),
        (Overruled("tax-id", Decimal("0.11")),),
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_rule_of_lower_priority_loses_and_is_noted(turned):
    rules = [RULE, Weak()]
    basis = decide(rules[::-1] if turned else rules, query())
    assert (basis.rule, basis.rate, basis.overruled) == (
        "tax-id",
        Decimal("0.11"),
        (Overruled("house", Decimal("0.05")),),
    )


def test_what_we_do_not_know_is_left_to_others():
    basis = decide([RULE, Weak()], query("restaurant"))
    assert (basis.rule, basis.overruled) == ("house", ())
