"""How much longer a workload may be expected to run, and what that makes of its turn. Pure; integers come out.

Where the owner says how long it runs, that is believed until it has run for longer. Else it is learned from siblings:
workloads of one kind that were submitted next to each other end after like times (on the Philly traces the logarithms of
the durations of neighbours correlate by 0.7). From them comes a hazard per doubling of the time attained, and from the
hazard a Gittins rank: the least, over all d, of the time that an attempt of length d takes, divided by the chance that it
ends the workload. Source: Gittins 1979; Aalto, Ayesta, Righter, On the Gittins index in the M/G/1 queue, 2009.

All arithmetic is either on integers or single additions, products and quotients of doubles, in a fixed order: IEEE 754
gives the same result on every processor.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.core.ids import WorkloadId
from headrace.core.units import MS_PER_DAY, MS_PER_MINUTE

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]

FIRST_MS = 10 * MS_PER_MINUTE
BINS = 15
EDGES_MS = (0, *(FIRST_MS << doubling for doubling in range(BINS - 1)))
"""Where the bins of attained time begin: the first is ten minutes long, each further one ends at twice its beginning."""
REACH = 8
"""How many siblings before, and how many after a workload tell something about it."""
_ONE = 1 << 20
_DECAY = (4, 5)
OWN = _ONE // 2
"""Weight of :data:`PRIOR_HAZARD` against one sibling's 2**20: half a sibling."""
PRIOR_HAZARD = 0.15
"""The chance to end in a bin that was reached, where nothing is known: about that of a Pareto tail of exponent 1/4."""
_LAST_HAZARD = 0.5
"""At least so many end in the last bin, which stands for all that comes after it."""

MOST_KINDS = 4_096
"""Kinds that are remembered although everybody of them has ended."""
_SWEEP = 64
_MOST_LOGGED = 20_000

STRETCH = 128
GRACE_MS = MS_PER_DAY
"""A workload ages once it has been there for twice ``STRETCH`` times as long as it runs, or as a day if it runs for less."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What may be expected of a workload.

    ``index`` is accelerators x milliseconds that remain, less what it has aged: the least goes first. ``exact`` says that it
    rests on a stated duration. ``outlook``: (attained milliseconds, index from there on), rising in time. ``ripens_ms`` is
    its age at which the index halves next.
    """

    index: int
    exact: bool
    outlook: tuple[tuple[int, int], ...]
    ripens_ms: int


class Sibling(NamedTuple):
    """One of a kind: ``workload`` while it has not ended, then ""; the bin that it ended in; did it end by itself."""

    workload: str
    bin: int = 0
    ended: bool = False


class History:
    """What ended, and what those that have not ended have attained: by kind, in order of submission.

    A kind is whatever makes workloads siblings, the number of accelerators among it. The expectations depend on what was
    told alone, not on when it was told or on when they were asked for.

    ``kinds`` is what it rests on, but for what those that have not ended have attained: whoever keeps that can make
    the same history again. Who is too far from everybody that has not ended is dropped from it, which changes nothing.
    """

    def __init__(self, kinds: "dict[str, list[Sibling]] | None" = None) -> None:
        self.kinds = {} if kinds is None else kinds
        self._kinds: dict[str, _Kind] = {}
        self._where: dict[WorkloadId, _Kind] = {}
        self._touched: dict[_Kind, None] = {}
        self._log: list[WorkloadId] = []
        self._logged = 0
        for kind, rows in self.kinds.items():
            group = self._kinds[kind] = _Kind(rows)
            self._where |= dict.fromkeys(group.places, group)
            self._touched[group] = None

    def __contains__(self, ident: object) -> bool:
        return ident in self._where

    def enter(self, ident: WorkloadId, kind: str) -> None:
        """A workload was submitted, after all that entered before."""
        if ident in self._where:
            raise ValueError(f"{ident} has entered already")
        group = self._kinds.get(kind)
        if group is None:
            if len(self.kinds) >= MOST_KINDS and len(self.kinds) % _SWEEP == 0:
                self._drop_kinds()
            group = self._kinds[kind] = _Kind(self.kinds.setdefault(kind, []))
        self._where[ident] = group
        group.add(ident)
        self._touched[group] = None

    def _drop_kinds(self) -> None:
        """Forget the oldest kinds of which everybody has ended: tenants can invent more of them than any memory holds."""
        for kind in [kind for kind, group in self._kinds.items() if not group.places]:
            if len(self.kinds) < MOST_KINDS:
                return
            self._touched.pop(self._kinds.pop(kind), None)
            del self.kinds[kind]

    def attain(self, ident: WorkloadId, attained_ms: int) -> None:
        """It has run for so long by now, and has not ended."""
        group = self._where[ident]
        if group.attain(ident, bin_of(attained_ms)):
            self._touched[group] = None

    def end(self, ident: WorkloadId, attained_ms: int, *, by_itself: bool = True) -> None:
        """It has ended after so long; not ``by_itself`` if somebody stopped it, which says nothing of how long it would run."""
        self.attain(ident, attained_ms)
        group = self._where.pop(ident)
        group.end(ident, by_itself=by_itself)
        self._touched[group] = None

    def rests_ms(self, ident: WorkloadId) -> Sequence[int]:
        """For each bin of attained time the milliseconds that remain once it is there (a Gittins rank).

        Of one that never entered as little is known as of one without siblings.
        """
        self._refresh()
        group = self._where.get(ident)
        return _unknown_ms() if group is None else group.rests_ms[group.places[ident]]

    def rest_ms(self, ident: WorkloadId, attained_ms: int) -> int:
        """Milliseconds that remain after ``attained_ms``."""
        return self.rests_ms(ident)[bin_of(attained_ms)]

    def changes(self, since: int) -> tuple[int, Sequence[WorkloadId] | None]:
        """Of whom something else is expected than at a moment that this gave (0: the beginning), and the moment that is now.

        Those that entered since are among them, and perhaps some that have ended. None: it was too long ago to tell.
        """
        self._refresh()
        if len(self._log) > _MOST_LOGGED:
            cut = len(self._log) // 2
            self._logged += cut
            del self._log[:cut]
        now = self._logged + len(self._log)
        return now, None if since < self._logged else tuple(dict.fromkeys(self._log[since - self._logged :]))

    def _refresh(self) -> None:
        for group in self._touched:
            self._log += group.refresh()
        self._touched.clear()


