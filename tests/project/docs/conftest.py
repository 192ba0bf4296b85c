"""Reading the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Fence(NamedTuple):
    """A block of code: its language, the word after it ("run", "answer") and its text."""

    language: str
    mark: str
    text: str


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def read():
    """The text of a page: `read("docs/index.md")`."""
    return lambda page: (ROOT / page).read_text()


@pytest.fixture(scope="session")
def fences(read):
    """The blocks of code of a page."""
    return lambda page: [
        Fence(language, mark.strip(), text) for language, mark, text in FENCE.findall(read(page))
    ]


@pytest.fixture(scope="session")
def rows(read):
    """The rows of every table of a page, as lists of cells without backticks."""

    def cells(page):
        lines = [
            line.strip().strip("|").split(" | ") for line in read(page).splitlines() if line.startswith("| ")
        ]
        return [
            [cell.strip().strip("`") for cell in line] for line in lines if set("".join(line)) - set("-| ")
        ]

    return cells


@pytest.fixture(scope="session")
def section(read):
    """
    What stands below a heading, up to the next one of its level or above: `section("docs/x.md", "## paytrust
    dev")`.
    """

    def find(page, heading):
        level = heading.partition(" ")[0]
        _, found, below = f"\n{read(page)}".partition(f"\n{heading}\n")
        assert found, f"{page} has no heading {heading!r}"
        return re.split(rf"\n#{{1,{len(level)}}} ", below)[0]

    return find
