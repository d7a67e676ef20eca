"""What the engines report, decided: starts, ends, pauses, failures of a gang, usage, health of nodes."""

from collections.abc import Generator, Sequence

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.apply import backoff_ms
from headrace.core.ids import NodeId
from headrace.core.observation import NodeReport, PlacementReport, RankReport, RankState
from headrace.core.placing import not_cleared, on_nodes, replace_reserved
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import OUTLIVED, EndReason, Placement, State, Workload, WorkloadType
from headrace.core.world import World

Deciding = Generator[ev.Event, None, None]

_OVER = frozenset({RankState.EXITED, RankState.LOST})
_UNKNOWN_CODE = -1
FLAPPING_MS = MS_PER_HOUR
FLAPPING_FALLS = 3
"""A node that went down so often within so long is kept from work when it comes up again, until somebody undrains it."""


def observe(world: World, command: c.Observe, now_ms: int) -> Generator[ev.Event, None, c.Reply]:
    """Events of everything that changed; reports of unknown placements are the loop's to deal with."""
    fell: list[NodeId] = []
    for node in command.nodes:
        if (yield from _node(world, node, now_ms)):
            fell.append(node.node)
        yield from _intruder(world, node)
    if fell:
        yield from _fallen(world, fell, now_ms)
    for report in command.reports:
        placement = world.state.placements.get(report.placement)
        if placement is not None and len(report.ranks) == len(placement.ranks):
            yield from _placement(world, placement, report, command, now_ms)
    for ident, detail in command.failed:
        placement = world.state.placements.get(ident)
        if placement is not None and not placement.started_ms and placement.stop_reason is None:
            # Not its end yet: a start whose answer was lost may run. It is stopped, and ends when the engine says so.
            yield ev.EvictionRequested(placement.id, EndReason.START_FAILED, detail)
    for ident in command.missing:
        placement = world.state.placements.get(ident)
        if placement is not None:
            reason = placement.stop_reason or EndReason.NODE_LOST
            yield from _end_unseen(world, placement, reason, "its engine does not know it any more", now_ms)
    yield from not_cleared(world, now_ms)
    return None


def _node(world: World, report: NodeReport, now_ms: int) -> Generator[ev.Event, None, bool]:
    """What changed of a node's health; whether it went down."""
    known, reason = world.state.nodes.get(report.node, ("ready", ""))
    if report.node not in world.fleet.node_index:
        return False
    cap = world.state.caps.get(report.node)
    if not report.up and cap is not None and cap.is_off:
        return False  # It was shut down for the grid.
    # Of a drained node nothing changes: it gets no work either way, and coming up again is no leave to take any.
    if not report.up and known == "ready":
        yield ev.NodeStateChanged(report.node, "down", report.reason or "its engine reports it down")
        return True
    if report.up and known == "down":
        falls = [at_ms for at_ms in world.state.falls.get(report.node, ()) if now_ms - at_ms <= FLAPPING_MS]
        if len(falls) >= FLAPPING_FALLS:
            reason = f"flapping: it went down {len(falls)} times within an hour, last after: {reason}"
            yield ev.NodeStateChanged(report.node, "draining", reason)
        else:
            yield ev.NodeStateChanged(report.node, "ready", f"back up after: {reason}")
    return False


def _fallen(world: World, nodes: Sequence[NodeId], now_ms: int) -> Deciding:
    """What never began on nodes that went down waits there for nothing; what was reserved there is to be had elsewhere."""
    for placement in on_nodes(world, set(nodes)):
        if not placement.started_ms and placement.stop_reason is None:
            node = NodeId(next(rank.node for rank in placement.ranks if rank.node in nodes))
            detail = f"it had not begun, and {node} went down: {world.state.nodes[node][1]}"
            yield ev.EvictionRequested(placement.id, EndReason.NODE_LOST, detail)
    yield from replace_reserved(world, nodes, now_ms)


def _intruder(world: World, report: NodeReport) -> Deciding:
    """Somebody came to a node, or left it; an alarm where that draws more than an element above it can carry."""
    if (
        report.foreign == world.state.intruders.get(report.node, "")
        or report.node not in world.fleet.node_index
    ):
        return
    before = bool(world.state.intruders.get(report.node))
    yield ev.NodeIntruded(report.node, report.foreign)
    if before or not report.foreign:
        return
    for element in world.over(report.node):
        drawn_w, limit_w = int(world.power_w[element]), int(world.fleet.power_limit_w[element])
        if drawn_w > limit_w:
            name = world.fleet.power_ids[element]
            detail = (
                f"{drawn_w} W could be drawn, {limit_w} W are allowed: {report.foreign} runs on {report.node}"
            )
            yield ev.AlarmRaised(1, name, detail)


def _placement(
    world: World, placement: Placement, report: PlacementReport, command: c.Observe, now_ms: int
) -> Deciding:
    ranks = report.ranks
    if all(rank.state in _OVER for rank in ranks):
        if not placement.started_ms and any(rank.running_ms or rank.paused_ms for rank in ranks):
            # It ended before it was seen running: that it ran, and how it was isolated, is told all the same.
            yield ev.PlacementStarted(placement.id, dict(report.endpoints), command.isolation)
        yield from _end(world, placement, ranks, now_ms)
        return
    if not placement.started_ms and all(rank.state is not RankState.STARTING for rank in ranks):
        yield ev.PlacementStarted(placement.id, dict(report.endpoints), command.isolation)
    if placement.stop_reason is None:
        yield from _gang(placement, ranks)
    if placement.started_ms and placement.stop_reason is None:
        live = [rank.state for rank in ranks if rank.state not in _OVER]
        paused = all(state is RankState.PAUSED for state in live)
        running = all(state is RankState.RUNNING for state in live)
        if (paused and not placement.paused) or (running and placement.paused):
            yield ev.PauseObserved(placement.id, paused)
    due = command.meter_ms is not None and now_ms - placement.metered_ms >= command.meter_ms
    if due and placement.started_ms:
        usage = _usage(placement, ranks)
        if usage != placement.metered:
            yield ev.UsageMetered(placement.id, usage)