class _Kind:
    """The workloads of a kind; ``places`` are those that have not ended.

    Rows of ``ended`` and ``passed`` have :data:`REACH` empty ones before and after them.
    """

    def __init__(self, rows: list[Sibling]) -> None:
        self.rows = rows
        self.places: dict[WorkloadId, int] = {}
        self.bins: list[int] = [row.bin for row in rows]
        self.rests_ms: list[list[int]] = [[] for _ in rows]
        self.ended: I8 = np.zeros((64 + len(rows), BINS), np.int8)
        self.passed: I8 = np.zeros_like(self.ended)
        self.touched: dict[int, None] = {}
        for place, row in enumerate(rows):
            self.passed[place + REACH, : row.bin + row.ended] = 1
            self.ended[place + REACH, row.bin] = row.ended
            if row.workload:
                self.places[WorkloadId(row.workload)] = place
                self.touched[place] = None

    def add(self, ident: WorkloadId) -> None:
        if self.rows and len(self.rows) % _SWEEP == 0:
            self.sweep()
        place = len(self.rows)
        self.rows.append(Sibling(ident))
        self.places[ident] = place
        self.bins.append(0)
        self.rests_ms.append([])
        if place + 1 + 2 * REACH > len(self.ended):
            self.ended = np.vstack([self.ended, np.zeros_like(self.ended)])
            self.passed = np.vstack([self.passed, np.zeros_like(self.passed)])
        self.touched[place] = None

    def sweep(self) -> None:
        """Drop whom nobody that has not ended, and nobody who comes, can hear."""
        count = len(self.rows)
        near = np.zeros(count + 2 * REACH, np.bool_)
        for place in (*self.places.values(), count):
            near[place : place + 2 * REACH + 1] = True
        keep = np.flatnonzero(near[REACH : REACH + count])
        if len(keep) == count:
            return
        self.ended = _rows_of(self.ended, keep)
        self.passed = _rows_of(self.passed, keep)
        kept = keep.tolist()
        self.rows[:] = [self.rows[place] for place in kept]
        self.bins = [self.bins[place] for place in kept]
        self.rests_ms = [self.rests_ms[place] for place in kept]
        now = {before: after for after, before in enumerate(kept)}
        self.places = {ident: now[place] for ident, place in self.places.items()}
        self.touched = {now[place]: None for place in self.touched if place in now}

    def attain(self, ident: WorkloadId, new: int) -> bool:
        place = self.places[ident]
        if new == self.bins[place]:
            return False
        # Less too: who plans counts by the clock, and what is measured at the end of an attempt may be less.
        self.passed[place + REACH] = np.arange(BINS) < new
        self.bins[place] = new
        self.touch(place)
        return True

    def end(self, ident: WorkloadId, *, by_itself: bool) -> None:
        place = self.places.pop(ident)
        number = self.bins[place]
        self.rows[place] = Sibling("", number, by_itself)
        if by_itself:
            self.ended[place + REACH, number] = self.passed[place + REACH, number] = 1
            self.touch(place)

    def touch(self, place: int) -> None:
        near = range(max(0, place - REACH), min(len(self.rows), place + REACH + 1))
        self.touched.update(dict.fromkeys(near))

    def refresh(self) -> list[WorkloadId]:
        """Expect anew what was touched; those of whom something else is expected now."""
        live = [
            (place, WorkloadId(ident))
            for place in sorted(self.touched)
            if (ident := self.rows[place].workload)
        ]
        self.touched = {}
        if not live:
            return []
        rows = np.array([place for place, _ in live])[:, None] + _WINDOW
        ended, passed = (_WEIGHTS @ table[rows].astype(np.int64) for table in (self.ended, self.passed))
        found = ranks_ms((ended + OWN * PRIOR_HAZARD) / (passed + OWN)).tolist()
        changed = []
        for (place, ident), rests_ms in zip(live, found, strict=True):
            if rests_ms != self.rests_ms[place]:
                self.rests_ms[place] = rests_ms
                changed.append(ident)
        return changed


