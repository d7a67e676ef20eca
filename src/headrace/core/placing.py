"""Decisions about nodes and plans: drains, reservations, what of a plan is carried out."""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding, fail, record
from headrace.core.data.model import data_id
from headrace.core.errors import Problem, ProblemCode, unknown
from headrace.core.ids import NodeId, PlacementId, SiteId, WindowId, WorkloadId
from headrace.core.scheduling.admit import Cells, admit
from headrace.core.scheduling.proposal import Eviction, ProposedPlacement
from headrace.core.scheduling.reserve import nodes_for
from headrace.core.scheduling.sharing import are_equals, may_go_for_equal, outlives_by_pause, ranks_below
from headrace.core.scheduling.windows import LEAD_MS, Window, lead_ms, may_be_evicted, must_clear, parts_of
from headrace.core.workload import EndReason, Placement, State, Workload, option
from headrace.core.world import World


def set_nodes(world: World, command: c.SetNodes, asked: Asked) -> Deciding:
    """Drain nodes, or make them ready again."""
    nodes = list(dict.fromkeys(node for name in command.nodes for node in _nodes_of(world, name)))
    changed = [node for node in nodes if world.state.nodes.get(node, ("ready", ""))[0] != command.state]
    for node in changed:
        yield ev.NodeStateChanged(node, command.state, command.reason, asked.verdict)
    is_cleared = command.evict and command.state == "draining"
    there = on_nodes(world, set(nodes)) if is_cleared else []
    evicted = [one.id for one in there if one.stop_reason is None]
    for placement in evicted:
        yield ev.EvictionRequested(placement, EndReason.DRAINED, command.reason or "its node is drained")
    if command.state != "ready":
        yield from replace_reserved(world, changed, asked.now_ms)
    names = tuple(changed)
    return c.Named(", ".join(names), changed=bool(changed or evicted), details=tuple(evicted))


def _nodes_of(world: World, name: str) -> Sequence[NodeId]:
    """The nodes that a name stands for: a node, or all of a site, a block or a rack; raises HeadraceError for anything else."""
    fleet = world.fleet
    if name in fleet.node_index:
        return [NodeId(name)]
    place, _, part = name.partition("/")
    site = fleet.site_index.get(SiteId(place))
    found = () if site is None else parts_of(fleet, site, (name,) if part else ())
    if not found:
        raise fail(unknown("site, block, rack or node", name, fleet.node_ids))
    return [fleet.node_ids[node] for node in found]


def replace_reserved(world: World, lost: Sequence[NodeId], now_ms: int) -> Generator[ev.Event, None, None]:
    """Other nodes for reservations that lost some; an alarm where there are none, since what was sold is not there."""
    index = world.fleet.node_index
    gone = {index[node] for node in lost}
    for window in world.windows:
        if window.tenant is None or window.ends_ms <= now_ms or gone.isdisjoint(window.nodes):
            continue
        keep = [node for node in window.nodes if node not in gone]
        found = nodes_for(world.snapshot(now_ms), world.reservations[window.id], world.windows, keep)
        if isinstance(found, Problem):
            yield ev.AlarmRaised(5, window.id, f"{len(gone)} of its nodes are not ready: {found.message}")
        else:
            yield ev.NodesReserved(window.id, tuple(str(world.fleet.node_ids[node]) for node in found))


def not_cleared(world: World, now_ms: int) -> Generator[ev.Event, None, None]:
    """An alarm, once, for a window that has begun while others are still on its nodes who had their time to go."""
    for window in world.windows:
        if not window.is_on(now_ms) or window.id in world.cleared:
            continue
        nodes = np.array(window.nodes, dtype=np.int64)
        if not world.node_ranks[nodes].any():
            world.cleared[window.id] = None
            continue
        names = {world.fleet.node_ids[node] for node in window.nodes}
        others = [one for one in on_nodes(world, names) if not _is_of(world, one, window)]
        late = [one for one in others if _is_late(world, one, window, now_ms)]
        if late or not others:
            world.cleared[window.id] = None
        if late and not _is_known(world, window):
            which = ", ".join(sorted(one.workload for one in late)[:5])
            detail = f"it has begun, and {len(late)} workloads of others are still on its nodes: {which}"
            yield ev.AlarmRaised(5, window.id, detail)


def _is_of(world: World, placement: Placement, window: Window) -> bool:
    return world.state.workloads[placement.workload].spec.reservation == window.id


