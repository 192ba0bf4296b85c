"""
Run `paytrust serve` again and again, each time in a process of its own that can be told where to die.

    python -m campaigns.crash.service <socket> <log of the points it came to>

A line on standard input starts one; its pid and, when it is over, its status are written to standard output.
A process is forked from this one, which has imported everything: that saves two seconds of importing for each
life, and nothing else. On its socket a process takes `{"point": ..., "nth": 1, "also": []}`: when it comes to
the point for the nth time, it kills the processes
*also*, and itself, with SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec
from campaigns.crash import points

import paytrust.services
from paytrust import app, cli, server  # noqa: F401 - imported before the fork

PR_SET_PDEATHSIG = 1


class Armed(msgspec.Struct):
    point: str
    nth: int = 1
    also: list[int] = []


class Trap:
    """Notes every point, and dies at the one it is armed for."""

    def __init__(self, log: Path) -> None:
        self.armed: Armed | None = None
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def reached(self, point: str) -> None:
        os.write(self.log, f"{point}\n".encode())
        armed = self.armed
        if armed is None or armed.point != point:
            return
        armed.nth -= 1
        if armed.nth == 0:
            for pid in [*armed.also, os.getpid()]:
                os.kill(pid, signal.SIGKILL)

    def listen(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        orders = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        orders.bind(str(path))
        while True:
            self.armed = msgspec.json.decode(orders.recv(4096), type=Armed)


def main(path: Path, log: Path) -> None:
    _end_with_parent()
    trap = Trap(log)
    points.watch(trap.reached)
    # What only waits for its next turn need not wait long.
    paytrust.services.STATUS_POLL_S = paytrust.services.SLOW_POLL_S = 0.5
    app.create_app()  # which imports the plugins, and what is imported late
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _end_with_parent()
            random.seed()
            threading.Thread(target=trap.listen, args=(path,), daemon=True).start()
            cli.cli(["serve"])
        _say(pid)
        _say(os.waitpid(pid, 0)[1])


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
