"""Who holds whom as columns: for each entity its holders with what they have at least and at most, in parts per
million.

Rows and columns are numbered as the parties are, sorted by their names. The edges of an entity are sorted by holder,
so that two books of the same holdings are alike to the byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.core.sovereignty.holdings import WHOLE_PPM

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

_FEW, _MANY = 8, 1_000


@dataclass(frozen=True, slots=True)
class Line:
    """One entity's row: its holders by number, ascending, with their bounds in ppm; and what one that is not listed
    may hold.
    """

    holder: Sequence[int]
    least: Sequence[int]
    most: Sequence[int]
    above: int


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """All rows. Edges ``start[e]:start[e + 1]`` are those of entity ``e``; none of these arrays is ever changed.

    ``spare``: what of an entity nobody on its list is known to have, and others may (0 for a complete list, persons
    and states). ``above``: what one who isn't on the list may hold at most. ``slack``: what a complete list leaves
    open between the least that its holders have and the whole. ``subjects[out[h]:out[h + 1]]`` are what ``h`` holds
    something of.
    """

    size: int
    start: Ints
    holder: Ints
    least: Ints
    most: Ints
    spare: Ints
    above: Ints
    slack: Ints
    out: Ints
    subjects: Ints

    @property
    def edges(self) -> int:
        """How many holders there are in all rows together."""
        return len(self.holder)

    def edges_of(self, rows: Ints) -> tuple[Ints, Ints]:
        """The edges of some rows, and for each the index of its row in ``rows``."""
        return _spans(self.start, rows)

    def held_by(self, holders: Ints) -> Ints:
        """Everything that some holders hold something of, ascending, each once."""
        where, _ = _spans(self.out, holders)
        found = self.subjects[where]
        if len(found) < _MANY:
            return np.unique(found)
        # Marking them is faster than sorting, once there are many.
        marked = np.zeros(self.size, np.bool_)
        marked[found] = True
        return np.flatnonzero(marked)

    def line(self, row: int) -> Line:
        """One row."""
        span = slice(int(self.start[row]), int(self.start[row + 1]))
        return Line(
            self.holder[span].tolist(),
            self.least[span].tolist(),
            self.most[span].tolist(),
            int(self.above[row]),
        )

    def owners(self) -> Ints:
        """For each edge the entity whose row it is in."""
        return np.repeat(np.arange(self.size), np.diff(self.start))

    def over(self, row: int) -> Ints:
        """Everybody from whom a chain leads to ``row``, itself included; ascending."""
        seen = np.zeros(self.size, np.bool_)
        seen[row] = True
        wave = np.array([row])
        while len(wave):
            edges, _ = self.edges_of(wave)
            wave = np.unique(self.holder[edges])
            wave = wave[~seen[wave]]
            seen[wave] = True
        return np.flatnonzero(seen)

    def part(self, rows: Ints) -> "Book":
        """The rows of some parties as a book of their own, numbered as in ``rows``, which holds all who stand over them."""
        number = np.full(self.size, -1)
        number[rows] = np.arange(len(rows))
        edges, _ = self.edges_of(rows)
        start = np.concatenate(([0], np.cumsum(np.diff(self.start)[rows])))
        holder = number[self.holder[edges]]
        out, subjects = _turned(len(rows), start, holder)
        return Book(
            len(rows), start, holder, self.least[edges], self.most[edges], self.spare[rows], self.above[rows],
            self.slack[rows], out, subjects,
        )  # fmt: skip

    def with_lines(self, lines: Mapping[int, Line], final: Flags) -> "Book":
        """The book with other rows in the place of some; ``final``: whom nobody can hold."""
        rows = sorted(lines)
        least = _spliced(self.start, self.least, rows, [lines[row].least for row in rows])
        most = _spliced(self.start, self.most, rows, [lines[row].most for row in rows])
        above = _put(self.above, rows, [lines[row].above for row in rows])
        spare = _put(
            self.spare, rows, [0 if final[row] else _left(lines[row], of_complete=False) for row in rows]
        )
        slack = _put(self.slack, rows, [_left(lines[row], of_complete=True) for row in rows])
        if all(self.line(row).holder == lines[row].holder for row in rows):
            columns = self.start, self.holder, self.out, self.subjects
        else:
            columns = self._held_otherwise(lines, rows)
        start, holder, out, subjects = columns
        return Book(self.size, start, holder, least, most, spare, above, slack, out, subjects)

    def _held_otherwise(
        self, lines: Mapping[int, Line], rows: Sequence[int]
    ) -> tuple[Ints, Ints, Ints, Ints]:
        """Who holds whom, and who holds what, where some rows have other holders."""
        holder = _spliced(self.start, self.holder, rows, [lines[row].holder for row in rows])
        if len(rows) > _FEW:
            counts = np.diff(self.start)
            counts[rows] = [len(lines[row].holder) for row in rows]
            start = np.concatenate(([0], np.cumsum(counts)))
            return start, holder, *_turned(self.size, start, holder)
        start = self.start.copy()
        out, subjects = self.out.copy(), self.subjects
        for row in rows:
            before, after = set(self.line(row).holder), set(lines[row].holder)
            start[row + 1 :] += len(after) - len(before)
            for one in sorted(before ^ after):
                # What is not this row's stays where it is: one place is opened or closed.
                first, last = int(out[one]), int(out[one + 1])
                at = first + int(np.searchsorted(subjects[first:last], row))
                is_new = one in after
                middle = np.array([row] if is_new else [], np.int64)
                subjects = np.concatenate((subjects[:at], middle, subjects[at + (not is_new) :]))
                out[one + 1 :] += 1 if is_new else -1
        return start, holder, out, subjects


def differing(one: Book, other: Book) -> Ints:
    """The rows in which two books of the same parties differ."""
    if one is other:
        return np.array([], np.int64)
    counts, others = np.diff(one.start), np.diff(other.start)
    differs = (counts != others) | (one.spare != other.spare) | (one.above != other.above)
    rows = np.flatnonzero(~differs)
    edges, which = one.edges_of(rows)
    others_edges, _ = other.edges_of(rows)
    unlike = (
        (one.holder[edges] != other.holder[others_edges])
        | (one.least[edges] != other.least[others_edges])
        | (one.most[edges] != other.most[others_edges])
    )
    differs[rows[which[unlike]]] = True
    return np.flatnonzero(differs)


def _put(column: Ints, rows: Sequence[int], values: Sequence[int]) -> Ints:
    """A column with other values in some rows; itself where they are the same."""
    new = np.array(values, np.int64)
    if (column[rows] == new).all():
        return column
    found = column.copy()
    found[rows] = new
    return found


def _left(line: Line, *, of_complete: bool) -> int:
    """What is not known to be anybody's, of a complete list (that has holders) or of one that is not."""
    if (line.above == 0) != of_complete or (of_complete and not line.holder):
        return 0
    return WHOLE_PPM - sum(line.least)


