"""What a meter sees beyond all that is known: late enough to be no echo of what was just shed, and soon enough to help."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.power.excess import (
    LASTS_MS,
    WINDOW_MS,
    Beyond,
    Counted,
    beyond_w,
    lasting_w,
    most_counted_w,
    own_excess,
    seen,
    step_w,
    tolerance_w,
    unseen,
    with_counted,
)

NAMEPLATE_W = 10_000
TOLERANCE_W = 100


def counted(*samples: tuple[int, int], kept_ms: int = WINDOW_MS) -> tuple[Counted, ...]:
    """A history, of ``(second, watts)``."""
    history: tuple[Counted, ...] = ()
    for second, watts in samples:
        history = with_counted(history, second * 1_000, watts, kept_ms)
    return history


STEADY = counted(*((second, 5_000) for second in range(20)))
SHED = counted(*((second, 5_000 if second < 8 else 3_000) for second in range(25)), kept_ms=60_000)
"""From second 8 on two kilowatts less are counted."""


@pytest.mark.parametrize(
    ("history", "reading_w", "second", "beyond"),
    [
        pytest.param(STEADY, 5_000, 19, 0, id="as counted"),
        pytest.param(STEADY, 4_000, 19, 0, id="below what is counted adds nothing and takes nothing"),
        pytest.param(STEADY, 5_100, 19, 0, id="within what meters and catalogues are exact to"),
        pytest.param(STEADY, 5_101, 19, 1, id="beyond"),
        pytest.param(SHED, 5_000, 9, None, id="what was counted is not known far enough back"),
        pytest.param(SHED, 5_000, 17, 0, id="what was shed may still be drawn"),
        pytest.param(SHED, 5_000, 18, 1_900, id="after ten seconds it may not"),
        pytest.param((), 5_000, 18, None, id="nothing is known"),
    ],
)
def test_a_reading_is_compared_with_the_most_that_was_counted_before_it(
    history: tuple[Counted, ...], reading_w: int, second: int, beyond: int | None
) -> None:
    """From ten seconds before it on."""
    assert beyond_w(history, reading_w, second * 1_000, NAMEPLATE_W) == beyond


def test_what_was_counted_between_two_looks_is_known_at_the_next() -> None:
    """A start that was counted, and drew, between them is no surprise."""
    history = counted((0, 1_000), (10, 1_000), (11, 4_000))
    assert most_counted_w(history, 10_001) == 4_000
    assert most_counted_w(history, 10_000) == 1_000


@pytest.mark.parametrize(
    ("nameplate_w", "tolerance", "step"), [(10_000, 100, 100), (3_000, 50, 30), (10, 50, 1)]
)
def test_a_meter_is_exact_to_a_hundredth_of_its_nameplate(
    nameplate_w: int, tolerance: int, step: int
) -> None:
    """And to fifty watts at best; news comes in hundredths."""
    assert (tolerance_w(nameplate_w), step_w(nameplate_w)) == (tolerance, step)


def test_two_readings_in_a_row_show_it_and_it_counts_for_half_a_minute() -> None:
    """One alone may be a spike; the same one asked for again is no second one; the most of the time counts."""
    found = seen(Beyond(), 1_000, 700, 1_000)
    assert lasting_w(found, 1_000) == 0
    assert lasting_w(seen(found, 1_000, 700, 2_000), 2_000) == 0
    found = seen(found, 2_000, 500, 2_000)
    assert lasting_w(found, 2_000) == 500
    for second in range(3, 40):
        found = seen(found, second * 1_000, 0, second * 1_000)
        assert lasting_w(found, second * 1_000) == (500 if second * 1_000 < 2_000 + LASTS_MS else 0)


def test_a_meter_that_is_not_believed_keeps_what_it_showed_until_others_readings_say_less() -> None:
    """However long it lasts; believed again, it has to show for half a minute that it is gone."""
    found = unseen(600, 100_000)
    assert lasting_w(found, 100_000) == 600
    found = seen(found, 101_000, 0, 101_000)
    assert lasting_w(found, 101_000) == 600
    assert lasting_w(seen(found, 131_000, 0, 131_000), 131_000) == 0
    assert lasting_w(unseen(0, 100_000), 100_000) == 0


PARENTS = (-1, 0, 0, 1, 1)
"""A connection, two feeds, and two blocks at the first feed."""
STEPS = dict.fromkeys(range(5), 100)


@pytest.mark.parametrize(
    ("found", "known", "own"),
    [
        pytest.param({0: 310, 1: 310, 3: 310}, {}, {0: 0, 1: 0, 3: 400}, id="once, where it is"),
        pytest.param(
            {0: 500, 1: 310, 3: 100}, {}, {0: 100, 1: 300, 3: 100}, id="each adds what is not below it"
        ),
        pytest.param({0: 310}, {}, {0: 400}, id="where nothing below is metered"),
        pytest.param({0: 310, 1: 0, 2: 0}, {}, {0: 400, 1: 0, 2: 0}, id="between a connection and its feeds"),
        pytest.param({0: 310, 3: None}, {3: 400}, {0: 0, 3: 400}, id="who can't tell keeps what is known"),
        pytest.param({0: None, 3: 0}, {0: 400, 3: 400}, {0: 400, 3: 0}, id="and so does who is above"),
    ],
)
def test_what_is_seen_below_is_not_counted_above_too(
    found: dict[int, int | None], known: dict[int, int], own: dict[int, int]
) -> None:
    """Children first."""
    assert own_excess(found, known, PARENTS, STEPS) == own


@given(st.dictionaries(st.integers(0, 4), st.integers(0, 5_000)))
def test_all_that_is_seen_at_an_element_counts_there_and_little_more(found: dict[int, int]) -> None:
    """With what counts below it, at least what its own meter shows; and only rounding beyond the most that anybody shows."""
    own = own_excess(found, {}, PARENTS, STEPS)
    for element, watts in found.items():
        there = sum(more for below, more in own.items() if element in _above(below))
        assert there >= watts
    assert all(more % 100 == 0 for more in own.values())
    if found and len(found) == 1:
        assert sum(own.values()) < max(found.values()) + 100


def _above(element: int) -> list[int]:
    return [] if element < 0 else [element, *_above(PARENTS[element])]


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 9)), min_size=1, max_size=60))
def test_a_shortened_history_says_what_the_whole_says(steps: list[tuple[int, int]]) -> None:
    """Whatever was left out, the most of the last ten seconds is the same."""
    now_ms, history, whole = 0, tuple[Counted, ...](), tuple[Counted, ...]()
    for passed_ms, watts in steps:
        now_ms += passed_ms
        history = with_counted(history, now_ms, watts)
        whole = (*whole, Counted(now_ms, watts))
    assert most_counted_w(history, now_ms) == most_counted_w(whole, now_ms)
    assert len(history) <= len(whole)


def test_a_clock_that_was_set_back_begins_anew() -> None:
    """What was noted of a time that is still to come is no history."""
    history = with_counted(STEADY, 3_000, 700)
    assert history == (Counted(3_000, 700),)
