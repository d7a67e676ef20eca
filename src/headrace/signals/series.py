"""A series: a value for each interval of a market, and what was odd about where it came from.

Values are whole: millionths of the unit that the source states. Times are milliseconds UTC. Oddities are never passed over in
silence: a series carries them, each with its place, in the words for whoever reads the result.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE, format_duration

LENGTHS_MS = tuple(minutes * MS_PER_MINUTE for minutes in (15, 30, 60))
"""The intervals of electricity markets."""
MOST_HELD_MS = 3 * MS_PER_HOUR
"""The longest gap over which the value before it is held; a longer one parts the series."""
STEADY = 24
"""So many intervals of one length in a row are what a market went over to, and no gaps."""
MOST_INTERVALS = 2_000_000

Gaps = Literal["hold", "refuse"]


@dataclass(frozen=True, slots=True)
class Point:
    """A value from ``start_ms`` on; ``where`` it stands. ``length_ms`` 0: the source doesn't say for how long."""

    start_ms: int
    micros: int
    where: str
    length_ms: int = 0


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something that a source should not have: ``missing`` intervals, or a ``repeated`` one. ``done`` says what was done."""

    kind: Literal["missing", "repeated"]
    where: str
    from_ms: int
    until_ms: int
    done: str

    def line(self) -> str:
        """It in one line."""
        span = f"{moment(self.from_ms)} to {moment(self.until_ms)}"
        return (
            f"{self.where}: {self.kind} {span} ({format_duration(self.until_ms - self.from_ms)}): {self.done}"
        )


@dataclass(frozen=True, slots=True)
class Series:
    """``micros[i]`` holds from ``starts_ms[i]`` for ``length_ms``; starts grow, and jump where a gap was too long to bridge."""

    name: str
    length_ms: int
    starts_ms: tuple[int, ...]
    micros: tuple[int, ...]
    oddities: tuple[Oddity, ...] = ()

    def stretches(self) -> Iterator[tuple[int, int]]:
        """From which to which index (exclusive) intervals follow each other without a gap."""
        first = 0
        for number, (one, other) in enumerate(pairwise(self.starts_ms), 1):
            if other - one != self.length_ms:
                yield first, number
                first = number
        if self.starts_ms:
            yield first, len(self.starts_ms)


def moment(at_ms: int) -> str:
    """A time as people read it, to the minute: ``2024-10-27T01:00Z``."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def bad(where: str, message: str, step: str) -> HeadraceError:
    """A problem with a source."""
    return HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, where))


def pack(name: str, points: Sequence[Point], gaps: Gaps = "hold", length_ms: int = 0) -> Series:
    """Points, in any order, as a series; ``length_ms`` is that of its intervals, found out when 0.

    Of two points at one time the first counts. A gap of up to three hours is bridged by the value before it, which whoever
    decided then did know; a longer one parts the series. ``gaps="refuse"``: HeadraceError for either.
    """
    if not points:
        raise bad(name, "there is no value in it.", "Give a file with values.")
    kept, oddities = _once(points)
    shortest = length_ms or _shortest(name, kept)
    starts: list[int] = []
    micros: list[int] = []
    lengths = _lengths(kept, shortest)
    for number, point in enumerate(kept):
        if starts and point.start_ms - starts[-1] != shortest:
            _bridge(kept[number - 1], point, (starts, micros, shortest), oddities)
        at_ms = point.start_ms
        if starts and (at_ms - starts[-1]) % shortest:
            raise _uneven(point, kept[number - 1], shortest)
        while at_ms < point.start_ms + lengths[number]:
            starts.append(at_ms)
            micros.append(point.micros)
            at_ms += shortest
    if gaps == "refuse" and oddities:
        problems = [
            Problem(ProblemCode.BAD_INPUT, f"{one.line()}.", "Correct the file, or leave out --gaps refuse.")
            for one in oddities
        ]
        raise HeadraceError(*problems[:100])
    return Series(name, shortest, tuple(starts), tuple(micros), tuple(oddities))


