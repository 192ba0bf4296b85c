from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.books import service as books
from paytrust.contract.gateways import GatewayPayment, ListsPayments, PaymentStatus
from paytrust.errors import (
    Busy,
    Conflict,
    GatewayError,
    GatewayRejected,
    GatewayUnavailable,
    OutcomeUnknown,
    PayTrustError,
    Unprocessable,
    UnreadableWebhook,
)
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.invoices import service as invoices
from paytrust.invoices.model import (
    Installment,
    Invoice,
    InvoiceStatus,
    TimelineEntry,
    move,
    payment_reference,
)
from paytrust.money import Money
from paytrust.payments import model, store
from paytrust.payments.model import (
    AmountNotCollectable,
    Attempt,
    AttemptStatus,
    CurrencyMismatch,
    PaymentReversed,
)
from paytrust.plugins.calls import Bulkhead, GatewayClient

ABANDONED_AFTER: Final = timedelta(seconds=60)
"""An attempt that has been "creating" for longer lost the process that was creating it."""
NEWS_AGAIN: Final = timedelta(seconds=60)
TIMELINE_NOTES: Final = 1_000

FAILED_AS: Final = {
    GatewayRejected: AttemptStatus.REJECTED,
    GatewayUnavailable: AttemptStatus.UNAVAILABLE,
    OutcomeUnknown: AttemptStatus.UNKNOWN,
}

log = logs.get_logger("paytrust.payments")


