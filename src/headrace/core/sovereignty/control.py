"""Who controls one entity, by every measure side by side, each as it is and fully diluted, with the paths that show
it.

No measure is the right one: integrated ownership says whose money it is, majority chains and the weakest link who can
decide, the cascade what a sanctions rule takes along. They contradict each other in ordinary cases; the report gives
all of them, and no legal conclusion.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from headrace.core.sovereignty.book import Book, Flags, Ints, differing
from headrace.core.sovereignty.cascade import (
    MAJORITY_PPM,
    OUT,
    Grants,
    Rule,
    behind,
    cascade,
    part,
)
from headrace.core.sovereignty.graph import VIEWS, VOTES, Graph, Step, View
from headrace.core.sovereignty.holdings import (
    NOTHING,
    UNKNOWN,
    WHOLE_PPM,
    Answer,
    Interest,
    InterestKind,
    PartyId,
    Share,
    answer_of,
)
from headrace.core.sovereignty.integrated import Group, Reach, gross, reach, reach_after
from headrace.core.sovereignty.links import chain, links

BANDS = ("up to 25 %", "more than 25 % to 50 %", "more than 50 % to less than 75 %", "75 % or more")
"""The bands in which a person with significant control is registered in the UK; the first is below all of them."""
MOST_PARTIES, MANY_PARTIES = 40, 400
"""Of more than :data:`MANY_PARTIES` over an entity a report shows the strongest :data:`MOST_PARTIES`."""


def band(ppm: int) -> int:
    """Which of :data:`BANDS` a share falls into."""
    if ppm <= 250_000:
        return 0
    if ppm <= 500_000:
        return 1
    return 2 if ppm < 750_000 else 3


def bands(share: Share) -> tuple[str, ...]:
    """The bands that a share may fall into: one, when enough of it is known."""
    return BANDS[band(share.least_ppm) : band(share.most_ppm) + 1]


@dataclass(frozen=True, slots=True)
class Measures:
    """What a party has of the entity in one view.

    ``integrated``: through all chains and cycles, without detours through the party itself; ``gross_least_ppm`` and
    ``gross_most_ppm`` with them, which is ``W(I - W)^-1`` to the letter (None: without bound). ``attributed``: its
    own and all that those have in whom it has the majority. ``weakest_link``: of its strongest chain. ``majority``:
    whether it has the majority by chains of majorities. ``path`` is the strongest chain, ``proof`` the holdings that
    the majority rests on, each after those that it needs.
    """

    view: View
    integrated: Share
    gross_least_ppm: int
    gross_most_ppm: int | None
    attributed: Share
    weakest_link: Share
    majority: Answer
    path: tuple[Step, ...]
    proof: tuple[Step, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """The UK's bands for what is attributed."""
        return bands(self.attributed)


@dataclass(frozen=True, slots=True)
class Controller:
    """A party over the entity, by every measure; ``party`` None: anybody who is not named anywhere.

    ``board``: whether it may appoint most of the board, itself or through those it has the majority of.
    ``influence``: whether decisive influence is attested; ``attested`` are the interests that say so.
    """

    party: PartyId | None
    measures: tuple[Measures, ...]
    board: Answer
    influence: Answer
    attested: tuple[Interest, ...]

    def measured(self, view: View) -> Measures:
        """What it has in a view."""
        return next(one for one in self.measures if one.view == view)

    @property
    def controls(self) -> Answer:
        """Whether it has the majority of the votes, most of the board, or attested decisive influence."""
        answers = {self.measured(VOTES).majority, self.board, self.influence}
        return answer_of(Answer.YES in answers, answers != {Answer.NO})


@dataclass(frozen=True, slots=True)
class Control:
    """Who controls ``entity`` on ``day``. ``left_out``: parties over it that have less than all that are shown.

    ``assumed``: what the figures take for granted because nothing says otherwise.
    """

    entity: PartyId
    day: str
    controllers: tuple[Controller, ...]
    unnamed: Controller
    left_out: int
    assumed: tuple[str, ...]

    def of(self, party: PartyId) -> Controller | None:
        """One party's part; None when it is not over the entity (or is left out)."""
        return next((one for one in self.controllers if one.party == party), None)

    def heads(self) -> Iterator[Controller]:
        """Those who surely or perhaps control it."""
        for one in (*self.controllers, self.unnamed):
            if one.controls is not Answer.NO:
                yield one


