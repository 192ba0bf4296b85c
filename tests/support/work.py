"""Work in the background, done by hand."""

from __future__ import annotations

from typing import Any

from paytrust.infra.window import Window


async def one_round(window: Window[Any]) -> int:
    """Let *window* claim what it has room for, and wait until that is done. Returns how much it was."""
    claimed = await window.step()
    await window.finish()
    return claimed
