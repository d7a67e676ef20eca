"""From a grid operator's events to instructions: what they say, and what holds where they say nothing sensible."""

import itertools
import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction
from headrace.core.power.openadr import (
    FOLLOWED,
    MOST_FINDINGS,
    MOST_PER_SITE,
    OTHERS,
    Heard,
    SiteSignals,
    difference,
    read,
)
from headrace.core.power.openadr_reports import (
    Metered,
    acknowledgement,
    due,
    metered,
    operating_state,
    report_body,
)
from headrace.core.power.openadr_times import (
    FOREVER_MS,
    Length,
    Moment,
    parse_length,
    parse_moment,
    schedule_of,
)
from headrace.core.power.reading import PowerReading
from tests.lab.oracle import DATA

HOUR = 3_600_000
DAY = 24 * HOUR
T0 = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000)
FJORD = SiteSignals(
    site=SiteId("fjord"),
    connection_w=50_000_000,
    simple_w=(40_000_000, 30_000_000, 10_000_000),
    emergency_w=8_000_000,
    unreadable_w=5_000_000,
    targets=frozenset({"fjord", "no4"}),
    zone="Europe/Oslo",
)
FELL = SiteSignals(
    site=SiteId("fell"),
    connection_w=20_000_000,
    simple_w=(15_000_000, 10_000_000, 5_000_000),
    emergency_w=2_000_000,
    unreadable_w=1_000_000,
    targets=frozenset({"fell"}),
)


