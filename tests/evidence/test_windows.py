"""Where the windows of a baseline may lie, told from a document alone: honest ones verify, and each slip is named."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import pytest

from headrace.core.power.baseline import Method
from headrace.core.power.settlement import Case, Readings, settle
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from headrace.evidence.figures import wrong_windows
from headrace.evidence.verify import meanwhile
from tests.core.power.test_settlement import QUARTER, local_ms, read, version

Document = dict[str, Any]
AT_MS = local_ms("2026-11-18T17:00")
"""A Wednesday; the notification came an hour before, and an odd part of a second."""
ASKED_MS = AT_MS - MS_PER_HOUR + 789


def document(at_ms: int, method: Method, *, asked_ms: int = 0, rows: Any = ()) -> Document:
    """What the evidence of a quarter of an hour has of its baseline; always 700 W where nothing else is said."""
    one = version(5, at_ms, at_ms + QUARTER, received_ms=asked_ms or at_ms - MS_PER_HOUR + 789)
    readings = Readings(read(*(rows or [(0, 700)])), at_ms + MS_PER_HOUR)
    found = settle(Case((one,), readings, 10_000, "Europe/Oslo"), QUARTER, method)
    assert found.baseline.method == method
    given = readings.within(found.intervals[0].from_ms, found.intervals[-1].until_ms)
    adjustment = found.baseline.adjustment
    return {
        "site": {"zone": "Europe/Oslo", "allowed_w": 10_000},
        "instruction": {
            "versions": [{**asdict(one.instruction), "received_ms": one.received_ms, "ended_ms": 0}]
        },
        "overlapping": [],
        "as_of_ms": readings.known_until_ms,
        "interval_ms": QUARTER,
        "hold_ms": readings.hold_ms,
        "readings": [[each.at_ms, each.watts, each.source] for each in given],
        "baseline": {
            "method": method,
            "adjustment": None
            if adjustment is None
            else {"hour": window(adjustment.hour), "basis": [window(each) for each in adjustment.basis]},
        },
        "intervals": [
            {"from_ms": row.from_ms, "basis": [window(each) for each in row.basis]} for row in found.intervals
        ],
    }


def window(one: Any) -> list[int]:
    """As the document has it."""
    return [one.from_ms, one.until_ms, one.energy_mj, one.known_ms]


@pytest.mark.parametrize("method", ["high-5-of-10-adjusted", "high-5-of-10", "meter-before", "minute-before"])
@pytest.mark.parametrize(
    "at",
    ["2026-11-18T17:00", "2026-11-21T17:00", "2026-10-26T17:00", "2026-04-11T02:30", "2026-10-31T02:30"],
)
def test_what_the_rules_give_verifies(at: str, method: Method) -> None:
    """On working days and weekends, over both changes of the clock: two minds, one answer."""
    assert wrong_windows(document(local_ms(at), method)) == []


def _set(number: int, value: int) -> Callable[[Document], object]:
    return lambda d: d["intervals"][0]["basis"][3].__setitem__(number, value)


def _shifted(days: int = 0, by_ms: int = 0) -> Callable[[Document], object]:
    """The last window, moved."""

    def change(document: Document) -> None:
        last = document["intervals"][0]["basis"][-1]
        last[:2] = [at + days * MS_PER_DAY + by_ms for at in last[:2]]

    return change


def _twice(document: Document) -> None:
    basis = document["intervals"][0]["basis"]
    basis[4] = basis[3]


def _held(document: Document) -> None:
    began_ms = document["intervals"][0]["basis"][2][0] - 5 * MS_PER_HOUR
    one = {"from_ms": began_ms, "received_ms": began_ms, "until_ms": began_ms + 60_000, "ended_ms": 0}
    document["overlapping"].append(one)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_twice, "not on an earlier day than the one before it"),
        (_shifted(by_ms=QUARTER), "not at 17:00 local time"),
        (_shifted(by_ms=1), "not at 17:00 local time"),
        (_shifted(days=-3), "on a day of another kind"),
        (_shifted(days=-63), "more than 60 days back"),
        (_shifted(days=14), "not on an earlier day"),
        (_held, "on a day on which an instruction held"),
        (_set(1, AT_MS), "ms long, and not the 900000 ms"),
        (_set(3, 0), "has 0 ms of its 900000 known"),
        (_set(3, QUARTER + 1), "of its 900000 known"),
        (_set(3, QUARTER * 9 // 10 - 1), "less than nine tenths"),
        (lambda d: d["intervals"][0]["basis"][3].__setitem__(2, 1.5), "not in whole numbers"),
        (lambda d: d["baseline"]["adjustment"]["hour"].__setitem__(0, ASKED_MS), "not the 3600 s before"),
        (lambda d: d["baseline"]["adjustment"]["basis"].reverse(), "the adjustment: "),
        (lambda d: d["site"].update(zone="Asia/Tokyo"), "on a day of another kind"),
        (lambda d: d["site"].update(zone=["Europe/Oslo"]), "no time zone"),
    ],
)
def test_a_window_that_lies_elsewhere_is_named(change: Callable[[Document], object], named: str) -> None:
    """Another day, another time, another length, more or less known than the rules have it."""
    made = document(AT_MS, "high-5-of-10-adjusted")
    # The readings are constant and given from the beginning; what they say is another check's business.
    made["readings"] = []
    assert wrong_windows(made) == []
    change(made)
    wrong = wrong_windows(made)
    assert any(named in one for one in wrong), wrong


def test_a_window_is_held_to_the_readings_where_they_are_given() -> None:
    """The quarter in which the notification came is in the document: so is its minute before, to the millijoule."""
    rows = [(0, 700), (AT_MS + 60_000, 900)]
    made = document(AT_MS, "minute-before", asked_ms=AT_MS + 5 * MS_PER_MINUTE, rows=rows)
    assert made["intervals"][0]["basis"][0][2] == 900 * MS_PER_MINUTE
    assert wrong_windows(made) == []
    changed = deepcopy(made)
    changed["intervals"][0]["basis"][0][2] += 1
    (wrong,) = wrong_windows(changed)
    assert "and the readings 54000000 of 60000" in wrong


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], ""),
        ([("a", 900)], "1 other held meanwhile: a (at most 900 W)"),
        (
            [("a", 900), ("old", 700), ("a", 800)],
            "2 others held meanwhile: a (at most 800 W), old (at most 700 W)",
        ),
    ],
)
def test_others_that_held_meanwhile_are_named(others: list[tuple[str, int]], said: str) -> None:
    """By name and strictest limit, each once, however many versions it had."""
    assert meanwhile({"overlapping": [{"id": name, "limit_w": limit} for name, limit in others]}) == said
