"""What the grid allows at an instant, where its flexible part has windows in the site's zone."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.estate import Connection, FlexibleWindow
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE

OSLO, LONDON = "Europe/Oslo", "Europe/London"
WORKDAYS = (0, 1, 2, 3, 4)
NIGHTS = FlexibleWindow(WORKDAYS, 22 * 60, 6 * 60)
WEEKEND = FlexibleWindow((5, 6))
LINE = Connection(20, 10, windows=(NIGHTS, WEEKEND))


def ms(text: str) -> int:
    """An instant, in UTC where it does not say otherwise."""
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 1_000


@pytest.mark.parametrize(
    ("at", "limit_w"),
    [
        ("2026-11-23T12:00+01:00", 20),  # a Monday
        ("2026-11-23T21:59+01:00", 20),
        ("2026-11-23T22:00+01:00", 30),
        ("2026-11-24T05:59+01:00", 30),
        ("2026-11-24T06:00+01:00", 20),
        ("2026-11-27T23:00+01:00", 30),  # Friday night into Saturday, which is open too
        ("2026-11-29T23:59+01:00", 30),
        ("2026-11-30T00:00+01:00", 20),  # Sunday is no workday: its night does not reach into Monday
        ("2026-11-23T21:00", 30),  # in UTC: 22:00 in Oslo
    ],
)
def test_windows_are_in_the_time_of_the_site(at: str, limit_w: int) -> None:
    """Firm and flexible within them, firm outside."""
    assert LINE.limit_w(ms(at), OSLO) == limit_w


@pytest.mark.parametrize(
    ("at", "change"),
    [
        ("2026-11-23T12:00+01:00", "2026-11-23T22:00+01:00"),
        ("2026-11-23T22:00+01:00", "2026-11-24T06:00+01:00"),
        ("2026-11-27T22:30+01:00", "2026-11-30T00:00+01:00"),
        ("2026-11-30T00:00+01:00", "2026-11-30T22:00+01:00"),
    ],
)
def test_the_next_change_is_known(at: str, change: str) -> None:
    """Where one window goes over into another nothing changes."""
    assert LINE.next_change_ms(ms(at), OSLO) == ms(change)


def test_without_windows_the_flexible_part_is_always_there() -> None:
    """And without a flexible part there is nothing to open."""
    assert Connection(20, 10).limit_w(0, OSLO) == 30
    assert Connection(20, 10).next_change_ms(0, OSLO) is None
    assert Connection(20, windows=(NIGHTS,)).next_change_ms(0, OSLO) is None
    assert Connection(20, 10, windows=(FlexibleWindow(tuple(range(7))),)).next_change_ms(0, OSLO) is None


@pytest.mark.parametrize(
    ("at", "change"),
    [
        # The clock is put on over the window's beginning: it opens when it is past that on the clock.
        ("2026-03-29T00:30+00:00", "2026-03-29T01:00+00:00"),
        # It is put back: a quarter past two comes twice, and so does the window.
        ("2026-10-24T23:59+00:00", "2026-10-25T00:15+00:00"),
        ("2026-10-25T00:20+00:00", "2026-10-25T00:45+00:00"),
        ("2026-10-25T00:50+00:00", "2026-10-25T01:15+00:00"),
    ],
)
def test_days_on_which_the_clock_changes(at: str, change: str) -> None:
    """A quarter past two to a quarter to three, on the nights of the change in Oslo."""
    line = Connection(20, 10, windows=(FlexibleWindow((6,), 2 * 60 + 15, 2 * 60 + 45),))
    if "03-29" in at:
        line = Connection(20, 10, windows=(FlexibleWindow((6,), 2 * 60 + 15, 4 * 60),))
    assert line.next_change_ms(ms(at), OSLO) == ms(change)


windows = st.builds(
    FlexibleWindow,
    st.lists(st.integers(0, 6), min_size=1, unique=True).map(tuple),
    st.integers(0, 95).map(lambda quarter: quarter * 15),
    st.integers(1, 96).map(lambda quarter: quarter * 15),
)


@settings(deadline=None, max_examples=60)
@given(
    several=st.lists(windows, min_size=1, max_size=3).map(tuple),
    day=st.sampled_from(["2026-03-26", "2026-10-22", "2026-12-30", "2027-06-01"]),
    minute=st.integers(0, 5 * 1_440),
    zone=st.sampled_from([OSLO, LONDON, "UTC", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
def test_nothing_changes_before_the_next_change(
    several: tuple[FlexibleWindow, ...], day: str, minute: int, zone: str
) -> None:
    """Looked at every five minutes, as long as there is nothing to be seen; and then there is."""
    line = Connection(20, 10, windows=several)
    at_ms = ms(day) + minute * MS_PER_MINUTE
    change_ms, now_w = line.next_change_ms(at_ms, zone), line.limit_w(at_ms, zone)
    end_ms = at_ms + 9 * MS_PER_DAY - MS_PER_HOUR if change_ms is None else change_ms
    # The grid of five minutes is that of the hour, on which everything here changes.
    first_ms = at_ms // (5 * MS_PER_MINUTE) * (5 * MS_PER_MINUTE) + 5 * MS_PER_MINUTE
    for moment_ms in range(first_ms, end_ms, 5 * MS_PER_MINUTE):
        assert line.limit_w(moment_ms, zone) == now_w
    assert change_ms is None or line.limit_w(change_ms, zone) != now_w
