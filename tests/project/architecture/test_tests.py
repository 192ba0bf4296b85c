"""The tree of tests: tests/README.md says where a test belongs, and what it says is true."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = (ROOT / "tests/README.md").read_text()


def test_every_file_and_folder_that_the_readme_names_exists():
    named = re.findall(
        r"`((?:tests|paytrust|plugins|migrations|docs|examples|requirements)/[\w./-]*)`", README
    )
    assert len(named) > 50
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_has_a_row_for_every_part_of_the_code():
    parts = {
        f"paytrust/{path.name}{'/' * path.is_dir()}"
        for path in (ROOT / "paytrust").iterdir()
        if path.name not in {"__init__.py", "__pycache__", "py.typed"}
    }
    assert {part for part in parts if f"`{part}`" not in README} == set()


def test_every_folder_of_tests_is_in_the_readme():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.rglob("*.py"))}
    assert folders == set(re.findall(r"^\| `tests/(\w+)/` \|", README, re.MULTILINE))
