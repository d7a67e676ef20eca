"""Admission of reservations: the nodes that one gets, in advance, against all others, against what stays, and against power."""

from collections.abc import Sequence
from dataclasses import dataclass, field
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
from headrace.core.scheduling.rank import choose, has_room, increments_w, suits
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import Window, lead_ms, limit_ms, makes_room, may_be_evicted
from headrace.core.units import MS_PER_SECOND
from headrace.core.workload import Placement

_MOST_NAMED = 3


@dataclass(slots=True)
class _Then:
    """What is sure to be free all through a window, and what is in its way: windows and workloads by node, and until when."""

    state: Scratch
    closed: dict[int, str] = field(default_factory=dict)
    held: dict[int, str] = field(default_factory=dict)


def nodes_for(
    snapshot: Snapshot, wanted: Reservation, windows: Sequence[Window], keep: Sequence[int] = ()
) -> tuple[int, ...] | Problem:
    """The nodes of a reservation, ascending; a Problem (CONFLICT) that says how many there would be, and what is in the way.

    ``windows``: all others. ``keep``: nodes that it already has, and keeps as far as they are what it asks for and their power
    is there.
    """
    if wanted.ends_ms <= snapshot.now_ms:
        message = f"reservation {wanted.id} is over: it ended before now;"
        return Problem(
            ProblemCode.CONFLICT, message, "give it an end that is to come.", where=f"reservation {wanted.id}"
        )
    columns, site = columns_of(snapshot.fleet), snapshot.fleet.site_index[wanted.site]
    then = _then(snapshot, columns, wanted, windows)
    state = then.state
    kept = _kept(columns, state, wanted, site, keep)
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
    best = _choose(columns, state, wanted, low, site)
    _take(columns, state, [] if best is None else best.tolist())
    message = (
        f"reservation {wanted.id} asks for {wanted.nodes} nodes of {wanted.model} at {wanted.site}; "
        f"{most} of them are sure to be free then, with the power that they can draw"
        f"{_in_the_way(snapshot, columns, then, wanted, site)};"
    )
    step = f"ask for at most {most}, or for another time." if most else "ask for another time or site."
    return Problem(ProblemCode.CONFLICT, message, step, where=f"reservation {wanted.id}")


def _ask(wanted: Reservation, count: int) -> Ask:
    return Ask(count, wanted.model, 0, 0, 0, whole=True)


def _choose(columns: Columns, state: Scratch, wanted: Reservation, count: int, site: int) -> I64 | None:
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    return choose(columns, state, _ask(wanted, count), site)


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


def _kept(columns: Columns, state: Scratch, wanted: Reservation, site: int, keep: Sequence[int]) -> list[int]:
    """Of the nodes that it has those that are what it asks for, and that the power tree carries together."""
    span, model = columns.spans[site], columns.models.get(wanted.model, -1)
    left: dict[int, int] = {}
    kept: list[int] = []
    for node in keep:
        is_one = span.start <= node < span.stop and int(columns.model[node]) == model
        if not is_one or not state.open[node] or len(kept) == wanted.nodes:
            continue
        step_w, wake_w, path = columns.rows[node]
        need_w = int(columns.total[node]) * step_w + wake_w
        # Who is on it until the window begins draws there already.
        if state.ranks[node]:
            need_w = int(state.free[node]) * step_w
        if all(left.setdefault(element, int(state.head_w[element])) >= need_w for element in path):
            for element in path:
                left[element] -= need_w
            kept.append(node)
    return kept


def _then(snapshot: Snapshot, columns: Columns, wanted: Reservation, windows: Sequence[Window]) -> _Then:
    """What is sure to be free all through a window: without what may be evicted, or ends before."""
    fleet = snapshot.fleet
    state = empty_scratch(columns, _day(wanted.starts_ms))
    then = _Then(state)
    here = fleet.node_from_day <= _day(snapshot.now_ms)
    state.open &= (fleet.node_from_day <= _day(wanted.starts_ms)) & (snapshot.node_open | ~here)
    for window in windows:
        if window.id != wanted.id and window.starts_ms < wanted.ends_ms and wanted.starts_ms < window.ends_ms:
            nodes = [node for node in window.nodes if state.open[node]]
            state.open[np.array(window.nodes, dtype=np.int64)] = False
            kind = "maintenance" if window.tenant is None else "reservation"
            then.closed |= dict.fromkeys(window.nodes, f"{kind} {window.id}")
            if window.tenant is not None:
                _take(columns, state, nodes)
    for placement in snapshot.placements.values():
        why = _stays(snapshot, placement, wanted) if placement.site == wanted.site else ""
        if why:
            uses = use_of(fleet, placement.ranks, snapshot.tenant_number(placement.tenant))
            shift(columns, state, uses, -1)
            then.held |= {use.node: f"{placement.workload}, {why}" for use in uses}
    return then


def _stays(snapshot: Snapshot, placement: Placement, wanted: Reservation) -> str:
    """Why a placement may still be there when a window begins; "" for one that is sure to be gone.

    What begins at once has its nodes when those who may be evicted are gone.
    """
    workload = snapshot.workloads.get(placement.workload)
    # What runs in another reservation is counted with all of that one's nodes.
    if workload is None or workload.spec.reservation is not None:
        return ""
    spec, starts_ms = workload.spec, max(wanted.starts_ms, snapshot.now_ms)
    if placement.stop_reason is not None:
        gone_ms = placement.stop_since_ms + max(lead_ms(spec), spec.grace_ms)
        return "which has until then to stop" if starts_ms < gone_ms else ""
    if makes_room(spec):
        is_soon = snapshot.now_ms < wanted.starts_ms < snapshot.now_ms + lead_ms(spec)
        return "which would be told to go too late for its grace" if is_soon else ""
    if not spec.max_duration_ms:
        return f"which has {'too long a grace' if may_be_evicted(spec) else 'no max_duration'}"
    is_late = limit_ms(spec, placement.started_ms or snapshot.now_ms) > starts_ms
    return "which may last longer" if is_late else ""


def _in_the_way(snapshot: Snapshot, columns: Columns, then: _Then, wanted: Reservation, site: int) -> str:
    """What keeps the nodes that it lacks: other windows, nodes that are not ready, who stays; else their power."""
    state, ask, span = then.state, _ask(wanted, 1), columns.spans[site]
    suit = np.flatnonzero(suits(columns, ask, site)) + span.start
    causes: dict[str, int] = {}
    for node in suit.tolist():
        closed = "" if state.open[node] else "not ready or not there yet"
        cause = then.closed.get(node) or closed or then.held.get(node)
        if cause:
            causes[cause] = causes.get(cause, 0) + 1
    roomy = suit[(state.open[span] & has_room(columns, state, ask, site))[suit - span.start]]
    if len(roomy):
        tight = columns.paths[:, roomy[0]]
        least = tight[state.head_w[tight] < increments_w(columns, state, ask, roomy[:1])[0]]
        if len(least):
            causes[f"the power of {snapshot.fleet.power_ids[int(least[0])]} carries no more"] = 0
    named = [f"{cause} ({count})" if count else cause for cause, count in causes.items()]
    if not named:
        return f": there are {len(suit)}"
    others = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return f": in the way {'are' if len(named) > 1 else 'is'} {'; '.join(named[:_MOST_NAMED])}{others}"


def _day(at_ms: int) -> int:
    day = datetime.fromtimestamp(at_ms // MS_PER_SECOND, UTC)
    return day.year * 10_000 + day.month * 100 + day.day
