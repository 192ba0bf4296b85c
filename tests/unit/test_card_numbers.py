"""What looks like a card number, and what does not."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from paytrust.api import problems
from paytrust.infra.ids import new_id
from paytrust.payments.model import payment_reference
from paytrust.security import card_numbers
from paytrust.security.card_numbers import INSTEAD, holds_card, where, without_cards

# The networks' own test numbers.
CARDS = {
    "Visa": ["4111111111111111", "4222222222222", "4012888888881881"],
    "Mastercard": ["5555555555554444", "5105105105105100", "2223003122003222"],
    "American Express": ["378282246310005", "371449635398431"],
    "Diners Club": ["30569309025904", "38520000023237", "36227206271667"],
    "Discover": ["6011111111111117", "6011000990139424"],
    "JCB": ["3530111333300000", "3566002020360505"],
    "UnionPay": ["6200000000000005", "6205500000000000004"],
    "Maestro": ["6759649826438453"],
}
NO_CARDS = [
    *[
        "",
        "Laptop sleeve",
        "Invoice 2026-11-23",
        "150000",
        "+62 812 3456 7890",
        "0812-3456-7890",
        "+4917012345678",
        "021 4000 1234",
    ],
    *[
        "8808123456789012",
        "70012 0812 3456 7890",
        "1234567890123456",
        "4111111111111112",
        "411111111111111",
        "41111111111111111",
        "0" * 16,
    ],
    *[
        "4006381333931",
        "9781566199094",
        "DE89 3704 0044 0532 0130 00",
        "354112098765439",
        "36 38 40 42 44 46 48",
        "2026 11 23 10 30 00 123",
    ],
    *[
        "x4111111111111111",
        "4111111111111111x",
        "NIK_5555555555554444",
        "41111111-1111-4111-8111-111111111111",
        "1700000000000",
    ],
    *[
        "4111.1111.1111.1111",
        "4111/1111/1111/1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "41 11 11 11 11 11 11 11",
    ],
]


def grouped(digits, separator):
    return separator.join(digits[start : start + 4] for start in range(0, len(digits), 4))


@pytest.mark.parametrize("number", [number for numbers in CARDS.values() for number in numbers])
@pytest.mark.parametrize("separator", ["", " ", "-", " - ", "\u00a0", "\u2013"], ids=ascii)
def test_the_test_numbers_of_the_networks_are_found_wherever_they_stand(number, separator):
    written = grouped(number, separator)
    for text in (
        written,
        f"card {written}, thanks",
        f"({written})",
        f"no:{written}.",
        f"2 {written} 12/27",
        f"a\n{written}\n",
    ):
        assert holds_card(text), text
        assert number not in without_cards(text)
        assert written not in without_cards(text)


@pytest.mark.parametrize("text", NO_CARDS, ids=lambda text: text[:30] or "nothing")
def test_what_is_no_card_number_is_left_alone(text):
    assert not holds_card(text)
    assert without_cards(text) == text


def check_digit(digits):
    """
    Luhn's rule, as ISO/IEC 7812 puts it: double every second digit from the right of the number without its
    check digit.
    """
    doubled = [
        int(digit) * 2 if place % 2 == 0 else int(digit) for place, digit in enumerate(reversed(digits))
    ]
    return str(-sum(double // 10 + double % 10 for double in doubled) % 10)


# First digits and lengths, written down apart from the pattern.
ISSUED = [
    *[("4", length) for length in (16, 19)],
    *[(prefix, 16) for prefix in ("51", "53", "55", "2221", "2300", "2699", "2720")],
    *[
        ("34", 15),
        ("37", 15),
        ("300", 14),
        ("305", 16),
        ("309", 19),
        ("36", 14),
        ("38", 16),
        ("39", 19),
        ("6011", 16),
        ("644", 16),
        ("65", 19),
    ],
    *[
        ("3528", 16),
        ("3589", 19),
        ("62", 16),
        ("62", 19),
        ("81", 17),
        ("5018", 14),
        ("6304", 19),
        ("6763", 16),
        ("2200", 16),
        ("2204", 19),
    ],
    *[("60", 16), ("82", 16), ("508", 16)],
]
FILLERS = {"508": "5085"}
SCRIPTS = [
    "0123456789",
    "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669",
    "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19",
]


@st.composite
def numbers(draw):
    prefix, length = draw(st.sampled_from(ISSUED))
    prefix = FILLERS.get(prefix, prefix)
    rest = draw(st.text("0123456789", min_size=length - len(prefix) - 1, max_size=length - len(prefix) - 1))
    return prefix + rest + check_digit(prefix + rest)


@given(
    number=numbers(),
    separator=st.sampled_from(["", " ", "-"]),
    script=st.sampled_from(SCRIPTS),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_every_number_of_a_network_is_found_in_every_script(number, separator, script, before, after):
    text = f"{before}. {grouped(number, separator).translate(str.maketrans('0123456789', script))} .{after}"
    assert holds_card(text)


@given(number=numbers(), place=st.integers(0, 18), digit=st.integers(1, 9))
def test_one_wrong_digit_makes_it_none(number, place, digit):
    place %= len(number)
    changed = number[:place] + str((int(number[place]) + digit) % 10) + number[place + 1 :]
    assert not holds_card(changed)


@given(st.uuids())
@example(UUID("41111111-1111-4111-9111-111111111111"))
def test_no_id_is_taken_for_one(value):
    assert not holds_card(str(value))
    assert not holds_card(f"order {value}, {str(value).upper()}")
    assert not holds_card(payment_reference(value, 12, 10))


def test_none_of_our_own_ids_is():
    for _ in range(10_000):
        made = new_id()
        assert not holds_card(str(made))
        assert not holds_card(payment_reference(made, 1, 1))


@given(st.integers(10**6, 10**15 - 1))
def test_no_telephone_number_with_its_plus_is_taken_for_one(number):
    assert not holds_card(f"call +{number} now")


@given(st.text("0123456789", min_size=12, max_size=12))
def test_no_ean_13_is_taken_for_one(digits):
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    assert not holds_card(digits + str(-total % 10))


@given(st.text(), st.text("0123456789 -\u0664\uff14+x_", max_size=200))
def test_whatever_is_said_holds_none_and_the_rest_stays(one, other):
    for text in (one, other):
        said = without_cards(text)
        assert not holds_card(said)
        assert holds_card(text) == (said != text)
        assume(INSTEAD not in text)
        kept = said.split(INSTEAD)
        assert all(part in text for part in kept)


@pytest.mark.parametrize(
    "part", ["4", "4-", "4111 ", "4111.", "4111-1111-1111-1112 ", "4222222222223.", "\u0664", "- "], ids=ascii
)
def test_no_text_that_fits_into_a_body_takes_long(least_cpu_s, part):
    text = part * (problems.MAX_BODY_BYTES // len(part))
    assert least_cpu_s(lambda: holds_card(text), 0.5) < 0.5


@pytest.mark.parametrize(
    "number", [n for numbers in CARDS.values() for n in numbers if n != "5105105105105100"]
)
def test_hardly_a_test_number_of_the_networks_is_an_identity(number):
    assert not card_numbers.is_identity(number)


@pytest.mark.parametrize(
    ("number", "is_one"),
    [
        ("5171011708900001", True),
        ("3174015708900001", True),  # a woman
        ("4171011708900001", False),  # no such province
        ("5100011708900001", False),  # no such regency
        ("5171013208900001", False),  # no such day
        ("5171017208900001", False),
        ("5171011713900001", False),  # no such month
        ("5171011708900000", False),  # no such person
        ("51710117089000011", False),
        ("5171 0117 0890 0001", False),
    ],
)
def test_an_identity_number_names_a_place_and_a_day_of_birth(number, is_one):
    assert card_numbers.is_identity(number) is is_one


class Line(msgspec.Struct, rename={"title": "name"}):
    title: str
    amount: msgspec.Raw = msgspec.Raw(b"null")


class Body(msgspec.Struct):
    lines: list[Line]
    metadata: dict[str, str]
    options: dict[str, object] | None = None


def test_it_is_pointed_at_by_the_names_of_the_body_and_never_by_itself():
    card = "4111 1111 1111 1111"
    body = Body(
        [Line("x"), Line(card, msgspec.Raw(b'"4111111111111111"'))],
        {"a": "b", card: card},
        {"deep": [{"er": card}]},
    )
    assert list(where(body)) == [
        ("lines", 1, "name"),
        ("metadata",),
        ("metadata",),
        ("options", "deep", 0, "er"),
    ]
    assert card_numbers.MIN_DIGITS == 13
