"""
Payment methods by the names Snap gives them: their payment_type, how long they wait, and the fields of a
charge.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paytrust_sandbox.money import LIMIT

Fields = dict[str, Any]
MINUTE_S, DAY_S = 60, 86_400


@dataclass(frozen=True)
class Channel:
    """
    One method. *detail* is the bank, store or acquirer where the type has several; *bi_snap* methods have ids
    of their own.
    """

    payment_type: str
    waits_s: int
    detail: str = ""
    bi_snap: bool = False


VA_BANKS = ("bca", "bni", "bri", "cimb")
BI_SNAP_BANKS = ("danamon", "bsi", "seabank", "saqu")
CHANNELS: dict[str, Channel] = {
    **{f"{bank}_va": Channel("bank_transfer", DAY_S, bank) for bank in VA_BANKS},
    **{f"{bank}_va": Channel("bank_transfer", DAY_S, bank, bi_snap=True) for bank in BI_SNAP_BANKS},
    "permata_va": Channel("bank_transfer", DAY_S, "permata"),
    "echannel": Channel("echannel", DAY_S),
    "credit_card": Channel("credit_card", 10 * MINUTE_S),
    "gopay": Channel("gopay", 15 * MINUTE_S),
    "shopeepay": Channel("shopeepay", 15 * MINUTE_S),
    "dana": Channel("dana", 15 * MINUTE_S, bi_snap=True),
    "ovo": Channel("ovo", 15 * MINUTE_S),
    "other_qris": Channel("qris", 15 * MINUTE_S, "gopay"),
    "alfamart": Channel("cstore", DAY_S, "alfamart"),
    "indomaret": Channel("cstore", DAY_S, "indomaret"),
    "akulaku": Channel("akulaku", DAY_S),
    "kredivo": Channel("kredivo", DAY_S),
}
ALIASES = {
    "bank_transfer": [name for name, channel in CHANNELS.items() if channel.payment_type == "bank_transfer"],
    "cstore": ["alfamart", "indomaret"],
}
REFUNDABLE = frozenset({"credit_card", "gopay", "shopeepay", "dana", "ovo", "qris", "kredivo", "akulaku"})
FULL_REFUND_ONLY = frozenset({"shopeepay", "ovo"})
# Rupiah in one charge: the acquirers' least and most. The others take any amount.
RANGES = {
    "bca_va": (10_000, 20_000_000_000),
    "bri_va": (1, 20_000_000_000),
    "permata_va": (1, 9_999_999_999),
    "cimb_va": (1, 250_000_000),
    "bsi_va": (1_000, LIMIT),
    "seabank_va": (10_000, 100_000_000),
    "echannel": (1, 50_000_000_000),
    "credit_card": (10_000, 999_999_999),
    "gopay": (1, 20_000_000),
    "shopeepay": (1, 20_000_000),
    "dana": (1, 20_000_000),
    "ovo": (1, 99_999_999),
    "other_qris": (1, 10_000_000),
    "alfamart": (1, 5_000_000),
    "indomaret": (10_000, 5_000_000),
    "akulaku": (5_000, LIMIT),
}
# The gateway stores no answer under an Idempotency-Key for these.
NOT_IDEMPOTENT = frozenset({"permata_va", "indomaret"})
IN_NOTIFICATION = frozenset(
    {
        "va_numbers",
        "permata_va_number",
        "bill_key",
        "biller_code",
        "payment_code",
        "store",
        "acquirer",
        "masked_card",
        "bank",
        "eci",
        "card_type",
        "approval_code",
        "channel_response_code",
        "channel_response_message",
    }
)


def enabled(wanted: Sequence[str] | None) -> list[str]:
    """Return the methods named in *wanted*, aliases spelt out; all of them when nothing known is named."""
    names = [name for one in wanted or () for name in ALIASES.get(one, [one]) if name in CHANNELS]
    return names or list(CHANNELS)


def channel_of(body: Fields) -> str | None:
    """Return the method a Core charge asks for, None for one that does not exist."""
    kind = body.get("payment_type")
    if kind == "bank_transfer":
        name = f"{_inner(body, 'bank_transfer', 'bank')}_va"
    elif kind == "cstore":
        name = str(_inner(body, "cstore", "store"))
    else:
        name = {"permata": "permata_va", "qris": "other_qris"}.get(str(kind), str(kind))
    return name if name in CHANNELS else None


def takes(name: str, amount: int) -> bool:
    """Whether method *name* takes *amount* in one charge."""
    least, most = RANGES.get(name, (1, LIMIT))
    return least <= amount <= most


def charge_fields(name: str, transaction_id: str, base_url: str) -> Fields:
    """Return what a charge over method *name* answers besides the common fields."""
    channel = CHANNELS[name]
    number = f"{secrets.randbelow(10**10):010}"
    page = f"{base_url}/simulator/{transaction_id}"
    own = f"{base_url}/v2/{channel.payment_type}/{transaction_id}"
    deeplink = {"name": "deeplink-redirect", "method": "GET", "url": page}
    qr = {"name": "generate-qr-code", "method": "GET", "url": f"{own}/qr-code"}
    status = {"name": "get-status", "method": "GET", "url": f"{base_url}/v2/{transaction_id}/status"}
    cancel = {"name": "cancel", "method": "POST", "url": f"{base_url}/v2/{transaction_id}/cancel"}
    fields: dict[str, Fields] = {
        "bank_transfer": {"va_numbers": [{"bank": channel.detail, "va_number": f"81278{number}"}]},
        "echannel": {"bill_key": number, "biller_code": "70012"},
        "gopay": {"actions": [qr, deeplink, status, cancel]},
        "qris": {"qr_string": f"00020101021226{number}", "acquirer": channel.detail, "actions": [qr]},
        "cstore": {"payment_code": f"{number}00", "store": channel.detail},
        "akulaku": {"redirect_url": page},
        "kredivo": {"redirect_url": page},
        "credit_card": {"redirect_url": page},
    }
    if channel.detail == "permata":
        return {"permata_va_number": f"8562{number}"}
    return fields.get(channel.payment_type, {"actions": [deeplink]})


def _inner(body: Fields, name: str, key: str) -> Any:
    inner = body.get(name)
    return inner.get(key) if isinstance(inner, dict) else None
