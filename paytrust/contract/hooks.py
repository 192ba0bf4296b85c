"""
The hooks a plugin may implement. All are synchronous and called once, while the application starts.

Work that waits lives on the classes a hook registers, never in a hook. Raising in a hook quarantines the
plugin: the service starts without it and `paytrust plugins` shows the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pluggy

from paytrust.contract.gateways import Gateway
from paytrust.contract.sandboxes import Sandbox
from paytrust.contract.taxes import TaxRule

NAMESPACE: Final = "paytrust"
hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


@hookspec
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    """
    Register gateway classes.

    Amounts a gateway sees are `Money` in minor units. Two gateways with the same `code` quarantine the second
    plugin.
    """


@hookspec
def register_tax_rules(register: Callable[[type[TaxRule]], None]) -> None:
    """
    Register tax rules. Each is made once, without arguments, and asked for every line that comes without a
    rate.

    Where several rules answer for one line, the highest `priority` wins and the others are noted on the line.
    """


@hookspec
def register_sandboxes(register: Callable[[type[Sandbox]], None]) -> None:
    """
    Register local stand-ins for gateways. Only `paytrust dev` and the demo start them; the service never
    does.
    """
