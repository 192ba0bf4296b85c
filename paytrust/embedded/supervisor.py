"""
Runs PostgreSQL as its child and shuts it down when its last user has left: `stop()` or death.

Users hold a shared lock, which the kernel drops with them whatever killed them; the supervisor waits for the
exclusive one. While it has that, no process can join a server that is going down.

A process of its own, run by path (never imported with the application), because
* it must outlive the application, and PR_SET_PDEATHSIG alone fires when the thread ends that called
`start()`;
* it has one thread when it forks, so that code between fork and exec is safe;
* it starts as root, where this Python can be read, and drops to the server's user after everything is
imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

try:
    import ctypes
except ImportError:  # a Python without libffi
    ctypes = None  # type: ignore[assignment]

PROC = Path("/proc")
PR_SET_PDEATHSIG = 1
# PostgreSQL's "fast" shutdown normally takes well under a second; "immediate" is safe too and costs a
# recovery at the next start.
FAST_SHUTDOWN_S = 30
ORPHANS_S = 60


def main() -> int:
    """Run the order given as JSON in the first argument; return PostgreSQL's exit code."""
    order = json.loads(sys.argv[1])
    os.set_inheritable(order["lock"], False)  # ours until we end; not PostgreSQL's
    supervisor = os.getpid()
    postmaster = os.fork()
    if postmaster == 0:
        become_postgres(order, supervisor)
    # A service manager signals every process of a service. The server knows what to do; we end after it.
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    threading.Thread(target=stop_when_unused, args=(order["users"], postmaster), daemon=True).start()
    _, status = os.waitpid(postmaster, 0)
    return os.waitstatus_to_exitcode(status) & 0xFF


def stop_when_unused(users: str, postmaster: int) -> None:
    """Wait until no process holds the shared lock on the file *users*, then shut the server down."""
    with Path(users).open("ab") as file, contextlib.suppress(ProcessLookupError):
        fcntl.flock(file, fcntl.LOCK_EX)
        os.kill(postmaster, signal.SIGINT)
        time.sleep(FAST_SHUTDOWN_S)
        os.kill(postmaster, signal.SIGQUIT)


def become_postgres(order: dict[str, Any], supervisor: int) -> NoReturn:
    """Turn this process into the server; never returns."""
    try:
        drop_to(order["uid"], order["gid"])
        die_with(supervisor)
        clear_stale_locks(Path(order["data"]), [Path(lock) for lock in order["stale"]])
        argv = order["argv"]
        os.execv(argv[0], argv)  # noqa: S606  no shell is the point
    except BaseException as error:  # noqa: BLE001  a forked child must not run on into its parent's code
        os.write(2, f"embedded PostgreSQL: {type(error).__name__}: {error}\n".encode())
    os._exit(127)


def drop_to(uid: int | None, gid: int | None) -> None:
    """Become the server's user for good; *uid* None: we are it."""
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def die_with(supervisor: int) -> None:
    """
    Have the kernel ask for a fast shutdown when the supervisor dies (Linux). After setuid, which forgets it.
    """
    if sys.platform == "linux" and ctypes is not None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit("the supervisor died")


def clear_stale_locks(data: Path, locks: list[Path]) -> None:
    """
    Remove what a killed server left. PostgreSQL itself refuses to start while a lock names any live pid: a
    zombie, or a stranger after a reboot.

    Runs as the server's user: root in a container may not see another user's working directory. The
    supervisor's lock is ours, so no other starter is at work; a postmaster that still runs is on its way out
    (waited for), its orphaned children serve no client (killed).
    """
    if not (PROC / "self" / "cwd").exists():
        return  # macOS
    give_up = time.monotonic() + ORPHANS_S
    while running := server_processes(data):
        if not any(is_postmaster(pid) for pid in running):
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if time.monotonic() > give_up:
            sys.exit(f"{data} is in use by processes {running}, which do not answer; end them")
        time.sleep(0.02)
    for lock in locks:
        lock.unlink(missing_ok=True)


def server_processes(data: Path) -> list[int]:
    """Return the pids of the PostgreSQL processes that work in *data*; zombies have left it."""
    found = []
    for entry in PROC.iterdir():
        with contextlib.suppress(OSError):
            if (
                entry.name.isdigit()
                and (entry / "comm").read_bytes() == b"postgres\n"
                and (entry / "cwd").samefile(data)
            ):
                found.append(int(entry.name))
    return found


def is_postmaster(pid: int) -> bool:
    """Say whether *pid* is a main process: its children change their titles to "postgres: ..."."""
    with contextlib.suppress(OSError):
        return not (PROC / str(pid) / "cmdline").read_bytes().startswith(b"postgres: ")
    return False


if __name__ == "__main__":
    sys.exit(main())
