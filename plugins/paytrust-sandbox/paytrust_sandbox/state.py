"""What the parts of one gateway share: its simulator makes it, every part takes it."""

from dataclasses import dataclass

from paytrust_sandbox.clock import Clock
from paytrust_sandbox.commands import Settings
from paytrust_sandbox.webhooks import Courier


@dataclass(kw_only=True)
class State:
    """The gateway's account, clock, courier and settings. *base_url* is known once the port is."""

    key: str
    webhook_url: str
    clock: Clock
    courier: Courier
    settings: Settings
    base_url: str = ""
    merchant_name: str = "Sandbox Store"
