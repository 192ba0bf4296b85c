"""Where the data and the socket live."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from paytrust.embedded.errors import DataUnusableError

if TYPE_CHECKING:
    from paytrust.embedded.os_user import OSUser

logger = logging.getLogger(__name__)

PORT = 5432
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included.
SOCKET_PATH_BYTES = 103


def resolve_data_dir(requested: Path, user: OSUser, home: Path) -> Path:
    """
    Return where the data lives: *requested*, or a directory in *home* named after it when *user* cannot
    get there.

    Once it is in *home* it stays there, also when the requested path becomes reachable later. No permission
    is ever changed.
    """
    if not user.switch:
        requested.parent.mkdir(parents=True, exist_ok=True)
        return requested
    fallback = home / _digest(requested)
    if not has_database(fallback) and _can_live_in(requested, user):
        return requested
    if has_database(requested) and not has_database(fallback):
        reason = f"uid {user.uid}, which its server runs as, cannot reach it; let that user pass through the directories above"
        raise DataUnusableError(data=requested, reason=reason)
    logger.warning(
        "embedded PostgreSQL: %s is out of reach for uid %s, its data lives in %s",
        requested,
        user.uid,
        fallback,
    )
    make_public(home)
    return fallback


def has_database(data: Path) -> bool:
    """Say whether *data* holds a database: `PG_VERSION` is there, and whole, since initdb works elsewhere."""
    return (data / "PG_VERSION").exists()


def make_public(directory: Path) -> None:
    """
    Create *directory* and give every user the way through it, whatever our umask; an existing one stays as it
    is.
    """
    if not directory.exists():
        directory.mkdir(parents=True)
        directory.chmod(0o755)


def socket_directory(data: Path, user: OSUser) -> Path:
    """
    Return *data*, or a short private directory when its path is too long for a socket or holds what a DSN
    cannot.
    """
    path = f"{data}/.s.PGSQL.{PORT}"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES and re.fullmatch(r"[\w./-]+", path, re.ASCII):
        return data
    # Not tempfile.gettempdir(): every process must come to the same place, whatever its TMPDIR.
    short = Path("/tmp") / f"paytrust-{user.uid}-{_digest(data)}"  # noqa: S108
    if not os.path.lexists(short):
        user.make_private(short)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user.uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise DataUnusableError(
            data=data, reason=f"the socket directory {short} belongs to another user; remove it"
        )
    return short


def locks(data: Path, socket: Path) -> list[Path]:
    """Return the files that a killed server leaves behind and that keep the next one from starting."""
    return [data / "postmaster.pid", socket / f".s.PGSQL.{PORT}.lock", socket / f".s.PGSQL.{PORT}"]


def _can_live_in(requested: Path, user: OSUser) -> bool:
    nearest = next(directory for directory in requested.parents if directory.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
    if not user.can_enter(nearest):
        return False
    requested.parent.mkdir(parents=True, exist_ok=True)
    return user.can_enter(requested.parent)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
