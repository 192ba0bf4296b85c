"""
Tests decide every setting themselves: whatever the shell has set of ours is taken away, once, when this is
imported.
"""

from __future__ import annotations

import os

KEPT = {"PAYTRUST_PG_BIN", "PAYTRUST_PG_USER"}
"""Where the PostgreSQL is that tests start, and who runs it."""

OWNER_URL = os.environ.pop("PAYTRUST_DATABASE_URL", None)
"""The owner of a PostgreSQL 14 or newer that takes the place of the embedded one."""

for _name in [name for name in os.environ if name.startswith("PAYTRUST_") and name not in KEPT]:
    del os.environ[_name]
