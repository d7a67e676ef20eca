"""Integrated ownership: what of each entity is a group's, through all chains and cycles, with its bounds.

``y[e]``, the part of entity ``e`` that is a group's, is 1 for the group's own parties and ``sum(w[h, e] * y[h])`` for
all others, where ``w[h, e]`` is what ``h`` has of ``e``. For one party this is its column of ``W + W^2 + ... = W(I -
W)^-1`` with the detours through itself left out; with them (:func:`gross`) it is that matrix to the letter, which is
more than all where a company holds itself.

What is not known is bounded from both sides. Of a list that isn't complete, the rest is nobody's for the lower bound
and the group's for the upper one. Of a complete list with ranges, each holder gets what the bounds allow, those first
that serve the bound. The lower bound is the least solution and the upper one the greatest, so that entities that only
hold each other are unknown: nobody's, or anybody's.

Doubles are iterated to 1e-15, and blocks that converge slowly are solved directly. Results are whole ppm, rounded
outwards; what is within a millionth of a ppm of a whole one counts as it, so that the order in which a processor adds
makes no difference.
"""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from headrace.core.sovereignty.book import Book, Flags, Floats, Ints
from headrace.core.sovereignty.holdings import WHOLE_PPM, Share

GUARD_PPM = 1e-6
"""How far from a whole ppm a result may lie and still be it; the error of what is computed is far below."""
_STILL = 2e-15
_FIRST_SOLVE, _FIRST_SIZE = 48, 150
_MOST_ROUNDS = 4_000
_POLICIES = 40
_NONE = np.array([], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Whose part is asked for: parties that are surely in the group, and those that may be (the sure ones are among them).

    Parties without a name may be anybody: they are among those that may be.
    """

    certain: Flags
    possible: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """What a group has of each entity, as parts of one; ``is_settled`` false: stopped early, and the bounds are wider
    than need be.
    """

    least: Floats
    most: Floats
    is_settled: bool = True

    def share(self, row: int) -> Share:
        """What the group has of one entity."""
        return rounded(float(self.least[row]), float(self.most[row]))

    def shares(self) -> tuple[Ints, Ints]:
        """What it has of every entity in ppm: least and most."""
        least = np.floor(self.least * WHOLE_PPM + GUARD_PPM).astype(np.int64)
        most = np.ceil(self.most * WHOLE_PPM - GUARD_PPM).astype(np.int64)
        return np.clip(least, 0, WHOLE_PPM), np.clip(np.maximum(most, least), 0, WHOLE_PPM)


def rounded(least: float, most: float) -> Share:
    """Parts of one as a range of whole ppm."""
    low = min(WHOLE_PPM, max(0, floor(least * WHOLE_PPM + GUARD_PPM)))
    return Share(low, min(WHOLE_PPM, max(low, ceil(most * WHOLE_PPM - GUARD_PPM))))


def reach(book: Book, group: Group) -> Reach:
    """What a group has of every entity."""
    below, above = _Bound(book, group.certain, upper=False), _Bound(book, group.possible, upper=True)
    least, most = group.certain.astype(np.float64), np.ones(book.size)
    low = below.settle(least, np.flatnonzero(~group.certain))
    high = above.settle(most, np.flatnonzero(~group.possible))
    return Reach(least, most, low and high)


def reach_after(before: Reach, book: Book, group: Group, rows: Ints) -> Reach:
    """The same for a book in which some rows differ, from what was found before; what that doesn't reach isn't looked at."""
    found = []
    is_settled = before.is_settled
    for values, pinned, upper in (
        (before.least, group.certain, False),
        (before.most, group.possible, True),
    ):
        bound, now = _Bound(book, pinned, upper=upper), values
        active = rows[~pinned[rows]]
        # Where entities may wholly hold each other, several solutions fit: the least and the greatest are found from outside.
        ring = np.unique(np.concatenate((*(bound.ring_of(row) for row in active.tolist()), _NONE)))
        if len(ring) or bound.moves(active, values):
            now = values.copy()
            now[ring] = float(upper)
            near = book.held_by(ring)
            active = np.union1d(active, near[~pinned[near]])
            is_settled = bound.settle(now, active) and is_settled
        found.append(now)
    return Reach(found[0], found[1], is_settled)


def gross(book: Book, found: Reach, row: int, party: int) -> tuple[float, float | None]:
    """``W(I - W)^-1`` to the letter, of ``party`` in ``row``: bounds as parts of one, of which the upper is None when
    there is none.

    ``found``: the reach of that party alone.
    """
    parts = []
    for values, upper in ((found.least, False), (found.most, True)):
        bound = _Bound(book, np.zeros(book.size, np.bool_), upper=upper)
        back = float(bound.values(np.array([party]), values)[0])
        part = back if row == party else float(values[row])
        parts.append(part / (1 - back) if back < 1 - _STILL else None)
    return parts[0] or 0.0, parts[1]


class _Bound:
    """One of both bounds, as the solution of ``y = F(y)`` on all rows that are not ``pinned``."""

    def __init__(self, book: Book, pinned: Flags, *, upper: bool) -> None:
        self.book = book
        self.pinned = pinned
        self.upper = upper

    def settle(self, y: Floats, active: Ints) -> bool:
        """Iterate ``y`` in place from the rows that may not fit, until all do; whether that was reached."""
        solve_at, size = _FIRST_SOLVE, _FIRST_SIZE
        lately = np.zeros(self.book.size, np.bool_)
        for rounds in range(_MOST_ROUNDS):
            new = self.values(active, y)
            moved = active[np.abs(new - y[active]) > _STILL]
            y[active] = new
            if not len(moved):
                return True
            lately[moved] = True
            if rounds == solve_at:
                block = np.flatnonzero(lately)
                if len(block) <= size:
                    self._solve(y, block)
                    moved = block
                lately[:] = False
                solve_at, size = 2 * solve_at, 2 * size
            active = self.book.held_by(moved)
            active = active[~self.pinned[active]]
        return False

    def moves(self, rows: Ints, y: Floats) -> bool:
        """Whether one of some rows doesn't fit."""
        return bool((np.abs(self.values(rows, y) - y[rows]) > _STILL).any())

    def values(self, rows: Ints, y: Floats) -> Floats:
        """``F(y)`` on some rows."""
        edges, which = self.book.edges_of(rows)
        parts = self.weights(rows, edges, which, y) * y[self.book.holder[edges]]
        found: Floats = np.zeros(len(rows)) + np.bincount(which, weights=parts, minlength=len(rows))
        if self.upper:
            found += self.book.spare[rows] / WHOLE_PPM
        return np.minimum(found, 1.0)

    def weights(self, rows: Ints, edges: Ints, which: Ints, y: Floats) -> Floats:
        """What each holder of some rows has: its least, and of a complete list what is best for the bound on top of it."""
        found = self.book.least[edges] / WHOLE_PPM
        open_ppm = self.book.slack[rows]
        if not open_ppm.any():
            return found
        at = np.flatnonzero(open_ppm[which] > 0)
        mine = edges[at]
        worth = y[self.book.holder[mine]]
        order = np.lexsort((-worth if self.upper else worth, which[at]))
        room = (self.book.most - self.book.least)[mine][order]
        row = which[at][order]
        before = np.cumsum(room) - room
        first = np.flatnonzero(np.concatenate(([True], np.diff(row) != 0)))
        before -= np.repeat(before[first], np.diff(np.append(first, len(row))))
        found[at[order]] += np.clip(open_ppm[row] - before, 0, room) / WHOLE_PPM
        return found

    def _solve(self, y: Floats, block: Ints) -> None:
        """Solve a block directly, everything outside of it held; nothing is changed where that doesn't fit."""
        inside = np.full(self.book.size, -1)
        inside[block] = np.arange(len(block))
        edges, which = self.book.edges_of(block)
        holders = self.book.holder[edges]
        column = inside[holders]
        own = column >= 0
        guess = y.copy()
        for _ in range(_POLICIES):
            weights = self.weights(block, edges, which, guess)
            matrix = np.eye(len(block))
            np.subtract.at(matrix, (which[own], column[own]), weights[own])
            given = np.zeros(len(block))
            given += np.bincount(which[~own], weights=weights[~own] * y[holders[~own]], minlength=len(block))
            if self.upper:
                given += self.book.spare[block] / WHOLE_PPM
            try:
                found = np.linalg.solve(matrix, given)
            except np.linalg.LinAlgError:
                return
            if not (np.isfinite(found).all() and found.min() > -1e-9 and found.max() < 1 + 1e-9):
                return
            found = np.clip(found, 0.0, 1.0)
            if np.abs(found - guess[block]).max() <= _STILL:
                break
            guess[block] = found
        if np.abs(self.values(block, guess) - guess[block]).max() < 1e-9:
            y[block] = guess[block]

    def ring_of(self, row: int) -> Ints:
        """The entities that may wholly hold each other together with ``row``; none when it isn't held so."""
        among = {row}
        waiting = [row]
        while waiting:
            here = waiting.pop()
            if not self._fills(here, None):
                among.discard(here)
                continue
            for holder in self.book.line(here).holder:
                if holder not in among and not self.pinned[holder]:
                    among.add(holder)
                    waiting.append(holder)
        while row in among:
            out = [here for here in among if not self._fills(here, among)]
            if not out:
                return np.array(sorted(among), np.int64)
            among.difference_update(out)
        return np.array([], np.int64)

    def _fills(self, row: int, among: set[int] | None) -> bool:
        """Whether all of an entity may be held by parties of a set (None: by any that somebody holds, but for the
        pinned).
        """
        line = self.book.line(row)
        if among is None:
            start = self.book.start
            inside = [not self.pinned[holder] and start[holder] < start[holder + 1] for holder in line.holder]
        else:
            inside = [holder in among for holder in line.holder]
        if line.above:
            return sum(part for part, is_in in zip(line.least, inside, strict=True) if is_in) == WHOLE_PPM
        outside = sum(part for part, is_in in zip(line.least, inside, strict=True) if not is_in)
        return (
            not outside
            and sum(part for part, is_in in zip(line.most, inside, strict=True) if is_in) >= WHOLE_PPM
        )
