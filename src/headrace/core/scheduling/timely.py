"""For :mod:`~headrace.core.scheduling.check`: who may be on the nodes of a window, and who has to go for one.

By the words of the promise.
Nothing here is shared with :mod:`headrace.core.scheduling.windows`, which the planner reads.
"""

from collections.abc import Iterator

from headrace.core.scheduling.equals import may_be_evicted
from headrace.core.scheduling.ground import Ground
from headrace.core.scheduling.proposal import Eviction
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import Placement, Workload, WorkloadSpec

_MOST_GRACE_MS = 15 * 60_000
"""The longest grace that anybody is given who has to make room."""


def must_go(
    snapshot: Snapshot, ground: Ground, placement: Placement, victim: Workload, eviction: Eviction
) -> bool:
    """Whether even a firm one has to go: its reservation is over, others' time is come, or works begin when it had its grace.

    Beside a reservation's nodes too, who was paused beyond its limit.
    """
    now_ms = snapshot.now_ms
    for window in snapshot.windows:
        if window.id != eviction.window or eviction.waiting is not None:
            continue
        if victim.spec.reservation == window.id:
            return now_ms >= window.ends_ms
        spots = [ground.find(rank.node) for rank in placement.ranks]
        is_there = any(spot is not None and spot.index in window.nodes for spot in spots)
        grace_ms = min(victim.spec.grace_ms, _MOST_GRACE_MS)
        if not window.starts_ms - grace_ms - 60_000 <= now_ms < window.ends_ms:
            return False
        over_ms = (placement.started_ms or placement.made_ms) + victim.spec.max_duration_ms + grace_ms
        has_outlived = victim.spec.max_duration_ms > 0 and over_ms <= now_ms
        here = ground.site_of.get(placement.site) == window.site
        is_due = window.tenant is None or window.starts_ms <= now_ms
        return (is_there and is_due) or (here and has_outlived and window.tenant is not None)
    return False


def wrong_in_windows(snapshot: Snapshot, workload: Workload, index: int, node: str) -> Iterator[str]:
    """Why a workload may not start on a node (``index`` in the estate's order).

    A node in a window is for who names it; before it begins, for who is gone by then or can be made to go. Who runs in a
    reservation is told to go when that one ends.
    """
    now_ms, spec, is_named = snapshot.now_ms, workload.spec, False
    ends_ms = min((one.ends_ms for one in snapshot.windows if one.id == spec.reservation), default=None)
    for window in snapshot.windows:
        if now_ms >= window.ends_ms or index not in window.nodes:
            continue
        is_on = window.starts_ms <= now_ms
        if spec.reservation == window.id and window.tenant == workload.tenant:
            is_named = is_on
        elif is_on:
            yield f"node {node} is in window {window.id} now"
        elif ends_ms is not None and ends_ms <= window.starts_ms:
            continue
        elif not _is_gone(spec, window.starts_ms - now_ms):
            yield f"it may still be on node {node} when {window.id} begins"
    if spec.reservation is not None and not is_named:
        yield f"node {node} is not of its reservation {spec.reservation} now"


def _is_gone(spec: WorkloadSpec, within_ms: int) -> bool:
    """Whether what starts now is gone in time: told to go at once, or ended by its limit, it has its grace."""
    if may_be_evicted(spec):
        return spec.grace_ms <= min(within_ms, _MOST_GRACE_MS)
    return spec.max_duration_ms > 0 and spec.max_duration_ms + spec.grace_ms <= within_ms


def is_quiet(snapshot: Snapshot, ground: Ground, placement: Placement) -> bool:
    """Whether it is paused for the grid, seen so, on an engine whose word is that what is paused draws as an idle one."""
    spots = [ground.find(rank.node) for rank in placement.ranks]
    engine = next((spot.group.engine for spot in spots if spot is not None), "")
    said = snapshot.engines.get(engine)
    return bool(placement.curtailed and placement.paused and said is not None and said.pause_sheds)
