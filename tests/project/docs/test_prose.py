"""
Sentences have an actor: the gateway, a worker, the client. Those whose subject is who, what, whoever,
somebody or nobody are counted, and the count only falls.

A heuristic: *whoever, somebody, someone, nobody* and *no one* count wherever they stand, *who* and *what* where
they begin a sentence or a clause that is no question. Run as a program, this file prints each one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "CHANGELOG.md").exists())
PAGES = ("*.md", "docs/**/*.md", "examples/**/*.md", "plugins/*/*.md")
CODE = ("paytrust/**/*.py", "plugins/*/paytrust_*/**/*.py")

PRONOUN = re.compile(r"\b(?:whoever|whosoever|somebody|someone|nobody|no one)\b", re.IGNORECASE)
BEGINS = re.compile(
    r"(?:^|[.!?:;)]\s+|\n\s*(?:[-*]|\d+\.)\s+|\n\s*\n\s*)(?:\*\*)?(?:who|what)\b", re.IGNORECASE
)
ENDS = re.compile(r"[.!?](?=\s|$)|\n\s*\n")
NOT_PROSE = re.compile(
    r"^```.*?^```$|^    [^\n]*$|^#[^\n]*$|^\|[^\n]*(?=\n\|[-| :]+\|$)|`[^`\n]*`", re.MULTILINE | re.DOTALL
)
"""Of a page: code, headings, and the first rows of tables."""

ALLOWED = {"docs": 0, "docstrings": 114, "messages": 2}
"""How many are left. Write better sentences and lower the number; it never rises."""


class Found(NamedTuple):
    """A sentence without an actor: the file, the line and the words around it."""

    file: str
    line: int
    words: str


def subjects(text: str) -> Iterator[int]:
    """Where in *text* a subject stands that names nobody, as offsets."""
    for match in PRONOUN.finditer(text):
        yield match.start()
    for match in BEGINS.finditer(text):
        end = ENDS.search(text, match.end())
        if end is None or end.group() != "?":
            yield match.end() - 3


def prose(page: str) -> str:
    """A page without what is not prose; every line stays where it was."""
    return NOT_PROSE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), page)


def texts(tree: ast.AST) -> Iterator[tuple[bool, int, str]]:
    """Every text in a module: whether it is a docstring, its line and its words."""
    docstrings: set[ast.expr] = set()
    inside: set[ast.expr] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str()) as text):
                docstrings.add(text)
            case ast.JoinedStr(values=parts):
                inside.update(parts)
                words = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
                yield False, node.lineno, words
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node in docstrings, node.lineno, node.value


def found(file: str, line: int, text: str) -> Iterator[Found]:
    for at in subjects(re.sub(r"`[^`\n]*`", lambda code: " " * len(code.group()), text)):
        words = " ".join(text[max(0, at - 40) : at + 60].split())
        yield Found(file, line + text.count("\n", 0, at), words)


def in_pages() -> list[Found]:
    """Sentences without an actor in the documentation."""
    pages = sorted({page for pattern in PAGES for page in ROOT.glob(pattern) if ".venv" not in page.parts})
    return [hit for page in pages for hit in found(str(page.relative_to(ROOT)), 1, prose(page.read_text()))]


def in_code(*, docstrings: bool) -> list[Found]:
    """Sentences without an actor in docstrings, or in the other texts of the code: what it says to people."""
    files = sorted({file for pattern in CODE for file in ROOT.glob(pattern) if ".venv" not in file.parts})
    return [
        hit
        for file in files
        for is_docstring, line, text in texts(ast.parse(file.read_text()))
        if is_docstring is docstrings and (docstrings or " " in text)
        for hit in found(str(file.relative_to(ROOT)), line, text)
    ]


def counted() -> dict[str, list[Found]]:
    return {
        "docs": in_pages(),
        "docstrings": in_code(docstrings=True),
        "messages": in_code(docstrings=False),
    }


@pytest.mark.parametrize("kind", ALLOWED)
def test_sentences_without_an_actor_only_get_fewer(kind):
    hits = counted()[kind]
    listed = "\n".join(f"{hit.file}:{hit.line}: {hit.words}" for hit in hits)
    assert len(hits) <= ALLOWED[kind], f"name the actor:\n{listed}"
    assert len(hits) == ALLOWED[kind], f"lower ALLOWED[{kind!r}] to {len(hits)}"


@pytest.mark.parametrize(
    "text",
    [
        "Whoever asks gets a page.",
        "The page is shown to nobody.",
        "It is stored. What is left stays due.",
        "Two things: who finds no slot gets 503.",
        "All of it holds:\n\n- what a 2xx promised is there;",
        "What a plugin implements.",
    ],
)
def test_a_sentence_without_an_actor_is_found(text):
    assert list(subjects(text))


@pytest.mark.parametrize(
    "text",
    ["A person who pays late.", "The page says what to do.", "Who is late?", "What became of it? Ask."],
)
def test_questions_and_clauses_that_refer_are_not_counted(text):
    assert list(subjects(text)) == []


def test_code_headings_and_first_rows_of_tables_are_not_prose():
    page = "# What it does\n\n`nobody` runs it.\n\n| what | who |\n| --- | --- |\n\n```\nnobody\n```\n    nobody\n"
    assert list(subjects(prose(page))) == []


def test_messages_and_docstrings_are_told_apart():
    module = '"""Nobody."""\nraise Error(f"somebody at {place} waits", "whoever " "it is")\n'
    assert sorted(texts(ast.parse(module))) == [
        (False, 2, "somebody at x waits"),
        (False, 2, "whoever it is"),
        (True, 1, "Nobody."),
    ]


if __name__ == "__main__":
    for hits in counted().values():
        for hit in hits:
            print(f"{hit.file}:{hit.line}: {hit.words}")  # noqa: T201
