"""The transfers and the status that an issued invoice and a receipt lead to."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from paytrust.accounts.model import Account
from paytrust.books import model as books
from paytrust.books.model import BoundedAccount, Cause, Transfer
from paytrust.contract.gateways import GatewayPayment
from paytrust.errors import PayTrustError, Unprocessable
from paytrust.invoices.model import Invoice, InvoiceStatus
from paytrust.money import Money
from paytrust.payments.model.asking import COLLECTING
from paytrust.payments.model.attempt import ReceiptFlag

FLAGGED: Final = {
    InvoiceStatus.EXPIRED: ReceiptFlag.LATE,
    InvoiceStatus.FAILED: ReceiptFlag.LATE,
    InvoiceStatus.CANCELLED: ReceiptFlag.AFTER_CANCEL,
    InvoiceStatus.PAID: ReceiptFlag.AFTER_PAID,
}
"""Money that comes in one of these is kept, and flagged for a person to look at."""


class CurrencyMismatch(PayTrustError):
    """Money came in another currency than the invoice's: nothing is applied."""

    code = "currency_mismatch"
    status = 409
    title = "The currencies differ"


class PaymentReversed(PayTrustError):
    """
    A gateway takes back a payment that is in our books: a person has to look, and the books keep what
    happened.
    """

    code = "payment_reversed"
    status = 409
    title = "The gateway reversed a payment"


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of applying a gateway's answer about the attempt *reference*."""

    tenant_id: UUID
    account: Account
    reference: str
    changed: bool
    duplicates: tuple[GatewayPayment, ...] = ()
    """Can still be paid, although another payment of this reference was."""
    refused: CurrencyMismatch | Unprocessable | None = None
    """Why a payment was not applied; the others were."""

    def check(self) -> None:
        """Raise what was refused, once everything else is done."""
        if self.refused is not None:
            raise self.refused


def issue(invoice: Invoice) -> tuple[list[BoundedAccount], list[Transfer]]:
    """The transfers of an issued invoice: each installment owes its part of revenue, tax and fee."""
    accounts: list[BoundedAccount] = []
    transfers: list[Transfer] = []
    for installment in invoice.installments:
        accounts.append(BoundedAccount(invoice.id, installment.number, invoice.currency))
        net = installment.amount - installment.tax - installment.fee
        for credit, amount in (
            (books.REVENUE, net),
            (books.TAX, installment.tax),
            (books.FEE, installment.fee),
        ):
            if amount.minor:
                transfers.append(
                    Transfer(
                        cause=Cause.ISSUE,
                        cause_id=invoice.id,
                        leg=len(transfers),
                        invoice_id=invoice.id,
                        debit=books.receivable(invoice.id, installment.number),
                        credit=credit,
                        amount=amount,
                    )
                )
    assert sum(t.amount.minor for t in transfers) == invoice.total.minor
    return accounts, transfers


class Application(msgspec.Struct, frozen=True):
    """
    What one receipt does: the transfers it posts, the installments it closes, and the invoice's new status.
    """

    accounts: list[BoundedAccount]
    transfers: list[Transfer]
    closed: list[int]
    status: InvoiceStatus


def apply(invoice: Invoice, amount: Money, *, receipt_id: UUID) -> Application:
    """
    Spread *amount* over the installments, lowest first; what is left is overpayment (FR-065).

    Money for a cancelled or a paid invoice is kept as overpayment. The books get exactly *amount*.
    """
    rest = amount
    credited: dict[int, Money] = {}
    if invoice.status is not InvoiceStatus.CANCELLED:
        for installment in invoice.installments:
            taken = min(rest.minor, installment.due.minor)
            if taken:
                credited[installment.number] = Money(taken, amount.currency)
                rest -= credited[installment.number]
    transfers = [
        Transfer(
            cause=Cause.RECEIPT,
            cause_id=receipt_id,
            leg=leg,
            invoice_id=invoice.id,
            debit=books.clearing(invoice.account_id),
            credit=credit,
            amount=share,
        )
        for leg, (credit, share) in enumerate(
            [
                *((books.receivable(invoice.id, n), share) for n, share in credited.items()),
                (books.overpaid(invoice.id), rest),
            ]
        )
        if share.minor
    ]
    assert sum(t.amount.minor for t in transfers) == amount.minor
    accounts = [BoundedAccount(invoice.id, None, invoice.currency)] if rest.minor else []
    closed = [
        installment.number
        for installment in invoice.installments
        if installment.number in credited and credited[installment.number] == installment.due
    ]
    owed = sum(installment.due.minor for installment in invoice.installments) - sum(
        share.minor for share in credited.values()
    )
    return Application(
        accounts, transfers, closed, _status_after(invoice, owed=owed, credited=bool(credited))
    )


def _status_after(invoice: Invoice, *, owed: int, credited: bool) -> InvoiceStatus:
    if credited and owed == 0:
        return InvoiceStatus.PAID
    return InvoiceStatus.PARTIALLY_PAID if credited and invoice.status in COLLECTING else invoice.status