def at(ms: int) -> str:
    """A time as a VTN writes it."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat().replace("+00:00", "Z")


START = at(T0)


def event(
    kind: str = "IMPORT_CAPACITY_LIMIT",
    value: Any = 20,
    unit: Any = "MW",
    *,
    start: Any = START,
    length: Any = "PT1H",
    ident: str = "e1",
    **more: Any,
) -> dict[str, Any]:
    """An event of one interval, as a VTN lists it."""
    return {
        "id": ident,
        "createdDateTime": at(T0 - DAY),
        "modificationDateTime": at(T0 - DAY),
        "objectType": "EVENT",
        "programID": "p1",
        "payloadDescriptors": [
            {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": unit}
        ],
        "intervalPeriod": {"start": start, "duration": length},
        "intervals": [{"id": 0, "payloads": [{"type": kind, "values": [value]}]}],
    } | more


def hear(*events: Any, now_ms: int = T0, **more: Any) -> Heard:
    """What events say for the fjord."""
    return read(events, more.pop("programs", ()), [FJORD], server="grid", now_ms=now_ms, **more)


def only(heard: Heard) -> Instruction:
    """The one instruction of a reading."""
    (found,) = heard.instructions
    return found


def codes(heard: Heard) -> list[str]:
    """What is odd about a reading."""
    return [one.code for one in heard.findings]


@pytest.mark.parametrize(
    ("kind", "near"),
    [
        ("IMPORT_CAPACTY_LIMIT", "IMPORT_CAPACITY_LIMIT"),
        ("IMPORT_CAPACITY_LIMITS", "IMPORT_CAPACITY_LIMIT"),
        ("dispatch_setpoit", "DISPATCH_SETPOINT"),
        ("ALERT_GRID_EMERGNCY", "ALERT_GRID_EMERGENCY"),
        ("X_OURS", ""),
        ("\x1b[31mRED", ""),
    ],
)
def test_a_type_that_nobody_knows_is_named_and_never_called_followed(kind: str, near: str) -> None:
    """A slip in a type's name may be a limit: what can't be read holds. Anything else is told, and asks nothing."""
    heard = hear(event(kind, 1.5, "KW"))
    (found,) = (one for one in heard.findings if one.code == "unknown_type")
    assert "which nobody knows" in found.message
    assert found.message.isprintable()
    assert (f"did it mean {near}?" in found.message) == bool(near)
    assert "not acknowledged" in found.effect
    assert [one.limit_w for one in heard.instructions] == ([5_000_000] if near else [])
    assert [one.is_understood for one in heard.followed] == [False]


@pytest.mark.parametrize("kind", sorted({*OTHERS, *FOLLOWED}))
def test_what_the_enumeration_has_is_known(kind: str) -> None:
    """Followed or not, it is no slip of another."""
    heard = hear(event(kind, 1, "KW"))
    assert "unknown_type" not in codes(heard)
    assert [one.is_understood for one in heard.followed] == [True]
    assert bool(heard.instructions) == (kind in FOLLOWED)


def test_the_enumeration_is_that_of_the_document() -> None:
    """Every type of the published list, and no other."""
    listed = DATA / "event-interval-payloads.schema.yaml"
    assert set(yaml.safe_load(listed.read_text())["definitions"]) == {*OTHERS, *FOLLOWED}


def test_an_event_is_understood_only_as_a_whole() -> None:
    """One type beside a known one, in an interval that is long over: no acknowledgement says that all of it is followed."""
    intervals = [
        {"id": 0, "payloads": [{"type": "IMPORT_CAPACTY_LIMIT", "values": [1]}]},
        {"id": 1, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [2]}]},
    ]
    heard = hear(event(intervals=intervals), now_ms=T0 + HOUR + HOUR // 2)
    assert [one.limit_w for one in heard.instructions] == [2_000_000]
    assert [one.is_understood for one in heard.followed] == [False]


SAID: list[tuple[str, str, Any, Any, int | None]] = [
    ("a limit in megawatts", "IMPORT_CAPACITY_LIMIT", 20, "MW", 20_000_000),
    ("in kilowatts", "IMPORT_CAPACITY_LIMIT", 20_000, "KW", 20_000_000),
    ("in watts", "IMPORT_CAPACITY_LIMIT", 20_000_000, "W", 20_000_000),
    ("a part of a watt is rounded down", "IMPORT_CAPACITY_LIMIT", 0.0129, "KW", 12),
    ("a decimal part is exact", "IMPORT_CAPACITY_LIMIT", 0.1, "KW", 100),
    ("nothing at all", "IMPORT_CAPACITY_LIMIT", 0, "KW", 0),
    ("a setpoint is held from above", "DISPATCH_SETPOINT", 12.5, "MW", 12_500_000),
    ("level 0 is no limit", "SIMPLE", 0, None, None),
    ("level 1", "SIMPLE", 1, None, 40_000_000),
    ("level 2", "SIMPLE", 2, None, 30_000_000),
    ("level 3", "SIMPLE", 3, None, 10_000_000),
    ("an emergency", "ALERT_GRID_EMERGENCY", "frequency is low", None, 8_000_000),
    ("a price is no limit", "PRICE", 0.17, "KWH", None),
    ("a limit of exports is none", "EXPORT_CAPACITY_LIMIT", 1, "KW", None),
]


@pytest.mark.parametrize(
    ("kind", "value", "unit", "limit_w"), [one[1:] for one in SAID], ids=[one[0] for one in SAID]
)
def test_a_signal_says_so_many_watts(kind: str, value: Any, unit: Any, limit_w: int | None) -> None:
    """Each of the four, in its units, at the meter."""
    heard = hear(event(kind, value, unit))
    assert [one.limit_w for one in heard.instructions] == ([] if limit_w is None else [limit_w])
    assert heard.findings == ()


def test_an_instruction_names_its_event_and_its_urgency() -> None:
    """Who gave it, why, for how long: enough to find it again."""
    found = only(hear(event("ALERT_GRID_EMERGENCY", "low\nfrequency", None, eventName="cold", priority=0)))
    assert found == Instruction(
        id=found.id,
        site=SiteId("fjord"),
        limit_w=8_000_000,
        from_ms=T0,
        until_ms=T0 + HOUR,
        source="openadr",
        urgency="emergency",
        note="ALERT_GRID_EMERGENCY low frequency; cold, priority 0",
    )
    assert found.id == "openadr:grid/e1/0.0/fjord"


GARBAGE: list[tuple[str, dict[str, Any], str, int]] = [
    ("not a number", {"value": math.nan}, "unreadable", 5_000_000),
    ("without bounds", {"value": math.inf}, "unreadable", 5_000_000),
    ("a truth", {"value": True}, "unreadable", 5_000_000),
    ("a word", {"value": "lots"}, "unreadable", 5_000_000),
    ("null", {"value": None}, "unreadable", 5_000_000),
    ("a list in the list", {"value": [20]}, "unreadable", 5_000_000),
    ("below nothing", {"value": -5}, "negative", 0),
    ("a number of 400 digits", {"value": 10**400}, "unreadable", 5_000_000),
    ("1e300", {"value": 1e300}, "absurd", 5_000_000),
    ("watts under the name of kilowatts", {"value": 20_000_000, "unit": "KW"}, "absurd", 5_000_000),
    ("more than the connection", {"value": 60}, "above_connection", 50_000_000),
    ("no unit", {"value": 20_000, "unit": None}, "no_unit", 20_000_000),
    ("a unit that is none", {"unit": "FURLONG"}, "unknown_unit", 5_000_000),
    ("a unit of something else", {"unit": "PERCENT"}, "unknown_unit", 5_000_000),
    ("perhaps a thousandth of a watt", {"unit": "mW"}, "unknown_unit", 5_000_000),
    ("a unit that is no text", {"unit": ["KW"]}, "unknown_unit", 5_000_000),
    ("no level", {"kind": "SIMPLE", "value": 4}, "unreadable", 10_000_000),
    ("half a level", {"kind": "SIMPLE", "value": 1.5}, "unreadable", 10_000_000),
    ("a level below none", {"kind": "SIMPLE", "value": -1}, "unreadable", 10_000_000),
    ("a level that is a word", {"kind": "SIMPLE", "value": "high"}, "unreadable", 10_000_000),
    ("a setpoint below nothing", {"kind": "DISPATCH_SETPOINT", "value": -1}, "negative", 0),
]


@pytest.mark.parametrize(
    ("said", "code", "limit_w"), [one[1:] for one in GARBAGE], ids=[one[0] for one in GARBAGE]
)
def test_what_makes_no_sense_is_named_and_never_loosens(
    said: dict[str, Any], code: str, limit_w: int
) -> None:
    """Where a limit is meant and can't be read, the declared one holds; the finding says what was done."""
    heard = hear(event(**said))
    assert only(heard).limit_w == limit_w
    assert codes(heard) == [code]
    assert heard.findings[0].event == "e1"
    assert heard.findings[0].effect


