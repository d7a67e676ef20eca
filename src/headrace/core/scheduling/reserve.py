"""Admission of reservations: the nodes that one gets, in advance, against all others, against what stays, and against power."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from headrace.core.contracts import Reservation
from headrace.core.errors import Problem, ProblemCode
from headrace.core.fleet import I64
from headrace.core.scheduling.columns import (
    Ask,
    Columns,
    Scratch,
    Use,
    columns_of,
    empty_scratch,
    shift,
    use_of,
)
from headrace.core.scheduling.rank import choose
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import Window, may_be_evicted
from headrace.core.units import MS_PER_SECOND
from headrace.core.workload import Placement


def nodes_for(
    snapshot: Snapshot, wanted: Reservation, windows: Sequence[Window], keep: Sequence[int] = ()
) -> tuple[int, ...] | Problem:
    """The nodes of a reservation, ascending; a Problem (CONFLICT) that says how many there would be.

    ``windows``: all others. ``keep``: nodes that it already has, and keeps if it can.
    """
    columns, site = columns_of(snapshot.fleet), snapshot.fleet.site_index[wanted.site]
    state = _state_then(snapshot, columns, wanted, windows)
    kept = [node for node in keep if state.open[node]][: wanted.nodes]
    _take(columns, state, kept)
    missing = wanted.nodes - len(kept)
    found = _choose(columns, state, wanted, missing, site)
    if found is not None:
        return tuple(sorted([*kept, *found.tolist()]))
    low, high = 0, missing - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if _choose(columns, state, wanted, middle, site) is not None else (low, middle - 1)
        )
    most = len(kept) + low
    message = (
        f"reservation {wanted.id} asks for {wanted.nodes} nodes of {wanted.model} at {wanted.site}; "
        f"{most} of them are sure to be free then, with the power that they can draw;"
    )
    step = f"ask for at most {most}, or for another time." if most else "ask for another time or site."
    return Problem(ProblemCode.CONFLICT, message, step, where=f"reservation {wanted.id}")


def _choose(columns: Columns, state: Scratch, wanted: Reservation, count: int, site: int) -> I64 | None:
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    return choose(columns, state, Ask(count, wanted.model, 0, 0, 0, whole=True), site)


def _take(columns: Columns, state: Scratch, nodes: Sequence[int]) -> None:
    """All of each node."""
    shift(
        columns,
        state,
        [
            Use(node, int(columns.full[node]), int(columns.cpu_milli[node]), int(columns.memory_mb[node]))
            for node in nodes
        ],
        -1,
    )


def _state_then(
    snapshot: Snapshot, columns: Columns, wanted: Reservation, windows: Sequence[Window]
) -> Scratch:
    """What is sure to be free all through a window: without what may be evicted, or ends before."""
    fleet = snapshot.fleet
    state = empty_scratch(columns, _day(wanted.starts_ms))
    here = fleet.node_from_day <= _day(snapshot.now_ms)
    state.open &= (fleet.node_from_day <= _day(wanted.starts_ms)) & (snapshot.node_open | ~here)
    for window in windows:
        if window.id != wanted.id and window.starts_ms < wanted.ends_ms and wanted.starts_ms < window.ends_ms:
            nodes = [node for node in window.nodes if state.open[node]]
            state.open[np.array(window.nodes, dtype=np.int64)] = False
            if window.tenant is not None:
                _take(columns, state, nodes)
    for placement in snapshot.placements.values():
        if placement.site == wanted.site and _may_stay(snapshot, placement):
            number = snapshot.tenant_number(placement.tenant)
            uses = use_of(fleet, placement.ranks, number)
            shift(columns, state, uses, -1)
            if not _stays(snapshot, placement, wanted.starts_ms):
                # Its nodes are cleared when the window begins; its power, paused somewhere, may not be.
                head_w = state.head_w.copy()
                shift(columns, state, uses, 1)
                state.head_w = head_w
    return state


def _may_stay(snapshot: Snapshot, placement: Placement) -> bool:
    """Whether nobody could tell a placement to go."""
    workload = snapshot.workloads.get(placement.workload)
    if workload is None or placement.stop_reason is not None:
        return False
    # What runs in another reservation is counted with all of that one's nodes.
    return workload.spec.reservation is None and not may_be_evicted(workload.spec)


def _stays(snapshot: Snapshot, placement: Placement, until_ms: int) -> bool:
    """Whether a placement may still run at a moment."""
    spec = snapshot.workloads[placement.workload].spec
    begun_ms = placement.started_ms or snapshot.now_ms
    return not spec.max_duration_ms or begun_ms + spec.max_duration_ms > until_ms


def _day(at_ms: int) -> int:
    day = datetime.fromtimestamp(at_ms // MS_PER_SECOND, UTC)
    return day.year * 10_000 + day.month * 100 + day.day
