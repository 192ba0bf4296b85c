"""How an attempt at a payment is called at its gateway."""

from __future__ import annotations

import base64
import re
from typing import Final
from uuid import UUID

OUR_REFERENCE: Final = re.compile(r"PT-[A-Z2-7]{26}-[0-9]{1,2}-[0-9]{1,5}x", re.ASCII)
"""What `payment_reference` makes."""


def payment_reference(invoice_id: UUID, installment_number: int, attempt: int) -> str:
    """
    What names one attempt at the gateway: the same every time it is computed, so an unknown outcome can be
    looked up.

    37 characters, legal at every gateway; ends in a letter because Midtrans hashes its fields without
    delimiters.
    """
    encoded = base64.b32encode(invoice_id.bytes).decode().rstrip("=")
    return f"PT-{encoded}-{installment_number}-{attempt}x"
