"""What an instruction was worth: what was asked, what was delivered, against which baseline, interval by interval.

All numbers are integers: milliseconds UTC, watts at the site's meter, millijoules (watt x millisecond is exactly one). A
reading holds until the next one; a measured one no longer than ``hold_ms``, then nothing is known. What is stale or counted at
nameplate is not known either: it enters no sum, and nothing that was not known is ever called compliant.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from headrace.core.power.baseline import (
    Baseline,
    Basis,
    Comparable,
    Method,
    Window,
    baseline_of,
)
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.limits import NEVER_MS, RESPONSE_MS, ramp_ms
from headrace.core.power.reading import PowerReading, PowerSource
from headrace.core.units import MS_PER_MINUTE, div_half_even

INTERVALS_MS: Mapping[str, int] = {f"{minutes}m": minutes * MS_PER_MINUTE for minutes in (5, 15, 30, 60)}
"""The intervals that may be asked for, by name: all of them divide an hour, so that they are aligned in UTC."""
HOLD_MS = MS_PER_MINUTE
"""A measured reading says nothing about what is later than this after it."""

Known = PowerSource | Literal["missing"]
Compliance = Literal["yes", "no", "unknown", "not due"]
RANK: Mapping[Known, int] = {"measured": 0, "modelled": 1, "nameplate": 2, "stale": 3, "missing": 4}
"""Sources from best to worst; ``missing``: there is no reading."""
BELIEVED: frozenset[Known] = frozenset({"measured", "modelled"})


@dataclass(frozen=True, slots=True)
class Version:
    """An instruction as it was received at ``received_ms``; at ``ended_ms`` it was withdrawn or replaced (0: neither)."""

    instruction: Instruction
    received_ms: int
    ended_ms: int = 0

    @property
    def begins_ms(self) -> int:
        """From when on it was in force: nothing is in force before it is known."""
        return max(self.instruction.from_ms, self.received_ms)

    @property
    def ends_ms(self) -> int:
        """Until when it was in force (exclusive), a time beyond all times while nothing ends it."""
        return min(self.instruction.until_ms or NEVER_MS, self.ended_ms or NEVER_MS)

    @property
    def due_ms(self) -> int:
        """From when on something was due to it: its limit, or as much of it as the ramp of the connection let be."""
        return max(self.instruction.from_ms, self.received_ms + RESPONSE_MS)


def in_force(versions: Sequence[Version], at_ms: int) -> int | None:
    """The number of the version that was in force at an instant, None for none."""
    return next((n for n, one in enumerate(versions) if one.begins_ms <= at_ms < one.ends_ms), None)


class Asked:
    """What an instruction's versions ask of a site at an instant, along the ramp of its connection.

    Where the draw may fall only by ``ramp_down_w`` a minute (0: at once), a version that comes late can't be met at once. From
    ``RESPONSE_MS`` after it was received on the limit *glides*: from what was drawn when it came (``drawn_w``, by version; None
    where that is not known, which excuses nothing) down to its own.

    A version that replaces one in force is due later than it is received. Until then what held goes on, no lower than the new
    limit; and one that repeats or loosens what holds asks no more and no sooner. So no repetition puts off what is asked.
    """

    def __init__(self, versions: Sequence[Version], drawn_w: Sequence[int | None], ramp_down_w: int) -> None:
        self._versions, self._ramp_down_w = versions, ramp_down_w
        self._down_ms: list[int] = []
        """By version: when its own glide is at its limit."""
        self._settled_ms: list[int] = []
        """By version: from when on its limit alone counts, whatever was asked before."""
        for number, one in enumerate(versions):
            takes_ms = ramp_ms(ramp_down_w, (drawn_w[number] or 0) - one.instruction.limit_w)
            self._down_ms.append(max(one.due_ms, one.received_ms + RESPONSE_MS + takes_ms))
            repeats = self._follows(number) and not self._tightens(number)
            self._settled_ms.append(self._settled_ms[-1] if repeats else self._down_ms[-1])

    def _follows(self, number: int) -> bool:
        """Whether it replaced the one before it while that was in force."""
        return bool(number) and self._versions[number - 1].ends_ms == self._versions[number].begins_ms

    def _tightens(self, number: int) -> bool:
        before, one = self._versions[number - 1], self._versions[number]
        return one.instruction.limit_w < before.instruction.limit_w

    def _own_w(self, number: int, at_ms: int) -> int | None:
        """What a version asks by itself; None as long as nothing is due to it."""
        one, left_ms = self._versions[number], self._down_ms[number] - at_ms
        if at_ms < one.due_ms:
            return None
        return one.instruction.limit_w + self._ramp_down_w * max(0, left_ms) // MS_PER_MINUTE

    def due_w(self, at_ms: int) -> int | None:
        """What the site had to be at or under at an instant; None where nothing was due."""
        last = in_force(self._versions, at_ms)
        if last is None:
            return None
        first = last
        while at_ms < self._settled_ms[first] and self._follows(first):
            first -= 1
        found = self._own_w(first, at_ms)
        if at_ms >= self._settled_ms[first]:
            found = self._versions[first].instruction.limit_w
        for number in range(first + 1, last + 1):
            own_w = self._own_w(number, at_ms)
            if found is None:
                found = own_w
                continue
            found = max(found, self._versions[number].instruction.limit_w)
            if self._tightens(number) and own_w is not None:
                found = min(found, own_w)
        return found


@dataclass(frozen=True, slots=True)
class Stretch:
    """``watts`` from ``from_ms`` to ``until_ms`` (exclusive), by the word of ``source``; 0 W where it is missing."""

    from_ms: int
    until_ms: int
    watts: int
    source: Known


class Readings:
    """The readings of one meter, in any order and at any cadence; nothing is known from ``known_until_ms`` on.

    Of several at one instant the worst counts: by source, then the highest.
    """

    def __init__(self, readings: Iterable[PowerReading], known_until_ms: int, hold_ms: int = HOLD_MS) -> None:
        found: dict[int, PowerReading] = {}
        for one in readings:
            there = found.get(one.at_ms)
            if there is None or _badness(one) > _badness(there):
                found[one.at_ms] = one
        self.all = [found[at_ms] for at_ms in sorted(found)]
        self._at_ms = sorted(found)
        self.known_until_ms = known_until_ms
        self.hold_ms = hold_ms

    def within(self, from_ms: int, until_ms: int) -> list[PowerReading]:
        """All that say something about a span: the last one before it too."""
        first = max(0, bisect_right(self._at_ms, from_ms) - 1)
        last_ms = min(until_ms, self.known_until_ms)
        return [one for one in self.all[first:] if one.at_ms < last_ms] if last_ms > from_ms else []

    def drawn_w(self, at_ms: int) -> int | None:
        """What was drawn at an instant; None where that is not known."""
        (one,) = self.between(at_ms, at_ms + 1)
        return one.watts if one.source in BELIEVED else None

    def between(self, from_ms: int, until_ms: int) -> Iterator[Stretch]:
        """What was drawn in a span, without holes: where nothing is known, a stretch says so."""
        at_ms = from_ms
        number = max(0, bisect_right(self._at_ms, from_ms) - 1)
        while number < len(self.all) and at_ms < until_ms:
            one = self.all[number]
            if one.at_ms >= until_ms:
                break
            number += 1
            next_ms = self._at_ms[number] if number < len(self.all) else NEVER_MS
            holds_ms = one.at_ms + self.hold_ms if one.source == "measured" else NEVER_MS
            begins_ms = max(at_ms, one.at_ms)
            ends_ms = min(next_ms, holds_ms, self.known_until_ms, until_ms)
            if ends_ms > begins_ms:
                if begins_ms > at_ms:
                    yield Stretch(at_ms, begins_ms, 0, "missing")
                yield Stretch(begins_ms, ends_ms, one.watts, one.source)
                at_ms = ends_ms
        if at_ms < until_ms:
            yield Stretch(at_ms, until_ms, 0, "missing")

    def window(self, from_ms: int, until_ms: int) -> Window:
        """The energy of a span, and how much of it is known."""
        found = amount(self.between(from_ms, until_ms))
        return Window(from_ms, until_ms, found.energy_mj, found.known_ms)


def _badness(one: PowerReading) -> tuple[int, int]:
    return RANK[one.source], one.watts


@dataclass(frozen=True, slots=True)
class Amount:
    """What some stretches come to: energy and highest reading of what is known; for how long it is, is not, has no reading.

    ``stale_ms`` has what was counted at nameplate too. ``source`` is the worst of all.
    """

    energy_mj: int = 0
    known_ms: int = 0
    stale_ms: int = 0
    missing_ms: int = 0
    highest_w: int | None = None
    source: Known = "measured"

    @property
    def mean_w(self) -> int | None:
        """Mean over the time that is known; half-even."""
        return div_half_even(self.energy_mj, self.known_ms) if self.known_ms else None


def amount(stretches: Iterable[Stretch]) -> Amount:
    """What stretches come to."""
    energy_mj = known_ms = stale_ms = missing_ms = 0
    highest_w: int | None = None
    source: Known = "measured"
    for one in stretches:
        length_ms = one.until_ms - one.from_ms
        source = max(source, one.source, key=RANK.__getitem__)
        if one.source in BELIEVED:
            energy_mj += one.watts * length_ms
            known_ms += length_ms
            highest_w = one.watts if highest_w is None else max(highest_w, one.watts)
        elif one.source == "missing":
            missing_ms += length_ms
        else:
            stale_ms += length_ms
    return Amount(energy_mj, known_ms, stale_ms, missing_ms, highest_w, source)


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of the settlement. None stands for what is not known, or was not due.

    Instructed, over the whole interval: ``instructed_least_w``, ``instructed_mean_w`` by time, ``instructed_most_w``; where it
    was not in force the connection's own watts count. Delivered, over what is known of it: ``delivered_w`` (mean), ``highest_w``,
    ``energy_mj``; ``known_ms``, ``stale_ms``, ``missing_ms`` and what is still to come
    (``coming_ms``) add up to the interval. While it was in force, below the connection (else it asks nothing), and the strictest
    of all at the site (``held_ms``): ``held_energy_mj`` of ``held_known_ms``, and ``reduction_mj`` against the baseline over the
    same time (negative: more was drawn). For ``covered_ms`` stricter ones of the names ``covered_by`` had it: what was delivered
    then is theirs. While it was due (``due_ms``), whoever covered it: the least and the most that was due as the limit glided
    (``due_least_w``, ``due_most_w``), ``due_highest_w``, the most above what was due at that instant (``over_w``), and for
    how long that is not known (``due_unknown_ms``). ``compliance`` is of that time alone: ``not due`` where there is none of it.
    ``source``: the worst of the time that is held; of all of it where nothing is.
    """

    from_ms: int
    until_ms: int
    baseline_w: int | None
    instructed_least_w: int
    instructed_mean_w: int
    instructed_most_w: int
    delivered_w: int | None
    highest_w: int | None
    energy_mj: int
    known_ms: int
    stale_ms: int
    missing_ms: int
    coming_ms: int
    source: Known
    held_ms: int
    held_known_ms: int
    held_energy_mj: int
    reduction_mj: int | None
    reduction_w: int | None
    covered_ms: int
    covered_by: tuple[InstructionId, ...]
    due_ms: int
    due_least_w: int | None
    due_most_w: int | None
    due_highest_w: int | None
    due_unknown_ms: int
    over_w: int
    compliance: Compliance
    basis: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all intervals; ``reduction_mj`` None without a baseline. How many intervals complied, did not, or can't tell
    (``yes``, ``no``, ``unknown``); in the others nothing was due."""

    energy_mj: int
    known_ms: int
    held_ms: int
    held_known_ms: int
    held_energy_mj: int
    reduction_mj: int | None
    covered_ms: int
    yes: int
    no: int
    unknown: int
    source: Known


@dataclass(frozen=True, slots=True)
class Settlement:
    """The settlement of one instruction: intervals in order, without holes, from the one in which it began.

    ``until_ms``: when it ended, or how far it is settled by now (then it is not ``final``).
    """

    interval_ms: int
    baseline: Baseline
    intervals: tuple[Interval, ...]
    totals: Totals
    until_ms: int
    final: bool


@dataclass(frozen=True, slots=True)
class Case:
    """What a settlement is made of. ``versions`` of one instruction, in the order received; those that never began do no harm.

    ``allowed_w``: what the connection allows without it. ``held``: when any instruction was in force at the site, as
    (from, until): such days are nobody's baseline. ``zone`` is the site's. ``ramp_down_w``: by how much its draw may fall in a
    minute (0: at once). ``others``: versions of the other instructions of the site.
    """

    versions: tuple[Version, ...]
    readings: Readings
    allowed_w: int
    zone: str
    held: tuple[tuple[int, int], ...] = ()
    ramp_down_w: int = 0
    others: tuple[Version, ...] = ()


def span_ms(case: Case) -> tuple[int, int] | None:
    """From when until when an instruction was in force, as far as is known by now; None: not at all yet."""
    known_ms = case.readings.known_until_ms
    found = [(one.begins_ms, min(one.ends_ms, known_ms)) for one in case.versions]
    begun = [one for one in found if one[0] < one[1]]
    return (min(one[0] for one in begun), max(one[1] for one in begun)) if begun else None


def settle(case: Case, interval_ms: int, method: Method) -> Settlement:
    """Settle an instruction; one that was never in force has no intervals. Raises ValueError for another interval."""
    if interval_ms not in INTERVALS_MS.values():
        raise ValueError(f"no interval of {interval_ms} ms; there are {', '.join(INTERVALS_MS)}")
    begun = tuple(one for one in case.versions if one.begins_ms < one.ends_ms)
    span = span_ms(case)
    starts = range(0)
    if span is not None:
        starts = range(span[0] // interval_ms * interval_ms, span[1], interval_ms)
    asked_ms = min((one.received_ms for one in case.versions), default=0)
    comparable = Comparable(case.readings.window, case.zone, asked_ms, case.held)
    baseline, bases = baseline_of(method, comparable, starts, interval_ms)
    drawn_w = [case.readings.drawn_w(one.received_ms) for one in begun]
    asked = Asked(begun, drawn_w, case.ramp_down_w)
    rows = [_interval(case, begun, asked, at_ms, interval_ms) for at_ms in starts]
    intervals = tuple(_against(row, *basis) for row, basis in zip(rows, bases, strict=True))
    until_ms = span[1] if span else 0
    is_final = bool(begun) and max(one.ends_ms for one in begun) <= case.readings.known_until_ms
    return Settlement(interval_ms, baseline, intervals, _totals(intervals), until_ms, is_final)


_Piece = tuple[int, int, int | None]
"""From when, until when, and the number of the version that is in force."""


@dataclass(slots=True)
class _Sums:
    """What the pieces of an interval come to, of the time that has passed."""

    held: list[Stretch]
    due: list[Stretch]
    due_w: list[int]
    """What was due at the first and last instant of each: within one it only falls."""
    over_w: int = 0
    covered_ms: int = 0
    covered_by: set[InstructionId] = field(default_factory=set)

    def owe(self, asked: Asked, stretches: Sequence[Stretch]) -> None:
        """Take in what was drawn while the same version was in force."""
        for one in stretches:
            most_w, least_w = asked.due_w(one.from_ms), asked.due_w(one.until_ms - 1)
            if most_w is None or least_w is None:
                continue
            self.due.append(one)
            self.due_w += (most_w, least_w)
            if one.source in BELIEVED:
                self.over_w = max(self.over_w, one.watts - least_w)


def strictness(one: Version) -> tuple[int, int, str]:
    """Of several instructions that hold at once the one with the least of this has what is delivered: the lowest limit, the first
    of equal ones, and by name."""
    return one.instruction.limit_w, one.received_ms, one.instruction.id


def _sums(
    case: Case, versions: Sequence[Version], others: Sequence[Version], asked: Asked, pieces: Sequence[_Piece]
) -> _Sums:
    known_ms, found = case.readings.known_until_ms, _Sums([], [], [])
    for start, end, number in pieces:
        # What is still to come is not held against anybody.
        end_ms = min(end, known_ms)
        if number is None or end_ms <= start:
            continue
        one = versions[number]
        stretches = list(case.readings.between(start, end_ms))
        found.owe(asked, stretches)
        # A limit at or above what the connection allows asks nothing: whatever was shed meanwhile is not due to it.
        if one.instruction.limit_w >= case.allowed_w:
            continue
        on = [other for other in others if other.begins_ms <= start < other.ends_ms]
        strictest = min((one, *on), key=strictness)
        if strictest is one:
            found.held += stretches
        else:
            found.covered_ms += end_ms - start
            found.covered_by.add(strictest.instruction.id)
    return found


def _interval(
    case: Case, versions: Sequence[Version], asked: Asked, from_ms: int, interval_ms: int
) -> Interval:
    until_ms, known_ms = from_ms + interval_ms, case.readings.known_until_ms
    others = [
        one for one in case.others if one.begins_ms < min(until_ms, one.ends_ms) and one.ends_ms > from_ms
    ]
    pieces = list(_pieces(versions, others, from_ms, until_ms))
    limits = [(case.allowed_w if n is None else versions[n].instruction.limit_w) for _, _, n in pieces]
    weighted = sum(w * (end - start) for w, (start, end, _) in zip(limits, pieces, strict=True))
    sums = _sums(case, versions, others, asked, pieces)
    past_ms = min(until_ms, known_ms)
    found, in_hold = amount(case.readings.between(from_ms, past_ms)), amount(sums.held)
    when_due = amount(sums.due)
    unknown_ms = when_due.stale_ms + when_due.missing_ms
    return Interval(
        from_ms=from_ms,
        until_ms=until_ms,
        baseline_w=None,
        instructed_least_w=min(limits),
        instructed_mean_w=div_half_even(weighted, interval_ms),
        instructed_most_w=max(limits),
        delivered_w=found.mean_w,
        highest_w=found.highest_w,
        energy_mj=found.energy_mj,
        known_ms=found.known_ms,
        stale_ms=found.stale_ms,
        missing_ms=found.missing_ms,
        coming_ms=until_ms - past_ms,
        source=in_hold.source if sums.held else found.source,
        held_ms=sum(one.until_ms - one.from_ms for one in sums.held),
        held_known_ms=in_hold.known_ms,
        held_energy_mj=in_hold.energy_mj,
        reduction_mj=None,
        reduction_w=None,
        covered_ms=sums.covered_ms,
        covered_by=tuple(sorted(sums.covered_by)),
        due_ms=when_due.known_ms + unknown_ms,
        due_least_w=min(sums.due_w, default=None),
        due_most_w=max(sums.due_w, default=None),
        due_highest_w=when_due.highest_w,
        due_unknown_ms=unknown_ms,
        over_w=sums.over_w,
        compliance=_compliance(when_due.known_ms, unknown_ms, sums.over_w),
    )


def glides(case: Case, one: Version) -> bool:
    """Whether a version was still on its way down the ramp when it began."""
    takes_ms = ramp_ms(
        case.ramp_down_w, (case.readings.drawn_w(one.received_ms) or 0) - one.instruction.limit_w
    )
    return bool(takes_ms) and one.received_ms + RESPONSE_MS + takes_ms > one.begins_ms


def _compliance(known_ms: int, unknown_ms: int, over_w: int) -> Compliance:
    if over_w > 0:
        return "no"
    if unknown_ms:
        return "unknown"
    return "yes" if known_ms else "not due"


def _pieces(
    versions: Sequence[Version], others: Sequence[Version], from_ms: int, until_ms: int
) -> Iterator[_Piece]:
    """A span in pieces within which one version is in force, or none, beside the same others, and the same is due."""
    moments = {from_ms, until_ms}
    for one in versions:
        moments |= {at for at in (one.begins_ms, one.due_ms, one.ends_ms) if from_ms < at < until_ms}
    for one in others:
        moments |= {at for at in (one.begins_ms, one.ends_ms) if from_ms < at < until_ms}
    for start, end in pairwise(sorted(moments)):
        yield start, end, in_force(versions, start)


def _against(row: Interval, baseline_w: int | None, basis: Basis) -> Interval:
    if baseline_w is None:
        return row
    reduction_mj = baseline_w * row.held_known_ms - row.held_energy_mj
    reduction_w = div_half_even(reduction_mj, row.held_known_ms) if row.held_known_ms else None
    return replace(
        row, baseline_w=baseline_w, basis=basis, reduction_mj=reduction_mj, reduction_w=reduction_w
    )


def _totals(intervals: Sequence[Interval]) -> Totals:
    reductions = [one.reduction_mj for one in intervals if one.reduction_mj is not None]
    counts = [one.compliance for one in intervals]
    return Totals(
        sum(one.energy_mj for one in intervals),
        sum(one.known_ms for one in intervals),
        sum(one.held_ms for one in intervals),
        sum(one.held_known_ms for one in intervals),
        sum(one.held_energy_mj for one in intervals),
        sum(reductions) if reductions else None,
        sum(one.covered_ms for one in intervals),
        counts.count("yes"),
        counts.count("no"),
        counts.count("unknown"),
        max((one.source for one in intervals), key=RANK.__getitem__, default="missing"),
    )
