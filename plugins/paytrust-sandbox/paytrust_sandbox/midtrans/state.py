"""What the parts of Midtrans share."""

from dataclasses import dataclass, field
from typing import Literal

from paytrust_sandbox.commands import Settings
from paytrust_sandbox.midtrans.bisnap import Lookup
from paytrust_sandbox.midtrans.cards import Cards
from paytrust_sandbox.midtrans.orders import Orders
from paytrust_sandbox.state import State


class MidtransSettings(Settings, kw_only=True, forbid_unknown_fields=True):
    """
    Variations seen in the wild: `mirror_http` puts Core's status_code into HTTP, others change what bodies
    say.

    `impose_fee` is a switch of the merchant's dashboard; both places of `fee_info` are reported, and two of
    the ways of `bi_snap`.
    """

    mirror_http: bool = False
    send_pending: bool = True
    uppercase_status: bool = False
    omit_fraud_status: bool = False
    extra_fields: bool = False
    impose_fee: bool = False
    fee_info: Literal["extra_info", "metadata"] = "extra_info"
    bi_snap: Lookup = "as_others"


@dataclass(kw_only=True)
class MidtransState(State):
    """The merchant, and what Midtrans knows about it."""

    merchant_id: str
    settings: MidtransSettings = field(default_factory=MidtransSettings)
    orders: Orders = field(default_factory=Orders)
    cards: Cards = field(default_factory=Cards)