def _rows_of(table: I8, keep: npt.NDArray[np.intp]) -> I8:
    """Some rows of a table, with as many empty ones around them as a table has."""
    found = np.zeros((64 + len(keep), table.shape[1]), table.dtype)
    found[REACH : REACH + len(keep)] = table[keep + REACH]
    return found


@cache
def _unknown_ms() -> Sequence[int]:
    found: list[int] = ranks_ms(np.full((1, BINS), PRIOR_HAZARD))[0].tolist()
    return found


def expect(  # what is known of a workload, one by one
    history: History,
    ident: WorkloadId,
    accelerators: int,
    attained_ms: int,
    age_ms: int,
    expected_ms: int = 0,
) -> Expectation:
    """What may be expected of a workload with so many accelerators in all, ``age_ms`` after it was submitted.

    ``expected_ms``: how long its owner says that it runs (0: not stated). While it has run for less, it need not have entered
    ``history``.
    """
    if attained_ms < expected_ms:
        rest_ms = expected_ms - attained_ms
        steps, ripens_ms = _ageing(attained_ms + rest_ms, age_ms)
        return Expectation(max(1, accelerators * rest_ms >> steps), True, (), ripens_ms)
    rests_ms = history.rests_ms(ident)
    now = bin_of(attained_ms)
    steps, ripens_ms = _ageing(attained_ms + rests_ms[now], age_ms)
    indexes = [max(1, accelerators * rest_ms >> steps) for rest_ms in rests_ms[now:]]
    return Expectation(
        indexes[0], False, tuple(zip(EDGES_MS[now + 1 :], indexes[1:], strict=True)), ripens_ms
    )


def _ageing(service_ms: int, age_ms: int) -> tuple[int, int]:
    """How often the index was halved for age, and the age at which it is next: at each doubling beyond the stretch."""
    stretch_ms = STRETCH * max(service_ms, GRACE_MS)
    steps = max(0, (age_ms // stretch_ms).bit_length() - 1)
    return steps, stretch_ms << (steps + 1)


def bin_of(attained_ms: int) -> int:
    """The bin of an attained time."""
    return bisect_right(EDGES_MS, attained_ms) - 1


def ranks_ms(hazards: F64) -> I64:
    """Gittins ranks in milliseconds, ``[n, bin]``, of hazards ``[n, bin]``: the chance to end in a bin that was reached.

    Who ends in a bin does so halfway through it on average.
    """
    hazards = hazards.copy()
    hazards[:, -1] = np.maximum(hazards[:, -1], _LAST_HAZARD)
    # [n, bin where it is, bin to which the attempt goes]: bins before where it is take no time and end nobody.
    each = hazards[:, None, :] * _AHEAD
    alive = np.cumprod(1 - each, axis=2)
    takes_ms = _WIDTHS_MS * (1 - 0.5 * each)
    takes_ms[:, :, 1:] *= alive[:, :, :-1]
    rank_ms = np.cumsum(takes_ms, axis=2)
    rank_ms /= 1 - alive + 1e-12
    rank_ms[:, _BEHIND] = math.inf
    found: I64 = np.rint(rank_ms.min(axis=2)).astype(np.int64)
    return found


def _weights() -> I64:
    up, down = _DECAY
    half = [_ONE * up**distance // down**distance for distance in range(REACH + 1)]
    return np.array([*half[:0:-1], *half], np.int64)


_WEIGHTS = _weights()
_WINDOW = np.arange(2 * REACH + 1)
_AHEAD = np.triu(np.ones((BINS, BINS)))
_BEHIND = _AHEAD == 0
_WIDTHS_MS = np.diff(np.array([*EDGES_MS, 2 * EDGES_MS[-1]], np.float64)) * _AHEAD
