"""
Where the service can be killed: before and after every COMMIT that changes something, and every call to a
gateway.

The core has no word of this. A point is found by what happens at two seams of it, `Transaction` and
`GatewayClient`, and named by the functions of the core that are at work: `verb: moment work`. So a new
transaction has its points without anybody thinking of it, and nothing in production can be armed
(docs/adr/0024).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

from paytrust.infra import db
from paytrust.plugins.calls import GatewayClient

WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM) paytrust\.")
ROOMS = re.compile(r"paytrust\.\w+\.(?:routes|jobs|service)(?:\.\w+)?")
STORE = re.compile(r"paytrust\.(\w+)\.store")
AROUND = "KeepAnswers.handle"
"""A middleware that is around every request, and not what the request is about."""

Reached = Callable[[str], None]


def watch(reached: Reached) -> None:
    """Call *reached* with the name of every point that this process comes to, just before it goes on."""
    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        setattr(db.Transaction, name, _noting(getattr(db.Transaction, name)))
    db._commit, db._end = _committing(db._commit, reached), _forgetting(db._end)
    for name in ("create_payment", "find_payments", "expire_payment"):
        setattr(GatewayClient, name, _calling(getattr(GatewayClient, name), name, reached))
    GatewayClient.list_payments = _listing(GatewayClient.list_payments, reached)


wrote: dict[int, str] = {}
"""
By connection: the function of a store that wrote first in the transaction that is open there. It names the
transaction.
"""


def _noting(run: Any) -> Any:
    async def noting(self: db.Transaction, sql: str, *args: Any) -> Any:
        if WRITES.search(sql):
            wrote.setdefault(id(self._connection), _work())
        return await run(self, sql, *args)

    return noting


def _committing(commit: Any, reached: Reached) -> Any:
    async def committing(connection: Any) -> None:
        work = wrote.pop(id(connection), None)
        if work is None:
            await commit(connection)
            return
        verb = _verb()
        reached(f"{verb}: before COMMIT of {work}")
        await commit(connection)
        reached(f"{verb}: after COMMIT of {work}")

    return committing


def _forgetting(end: Any) -> Any:
    async def forgetting(connection: Any, command: str) -> Any:
        wrote.pop(id(connection), None)
        return await end(connection, command)

    return forgetting


def _calling(call: Any, name: str, reached: Reached) -> Any:
    async def calling(self: GatewayClient, *args: Any, **kwargs: Any) -> Any:
        verb = _verb()
        reached(f"{verb}: before {name}")
        answer = await call(self, *args, **kwargs)
        reached(f"{verb}: after {name}")
        return answer

    return calling


def _listing(pages: Any, reached: Reached) -> Any:
    async def listing(self: GatewayClient, *args: Any) -> Any:
        verb = _verb()
        reached(f"{verb}: before list_payments")
        async for payment in pages(self, *args):
            yield payment
        reached(f"{verb}: after list_payments")

    return listing


def _verb() -> str:
    """What this is about: the outermost function of a room that waits for us."""
    found = "?"
    frame: Any = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if ROOMS.fullmatch(frame.f_globals.get("__name__", "")) and (
            found == "?" or not code.co_qualname.startswith(AROUND)
        ):
            found = code.co_qualname.replace("<locals>.", "")
        frame = frame.f_back
    return found


def _work() -> str:
    """The function of a store that writes."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        room = STORE.fullmatch(frame.f_globals.get("__name__", ""))
        if room:
            return f"{room[1]}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


# What a campaign kills at: what is durable differs from one of these to the next.
POINTS = tuple(
    f"{verb}: {moment}"
    for verb, moments in {
        "claim_guard.guard": ("before COMMIT of idempotency.claim", "after COMMIT of idempotency.claim"),
        "Idempotency.complete": (
            "before COMMIT of idempotency.keep",
            "after COMMIT of idempotency.keep",
            "after COMMIT of idempotency.give_back",
        ),
        "create_invoice": (
            "before COMMIT of payments.create",
            "after COMMIT of payments.create",
            "after create_payment",
            "before COMMIT of invoices.initiate",
            "after COMMIT of invoices.initiate",
            "before COMMIT of payments.finish_attempt",
            "after COMMIT of payments.reclaim",
        ),
        "create_supplementary": (
            "after COMMIT of payments.create",
            "after create_payment",
            "after COMMIT of invoices.initiate",
        ),
        "make_payment_url": (
            "after COMMIT of payments.insert",
            "after COMMIT of payments.reclaim",
            "after find_payments",
            "after create_payment",
            "after COMMIT of invoices.initiate",
        ),
        "cancel_invoice": (
            "after find_payments",
            "after expire_payment",
            "after COMMIT of payments.finish_attempt",
            "before COMMIT of invoices.save_status",
            "after COMMIT of invoices.save_status",
        ),
        "adjust_installments": (
            "after expire_payment",
            "after COMMIT of payments.finish_attempt",
            "before COMMIT of invoices.reschedule",
            "after COMMIT of invoices.reschedule",
            "after COMMIT of payments.insert",
            "after create_payment",
        ),
        "receive_webhook": ("before COMMIT of webhooks.insert", "after COMMIT of webhooks.insert"),
        "WebhookJobs._claim": ("after COMMIT of webhooks.claim",),
        "WebhookJobs._process": (
            "after find_payments",
            "before COMMIT of payments.insert_receipt",
            "after COMMIT of payments.insert_receipt",
            "after COMMIT of payments.insert",
            "after create_payment",
            "before COMMIT of webhooks.finish",
            "after COMMIT of webhooks.finish",
            "after COMMIT of webhooks.fail",
        ),
        "StatusPoller._claim": ("after COMMIT of payments.claim_check",),
        "StatusPoller._contained": (
            "after COMMIT of payments.reclaim",
            "before COMMIT of invoices.initiate",
            "after expire_payment",
            "after COMMIT of payments.finish_attempt",
            "before COMMIT of invoices.save_status",
            "after COMMIT of invoices.save_status",
            "after COMMIT of payments.insert_receipt",
            "before COMMIT of payments.checked",
        ),
        "InvoiceExpiry.step": ("after COMMIT of invoices.claim_ends",),
        "InvoiceExpiry._contained": (
            "after expire_payment",
            "after COMMIT of payments.finish_attempt",
            "before COMMIT of invoices.save_status",
            "after COMMIT of invoices.save_status",
            "after COMMIT of invoices.ended",
        ),
        "DailyReconciliation.step": (
            "after COMMIT of accounts.claim_comparison",
            "after list_payments",
            "after COMMIT of reconciliation.save",
            "after COMMIT of accounts.compared",
        ),
        "create_key": ("before COMMIT of keys.insert", "after COMMIT of keys.insert"),
        "rotate_key": ("before COMMIT of keys.rotate", "after COMMIT of keys.rotate"),
        "revoke_key": ("after COMMIT of keys.revoke",),
    }.items()
    for moment in moments
)
