"""A small world for scheduler tests: an estate, workloads, placements, and the snapshot that they make.

The use of nodes and power is recomputed here from the placements, with sums of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from headrace.core.authority import Verdict
from headrace.core.contracts import Contract, Tenant
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, PowerElement, Site
from headrace.core.fleet import I64, Fleet, compile_fleet
from headrace.core.ids import (
    ContractId,
    OperatorId,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WorkloadId,
)
from headrace.core.scheduling.columns import Ask, Columns, Scratch, lowest_bits
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.scheduling.rank import increments_w, path_need_w
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.sovereignty.law import Laws
from headrace.core.sovereignty.plain import PlainPolicies, decide_place
from headrace.core.workload import (
    Alternative,
    EndReason,
    Flex,
    Placement,
    PolicyRef,
    RankPlace,
    Resources,
    State,
    Topology,
    Workload,
    WorkloadSpec,
    WorkloadType,
    options,
)

OPERATOR = Operator(OperatorId("op"), "Op", "NO", "Europe/Oslo", "NOK")
ACME = TenantId("acme")
START_MS = 1_750_000_000_000


def group(
    ident: str = "g",
    hardware: str = "lab",
    racks: int = 1,
    per_rack: int = 4,
    rack_w: int = 0,
    rail_racks: int = 0,
) -> NodeGroup:
    return NodeGroup(ident, hardware, racks, per_rack, rack_w, rail_racks=rail_racks)


def site(
    ident: str,
    *groups: NodeGroup,
    country: str = "NO",
    power_w: int = 1_000_000,
    feed_w: int = 0,
    price: int = 1_000,
    commissioned: str = "2025-01-01",
    dedicated_to: TenantId | None = None,
) -> Site:
    """A site with one block (and, with ``feed_w``, a feed over it); PUE 1, so that limits read as they are written."""
    feeds = (PowerElement("feed-a", "feed", feed_w),) if feed_w else ()
    block = Block("b", groups, "feed-a" if feed_w else "", 0, commissioned, commissioned)
    return Site(
        SiteId(ident),
        country,
        "Europe/Oslo",
        Connection(power_w),
        1_000,
        20,
        price,
        "NOK",
        dedicated_to=dedicated_to,
        power=feeds,
        blocks=(block,),
    )


def fleet_of(*sites: Site) -> Fleet:
    return compile_fleet(Estate(OPERATOR, sites))


def contract(tenant: TenantId = ACME, **changes: object) -> Contract:
    base = Contract(ContractId(f"{tenant}-demand"), tenant, PlanId("p"))
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass
class World:
    """Workloads and placements on a fleet; what the tests change directly, unlike the product's."""

    fleet: Fleet
    contracts: list[Contract] = field(default_factory=lambda: [contract()])
    now_ms: int = START_MS
    seq: int = 0
    workloads: dict[WorkloadId, Workload] = field(default_factory=dict)
    placements: dict[PlacementId, Placement] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    limits_w: dict[str, int] = field(default_factory=dict)
    tenants: dict[TenantId, Tenant] = field(default_factory=dict)

    def submit(
        self,
        kind: str = "job",
        nodes: int = 1,
        gpus: int = 1,
        *,
        model: str = "lab",
        cpu_milli: int = 0,
        memory_mb: int = 0,
        tenant: TenantId = ACME,
        priority: int = 0,
        flex: Flex = Flex.FIRM,
        max_duration_ms: int = 0,
        countries: tuple[str, ...] = (),
        at: str = "",
        named: str = "",
        not_before_ms: int = 0,
        share_milli: int = 1_000,
        accelerator_memory_mb: int = 0,
        others: tuple[tuple[str, int], ...] = (),
        nodes_max: int = 0,
        topology: Topology | None = None,
        project: str = "main",
        expected_ms: int = 0,
        checkpoint_ms: int = 0,
        restart_ms: int = 0,
    ) -> Workload:
        self.seq += 1
        spec = WorkloadSpec(
            name=f"w{self.seq}",
            type=WorkloadType(kind),
            project=ProjectId(project),
            resources=Resources(model, gpus, cpu_milli, memory_mb, share_milli, accelerator_memory_mb),
            commands=("true",),
            nodes=nodes,
            priority=priority,
            flex=flex,
            max_duration_ms=max_duration_ms,
            policy=PolicyRef(countries=countries),
            site=SiteId(at) if at else None,
            contract=ContractId(named) if named else None,
            alternatives=tuple(Alternative(*other) for other in others),
            nodes_max=nodes_max,
            topology=topology,
            expected_ms=expected_ms,
            checkpoint_ms=checkpoint_ms,
            restart_ms=restart_ms,
        )
        workload = Workload(
            WorkloadId(f"{tenant}-{self.seq}"),
            tenant,
            spec,
            self.now_ms,
            self.seq,
            since_ms=self.now_ms,
            not_before_ms=not_before_ms,
        )
        self.workloads[workload.id] = workload
        return workload

    def place(self, proposal: ProposedPlacement) -> Placement:
        """Make a placement as proposed: it runs at once."""
        self.seq += 1
        workload = self.workloads[proposal.workload]
        workload.attempt += 1
        placement = Placement(
            PlacementId(f"{workload.id}.{workload.attempt}"),
            workload.id,
            workload.tenant,
            proposal.site,
            proposal.ranks,
            self.now_ms,
            self.seq,
            "",
            contract=self.contract_of(workload, proposal),
            started_ms=self.now_ms,
        )
        workload.placement, workload.state, workload.since_ms = placement.id, State.RUNNING, self.now_ms
        self.placements[placement.id] = placement
        return placement

    def run(self, workload: Workload, *where: tuple[str, int]) -> Placement:
        """Let ``workload`` run on nodes with masks of accelerators."""
        need = workload.spec.resources
        ranks = tuple(RankPlace(node, mask, need.cpu_milli, need.memory_mb) for node, mask in where)
        return self.place(ProposedPlacement(workload.id, SiteId(where[0][0].split("/")[0]), ranks))

    def stop(self, placement: Placement, reason: EndReason = EndReason.PREEMPTED) -> None:
        placement.stop_reason, placement.stop_since_ms = reason, self.now_ms
        self.workloads[placement.workload].state = State.STOPPING

    def end(self, placement: Placement) -> None:
        """Its processes are gone: preempted work is queued again, other work has succeeded."""
        del self.placements[placement.id]
        workload = self.workloads[placement.workload]
        preempted = placement.stop_reason is EndReason.PREEMPTED
        workload.state = State.QUEUED if preempted else State.SUCCEEDED
        workload.attained_ms += self.now_ms - placement.started_ms
        workload.placement, workload.since_ms = None, self.now_ms

    def adopt(self, plan: Plan) -> None:
        for proposal in plan.placements:
            self.place(proposal)
        for eviction in plan.evictions:
            self.stop(self.placements[eviction.placement])

    def power_w(self) -> list[int]:
        """What is below each element can draw, node by node."""
        total = [0] * len(self.fleet.power_ids)
        used: dict[str, int] = {}
        for placement in self.placements.values():
            for rank in placement.ranks:
                used[rank.node] = used.get(rank.node, 0) | rank.mask
        for index, node in enumerate(self.fleet.node_ids):
            hardware = self.fleet.hardware[self.fleet.node_hardware[index]]
            watts = hardware.node_watts(used.get(node, 0).bit_count(), node in used)
            for element in self.fleet.path(int(self.fleet.node_leaf[index])):
                total[element] += watts
        return total

    def limit_w(self) -> list[int]:
        limits = [int(limit) for limit in self.fleet.power_limit_w]
        for name, limit in self.limits_w.items():
            limits[self.fleet.power_index[name]] = limit  # type: ignore[index]
        return limits

    def contract_of(self, workload: Workload, proposal: ProposedPlacement) -> ContractId:
        index, need = self.fleet.site_index[proposal.site], options(workload.spec)[proposal.option]
        paid = self.contract_for(workload.tenant, index, need.accelerator, workload.spec.contract)
        return paid.id if paid else ContractId("")

    def held_milli(self) -> dict[ContractId, int]:
        held: dict[ContractId, int] = {}
        for placement in self.placements.values():
            taken = sum(rank.accelerators * rank.share_milli for rank in placement.ranks)
            held[placement.contract] = held.get(placement.contract, 0) + taken
        held.pop(ContractId(""), None)
        return held

    def usage(self) -> dict[tuple[TenantId, ProjectId], Taken]:
        """What every project has outside reserved contracts."""
        reserved = {one.id for one in self.contracts if one.kind == "reserved"}
        out: dict[tuple[TenantId, ProjectId], Taken] = {}
        for placement in self.placements.values():
            if placement.contract in reserved:
                continue
            key = (placement.tenant, self.workloads[placement.workload].spec.project)
            for rank in placement.ranks:
                milli, cpu, memory = out.get(key, Taken())
                more = rank.accelerators * rank.share_milli
                out[key] = Taken(milli + more, cpu + rank.cpu_milli, memory + rank.memory_mb)
        return out

    def tenant_number(self, tenant: TenantId) -> int:
        return 1 + sorted({work.tenant for work in self.workloads.values()}).index(tenant)

    def contract_for(
        self, tenant: TenantId, index: int, model: str, named: ContractId | None
    ) -> Contract | None:
        for one in self.contracts:
            covers = one.tenant == tenant and named in (None, one.id) and one.model in ("", model)
            if covers and one.site in (None, self.fleet.sites[index].id):
                return one
        return None

    def place_verdict(self, tenant: TenantId, policy: PolicyRef, index: int) -> Verdict:
        found = Laws().resolve(policy, PlainPolicies())
        return decide_place(PlainPolicies(), tenant, found, self.fleet.sites[index])

    def snapshot(self) -> Snapshot:
        count = len(self.fleet.node_ids)
        mask, cpu, memory, ranks = (np.zeros(count, np.int64) for _ in range(4))
        width = max((one.accelerators for one in self.fleet.hardware), default=0)
        share, sharer = np.zeros((count, width), np.int16), np.zeros((count, width), np.int32)
        for placement in self.placements.values():
            for rank in placement.ranks:
                index = self.fleet.node_index[rank.node]  # type: ignore[index]
                at = rank.mask.bit_length() - 1
                if rank.share_milli < 1_000:
                    assert not mask[index] & rank.mask or share[index, at], (
                        f"{rank.node} shares what is whole"
                    )
                    number = self.tenant_number(placement.tenant)
                    assert sharer[index, at] in (0, number), f"{rank.node} is shared by two tenants"
                    share[index, at] += rank.share_milli
                    sharer[index, at] = number
                    assert share[index, at] <= 1_000, f"{rank.node} gave more than there is of an accelerator"
                else:
                    assert not mask[index] & rank.mask, f"{rank.node} gave an accelerator twice"
                mask[index] |= rank.mask
                cpu[index] += rank.cpu_milli
                memory[index] += rank.memory_mb
                ranks[index] += 1
        return Snapshot(
            version=self.seq,
            now_ms=self.now_ms,
            fleet=self.fleet,
            node_open=np.array([node not in self.closed for node in self.fleet.node_ids], dtype=np.bool_),
            node_mask=mask.astype(np.uint64),
            node_cpu_milli=cpu,
            node_memory_mb=memory,
            node_ranks=ranks.astype(np.int32),
            power_w=np.array(self.power_w(), dtype=np.int64),
            power_limit_w=np.array(self.limit_w(), dtype=np.int64),
            queue=self.queue(),
            workloads=self.workloads,
            placements=self.placements,
            place_verdict=self.place_verdict,
            contract_for=self.contract_for,
            contract_held_milli=self.held_milli(),
            node_share_milli=share if share.any() else share[:0],
            node_sharer=sharer if share.any() else sharer[:0],
            contracts={one.id: one for one in self.contracts},
            tenant_number=self.tenant_number,
            tenants=self.tenants,
            usage=self.usage(),
        )

    def queue(self) -> list[Workload]:
        waiting = [workload for workload in self.workloads.values() if workload.state is State.QUEUED]
        return sorted(waiting, key=lambda workload: workload.submitted_seq)