class Scope:
    """Everybody over one entity, in books of their own: small, whatever the size of the graph."""

    def __init__(self, graph: Graph, entity: PartyId) -> None:
        self.graph = graph
        self.parties = _over(graph, graph.number[entity])
        self.number = {int(party): at for at, party in enumerate(self.parties)}
        self.row = self.number[graph.number[entity]]
        self.books = {view: graph.book(view).part(self.parties) for view in VIEWS}
        self.near = {view: differing(self.books[VIEWS[0]], self.books[view]) for view in VIEWS}
        self.unnamed: Flags = graph.unnamed[self.parties]
        self.certain = self._grants(certain=True)
        self.possible = self._grants(certain=False)
        self._totals = [
            (row, one)
            for row, party in enumerate(self.parties.tolist())
            for one in graph.interests(party)
            if one.is_total and one.kind in (InterestKind.SHARES, InterestKind.VOTES)
        ]

    def _grants(self, *, certain: bool) -> Grants:
        pairs = [
            (self.number[holder], at, ppm)
            for at, party in enumerate(self.parties.tolist())
            for holder, ppm in self.graph.granted(party, certain=certain)
        ]
        holder, subject, ppm = (np.array([one[column] for one in pairs], np.int64) for column in range(3))
        return Grants(holder, subject, ppm)

    def __len__(self) -> int:
        return len(self.parties)

    def group(self, party: int | None) -> Group:
        """A party alone (by its number here); None: somebody who isn't named. Whoever has no name may be it."""
        certain = np.zeros(len(self), np.bool_)
        if party is not None:
            certain[party] = True
        return Group(certain, certain | self.unnamed)

    def totals(self, group: Group, view: View) -> Ints:
        """What the party of a group can have of each entity at most, where that is stated in total; all elsewhere."""
        found = np.full(len(self), WHOLE_PPM)
        kind = InterestKind.VOTES if view.votes else InterestKind.SHARES
        # What is stated is stated of today's capital: what converts would change it.
        for row, one in self._totals if not view.diluted else ():
            if one.kind is kind and group.certain[self.number[self.graph.number[one.holder]]]:
                found[row] = min(int(found[row]), one.share.most_ppm)
        return found

    def ident(self, party: int) -> PartyId:
        """The name of a party by its number here."""
        return self.graph.parties[int(self.parties[party])].id

    def step(self, link: tuple[int, int], view: View) -> Step:
        """A link by numbers as a step with its evidence."""
        return self.graph.step(int(self.parties[link[0]]), int(self.parties[link[1]]), view)


def control(graph: Graph, entity: PartyId, most: int | None = None) -> Control:
    """Everybody over an entity by every measure, those with the most first; KeyError for a party that isn't known.

    ``most``: how many are shown, the strongest; None: all, where they are not too many.
    """
    scope = Scope(graph, entity)
    if most is None:
        most = len(scope) if len(scope) <= MANY_PARTIES else MOST_PARTIES
    order = [party for party in _strongest(scope) if party != scope.row]
    found = [_controller(scope, party) for party in order[:most]]
    found.sort(key=_order)
    assumed = []
    if not any(graph.states_votes(int(party)) for party in scope.parties):
        assumed.append("Votes are taken to follow shares: nobody over it states votes.")
    elif not graph.states_votes(graph.number[entity]):
        assumed.append("Votes are taken to follow shares where none are stated.")
    if any(graph.above_ppm(int(party)) and not graph.final[party] for party in scope.parties):
        assumed.append(
            "Fully diluted counts what is stated to convert: lists that are not complete may lack more."
        )
    return Control(
        entity, graph.day, tuple(found), _controller(scope, None), max(0, len(order) - most), tuple(assumed)
    )


def _order(one: Controller) -> tuple[int, int, int, str]:
    votes = one.measured(VOTES)
    rank = (Answer.YES, Answer.UNKNOWN, Answer.NO).index(one.controls)
    return rank, -votes.integrated.least_ppm, -votes.integrated.most_ppm, one.party or ""


def _over(graph: Graph, row: int) -> Ints:
    """Everybody from whom a chain of shares, votes, conversions or rights of control leads to an entity; itself included."""
    seen = {row}
    waiting = [row]
    while waiting:
        here = waiting.pop()
        near = {holder for holder, _ in graph.granted(here, certain=False)}
        for view in VIEWS:
            near.update(graph.book(view).line(here).holder)
        waiting.extend(near - seen)
        seen |= near
    return np.array(sorted(seen), np.int64)


def _strongest(scope: Scope) -> list[int]:
    """Those over the entity by how strong their strongest chain can be, the strongest first."""
    best = np.zeros(len(scope), np.int64)
    best[scope.row] = WHOLE_PPM
    granted = zip(scope.possible.holder.tolist(), scope.possible.subject.tolist(), strict=True)
    edges = [(holder, row, WHOLE_PPM) for holder, row in granted]
    for book in scope.books.values():
        edges += zip(book.holder.tolist(), book.owners().tolist(), book.most.tolist(), strict=True)
    into: dict[int, list[tuple[int, int]]] = {}
    for holder, row, most in edges:
        into.setdefault(row, []).append((holder, most))
    # The strongest first, so that each is looked at once.
    waiting = [(-WHOLE_PPM, scope.row)]
    done: set[int] = set()
    while waiting:
        _, here = heappop(waiting)
        if here in done:
            continue
        done.add(here)
        for holder, most in into.get(here, ()):
            strength = min(int(best[here]), most)
            if strength > best[holder]:
                best[holder] = strength
                heappush(waiting, (-strength, holder))
    return sorted(range(len(scope)), key=lambda party: (-int(best[party]), scope.ident(party)))


