from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account
from paytrust.books import service as books
from paytrust.books.model import Mistake
from paytrust.contract.gateways import GatewayPayment, PaymentStatus
from paytrust.errors import GatewayError, GatewayUnavailable, NotFound, PayTrustError
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.money import Money
from paytrust.payments import service as payments
from paytrust.payments.model import OUR_REFERENCE, asked_as
from paytrust.payments.service import Payments
from paytrust.reconciliation import store
from paytrust.reconciliation.model import Discrepancy, DiscrepancyKind

SKEW: Final = timedelta(hours=1)
"""How far a gateway's clock may be from ours."""
UNDER_WAY: Final = timedelta(minutes=15)
"""A younger payment may still be on its way to us."""
BATCH_SIZE: Final = 100
MAX_LISTED: Final = 1_000_000
MAX_MISSING: Final = 100

log = logs.get_logger("paytrust.reconciliation")


class Reconciliation:
    """
    Compare a gateway's own list with our books. Money found there is applied; everything else is told to a
    person.
    """

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments

    async def compare_all(
        self, account_id: UUID | None, *, days: int
    ) -> AsyncIterator[tuple[Account, list[Discrepancy] | GatewayError | None]]:
        """
        Compare the last *days* of one gateway account, or of each that is not disabled; None where the gateway cannot
        list its payments. Raises `NotFound`.
        """
        async with self._db.transaction(system=True, readonly=True) as tx:
            ids = [account_id] if account_id is not None else await accounts.ids(tx)
        for each in ids:
            async with self._db.transaction(system=True, readonly=True) as tx:
                account = await accounts.find(tx, each)
            if account is None:
                raise NotFound(f"there is no gateway account {each}")
            if account_id is None and account.disabled_at is not None:
                continue
            until = account.read_at
            try:
                if self._payments.lists(account):
                    yield account, await self.compare(account, until - timedelta(days=days), until)
                else:
                    yield account, None
            except GatewayError as exc:
                yield account, exc

    async def found(self, account_id: UUID | None, *, limit: int) -> list[Discrepancy]:
        """The discrepancies of earlier comparisons, newest first."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return await store.found(tx, account_id, limit=limit)

    async def compare(self, account: Account, since: datetime, until: datetime) -> list[Discrepancy]:
        """
        Compare what the gateway lists of [since, until) with what we know of it, keep and return the
        discrepancies.

        Raises a `GatewayError` when the list does not come to its end.
        """
        if not self._payments.lists(account):
            return []
        discrepancies: list[Discrepancy] = []
        seen: set[str] = set()
        async for batch in self._batches(account, since, until):
            seen.update(payment.reference for payment in batch)
            discrepancies += await self._judge(account, batch, until)
        discrepancies += await self._missing(account, seen, since, until)
        async with self._db.transaction(system=True) as tx:
            await store.save(tx, discrepancies)
        for discrepancy in discrepancies:
            log.error(
                "gateway and books disagree",
                kind=discrepancy.kind,
                gateway_id=str(account.id),
                reference=discrepancy.reference,
                ours=discrepancy.ours,
                theirs=discrepancy.theirs,
                resolved=discrepancy.resolved,
            )
        return discrepancies

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
            if len(batch) == BATCH_SIZE:
                yield list(batch.values())
                batch = {}
        if batch:
            yield list(batch.values())

    async def _judge(
        self, account: Account, batch: Sequence[GatewayPayment], until: datetime
    ) -> list[Discrepancy]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            known = await payments.asked_for(tx, [account.id], [payment.reference for payment in batch])
            strange = [payment.reference for payment in batch if payment.reference not in known]
            # One account at a provider may be configured more than once here.
            elsewhere = (
                await payments.asked_for(tx, await accounts.ids(tx, gateway=account.gateway), strange)
                if strange
                else {}
            )
        booked = await self._booked(account, batch, {tenant_id for tenant_id, _ in known.values()})
        discrepancies: list[Discrepancy] = []
        for payment in batch:
            if payment.reference in known:
                tenant_id, asked = known[payment.reference]
                paid = booked.get(payment.gateway_payment_id)
                if payment.status is PaymentStatus.PAID and paid is None:
                    due = payment.paid_at is None or payment.paid_at < until - UNDER_WAY
                    if due and asked_as(payment, asked):
                        discrepancies += await self._apply(account, tenant_id, payment)
                elif payment.status is PaymentStatus.PAID and paid != payment.paid:
                    discrepancies.append(
                        _discrepancy(
                            DiscrepancyKind.AMOUNT_DIFFERS,
                            account,
                            tenant_id,
                            payment,
                            ours=f"received {paid}",
                        )
                    )
                if payment.amount != asked:
                    discrepancies.append(
                        _discrepancy(
                            DiscrepancyKind.AMOUNT_DIFFERS, account, tenant_id, payment, ours=f"asked {asked}"
                        )
                    )
            elif payment.reference not in elsewhere and OUR_REFERENCE.fullmatch(payment.reference):
                discrepancies.append(
                    _discrepancy(
                        DiscrepancyKind.UNKNOWN_HERE, account, account.tenant_id, payment, ours="unknown"
                    )
                )
        return discrepancies

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
        """Apply money that we had not heard of; nothing to tell when another process has just done it."""
        ours, resolved = "not received", False
        try:
            applied = await self._payments.confirm(tenant_id, account, payment.reference)
            await self._payments.collection.collect_next(applied)
            applied.check()
            resolved = applied.changed
        except GatewayError:
            raise
        except PayTrustError as exc:
            ours = f"not received: {exc.code}"
        if not resolved and payment.gateway_payment_id in await self._booked(account, [payment], {tenant_id}):
            return []
        return [
            _discrepancy(
                DiscrepancyKind.NOT_APPLIED, account, tenant_id, payment, ours=ours, resolved=resolved
            )
        ]

    async def _missing(
        self, account: Account, seen: set[str], since: datetime, until: datetime
    ) -> list[Discrepancy]:
        async with self._db.transaction(system=True, readonly=True) as tx:
            made = await store.made_between(tx, account.id, since, until - UNDER_WAY)
        missing = [each for each in made if each[1] not in seen]
        discrepancies: list[Discrepancy] = []
        for tenant_id, reference, amount in missing[:MAX_MISSING]:
            theirs = "unknown"
            try:
                if await self._payments.find(account, reference, tenant_id):
                    continue  # made there later than here, or not readable in the list
            except GatewayError:
                raise
            except PayTrustError as exc:
                theirs = exc.detail
            discrepancies.append(
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
        return discrepancies


def _discrepancy(
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


class Proofs:
    """Prove the books of a tenant."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def verify(self, tenant_id: UUID) -> list[Mistake]:
        """All that `mistakes` finds, in one snapshot."""
        async with self._db.transaction(
            tenant=tenant_id, isolation="REPEATABLE READ", readonly=True, statement_timeout_ms=600_000
        ) as tx:
            return await mistakes(tx, tenant_id)


async def mistakes(tx: Transaction, tenant_id: UUID) -> list[Mistake]:
    """Recompute every balance and status of a tenant from its transfers. Empty means: all agree."""
    return [
        *await books.mistakes(tx, tenant_id),
        *(
            Mistake(f"invoice and books disagree: {dict(row)}")
            for row in await store.disagreements(tx, tenant_id)
        ),
        *(
            Mistake(f"installment and books disagree: {dict(row)}")
            for row in await store.misscheduled(tx, tenant_id)
        ),
    ]
