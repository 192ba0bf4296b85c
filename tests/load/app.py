"""The service, with one more plugin installed: the instant gateway."""

from __future__ import annotations

from importlib import metadata

from litestar import Litestar

from paytrust.app import create_app
from paytrust.plugins.registry import GROUP, Registry


def registry() -> Registry:
    """Every installed plugin, and the instant gateway through the same door."""
    instant = metadata.EntryPoint(name="instant", value="instant_gateway", group=GROUP)
    return Registry(entry_points=[*metadata.entry_points(group=GROUP), instant])


def create() -> Litestar:
    """For uvicorn: `app:create` with --factory."""
    return create_app(registry=registry())
