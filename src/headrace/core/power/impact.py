"""What physical elements carry, and what the loss of one does: which nodes go dark, who is on them, what the others carry then.

Loads are those that the planner counts (``World.power_w``): the most that what is placed, and idle nodes, can draw. Names are
those of the power tree (``glomfjord/feed-a``), and a site's own for its connection.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from headrace.core.errors import Problem, ProblemCode, unknown
from headrace.core.estate import Site
from headrace.core.fleet import NEVER_DAY, Fleet
from headrace.core.ids import (
    ContractId,
    NodeId,
    PlacementId,
    PowerNodeId,
    SiteId,
    TenantId,
    WindowId,
    WorkloadId,
)
from headrace.core.power.allot import ALLOTMENT
from headrace.core.power.tree import Feeders, Worst, graph_of
from headrace.core.world import World

Loads = Mapping[str, Fraction]
"""Watts by the name of an element at its site."""
_NEAR = 10_000
"""Names of a large estate among which the one that was meant is looked for."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """An element that stays live: what it carries now, and what it would carry, against its derated rating."""

    element: str
    kind: str
    before_w: int
    after_w: int
    rating_w: int


@dataclass(frozen=True, slots=True)
class Impact:
    """The loss of ``element``: what is dark, who is hit, and what the survivors of its site would carry.

    ``dark`` are the other elements that no path reaches any more. ``contracts`` are those that pay for what is hit;
    ``reservations`` have nodes among the dark ones.
    """

    element: str
    kind: str
    site: SiteId
    dark: tuple[str, ...]
    nodes: tuple[NodeId, ...]
    placements: tuple[PlacementId, ...]
    workloads: tuple[WorkloadId, ...]
    tenants: tuple[TenantId, ...]
    contracts: tuple[ContractId, ...]
    reservations: tuple[WindowId, ...]
    survivors: tuple[Survivor, ...]


def leaf_watts(fleet: Fleet, power_w: Iterable[int], site: Site) -> dict[Feeders, int]:
    """The load on each set of feeders of a site; ``power_w`` is by element of the fleet."""
    watts = list(power_w)
    found: dict[Feeders, int] = {}
    for leaf in graph_of(site).leaves:
        name = leaf.part if leaf.is_part else leaf.block
        there = watts[fleet.power_index[PowerNodeId(f"{site.id}/{name}")]]
        found[leaf.feeders] = found.get(leaf.feeders, 0) + there
    return found


def worst_loads(world: World, site: Site) -> dict[str, Worst]:
    """What each element of a site (by its name there) carries now, and at most under any single loss."""
    return graph_of(site).worst(leaf_watts(world.fleet, world.power_w.tolist(), site))


def impact(world: World, element: str) -> Impact | Problem:
    """What the loss of an element of the power tree, of a rack or of a node does now; a Problem for an unknown one."""
    fleet = world.fleet
    number, _, name = element.partition("/")
    if SiteId(number) not in fleet.site_index:
        return unknown("site", number, fleet.site_index)
    site = world.site(SiteId(number))
    graph = graph_of(site)
    index = fleet.power_index.get(PowerNodeId(element))
    if name in graph.elements:
        return _of_element(world, site, name)
    if NodeId(element) in fleet.node_index:
        node = fleet.node_index[NodeId(element)]
        rack, drawn_w = int(fleet.node_leaf[node]), 0
        if fleet.node_from_day[node] < NEVER_DAY:
            drawn_w = world.counted.draw_w(node)
        return _impact(world, site, element, "node", (), [node], _without(world, site, rack, drawn_w))
    if index is None:
        names = [f"{number}/{one}" for one in graph.elements]
        names += [one for one in fleet.power_ids if one.startswith(f"{number}/") and "+" not in one]
        return unknown("element of the power tree", element, list(dict.fromkeys(names))[:_NEAR])
    kind = fleet.power_kind[index]
    if kind == ALLOTMENT:
        parts = name.rpartition("/")[2].strip("+").replace("+", ", ")
        message = f"{element} is an allotment: what hangs on {parts}, not a thing that can fail."
        return Problem(
            ProblemCode.BAD_INPUT,
            message,
            f"Ask about one of its feeders, like {number}/{parts.split(', ')[0]}.",
        )
    leaves = fleet.node_leaf.tolist()
    racks = {leaf for leaf in set(leaves) if index in fleet.path(leaf)}
    below = [node for node, leaf in enumerate(leaves) if leaf in racks]
    if kind == "connection":
        dark = tuple(f"{number}/{one}" for one in graph.elements)
        return _impact(world, site, element, kind, dark, below, ())
    survivors = _without(world, site, index, int(world.power_w[index]))
    return _impact(world, site, element, kind, (), below, survivors)


def _of_element(world: World, site: Site, name: str) -> Impact:
    graph, fleet = graph_of(site), world.fleet
    live = graph.live(name)
    dark = tuple(f"{site.id}/{one}" for one in graph.elements if one not in live and one != name)
    groups = {
        f"{site.id}/{leaf.block}/{group}"
        for leaf in graph.leaves
        if not graph.is_live(leaf.feeders, name)
        for group in leaf.groups
    }
    nodes = [index for index, node in enumerate(fleet.node_ids) if node.rsplit("-", 2)[0] in groups]
    watts = leaf_watts(fleet, world.power_w.tolist(), site)
    before, after = graph.loads(watts), graph.loads(watts, name)
    kind = graph.elements[name].kind
    survivors = _survivors(site, before, after, live)
    return _impact(world, site, f"{site.id}/{name}", kind, dark, nodes, survivors)


def _survivors(site: Site, before: Loads, after: Loads, live: Container[str]) -> tuple[Survivor, ...]:
    """Those of a site's elements that are live, with what they carry; watts are rounded up."""
    return tuple(
        Survivor(
            f"{site.id}/{name}",
            element.kind,
            -int(-before.get(name, 0) // 1),
            -int(-after.get(name, 0) // 1),
            element.rating_w,
        )
        for name, element in graph_of(site).elements.items()
        if name in live
    )


def _without(world: World, site: Site, lost: int, lost_w: int) -> tuple[Survivor, ...]:
    """What all elements of a site carry without ``lost_w`` at something below them: a block, a rack, or a node of rack ``lost``.

    All of them stay live: what is lost is a load, and no way to one.
    """
    fleet, graph = world.fleet, graph_of(site)
    power_w = world.power_w.tolist()
    watts = leaf_watts(fleet, power_w, site)
    left = dict(watts)
    for leaf in graph.leaves:
        name = leaf.part if leaf.is_part else leaf.block
        at = fleet.power_index[PowerNodeId(f"{site.id}/{name}")]
        if at != lost and lost in fleet.path(at):
            # A part of the block that is lost.
            left[leaf.feeders] -= power_w[at]
        elif at in fleet.path(lost):
            left[leaf.feeders] -= lost_w
    return _survivors(site, graph.loads(watts), graph.loads(left), graph.elements)


def _impact(
    world: World,
    site: Site,
    element: str,
    kind: str,
    dark: tuple[str, ...],
    nodes: list[int],
    survivors: tuple[Survivor, ...],
) -> Impact:
    names = [world.fleet.node_ids[node] for node in nodes]
    gone: set[str] = set(names)
    hit = [
        placement
        for placement in world.state.placements.values()
        if any(rank.node in gone for rank in placement.ranks)
    ]
    return Impact(
        element=element,
        kind=kind,
        site=site.id,
        dark=dark,
        nodes=tuple(names),
        placements=tuple(placement.id for placement in hit),
        workloads=tuple(dict.fromkeys(placement.workload for placement in hit)),
        tenants=tuple(sorted({placement.tenant for placement in hit})),
        contracts=tuple(sorted({placement.contract for placement in hit if placement.contract})),
        reservations=tuple(
            window for window, held in world.state.reserved.items() if any(one in gone for one in held)
        ),
        survivors=survivors,
    )
