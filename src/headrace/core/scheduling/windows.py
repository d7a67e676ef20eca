"""Windows of time: nodes that are a reservation's alone, or nobody's, from one moment until another.

Before a window begins, only who is sure to be gone by then may be on its nodes: by the limit of its duration, or because
it may be evicted. Who lasts beyond that leaves the power that a reservation's nodes can draw.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headrace.core.contracts import Maintenance, Reservation
from headrace.core.fleet import I64, Fleet
from headrace.core.ids import NodeId, TenantId, WindowId
from headrace.core.scheduling.columns import Columns
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.units import MS_PER_MINUTE, ceil_div
from headrace.core.workload import MOST_GRACE_MS, Flex, WorkloadSpec, WorkloadType


@dataclass(frozen=True, slots=True)
class Window:
    """Nodes (indexes in the fleet) of a site that are ``tenant``'s alone from ``starts_ms`` until ``ends_ms``; None: nobody's."""

    id: WindowId
    tenant: TenantId | None
    site: int
    nodes: tuple[int, ...]
    starts_ms: int
    ends_ms: int

    def is_on(self, now_ms: int) -> bool:
        """Whether it is going on."""
        return self.starts_ms <= now_ms < self.ends_ms


class Hold(NamedTuple):
    """Nodes that only who is gone by ``until_ms`` may use; ``hard``: even if it was paused meanwhile.

    ``priority``: of the workload that they are kept for, which tells those to go that it may evict. ``is_sold``: for a
    reservation, which keeps the power too that they can draw.
    """

    nodes: I64
    until_ms: int
    hard: bool
    priority: int = 0
    is_sold: bool = False


LEAD_MS = MS_PER_MINUTE
"""How long before a window those on its nodes who may be evicted are told to go at the latest."""
_STEP_MS = LEAD_MS // 2
MOST_LEAD_MS = MOST_GRACE_MS["preemptible"] + _STEP_MS
"""And at the earliest, whatever grace they have."""


def lead_ms(spec: WorkloadSpec) -> int:
    """How long before a window a workload is told to go: its grace, and half a minute to be told and to be seen gone.

    In half minutes, so that whoever plans knows when to look.
    """
    return min(MOST_LEAD_MS, max(LEAD_MS, (ceil_div(spec.grace_ms, _STEP_MS) + 1) * _STEP_MS))


def limit_ms(spec: WorkloadSpec, began_ms: int) -> int:
    """When a workload that began at ``began_ms`` and has a limit is gone for certain, unless it was paused: it has its grace."""
    return began_ms + spec.max_duration_ms + max(lead_ms(spec), spec.grace_ms)


def moments_of(window: Window, now_ms: int) -> Iterator[int]:
    """When time alone changes who may be on a window's nodes: when somebody is told to go, when it begins, when it ends."""
    told_ms = window.starts_ms - MOST_LEAD_MS
    if told_ms <= now_ms < window.starts_ms:
        told_ms = window.starts_ms - (window.starts_ms - now_ms - 1) // _STEP_MS * _STEP_MS
    yield from (moment for moment in (told_ms, window.starts_ms, window.ends_ms) if moment > now_ms)


class Ends(NamedTuple):
    """When a workload that starts now is gone: as expected, by its limit, and for certain (or when told to); None: not known.

    ``goes_for``: the least priority for which it may be told to go; None: for none.
    """

    expected_ms: int | None
    limit_ms: int | None
    certain_ms: int | None
    goes_for: int | None

    def is_gone_by(self, hold: Hold) -> bool:
        """Whether it may be on nodes that are held.

        What is expected of it counts only if it can be told to go should it last longer: a word costs nothing.
        """
        end_ms = self.limit_ms
        if hold.hard:
            end_ms = self.certain_ms
        elif self.goes_for is not None and self.goes_for <= hold.priority:
            end_ms = self.expected_ms
        return end_ms is not None and end_ms <= hold.until_ms


def may_be_evicted(spec: WorkloadSpec) -> bool:
    """Whether a workload may be told to go for another."""
    return spec.type is WorkloadType.FILLER or spec.flex is Flex.PREEMPTIBLE


def makes_room(spec: WorkloadSpec) -> bool:
    """Whether a workload is sure to be gone when a window begins that it is told to go for."""
    return may_be_evicted(spec) and spec.grace_ms < lead_ms(spec)


