"""The table is sane, and the README tells the truth about it."""

import re
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from paytrust_tax_id.rates import ALIASES, RATES

from paytrust.money import parse_rate

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
HISTORIES = {name: list(rows) for name, rows in groupby(RATES, key=lambda row: row.category)}


def test_the_rows_of_a_category_stand_together():
    assert sum(len(rows) for rows in HISTORIES.values()) == len(RATES)


@pytest.mark.parametrize("category", HISTORIES)
def test_a_category_has_no_gap_no_overlap_and_no_end(category):
    rows = HISTORIES[category]
    assert rows[0].first_on == date(2010, 4, 1)
    assert rows[-1].last_on is None
    assert all(row.first_on <= row.last_on for row in rows[:-1])
    assert all(after.first_on == before.last_on + timedelta(days=1) for before, after in pairwise(rows))


@pytest.mark.parametrize("row", RATES, ids=lambda row: f"{row.category} {row.first_on}")
def test_a_row_is_a_rate_with_a_reason(row):
    assert parse_rate(str(row.rate)) == row.rate
    assert row.rate <= Decimal("0.12")
    assert 10 < len(row.reason) <= 120
    assert re.fullmatch("[a-z_]+", row.category)


def test_an_alias_is_a_new_word_for_a_category_we_have():
    assert not ALIASES.keys() & HISTORIES.keys()
    assert set(ALIASES.values()) <= HISTORIES.keys()
    assert all(word == word.strip().casefold() and not set(word) & {" ", "-"} for word in ALIASES)


def test_the_readme_lists_every_category_with_its_aliases_and_its_rate_of_today():
    rows = [line.split("|") for line in README.splitlines() if line.startswith("| `")]
    listed = {
        re.findall("`(.+?)`", name)[0]: (re.findall("`(.+?)`", also), Decimal(rate))
        for _, name, also, rate, *_ in rows
    }
    aliases = {name: [word for word, ours in ALIASES.items() if ours == name] for name in HISTORIES}
    assert listed == {name: (aliases[name], rows[-1].rate) for name, rows in HISTORIES.items()}
