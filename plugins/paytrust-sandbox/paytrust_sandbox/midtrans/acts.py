"""
What befalls Midtrans transactions: payers choose and pay, banks deny and reverse, time passes. Each change is
notified.
"""

import secrets
import uuid
from datetime import timedelta
from decimal import Decimal

from paytrust_sandbox.commands import Act, Action, refused
from paytrust_sandbox.midtrans.cards import CHALLENGE, DENY_BY_BANK, DENY_BY_FRAUD, approved
from paytrust_sandbox.midtrans.channels import enabled
from paytrust_sandbox.midtrans.expiry import snap_expiry
from paytrust_sandbox.midtrans.fees import imposed_fee
from paytrust_sandbox.midtrans.notices import Notices
from paytrust_sandbox.midtrans.orders import Order, Session, Transaction, new_transaction
from paytrust_sandbox.midtrans.state import MidtransState
from paytrust_sandbox.midtrans.times import wib
from paytrust_sandbox.money import asked

BANK_CONFIRMS_AFTER = timedelta(seconds=1)


class Acts:
    """The changes, and the names under which the control API offers them."""

    def __init__(self, state: MidtransState, notices: Notices) -> None:
        self._state = state
        self._notices = notices

    def by_name(self) -> dict[str, Action]:
        return {
            "choose": self.choose,
            "pay": self.pay,
            "deny": self.deny,
            "challenge": self.challenge,
            "approve": self.approve,
            "expire": self.expire,
            "cancel": self.cancel,
            "refund": self.refund,
            "chargeback": self.chargeback,
            "settle": lambda reference, _: self._move(reference, "capture", "settlement"),
            "reverse": lambda reference, _: self._move(reference, "settlement", "deny"),
            "fail": lambda reference, _: self._move(reference, "pending", "failure"),
        }

    def find(self, reference: str) -> Order:
        """Return the order that has this order_id, token or transaction_id."""
        orders = self._state.orders
        named = orders.sessions.get(reference) or orders.transactions.get(reference)
        order = orders.by_id.get(named.order_id if named else reference)
        if order is None or not (order.sessions or order.transactions):
            raise refused(404, f"no order {reference!r}")
        return order

    def choose(self, reference: str, how: Act) -> None:
        """The payer picks a method on the Snap page: only now a transaction exists."""
        self.chosen(self.find(reference), how.channel)

    def pay(self, reference: str, how: Act) -> None:
        """
        Pay an order, choosing a method first where none is. Raises ValueError for a senseless amount or
        channel.
        """
        asked(how.wanted, Decimal(1), "IDR")  # before a method is chosen, which cannot be taken back
        transaction = self._payable(self.find(reference), how.channel)
        amount = (
            None if how.amount is None else int(asked(how.wanted, Decimal(transaction.gross_amount), "IDR"))
        )
        transaction.currency = how.currency or transaction.currency
        self.paid(transaction, amount)

    def deny(self, reference: str, how: Act) -> None:
        """An attempt is refused; on Snap the payer may try again. A challenged card is denied for good."""
        order = self.find(reference)
        if order.transaction and order.transaction.challenged:
            self.moved(order.transaction, "deny", fraud_status="deny")
        else:
            self.moved(self._payable(order, how.channel), "deny")

    def challenge(self, reference: str, how: Act) -> None:
        """The fraud screening cannot decide: the card is charged, and waits for approve or deny."""
        transaction = self._payable(self.find(reference), how.channel or "credit_card")
        transaction.move("capture", at=self._state.clock.now(), fraud_status="challenge")
        self._notices.send(transaction)

    def approve(self, reference: str, _: Act) -> None:
        transaction = self._latest(reference)
        if not transaction.challenged:
            raise refused(409, "transaction is not challenged")
        self.moved(transaction, transaction.status, fraud_status="accept")

    def expire(self, reference: str, _: Act) -> None:
        """
        The time is up. When only the page closes, because no method was chosen, no notification is sent.
        """
        order = self.find(reference)
        if order.transaction is None and order.session:
            order.session.page_expires_at = self._state.clock.now()
        else:
            self._leave(order, "expire")

    def cancel(self, reference: str, _: Act) -> None:
        """The merchant cancels from the dashboard."""
        order = self.find(reference)
        if order.transaction is None and order.session:
            order.session.state = "canceled"
        else:
            self._leave(order, "cancel")

    def refund(self, reference: str, how: Act) -> None:
        """Refund from the dashboard, the whole rest or an amount."""
        transaction = self._latest(reference)
        amount = _part_of(transaction, how)
        if not transaction.may("refund") or amount > transaction.left:
            raise refused(409, f"transaction is {transaction.status}, {transaction.left} left")
        self.refunded(transaction, amount, str(uuid.uuid4()), "dashboard")

    def chargeback(self, reference: str, how: Act) -> None:
        """The payer's bank takes the money back, the whole rest or an amount."""
        transaction = self._latest(reference)
        amount = _part_of(transaction, how)
        status = "partial_chargeback" if amount < transaction.left else "chargeback"
        if not transaction.may(status) or amount > transaction.left:
            raise refused(409, f"transaction is {transaction.status}, {transaction.left} left")
        transaction.charged_back += amount
        self.moved(transaction, status)

    def chosen(self, order: Order, channel: str | None) -> Transaction:
        """Return the pending transaction that choosing *channel* on the Snap page of *order* makes."""
        session, now = order.session, self._state.clock.now()
        if session is None or not session.usable(now) or order.taken:
            raise refused(409, "there is no open Snap page to choose on")
        methods = enabled(session.body.get("enabled_payments"))
        name = channel or methods[0]
        if name not in methods:
            raise ValueError(f"channel {name!r} is not offered; there are {', '.join(methods)}")
        transaction = self._new(session, name)
        self._state.orders.start(transaction)
        if self._state.settings.send_pending:
            self._notices.send(transaction)
        return transaction

    def paid(self, transaction: Transaction, amount: int | None = None) -> None:
        """The money arrives, or the card is refused: test cards decide their own fate."""
        now = self._state.clock.now()
        if transaction.payment_type == "credit_card":
            self._card_presented(transaction)
        else:
            transaction.move("settlement", at=now)
        if transaction.was_paid and (transaction.payment_type == "bank_transfer" or amount is not None):
            transaction.payments = [
                {"paid_at": wib(now), "amount": f"{amount or transaction.gross_amount}.00"}
            ]
        self._notices.send(transaction)

    def moved(self, transaction: Transaction, status: str, fraud_status: str | None = None) -> None:
        transaction.move(status, at=self._state.clock.now(), fraud_status=fraud_status)
        self._notices.send(transaction)

    def refunded(self, transaction: Transaction, amount: int, key: str, reason: str) -> None:
        """Book a refund. It is notified twice: when it is asked for, and when the bank has confirmed it."""
        now = self._state.clock.now()
        refund = {
            "refund_chargeback_id": secrets.randbelow(10**6),
            "refund_amount": f"{amount}.00",
            "created_at": wib(now),
            "reason": reason,
            "refund_key": key,
            "refund_method": "online",
        }
        transaction.refunds.append(refund)
        transaction.move(
            "refund" if transaction.refunded >= transaction.gross_amount else "partial_refund", at=now
        )
        self._notices.send(transaction)
        refund["bank_confirmed_at"] = wib(now + BANK_CONFIRMS_AFTER)
        self._notices.send(transaction)

    def _move(self, reference: str, source: str, target: str) -> None:
        transaction = self._latest(reference)
        if transaction.status != source or transaction.challenged:
            raise refused(409, f"transaction is {transaction.status}")
        self.moved(transaction, target)

    def _leave(self, order: Order, target: str) -> None:
        transaction = order.transaction
        if transaction is None or not transaction.may(target):
            raise refused(409, f"transaction is {transaction.status if transaction else 'not there'}")
        self.moved(transaction, target)

    def _latest(self, reference: str) -> Transaction:
        transaction = self.find(reference).transaction
        if transaction is None:
            raise refused(409, "no payment method has been chosen yet")
        return transaction

    def _card_presented(self, transaction: Transaction) -> None:
        now, token = self._state.clock.now(), (transaction.body.get("credit_card") or {}).get("token_id")
        outcome = self._state.cards.outcome(token)
        transaction.shown = approved(self._state.cards.masked(token))
        if outcome in (DENY_BY_BANK, DENY_BY_FRAUD):
            transaction.move("deny", at=now, fraud_status="accept" if outcome == DENY_BY_BANK else "deny")
            return
        held = (transaction.body.get("credit_card") or {}).get("type") == "authorize"
        transaction.move(
            "authorize" if held else "capture",
            at=now,
            fraud_status="challenge" if outcome == CHALLENGE else "accept",
        )

    def _payable(self, order: Order, channel: str | None) -> Transaction:
        latest = order.transaction
        if latest is None or latest.status != "pending":
            return self.chosen(order, channel)
        if channel not in {None, latest.channel}:
            raise ValueError(f"the payer has chosen {latest.channel!r} already")
        return latest

    def _new(self, session: Session, channel: str) -> Transaction:
        now = self._state.clock.now()
        transaction = new_transaction(
            order_id=session.order_id,
            gross_amount=session.gross_amount,
            channel=channel,
            body=session.body,
            recipients=session.recipients,
            at=now,
            expires_at=snap_expiry(session.body, channel, now),
            base_url=self._state.base_url,
            imposed_fee=imposed_fee(
                session.gross_amount, channel, session.body, by_default=self._state.settings.impose_fee
            ),
        )
        transaction.token = session.token
        return transaction


def _part_of(transaction: Transaction, how: Act) -> int:
    """Return the amount that *how* names, by default what is left."""
    return (
        transaction.left
        if how.amount is None
        else int(asked(how.wanted, Decimal(transaction.gross_amount), "IDR"))
    )
