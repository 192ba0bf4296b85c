"""
Answers and webhooks with a wrong amount, currency or reference in them: well-formed, well signed, and not
what was agreed.
"""

from typing import Any

SURPLUS = 1000
AMOUNTS = ("amount", "paid_amount")


def tampered(fault: str, value: Any) -> Any:
    """Return *value* with every invoice in it changed as *fault* says; other faults change nothing."""
    if isinstance(value, list):
        return [tampered(fault, one) for one in value]
    if not isinstance(value, dict):
        return value
    if fault == "wrong_amount":
        return {name: one + SURPLUS if name in AMOUNTS else one for name, one in value.items()}
    if fault == "wrong_reference" and "external_id" in value:
        return {**value, "external_id": f"{value['external_id']}-not"}
    if fault == "wrong_currency" and "currency" in value:
        return {**value, "currency": "IDR" if value["currency"] == "USD" else "USD"}
    return value
