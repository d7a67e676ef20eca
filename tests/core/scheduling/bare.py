"""Snapshots whose indexes are all empty, for ``check``: whoever reads one fails. And what to put in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from headrace.core.authority import Verdict
from headrace.core.contracts import Contract, Quota, Tenant
from headrace.core.errors import HeadraceError, unknown
from headrace.core.estate import Block, Connection, NodeGroup, Operator, PowerElement, Site
from headrace.core.fleet import Fleet
from headrace.core.hardware import CATALOGUE
from headrace.core.ids import (
    ContractId,
    Digest,
    OperatorId,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WindowId,
    WorkloadId,
)
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import Window
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.workload import (
    Alternative,
    Level,
    Placement,
    PolicyRef,
    RankPlace,
    Resources,
    State,
    Topology,
    Workload,
    WorkloadSpec,
    WorkloadType,
)

NOW_MS = 1_767_225_600_000
"""2026-01-01 in UTC."""
RULES = "known-staff"
"""A policy that is no list of countries: it allows the first site."""
ACME, BETA = TenantId("acme"), TenantId("beta")
P = ProjectId("p")
LAB, H100 = CATALOGUE["lab"], CATALOGUE["h100-8"]
PAIRED = replace(LAB, id="paired", domain_nodes=2)


def lab_block(ident: str, racks: int = 2, **changes: Any) -> Block:
    """Return a commissioned block of racks with two lab nodes each."""
    group = NodeGroup("g", "lab", racks, 2)
    return replace(Block(ident, (group,), delivered="2025-01-01", commissioned="2025-01-01"), **changes)


def site(ident: str, country: str, *blocks: Block, **changes: Any) -> Site:
    """Return a site with room for all it has."""
    made = Site(
        SiteId(ident), country, "UTC", Connection(1_000_000), 1_200, 30, 500_000, "NOK", blocks=blocks
    )
    return replace(made, **changes)


SITES = (
    site(
        "north",
        "NO",
        lab_block("a", fed_by="feed"),
        lab_block("later", commissioned="2026-01-02"),
        lab_block("undated", commissioned=""),
        Block("big", (NodeGroup("g", "h100-8"),), commissioned="2025-01-01"),
        power=(PowerElement("feed", "feed", 100_000),),
    ),
    site("south", "GB", lab_block("b")),
    site("somewhere", "", lab_block("c")),
    site("own", "NO", lab_block("d"), dedicated_to=BETA),
)
PAIRS = (
    site(
        "north",
        "NO",
        *(
            Block(ident, (NodeGroup("g", "paired", 4, 4, rail_racks=2),), commissioned="2025-01-01")
            for ident in ("a", "b")
        ),
    ),
)
"""Two blocks of four racks of four nodes: two domains in a rack, two racks on the same rails."""
OPERATOR = Operator(OperatorId("op"), "Operator", "NO", "UTC", "NOK")


def contract(**changes: Any) -> Contract:
    """Return a contract of the tenant that covers everything."""
    return replace(Contract(ContractId("acme-all"), ACME, PlanId("list")), **changes)


def spec(
    nodes: int = 1, accelerators: int = 2, cpu: int = 1_000, memory: int = 1_000, **changes: Any
) -> WorkloadSpec:
    """Return a job for lab nodes."""
    resources = Resources("lab" if accelerators else "", accelerators, cpu, memory)
    made = WorkloadSpec("job", WorkloadType.JOB, P, resources, ("true",), nodes)
    return replace(made, **changes)


def queued(ident: str = "acme-1", of: WorkloadSpec | None = None, **changes: Any) -> Workload:
    """Return a queued workload."""
    made = Workload(WorkloadId(ident), ACME, of or spec(), NOW_MS - 1_000, 5)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def rank(
    node: str = "north/a/g-0-0", mask: int = 0b0011, cpu: int = 1_000, memory: int = 1_000, share: int = 1_000
) -> RankPlace:
    """Return a rank on a node."""
    return RankPlace(node, mask, cpu, memory, share)


def part(share: int, mask: int = 0b0001, node: str = "north/a/g-0-0") -> RankPlace:
    """Return a rank with a part of an accelerator."""
    return rank(node, mask, share=share)


def of_part(share: int) -> WorkloadSpec:
    """Return a job for thousandths of a lab accelerator."""
    return spec(resources=Resources("lab", 1, 1_000, 1_000, share))


def gang(*places: str) -> tuple[RankPlace, ...]:
    """Return ranks on nodes of the paired blocks: ``a-0-1`` is block, rack, node."""
    return tuple(rank(f"north/{place[0]}/g{place[1:]}") for place in places)


def standing(nodes: int, pack: Level | None = None, spread: Level | None = None, **changes: Any) -> Workload:
    """Return a queued gang whose nodes must stand together, or apart."""
    wish = Topology(pack or "", spread or "", **({"required": True} | changes))
    return queued(of=spec(nodes, topology=wish))


def running(ident: str, of: WorkloadSpec, *ranks: RankPlace, at: str = "north") -> tuple[Workload, Placement]:
    """Return a workload that runs, and its placement."""
    placement = PlacementId(f"{ident}.1")
    workload = queued(ident, of, state=State.RUNNING, placement=placement)
    made = Placement(placement, workload.id, ACME, SiteId(at), ranks, NOW_MS - 500, 7, "v")
    made.contract = ContractId("acme-all")
    return workload, made


def of_beta(live: tuple[Workload, Placement]) -> tuple[Workload, Placement]:
    """Return what runs as another tenant's."""
    return replace(live[0], tenant=BETA), replace(live[1], tenant=BETA)


