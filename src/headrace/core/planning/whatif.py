"""What if: the plan of now beside that of a changed estate or queue, in trial worlds. Nothing that is true is touched.

Documents, workloads and drained nodes take the way that real ones take (:func:`~headrace.core.decide.decide`,
:func:`~headrace.core.apply.apply`), in a copy of the state. What a change would break is said; what could not stay where it
is then waits with the others.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.apply import apply
from headrace.core.authority import Role, Subject
from headrace.core.changes import check_changes
from headrace.core.decide import decide
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.ids import ContractId, NodeId, PlacementId, TenantId, WorkloadId
from headrace.core.placing import reserve
from headrace.core.scheduling.endings import ending_of
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import parts_of
from headrace.core.state import State
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import TERMINAL, Placement, Workload, WorkloadSpec, options
from headrace.core.workload import State as WorkloadState
from headrace.core.world import World

MOST_AHEAD_MS = 3_653 * MS_PER_DAY
"""How far ahead a plan may be asked for."""
MOST_CLASSES = 200
"""Classes of waiting workloads that are explained, the largest first: each looks at every node."""
_WHO = Subject("system", "what-if", Role.SYSTEM)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be otherwise.

    ``documents`` are applied and ``workloads`` submitted. ``removed``: documents (``kind/name``) and workloads that are gone.
    ``drained``: names of nodes, racks, blocks or sites where nothing starts; with ``evict`` what runs there has to go elsewhere.
    ``at_ms``: when it is planned (0: now); what is sure to have ended by then is gone.
    """

    documents: tuple[c.NormalisedDocument, ...] = ()
    workloads: tuple[tuple[TenantId, WorkloadSpec], ...] = ()
    removed: tuple[str, ...] = ()
    drained: tuple[str, ...] = ()
    evict: bool = False
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Evicted:
    """What would be ended so that another can start later; ``waiting`` None: for a window that begins."""

    workload: Workload
    waiting: WorkloadId | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many alike that would go on waiting; ``example`` is the first of them. ``reason`` is "" where nobody looked."""

    count: int
    example: Workload
    refusal: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a plan would do: what starts where, what it evicts, and what waits on, the most numerous class first."""

    starts: tuple[tuple[Workload, ProposedPlacement], ...]
    evictions: tuple[Evicted, ...]
    waits: tuple[Waiting, ...]

    @property
    def waiting(self) -> int:
        """How many wait on."""
        return sum(one.count for one in self.waits)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The plan of now, and that of the changed world.

    ``conflicts``: why the documents could not be applied as things are. ``moved``: what could not stay where it is, and waits
    with the others in the changed plan. ``refused``: new workloads that the law keeps out, and why. ``new``: the names of all
    new ones.
    """

    at_ms: int
    now: Outcome
    then: Outcome
    conflicts: tuple[str, ...] = ()
    moved: tuple[WorkloadId, ...] = ()
    refused: tuple[tuple[WorkloadId, str], ...] = ()
    new: tuple[WorkloadId, ...] = ()


def copy_of(state: State) -> State:
    """What planning needs of a state, to change: live workloads and placements as objects of their own.

    It takes a microsecond for each of them; whoever owns the state must not change it meanwhile.
    """
    live = (one for one in state.workloads.values() if one.state not in TERMINAL)
    return replace(
        state,
        documents=dict(state.documents),
        tenants={name: copy(record) for name, record in state.tenants.items()},
        tokens=dict(state.tokens),
        nodes=dict(state.nodes),
        falls=dict(state.falls),
        workloads={one.id: Workload(*_WORKLOAD(one)) for one in live},
        placements={one.id: Placement(*_PLACEMENT(one)) for one in state.placements.values()},
        verdicts=dict(state.verdicts),
        reserved=dict(state.reserved),
        requests={},
        invoices={},
        credits={},
        alarms=[],
    )


_WORKLOAD = attrgetter(*(field.name for field in fields(Workload)))
_PLACEMENT = attrgetter(*(field.name for field in fields(Placement)))


def what_if(world: World, changes: Changes, now_ms: int) -> WhatIf:
    """The plan of now, and that with ``changes``; ``world`` is not changed.

    Raises HeadraceError for names that there are not, for documents that refer to nothing, and for workloads that could never
    be placed, each as applying or submitting them would.
    """
    before = outcome(World(copy_of(world.state), world.policies), now_ms)
    trial = _Trial(World(copy_of(world.state), world.policies), changes, max(now_ms, changes.at_ms))
    return trial.run(before, now_ms)


def plan_now(world: World, now_ms: int) -> Outcome:
    """What the plan of now would do; ``world`` is not changed."""
    return outcome(World(copy_of(world.state), world.policies), now_ms)


def outcome(trial: World, now_ms: int) -> Outcome:
    """Plan in a trial world, and let it start there what would: what is said of the rest counts on that."""
    proposed = plan(trial.snapshot(now_ms))
    starts = [(trial.state.workloads[one.workload], one) for one in proposed.placements]
    evictions = [_evicted(trial, one.placement, one.waiting) for one in proposed.evictions]
    _adopt(trial, proposed, now_ms)
    return Outcome(tuple(starts), tuple(evictions), tuple(_waits(trial, trial.snapshot(now_ms))))


def _evicted(trial: World, placement: PlacementId, waiting: WorkloadId | None) -> Evicted:
    return Evicted(trial.state.workloads[trial.state.placements[placement].workload], waiting)


def _adopt(trial: World, proposed: Plan, now_ms: int) -> None:
    snapshot = trial.snapshot(now_ms)
    for one in proposed.placements:
        work = trial.state.workloads[one.workload]
        ident = PlacementId(f"{one.workload}.{work.attempt + 1}")
        paid = _contract(snapshot, work, one)
        _commit(
            trial,
            ev.PlacementMade(ident, work.id, work.tenant, one.site, one.ranks, "", 0, paid),
            now_ms,
        )


def _contract(snapshot: Snapshot, work: Workload, one: ProposedPlacement) -> ContractId:
    site = snapshot.fleet.site_index[one.site]
    model = options(work.spec)[one.option].accelerator
    contract = snapshot.contract_for(work.tenant, site, model, work.spec.contract)
    return contract.id if contract is not None else ContractId("")


def _commit(trial: World, event: ev.Event, now_ms: int) -> None:
    apply(trial, ev.Committed(trial.state.version, max(now_ms, trial.state.last_ms), event))


def _waits(trial: World, snapshot: Snapshot) -> Iterable[Waiting]:
    lines = sorted(trial.queue.lines.values(), key=lambda members: -len(members))
    for number, members in enumerate(lines):
        work = next(iter(members.values()))
        if number >= MOST_CLASSES:
            yield Waiting(len(members), work, "", "")
            continue
        told = explain(snapshot, work.id, in_full=False)
        refusal = told.refusal.name if told.refusal is not None else "RANK"
        yield Waiting(len(members), work, refusal, told.reason.removeprefix("waits: "))


class _Trial:
    """A world of its own, that changes are made to."""

    def __init__(self, world: World, changes: Changes, at_ms: int) -> None:
        self.world, self.changes, self.at_ms = world, changes, at_ms
        self.moved: dict[WorkloadId, None] = {}
        self.conflicts: list[str] = []

    def run(self, before: Outcome, before_ms: int) -> WhatIf:
        self.make_sense(before_ms)
        removed = self.remove()
        self.end()
        wanted = self.wanted()
        self.apply(wanted, removed)
        self.drain()
        refused, new = self.submit()
        then = outcome(self.world, self.at_ms)
        return WhatIf(
            self.at_ms, before, then, tuple(self.conflicts), tuple(self.moved), tuple(refused), tuple(new)
        )

    def make_sense(self, now_ms: int) -> None:
        """Raise for what would silently do nothing, or nothing that anybody could foresee."""
        changes, problems = self.changes, []
        if changes.at_ms and changes.at_ms < now_ms:
            problems.append(("at", "at is in the past.", "Write a time to come, or leave it out."))
        if changes.at_ms > now_ms + MOST_AHEAD_MS:
            problems.append(("at", "at is more than ten years ahead.", "Write an earlier time."))
        if changes.evict and not changes.drained:
            problems.append(("evict", "evict without drain does nothing.", "Name what is drained."))
        if problems:
            bad = ProblemCode.BAD_INPUT
            raise HeadraceError(*(Problem(bad, said, step, where=where) for where, said, step in problems))

    def renew(self, **changes: Any) -> None:
        """The same world with another state: all that is derived from it is made anew."""
        self.world = World(replace(self.world.state, **changes), self.world.policies)
        self.world.at(self.at_ms)

    # -- what is gone ---------------------------------------------------------------------------------------------

    def remove(self) -> list[str]:
        """Take workloads away; the documents that are to go are checked with the others."""
        state = self.world.state
        removed = [self.workload_of(name) for name in self.changes.removed]
        documents = [name for name in removed if "/" in name]
        known = [one for one in state.documents if not one.startswith("workload/")]
        problems = []
        for number, name in enumerate(removed):
            if name in state.workloads or name in known:
                continue
            what = ("document", known) if "/" in name else ("workload", list(state.workloads)[:10_000])
            problems.append(replace(unknown(what[0], name, what[1]), where=f"remove[{number}]"))
        if problems:
            raise HeadraceError(*problems)
        gone = set(removed)
        if gone.difference(documents):
            self.forget(gone)
        return documents

    def workload_of(self, name: str) -> str:
        """The workload of an id, or of a name that no other has of those that have not ended; any other name as it is."""
        workloads = self.world.state.workloads
        if name in workloads or "/" in name:
            return name
        live = [one.id for one in workloads.values() if one.spec.name == name and one.state not in TERMINAL]
        return live[0] if len(live) == 1 else name

    def forget(self, gone: Container[str]) -> None:
        """Take workloads away with what they hold."""
        state = self.world.state
        self.renew(
            workloads={name: one for name, one in state.workloads.items() if name not in gone},
            placements={name: one for name, one in state.placements.items() if one.workload not in gone},
        )

    def end(self) -> None:
        """What is sure to have ended by then is gone."""
        if not self.changes.at_ms:
            return
        snapshot = self.world.snapshot(self.at_ms)
        gone = set()
        for placement in self.world.state.placements.values():
            ending = ending_of(snapshot, placement)
            if ending is not None and ending.is_sure and ending.began_ms + ending.lasts_ms <= self.at_ms:
                gone.add(placement.workload)
        self.forget(gone)

    def requeue(self, placements: Sequence[Placement]) -> None:
        """Let what runs wait with the others."""
        state = self.world.state
        for placement in placements:
            work = state.workloads[placement.workload]
            work.state, work.placement, work.since_ms = WorkloadState.QUEUED, None, self.at_ms
            self.moved[work.id] = None
        gone = {placement.id for placement in placements}
        self.renew(placements={name: one for name, one in state.placements.items() if name not in gone})

    # -- documents ------------------------------------------------------------------------------------------------

    def wanted(self) -> dict[str, dict[str, Any]]:
        """The documents that change something."""
        known = self.world.state.documents
        named = {f"{one.kind}/{one.name}": one.document for one in self.changes.documents}
        return {key: document for key, document in named.items() if known.get(key) != document}

    def apply(self, wanted: Mapping[str, dict[str, Any]], removed: Sequence[str]) -> None:
        """Apply documents and drop others, whatever is in use: what could not stay moves, and the rest is said."""
        if not wanted and not removed:
            return
        self.check(wanted, removed)
        # With a tenant goes its work: whoever is not there any more starts nothing.
        tenants = {name.partition("/")[2] for name in removed if name.startswith("tenant/")}
        theirs = {one.id for one in self.world.state.workloads.values() if one.tenant in tenants}
        if theirs:
            self.forget(theirs)
        homeless = self.homeless(wanted, removed)
        if homeless:
            self.requeue(homeless)
            self.check(wanted, removed)
        command = c.ApplyDocuments(
            tuple(one for one in self.changes.documents if f"{one.kind}/{one.name}" in wanted)
        )
        reserved, problems = reserve(self.world, wanted, self.at_ms)
        self.blame(problems)
        # All of them at once: one by one, a contract could stand before its tenant.
        documents = {key: one for key, one in self.world.state.documents.items() if key not in removed}
        gone = {key.partition("/")[2] for key in removed if key.startswith("reservation/")}
        kept = {name: nodes for name, nodes in self.world.state.reserved.items() if name not in gone}
        self.renew(documents=documents | dict(wanted), reserved=kept)
        for one in command.documents:
            if one.kind == "tenant":
                # A new tenant has a number from when it is applied.
                _commit(self.world, ev.DocumentApplied(one.kind, one.name, one.document, ""), self.at_ms)
        for event in reserved:
            _commit(self.world, event, self.at_ms)

    def check(self, wanted: Mapping[str, dict[str, Any]], removed: Sequence[str]) -> None:
        """Raise what is wrong in itself, and remember what is in the way only."""
        self.blame(check_changes(self.world, wanted, removed))

    def blame(self, problems: Sequence[Problem]) -> None:
        """Raise what is wrong in itself, and remember what is in the way only."""
        wrong = [one for one in problems if one.code is not ProblemCode.IN_USE]
        if wrong:
            raise HeadraceError(*wrong)
        lines = (one.line() for one in problems)
        self.conflicts += [line for line in lines if line not in self.conflicts]

    def homeless(self, wanted: Mapping[str, dict[str, Any]], removed: Sequence[str]) -> list[Placement]:
        """Placements whose nodes would go, or change their hardware."""
        state = self.world.state
        estate = {
            key: one
            for key, one in state.documents.items()
            if key.startswith("estate/") and key not in removed
        }
        estate |= {key: one for key, one in wanted.items() if key.startswith("estate/")}
        bare = World(State(last_ms=state.last_ms, documents=estate))
        gone = []
        for placement in state.placements.values():
            names = [NodeId(rank.node) for rank in placement.ranks]
            if any(_hardware(bare, name) != _hardware(self.world, name) for name in names):
                gone.append(placement)
        return gone

    # -- nodes and workloads --------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Nothing starts on drained nodes; what runs there goes elsewhere if it is told to."""
        if not self.changes.drained:
            return
        names = set[NodeId]()
        for number, name in enumerate(self.changes.drained):
            found = self.nodes_of(name)
            if not found:
                fleet = self.world.fleet
                known = [*fleet.site_index, *fleet.power_ids[:10_000], *fleet.node_ids[:10_000]]
                problem = unknown("site, block, rack or node", name, known)
                raise HeadraceError(replace(problem, where=f"drain[{number}]"))
            names.update(found)
        drained = dict.fromkeys(sorted(names), ("draining", "what if"))
        self.renew(nodes=self.world.state.nodes | drained)
        if self.changes.evict:
            there = [
                one
                for one in self.world.state.placements.values()
                if any(rank.node in names for rank in one.ranks)
            ]
            self.requeue(there)

    def nodes_of(self, name: str) -> list[NodeId]:
        """The nodes of a site, a block, a rack, or that node."""
        fleet = self.world.fleet
        site = fleet.site_index.get(name.partition("/")[0])  # type: ignore[call-overload]
        if site is None:
            return []
        parts = (name,) if "/" in name else ()
        return [fleet.node_ids[node] for node in parts_of(fleet, site, parts)]

    def submit(self) -> tuple[list[tuple[WorkloadId, str]], list[WorkloadId]]:
        """Submit the new workloads; those that the law refuses, and the names of all."""
        refused: list[tuple[WorkloadId, str]] = []
        new: list[WorkloadId] = []
        for number, (tenant, spec) in enumerate(self.changes.workloads):
            try:
                made = self._submitted(tenant, spec)
            except HeadraceError as error:
                raise HeadraceError(*(_numbered(one, number) for one in error.problems)) from None
            refused += made.refused
            new += made.workloads
        return refused, new

    def _submitted(self, tenant: TenantId, spec: WorkloadSpec) -> c.Submitted:
        deciding = decide(self.world, _WHO, c.Submit(tenant, (spec,)), self.at_ms)
        while True:
            try:
                event = next(deciding)
            except StopIteration as stop:
                if not isinstance(stop.value, c.Submitted):
                    raise TypeError(f"a submission answered {stop.value!r}") from None
                return stop.value
            _commit(self.world, event, self.at_ms)


def _numbered(problem: Problem, number: int) -> Problem:
    return replace(problem, where=problem.where.replace("workloads[0]", f"workloads[{number}]", 1))


def _hardware(world: World, node: NodeId) -> object:
    index = world.fleet.node_index.get(node)
    return None if index is None else world.fleet.hardware[world.fleet.node_hardware[index]]
