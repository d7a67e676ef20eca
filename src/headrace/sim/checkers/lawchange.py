"""Promise 2 while law changes: what may not stay is told so at the next look, goes within its grace, and comes not back.

"Without delay" is: a control plane judges all that runs before the end of its first look at the engines after the change is on
record, or after the day began. It is held to that look, not to a time: while it is dead, it looks at nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headrace.core.events import (
    Committed,
    DocumentApplied,
    DocumentRemoved,
    EvictionRequested,
    PlacementEnded,
    PlacementMade,
    StopRequested,
    WorkloadSubmitted,
)
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import EndReason, WorkloadSpec
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers

SLACK_MS = 1_000
"""What passes at most between the end of a grace and the end itself."""
ASKED_MS = 10_000
"""After so long a control plane that looks has at least tried to end what was told to go."""


@dataclass(slots=True)
class Live:
    """A placement that has not ended; since when it has to go for the law, and since when its machines know."""

    workload: str
    tenant: str
    site: str
    spec: WorkloadSpec
    leaves: bool = False
    told_ms: int | None = None
    told_seq: int = 0
    is_tried: bool = False
    ordered_ms: int | None = None


class LawChangeChecker(Checker):
    """Follows the law as it changes, and what runs under it. ``covered`` counts what of it was seen.

    Beside the events it is told when a look begins and is over, what reaches engines, and what of that still runs.
    """

    promise = 2

    def __init__(self, papers: Papers | None = None) -> None:
        self.specs: dict[str, tuple[str, WorkloadSpec]] = {}
        self.live: dict[str, Live] = {}
        self.covered: Counter[str] = Counter()
        self._changed_seq = -1
        self._begun = 0
        self._judged: tuple[int, int] | None = None
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Whatever is placed, told to go, or over; and documents."""
        yield WorkloadSubmitted, self._submitted
        yield PlacementMade, self._made
        yield EvictionRequested, self._evicted
        yield StopRequested, self._stopped
        yield PlacementEnded, self._ended
        yield DocumentApplied, self._changes
        yield DocumentRemoved, self._changes

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self.specs[event.workload] = (event.tenant, event.spec)

    def _made(self, _committed: Committed, event: PlacementMade) -> None:
        tenant, spec = self.specs.get(event.workload, ("", None))
        if spec is not None:
            self.live[event.placement] = Live(event.workload, tenant, event.site, spec)

    def _evicted(self, committed: Committed, event: EvictionRequested) -> None:
        live = self.live.get(event.placement)
        if live is None:
            return
        live.leaves = True
        if event.reason is not EndReason.FORBIDDEN:
            return
        if self._is_allowed(live, committed.at_ms):
            what = f"told to leave {live.site} for the law, which allows it there: {event.detail}"
            self.found("evicted-wrongly", event.placement, what)
        if live.told_ms is None:
            live.told_ms, live.told_seq = committed.at_ms, committed.seq
        self.covered["told to go"] += 1

    def _stopped(self, _committed: Committed, event: StopRequested) -> None:
        for live in self.live.values():
            live.leaves = live.leaves or live.workload == event.workload

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        live = self.live.pop(event.placement, None)
        if live is not None and live.told_ms is not None:
            self.covered["gone"] += 1

    def _changes(self, committed: Committed, _event: DocumentApplied | DocumentRemoved) -> None:
        self._changed_seq = committed.seq

    def _is_allowed(self, live: Live, at_ms: int) -> bool:
        site = self.papers.sites.get(live.site)
        return site is not None and self.papers.allows(live.spec.policy, live.tenant, site, at_ms)

    # -- looks and orders -----------------------------------------------------------------------------------

    def look_begins(self, version: int) -> None:
        """A control plane is about to look at its engines, with a world of so many events."""
        self._begun = version

    def look_over(self, now_ms: int) -> None:
        """It has looked, committed and acted, at ``now_ms`` of the journal: all that runs has been judged by what it knew."""
        if self._changed_seq >= self._begun:
            return  # Somebody was quicker: the next look has it.
        for ident, live in self.live.items():
            self._is_tried(ident, live, now_ms)
        mark = (self.papers.laws.stamp, now_ms // MS_PER_DAY)
        if mark == self._judged:
            return
        self._judged = mark
        for ident, live in self.live.items():
            if not live.leaves and not self._is_allowed(live, now_ms):
                what = f"it may not be at {live.site} any more, and a look later nobody has told it to go"
                self.found("not-told", ident, what)
                live.leaves = True

    def _is_tried(self, ident: str, live: Live, now_ms: int) -> None:
        if live.told_ms is None or live.is_tried or live.told_seq >= self._begun:
            return
        if now_ms - live.told_ms > ASKED_MS:
            self.found(
                "not-ended", ident, f"told to leave {live.site} for the law, and nobody has tried to end it"
            )
            live.is_tried = True

    def start_ordered(self, placement: str, now_ms: int) -> None:
        """An order to start something reaches its engine."""
        live = self.live.get(placement)
        if live is not None and self._changed_seq < self._begun and not self._is_allowed(live, now_ms):
            what = f"started at {live.site}, where the law does not allow it any more"
            self.found("started-forbidden", placement, what)

    def end_tried(self, placement: str) -> None:
        """Somebody tries to have an engine end something."""
        live = self.live.get(placement)
        if live is not None:
            live.is_tried = live.is_tried or live.told_ms is not None

    def end_ordered(self, placement: str, grace_ms: int, true_ms: int) -> None:
        """The machines know that something has to end within a grace."""
        live = self.live.get(placement)
        if live is None or live.told_ms is None:
            return
        if live.ordered_ms is None:
            live.ordered_ms = true_ms
        if grace_ms > live.spec.grace_ms:
            what = f"has {grace_ms} ms to leave {live.site}; its grace is {live.spec.grace_ms} ms"
            self.found("grace", placement, what)

    def overdue(self, true_ms: int) -> list[str]:
        """What must be gone by now, whatever it runs."""
        return [
            ident
            for ident, live in self.live.items()
            if live.ordered_ms is not None and true_ms > live.ordered_ms + live.spec.grace_ms + SLACK_MS
        ]

    def looked(self, true_ms: int, runs: Callable[[str], bool]) -> None:
        """Hold what must be gone against what really runs."""
        for ident in self.overdue(true_ms):
            if runs(ident):
                self.found(
                    "not-gone", ident, "its grace is over, and it runs where the law does not allow it"
                )
                self.live[ident].ordered_ms = None
