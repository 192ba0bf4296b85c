from __future__ import annotations

import tracemalloc
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytrust.money import EXPONENT, MAX_MINOR, Money, distribute, parse_percentage, parse_rate, split

EXPONENTS = {0: "IDR", 2: "MYR", 3: "KWD"}
currencies = st.sampled_from(sorted(EXPONENTS.values()))
minors = st.integers(0, MAX_MINOR)


@given(minors, currencies)
def test_what_is_written_reads_back_to_the_same_money(minor, currency):
    money = Money(minor, currency)
    assert Money.parse(money.major, currency) == money
    assert Money.from_major(money.major, currency) == money


@pytest.mark.parametrize(("exponent", "currency"), EXPONENTS.items())
def test_a_currency_shows_exactly_its_decimals(exponent, currency):
    assert EXPONENT[currency] == exponent
    assert Money(5, currency).major == {0: "5", 2: "0.05", 3: "0.005"}[exponent]
    assert (
        str(Money(123456, currency)) == {0: "123456", 2: "1234.56", 3: "123.456"}[exponent] + f" {currency}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 ",
        " 1",
        "+1",
        "-1",
        "-0",
        "1.",
        ".5",
        "01",
        "00",
        "1e3",
        "1E3",
        "1_000",
        "1,000",
        "0x10",
        "NaN",
        "sNaN",
        "Infinity",
        "1/2",
        "١٢",
        "１２",  # noqa: RUF001 - digits of another script
        "1\n",
        "1\x00",
        "1.12345",
        "9" * 20,
        "9223372036854775808",
        "true",
        "null",
    ],
)
def test_anything_but_a_plain_decimal_is_refused(text):
    with pytest.raises(ValueError, match=r"decimal|outside|decimals"):
        Money.parse(text, "IDR")


@pytest.mark.parametrize(
    ("text", "currency"), [("1.5", "IDR"), ("1.00", "IDR"), ("1.001", "USD"), ("1.0000", "KWD")]
)
def test_more_decimals_than_the_currency_has_are_refused_even_when_they_are_zeros(text, currency):
    with pytest.raises(ValueError, match="decimals"):
        Money.parse(text, currency)


@pytest.mark.parametrize("code", ["XXX", "XAU", "idr", "ID", "IDRR", "", "ABC", "IDR\n"])
def test_an_unknown_currency_is_refused(code):
    with pytest.raises(ValueError, match="ISO 4217"):
        Money(1, code)
    with pytest.raises(ValueError, match="ISO 4217"):
        Money.parse("1", code)


@pytest.mark.parametrize("minor", [-1, MAX_MINOR + 1])
def test_an_amount_outside_of_a_bigint_is_refused(minor):
    with pytest.raises(ValueError, match="outside"):
        Money(minor, "IDR")


@pytest.mark.parametrize(
    ("value", "minor"),
    [
        ("154000.00", 154000),
        (Decimal("154000.0"), 154000),
        (10, 10),
        (Decimal("0E+3"), 0),
        (Decimal("1.5E+3"), 1500),
    ],
)
def test_a_gateways_zeros_beyond_the_currencys_decimals_are_accepted(value, minor):
    assert Money.from_major(value, "IDR") == Money(minor, "IDR")


@pytest.mark.parametrize(
    "value", [Decimal("1E+999999"), Decimal("NaN"), Decimal("Infinity"), Decimal(-1), Decimal("0.5")]
)
def test_a_gateways_nonsense_is_refused_quickly(value):
    with pytest.raises(ValueError, match="amount|decimal"):
        Money.from_major(value, "IDR")


def test_a_number_of_a_million_digits_is_never_written_out():
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="amount"):
            Money.from_major("1E+1000000", "IDR")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_different_currencies_cannot_be_mixed():
    for mix in (lambda a, b: a + b, lambda a, b: a - b):
        with pytest.raises(ValueError, match="cannot be mixed"):
            mix(Money(2, "IDR"), Money(1, "MYR"))


@given(st.integers(0, 10**15), st.integers(0, 10_000))
def test_a_rate_rounds_half_up_whatever_the_decimal_context(minor, ten_thousandths):
    rate = Decimal(ten_thousandths) / 10_000
    with localcontext() as context:
        context.prec = 3
        computed = Money(minor, "IDR").times(rate)
    assert computed.minor == (minor * ten_thousandths * 2 + 10_000) // 20_000


@pytest.mark.parametrize(
    ("minor", "rate", "tax"),
    [(50, "0.01", 1), (49, "0.01", 0), (450000, "0.11", 49500), (1, "0.5", 1), (3, "0.5", 2)],
)
def test_half_a_unit_rounds_up(minor, rate, tax):
    assert Money(minor, "IDR").times(Decimal(rate)).minor == tax


@given(minors, currencies, st.integers(1, 12))
def test_a_split_keeps_every_unit_and_the_last_absorbs_the_rest(minor, currency, parts):
    amounts = split(Money(minor, currency), parts)
    assert sum(amount.minor for amount in amounts) == minor
    assert len(amounts) == parts
    assert len({amount.minor for amount in amounts[:-1]}) <= 1
    assert 0 <= amounts[-1].minor - amounts[0].minor < parts


@given(st.integers(0, 10**12), st.lists(st.integers(1, 10**12), min_size=1, max_size=12))
def test_shares_of_a_part_sum_to_the_part_and_none_is_negative(part, over):
    shares = distribute(Money(part, "MYR"), [Money(minor, "MYR") for minor in over])
    assert sum(share.minor for share in shares) == part
    assert all(
        share.minor == part * minor // sum(over) for share, minor in zip(shares[:-1], over[:-1], strict=True)
    )


@pytest.mark.parametrize("text", ["0", "0.11", "0.1100", "1", "1.0", "1.0000", "0.2701"])
def test_a_rate_between_zero_and_one_is_read_exactly(text):
    assert parse_rate(text) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["1.0001", "2", "-0.1", "0.12345", ".1", "1.", "11%", "NaN", "1e-1", "", " 0.1"]
)
def test_any_other_rate_is_refused(text):
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


def test_a_percentage_has_up_to_six_decimals():
    assert parse_percentage("0.029001") == Decimal("0.029001")
    with pytest.raises(ValueError, match="fraction"):
        parse_percentage("0.0290011")
