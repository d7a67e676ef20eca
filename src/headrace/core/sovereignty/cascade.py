"""What falls to a set of parties in whole steps: whoever is in it counts with all that it holds, and brings others
in.

- OFAC's 50 % rule: an entity of whose shares those in the set have 50 % or more together is in it too (FAQ 399 and
  401). A holding counts whole, and not by the part that the set has of its holder. Ownership alone counts, not
  control (FAQ 398).
- Majority chains (Companies Act 2006, schedule 1A, 18): a party has what those hold in which it has a majority stake:
  more than half of the votes, held so itself, the right to appoint a majority of the board, or decisive influence
  that somebody attests.

Both are least solutions, found in rounds. Each member has a rank above that of those through whom it came in: what
brings a member in can be walked back, and entities that hold each other don't keep each other in.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.core.sovereignty.book import Book, Flags, Ints
from headrace.core.sovereignty.holdings import WHOLE_PPM

OUT = -1
"""The rank of what is not in a set."""
OFAC_PPM = 500_000
MAJORITY_PPM = 500_001
"""More than half: the least of whole ppm that is."""
Inside = Callable[[Ints, Ints, Ints], Flags]


@dataclass(frozen=True, slots=True, eq=False)
class Grants:
    """Rights that bring a subject in whatever its shares are: holder by holder, ascending by subject.

    ``ppm``: how much of such a right each has; those who are in need more than half of it together.
    """

    holder: Ints
    subject: Ints
    ppm: Ints

    @classmethod
    def none(cls) -> "Grants":
        """No such rights."""
        nothing = np.array([], np.int64)
        return cls(nothing, nothing, nothing)

    def of(self, row: int) -> tuple[Ints, Ints]:
        """Who has a right in one subject, and how much of it."""
        first, last = np.searchsorted(self.subject, (row, row + 1))
        return self.holder[first:last], self.ppm[first:last]


@dataclass(frozen=True, slots=True)
class Rule:
    """When an entity comes in: those who are in have ``least_ppm`` of it or more.

    ``upper``: whether that may be, and not whether it must. ``alone``: the set is one party's, so that who is not on
    a list has no more than its coverage allows. ``grants``: what else brings an entity in. ``caps``: what the party
    can have of each entity at most, where it is known in total.
    """

    least_ppm: int
    upper: bool = False
    alone: bool = False
    grants: Grants | None = None
    caps: Ints | None = None


def part(book: Book, rows: Ints, inside: Flags, *, upper: bool, alone: bool = False) -> Ints:
    """What parties have of some entities together, in ppm: at least, or (``upper``) at most."""
    edges, which = book.edges_of(rows)
    return _part(book, rows, edges, which, inside[book.holder[edges]], upper=upper, alone=alone)


def _part(
    book: Book, rows: Ints, edges: Ints, which: Ints, inside: Flags, *, upper: bool, alone: bool
) -> Ints:
    def summed(column: Ints, of: Flags) -> Ints:
        sums = np.zeros(len(rows), np.int64)
        np.add.at(sums, which[of], column[edges[of]])
        return sums

    if not upper:
        # On a complete list, what the others can't have is theirs.
        complete = (book.above[rows] == 0) & (np.diff(book.start)[rows] > 0)
        rest = np.where(complete, WHOLE_PPM - summed(book.most, ~inside), 0)
        return np.maximum(summed(book.least, inside), rest)
    listed = summed(book.most, inside)
    spare = book.spare[rows]
    if alone:
        spare = np.where(listed > 0, spare, np.minimum(spare, book.above[rows]))
    found: Ints = np.minimum(listed + spare, WHOLE_PPM - summed(book.least, ~inside))
    return found


def cascade(book: Book, seeds: Flags, rule: Rule) -> Ints:
    """The ranks of all that is in: 0 for ``seeds``, :data:`OUT` for what isn't."""
    ranks = np.where(seeds, 0, OUT)
    start = np.arange(book.size) if rule.upper else _touched(book, np.flatnonzero(seeds), rule)
    _grow(book, ranks, rule, start)
    return ranks


