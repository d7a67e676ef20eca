"""What is claimed of how things are fed, and what the paths say to it.

- ``single``: one feeder, with whose loss the power is gone.
- ``N+1``: several feeders; whichever single element is lost, the rest have power and carry on.
- ``2N``: exactly two feeders with nothing in common but the connection: either side could be taken away whole.
- ``distributed``: several feeders with nothing in common, at least one of which others share in another combination
  (three to make two: the spare watts of each are the failover of several).

A claim is about paths. How many watts survive is not claimed but computed: the allotments admit no more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from headrace.core.estate import Redundancy, Site
from headrace.core.power.tree import Feeders, PowerGraph, graph_of, joined


@dataclass(frozen=True, slots=True)
class Contradiction:
    """``claim`` about ``what`` (of ``kind`` element, block, group or site; a group with its block) is not what the paths give."""

    kind: str
    what: str
    claim: Redundancy
    message: str
    next_step: str


def contradictions(site: Site) -> Iterator[Contradiction]:
    """Every claim of a site that its paths contradict, in its order; the site's own claim is about each of its blocks."""
    graph = graph_of(site)
    for element in site.power:
        yield from _judged(graph, "element", element.id, element.redundancy, element.feeds)
    for block in site.blocks:
        parts = {group.feeders or block.feeds for group in block.groups} or {block.feeds}
        for feeders in sorted(parts):
            yield from _judged(graph, "block", block.id, block.redundancy, feeders)
        for group in block.groups:
            feeders = group.feeders or block.feeds
            yield from _judged(graph, "group", f"{block.id}/{group.id}", group.redundancy, feeders)
    for leaf in graph.leaves if site.redundancy else ():
        for found in _judged(graph, "block", leaf.block, site.redundancy, leaf.feeders):
            yield Contradiction(
                "site", site.id, site.redundancy, f"{leaf.block}: {found.message}", found.next_step
            )


def _judged(
    graph: PowerGraph, kind: str, what: str, claim: Redundancy, feeders: Feeders
) -> Iterator[Contradiction]:
    found = _wrong(graph, claim, feeders) if claim else None
    if found is not None:
        yield Contradiction(kind, what, claim, f"{claim} is claimed, but {found[0]}", found[1])


def _wrong(graph: PowerGraph, claim: Redundancy, feeders: Feeders) -> tuple[str, str] | None:
    """Why a claim is not so, and what to do; None when it is."""
    if claim == "single":
        if len(feeders) > 1:
            return f"it is fed by {_listed(feeders)}.", "Claim what it is, or leave one feeder."
        return None
    if len(feeders) < 2:
        alone = f"by {feeders[0]} alone" if feeders else "by the connection itself"
        return f"it is fed {alone}.", "List its feeders in fed_by."
    if claim == "N+1":
        return _hanging_on_one(graph, feeders)
    if claim == "2N" and len(feeders) != 2:
        return (
            f"it is fed by {len(feeders)}: {_listed(feeders)}.",
            "2N has two sides; claim N+1 or distributed.",
        )
    return _sharing(graph, feeders) or _alike(graph, claim, feeders)


def _hanging_on_one(graph: PowerGraph, feeders: Feeders) -> tuple[str, str] | None:
    needed = graph.bottlenecks(feeders)
    if not needed:
        return None
    message = f"all its paths lead through {_kinds(graph, needed[:1])}: its loss is theirs."
    return message, "Feed them from elements that don't share it."


def _sharing(graph: PowerGraph, feeders: Feeders) -> tuple[str, str] | None:
    for one, other in combinations(feeders, 2):
        common = tuple(name for name in graph.ancestors((one,)) if name in graph.ancestors((other,)))
        if common:
            step = "Feed them from elements that don't share it"
            instead = ", or claim N+1." if not graph.bottlenecks(feeders) else "."
            return f"{one} and {other} share {_kinds(graph, common)}.", step + instead
    return None


def _alike(graph: PowerGraph, claim: Redundancy, feeders: Feeders) -> tuple[str, str] | None:
    if claim != "distributed" or _is_distributed(graph, feeders):
        return None
    message = f"nothing else shares one of {_listed(feeders)} in another combination."
    return message, "Claim 2N or N+1, or spread the feeders."


def _is_distributed(graph: PowerGraph, feeders: Feeders) -> bool:
    others = {leaf.feeders for leaf in graph.leaves} | {element.feeds for element in graph.elements.values()}
    return any(len(other) > 1 and other != feeders and set(other) & set(feeders) for other in others)


def _listed(feeders: Feeders) -> str:
    return joined(feeders).replace("+", ", ")


def _kinds(graph: PowerGraph, names: Feeders) -> str:
    return ", ".join(f"{graph.elements[name].kind} {name}" for name in names)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """An element that can't carry what it would have to with every node at nameplate and ``lost`` ("": nothing) lost."""

    element: str
    kind: str
    lost: str
    carried_w: int
    rating_w: int


def shortfalls(site: Site, leaf_w: dict[Feeders, int]) -> tuple[Shortfall, ...]:
    """Elements over their rating in their worst case; ``leaf_w``: the load on each set of feeders."""
    graph = graph_of(site)
    return tuple(
        Shortfall(name, graph.elements[name].kind, worst.lost, worst.worst_w, graph.elements[name].rating_w)
        for name, worst in graph.worst(leaf_w).items()
        if worst.worst_w > graph.elements[name].rating_w
    )
