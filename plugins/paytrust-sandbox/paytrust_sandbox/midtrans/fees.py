"""
Automatic Fee Imposition: Snap adds the merchant's fee to what the payer pays, so that the merchant gets what
it asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from paytrust_sandbox.midtrans.channels import CHANNELS

FIELD = "customer_imposed_payment_fee"


@dataclass(frozen=True)
class Fee:
    """A merchant's fee: a part of what the payer pays, or so many rupiah."""

    rate: Fraction = Fraction(0)
    flat: int = 0


TRANSFER = Fee(flat=4_440)  # 4,000 and 11 % VAT
FEES = {
    **{
        name: TRANSFER
        for name, channel in CHANNELS.items()
        if channel.payment_type in {"bank_transfer", "echannel"}
    },
    "other_qris": Fee(rate=Fraction("0.007")),
    "gopay": Fee(rate=Fraction("0.02")),
    "shopeepay": Fee(rate=Fraction("0.02")),
    "dana": Fee(rate=Fraction("0.015")),
}
"""By Snap's names. The other methods do not know the feature."""


def imposed_fee(amount: int, channel: str, body: Mapping[str, Any], *, by_default: bool) -> int:
    """
    Return the rupiah that paying *amount* over *channel* costs the payer on top, as *body* or the dashboard
    will have it.
    """
    share, fee = _share(channel, body.get(FIELD), by_default=by_default), FEES.get(channel, Fee())
    return ceil((amount + fee.flat * share) / (1 - fee.rate * share)) - amount


def _share(channel: str, asked: Mapping[str, Any] | None, *, by_default: bool) -> Fraction:
    """Return which part of the fee is the payer's."""
    if asked is None:
        return Fraction(by_default)
    configs = asked["payment_fee_configs"] if asked["enable"] else ()
    names = {channel, CHANNELS[channel].payment_type}
    return next(
        (
            Fraction(config["customer_percentage"]) / 100
            for config in configs
            if config["payment_type"] in names
        ),
        Fraction(0),
    )
