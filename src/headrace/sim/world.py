"""One world from a seed: an estate, its people, engines and faults, event by event."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec

from headrace.api.views import DocumentView, ProblemView
from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.authority import Role
from headrace.core.codec import from_normalised
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.estate import Estate
from headrace.core.fleet import compile_fleet
from headrace.core.ids import PlacementId, TenantId, TokenId, WorkloadId
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.proposal import Plan
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import State
from headrace.engines.fake import FakeEngine
from headrace.journal.keys import Keys
from headrace.ports import StartOrder
from headrace.sim.calendar import Calendar, calendar_steps
from headrace.sim.checkers import Checkers
from headrace.sim.clients import Answer, Request, submission
from headrace.sim.clock import TrueClock, WallClock
from headrace.sim.clusters import engines_of, some_capabilities, with_cluster
from headrace.sim.estates import aside, make_ground
from headrace.sim.faults import Crash, RemoteEngine, Switches
from headrace.sim.grid import Grid
from headrace.sim.heads import HeadKeeper
from headrace.sim.intruders import Strangers, stranger_steps
from headrace.sim.lawmakers import legislature
from headrace.sim.mischief import Mischief
from headrace.sim.people import People
from headrace.sim.plant import CREATES, JournalUnavailable, Plant, Unavailable, Witness, person_of
from headrace.sim.script import LONG, Scale, Step, write_script
from headrace.sim.web import some_path
from headrace.sim.work import LONG_MS, SHORT_MS, SpecMaker

FIRST_DAY_MS = 1_767_225_600_000
"""The beginning of 2026."""
_ASKED_AGAIN = CREATES | {
    *("Stop", "Pause", "Resume", "Drain", "Undrain"),
    *("RevokeToken", "ApplyDocuments", "RemoveDocument", "Instruct", "Withdraw"),
}
"""Requests that a careless client sends again after they were answered."""
_REUSED = {
    "Submit": ("Submit", ""),
    "Stop": ("Pause", "/pause"),
    "Pause": ("Resume", "/resume"),
    "Resume": ("Stop", "/stop"),
}
"""Requests whose keys somebody takes for something else, and for what."""
RETRY_MS = (1_000, 40_000)
RESTART_MS = (500, 90_000)


class Simulation:
    """Everything that a seed makes. ``run`` plays the script; :mod:`headrace.sim.rest` brings it to rest."""

    def __init__(self, seed: int, scale: Scale, folder: Path) -> None:
        self.seed, self.scale = seed, scale
        root = Random(seed)
        # Children by the order of their making: what one draws leaves the others as they are.
        ground_chance, work_chance, script_chance, people_chance, fault_chance, plant_chance, self.chance = (
            Random(root.getrandbits(64)) for _ in range(7)
        )
        is_long = scale is LONG or scale.length_ms > MS_PER_DAY
        self.start_ms = FIRST_DAY_MS + root.randrange(365) * MS_PER_DAY + root.randrange(MS_PER_DAY)
        self.lawmakers, self.start_ms = legislature(self, seed, scale, self.start_ms)
        self.true = TrueClock(self.start_ms)
        self.wall = WallClock(self.true)
        self.switches = Switches()
        rate = root.choice((1_000, 1_000, 999, 1_002))
        self.engine = FakeEngine(self.true, heartbeat_ms=scale.heartbeat_ms, seed=root.getrandbits(32))
        self.engine.faults.rate_permille = rate
        keys = Keys(root.randbytes(32), root.randbytes(32))
        self.checkers = Checkers()
        self.witness = Witness(self.checkers, HeadKeeper(keys.public))
        remote = RemoteEngine(self.engine, self.switches, self._ordered)
        path = folder / "journal.sqlite"
        self.plant = Plant(path, keys, self.wall, remote, plant_chance, self.witness, scale.meter_every_ms)
        ground = make_ground(ground_chance, self.start_ms, is_long=is_long)
        strange = aside(ground_chance)
        ground.estate = with_cluster(strange, ground.estate)
        able = some_capabilities(strange, [one.id for one in ground.tenants])
        self.grid = Grid(self, aside(aside(aside(script_chance))))
        ground.estate, able = self.grid.with_ramps(ground.estate), self.grid.able(able)
        self.plant.engines = engines_of(self.engine, self.switches, self._ordered, ground.estate, able)
        self.strangers = Strangers(self, strange)
        self._listen()
        maker = SpecMaker(work_chance, ground, *(LONG_MS if is_long else SHORT_MS))
        maker.pausing, maker.under = self.grid.pausing, self.lawmakers.under
        self.mischief = Mischief(self, fault_chance)
        self.plant.alter = self.mischief.alter
        self.steps = write_script(script_chance, scale)
        if is_long:
            self.steps.extend(calendar_steps(aside(script_chance), scale))
        has_cluster = self.strangers.cluster is not None
        self.steps.extend(stranger_steps(aside(aside(script_chance)), scale, has_cluster=has_cluster))
        self.steps.extend((*self.grid.steps, *self.lawmakers.steps))
        self.calendar = Calendar(self, aside(work_chance), LONG_MS)
        self.ask_again = 0
        self.is_resting = False
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._round_ms: int | None = None
        self._on_answer: dict[int, Callable[[Request, Answer], None]] = {}
        self._requests: list[Request] = []
        laws = self.lawmakers.ground(ground, self.start_ms)
        self.boot()
        operator = self.plant.first_operator(f"hr_{root.randbytes(16).hex()}")
        self.people = People(people_chance, ground, maker, self.start_ms, operator, laws=laws)

    def _listen(self) -> None:
        """Be told of what happens in the plant."""
        self.plant.on_answer = self._answered
        self.plant.on_denied = self._denied
        self.plant.on_unavailable = lambda request: self._again([request])
        self.plant.on_boot = self.strangers.opened
        self.plant.on_look = self._looked
        self.plant.on_report = self.grid.devices.report
        self.switches.tries, self.switches.ends = self.checkers.lawchange.end_tried, self._end_ordered
        self.checkers.intruders.was_lost = self.engine.lost.__contains__
        self.checkers.intruders.has_fallen = self._has_fallen

    # -- time -----------------------------------------------------------------------------------------------

    def later(self, delay_ms: int, what: Callable[[], None]) -> None:
        """Have something happen after a while."""
        self._count += 1
        heapq.heappush(self._heap, (self.true.at_ms + delay_ms, self._count, what))

    def run_until(self, end_ms: int, enough: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen that is due by ``end_ms``, or until it is ``enough``."""
        while self._heap and self._heap[0][0] <= end_ms and not enough():
            at_ms, _, what = heapq.heappop(self._heap)
            self.true.at_ms = max(self.true.at_ms, at_ms)
            self._guarded(what)
        if not enough():
            self.true.at_ms = max(self.true.at_ms, end_ms)

    def _guarded(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Crash:
            self._died()
        except JournalUnavailable:
            self._lost()
        except Unavailable:
            return

    def run(self) -> None:
        """Play the script to its end."""
        self.prepare()
        for step in sorted(self.steps, key=lambda one: (one.at_ms, one.kind, one.what)):
            self.later(step.at_ms, self._step(step))
        self._tick()
        self.lawmakers.begin_days()
        self.run_until(self.start_ms + self.scale.length_ms, lambda: self.witness.is_broken)

    def prepare(self) -> None:
        """Declare the ground and give every tenant a token; nothing fails yet."""
        people = self.people
        self.ask(people.documents())
        for tenant in people.ground.tenants:
            self.ask(people.token(Role.TENANT_ADMIN, tenant.id), self._token_of(tenant.id))
        self._guarded(self.commit)

    def _token_of(self, tenant: TenantId) -> Callable[[Request, Answer], None]:
        def hold(_request: Request, answer: Answer) -> None:
            person = person_of(TokenId(answer.made[0]), Role.TENANT_ADMIN, tenant, answer.token)
            self.people.members[tenant] = person

        return hold

    def _step(self, step: Step) -> Callable[[], None]:
        if step.kind == "fault":
            return lambda: self.mischief.happen(step.what)
        if step.kind == "grid":
            return lambda: self.grid.happen(step.what)
        if step.kind == "law":
            return lambda: self.lawmakers.happen(step.what)
        if step.kind == "stranger":
            return lambda: self.strangers.happen(step.what)
        if step.kind == "submit":
            return lambda: self._submit(step.size)
        if step.kind == "calendar":
            return lambda: self.calendar.happen(step.what)
        if step.what == "explain":
            return self._explain
        return lambda: self._act(step.what)

    def _submit(self, size: int) -> None:
        self.ask_for(self.people.submit(size))

    def ask_for(self, request: Request) -> None:
        """Ask for workloads, and remember them."""
        items = request.items

        def made(_request: Request, answer: Answer) -> None:
            specs = [spec for spec, _ in items]
            self.people.workloads.extend(zip(answer.made, specs, strict=True))

        self.ask(request, made)

    def _act(self, what: str) -> None:
        request = self.people.act(what, self.true.at_ms)
        if request is not None:
            self.ask(request, self._after(what))

    def _after(self, what: str) -> Callable[[Request, Answer], None]:
        def done(_request: Request, answer: Answer) -> None:
            if what == "token":
                self.people.tokens.append(answer.made[0])
            elif what == "invoice":
                self.people.invoices.extend(answer.made)
            elif what == "estate":
                self.later(1, self._see_estate)

        return done

    def _see_estate(self) -> None:
        """The operator looks at what the estate is now."""
        operator = self.people.ground.estate.operator.id
        _, body = self.plant.read(self.people.operator.token, f"/v1/documents/estate/{operator}")
        view = msgspec.json.decode(body, type=DocumentView)
        estate = from_normalised("estate", view.document)
        if isinstance(estate, Estate):
            self.people.ground.estate = estate

    def _explain(self) -> None:
        control = self.plant.control
        if not self.people.workloads or control is None or not self.plant.is_up or control.broken is not None:
            return
        ident, _ = self.chance.choice(self.people.workloads)
        if control.has_pending:
            self.plant.commit()
        work = control.world.state.workloads[WorkloadId(ident)]
        if work.state in (State.QUEUED, State.REFUSED):
            now_ms = control.now_ms()
            line = explain(control.world.snapshot(now_ms), work.id).line
            self.checkers.explanation.explained(ident, line, now_ms)
        self.read(ident)

    def read(self, ident: str) -> None:
        """A tenant reads what it may, and tries what it may not: no answer names what is another's."""
        tenant = self.chance.choice(list(self.people.members))
        path = some_path(self.chance, tenant, ident)
        status, body = self.plant.read(self.people.members[tenant].token, path)
        self.witness.notebook.deny(f"GET: {status}")
        if ident in path and not ident.startswith(f"{tenant}-"):
            if status != 404:
                self.witness.found(6, tenant, f"GET {path} was answered with {status}, not 404", "answer")
            # It names what was asked for, and nothing else.
            body = body.replace(ident.encode(), b"")
        elif status != 200:
            self.witness.found(6, tenant, f"GET {path} was answered with {status}: {body[:200]!r}", "answer")
        self.checkers.isolation.answer_seen(tenant, body)

    # -- requests -------------------------------------------------------------------------------------------

    def ask(self, request: Request, then: Callable[[Request, Answer], None] | None = None) -> None:
        """A client asks; when there is no answer it asks again, by the same key."""
        if then is not None:
            self._on_answer[id(request)] = then
            self._requests.append(request)
        self._send(request)

    def _send(self, request: Request) -> None:
        try:
            self.plant.handle(request)
        except Unavailable:
            self._again([request])
            return
        except Crash:
            # It was decided, and waits with the others.
            self._died()
            return
        if self.chance.random() < 0.6:
            self.commit()
        self._plan_round(self.chance.randint(20, 400))

    def commit(self) -> None:
        """Commit what was decided; a failed commit is dealt with."""
        self._guarded(self.plant.commit)

    def _again(self, requests: list[Request]) -> None:
        for request in requests:
            self.later(self.chance.randint(*RETRY_MS), self._sender(request))

    def _sender(self, request: Request) -> Callable[[], None]:
        return lambda: self._send(request)

    def _answered(self, request: Request, answer: Answer) -> None:
        then = self._on_answer.pop(id(request), None)
        if then is not None:
            then(request, answer)
        if self.ask_again and request.key and request.what in _ASKED_AGAIN:
            self.ask_again -= 1
            self.switches.fired["duplicate-request"] += 1
            # A token's value is told once: whoever asks by the same key is told that, and not another value.
            due = ProblemCode.CONFLICT if request.what == "IssueToken" else request.expect
            again = replace(request, same_as=request, acts=False, made=None, expect=due)
            self.later(self.chance.randint(0, 20 * 60_000), self._sender(again))

    def _denied(self, request: Request, problem: ProblemView) -> None:
        """Who asked for too much asks again for less."""
        self._on_answer.pop(id(request), None)
        if request.what == "Instruct":
            self.grid.denied(request, problem.code)
        if request.what == "Submit" and not request.expect and not self.is_resting:
            less = self.people.ask_for_less(request)
            if less is not None:
                self.later(self.chance.randint(*RETRY_MS), lambda: self.ask_for(less))

    def reuse_key(self) -> None:
        """A client asks for something else by a key that it used before."""
        used = [one for one in self.witness.notebook.answered if one.what in _REUSED]
        request = self._something_else(self.chance.choice(used)) if used else None
        if request is not None:
            request.expect = ProblemCode.IDEMPOTENCY_MISMATCH
            self.ask(request)

    def _something_else(self, first: Request) -> Request | None:
        if first.what != "Submit":
            # The same workload, and another thing done to it.
            path = first.path.rpartition("/")[0] + _REUSED[first.what][1]
            return replace(first, what=_REUSED[first.what][0], path=path, made=None)
        tenant = first.made[0].rpartition("-")[0] if first.made else ""
        spec, values = self.people.maker.make(tenant)
        return submission(first.who, tenant, ((spec, values),), first.key) if tenant else None

    # -- the plant ------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start a control plane; when it does not come up, again later."""
        try:
            self.plant.boot()
        except HeadraceError as error:
            if error.problem.code not in (ProblemCode.JOURNAL_UNAVAILABLE, ProblemCode.ENGINE_UNAVAILABLE):
                raise
            self._died()
            return
        self._plan_round(0)

    def _died(self) -> None:
        self.checkers.grid.hindered()
        self._again(self.plant.die())
        delay_ms = self.chance.randint(*RESTART_MS)
        self.later(delay_ms, self.boot)
        self.strangers.died(delay_ms)

    def _lost(self) -> None:
        """A commit failed: clients were told so, and nothing is decided until the store takes commits again."""
        self.checkers.grid.hindered()
        self.later(self.chance.randint(500, 5_000), self._recover)

    def _recover(self) -> None:
        if self.plant.control is None:
            return
        if self.plant.recover():
            self._plan_round(0)
        else:
            self.later(self.chance.randint(1_000, 60_000), self._recover)

    def _tick(self) -> None:
        """Now and then, whatever happens."""
        self._plan_round(0)
        if not self.is_resting:
            now_ms = self.true.at_ms - self.start_ms
            # What comes at the very end may be refused, and then nobody would make up for it.
            is_late = now_ms > self.scale.length_ms - 4 * self.scale.tick_ms
            coming = 0 if is_late else sum(step.size for step in self.steps if step.at_ms > now_ms)
            missing = self.scale.least_workloads - len(self.people.workloads) - coming
            # One by one: in an estate where much can never be placed, whole batches are refused for one of theirs.
            for _ in range(min(missing * (1 + 3 * is_late), 2 * self.scale.batch)):
                self._submit(1)
        self._tokens()
        self.later(self.scale.tick_ms, self._tick)

    def _tokens(self) -> None:
        """Replicas are asked for their counters, each answer a batch; the last batch may come again: no request does this."""
        control = self.plant.control
        if control is None or control.broken is not None or not self.plant.is_up:
            return
        state, now_ms = control.world.state, control.now_ms()
        for placement in list(state.placements.values()):
            if not placement.started_ms or not state.workloads[placement.workload].spec.counters:
                continue
            count = (now_ms - placement.started_ms) // 1_000
            one = c.RecordTokens(placement.id, placement.token_batches, 3 * count, count)
            control.execute(SYSTEM, one)
            if self.chance.random() < 0.2:
                control.execute(SYSTEM, one)

    def _plan_round(self, delay_ms: int) -> None:
        at_ms = self.true.at_ms + delay_ms
        if self._round_ms is None or at_ms < self._round_ms:
            self._round_ms = at_ms
            self.later(delay_ms, lambda: self._round(at_ms))

    def look_within(self, delay_ms: int) -> None:
        """Have a round within so long."""
        self._plan_round(delay_ms)

    def nudge(self) -> None:
        """Have two rounds soon, whatever else is due."""
        self._plan_round(0)
        self.later(1, lambda: self._plan_round(0))
        self.later(5_000, lambda: self._plan_round(0))

    def _round(self, at_ms: int) -> None:
        if at_ms != self._round_ms:
            return  # Another round came before, and planned the next.
        self._round_ms = None
        control = self.plant.control
        if control is None or not self.plant.is_up or control.broken is not None:
            return
        self.plant.round()
        self._plan_next()

    def _plan_next(self) -> None:
        """When the next round is worth it: something of an engine is due, or of the control plane."""
        latency = self.chance.randint(*self.scale.latency_ms)
        due = self.engine.next_due_ms()
        if due is not None:
            self._plan_round(max(due - self.true.at_ms, 0) + latency)
        control = self.plant.control
        if control is None:
            return
        asked = self.grid.next_look_ms()
        if asked is not None:
            self._plan_round(asked)
        if self.plant.is_busy():
            wait = self.plant.next_ms() - control.now_ms()
            self._plan_round(wait if control.world.unsettled else latency // 10)
        elif control.world.queue or control.world.windows:
            self._plan_round(self.plant.next_ms() - control.now_ms() + latency)

    def adopt(self, proposal: Plan) -> None:
        """A plan arrives late."""
        control = self.plant.control
        if control is not None and self.plant.is_up and control.broken is None:
            self.checkers.intruders.excuse(one.placement for one in proposal.evictions)
            self.plant.adopt(proposal)
            self.plant.plan_anew()
            self.commit()
            self._plan_round(100)

    # -- engines --------------------------------------------------------------------------------------------

    def _looked(self) -> None:
        """A control plane has looked at its engines: what they say must be on record before long."""
        self.checkers.power.looked()
        self.grid.devices.act()
        self.checkers.intruders.looked(self.strangers.look())
        self.grid.looked()
        self.checkers.lawchange.looked(self.true.at_ms, self._runs)

    def _runs(self, placement: str) -> bool:
        """Whether anything of a placement runs at its engine."""
        return any(one.placement == placement and one.ended_ms is None for one in self.engine.ran)

    def _end_ordered(self, placement: PlacementId, grace_ms: int) -> None:
        self.checkers.lawchange.end_ordered(placement, grace_ms, self.true.at_ms)

    def _has_fallen(self, node: str) -> bool:
        return node in self.strangers.fell or node in self.engine.fell

    # -- what others ask ------------------------------------------------------------------------------------

    def _ordered(self, order: StartOrder) -> None:
        """An order reaches an engine: the secrets must be its workload's, the user its tenant's."""
        self.checkers.isolation.uid_seen(order.tenant, order.tenant_uid)
        if self.plant.control is not None:
            self.checkers.lawchange.start_ordered(order.placement, self.plant.control.now_ms())
        self.strangers.ordered(order)
        secret = order.env.get("SECRET")
        if secret is not None and secret != f"secret of {order.env['WORK']}":
            self.witness.found(6, order.placement, f"{order.env['WORK']} was given {secret!r}", "secret")

    def node_ids(self) -> Iterator[str]:
        """Names of the nodes."""
        yield from compile_fleet(self.people.ground.estate).node_ids

    def live_placements(self) -> list[tuple[PlacementId, str]]:
        """Placements that have not ended, with their nodes' site."""
        control = self.plant.control
        return (
            [] if control is None else [(one.id, one.site) for one in control.world.state.placements.values()]
        )
