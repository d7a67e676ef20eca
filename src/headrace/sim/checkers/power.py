"""Promise 1, power: what runs plus what starts never draws more than an element of the tree may carry."""

from collections.abc import Iterable

from headrace.core.events import Committed, DocumentApplied, PlacementEnded, PlacementMade
from headrace.core.workload import RankPlace
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Ground, Papers, draw_w, iso_day


class PowerChecker(Checker):
    """Counts a placement at nameplate from ``PlacementMade`` to ``PlacementEnded``; an idle node draws its idle watts.

    Only the paths that an event touches are looked at. Applying an estate with lower limits is no violation by
    itself: the next placement below an element over its limit is, and so is standing over it at rest.
    """

    promise = 1

    def __init__(self, papers: Papers | None = None) -> None:
        self.placements: dict[str, tuple[RankPlace, ...]] = {}
        self.on_node: dict[str, list[RankPlace]] = {}
        self.above_idle_w: dict[str, int] = {}
        self.day = -1
        self.today = ""
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements, and the estate."""
        return ((PlacementMade, self._made), (PlacementEnded, self._ended), (DocumentApplied, self._applied))

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        self._at(committed.at_ms)
        if event.placement in self.placements:
            return
        self.placements[event.placement] = event.ranks
        ground = self.papers.ground
        touched: dict[str, None] = {}
        for rank in event.ranks:
            for element in self._add(ground, rank, 1):
                touched[element] = None
        self._compare(touched)

    def _ended(self, committed: Committed, event: PlacementEnded) -> None:
        self._at(committed.at_ms)
        for rank in self.placements.pop(event.placement, ()):
            self._add(self.papers.ground, rank, -1)

    def _applied(self, _committed: Committed, event: DocumentApplied) -> None:
        if event.kind != "estate":
            return
        self.on_node.clear()
        self.above_idle_w.clear()
        for ranks in self.placements.values():
            for rank in ranks:
                self._add(self.papers.ground, rank, 1)

    def at_rest(self, now_ms: int) -> None:
        """Look at every element below which anything runs."""
        self._at(now_ms)
        self._compare(self.above_idle_w)

    def _at(self, at_ms: int) -> None:
        day = at_ms // 86_400_000
        if day != self.day:
            self.day, self.today = day, iso_day(at_ms)

    def _add(self, ground: Ground, rank: RankPlace, sign: int) -> tuple[str, ...]:
        """Put a rank on its node (or, with ``sign`` -1, take it away); the elements whose draw changed."""
        spot = ground.spots.get(rank.node)
        if spot is None:
            return ()
        ranks = self.on_node.setdefault(rank.node, [])
        before_w = draw_w(spot.hardware, _taken(ranks), len(ranks))
        if sign > 0:
            ranks.append(rank)
        elif rank in ranks:
            ranks.remove(rank)
        more_w = draw_w(spot.hardware, _taken(ranks), len(ranks)) - before_w
        above = self.above_idle_w
        for element in spot.path:
            above[element] = above.get(element, 0) + more_w
        return spot.path

    def _compare(self, elements: Iterable[str]) -> None:
        ground = self.papers.ground
        idle_w = ground.idle_w(self.today)
        for element in elements:
            limit_w = ground.limit_w.get(element)
            if limit_w is None:
                continue
            load_w = idle_w.get(element, 0) + self.above_idle_w.get(element, 0)
            if load_w > limit_w:
                self.found("power", element, f"{load_w} W of IT load could be drawn, {limit_w} W are allowed")


def _taken(ranks: Iterable[RankPlace]) -> int:
    """Accelerators that draw as taken ones: those of which anybody has any part."""
    mask = 0
    for rank in ranks:
        mask |= rank.mask
    return mask.bit_count()
