"""For every entity of a graph at once: who surely has the majority of its votes, by chains of majorities, and who
stands at their top.

A party and all that it has the majority of vote as one. An entity's head is the nearest party whose votes, with those
of all under it, are more than half. Following heads upwards ends at somebody without one, or in a ring of entities
that have each other; the ring then stands for itself, named by its first party. Rights of control and attested
influence are no votes: several parties can have them at once, and :mod:`~headrace.core.sovereignty.control` looks at
them for one entity.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from headrace.core.sovereignty.book import Book, Flags, Ints
from headrace.core.sovereignty.cascade import MAJORITY_PPM

NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """``head[e]``: the number of who has the majority of ``e``, or :data:`NOBODY`. ``rank``: in which round that was
    found.
    """

    head: Ints
    rank: Ints

    def tops(self) -> Ints:
        """Who stands at the top of each party's chain: itself, where it has no head."""
        size = len(self.head)
        up = np.where(self.head == NOBODY, np.arange(size), self.head)
        for _ in range(size.bit_length()):
            further = up[up]
            if np.array_equal(further, up):
                break
            up = further
        # What still moves on is in a ring, as are those above it: its first party stands for it.
        ring = np.flatnonzero(self.head[up] != NOBODY)
        names: dict[int, int] = {}
        for here in np.unique(up[ring]).tolist():
            if here not in names:
                members = [here]
                while int(self.head[members[-1]]) != here:
                    members.append(int(self.head[members[-1]]))
                names.update(dict.fromkeys(members, min(members)))
        up[ring] = [names[here] for here in up[ring].tolist()]
        return up


def heads(book: Book) -> Heads:
    """The heads of all entities, from votes that are certain."""
    found = Heads(np.full(book.size, NOBODY), np.zeros(book.size, np.int64))
    _settle(book, found, np.arange(book.size), 1)
    return found


def heads_after(before: Heads, book: Book, rows: Ints) -> Heads:
    """The same where some rows differ."""
    changed = [
        row
        for row in rows.tolist()
        if _nearest(book, before, row) != before.head[row]
        # Its head may rest on parties that came under it only through this one.
        or (before.head[row] != NOBODY and not _stands(book, before, row, set()))
    ]
    if not changed:
        return before
    found = Heads(before.head.copy(), before.rank.copy())
    gone = {row for row in changed if found.head[row] != NOBODY}
    waiting = sorted(gone)
    while waiting:
        lost = waiting.pop()
        # Those under it keep their heads, but no longer vote with what was over it.
        for near in book.held_by(_under(before.head, [lost])).tolist():
            if found.head[near] != NOBODY and near not in gone and not _stands(book, found, near, gone):
                gone.add(near)
                waiting.append(near)
    for one in gone:
        found.head[one] = NOBODY
    _settle_few(book, found, gone.union(changed))
    return found


def _under(head: Ints, parties: Iterable[int]) -> Ints:
    """Parties and all that they stand over."""
    seen = np.zeros(len(head) + 1, np.bool_)
    wave = np.array(sorted(parties), np.int64)
    while len(wave):
        seen[wave] = True
        over = np.zeros(len(head) + 1, np.bool_)
        over[wave] = True
        # Nobody is the last place, which is over nobody.
        wave = np.flatnonzero(over[head] & ~seen[:-1])
    return np.flatnonzero(seen[:-1])


def _settle_few(book: Book, found: Heads, active: set[int]) -> None:
    """What :func:`_settle` does, from row to row: for a change that doesn't reach far."""
    rank = int(found.rank.max(initial=0))
    touched = set(active)
    while active:
        new = {row: _nearest(book, found, row) for row in sorted(active) if found.head[row] == NOBODY}
        new = {row: head for row, head in new.items() if head != NOBODY}
        if not new:
            break
        rank += 1
        for row, head in new.items():
            found.head[row], found.rank[row] = head, rank
        active = set(book.held_by(_under(found.head, new)).tolist())
        touched |= active
    _close_rings(book, found, rank + 1, touched)


def _stands(book: Book, heads: Heads, row: int, gone: set[int]) -> bool:
    """Whether an entity still has its head, by what was found before it and isn't gone."""
    head, rank = int(heads.head[row]), int(heads.rank[row])
    line = book.line(row)
    votes = sum(
        least
        for holder, least in zip(line.holder, line.least, strict=True)
        if holder == head or _is_below(heads, holder, head, rank, gone)
    )
    return votes >= MAJORITY_PPM


