"""Promise 5, contract: what is kept for a time is there in that time, and nothing runs where people work.

From the words of the promise alone: who has which nodes is what ``NodesReserved`` says, and when is what the documents say.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from headrace.core.contracts import Maintenance, Reservation
from headrace.core.events import (
    AlarmRaised,
    Committed,
    DocumentRemoved,
    EvictionRequested,
    InstructionReceived,
    InstructionWithdrawn,
    NodesReserved,
    PlacementEnded,
    PlacementMade,
    StopRequested,
    WorkloadSubmitted,
)
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import Flex, WorkloadSpec, WorkloadType
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.occupancy import Occupancy
from headrace.sim.checkers.papers import Papers

MOST_GRACE_MS = 15 * MS_PER_MINUTE
"""The longest grace of what may be told to go for a window."""
CLEARED_MS = 15 * MS_PER_MINUTE
"""So long after its time has come, whoever must leave has been told to, though a plan may come late by ten minutes."""
PATIENCE_MS = 30 * MS_PER_MINUTE
"""So long is work kept waiting at most whose nodes are reserved for it, and free."""
AHEAD_MS = 15 * MS_PER_MINUTE
"""So long before an instruction of the grid nothing starts that would have to go for it."""
GIVEN_BACK_MS = 180 * MS_PER_MINUTE
"""So long after one its site may still come back along a ramp."""
LOOKS = 4
"""And so often has the control plane had the occasion: a round in which it looked, planned and committed."""


@dataclass(slots=True)
class Live:
    """A placement that has not ended: what it names, and where it is."""

    workload: str
    reservation: str
    nodes: frozenset[str]
    is_told: bool = False


@dataclass(slots=True)
class Since:
    """Something that should not last: since when it is seen, and in how many rounds."""

    at_ms: int
    looks: int = 0


class WindowChecker(Checker):
    """Holds every placement, and the world after each round of the control plane, against the windows in force.

    A reservation for which an alarm was raised is a breach that was recorded: no more is expected of it.
    """

    promise = 5

    def __init__(self, papers: Papers | None = None, occupancy: Occupancy | None = None) -> None:
        self._alone = occupancy is None
        papers = Papers() if papers is None and occupancy is None else papers
        self.occupancy = occupancy or Occupancy(papers)
        self.specs: dict[str, WorkloadSpec] = {}
        self.live: dict[str, Live] = {}
        self.excused: set[str] = set()
        self.limited_ms: dict[str, dict[str, tuple[int, int]]] = {}
        self.since: dict[tuple[str, str, str], Since] = {}
        self.told: set[tuple[str, str, str]] = set()
        super().__init__(papers)
        self._keeps_papers = self._alone

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements, what tells them to go, and what becomes of reservations."""
        if self._alone:
            yield from self.occupancy.handlers()
        yield from (
            (WorkloadSubmitted, self._submitted),
            (PlacementMade, self._made),
            (PlacementEnded, self._ended),
            (EvictionRequested, self._evict),
            (StopRequested, self._stop),
            (AlarmRaised, self._alarm),
            (NodesReserved, self._reserved),
            (InstructionReceived, self._instructed),
            (InstructionWithdrawn, self._recalled),
            (DocumentRemoved, self._removed),
        )

    # -- events ---------------------------------------------------------------------------------------------

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self.specs[event.workload] = event.spec

    def _evict(self, _committed: Committed, event: EvictionRequested) -> None:
        if event.placement in self.live:
            self.live[event.placement].is_told = True

    def _stop(self, _committed: Committed, event: StopRequested) -> None:
        for live in self.live.values():
            live.is_told = live.is_told or live.workload == event.workload

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        self.live.pop(event.placement, None)

    def _alarm(self, _committed: Committed, event: AlarmRaised) -> None:
        # That others are late to leave is recorded too, and excuses nobody from telling them to.
        if event.promise == self.promise and not event.detail.startswith("it has begun"):
            self.excused.add(event.subject)

    def _instructed(self, _committed: Committed, event: InstructionReceived) -> None:
        one = event.instruction
        for known in self.limited_ms.values():
            known.pop(one.id, None)
        self.limited_ms.setdefault(one.site, {})[one.id] = (one.from_ms - AHEAD_MS, one.until_ms)

    def _recalled(self, committed: Committed, event: InstructionWithdrawn) -> None:
        for known in self.limited_ms.values():
            if event.instruction in known:
                known[event.instruction] = (known[event.instruction][0], committed.at_ms)

    def _is_limited(self, site: str, now_ms: int) -> bool:
        """Whether the grid keeps power from a site, or gives it back step by step."""
        spans = self.limited_ms.get(site, {}).values()
        return any(
            from_ms <= now_ms and (not until_ms or now_ms < until_ms + GIVEN_BACK_MS)
            for from_ms, until_ms in spans
        )

    def _reserved(self, _committed: Committed, event: NodesReserved) -> None:
        self.excused.discard(event.reservation)
        reservation = self.papers.reservations.get(event.reservation)
        if reservation is None:
            self.found("reserved", event.reservation, "nodes are kept for a reservation that there is not")
            return
        spots = [self.papers.ground.spots.get(node) for node in event.nodes]
        here = [
            one
            for one in spots
            if one is not None
            and one.site == reservation.site
            and one.hardware.accelerator == reservation.model
        ]
        if len(here) != len(spots) or len(set(event.nodes)) != reservation.nodes:
            what = f"{', '.join(event.nodes)} are kept; {reservation.nodes} of {reservation.model} at {reservation.site} are due"
            self.found("reserved", event.reservation, what)

    def _removed(self, _committed: Committed, event: DocumentRemoved) -> None:
        if event.kind == "reservation":
            self.excused.discard(event.name)

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        spec = self.specs.get(event.workload)
        if spec is None:
            return
        named = spec.reservation or ""
        nodes = frozenset(rank.node for rank in event.ranks)
        self.live[event.placement] = Live(event.workload, named, nodes)
        at_ms = committed.at_ms
        for window in self._windows():
            if not window.starts_ms <= at_ms < window.ends_ms or window.id == named:
                continue
            inside = sorted(nodes & self.occupancy.kept(window))
            if inside:
                self.found("window", event.placement, f"placed on {inside[0]}, which {window.id} has now")
        if named:
            self._inside(event, named, nodes, at_ms)

    def _inside(self, event: PlacementMade, named: str, nodes: frozenset[str], at_ms: int) -> None:
        reservation = self.papers.reservations.get(named)
        if reservation is None or reservation.tenant != event.tenant:
            self.found("outside", event.placement, f"it names {named!r}, no reservation of {event.tenant}")
        elif not reservation.starts_ms <= at_ms < reservation.ends_ms:
            self.found("outside", event.placement, f"it was placed outside of the time of {named}")
        elif not nodes <= self.occupancy.kept(reservation):
            self.found("outside", event.placement, f"it was placed on other nodes than those of {named}")

    def _windows(self) -> Iterator[Reservation | Maintenance]:
        yield from self.papers.reservations.values()
        yield from self.papers.maintenances.values()

    # -- rounds ---------------------------------------------------------------------------------------------

    def round_over(self, now_ms: int) -> None:
        """The control plane has looked, planned and committed at ``now_ms``: what should not be, and has lasted?"""
        if not self.papers.reservations and not self.papers.maintenances:
            return
        self.occupancy.now_ms = max(self.occupancy.now_ms, now_ms)
        seen: dict[tuple[str, str, str], None] = {}
        for rule, subject, window, patience_ms, what in self._wrong(now_ms):
            key = (rule, subject, window)
            seen[key] = None
            since = self.since.setdefault(key, Since(now_ms))
            since.looks += 1
            if since.looks >= LOOKS and now_ms - since.at_ms >= patience_ms and key not in self.told:
                self.told.add(key)
                self.found(rule, subject, what)
        self.since = {key: since for key, since in self.since.items() if key in seen}

    def _wrong(self, now_ms: int) -> Iterator[tuple[str, str, str, int, str]]:
        """What is not as it should be at this moment: rule, subject, window, how long it may be so, and what."""
        coming = [window for window in self._windows() if now_ms < window.ends_ms]
        yield from self._shared(coming)
        for window in coming:
            yield from self._not_cleared(window, now_ms)
        for reservation in self.papers.reservations.values():
            if now_ms >= reservation.ends_ms:
                yield from self._not_left(reservation)
            elif reservation.starts_ms <= now_ms:
                yield from self._kept_waiting(reservation, now_ms)

    def _shared(self, coming: list[Reservation | Maintenance]) -> Iterator[tuple[str, str, str, int, str]]:
        for one, other in combinations(coming, 2):
            if isinstance(one, Maintenance) and isinstance(other, Maintenance):
                continue
            if one.id in self.excused or other.id in self.excused:
                continue
            if max(one.starts_ms, other.starts_ms) < min(one.ends_ms, other.ends_ms):
                shared = sorted(self.occupancy.kept(one) & self.occupancy.kept(other))
                if shared:
                    yield "shared", one.id, other.id, 0, f"it has {shared[0]} at one time with {other.id}"
        for one in coming:
            if isinstance(one, Reservation) and one.id not in self.excused:
                has = len(self.occupancy.kept(one))
                if has != one.nodes:
                    yield "reserved", one.id, "", 0, f"it has {has} nodes that are there, {one.nodes} are due"

    def _not_cleared(
        self, window: Reservation | Maintenance, now_ms: int
    ) -> Iterator[tuple[str, str, str, int, str]]:
        """Who is to go and was not told: by when the window begins, or so early that what may be told has its grace."""
        if now_ms < window.starts_ms - MOST_GRACE_MS:
            return
        nodes = self.occupancy.kept(window)
        for placement, live in self.live.items():
            if now_ms < window.starts_ms - self._grace_ms(live):
                continue
            if not live.is_told and live.reservation != window.id and live.nodes & nodes:
                where = min(live.nodes & nodes)
                yield (
                    "not-cleared",
                    placement,
                    window.id,
                    CLEARED_MS,
                    f"it runs on {where}, which {window.id} has now",
                )

    def _grace_ms(self, live: Live) -> int:
        spec = self.specs.get(live.workload)
        may_be_told = spec is not None and (spec.type is WorkloadType.FILLER or spec.flex is Flex.PREEMPTIBLE)
        return spec.grace_ms if spec is not None and may_be_told else 0

    def _not_left(self, reservation: Reservation) -> Iterator[tuple[str, str, str, int, str]]:
        for placement, live in self.live.items():
            if live.reservation == reservation.id and not live.is_told:
                what = f"{reservation.id} is over, and it was not told to go"
                yield "not-left", placement, reservation.id, CLEARED_MS, what

    def _kept_waiting(
        self, reservation: Reservation, now_ms: int
    ) -> Iterator[tuple[str, str, str, int, str]]:
        """Work that is alone in waiting for its reservation, and for which there is room in it."""
        if reservation.id in self.excused or self._is_limited(reservation.site, now_ms):
            return
        mine = [name for name, one in self.occupancy.queued.items() if one.spec.reservation == reservation.id]
        if len(mine) == 1 and self.occupancy.placeable(mine[0], now_ms) is not None:
            what = f"it fits the nodes of {reservation.id}, and is kept waiting"
            yield "kept-waiting", mine[0], reservation.id, PATIENCE_MS, what
