"""A small core for tests: a world, and a driver that decides commands and applies their events. No store, no engine."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.apply import apply
from headrace.core.authority import Role, Subject
from headrace.core.codec import Core as Value
from headrace.core.codec import document_name, normalise
from headrace.core.contracts import Contract, PricePlan, Tenant
from headrace.core.data.model import Dataset, data_id
from headrace.core.decide import decide
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, Site
from headrace.core.ids import (
    ContractId,
    DataId,
    NodeId,
    OperatorId,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WorkloadId,
)
from headrace.core.observation import NodeReport, PlacementReport, RankReport, RankState
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.state import Row, State
from headrace.core.streams import streams
from headrace.core.workload import RankPlace, Resources, Workload, WorkloadSpec, WorkloadType
from headrace.core.world import World

START_MS = 1_795_000_000_000
"""2026-11-18: when everything here begins."""
ACME, BOREALIS = TenantId("acme"), TenantId("borealis")
FJORD, ALBION = SiteId("fjord"), SiteId("albion")
SYSTEM = Subject("system", "control", Role.SYSTEM)
OPERATOR = Subject("token", "t-1", Role.OPERATOR_ADMIN)
ADMIN = Subject("token", "t-2", Role.TENANT_ADMIN, ACME)
MEMBER = Subject("token", "t-3", Role.TENANT_MEMBER, ACME)
RUNNING, PAUSED, STARTING = RankState.RUNNING, RankState.PAUSED, RankState.STARTING
LOST = RankState.LOST


def site(ident: SiteId, country: str, *, racks: int = 1, limit_w: int = 100_000, **more: Any) -> Site:
    """A site of racks with two ``lab`` nodes each; PUE 1, so that limits read as they are written."""
    group = NodeGroup("g", "lab", racks, 2)
    block = Block("b", (group,), commissioned="2025-01-01")
    return Site(
        ident, country, "Europe/Oslo", Connection(limit_w), 1_000, 20, 450_000, "NOK", blocks=(block,), **more
    )


def estate(*sites: Site) -> Estate:
    """An estate of sites; by default four nodes in Norway and two in Britain."""
    known = sites or (site(FJORD, "NO", racks=2), site(ALBION, "GB"))
    return Estate(Operator(OperatorId("op"), "Op", "NO", "Europe/Oslo", "NOK"), known)


def tenant(ident: TenantId, *projects: str, **more: Any) -> Tenant:
    """A tenant, with the project ``main`` unless others are named."""
    return Tenant(ident, tuple(ProjectId(one) for one in projects or ("main",)), **more)


PRICES = PricePlan(PlanId("prices"), "NOK", {"*": 10_000_000}, energy_pass_through=True)


def contract(ident: TenantId, **more: Any) -> Contract:
    """An on-demand contract of a tenant."""
    values: dict[str, Any] = {"id": ContractId(f"c-{ident}"), "tenant": ident, "plan": PRICES.id}
    return Contract(**(values | {"starts": "2025-01-01"} | more))


DOCUMENTS: tuple[Value, ...] = (
    estate(),
    PRICES,
    tenant(ACME),
    tenant(BOREALIS),
    contract(ACME),
    contract(BOREALIS),
)
_KINDS: dict[type, str] = {
    Estate: "estate",
    Tenant: "tenant",
    PricePlan: "price-plan",
    Contract: "contract",
    Dataset: "dataset",
}


def document(value: Value) -> c.NormalisedDocument:
    """A value as a document that can be applied."""
    kind, name = _KINDS[type(value)], document_name(value)
    return c.NormalisedDocument(kind, name, normalise(kind, name, value))


def dataset(name: str = "corpus", *, tenant: TenantId = ACME, **more: Any) -> Dataset:
    """A data set of a tenant, whose first copy is in Norway."""
    values: dict[str, Any] = {"digest": "d" * 64, "size_bytes": 1_000, "site": FJORD}
    return Dataset(data_id(tenant, name), tenant, name, **(values | more))


def job(name: str = "job", **more: Any) -> WorkloadSpec:
    """A job of one node with one accelerator."""
    values: dict[str, Any] = {
        "name": name,
        "type": WorkloadType.JOB,
        "project": ProjectId("main"),
        "resources": Resources("lab", 1, 250, 16),
        "commands": ("true",),
    }
    return WorkloadSpec(**(values | more))


def service(name: str = "service", **more: Any) -> WorkloadSpec:
    """A service of one node."""
    return job(name, type=WorkloadType.SERVICE, **more)


def ended(number: int, code: int = 0, **more: Any) -> RankReport:
    """The report of a rank that exited."""
    return RankReport(number, RankState.EXITED, exit_code=code, **more)


@dataclass
class Core:
    """A world, its time, and everything that was decided in it."""

    world: World = field(default_factory=World)
    now_ms: int = START_MS
    events: list[ev.Event] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    after: Callable[[], None] = lambda: None
    """Called after each event."""

    @property
    def state(self) -> State:
        return self.world.state

    def do(self, command: c.Command, subject: Subject = SYSTEM, key: bytes = b"") -> c.Reply:
        """Decide and apply, as the control loop does; its reply. Raises HeadraceError."""
        deciding = decide(self.world, subject, command, self.now_ms, key)
        while True:
            try:
                event = next(deciding)
            except StopIteration as stop:
                reply: c.Reply = stop.value
                return reply
            streams(self.world, event)
            committed = ev.Committed(self.state.version, self.now_ms, event, key)
            self.rows.extend(apply(self.world, committed))
            self.events.append(event)
            self.after()

    def made(self, command: c.Command, subject: Subject = SYSTEM, key: bytes = b"") -> list[ev.Event]:
        """The events that a command makes, but records of verdicts."""
        before = len(self.events)
        self.do(command, subject, key)
        return [one for one in self.events[before:] if not isinstance(one, ev.DecisionRecorded)]

    def apply(self, *values: Value) -> c.Reply:
        return self.do(c.ApplyDocuments(tuple(document(one) for one in values)))

    def submit(self, *specs: WorkloadSpec, tenant: TenantId = ACME, key: bytes = b"") -> list[WorkloadId]:
        reply = self.do(c.Submit(tenant, specs, "digest"), key=key)
        assert isinstance(reply, c.Submitted)
        return list(reply.workloads)

    def plan(self) -> Plan:
        return plan(self.world.snapshot(self.now_ms), PlanLimits())

    def place(self) -> list[PlacementId]:
        """Plan and adopt; the placements."""
        reply = self.do(c.AdoptPlan(self.plan()))
        assert isinstance(reply, c.Adopted)
        return list(reply.made)

    def put(self, workload: WorkloadId, *nodes: str, mask: int = 1) -> c.Adopted:
        """Propose a workload on nodes of one site (``fjord/b/g-0-0``)."""
        need = self.state.workloads[workload].spec.resources
        ranks = tuple(RankPlace(node, mask, need.cpu_milli, need.memory_mb) for node in nodes)
        where = SiteId(nodes[0].split("/")[0])
        plan_ = Plan(self.state.version, (ProposedPlacement(workload, where, ranks),))
        reply = self.do(c.AdoptPlan(plan_))
        assert isinstance(reply, c.Adopted)
        return reply

    def started(self, *specs: WorkloadSpec) -> tuple[Workload, PlacementId]:
        """Submit, place and start; the first of them with its placement."""
        first = self.submit(*(specs or (job(),)))[0]
        for placement in self.place():
            self.report(placement, *(RUNNING for _ in self.state.placements[placement].ranks))
        work = self.state.workloads[first]
        assert work.placement is not None
        return work, work.placement

    def report(
        self, placement: PlacementId, *ranks: RankState | RankReport, meter_ms: int | None = None
    ) -> list[ev.Event]:
        """Let the engine say how the ranks of a placement are; the events that follow."""
        reports = tuple(
            one if isinstance(one, RankReport) else RankReport(number, one)
            for number, one in enumerate(ranks)
        )
        found = PlacementReport(placement, self.state.epoch, reports)
        return self.made(c.Observe((found,), isolation="none", meter_ms=meter_ms))

    def arrive(self, data: str, site: SiteId) -> list[ev.Event]:
        """Let the mover say that all bytes of a copy are there; the events that follow."""
        known = self.world.laws.datasets[DataId(data)]
        report = c.CopyReport(known.id, site, "present", known.digest, known.size_bytes)
        return self.made(c.ReportCopies((report,)))

    def node(self, node: str, *, up: bool, reason: str = "") -> list[ev.Event]:
        return self.made(c.Observe((), nodes=(NodeReport(NodeId(node), up, reason),)))

    def missing(self, placement: PlacementId) -> list[ev.Event]:
        return self.made(c.Observe((), missing=(placement,)))


def core(*more: Value) -> Core:
    """A core that has begun, with its documents applied."""
    made = Core()
    made.do(c.StartControl("small", "0.1.0", "boot"))
    made.apply(*DOCUMENTS, *more)
    return made


def shown(state: State) -> str:
    """All that a state holds, to see whether anything of it changed."""
    return repr(state)


def columns(world: World) -> dict[str, list[int]]:
    """What a world derives from its state for decisions to read."""
    names = (
        "node_mask",
        "node_cpu_milli",
        "node_memory_mb",
        "node_ranks",
        "power_w",
        "node_ready",
        "node_here",
    )
    found: dict[str, list[int]] = {name: np.asarray(getattr(world, name)).tolist() for name in names}
    return found


def derived(world: World) -> dict[str, object]:
    """The columns, and the indexes that stand beside them."""
    held = {name: count for name, count in sorted(world.contract_held_milli.items()) if count}
    queue = sorted(world.queue, key=lambda ident: world.queue[ident].submitted_seq)
    return columns(world) | {
        "floors": list(world.floors.watts),
        "capped": sorted(world.counted.capped),
        "credit": dict(sorted(world.counted.credit_w.items())),
        "excess": dict(sorted(world.counted.excess_w.items())),
        "limits": world.power_limit_w.tolist(),
        "held": held,
        "queue": queue,
        "unsettled": sorted(world.unsettled),
        "tokens": sorted(world.by_number),
    }


def rebuilt(world: World) -> World:
    """A world made anew from the same state, at the same time."""
    fresh = World(replace(world.state))
    fresh.at(world.now_ms)
    return fresh
