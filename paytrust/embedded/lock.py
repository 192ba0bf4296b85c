"""Locks on files, which the kernel drops when their last holder dies: they cannot go stale."""

from __future__ import annotations

import contextlib
import fcntl
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Wait for the lock and hold it; gives its file descriptor."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


@contextlib.contextmanager
def attempt(path: Path) -> Iterator[int | None]:
    """
    Give the file descriptor of the lock, or None while another process holds it. A child that inherits it
    holds it too.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def share(path: Path) -> BinaryIO | None:
    """
    Hold the lock together with others, until the file that this returns is closed; None while another
    process holds it alone.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def unshare(file: BinaryIO) -> None:
    """Give up our share, also where a forked child has inherited the file."""
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


def is_shared(path: Path) -> bool:
    """Say whether a process holds a share."""
    with attempt(path) as free:
        if free is not None:
            return False
    file = share(path)
    if file is not None:
        file.close()
    return file is not None
