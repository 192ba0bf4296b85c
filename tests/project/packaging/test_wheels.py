"""The wheels are whole: built, installed by plain pip, and used away from this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
NAMES = {"paytrust", *(path.name for path in (ROOT / "plugins").glob("paytrust-*"))}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    uv = next((str(path) for path in [ROOT / ".tools/bin/uv"] if path.exists()), None) or shutil.which("uv")
    assert uv, "uv is needed to build wheels; `make test` installs it"
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [uv, "build", "--quiet", "--all-packages", "--wheel", "--out-dir", out], cwd=ROOT, check=True
    )
    return sorted(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheels, tmp_path_factory):
    """A folder into which pip installed the wheels; their dependencies come from this environment."""
    target = tmp_path_factory.mktemp("site")
    pip = [
        sys._base_executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    subprocess.run([*pip, "--target", target, *wheels], check=True)
    return target


def run(installed, *argv):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")} | {
        "PYTHONPATH": str(installed)
    }
    return subprocess.run(
        [sys.executable, "-P", *argv], env=environ, cwd=installed, capture_output=True, text=True, check=True
    ).stdout


def test_every_distribution_has_a_wheel(wheels):
    assert {wheel.name.partition("-")[0].replace("_", "-") for wheel in wheels} == NAMES


def test_the_cores_wheel_carries_migrations_documentation_page_and_types(wheels):
    core = next(wheel for wheel in wheels if wheel.name.startswith("paytrust-"))
    names = set(zipfile.ZipFile(core).namelist())
    assert {f"paytrust/_migrations/{path.name}" for path in (ROOT / "migrations").glob("*.sql")} <= names
    assert {
        "paytrust/api/static/swagger-ui/swagger-ui-bundle.js",
        "paytrust/api/static/docs.js",
        "paytrust/py.typed",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "migrations/", "plugins/"))]


def test_what_is_installed_runs_and_finds_its_plugins_and_migrations(installed):
    assert "loaded" in run(installed, "-m", "paytrust.cli", "plugins")
    code = "from paytrust.infra import migrations; print(migrations.__file__, len(migrations.available()), migrations._folder())"
    shown = run(installed, "-c", code)
    assert shown.startswith(str(installed))
    assert f" {len(list((ROOT / 'migrations').glob('*.up.sql')))} " in shown
    assert "_migrations" in shown


def test_a_plugin_author_gets_the_types_from_the_wheel(installed, tmp_path):
    """Read with the installed wheel, as an author has it: without `py.typed` every name would be Any, and no mistake be found."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "author.pth").write_text(f"{installed}\n{sysconfig.get_path('purelib')}\n")
    shutil.copy(ROOT / "tests/project/packaging/typing/plugin_author.py", tmp_path)
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        tmp_path / "venv/bin/python",
        "plugin_author.py",
    ]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hashed_requirements_cover_every_dependency_and_name_no_host():
    names = [
        path.relative_to(ROOT / "requirements").with_suffix("")
        for path in (ROOT / "requirements").rglob("*.txt")
    ]
    assert {str(name) for name in names} >= {"service", "dev", "bootstrap", "build", "postgres/14"}
    for name in names:
        text = (ROOT / f"requirements/{name}.txt").read_text()
        assert not re.search(r"https?://|^-|file:", text, re.MULTILINE), name
        pinned = re.split(r"\n(?=[a-zA-Z0-9])", text.strip())
        assert all("==" in entry and "--hash=sha256:" in entry for entry in pinned), name
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    service = {
        line.partition("==")[0].lower()
        for line in (ROOT / "requirements/service.txt").read_text().splitlines()
        if "==" in line
    }
    assert {re.split(r"[<>=\[; ]", dependency)[0].lower() for dependency in wanted} <= service


def needed(name, extras=()):
    """The distributions that one needs on this platform, with what those need."""
    todo, seen = [(name, extra) for extra in ("", *extras)], set()
    while todo:
        one, extra = todo.pop()
        if (one, extra) in seen:
            continue
        seen.add((one, extra))
        for line in metadata.requires(one) or ():
            found = Requirement(line)
            if found.marker is None or found.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(found.name), more) for more in ("", *found.extras)]
    return {one for one, _ in seen}


def test_the_documented_install_needs_no_resolver():
    """Older pips than 23.3 refuse hashes beside `pydantic[email]`, which Piccolo asks for; Debian 12 has 23.0."""
    command = r"pip install --no-deps --require-hashes -r requirements/service\.txt"
    assert re.search(command, (ROOT / "docs/how-to/deploy.md").read_text())
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements/service.txt").read_text(), re.MULTILINE)
    assert needed("paytrust", {"redis"}) - {"paytrust"} <= {canonicalize_name(name) for name in pinned}