def aligned(series: Series, starts_ms: Sequence[int]) -> list[int | None]:
    """The value of a series that holds at each of some times (in order); None where it has none."""
    found: list[int | None] = []
    at, length = 0, len(series.starts_ms)
    for start_ms in starts_ms:
        while at + 1 < length and series.starts_ms[at + 1] <= start_ms:
            at += 1
        holds = series.starts_ms[at] <= start_ms < series.starts_ms[at] + series.length_ms
        found.append(series.micros[at] if holds else None)
    return found


def latest(points: Sequence[Point], starts_ms: Sequence[int]) -> list[int | None]:
    """The last value that had come by each of some times (in order); None before the first."""
    ordered = sorted(points, key=lambda point: point.start_ms)
    found: list[int | None] = []
    at = -1
    for start_ms in starts_ms:
        while at + 1 < len(ordered) and ordered[at + 1].start_ms <= start_ms:
            at += 1
        found.append(ordered[at].micros if at >= 0 else None)
    return found


def _once(points: Sequence[Point]) -> tuple[list[Point], list[Oddity]]:
    """The points in order of time, one for each; and those that repeat one."""
    first: dict[int, Point] = {}
    oddities = []
    for point in points:
        known = first.setdefault(point.start_ms, point)
        if known is not point:
            same = "the same value" if known.micros == point.micros else "another value"
            done = f"{same} as in {known.where}, which counts"
            end_ms = point.start_ms + (point.length_ms or LENGTHS_MS[-1])
            oddities.append(Oddity("repeated", point.where, point.start_ms, end_ms, done))
    return sorted(first.values(), key=lambda point: point.start_ms), oddities


def _shortest(name: str, points: Sequence[Point]) -> int:
    """The length of the intervals: what sources say, or the shortest step that comes often."""
    said = {point.length_ms for point in points if point.length_ms}
    if said:
        found = min(said)
    else:
        steps = Counter(other.start_ms - one.start_ms for one, other in pairwise(points))
        often = [step for step, times in steps.items() if times >= min(STEADY, max(steps.values()))]
        found = min(often, default=LENGTHS_MS[-1])
    if found not in LENGTHS_MS:
        message = f"its intervals are {format_duration(found)} long, and not 15, 30 or 60 minutes."
        raise bad(name, message, "Give one row for each interval.")
    return found


def _lengths(points: Sequence[Point], shortest: int) -> list[int]:
    """How long each point holds: as it says, or until the next where many follow at that pace, or the shortest interval."""
    steps = [other.start_ms - one.start_ms for one, other in pairwise(points)]
    steps.append(steps[-1] if steps else shortest)
    found = []
    run_from = 0
    for number, step in enumerate(steps):
        if step != steps[run_from]:
            run_from = number
        found.append(run_from)
    sizes = Counter(found)
    return [
        point.length_ms
        or (step if step in LENGTHS_MS and step % shortest == 0 and sizes[run] >= STEADY else shortest)
        for point, step, run in zip(points, steps, found, strict=True)
    ]


def _bridge(
    before: Point, after: Point, sofar: tuple[list[int], list[int], int], oddities: list[Oddity]
) -> None:
    starts, micros, shortest = sofar
    from_ms = starts[-1] + shortest
    if after.start_ms < from_ms:
        raise bad(
            after.where, f"it begins before the interval of {before.where} ends.", "Correct one of them."
        )
    if (after.start_ms - from_ms) % shortest:
        raise _uneven(after, before, shortest)
    if after.start_ms - from_ms > MOST_HELD_MS:
        done = "left out; what comes after it begins anew"
    else:
        done = "the value before it is held"
        missing = range(from_ms, after.start_ms, shortest)
        starts.extend(missing)
        micros.extend([micros[-1]] * len(missing))
    oddities.append(Oddity("missing", after.where, from_ms, after.start_ms, done))


def _uneven(point: Point, before: Point, shortest: int) -> HeadraceError:
    message = f"{moment(point.start_ms)} is not a whole number of intervals of {format_duration(shortest)} after {before.where}."
    return bad(point.where, message, "Correct the time, or leave the row out.")