def snapshot(
    *workloads: Workload,
    live: tuple[tuple[Workload, Placement], ...] = (),
    sites: tuple[Site, ...] = SITES,
    closed: tuple[int, ...] = (),
    sold: Contract | None = None,
    no_contract: bool = False,
    quota: Quota = Quota(),  # noqa: B008 - a value
    project: Quota = Quota(),  # noqa: B008
) -> Snapshot:
    """Return a snapshot whose indexes are all empty: whoever reads one fails."""
    nothing = np.zeros(0, dtype=np.int64)
    narrow, small = nothing.astype(np.int32), nothing.astype(np.int16)
    node_open = np.ones(64, dtype=np.bool_)
    node_open[list(closed)] = False
    everything = [*workloads, *(workload for workload, _ in live)]

    def contract_for(
        _tenant: TenantId, _site: int, _model: str, _named: ContractId | None
    ) -> Contract | None:
        return None if no_contract else sold or contract()

    def place_verdict(tenant: TenantId, policy: PolicyRef, site: int) -> Verdict:
        assert policy.profile not in PROFILES, "the check asks nobody for a verdict on a list of countries"
        if policy.profile != RULES:
            raise HeadraceError(unknown("policy", policy.profile, (RULES,)))
        is_first = sites[site].id == sites[0].id
        place, nothing = f"site:{sites[site].id}", Digest("")
        return Verdict(
            f"system@{tenant}", "workload.place", place, is_first, ("by its rules",), nothing, nothing
        )

    return Snapshot(
        version=10,
        now_ms=NOW_MS,
        fleet=Fleet(
            sites,
            (LAB, H100, PAIRED),
            [],
            {},
            small,
            small,
            narrow,
            narrow,
            narrow,
            narrow,
            narrow,
            [],
            {},
            narrow,
            small,
            nothing,
            [],
        ),
        node_open=node_open,
        node_mask=nothing.astype(np.uint64),
        node_cpu_milli=nothing,
        node_memory_mb=nothing,
        node_ranks=narrow,
        power_w=nothing,
        power_limit_w=nothing,
        queue=(),
        workloads={workload.id: workload for workload in everything},
        placements={placement.id: placement for _, placement in live},
        place_verdict=place_verdict,
        contract_for=contract_for,
        contract_held_milli={},
        node_share_milli=np.zeros((0, 0), np.int16),
        node_sharer=np.zeros((0, 0), np.int32),
        contracts={} if no_contract else {ContractId("acme-all"): sold or contract()},
        tenant_number=place_verdict,  # type: ignore[arg-type]
        tenants={ACME: Tenant(ACME, (P,), quota=quota, project_quotas={P: project})},
    )