def cascade_after(before: Ints, book: Book, rule: Rule, rows: Ints) -> Ints:
    """The same where some rows differ, from the ranks before; only what that may have brought in or out is looked at."""
    out = rows[before[rows] == OUT]
    if (
        len(out) == len(rows)
        and not _comes_in(book, rows, rule, lambda holders, _rows, _which: before[holders] != OUT).any()
    ):
        return before
    ranks = before.copy()
    lost = rows[ranks[rows] > 0]
    gone = np.zeros(book.size, np.bool_)
    while len(lost):
        gone[lost] = True
        near = _touched(book, lost, rule)
        near = near[(ranks[near] > 0) & ~gone[near]]
        # Only those with a smaller rank brought it in: two that hold each other don't count for each other.
        stands = _comes_in(book, near, rule, _earlier(ranks, ~gone))
        lost = near[~stands]
    ranks[gone] = OUT
    _grow(book, ranks, rule, np.concatenate((np.flatnonzero(gone), rows)))
    return ranks


def _earlier(ranks: Ints, there: Flags) -> Inside:
    def inside(holders: Ints, rows: Ints, which: Ints) -> Flags:
        found: Flags = there[holders] & (ranks[holders] != OUT) & (ranks[holders] < ranks[rows[which]])
        return found

    return inside


def _grow(book: Book, ranks: Ints, rule: Rule, active: Ints) -> None:
    def inside(holders: Ints, rows: Ints, which: Ints) -> Flags:
        found: Flags = ranks[holders] != OUT
        return found

    active = np.unique(active)
    active = active[ranks[active] == OUT]
    while len(active):
        joins = active[_comes_in(book, active, rule, inside)]
        if not len(joins):
            return
        ranks[joins] = _rank(book, ranks, joins, rule)
        active = _touched(book, joins, rule)
        active = active[ranks[active] == OUT]


def _rank(book: Book, ranks: Ints, rows: Ints, rule: Rule) -> Ints:
    edges, which = book.edges_of(rows)
    found = np.zeros(len(rows), np.int64)
    np.maximum.at(found, which, ranks[book.holder[edges]])
    if rule.grants is not None and len(rule.grants.subject):
        for at, row in enumerate(rows.tolist()):
            granted = ranks[rule.grants.of(row)[0]]
            found[at] = max(int(found[at]), int(granted.max(initial=0)))
    return found + 1


def _comes_in(book: Book, rows: Ints, rule: Rule, inside: Inside) -> Flags:
    edges, which = book.edges_of(rows)
    there = inside(book.holder[edges], rows, which)
    parts = _part(book, rows, edges, which, there, upper=rule.upper, alone=rule.alone)
    if rule.caps is not None:
        parts = np.minimum(parts, rule.caps[rows])
    found = parts >= rule.least_ppm
    if rule.grants is not None and len(rule.grants.subject):
        for at, row in enumerate(rows.tolist()):
            grantees, ppm = rule.grants.of(row)
            if len(grantees):
                has = inside(grantees, np.array([row]), np.zeros(len(grantees), np.int64))
                found[at] |= int(ppm[has].sum()) >= MAJORITY_PPM
    return found


def _touched(book: Book, members: Ints, rule: Rule) -> Ints:
    """What members hold something of, or have a right in."""
    found = book.held_by(members)
    if rule.grants is None or not len(rule.grants.subject):
        return found
    granted = rule.grants.subject[np.isin(rule.grants.holder, members)]
    return np.unique(np.concatenate((found, granted)))


def behind(book: Book, ranks: Ints, row: int, grants: Grants | None = None) -> list[tuple[int, int]]:
    """What brought an entity in: (holder, subject) of each holding that counted, those first that others rest on."""
    found: list[tuple[int, int]] = []
    done: set[int] = set()
    waiting = [row]
    while waiting:
        here = waiting.pop()
        if here in done or ranks[here] <= 0:
            continue
        done.add(here)
        holders = list(book.line(here).holder)
        if grants is not None:
            holders += [one for one in grants.of(here)[0].tolist() if one not in holders]
        links = [one for one in holders if OUT < ranks[one] < ranks[here]]
        found.extend((holder, here) for holder in links)
        waiting.extend(links)
    return sorted(found, key=lambda link: (int(ranks[link[1]]), link[1], link[0]))
