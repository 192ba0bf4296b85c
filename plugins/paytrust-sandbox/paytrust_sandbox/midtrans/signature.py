"""
The signature of Midtrans: SHA-512 over three fields of the body and the server key, nothing between them.
"""

import hashlib


def signature(order_id: str, status_code: str, gross_amount: str, server_key: str) -> str:
    """Return `signature_key` for exactly these strings."""
    return hashlib.sha512(f"{order_id}{status_code}{gross_amount}{server_key}".encode()).hexdigest()
