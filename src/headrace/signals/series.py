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
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE, div_half_even, format_duration

LENGTHS_MS = tuple(minutes * MS_PER_MINUTE for minutes in (15, 30, 60))
"""The intervals of electricity markets."""
MOST_HELD_MS = 3 * MS_PER_HOUR
"""The longest gap over which the value before it is held; a longer one parts the series."""
STEADY = 24
"""So many intervals of one length in a row are what a market went over to, and no gaps."""
FEW = 3
"""So many in a row are enough for an interval shorter than the others, and for a longer one at the beginning or the end."""
YEARS = (1970, 2200)
"""The first and the last year of a time that is taken for meant."""
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
    kept, oddities = once(points)
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
    if gaps == "refuse":
        refuse(oddities)
    return Series(name, shortest, tuple(starts), tuple(micros), tuple(oddities))


def refuse(oddities: Sequence[Oddity]) -> None:
    """Raise HeadraceError with all that is odd, if anything is."""
    problems = [
        Problem(ProblemCode.BAD_INPUT, f"{one.line()}.", "Correct the file, or leave out --gaps refuse.")
        for one in oddities
    ]
    if problems:
        raise HeadraceError(*problems[:100])


def aligned(series: Series, starts_ms: Sequence[int], length_ms: int) -> list[int | None]:
    """The mean of a series over each of some intervals of ``length_ms`` (in order, apart); None where it lacks any of one."""
    found: list[int | None] = []
    first, count = 0, len(series.starts_ms)
    for start_ms in starts_ms:
        while first < count and series.starts_ms[first] + series.length_ms <= start_ms:
            first += 1
        total = covered = 0
        at, end_ms = first, start_ms + length_ms
        while at < count and series.starts_ms[at] < end_ms:
            begins_ms = max(start_ms, series.starts_ms[at])
            part_ms = min(end_ms, series.starts_ms[at] + series.length_ms) - begins_ms
            total += part_ms * series.micros[at]
            covered += part_ms
            at += 1
        found.append(div_half_even(total, length_ms) if covered == length_ms else None)
    return found


def latest(points: Sequence[Point], starts_ms: Sequence[int]) -> list[Point | None]:
    """The last of some points, in order of time, that had come by each of some times (in order); None before the first."""
    found: list[Point | None] = []
    at = -1
    for start_ms in starts_ms:
        while at + 1 < len(points) and points[at + 1].start_ms <= start_ms:
            at += 1
        found.append(points[at] if at >= 0 else None)
    return found


def once(points: Sequence[Point]) -> tuple[list[Point], list[Oddity]]:
    """The points in order of time, the first of each; and those that repeat one."""
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
        steps = [other.start_ms - one.start_ms for one, other in pairwise(points)]
        counts = Counter(steps)
        often = [step for step, times in counts.items() if times >= min(STEADY, max(counts.values()))]
        # A market may have gone over to quarters of an hour in the last hours of a file.
        often += [
            steps[first] for first, last in _runs(steps) if last - first >= FEW and steps[first] in LENGTHS_MS
        ]
        found = min(often, default=LENGTHS_MS[-1])
    if found not in LENGTHS_MS:
        message = f"its intervals are {format_duration(found)} long, and not 15, 30 or 60 minutes."
        raise bad(name, message, "Give one row for each interval.")
    return found


def _lengths(points: Sequence[Point], shortest: int) -> list[int]:
    """How long each point holds: as it says, or until the next where enough follow at that pace, or the shortest interval."""
    steps = [other.start_ms - one.start_ms for one, other in pairwise(points)]
    steps.append(steps[-1] if steps else shortest)
    found = []
    for first, last in _runs(steps):
        step, size = steps[first], last - first
        # In the middle of quarters of an hour three hours are rather rows that lack than hours.
        enough = FEW if first == 0 or last == len(steps) else STEADY
        holds = step in LENGTHS_MS and step % shortest == 0 and size >= enough
        found.extend([step if holds else shortest] * size)
    return [point.length_ms or length for point, length in zip(points, found, strict=True)]


def _runs(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """From which to which index (exclusive) steps are equal."""
    first = 0
    for number in range(1, len(steps) + 1):
        if number == len(steps) or steps[number] != steps[first]:
            yield first, number
            first = number


def _bridge(
    before: Point, after: Point, sofar: tuple[list[int], list[int], int], oddities: list[Oddity]
) -> None:
    starts, micros, shortest = sofar
    from_ms = starts[-1] + shortest
    if after.start_ms < from_ms:
        span = f"the {format_duration(before.length_ms or shortest)} from {moment(before.start_ms)} of {before.where}"
        step = "Correct one of the two, or keep rows of one length."
        raise bad(after.where, f"{moment(after.start_ms)} lies within {span}.", step)
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