def _controller(scope: Scope, party: int | None) -> Controller:
    group = scope.group(party)
    first = reach(scope.books[VIEWS[0]], group)
    measures = tuple(
        # The views differ in few rows: each is found from the first.
        _measures(scope, view, party, group, reach_after(first, scope.books[view], group, scope.near[view]))
        for view in VIEWS
    )
    attested = [] if party is None else _attested(scope, party)
    inside = _majorities(scope, VOTES, group)
    return Controller(
        None if party is None else scope.ident(party),
        measures,
        _right(scope, inside, InterestKind.BOARD),
        _right(scope, inside, InterestKind.INFLUENCE),
        tuple(attested),
    )


def _majorities(scope: Scope, view: View, group: Group) -> tuple[Ints, Ints]:
    """Who a party has the majority of: surely, and perhaps; as ranks."""
    book = scope.books[View(votes=True, diluted=view.diluted)]
    surely = Rule(MAJORITY_PPM, alone=True, grants=scope.certain)
    caps = scope.totals(group, View(votes=True, diluted=view.diluted))
    perhaps = Rule(MAJORITY_PPM, upper=True, alone=True, grants=scope.possible, caps=caps)
    return cascade(book, group.certain, surely), cascade(book, group.possible, perhaps)


def _measures(scope: Scope, view: View, party: int | None, group: Group, found: Reach) -> Measures:
    book, row = scope.books[view], scope.row
    surely, perhaps = _majorities(scope, view, group)
    weakest = (
        links(book, group.certain, unnamed=None),
        links(book, group.possible, unnamed=scope.unnamed),
    )
    gross_least, gross_most = (0.0, None) if party is None else gross(book, found, row, party)
    # What is not even perhaps the party's counts for nobody.
    most = int(scope.totals(group, view)[row])
    attributed = _attributed(book, row, surely != OUT, perhaps != OUT, most)
    votes = View(votes=True, diluted=view.diluted)
    return Measures(
        view,
        found.share(row),
        int(gross_least * WHOLE_PPM + 1e-6),
        None if gross_most is None else -int(-(gross_most * WHOLE_PPM - 1e-6) // 1),
        attributed,
        Share(int(weakest[0][row]), int(weakest[1][row])),
        answer_of(bool(surely[row] != OUT), bool(perhaps[row] != OUT)),
        _path(scope, view, weakest, group),
        tuple(scope.step(link, votes) for link in behind(scope.books[votes], surely, row, scope.certain)),
    )


def _attributed(book: Book, row: int, surely: Flags, perhaps: Flags, cap: int) -> Share:
    surely, perhaps = surely.copy(), perhaps.copy()
    # An entity's holding in itself is not added to its controller's.
    surely[row] = perhaps[row] = False
    least = int(part(book, np.array([row]), surely, upper=False)[0])
    most = int(part(book, np.array([row]), perhaps, upper=True, alone=True)[0])
    return Share(least, max(least, min(cap, most)))


def _path(scope: Scope, view: View, weakest: tuple[Ints, Ints], group: Group) -> tuple[Step, ...]:
    book = scope.books[view]
    found = chain(book, weakest[0], group.certain, scope.row, upper=False)
    if not found and group.certain.any():
        # Nothing is sure: the strongest chain of what the ranges allow, along those who are on the lists.
        may = links(replace(book, least=book.most), group.certain, unnamed=None)
        found = chain(book, may, group.certain, scope.row, upper=True)
    return tuple(scope.step(link, view) for link in found)


def _right(scope: Scope, inside: tuple[Ints, Ints], kind: InterestKind) -> Answer:
    """Whether a party, with all whom it has the majority of, has a right of a kind in the entity: seats of the board add up."""
    surely_ppm = perhaps_ppm = 0
    for one in scope.graph.interests(int(scope.parties[scope.row])):
        holder = scope.number.get(scope.graph.number[one.holder])
        # Who surely has no such right, and nothing else, isn't over the entity.
        if one.kind is not kind or holder is None or holder == scope.row:
            continue
        has = one.share if kind is InterestKind.BOARD else _DECISIVE[one.decisive]
        surely_ppm += has.least_ppm if inside[0][holder] != OUT else 0
        perhaps_ppm += has.most_ppm if inside[1][holder] != OUT else 0
    return answer_of(surely_ppm >= MAJORITY_PPM, perhaps_ppm >= MAJORITY_PPM)


_DECISIVE = {Answer.YES: Share.exact(WHOLE_PPM), Answer.NO: NOTHING, Answer.UNKNOWN: UNKNOWN}


def _attested(scope: Scope, party: int) -> Sequence[Interest]:
    held = scope.graph.interests(int(scope.parties[scope.row]))
    name = scope.ident(party)
    return [one for one in held if one.holder == name and one.kind is InterestKind.INFLUENCE]
