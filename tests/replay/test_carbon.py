"""Carbon-aware shifting against what could be known, and against what could not."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from headrace.core.errors import HeadraceError
from headrace.replay.carbon import (
    column_of,
    contiguous_of,
    jobs_of,
    last_week_of,
    oracle_of,
    replay,
)
from headrace.signals.table import read_table

DATA = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[3] / "shared/data")) / "carbon_2022"


def series(hours: int, first: str = "2023-03-01T00:00") -> list[str]:
    start = np.datetime64(first)
    rng = np.random.default_rng(11)
    values = 200 + 80 * np.sin(np.arange(hours) * 2 * np.pi / 24) + rng.normal(0, 20, hours)
    return [
        f"{start + np.timedelta64(hour, 'h')}Z,{value:.2f},{value / 2:.2f}"
        for hour, value in enumerate(values)
    ]


def halves(rows: list[str]) -> list[str]:
    """Two values an hour."""
    return [row.replace(":00Z", f":{minute:02}Z") for row in rows for minute in (0, 30)]


def write(folder: Path, rows: list[str], head: str = "hour_utc,XX-ONE,XX-TWO") -> Path:
    path = folder / "ci.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


@pytest.mark.parametrize(("zone", "least"), [("NO-NO1", 0.70), ("US-MIDA-PJM", 0.55)])
def test_the_zones_in_which_it_is_hardest_keep_their_share_of_the_oracle(zone: str, least: float) -> None:
    """A whole year; the other zones are in the benchmark."""
    found = replay(DATA / "ci_hourly_2022.csv", [zone], 24, 168).zones[0]
    share, last_week = found.share(found.shifted), found.share(found.last_week)
    assert share is not None
    assert last_week is not None
    assert last_week < least <= share < 1
    assert found.jobs == 8_759 - 168 + 1


def test_the_oracle_is_that_of_trying_every_choice_of_hours() -> None:
    """Three hours of seven."""
    values = np.array([5, 3, 9, 1, 4, 1, 8, 2, 7], np.int64)
    best = [
        min(sum(values[i + hour] for hour in hours) for hours in combinations(range(7), 3)) for i in range(3)
    ]
    assert oracle_of(values, 3, 7).tolist() == best
    runs = [min(int(values[i + at : i + at + 3].sum()) for at in range(5)) for i in range(3)]
    assert contiguous_of(values, 3, 7).tolist() == runs


def test_last_week_s_hours_are_chosen_by_last_week_s_values_alone() -> None:
    """What was cheap a week before is taken, at the price of this week; before there was a week, at once."""
    values = np.arange(400, dtype=np.int64)
    values[10:12] = -1_000
    found = last_week_of(values, 2, 168)
    assert found[0] == values[0] + values[1]
    assert found[168] == values[178] + values[179]
    rising = np.arange(1_000, dtype=np.int64)
    assert last_week_of(rising, 2, 336)[336] == rising[336] + rising[337]


def test_decisions_never_use_what_came_later() -> None:
    """Two years that part at hour 600: whoever was done by then paid the same in both."""
    rng = np.random.default_rng(2)
    values = rng.integers(1, 1_000, 900)
    other = values.copy()
    other[600:] = 1_001 - other[600:]
    window = 100
    mine, theirs = jobs_of(values, 12, window), jobs_of(other, 12, window)
    assert (mine[: 600 - window + 1] == theirs[: 600 - window + 1]).all()
    assert (mine[600:] != theirs[600:]).any()


def test_no_job_does_better_than_the_oracle_or_misses_an_hour() -> None:
    """On a series of ones each job costs as many as it needs."""
    values = np.random.default_rng(4).integers(1, 1_000, 800)
    assert (jobs_of(values, 24, 168) >= oracle_of(values, 24, 168)).all()
    assert set(jobs_of(np.ones(500, np.int64), 24, 168).tolist()) == {24}


def test_a_series_is_the_same_in_any_unit(tmp_path: Path) -> None:
    """Half of everything is half of the cost, and the same share."""
    one, two = replay(write(tmp_path, series(700)), [], 8, 48).zones
    assert one.share(one.shifted) == pytest.approx(two.share(two.shifted), abs=1e-3)
    assert one.shifted == pytest.approx(2 * two.shifted, rel=1e-3)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("NO-NO1", "NO-NO1"),
        ("NO1", "NO-NO1"),
        ("no2", "NO-NO2"),
        ("ERCOT", "US-TEX-ERCO"),
        ("PJM", "US-MIDA-PJM"),
        ("GB", "GB"),
    ],
)
def test_a_zone_may_be_called_by_the_last_part_of_its_column(asked: str, found: str) -> None:
    """As people call it."""
    assert column_of(read_table(DATA / "ci_hourly_2022.csv"), asked) == found


def test_an_unknown_zone_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    """And what was meant."""
    path = write(tmp_path, series(200))
    with pytest.raises(
        HeadraceError, match=r"no column 'XX-ON' in .*known: XX-ONE, XX-TWO. Did you mean XX-ONE?"
    ):
        replay(path, ["XX-ON"], 24, 168)


def test_a_short_gap_is_held_and_told_and_a_long_one_parts_the_series(tmp_path: Path) -> None:
    """No job runs across a hole of a day; nobody is told a value that was not there."""
    rows = series(700)
    whole = replay(write(tmp_path, rows), ["ONE"], 8, 48).zones[0]
    held = replay(write(tmp_path, rows[:300] + rows[302:]), ["ONE"], 8, 48).zones[0]
    parted = replay(write(tmp_path, rows[:300] + rows[330:]), ["ONE"], 8, 48).zones[0]
    assert (whole.oddities, held.jobs) == ((), whole.jobs)
    assert len(held.oddities) == len(parted.oddities) == 1
    assert "missing" in held.oddities[0]
    assert parted.jobs == (300 - 47) + (370 - 47)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (series(100), "it has no 168 hours in a row."),
        (
            [row.replace(":00Z", f":{minute:02}Z") for row in series(200)[:100] for minute in (0, 30)],
            "30 minutes apart, not an hour",
        ),
    ],
)
def test_a_series_that_will_not_do_says_why(tmp_path: Path, rows: list[str], message: str) -> None:
    """Too short, or not by the hour."""
    with pytest.raises(HeadraceError, match=message):
        replay(write(tmp_path, rows), ["ONE"], 24, 168)


def test_an_intensity_below_nothing_is_refused(tmp_path: Path) -> None:
    """As `replay power` refuses it: a saving of it would be none."""
    rows = series(24 * 9)
    rows[30] = rows[30].replace(",", ",-", 1)
    with pytest.raises(
        HeadraceError, match=r"ci\.csv: XX-ONE: a carbon intensity below nothing\. Give grams"
    ):
        replay(write(tmp_path, rows), ["ONE"], 24, 168)


def test_times_without_an_offset_are_told(tmp_path: Path) -> None:
    """They are read as UTC, and nobody said so."""
    rows = [row.replace("Z,", ",") for row in series(24 * 9)]
    path = write(tmp_path, rows, "time,XX-ONE,XX-TWO")
    assert replay(path, ["ONE"], 24, 168).zones[0].oddities == (
        "times have no offset, and are taken to be in UTC",
    )
