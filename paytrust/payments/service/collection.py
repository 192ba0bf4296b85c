"""Payment pages at gateways: opening what is due next, and closing what must not be paid any more."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.accounts.service import Accounts
from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.errors import (
    Busy,
    Conflict,
    GatewayError,
    GatewayRejected,
    GatewayUnavailable,
    OutcomeUnknown,
)
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.invoices import service as invoices
from paytrust.invoices.model import Installment, Invoice, InvoiceStatus, move
from paytrust.payments import model, store
from paytrust.payments.model import (
    AmountNotCollectable,
    Applied,
    Attempt,
    AttemptStatus,
    NothingDue,
    ShownInvoice,
    TooManyAttempts,
    new_attempt,
)
from paytrust.payments.service.reading import show
from paytrust.payments.service.receipts import Receipts, issue, locked, named
from paytrust.plugins.calls import Bulkhead, GatewayClient

TRIES: Final = 3
"""How often what is due next may turn out to be something else while its page is being opened."""
BEING_MADE: Final = "another request is opening this payment; try again in a moment"

FAILED_AS: Final = {
    GatewayRejected: AttemptStatus.REJECTED,
    GatewayUnavailable: AttemptStatus.UNAVAILABLE,
    OutcomeUnknown: AttemptStatus.UNKNOWN,
}

log = logs.get_logger("paytrust.payments")


class _Claimed(NamedTuple):
    """The right to work on what is due next. *attempt* is as it was before the claim, or *is_new*."""

    invoice: ShownInvoice
    account: Account
    attempt: Attempt
    is_new: bool


class Collection:
    """Collect what is due at gateways. No transaction is open while one is asked."""

    def __init__(
        self, db: Database, gateways: Accounts, receipts: Receipts, *, calls: Bulkhead, insecure: bool
    ) -> None:
        self._db = db
        self._gateways = gateways
        self._receipts = receipts
        self._calls = calls
        self._insecure = insecure

    def at(self, account: Account, tenant_id: UUID | None) -> GatewayClient:
        """The account's gateway, for calls on behalf of this tenant; None: of all that share it."""
        return self._calls.guard(self._gateways.gateway(account), account_id=account.id, tenant_id=tenant_id)

    async def open_first(self, invoice: Invoice, account: Account, attempt: Attempt) -> ShownInvoice:
        """
        Open the payment whose attempt was written with the invoice. Raises a `GatewayError` after noting it.
        """
        shown = await self._create(ShownInvoice.of(invoice), account, attempt)
        if shown is not None:
            return shown
        try:
            return await self.ensure_open(invoice.tenant_id, invoice.id)
        except NothingDue:  # cancelled meanwhile
            return await self._shown(invoice.tenant_id, invoice.id)

    async def ensure_open(
        self, tenant_id: UUID, invoice_id: UUID, *, number: int | None = None
    ) -> ShownInvoice:
        """
        Return the invoice with a live payment page for what is due next, making one when there is none.

        An attempt with an unknown outcome is looked up at the gateway first, and what is found is adopted.
        *number* names the installment the caller has in mind: `OutOfSequence` when another one is due. Raises
        `NothingDue`, `AmountNotCollectable`, `Busy` or a `GatewayError`.
        """
        for _ in range(TRIES):
            claim = functools.partial(
                self._claim_attempt, tenant_id=tenant_id, invoice_id=invoice_id, number=number
            )
            invoice, account, attempt, is_new = await self._db.run(claim, tenant=tenant_id)
            if not model.asks_for_what_is_due(attempt, invoice):
                await self.expire_attempt(account, attempt)
                continue
            if attempt.status is AttemptStatus.OPEN:
                if await self._is_open(account, attempt):
                    return invoice
                number = None  # what was due may have been paid
                continue
            live: Sequence[GatewayPayment] = ()
            if not is_new and attempt.status is not AttemptStatus.UNAVAILABLE:
                live = await self._find_live(invoice, account, attempt)
            about = (invoice, account, attempt)
            adopted = await (self._adopt(*about, live) if live else self._create(*about))
            if isinstance(adopted, ShownInvoice):
                return adopted
            if adopted is not None:
                adopted.check()
                invoice = await self._shown(tenant_id, invoice_id)
                if invoice.status is not InvoiceStatus.PARTIALLY_PAID:
                    return invoice
            number = (
                None  # it is paid, or asks for something else: the caller gets the page of what is due now
            )
        raise Busy("the amount due keeps changing; ask again for a payment page")

    async def _shown(self, tenant_id: UUID, invoice_id: UUID) -> ShownInvoice:
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            return await show(tx, tenant_id, invoice_id)

    async def _is_open(self, account: Account, attempt: Attempt) -> bool:
        """
        Whether an open page may be handed out. One that has ended, or was not seen at the gateway lately, is asked
        about first: money that came on it is applied, and one that is over is closed.

        While the gateway is away, a page that is not known to be over is handed out as it is: it may work for the
        payer, and a second one may not be made. Raises a `GatewayError` for one that has ended.
        """
        ended = attempt.has_ended(account.read_at)
        if attempt.was_seen(account.read_at) and not ended:
            return True
        try:
            found = await self.at(account, attempt.tenant_id).find_payments(model.lookup(attempt))
        except GatewayError as exc:
            if ended:
                raise
            log.warning("a page is handed out unseen", reference=attempt.reference, reason=exc.detail)
            return True
        applied = await self._receipts.record_all(attempt.tenant_id, account, attempt.reference, found)
        applied.check()
        over = bool(found) and all(
            payment.status not in {PaymentStatus.OPEN, PaymentStatus.PAID} for payment in found
        )
        if any(payment.status is PaymentStatus.PAID for payment in found):
            await self._close_duplicates(applied)
            return False
        if not ended and not over:
            async with self._db.transaction(tenant=attempt.tenant_id) as tx:
                await store.asked(tx, attempt)
            return True
        try:
            await self.expire_attempt(account, attempt)
        except GatewayRejected:
            if any(payment.status is PaymentStatus.OPEN for payment in found):
                raise  # it may be paid this moment: no second page beside it
            await self._receipts.close(attempt.tenant_id, attempt.account_id, attempt.reference)
        return False

    async def resolve_unknown(self, account: Account, attempt: Attempt) -> Applied | None:
        """
        Ask the gateway what became of an attempt whose outcome is not known, and adopt what it has; nothing
        new is made. Returns what was applied, if it was paid.

        Raises `Busy` while it is being made, or a `GatewayError`.
        """
        invoice = await self._db.run(lambda tx: self._reclaim(tx, attempt), tenant=attempt.tenant_id)
        if invoice is None:
            return None
        live = await self._find_live(invoice, account, attempt)
        if not live:
            await self._note_failure(attempt, OutcomeUnknown("the gateway does not know it (yet)"))
            return None
        adopted = await self._adopt(invoice, account, attempt, live)
        return adopted if isinstance(adopted, Applied) else None

    async def _reclaim(self, tx: Transaction, attempt: Attempt) -> ShownInvoice | None:
        attempt, invoice = await locked(tx, attempt.tenant_id, attempt.account_id, attempt.reference)
        if attempt.is_being_made(invoice.read_at):
            raise Busy(BEING_MADE)
        if attempt.status not in {AttemptStatus.CREATING, AttemptStatus.UNKNOWN}:
            return None
        await store.reclaim(tx, attempt)
        return await show(tx, invoice.tenant_id, invoice.id)

    async def _claim_attempt(
        self, tx: Transaction, *, tenant_id: UUID, invoice_id: UUID, number: int | None
    ) -> _Claimed:
        await invoices.hold(tx, tenant_id, invoice_id)
        invoice = await show(tx, tenant_id, invoice_id)
        account = await accounts.get(tx, invoice.account_id)
        now = account.read_at
        installment = model.check_payable(invoice, now, number=number)
        latest = await store.latest(tx, tenant_id, invoice_id, installment.number)
        if latest is not None and latest.is_being_made(now):
            raise Busy(BEING_MADE)
        if latest is None or latest.status not in model.LIVE:
            attempt = self._next_attempt(invoice, account, installment, latest)
            await store.insert(tx, attempt)
            return _Claimed(invoice, account, attempt, is_new=True)
        if latest.status is not AttemptStatus.OPEN and model.asks_for_what_is_due(latest, invoice):
            await store.reclaim(tx, latest)
        return _Claimed(invoice, account, latest, is_new=False)

    def _next_attempt(
        self, invoice: Invoice, account: Account, installment: Installment, latest: Attempt | None
    ) -> Attempt:
        objection = self._gateways.limits(account, invoice.currency).objection(installment.due)
        if objection is not None:
            raise AmountNotCollectable(
                f"the amount due on installment {installment.number} cannot be collected: {objection}"
            )
        number = 1 if latest is None else latest.attempt + 1
        if number > model.MAX_ATTEMPTS:
            raise TooManyAttempts(f"installment {installment.number} was tried {model.MAX_ATTEMPTS} times")
        return new_attempt(invoice, installment, number, payment_id=new_id(), now=account.read_at)

    async def _create(self, invoice: ShownInvoice, account: Account, attempt: Attempt) -> ShownInvoice | None:
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
                now=account.read_at,
            )
            opened = await self.at(account, invoice.tenant_id).create_payment(request)
            self._check(attempt, opened, hosts)
        except GatewayError as exc:
            await self._note_failure(attempt, exc)
            raise
        return await self._keep(invoice, account, attempt, opened)

    async def _find_live(
        self, invoice: Invoice, account: Account, attempt: Attempt
    ) -> Sequence[GatewayPayment]:
        """
        What the gateway has of an attempt and can be paid or was: of several a paid one or the oldest comes
        first, and no other can be paid any more. Empty when the gateway knows none.
        """
        try:
            gateway = self.at(account, invoice.tenant_id)
            found = await gateway.find_payments(model.lookup(attempt))
            live = [
                payment for payment in found if payment.status in {PaymentStatus.OPEN, PaymentStatus.PAID}
            ]
            live.sort(key=lambda payment: payment.status is not PaymentStatus.PAID)
            for duplicate in live[1:]:
                if duplicate.status is PaymentStatus.OPEN:
                    await gateway.expire_payment(duplicate)
            if live:
                self._check(attempt, live[0], self._gateways.page_hosts(account))
        except GatewayError as exc:
            await self._note_failure(attempt, OutcomeUnknown(f"still unknown: {exc.detail}"))
            raise
        if found and not live:
            await self._receipts.close(invoice.tenant_id, attempt.account_id, attempt.reference)
            raise Busy("the gateway had closed the earlier attempt; ask again for a new payment page")
        return live

    async def _adopt(
        self, invoice: ShownInvoice, account: Account, attempt: Attempt, live: Sequence[GatewayPayment]
    ) -> ShownInvoice | Applied | None:
        """
        The invoice with the page that was found, or what was applied because it had been paid; None when it came
        too late.
        """
        log.info("payment adopted", invoice_id=str(invoice.id), reference=attempt.reference, found=len(live))
        if live[0].status is PaymentStatus.OPEN:
            return await self._keep(invoice, account, attempt, live[0])
        paid = [payment for payment in live if payment.status is PaymentStatus.PAID]
        return await self._receipts.record_all(invoice.tenant_id, account, attempt.reference, paid)

    async def _keep(
        self, invoice: ShownInvoice, account: Account, attempt: Attempt, payment: GatewayPayment
    ) -> ShownInvoice | None:
        """
        Note the page the gateway made. One that came too late, because its invoice is over or asks for something
        else by now, is closed at the gateway again and handed to no payer: None.
        """
        shown = await self._db.run(
            lambda tx: self._opened(tx, invoice, attempt, payment), tenant=invoice.tenant_id
        )
        if shown is not None:
            return shown
        log.warning("a page came too late", invoice_id=str(invoice.id), reference=attempt.reference)
        made = msgspec.structs.replace(attempt, gateway_payment_id=payment.gateway_payment_id)
        await self.expire_attempt(account, made)
        return None

    async def _opened(
        self, tx: Transaction, invoice: ShownInvoice, attempt: Attempt, payment: GatewayPayment
    ) -> ShownInvoice | None:
        """
        Note the payment page; the first one issues the invoice and posts it to the books. None when no payer may
        pay it any more.
        """
        # The invoice's row before the payment's, as everywhere: a webhook may be at it at this moment.
        initiated_at = await issue(tx, invoice)
        payable = initiated_at is not None or model.asks_for_what_is_due(
            attempt, await invoices.lock(tx, invoice.tenant_id, invoice.id)
        )
        if not payable or not await store.opened(tx, attempt, payment):
            latest = await store.by_reference(tx, attempt.account_id, attempt.reference)
            assert latest is not None, "it was claimed"
            ours = latest.gateway_payment_id == payment.gateway_payment_id
            if latest.status is AttemptStatus.PAID or (ours and latest.status is not AttemptStatus.CREATING):
                return await show(tx, invoice.tenant_id, invoice.id)  # a webhook was quicker
            await store.came_too_late(tx, attempt, payment)
            return None
        return msgspec.structs.replace(
            invoice,
            status=InvoiceStatus.PENDING if initiated_at else invoice.status,
            payment_initiated_at=initiated_at or invoice.payment_initiated_at,
            payment_url=payment.payment_url,
            instructions=dict(payment.instructions) if payment.instructions else None,
        )

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
                details=named(attempt) | {"status": status, "code": exc.code},
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

    # --- after something was applied ---------------------------------------------------------------------------------

    async def collect_next(self, applied: Applied) -> None:
        """
        After something was applied: close what must not be paid any more, and open the page of what is due next
        without a request for it.
        """
        if applied.changed:
            tenant_id = applied.tenant_id
            async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
                attempt = await store.by_reference(tx, applied.account.id, applied.reference)
                assert attempt is not None, "something was applied to it"
                invoice = await invoices.get(tx, tenant_id, attempt.invoice_id)
            try:
                await self.expire_open_attempts(tenant_id, invoice.id, stale_only=True)
                if invoice.status is InvoiceStatus.PARTIALLY_PAID:
                    await self.ensure_open(tenant_id, invoice.id)
            except (GatewayError, Conflict) as exc:
                _not_made(invoice.id, exc)
        await self._close_duplicates(applied)

    async def reopen(self, tenant_id: UUID, invoice_id: UUID) -> None:
        """Open the page of what is due next. Where that fails it is made on demand."""
        try:
            await self.ensure_open(tenant_id, invoice_id)
        except (GatewayError, Conflict) as exc:
            _not_made(invoice_id, exc)

    async def _close_duplicates(self, applied: Applied) -> None:
        """Where one of several payments with one reference was paid, the others must not be."""
        for duplicate in applied.duplicates:
            try:
                await self.at(applied.account, applied.tenant_id).expire_payment(duplicate)
            except GatewayRejected as exc:  # unless paid meanwhile
                told = {"reference": duplicate.reference, "reason": exc.detail}
                log.warning("a duplicate of a paid payment stays open", **told)

    # --- closing -----------------------------------------------------------------------------------------------------

    async def expire_open_attempts(
        self, tenant_id: UUID, invoice_id: UUID, *, stale_only: bool = False
    ) -> None:
        """
        Make every live attempt of an invoice unpayable at its gateway, and apply first whatever was paid
        meanwhile.

        With *stale_only* just those that ask for something else than what is due next.
        Raises `Busy` while one is being opened, or a `GatewayError`: then something may still be payable.
        """
        async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
            invoice = await invoices.get(tx, tenant_id, invoice_id)
            account = await accounts.get(tx, invoice.account_id)
            attempts = [
                attempt
                for attempt in await store.of_invoice(tx, tenant_id, invoice_id)
                if attempt.status in model.LIVE
            ]
        if stale_only:
            attempts = [attempt for attempt in attempts if not model.asks_for_what_is_due(attempt, invoice)]
        for attempt in attempts:
            if attempt.is_being_made(account.read_at):
                raise Busy(BEING_MADE)
            await self.expire_attempt(account, attempt)

    async def end(self, tenant_id: UUID, invoice_id: UUID, status: InvoiceStatus, *, reason: str) -> None:
        """
        Close every page of an invoice at its gateway, then write that it is over. The last look is under the lock
        that opening a page takes, so afterwards nothing of it can be paid.

        Raises `IllegalTransition` when it cannot end so, `Busy` while a page is being opened, or a `GatewayError`:
        then it stays as it is.
        """
        for _ in range(TRIES):
            await self.expire_open_attempts(tenant_id, invoice_id)
            if await self._db.run(
                lambda tx: _end(tx, tenant_id, invoice_id, status, reason=reason), tenant=tenant_id
            ):
                return
        raise Busy("payment pages of this invoice keep being opened; try again in a moment")

    async def expire_attempt(self, account: Account, attempt: Attempt) -> None:
        """Make one attempt unpayable, and apply whatever was paid meanwhile. Raises a `GatewayError`."""
        gateway = self.at(account, attempt.tenant_id)
        found = await gateway.find_payments(model.lookup(attempt))
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
            found = await gateway.find_payments(model.lookup(attempt))
            paid = [payment for payment in found if payment.status is PaymentStatus.PAID]
            if not paid:
                raise
        except OutcomeUnknown as exc:
            await self._mark_unknown(attempt, exc)
            raise
        # A refusal is noted, and nobody can pay that page again.
        await self._receipts.record_all(attempt.tenant_id, account, attempt.reference, paid)
        if not paid:
            await self._receipts.close(attempt.tenant_id, attempt.account_id, attempt.reference)

    async def _mark_unknown(self, attempt: Attempt, exc: OutcomeUnknown) -> None:
        """Its page may be closed by now, so it is not shown before the gateway was asked."""
        async with self._db.transaction(tenant=attempt.tenant_id) as tx:
            await store.mark_unknown(tx, attempt, code=exc.code, detail=exc.detail)
            details = named(attempt) | {"status": AttemptStatus.UNKNOWN, "code": exc.code}
            await invoices.note(
                tx, attempt.tenant_id, attempt.invoice_id, "payment_failed", exc.detail, details=details
            )


async def _end(
    tx: Transaction, tenant_id: UUID, invoice_id: UUID, status: InvoiceStatus, *, reason: str
) -> bool:
    """False while an attempt is live."""
    invoice = await invoices.lock(tx, tenant_id, invoice_id)
    ended = move(invoice, status)
    if await store.any_live(tx, tenant_id, invoice_id):
        return False
    await invoices.save(tx, ended, was=invoice.status, reason=reason)
    return True


def _not_made(invoice_id: UUID, exc: GatewayError | Conflict) -> None:
    log.warning("the next payment page was not made", invoice_id=str(invoice_id), reason=exc.detail)
