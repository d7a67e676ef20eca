"""The control plane as a process: it boots, decides, commits, acts, dies at any step, and comes back.

Whatever people and clients want goes through the production API (:mod:`headrace.sim.web`); a request that is decided waits
there for the next commit, which others may share, and dies with the process. Only what no request can ask is asked of
:class:`Control` itself, as the server does it: to take the journal over and make the operator's first token (nobody has
one yet), what engines report, the planner's plans, the counters of replicas, and checkpoints.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from headrace.api.guard import token_hash
from headrace.api.inline import Exchange, Reply
from headrace.api.views import ProblemView
from headrace.control import SYSTEM, Batch, Caller, Control
from headrace.core import commands as c
from headrace.core.authority import Role, Subject
from headrace.core.errors import HeadraceError
from headrace.core.events import (
    Committed,
    CreditNoteIssued,
    DecisionRecorded,
    EvictionRequested,
    EvidenceExported,
    InvoiceIssued,
    LogRead,
    PlacementMade,
    PlacementStarted,
    RequestAnswered,
    TokenIssued,
    TokenRevoked,
    TokensMetered,
    UsageMetered,
)
from headrace.core.ids import TenantId, TokenId, WorkloadId
from headrace.core.scheduling.check import Violation, check
from headrace.core.scheduling.plan import again_ms, plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import EndReason, State, Workload
from headrace.journal.codec import Group, decode
from headrace.journal.keys import Keys
from headrace.journal.sqlite import JournalUnavailable
from headrace.reconcile import ASK_AGAIN_MS, Reconciler
from headrace.sim.checkers import Checkers
from headrace.sim.clients import UNAVAILABLE, Answer, Notebook, Person, Request, answer_of
from headrace.sim.clock import WallClock
from headrace.sim.faults import FaultyStore, RemoteEngine, Switches
from headrace.sim.heads import HeadKeeper
from headrace.sim.remembering import remembering
from headrace.sim.web import SharedCommits, Web
from headrace.sim.work import shapes_of

CREATES = frozenset({"Submit", "ApplyWorkload", "IssueToken", "IssueInvoices", "IssueCreditNote"})
"""Commands whose answers name what they made."""
_NO_MATTER = frozenset(
    {
        UsageMetered,
        TokensMetered,
        LogRead,
        EvidenceExported,
        DecisionRecorded,
        InvoiceIssued,
        CreditNoteIssued,
        TokenIssued,
        TokenRevoked,
        RequestAnswered,
        PlacementMade,
        PlacementStarted,
        EvictionRequested,
    }
)
"""Events that change nothing for a planner, or that are what it asked for itself: it is not asked again for them."""
THRASHED = 30
"""A workload that is evicted so often within an hour gets nothing done."""
PLAN_AGAIN_MS = 3_600_000
CHECK_EVERY = 8
"""One plan in so many gets the independent second opinion."""


def person_of(token: TokenId, role: Role, tenant: TenantId | None, value: str) -> Person:
    """Whoever holds a token, as the control plane knows them."""
    number = int(token.removeprefix("t-"))
    return Person(Caller(Subject("token", token, role, tenant), number), value)


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
    shapes: Counter[str] = field(default_factory=Counter)
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
                self.shapes["goes for an equal"] = self.checkers.equals.swaps
            elif isinstance(committed.event, PlacementMade):
                self.shapes.update(shapes_of(self.checkers.capacity.specs[committed.event.workload]))
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
        self.engines: Mapping[str, RemoteEngine] = {"fake": engine}
        self.switches: Switches = engine.switches
        self.chance, self.witness, self.meter_every_ms = chance, witness, meter_every_ms
        self.store: FaultyStore | None = None
        self.control: Control | None = None
        self.reconciler: Reconciler | None = None
        self.service: SharedCommits | None = None
        self.web: Web | None = None
        self.waiting: list[tuple[Request, Exchange]] = []
        self.on_answer: Callable[[Request, Answer], None] = lambda _request, _answer: None
        self.on_denied: Callable[[Request, ProblemView], None] = lambda _request, _problem: None
        self.on_unavailable: Callable[[Request], None] = lambda _request: None
        self.on_boot: Callable[[], None] = lambda: None
        self.on_look: Callable[[], None] = lambda: None
        self.on_report: Callable[[Control], None] = lambda _control: None
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
        self.on_boot()
        self.store = FaultyStore(self.path, self.switches)
        control = Control(
            self.store, self.keys, self.clock, random=self.chance.randbytes, policies=remembering()
        )
        self.switches.crash_at("crash-recovering")
        self.catch_up(control)
        control.execute(SYSTEM, c.StartControl("simulated", "sim"))
        self.control, self.service = control, SharedCommits(control)
        self.service.on_durable.append(self._durable)
        reconciler = Reconciler(control, self.engines, self.meter_every_ms)
        reconciler.declare()
        self.on_report(control)
        self.commit()
        self.switches.crash_at("crash-started")
        reconciler.fence()
        self.reconciler = self.service.reconciler = reconciler
        self.web = Web(self.service, self.chance.randbytes)
        self._changed = True

    def first_operator(self, token: str) -> Person:
        """The operator's first token: made by the control plane itself, as the first start of a server does it."""
        control = self._control()
        named = control.execute(SYSTEM, c.IssueToken(token_hash(token), Role.OPERATOR_ADMIN, None))
        self.commit()
        if not isinstance(named, c.Named):
            raise TypeError(f"a token was answered with {named}")
        return person_of(TokenId(named.name), Role.OPERATOR_ADMIN, None, token)

    def die(self) -> list[Request]:
        """Everything in memory is gone; the requests that nobody was answered."""
        if self.store is not None:
            self.store.close()
        self.store = self.control = self.reconciler = self.service = self.web = None
        waiting, self.waiting = self.waiting, []
        for _, exchange in waiting:
            exchange.drop()
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
        """After a failed commit: decide again, when the store takes commits. True when it does."""
        control = self._control()
        if control.broken is not None and self.switches.disk_full:
            return False
        control.broken = None
        return True

    def _lose(self, control: Control, error: JournalUnavailable) -> None:
        """A commit failed: the world is the store's again, nothing is decided, and who waited is told so."""
        self.catch_up(control)
        self.witness.heads.acknowledged(control.head)
        self._changed = True
        waiting, self.waiting = self.waiting, []
        for request, exchange in waiting:
            if not exchange.go_on(HeadraceError(*error.problems)):
                self._wrong(request, "its commit failed, and it waits for another")
            elif not self._is_unavailable(request, exchange.reply):
                status, _, body = exchange.reply
                self._wrong(request, f"its commit failed, and it was answered with {status}: {body[:200]!r}")
            self.on_unavailable(request)

    def _control(self) -> Control:
        if self.control is None:
            raise Unavailable
        return self.control

    # -- requests -------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> None:
        """Send a request to the API; it is answered once it is durable. Raises Unavailable, or Crash."""
        control = self._control()
        if self.web is None:
            raise Unavailable
        before = control.world.state.version
        exchange = self._open(self.web, request)
        is_answered = exchange.go_on()
        request.acts = control.world.state.version > before
        self.waiting.append((request, exchange))
        self.switches.crash_at("crash-executed")
        if is_answered:
            self.waiting.pop()
            self._reply(request, exchange.reply)

    def _open(self, web: Web, request: Request) -> Exchange:
        request.attempts += 1
        self.witness.notebook.asked[request.what] += 1
        return web.open(request.method, request.path, request.headers, request.body)

    def _reply(self, request: Request, reply: Reply) -> None:
        """An answer reaches its client."""
        status, _, body = reply
        answer = self._read_answer(request, status, body)
        if answer is None:
            return
        tenant = request.who.caller.subject.tenant
        if tenant is not None:
            asked = (*request.path.split("/"), "")[3]
            # It names what was asked for, and nothing else.
            told = body if asked.startswith(tenant) else body.replace(asked.encode(), b"")
            self.witness.checkers.isolation.answer_seen(tenant, told)
        if answer.problem is None:
            self._answer(request, answer)
        elif answer.problem.code == UNAVAILABLE:
            self.on_unavailable(request)
        else:
            self._deny(request, answer.problem)

    def _read_answer(self, request: Request, status: int, body: bytes) -> Answer | None:
        try:
            return answer_of(request, status, body)
        except ValueError as error:
            self._wrong(request, f"answered with {status}, {error}: {body[:200]!r}")
            return None

    def _is_unavailable(self, request: Request, reply: Reply) -> bool:
        answer = self._read_answer(request, reply[0], reply[2])
        return answer is not None and answer.problem is not None and answer.problem.code == UNAVAILABLE

    def _wrong(self, request: Request, what: str) -> None:
        self.witness.found(3, request.what, f"{request.method} {request.path}: {what}", "answer")

    def _deny(self, request: Request, problem: ProblemView) -> None:
        self.witness.notebook.deny(f"{request.what}: {problem.code}")
        line = f"{problem.message} {problem.next_step}"
        if request.expect and request.expect != problem.code:
            what = f"{request.what} was denied with {problem.code} ({line}), not {request.expect}"
            self.witness.found(6, request.what, what, "answer")
        if request.same_as is not None and not request.expect and request.what in CREATES:
            self.witness.found(3, request.what, f"asked again, it was denied: {line}", "answer")
        self.on_denied(request, problem)

    def commit(self) -> None:
        """Make everything durable, then answer. Raises Crash or JournalUnavailable."""
        control, service = self._control(), self.service
        while service is not None and (control.has_pending or self.waiting):
            try:
                service.commit()
            except JournalUnavailable as error:
                self._lose(control, error)
                raise
            # What they go on with may decide more: then they wait again.
            waiting, self.waiting = self.waiting, []
            for request, exchange in waiting:
                if exchange.go_on():
                    self._reply(request, exchange.reply)
                else:
                    self.waiting.append((request, exchange))
        self.switches.crash_at("crash-replied")

    def _durable(self, batch: Batch) -> None:
        if batch.group is not None:
            self.witness.took(batch.group, batch.committed)
            self._states(self._control(), batch.committed)
            matters = any(type(one.event) not in _NO_MATTER for one in batch.committed)
            self._changed = self._changed or matters

    def read(self, token: str, path: str) -> tuple[int, bytes]:
        """Read by the API. Raises Unavailable, Crash, or JournalUnavailable when it could not be made durable."""
        if self.web is None:
            raise Unavailable
        exchange = self.web.open("GET", path, {"authorization": f"Bearer {token}"})
        try:
            while not exchange.go_on():
                self.commit()
        finally:
            exchange.drop()
        status, _, body = exchange.reply
        return status, body

    def call(self, request: Request) -> Answer:
        """Send a request and wait for its answer, whoever else is served meanwhile; for when nothing fails."""
        if self.web is None:
            raise Unavailable
        exchange = self._open(self.web, request)
        while not exchange.go_on():
            self.commit()
        status, _, body = exchange.reply
        answer = answer_of(request, status, body)
        if answer.problem is not None:
            self.witness.notebook.deny(f"{request.what}: {answer.problem.code}")
        elif answer.head is not None:
            self.witness.heads.acknowledged(answer.head)
        return answer

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

    def _answer(self, request: Request, answer: Answer) -> None:
        witness, made, head = self.witness, answer.made, answer.head
        # A log comes without a head.
        if request.method != "GET":
            witness.heads.acknowledged(head)
        known = made if request.what in CREATES else ()
        has_acted = request.acts or answer.repeated
        last = head.size - 1 if head is not None and has_acted and request.is_keyed else -1
        witness.checkers.durability.acknowledged(request.digest, known, last)
        if request.expect:
            witness.found(6, request.what, f"it was answered; {request.expect} was due", "answer")
        first = request.same_as
        if known and first is not None and first.made not in (None, made):
            witness.found(3, request.what, f"asked again, it made {made}, not {first.made}", "key-twice")
        request.made, request.head = made, head
        witness.notebook.answered.append(request)
        self.on_answer(request, answer)

    # -- the loop -------------------------------------------------------------------------------------------

    def round(self, *, meter_all: bool = False) -> None:
        """Look at devices and engines, plan, commit, act. Raises Crash or JournalUnavailable."""
        control, reconciler = self._control(), self.reconciler
        if reconciler is None:
            raise Unavailable
        self.on_report(control)
        self.witness.checkers.lawchange.look_begins(control.world.state.version)
        reconciler.observe(meter_all=meter_all)
        self.note_ran()
        self.commit()
        self.propose()
        if control.has_pending:
            self.commit()
        reconciler.act()
        self.rounds += 1
        self.witness.checkers.windows.round_over(control.now_ms())
        self.witness.checkers.lawchange.look_over(control.now_ms())
        self.on_look()

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
        if not self._needs_plans(control) or (not self._changed and now_ms < self._plan_at_ms):
            return
        snapshot = world.snapshot(now_ms)
        proposal = plan(snapshot)
        self.plans += 1
        if self.plans % CHECK_EVERY == 0:
            if proposal.placements:
                self.witness.own.extend(check(snapshot, proposal))
            if plan(replace(snapshot, memory=None, waiting=None)) != proposal:
                self.witness.found(
                    7, "planner", "it plans otherwise than one that remembers nothing", "memory"
                )
        self._plan_at_ms = min(
            again_ms(snapshot, proposed=proposal) or now_ms + PLAN_AGAIN_MS, now_ms + PLAN_AGAIN_MS
        )
        altered = self.alter(snapshot, proposal)
        self._changed = altered is not None and altered is not proposal
        if altered is not None and (altered.placements or altered.evictions):
            if altered is not proposal:
                self.witness.checkers.intruders.excuse(one.placement for one in altered.evictions)
            rejected = self.adopt(altered)
            if altered is proposal and rejected:
                who, why = rejected[0]
                self.witness.found(7, who, f"planned for this very world, and rejected: {why}", "rejected")

    def plan_anew(self) -> None:
        """Ask the planner again though nothing changed: what it said last may have been altered, or be late."""
        self._changed = True

    def adopt(self, proposal: Plan) -> tuple[tuple[WorkloadId, str], ...]:
        """Have the writer re-validate a plan and adopt what is still right of it; what it rejects, and why."""
        reply = self._control().execute(SYSTEM, c.AdoptPlan(proposal))
        if not isinstance(reply, c.Adopted):
            return ()
        self._changed = self._changed or bool(reply.rejected)
        for _, why in reply.rejected:
            self.witness.notebook.deny(f"AdoptPlan: {why}")
        return reply.rejected

    def is_busy(self) -> bool:
        """Whether what is wanted of the engines and what was seen of them differ, or a plan is due."""
        control = self.control
        if control is None or control.broken is not None or self.waiting:
            return True
        if control.world.unsettled:
            return True
        return self._needs_plans(control) and (self._changed or control.now_ms() >= self._plan_at_ms)

    def _needs_plans(self, control: Control) -> bool:
        """Whether there is anything to plan: work that waits, or windows that begin and end."""
        return bool(control.world.queue or control.world.windows)

    def next_ms(self) -> int:
        """Journal time until which nothing happens by itself in the control plane."""
        control = self._control()
        now_ms = control.now_ms()
        if control.world.unsettled:
            return now_ms + ASK_AGAIN_MS + 1
        return max(now_ms, self._plan_at_ms) if self._needs_plans(control) else now_ms + PLAN_AGAIN_MS

    def live(self, state: State) -> list[Workload]:
        """Workloads in a state, for those who choose one to do something to."""
        return [work for work in self._control().world.state.workloads.values() if work.state is state]


__all__ = ["JournalUnavailable", "Plant", "Unavailable", "Witness"]