def must_clear(window: Window, spec: WorkloadSpec, began_ms: int, *, on_its_nodes: bool, now_ms: int) -> bool:
    """Whether a workload at a window's site, there since ``began_ms``, has to go because the window begins, or because the
    one that it runs in is over.

    For a reservation who may be evicted goes early enough for its grace; and once it has begun who was to have ended: work
    that was paused may outlive its limit. Beside its nodes too, for the power that the nodes were admitted with. For
    maintenance everybody goes.
    """
    if spec.reservation == window.id:
        return now_ms >= window.ends_ms
    if not window.starts_ms - lead_ms(spec) <= now_ms < window.ends_ms:
        return False
    # Once its limit had its time: until then it is the engine that ends it, for good.
    is_late = spec.max_duration_ms > 0 and limit_ms(spec, began_ms) <= now_ms
    if not on_its_nodes:
        return window.tenant is not None and is_late and spec.reservation is None
    is_due = is_late or (spec.max_duration_ms > 0 and window.is_on(now_ms))
    return window.tenant is None or may_be_evicted(spec) or is_due


def ends_of(spec: WorkloadSpec, now_ms: int) -> Ends:
    """When a workload is gone that starts now."""
    said_ms = [lasts_ms for lasts_ms in (spec.expected_ms, spec.max_duration_ms) if lasts_ms]
    expected_ms = now_ms + min(said_ms) if said_ms else None
    ends_ms = now_ms + spec.max_duration_ms if spec.max_duration_ms else None
    if may_be_evicted(spec):
        goes_for = spec.priority + (spec.type is not WorkloadType.FILLER)
        certain_ms = now_ms + lead_ms(spec) if makes_room(spec) else None
        return Ends(expected_ms, ends_ms, certain_ms, goes_for)
    # Its time runs from its start, which may come a moment after its placement; and then it has its grace.
    return Ends(expected_ms, ends_ms, limit_ms(spec, now_ms) if ends_ms else None, None)


def holds_of(windows: tuple[Window, ...], now_ms: int) -> Iterator[tuple[int, Hold]]:
    """What windows hold now, by site: all of them that are not over."""
    for window in windows:
        if now_ms < window.ends_ms:
            # Who starts now is gone at the earliest a moment later: nothing starts once it has begun.
            until_ms = window.starts_ms if window.starts_ms > now_ms else now_ms - 1
            nodes = np.array(window.nodes, dtype=np.int64)
            yield window.site, Hold(nodes, until_ms, hard=True, is_sold=window.tenant is not None)


def kept_w(columns: Columns, snapshot: Snapshot, besides: Collection[int] = ()) -> dict[int, int]:
    """Watts, by element, that the nodes of reservations can draw beyond what they draw now: kept from whoever stays.

    ``besides``: nodes that don't count, since who asks is on them.
    """
    kept: dict[int, int] = {}
    for window in snapshot.windows:
        if window.tenant is None or snapshot.now_ms >= window.ends_ms:
            continue
        counted = [node for node in window.nodes if node not in besides]
        nodes = np.array(counted, dtype=np.int64)
        free = np.bitwise_count(columns.full[nodes] & ~snapshot.node_mask[nodes]).astype(np.int64)
        more = free * columns.step_w[nodes]
        more += np.where(snapshot.node_ranks[nodes] == 0, columns.wake_w[nodes], 0)
        for node, watts in zip(counted, more.tolist(), strict=True):
            for element in columns.rows[node][2]:
                kept[element] = kept.get(element, 0) + watts
    return kept


def windows_of(
    fleet: Fleet,
    reservations: Mapping[WindowId, Reservation],
    maintenances: Mapping[WindowId, Maintenance],
    reserved: Mapping[WindowId, tuple[str, ...]],
) -> Iterator[Window]:
    """All windows with the nodes of each that the fleet has; ``reserved``: those chosen for reservations."""
    for one in reservations.values():
        nodes = [
            fleet.node_index[node]
            for name in reserved.get(one.id, ())
            if (node := NodeId(name)) in fleet.node_index
        ]
        if nodes and one.site in fleet.site_index:
            site = fleet.site_index[one.site]
            yield Window(one.id, one.tenant, site, tuple(sorted(nodes)), one.starts_ms, one.ends_ms)
    for other in maintenances.values():
        if other.site in fleet.site_index:
            site = fleet.site_index[other.site]
            yield Window(
                other.id, None, site, parts_of(fleet, site, other.parts), other.starts_ms, other.ends_ms
            )


def parts_of(fleet: Fleet, site: int, parts: tuple[str, ...]) -> tuple[int, ...]:
    """The nodes of a site in blocks, racks and nodes of these names (with the site's or without); none: all of them."""
    names = {
        name if name.startswith(f"{fleet.sites[site].id}/") else f"{fleet.sites[site].id}/{name}"
        for name in parts
    }
    found = []
    for node in np.flatnonzero(fleet.node_site == site).tolist():
        ident = fleet.node_ids[node]
        leaf = int(fleet.node_leaf[node])
        above = {fleet.power_ids[element] for element in fleet.path(leaf)}
        if not names or ident in names or names & above:
            found.append(node)
    return tuple(found)
