"""The estate as it is now: sites, nodes, power; draining nodes and taking them back."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Annotated

import numpy as np
from fastapi import Query, Response

from headrace.api.bodies import DrainBody, UndrainBody, body
from headrace.api.endpoint import After, Group, Limit, carry_out, head_view, json_body, reply
from headrace.api.guard import Call, CallDep, callers, not_there, operators
from headrace.api.views import (
    Drained,
    Engines,
    EngineView,
    IntruderView,
    MismatchView,
    Nodes,
    NodeView,
    Power,
    PowerView,
    Sites,
    SiteView,
)
from headrace.api.views_power import HitView, ImpactView, SurvivorView
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.estate import Site
from headrace.core.ids import NodeId, SiteId
from headrace.core.power.impact import Impact, impact, worst_loads
from headrace.core.power.tree import Worst, graph_of
from headrace.core.world import World
from headrace.engines.compare import mismatches
from headrace.reconcile import Reconciler

estate = Group("estate")

SiteQuery = Annotated[str, Query(max_length=63, description="only this site's")]


@estate.get("/v1/sites", "site.read", callers("sites"), Sites)
async def list_sites(call: CallDep) -> Response:
    """Sites; a tenant does not see those that are dedicated to others."""
    visible = [one for one in call.world.fleet.sites if _may_see(call, one)]
    return reply(Sites(tuple(_site_view(one) for one in visible)))


def _may_see(call: Call, site: Site) -> bool:
    return call.tenant is None or site.dedicated_to in (None, call.tenant)


def _site_view(site: Site) -> SiteView:
    return SiteView(
        id=site.id,
        name=site.name,
        country=site.country,
        zone=site.zone,
        grid_zone=site.grid_zone,
        energy_source=site.energy_source,
        carbon_g_per_kwh=site.carbon_g_per_kwh,
        energy_price_micros_per_kwh=site.energy_price_micros_per_kwh,
        currency=site.currency,
        pue_permille=site.pue_permille,
        dedicated_to=site.dedicated_to,
    )


# -- nodes -------------------------------------------------------------------------------------------------------------


@estate.get("/v1/nodes", "node.read", operators("nodes"), Nodes)
async def list_nodes(
    call: CallDep, site: SiteQuery = "", limit: Limit = 1_000, after: After = ""
) -> Response:
    """Nodes with their state and use, in the order of the estate."""
    world = call.world
    world.at(call.service.control.now_ms())
    fleet = world.fleet
    indexes = _of_site(world, site, fleet.node_site)
    start = _position(indexes, fleet.node_index.get(NodeId(after), -1), after)
    page = list(islice(indexes, start, start + limit))
    isolation = _isolation(call)
    nodes = tuple(_node_view(world, index, isolation) for index in page)
    following = nodes[-1].id if nodes and start + limit < len(indexes) else ""
    return reply(Nodes(nodes, len(indexes), following))


def _of_site(world: World, site: str, column: np.ndarray[tuple[int], np.dtype[np.int16]]) -> list[int]:
    if not site:
        return list(range(len(column)))
    number = world.fleet.site_index.get(SiteId(site))
    if number is None:
        raise HeadraceError(unknown("site", site, world.fleet.site_index))
    return [int(index) for index in np.flatnonzero(column == number)]


def _position(indexes: list[int], found: int, after: str) -> int:
    """Where the page after the element ``found`` begins."""
    if not after:
        return 0
    if found < 0:
        problem = Problem(
            ProblemCode.BAD_INPUT, f"nothing {after!r} to go on after.", "Begin again.", "query.after"
        )
        raise HeadraceError(problem)
    return int(np.searchsorted(np.asarray(indexes), found, side="right"))


def _isolation(call: Call) -> dict[str, str]:
    """How each engine keeps tenants apart; nothing for one that is not connected."""
    reconciler = call.service.reconciler
    if reconciler is None:
        return {}
    engines = reconciler.engines
    return {name: engine.capabilities.isolation for name, engine in engines.items()}


def _node_view(world: World, index: int, isolation: dict[str, str]) -> NodeView:
    fleet = world.fleet
    ident, site = fleet.node_ids[index], fleet.sites[int(fleet.node_site[index])]
    hardware = fleet.hardware[int(fleet.node_hardware[index])]
    state, reason = world.state.nodes.get(ident, ("ready", ""))
    here, used = bool(world.node_here[index]), int(world.node_mask[index]).bit_count()
    if ident in world.state.intruders:
        state, reason = "intruded", world.state.intruders[ident]
    return NodeView(
        id=ident,
        site=site.id,
        hardware=hardware.id,
        accelerator=hardware.accelerator,
        accelerators=hardware.accelerators,
        used=used,
        cpu_milli=hardware.cpu_milli,
        cpu_milli_used=int(world.node_cpu_milli[index]),
        memory_mb=hardware.memory_mb,
        memory_mb_used=int(world.node_memory_mb[index]),
        ranks=int(world.node_ranks[index]),
        state=state if here else "planned",
        reason=reason,
        watts=_node_watts(world, index) if here else 0,
        watts_source="nameplate" if ident in world.state.intruders else "modelled",
        isolation=isolation.get(fleet.engine_of(index), ""),
    )


def _node_watts(world: World, index: int) -> int:
    fleet = world.fleet
    hardware = fleet.hardware[int(fleet.node_hardware[index])]
    if fleet.node_ids[index] in world.state.intruders:
        return hardware.nameplate_w
    return hardware.node_watts(int(world.node_mask[index]).bit_count(), bool(world.node_ranks[index]))


@estate.write("POST", "/v1/nodes/drain", "node.drain", operators("nodes"), Drained, body=json_body(DrainBody))
async def drain(call: CallDep) -> Response:
    """Place nothing more on nodes; with ``evict`` what runs on them is moved."""
    asked = await body(call.request, DrainBody)
    nodes = _chosen(call, asked.nodes, asked.site)
    return await _set(call, c.SetNodes(nodes, "draining", asked.reason, asked.evict), asked)


@estate.write(
    "POST", "/v1/nodes/undrain", "node.drain", operators("nodes"), Drained, body=json_body(UndrainBody)
)
async def undrain(call: CallDep) -> Response:
    """Take nodes back."""
    asked = await body(call.request, UndrainBody)
    nodes = _chosen(call, asked.nodes, asked.site)
    return await _set(call, c.SetNodes(nodes, "ready", asked.reason), asked)


def _chosen(call: Call, nodes: list[str], site: str | None) -> tuple[NodeId, ...]:
    if bool(nodes) == (site is not None):
        message = "it is not said which nodes." if site is None else "nodes and a site are both named."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, "Name nodes, or a site.", "/nodes"))
    if site is not None:
        fleet = call.world.fleet
        return tuple(fleet.node_ids[index] for index in _of_site(call.world, site, fleet.node_site))
    for node in nodes:
        if NodeId(node) not in call.world.fleet.node_index:
            # Of a large estate only the nearest names are looked through.
            near = [one for one in call.world.fleet.node_ids[:10_000] if one[:8] == node[:8]]
            raise HeadraceError(unknown("node", node, near)) if near else not_there("node", node)
    return tuple(dict.fromkeys(NodeId(node) for node in nodes))


async def _set(call: Call, command: c.SetNodes, asked: DrainBody | UndrainBody) -> Response:
    # Not the nodes of the command: which ones a site has may be others by the second attempt.
    text = f"{command.state} {asked.model_dump_json(exclude_defaults=True)}"
    named, head = await carry_out(call, command, text)
    if not isinstance(named, c.Named):
        raise TypeError(f"{command} was answered with {named}")
    changed = tuple(named.name.split(", ")) if named.name else ()
    return reply(Drained(changed, named.details, head_view(head)))


# -- engines -----------------------------------------------------------------------------------------------------------


@estate.get("/v1/engines", "node.read", operators("nodes"), Engines)
async def list_engines(call: CallDep) -> Response:
    """Engines: what they can do, what keeps them from their clusters, and where these differ from the estate."""
    reconciler = call.service.reconciler
    if reconciler is None:
        return reply(Engines(()))
    return reply(Engines(tuple(_engine_view(call.world, reconciler, name) for name in reconciler.engines)))


def _engine_view(world: World, reconciler: Reconciler, name: str) -> EngineView:
    engine, nodes = reconciler.engines[name], reconciler.nodes_of(name)
    seen, can = engine.inventory(), engine.capabilities
    found = mismatches(world.fleet, nodes, engine, world.state.tenants or None)
    intruders = world.state.intruders
    return EngineView(
        name=name,
        sites=tuple(
            site.id for number, site in enumerate(world.fleet.sites) if name in world.fleet.engines_at(number)
        ),
        isolation=can.isolation,
        parts=can.parts,
        trouble=engine.trouble,
        nodes=len(nodes),
        seen=None if seen is None else len(seen),
        mismatches=tuple(
            MismatchView(one.node, one.host, one.what, one.estate, one.cluster) for one in found
        ),
        intruders=tuple(IntruderView(node, intruders[node]) for node in nodes if node in intruders),
    )


# -- power -------------------------------------------------------------------------------------------------------------

MOST_LISTED = 1_000
"""Nodes and workloads that an answer about a loss names."""
AfterElement = Annotated[str, Query(max_length=1_000)]


@estate.get("/v1/power", "estate.read", operators("power"), Power)
async def list_power(
    call: CallDep,
    site: SiteQuery = "",
    racks: Annotated[bool, Query(description="racks too")] = True,
    limit: Limit = 1_000,
    after: AfterElement = "",
) -> Response:
    """The power tree: what each element may carry, what it does, and what it would if another were lost."""
    world = call.world
    world.at(call.service.control.now_ms())
    fleet = world.fleet
    indexes = _of_site(world, site, fleet.power_site)
    if not racks:
        indexes = [index for index in indexes if fleet.power_kind[index] != "rack"]
    rows = _power_rows(world, indexes)
    names = [name for name, _ in rows]
    if after and after not in names:
        raise HeadraceError(
            Problem(
                ProblemCode.BAD_INPUT, f"nothing {after!r} to go on after.", "Begin again.", "query.after"
            )
        )
    start = names.index(after) + 1 if after else 0
    page = rows[start : start + limit]
    loads: dict[str, Mapping[str, Worst]] = {}
    elements = tuple(_power_view(world, name, index, loads) for name, index in page)
    following = elements[-1].id if elements and start + limit < len(rows) else ""
    return reply(Power(elements, len(rows), next=following))


Row = tuple[str, int | None]
"""An element by its name, and its number in the fleet (None: several ways lead past it, so that the planner has none)."""


def _power_rows(world: World, indexes: list[int]) -> list[Row]:
    """Elements in the order of the fleet; of a site with several ways what hangs on an element right after it."""
    fleet = world.fleet
    rows: list[Row] = []
    branches: dict[str, list[Row]] = {}
    for index in indexes:
        name, parent = fleet.power_ids[index], int(fleet.power_parent[index])
        site = fleet.sites[int(fleet.power_site[index])]
        graph = graph_of(site)
        if graph.is_tree or parent < 0:
            rows.append((name, index))
        elif name.partition("/")[2] not in graph.elements:
            branches.setdefault(fleet.power_ids[parent], []).append((name, index))
        if parent < 0 and not graph.is_tree:
            for element in graph.elements.values():
                over = f"{site.id}/{element.feeds[0]}" if element.feeds else str(site.id)
                branches.setdefault(over, []).append((f"{site.id}/{element.id}", None))
    return [below for row in rows for below in _unfolded(row, branches)]


def _unfolded(row: Row, branches: Mapping[str, list[Row]]) -> Iterator[Row]:
    waiting = [row]
    while waiting:
        here = waiting.pop()
        yield here
        waiting.extend(reversed(branches.get(here[0], [])))


def _power_view(
    world: World, name: str, index: int | None, loads: dict[str, Mapping[str, Worst]]
) -> PowerView:
    fleet = world.fleet
    if index is None:
        return _shared_view(world, name, loads)
    parent = int(fleet.power_parent[index])
    site = fleet.sites[int(fleet.power_site[index])]
    graph, local = graph_of(site), name.partition("/")[2]
    declared = graph.elements.get(local)
    admitted_w = int(world.power_w[index])
    return PowerView(
        id=name,
        kind=fleet.power_kind[index],
        site=site.id,
        parent=fleet.power_ids[parent] if parent >= 0 else "",
        limit_w=int(world.power_limit_w[index]),
        admitted_w=admitted_w,
        breaker_w=declared.breaker_w if declared else 0,
        worst_w=admitted_w,
    )


def _shared_view(world: World, name: str, loads: dict[str, Mapping[str, Worst]]) -> PowerView:
    number, _, local = name.partition("/")
    site = world.site(SiteId(number))
    if number not in loads:
        loads[number] = worst_loads(world, site)
    declared, found = graph_of(site).elements[local], loads[number][local]
    feeders = tuple(f"{number}/{feeder}" for feeder in declared.feeds)
    return PowerView(
        id=name,
        kind=declared.kind,
        site=number,
        parent=feeders[0] if feeders else number,
        limit_w=declared.rating_w,
        admitted_w=found.now_w,
        feeders=feeders if len(feeders) > 1 else (),
        breaker_w=declared.breaker_w,
        worst_w=found.worst_w,
        lost=f"{number}/{found.lost}" if found.lost else "",
    )


@estate.get("/v1/power/impact", "estate.read", operators("power"), ImpactView)
async def power_impact(
    call: CallDep,
    element: Annotated[
        str,
        Query(min_length=1, max_length=1_000, description="an element of the power tree, a rack or a node"),
    ],
) -> Response:
    """What the loss of an element does: who is hit, what goes dark, and what the survivors would carry."""
    world = call.world
    world.at(call.service.control.now_ms())
    found = impact(world, element)
    if isinstance(found, Problem):
        raise HeadraceError(replace(found, where="query.element"))
    return reply(_impact_view(world, found))


def _impact_view(world: World, found: Impact) -> ImpactView:
    gone = set(found.nodes)
    hits = []
    for ident in found.placements[:MOST_LISTED]:
        placement = world.state.placements[ident]
        spec = world.state.workloads[placement.workload].spec
        nodes = len({rank.node for rank in placement.ranks if rank.node in gone})
        hits.append(
            HitView(placement.workload, spec.name, placement.tenant, placement.contract, spec.flex, nodes)
        )
    return ImpactView(
        element=found.element,
        kind=found.kind,
        site=found.site,
        dark=found.dark,
        nodes_dark=len(found.nodes),
        nodes=found.nodes[:MOST_LISTED],
        workloads_hit=len(found.workloads),
        workloads=tuple(hits),
        tenants=found.tenants,
        contracts=found.contracts,
        reservations=found.reservations,
        survivors=tuple(
            SurvivorView(one.element, one.kind, one.before_w, one.after_w, one.rating_w)
            for one in found.survivors
        ),
    )