@pytest.mark.parametrize(
    ("payloads", "limit_w"),
    [
        ([{"values": [20]}], 5_000_000),
        ([{"type": None, "values": [20]}], 5_000_000),
        ([None], 5_000_000),
        (None, 5_000_000),
        ("IMPORT_CAPACITY_LIMIT", 5_000_000),
        ([{"type": "IMPORT_CAPACITY_LIMIT"}], 5_000_000),
        ([{"type": "IMPORT_CAPACITY_LIMIT", "values": []}], 5_000_000),
        ([{"type": " import_capacity_limit ", "values": [20]}], 20_000_000),
        ([{"type": "IMPORT_CAPACITY_LIMIT", "values": ["20"]}], 20_000_000),
        ([{"type": "IMPORT_CAPACITY_LIMIT", "values": [30, 20, 25]}], 20_000_000),
        ([{"type": "SIMPLE", "values": [0, 2, 1]}], 30_000_000),
        ([{"type": "ALERT_GRID_EMERGENCY", "values": []}], 8_000_000),
        ([{"type": "ALERT_GRID_EMERGENCY", "values": 7}], 8_000_000),
    ],
)
def test_a_payload_that_is_not_as_it_should_be(payloads: Any, limit_w: int) -> None:
    """No type, no values, too many of them: the strictest sensible reading."""
    heard = hear(event(intervals=[{"id": 0, "payloads": payloads}]))
    assert only(heard).limit_w == limit_w


def test_units_come_from_the_event_or_else_from_its_program() -> None:
    """A program's descriptors are the default of its events."""
    described = [
        {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "MW"}
    ]
    program = {"id": "p1", "programName": "flex", "payloadDescriptors": described}
    assert only(hear(event(payloadDescriptors=None), programs=[program])).limit_w == 20_000_000
    assert only(hear(event(unit="KW"), programs=[program])).limit_w == 20_000
    assert only(hear(event(payloadDescriptors=None), programs=[None, {"id": 7}])).limit_w == 20_000


def test_a_grid_operator_who_counts_generation_upwards_is_understood_as_declared() -> None:
    """A negative setpoint is consumption then, and a positive one nothing to draw."""
    site = SiteSignals(
        FJORD.site, 50_000_000, FJORD.simple_w, 8_000_000, 5_000_000, is_generation_positive=True
    )
    for value, limit_w in ((-20, 20_000_000), (20, 0), (0, 0)):
        heard = read([event("DISPATCH_SETPOINT", value)], (), [site], server="g", now_ms=T0)
        assert only(heard).limit_w == limit_w
    # A limit has but one sign.
    assert only(read([event(value=20)], (), [site], server="g", now_ms=T0)).limit_w == 20_000_000


TARGETS: list[tuple[Any, list[str]]] = [
    (None, ["fell", "fjord"]),
    ([], ["fell", "fjord"]),
    (["fjord"], ["fjord"]),
    (["no4", "somebody"], ["fjord"]),
    (["fell", "no4"], ["fell", "fjord"]),
    (["somebody else"], []),
    ([{"type": "RESOURCE_NAME", "values": ["fell"]}], ["fell"]),
    ("fjord", ["fell", "fjord"]),
    ([7], ["fell", "fjord"]),
    ([{"type": "GROUP"}], ["fell", "fjord"]),
]


@pytest.mark.parametrize(("targets", "sites"), TARGETS)
def test_an_event_means_the_sites_that_it_names(targets: Any, sites: list[str]) -> None:
    """None named means all, and so do targets that can't be read."""
    heard = read([event(targets=targets)], (), [FJORD, FELL], server="grid", now_ms=T0)
    assert [one.site for one in heard.instructions] == sites


def test_only_the_programs_that_are_followed_count_and_an_event_of_none_does() -> None:
    """What names no program might be of ours."""
    followed = frozenset({"p1"})
    assert len(hear(event(), only_programs=followed).instructions) == 1
    assert hear(event(programID="p2"), only_programs=followed).instructions == ()
    assert codes(hear(event(programID=None), only_programs=followed)) == ["no_program"]


# When it holds.

