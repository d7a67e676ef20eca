"""Decisions about nodes and plans: drains, reservations, what of a plan is carried out."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding, fail
from headrace.core.errors import HeadraceError, Problem, unknown
from headrace.core.ids import NodeId, PlacementId, WindowId, WorkloadId
from headrace.core.scheduling.admit import admit
from headrace.core.scheduling.proposal import Eviction, ProposedPlacement
from headrace.core.scheduling.reserve import nodes_for
from headrace.core.scheduling.windows import Window, may_be_evicted, must_clear
from headrace.core.workload import EndReason, Placement, State, Workload, options
from headrace.core.world import World


def set_nodes(world: World, command: c.SetNodes, asked: Asked) -> Deciding:
    """Drain nodes, or make them ready again."""
    for node in command.nodes:
        if node not in world.fleet.node_index:
            raise fail(unknown("node", node, world.fleet.node_ids))
    changed = [
        node for node in command.nodes if world.state.nodes.get(node, ("ready", ""))[0] != command.state
    ]
    for node in changed:
        yield ev.NodeStateChanged(node, command.state, command.reason, asked.verdict)
    evicted = list(_on(world, set(command.nodes))) if command.evict and command.state == "draining" else []
    for placement in evicted:
        yield ev.EvictionRequested(placement, EndReason.DRAINED, command.reason or "its node is drained")
    if command.state != "ready":
        yield from _replace_reserved(world, changed, asked.now_ms)
    names = tuple(changed)
    return c.Named(", ".join(names), changed=bool(changed or evicted), details=tuple(evicted))


def _replace_reserved(world: World, lost: Sequence[NodeId], now_ms: int) -> Generator[ev.Event, None, None]:
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


def _on(world: World, nodes: set[str]) -> Sequence[PlacementId]:
    return [
        placement.id
        for placement in world.state.placements.values()
        if placement.stop_reason is None and any(rank.node in nodes for rank in placement.ranks)
    ]


def adopt(world: World, command: c.AdoptPlan, asked: Asked) -> Deciding:
    """Re-validate each part of a plan against the world as it is now, in time proportional to what it touches."""
    made: list[PlacementId] = []
    rejected: list[tuple[WorkloadId, str]] = []
    snapshot = world.snapshot(asked.now_ms)
    for eviction in command.plan.evictions:
        if _may_evict(world, eviction, asked.now_ms):
            yield ev.EvictionRequested(eviction.placement, EndReason.PREEMPTED, _made_room(world, eviction))
    for proposal in command.plan.placements:
        work = world.state.workloads.get(proposal.workload)
        if work is None or work.state is not State.QUEUED or proposal.site not in world.fleet.site_index:
            rejected.append((proposal.workload, "STALE"))
            continue
        refusal = admit(snapshot, proposal)
        if refusal is not None:
            rejected.append((proposal.workload, refusal.name))
            continue
        yield from _place(world, work, proposal, command.plan.base_version)
        made.append(PlacementId(f"{work.id}.{work.attempt}"))
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
    need = options(work.spec)[proposal.option]
    contract = world.contract_for(work.tenant, site, need.accelerator, work.spec.contract)
    if contract is None:
        raise AssertionError(f"admitted without a contract: {work.id}")
    placement = PlacementId(f"{work.id}.{work.attempt + 1}")
    yield ev.PlacementMade(
        placement, work.id, work.tenant, proposal.site, proposal.ranks, ident, base_version, contract.id
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
    return may_be_evicted(world.state.workloads[placement.workload].spec)


def _may_clear(world: World, ident: WindowId, placement: Placement, now_ms: int) -> bool:
    """Whether a window begins, or is over, and a placement must therefore leave its nodes."""
    window = next((one for one in world.windows if one.id == ident), None)
    if window is None or placement.stop_reason is not None:
        return False
    nodes = {world.fleet.node_ids[node] for node in window.nodes}
    there = any(rank.node in nodes for rank in placement.ranks)
    spec = world.state.workloads[placement.workload].spec
    return must_clear(window, spec, on_its_nodes=there, now_ms=now_ms)


def reserve(world: World, wanted: dict[str, dict[str, Any]], now_ms: int) -> list[ev.NodesReserved]:
    """The nodes of reservations that are new or changed, or lose some to maintenance.

    Raises HeadraceError when there are not enough for all of them.
    """
    keys = [key for key in wanted if key.partition("/")[0] in ("reservation", "maintenance")]
    if not keys:
        return []
    # As the estate will be once these documents are applied.
    trial = World(replace(world.state, documents=world.state.documents | wanted, requests={}), world.policies)
    trial.state.reserved = dict(world.state.reserved)
    snapshot = trial.snapshot(now_ms)
    found, problems = [], []
    for ident in _concerned(trial, keys):
        reservation = trial.reservations[ident]
        if reservation.ends_ms <= now_ms:
            continue
        index = trial.fleet.node_index
        keep = [index[NodeId(name)] for name in trial.state.reserved.get(reservation.id, ()) if name in index]
        nodes = nodes_for(snapshot, reservation, trial.windows, keep)
        if isinstance(nodes, Problem):
            problems.append(nodes)
            continue
        names = tuple(str(trial.fleet.node_ids[node]) for node in nodes)
        trial.reserve(reservation.id, names)
        found.append(ev.NodesReserved(reservation.id, names))
    if problems:
        raise HeadraceError(*problems)
    return [one for one in found if world.state.reserved.get(one.reservation) != one.nodes]


def _concerned(trial: World, keys: Sequence[str]) -> list[WindowId]:
    """The reservations among documents, and those that have a node in a maintenance window among them."""
    names: dict[str, list[WindowId]] = {"reservation": [], "maintenance": []}
    for key in keys:
        kind, _, name = key.partition("/")
        names[kind].append(WindowId(name))
    found = dict.fromkeys(names["reservation"])
    shut = [window for window in trial.windows if window.tenant is None and window.id in names["maintenance"]]
    for window in trial.windows:
        if window.tenant is not None and any(_collide(window, other) for other in shut):
            found[window.id] = None
    return list(found)


def _collide(one: Window, other: Window) -> bool:
    """Whether two windows have a node at one time."""
    together = one.starts_ms < other.ends_ms and other.starts_ms < one.ends_ms
    return together and not set(one.nodes).isdisjoint(other.nodes)
