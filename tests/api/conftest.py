from __future__ import annotations

from support.left_over import left_alone  # noqa: F401 - for every test of this folder
