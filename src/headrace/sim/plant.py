"""The control plane as a process: it boots, decides, commits, acts, dies at any step, and comes back."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from headrace.control import SYSTEM, Batch, Control
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.events import (
    Committed,
    CreditNoteIssued,
    DecisionRecorded,
    EvictionRequested,
    InvoiceIssued,
    LogRead,
    TokenIssued,
    TokensMetered,
    UsageMetered,
)
from headrace.core.ids import WorkloadId
from headrace.core.scheduling.check import Violation, check
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import EndReason, State, Workload
from headrace.journal.codec import Group, decode
from headrace.journal.keys import Keys
from headrace.journal.sqlite import JournalUnavailable
from headrace.reconcile import ASK_AGAIN_MS, Reconciler
from headrace.sim.checkers import Checkers
from headrace.sim.clients import Notebook, Request, made_by
from headrace.sim.clock import WallClock
from headrace.sim.faults import FaultyStore, RemoteEngine, Switches
from headrace.sim.heads import HeadKeeper
from headrace.sim.web import get

CREATES = frozenset({"Submit", "IssueToken", "IssueInvoices", "IssueCreditNote"})
"""Commands whose answers name what they made."""
_NO_MATTER = frozenset(
    {UsageMetered, TokensMetered, LogRead, DecisionRecorded, InvoiceIssued, CreditNoteIssued, TokenIssued}
)
"""Events that change nothing for a planner, which is not asked again for them."""
THRASHED = 30
"""A workload that is evicted so often within an hour gets nothing done."""
PLAN_AGAIN_MS = 600_000
CHECK_EVERY = 8
"""One plan in so many gets the independent second opinion."""


class Unavailable(Exception):
    """The control plane can't answer now: ask again, with the same key."""


@dataclass(slots=True)
class Witness:
    """What stands outside the control plane and sees all of it."""

    checkers: Checkers
    heads: HeadKeeper
    notebook: Notebook = field(default_factory=Notebook)
    events: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    last: list[Committed] = field(default_factory=list)
    own: list[Violation] = field(default_factory=list)
    seen: int = 0
    evicted: dict[str, deque[int]] = field(default_factory=dict)

    def found(self, promise: int, subject: str, detail: str, rule: str) -> None:
        """Record what only the simulation itself can see."""
        self.own.append(Violation(promise, subject, detail, rule))

    def took(self, group: Group, events: list[Committed]) -> None:
        """A group is durable; its events are seen once each."""
        self.heads.took(group)
        for committed in events:
            self.checkers.observe(committed)
            self.events[type(committed.event).__name__] += 1
            if isinstance(committed.event, EvictionRequested):
                self._evicted(committed.event, committed.at_ms)
        self.seen = group.first + group.count
        self.last = [*self.last, *events][-40:]

    def _evicted(self, event: EvictionRequested, at_ms: int) -> None:
        """Evicted again and again within an hour: for something that does not start. Over days it may be right."""
        if event.reason is not EndReason.PREEMPTED:
            return
        ident = event.placement.rpartition(".")[0]
        times = self.evicted.setdefault(ident, deque(maxlen=THRASHED))
        times.append(at_ms)
        if len(times) == THRASHED and at_ms - times[0] < MS_PER_HOUR:
            self.found(7, ident, f"it was evicted {THRASHED} times in an hour: {event.detail}", "thrashing")
            times.clear()

    @property
    def is_broken(self) -> bool:
        """Whether going on shows nothing new."""
        return bool(self.own)

    @property
    def violations(self) -> list[Violation]:
        """All that was found so far."""
        return [*self.own, *self.heads.violations, *self.checkers.violations]


