"""Promises about engines: strangers on nodes are seen, kept apart from and harm nobody; no engine gets what it can't do.

From the words of the promise and the public types alone. That strangers count at nameplate is held by the checker of power.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from headrace.core.contracts import Maintenance, Reservation
from headrace.core.events import (
    Committed,
    EngineDeclared,
    EvictionRequested,
    NodeIntruded,
    NodeStateChanged,
    PlacementEnded,
    PlacementMade,
    PlacementStarted,
    StopRequested,
)
from headrace.core.observation import Capabilities
from headrace.core.workload import EndReason
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.occupancy import Occupancy
from headrace.sim.checkers.papers import Papers
from headrace.sim.checkers.wishes import what_lacks

LOOKS = 2
"""So many looks at an engine may come to nothing before what it says must be on record."""


@dataclass(slots=True)
class Held:
    """A placement that has not ended; ``beside``: on which of its nodes there ever were strangers, and who."""

    workload: str
    nodes: tuple[str, ...]
    started: bool = False
    stopping: bool = False
    beside: dict[str, str] = field(default_factory=dict)


def _sees_all(_node: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Look:
    """What engines say when a control plane looks at them.

    - ``there``: who runs something that was not placed, by node.
    - ``able``: what engines that were opened since the last look can do.
    - ``down``: nodes that may get no work, and why.
    - ``unseen``: nodes of which their engine could say nothing new.
    """

    there: Mapping[str, str]
    able: Mapping[str, Capabilities]
    down: Mapping[str, str] = field(default_factory=dict)
    unseen: Callable[[str], bool] = _sees_all


class IntruderChecker(Checker):
    """Told the events, and after each look at engines what they say (``looked``).

    What strangers may draw is the power checker's. ``was_lost`` asks the world whether a rank of a placement was really lost,
    ``has_fallen`` whether a node ever was down, gone or less than the estate says.
    """

    promise = 1

    def __init__(self, papers: Papers | None = None, occupancy: Occupancy | None = None) -> None:
        self._alone = occupancy is None
        papers = Papers() if papers is None and occupancy is None else papers
        self.occupancy = occupancy or Occupancy(papers)
        self.live: dict[str, Held] = {}
        self.on_node: dict[str, dict[str, Held]] = {}
        self.here: dict[str, str] = {}
        self.state: dict[str, str] = {}
        self.down: dict[str, None] = {}
        self.engines: dict[str, Capabilities] = {}
        self.was_lost: Callable[[str], bool] = lambda _placement: False
        self.has_fallen: Callable[[str], bool] = lambda _node: False
        self._differs: dict[str, int] = {}
        self._excused: set[str] = set()
        super().__init__(papers)
        self._keeps_papers = self._alone

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Strangers, engines, and what becomes of placements and nodes."""
        if self._alone:
            yield from self.occupancy.handlers()
        yield from (
            (PlacementMade, self._made),
            (PlacementStarted, self._started),
            (PlacementEnded, self._ended),
            (EvictionRequested, self._evict),
            (StopRequested, self._stop),
            (NodeStateChanged, self._node),
            (NodeIntruded, self._intruded),
            (EngineDeclared, self._declared),
        )

    # -- events ---------------------------------------------------------------------------------------------

    def _declared(self, _committed: Committed, event: EngineDeclared) -> None:
        self.engines[event.engine] = event.capabilities

    def _made(self, _committed: Committed, event: PlacementMade) -> None:
        held = Held(event.workload, tuple(rank.node for rank in event.ranks))
        self.live[event.placement] = held
        for node in held.nodes:
            self.on_node.setdefault(node, {})[event.placement] = held
            if node in self.here:
                what = f"placed on {node}, where {self.here[node]} runs"
                self.found("intruded", event.placement, what)
        site = self.papers.sites.get(event.site)
        known = self.occupancy.known.get(event.workload)
        if site is None or known is None:
            return
        lacks = what_lacks(self.engines.get(site.engine), known.tenant, known.spec)
        if lacks:
            self.found("engine-lacks", event.placement, f"placed at {site.id}, on {site.engine}: {lacks}")

    def _started(self, _committed: Committed, event: PlacementStarted) -> None:
        if event.placement in self.live:
            self.live[event.placement].started = True

    def _stop(self, _committed: Committed, event: StopRequested) -> None:
        for held in self.live.values():
            held.stopping = held.stopping or held.workload == event.workload

    def _node(self, _committed: Committed, event: NodeStateChanged) -> None:
        self.state[event.node] = event.state
        if event.state == "down":
            self.down[event.node] = None
        else:
            self.down.pop(event.node, None)
        who = self.here.get(event.node)
        # A drain has a verdict: somebody asked for it.
        if (
            who is not None
            and event.state != "ready"
            and not event.verdict
            and not self.has_fallen(event.node)
        ):
            self.found(
                "harmed", event.node, f"it is {event.state} ({event.reason}), and only {who} came to it"
            )

    def _intruded(self, _committed: Committed, event: NodeIntruded) -> None:
        if not event.who:
            if self.here.pop(event.node, None) is None:
                self.found("intruder-event", event.node, "nobody was there who could leave")
            return
        if self.here.get(event.node) == event.who:
            self.found("intruder-event", event.node, f"{event.who} came, and was there")
        self.here[event.node] = event.who
        for held in self.on_node.get(event.node, {}).values():
            held.beside[event.node] = event.who

    def _evict(self, _committed: Committed, event: EvictionRequested) -> None:
        held = self.live.get(event.placement)
        if held is None:
            return
        if not held.stopping:
            self._blame(event.placement, held, event.reason, event.detail)
        held.stopping = True

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        held = self.live.pop(event.placement, None)
        if held is None:
            return
        for node in held.nodes:
            self.on_node.get(node, {}).pop(event.placement, None)
        if not held.stopping:
            self._blame(event.placement, held, event.reason, event.detail)

    def excuse(self, placements: Iterable[str]) -> None:
        """A plan that is wrong or late asks these to go: why is not the planner's to answer."""
        self._excused.update(placements)

    def _blame(self, placement: str, held: Held, reason: EndReason, detail: str) -> None:
        """What ran beside strangers and goes: is there a cause that is not them?"""
        if not held.started or not held.beside:
            return
        named = [who for who in held.beside.values() if who in detail]
        is_lost = reason is EndReason.NODE_LOST and not self.was_lost(placement)
        # Of its own node nothing is won by its going while strangers are there.
        is_for_nothing = (
            reason is EndReason.PREEMPTED
            and placement not in self._excused
            and all(node in self.here for node in held.nodes)
            and not self._is_kept(held)
        )
        drained = any(self.state.get(node, "ready") != "ready" for node in held.nodes)
        is_drained = reason is EndReason.DRAINED and not drained
        if named or is_lost or is_drained or is_for_nothing:
            who = ", ".join(held.beside.values())
            self.found(
                "harmed", placement, f"it ran beside {who}, and goes: {reason}, {detail or 'no detail'}"
            )

    def _is_kept(self, held: Held) -> bool:
        """Whether it has to do with a window: it names one, or one has its nodes."""
        known = self.occupancy.known.get(held.workload)
        if known is not None and known.spec.reservation is not None:
            return True
        windows: list[Reservation | Maintenance] = [
            *self.papers.reservations.values(),
            *self.papers.maintenances.values(),
        ]
        return any(not self.occupancy.kept(one).isdisjoint(held.nodes) for one in windows)

    # -- looks ----------------------------------------------------------------------------------------------

    def looked(self, look: Look) -> None:
        """A control plane has looked at its engines and committed."""
        if look.there or look.down or self.here or self.down or self._differs:
            differs: dict[str, int] = {}
            for node, what in self._different(look):
                looks = self._differs.get(node, 0) + (not look.unseen(node))
                differs[node] = looks
                if looks == LOOKS:
                    self.found("unseen", node, f"after {looks} looks {what}")
            self._differs = differs
        for engine, can in look.able.items():
            if self.engines.get(engine) != can:
                self.found(
                    "engine-unknown", engine, f"it can do {can}, {self.engines.get(engine)} is on record"
                )

    def _different(self, look: Look) -> Iterator[tuple[str, str]]:
        """Nodes of which something else is on record than their engine says."""
        for node in dict.fromkeys([*look.there, *self.here]):
            said, true = self.here.get(node) or "nobody", look.there.get(node) or "nobody"
            if said != true:
                yield node, f"{said} is on record there, {true} is there"
        for node in dict.fromkeys([*look.down, *self.down]):
            if node not in look.down:
                yield node, "it is on record as down, and is up"
            elif self.state.get(node, "ready") == "ready":
                yield node, f"it is on record as ready, and {look.down[node]}"
