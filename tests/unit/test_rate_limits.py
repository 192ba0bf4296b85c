"""Sliding windows: in memory with a clock of the test's own, and in a real Valkey server."""

from __future__ import annotations

import asyncio
import socket
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytrust import development
from paytrust.errors import ConfigurationError
from paytrust.infra import rate_limits
from paytrust.infra.rate_limits import STORE_DEADLINE_S, WINDOW_S, RateStore, SharedLimit, SlidingWindow


class Clock:
    def __init__(self):
        self.now_s = 1_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_as_many_pass_as_the_limit_says_and_the_answer_counts_down(clock):
    windows = SlidingWindow("test", 3, clock=clock)
    answers = [windows.hit("a") for _ in range(5)]
    assert [answer.granted for answer in answers] == [True, True, True, False, False]
    assert [answer.remaining for answer in answers] == [2, 1, 0, 0, 0]
    assert {answer.more_in_s for answer in answers} == {WINDOW_S}


def test_asking_whether_one_is_refused_counts_nothing(clock):
    windows = SlidingWindow("test", 2, clock=clock)
    for _ in range(2):
        assert windows.refusal("a") is None
        assert windows.hit("a").granted
    first, second = windows.refusal("a"), windows.hit("a")
    assert (first.granted, first.more_in_s, first.should_log) == (False, WINDOW_S, True)
    assert (second.granted, second.more_in_s, second.should_log) == (False, WINDOW_S, False)
    clock.now_s += WINDOW_S
    assert windows.refusal("a") is None
    assert [windows.hit("a").granted for _ in range(3)] == [True, True, False]
    assert windows.refusal("b") is None
    assert "b" not in windows


def test_one_refusal_in_a_window_is_news(clock):
    windows = SlidingWindow("test", 1, clock=clock)
    news = []
    for _ in range(300):
        clock.now_s += 1
        news.append(windows.hit("a").should_log)
    assert sum(news) == 5
    assert windows.hit("b").granted
    assert windows.hit("b").should_log


def test_a_burst_at_the_edge_of_a_minute_does_not_pass_twice(clock):
    windows = SlidingWindow("test", 100, clock=clock)
    clock.now_s += 59.9
    assert sum(windows.hit("a").granted for _ in range(150)) == 100
    clock.now_s += 0.2  # the next minute, for whoever counts by the clock
    assert sum(windows.hit("a").granted for _ in range(150)) == 0
    clock.now_s += 59.9
    assert sum(windows.hit("a").granted for _ in range(150)) == 100


@given(
    st.integers(1, 8),
    st.lists(st.sampled_from([0.0, 0.01, 1.0, 7.5, 29.0, 31.0, 59.99, 60.0, 61.0]), min_size=1, max_size=120),
)
def test_no_minute_has_more_than_the_limit_and_what_is_refused_does_not_count(limit, pauses):
    clock = Clock()
    windows = SlidingWindow("test", limit, clock=clock)
    passed = []
    for pause in pauses:
        clock.now_s += pause
        recent = [at for at in passed if at > clock.now_s - WINDOW_S]
        answer = windows.hit("a")
        assert answer.granted == (len(recent) < limit)
        if answer.granted:
            passed.append(clock.now_s)


@given(st.integers(1, 5), st.lists(st.floats(0, 30), min_size=5, max_size=30))
def test_whoever_waits_as_long_as_he_is_told_passes(limit, pauses):
    clock = Clock()
    windows = SlidingWindow("test", limit, clock=clock)
    for pause in pauses:
        clock.now_s += pause
        answer = windows.hit("a")
        assert 1 <= answer.more_in_s <= WINDOW_S
        if not answer.granted:
            clock.now_s += answer.more_in_s + 0.001
            assert windows.hit("a").granted


def test_each_subject_has_its_own_window(clock):
    windows = SlidingWindow("test", 1, clock=clock)
    assert [windows.hit(name).granted for name in ("a", "b", "a", "b")] == [True, True, False, False]


def test_what_is_given_back_does_not_count(clock):
    windows = SlidingWindow("test", 1, clock=clock)
    for _ in range(5):
        assert windows.hit("a").granted
        windows.undo("a")
    windows.undo("a")
    windows.undo("nobody")
    assert [windows.hit("a").granted for _ in range(2)] == [True, False]