NOW = "0001-01-01T00:00:00Z"
WINDOWS: list[tuple[str, dict[str, Any], list[tuple[int, int]]]] = [
    ("as it says", {}, [(T0, T0 + HOUR)]),
    ("with another offset", {"start": "2026-01-31T13:00:00+01:00"}, [(T0, T0 + HOUR)]),
    ("in minutes and parts of a second", {"length": "PT90M0.5S"}, [(T0, T0 + 90 * 60_000 + 500)]),
    ("for a month by the calendar", {"length": "P1M"}, [(T0, T0 + 28 * DAY)]),
    ("for a week", {"length": "P1W"}, [(T0, T0 + 7 * DAY)]),
    ("until it is withdrawn", {"length": "P9999Y"}, [(T0, 0)]),
    ("now, until it is withdrawn", {"start": NOW, "length": "P9999Y"}, [(T0 - DAY, 0)]),
    ("now, for a time: since it was said", {"start": "0001-01-01", "length": "P2D"}, [(T0 - DAY, T0 + DAY)]),
    ("without an end, for none is said", {"intervalPeriod": {"start": at(T0)}}, [(T0, 0)]),
    ("with an end that can't be read", {"length": "for ever"}, [(T0, 0)]),
    ("with a negative length", {"length": "-PT1H"}, [(T0, 0)]),
    ("with no times at all", {"intervalPeriod": None}, [(T0 - DAY, 0)]),
    ("with a start that can't be read", {"start": "tomorrow"}, [(0, 0)]),
    ("with a start of its own type", {"start": 7}, [(0, 0)]),
    ("with a period that is none", {"intervalPeriod": "always"}, [(T0 - DAY, 0)]),
    ("without an offset: by UTC and by Oslo", {"start": "2026-01-31T12:00:00"}, [(T0 - HOUR, T0 + HOUR)]),
    ("cancelled by a length of nothing", {"start": NOW, "length": "PT0S"}, []),
    ("already over", {"start": at(T0 - 2 * HOUR)}, []),
    ("cut off by the event's own duration", {"length": "P9999Y", "duration": "PT2H"}, [(T0, T0 + 2 * HOUR)]),
    ("drawn out by it", {"duration": "PT3H"}, [(T0, T0 + 3 * HOUR)]),
    ("drawn out without end", {"duration": "P9999Y"}, [(T0, 0)]),
    ("with a duration of the event that can't be read", {"duration": "x"}, [(T0, 0)]),
    ("with the document's default for it", {"duration": "PT0S"}, [(T0, T0 + HOUR)]),
]  # fmt: skip


@pytest.mark.parametrize(("said", "windows"), [one[1:] for one in WINDOWS], ids=[one[0] for one in WINDOWS])
def test_an_event_holds(said: dict[str, Any], windows: list[tuple[int, int]]) -> None:
    """From when until when; a time that can't be read holds at once, and until it is withdrawn."""
    heard = hear(event(**said))
    assert [(one.from_ms, one.until_ms) for one in heard.instructions] == windows


def intervals(*periods: Any) -> list[dict[str, Any]]:
    """Intervals of 10, 11, 12 ... MW, each with a period of its own."""
    return [
        {
            "id": 100 + number,
            "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [10 + number]}],
            **({} if period is None else {"intervalPeriod": period}),
        }
        for number, period in enumerate(periods)
    ]


