"""
Orders: the Snap sessions and the transactions that share one order_id, and which status may follow which.
"""

import heapq
import secrets
import string
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from paytrust_sandbox.midtrans.channels import CHANNELS, charge_fields

Fields = dict[str, Any]
ALPHANUMERIC = string.ascii_letters + string.digits
PAID = frozenset({"capture", "settlement", "refund", "partial_refund", "chargeback", "partial_chargeback"})
REACHABLE = {
    "pending": frozenset({"authorize", "capture", "settlement", "deny", "cancel", "expire", "failure"}),
    "authorize": frozenset({"authorize", "capture", "deny", "cancel", "expire"}),
    "capture": frozenset({"capture", "settlement", "deny", "cancel"}),
    # Deny after settlement is a reversal: Permata, Mandiri bill and Indomaret take money back within minutes.
    "settlement": frozenset({"refund", "partial_refund", "chargeback", "partial_chargeback", "deny"}),
    "partial_refund": frozenset({"refund", "partial_refund", "chargeback", "partial_chargeback"}),
    "partial_chargeback": frozenset({"chargeback"}),
}


@dataclass(frozen=True)
class Recipients:
    """Where notifications go besides, or instead of, the address in the dashboard."""

    override: tuple[str, ...] = ()
    append: tuple[str, ...] = ()

    def urls(self, dashboard: str) -> tuple[str, ...]:
        return self.override or (dashboard, *self.append)


@dataclass
class Session:
    """A Snap token. *state* is open, canceled or replaced."""

    token: str
    order_id: str
    gross_amount: int
    body: Fields
    recipients: Recipients
    created_at: datetime
    page_expires_at: datetime
    url: str
    state: str = "open"

    def usable(self, now: datetime) -> bool:
        return self.state == "open" and now < self.page_expires_at


@dataclass
class Transaction:
    """
    One attempt to pay an order over one method. *shown* are the fields that belong to the method.

    The *imposed_fee* is what the payer pays on top of what was asked for; *gross_amount* is both.
    """

    transaction_id: str
    order_id: str
    gross_amount: int
    channel: str
    body: Fields
    recipients: Recipients
    created_at: datetime
    expires_at: datetime
    shown: Fields
    token: str | None = None
    status: str = "pending"
    fraud_status: str | None = "accept"
    currency: str = "IDR"
    was_paid: bool = False
    settled_at: datetime | None = None
    payments: list[Fields] = field(default_factory=list)
    refunds: list[Fields] = field(default_factory=list)
    charged_back: int = 0
    imposed_fee: int = 0

    @property
    def payment_type(self) -> str:
        return CHANNELS[self.channel].payment_type

    @property
    def bi_snap(self) -> bool:
        return CHANNELS[self.channel].bi_snap

    @property
    def amount_text(self) -> str:
        return f"{self.gross_amount:.2f}"

    @property
    def original_amount(self) -> int:
        return self.gross_amount - self.imposed_fee

    @property
    def refunded(self) -> int:
        return sum(int(Decimal(refund["refund_amount"])) for refund in self.refunds)

    @property
    def left(self) -> int:
        """What has neither been refunded nor charged back."""
        return self.gross_amount - self.refunded - self.charged_back

    @property
    def challenged(self) -> bool:
        return self.fraud_status == "challenge" and self.status in ("authorize", "capture")

    def may(self, status: str) -> bool:
        return status in REACHABLE.get(self.status, ())

    def move(self, status: str, *, at: datetime, fraud_status: str | None = None) -> None:
        assert self.may(status)
        self.status = status
        self.was_paid = self.was_paid or status in PAID
        if fraud_status is not None:
            self.fraud_status = fraud_status
        if status == "settlement":
            self.settled_at = at


@dataclass
class Order:
    """Everything under one order_id, oldest first."""

    order_id: str
    sessions: list[Session] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)

    @property
    def session(self) -> Session | None:
        return self.sessions[-1] if self.sessions else None

    @property
    def transaction(self) -> Transaction | None:
        return self.transactions[-1] if self.transactions else None

    @property
    def taken(self) -> str | None:
        """Why a new attempt is not welcome: "paid", "active", or None."""
        if any(one.was_paid for one in self.transactions):
            return "paid"
        return "active" if any(one.status in ("pending", "authorize") for one in self.transactions) else None


class Orders:
    """
    All orders, findable by order_id, token and transaction_id, and the order in which transactions expire.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Order] = {}
        self.sessions: dict[str, Session] = {}
        self.transactions: dict[str, Transaction] = {}
        self._expiring: list[tuple[datetime, str]] = []

    def order(self, order_id: str) -> Order:
        return self.by_id.setdefault(order_id, Order(order_id))

    def open(self, session: Session) -> None:
        """Add *session*; a token given out earlier for its order_id is dead from now on."""
        order = self.order(session.order_id)
        if order.session:
            order.session.state = "replaced"
        order.sessions.append(session)
        self.sessions[session.token] = session

    def start(self, transaction: Transaction) -> None:
        self.order(transaction.order_id).transactions.append(transaction)
        self.transactions[transaction.transaction_id] = transaction
        heapq.heappush(self._expiring, (transaction.expires_at, transaction.transaction_id))

    def find(self, identity: str) -> Transaction | None:
        """Return the transaction with this id, or the latest of the order with this id."""
        order = self.by_id.get(identity)
        return self.transactions.get(identity) or (order.transaction if order else None)

    def expired_by(self, now: datetime) -> list[Transaction]:
        """Return, once, the unpaid transactions whose time is up."""
        due = []
        while self._expiring and self._expiring[0][0] <= now:
            transaction = self.transactions[heapq.heappop(self._expiring)[1]]
            if transaction.status in ("pending", "authorize"):
                due.append(transaction)
        return due


def new_transaction(
    *,
    order_id: str,
    gross_amount: int,
    channel: str,
    body: Fields,
    recipients: Recipients,
    at: datetime,
    expires_at: datetime,
    base_url: str,
    imposed_fee: int = 0,
) -> Transaction:
    """Return a pending transaction with an id of its own, over *gross_amount* and the *imposed_fee*."""
    identity = (
        _bi_snap_id(at)
        if CHANNELS[channel].bi_snap
        else str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    )
    shown = charge_fields(channel, identity, base_url)
    # Retail outlets are not screened for fraud, and their status does not say so.
    fraud_status = None if CHANNELS[channel].payment_type == "cstore" else "accept"
    return Transaction(
        transaction_id=identity,
        order_id=order_id,
        gross_amount=gross_amount + imposed_fee,
        channel=channel,
        body=body,
        recipients=recipients,
        created_at=at,
        expires_at=expires_at,
        shown=shown,
        fraud_status=fraud_status,
        imposed_fee=imposed_fee,
    )


def _bi_snap_id(at: datetime) -> str:
    """Return an id such as A120300101030405NP16XMU4JTID: the second in UTC and ten characters."""
    return f"A1{at:%Y%m%d%H%M%S}{''.join(secrets.choice(ALPHANUMERIC) for _ in range(10))}ID"