def test_a_crowd_of_subjects_takes_a_bounded_memory(clock):
    windows = SlidingWindow("test", 120, clock=clock)
    tracemalloc.start()
    try:
        for number in range(60_000):
            windows.hit(f"10.{number >> 8}.{number & 255}.0/24")
        assert len(windows) == 10_000
        of_rates = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, rate_limits.__file__), tracemalloc.Filter(True, __file__)]
        )
        assert (
            sum(trace.size for trace in of_rates.traces) < 20_000_000
        )  # a service in another thread allocates too
    finally:
        tracemalloc.stop()
    assert "10.0.0.0/24" not in windows
    assert f"10.{59_999 >> 8}.{59_999 & 255}.0/24" in windows


def test_whoever_keeps_asking_is_not_forgotten_for_others(clock):
    windows = SlidingWindow("test", 1, subjects=10, clock=clock)
    assert windows.hit("a").granted
    for number in range(1_000):
        windows.hit(str(number))
        assert not windows.hit("a").granted


def test_the_silent_are_forgotten_while_others_ask(clock):
    windows = SlidingWindow("test", 5, clock=clock)
    for number in range(1_000):
        windows.hit(str(number))
    clock.now_s += WINDOW_S + 1
    for _ in range(600):
        windows.hit("a")
    assert len(windows) == 1


# --- in Redis or Valkey -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def store(valkey):
    made = [RateStore(valkey.url), RateStore(valkey.url)]
    yield made
    for one in made:
        await one.close()


async def test_processes_that_share_a_store_let_the_limit_pass_together(store, monkeypatch):
    monkeypatch.setattr(
        rate_limits, "STORE_DEADLINE_S", 30
    )  # who is too slow to hear the store counts by itself
    quotas = [SharedLimit("test", 25, one) for one in store]
    answers = await asyncio.gather(*(quotas[n % 2].hit("together") for n in range(60)))
    assert sum(answer.granted for answer in answers) == 25
    refused = next(answer for answer in answers if not answer.granted)
    assert (refused.remaining, refused.more_in_s) in {(0, 60), (0, 59)}
    assert (await quotas[0].hit("another")).remaining == 24


async def test_what_was_counted_in_a_store_outlives_the_process(valkey):
    before = RateStore(valkey.url)
    assert [(await before.hit("test", 3, "restart")).granted for _ in range(3)] == [True] * 3
    await before.close()
    after = RateStore(valkey.url)
    assert not (await after.hit("test", 3, "restart")).granted
    await after.close()


async def test_a_store_that_is_away_is_said_once_and_each_process_counts_by_itself(valkey, store, logged):
    quotas = [SharedLimit("test", 2, one) for one in store]
    assert (await quotas[0].hit("away")).granted
    logs = logged(rate_limits)
    valkey.stop()
    try:
        answers = [await quotas[0].hit("away") for _ in range(5)]
    finally:
        valkey.start()
    assert [answer.granted for answer in answers] == [True, True, False, False, False]
    assert [answer.remaining for answer in answers[:3]] == [1, 0, 0]
    until = time.monotonic() + 30
    while len(logs) < 2:
        assert time.monotonic() < until, "the store was not asked again"
        await quotas[0].hit("later")
        await asyncio.sleep(0.05)
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]


async def test_a_store_that_is_silent_holds_a_request_up_for_a_second_and_then_nobody():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = RateStore(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        quota = SharedLimit("test", 100, one)
        started = time.monotonic()
        await quota.hit("a")
        assert time.monotonic() - started < STORE_DEADLINE_S + 1
        started = time.monotonic()
        answers = await asyncio.gather(*(quota.hit("a") for _ in range(50)))
        assert all(answer.granted for answer in answers)
        assert time.monotonic() - started < STORE_DEADLINE_S
        await one.close()


async def test_a_store_nobody_listens_for_refuses_nobody():
    one = RateStore(f"redis://127.0.0.1:{development.free_port()}")
    assert (await SharedLimit("test", 1, one).hit("a")).granted
    await one.close()


def test_a_store_without_its_libraries_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "limits", None)
    with pytest.raises(ConfigurationError, match=r"paytrust\[redis\]"):
        RateStore("redis://127.0.0.1:1")
