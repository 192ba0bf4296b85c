"""Links lead somewhere, code can be read by machines, and names of commands exist."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import textwrap
import tomllib
from pathlib import Path

import click
import pytest

from paytrust.cli import cli

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "plugins/*/*.md", "tests/*.md")
    for page in ROOT.glob(pattern)
    if ".venv" not in page.parts
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(
    r"`((?:paytrust|plugins|migrations|examples|requirements|tests)/[\w./-]*(?:/|\.\w+)|\btest_\w+\.py)`"
)
MACHINE = re.compile(r"/(?:work|root|home|Users)/[A-Za-z]|/tmp/[a-z]+_try")


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page, read):
    for target in LINK.findall(without_code(read(page))):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.resolve().is_relative_to(ROOT), f"{target} leads out of the repository"
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{target}: no such heading"


def test_every_page_of_the_documentation_can_be_reached(read):
    seen, todo = set(), ["README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = (
            target.partition("#")[0]
            for target in LINK.findall(without_code(read(page)))
            if "://" not in target
        )
        todo += [
            str(((ROOT / page).parent / target).resolve().relative_to(ROOT))
            for target in targets
            if target.endswith(".md")
        ]
    assert [page for page in PAGES if page.startswith("docs/") and page not in seen] == []


def exists(name, beside=ROOT):
    """Whether a file that a page names is there; a module that became a package of the same name counts."""
    if "/" not in name:
        return any(
            file for folder in ("tests", "examples", "plugins") for file in (ROOT / folder).rglob(name)
        )
    return any((at / name).exists() or (at / name.removesuffix(".py")).is_dir() for at in (ROOT, beside))


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/how-to/write-a-tax-rule.md"])
def test_every_file_that_a_page_names_exists(page, read):
    assert [name for name in FILE.findall(read(page)) if not exists(name, (ROOT / page).parent)] == []


def test_a_newcomer_finds_the_file_of_a_change(section):
    table = section("CONTRIBUTING.md", "## Where a change goes").splitlines()
    files = re.findall(r"\| `([^`]+)` \|$", "\n".join(table), re.MULTILINE)
    assert len(files) >= 20
    assert len(files) == len([line for line in table if line.startswith("| ")]) - 2
    assert [name for name in files if not exists(name)] == []


def test_the_architecture_lists_the_layers_that_lint_enforces(fences, read):
    [contract] = [
        contract
        for contract in tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
        if contract.get("exhaustive")
    ]
    [drawn] = [
        fence.text for fence in fences("docs/explanation/architecture.md") if fence.text.startswith("cli\n")
    ]
    names = re.findall(r"\w+", drawn)
    enforced = re.findall(r"\w+", " ".join(contract["layers"]))
    assert [name for name in names if name in enforced] == enforced


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_can_be_read(page, fences):
    for language, mark, text in fences(page):
        match language:
            case "python":
                compile(textwrap.dedent(text), page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            case "json":
                json.loads(text)
            case "toml":
                tomllib.loads(text)
            case "sh":
                assert shutil.which("bash")
                done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{page}: {done.stderr}"
            case _:
                assert language in {"console", "ini", "nginx", "sql", "text", ""}, f"{page}: {language}"
        assert mark in {"", "run", "answer"}, f"{page}: {mark}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_a_page_names_exist(page, read, fences):
    text = read(page)
    lines = [
        line for fence in fences(page) if fence.language == "sh" for line in re.split(r"\n|\$\(", fence.text)
    ]
    named = [line for line in [*lines, *re.findall(r"`([^`\n]+)`", text)] if line.startswith("paytrust ")]
    for line in named:
        command = cli
        for word in (
            re.findall(r"^(?:[\w-]+ ?)+", line.removeprefix("paytrust ").partition(" --")[0])[0].split()
            if re.match(r"paytrust \w", line)
            else []
        ):
            if not isinstance(command, click.Group):
                break
            found = command.get_command(None, word)
            assert found or word.isupper(), f"{page}: {line}"
            command = found
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)", text) + [
        line.split()[1] for line in lines if line.startswith("make ")
    ]:
        assert target in targets, f"{page}: make {target}"


def test_the_guide_shows_the_code_of_the_template(fences):
    code = "".join(
        (ROOT / "examples/gateway_plugin" / name).read_text()
        for name in ("paytrust_acme.py", "pyproject.toml")
    )
    for fence in fences("docs/how-to/write-a-gateway.md"):
        if fence.language == "python":
            assert fence.text in code, fence.text
        elif fence.language == "toml":
            assert all(line in code for line in fence.text.splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_path_of_a_machine(page, read):
    assert MACHINE.findall(read(page)) == []


def test_the_changelog_has_an_unreleased_section(section):
    assert "### Added" in section("CHANGELOG.md", "## Unreleased")


def test_every_decision_record_is_listed_and_has_every_part(read):
    index = read("docs/adr/README.md")
    for record in sorted((ROOT / "docs/adr").glob("0*.md")):
        text = record.read_text()
        title = text.splitlines()[0].removeprefix("# ")
        assert title.startswith(record.name[:4] + ". "), record.name
        assert f"| [{record.name[:4]}]({record.name}) | " in index, record.name
        for part in (
            "- Status: ",
            "- Date: ",
            "## Context",
            "## Decision",
            "## Consequences",
            "## Alternatives considered",
        ):
            assert f"\n{part}" in text, f"{record.name}: {part}"


def test_every_test_that_the_page_of_trials_names_exists(read):
    named = set(re.findall(r"`(test_\w+)`", read("docs/evidence/trials.md")))
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "plugins").rglob("test_*.py")]
    there = {
        name
        for path in files
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= there
