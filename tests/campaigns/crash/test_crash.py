"""A few kills, and the names of all the points. `make crash` kills at every one of them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from campaigns.crash.points import POINTS

from paytrust.plugins.calls import GatewayClient

TESTS = Path(__file__).parents[2]
ROOMS = sorted(
    folder.name for folder in (TESTS.parent / "paytrust").iterdir() if (folder / "store.py").exists()
)


def functions(kinds):
    for room in ROOMS:
        for kind in kinds:
            module = TESTS.parent / "paytrust" / room / kind
            if module.is_dir() or module.with_suffix(".py").exists():
                yield room, importlib.import_module(f"paytrust.{room}.{kind}")


def has(module, name):
    """Whether *module* has the function, perhaps inside of a class or of another function."""
    outer, _, inner = name.partition(".")
    found = getattr(module, outer, None)
    return found is not None and (
        not inner or hasattr(found, inner) or inner in found.__code__.co_consts.__repr__()
    )


@pytest.mark.parametrize("point", POINTS)
def test_no_point_has_a_dead_name(point):
    verb, _, what = point.partition(": ")
    work = what.rpartition(" ")[2]
    assert any(has(module, verb) for _, module in functions(["routes", "jobs", "service"])), verb
    room, _, function = work.rpartition(".")
    assert (
        hasattr(GatewayClient, work)
        if not room
        else any(found == room and has(module, function) for found, module in functions(["store"]))
    )


@pytest.mark.timeout(300)
def test_whatever_is_killed_heals_and_no_promise_is_broken():
    done = subprocess.run(
        [sys.executable, "-m", "campaigns.crash.campaign", "--kills", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
