"""
Calls to gateways, kept apart: one that is slow, broken or crowded stalls no other.

A call needs a slot at its gateway and one of its tenant's slots there, and waits for them only shortly. It
runs in a task of its own under a deadline, and an account whose calls keep failing is left alone for a while.
What a plugin raises or returns is checked here. Each process learns for itself: nothing of this is in the
database (docs/adr/0022).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from paytrust.contract.gateways import Gateway, GatewayPayment, ListsPayments, PaymentLookup, PaymentRequest
from paytrust.contract.validation import PluginError, validated
from paytrust.errors import GatewayError, GatewayUnavailable, OutcomeUnknown, PayTrustError, UnreadableWebhook
from paytrust.infra import logs
from paytrust.infra.slots import Slots
from paytrust.plugins.breaker import Breakers, CircuitOpen

T = TypeVar("T")

PLUGIN_DEADLINE_S: Final = 15.0
"""For a whole plugin call, which may make several HTTP calls of up to 10 s."""
CANCEL_GRACE_S: Final = 0.5
"""For a call that was cut off to close its connections."""
SLOT_WAIT_S: Final = 1.0
"""Long enough for a burst at a healthy gateway, short enough for a client to be told to come back."""
WORK_SLOT_WAIT_S: Final = 10.0
"""
Work in the background is bounded by itself, and no client waits for it: a webhook is not given up for want of a slot.
"""
SHARE: Final = 4
"""A tenant may have a quarter of a gateway's slots, so that four slow accounts are needed to fill them."""
WORK_SHARE: Final = 4
"""
Work in the background has slots of its own, a quarter as many: neither it nor the API can take the other's.
"""
MAX_FOUND: Final = 100
"""Payments under one reference. Two are an accident; this many are a plugin that does not filter."""

log = logs.get_logger("paytrust.gateways")


