"""
Fail unless the tests took enough of the core's branches: `coverage json -o - | python tests/support/branches.py`.

coverage's own `fail_under` weighs lines and branches together, and lines are the easy part.
"""

from __future__ import annotations

import json
import sys

WANTED = 0.90

totals = json.load(sys.stdin)["totals"]
taken = totals["covered_branches"] / totals["num_branches"]
print(  # noqa: T201
    f"{totals['covered_branches']} of {totals['num_branches']} branches taken: {taken:.1%},"
    f" wanted are {WANTED:.0%}"
)
sys.exit(taken < WANTED)
