"""
The hooks a plugin may implement. All are synchronous and called once, while the application starts.

Work that waits lives on the classes a hook registers, never in a hook. Raising in a hook quarantines the plugin: the
service starts without it and `paytrust plugins` shows the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pluggy

from paytrust.gateways import Gateway
from paytrust.sandboxes import Sandbox

NAMESPACE: Final = "paytrust"
hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


@hookspec
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    """
    Register gateway classes.

    Amounts a gateway sees are `Money` in minor units. Two gateways with the same `code` quarantine the second plugin.
    """


@hookspec
def register_sandboxes(register: Callable[[type[Sandbox]], None]) -> None:
    """Register local stand-ins for gateways. Only `paytrust dev` and the demo start them; the service never does."""
