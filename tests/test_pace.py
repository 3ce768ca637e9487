"""Pace: even, never above the rate, and slower when the provider asks for it."""

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallycast.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def send(pace: Pace, clock: Clock, count: int, late: list[float] | None = None) -> list[float]:
    """When each of so many messages goes, if the sender is late by the given seconds at the first ones."""
    moments = []
    for n in range(count):
        clock.now += pace.delay()
        pace.take()
        clock.now += late[n % len(late)] if late else 0.0
        moments.append(clock.now)
    return moments


def busiest_second(moments: list[float]) -> int:
    return max(bisect_left(moments, first + 1) - n for n, first in enumerate(moments))


def test_a_minute_at_80_a_second_has_4800_messages() -> None:
    clock = Clock()
    moments = send(Pace(80, clock), clock, 4801)
    assert moments[-1] - moments[0] == pytest.approx(60.0)
    assert busiest_second(moments) <= 81


@settings(deadline=None, max_examples=50)
@given(late=st.lists(st.floats(0, 0.02), min_size=1, max_size=50), rate=st.sampled_from([20.0, 80.0, 1000.0]))
def test_no_second_has_more_than_the_rate_and_5_percent_however_late_the_sender_is(
    late: list[float], rate: float
) -> None:
    clock = Clock()
    moments = send(Pace(rate, clock), clock, int(rate * 2), late)
    assert busiest_second(moments) <= rate * 1.05 + 1


def test_a_sender_that_was_idle_does_not_catch_up_with_a_burst() -> None:
    clock = Clock()
    pace = Pace(10, clock)
    send(pace, clock, 5)
    clock.now += 60
    assert busiest_second(send(pace, clock, 30)) <= 11


def test_a_message_in_three_parts_takes_three_places() -> None:
    clock = Clock()
    pace = Pace(10, clock)
    assert pace.delay() == 0
    pace.take(3)
    assert pace.delay() == pytest.approx(0.27, abs=0.031)


def test_a_pause_that_the_provider_asks_for_is_kept() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    pace.take()
    pace.wait(4)
    assert pace.delay() == pytest.approx(4)
    clock.now += 4
    assert pace.delay() == 0


@pytest.mark.parametrize("limit", [10, 60])
def test_the_rate_settles_at_what_the_provider_takes(limit: int) -> None:
    clock = Clock()
    pace = Pace(100, clock)
    taken: list[float] = []
    refused = 0
    for n in range(6000):
        clock.now += pace.delay()
        pace.take()
        if sum(at > clock.now - 1 for at in taken[-200:]) < limit:
            taken.append(clock.now)
        else:
            pace.note_too_fast()
            refused += n > 1000
    last = [at for at in taken if at > clock.now - 20]
    assert len(last) / 20 == pytest.approx(limit, rel=0.1)
    assert refused / 5000 < 0.5


def test_the_full_rate_comes_back_when_nothing_is_refused_any_more() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    for _ in range(300):
        clock.now += pace.delay()
        pace.take()
        pace.note_too_fast()
    assert pace.rate < 15
    for _ in range(2000):
        clock.now += pace.delay()
        pace.take()
    assert pace.rate == 100