def placed(plan: Plan) -> list[str]:
    """The workloads that a plan places, in its order."""
    return [str(proposal.workload) for proposal in plan.placements]


def nodes_of(plan: Plan, workload: Workload) -> list[str]:
    """The nodes that a plan gives a workload, as the part after the block: ``g-0-3``."""
    return [
        rank.node.split("/")[-1]
        for proposal in plan.placements
        if proposal.workload == workload.id
        for rank in proposal.ranks
    ]


def evicted(plan: Plan) -> list[str]:
    """The workloads whose placements a plan evicts."""
    return [str(eviction.placement).rsplit(".", 1)[0] for eviction in plan.evictions]


def ids(workloads: Iterable[Workload]) -> list[str]:
    return [str(workload.id) for workload in workloads]


def take(columns: Columns, state: Scratch, ask: Ask, nodes: I64) -> tuple[RankPlace, ...]:
    """Take a rank from each of ``nodes`` and say what was taken: the lowest free accelerators; by arrays, unlike pools."""
    elements, need = path_need_w(columns, nodes, increments_w(columns, state, ask, nodes))
    state.head_w[elements] -= need
    fleet = columns.fleet
    ranks = []
    for node in nodes.tolist():
        count, cpu_milli, memory_mb = ask.on(fleet.hardware[fleet.node_hardware[node]])
        bits = int(state.bits[node])
        mask = lowest_bits(bits, count)
        state.bits[node] = bits ^ mask
        state.free[node] -= count
        state.cpu_milli[node] -= cpu_milli
        state.memory_mb[node] -= memory_mb
        state.ranks[node] += 1
        ranks.append(RankPlace(fleet.node_ids[node], mask, cpu_milli, memory_mb))
    return tuple(ranks)
