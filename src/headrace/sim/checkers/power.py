"""Promise 1, power: what runs plus what starts never draws more than an element of the tree may carry."""

from collections.abc import Iterable

from headrace.core.events import (
    AlarmRaised,
    Committed,
    CurtailmentLifted,
    CurtailmentOrdered,
    DocumentApplied,
    EngineDeclared,
    NodeIntruded,
    PauseObserved,
    PlacementEnded,
    PlacementMade,
)
from headrace.core.workload import RankPlace
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Ground, Papers, Spot, draw_w, iso_day
from headrace.sim.checkers.quiet import Quiet, loud_mask

Here = tuple[str, RankPlace]
"""A rank, and whose: its placement."""


class PowerChecker(Checker):
    """Counts a placement at nameplate from ``PlacementMade`` to ``PlacementEnded``; an idle node draws its idle watts.

    Only the paths that an event touches are looked at. Applying an estate with lower limits is no violation by
    itself: the next placement below an element over its limit is, and so is standing over it at rest. Where strangers
    run, a node counts at nameplate until they are gone: what was there before may stand over a limit with them, and then there
    is an alarm for that element. What is paused for the grid counts less (:mod:`headrace.sim.checkers.quiet`) until it may go
    on: then there must be power for it.
    """

    promise = 1

    def __init__(self, papers: Papers | None = None) -> None:
        self.placements: dict[str, tuple[RankPlace, ...]] = {}
        self.on_node: dict[str, list[Here]] = {}
        self.quiet: dict[str, None] = {}
        self.above_idle_w: dict[str, int] = {}
        self.intruders: dict[str, None] = {}
        self.due_alarms: dict[str, str] = {}
        self.alarmed: set[str] = set()
        self.day = -1
        self.today = ""
        super().__init__(papers)
        self._pauses = Quiet(self.papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements, their pauses, and the estate."""
        return (
            (PlacementMade, self._made),
            (PlacementEnded, self._ended),
            (DocumentApplied, self._applied),
            (NodeIntruded, self._intruded),
            (AlarmRaised, self._alarm),
            (CurtailmentOrdered, self._curtailed),
            (CurtailmentLifted, self._curtailed),
            (PauseObserved, self._paused),
            (EngineDeclared, self._declared),
        )

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        self._at(committed.at_ms)
        if event.placement in self.placements:
            return
        self.placements[event.placement] = event.ranks
        self._pauses.made(event)
        self._compare(self._stand_all(event.placement, event.ranks, 1))

    def _stand_all(self, placement: str, ranks: Iterable[RankPlace], sign: int) -> dict[str, None]:
        """Put all ranks of a placement on their nodes (or take them away); the elements whose draw changed."""
        ground = self.papers.ground
        touched: dict[str, None] = {}
        for rank in ranks:
            for element in self._add(ground, (placement, rank), sign):
                touched[element] = None
        return touched

    def _ended(self, committed: Committed, event: PlacementEnded) -> None:
        self._at(committed.at_ms)
        self._stand_all(event.placement, self.placements.pop(event.placement, ()), -1)
        self.quiet.pop(event.placement, None)
        self._pauses.ended(event)

    def _curtailed(self, committed: Committed, event: CurtailmentOrdered | CurtailmentLifted) -> None:
        self._pauses.ordered(event)
        before = dict(self.above_idle_w)
        touched = self._requiet(committed)
        if isinstance(event, CurtailmentLifted):
            # Beside a stranger who counts with all of the node it adds nothing, and may go on though that stands over.
            self._compare(one for one in touched if self.above_idle_w[one] > before.get(one, 0))

    def _paused(self, committed: Committed, event: PauseObserved) -> None:
        self._pauses.seen(event)
        self._requiet(committed)

    def _declared(self, committed: Committed, event: EngineDeclared) -> None:
        self._pauses.declared(event)
        self._requiet(committed)

    def _requiet(self, committed: Committed) -> dict[str, None]:
        """Count anew who is quiet now, or no longer; the elements whose draw changed."""
        self._at(committed.at_ms)
        touched: dict[str, None] = {}
        for name in self._pauses.at(committed):
            ranks = self.placements.get(name, ())
            if self._pauses.is_quiet(name) == (name in self.quiet):
                continue
            touched |= self._stand_all(name, ranks, -1)
            if name in self.quiet:
                del self.quiet[name]
            else:
                self.quiet[name] = None
            touched |= self._stand_all(name, ranks, 1)
        return touched

    def _applied(self, _committed: Committed, event: DocumentApplied) -> None:
        if event.kind != "estate":
            return
        self.on_node.clear()
        self.above_idle_w.clear()
        for node in self.intruders:
            self._stand(node, 1)
        for name, ranks in self.placements.items():
            self._stand_all(name, ranks, 1)

    def at_rest(self, now_ms: int) -> None:
        """Look at every element below which anything runs; those with strangers below them may stand over."""
        self._at(now_ms)
        self.looked()
        spots = self.papers.ground.spots
        excused = {element for node in self.intruders if node in spots for element in spots[node].path}
        self._compare(element for element in self.above_idle_w if element not in excused)

    def _intruded(self, committed: Committed, event: NodeIntruded) -> None:
        """Somebody came (or left): the node draws its nameplate, whatever is on it."""
        self._at(committed.at_ms)
        was_there, spot = event.node in self.intruders, self.papers.ground.spots.get(event.node)
        if bool(event.who) == was_there:
            return
        path = () if spot is None else spot.path
        before = {element for element in path if self._over_w(element) > 0}
        if event.who:
            self._stand(event.node, 1)
            self.intruders[event.node] = None
        else:
            del self.intruders[event.node]
            self._stand(event.node, -1)
        for element in path:
            # Whoever was told of it while it lasts need not be told again.
            if self._over_w(element) <= 0:
                self.alarmed.discard(element)
            elif event.who and not (element in before and element in self.alarmed):
                self.due_alarms[element] = event.who

    def _stand(self, node: str, sign: int) -> None:
        """Count (or, with ``sign`` -1, no more) what a node may draw beyond what is known of; ``intruders`` as without it."""
        spot = self.papers.ground.spots.get(node)
        if spot is None:
            return
        ranks = self.on_node.get(node, [])
        more_w = spot.hardware.nameplate_w - self._known_w(spot, ranks)
        for element in spot.path:
            self.above_idle_w[element] = self.above_idle_w.get(element, 0) + sign * more_w

    def _alarm(self, _committed: Committed, event: AlarmRaised) -> None:
        if event.promise == self.promise:
            self.due_alarms.pop(event.subject, None)
            self.alarmed.add(event.subject)

    def looked(self) -> None:
        """A control plane has looked and committed: what was due by then is there."""
        for element, who in self.due_alarms.items():
            self.found("no-alarm", element, f"{who} may draw more than it carries, and nobody was told")
        self.due_alarms.clear()

    def _over_w(self, element: str) -> int:
        """By how much it stands over its limit."""
        ground = self.papers.ground
        limit_w = ground.limit_w.get(element)
        if limit_w is None:
            return 0
        return ground.idle_w(self.today).get(element, 0) + self.above_idle_w.get(element, 0) - limit_w

    def _at(self, at_ms: int) -> None:
        day = at_ms // 86_400_000
        if day != self.day:
            self.day, self.today = day, iso_day(at_ms)

    def _add(self, ground: Ground, here: Here, sign: int) -> tuple[str, ...]:
        """Put a rank on its node (or, with ``sign`` -1, take it away); the elements whose draw changed."""
        node = here[1].node
        spot = ground.spots.get(node)
        if spot is None:
            return ()
        ranks = self.on_node.setdefault(node, [])
        before_w = draw_w(spot.hardware, self._taken(ranks), len(ranks))
        if sign > 0:
            ranks.append(here)
        elif here in ranks:
            ranks.remove(here)
        more_w = draw_w(spot.hardware, self._taken(ranks), len(ranks)) - before_w
        if node in self.intruders:
            more_w = 0
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

    def _known_w(self, spot: Spot, ranks: list[Here]) -> int:
        """What stands in the sum for a node without strangers: one without a day is not in it at all."""
        return draw_w(spot.hardware, self._taken(ranks), len(ranks)) if spot.from_day else 0

    def _taken(self, ranks: Iterable[Here]) -> int:
        """Accelerators that draw as taken ones: those of which anybody has any part, and is not quiet."""
        mask = 0
        for placement, rank in ranks:
            mask |= loud_mask(rank, is_quiet=placement in self.quiet)
        return mask.bit_count()