class Payments:
    """
    Open payments at gateways and apply the money that comes. No transaction is open while a gateway is asked.
    """

    def __init__(self, db: Database, gateways: Accounts, *, calls: Bulkhead, insecure: bool) -> None:
        self._db = db
        self._gateways = gateways
        self._calls = calls
        self._insecure = insecure

    def _at(self, account: Account, tenant_id: UUID | None) -> GatewayClient:
        """The account's gateway, for calls on behalf of this tenant; None: of all that share it."""
        return self._calls.guard(self._gateways.gateway(account), account_id=account.id, tenant_id=tenant_id)

    # --- opening -----------------------------------------------------------------------------------------------------

    async def open_first(
        self, invoice: Invoice, account: Account, *, payment_id: UUID, now: datetime
    ) -> Invoice:
        """
        Open the payment whose attempt was written with the invoice. Raises a `GatewayError` after noting it.
        """
        first = invoice.installments[0]
        return await self._create(invoice, account, _new_attempt(invoice, first, 1, now, payment_id), now)

    async def ensure_open(self, tenant_id: UUID, invoice_id: UUID, *, number: int | None = None) -> Invoice:
        """
        Return the invoice with a live payment page for what is due next, making one when there is none.

        An attempt with an unknown outcome is looked up at the gateway first, and what is found is adopted.
        *number* names the installment the caller has in mind: `OutOfSequence` when another one is due. Raises
        `NothingDue`, `AmountNotCollectable`, `Busy` or a `GatewayError`.
        """
        invoice, account, attempt, now = await self._db.run(
            lambda tx: self._claim_attempt(tx, tenant_id, invoice_id, number), tenant=tenant_id
        )
        if not model.asks_for_what_is_due(attempt, invoice):
            await self._expire_attempt(account, attempt)
            return await self.ensure_open(tenant_id, invoice_id, number=number)
        if attempt.status is AttemptStatus.OPEN:
            return invoice
        if attempt.status is AttemptStatus.UNAVAILABLE or attempt.created_at == now:
            return await self._create(invoice, account, attempt, now)
        return await self._resolve(invoice, account, attempt) or await self._create(
            invoice, account, attempt, now
        )

    async def resolve_unknown(self, account: Account, attempt: Attempt) -> None:
        """
        Ask the gateway what became of an attempt whose outcome is not known, and adopt what it has; nothing
        new is made.

        Raises `Busy` while it is being made, or a `GatewayError`.
        """
        invoice = await self._db.run(lambda tx: self._reclaim(tx, attempt), tenant=attempt.tenant_id)
        if invoice is not None and await self._resolve(invoice, account, attempt) is None:
            await self._note_failure(attempt, OutcomeUnknown("the gateway does not know it (yet)"))

    async def _reclaim(self, tx: Transaction, attempt: Attempt) -> Invoice | None:
        attempt, invoice = await _locked(tx, attempt.tenant_id, attempt.account_id, attempt.reference)
        if (
            attempt.status is AttemptStatus.CREATING
            and attempt.updated_at > await tx.fetchval("SELECT now()") - ABANDONED_AFTER
        ):
            raise Busy("another request is opening this payment; try again in a moment")
        if attempt.status not in {AttemptStatus.CREATING, AttemptStatus.UNKNOWN}:
            return None
        await store.reclaim(tx, attempt)
        return invoice

    async def _claim_attempt(
        self, tx: Transaction, tenant_id: UUID, invoice_id: UUID, number: int | None
    ) -> tuple[Invoice, Account, Attempt, datetime]:
        """
        Claim the right to work on the installment due next: its attempt comes back as it was before the
        claim.
        """
        invoice = await invoices.lock(tx, tenant_id, invoice_id)
        found = await accounts.find(tx, invoice.account_id)
        assert found is not None, "the foreign key keeps the account"
        account, now = found
        installment = model.check_payable(invoice, now, number=number)
        newest = await store.latest(tx, tenant_id, invoice_id, installment.number)
        if newest is None:
            attempt = self._next_attempt(invoice, account, installment, 1, now)
            await store.insert(tx, attempt)
            return invoice, account, attempt, now
        attempt = newest[0]
        if attempt.status is AttemptStatus.CREATING and attempt.updated_at > now - ABANDONED_AFTER:
            raise Busy("another request is opening this payment; try again in a moment")
        if attempt.status not in model.LIVE:
            attempt = self._next_attempt(invoice, account, installment, attempt.attempt + 1, now)
            await store.insert(tx, attempt)
        elif attempt.status is not AttemptStatus.OPEN and model.asks_for_what_is_due(attempt, invoice):
            await store.reclaim(tx, attempt)
        return invoice, account, attempt, now

    def _next_attempt(
        self, invoice: Invoice, account: Account, installment: Installment, number: int, now: datetime
    ) -> Attempt:
        objection = self._gateways.limits(account, invoice.currency).objection(installment.due)
        if objection is not None:
            raise AmountNotCollectable(
                f"what is due on installment {installment.number} cannot be collected: {objection}"
            )
        return _new_attempt(invoice, installment, number, now, new_id())

    async def _create(self, invoice: Invoice, account: Account, attempt: Attempt, now: datetime) -> Invoice:
        installment = next(
            installment
            for installment in invoice.installments
            if installment.number == attempt.installment_number
        )
        try:
            hosts = self._gateways.page_hosts(account)
            request = model.request_for(
                invoice,
                reference=attempt.reference,
                installment=installment,
                amount=attempt.amount,
                webhook_url=self._gateways.webhook_url(account),
                now=now,
            )
            opened = await self._at(account, invoice.tenant_id).create_payment(request)
            self._check(attempt, opened, hosts)
        except GatewayError as exc:
            await self._note_failure(attempt, exc)
            raise
        return await self._db.run(
            lambda tx: self._opened(tx, invoice, attempt, opened), tenant=invoice.tenant_id
        )

    async def _resolve(self, invoice: Invoice, account: Account, attempt: Attempt) -> Invoice | None:
        """
        Ask the gateway what became of an attempt: found one, adopt it; several, keep a paid one or the
        oldest; None when it knows none.
        """
        try:
            gateway = self._at(account, invoice.tenant_id)
            found = await gateway.find_payments(attempt.reference)
            live = [
                payment for payment in found if payment.status in {PaymentStatus.OPEN, PaymentStatus.PAID}
            ]
            live.sort(key=lambda payment: payment.status is not PaymentStatus.PAID)
            for duplicate_pages in live[1:]:
                if duplicate_pages.status is PaymentStatus.OPEN:
                    await gateway.expire_payment(duplicate_pages)
            if live:
                self._check(attempt, live[0], self._gateways.page_hosts(account))
        except GatewayError as exc:
            await self._note_failure(attempt, OutcomeUnknown(f"still unknown: {exc.detail}"))
            raise
        if not found:
            return None
        if not live:
            await self.close(invoice.tenant_id, attempt.account_id, attempt.reference)
            raise Busy("the gateway had closed the earlier attempt; ask again for a new payment page")
        return await self._adopt(invoice, attempt, live)

    async def _adopt(self, invoice: Invoice, attempt: Attempt, live: Sequence[GatewayPayment]) -> Invoice:
        log.info("payment adopted", invoice_id=str(invoice.id), reference=attempt.reference, found=len(live))
        if live[0].status is PaymentStatus.OPEN:
            return await self._db.run(
                lambda tx: self._opened(tx, invoice, attempt, live[0]), tenant=invoice.tenant_id
            )
        _, refused = await self._record_all(invoice.tenant_id, attempt.account_id, live)
        if refused is not None:
            raise refused
        async with self._db.transaction(tenant=invoice.tenant_id, readonly=True) as tx:
            found = await invoices.get(tx, invoice.tenant_id, invoice.id)
        return (
            await self.ensure_open(invoice.tenant_id, invoice.id)
            if found.status is InvoiceStatus.PARTIALLY_PAID
            else found
        )

    async def _opened(
        self, tx: Transaction, invoice: Invoice, attempt: Attempt, payment: GatewayPayment
    ) -> Invoice:
        """Note the payment page; the first one issues the invoice and posts it to the books."""
        # The invoice's row before the payment's, as everywhere: a webhook may be at it at this moment.
        initiated_at = await self._issue(tx, invoice)
        if not await store.opened(tx, attempt, payment):
            return await invoices.get(tx, invoice.tenant_id, invoice.id)  # a webhook was quicker
        return msgspec.structs.replace(
            invoice,
            status=InvoiceStatus.PENDING if initiated_at else invoice.status,
            payment_initiated_at=initiated_at or invoice.payment_initiated_at,
            payment_url=payment.payment_url,
            instructions=dict(payment.instructions) if payment.instructions else None,
        )

    async def _issue(self, tx: Transaction, invoice: Invoice) -> datetime | None:
        initiated_at = await invoices.initiate(tx, invoice.tenant_id, invoice.id)
        if initiated_at is not None:
            await books.post(tx, invoice.tenant_id, *model.issue(invoice))
        return initiated_at

    async def _note_failure(self, attempt: Attempt, exc: GatewayError) -> None:
        status = FAILED_AS.get(type(exc), AttemptStatus.UNKNOWN)
        async with self._db.transaction(tenant=attempt.tenant_id) as tx:
            if not await store.finish_attempt(tx, attempt, status, code=exc.code, detail=exc.detail):
                return
            await invoices.note(
                tx,
                attempt.tenant_id,
                attempt.invoice_id,
                "payment_failed",
                exc.detail,
                details=_named(attempt) | {"status": status, "code": exc.code},
            )

    def _check(self, attempt: Attempt, payment: GatewayPayment, hosts: frozenset[str]) -> None:
        """A payable page for something else than we asked must never reach a payer."""
        if payment.reference != attempt.reference or payment.amount != attempt.amount:
            raise OutcomeUnknown(
                f"asked for {attempt.amount} as {attempt.reference}, got {payment.amount} as {payment.reference}"
            )
        try:
            model.check_page(payment, hosts=hosts, insecure=self._insecure)
        except ValueError as exc:
            raise OutcomeUnknown(
                f"the gateway answered with an address that no payer should be sent to: {exc}"
            ) from exc

    # --- closing -----------------------------------------------------------------------------------------------------

    async def expire_open_attempts(
        self, tenant_id: UUID, invoice_id: UUID, *, stale_only: bool = False
    ) -> None:
        """
        Make every live attempt of an invoice unpayable at its gateway; what was paid meanwhile is applied
        first.

        With *stale_only* just those that ask for something else than what is due next.
        Raises `Busy` while one is being opened, or a `GatewayError`: then something may still be payable.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            found = await accounts.find(tx, invoice.account_id)
            assert found is not None, "the foreign key keeps the account"
            attempts = [
                attempt
                for attempt in await store.of_invoice(tx, tenant_id, invoice_id)
                if attempt.status in model.LIVE
            ]
        if stale_only:
            attempts = [attempt for attempt in attempts if not model.asks_for_what_is_due(attempt, invoice)]
        account, now = found
        for attempt in attempts:
            if attempt.status is AttemptStatus.CREATING and attempt.updated_at > now - ABANDONED_AFTER:
                raise Busy("another request is opening this payment; try again in a moment")
            await self._expire_attempt(account, attempt)

    async def _expire_attempt(self, account: Account, attempt: Attempt) -> None:
        gateway = self._at(account, attempt.tenant_id)
        found = await gateway.find_payments(attempt.reference)
        handles = {
            payment.gateway_payment_id: payment for payment in found if payment.status is PaymentStatus.OPEN
        }
        paid = [payment for payment in found if payment.status is PaymentStatus.PAID]
        if not paid and attempt.gateway_payment_id is not None:
            handles[attempt.gateway_payment_id] = model.as_created(attempt, attempt.gateway_payment_id)
        try:
            for payment in handles.values():
                await gateway.expire_payment(payment)
        except GatewayRejected:
            # It may have been paid since we looked.
            found = await gateway.find_payments(attempt.reference)
            paid = [payment for payment in found if payment.status is PaymentStatus.PAID]
            if not paid:
                raise
        except OutcomeUnknown as exc:
            await self._mark_unknown(attempt, exc)
            raise
        await self._record_all(
            attempt.tenant_id, attempt.account_id, paid
        )  # a refusal is noted, and nobody can pay that page again
        if not paid:
            await self.close(attempt.tenant_id, attempt.account_id, attempt.reference)

    async def _mark_unknown(self, attempt: Attempt, exc: OutcomeUnknown) -> None:
        """Its page may be closed by now, so it is shown to nobody before the gateway was asked."""
        async with self._db.transaction(tenant=attempt.tenant_id) as tx:
            await store.mark_unknown(tx, attempt, code=exc.code, detail=exc.detail)
            details = _named(attempt) | {"status": AttemptStatus.UNKNOWN, "code": exc.code}
            await invoices.note(
                tx, attempt.tenant_id, attempt.invoice_id, "payment_failed", exc.detail, details=details
            )

    # --- what the gateway says afterwards ------------------------------------------------------------------------------

    async def tenant_of(self, account_id: UUID, reference: str) -> UUID | None:
        """Whose attempt a reference names; None when we never made it."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.tenant_of_reference(tx, account_id, reference)

    async def confirm(self, tenant_id: UUID, account: Account, reference: str) -> bool:
        """
        Ask the gateway about *reference* and apply what it answers; True when anything changed.

        Raises `GatewayUnavailable` also when the gateway does not know the reference (yet).
        """
        found = await self.find(account, reference, tenant_id)
        if not found:
            raise GatewayUnavailable(f"the gateway does not know {reference} (yet)")
        return await self.apply_found(tenant_id, account, reference, found)

    async def check_soon(self, tenant_id: UUID, account_id: UUID, reference: str) -> None:
        """
        Have the gateway asked again within a minute: a webhook told of news that the gateway does not tell
        when asked, yet or ever.
        """
        async with self._db.transaction(tenant=tenant_id) as tx:
            await store.check_soon(tx, tenant_id, account_id, reference, within=NEWS_AGAIN)

    async def find(self, account: Account, reference: str, tenant_id: UUID) -> Sequence[GatewayPayment]:
        """
        What the gateway knows under *reference*, oldest first. Raises `UnreadableWebhook` for a status nobody
        knows.
        """
        return await self._at(account, tenant_id).find_payments(reference, unreadable=UnreadableWebhook)

    async def expire(self, account: Account, payment: GatewayPayment, tenant_id: UUID) -> None:
        """Make one page unpayable. Raises `GatewayRejected` when it has been paid meanwhile."""
        await self._at(account, tenant_id).expire_payment(payment)

    def listed(self, account: Account, since: datetime, until: datetime) -> AsyncIterator[GatewayPayment]:
        """What the gateway lists of a period; see `lists`."""
        return self._at(account, account.tenant_id).list_payments(since, until)

    def lists(self, account: Account) -> bool:
        """Whether the account's gateway can list its payments."""
        return isinstance(self._gateways.gateway(account), ListsPayments)

    async def apply_found(
        self, tenant_id: UUID, account: Account, reference: str, found: Sequence[GatewayPayment]
    ) -> bool:
        """Apply what the gateway answered about *reference*; True when anything changed."""
        changed, refused = await self._record_all(tenant_id, account.id, found)
        if all(payment.status in {PaymentStatus.EXPIRED, PaymentStatus.FAILED} for payment in found):
            changed |= await self._end(tenant_id, account, reference, found)
        if changed:
            await self._go_on(tenant_id, account.id, reference)
        await self._close_twins(tenant_id, account, found)
        if refused is not None:
            raise refused
        return changed

    async def _end(
        self, tenant_id: UUID, account: Account, reference: str, found: Sequence[GatewayPayment]
    ) -> bool:
        """
        Close an attempt of which nothing found can be paid; its page too, where that outlives a transaction
        (Midtrans).
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            attempt = await store.by_reference(tx, account.id, reference)
        assert attempt is not None, "callers found the tenant by this reference"
        known = {None, *(payment.gateway_payment_id for payment in found)}
        if attempt.status in model.LIVE and attempt.gateway_payment_id not in known:
            await self._expire_attempt(account, attempt)
            return True
        return await self.close(tenant_id, account.id, reference)

    async def _close_twins(self, tenant_id: UUID, account: Account, found: Sequence[GatewayPayment]) -> None:
        """Where one of several payments with one reference was paid, nobody pays another."""
        if all(payment.status is not PaymentStatus.PAID for payment in found):
            return
        for twin in [payment for payment in found if payment.status is PaymentStatus.OPEN]:
            try:
                await self.expire(account, twin, tenant_id)
            except GatewayRejected as exc:
                log.warning(
                    "a twin of a paid payment stays open", reference=twin.reference, reason=exc.detail
                )  # unless paid meanwhile

    async def _go_on(self, tenant_id: UUID, account_id: UUID, reference: str) -> None:
        """
        Close the pages that ask for something else than what is due next by now, and open one for that,
        without anyone asking.

        Where that fails the page is made on demand.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            attempt = await store.by_reference(tx, account_id, reference)
            assert attempt is not None
            invoice = await invoices.get(tx, tenant_id, attempt.invoice_id)
        try:
            await self.expire_open_attempts(tenant_id, invoice.id, stale_only=True)
            if invoice.status is InvoiceStatus.PARTIALLY_PAID:
                await self.ensure_open(tenant_id, invoice.id)
        except (GatewayError, Conflict) as exc:
            log.warning("the next payment page was not made", invoice_id=str(invoice.id), reason=exc.detail)

    async def _record_all(
        self, tenant_id: UUID, account_id: UUID, found: Sequence[GatewayPayment]
    ) -> tuple[bool, CurrencyMismatch | Unprocessable | None]:
        """
        Apply what was paid of *found*: whether anything changed, and the last refusal. It keeps nothing else
        from being applied.
        """
        changed, refused = False, None
        for payment in found:
            if payment.status is PaymentStatus.PAID:
                try:
                    changed |= await self.record(tenant_id, account_id, payment)
                except (CurrencyMismatch, Unprocessable) as exc:
                    refused = exc
        return changed, refused

    async def record(self, tenant_id: UUID, account_id: UUID, payment: GatewayPayment) -> bool:
        """
        Apply one confirmed payment; False when it is already in the books. Harmless when the gateway tells us
        twice.
        """
        try:
            return await self._db.run(
                lambda tx: self._record(tx, tenant_id, account_id, payment), tenant=tenant_id
            )
        except (CurrencyMismatch, Unprocessable) as exc:
            await self._note_refusal(tenant_id, account_id, payment.reference, exc)
            raise

    async def _note_refusal(
        self, tenant_id: UUID, account_id: UUID, reference: str, exc: PayTrustError
    ) -> None:
        async with self._db.transaction(tenant=tenant_id) as tx:
            attempt = await store.by_reference(tx, account_id, reference)
            assert attempt is not None, "callers found the tenant by this reference"
            details = _named(attempt) | {"code": exc.code}
            once_as = uuid5(attempt.id, exc.code)
            if attempt.status in model.LIVE:
                await store.finish_attempt(tx, attempt, AttemptStatus.EXPIRED)  # its page is used up
            await invoices.note(
                tx,
                tenant_id,
                attempt.invoice_id,
                "payment_refused",
                exc.detail,
                details=details,
                once_as=once_as,
            )

    async def _record(
        self, tx: Transaction, tenant_id: UUID, account_id: UUID, payment: GatewayPayment
    ) -> bool:
        attempt, invoice = await _locked(tx, tenant_id, account_id, payment.reference)
        paid = payment.paid
        assert paid is not None, "only a paid payment is recorded"
        if paid.currency != invoice.currency:
            raise CurrencyMismatch(
                f"{paid} was paid for an invoice in {invoice.currency}; nothing was applied"
            )
        if not model.asked_as(payment, attempt.amount):
            # What was paid may be more or less; what was asked for may not. So it is not this payment that
            # the gateway tells of.
            raise GatewayUnavailable(
                f"asked for {attempt.amount} as {attempt.reference}, and was told of {payment.amount}; nothing was applied"
            )
        if paid.minor == 0:
            raise Unprocessable("the gateway reports a payment of nothing")
        receipt_id = new_id()
        flag = model.FLAGGED.get(invoice.status)
        if not await store.insert_receipt(tx, attempt, payment, paid, receipt_id=receipt_id, flag=flag):
            return False
        if invoice.status is InvoiceStatus.DRAFT and await self._issue(tx, invoice):
            invoice = move(
                invoice, InvoiceStatus.PENDING
            )  # the webhook was quicker than the gateway's answer to us
        applied = model.apply(invoice, paid, receipt_id=receipt_id)
        await books.post(tx, tenant_id, applied.accounts, applied.transfers)
        await invoices.close_installments(tx, invoice, applied.closed)
        await store.finish_attempt(tx, attempt, AttemptStatus.PAID)
        await invoices.save(tx, move(invoice, applied.status), was=invoice.status, reason=f"{paid} came in")
        if flag is not None:
            log.warning("money needs a look", invoice_id=str(invoice.id), amount=str(paid), flag=flag)
        log.info("payment applied", invoice_id=str(invoice.id), amount=str(paid), status=applied.status)
        return True

    async def close(self, tenant_id: UUID, account_id: UUID, reference: str) -> bool:
        """Note that an attempt can no longer be paid; the invoice expires with it when its own time is up."""
        try:
            return await self._db.run(
                lambda tx: self._close(tx, tenant_id, account_id, reference), tenant=tenant_id
            )
        except PaymentReversed as exc:
            await self._note_refusal(tenant_id, account_id, reference, exc)
            raise

    async def _close(self, tx: Transaction, tenant_id: UUID, account_id: UUID, reference: str) -> bool:
        attempt, invoice = await _locked(tx, tenant_id, account_id, reference)
        if attempt.status is AttemptStatus.PAID:
            raise PaymentReversed(
                f"{reference} is paid in our books and no longer at the gateway; nothing was changed"
            )
        if attempt.status is AttemptStatus.EXPIRED:
            return False
        await store.finish_attempt(tx, attempt, AttemptStatus.EXPIRED)
        await invoices.note(
            tx,
            tenant_id,
            invoice.id,
            "payment_closed",
            "can no longer be paid at the gateway",
            details=_named(attempt),
        )
        now = await tx.fetchval("SELECT now()")
        if (
            invoice.status in {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}
            and invoice.expires_at <= now + model.EXPIRY_SLACK
        ):
            await invoices.save(
                tx, move(invoice, InvoiceStatus.EXPIRED), was=invoice.status, reason="its time was up"
            )
        return True

    async def of_invoice(self, tenant_id: UUID, invoice_id: UUID) -> list[Attempt]:
        """Every attempt to collect an invoice, in order."""
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            await invoices.get(tx, tenant_id, invoice_id)
            return await store.of_invoice(tx, tenant_id, invoice_id)

    async def asked(self, tx: Transaction, tenant_id: UUID, invoice_id: UUID) -> dict[int, Money]:
        """
        What live attempts ask for, by installment number. The invoice is locked, so none can appear
        meanwhile.
        """
        attempts = await store.of_invoice(tx, tenant_id, invoice_id)
        return {
            attempt.installment_number: attempt.amount for attempt in attempts if attempt.status in model.LIVE
        }

    async def timeline(self, tenant_id: UUID, invoice_id: UUID) -> list[TimelineEntry]:
        """Everything that happened to an invoice, oldest first; of its notes the newest 1,000."""
        async with self._db.transaction(tenant=tenant_id, isolation="REPEATABLE READ", readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            notes = await invoices.history(tx, tenant_id, invoice_id, limit=TIMELINE_NOTES)
            attempts = await store.of_invoice(tx, tenant_id, invoice_id)
            receipts = await store.receipts_of(tx, tenant_id, invoice_id)
        return model.timeline(invoice, notes, attempts, receipts)


def _named(attempt: Attempt) -> dict[str, Any]:
    """How a note says which attempt it is about."""
    return {"installment_number": attempt.installment_number, "reference": attempt.reference}


async def _locked(
    tx: Transaction, tenant_id: UUID, account_id: UUID, reference: str
) -> tuple[Attempt, Invoice]:
    """Read attempt and invoice under the invoice's lock."""
    attempt = await store.by_reference(tx, account_id, reference)
    assert attempt is not None, "callers found the tenant by this reference"
    invoice = await invoices.lock(tx, tenant_id, attempt.invoice_id)
    attempt = await store.by_reference(tx, account_id, reference)
    assert attempt is not None
    return attempt, invoice


def _new_attempt(
    invoice: Invoice, installment: Installment, number: int, now: datetime, payment_id: UUID
) -> Attempt:
    return Attempt(
        id=payment_id,
        tenant_id=invoice.tenant_id,
        invoice_id=invoice.id,
        installment_number=installment.number,
        account_id=invoice.account_id,
        attempt=number,
        reference=payment_reference(invoice.id, installment.number, number),
        amount=installment.due,
        status=AttemptStatus.CREATING,
        gateway_payment_id=None,
        payment_url=None,
        instructions=None,
        error_code=None,
        created_at=now,
        updated_at=now,
        opened_at=None,
        received=Money(0, invoice.currency),
    )
