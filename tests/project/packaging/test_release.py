"""`make release` refuses a tree that does not agree on the version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "requirements/release.py"
CHANGELOG = "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2027-01-15\n\n- Refunds.\n\n## 0.1.0 - 2026-12-24\n\n- Invoices.\n"


@pytest.fixture
def tree(tmp_path):
    """A repository, all of it committed, in which two distributions are about to become 0.2.0."""
    (tmp_path / "plugins/paytrust-acme").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "plugins/paytrust-acme"):
        (folder / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / ".gitignore").write_text("dist/\n")
    git(tmp_path, "init")
    return tmp_path


def git(tree, *argv):
    name = ["-c", "user.name=PayTrust", "-c", "user.email=dev@paytrust.invalid"]
    subprocess.run(["git", *name, *argv], cwd=tree, check=True, capture_output=True)


def release(tree, version):
    git(tree, "add", ".")
    git(tree, "commit", "--message", "as it is", "--allow-empty")
    return check(tree, version)


def check(tree, version):
    done = subprocess.run(
        [sys.executable, SCRIPT, version], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    notes = tree / "dist/RELEASE_NOTES.md"
    assert notes.exists() == (done.returncode == 0)
    return done.stdout, notes.read_text() if notes.exists() else None


def test_release_notes_are_the_changelog_of_that_version(tree):
    assert release(tree, "0.2.0") == ("", "- Refunds.\n")


@pytest.mark.parametrize("version", ["", "v0.2.0", "0.2", "0.2.0.dev1", "next"])
def test_a_malformed_version_is_refused(tree, version):
    assert "is not a version" in release(tree, version)[0]


def test_a_plugin_of_another_version_is_refused(tree):
    (tree / "plugins/paytrust-acme/pyproject.toml").write_text('[project]\nversion = "0.1.0"\n')
    said, _ = release(tree, "0.2.0")
    assert said.startswith("plugins/paytrust-acme/pyproject.toml says 0.1.0, not 0.2.0")


@pytest.mark.parametrize("heading", ["0.2.0", "0.2.0 - soon", "0.2.1 - 2027-01-15"])
def test_a_version_without_a_dated_changelog_is_refused(tree, heading):
    (tree / "CHANGELOG.md").write_text(CHANGELOG.replace("0.2.0 - 2027-01-15", heading))
    assert release(tree, "0.2.0")[0].startswith("CHANGELOG.md has nothing under")


def test_an_entry_left_under_unreleased_is_refused(tree):
    (tree / "CHANGELOG.md").write_text(CHANGELOG.replace("## Unreleased\n", "## Unreleased\n\n- Disputes.\n"))
    assert release(tree, "0.2.0")[0].startswith('CHANGELOG.md has entries under "Unreleased"')


def test_a_tree_that_is_not_committed_is_refused(tree):
    release(tree, "0.2.0")
    (tree / "dist/RELEASE_NOTES.md").unlink()
    (tree / "CHANGELOG.md").write_text(CHANGELOG + "- More.\n")
    assert check(tree, "0.2.0")[0].startswith("CHANGELOG.md is not as committed (1 in all)")


def test_all_objections_are_told_at_once(tree):
    said, _ = release(tree, "0.3.0")
    assert len(said.splitlines()) == 3
