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
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import Flex, WorkloadSpec, WorkloadType


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
    """Nodes that only who is gone by ``until_ms`` may use; ``hard``: for certain, not only as expected."""

    nodes: I64
    until_ms: int
    hard: bool


LEAD_MS = MS_PER_MINUTE
"""How long before a window those on its nodes who may be evicted are told to go."""


class Ends(NamedTuple):
    """When a workload that starts now is gone: as expected, and for certain (or when told to); None: not known."""

    expected_ms: int | None
    certain_ms: int | None

    def is_gone_by(self, hold: Hold) -> bool:
        """Whether it may be on nodes that are held."""
        end_ms = self.certain_ms if hold.hard else self.expected_ms
        return end_ms is not None and end_ms <= hold.until_ms


def may_be_evicted(spec: WorkloadSpec) -> bool:
    """Whether a workload may be told to go for another."""
    return spec.type is WorkloadType.FILLER or spec.flex is Flex.PREEMPTIBLE


def must_clear(window: Window, spec: WorkloadSpec, *, on_its_nodes: bool, now_ms: int) -> bool:
    """Whether a workload has to go because a window begins, or because the one that it runs in is over.

    For a reservation who may be evicted goes shortly before; and once it has begun who was to have ended: work that was
    paused may outlive its limit. For maintenance everybody goes.
    """
    if spec.reservation == window.id:
        return now_ms >= window.ends_ms
    if not on_its_nodes or not window.starts_ms - LEAD_MS <= now_ms < window.ends_ms:
        return False
    return (
        window.tenant is None or may_be_evicted(spec) or (spec.max_duration_ms > 0 and window.is_on(now_ms))
    )


def ends_of(spec: WorkloadSpec, now_ms: int) -> Ends:
    """When a workload is gone that starts now."""
    bound_ms = spec.expected_ms or spec.max_duration_ms
    expected_ms = now_ms + bound_ms if bound_ms else None
    if may_be_evicted(spec):
        return Ends(expected_ms, now_ms + LEAD_MS)
    # Its time runs from its start, which may come a moment after its placement.
    return Ends(expected_ms, now_ms + spec.max_duration_ms + LEAD_MS if spec.max_duration_ms else None)


def holds_of(windows: tuple[Window, ...], now_ms: int) -> Iterator[tuple[int, Hold]]:
    """What windows hold now, by site: all of them that are not over."""
    for window in windows:
        if now_ms < window.ends_ms:
            # Who starts now is gone at the earliest a moment later: nothing starts once it has begun.
            until_ms = window.starts_ms if window.starts_ms > now_ms else now_ms - 1
            yield window.site, Hold(np.array(window.nodes, dtype=np.int64), until_ms, hard=True)


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
