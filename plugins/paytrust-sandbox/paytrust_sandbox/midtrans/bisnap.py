"""
Methods that Midtrans runs on the national standard (BI-SNAP), and what the older API then makes of them.

It answers for them by transaction_id and with a header. What it answers otherwise is reported in two ways, so
it is a setting.
"""

from typing import Any, Literal

from paytrust_sandbox.http import Request
from paytrust_sandbox.midtrans.orders import Transaction

Fields = dict[str, Any]
Lookup = Literal["as_others", "renamed", "not_found"]
HEADER, SOURCE = "transaction-source", "SNAP_API"


def reached(transaction: Transaction, request: Request, lookup: Lookup) -> bool:
    """Whether *request* finds *transaction*."""
    return lookup != "not_found" or not transaction.bi_snap or _well_asked(transaction, request)


def found(body: Fields, transaction: Transaction, request: Request, lookup: Lookup) -> Fields:
    """
    Return the answer to a look-up: unless it was asked for in the right way, it may name the transaction as
    its order.
    """
    if lookup != "renamed" or not transaction.bi_snap or _well_asked(transaction, request):
        return body
    return {**body, "order_id": transaction.transaction_id}


def refunded(body: Fields, transaction: Transaction, lookup: Lookup) -> Fields:
    """Return the answer to a refund: it names the transaction, as its order."""
    if lookup == "as_others" or not transaction.bi_snap:
        return body
    return {**_without(body, "transaction_id"), "order_id": transaction.transaction_id}


def canceled(body: Fields, transaction: Transaction, lookup: Lookup) -> Fields:
    """Return the answer to a cancel: it names neither."""
    return (
        body
        if lookup == "as_others" or not transaction.bi_snap
        else _without(body, "transaction_id", "order_id")
    )


def _well_asked(transaction: Transaction, request: Request) -> bool:
    return request.params["id"] == transaction.transaction_id and request.headers.get(HEADER) == SOURCE


def _without(body: Fields, *names: str) -> Fields:
    return {name: value for name, value in body.items() if name not in names}
