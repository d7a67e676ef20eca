"""A small journal with every kind of event in it, made through the production control loop: time and chance are fixed."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from headrace.control import SYSTEM, Caller, Control
from headrace.core import commands as c
from headrace.core.authority import Role, Subject
from headrace.core.codec import normalise
from headrace.core.contracts import Reservation
from headrace.core.ids import (
    DataId,
    NodeId,
    PlacementId,
    PowerNodeId,
    ProjectId,
    SiteId,
    TenantId,
    TokenId,
    WindowId,
    WorkloadId,
)
from headrace.core.observation import Capabilities, NodeReport, PlacementReport, RankReport, RankState
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.units import facility_watts
from headrace.core.workload import Flex, PolicyRef, Resources, WorkloadSpec, WorkloadType
from headrace.documents import load
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore

START_MS = 1_795_000_000_000
"""2026-11-18: when everything here begins."""
ACME, BOREALIS = TenantId("acme"), TenantId("borealis")
MEMBER = Caller(Subject("token", "t-2", Role.TENANT_MEMBER, ACME), 2)
OWNER = Caller(Subject("token", "t-1", Role.TENANT_ADMIN, ACME), 1)

DOCUMENTS = """
kind: estate
operator: {name: small, title: Small, country: NO, zone: Europe/Oslo, currency: NOK}
sites:
  - name: glomfjord
    country: NO
    zone: Europe/Oslo
    energy: {source: hydro, carbon: 8, price: 0.45, currency: NOK}
    connection: {firm: 40kW}
    pue: 1.1
    engine: fake
    blocks:
      - name: b
        commissioned: 2025-02-01
        groups: [{name: lab, hardware: lab, racks: 1, nodes_per_rack: 4}]
---
kind: price-plan
name: plan
currency: NOK
prices:
  accelerator_per_hour: {lab: 12.34}
  tokens_per_million: {input: 4.00, output: 16.00}
