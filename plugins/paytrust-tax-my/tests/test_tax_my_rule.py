"""What the rule answers, by category, country and day."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paytrust_tax_my import MalaysianSst, register_tax_rules
from paytrust_tax_my.rates import ALIASES, RATES

from paytrust import Money, TaxAnswer, TaxQuery, TaxRule
from paytrust.contract.taxes import Overruled, decide

TODAY = date(2026, 11, 22)
RULE = MalaysianSst()


def query(category="goods", on=TODAY, country="MY", subtotal=10_000):
    return TaxQuery(country=country, category=category, subtotal=Money(subtotal, "MYR"), on=on)


def rate(category, on=TODAY):
    answer = RULE.rate_for(query(category, on))
    assert answer is not None
    return str(answer.rate)


def test_the_plugin_registers_its_rule():
    registered = []
    register_tax_rules(registered.append)
    assert registered == [MalaysianSst]


@pytest.mark.parametrize(
    ("category", "expected"),
    [("goods", "0.10"), ("goods_reduced", "0.05"), ("goods_exempt", "0"), ("goods_exported", "0")],
)
def test_sales_tax_has_been_the_same_since_the_first_day(category, expected):
    assert {rate(category, date(2018, 9, 1)), rate(category)} == {expected}


@pytest.mark.parametrize(
    "category",
    [
        "accommodation",
        "advertising",
        "betting_and_gaming",
        "cleaning",
        "digital_services",
        "domestic_flight",
        "entertainment",
        "golf",
        "insurance",
        "private_club",
        "professional_services",
        "vehicle_repair",
    ],
)
def test_most_services_rose_to_eight_percent(category):
    assert [rate(category, on) for on in (date(2024, 2, 29), date(2024, 3, 1), TODAY)] == [
        "0.06",
        "0.08",
        "0.08",
    ]


@pytest.mark.parametrize("category", ["food_and_beverage", "telecommunications", "parking"])
def test_some_services_stayed_at_six_percent(category):
    assert [rate(category, on) for on in (date(2018, 9, 1), date(2024, 2, 29), date(2024, 3, 1), TODAY)] == [
        "0.06"
    ] * 4


@pytest.mark.parametrize(
    ("category", "first_on", "before", "after"),
    [
        ("digital_services", date(2020, 1, 1), "0", "0.06"),
        ("low_value_goods", date(2024, 1, 1), "0", "0.10"),
        ("logistics", date(2024, 3, 1), "0", "0.06"),
        ("karaoke", date(2024, 3, 1), "0", "0.08"),
        ("maintenance_repair", date(2024, 3, 1), "0", "0.08"),
        ("brokerage", date(2024, 3, 1), "0", "0.08"),
        ("rental_leasing", date(2025, 7, 1), "0", "0.08"),
        ("construction", date(2025, 7, 1), "0", "0.06"),
        ("financial_services", date(2025, 7, 1), "0", "0.08"),
        ("private_healthcare", date(2025, 7, 1), "0", "0.06"),
        ("education", date(2025, 7, 1), "0", "0.06"),
        ("rental_leasing", date(2026, 1, 1), "0.08", "0.06"),
    ],
)
def test_a_tax_changes_on_its_day_and_not_the_day_before(category, first_on, before, after):
    assert rate(category, date.fromordinal(first_on.toordinal() - 1)) == before
    assert rate(category, first_on) == after


@pytest.mark.parametrize("category", ["service_exempt", "goods_exempt", "beauty_services"])
@pytest.mark.parametrize("on", [date(2018, 9, 1), date(2024, 3, 1), date(2025, 7, 1), TODAY], ids=str)
def test_what_is_exempt_pays_nothing_and_says_why(category, on):
    answer = RULE.rate_for(query(category, on))
    assert answer.rate == 0
    assert answer.reason


@pytest.mark.parametrize(
    ("category", "sen", "tax"),
    [
        ("goods", 10_000, 1_000),
        ("goods_reduced", 19_99, 1_00),  # 99.95, rounded half up
        ("hotel", 350_00, 28_00),
        ("restaurant", 25_90, 1_55),  # 155.4
        ("restaurant", 25, 2),  # 1.5
        ("rental", 1_000_000, 60_000),
        ("service_exempt", 1_000_000, 0),
    ],
)
def test_exact_sums(category, sen, tax):
    asked = query(category, subtotal=sen)
    assert asked.subtotal.times(RULE.rate_for(asked).rate) == Money(tax, "MYR")


def test_without_a_category_nobody_knows_which_of_the_two_taxes_it_is():
    assert RULE.rate_for(query(None)) is None
    assert decide([RULE], query(None)) is None


@pytest.mark.parametrize("word", ["Food and Beverage", "food-and-beverage", " F&B ", "Restaurant"])
def test_spelling_does_not_matter(word):
    assert RULE.rate_for(query(word)).category == "food_and_beverage"


@pytest.mark.parametrize("country", ["ID", "SG", "my", "MYS", ""])
def test_other_countries_are_none_of_our_business(country):
    assert RULE.rate_for(query(country=country)) is None


@pytest.mark.parametrize("category", ["good", "VAT", "standard", "", " "])
def test_an_unknown_category_is_not_guessed(category):
    assert RULE.rate_for(query(category)) is None


@pytest.mark.parametrize("category", sorted({row.category for row in RATES}))
def test_there_is_no_answer_before_sst(category):
    assert RULE.rate_for(query(category, date(2018, 8, 31))) is None


def test_an_answer_says_when_it_held():
    was = RULE.rate_for(query("rental", date(2025, 10, 1)))
    assert (was.effective_from, was.effective_to) == (date(2025, 7, 1), date(2025, 12, 31))
    now = RULE.rate_for(query("rental"))
    assert (now.jurisdiction, now.effective_from, now.effective_to) == ("MY", date(2026, 1, 1), None)
    assert "Service Tax Policy 2/2025" in now.reason


@given(
    country=st.sampled_from(["ID", "MY"]) | st.text(max_size=3),
    category=st.none() | st.sampled_from([*ALIASES, *(row.category for row in RATES)]) | st.text(max_size=50),
    on=st.dates(),
    minor=st.integers(0, 2**63 - 1),
)
def test_no_question_is_too_strange(country, category, on, minor):
    answer = RULE.rate_for(TaxQuery(country=country, category=category, subtotal=Money(minor, "MYR"), on=on))
    if answer is not None:
        assert country == "MY"
        assert any((answer.category, answer.rate) == (row.category, row.rate) for row in RATES)
        assert answer.effective_from <= on <= (answer.effective_to or date.max)


class House(TaxRule):
    """An operator's own rule."""

    name = "house"

    def rate_for(self, query):  # noqa: ARG002  a ruling for everything
        return TaxAnswer(
            rate=Decimal("0.05"),
            category="house",
            jurisdiction="MY",
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
        (Overruled("tax-my", Decimal("0.10")),),
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_rule_of_lower_priority_loses_and_is_noted(turned):
    rules = [RULE, Weak()]
    basis = decide(rules[::-1] if turned else rules, query())
    assert (basis.rule, basis.rate, basis.overruled) == (
        "tax-my",
        Decimal("0.10"),
        (Overruled("house", Decimal("0.05")),),
    )


def test_a_rule_that_agrees_is_not_noted():
    basis = decide([RULE, Weak()], query("goods_reduced"))
    assert (basis.rule, basis.overruled) == ("tax-my", ())


def test_what_we_do_not_know_is_left_to_others():
    assert decide([RULE, Weak()], query(None)).rule == "house"
