"""`paytrust plugins`."""

from __future__ import annotations

import sys

import click

from paytrust.commands.base import Listing, json_option
from paytrust.infra.settings import disabled_plugins
from paytrust.plugins.registry import PluginRecord, PluginState, Registry


@click.command()
@json_option
def plugins(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List installed plugins; exit code 1 if any is quarantined."""
    registry = Registry(disabled=disabled_plugins())
    listing = Listing[PluginRecord](
        "plugin",
        "distribution",
        "state",
        "provides",
        row=lambda p: (p.name, f"{p.distribution} {p.version}", p.state, ", ".join(p.provides) or p.reason),
        as_json=as_json,
    )
    listing.add(registry.plugins)
    listing.end()
    sys.exit(any(p.state is PluginState.QUARANTINED for p in registry.plugins))
