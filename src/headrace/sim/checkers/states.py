"""Workloads change state only as their table says, and every event is about things that are there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.core.events import (
    Committed,
    ControlStarted,
    CreditNoteIssued,
    DocumentApplied,
    EvictionRequested,
    InvoiceIssued,
    JournalOpened,
    LogRead,
    NodeStateChanged,
    PauseObserved,
    PauseRequested,
    PlacementEnded,
    PlacementMade,
    PlacementStarted,
    StopRequested,
    TenantErased,
    TokenIssued,
    TokenRevoked,
    TokensMetered,
    UsageMetered,
    WorkloadRefused,
    WorkloadRequeued,
    WorkloadSubmitted,
)
from headrace.core.workload import (
    HOLDING,
    TERMINAL,
    TRANSITIONS,
    EndReason,
    State,
    WorkloadSpec,
    WorkloadType,
)
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers
from headrace.sim.checkers.wishes import ranks_allowed

NODE_STATES = ("ready", "draining", "down")


@dataclass(slots=True)
class Track:
    """A workload's state as its events tell it; ``is_open`` after an end that a requeue may follow."""

    tenant: str
    spec: WorkloadSpec
    state: State = State.QUEUED
    placement: str = ""
    is_open: bool = False
    stop_asked: bool = False


@dataclass(slots=True)
class Held:
    """A placement: whose, of how many ranks, and whether it has ended."""

    workload: str
    ranks: int
    ended: bool = False


