"""The operating system user that PostgreSQL runs as: it refuses to be root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paytrust.embedded.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class OSUser:
    """A user and its group; *switch* says that we are root and must drop to it."""

    uid: int
    gid: int
    switch: bool

    def run(self, *argv: str | Path, pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """Run *argv* as this user and return its exit code and its output, standard error included."""
        who: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}
        return subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=environment(),
            pass_fds=pass_fds,
            **who,
        )

    def can_enter(self, path: Path) -> bool:
        """
        Say whether this user may pass through the directory *path*, or run the program, and reach it at all.
        The system decides: ACLs count.
        """
        return self.run("test", "-x", path).returncode == 0

    def make_private(self, directory: Path) -> None:
        """Create *directory*, mode 0700, owned by this user."""
        directory.mkdir(mode=0o700)
        if self.switch:
            os.chown(directory, self.uid, self.gid)


def named(user: str | None) -> OSUser:
    """Return who we are or, as root, *user*, else `$PAYTRUST_PG_USER`, else `nobody`."""
    if os.geteuid() != 0:
        return OSUser(os.geteuid(), os.getegid(), switch=False)
    name = user or os.environ.get("PAYTRUST_PG_USER") or "nobody"
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        entry = None
    if entry is None or entry.pw_uid == 0:
        detail = (
            f"PostgreSQL cannot run as {name!r}: set PAYTRUST_PG_USER to an existing user that is not root"
        )
        raise EmbeddedPostgresError(detail)
    return OSUser(entry.pw_uid, entry.pw_gid, switch=True)


def owner_of(data: Path) -> OSUser | None:
    """
    Return the owner of an existing database, the only user PostgreSQL accepts for it; None when we cannot or
    need not choose.
    """
    if os.geteuid() != 0 or not (data / "PG_VERSION").exists():
        return None
    stat = data.stat()
    return OSUser(stat.st_uid, stat.st_gid, switch=True) if stat.st_uid else None


def environment() -> dict[str, str]:
    """
    Return what the server may know of our environment: no `PG*` that bends it, no secrets for others of its
    user to read.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", **kept}
