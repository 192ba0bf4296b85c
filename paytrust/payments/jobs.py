from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.errors import (
    Busy,
    GatewayError,
    GatewayRejected,
    GatewayUnavailable,
    NotFound,
    PayTrustError,
    Unavailable,
)
from paytrust.infra.db import Database, Transaction
from paytrust.invoices import service as invoices
from paytrust.invoices.model import OUR_REFERENCE, Invoice, InvoiceStatus, move
from paytrust.money import Money
from paytrust.payments import model, store
from paytrust.payments.model import Attempt, AttemptStatus, Check, Discrepancy, DiscrepancyKind
from paytrust.payments.service import Payments

BATCH_SIZE: Final = 8
LEASE: Final = timedelta(minutes=5)
"""Also when a look that failed is repeated."""

COMPARE_AGAIN: Final = timedelta(hours=1)
LOOKBACK_OVERLAP: Final = timedelta(days=1)
MAX_LOOKBACK: Final = timedelta(days=30)
SKEW: Final = timedelta(hours=1)
"""How far a gateway's clock may be from ours."""
UNDER_WAY: Final = timedelta(minutes=15)
"""What is younger may still be on its way to us."""
BATCH: Final = 100
MAX_LISTED: Final = 1_000_000
MAX_MISSING: Final = 100

log = structlog.stdlib.get_logger("paytrust.payments")


class StatusPoller:
    """
    Ask gateways about payments on a schedule: money whose webhook never came, unknown outcomes, pages that
    must not stay payable.
    """

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments

    async def step(self) -> int:
        """Look at what is due, a few at once. Returns how many were claimed."""
        async with self._db.transaction(system=True) as tx:
            claimed = await store.claim_checks(tx, BATCH_SIZE, lease=LEASE)
        of_invoice: defaultdict[UUID, list[Check]] = defaultdict(list)
        for check in claimed:
            of_invoice[check.invoice_id].append(check)
        await asyncio.gather(*(self._one_by_one(checks) for checks in of_invoice.values()))
        return len(claimed)

    async def _one_by_one(self, checks: Sequence[Check]) -> None:
        for check in checks:
            try:
                await self._check(check)
            except Exception:
                log.exception("a payment could not be looked at", payment_id=str(check.payment_id))

    async def _check(self, check: Check) -> None:
        again = False
        try:
            await self._look(check)
        except PayTrustError as exc:
            # Whatever may go away by itself is tried again when the lease is over, everything else as if we
            # had looked.
            again = isinstance(exc, (GatewayError, Busy, Unavailable)) and not isinstance(
                exc, GatewayRejected
            )
            tell = log.warning if isinstance(exc, (GatewayError, Busy, Unavailable)) else log.error
            tell(
                "a look at a payment failed",
                payment_id=str(check.payment_id),
                code=exc.code,
                reason=exc.detail,
                again=again,
            )
        async with self._db.transaction(tenant=check.tenant_id) as tx:
            invoice, attempt, now = await _read(tx, check)
            next_at = model.next_check(attempt, invoice.expires_at, now)
            if not again or next_at is None:
                await store.checked(tx, check, next_at=next_at)

    async def _look(self, check: Check) -> None:
        async with self._db.transaction(tenant=check.tenant_id, readonly=True) as tx:
            invoice, attempt, now = await _read(tx, check)
            found = await accounts.find(tx, attempt.account_id)
        assert found is not None, "the foreign key keeps the account"
        account, _ = found
        live = attempt.status in model.LIVE
        if invoice.status in model.COLLECTING and invoice.expires_at + model.EXPIRY_SLACK <= now:
            await self._expire(check)
            if live:
                return
        elif live and not model.asks_for_what_is_due(attempt, invoice):
            await self._payments.collection.expire_open_attempts(check.tenant_id, invoice.id, stale_only=True)
            return
        if attempt.status in {AttemptStatus.CREATING, AttemptStatus.UNKNOWN}:
            await self._payments.collection.resolve_unknown(account, attempt)
        elif attempt.status is not AttemptStatus.UNAVAILABLE:
            await self._ask(check, account, attempt)

    async def _ask(self, check: Check, account: Account, attempt: Attempt) -> None:
        found = await self._payments.find(account, attempt.reference, check.tenant_id)
        if found and await self._payments.apply_found(check.tenant_id, account, attempt.reference, found):
            log.warning(
                "found out without a webhook", reference=attempt.reference, invoice_id=str(check.invoice_id)
            )
        async with self._db.transaction(tenant=check.tenant_id, readonly=True) as tx:
            _, attempt, _ = await _read(tx, check)
        for page in model.duplicate_pages(attempt, found):
            await self._payments.expire(account, page, check.tenant_id)
            log.warning(
                "a duplicate page was closed",
                reference=attempt.reference,
                gateway_payment_id=page.gateway_payment_id,
            )

    async def _expire(self, check: Check) -> None:
        """End an invoice whose time is up: the gateway is asked first, because paid beats expired."""
        await self._payments.collection.expire_open_attempts(check.tenant_id, check.invoice_id)

        async def work(tx: Transaction) -> None:
            current = await invoices.lock(tx, check.tenant_id, check.invoice_id)
            if current.status in {InvoiceStatus.PENDING, InvoiceStatus.PARTIALLY_PAID}:
                await invoices.save(
                    tx, move(current, InvoiceStatus.EXPIRED), was=current.status, reason="its time was up"
                )

        await self._db.run(work, tenant=check.tenant_id)