def _is_late(world: World, placement: Placement, window: Window, now_ms: int) -> bool:
    """Whether a placement had its time to go: since it was told, or since the window began and it should have been."""
    if placement.stop_reason is None:
        return now_ms >= window.starts_ms + LEAD_MS
    told_ms = placement.stop_since_ms + lead_ms(world.state.workloads[placement.workload].spec)
    return now_ms >= max(window.starts_ms, told_ms)


def _is_known(world: World, window: Window) -> bool:
    """Whether the alarm stands already: a restart has forgotten that it looked."""
    return any(
        at_ms >= window.starts_ms and alarm.subject == window.id and alarm.detail.startswith("it has begun")
        for at_ms, alarm in world.state.alarms
    )


def on_nodes(world: World, nodes: Collection[str]) -> list[Placement]:
    """All placements that have one of these nodes; it looks at all there are."""
    return [
        placement
        for placement in world.state.placements.values()
        if any(rank.node in nodes for rank in placement.ranks)
    ]


def adopt(world: World, command: c.AdoptPlan, asked: Asked) -> Deciding:
    """Re-validate each part of a plan against the world as it is now, in time proportional to what it touches."""
    made: list[PlacementId] = []
    rejected: list[tuple[WorkloadId, str]] = []
    snapshot = world.snapshot(asked.now_ms)
    cells = Cells.of(snapshot)
    for eviction in command.plan.evictions:
        if _may_evict(world, eviction, asked.now_ms):
            yield ev.EvictionRequested(eviction.placement, EndReason.PREEMPTED, _made_room(world, eviction))
    for proposal in command.plan.placements:
        work = world.state.workloads.get(proposal.workload)
        if work is None or work.state is not State.QUEUED or proposal.site not in world.fleet.site_index:
            rejected.append((proposal.workload, "STALE"))
            continue
        refusal = admit(snapshot, proposal, cells)
        if refusal is not None:
            rejected.append((proposal.workload, refusal.name))
            continue
        yield from _place(world, work, proposal, command.plan.base_version)
        made.append(PlacementId(f"{work.id}.{work.attempt}"))
        if snapshot.node_share_milli is not world.node_share_milli:
            # The first fraction brings columns that the snapshot did not have.
            snapshot = world.snapshot(asked.now_ms)
    return c.Adopted(tuple(made), tuple(rejected))


def _made_room(world: World, eviction: Eviction) -> str:
    """For what a placement is evicted, as its tenant may know it."""
    tenant = world.state.placements[eviction.placement].tenant
    if eviction.window is not None:
        reservation = world.reservations.get(eviction.window)
        if reservation is not None and reservation.tenant == tenant:
            return f"reservation {eviction.window} begins or is over"
        return "its nodes are kept for maintenance" if reservation is None else "its nodes are reserved"
    waiting = world.state.workloads[eviction.waiting] if eviction.waiting is not None else None
    # Which workload of another tenant it was is not this one's to know.
    own = waiting is not None and waiting.tenant == tenant
    return f"made room for {eviction.waiting if own else 'a workload that goes first'}"


def _place(
    world: World, work: Workload, proposal: ProposedPlacement, base_version: int
) -> Generator[ev.Event, None, None]:
    site = world.fleet.site_index[proposal.site]
    verdict = world.place_verdict(work.tenant, work.spec.policy, site)
    ident = verdict.id
    if ident not in world.state.verdicts:
        yield ev.DecisionRecorded(verdict)
    about = []
    for name in work.spec.policy.data:
        for one in world.laws.of_data(world, world.laws.datasets[data_id(work.tenant, name)], site):
            yield from record(world, one)
            about.append(one.id)
    need = option(work.spec, proposal.option)
    if need is None:
        raise AssertionError(f"admitted without such an option: {work.id}")
    contract = world.contract_for(work.tenant, site, need.accelerator, work.spec.contract)
    if contract is None:
        raise AssertionError(f"admitted without a contract: {work.id}")
    placement = PlacementId(f"{work.id}.{work.attempt + 1}")
    verdicts = (ident, *about) if about else ()
    yield ev.PlacementMade(
        placement,
        work.id,
        work.tenant,
        proposal.site,
        proposal.ranks,
        ident,
        base_version,
        contract.id,
        verdicts,
    )


def _may_evict(world: World, eviction: Eviction, now_ms: int) -> bool:
    placement = world.state.placements.get(eviction.placement)
    if eviction.window is not None:
        return placement is not None and _may_clear(world, eviction.window, placement, now_ms)
    if eviction.waiting is None:
        return False
    waiting = world.state.workloads.get(eviction.waiting)
    if (
        placement is None
        or placement.stop_reason is not None
        or waiting is None
        or waiting.state is not State.QUEUED
    ):
        return False
    victim = world.state.workloads[placement.workload]
    if are_equals(waiting, victim) and waiting.spec.reservation is None:
        return may_go_for_equal(waiting, victim, placement, now_ms)
    may_go = may_be_evicted(victim.spec) or outlives_by_pause(victim, placement, now_ms)
    return may_go and not ranks_below(waiting, victim)