energy: pass-through
---
kind: price-plan
name: unused
currency: NOK
prices: {accelerator_per_hour: {lab: 99}}
energy: pass-through
---
kind: tenant
name: acme
projects: [main]
---
kind: tenant
name: borealis
projects: [main]
---
kind: contract
name: c-acme
tenant: acme
plan: plan
type: on-demand
starts: 2025-01-01
---
kind: contract
name: c-borealis
tenant: borealis
plan: plan
type: on-demand
starts: 2025-01-01
"""


class SetClock:
    """A clock that stands until it is moved."""

    def __init__(self, at_ms: int = START_MS) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        """Where it stands."""
        return self.at_ms


class SeededBytes:
    """Bytes that look random and are the same every time."""

    def __init__(self, seed: str = "small") -> None:
        self.seed, self.count = seed, 0

    def __call__(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        out = b""
        while len(out) < size:
            out += sha256(f"{self.seed} {self.count}".encode()).digest()
            self.count += 1
        return out[:size]


def keys(name: str = "operator") -> Keys:
    """Keys that are made from a name."""
    chance = SeededBytes(name)
    return Keys(chance(32), chance(32))


def opened(folder: Path, *, seed: str = "small", clock: SetClock | None = None) -> Control:
    """A control loop over the store in ``folder``."""
    store = SqliteStore(folder / "journal.sqlite")
    return Control(store, keys(), clock or SetClock(), random=SeededBytes(seed))


def begun(folder: Path, *, seed: str = "small", clock: SetClock | None = None) -> Control:
    """A control loop that has started, with its documents applied, committed."""
    control = opened(folder, seed=seed, clock=clock)
    control.execute(SYSTEM, c.StartControl("small", "0.1.0", "boot"))
    control.execute(SYSTEM, c.IssueToken("0" * 64, Role.OPERATOR_ADMIN, None))
    documents = tuple(
        c.NormalisedDocument(one.kind, one.name, one.normalised) for one in load(DOCUMENTS.encode(), "small")
    )
    control.execute(SYSTEM, c.ApplyDocuments(documents))
    control.commit()
    return control


def job(name: str, **more: object) -> WorkloadSpec:
    """A small job."""
    values: dict[str, object] = {
        "name": name,
        "type": WorkloadType.JOB,
        "project": ProjectId("main"),
        "resources": Resources("lab", 1, 250, 16),
        "commands": ("true",),
    }
    return WorkloadSpec(**(values | more))  # type: ignore[arg-type]


def submit(
    control: Control, key: str, *specs: WorkloadSpec, secrets: dict[str, str] | None = None
) -> tuple[WorkloadId, ...]:
    """Submit for ``acme`` and commit; the ids."""
    items = [(spec, secrets or {}) for spec in specs]
    reply = control.submit(MEMBER, ACME, items, key, sha256(repr(specs).encode()).hexdigest())
    control.commit()
    return reply.workloads


def place(control: Control) -> Sequence[PlacementId]:
    """Plan and adopt; the placements."""
    reply = control.execute(SYSTEM, c.AdoptPlan(plan(control.world.snapshot(control.now_ms()), PlanLimits())))
    control.commit()
    if not isinstance(reply, c.Adopted):
        raise TypeError(f"a plan was answered with {reply}")
    return reply.made


def report(
    control: Control,
    placement: PlacementId,
    state: RankState,
    running_ms: int = 0,
    *,
    exit_code: int | None = None,
    meter: bool = False,
) -> None:
    """Let the engine say how the ranks of a placement are, and commit."""
    known = control.world.state.placements[placement]
    ranks = tuple(
        RankReport(number, state, running_ms=running_ms, exit_code=exit_code)
        for number in range(len(known.ranks))
    )
    found = PlacementReport(placement, control.world.state.epoch, ranks, {"http": "127.0.0.1:20000"})
    control.execute(SYSTEM, c.Observe((found,), isolation="none", meter_ms=0 if meter else None))
    control.commit()


def live_a_life(control: Control, clock: SetClock) -> None:
    """Everything that can happen, once: the journal has every kind of event afterwards."""
    control.execute(SYSTEM, c.RemoveDocument("price-plan", "unused"))
    holder = control.keep(ACME, "token-holders", "Ada Lovelace")
    control.execute(SYSTEM, c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME, holder))
    control.execute(SYSTEM, c.IssueToken("2" * 64, Role.TENANT_ADMIN, BOREALIS))
    control.execute(SYSTEM, c.RevokeToken(TokenId("t-3")))
    control.commit()
    gang = job("gang", nodes=2)
    service = job("service", type=WorkloadType.SERVICE, ports={"http": 0})
    submit(control, "first", gang, service, secrets={"PASSWORD": "correct horse"})
    submit(control, "lawless", job("lawless", policy=PolicyRef(countries=("SE",))))
    made = place(control)
    clock.at_ms += 1_000
    for placement in made:
        report(control, placement, RankState.RUNNING)
    clock.at_ms += 3_600_000
    report(control, made[0], RankState.RUNNING, 3_600_000, meter=True)
    control.execute(SYSTEM, c.RecordTokens(made[1], 0, 1_234, 567))
    works = [control.world.state.placements[placement].workload for placement in made]
    control.execute(MEMBER, c.Pause(works[0], pause=True))
    control.execute(MEMBER, c.ReadLog(works[0], 0))
    report(control, made[0], RankState.PAUSED, 3_600_500)
    clock.at_ms += 60_000
    control.execute(MEMBER, c.Pause(works[0], pause=False))
    report(control, made[0], RankState.RUNNING, 3_601_000)
    node = NodeId(control.world.state.placements[made[1]].ranks[0].node)
    control.execute(SYSTEM, c.SetNodes((node,), "draining", "a fan", evict=True))
    control.commit()
    for placement in [one for one in made if one in control.world.state.placements]:
        ended = control.world.state.placements[placement].stop_reason is not None
        report(control, placement, RankState.EXITED, 3_700_000, exit_code=143 if ended else 0)
    control.execute(MEMBER, c.Stop(works[1]))
    if works[0] in control.world.queue:
        control.execute(MEMBER, c.Stop(works[0]))
    control.execute(SYSTEM, c.SetNodes((node,), "ready"))
    control.execute(SYSTEM, c.RaiseAlarm(1, "glomfjord", "a drill"))
    control.commit()
    _close_the_books(control)


def ask_by_keys(control: Control) -> None:
    """Requests under idempotency keys, of a tenant and of the operator, each answered in another way."""
    drain = c.SetNodes((NodeId("glomfjord/b/lab-0-2"), NodeId("glomfjord/b/lab-0-3")), "draining", "a fan")
    control.execute(SYSTEM, drain, "drain")
    control.execute(SYSTEM, c.IssueToken("3" * 64, Role.TENANT_MEMBER, ACME), "token", "a member")
    tenant = c.NormalisedDocument("tenant", "gamma", {"id": "gamma", "projects": ["main"]})
    control.execute(SYSTEM, c.ApplyDocuments((tenant,)), "apply")
    control.execute(MEMBER, c.ReadLog(WorkloadId("acme-1"), 0), "log")
    control.execute(MEMBER, c.Stop(WorkloadId("acme-1")), "stop")
    control.commit()


def reserve(control: Control, clock: SetClock) -> None:
    """A reservation that loses a node, and two fractions of one accelerator."""
    starts_ms = clock.at_ms + 86_400_000
    window = Reservation(
        WindowId("week"), ACME, SiteId("glomfjord"), "lab", 1, starts_ms, starts_ms + 86_400_000
    )
    document = c.NormalisedDocument("reservation", "week", normalise("reservation", "week", window))
    control.execute(SYSTEM, c.ApplyDocuments((document,)))
    node = NodeId(control.world.state.reserved[WindowId("week")][0])
    control.execute(SYSTEM, c.SetNodes((node,), "draining", "a fan"))
    part = job("part", resources=Resources("lab", 1, 100, 100, share_milli=400))
    submit(control, "parts", part, part)
    place(control)
    control.commit()


def export_evidence(control: Control) -> None:
    """Somebody of a tenant's, and one of the operator's, get its evidence."""
    assert control.head is not None
    for who in (SYSTEM, OWNER):
        wanted = c.ExportEvidence(ACME, 0, control.now_ms(), control.head.size, control.head.root.hex())
        control.execute(who, wanted)
    control.commit()


def drive_a_cluster(control: Control) -> None:
    """An engine that gives whole accelerators alone, and somebody who uses one of its nodes."""
    control.execute(
        SYSTEM, c.DeclareEngines({"local": Capabilities("uid", pause=True, ports=True, parts=False)})
    )
    node = control.world.fleet.node_ids[0]
    control.execute(SYSTEM, c.Observe((), nodes=(NodeReport(node, up=True, foreign="job 7 of root"),)))
    control.commit()


def follow_the_grid(control: Control, clock: SetClock) -> None:
    """A pause for an instruction, until it is withdrawn; and another instruction that stays."""
    able = Capabilities("uid", pause=True, ports=True, parts=False, pause_sheds=True)
    control.execute(SYSTEM, c.DeclareEngines({"fake": able}))
    control.execute(SYSTEM, c.Observe((), nodes=(NodeReport(control.world.fleet.node_ids[0], up=True),)))
    nodes = tuple(NodeId(f"glomfjord/b/lab-0-{number}") for number in range(1, 4))
    control.execute(SYSTEM, c.SetNodes(nodes, "ready"))
    submit(control, "flexible", job("flexible", flex=Flex.PAUSABLE))
    works, made = control.world.state.workloads, place(control)
    placements = control.world.state.placements
    (placement,) = [one for one in made if works[placements[one].workload].spec.flex is Flex.PAUSABLE]
    report(control, placement, RankState.RUNNING)
    site = control.world.state.placements[placement].site
    floor_w = control.world.floors.watts[control.world.fleet.site_index[site]]
    limit_w = facility_watts(floor_w, control.world.site(site).pue_permille)
    evening = Instruction(InstructionId("evening"), site, limit_w, clock.at_ms, 0, note="a cold evening")
    control.execute(SYSTEM, c.Instruct(evening))
    control.execute(SYSTEM, c.FollowGrid())
    report(control, placement, RankState.PAUSED, 1_000)
    clock.at_ms += 60_000
    control.execute(SYSTEM, c.Withdraw(evening.id, "it is over"))
    control.execute(SYSTEM, c.FollowGrid())
    morning = replace(evening, id=InstructionId("morning"), from_ms=clock.at_ms + 3_600_000)
    control.execute(SYSTEM, c.Instruct(morning))
    control.commit()


def cap_a_node(control: Control, clock: SetClock) -> None:
    """A node that is capped for an instruction, one cap that is lifted and one that stays, and a meter that sees more."""
    site, nodes = SiteId("glomfjord"), control.world.fleet.node_ids
    control.execute(SYSTEM, c.Withdraw(InstructionId("morning"), "it is warm"))
    control.execute(SYSTEM, c.DeclareLimiters(dict.fromkeys(nodes, 100), nodes[:1]))
    whole = Resources("lab", 4, 250, 16)
    submit(control, "cappable", *(job(f"cap-{n}", flex=Flex.CAPPABLE, resources=whole) for n in range(2)))
    for placement in place(control):
        report(control, placement, RankState.RUNNING)
    draws_w = int(control.world.power_w[control.world.fleet.power_index[PowerNodeId(site)]])
    limit_w = facility_watts(draws_w - 300, control.world.site(site).pue_permille)
    control.execute(SYSTEM, c.Instruct(Instruction(InstructionId("noon"), site, limit_w, clock.at_ms), True))
    control.execute(SYSTEM, c.FollowGrid())
    first, *_ = wanted = {node: cap.wanted_w for node, cap in control.world.state.caps.items()}
    control.execute(SYSTEM, c.ReportDevices(wanted, {PowerNodeId(site): (50, "feed")}))
    clock.at_ms += 60_000
    control.execute(SYSTEM, c.Withdraw(InstructionId("noon"), "it is over"))
    control.execute(SYSTEM, c.FollowGrid())
    control.execute(SYSTEM, c.ReportDevices({first: 0}))
    control.commit()


def keep_data(control: Control) -> None:
    """Data sets: one that is copied, opened, judged and goes; one that never comes; a token of somebody abroad."""
    site = SiteId("glomfjord")
    control.execute(SYSTEM, c.DeclareStores((site,)))
    plain = {"tenant": "acme", "digest": "d" * 64, "size_bytes": 10, "site": site, "on_forbidden": "remove"}
    documents = tuple(
        c.NormalisedDocument("dataset", f"acme.{name}", plain | {"id": f"acme.{name}", "name": name})
        for name in ("corpus", "lost")
    )
    control.execute(MEMBER, c.ApplyData(ACME, documents), "data")
    corpus, lost = DataId("acme.corpus"), DataId("acme.lost")
    reports = (
        c.CopyReport(corpus, site, "present", "d" * 64, 10),
        c.CopyReport(lost, site, "failed", problem="nothing is there"),
    )
    control.execute(SYSTEM, c.ReportCopies(reports))
    submit(control, "reads", job("reads", policy=PolicyRef(data=("corpus",))))
    place(control)
    control.execute(MEMBER, c.OpenData(corpus, site, "a.bin"))
    control.execute(SYSTEM, c.IssueToken("4" * 64, Role.OPERATOR_ADMIN, None, countries=("GB",)))
    forbidden = documents[0].document | {"policy": {"countries": ["SE"]}}
    control.execute(MEMBER, c.ApplyData(ACME, (c.NormalisedDocument("dataset", corpus, forbidden),)))
    control.execute(SYSTEM, c.FollowLaw())
    control.execute(SYSTEM, c.ReportCopies((c.CopyReport(corpus, site, "gone"),)))
    control.commit()


def _close_the_books(control: Control) -> None:
    numbers = control.execute(SYSTEM, c.IssueInvoices(ACME, "2026-11"))
    control.commit()
    if not isinstance(numbers, tuple) or not isinstance(numbers[0], str):
        raise TypeError(f"invoices were answered with {numbers}")
    control.execute(SYSTEM, c.IssueCreditNote(numbers[0], 1_000_000, "goodwill"))
    control.execute(SYSTEM, c.EraseTenant(BOREALIS))
    control.commit()