class _Below:
    """Who stands under whom, by heads as they were; sorted once, when it is first asked."""

    def __init__(self, heads: Heads) -> None:
        self._head = heads.head
        self._order: Ints | None = None
        self._start: Ints | None = None

    def under(self, party: int) -> Ints:
        """A party and all that it stands over."""
        if self._order is None or self._start is None:
            self._order = np.argsort(self._head, kind="stable")
            self._start = np.searchsorted(self._head[self._order], np.arange(len(self._head) + 1))
        found, waiting = {party}, [party]
        while waiting:
            here = waiting.pop()
            new = set(self._order[self._start[here] : self._start[here + 1]].tolist()) - found
            found |= new
            waiting.extend(new)
        return np.array(sorted(found), np.int64)


def _is_below(heads: Heads, party: int, head: int, rank: int, gone: set[int]) -> bool:
    seen = set()
    while party != head:
        if party in seen or party in gone or heads.head[party] == NOBODY or heads.rank[party] >= rank:
            return False
        seen.add(party)
        party = int(heads.head[party])
    return True


def _settle(book: Book, found: Heads, active: Ints, rank: int) -> None:
    """Give heads to those of ``active`` that have one, and go on with what that changes."""
    while len(active):
        active = active[found.head[active] == NOBODY]
        tops = found.tops()
        new = _majorities(book, found, tops, active)
        if not new:
            break
        rows = np.array(sorted(new))
        found.head[rows] = [new[int(row)] for row in rows]
        found.rank[rows] = rank
        rank += 1
        # Whatever now votes under another top may make a majority somewhere.
        moved: Flags = found.tops() != tops
        moved[rows] = True
        active = book.held_by(np.flatnonzero(moved))
    _close_rings(book, found, rank, None)


def _close_rings(book: Book, found: Heads, rank: int, among: set[int] | None) -> None:
    """Let a ring have all that belong to it: what was found first may have gone past a nearer party that got its
    majority later.

    ``among``: those whose nearest may have changed; None: all.
    """
    for _ in range(len(found.head)):
        rings = (
            _rings(found.head)
            if among is None
            else [row for row in sorted(among) if _is_in_ring(found.head, row)]
        )
        ring = [row for row in rings if _nearest(book, found, row) not in (NOBODY, found.head[row])]
        if not ring:
            return
        for row in ring:
            found.head[row] = _nearest(book, found, row)
            found.rank[row] = rank
            rank += 1


def _is_in_ring(head: Ints, row: int) -> bool:
    seen: set[int] = set()
    here = int(head[row])
    while here not in (NOBODY, row) and here not in seen:
        seen.add(here)
        here = int(head[here])
    return here == row


def _rings(head: Ints) -> list[int]:
    """Everybody whose chain of heads leads back to itself."""
    ends = np.where(head == NOBODY, np.arange(len(head)), head)
    for _ in range(len(head).bit_length()):
        ends = ends[ends]
    found: set[int] = set()
    for start in np.unique(ends[head[ends] != NOBODY]).tolist():
        here = int(start)
        while here not in found:
            found.add(here)
            here = int(head[here])
    return sorted(found)


def _majorities(book: Book, found: Heads, tops: Ints, rows: Ints) -> dict[int, int]:
    """Of some entities those of which somebody has more than half of the votes, and the nearest who has."""
    edges, which = book.edges_of(rows)
    some = book.least[edges] > 0
    edges, which = edges[some], which[some]
    if not len(edges):
        return {}
    holders, owner, votes = book.holder[edges], rows[which], book.least[edges]
    alone = (votes >= MAJORITY_PPM) & (holders != owner)
    new: dict[int, int] = dict(zip(owner[alone].tolist(), holders[alone].tolist(), strict=True))
    top = tops[holders]
    order = np.lexsort((top, which))
    which, top, owner, votes = which[order], top[order], owner[order], votes[order]
    first = np.flatnonzero(np.concatenate(([True], (np.diff(which) != 0) | (np.diff(top) != 0))))
    for at in first[np.add.reduceat(votes, first) >= MAJORITY_PPM].tolist():
        row = int(owner[at])
        if row not in new and (nearest := _nearest(book, found, row)) != NOBODY:
            new[row] = nearest
    return new


def _nearest(book: Book, found: Heads, row: int) -> int:
    """Of all who with those under them have more than half of an entity's votes the one under all others; nobody:
    there is none.

    A party is not its own head: where all its votes come together only in itself, it has none.
    """
    votes: dict[int, int] = {}
    depth: dict[int, int] = {}
    line = book.line(row)
    for holder, least in zip(line.holder, line.least, strict=True):
        here, chain = holder, []
        while here not in chain and here != row:
            chain.append(here)
            if found.head[here] == NOBODY:
                break
            here = int(found.head[here])
        for at, party in enumerate(chain):
            votes[party] = votes.get(party, 0) + least
            depth[party] = max(depth.get(party, 0), at)
    # Two that both have a majority share a holder, so that one stands over the other: the one with less below it is nearer.
    having = [party for party, sum_ in votes.items() if sum_ >= MAJORITY_PPM]
    return min(having, key=lambda party: (votes[party], depth[party], party), default=NOBODY)
