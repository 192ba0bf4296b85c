"""`paytrust plugins`."""

from __future__ import annotations

import sys

import click

from paytrust.commands.base import table
from paytrust.infra.settings import disabled_plugins
from paytrust.plugins.registry import PluginState, Registry


@click.command()
def plugins() -> None:
    """List installed plugins; exit code 1 if any is quarantined."""
    registry = Registry(disabled=disabled_plugins())
    rows = [
        (p.name, f"{p.distribution} {p.version}", p.state, ", ".join(p.provides) or p.reason)
        for p in registry.plugins
    ]
    table("plugin", "distribution", "state", "provides", rows=rows)
    sys.exit(any(p.state is PluginState.QUARANTINED for p in registry.plugins))
