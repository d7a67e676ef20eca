"""Holdings as of a day: parties by number, and who holds whom in four views. Unchangeable; a change makes another graph."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.core.sovereignty.book import Book, Flags, Ints, Line, book_of
from headrace.core.sovereignty.holdings import (
    CONVERTING,
    WHOLE_PPM,
    Answer,
    Coverage,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    SourceId,
)
from headrace.core.sovereignty.rows import row_of

_SPECIAL = CONVERTING | {InterestKind.VOTES}


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: shares or votes, as they are or fully diluted."""

    votes: bool = False
    diluted: bool = False

    def __str__(self) -> str:
        return f"{'votes' if self.votes else 'shares'}{', fully diluted' if self.diluted else ''}"


SHARES, VOTES = View(), View(votes=True)
DILUTED_SHARES, DILUTED_VOTES = View(diluted=True), View(votes=True, diluted=True)
VIEWS = (SHARES, VOTES, DILUTED_SHARES, DILUTED_VOTES)


@dataclass(frozen=True, slots=True)
class Step:
    """One link of a path: what ``holder`` has in ``subject``, by which interests, from which sources."""

    holder: PartyId
    subject: PartyId
    what: str
    least_ppm: int
    most_ppm: int
    interests: tuple[InterestId, ...]
    sources: tuple[SourceId, ...]


