"""The service as `paytrust.app:create_app` builds it, with one more plugin installed: the instant gateway."""

from __future__ import annotations

import functools
from importlib import metadata

from litestar import Litestar

import paytrust.app
from paytrust.litestar import PayTrustPlugin
from paytrust.plugins import GROUP, Registry


def registry() -> Registry:
    """Every installed plugin, and the instant gateway through the same door."""
    instant = metadata.EntryPoint(name="instant", value="instant_gateway", group=GROUP)
    return Registry(entry_points=[*metadata.entry_points(group=GROUP), instant])


def create() -> Litestar:
    """For uvicorn: `app:create` with --factory."""
    paytrust.app.PayTrustPlugin = functools.partial(PayTrustPlugin, registry=registry())  # type: ignore[assignment, misc]
    return paytrust.app.create_app()
