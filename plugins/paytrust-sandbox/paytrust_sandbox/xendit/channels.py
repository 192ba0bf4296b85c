"""Payment channels by currency: what an invoice offers, and which fields a payment over a channel carries."""

from decimal import Decimal
from typing import Any

from paytrust_sandbox.money import wire

Wire = dict[str, Any]

BANK, OUTLET, EWALLET, QR, DEBIT, PAYLATER, CARD = (
    "BANK_TRANSFER",
    "RETAIL_OUTLET",
    "EWALLET",
    "QR_CODE",
    "DIRECT_DEBIT",
    "PAYLATER",
    "CREDIT_CARD",
)
IDR_BANKS = (
    "BCA",
    "BNI",
    "BRI",
    "MANDIRI",
    "PERMATA",
    "BSI",
    "BJB",
    "CIMB",
    "SAHABAT_SAMPOERNA",
    "BNC",
    "MUAMALAT",
)
IDR_EWALLETS = ("OVO", "DANA", "GOPAY", "SHOPEEPAY", "LINKAJA", "ASTRAPAY", "JENIUSPAY")
CHANNELS: dict[str, dict[str, str]] = {
    "IDR": {
        **dict.fromkeys(IDR_EWALLETS, EWALLET),
        **dict.fromkeys(IDR_BANKS, BANK),
        **dict.fromkeys(("ALFAMART", "INDOMARET"), OUTLET),
        "QRIS": QR,
        **dict.fromkeys(("DD_BRI", "DD_MANDIRI"), DEBIT),
        **dict.fromkeys(("KREDIVO", "AKULAKU", "ATOME"), PAYLATER),
        CARD: CARD,
    },
    "MYR": {
        **dict.fromkeys(("TOUCHNGO", "GRABPAY", "SHOPEEPAY", "WECHATPAY"), EWALLET),
        **dict.fromkeys(("DD_MAYB2U_FPX", "DD_CIMB_FPX", "DD_PUBLIC_FPX", "DD_RHB_FPX", "DD_HLB_FPX"), DEBIT),
        CARD: CARD,
    },
    "PHP": {
        **dict.fromkeys(("GCASH", "GRABPAY", "PAYMAYA", "SHOPEEPAY"), EWALLET),
        "7ELEVEN": OUTLET,
        "QRPH": QR,
        CARD: CARD,
    },
    "THB": {**dict.fromkeys(("LINEPAY", "TRUEMONEY"), EWALLET), "PROMPTPAY": QR, CARD: CARD},
    "VND": {**dict.fromkeys(("MOMO", "ZALOPAY", "APPOTA"), EWALLET), CARD: CARD},
    "USD": {CARD: CARD},
}
# Below the one and above the other no channel of the currency takes the money.
SMALLEST = {"IDR": Decimal(1), "MYR": Decimal(1), "PHP": Decimal(1)}
LARGEST = {
    "IDR": Decimal(50_000_000_000),
    "MYR": Decimal(1_000_000),
    "PHP": Decimal(700_000),
    "THB": Decimal(700_000),
}
REFUNDABLE = frozenset({EWALLET, CARD, QR, DEBIT})


def offered(currency: str, methods: list[str] | None) -> dict[str, str]:
    """Return the channels of *currency* among *methods*, all of them when there are none; code to kind."""
    channels = CHANNELS[currency]
    return channels if not methods else {code: kind for code, kind in channels.items() if code in methods}


def availability(channels: dict[str, str], amount: Decimal, merchant: str) -> Wire:
    """Return the `available_*` arrays of an invoice."""
    codes = {
        kind: [code for code, own in channels.items() if own == kind]
        for kind in (BANK, OUTLET, EWALLET, QR, DEBIT, PAYLATER)
    }
    return {
        "available_banks": [_bank(code, amount, merchant) for code in codes[BANK]],
        "available_retail_outlets": [{"retail_outlet_name": code} for code in codes[OUTLET]],
        "available_ewallets": [{"ewallet_type": code} for code in codes[EWALLET]],
        "available_qr_codes": [{"qr_code_type": code} for code in codes[QR]],
        "available_direct_debits": [{"direct_debit_type": code} for code in codes[DEBIT]],
        "available_paylaters": [{"paylater_type": code} for code in codes[PAYLATER]],
        "should_exclude_credit_card": CARD not in channels,
    }


def payment_fields(code: str, kind: str, token: str) -> Wire:
    """Return what a payment over channel *code* adds to invoice and webhook; *token* makes its ids."""
    own: dict[str, Wire] = {
        BANK: {"bank_code": code, "payment_destination": f"8808{int(token[:8], 16):010}"},
        OUTLET: {"payment_destination": f"SBX{int(token[:8], 16):010}"},
        EWALLET: {"ewallet_type": code, "payment_id": f"ewc_{token}", "payment_method_id": f"pm-{token}"},
        CARD: {"credit_card_charge_id": token.replace("-", "")[:24]},
    }
    return {"payment_method": kind, "payment_channel": code, **own.get(kind, {"payment_id": f"py-{token}"})}


def _bank(code: str, amount: Decimal, merchant: str) -> Wire:
    return {
        "bank_code": code,
        "collection_type": "POOL",
        "transfer_amount": wire(amount),
        "bank_branch": "Virtual Account",
        "account_holder_name": merchant.upper(),
        "identity_amount": 0,
    }
