"""
What must hold of a service at rest: its database, the gateways' own truth, and the answers its clients have
got agree.

`broken` reads all of it and names every promise that does not hold; empty means that all do. It changes
nothing, and knows the rules by itself: of the product it uses only what `paytrust books verify` shows. At
rest means that nobody is asking, every webhook has been processed, and every attempt has been looked at that
waits for a look.

I1 to I15 are the invariants of the project's test plan. I9, one event for each change, waits for events to
merchants.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from paytrust_sandbox.money import EXPONENTS

from paytrust.infra.db import Transaction
from paytrust.reconciliation import service as reconciliation

OVER = frozenset({"paid", "cancelled", "expired", "failed"})
PAID_THERE = frozenset({"PAID", "SETTLED", "capture", "settlement"})
PAYABLE_THERE = frozenset({"PENDING", "pending"})
_UUID = re.compile(rb"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """
    One payment as its gateway keeps it; amounts in minor units. *ways*: in how many ways a payer could pay it
    now.
    """

    reference: str
    gateway_payment_id: str
    amount: int
    ways: int
    unseen: bool = False
    """Its gateway does not tell of it before a payer has used it (Midtrans Snap)."""
    paid: tuple[int, str] | None = None
    taken_back: bool = False
    """It was paid once and is not any more, so it may be in the books or not."""


class Delivery(msgspec.Struct, frozen=True):
    """A webhook that was answered with 200."""

    url: str
    reference: str
    body: str


class Far(msgspec.Struct, frozen=True):
    """What a gateway knows."""

    pages: Sequence[Page]
    acknowledged: Sequence[Delivery] = ()


class Answer(msgspec.Struct, frozen=True):
    """An answer of the API that a client has got. *key*: its Idempotency-Key."""

    tenant_id: UUID
    key: str | None
    status: int
    body: bytes


def look(sandbox: Any) -> Far:
    """What a running sandbox knows: `look(servers.xendit)`."""
    return Far(
        [_page(payment) for payment in sandbox.payments],
        [
            Delivery(delivery.url, delivery.reference, delivery.body)
            for delivery in sandbox.deliveries
            if any(attempt.status == 200 for attempt in delivery.attempts)
        ],
    )


def _page(payment: Any) -> Page:
    tokens = [token for token in payment.details.get("tokens", ()) if token["state"] == "open"]
    paid = (
        None
        if payment.paid_amount is None
        else (minor(payment.paid_amount, payment.paid_currency), payment.paid_currency)
    )
    return Page(
        reference=payment.reference,
        gateway_payment_id=payment.id,
        amount=minor(payment.amount, payment.currency),
        # A Snap page whose payer has picked a method is paid by that method.
        ways=len(tokens) if payment.status == "unchosen" else int(payment.status in PAYABLE_THERE),
        unseen=payment.status == "unchosen",
        paid=paid,
        taken_back=paid is not None and payment.status not in PAID_THERE,
    )


def minor(amount: str, currency: str) -> int:
    """Minor units, by the table of the sandbox, which shares nothing with the core."""
    return int(Decimal(amount).scaleb(EXPONENTS[currency]))


async def broken(
    owner: asyncpg.Connection,
    gateways: Iterable[Far],
    *,
    tenants: Collection[UUID] | None = None,
    answers: Sequence[Answer] = (),
) -> list[str]:
    """
    Every promise that does not hold now, with what breaks it.

    *owner* is a connection of the database's owner, *gateways* is what every gateway of these *tenants*
    knows; None are all of them.
    """
    async with owner.transaction(isolation="repeatable_read"):
        whose = (
            list(tenants)
            if tenants is not None
            else [row["id"] for row in await owner.fetch("SELECT id FROM paytrust.tenants")]
        )
        found = [
            f"{rule}: {dict(row)}" for rule, sql in RULES.items() for row in await owner.fetch(sql, whose)
        ]
        for tenant_id in whose:
            found += [
                f"I6 I15 {mistake.what}"
                for mistake in await reconciliation.mistakes(
                    Transaction(owner, None, statement_timeout_ms=60_000), tenant_id
                )
            ]
        for gateway in gateways:
            found += await _at(owner, whose, gateway)
        found += await _answered(owner, answers)
    return found


# --- the database by itself: each statement finds what breaks its rule ----------------------------------------------------------

RULES = {
    "I1 what was issued is owed or came in, per tenant and currency": """
        WITH issued AS (
            SELECT tenant_id, currency, sum(total) AS issued FROM paytrust.invoices
            WHERE tenant_id = ANY($1) AND payment_initiated_at IS NOT NULL GROUP BY 1, 2
        ), credited AS (
            SELECT tenant_id, currency, sum(amount) AS issued FROM paytrust.transfers
            WHERE tenant_id = ANY($1) AND credit IN ('revenue', 'tax', 'fee') GROUP BY 1, 2
        ), kept AS (
            SELECT tenant_id, currency, sum(debits - credits) AS balance FROM paytrust.book_accounts
            WHERE tenant_id = ANY($1) GROUP BY 1, 2
        ), received AS (
            SELECT tenant_id, currency, sum(amount) AS received FROM paytrust.receipts
            WHERE tenant_id = ANY($1) GROUP BY 1, 2
        )
        SELECT tenant_id, currency, i.issued, c.issued AS credited, k.balance, r.received
        FROM issued i FULL JOIN credited c USING (tenant_id, currency) FULL JOIN kept k USING (tenant_id, currency)
        FULL JOIN received r USING (tenant_id, currency)
        WHERE (coalesce(i.issued, 0) <> coalesce(c.issued, 0)
            OR coalesce(k.balance, 0) <> coalesce(i.issued, 0) - coalesce(r.received, 0))
    """,
    "I2 an installment is paid between nothing and its amount": """
        SELECT s.invoice_id, s.number, s.amount, t.paid
        FROM paytrust.installments s
        JOIN (SELECT tenant_id, credit, sum(amount) AS paid FROM paytrust.transfers
              WHERE tenant_id = ANY($1) AND cause = 'receipt' GROUP BY 1, 2) t
            ON t.tenant_id = s.tenant_id AND t.credit = 'receivable:' || s.invoice_id || ':' || s.number
        WHERE s.tenant_id = ANY($1) AND t.paid NOT BETWEEN 0 AND s.amount
    """,
    "I3 a payment of a gateway has one receipt": """
        SELECT r.gateway_account_id, r.gateway_payment_id FROM paytrust.receipts r
        WHERE r.tenant_id = ANY($1) AND EXISTS (
            SELECT FROM paytrust.receipts o WHERE o.gateway_account_id = r.gateway_account_id
              AND o.gateway_payment_id = r.gateway_payment_id AND (o.tenant_id, o.id) <> (r.tenant_id, r.id))
    """,
    "I3 a receipt is posted once, to the unit": """
        SELECT r.id, r.amount, t.posted
        FROM paytrust.receipts r
        LEFT JOIN (SELECT tenant_id, cause_id, sum(amount) AS posted FROM paytrust.transfers
                   WHERE tenant_id = ANY($1) AND cause = 'receipt' GROUP BY 1, 2) t
            ON t.tenant_id = r.tenant_id AND t.cause_id = r.id
        WHERE r.tenant_id = ANY($1) AND t.posted IS DISTINCT FROM r.amount
    """,
    "I5 a receipt's transfers have a receipt": """
        SELECT t.cause_id, t.amount FROM paytrust.transfers t
        WHERE t.tenant_id = ANY($1) AND t.cause = 'receipt'
          AND NOT EXISTS (SELECT FROM paytrust.receipts r WHERE r.tenant_id = t.tenant_id AND r.id = t.cause_id)
    """,
    "I6 an attempt is paid when it has a receipt": """
        SELECT p.reference, p.status FROM paytrust.payments p
        WHERE p.tenant_id = ANY($1) AND (p.status = 'paid') <> EXISTS (
            SELECT FROM paytrust.receipts r WHERE r.tenant_id = p.tenant_id AND r.payment_id = p.id)
    """,
    "I6 nothing is being made, and no attempt outlives its invoice": """
        SELECT p.reference, p.status, i.status AS invoice
        FROM paytrust.payments p JOIN paytrust.invoices i ON i.tenant_id = p.tenant_id AND i.id = p.invoice_id
        WHERE p.tenant_id = ANY($1) AND (p.status = 'creating' OR p.live AND i.status IN ('paid', 'cancelled', 'expired', 'failed'))
    """,
    "I7 nothing leaves paid": """
        SELECT invoice_id, details->>'to' AS became FROM paytrust.invoice_history
        WHERE tenant_id = ANY($1) AND event = 'status_changed' AND details->>'from' = 'paid'
    """,
    "I8 every webhook came to its end": """
        SELECT w.id, w.reference, w.status, w.error_code FROM paytrust.webhooks w
        JOIN paytrust.gateway_accounts a ON a.id = w.gateway_account_id
        WHERE coalesce(w.tenant_id, a.tenant_id) = ANY($1) AND w.status NOT IN ('applied', 'ignored', 'failed')
    """,
    "I10 an order makes one invoice": """
        SELECT tenant_id, metadata->>'order' AS order, count(*) FROM paytrust.invoices
        WHERE tenant_id = ANY($1) AND metadata ? 'order' GROUP BY 1, 2 HAVING count(*) > 1
    """,
    "I11 an invoice is the sum of its lines, each taxed at its rate": """
        SELECT i.id, i.subtotal, i.tax, l.subtotal AS of_lines, l.tax AS tax_of_lines, l.recomputed
        FROM paytrust.invoices i
        LEFT JOIN (
            SELECT tenant_id, invoice_id, sum(quantity * unit_price) AS subtotal, sum(tax) AS tax,
                   sum(floor(quantity * unit_price * tax_rate + 0.5)) AS recomputed
            FROM paytrust.line_items WHERE tenant_id = ANY($1) GROUP BY 1, 2
        ) l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
        WHERE i.tenant_id = ANY($1)
          AND (l.subtotal, l.tax, l.recomputed) IS DISTINCT FROM (i.subtotal::numeric, i.tax::numeric, i.tax::numeric)
    """,
    "I11 the fee of an invoice follows its frozen schedule": """
        SELECT id, subtotal, fee FROM paytrust.invoices
        WHERE tenant_id = ANY($1) AND (total <> subtotal + tax + fee
            OR fee <> least(greatest(floor(subtotal * fee_percentage + 0.5) + fee_fixed, fee_minimum), fee_cap))
    """,
    "I12 every change of a status is told": """
        WITH told AS (
            SELECT * FROM paytrust.invoice_history WHERE tenant_id = ANY($1) AND event = 'status_changed'
        ), moved AS (
            SELECT tenant_id, invoice_id, details->>'from' AS status, -1 AS n FROM told
            UNION ALL
            SELECT tenant_id, invoice_id, details->>'to', 1 FROM told
            UNION ALL
            SELECT tenant_id, id, unnest(ARRAY['draft', 'pending']), unnest(ARRAY[-1, 1]) FROM paytrust.invoices
            WHERE tenant_id = ANY($1) AND payment_initiated_at IS NOT NULL
            UNION ALL
            SELECT tenant_id, id, unnest(ARRAY['draft', status]), unnest(ARRAY[1, -1]) FROM paytrust.invoices
            WHERE tenant_id = ANY($1)
        )
        SELECT invoice_id, status, sum(n) FROM moved GROUP BY 1, 2 HAVING sum(n) <> 0
    """,
    "I12 every adjustment and every supplementary invoice is told": """
        WITH done AS (
            SELECT DISTINCT tenant_id, invoice_id, cause_id FROM paytrust.transfers
            WHERE tenant_id = ANY($1) AND cause = 'adjust'
        ), counted AS (
            SELECT tenant_id, invoice_id, 'schedule_adjusted' AS event, 1 AS n FROM done
            UNION ALL
            SELECT tenant_id, original_invoice_id, 'supplementary_created', 1 FROM paytrust.invoices
            WHERE tenant_id = ANY($1) AND original_invoice_id IS NOT NULL
            UNION ALL
            SELECT tenant_id, invoice_id, event, -1 FROM paytrust.invoice_history
            WHERE tenant_id = ANY($1)
              AND (event = 'supplementary_created' OR event = 'schedule_adjusted' AND details->'from' <> details->'to')
        )
        SELECT invoice_id, event, sum(n) FROM counted GROUP BY 1, 2 HAVING sum(n) <> 0
    """,
    "I12 every change of a key is told": """
        SELECT k.id, k.created_at, k.rotated_at, k.revoked_at, a.actions
        FROM paytrust.api_keys k
        CROSS JOIN LATERAL (SELECT array_agg(action) AS actions FROM paytrust.key_audit a WHERE a.key_id = k.id) a
        WHERE k.tenant_id = ANY($1) AND (cardinality(array_positions(a.actions, 'created')) IS DISTINCT FROM 1
            OR (k.rotated_at IS NOT NULL) <> ('rotated' = ANY(a.actions)) OR (k.revoked_at IS NOT NULL) <> ('revoked' = ANY(a.actions)))
    """,
}


# --- the gateways' truth --------------------------------------------------------------------------------------------------------


async def _at(owner: asyncpg.Connection, tenants: list[UUID], gateway: Far) -> list[str]:
    attempts = {
        row["reference"]: row
        for row in await owner.fetch(
            """
            SELECT p.reference, p.tenant_id, p.invoice_id, p.installment_number, p.currency, p.payment_url, i.status,
                   i.expires_at + interval '1 minute' <= now() AS time_up,
                   EXISTS (SELECT FROM paytrust.invoice_history h WHERE h.tenant_id = p.tenant_id AND h.invoice_id = p.invoice_id
                           AND h.event = 'payment_refused' AND h.details->>'reference' = p.reference) AS refused
            FROM paytrust.payments p JOIN paytrust.invoices i ON i.tenant_id = p.tenant_id AND i.id = p.invoice_id
            WHERE p.reference = ANY($1)
            """,
            [page.reference for page in gateway.pages],
        )
    }
    found = [
        f"I5 a page without an attempt: {page}" for page in gateway.pages if page.reference not in attempts
    ]
    ours = [
        page
        for page in gateway.pages
        if page.reference in attempts and attempts[page.reference]["tenant_id"] in tenants
    ]
    received = await owner.fetch(
        "SELECT p.reference, r.gateway_payment_id, r.amount, r.currency FROM paytrust.receipts r"
        " JOIN paytrust.payments p ON p.tenant_id = r.tenant_id AND p.id = r.payment_id WHERE p.reference = ANY($1)",
        [page.reference for page in ours],
    )
    found += unbooked(
        ours,
        Counter((*row,) for row in received),
        {page.reference: attempts[page.reference]["currency"] for page in ours},
    )
    found += [
        f"I4 paid in another currency, and nobody is told: {page}"
        for page in ours
        if page.paid
        and not page.taken_back
        and page.paid[1] != attempts[page.reference]["currency"]
        and not attempts[page.reference]["refused"]
    ]
    found += await _strange_money(owner, tenants, gateway)
    found += await _payable(owner, tenants, ours, attempts)
    return found + await _stored(owner, tenants, gateway)


def unbooked(
    pages: Iterable[Page], received: Counter[tuple[str, str, int, str]], currencies: dict[str, str]
) -> list[str]:
    """
    I3, I4, I5: what a gateway took in an invoice's currency is in the books exactly once, and nothing else.

    *received* counts receipts by (reference, gateway payment id, minor units, currency); *currencies* are the
    invoices', by reference.
    """
    pages = [page for page in pages if page.paid is not None]
    paid = Counter(
        (page.reference, page.gateway_payment_id, *page.paid)
        for page in pages
        if currencies[page.reference] == page.paid[1]
    )
    optional = {(page.reference, page.gateway_payment_id, *page.paid) for page in pages if page.taken_back}
    return [f"I4 paid, and not in the books: {one}" for one in (paid - received) if one not in optional] + [
        f"I3 I5 in the books, and not paid, or more often: {one}" for one in received - paid
    ]


async def _strange_money(owner: asyncpg.Connection, tenants: list[UUID], gateway: Far) -> list[str]:
    """
    Receipts on attempts that this gateway was asked for and does not know. Accounts are told apart by what
    was ever opened there.
    """
    rows = await owner.fetch(
        """
        SELECT p.reference, r.gateway_payment_id, r.amount FROM paytrust.receipts r
        JOIN paytrust.payments p ON p.tenant_id = r.tenant_id AND p.id = r.payment_id
        WHERE r.tenant_id = ANY($1) AND p.reference <> ALL($2) AND r.gateway_account_id IN (
            SELECT gateway_account_id FROM paytrust.payments WHERE reference = ANY($2))
        """,
        tenants,
        [page.reference for page in gateway.pages],
    )
    return [f"I5 in the books, and unknown at the gateway: {dict(row)}" for row in rows]


async def _payable(
    owner: asyncpg.Connection, tenants: list[UUID], pages: Sequence[Page], attempts: dict[str, asyncpg.Record]
) -> list[str]:
    # A page whose making was never answered, and which cannot be found: it cannot be closed, but nobody has
    # its address either.
    open_pages = [
        page
        for page in pages
        if page.ways and not (page.unseen and attempts[page.reference]["payment_url"] is None)
    ]
    rows = await owner.fetch(
        """
        SELECT DISTINCT ON (s.invoice_id) s.invoice_id, s.number, s.amount - coalesce(t.paid, 0) AS due
        FROM paytrust.installments s
        LEFT JOIN (SELECT tenant_id, credit, sum(amount) AS paid FROM paytrust.transfers
                   WHERE tenant_id = ANY($2) AND cause = 'receipt' GROUP BY 1, 2) t
            ON t.tenant_id = s.tenant_id AND t.credit = 'receivable:' || s.invoice_id || ':' || s.number
        WHERE s.tenant_id = ANY($2) AND s.invoice_id = ANY($1) AND s.amount > coalesce(t.paid, 0)
        ORDER BY s.invoice_id, s.number
        """,
        [attempts[page.reference]["invoice_id"] for page in open_pages],
        tenants,
    )
    due = {row["invoice_id"]: (row["number"], int(row["due"])) for row in rows}
    found = []
    of_invoice: dict[UUID, list[tuple[int, int]]] = {}
    for page in open_pages:
        attempt = attempts[page.reference]
        asked = (attempt["installment_number"], page.amount)
        of_invoice.setdefault(attempt["invoice_id"], []).extend([asked] * page.ways)
    over = {
        attempt["invoice_id"]
        for attempt in attempts.values()
        if attempt["status"] in OVER or attempt["time_up"]
    }
    for invoice_id, payable in of_invoice.items():
        found += too_payable(
            f"invoice {invoice_id}", payable, None if invoice_id in over else due.get(invoice_id)
        )
    return found


def too_payable(what: str, payable: Sequence[tuple[int, int]], due: tuple[int, int] | None) -> list[str]:
    """
    I14: at most one page can be paid, for what is due next, (installment, minor units); none when *due* is
    None.
    """
    return (
        []
        if list(payable) in ([], [due])
        else [f"I14 {what} can be paid as {list(payable)}, and {due} is due"]
    )


async def _stored(owner: asyncpg.Connection, tenants: list[UUID], gateway: Far) -> list[str]:
    tokens = {delivery.url.rpartition("/")[2] for delivery in gateway.acknowledged}
    rows = await owner.fetch(
        "SELECT id, tenant_id, webhook_token FROM paytrust.gateway_accounts WHERE webhook_token = ANY($1)",
        list(tokens),
    )
    accounts = {row["webhook_token"]: row["id"] for row in rows if row["tenant_id"] in {None, *tenants}}
    elsewhere = {row["webhook_token"] for row in rows} - set(accounts)
    rows = await owner.fetch(
        "SELECT gateway_account_id, body FROM paytrust.webhooks WHERE gateway_account_id = ANY($1)",
        list(accounts.values()),
    )
    inbox = {(row["gateway_account_id"], _event(row["body"])) for row in rows}
    return [
        f"I8 answered with 200, and not in the inbox: {delivery.reference} {delivery.body[:200]}"
        for delivery in gateway.acknowledged
        if (token := delivery.url.rpartition("/")[2]) not in elsewhere
        and (accounts.get(token), _event(delivery.body)) not in inbox
    ]


def _event(body: str | bytes) -> Any:
    """What a webhook says happened: a repeat in other bytes says the same."""
    try:
        said = json.loads(body)
        return (
            (said["id"], said["status"])
            if "status" in said
            else (said["transaction_id"], said["transaction_status"])
        )
    except (ValueError, KeyError, TypeError):
        return bytes(body, "utf-8") if isinstance(body, str) else body


# --- what clients were told -----------------------------------------------------------------------------------------------------


async def _answered(owner: asyncpg.Connection, answers: Sequence[Answer]) -> list[str]:
    told = [answer for answer in answers if 200 <= answer.status < 300]
    first: dict[tuple[UUID, str], bytes] = {}
    found = [
        f"I10 two answers to one key: {answer.key}: {answer.body!r} and {first[answer.tenant_id, answer.key]!r}"
        for answer in told
        if answer.key is not None
        and first.setdefault((answer.tenant_id, answer.key), answer.body) != answer.body
    ]
    found += await _foreign(owner, answers)
    bodies = [(answer, json.loads(answer.body)) for answer in told]
    bodies = [(answer, body) for answer, body in bodies if "invoice_id" in body]
    rows = await owner.fetch(
        "SELECT * FROM paytrust.invoices WHERE id = ANY($1)", [UUID(body["invoice_id"]) for _, body in bodies]
    )
    invoices = {(row["tenant_id"], row["id"]): row for row in rows}
    for answer, body in bodies:
        row = invoices.get((answer.tenant_id, UUID(body["invoice_id"])))
        if row is None:
            found.append(f"I10 answered with {answer.status}, and not there: invoice {body['invoice_id']}")
        elif "total_amount" in body and "line_items" in body:
            names = {
                "subtotal": "subtotal_amount",
                "tax": "total_tax_amount",
                "fee": "total_service_fee_amount",
                "total": "total_amount",
            }
            answered = {ours: minor(body[theirs], row["currency"]) for ours, theirs in names.items()}
            if (
                answered != {name: row[name] for name in names}
                or str(row["gateway_account_id"]) != body["gateway_id"]
            ):
                found.append(f"I11 invoice {row['id']} was answered as {answered}, and is not that any more")
    return found


async def _foreign(owner: asyncpg.Connection, answers: Sequence[Answer]) -> list[str]:
    named = {
        (answer.tenant_id, UUID(text.decode())) for answer in answers for text in _UUID.findall(answer.body)
    }
    rows = await owner.fetch(
        """
        SELECT id, tenant_id FROM (
            SELECT id, tenant_id FROM paytrust.invoices UNION ALL SELECT id, tenant_id FROM paytrust.line_items
            UNION ALL SELECT id, tenant_id FROM paytrust.payments UNION ALL SELECT id, tenant_id FROM paytrust.receipts
            UNION ALL SELECT id, tenant_id FROM paytrust.api_keys UNION ALL SELECT id, id FROM paytrust.tenants
            UNION ALL SELECT id, tenant_id FROM paytrust.gateway_accounts WHERE tenant_id IS NOT NULL
        ) AS owned WHERE id = ANY($1)
        """,
        [identity for _, identity in named],
    )
    owner_of = {row["id"]: row["tenant_id"] for row in rows}
    return [
        f"I13 an answer to tenant {tenant_id} names {identity} of tenant {owner_of[identity]}"
        for tenant_id, identity in sorted(named)
        if owner_of.get(identity, tenant_id) != tenant_id
    ]
