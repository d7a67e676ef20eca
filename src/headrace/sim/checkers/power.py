"""Promise 1, power: what runs plus what starts never draws more than an element of the tree may carry."""

from collections.abc import Iterable

from headrace.core.events import (
    AlarmRaised,
    CapsLifted,
    CapsObserved,
    CapsOrdered,
    Committed,
    CurtailmentLifted,
    CurtailmentOrdered,
    DocumentApplied,
    EngineDeclared,
    ExcessMeasured,
    LimitersDeclared,
    NodeIntruded,
    PauseObserved,
    PlacementEnded,
    PlacementMade,
)
from headrace.core.workload import RankPlace
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.caps import Caps
from headrace.sim.checkers.papers import Papers, Spot, draw_w, iso_day
from headrace.sim.checkers.quiet import Quiet, loud_mask

Here = tuple[str, RankPlace]
"""A rank, and whose: its placement."""


class PowerChecker(Checker):
    """Counts a placement at nameplate from ``PlacementMade`` to ``PlacementEnded``; an idle node draws its idle watts.

    Only the paths that an event touches are looked at. Applying an estate with lower limits is no violation by
    itself: the next placement below an element over its limit is, and so is standing over it at rest. Where strangers
    run, a node counts at nameplate until they are gone: what was there before may stand over a limit with them, and then there
    is an alarm for that element. What is paused for the grid counts less (:mod:`headrace.sim.checkers.quiet`) until it may go
    on: then there must be power for it. So does a capped node (:mod:`headrace.sim.checkers.caps`), until its cap is lifted or
    raised. What meters see beyond that counts at their elements and all above: nothing more may come while that stands over.
    """

    promise = 1

    def __init__(self, papers: Papers | None = None) -> None:
        self.placements: dict[str, tuple[RankPlace, ...]] = {}
        self.on_node: dict[str, list[Here]] = {}
        self.quiet: dict[str, None] = {}
        self.above_idle_w: dict[str, int] = {}
        self.counted_w: dict[str, int] = {}
        self.caps = Caps()
        self.intruders: dict[str, None] = {}
        self.due_alarms: dict[str, str] = {}
        self.alarmed: set[str] = set()
        self.day = -1
        self.today = ""
        super().__init__(papers)
        self._pauses = Quiet(self.papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements, their pauses and caps, what meters see, and the estate."""
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
            (LimitersDeclared, self._limited),
            (CapsOrdered, self._capped),
            (CapsObserved, self._capped),
            (CapsLifted, self._capped),
            (ExcessMeasured, self._measured),
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
        touched: dict[str, None] = {}
        for rank in ranks:
            touched.update(dict.fromkeys(self._add((placement, rank), sign)))
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
            self._compare(one for one in touched if self.above_idle_w.get(one, 0) > before.get(one, 0))

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
        self.counted_w.clear()
        for node in self.intruders:
            self._recount(node)
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
            self.intruders[event.node] = None
        else:
            del self.intruders[event.node]
        self._recount(event.node)
        for element in path:
            # Whoever was told of it while it lasts need not be told again.
            if self._over_w(element) <= 0:
                self.alarmed.discard(element)
            elif event.who and not (element in before and element in self.alarmed):
                self.due_alarms[element] = event.who

    def _recount(self, node: str) -> tuple[str, ...]:
        """Count anew what a node may draw beyond idling; the elements whose draw changed by that."""
        spot = self.papers.ground.spots.get(node)
        if spot is None:
            return ()
        now_w = self._above_w(spot, self.on_node.get(node, []))
        more_w = now_w - self.counted_w.get(node, 0)
        self.counted_w[node] = now_w
        for element in spot.path if more_w else ():
            self.above_idle_w[element] = self.above_idle_w.get(element, 0) + more_w
        return spot.path

    def _above_w(self, spot: Spot, ranks: list[Here]) -> int:
        """What stands in the sum for a node: one without a day is in it only with somebody on it."""
        idle_w = spot.hardware.idle_w
        if spot.node in self.intruders:
            drawn_w, idle_w = spot.hardware.nameplate_w, idle_w if spot.from_day else 0
        else:
            drawn_w = draw_w(spot.hardware, self._taken(ranks), len(ranks))
        cap = self.caps.caps.get(spot.node)
        most_w = cap.most_w if cap is not None else None
        return (drawn_w if most_w is None else min(drawn_w, most_w)) - idle_w

    # -- caps and meters ------------------------------------------------------------------------------------

    def _limited(self, committed: Committed, event: LimitersDeclared) -> None:
        """Of nodes that can't be limited any more, nothing is known."""
        self._at(committed.at_ms)
        self.caps.declared(event)
        for cap in self.caps.of(event.site):
            self._recount(cap.node)

    def _capped(self, committed: Committed, event: CapsOrdered | CapsObserved | CapsLifted) -> None:
        """A cap that is lifted or raised lets a node draw more: there must be power for it. One that is lost comes by itself."""
        self._at(committed.at_ms)
        before = dict(self.above_idle_w)
        match event:
            case CapsOrdered():
                self.caps.ordered(event, committed.at_ms)
            case CapsObserved():
                self.caps.observed(event)
            case CapsLifted():
                self.caps.lifted(event)
        nodes = event.nodes if isinstance(event, CapsLifted) else [node for node, _ in event.caps]
        touched = dict.fromkeys(element for node in nodes for element in self._recount(node))
        if not isinstance(event, CapsObserved):
            self._compare(one for one in touched if self.above_idle_w.get(one, 0) > before.get(one, 0))

    def _measured(self, committed: Committed, event: ExcessMeasured) -> None:
        self._at(committed.at_ms)
        self.caps.measured(event)

    def _beyond_w(self) -> dict[str, int]:
        """What meters see beyond all that is known, by each element that it flows through."""
        found: dict[str, int] = {}
        for element, watts in self.caps.excess.items():
            for above in self.papers.ground.above.get(element, ()):
                found[above] = found.get(above, 0) + watts
        return found

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

    def _add(self, here: Here, sign: int) -> tuple[str, ...]:
        """Put a rank on its node (or, with ``sign`` -1, take it away); the elements whose draw changed."""
        node = here[1].node
        if node not in self.papers.ground.spots:
            return ()
        ranks = self.on_node.setdefault(node, [])
        if sign > 0:
            ranks.append(here)
        elif here in ranks:
            ranks.remove(here)
        return self._recount(node)

    def _compare(self, elements: Iterable[str]) -> None:
        ground = self.papers.ground
        idle_w, beyond_w = ground.idle_w(self.today), self._beyond_w()
        for element in elements:
            limit_w = ground.limit_w.get(element)
            if limit_w is None:
                continue
            load_w = idle_w.get(element, 0) + self.above_idle_w.get(element, 0) + beyond_w.get(element, 0)
            if load_w > limit_w:
                self.found("power", element, f"{load_w} W of IT load could be drawn, {limit_w} W are allowed")

    def _taken(self, ranks: Iterable[Here]) -> int:
        """Accelerators that draw as taken ones: those of which anybody has any part, and is not quiet."""
        mask = 0
        for placement, rank in ranks:
            mask |= loud_mask(rank, is_quiet=placement in self.quiet)
        return mask.bit_count()