class StateChecker(Checker):
    """Follows every workload through its states."""

    promise = 3

    def __init__(self, papers: Papers | None = None) -> None:
        self.tracks: dict[str, Track] = {}
        self.placements: dict[str, Held] = {}
        self.tokens: set[str] = set()
        self.invoices: set[str] = set()
        self.epoch = -1
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Nearly every event."""
        return (
            (JournalOpened, self._opened),
            (ControlStarted, self._control),
            (DocumentApplied, self._applied),
            (TokenIssued, self._token),
            (TokenRevoked, self._revoked),
            (WorkloadSubmitted, self._submitted),
            (WorkloadRefused, self._refused),
            (PlacementMade, self._made),
            (PlacementStarted, self._started),
            (PauseObserved, self._paused),
            (UsageMetered, self._usage),
            (PlacementEnded, self._ended),
            (StopRequested, self._stop),
            (PauseRequested, self._about),
            (LogRead, self._about),
            (EvictionRequested, self._evict),
            (WorkloadRequeued, self._requeued),
            (NodeStateChanged, self._node),
            (TokensMetered, self._tokens),
            (InvoiceIssued, self._invoice),
            (CreditNoteIssued, self._note),
            (TenantErased, self._tenant),
        )

    def _opened(self, committed: Committed, _event: JournalOpened) -> None:
        if committed.seq != 0:
            self.found("opened", f"event {committed.seq}", "a journal is opened once, by its first event")

    def _control(self, committed: Committed, event: ControlStarted) -> None:
        if event.epoch <= self.epoch:
            what = f"epoch {event.epoch} comes after {self.epoch}"
            self.found("epoch", f"event {committed.seq}", what)
        self.epoch = max(self.epoch, event.epoch)

    def _applied(self, committed: Committed, event: DocumentApplied) -> None:
        if self.papers.unreadable:
            for name in self.papers.unreadable:
                self.found("document", f"event {committed.seq}", f"a document can't be read: {name}")
            self.papers.unreadable.clear()
        contract = self.papers.contracts.get(event.name) if event.kind == "contract" else None
        if contract is None:
            return
        self._known_tenant(event.name, contract.tenant)
        if contract.plan not in self.papers.plans:
            self.found("unknown", event.name, f"there is no price plan {contract.plan!r}")

    def _token(self, _committed: Committed, event: TokenIssued) -> None:
        self.tokens.add(event.token)
        if event.tenant is not None:
            self._known_tenant(event.token, event.tenant)

    def _revoked(self, _committed: Committed, event: TokenRevoked) -> None:
        if event.token not in self.tokens:
            self.found("unknown", event.token, "a token that was never issued is revoked")

    def _known_tenant(self, subject: str, tenant: str) -> None:
        if tenant not in self.papers.tenants:
            self.found("unknown", subject, f"there is no tenant {tenant!r}")

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        if event.workload in self.tracks:
            self.found("submitted-twice", event.workload, "it was submitted before")
            return
        self.tracks[event.workload] = Track(event.tenant, event.spec)
        tenant = self.papers.tenants.get(event.tenant)
        if tenant is None:
            self._known_tenant(event.workload, event.tenant)
        elif event.spec.project not in tenant.projects:
            self.found("unknown", event.workload, f"{event.tenant} has no project {event.spec.project!r}")
        elif event.spec.priority > tenant.max_priority:
            what = f"its priority is {event.spec.priority}, and {event.tenant} may have {tenant.max_priority}"
            self.found("priority", event.workload, what)
        if event.spec.contract is not None and event.spec.contract not in self.papers.contracts:
            self.found("unknown", event.workload, f"there is no contract {event.spec.contract!r}")

    def _track(self, workload: str, event: object) -> Track | None:
        track = self.tracks.get(workload)
        if track is None:
            self.found("unknown", workload, f"{type(event).__name__} of a workload that was never submitted")
        return track

    def _go(self, workload: str, track: Track, state: State) -> None:
        if state not in TRANSITIONS[track.state]:
            self.found("transition", workload, f"from {track.state} to {state}")
        track.state = state
        track.is_open = False

    def _about(self, _committed: Committed, event: PauseRequested | LogRead) -> None:
        self._track(event.workload, event)

    def _refused(self, _committed: Committed, event: WorkloadRefused) -> None:
        track = self._track(event.workload, event)
        if track is not None:
            self._go(event.workload, track, State.REFUSED)

    def _made(self, _committed: Committed, event: PlacementMade) -> None:
        track = self._track(event.workload, event)
        if event.placement in self.placements or not event.placement.startswith(f"{event.workload}."):
            self.found("placement-name", event.placement, f"no new name for a placement of {event.workload}")
        self.placements[event.placement] = Held(event.workload, len(event.ranks))
        spots = self.papers.ground.spots
        for rank in event.ranks:
            spot = spots.get(rank.node)
            if spot is None or spot.site != event.site:
                self.found("unknown", event.placement, f"there is no node {rank.node!r} at {event.site!r}")
        if track is None:
            return
        self._go(event.workload, track, State.PLACED)
        track.placement = event.placement
        if track.tenant != event.tenant:
            self.found(
                "tenant", event.placement, f"made for {event.tenant}; its workload is of {track.tenant}"
            )
        allowed = ranks_allowed(track.spec)
        if len(event.ranks) not in allowed:
            what = f"{len(event.ranks)} ranks, {allowed.start} to {allowed.stop - 1} asked for"
            self.found("ranks", event.placement, what)

    def _holder(self, placement: str, event: object) -> Track | None:
        """The workload of a placement that has not ended."""
        held = self.placements.get(placement)
        if held is None or held.ended:
            what = "that has ended" if held is not None else "that was never made"
            self.found("unknown", placement, f"{type(event).__name__} of a placement {what}")
            return None
        return self.tracks.get(held.workload)

    def _started(self, _committed: Committed, event: PlacementStarted) -> None:
        track = self._holder(event.placement, event)
        # One that is stopping may be seen to have started: that changes no state.
        if track is not None and track.state is not State.STOPPING:
            self._go(event.placement, track, State.RUNNING)

    def _paused(self, _committed: Committed, event: PauseObserved) -> None:
        track = self._holder(event.placement, event)
        state = State.PAUSED if event.paused else State.RUNNING
        if track is not None and track.state not in (State.STOPPING, state):
            self._go(event.placement, track, state)

    def _usage(self, _committed: Committed, event: UsageMetered) -> None:
        self._holder(event.placement, event)

    def _tokens(self, _committed: Committed, event: TokensMetered) -> None:
        if event.placement not in self.placements:
            self.found("unknown", event.placement, "tokens of a placement that was never made")

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        track = self._holder(event.placement, event)
        held = self.placements.get(event.placement)
        if held is None:
            return
        held.ended = True
        if not held.ranks == len(event.ranks) == len(event.exit_codes):
            what = (
                f"{held.ranks} ranks ended with {len(event.exit_codes)} codes and usage of {len(event.ranks)}"
            )
            self.found("ranks", event.placement, what)
        if track is None:
            return
        track.placement = ""
        self._go(held.workload, track, _end_of(track, event))
        # What failed, or was taken from it, may be tried again by the same commit; the table's end is reached else.
        track.is_open = track.state is State.FAILED or (
            track.state is State.SUCCEEDED and track.spec.type is not WorkloadType.JOB
        )

    def _stop(self, _committed: Committed, event: StopRequested) -> None:
        track = self._track(event.workload, event)
        if track is None:
            return
        track.stop_asked = True
        if track.is_open:
            track.state, track.is_open = State.STOPPED, False
        elif track.state in HOLDING:
            if track.state is not State.STOPPING:
                self._go(event.workload, track, State.STOPPING)
        else:
            self._go(event.workload, track, State.STOPPED)

    def _evict(self, _committed: Committed, event: EvictionRequested) -> None:
        track = self._holder(event.placement, event)
        if track is not None and track.state is not State.STOPPING:
            self._go(event.placement, track, State.STOPPING)

    def _requeued(self, _committed: Committed, event: WorkloadRequeued) -> None:
        track = self._track(event.workload, event)
        if track is None:
            return
        if track.placement or not track.is_open:
            where = f"on {track.placement}" if track.placement else str(track.state)
            self.found("transition", event.workload, f"it went back to the queue, and was {where}")
        track.state, track.is_open = State.QUEUED, False

    def _node(self, _committed: Committed, event: NodeStateChanged) -> None:
        if event.node not in self.papers.ground.spots:
            self.found("unknown", event.node, "the estate has no such node")
        if event.state not in NODE_STATES:
            self.found("node-state", event.node, f"{event.state!r} is not one of {', '.join(NODE_STATES)}")

    def _invoice(self, _committed: Committed, event: InvoiceIssued) -> None:
        self.invoices.add(event.invoice)
        self._known_tenant(event.invoice, event.tenant)

    def _note(self, _committed: Committed, event: CreditNoteIssued) -> None:
        if event.invoice not in self.invoices:
            self.found("unknown", event.note, f"there is no invoice {event.invoice!r}")

    def _tenant(self, committed: Committed, event: TenantErased) -> None:
        self._known_tenant(f"event {committed.seq}", event.tenant)

    def at_rest(self, states: Mapping[str, str] | None = None) -> None:
        """Compare with the states that the API shows (workload to state), when they are given."""
        for workload, shown in (states or {}).items():
            track = self.tracks.get(workload)
            ended = track is not None and track.state in TERMINAL
            # Which end it came to is the world's to say, where the table allows several.
            if track is None or ended != (shown in TERMINAL) or not (ended or track.state == shown):
                mine = "never submitted" if track is None else str(track.state)
                self.found("state-shown", workload, f"shown as {shown}; by its events it is {mine}")


def _end_of(track: Track, event: PlacementEnded) -> State:
    """The state that an end leads to; a failure when it might be tried again."""
    if event.reason is EndReason.STOPPED and _lasted(track.spec, event):
        return State.STOPPED
    if track.stop_asked or event.reason is EndReason.STOPPED:
        return State.STOPPED if track.state is State.STOPPING or track.stop_asked else State.FAILED
    if event.reason is EndReason.EXITED and not any(event.exit_codes):
        return State.SUCCEEDED
    return State.FAILED


def _lasted(spec: WorkloadSpec, event: PlacementEnded) -> bool:
    """Whether it is a lease that was asked for no longer than one of its ranks was there: nobody need have stopped it."""
    longest_ms = max((running + paused for running, paused in event.ranks), default=0)
    return spec.type is WorkloadType.CLUSTER and 0 < spec.max_duration_ms <= longest_ms
