"""Limits on who may have how much: what those outside of a set of countries have alone and together, against a
buyer's profile; and whether an entity falls to a list of parties by a cascade of whole steps.
"""

from collections.abc import Collection
from dataclasses import dataclass

from headrace.core.sovereignty.cascade import OFAC_PPM, OUT, Rule, behind, cascade
from headrace.core.sovereignty.control import Control, Scope, control
from headrace.core.sovereignty.graph import DILUTED_SHARES, SHARES, VIEWS, Graph, Step, View
from headrace.core.sovereignty.groups import ALL_TIES, Tie, group_of, group_outside, is_outside
from headrace.core.sovereignty.holdings import Answer, PartyId, Share, answer_of
from headrace.core.sovereignty.integrated import Group, reach


@dataclass(frozen=True, slots=True)
class Limit:
    """What a profile allows to those outside of ``inside``: each ``single_ppm`` and all ``together_ppm``; ``by``: the
    ties that count.

    24 % and 39 % outside of the EU is one such pair. A limit is kept by what is exactly at it.
    """

    name: str
    inside: tuple[str, ...]
    single_ppm: int
    together_ppm: int
    by: frozenset[Tie] = ALL_TIES


@dataclass(frozen=True, slots=True)
class Single:
    """What one party that stands outside, or may, has of the entity; ``party`` None: anybody who isn't named."""

    party: PartyId | None
    is_outside: Answer
    share: Share
    path: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """How a limit is kept in one view: ``exceeded`` is ``no`` only when nothing that is unknown could exceed it."""

    view: View
    together: Share
    singles: tuple[Single, ...]
    is_single_exceeded: Answer
    is_together_exceeded: Answer

    @property
    def exceeded(self) -> Answer:
        """Whether one of both is exceeded."""
        answers = {self.is_single_exceeded, self.is_together_exceeded}
        return answer_of(Answer.YES in answers, answers != {Answer.NO})


def against(graph: Graph, entity: PartyId, limit: Limit, found: Control | None = None) -> tuple[Held, ...]:
    """A limit in every view; ``found``: the control of the entity when it is known already."""
    found = found or control(graph, entity)
    scope = Scope(graph, entity)
    outside = group_outside(graph, limit.inside, limit.by)
    group = Group(outside.certain[scope.parties], outside.possible[scope.parties])
    # The entity's own seat says nothing of who holds it.
    group.certain[scope.row] = group.possible[scope.row] = False
    return tuple(_held(scope, view, group, limit, found) for view in VIEWS)


def _held(scope: Scope, view: View, group: Group, limit: Limit, found: Control) -> Held:
    together = reach(scope.books[view], group).share(scope.row)
    singles = []
    for one in (*found.controllers, found.unnamed):
        where = Answer.UNKNOWN
        if one.party is not None:
            party = scope.graph.parties[scope.graph.number[one.party]]
            where = is_outside(party, limit.inside, limit.by)
        share = one.measured(view).integrated
        if where is not Answer.NO and share.most_ppm:
            singles.append(Single(one.party, where, share, one.measured(view).path))
    surely = any(one.is_outside is Answer.YES and one.share.least_ppm > limit.single_ppm for one in singles)
    perhaps = any(one.share.most_ppm > limit.single_ppm for one in singles)
    # Who is left out of the report has less than those who are in it, but together nobody has more than the group.
    perhaps = perhaps or (found.left_out > 0 and together.most_ppm > limit.single_ppm)
    return Held(
        view, together, tuple(singles), answer_of(surely, perhaps), together.above(limit.together_ppm)
    )


@dataclass(frozen=True, slots=True)
class Fallen:
    """Whether an entity falls to a list of parties in a view: with the holdings that it rests on, each after those it
    needs.
    """

    view: View
    answer: Answer
    proof: tuple[Step, ...]


def falls_to(
    graph: Graph, entity: PartyId, listed: Collection[PartyId], least_ppm: int = OFAC_PPM
) -> tuple[Fallen, ...]:
    """OFAC's 50 % rule (or another part) for an entity and a list of parties, as it is and fully diluted; KeyError
    for an unknown party.
    """
    scope = Scope(graph, entity)
    every = group_of(graph, listed)
    group = Group(every.certain[scope.parties], every.possible[scope.parties])
    found = []
    for view in (SHARES, DILUTED_SHARES):
        book = scope.books[view]
        surely = cascade(book, group.certain, Rule(least_ppm))
        perhaps = cascade(book, group.possible, Rule(least_ppm, upper=True))
        answer = answer_of(bool(surely[scope.row] != OUT), bool(perhaps[scope.row] != OUT))
        proof = behind(book, surely if answer is Answer.YES else perhaps, scope.row)
        found.append(Fallen(view, answer, tuple(scope.step(link, view) for link in proof)))
    return tuple(found)
