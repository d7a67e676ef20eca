"""Who holds nodes, by site and by node, kept from plan to plan and made when somebody asks."""

from collections.abc import Callable

from headrace.core.ids import PlacementId
from headrace.core.scheduling.leaving import Holder, holder_of
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import Placement, WorkloadSpec

Move = tuple[Placement, int]
"""A placement that took (1) or gave back (-1) what it has."""
_MOST_MOVES = 100_000
"""After more than these it costs less to look at all of them, once somebody asks."""


class Held:
    """The live placements of some workloads, in the order in which they were made; ``wanted``: of which (None: all).

    ``turned``: site and node wherever somebody came or went, in order; None once that is no longer known. ``told``: by site,
    of how many it was said when they end.
    """

    def __init__(self, wanted: Callable[[WorkloadSpec], bool] | None = None) -> None:
        self.on_node: dict[int, list[Holder]] = {}
        self.told: dict[int, int] = {}
        self.turned: list[tuple[int, int]] | None = None
        self._wanted = wanted
        self._sites: dict[int, dict[PlacementId, Holder]] | None = None
        self._moves: list[Move] = []

    def clear(self) -> None:
        """Nothing is known any more."""
        self._sites = self.turned = None
        self._moves.clear()

    def moved(self, placement: Placement, sign: int) -> None:
        """One of them has taken (1) or given back (-1) what it has."""
        if self._sites is not None:
            self._moves.append((placement, sign))
            if len(self._moves) > _MOST_MOVES:
                self.clear()

    def at(self, snapshot: Snapshot, site: int) -> dict[PlacementId, Holder]:
        """Those at a site."""
        if self._sites is None:
            self._sites, self.on_node, self.told, self.turned = {}, {}, {}, None
            for placement in snapshot.placements.values():
                self._enter(snapshot, self._sites, placement)
        sites = self._sites
        for placement, sign in self._moves:
            if sign > 0:
                holder = self._enter(snapshot, sites, placement)
            else:
                here = sites.get(snapshot.fleet.site_index[placement.site])
                holder = here.pop(placement.id, None) if here else None
                if holder is not None:
                    self.told[holder.site] -= bool(holder.bounds_ms)
                    for use in holder.uses:
                        self.on_node[use.node].remove(holder)
            if holder is not None and self.turned is not None:
                self.turned += [(holder.site, use.node) for use in holder.uses]
        self._moves.clear()
        return sites.get(site, {})

    def _enter(
        self, snapshot: Snapshot, sites: dict[int, dict[PlacementId, Holder]], placement: Placement
    ) -> Holder | None:
        if self._wanted is not None:
            workload = snapshot.workloads.get(placement.workload)
            if workload is None or not self._wanted(workload.spec):
                return None
        holder = holder_of(snapshot, placement)
        if holder is not None:
            sites.setdefault(holder.site, {})[placement.id] = holder
            self.told[holder.site] = self.told.get(holder.site, 0) + bool(holder.bounds_ms)
            for use in holder.uses:
                self.on_node.setdefault(use.node, []).append(holder)
        return holder
