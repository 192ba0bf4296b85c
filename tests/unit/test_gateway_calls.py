"""Lanes and breakers: who is refused, when, and that nothing is kept of who is gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from uuid import uuid4

import pytest

from paytrust.contract.http import away
from paytrust.contract.validation import PluginError
from paytrust.errors import GatewayRejected, GatewayUnavailable, OutcomeUnknown
from paytrust.plugins import breaker, calls
from paytrust.plugins.breaker import Breakers
from paytrust.plugins.calls import Bulkhead

ACCOUNT, TENANT = uuid4(), uuid4()


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breakers(clock):
    return Breakers(failures=5, clock=clock)


@pytest.fixture
def bulkhead(breakers):
    return Bulkhead(breakers, calls=8)


@pytest.fixture
def ask(bulkhead):
    """Let a "plugin" do something: raise what it is given, or answer with it."""

    async def ask_(
        outcome="fine", *, account=ACCOUNT, tenant=TENANT, gateway="acme", on_ambiguous=OutcomeUnknown
    ):
        async def call():
            if isinstance(outcome, BaseException):
                raise outcome
            return await outcome() if callable(outcome) else outcome

        return await bulkhead.call(gateway, account, tenant, call, on_ambiguous=on_ambiguous)

    return ask_


async def fail(ask, times, error=GatewayUnavailable, **where):
    for _ in range(times):
        with pytest.raises(error):
            await ask(away(error, "away") if error is not GatewayRejected else error("no"), **where)


async def refused(ask, **where):
    """Whether no call is made."""
    called = False

    async def call():
        nonlocal called
        called = True

    with contextlib.suppress(GatewayUnavailable):
        await ask(call, **where)
    return not called


@pytest.mark.parametrize("error", [GatewayUnavailable, OutcomeUnknown])
async def test_an_account_that_keeps_failing_is_left_alone_and_the_others_are_not(ask, error):
    await fail(ask, 5, error)
    assert await refused(ask)
    with pytest.raises(GatewayUnavailable, match="nothing was sent, next attempt in 10 s") as caught:
        await ask()
    assert caught.value.retry_after_s == 10
    assert not await refused(ask, account=uuid4())


@pytest.mark.parametrize("error", [GatewayUnavailable, OutcomeUnknown])
async def test_an_answer_that_is_not_understood_closes_nothing(ask, error):
    for _ in range(50):
        with pytest.raises(error):
            await ask(error("answered, in words that the plugin does not know"))
    assert not await refused(ask)


async def test_refusals_are_answers_and_close_nothing(ask):
    await fail(ask, 50, GatewayRejected)
    assert not await refused(ask)


async def test_what_a_plugin_raises_by_itself_closes_nothing(ask):
    for _ in range(50):
        with pytest.raises(OutcomeUnknown, match="acme failed: KeyError"):
            await ask(KeyError("a payer's name"))
    assert not await refused(ask)


async def test_the_odd_failure_among_successes_closes_nothing(ask):
    for _ in range(20):
        await fail(ask, 1)
        await ask()
        await ask()
    assert not await refused(ask)


async def test_failures_of_long_ago_are_forgotten(ask, clock, breakers):
    await fail(ask, 4)
    clock.now += breaker.WINDOW_S + 1
    await fail(ask, 4)
    assert not await refused(ask)
    clock.now += breaker.WINDOW_S + 1
    await ask()
    assert not breakers._known


async def test_after_a_while_one_call_at_a_time_tries_and_success_opens_the_account_again(
    ask, clock, breakers
):
    await fail(ask, 5)
    clock.now += breaker.OPEN_S - 0.1
    assert await refused(ask)
    clock.now += 0.2
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow():
        entered.set()
        await go_on.wait()

    probe = asyncio.create_task(ask(slow))
    await entered.wait()
    assert [await refused(ask) for _ in range(10)] == [True] * 10
    go_on.set()
    await probe
    assert not await refused(ask)
    assert not breakers._known


async def test_a_try_that_fails_leaves_the_account_alone_for_another_while(ask, clock):
    await fail(ask, 5)
    clock.now += breaker.OPEN_S + 0.1
    await fail(ask, 1)
    assert await refused(ask)
    clock.now += breaker.OPEN_S + 0.1
    await ask()
    assert not await refused(ask)


@pytest.mark.parametrize("nothing_learned", [RuntimeError("a bug"), asyncio.CancelledError()])
async def test_a_try_that_teaches_nothing_lets_another_one_try(ask, clock, nothing_learned):
    await fail(ask, 5)
    clock.now += breaker.OPEN_S + 0.1
    with pytest.raises(OutcomeUnknown):
        await ask(nothing_learned)
    assert not await refused(ask)


async def test_a_cancelled_try_lets_another_one_try(ask, clock):
    await fail(ask, 5)
    clock.now += breaker.OPEN_S + 0.1
    probe = asyncio.create_task(ask(lambda: asyncio.sleep(60)))
    await asyncio.sleep(0.05)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert not await refused(ask)


async def test_with_zero_failures_no_account_is_ever_left_alone(clock):
    breakers = Breakers(failures=0, clock=clock)
    for _ in range(100):
        breakers.record(ACCOUNT, probe=False, failed=True)
    breakers.check(ACCOUNT, "acme")
    assert not breakers._known


async def test_breakers_are_bounded(breakers):
    for _ in range(breaker.BREAKERS_KEPT + 100):
        breakers.record(uuid4(), probe=False, failed=True)
    assert len(breakers._known) == breaker.BREAKERS_KEPT


async def test_one_tenant_takes_no_more_than_its_share(ask, bulkhead):
    """A call that waits too long for a slot fails with an error that says that nothing was sent."""
    go_on = asyncio.Event()
    hanging = [asyncio.create_task(ask(go_on.wait)) for _ in range(2)]  # a quarter of 8
    await asyncio.sleep(0.05)
    crowd = [asyncio.create_task(refused(ask)) for _ in range(50)]
    async with asyncio.timeout(0.5):
        assert await ask(tenant=uuid4()) == "fine"
        assert await ask(account=uuid4()) == "fine"
        assert await ask(gateway="other", tenant=uuid4()) == "fine"
    async with asyncio.timeout(calls.SLOT_WAIT_S + 2):
        assert all(await asyncio.gather(*crowd))
    go_on.set()
    await asyncio.gather(*hanging)
    assert await ask() == "fine"
    assert not bulkhead._gateways._users
    assert not bulkhead._tenants._semaphores


async def test_a_caller_waits_for_a_slot_as_long_as_its_bulkhead_has_it(breakers):
    """Work in the background waits longer: a webhook is not given up for want of a slot."""
    patient = Bulkhead(breakers, calls=1, wait_s=calls.WORK_SLOT_WAIT_S)

    async def call(seconds):
        return await patient.call(
            "acme", ACCOUNT, TENANT, lambda: asyncio.sleep(seconds, "fine"), on_ambiguous=OutcomeUnknown
        )

    async with asyncio.timeout(calls.WORK_SLOT_WAIT_S):
        assert await asyncio.gather(call(calls.SLOT_WAIT_S + 0.2), call(0)) == ["fine", "fine"]


async def test_a_full_gateway_stalls_no_other(ask):
    go_on = asyncio.Event()
    hanging = [asyncio.create_task(ask(go_on.wait, tenant=uuid4())) for _ in range(8)]
    await asyncio.sleep(0.05)
    assert await refused(ask, tenant=uuid4())
    async with asyncio.timeout(0.5):
        assert await ask(gateway="other") == "fine"
    go_on.set()
    await asyncio.gather(*hanging)


async def test_a_burst_waits_for_its_turn(ask):
    running = most = 0

    async def call():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    await asyncio.gather(*(ask(call) for _ in range(40)))
    assert most == 2


async def test_crowding_does_not_count_as_failing(ask):
    go_on = asyncio.Event()
    hanging = [asyncio.create_task(ask(go_on.wait)) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert all(await asyncio.gather(*(refused(ask) for _ in range(20))))
    go_on.set()
    await asyncio.gather(*hanging)
    assert not await refused(ask)


async def test_a_plugin_that_hangs_is_cut_off_and_that_counts(ask, monkeypatch):
    monkeypatch.setattr(calls, "PLUGIN_DEADLINE_S", 0.05)
    for _ in range(5):
        with pytest.raises(GatewayUnavailable, match="acme did not finish"):
            await ask(lambda: asyncio.sleep(60), on_ambiguous=GatewayUnavailable)
    assert await refused(ask)


async def test_a_plugin_that_cannot_be_stopped_keeps_its_slot(ask, bulkhead, monkeypatch):
    """It keeps the slot until it ends, and no caller waits for it."""
    monkeypatch.setattr(calls, "PLUGIN_DEADLINE_S", 0.05)
    monkeypatch.setattr(calls, "CANCEL_GRACE_S", 0.05)
    end = asyncio.Event()

    async def stubborn():
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(1):
        with pytest.raises(OutcomeUnknown):
            await ask(stubborn)
    assert bulkhead._gateways._users["acme"] == 1
    end.set()
    await asyncio.sleep(0.05)
    assert not bulkhead._gateways._users


def test_a_plugin_that_cannot_be_stopped_does_not_keep_the_process_from_ending(monkeypatch):
    monkeypatch.setattr(calls, "PLUGIN_DEADLINE_S", 0.05)
    monkeypatch.setattr(calls, "CANCEL_GRACE_S", 0.05)
    over = False

    async def stubborn():
        while not over:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    async def main():
        bulkhead = Bulkhead(Breakers(failures=5), calls=8)
        with pytest.raises(OutcomeUnknown):
            await bulkhead.call("acme", ACCOUNT, TENANT, stubborn, on_ambiguous=OutcomeUnknown)
        begun = asyncio.create_task(
            bulkhead.call("acme", ACCOUNT, TENANT, stubborn, on_ambiguous=OutcomeUnknown)
        )
        await asyncio.sleep(0.01)
        begun.cancel()

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < 5
    over = True


@pytest.mark.parametrize(
    "raised",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), BaseException("x"), StopAsyncIteration()],
)
async def test_nothing_a_plugin_raises_gets_further_than_its_call(ask, raised):
    with pytest.raises(OutcomeUnknown) as caught:
        await ask(raised)
    assert isinstance(caught.value.__cause__, PluginError)
    assert await ask() == "fine"


async def test_cancelling_the_caller_cancels_the_call_and_leaks_no_place(ask, bulkhead):
    cancelled = False

    async def call():
        nonlocal cancelled
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled = True
            raise

    for _ in range(20):
        task = asyncio.create_task(ask(call))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.05)
    assert cancelled
    assert not bulkhead._gateways._users
    assert not bulkhead._tenants._users
