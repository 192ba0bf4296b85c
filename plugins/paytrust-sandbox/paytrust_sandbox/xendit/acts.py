"""
What befalls Xendit invoices: payers pay, time passes, banks settle. Each change announces itself by webhook.
"""

from datetime import timedelta

from paytrust_sandbox.commands import Act, Action, refused
from paytrust_sandbox.money import asked
from paytrust_sandbox.xendit.channels import REFUNDABLE
from paytrust_sandbox.xendit.disputes import DISPUTABLE, Dispute
from paytrust_sandbox.xendit.invoices import Invoice, stamp
from paytrust_sandbox.xendit.notices import Notices
from paytrust_sandbox.xendit.refunds import Refund
from paytrust_sandbox.xendit.state import XenditState

REFUND_TAKES = timedelta(seconds=0.2)


class Acts:
    """The changes, and the names under which the control API offers them."""

    def __init__(self, state: XenditState, notices: Notices) -> None:
        self._state = state
        self._notices = notices

    def by_name(self) -> dict[str, Action]:
        return {
            "pay": self.pay,
            "expire": self.expire,
            "settle": self.settle,
            "refund": self.refund,
            "refund_succeed": self.refund_succeed,
            "refund_fail": self.refund_fail,
            "dispute": self.dispute,
            "dispute_win": lambda reference, _: self._end_dispute(reference, "WON"),
            "dispute_lose": lambda reference, _: self._end_dispute(reference, "LOST"),
        }

    def find(self, reference: str) -> Invoice:
        """Return the invoice with this id, or the newest with this external_id."""
        invoices = self._state.invoices
        same = invoices.under(reference)
        invoice = invoices.by_id.get(reference) or (same[-1] if same else None)
        if invoice is None:
            raise refused(404, f"no invoice {reference!r}")
        return invoice

    def pay(self, reference: str, how: Act) -> None:
        """
        Pay an unpaid invoice, expired ones included: transfers arrive late. Raises ValueError for a senseless
        amount or channel.
        """
        invoice = self.find(reference)
        was = invoice.status
        if was not in ("PENDING", "EXPIRED"):
            raise refused(409, f"invoice is {was}")
        amount = asked(how.wanted, invoice.amount, invoice.body["currency"])
        invoice.pay(
            at=self._state.clock.now(),
            amount=amount,
            currency=how.currency or invoice.currency,
            channel=how.channel,
        )
        self._announce(invoice)
        if was == "EXPIRED" and how.leave_expired:
            invoice.status = was

    def expire(self, reference: str, _: Act) -> None:
        invoice = self.find(reference)
        if invoice.status != "PENDING":
            raise refused(409, f"invoice is {invoice.status}")
        self.let_expire(invoice)

    def let_expire(self, invoice: Invoice) -> None:
        invoice.move("EXPIRED", self._state.clock.now())
        if self._state.settings.send_expired:
            self._announce(invoice)

    def settle(self, reference: str, _: Act) -> None:
        """The money reached the balance. No webhook: none is documented."""
        invoice = self.find(reference)
        if invoice.status != "PAID":
            raise refused(409, f"invoice is {invoice.status}")
        invoice.move("SETTLED", self._state.clock.now())

    def refund(self, reference: str, how: Act) -> None:
        """
        Refund from the dashboard, the whole rest or an amount. It ends as one that was asked for by API does.
        """
        invoice = self.find(reference)
        left = self._state.refunds.left(invoice)
        amount = (
            left
            if how.amount is None
            else asked(how.wanted, invoice.paid_amount or invoice.amount, invoice.currency)
        )
        if not 0 < amount <= left or invoice.payment["payment_method"] not in REFUNDABLE:
            raise refused(
                409,
                f"invoice is {invoice.status}, {left} left, refundable are {', '.join(sorted(REFUNDABLE))}",
            )
        self._state.refunds.open(invoice, amount, reason="REQUESTED_BY_CUSTOMER", silent=how.silent)

    def refund_succeed(self, reference: str, _: Act) -> None:
        for refund in self._pending(reference):
            self._end_refund(refund, "SUCCEEDED")

    def refund_fail(self, reference: str, _: Act) -> None:
        for refund in self._pending(reference):
            self._end_refund(refund, "FAILED", "REFUND_FAILED")

    def settle_refunds_due(self) -> None:
        before = self._state.clock.now() - REFUND_TAKES
        for refund in self._state.refunds.pending():
            if refund.created_at <= before:
                self._end_refund(refund, "SUCCEEDED")

    def dispute(self, reference: str, how: Act) -> None:
        """The payer's bank asks for the payment back, or for an amount of it. The merchant has to answer."""
        invoice = self.find(reference)
        if invoice.paid_amount is None or invoice.payment["payment_method"] not in DISPUTABLE:
            raise refused(409, f"invoice is {invoice.status}, disputable are {', '.join(sorted(DISPUTABLE))}")
        amount = asked(how.wanted, invoice.paid_amount, invoice.currency)
        self._announce_dispute(self._state.disputes.open(invoice, amount, self._state.clock.now()))

    def _end_dispute(self, reference: str, status: str) -> None:
        disputes = self._state.disputes.of(self.find(reference))
        open_ = [dispute for dispute in disputes if dispute.status == "ACTION_REQUIRED"]
        if not open_:
            raise refused(409, "no dispute is open")
        for dispute in open_:
            dispute.end(status, self._state.clock.now())
            self._announce_dispute(dispute)

    def _announce_dispute(self, dispute: Dispute) -> None:
        event = f"dispute.{dispute.status.lower()}"
        self._notices.send(event, dispute.invoice.external_id, {"event": event, **dispute.seen()})

    def _pending(self, reference: str) -> list[Refund]:
        invoice = self.find(reference)
        pending = [refund for refund in self._state.refunds.of(invoice) if refund.status == "PENDING"]
        if not pending:
            raise refused(409, "no refund is pending")
        return pending

    def _announce(self, invoice: Invoice) -> None:
        self._notices.send(f"invoice.{invoice.status.lower()}", invoice.external_id, invoice.announced())

    def _end_refund(self, refund: Refund, status: str, failure_code: str | None = None) -> None:
        now = self._state.clock.now()
        refund.move(status, now, failure_code)
        if refund.silent:
            return
        event = f"refund.{status.lower()}"
        envelope: dict[str, object] = {
            "event": event,
            "business_id": refund.invoice.user_id,
            "created": stamp(now),
        }
        body = {**envelope, "data": refund.seen()}
        nested = {**envelope, "data": body} if self._state.settings.nest_refund_webhook else body
        self._notices.send(event, refund.invoice.external_id, nested)
