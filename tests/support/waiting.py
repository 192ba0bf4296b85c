"""The one way in which tests wait: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")
TIMEOUT_S = 20.0
PAUSE_S = 0.02


def eventually(
    condition: Callable[[], T],
    what: str | Callable[[], object] = "the condition holds",
    timeout_s: float = TIMEOUT_S,
    pause_s: float = PAUSE_S,
) -> T:
    """
    Call *condition* until it returns something true, and return that.

    *what* says in the error what did not happen; a function of no arguments is called then, to show how far
    it came.
    """
    until = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{what() if callable(what) else what}: not within {timeout_s:g} s")
        time.sleep(pause_s)
    return value


def is_ready(url: str) -> bool:
    """Whether a service answers at *url*, and is ready."""
    try:
        return httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
