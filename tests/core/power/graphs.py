"""Sites with several ways up, by hand and by chance."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from hypothesis import strategies as st

from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, PowerElement, PowerKind, Site
from headrace.core.fleet import Fleet, compile_fleet
from headrace.core.ids import OperatorId, PowerNodeId, SiteId

OPERATOR = Operator(OperatorId("op"), "", "NO", "Europe/Oslo", "NOK")
NODE_W = 1_000
"""The nameplate of a node of the lab, of which all sites here are."""


def element(name: str, rating_w: int, *feeders: str, kind: PowerKind = "feed") -> PowerElement:
    """An element and what feeds it."""
    if len(feeders) > 1:
        return PowerElement(name, kind, rating_w, feeders=feeders)
    return PowerElement(name, kind, rating_w, "".join(feeders))


def group(name: str = "g", nodes: int = 1, *feeders: str) -> NodeGroup:
    """A rack of nodes for each node."""
    return NodeGroup(name, "lab", nodes, 1, feeders=feeders)


def block(name: str, *feeders: str, nodes: int = 1, groups: tuple[NodeGroup, ...] = ()) -> Block:
    """A block that is there, and what feeds it."""
    made = Block(name, groups or (group(nodes=nodes),), commissioned="2025-01-01")
    if len(feeders) > 1:
        return replace(made, feeders=feeders)
    return replace(made, fed_by="".join(feeders))


def site(*power: PowerElement, blocks: tuple[Block, ...] = (), connection_w: int = 10**9) -> Site:
    """A site at a PUE of 1 whose connection is no limit unless it is said."""
    where = SiteId("s"), "NO", "Europe/Oslo"
    return Site(*where, Connection(connection_w), 1_000, 8, 450_000, "NOK", power=power, blocks=blocks)


@lru_cache(maxsize=16)
def fleet_of(one: Site) -> Fleet:
    """The columns that the planner sees."""
    return compile_fleet(Estate(OPERATOR, (one,)))


def limits_of(one: Site) -> dict[str, int]:
    """The limit of each node of the planner's tree, by its name at the site, with or without its +."""
    fleet = fleet_of(one)
    return {
        name.removeprefix("s/").removeprefix("+"): int(limit)
        for name, limit in zip(fleet.power_ids, fleet.power_limit_w, strict=True)
    }


def hung(one: Site, fleet: Fleet) -> dict[str, list[int]]:
    """By ``block/group``: the elements of the planner's tree above its racks."""
    return {
        f"{of.id}/{part.id}": fleet.path(fleet.power_index[PowerNodeId(f"s/{of.id}/{part.id}-0")])[1:]
        for of in one.blocks
        for part in of.groups
    }


def filled(one: Site, wanted_w: Mapping[str, int], raised: Mapping[str, int] | None = None) -> dict[str, int]:
    """What of a wanted load of each group goes into the planner's tree, one after another, each as much as fits.

    Racks don't count: what a group can draw is up to whoever asks. ``raised``: other limits, by the name of a node.
    """
    fleet = fleet_of(one)
    left = fleet.power_limit_w.tolist()
    for name, limit_w in (raised or {}).items():
        left[_index(fleet, name)] = limit_w
    paths = hung(one, fleet)
    given = dict.fromkeys(wanted_w, 0)
    for name, want_w in wanted_w.items():
        given[name] = max(0, min(want_w, *(left[element] for element in paths[name])))
        for element in paths[name]:
            left[element] -= given[name]
    return given


def below(one: Site, node: str) -> list[str]:
    """The groups below a node of the planner's tree."""
    fleet = fleet_of(one)
    index = _index(fleet, node)
    return [name for name, path in hung(one, fleet).items() if index in path]


def _index(fleet: Fleet, node: str) -> int:
    names = (PowerNodeId(f"s/{node}"), PowerNodeId(f"s/+{node}"))
    return next(fleet.power_index[name] for name in names if name in fleet.power_index)


ratings = st.integers(0, 9).flatmap(lambda size: st.integers(1, 10 ** (1 + size // 2)))


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """A site of up to nine elements in any graph, with blocks that hang anywhere, some of them group by group."""
    power: list[PowerElement] = []
    for number in range(draw(st.integers(2, 9))):
        above = draw(feeders_among([one.id for one in power], 3))
        power.append(element(f"e{number}", draw(ratings), *above))
    names = [one.id for one in power]
    blocks = []
    for number in range(draw(st.integers(1, 5))):
        nodes = draw(st.integers(1, 40))
        made = block(f"b{number}", *draw(feeders_among(names, 3)), nodes=nodes)
        if draw(st.booleans()):
            parts = [
                group(f"g{part}", draw(st.integers(1, 20)), *draw(feeders_among(names, 2)))
                for part in range(draw(st.integers(1, 3)))
            ]
            made = block(f"b{number}", groups=tuple(parts))
        if draw(st.booleans()):
            made = replace(made, rating_w=draw(st.integers(1, 30_000)))
        if draw(st.integers(0, 4)) == 0:
            made = replace(made, commissioned="")
        blocks.append(made)
    chosen = draw(st.integers(0, 3))
    connection_w = 10**9 if chosen else draw(st.integers(0, 100_000))
    return site(*power, blocks=tuple(blocks), connection_w=connection_w)


def feeders_among(names: list[str], most: int) -> st.SearchStrategy[tuple[str, ...]]:
    """Some of the elements there are, mostly several."""
    if not names:
        return st.just(())
    several = st.lists(st.sampled_from(names), min_size=min(1, len(names)), max_size=most, unique=True)
    return several.map(lambda found: tuple(sorted(found)))


def wishes(one: Site) -> st.SearchStrategy[dict[str, int]]:
    """Loads that groups want, in any order: small ones, and more than anything carries."""
    names = [f"{of.id}/{part.id}" for of in one.blocks for part in of.groups]
    amounts = st.one_of(st.just(10**9), st.integers(0, 40_000))
    return st.permutations(names).flatmap(
        lambda order: st.tuples(*(amounts for _ in order)).map(
            lambda watts: dict(zip(order, watts, strict=True))
        )
    )