def plan(
    *ranks: RankPlace, workload: str = "acme-1", at: str = "north", base: int = 10, option: int = 0
) -> Plan:
    """Return a plan of one placement."""
    return Plan(base, (ProposedPlacement(WorkloadId(workload), SiteId(at), ranks, option),))


def both(first: Plan, second: Plan) -> Plan:
    """Return a plan with the placements of two."""
    return Plan(10, first.placements + second.placements)


def evict(*placements: str, waiting: str = "acme-1") -> Plan:
    """Return a plan of evictions alone."""
    return Plan(10, (), tuple(Eviction(PlacementId(ident), WorkloadId(waiting)) for ident in placements))


def limited(**limits: int) -> tuple[Site, ...]:
    """Return one site in which one element is too tight for a node with two busy accelerators (650 W, 3 more idle)."""
    rack = limits.get("rack", 0)
    group = NodeGroup("g", "lab", 2, 2, rack_rating_w=rack)
    block = Block("a", (group,), "feed", limits.get("block", 0), "2025-01-01", "2025-01-01")
    power = (
        PowerElement("feed", "feed", limits.get("feed", 9_000), "transformer"),
        PowerElement("transformer", "transformer", limits.get("transformer", 9_000)),
    )
    connection = Connection(limits.get("connection", 9_000))
    return (site("north", "NO", block, connection=connection, power=power),)


# Two busy accelerators make of 200 W idle: 200 + 2 x 200 + 2 x 25 = 650 W. A rack has one idle node more: 850 W;
# what is above it two more: 1,250 W, which a PUE of 1.2 makes 1,500 W at the meter.
FITTING = limited(rack=850, block=1_250, feed=1_250, transformer=1_250, connection=1_500)
FILLER = spec(type=WorkloadType.FILLER)
CLUSTER = spec(type=WorkloadType.CLUSTER, accelerators=4)
CPU_ONLY = spec(accelerators=0)
TAKEN = running("acme-9", spec(), rank())
ON_CPU = running("acme-9", CPU_ONLY, rank(mask=0))
LEASE = running("acme-9", CLUSTER, rank(mask=0b1111))
ENDED = (replace(TAKEN[0], state=State.SUCCEEDED, placement=None), TAKEN[1])
RESERVED = contract(kind="reserved", model="lab", accelerators=3)
PART = running("acme-9", of_part(600), part(600))
EITHER = spec(accelerators=4, alternatives=(Alternative("H100", 8), Alternative("lab", 1)))
ELASTIC = spec(1, nodes_max=2)


def over(*placements: str, window: str = "w") -> Plan:
    """Return a plan of evictions for a window."""
    return Plan(10, (), tuple(Eviction(PlacementId(ident), None, WindowId(window)) for ident in placements))


def reserved(of: Snapshot, **changes: Any) -> Snapshot:
    """Return a snapshot in which the first node is in a window that began now."""
    made = Window(WindowId("w"), ACME, 0, (0,), NOW_MS, NOW_MS + 3_600_000)
    return replace(of, windows=(replace(made, **changes),))


def and_works(of: Snapshot, starts_ms: int) -> Snapshot:
    """Return a snapshot with works, later, on the nodes of its first window."""
    works = Window(WindowId("works"), None, 0, of.windows[0].nodes, starts_ms, starts_ms + 3_600_000)
    return replace(of, windows=(*of.windows, works))