class Plant:
    """One control plane after another, over one store."""

    def __init__(
        self,
        path: Path,
        keys: Keys,
        clock: WallClock,
        engine: RemoteEngine,
        chance: Random,
        witness: Witness,
        meter_every_ms: int,
    ) -> None:
        self.path, self.keys, self.clock, self.engine = path, keys, clock, engine
        self.switches: Switches = engine.switches
        self.chance, self.witness, self.meter_every_ms = chance, witness, meter_every_ms
        self.store: FaultyStore | None = None
        self.control: Control | None = None
        self.reconciler: Reconciler | None = None
        self.waiting: list[tuple[Request, c.Reply]] = []
        self.on_answer: Callable[[Request, c.Reply], None] = lambda _request, _reply: None
        self.on_denied: Callable[[Request], None] = lambda _request: None
        self.alter: Callable[[Snapshot, Plan], Plan | None] = lambda _snapshot, proposal: proposal
        self.ran = 0
        self.plans = self.rounds = 0
        self._changed, self._plan_at_ms = True, 0

    # -- life -----------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self.reconciler is not None

    @property
    def decides(self) -> bool:
        """Whether it is up, and nothing keeps it from deciding."""
        return self.is_up and self.control is not None and self.control.broken is None

    def boot(self) -> None:
        """Start on the file as it is. Raises Crash, or HeadraceError when disk or engine forbid it."""
        self.store = FaultyStore(self.path, self.switches)
        control = Control(self.store, self.keys, self.clock, random=self.chance.randbytes)
        self.switches.crash_at("crash-recovering")
        self.catch_up(control)
        control.execute(SYSTEM, c.StartControl("simulated", "sim"))
        self.control = control
        self.commit()
        self.switches.crash_at("crash-started")
        reconciler = Reconciler(control, {"fake": self.engine}, self.meter_every_ms)
        reconciler.fence()
        self.reconciler = reconciler
        self._changed = True

    def die(self) -> list[Request]:
        """Everything in memory is gone; the requests that nobody was answered."""
        if self.store is not None:
            self.store.close()
        self.store = self.control = self.reconciler = None
        return self.unanswered()

    def unanswered(self) -> list[Request]:
        """Requests whose clients wait for an answer that does not come."""
        waiting, self.waiting = self.waiting, []
        return [request for request, _ in waiting]

    def catch_up(self, control: Control) -> None:
        """See what was committed without an answer."""
        if control.store.size() < self.witness.seen:
            self.witness.found(
                3, "journal", f"it holds {control.store.size()} events of {self.witness.seen}", "lost"
            )
        for group in control.store.groups(self.witness.seen):
            if group.first >= self.witness.seen:
                self.witness.took(group, list(decode(group)))

    def recover(self) -> bool:
        """After a failed commit: take the world as the store has it. True when it decides again."""
        control = self._control()
        if control.broken is None:
            return True
        if self.switches.disk_full:
            return False
        control.recover()
        self.catch_up(control)
        self.witness.heads.acknowledged(control.head)
        self._changed = True
        return True

    def _control(self) -> Control:
        if self.control is None:
            raise Unavailable
        return self.control

    # -- requests -------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> None:
        """Decide a request; it is answered once it is durable. Raises Unavailable."""
        control = self._control()
        if not self.is_up or control.broken is not None:
            raise Unavailable
        request.attempts += 1
        before = control.world.state.version
        try:
            reply = request.send(control)
        except HeadraceError as error:
            self._deny(request, error)
            return
        is_repeated = isinstance(reply, c.Submitted) and reply.repeated
        request.acts = is_repeated or control.world.state.version > before
        self.waiting.append((request, reply))
        self.switches.crash_at("crash-executed")

    def _deny(self, request: Request, error: HeadraceError) -> None:
        problem = error.problem
        if problem.code in (ProblemCode.JOURNAL_UNAVAILABLE, ProblemCode.BROKEN):
            raise Unavailable
        self.witness.notebook.deny(f"{request.what}: {problem.code}")
        if request.expect and request.expect != problem.code:
            what = f"{request.what} was denied with {problem.code} ({problem.line()}), not {request.expect}"
            self.witness.found(6, request.what, what, "answer")
        if request.same_as is not None and not request.expect and request.what in CREATES:
            self.witness.found(3, request.what, f"asked again, it was denied: {problem.line()}", "answer")
        self.on_denied(request)

    def commit(self) -> None:
        """Make everything durable, then answer. Raises Crash or JournalUnavailable."""
        control = self._control()
        if control.has_pending:
            self._durable(control.commit())
        answered, self.waiting = self.waiting, []
        for request, reply in answered:
            self._answer(control, request, reply)
        self.switches.crash_at("crash-replied")

    def _durable(self, batch: Batch) -> None:
        if batch.group is not None:
            self.witness.took(batch.group, batch.committed)
            self._states(self._control(), batch.committed)
            matters = any(type(one.event) not in _NO_MATTER for one in batch.committed)
            self._changed = self._changed or matters

    def read(self, token: str, path: str) -> tuple[int, bytes]:
        """Read by the API. Raises Crash, or JournalUnavailable when it could not be made durable."""
        self.commit()
        control = self._control()
        status, body = get(control, token, path, self._durable)
        if control.broken is not None:
            raise JournalUnavailable("simulated: a reading was lost")
        return status, body

    def _states(self, control: Control, events: list[Committed]) -> None:
        workloads = control.world.state.workloads
        for committed in events:
            ident = (
                getattr(committed.event, "workload", "")
                or getattr(committed.event, "placement", "").rpartition(".")[0]
            )
            work = workloads.get(WorkloadId(ident))
            if work is not None:
                self.witness.states[work.state] += 1

    def _answer(self, control: Control, request: Request, reply: c.Reply) -> None:
        witness, made = self.witness, made_by(reply)
        head = control.head
        witness.heads.acknowledged(head)
        known = made if request.what in CREATES else ()
        last = head.size - 1 if head is not None and request.acts and request.key else -1
        witness.checkers.durability.acknowledged(request.digest, known, last)
        if request.expect:
            witness.found(6, request.what, f"it was answered; {request.expect} was due", "answer")
        first = request.same_as
        if first is not None and first.made is not None and request.what == "Submit" and first.made != made:
            witness.found(3, request.what, f"asked again, it made {made}, not {first.made}", "key-twice")
        request.made, request.head = made, head
        witness.notebook.answered.append(request)
        self.on_answer(request, reply)

    # -- the loop -------------------------------------------------------------------------------------------

    def round(self, *, meter_all: bool = False) -> None:
        """Look at the engines, plan, commit, act. Raises Crash or JournalUnavailable."""
        control, reconciler = self._control(), self.reconciler
        if reconciler is None:
            raise Unavailable
        reconciler.observe(meter_all=meter_all)
        self.note_ran()
        self.commit()
        self.propose()
        if control.has_pending:
            self.commit()
        reconciler.act()
        self.rounds += 1

    def note_ran(self) -> None:
        """Tell the checkers of processes that really started since."""
        ran = self.engine.engine.ran
        for one in ran[self.ran :]:
            self.witness.checkers.durability.engine_ran(one.placement, one.rank)
        self.ran = len(ran)

    def propose(self) -> None:
        """Plan, when there is something to plan and anything changed since the last time."""
        control = self._control()
        world, now_ms = control.world, control.now_ms()
        if not world.queue or (not self._changed and now_ms < self._plan_at_ms):
            return
        snapshot = world.snapshot(now_ms)
        proposal = plan(snapshot)
        self.plans += 1
        if proposal.placements and self.plans % CHECK_EVERY == 0:
            self.witness.own.extend(check(snapshot, proposal))
        self._changed = False
        times = [work.not_before_ms for work in world.queue.values() if work.not_before_ms > now_ms]
        self._plan_at_ms = min([*times, now_ms + PLAN_AGAIN_MS])
        altered = self.alter(snapshot, proposal)
        if altered is not None and (altered.placements or altered.evictions):
            self.adopt(altered)

    def adopt(self, proposal: Plan) -> None:
        """Have the writer re-validate a plan and adopt what is still right of it."""
        reply = self._control().execute(SYSTEM, c.AdoptPlan(proposal))
        if isinstance(reply, c.Adopted):
            for _, why in reply.rejected:
                self.witness.notebook.deny(f"AdoptPlan: {why}")

    def is_busy(self) -> bool:
        """Whether what is wanted of the engines and what was seen of them differ, or a plan is due."""
        control = self.control
        if control is None or control.broken is not None or self.waiting:
            return True
        if control.world.unsettled:
            return True
        return bool(control.world.queue) and (self._changed or control.now_ms() >= self._plan_at_ms)

    def next_ms(self) -> int:
        """Journal time until which nothing happens by itself in the control plane."""
        control = self._control()
        now_ms = control.now_ms()
        if control.world.unsettled:
            return now_ms + ASK_AGAIN_MS + 1
        return max(now_ms, self._plan_at_ms) if control.world.queue else now_ms + PLAN_AGAIN_MS

    def live(self, state: State) -> list[Workload]:
        """Workloads in a state, for those who choose one to do something to."""
        return [work for work in self._control().world.state.workloads.values() if work.state is state]


__all__ = ["JournalUnavailable", "Plant", "Unavailable", "Witness"]
