"""Settlement of an instruction: every figure of an interval, and baselines that are checked by hand."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.ids import SiteId
from headrace.core.power.baseline import Method
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.reading import PowerReading, PowerSource
from headrace.core.power.settlement import Case, Readings, Settlement, Version, settle
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND

OSLO = ZoneInfo("Europe/Oslo")
QUARTER = 15 * MS_PER_MINUTE
TICK = 10 * MS_PER_SECOND
NOON = 1_795_003_200_000
"""2026-11-18T12:00Z, a Wednesday: 13:00 in Oslo."""


def version(
    limit_w: int, from_ms: int, until_ms: int = 0, received_ms: int | None = None, ended_ms: int = 0
) -> Version:
    """A version of the one instruction, received half an hour before it begins unless said otherwise."""
    one = Instruction(InstructionId("evening"), SiteId("fjord"), limit_w, from_ms, until_ms)
    return Version(one, from_ms - MS_PER_HOUR // 2 if received_ms is None else received_ms, ended_ms)


def read(*rows: tuple[int, int], source: PowerSource = "modelled") -> list[PowerReading]:
    """Readings ``(at_ms, watts)``."""
    return [PowerReading(watts, at_ms, source, "m") for at_ms, watts in rows]


def settled(
    versions: Sequence[Version],
    readings: Sequence[PowerReading],
    *,
    until_ms: int,
    method: Method = "meter-before",
    interval_ms: int = QUARTER,
    zone: str = "Europe/Oslo",
    held: tuple[tuple[int, int], ...] = (),
) -> Settlement:
    case = Case(tuple(versions), Readings(readings, until_ms), 10_000, zone, held)
    return settle(case, interval_ms, method)


# -- what asks nothing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit_w", "held_ms", "reduction_mj"),
    [
        (9_999, QUARTER, 500 * QUARTER),
        (10_000, 0, 0),
        (2_100_000_000, 0, 0),
    ],
)
def test_a_limit_at_or_above_the_connection_asks_nothing_and_nothing_is_due_to_it(
    limit_w: int, held_ms: int, reduction_mj: int
) -> None:
    """600 W before and 100 W during: what was shed was shed for somebody else."""
    rows = read((NOON - 2 * MS_PER_HOUR, 600), (NOON, 100))
    found = settled([version(limit_w, NOON, NOON + QUARTER)], rows, until_ms=NOON + MS_PER_HOUR)
    (row,) = found.intervals
    assert (row.held_ms, row.reduction_mj, row.compliance) == (held_ms, reduction_mj, "yes")
    assert found.totals.reduction_mj == reduction_mj
    assert (row.reduction_w is None) == (not held_ms)


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_an_interval_by_hand() -> None:
    """600 W until the instruction, 400 W after 3 minutes of it, 100 W from 13:05 on; limit 300 W, due with its beginning."""
    begins = NOON + 10 * MS_PER_MINUTE
    found = settled(
        [version(300, begins, NOON + 20 * MS_PER_MINUTE)],
        read(
            (NOON - 2 * MS_PER_HOUR, 600),
            (begins + 3 * MS_PER_MINUTE, 400),
            (begins + 5 * MS_PER_MINUTE, 100),
        ),
        until_ms=NOON + MS_PER_HOUR,
    )
    first, second = found.intervals
    assert (first.from_ms, second.from_ms) == (NOON, NOON + QUARTER)
    assert (first.instructed_least_w, first.instructed_mean_w, first.instructed_most_w) == (
        300,
        6_767,
        10_000,
    )
    # 13 minutes of 600 W and 2 of 400 W
    assert first.energy_mj == (13 * 600 + 2 * 400) * MS_PER_MINUTE
    assert (first.delivered_w, first.highest_w) == (573, 600)
    assert (first.held_ms, first.due_ms) == (5 * MS_PER_MINUTE, 5 * MS_PER_MINUTE)
    assert (first.due_highest_w, first.over_w, first.compliance) == (600, 300, "no")
    assert first.baseline_w == second.baseline_w == 600
    assert first.reduction_mj == (0 * 3 + 200 * 2) * MS_PER_MINUTE
    assert (first.reduction_w, second.reduction_w) == (80, 500)
    assert (second.due_highest_w, second.over_w, second.compliance) == (100, 0, "yes")
    assert (second.held_ms, second.highest_w) == (5 * MS_PER_MINUTE, 100)
    assert found.totals.reduction_mj == 400 * MS_PER_MINUTE + 500 * 5 * MS_PER_MINUTE
    assert (found.totals.yes, found.totals.no, found.totals.unknown) == (1, 1, 0)
    assert (found.final, found.until_ms) == (True, NOON + 20 * MS_PER_MINUTE)


@pytest.mark.parametrize(
    ("watts", "source", "compliance"),
    [
        (300, "measured", "yes"),
        (300, "modelled", "yes"),
        (301, "measured", "no"),
        (301, "modelled", "no"),
        (100, "stale", "unknown"),
        (900, "stale", "unknown"),
        (100, "nameplate", "unknown"),
    ],
)
def test_what_is_not_known_is_never_compliant(watts: int, source: PowerSource, compliance: str) -> None:
    """At the limit is under it; a stale meter, or nameplate, shows neither that it complied nor that it did not."""
    minutes = range(-1, 15)
    rows = read(*((NOON + one * MS_PER_MINUTE, watts) for one in minutes), source=source)
    (row,) = settled([version(300, NOON, NOON + QUARTER)], rows, until_ms=NOON + MS_PER_HOUR).intervals
    assert (row.compliance, row.source) == (compliance, source)
    assert row.known_ms + row.stale_ms == QUARTER
    assert row.energy_mj == watts * row.known_ms


@pytest.mark.parametrize(
    ("gap", "missing_s", "compliance"),
    [
        (range(0), 0, "yes"),
        (range(5, 6), 30, "unknown"),
        (range(5, 7), 90, "unknown"),
        (range(-2, 15), 900, "unknown"),
    ],
)
def test_a_gap_of_the_meter_is_missing_time(gap: range, missing_s: int, compliance: str) -> None:
    """A reading every half minute holds for a minute: it reaches half a minute into a hole, and no further."""
    halves = [half for half in range(-4, 30) if half // 2 not in gap]
    rows = read(*((NOON + half * MS_PER_MINUTE // 2, 100) for half in halves), source="measured")
    (row,) = settled([version(300, NOON, NOON + QUARTER)], rows, until_ms=NOON + MS_PER_HOUR).intervals
    assert row.missing_ms == missing_s * MS_PER_SECOND
    assert row.compliance == compliance
    assert row.source == ("missing" if missing_s else "measured")


def test_one_reading_above_is_a_breach_even_beside_a_gap() -> None:
    """What was seen above the limit is not excused by what was not seen."""
    rows = [*read((NOON, 900), source="measured"), *read((NOON + MS_PER_MINUTE, 0), source="stale")]
    (row,) = settled([version(300, NOON, NOON + QUARTER)], rows, until_ms=NOON + MS_PER_HOUR).intervals
    assert (row.compliance, row.over_w, row.source) == ("no", 600, "stale")


def test_an_instruction_that_holds_at_once_is_due_half_a_minute_later() -> None:
    """What is drawn until then is no breach."""
    one = version(300, NOON, NOON + QUARTER, received_ms=NOON)
    rows = read((NOON - MS_PER_DAY, 900), (NOON + 30 * MS_PER_SECOND, 300))
    (row,) = settled([one], rows, until_ms=NOON + MS_PER_HOUR).intervals
    assert (row.due_ms, row.held_ms, row.compliance) == (QUARTER - 30 * MS_PER_SECOND, QUARTER, "yes")
    late = read((NOON - MS_PER_DAY, 900), (NOON + 30 * MS_PER_SECOND + 1, 300))
    assert settled([one], late, until_ms=NOON + MS_PER_HOUR).intervals[0].compliance == "no"


def test_repeating_an_instruction_does_not_put_off_what_it_asks() -> None:
    """Replaced every 20 s, it would never be due; the loosest of what is due counts meanwhile."""
    steps = [NOON + number * 20 * MS_PER_SECOND for number in range(45)]
    versions = [
        version(300 + number, at, received_ms=at, ended_ms=later)
        for number, (at, later) in enumerate(pairwise([*steps, NOON + QUARTER]))
    ]
    (row,) = settled(versions, read((NOON - MS_PER_DAY, 900)), until_ms=NOON + MS_PER_HOUR).intervals
    assert row.due_ms == QUARTER - 30 * MS_PER_SECOND
    assert (row.instructed_least_w, row.over_w, row.compliance) == (300, 900 - 301, "no")


def test_what_is_still_to_come_is_held_against_nobody() -> None:
    """An instruction that goes on is settled up to now; the rest of the interval is neither known nor missing."""
    found = settled([version(300, NOON)], read((NOON - MS_PER_DAY, 200)), until_ms=NOON + 5 * MS_PER_MINUTE)
    (row,) = found.intervals
    assert not found.final
    assert (row.known_ms, row.coming_ms, row.missing_ms) == (5 * MS_PER_MINUTE, 10 * MS_PER_MINUTE, 0)
    assert (row.compliance, row.source, found.until_ms) == ("yes", "modelled", NOON + 5 * MS_PER_MINUTE)


def test_one_that_never_was_in_force_has_no_intervals() -> None:
    """It was withdrawn before it began."""
    found = settled([version(300, NOON, ended_ms=NOON - 1)], read((0, 1)), until_ms=NOON + MS_PER_HOUR)
    assert (found.intervals, found.final) == ((), False)


def test_no_other_interval_is_settled() -> None:
    """One that does not divide an hour would not be aligned."""
    with pytest.raises(ValueError, match="5m, 15m, 30m, 60m"):
        settled([version(300, NOON)], [], until_ms=NOON + 1, interval_ms=7)


@pytest.mark.parametrize(("day", "quarters"), [("2026-03-29", 92), ("2026-10-25", 100), ("2026-10-26", 96)])
def test_a_local_day_has_as_many_quarters_as_it_has(day: str, quarters: int) -> None:
    """23, 25 and 24 hours: intervals are of UTC, so that none is doubled or lost when the clock changes."""
    begins = datetime.fromisoformat(day).replace(tzinfo=OSLO)
    ends = begins + timedelta(days=1)
    from_ms, until_ms = (int(one.timestamp()) * 1_000 for one in (begins, ends))
    rows = settled([version(300, from_ms, until_ms)], read((0, 100)), until_ms=until_ms + 1).intervals
    assert len(rows) == quarters
    assert all(one.until_ms == other.from_ms for one, other in pairwise(rows))
    assert sum(one.energy_mj for one in rows) == 100 * (until_ms - from_ms)


# -- against brute force -----------------------------------------------------------------------------------------------


def oracle(
    versions: list[Version], readings: list[PowerReading], now_ms: int, start_ms: int
) -> dict[str, Any]:
    """One interval of five minutes, looked at every ten seconds: nothing here changes in between."""
    ticks = []
    for at_ms in range(start_ms, start_ms + 5 * MS_PER_MINUTE, TICK):
        heard = [one for one in readings if one.at_ms <= at_ms]
        newest = max((one.at_ms for one in heard), default=None)
        order: list[PowerSource] = ["measured", "modelled", "nameplate", "stale"]
        last = max(
            (one for one in heard if one.at_ms == newest),
            key=lambda one: (order.index(one.source), one.watts),
            default=None,
        )
        source: str = "missing"
        if at_ms >= now_ms:
            source = "coming"
        elif last is not None and not (last.source == "measured" and at_ms - last.at_ms >= MS_PER_MINUTE):
            source = last.source
        ticks.append(
            (at_ms, last.watts if last else 0, source, _asked(versions, at_ms), _owed(versions, at_ms))
        )
    known = [one for one in ticks if one[2] in ("measured", "modelled")]
    held = [one for one in ticks if one[3] is not None and one[2] != "coming"]
    due = [one for one in held if one[4] is not None]
    sure = [one for one in due if one in known]
    over = max((one[1] - (one[4] or 0) for one in sure), default=0)
    limits = [10_000 if one[3] is None else one[3] for one in ticks]
    verdict = "yes" if due else "not due"
    verdict = "unknown" if len(sure) < len(due) else verdict
    ranks = ["measured", "modelled", "nameplate", "stale", "missing"]
    return {
        "energy_mj": sum(one[1] for one in known) * TICK,
        "known_ms": len(known) * TICK,
        "stale_ms": sum(one[2] in ("stale", "nameplate") for one in ticks) * TICK,
        "missing_ms": sum(one[2] == "missing" for one in ticks) * TICK,
        "coming_ms": sum(one[2] == "coming" for one in ticks) * TICK,
        "highest_w": max((one[1] for one in known), default=None),
        "delivered_w": round(sum(one[1] for one in known) / len(known)) if known else None,
        "source": ranks[max(ranks.index(one[2]) for one in held or ticks if one[2] != "coming")],
        "instructed_least_w": min(limits),
        "instructed_most_w": max(limits),
        "instructed_mean_w": round(sum(limits) / len(limits)),
        "held_ms": len(held) * TICK,
        "held_known_ms": sum(one in known for one in held) * TICK,
        "held_energy_mj": sum(one[1] for one in held if one in known) * TICK,
        "due_ms": len(due) * TICK,
        "due_unknown_ms": (len(due) - len(sure)) * TICK,
        "due_highest_w": max((one[1] for one in sure), default=None),
        "over_w": max(0, over),
        "compliance": "no" if over > 0 else verdict,
    }


def _on(one: Version, at_ms: int) -> bool:
    begun = at_ms >= one.received_ms and at_ms >= one.instruction.from_ms
    is_over = (one.ended_ms and at_ms >= one.ended_ms) or (
        one.instruction.until_ms and at_ms >= one.instruction.until_ms
    )
    return begun and not is_over


def _asked(versions: list[Version], at_ms: int) -> int | None:
    return next((one.instruction.limit_w for one in versions if _on(one, at_ms)), None)


def _owed(versions: list[Version], at_ms: int) -> int | None:
    """The least, over every version due by now that led here without a gap, of the most asked since it."""
    if _asked(versions, at_ms) is None:
        return None
    found = []
    for first, one in enumerate(versions):
        begins_ms = max(one.instruction.from_ms, one.received_ms)
        if not _on(one, begins_ms) or at_ms < max(one.instruction.from_ms, one.received_ms + 30_000):
            continue
        asked = [_asked(versions[first:], moment) for moment in range(begins_ms, at_ms + TICK, TICK)]
        if None not in asked:
            found.append(max(limit_w or 0 for limit_w in asked))
    return min(found, default=None)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Version], list[PowerReading], int]:
    """Versions that follow each other, readings of all sources in any order, and now; all on whole ticks."""
    ticks = st.integers(-40, 70)
    received = sorted(draw(st.lists(ticks, min_size=1, max_size=4, unique=True)))
    ends = [*received[1:], draw(st.one_of(st.none(), st.integers(received[-1] + 1, 90)))]
    versions = []
    for at, end in zip(received, ends, strict=True):
        starts = at + draw(st.sampled_from([0, 0, -5, 3, 12]))
        lasts = draw(st.sampled_from([0, 0, 20, 45]))
        until_ms = NOON + (max(starts, at) + lasts) * TICK if lasts else 0
        ended_ms = NOON + end * TICK if end is not None else 0
        if until_ms and ended_ms and until_ms <= ended_ms:
            ended_ms = 0
        limit_w = draw(st.integers(1, 9)) * 100
        versions.append(version(limit_w, NOON + starts * TICK, until_ms, NOON + at * TICK, ended_ms))
    kinds: st.SearchStrategy[PowerSource] = st.sampled_from(["measured", "modelled", "stale", "nameplate"])
    row = st.builds(
        lambda at, watts, source: PowerReading(watts * 100, NOON + at * TICK, source),
        st.integers(-45, 90),
        st.integers(0, 10),
        kinds,
    )
    return versions, draw(st.lists(row, max_size=40)), NOON + draw(st.integers(0, 95)) * TICK


@settings(max_examples=60, deadline=None)
@given(cases())
def test_every_figure_is_that_of_a_plain_look_every_ten_seconds(
    case: tuple[list[Version], list[PowerReading], int],
) -> None:
    """Whatever replaces what, and whatever the meter says or does not say."""
    versions, readings, now_ms = case
    found = settled(
        versions, readings, until_ms=now_ms, interval_ms=5 * MS_PER_MINUTE, method="minute-before"
    )
    for row in found.intervals:
        expected = oracle(versions, readings, now_ms, row.from_ms)
        assert {name: value for name, value in asdict(row).items() if name in expected} == expected
        if row.baseline_w is not None:
            assert row.reduction_mj == row.baseline_w * row.held_known_ms - row.held_energy_mj
    starts = [row.from_ms for row in found.intervals]
    span = [at for at in range(NOON - 60 * TICK, now_ms, TICK) if _asked(versions, at) is not None]
    assert (not starts) == (not span)
    if span:
        length = 5 * MS_PER_MINUTE
        assert starts == list(range(span[0] // length * length, span[-1] + 1, length))


# -- baselines ---------------------------------------------------------------------------------------------------------


def local_ms(text: str, fold: int = 0) -> int:
    """An instant by the clock of Oslo."""
    return int(datetime.fromisoformat(text).replace(tzinfo=OSLO, fold=fold).timestamp()) * 1_000


def on(days: dict[str, int], at: str = "17:00", minutes: int = 60) -> list[PowerReading]:
    """So many watts on each day from a local time on, for some minutes, and 1 W at all other times."""
    rows = [(0, 1)]
    for day, watts in sorted(days.items()):
        begins_ms = local_ms(f"{day}T{at}")
        rows += [(begins_ms, watts), (begins_ms + minutes * MS_PER_MINUTE, 1)]
    return read(*rows)


WORKING = {
    "2026-11-17": 100, "2026-11-16": 900, "2026-11-13": 300, "2026-11-12": 400, "2026-11-11": 500,
    "2026-11-10": 800, "2026-11-09": 700, "2026-11-06": 200, "2026-11-05": 600, "2026-11-04": 1_000,
}  # fmt: skip
"""The ten working days before Wednesday, 18 November 2026: the five highest are 1,000, 900, 800, 700 and 600."""
WEEKEND = {"2026-11-15": 5_000, "2026-11-14": 5_000, "2026-11-08": 5_000, "2026-11-07": 5_000}
EVENING_MS = local_ms("2026-11-18T17:00")
EVENING = [version(50, EVENING_MS, EVENING_MS + QUARTER, received_ms=local_ms("2026-11-18T16:00"))]


def test_the_five_highest_of_ten_working_days() -> None:
    """At the same local time; weekends, and working days before those ten, do not count: mean 800 W."""
    found = settled(
        EVENING,
        on(WORKING | WEEKEND | {"2026-11-03": 9_000}),
        until_ms=EVENING_MS + MS_PER_HOUR,
        method="high-5-of-10",
    )
    (row,) = found.intervals
    assert row.baseline_w == 800
    assert (found.baseline.method, found.baseline.take, found.baseline.reasons) == ("high-5-of-10", 5, ())
    assert [one.mean_w for one in row.basis] == [100, 900, 300, 400, 500, 800, 700, 200, 600, 1_000]


def test_a_day_with_an_instruction_is_nobodys_baseline() -> None:
    """The highest is left out, and an eleventh day comes in: (950 + 900 + 800 + 700 + 600) / 5 = 790."""
    day_ms = local_ms("2026-11-04T03:00")
    found = settled(
        EVENING,
        on(WORKING | {"2026-11-03": 950}),
        until_ms=EVENING_MS + MS_PER_HOUR,
        method="high-5-of-10",
        held=((day_ms, day_ms + MS_PER_MINUTE),),
    )
    assert found.intervals[0].baseline_w == 790


def test_a_saturday_is_compared_with_weekends() -> None:
    """Ten non-working days are five weekends: 10 to 100 W on them, the five highest 80."""
    saturday_ms = local_ms("2026-11-21T17:00")
    days = [datetime(2026, 11, 15) - timedelta(days=7 * back + off) for back in range(5) for off in (0, 1)]  # noqa: DTZ001
    known = {f"{one:%Y-%m-%d}": 10 * (number + 1) for number, one in enumerate(days)}
    one = version(5, saturday_ms, saturday_ms + QUARTER)
    found = settled([one], on(known | WORKING), until_ms=saturday_ms + MS_PER_HOUR, method="high-5-of-10")
    assert found.intervals[0].baseline_w == 80


def test_the_adjustment_is_what_the_hour_before_was_above_its_own_comparable_hours() -> None:
    """250 W in the hour before, 50 W in those hours of the ten days: 200 W are added to 800."""
    asked_ms = EVENING[0].received_ms
    rows = [(0, 1)]
    for day, watts in sorted(WORKING.items()):
        begins_ms = local_ms(f"{day}T15:00")
        rows += [(begins_ms, 50), (begins_ms + MS_PER_HOUR, 1), (begins_ms + 2 * MS_PER_HOUR, watts)]
        rows += [(begins_ms + 3 * MS_PER_HOUR, 1)]
    rows += [(asked_ms - MS_PER_HOUR, 250), (asked_ms, 1)]
    found = settled(EVENING, read(*rows), until_ms=EVENING_MS + MS_PER_HOUR, method="high-5-of-10-adjusted")
    assert found.baseline.adjustment is not None
    assert found.baseline.adjustment.watts == 200
    assert found.intervals[0].baseline_w == 1_000


def test_the_hour_before_the_notification() -> None:
    """A quarter of it 100 W and three quarters 500 W: 400 W, whatever was drawn between notification and beginning."""
    asked_ms = EVENING[0].received_ms
    rows = read((asked_ms - MS_PER_HOUR, 100), (asked_ms - 3 * QUARTER, 500), (asked_ms, 9_000))
    found = settled(EVENING, rows, until_ms=EVENING_MS + MS_PER_HOUR, method="meter-before")
    assert (found.intervals[0].baseline_w, found.baseline.method) == (400, "meter-before")


@pytest.mark.parametrize(
    ("begins_s", "method", "watts", "reasons"),
    [
        (-3_600, "meter-before", 700, 2),
        (-3_240, "meter-before", 700, 2),
        (-3_239, "minute-before", 700, 3),
        (-1, "minute-before", 700, 3),
        (0, "none", None, 4),
    ],
)
def test_a_method_without_what_it_needs_gives_way_and_says_why(
    begins_s: int, method: str, watts: int | None, reasons: int
) -> None:
    """With readings from so many seconds before the notification on: nine tenths of the hour must be known."""
    rows = read((EVENING[0].received_ms + begins_s * MS_PER_SECOND, 700))
    found = settled(EVENING, rows, until_ms=EVENING_MS + MS_PER_HOUR, method="high-5-of-10-adjusted")
    assert (found.baseline.method, found.intervals[0].baseline_w) == (method, watts)
    assert len(found.baseline.reasons) == reasons
    said = "0 of 10 working days without an instruction have readings at 17:00"
    assert any(said in one for one in found.baseline.reasons)
    if watts is None:
        assert found.intervals[0].reduction_mj is None
        assert found.totals.reduction_mj is None


def test_the_same_local_time_is_kept_over_a_change_of_the_clock() -> None:
    """On Monday, 26 October 2026, winter time has just begun: all ten days before were an hour further from UTC."""
    days = [datetime(2026, 10, 23) - timedelta(days=back) for back in range(14)]  # noqa: DTZ001
    known = {f"{one:%Y-%m-%d}": 500 for one in days if one.weekday() < 5}
    at_ms = local_ms("2026-10-26T17:00")
    found = settled(
        [version(5, at_ms, at_ms + QUARTER)],
        on(known, minutes=15),
        until_ms=at_ms + MS_PER_HOUR,
        method="high-5-of-10",
    )
    (row,) = found.intervals
    assert (row.baseline_w, len(row.basis)) == (500, 10)
    assert (at_ms - row.basis[0].from_ms) % MS_PER_DAY == MS_PER_HOUR


def test_a_local_time_that_a_day_does_not_have_is_not_looked_for_on_it() -> None:
    """On 29 March 2026 there is no 02:30 in Oslo: another day takes its place, and nothing is shifted."""
    at_ms = local_ms("2026-04-11T02:30")
    found = settled(
        [version(5, at_ms, at_ms + QUARTER)],
        read((0, 7)),
        until_ms=at_ms + MS_PER_HOUR,
        method="high-5-of-10",
    )
    (row,) = found.intervals
    days = [datetime.fromtimestamp(one.from_ms // 1_000, OSLO) for one in row.basis]
    assert [f"{one:%H:%M}" for one in days] == ["02:30"] * 10
    assert [f"{one:%m-%d}" for one in days[:4]] == ["04-05", "04-04", "03-28", "03-22"]


def test_an_hour_that_comes_twice_is_compared_with_the_one_hour_of_other_days() -> None:
    """Both 02:30 of 25 October 2026 have the same ten days behind them; of such a day itself the first one counts."""
    first_ms, second_ms = local_ms("2026-10-25T02:30"), local_ms("2026-10-25T02:30", 1)
    assert second_ms - first_ms == MS_PER_HOUR
    one = version(5, first_ms, second_ms + QUARTER)
    rows = settled([one], read((0, 7)), until_ms=second_ms + MS_PER_HOUR, method="high-5-of-10").intervals
    assert rows[0].basis == rows[-1].basis
    later_ms = local_ms("2026-10-31T02:30")
    later = settled(
        [version(5, later_ms, later_ms + QUARTER)],
        read((0, 7)),
        until_ms=later_ms + MS_PER_HOUR,
        method="high-5-of-10",
    )
    assert later.intervals[0].basis[0].from_ms == first_ms
