"""What Core accepts as a refund."""

import re
import uuid
from decimal import Decimal
from typing import Any

from paytrust_sandbox.midtrans.answers import CONFLICT, INVALID, UNCHANGEABLE, core_refusal
from paytrust_sandbox.midtrans.channels import FULL_REFUND_ONLY, REFUNDABLE
from paytrust_sandbox.midtrans.orders import Transaction
from paytrust_sandbox.midtrans.validation import whole

KEY = re.compile(r"[A-Za-z0-9\-_]+")


def refund_of(transaction: Transaction, body: dict[str, Any]) -> tuple[int, str, str]:
    """
    Return amount, key and reason of the refund *body* asks for; a key seen before means that refund. Raises
    Refusal.
    """
    key, reason = body.get("refund_key", str(uuid.uuid4())), body.get("reason", "")
    if not isinstance(key, str) or not KEY.fullmatch(key) or not isinstance(reason, str) or len(reason) > 255:
        raise core_refusal("400", INVALID, "refund_key or reason is invalid")
    amount = body.get("amount", transaction.left)
    earlier = next((refund for refund in transaction.refunds if refund["refund_key"] == key), None)
    if earlier:
        return _repeated(earlier, body), key, reason
    if not transaction.may("refund") or transaction.payment_type not in REFUNDABLE:
        raise core_refusal("412", UNCHANGEABLE)
    partial = amount != transaction.gross_amount
    if (
        not whole(amount)
        or not 1 <= amount <= transaction.left
        or (partial and transaction.payment_type in FULL_REFUND_ONLY)
    ):
        raise core_refusal("414", "Refund amount is invalid.")
    return amount, key, reason


def _repeated(earlier: dict[str, Any], body: dict[str, Any]) -> int:
    """The same key is the same refund, unless it names another amount."""
    amount = int(Decimal(earlier["refund_amount"]))
    if body.get("amount", amount) != amount:
        raise core_refusal("406", CONFLICT)
    return amount