def _may_clear(world: World, ident: WindowId, placement: Placement, now_ms: int) -> bool:
    """Whether a window begins, or is over, and a placement must therefore leave its nodes."""
    window = next((one for one in world.windows if one.id == ident), None)
    if window is None or placement.stop_reason is not None:
        return False
    nodes = {world.fleet.node_ids[node] for node in window.nodes}
    there = any(rank.node in nodes for rank in placement.ranks)
    spec = world.state.workloads[placement.workload].spec
    if placement.site != world.fleet.sites[window.site].id:
        return False
    began_ms = placement.started_ms or placement.made_ms
    return must_clear(window, spec, began_ms, on_its_nodes=there, now_ms=now_ms)


def reserve(
    world: World, wanted: Mapping[str, dict[str, Any]], now_ms: int
) -> tuple[list[ev.NodesReserved], list[Problem]]:
    """The nodes of reservations that are new or changed, or lose some to maintenance or to another estate.

    And the problems: of those for which there are not enough nodes (CONFLICT); of those that were admitted, and that another
    estate would break (IN_USE).
    """
    keys = [key for key in wanted if key.partition("/")[0] in ("reservation", "maintenance", "estate")]
    if not keys:
        return [], []
    # As the estate will be once these documents are applied.
    documents = world.state.documents | dict(wanted)
    trial = World(replace(world.state, documents=documents, requests={}), world.policies)
    trial.state.reserved = dict(world.state.reserved)
    snapshot = trial.snapshot(now_ms)
    found: list[ev.NodesReserved] = []
    problems: list[Problem] = []
    for ident, is_asked in _concerned(trial, keys).items():
        reservation = trial.reservations[ident]
        if reservation.ends_ms <= now_ms:
            continue
        nodes = nodes_for(snapshot, reservation, trial.windows, _has(trial, ident))
        if not isinstance(nodes, Problem):
            names = tuple(str(trial.fleet.node_ids[node]) for node in nodes)
            trial.reserve(reservation.id, names)
            found.append(ev.NodesReserved(reservation.id, names))
        elif is_asked:
            problems.append(nodes)
        elif _is_kept(world, ident, now_ms):
            step = "Keep what it needs, change it, or remove it first."
            message = f"reservation {ident} was admitted and would be broken: {nodes.message}"
            problems.append(Problem(ProblemCode.IN_USE, message, step, related=(ident,)))
    return [one for one in found if world.state.reserved.get(one.reservation) != one.nodes], problems


def _has(world: World, ident: WindowId) -> list[int]:
    """The nodes that a reservation has, of those that there are."""
    index = world.fleet.node_index
    return [index[NodeId(name)] for name in world.state.reserved.get(ident, ()) if NodeId(name) in index]


def _is_kept(world: World, ident: WindowId, now_ms: int) -> bool:
    """Whether a reservation has what it asks for as things are: what is broken already holds up no change."""
    reservation = world.reservations.get(ident)
    if reservation is None or reservation.site not in world.fleet.site_index:
        return False
    found = nodes_for(world.snapshot(now_ms), reservation, world.windows, _has(world, ident))
    return not isinstance(found, Problem)


def _concerned(trial: World, keys: Sequence[str]) -> dict[WindowId, bool]:
    """The reservations among documents, those that have a node in a maintenance window among them, and of another estate all.

    And whether each is asked for by these documents, or by maintenance; else it was admitted and has to be kept.
    """
    names: dict[str, list[WindowId]] = {"reservation": [], "maintenance": [], "estate": []}
    for key in keys:
        kind, _, name = key.partition("/")
        names[kind].append(WindowId(name))
    found = dict.fromkeys(names["reservation"], True)
    shut = [window for window in trial.windows if window.tenant is None and window.id in names["maintenance"]]
    for window in trial.windows:
        if window.tenant is not None and any(_collide(window, other) for other in shut):
            found[window.id] = True
    if names["estate"]:
        for ident in trial.reservations:
            found.setdefault(ident, False)
    return found


def _collide(one: Window, other: Window) -> bool:
    """Whether two windows have a node at one time."""
    together = one.starts_ms < other.ends_ms and other.starts_ms < one.ends_ms
    return together and not set(one.nodes).isdisjoint(other.nodes)