class Graph:
    """Who holds what on one day. Raises ValueError for holdings with a flaw (the edge reports them earlier)."""

    def __init__(self, holdings: Holdings, day: str) -> None:
        self.holdings = holdings
        self.day = day
        self.parties: tuple[Party, ...] = tuple(holdings.parties[name] for name in sorted(holdings.parties))
        self.number: Mapping[PartyId, int] = {party.id: at for at, party in enumerate(self.parties)}
        self.final: Flags = np.array([party.is_final for party in self.parties], np.bool_)
        self.unnamed: Flags = np.array([party.kind is PartyKind.UNNAMED for party in self.parties], np.bool_)
        self._in = _current(holdings.interests, day, self.number)
        self._above = _above(holdings.coverage, day, self.number, len(self.parties))
        self._special = frozenset(
            row for row, held in self._in.items() if any(one.kind in _SPECIAL for one in held)
        )
        self._books: dict[View, Book] = {}

    def __len__(self) -> int:
        return len(self.parties)

    def book(self, view: View = SHARES) -> Book:
        """The columns of a view; made when first asked for."""
        found = self._books.get(view)
        if found is None:
            found = self._books[view] = self._shares() if view == SHARES else self._besides(view)
        return found

    def interests(self, subject: int) -> Sequence[Interest]:
        """All that anybody has in a party on the day."""
        return self._in.get(subject, ())

    def states_votes(self, subject: int) -> bool:
        """Whether votes are stated for it; otherwise they are taken to follow the shares."""
        return any(one.kind is InterestKind.VOTES for one in self.interests(subject))

    def is_complete(self, subject: int, of: InterestKind) -> bool:
        """Whether a party's list of staff, suppliers or holders is said to be complete."""
        party = self.parties[subject].id
        return any(
            one.subject == party and one.of is of and not one.above_ppm and one.holds_on(self.day)
            for one in self.holdings.coverage
        )

    def above_ppm(self, subject: int) -> int:
        """What somebody who is not on its list of holders may have of it at most."""
        return int(self._above[subject])

    def granted(self, subject: int, *, certain: bool) -> tuple[tuple[int, int], ...]:
        """Who has a right of control in one party; or, not ``certain``, may have one: holders, and how much of it, in ppm.

        Seats of the board add up, of one holder and of several; decisive influence is all of it. Nobody has one where all
        seats together are no majority.
        """
        found: dict[int, int] = defaultdict(int)
        seats = [one for one in self.interests(subject) if one.kind is InterestKind.BOARD]
        parts = [one.share.least_ppm if certain else one.share.most_ppm for one in seats]
        if sum(parts) > WHOLE_PPM // 2:
            for one, part in zip(seats, parts, strict=True):
                found[self.number[one.holder]] += part
        for one in self.interests(subject):
            if _is_decisive(one) or (not certain and _may_be_decisive(one)):
                found[self.number[one.holder]] = WHOLE_PPM
        return tuple(sorted((holder, min(WHOLE_PPM, part)) for holder, part in found.items() if part))

    def step(self, holder: int, subject: int, view: View) -> Step:
        """One link with its evidence."""
        kinds = {InterestKind.SHARES}
        if view.votes and self.states_votes(subject):
            kinds = {InterestKind.VOTES}
        if view.diluted:
            kinds |= CONVERTING
        party = self.parties[holder].id
        behind = [one for one in self.interests(subject) if one.holder == party and one.kind in kinds]
        line = self.book(view).line(subject)
        least, most = 0, 0
        if holder in line.holder:
            at = line.holder.index(holder)
            least, most = line.least[at], line.most[at]
        return Step(
            party, self.parties[subject].id, str(view), least, most,
            tuple(one.id for one in behind),
            tuple(dict.fromkeys(one.source for one in behind if one.source is not None)),
        )  # fmt: skip

    def with_interest(self, new: Interest) -> "Graph":
        """The graph with one interest added, or another in its place; costs what one row costs, and copies of
        columns.

        The parties must be known already. Raises ValueError for a row that can't be, and KeyError for a party nobody
        has stated.
        """
        row = self.number[new.subject]
        _ = self.number[new.holder]
        kept = [one for one in self.interests(row) if one.id != new.id]
        return self._changed(new.subject, [*kept, new] if new.holds_on(self.day) else kept, new)

    def without_interest(self, gone: Interest) -> "Graph":
        """The graph without one of its interests."""
        row = self.number[gone.subject]
        return self._changed(gone.subject, [one for one in self.interests(row) if one.id != gone.id], None)

    def _changed(self, subject: PartyId, interests: list[Interest], new: Interest | None) -> "Graph":
        other = object.__new__(Graph)
        row = self.number[subject]
        other.day, other.parties, other.number = self.day, self.parties, self.number
        other.final, other.unnamed, other._above = self.final, self.unnamed, self._above
        # What is added is known to the graph alone: copying the tuple of all interests would cost more than the change itself.
        other.holdings = self.holdings
        other._in = {**self._in, row: interests}
        other._special = self._special - {row}
        if any(one.kind in _SPECIAL for one in interests):
            other._special |= {row}
        other._books = {}
        made: dict[int, Book] = {}
        for view, book in self._books.items():
            line = other._line(row, view)
            if book.line(row) == line:
                other._books[view] = book
                continue
            # Views that shared a book share the next one where the row says the same in both.
            key = hash((id(book), tuple(line.holder), tuple(line.least), tuple(line.most), line.above))
            if key not in made:
                made[key] = book.with_lines({row: line}, self.final)
            other._books[view] = made[key]
        return other

    def _shares(self) -> Book:
        subject: list[int] = []
        held: list[Interest] = []
        for row, interests in self._in.items():
            for one in interests:
                if one.kind is InterestKind.SHARES:
                    subject.append(row)
                    held.append(one)
        number = self.number
        return book_of(
            self.final,
            self._above,
            np.array(subject, np.int64),
            np.array([number[one.holder] for one in held], np.int64),
            np.array([one.share.least_ppm for one in held], np.int64),
            np.array([one.share.most_ppm for one in held], np.int64),
        )

    def _besides(self, view: View) -> Book:
        """A view in which only those rows differ from the plain shares that have votes or conversions."""
        lines = {row: self._line(row, view) for row in sorted(self._special)}
        base = self.book(SHARES)
        return base.with_lines(lines, self.final) if lines else base

    def _line(self, row: int, view: View) -> Line:
        found = row_of(self.interests(row), int(self._above[row]), votes=view.votes, diluted=view.diluted)
        held = sorted((self.number[party], share) for party, share in found.held.items())
        return Line(
            [number for number, _ in held],
            [share.least_ppm for _, share in held],
            [share.most_ppm for _, share in held],
            found.above_ppm,
        )


def _is_decisive(one: Interest) -> bool:
    return one.kind is InterestKind.INFLUENCE and one.decisive is Answer.YES


def _may_be_decisive(one: Interest) -> bool:
    return one.kind is InterestKind.INFLUENCE and one.decisive is Answer.UNKNOWN


def _current(
    interests: Iterable[Interest], day: str, number: Mapping[PartyId, int]
) -> dict[int, list[Interest]]:
    found: dict[int, list[Interest]] = defaultdict(list)
    for one in interests:
        if one.since <= day and (not one.until or day < one.until):
            found[number[one.subject]].append(one)
    return dict(found)


def _above(coverage: Iterable[Coverage], day: str, number: Mapping[PartyId, int], size: int) -> Ints:
    found = np.full(size, WHOLE_PPM)
    for one in coverage:
        if one.of is InterestKind.SHARES and one.holds_on(day):
            row = number[one.subject]
            found[row] = min(int(found[row]), one.above_ppm)
    return found
