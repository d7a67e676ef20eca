"""A whole graph at once: what each group has of every entity by every measure, and how that is when one holding changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from headrace.core.sovereignty.book import Book, Flags, Ints, differing
from headrace.core.sovereignty.cascade import OFAC_PPM, OUT, Rule, cascade, cascade_after
from headrace.core.sovereignty.graph import VIEWS, Graph, View
from headrace.core.sovereignty.heads import Heads, heads, heads_after
from headrace.core.sovereignty.holdings import Answer, PartyId, Share, answer_of
from headrace.core.sovereignty.integrated import Group, Reach, reach, reach_after
from headrace.core.sovereignty.links import links, links_after


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A group in one view: its reach, the weakest links and the ranks of the 50 % cascade (of shares alone), each at
    least and at most.
    """

    reach: Reach
    links: tuple[Ints, Ints]
    ranks: tuple[Ints, Ints] | None


class Standing:
    """What groups have of all entities on a graph's day. Unchangeable; :meth:`after` makes the next one."""

    def __init__(
        self,
        graph: Graph,
        groups: Mapping[str, Group],
        measured: Mapping[tuple[str, View], Measured],
        tops: Mapping[View, Heads],
    ) -> None:
        self.graph = graph
        self.groups = groups
        self.measured = measured
        self._heads = tops

    @classmethod
    def of(cls, graph: Graph, groups: Mapping[str, Group]) -> "Standing":
        """Measure everything; views that differ in few rows are found from the one that they differ from."""
        measured: dict[tuple[str, View], Measured] = {}
        tops: dict[View, Heads] = {}
        done: list[View] = []
        for view in VIEWS:
            book = graph.book(view)
            near, rows = _nearest(graph, done, book)
            for name, group in groups.items():
                before = measured[name, near] if near is not None else None
                measured[name, view] = _measure(graph, group, view, before, rows)
            if view.votes:
                voted = [one for one in done if one.votes]
                tops[view] = (
                    heads_after(tops[voted[0]], book, differing(graph.book(voted[0]), book))
                    if voted
                    else heads(book)
                )
            done.append(view)
        return cls(graph, groups, measured, tops)

    def after(self, graph: Graph, subject: PartyId) -> "Standing":
        """How it is in a graph in which what is held of ``subject`` has changed; the parties and groups are the same."""
        row = np.array([graph.number[subject]])
        measured = {}
        for (name, view), before in self.measured.items():
            same = graph.book(view) is self.graph.book(view)
            measured[name, view] = before if same else _measure(graph, self.groups[name], view, before, row)
        tops = {view: heads_after(before, graph.book(view), row) for view, before in self._heads.items()}
        return Standing(graph, self.groups, measured, tops)

    def share(self, group: str, entity: PartyId, view: View) -> Share:
        """What a group has of an entity, through all chains."""
        return self.measured[group, view].reach.share(self.graph.number[entity])

    def link(self, group: str, entity: PartyId, view: View) -> Share:
        """How strong the group's strongest chain to an entity is at its weakest link."""
        least, most = self.measured[group, view].links
        row = self.graph.number[entity]
        return Share(int(least[row]), int(most[row]))

    def falls_to(self, group: str, entity: PartyId, view: View) -> Answer:
        """Whether an entity is 50 % or more the group's by the cascade of whole steps."""
        ranks = self.measured[group, view].ranks
        if ranks is None:
            raise ValueError(f"the cascade is one of shares, not of {view}")
        row = self.graph.number[entity]
        return answer_of(bool(ranks[0][row] != OUT), bool(ranks[1][row] != OUT))

    def head(self, entity: PartyId, view: View) -> PartyId | None:
        """Who surely stands at the top of an entity's chain of majorities; None when nobody but itself is known to."""
        row = self.graph.number[entity]
        top = int(self.tops(view)[row])
        return None if top == row else self.graph.parties[top].id

    def tops(self, view: View) -> Ints:
        """The same of all, by number."""
        return self._heads[view].tops()

    def over(self, group: str, view: View, limit_ppm: int) -> tuple[Flags, Flags]:
        """Of which entities the group has more than a limit: surely, and perhaps."""
        least, most = self.measured[group, view].reach.shares()
        return least > limit_ppm, most > limit_ppm

    def rows(self) -> Iterator[tuple[str, View, Measured]]:
        """Everything that was measured."""
        for (name, view), one in self.measured.items():
            yield name, view, one


def _nearest(graph: Graph, done: list[View], book: Book) -> tuple[View | None, Ints]:
    """Of the views that are done the one that differs in the fewest rows, and those."""
    best: tuple[View | None, Ints] = None, np.arange(book.size)
    for view in done:
        rows = differing(graph.book(view), book)
        if best[0] is None or len(rows) < len(best[1]):
            best = view, rows
    return best


def _measure(graph: Graph, group: Group, view: View, before: Measured | None, rows: Ints) -> Measured:
    book, unnamed = graph.book(view), graph.unnamed
    seeds = (group.certain, group.possible)
    rules = (Rule(OFAC_PPM), Rule(OFAC_PPM, upper=True))
    if before is None:
        return Measured(
            reach(book, group),
            (links(book, seeds[0], unnamed=None), links(book, seeds[1], unnamed=unnamed)),
            None if view.votes else (cascade(book, seeds[0], rules[0]), cascade(book, seeds[1], rules[1])),
        )
    if not len(rows):
        ranks = before.ranks
        return before if view.votes == (ranks is None) else Measured(before.reach, before.links, None)
    ranks = before.ranks
    return Measured(
        reach_after(before.reach, book, group, rows),
        (
            links_after(before.links[0], book, seeds[0], rows, unnamed=None),
            links_after(before.links[1], book, seeds[1], rows, unnamed=unnamed),
        ),
        None
        if view.votes or ranks is None
        else (
            cascade_after(ranks[0], book, rules[0], rows),
            cascade_after(ranks[1], book, rules[1], rows),
        ),
    )