SEQUENCES: list[tuple[str, Any, list[Any], dict[str, Any], list[tuple[int, float, float]]]] = [
    ("one after another", {"start": at(T0), "duration": "PT1H"}, [None, None, None], {},
     [(10, 0, 1), (11, 1, 2), (12, 2, 3)]),
    ("of another length", {"start": at(T0), "duration": "PT1H"}, [None, {"duration": "PT2H"}, None], {},
     [(10, 0, 1), (11, 1, 3), (12, 3, 4)]),
    ("at starts of their own, with a gap and an overlap", {"duration": "PT2H"},
     [{"start": at(T0)}, {"start": at(T0 + 3 * HOUR)}, {"start": at(T0 + 4 * HOUR)}], {},
     [(10, 0, 2), (11, 3, 5), (12, 4, 6)]),
    ("following by the start of year one", None,
     [{"start": at(T0), "duration": "PT1H"}, {"start": NOW, "duration": "PT2H"}], {}, [(10, 0, 1), (11, 1, 3)]),
    ("the first at the event's start by the start of year one", {"start": at(T0), "duration": "PT1H"},
     [{"start": NOW}, None], {}, [(10, 0, 1), (11, 1, 2)]),
    ("never after one without end", {"start": at(T0)}, [{"duration": "P9999Y"}, {"duration": "PT1H"}], {}, [(10, 0, -1)]),
    ("at once beside one of unknown length", {"start": at(T0)}, [{"duration": "?"}, {"duration": "PT1H"}], {},
     [(10, 0, -1), (11, 0, -1)]),
    ("again and again", {"start": at(T0), "duration": "PT1H"}, [None, None], {"duration": "PT5H"},
     [(10, 0, 1), (11, 1, 2), (10, 2, 3), (11, 3, 4), (10, 4, 5)]),
    ("cut short", {"start": at(T0), "duration": "PT1H"}, [None, None, None], {"duration": "PT90M"},
     [(10, 0, 1), (11, 1, 1.5)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("period", "periods", "more", "expected"),
    [one[1:] for one in SEQUENCES],
    ids=[one[0] for one in SEQUENCES],
)
def test_intervals_come(
    period: Any, periods: list[Any], more: dict[str, Any], expected: list[tuple[int, float, float]]
) -> None:
    """By the event's period or their own, one after another, and in loops; in hours from T0, -1: until withdrawn."""
    heard = hear(event(intervalPeriod=period, intervals=intervals(*periods), **more))
    found = sorted(
        ((one.from_ms - T0) / HOUR, one.limit_w // 10**6, (one.until_ms - T0) / HOUR if one.until_ms else -1)
        for one in heard.instructions
    )
    assert found == sorted((begin, limit, end) for limit, begin, end in expected)


def test_a_loop_that_began_long_ago_tells_its_rounds_of_now_and_the_next_days() -> None:
    """Daily intervals for ever: two days ahead, with names that stay the same from poll to poll."""
    long_ago = T0 - 1_000 * DAY
    two = intervals(None, None)
    said = event(start=at(long_ago), length="PT12H", duration="P9999Y", intervals=two)
    first, later = hear(said), hear(said, now_ms=T0 + HOUR)
    assert first.limit_w(SiteId("fjord"), T0) == 10_000_000
    assert first.limit_w(SiteId("fjord"), T0 + 13 * HOUR) == 11_000_000
    assert {one.id for one in later.instructions} >= {one.id for one in first.instructions}
    assert len(first.instructions) < 10


def test_a_loop_that_spins_is_held_as_one() -> None:
    """Ten thousand rounds an hour are no schedule: the strictest of them holds all the time."""
    said = event(intervals=intervals(None, None))
    said |= {"intervalPeriod": {"start": at(T0), "duration": "PT0.1S"}, "duration": "P9999Y"}
    heard = hear(said)
    assert heard.limit_w(SiteId("fjord"), T0 + 5 * HOUR) == 10_000_000
    assert len(heard.instructions) == 2
    assert codes(heard) == ["absurd_time"]


def test_a_random_start_begins_no_later_and_ends_no_earlier_than_it_says_and_always_alike() -> None:
    """Loads spread over the time before and after; what was promised is held."""
    seen = set()
    for number in range(50):
        said = event(
            ident=f"e{number}",
            intervalPeriod={"start": at(T0 + DAY), "duration": "PT1H", "randomizeStart": "PT30M"},
        )
        one = only(hear(said))
        assert T0 + DAY - HOUR // 2 <= one.from_ms <= T0 + DAY
        assert T0 + DAY + HOUR <= one.until_ms <= T0 + DAY + HOUR + HOUR // 2
        assert one == only(hear(said, now_ms=T0 + 5))
        seen.add(one.from_ms)
    assert len(seen) > 30


@pytest.mark.parametrize("value", ["P9999Y", "-PT1H", "soon", 7])
def test_a_random_start_that_is_absurd_moves_an_event_by_no_more_than_its_own_length(value: Any) -> None:
    """An emergency is not put off by it."""
    said = event(intervalPeriod={"start": at(T0), "duration": "PT1H", "randomizeStart": value})
    one = only(hear(said))
    assert T0 - HOUR <= one.from_ms <= T0
    assert T0 + HOUR <= one.until_ms <= T0 + 2 * HOUR
    assert len(codes(hear(said))) == 1


@pytest.mark.parametrize(
    ("skew_ms", "window"),
    [
        (0, (T0, T0 + HOUR)),
        (4_000, (T0, T0 + HOUR)),
        (HOUR, (T0 - HOUR, T0 + HOUR)),
        (-HOUR, (T0, T0 + 2 * HOUR)),
        (1_000 * DAY, (T0 - DAY, T0 + HOUR)),
        (-1_000 * DAY, (T0, T0 + HOUR + DAY)),
    ],
)
def test_clocks_that_differ_make_a_limit_hold_by_both(skew_ms: int, window: tuple[int, int]) -> None:
    """An hour off, whichever way: named, and held from the earlier start to the later end."""
    heard = hear(event(), skew_ms=skew_ms)
    assert (only(heard).from_ms, only(heard).until_ms) == window
    assert codes(heard) == (["skew"] if abs(skew_ms) > 5_000 else [])


@pytest.mark.parametrize(
    ("local", "earliest", "latest"),
    [
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
        ("2026-03-29T02:30:00", "2026-03-29T00:30:00Z", "2026-03-29T02:30:00Z"),
    ],
)
def test_an_hour_that_comes_twice_or_never_is_held_through_all_its_readings(
    local: str, earliest: str, latest: str
) -> None:
    """At daylight saving, local times without an offset have several."""
    found, first, last = parse_moment(local, "Europe/Oslo"), parse_moment(earliest), parse_moment(latest)
    assert first is not None
    assert last is not None
    assert found == Moment(first.earliest_ms, last.latest_ms)


LENGTHS: list[tuple[Any, Length | None]] = [
    ("PT0S", Length()),
    ("PT1H", Length(0, HOUR)),
    ("P1Y2M3DT4H5M6.5S", Length(14, 3 * DAY + 4 * HOUR + 5 * 60_000 + 6_500)),
    ("P2W", Length(0, 14 * DAY)),
    ("P9999Y", Length(0, FOREVER_MS)),
    ("P99999999999D", Length(0, FOREVER_MS)),
    ("P", None),
    ("PT", None),
    ("-PT1H", None),
    ("PT1H ", None),
    ("1h", None),
    ("P" + "9" * 100 + "Y", None),
    (None, None),
    (3600, None),
]


@pytest.mark.parametrize(("text", "length"), LENGTHS)
def test_a_duration_is_read_or_not(text: Any, length: Length | None) -> None:
    """By the document's pattern; a thousand years are without end."""
    assert parse_length(text) == length


# The list as it is now.


def some_events() -> list[dict[str, Any]]:
    """Events that overlap, contradict each other, and one that means somebody else."""
    return [
        event(value=20, ident="a"),
        event(value=30, ident="b", priority=0),
        event("SIMPLE", 2, None, ident="c"),
        event("ALERT_GRID_EMERGENCY", "!", None, ident="d", start=at(T0 + 10 * HOUR)),
        event(ident="e", targets=["somebody"]),
    ]


def test_events_repeated_and_in_any_order_say_the_same() -> None:
    """The result is a function of what is listed, not of how."""
    expected = hear(*some_events())
    for order in itertools.permutations(some_events()):
        heard = hear(*order, *order)
        assert heard.instructions == expected.instructions
        assert set(heard.findings) == set(expected.findings)
    assert len(expected.instructions) == 4


def test_a_withdrawn_event_lifts_its_limit_and_a_modified_one_changes_it() -> None:
    """Nothing else is touched, and each keeps its name."""
    before = hear(*some_events())
    after = hear(event(value=15, ident="a"), *some_events()[2:])
    changes = difference(before.instructions, after.instructions)
    assert [(one.id.split("/")[1], one.limit_w) for one in changes.changed] == [("a", 15_000_000)]
    assert [one.id.split("/")[1] for one in changes.withdrawn] == ["b"]
    assert changes.given == ()
    assert difference(after.instructions, before.instructions).given == changes.withdrawn


def test_of_contradicting_events_the_least_limit_holds_and_both_are_shown() -> None:
    """Whatever their priorities: a looser event of higher priority lifts nothing, and that is told."""
    heard = hear(event(value=20, ident="a", priority=5), event(value=30, ident="b", priority=0))
    assert heard.limit_w(SiteId("fjord"), T0) == 20_000_000
    assert len(heard.instructions) == 2
    (finding,) = heard.findings
    assert finding.code == "contradiction"
    assert "allows 30 MW" in finding.line()
    assert "20 MW" in finding.line()


def test_one_id_with_two_contents_holds_both() -> None:
    """A server that can't decide is taken at the stricter of its words, in any order."""
    one, other = event(value=20), event(value=15)
    heard, turned = hear(one, other), hear(other, one)
    assert heard.instructions == turned.instructions
    assert sorted(each.limit_w for each in heard.instructions) == [15_000_000, 20_000_000]
    assert codes(heard) == ["twice"]


def test_ten_thousand_events_hold_and_are_bounded() -> None:
    """The strictest are kept as they are, the others as one that is as strict as each of them: nothing is loosened."""
    said_w = [10_000_000 + number % 30 * 1_000_000 + number for number in range(10_000)]
    many = [
        event(value=limit_w, unit="W", ident=f"e{number}", start=at(T0 + number * HOUR))
        for number, limit_w in enumerate(said_w)
    ]
    heard = hear(*many, event("ALERT_GRID_EMERGENCY", "!", None, ident="z"))
    assert len(heard.instructions) == MOST_PER_SITE
    assert heard.events == 10_001
    assert codes(heard) == ["too_many"]
    for number in range(0, 10_000, 97):
        held_w = heard.limit_w(SiteId("fjord"), T0 + number * HOUR)
        assert held_w is not None
        assert held_w <= said_w[number]
    assert any(one.urgency == "emergency" for one in heard.active(T0))


def test_ten_thousand_pieces_of_garbage_are_counted_not_listed() -> None:
    """Nobody reads so many findings."""
    heard = hear(*(event(value=math.nan, ident=f"e{number}") for number in range(1_000)))
    assert len(heard.findings) <= MOST_FINDINGS + 5
    assert "800 more findings of unreadable" in [one.message for one in heard.findings]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["PT1H", "P9999Y", at(T0), NOW, "IMPORT_CAPACITY_LIMIT", "SIMPLE", "KW", "e1"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["id", "type", "values", "payloads", "intervals", "intervalPeriod", "start", "duration", "targets"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_an_event_with_garbage_anywhere_raises_nothing_and_loosens_nothing_else(data: st.DataObject) -> None:
    """Whatever stands in one event, the others hold, no limit is above the connection, and nothing breaks."""
    broken: Any = event(ident="x", reportDescriptors=[{"payloadType": "USAGE"}])
    for key in data.draw(st.lists(st.sampled_from(sorted(broken)), max_size=4)):
        broken[key] = data.draw(JSON)
    good = event(value=20, ident="good")
    heard = hear(good, broken, data.draw(JSON), programs=[data.draw(JSON)])
    held_w = heard.limit_w(SiteId("fjord"), T0)
    assert held_w is not None
    assert held_w <= 20_000_000
    assert all(0 <= one.limit_w <= 50_000_000 for one in heard.instructions)
    assert all(one.until_ms == 0 or one.until_ms > T0 for one in heard.instructions)
    for followed in heard.followed:
        due(followed, T0 + DAY)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(0, 1e5) | st.integers(0, 100_000), min_size=1, max_size=5),
    priorities=st.lists(st.none() | st.integers(0, 9), min_size=5, max_size=5),
)
def test_the_limit_that_holds_is_the_least_that_was_said(
    values: list[float], priorities: list[int | None]
) -> None:
    """Over any events at once, by arithmetic of its own."""
    said = [
        event(value=value, unit="KW", ident=f"e{number}", priority=priorities[number])
        for number, value in enumerate(values)
    ]
    least_w = min(Fraction(str(value)) * 1_000 for value in values)
    assert hear(*said).limit_w(SiteId("fjord"), T0) == min(50_000_000, math.floor(least_w))


# Reports.


def ask(**descriptor: Any) -> dict[str, Any]:
    """An event of four hours in four intervals that asks for a report."""
    said = event(intervals=intervals(None, None, None, None))
    return said | {"reportDescriptors": [{"payloadType": "USAGE"} | descriptor]}


DUE: list[tuple[str, dict[str, Any], int, list[tuple[str, list[int]]]]] = [
    ("not before the end", {}, 3, []),
    ("all intervals at the end", {}, 4, [("USAGE-0-0", [100, 101, 102, 103])]),
    ("the last two at the end", {"numIntervals": 2, "frequency": 0, "startInterval": 3, "repeat": 1}, 4,
     [("USAGE-0-0", [102, 103])]),
    ("after the second, the first two", {"startInterval": 1, "numIntervals": 2}, 2, [("USAGE-0-0", [100, 101])]),
    ("every two intervals", {"frequency": 2, "repeat": 2}, 4, [("USAGE-0-0", [100, 101]), ("USAGE-0-1", [102, 103])]),
    ("each hour, one hour", {"frequency": 1, "numIntervals": 1, "repeat": -1}, 3,
     [("USAGE-0-0", [100]), ("USAGE-0-1", [101]), ("USAGE-0-2", [102])]),
    ("rolling", {"frequency": 1, "numIntervals": 2, "startInterval": 1, "repeat": -1}, 3,
     [("USAGE-0-0", [100, 101]), ("USAGE-0-1", [101, 102])]),
    ("whenever we like: each interval", {"frequency": 0}, 1, [("USAGE-0-0", [100, 101, 102, 103][:1])]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "hours", "expected"), [one[1:] for one in DUE], ids=[one[0] for one in DUE]
)
def test_a_report_is_due(asked: dict[str, Any], hours: int, expected: list[tuple[str, list[int]]]) -> None:
    """By startInterval, numIntervals, frequency and repeat, as the User Guide has them (7.5)."""
    (followed,) = hear(ask(**asked)).followed
    found, findings = due(followed, T0 + hours * HOUR)
    names = [(one.name, [span.ident for span in one.spans]) for one in found]
    assert names == expected
    assert findings == []


def test_reports_of_a_loop_come_for_its_last_rounds() -> None:
    """After years of it: the last, and none of the thousands before."""
    said = ask(frequency=4, repeat=-1) | {"duration": "P9999Y"}
    said["intervalPeriod"] = {"start": at(T0 - 1_000 * DAY), "duration": "PT1H"}
    (followed,) = hear(said).followed
    found, _ = due(followed, T0)
    assert [one.name for one in found] == [f"USAGE-0-{turn}" for turn in (5997, 5998, 5999)]
    assert found[-1].spans[-1].until_ms == T0


def test_an_event_without_intervals_asks_for_reports_on_those_it_implies() -> None:
    """Its own period, again and again."""
    said = event(reportDescriptors=[{"payloadType": "DEMAND", "frequency": 1, "repeat": -1}])
    del said["intervals"]
    heard = hear(said)
    assert heard.instructions == ()
    (followed,) = heard.followed
    found, _ = due(followed, T0 + 2 * HOUR)
    assert [(one.spans[0].from_ms - T0) // HOUR for one in found] == [0, 1]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"payloadType": "STORAGE_CHARGE_LEVEL"}, "asks for a report of 'STORAGE_CHARGE_LEVEL'"),
        ({"payloadType": 7}, "asks for a report of no type"),
        ({"historical": False}, "asks for a forecast of USAGE"),
    ],
)
def test_a_report_that_is_not_given_is_told(asked: dict[str, Any], words: str) -> None:
    """Nothing is made up for it."""
    (followed,) = hear(ask(**asked)).followed
    found, findings = due(followed, T0 + DAY)
    assert found == []
    assert words in findings[0].message


READINGS = [
    PowerReading(10_000_000, T0, "measured"),
    PowerReading(20_000_000, T0 + HOUR // 2, "measured"),
    PowerReading(8_000_000, T0 + HOUR, "modelled"),
]


def test_what_was_metered_is_integrated_exactly() -> None:
    """Half an hour at 10 MW and half at 20 MW are 15 MWh; a model among meters makes it modelled."""
    found = metered(READINGS, T0, T0 + HOUR)
    assert found == Metered(15_000 * 3_600_000_000, 15_000_000, 20_000_000, 20_000_000, "measured")
    later = metered(READINGS, T0 + HOUR, T0 + 2 * HOUR)
    assert later is not None
    assert (later.mean_w, later.source) == (8_000_000, "modelled")
    assert metered(READINGS, T0 + 2 * HOUR, T0 + 3 * HOUR) is None


@pytest.mark.parametrize(
    ("asked", "payloads"),
    [
        ({"payloadType": "USAGE", "units": "KWH"}, [("USAGE", 15_000.0), ("DATA_QUALITY", "OK")]),
        ({"payloadType": "USAGE", "units": "FURLONG"}, [("USAGE", 15_000.0), ("DATA_QUALITY", "OK")]),
        (
            {"payloadType": "DEMAND", "units": "MW", "readingType": "PEAK"},
            [("DEMAND", 20.0), ("DATA_QUALITY", "OK")],
        ),
        ({"payloadType": "DEMAND", "units": "KW"}, [("DEMAND", 15_000.0), ("DATA_QUALITY", "OK")]),
        ({"payloadType": "READING", "units": "KW"}, [("READING", 20_000.0), ("DATA_QUALITY", "OK")]),
        ({"payloadType": "OPERATING_STATE"}, [("OPERATING_STATE", "RUNNING_CURTAILED")]),
        ({"payloadType": "SIMPLE_LEVEL"}, [("SIMPLE_LEVEL", 3)]),
        ({"payloadType": "SETPOINT", "units": "MW"}, [("SETPOINT", 10.0)]),
    ],
)
def test_a_report_says(asked: dict[str, Any], payloads: list[tuple[str, Any]]) -> None:
    """What was drawn in each interval in the units asked for, with its quality; or how the site was held."""
    heard = hear(ask(**asked, startInterval=0, numIntervals=1))
    (one,), _ = due(heard.followed[0], T0 + HOUR)
    drawn = {(FJORD.site, one.spans[0]): metered(READINGS, T0, T0 + HOUR)}
    body = report_body(
        one, "headrace", {FJORD.site: "meter-1"}, drawn, heard.instructions, {FJORD.site: FJORD.simple_w}
    )
    (resource,) = body["resources"]
    (interval,) = resource["intervals"]
    assert resource["resourceName"] == "meter-1"
    assert interval["intervalPeriod"] == {"start": at(T0), "duration": "PT3600S"}
    assert interval["id"] == 100
    assert [(each["type"], each["values"][0]) for each in interval["payloads"]] == payloads


def test_where_nothing_was_read_the_report_says_missing_and_a_sum_misses_with_its_part() -> None:
    """No reading is made up; the sum of sites is one resource."""
    said = ask(aggregate=True) | {"targets": ["fjord", "fell"]}
    heard = read([said], (), [FJORD, FELL], server="grid", now_ms=T0)
    (one,), _ = due(heard.followed[0], T0 + DAY)
    body = report_body(one, "headrace", {}, {}, (), {})
    (resource,) = body["resources"]
    assert resource["resourceName"] == "AGGREGATED_REPORT"
    assert resource["intervals"][0]["payloads"][1] == {"type": "DATA_QUALITY", "values": ["MISSING"]}


def test_a_sum_is_as_good_as_the_worst_of_its_parts() -> None:
    """A model beside a meter makes an estimate of it."""
    heard = read([ask(aggregate=True, numIntervals=1)], (), [FJORD, FELL], server="grid", now_ms=T0)
    (one,), _ = due(heard.followed[0], T0 + 4 * HOUR)
    drawn = {
        (FJORD.site, one.spans[0]): Metered(3_600_000_000, 1_000, 1_000, 1_000, "measured"),
        (FELL.site, one.spans[0]): Metered(7_200_000_000, 2_000, 2_000, 2_000, "modelled"),
    }
    body = report_body(one, "headrace", {}, drawn, (), {})
    usage, quality = body["resources"][0]["intervals"][0]["payloads"]
    assert usage["values"] == [3.0]
    assert quality["values"] == ["ESTIMATED"]


def test_an_event_that_was_read_is_acknowledged_with_the_state_of_each_site() -> None:
    """Once for each version of it: the name says which."""
    heard = hear(event())
    (followed,) = heard.followed
    state = operating_state(FJORD.site, heard.instructions, T0, T0 + 1)
    body = acknowledgement(followed, "headrace", {FJORD.site: "fjord"}, {FJORD.site: state})
    assert body["reportName"] == f"acknowledged-{at(T0 - DAY)}"
    assert body["resources"][0]["intervals"][0]["payloads"][0]["values"] == ["RUNNING_CURTAILED"]
    assert operating_state(FJORD.site, (), T0, T0 + 1) == "NORMAL"


def test_the_schedule_of_an_event_is_the_same_whenever_it_is_read() -> None:
    """Only "now" depends on when."""
    said = event(intervals=intervals(None, None))
    assert schedule_of(said, T0) == schedule_of(said, T0 + DAY)
