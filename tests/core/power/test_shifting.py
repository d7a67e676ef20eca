"""When an interruptible job runs: never too late, never by what nobody could know, and in the hours that are good."""

from collections.abc import Sequence
from math import cos, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.power.forecast import HOURS_OF_DAY, LEAST_HOURS, MOODS, STATES, Outlook, Past
from headrace.core.power.shifting import MOST_WINDOW_HOURS, Shifter, decisions


def days(count: int) -> list[float]:
    """A price that is low at night, every night."""
    return [100 + 50 * cos(2 * pi * ((hour - 14) % 24) / 24) for hour in range(24 * count)]


def chosen(past: Sequence[float], future: Sequence[float], length: int) -> list[int]:
    """In which hours of ``future`` a job of ``length`` hours runs that has all of them."""
    shifter = Shifter(length, len(future))
    for value in past:
        shifter.observe(value)
    found: list[int] = []
    for hour, value in enumerate(future):
        need = length - len(found)
        if shifter.runs(len(future) - hour, need):
            found.append(hour)
        shifter.observe(value)
    return found


def test_a_job_waits_for_the_night_when_every_night_was_cheap() -> None:
    """Three weeks of the same day: the eight hours of a day are those around two in the morning."""
    found = chosen(days(21), days(1), 8)
    assert len(found) == 8
    cost = sum(days(1)[hour] for hour in found)
    assert cost <= 1.03 * sum(sorted(days(1))[:8])


def test_a_long_window_is_not_wasted_on_the_first_good_hour() -> None:
    """Of a week the four hours are taken at the bottom of nights."""
    found = chosen(days(21), days(7), 4)
    assert max(days(7)[hour] for hour in found) <= 55


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0, 1_000), min_size=0, max_size=150),
    st.integers(1, 12).flatmap(lambda length: st.tuples(st.just(length), st.integers(length, 30))),
    st.integers(0, 2**32 - 1),
)
def test_every_job_gets_its_hours_in_its_window(past: list[float], asked: tuple[int, int], seed: int) -> None:
    """Whatever came, and whatever comes: exactly as many hours as it needs."""
    length, window = asked
    future = np.random.default_rng(seed).uniform(0, 1_000, window)
    assert len(chosen(past, future.tolist(), length)) == length


def test_with_nothing_seen_a_job_waits_until_it_must_run() -> None:
    """No forecast from nothing: the last hours of the window."""
    assert chosen([], [1.0] * 10, 3) == [7, 8, 9]
    assert Past().outlook() is None


def test_a_forecast_begins_after_three_days() -> None:
    """And each row of it is a distribution."""
    past = Past()
    for number, value in enumerate(days(4)):
        assert (past.outlook() is None) == (number < LEAST_HOURS)
        past.observe(value)
    outlook = past.outlook()
    assert outlook is not None
    assert outlook.moves.shape == (HOURS_OF_DAY, STATES, STATES)
    assert outlook.moves.sum(axis=2) == pytest.approx(1)
    assert outlook.moves.min() >= 0
    assert outlook.hour == 0


def test_the_unit_of_a_value_decides_nothing() -> None:
    """Grams or micrograms, prices or carbon: the same hours."""
    rng = np.random.default_rng(3)
    past, future = rng.gamma(2, 50, 400), rng.gamma(2, 50, 60)
    once = chosen(past.tolist(), future.tolist(), 10)
    assert chosen((1_000_000 * past).tolist(), (1_000_000 * future).tolist(), 10) == once
    assert len(set(once)) == 10


def test_what_comes_later_changes_nothing_that_was_decided_before() -> None:
    """Two futures that part at hour 40: until then, and in hour 40 itself, the same decisions."""
    rng = np.random.default_rng(5)
    past, future = rng.gamma(2, 50, 500).tolist(), rng.gamma(2, 50, 100).tolist()
    other = future[:40] + [10_000 - value for value in future[40:]]
    until = [hour for hour in chosen(past, future, 24) if hour <= 40]
    assert until == [hour for hour in chosen(past, other, 24) if hour <= 40]


def test_a_constant_price_is_no_reason_to_run_late_or_to_fail() -> None:
    """All ranks are equal; every job still gets its hours."""
    assert len(chosen([5.0] * 200, [5.0] * 48, 24)) == 24


def small_outlook(expected: float, later: float) -> Outlook:
    """Two states: the present one costs ``expected``, and afterwards everything costs ``later``."""
    moves = np.zeros((HOURS_OF_DAY, 2, 2))
    moves[:, :, 1] = 1
    costs = np.array([[expected, later]] * HOURS_OF_DAY)
    return Outlook(0, 0, moves, costs)


@pytest.mark.parametrize(("now", "later", "runs"), [(1.0, 2.0, True), (2.0, 1.0, False), (1.0, 1.0, True)])
def test_an_hour_is_taken_if_it_costs_no_more_than_those_to_come(
    now: float, later: float, runs: bool
) -> None:
    """Solved by hand: one hour of two."""
    table = decisions(small_outlook(now, later), 1, 2)
    assert bool(table[2, 0, 1, 0]) is runs


def test_a_job_that_needs_all_that_is_left_always_runs_and_one_that_needs_nothing_never() -> None:
    """At any price, in any state."""
    table = decisions(small_outlook(1e9, 1.0), 3, 5)
    for left in range(6):
        assert not table[left, :, 0].any()
        for need in range(max(1, left), 4):
            assert table[left, :, need].all()


@pytest.mark.parametrize(("length", "window"), [(0, 5), (6, 5), (1, MOST_WINDOW_HOURS + 1)])
def test_what_cannot_be_asked_is_refused(length: int, window: int) -> None:
    """No hours, more than there are, or more than a table may have."""
    with pytest.raises(ValueError, match="can't be chosen"):
        Shifter(length, window)


def test_states_are_levels_and_moods() -> None:
    """The lowest of many is the lowest level; after a day of lows the mood is low."""
    past = Past()
    for value in [*range(1_000, 1_100), *range(999, 975, -1)]:
        past.observe(float(value))
    assert past.state == 0
    for value in range(2_000, 2_024):
        past.observe(float(value))
    assert past.state == STATES - 1
    assert past.state % MOODS == MOODS - 1