def _gang(placement: Placement, ranks: Sequence[RankReport]) -> Deciding:
    """A gang never half runs: one rank that ended badly takes the others with it."""
    for rank in ranks:
        if rank.state is RankState.LOST:
            yield ev.EvictionRequested(
                placement.id, EndReason.NODE_LOST, f"rank {rank.rank} was lost with its node{_told(rank)}"
            )
            return
        if rank.state is RankState.EXITED and rank.reason == EndReason.MAX_DURATION:
            # Not a failure that would have a cluster or a service start anew: all of its ranks have the same time.
            yield ev.EvictionRequested(placement.id, EndReason.MAX_DURATION, OUTLIVED)
            return
        if rank.state is RankState.EXITED and rank.exit_code != 0:
            detail = f"rank {rank.rank} ended with exit code {rank.exit_code}{_because(rank)}"
            yield ev.EvictionRequested(placement.id, EndReason.RANK_FAILED, detail)
            return


def _told(rank: RankReport) -> str:
    return f": {rank.detail}" if rank.detail else ""


def _because(rank: RankReport) -> str:
    return f" ({rank.reason}{': ' + rank.detail if rank.detail else ''})" if rank.reason else ""


def _usage(placement: Placement, ranks: Sequence[RankReport]) -> tuple[tuple[int, int], ...]:
    """Cumulative usage by rank, never below what was metered: a record that lost its tail takes nothing back."""
    before = placement.metered or ((0, 0),) * len(ranks)
    return tuple(
        (max(rank.running_ms, old[0]), max(rank.paused_ms, old[1]))
        for rank, old in zip(ranks, before, strict=True)
    )


_ASKED_TO_GO = frozenset(
    {EndReason.STOPPED, EndReason.PREEMPTED, EndReason.DRAINED, EndReason.CURTAILED, EndReason.FORBIDDEN}
)


def _reason(placement: Placement, ranks: Sequence[RankReport]) -> tuple[EndReason, str]:
    for rank in ranks:
        if rank.reason == EndReason.START_FAILED:
            detail = f"rank {rank.rank} did not start: {rank.detail}"
            return placement.stop_reason or EndReason.START_FAILED, detail
        if rank.reason == EndReason.MAX_DURATION and placement.stop_reason in (None, EndReason.MAX_DURATION):
            return EndReason.MAX_DURATION, OUTLIVED
    if placement.stop_reason in _ASKED_TO_GO:
        # Also with exit code 0: ending well on SIGTERM is not having done the work.
        return placement.stop_reason, ""
    if all(rank.exit_code == 0 for rank in ranks):
        return EndReason.EXITED, "ended by itself"
    if placement.stop_reason is not None:
        return placement.stop_reason, ""
    lost = [rank for rank in ranks if rank.state is RankState.LOST]
    if lost:
        return EndReason.NODE_LOST, f"rank {lost[0].rank} was lost{_told(lost[0])}"
    bad = next(rank for rank in ranks if rank.exit_code != 0)
    return EndReason.EXITED, f"rank {bad.rank} ended with exit code {bad.exit_code}"


def _told_to_end(work: Workload, reason: EndReason) -> EndReason:
    """A lease that lasted for its time ends as one that its tenant deletes then: it was asked for with it."""
    is_lease_over = reason is EndReason.MAX_DURATION and work.spec.type is WorkloadType.CLUSTER
    return EndReason.STOPPED if is_lease_over else reason


def _end(world: World, placement: Placement, ranks: Sequence[RankReport], now_ms: int) -> Deciding:
    work = world.state.workloads[placement.workload]
    reason, detail = _reason(placement, ranks)
    reason = _told_to_end(work, reason)
    codes = tuple(_UNKNOWN_CODE if rank.exit_code is None else rank.exit_code for rank in ranks)
    yield ev.PlacementEnded(
        placement=placement.id,
        reason=reason,
        exit_codes=codes,
        ranks=_usage(placement, ranks),
        estimated=any(rank.estimated for rank in ranks),
        detail=detail or work.reason,
    )
    yield from _requeue(work, reason, now_ms)


def _end_unseen(world: World, placement: Placement, reason: EndReason, detail: str, now_ms: int) -> Deciding:
    """End a placement that no engine can say more of: what was metered stands, and the end is marked estimated."""
    ranks = placement.metered or ((0, 0),) * len(placement.ranks)
    codes = (_UNKNOWN_CODE,) * len(ranks)
    if reason is EndReason.MAX_DURATION:
        detail = OUTLIVED
    reason = _told_to_end(world.state.workloads[placement.workload], reason)
    yield ev.PlacementEnded(
        placement.id, reason, codes, ranks, estimated=bool(placement.started_ms), detail=detail
    )
    yield from _requeue(world.state.workloads[placement.workload], reason, now_ms)


def _requeue(work: Workload, reason: EndReason, now_ms: int) -> Deciding:
    if work.state is not State.QUEUED:
        return
    gently = reason in (
        EndReason.PREEMPTED,
        EndReason.DRAINED,
        EndReason.NODE_LOST,
        EndReason.CURTAILED,
        EndReason.FORBIDDEN,
    )
    not_before_ms = 0 if gently else now_ms + backoff_ms(work.attempt)
    yield ev.WorkloadRequeued(work.id, work.reason, not_before_ms)
