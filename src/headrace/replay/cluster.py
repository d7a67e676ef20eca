"""A cluster for replays: what the production planner sees of a world, without journal, events, money or law.

One site with power for all of its nodes. The columns are those of :class:`~headrace.core.world.World`; a replay of a hundred
thousand jobs changes them twice for each, so that everything here takes a step for each rank and none for each node.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from headrace.core.authority import Verdict
from headrace.core.contracts import Contract, Tenant
from headrace.core.estate import Block, Connection, Estate, NodeGroup, Operator, Site
from headrace.core.fleet import Fleet, compile_fleet
from headrace.core.hardware import HardwareType
from headrace.core.ids import (
    ContractId,
    Digest,
    OperatorId,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WorkloadId,
)
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.proposal import Plan
from headrace.core.scheduling.queue import Queue
from headrace.core.scheduling.service import History
from headrace.core.scheduling.shapes import NO_DEMAND
from headrace.core.scheduling.sharing import attained_ms, kind_of, shares_time
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.workload import (
    WHOLE_MILLI,
    Placement,
    PolicyRef,
    RankPlace,
    State,
    Workload,
    WorkloadSpec,
)

SITE = SiteId("replay")
PROJECT = ProjectId("main")
BEGIN_MS = 1_500_000_000_000
"""The journal time at which every replay begins: 0 means "not yet" there."""
_RACK_NODES = 16
_ENOUGH_W = 1 << 48
_NOTHING = Taken()
_ALLOWED = Verdict("replay", "place", SITE, True, ("a replay has no law",), Digest(""), Digest(""))


def hardware(
    model: str, accelerators: int, cpu_milli: int = 64_000, memory_mb: int = 512_000
) -> HardwareType:
    """A type of node that draws nothing: a trace says nothing of power."""
    return HardwareType(
        id=f"{model}-{accelerators}-{cpu_milli}-{memory_mb}",
        accelerator=model,
        accelerators=accelerators,
        nameplate_w=0,
        idle_w=0,
        accelerator_w=0,
        accelerator_idle_w=0,
        cpu_milli=cpu_milli,
        memory_mb=memory_mb,
        source="a trace",
    )


def fleet_of(kinds: Sequence[tuple[HardwareType, int]], rack_nodes: int = _RACK_NODES) -> Fleet:
    """One site with so many nodes of each type, in racks of ``rack_nodes``."""
    groups = tuple(
        NodeGroup(f"g{number}", kind.id, -(-count // rack_nodes), rack_nodes, _ENOUGH_W, nodes=count)
        for number, (kind, count) in enumerate(kinds)
    )
    site = Site(
        id=SITE,
        country="NO",
        zone="UTC",
        connection=Connection(_ENOUGH_W),
        pue_permille=1_000,
        carbon_g_per_kwh=0,
        energy_price_micros_per_kwh=0,
        currency="EUR",
        engine="fake",
        blocks=(Block("b", groups, commissioned="1970-01-01"),),
    )
    operator = Operator(OperatorId("replay"), "Replay", "NO", "UTC", "EUR")
    return compile_fleet(Estate(operator, (site,), {kind.id: kind for kind, _ in kinds}))


class ReplayCluster:
    """Nodes, what runs on them and who waits; tenants share it as equals, each with an on-demand contract.

    ``capacity_milli``, ``used_milli``: thousandths of accelerators in all and in use. ``version`` counts what happened.
    """

    def __init__(self, fleet: Fleet, tenants: Iterable[str] = ("replay",)) -> None:
        count = len(fleet.node_ids)
        self.fleet = fleet
        self.version = 0
        self.queue = Queue()
        self.workloads: dict[WorkloadId, Workload] = {}
        self.placements: dict[PlacementId, Placement] = {}
        self.memory = Memory()
        self.usage: dict[tuple[TenantId, ProjectId], Taken] = {}
        self.contract_held_milli: dict[ContractId, int] = {}
        self.used_milli = 0
        self.demand = NO_DEMAND
        self.history = History()
        types: list[HardwareType] = [fleet.hardware[kind] for kind in fleet.node_hardware.tolist()]
        self._full = [one.accelerator_mask() for one in types]
        self.capacity_milli = WHOLE_MILLI * sum(one.accelerators for one in types)
        names = sorted(set(tenants))
        self._numbers = {TenantId(name): number for number, name in enumerate(names, 1)}
        self._tenants = {tenant: Tenant(tenant, (PROJECT,)) for tenant in self._numbers}
        self._contract_of = {
            tenant: Contract(ContractId(f"{tenant}-demand"), tenant, PlanId("none"))
            for tenant in self._numbers
        }
        self._contracts = {contract.id: contract for contract in self._contract_of.values()}
        self._node_index: dict[str, int] = {str(name): at for name, at in fleet.node_index.items()}
        self._open = np.ones(count, np.bool_)
        self._mask = np.zeros(count, np.uint64)
        self._cpu_milli = np.zeros(count, np.int64)
        self._memory_mb = np.zeros(count, np.int64)
        self._ranks = np.zeros(count, np.int32)
        self._power_w = np.zeros(len(fleet.power_ids), np.int64)
        self._share_milli = np.zeros((0, 0), np.int16)
        self._sharer = np.zeros((0, 0), np.int32)
        self._width = max((one.accelerators for one in types), default=0)
        # Cell by cell, memory views cost a third of numpy's own indexing.
        self._masks, self._cpus = self._mask.data, self._cpu_milli.data
        self._memories, self._counts = self._memory_mb.data, self._ranks.data

    # -- what happens ---------------------------------------------------------------------------------------------

    def submit(self, ident: str, tenant: str, spec: WorkloadSpec, now_ms: int) -> Workload:
        """Let a workload wait. KeyError for a tenant that the cluster was not made with."""
        owner = TenantId(tenant)
        if owner not in self._numbers:
            raise KeyError(tenant)
        self.version += 1
        key = WorkloadId(ident)
        work = Workload(key, owner, spec, now_ms, self.version, State.QUEUED, now_ms)
        self.workloads[key] = work
        self.queue.add(work)
        if shares_time(spec):
            self.history.enter(key, kind_of(work))
        return work

    def adopt(self, plan: Plan, now_ms: int) -> list[Placement]:
        """Evict whom a plan evicts, and start what it places: all of it runs at once. The new placements."""
        for eviction in plan.evictions:
            self.requeue(self.placements[eviction.placement], now_ms)
        made = []
        for proposed in plan.placements:
            work = self.workloads[proposed.workload]
            self.version += 1
            work.attempt += 1
            work.state, work.since_ms, work.site = State.RUNNING, now_ms, proposed.site
            ident = PlacementId(f"{work.id}.{work.attempt}")
            work.placement = ident
            placement = Placement(
                ident,
                work.id,
                work.tenant,
                proposed.site,
                proposed.ranks,
                now_ms,
                self.version,
                "",
                work.spec.project,
                self._contract_of[work.tenant].id,
                0,
                now_ms,
            )
            self.placements[ident] = placement
            self.queue.remove(work.id)
            self._hold(placement, 1)
            made.append(placement)
        return made

    def end(self, placement: Placement, now_ms: int) -> None:
        """A placement has ended at ``now_ms``, and its workload with it: of neither is anything kept but how long it ran."""
        self.version += 1
        self._hold(placement, -1)
        del self.placements[placement.id]
        work = self.workloads.pop(placement.workload)
        if work.id in self.history:
            self.history.end(work.id, attained_ms(work, placement, now_ms))

    def withdraw(self, work: Workload) -> None:
        """It waits no longer."""
        self.version += 1
        if work.id in self.history:
            self.history.end(work.id, work.attained_ms, by_itself=False)
        self.queue.remove(work.id)
        del self.workloads[work.id]

    def requeue(self, placement: Placement, now_ms: int) -> None:
        """A placement is ended before its work is done: the workload waits again."""
        self.version += 1
        del self.placements[placement.id]
        self._hold(placement, -1)
        work = self.workloads[placement.workload]
        if work.id in self.history:
            work.attained_ms = attained_ms(work, placement, now_ms)
            self.history.attain(work.id, work.attained_ms)
        work.state, work.since_ms, work.placement = State.QUEUED, now_ms, None
        self.queue.add(work)

    def _hold(self, placement: Placement, sign: int) -> None:
        self.memory.moved(placement, self.workloads[placement.workload].spec, 0, sign)
        index, masks, cpus = self._node_index, self._masks, self._cpus
        memories, counts = self._memories, self._counts
        held_milli = cpu_total = memory_total = 0
        for name, mask, cpu_milli, memory_mb, share_milli in placement.ranks:
            node = index[name]
            held_milli += mask.bit_count() * share_milli
            cpu_total += cpu_milli
            memory_total += memory_mb
            if share_milli != WHOLE_MILLI:
                mask = self._share(node, mask, sign * share_milli, placement.tenant)  # noqa: PLW2901
            masks[node] ^= mask
            if cpu_milli:
                cpus[node] += sign * cpu_milli
            if memory_mb:
                memories[node] += sign * memory_mb
            counts[node] += sign
        self.used_milli += sign * held_milli
        key = placement.tenant, placement.project
        before = self.usage.get(key, _NOTHING)
        after = Taken(
            before[0] + sign * held_milli, before[1] + sign * cpu_total, before[2] + sign * memory_total
        )
        # Who has nothing is not listed: every plan looks at all who have something.
        if any(after):
            self.usage[key] = after
        else:
            self.usage.pop(key, None)
        held = self.contract_held_milli
        held[placement.contract] = held.get(placement.contract, 0) + sign * held_milli

    def _share(self, node: int, mask: int, delta_milli: int, tenant: TenantId) -> int:
        """Take or give back a part of an accelerator; its bit if that is the first or the last part of it, else 0."""
        if not len(self._share_milli):
            shape = len(self._mask), self._width
            self._share_milli, self._sharer = np.zeros(shape, np.int16), np.zeros(shape, np.int32)
        at = node, mask.bit_length() - 1
        before = int(self._share_milli[at])
        after = before + delta_milli
        self._share_milli[at] = after
        self._sharer[at] = self._numbers[tenant] if after else 0
        return mask if not before or not after else 0

    # -- questions ------------------------------------------------------------------------------------------------

    def free_bits(self, node: int) -> int:
        """The free accelerators of a node, a bit for each: for planners that look at nothing else."""
        return self._full[node] & ~int(self._masks[node])

    def node_of(self, rank: RankPlace) -> int:
        """The index of the node that a rank is on."""
        return self._node_index[rank.node]

    def snapshot(self, now_ms: int) -> Snapshot:
        """A view of now; valid until something happens."""
        return Snapshot(
            version=self.version,
            now_ms=now_ms,
            fleet=self.fleet,
            node_open=self._open,
            node_mask=self._mask,
            node_cpu_milli=self._cpu_milli,
            node_memory_mb=self._memory_mb,
            node_ranks=self._ranks,
            power_w=self._power_w,
            power_limit_w=self.fleet.power_limit_w,
            queue=self.queue.values(),
            waiting=self.queue,
            memory=self.memory,
            workloads=self.workloads,
            placements=self.placements,
            place_verdict=_allowed,
            contract_for=self._contract_for,
            contract_held_milli=self.contract_held_milli,
            node_share_milli=self._share_milli,
            node_sharer=self._sharer,
            contracts=self._contracts,
            tenant_number=self._numbers.__getitem__,
            usage=self.usage,
            tenants=self._tenants,
            stopping=(),
            demand=self.demand,
            history=self.history,
            zone="UTC",
        )

    def _contract_for(
        self, tenant: TenantId, _site: int, _model: str, named: ContractId | None
    ) -> Contract | None:
        contract = self._contract_of[tenant]
        return contract if named in (None, contract.id) else None


def _allowed(_tenant: TenantId, _policy: PolicyRef, _site: int) -> Verdict:
    return _ALLOWED