async def _read(tx: Transaction, check: Check) -> tuple[Invoice, Attempt, datetime]:
    invoice = await invoices.get(tx, check.tenant_id, check.invoice_id)
    attempts = await store.of_invoice(tx, check.tenant_id, check.invoice_id)
    now: datetime = await tx.fetchval("SELECT now()")
    return invoice, next(attempt for attempt in attempts if attempt.id == check.payment_id), now


class Reconciliation:
    """
    Compare a gateway's own list with our books. Money found there is applied; everything else is told to a
    person.
    """

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments

    async def step(self) -> int:
        """
        Compare one gateway account whose day is over; no other process takes the same one. Returns how many.
        """
        async with self._db.transaction(system=True) as tx:
            claimed = await accounts.claim_comparison(tx, again_after=COMPARE_AGAIN)
        if claimed is None:
            return 0
        account, now, reached = claimed
        since = max((reached or now - LOOKBACK_OVERLAP) - LOOKBACK_OVERLAP, now - MAX_LOOKBACK)
        try:
            await self.compare(account, since, now)
        except GatewayError as exc:
            log.error(  # noqa: TRY400 - no fault of ours
                "comparison failed and will be tried again",
                gateway_id=str(account.id),
                code=exc.code,
                reason=exc.detail,
            )
            return 1
        async with self._db.transaction(system=True) as tx:
            await accounts.compared(tx, account.id, until=now)
        return 1

    async def compare_all(
        self, account_id: UUID | None, *, days: int
    ) -> AsyncIterator[tuple[Account, list[Discrepancy] | GatewayError]]:
        """
        Compare the last *days* of one gateway account, or of each that can be listed. Raises `NotFound`.
        """
        async with self._db.transaction(system=True, readonly=True) as tx:
            ids = [account_id] if account_id is not None else await accounts.ids(tx)
        for each in ids:
            async with self._db.transaction(system=True, readonly=True) as tx:
                found = await accounts.find(tx, each)
            if found is None:
                raise NotFound(f"there is no gateway account {each}")
            account, now = found
            try:
                if self._payments.lists(account):
                    yield account, await self.compare(account, now - timedelta(days=days), now)
            except GatewayError as exc:
                yield account, exc

    async def found(self, account_id: UUID | None, *, limit: int) -> list[Discrepancy]:
        """What earlier comparisons found, newest first."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.differences(tx, account_id, limit=limit)

    async def compare(self, account: Account, since: datetime, until: datetime) -> list[Discrepancy]:
        """
        Compare what the gateway lists of [since, until) with what we know of it, keep and return the
        differences.

        Raises a `GatewayError` when the list does not come to its end.
        """
        if not self._payments.lists(account):
            return []
        differences: list[Discrepancy] = []
        seen: set[str] = set()
        async for batch in self._batches(account, since, until):
            seen.update(payment.reference for payment in batch)
            differences += await self._judge(account, batch, until)
        differences += await self._missing(account, seen, since, until)
        async with self._db.transaction(system=True) as tx:
            await store.save_differences(tx, differences)
        for difference in differences:
            log.error(
                "gateway and books disagree",
                kind=difference.kind,
                gateway_id=str(account.id),
                reference=difference.reference,
                ours=difference.ours,
                theirs=difference.theirs,
                resolved=difference.resolved,
            )
        return differences

    async def _batches(
        self, account: Account, since: datetime, until: datetime
    ) -> AsyncIterator[list[GatewayPayment]]:
        batch: dict[str, GatewayPayment] = {}
        listed = 0
        async for payment in self._payments.listed(account, since - SKEW, until + SKEW):
            listed += 1
            if listed > MAX_LISTED:
                raise GatewayUnavailable(f"the list of gateway account {account.id} does not end")
            batch[payment.gateway_payment_id] = payment
            if len(batch) == BATCH:
                yield list(batch.values())
                batch = {}
        if batch:
            yield list(batch.values())

    async def _judge(
        self, account: Account, batch: Sequence[GatewayPayment], until: datetime
    ) -> list[Discrepancy]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            known = await store.asked_for(tx, [account.id], [payment.reference for payment in batch])
            strange = [payment.reference for payment in batch if payment.reference not in known]
            # One account at a provider may be configured more than once here.
            elsewhere = (
                await store.asked_for(tx, await accounts.ids(tx, gateway=account.gateway), strange)
                if strange
                else {}
            )
        booked = await self._booked(account, batch, {tenant_id for tenant_id, _ in known.values()})
        differences: list[Discrepancy] = []
        for payment in batch:
            if payment.reference in known:
                tenant_id, asked = known[payment.reference]
                paid = booked.get(payment.gateway_payment_id)
                if payment.status is PaymentStatus.PAID and paid is None:
                    due = payment.paid_at is None or payment.paid_at < until - UNDER_WAY
                    if due and model.asked_as(payment, asked):
                        differences += await self._apply(account, tenant_id, payment)
                elif payment.status is PaymentStatus.PAID and paid != payment.paid:
                    differences.append(
                        _difference(
                            DiscrepancyKind.AMOUNT_DIFFERS,
                            account,
                            tenant_id,
                            payment,
                            ours=f"received {paid}",
                        )
                    )
                if payment.amount != asked:
                    differences.append(
                        _difference(
                            DiscrepancyKind.AMOUNT_DIFFERS, account, tenant_id, payment, ours=f"asked {asked}"
                        )
                    )
            elif payment.reference not in elsewhere and OUR_REFERENCE.fullmatch(payment.reference):
                differences.append(
                    _difference(
                        DiscrepancyKind.UNKNOWN_HERE, account, account.tenant_id, payment, ours="unknown"
                    )
                )
        return differences

    async def _booked(
        self, account: Account, batch: Sequence[GatewayPayment], tenants: set[UUID]
    ) -> dict[str, Money]:
        ids = [payment.gateway_payment_id for payment in batch if payment.status is PaymentStatus.PAID]
        booked: dict[str, Money] = {}
        for tenant_id in tenants if ids else ():
            async with self._db.transaction(tenant=tenant_id, readonly=True) as tx:
                booked |= await store.received(tx, tenant_id, account.id, ids)
        return booked

    async def _apply(self, account: Account, tenant_id: UUID, payment: GatewayPayment) -> list[Discrepancy]:
        """Apply money that we had not heard of; nothing to tell when somebody else has just done it."""
        ours, resolved = "not received", False
        try:
            resolved = await self._payments.confirm(tenant_id, account, payment.reference)
        except GatewayError:
            raise
        except PayTrustError as exc:
            ours = f"not received: {exc.code}"
        if not resolved and payment.gateway_payment_id in await self._booked(account, [payment], {tenant_id}):
            return []
        return [
            _difference(
                DiscrepancyKind.NOT_APPLIED, account, tenant_id, payment, ours=ours, resolved=resolved
            )
        ]

    async def _missing(
        self, account: Account, seen: set[str], since: datetime, until: datetime
    ) -> list[Discrepancy]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            made = await store.made_between(tx, account.id, since, until - UNDER_WAY)
        missing = [each for each in made if each[1] not in seen]
        differences: list[Discrepancy] = []
        for tenant_id, reference, amount in missing[:MAX_MISSING]:
            theirs = "unknown"
            try:
                if await self._payments.find(account, reference, tenant_id):
                    continue  # made there later than here, or not readable in the list
            except GatewayError:
                raise
            except PayTrustError as exc:
                theirs = exc.detail
            differences.append(
                Discrepancy(
                    account_id=account.id,
                    kind=DiscrepancyKind.MISSING_THERE,
                    reference=reference,
                    gateway_payment_id="",
                    tenant_id=tenant_id,
                    ours=f"asked {amount}",
                    theirs=theirs,
                )
            )
        if len(missing) > MAX_MISSING:
            log.error(
                "many payments are not in the gateway's list", gateway_id=str(account.id), count=len(missing)
            )
        return differences


def _difference(
    kind: DiscrepancyKind,
    account: Account,
    tenant_id: UUID | None,
    payment: GatewayPayment,
    *,
    ours: str,
    resolved: bool = False,
) -> Discrepancy:
    theirs = f"{payment.status} {payment.paid or payment.amount}"
    return Discrepancy(
        account_id=account.id,
        kind=kind,
        reference=payment.reference,
        gateway_payment_id=payment.gateway_payment_id,
        tenant_id=tenant_id,
        ours=ours,
        theirs=theirs,
        resolved=resolved,
    )