class Bulkhead:
    """
    The slots of one kind of caller: requests, or work in the background, which wait for one for *wait_s*. *invoice_of* reads the invoice from one of
    our references, for the log.
    """

    def __init__(
        self,
        breakers: Breakers,
        *,
        calls: int,
        wait_s: float = SLOT_WAIT_S,
        invoice_of: Callable[[str], UUID | None] = lambda _: None,
    ) -> None:
        self.invoice_of = invoice_of
        self._wait_s = wait_s
        self._breakers = breakers
        self._gateways = Slots(calls)
        self._tenants = Slots(max(1, calls // SHARE))

    def guard(self, gateway: Gateway[Any, Any], *, account_id: UUID, tenant_id: UUID | None) -> GatewayClient:
        return GatewayClient(self, gateway, account_id, tenant_id)

    async def call(
        self,
        gateway: str,
        account_id: UUID,
        tenant_id: UUID | None,
        make: Callable[[], Awaitable[T]],
        *,
        on_ambiguous: type[GatewayError],
    ) -> T:
        """
        Let a plugin make one call. What goes wrong with it is *on_ambiguous*, what could not even begin is
        `GatewayUnavailable`.

        Never repeats anything. A plugin that cannot be stopped keeps its slot until it ends: it takes no
        more than its gateway has.
        """
        self._breakers.check(account_id, gateway)
        tenant = (tenant_id, account_id)
        await self._enter(gateway, tenant)
        try:
            self._breakers.check(account_id, gateway)  # it may have closed while we waited
            probe = self._breakers.try_acquire(account_id)
            task = asyncio.create_task(_contained(make))
        except BaseException:
            self._leave(gateway, tenant)
            raise
        task.add_done_callback(lambda _: self._leave(gateway, tenant))
        failed: bool | None = None
        reason: str | None = None
        try:
            result = await _finished(task)
        except GatewayError as exc:
            # A refusal and an answer that is not understood are answers.
            failed, reason = exc.away, exc.detail
            raise
        except TimeoutError as exc:
            failed = True
            reason = f"the plugin of the gateway {gateway} did not finish within {PLUGIN_DEADLINE_S:g} s"
            raise on_ambiguous(reason) from exc
        except PluginError as exc:
            log.exception("gateway plugin failed", gateway=gateway, gateway_id=str(account_id))
            raise on_ambiguous(f"the plugin of the gateway {gateway} failed: {exc}") from exc
        except PayTrustError:
            failed = False  # a refusal, or a status nobody knows: an answer
            raise
        else:
            failed = False
            return result
        finally:
            self._breakers.record(account_id, probe=probe, failed=failed, reason=reason)

    async def _enter(self, gateway: str, tenant: tuple[UUID | None, UUID]) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._tenants.acquire(tenant)
                try:
                    await self._gateways.acquire(gateway)
                except BaseException:
                    self._tenants.release(tenant)
                    raise
        except TimeoutError as exc:
            raise GatewayUnavailable(f"too many calls to {gateway} are under way; nothing was sent") from exc

    def _leave(self, gateway: str, tenant: tuple[UUID | None, UUID]) -> None:
        self._gateways.release(gateway)
        self._tenants.release(tenant)


async def _contained(make: Callable[[], Awaitable[T]]) -> T:
    """Turn whatever a plugin raises into an error that stops this call and nothing else."""
    try:
        return await make()
    except (GatewayError, UnreadableWebhook, PluginError, GeneratorExit):
        raise
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise PluginError("it cancelled itself") from exc
    except BaseException as exc:  # SystemExit and KeyboardInterrupt would end the service
        raise PluginError(type(exc).__name__) from exc


async def _finished(task: asyncio.Task[T]) -> T:
    """
    The task's result, or `TimeoutError`. It is told to stop when we do; a plugin that catches that is not
    waited for.
    """
    try:
        await asyncio.wait({task}, timeout=PLUGIN_DEADLINE_S)
    finally:
        if not task.done():
            task.add_done_callback(_swallow)
            task.cancel()
            # The loop waits for every task it knows before it closes: one that cannot be stopped would keep
            # the process from ending.
            asyncio.tasks._unregister_task(task)  # noqa: SLF001 - documented, under "Extending"
    if task.done():
        return task.result()
    await asyncio.wait({task}, timeout=CANCEL_GRACE_S)
    raise TimeoutError


def _swallow(task: asyncio.Task[Any]) -> None:
    """Take the outcome of a call that nobody waits for, or the loop would complain about it."""
    if not task.cancelled():
        task.exception()


class GatewayClient:
    """
    One account's gateway as the core calls it: in its bulkhead, and with its answers checked. Raises a
    `GatewayError`.
    """

    def __init__(
        self, bulkhead: Bulkhead, gateway: Gateway[Any, Any], account_id: UUID, tenant_id: UUID | None
    ) -> None:
        self._bulkhead = bulkhead
        self._gateway = gateway
        self._account_id = account_id
        self._tenant_id = tenant_id

    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        async def call() -> GatewayPayment:
            return validated(await self._gateway.create_payment(request), GatewayPayment)

        return await self._call("create_payment", request.reference, call, on_ambiguous=OutcomeUnknown)

    async def find_payments(
        self, lookup: PaymentLookup, *, unreadable: type[PayTrustError] = OutcomeUnknown
    ) -> Sequence[GatewayPayment]:
        """Every payment under the reference. A status that the plugin does not know is *unreadable*."""

        async def call() -> Sequence[GatewayPayment]:
            found = await self._gateway.find_payments(lookup)
            if not isinstance(found, (list, tuple)) or len(found) > MAX_FOUND:
                raise PluginError(
                    f"find_payments answered {_described(found)}, not a list of at most {MAX_FOUND} payments"
                )
            checked = [validated(payment, GatewayPayment) for payment in found]
            if any(payment.reference != lookup.reference for payment in checked):
                raise PluginError("find_payments answered with a payment of another reference")
            return checked

        return await self._call(
            "find_payments", lookup.reference, call, on_ambiguous=GatewayUnavailable, unreadable=unreadable
        )

    async def expire_payment(self, payment: GatewayPayment) -> None:
        await self._call(
            "expire_payment",
            payment.reference,
            lambda: self._gateway.expire_payment(payment),
            on_ambiguous=OutcomeUnknown,
        )

    async def list_payments(self, since: datetime, until: datetime) -> AsyncIterator[GatewayPayment]:
        """
        What the gateway lists of [since, until), each step a call of its own; only where it can list its
        payments.
        """
        gateway = self._gateway
        assert isinstance(gateway, ListsPayments)
        pages: AsyncIterator[GatewayPayment] | None = None

        async def call() -> GatewayPayment | None:
            nonlocal pages
            if pages is None:
                pages = gateway.list_payments(since, until)
            found = await anext(pages, None)
            return None if found is None else validated(found, GatewayPayment)

        while (
            payment := await self._call("list_payments", None, call, on_ambiguous=GatewayUnavailable)
        ) is not None:
            yield payment

    async def _call(
        self,
        call: str,
        reference: str | None,
        make: Callable[[], Awaitable[T]],
        *,
        on_ambiguous: type[GatewayError],
        unreadable: type[PayTrustError] = OutcomeUnknown,
    ) -> T:
        try:
            return await self._understood(make, on_ambiguous=on_ambiguous, unreadable=unreadable)
        except CircuitOpen:
            raise  # the line about the circuit has said it
        except PayTrustError as exc:
            invoice_id = None if reference is None else self._bulkhead.invoice_of(reference)
            log.warning(
                "gateway call failed",
                call=call,
                code=exc.code,
                reason=exc.detail,
                gateway=self._gateway.code,
                gateway_id=str(self._account_id),
                invoice_id=None if invoice_id is None else str(invoice_id),
                reference=reference,
            )
            raise

    async def _understood(
        self,
        make: Callable[[], Awaitable[T]],
        *,
        on_ambiguous: type[GatewayError],
        unreadable: type[PayTrustError],
    ) -> T:
        try:
            return await self._bulkhead.call(
                self._gateway.code, self._account_id, self._tenant_id, make, on_ambiguous=on_ambiguous
            )
        except UnreadableWebhook as exc:
            raise unreadable(exc.detail) from exc


def _described(answer: object) -> str:
    return f"{len(answer)} of them" if isinstance(answer, (list, tuple)) else type(answer).__name__