def book_of(final: Flags, above: Ints, subject: Ints, holder: Ints, least: Ints, most: Ints) -> Book:
    """The book of single holdings (in any order; several of one holder in one subject add up), with its ranges tightened.

    Raises ValueError for shares that can't be.
    """
    size = len(final)
    order = np.lexsort((holder, subject))
    subject, holder, least, most = subject[order], holder[order], least[order], most[order]
    if len(order):
        first = np.flatnonzero(np.concatenate(([True], (np.diff(subject) != 0) | (np.diff(holder) != 0))))
        least, most = np.add.reduceat(least, first), np.minimum(WHOLE_PPM, np.add.reduceat(most, first))
        subject, holder = subject[first], holder[first]
    counts = np.bincount(subject, minlength=size)
    start = np.concatenate(([0], np.cumsum(counts)))
    sums, mosts = _sum(least, subject, size), _sum(most, subject, size)
    complete = above == 0
    wrong = np.flatnonzero((sums > WHOLE_PPM) | (complete & (counts > 0) & (mosts < WHOLE_PPM)))
    if len(wrong):
        raise ValueError(f"shares of row {int(wrong[0])} can't be all")
    tight = np.where(complete[subject], np.maximum(least, WHOLE_PPM - mosts[subject] + most), least)
    most = np.minimum(most, WHOLE_PPM - sums[subject] + least)
    left = WHOLE_PPM - _sum(tight, subject, size)
    spare = np.where(final | complete, 0, left)
    slack = np.where(complete & (counts > 0), left, 0)
    out, subjects = _turned(size, start, holder)
    return Book(size, start, holder, tight, most, spare, above, slack, out, subjects)


def _sum(values: Ints, keys: Ints, size: int) -> Ints:
    # Sums stay below 2^53, where doubles are exact.
    return np.bincount(keys, weights=values, minlength=size).astype(np.int64)


def _turned(size: int, start: Ints, holder: Ints) -> tuple[Ints, Ints]:
    order = np.argsort(holder, kind="stable")
    out = np.concatenate(([0], np.cumsum(np.bincount(holder, minlength=size))))
    return out, np.repeat(np.arange(size), np.diff(start))[order]


def _spans(start: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """The positions of several spans one after the other, and for each the index of its span."""
    first = start[rows]
    counts = start[rows + 1] - first
    which = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(counts) - counts
    return np.arange(len(which)) - before[which] + first[which], which


def _spliced(start: Ints, column: Ints, rows: Sequence[int], parts: Sequence[Sequence[int]]) -> Ints:
    pieces: list[NDArray[Any]] = []
    done = 0
    for row, part in zip(rows, parts, strict=True):
        pieces += (column[done : start[row]], np.array(part, np.int64))
        done = int(start[row + 1])
    return np.concatenate((*pieces, column[done:]))
