"""What the parts of Xendit share."""

from dataclasses import dataclass, field

from paytrust_sandbox.commands import Settings
from paytrust_sandbox.state import State
from paytrust_sandbox.xendit.disputes import Disputes
from paytrust_sandbox.xendit.invoices import Invoices
from paytrust_sandbox.xendit.refunds import Refunds


class XenditSettings(Settings, kw_only=True, forbid_unknown_fields=True):
    """
    `send_webhook_id` and `send_expired` are dashboard or product variations; `rate_limit` is per minute and
    operation.
    """

    send_webhook_id: bool = True
    send_expired: bool = True
    nest_refund_webhook: bool = False
    settle_refunds: bool = True
    rate_limit: int = 60
    enforce_rate_limit: bool = False


@dataclass(kw_only=True)
class XenditState(State):
    """The account, and what Xendit knows about it. The first of the *currencies* is the default."""

    callback_token: str
    currencies: tuple[str, ...]
    settings: XenditSettings = field(default_factory=XenditSettings)
    invoices: Invoices = field(default_factory=Invoices)
    refunds: Refunds = field(init=False)
    disputes: Disputes = field(default_factory=Disputes)

    def __post_init__(self) -> None:
        self.refunds = Refunds(self.invoices, self.clock.now)
