"""The files of a database: created whole or not at all."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from paytrust.embedded import binaries
from paytrust.embedded.errors import DataUnusableError, StartFailedError, VersionMismatchError
from paytrust.embedded.paths import has_database

if TYPE_CHECKING:
    from pathlib import Path

    from paytrust.embedded.os_user import OSUser


SUPERUSER = "paytrust"


def prepare(data: Path, *, bins: Path, user: OSUser, lock: int, sync: bool) -> None:
    """
    Create the database in *data*, or check that this version of PostgreSQL can read the one there. The caller
    holds *lock*.
    """
    server_major = binaries.major(bins, user)
    if has_database(data):
        data_major = (data / "PG_VERSION").read_text().strip()
        if data_major != server_major:
            raise VersionMismatchError(data=data, data_major=data_major, server_major=server_major)
        return
    if data.exists() and (os.path.ismount(data) or any(data.iterdir())):
        raise DataUnusableError(
            data=data, reason="it is a mount point or holds other files; name a directory below it"
        )
    draft = data.with_name(f"{data.name}.init")
    shutil.rmtree(draft, ignore_errors=True)
    user.make_private(draft)
    options = [*_locale(int(server_major)), *([] if sync else ["--no-sync"])]
    # initdb inherits the lock: one that outlives us keeps the next starter away from its draft.
    done = user.run(bins / "initdb", "-D", draft, "-U", SUPERUSER, *options, pass_fds=[lock])
    if done.returncode != 0:
        raise StartFailedError(data=data, reason="could not create its files (initdb)", log=done.stdout)
    draft.rename(data)
    _sync(data.parent)


def _locale(server_major: int) -> list[str]:
    # The builtin provider sorts the same on every system, and no glibc upgrade can corrupt an index.
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if server_major >= 17 else []
    access = ["--auth-local=trust", "--auth-host=scram-sha-256"]
    return ["--encoding=UTF8", "--locale=C", *builtin, *access, "--data-checksums", "--no-instructions"]


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
