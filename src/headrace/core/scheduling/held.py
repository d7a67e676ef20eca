"""Who holds nodes, by site and by node, kept from plan to plan and made when somebody asks."""

from collections.abc import Callable, Sequence

from headrace.core.ids import PlacementId
from headrace.core.scheduling.leaving import Holder, holder_of
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import Placement, WorkloadSpec

Move = tuple[Placement, int]
"""A placement that took (1) or gave back (-1) what it has."""


class Held:
    """The live placements whose workloads are ``wanted`` (None: all), in the order in which they were made."""

    def __init__(self, wanted: Callable[[WorkloadSpec], bool] | None = None) -> None:
        self.on_node: dict[int, list[Holder]] = {}
        self._wanted = wanted
        self._sites: dict[int, dict[PlacementId, Holder]] | None = None
        self._moves: list[Move] = []

    def clear(self) -> None:
        """Nothing is known any more."""
        self._sites = None
        self._moves.clear()

    def follow(self, snapshot: Snapshot, moves: Sequence[Move]) -> None:
        """These moved since."""
        if self._sites is None:
            return
        self._moves.extend(moves)
        if len(self._moves) > len(snapshot.placements):
            # Less to look at all of them, once somebody asks.
            self.clear()

    def at(self, snapshot: Snapshot, site: int) -> dict[PlacementId, Holder]:
        """Those at a site."""
        if self._sites is None:
            self._sites, self.on_node = {}, {}
            for placement in snapshot.placements.values():
                self._enter(snapshot, self._sites, placement)
        for placement, sign in self._moves:
            at = snapshot.fleet.site_index[placement.site]
            gone = self._sites.setdefault(at, {}).pop(placement.id, None)
            if gone is not None:
                for use in gone.uses:
                    self.on_node[use.node].remove(gone)
            if sign > 0:
                self._enter(snapshot, self._sites, placement)
        self._moves.clear()
        return self._sites.get(site, {})

    def _enter(
        self, snapshot: Snapshot, sites: dict[int, dict[PlacementId, Holder]], placement: Placement
    ) -> None:
        if self._wanted is not None:
            workload = snapshot.workloads.get(placement.workload)
            if workload is None or not self._wanted(workload.spec):
                return
        holder = holder_of(snapshot, placement)
        if holder is None:
            return
        sites.setdefault(holder.site, {})[placement.id] = holder
        for use in holder.uses:
            self.on_node.setdefault(use.node, []).append(holder)
