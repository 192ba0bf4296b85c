"""
Answers and webhooks with a wrong amount, currency or reference in them: well-formed, well signed, and not
what was agreed.
"""

from typing import Any

from paytrust_sandbox.odd import with_odd_fields
from paytrust_sandbox.records import Fault

SURPLUS = 1000
AMOUNTS = ("amount", "paid_amount")


def tampered(fault: Fault, value: Any) -> Any:
    """
    Return *value* with every object in it changed as *fault* says; other faults, and errors, change nothing.
    """
    if isinstance(value, list):
        return [tampered(fault, one) for one in value]
    return _changed(fault, value) if isinstance(value, dict) and "error_code" not in value else value


def _changed(fault: Fault, value: dict[str, Any]) -> Any:
    match fault.name:
        case "odd_fields":
            return with_odd_fields(value, fault)
        case "wrong_amount":
            return {name: one + SURPLUS if name in AMOUNTS else one for name, one in value.items()}
        case "wrong_reference" if "external_id" in value:
            return {**value, "external_id": f"{value['external_id']}-not"}
        case "wrong_currency" if "currency" in value:
            return {**value, "currency": "IDR" if value["currency"] == "USD" else "USD"}
    return value
