"""What is due along a connection's ramp, and whose the reduction is where instructions overlap: by hand, and computed twice."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings

from headrace.core.power.instruction import InstructionId
from headrace.core.power.reading import PowerReading, PowerSource
from headrace.core.power.settlement import Case, Readings, Settlement, Version, settle
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND
from headrace.evidence.figures import wrong_intervals
from headrace.evidence.verify import canonical
from tests.core.power.test_settlement import NOON, cases, read, version
from tests.evidence.test_verify import plain_document

FIVE = 5 * MS_PER_MINUTE
Row = tuple[int | None, int | None, int, str]


def twice(case: Case) -> Settlement:
    """Settled every five minutes; what verifies it, with no code of it, finds the same."""
    found = settle(case, FIVE, "minute-before")
    if found.intervals:
        assert wrong_intervals(json.loads(canonical(plain_document(case, found)))) == []
    return found


def due(versions: Sequence[Version], rows: Sequence[PowerReading], ramp_w: int = 60) -> list[Row]:
    """Of the three intervals from noon: the most and the least that was due, how far above it the draw was, and the verdict."""
    case = Case(
        tuple(versions), Readings(rows, NOON + MS_PER_HOUR), 10_000, "Europe/Oslo", ramp_down_w=ramp_w
    )
    return [
        (one.due_most_w, one.due_least_w, one.over_w, one.compliance) for one in twice(case).intervals[:3]
    ]


def drawn(*steps: tuple[int, int], source: PowerSource = "modelled") -> list[PowerReading]:
    """1,000 W until the instruction, then ``(seconds after noon, watts)``."""
    return read(
        (NOON - MS_PER_HOUR, 1_000), *((NOON + s * MS_PER_SECOND, w) for s, w in steps), source=source
    )


LATE = version(400, NOON, NOON + 3 * FIVE, received_ms=NOON)
"""From 1,000 W down to 400 W at 60 W a minute is ten minutes: its line is 400 W + 1 W for each second until 12:10:30."""


@pytest.mark.parametrize(
    ("steps", "ramp_w", "expected"),
    [
        # At 12:05:30 the line is at 700 W: until then 700 W are drawn, and then 400 W.
        (
            [(30, 700), (330, 400)],
            60,
            [(1_000, 730, 0, "yes"), (730, 430, 0, "yes"), (430, 400, 0, "yes")],
        ),
        # The same without a ramp: 300 W too much for as long.
        (
            [(30, 700), (330, 400)],
            0,
            [(400, 400, 300, "no"), (400, 400, 300, "no"), (400, 400, 0, "yes")],
        ),
        # A second later than the line: a watt too much.
        (
            [(30, 700), (331, 400)],
            60,
            [(1_000, 730, 0, "yes"), (730, 430, 1, "no"), (430, 400, 0, "yes")],
        ),
        # Nothing is shed at all: above the line by as much as it fell.
        (
            [],
            60,
            [(1_000, 730, 270, "no"), (730, 430, 570, "no"), (430, 400, 600, "no")],
        ),
        # It stays a watt above the limit: seen once the line is down.
        (
            [(30, 401)],
            60,
            [(1_000, 730, 0, "yes"), (730, 430, 0, "yes"), (430, 400, 1, "no")],
        ),
    ],
)
def test_a_late_instruction_is_due_along_the_ramp(
    steps: list[tuple[int, int]], ramp_w: int, expected: list[Row]
) -> None:
    """From 30 s after it came each instant is judged by the limit as it glides, and not by where it ends."""
    assert due([LATE], drawn(*steps), ramp_w) == expected


@pytest.mark.parametrize(("before_s", "most_w"), [(10 * 60 + 30, 400), (10 * 60 + 29, 401), (5 * 60, 730)])
def test_what_is_left_of_the_ramp_when_an_instruction_begins_is_due_then(before_s: int, most_w: int) -> None:
    """One that came ten and a half minutes before is due in full when it begins; one that came later with what is left."""
    received_ms = NOON - before_s * MS_PER_SECOND
    one = version(400, NOON, NOON + FIVE, received_ms=received_ms)
    ((first_w, _, _, said),) = due([one], drawn((0, 400)))
    assert (first_w, said) == (most_w, "yes")


@pytest.mark.parametrize("source", ["stale", "nameplate"])
def test_what_was_not_known_when_it_came_excuses_nothing(source: PowerSource) -> None:
    """Without a draw to come down from there is no ramp: the limit itself is due."""
    rows = [*drawn(source=source), *read((NOON + 30 * MS_PER_SECOND, 700))]
    assert due([LATE], rows)[0] == (400, 400, 300, "no")


@pytest.mark.parametrize("watts", [700, 1_000])
def test_who_repeats_an_instruction_puts_off_nothing(watts: int) -> None:
    """Given again every 20 s on the way down, whether its site is ahead of the line or behind it: the line is as it was."""
    received = [NOON + at * 20 * MS_PER_SECOND for at in range(30)]
    ends = [*received[1:], 0]
    repeated = [
        version(400, NOON, NOON + 3 * FIVE, received_ms=at, ended_ms=end)
        for at, end in zip(received, ends, strict=True)
    ]
    steps = [(30, watts)]
    assert due(repeated, drawn(*steps)) == due([LATE], drawn(*steps))


@pytest.mark.parametrize(
    ("limit_w", "expected"),
    [
        # Tightened at 12:05, when 700 W are drawn: its own line begins at 12:05:30 with 700 W and is down at 12:13:50.
        (200, [(1_000, 730), (730, 430), (430, 200)]),
        # Loosened: the old line, until it is at 600 W.
        (600, [(1_000, 730), (730, 600), (600, 600)]),
    ],
)
def test_another_limit_on_the_way_down_goes_on_from_the_line(
    limit_w: int, expected: list[tuple[int, int]]
) -> None:
    """Lower, it has a line of its own from where the site was; higher, it stops the old one sooner."""
    change_ms = NOON + FIVE
    versions = [
        replace(LATE, ended_ms=change_ms),
        version(limit_w, NOON, NOON + 3 * FIVE, received_ms=change_ms),
    ]
    found = due(versions, drawn((30, 700)))
    assert [one[:2] for one in found] == expected


# -- whose the reduction is --------------------------------------------------------------------------------------------


def named(name: str, *versions: Version) -> tuple[Version, ...]:
    """Versions of one instruction of that name."""
    return tuple(
        replace(one, instruction=replace(one.instruction, id=InstructionId(name))) for one in versions
    )


def each_settled(
    instructions: Sequence[tuple[Version, ...]], readings: Readings, allowed_w: int
) -> list[Settlement]:
    """All of them, each beside the others."""
    found = []
    for one in instructions:
        others = tuple(version for other in instructions if other is not one for version in other)
        found.append(twice(Case(one, readings, allowed_w, "UTC", others=others)))
    return found


def test_what_was_delivered_is_attributed_once_by_hand() -> None:
    """600 W before, 300 W during the looser one, 200 W while the stricter one holds as well: five of its fifteen minutes."""
    asked_ms = NOON - FIVE
    loose = named("loose", version(300, NOON, NOON + 3 * FIVE, received_ms=asked_ms))
    strict = named("strict", version(200, NOON + FIVE, NOON + 2 * FIVE, received_ms=asked_ms))
    rows = read((NOON - MS_PER_HOUR, 600), (NOON, 300), (NOON + FIVE, 200), (NOON + 2 * FIVE, 300))
    first, second = each_settled([loose, strict], Readings(rows, NOON + MS_PER_HOUR), 10_000)
    said = [(one.reduction_mj, one.covered_ms, one.covered_by) for one in first.intervals]
    assert said == [(300 * FIVE, 0, ()), (0, FIVE, ("strict",)), (300 * FIVE, 0, ())]
    assert [(one.reduction_mj, one.covered_by) for one in second.intervals] == [(400 * FIVE, ())]
    assert (first.totals.held_ms, first.totals.covered_ms, second.totals.held_ms) == (2 * FIVE, FIVE, FIVE)
    together_mj = (first.totals.reduction_mj or 0) + (second.totals.reduction_mj or 0)
    assert together_mj == 600 * 3 * FIVE - (300 + 200 + 300) * FIVE
    assert [one.compliance for one in first.intervals] == ["yes"] * 3, "covered, it is due all the same"


@pytest.mark.parametrize(
    ("limits", "received", "winner"),
    [
        ((300, 300), (0, 1), "a"),
        ((300, 300), (1, 0), "b"),
        ((300, 300), (0, 0), "a"),
        ((300, 299), (0, 1), "b"),
    ],
)
def test_of_equal_limits_the_first_has_it(
    limits: tuple[int, int], received: tuple[int, int], winner: str
) -> None:
    """The lower one, then the one that was received first, then by name."""
    both = [
        named(name, version(limit_w, NOON, NOON + FIVE, received_ms=NOON - FIVE + at))
        for name, limit_w, at in zip("ab", limits, received, strict=True)
    ]
    readings = Readings(read((NOON - MS_PER_HOUR, 600), (NOON, 200)), NOON + MS_PER_HOUR)
    found = dict(zip("ab", each_settled(both, readings, 10_000), strict=True))
    assert {name: one.totals.held_ms for name, one in found.items()} == {"a": 0, "b": 0} | {winner: FIVE}


@settings(max_examples=150, deadline=None)
@given(cases(), cases(), cases())
def test_shares_of_all_instructions_add_up_to_what_was_delivered(
    one: tuple[list[Version], list[PowerReading], int],
    other: tuple[list[Version], list[PowerReading], int],
    third: tuple[list[Version], list[PowerReading], int],
) -> None:
    """Whichever overlap: times and energy of all together are those of the time in which any asked something, each once."""
    allowed_w, now_ms = 700, one[2]
    readings = Readings(one[1], now_ms)
    instructions = [named(name, *each[0]) for name, each in zip("abc", (one, other, third), strict=True)]
    found = each_settled(instructions, readings, allowed_w)
    versions = [version for each in instructions for version in each if version.begins_ms < version.ends_ms]
    moments = sorted({at for each in versions for at in (each.begins_ms, min(each.ends_ms, now_ms))})
    held_ms = energy_mj = 0
    for start, end in pairwise(moments):
        on = [each.instruction.limit_w for each in versions if each.begins_ms <= start < each.ends_ms]
        if min(on, default=allowed_w) < allowed_w and end <= now_ms:
            held_ms += end - start
            energy_mj += readings.window(start, end).energy_mj
    assert sum(each.totals.held_ms for each in found) == held_ms
    assert sum(each.totals.held_energy_mj for each in found) == energy_mj
