"""The second opinion on a plan: every rule once more, sharing no code with the planner.

What is in use is rebuilt from the workloads, the placements and the estate as it was declared. No index of
the world or of the fleet is read but ``node_open``, which is an input: nothing else says which nodes are
drained or down. So a wrong index that misleads the planner and the writer alike is found here. Days are days
in UTC, as journal time is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.core.contracts import Contract, Quota
from headrace.core.errors import HeadraceError
from headrace.core.estate import Site
from headrace.core.hardware import HardwareType
from headrace.core.ids import ContractId, NodeId, PlacementId, ProjectId, TenantId, WorkloadId
from headrace.core.power.survive import above, overloads, several_ways
from headrace.core.scheduling.driven import wrong_with_engines
from headrace.core.scheduling.equals import (
    is_paused_too_long,
    may_be_evicted,
    wrong_between_equals,
    wrong_upwards,
)
from headrace.core.scheduling.ground import (
    Ground,
    Group,
    Spot,
    countries_of,
    day_of,
    draw_w,
    local_day_of,
    read,
    would_do,
)
from headrace.core.scheduling.lawful import wrong_with_data
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.timely import is_quiet, must_go, wrong_in_windows
from headrace.core.units import PERMILLE, ceil_div
from headrace.core.workload import (
    HOLDING,
    WHOLE_MILLI,
    Placement,
    RankPlace,
    Resources,
    State,
    Workload,
    WorkloadType,
)

PROMISES: dict[str, int] = {
    "power": 1,
    "jurisdiction": 2,
    "unknown-country": 2,
    "data": 2,
    "unknown-workload": 3,
    "not-queued": 3,
    "placed-twice": 3,
    "backing-off": 3,
    "future-base": 3,
    "eviction-unknown": 3,
    "eviction-twice": 3,
    "eviction-for-nobody": 3,
    "rank-count": 5,
    "node-twice": 5,
    "pinned-site": 5,
    "unknown-site": 5,
    "unknown-node": 5,
    "node-elsewhere": 5,
    "not-commissioned": 5,
    "node-closed": 5,
    "option": 5,
    "model": 5,
    "models-mixed": 4,
    "accelerator-count": 5,
    "accelerator-beyond": 5,
    "accelerator-memory": 5,
    "accelerator-over": 5,
    "part": 5,
    "resources": 5,
    "pack": 5,
    "spread": 5,
    "cpu": 5,
    "memory": 5,
    "contract-absent": 5,
    "contract-over-held": 5,
    "quota": 5,
    "window": 5,
    "cluster-not-whole": 5,
    "eviction-forbidden": 5,
    "eviction-of-an-equal": 5,
    "eviction-upwards": 5,
    "accelerator-taken": 6,
    "accelerator-mixed": 6,
    "accelerator-shared": 6,
    "node-leased": 6,
    "dedicated": 6,
    "engine": 6,
}
"""Every rule that is checked, and the number of the promise that breaks with it."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that is broken: its number, where, how, in one line, and the rule that found it."""

    promise: int
    subject: str
    detail: str
    rule: str = ""


def check(snapshot: Snapshot, plan: Plan) -> list[Violation]:
    """What is wrong with ``plan`` in the world of ``snapshot``: empty when every rule holds.

    A placement takes its resources before the next one of the plan is looked at, so a conflict is found at the
    later of the two. Nodes of a planned eviction are not free: they are when its end is in the journal.
    """
    return _Check(snapshot, plan).run()


@dataclass(slots=True)
class _Use:
    """What is taken on one node; ``leased`` when a cluster has the whole of it.

    ``whole`` are the accelerators that one rank has; of each other bit ``parts`` has the thousandths, and ``sharer`` whose
    they are. Those in ``quiet`` draw what idle ones do.
    """

    whole: int = 0
    parts: dict[int, int] = field(default_factory=dict)
    sharer: dict[int, TenantId] = field(default_factory=dict)
    cpu_milli: int = 0
    memory_mb: int = 0
    ranks: int = 0
    leased: bool = False
    quiet: int = 0

    @property
    def mask(self) -> int:
        """Accelerators that are taken, in whole or in part."""
        return self.whole | sum(self.parts)

    def take(self, rank: RankPlace, tenant: TenantId, leased: bool) -> None:
        """Add one rank."""
        if rank.share_milli >= WHOLE_MILLI:
            self.whole |= rank.mask
        else:
            for bit in _bits(rank.mask):
                self.parts[bit] = self.parts.get(bit, 0) + rank.share_milli
                self.sharer.setdefault(bit, tenant)
        self.cpu_milli += rank.cpu_milli
        self.memory_mb += rank.memory_mb
        self.ranks += 1
        self.leased = self.leased or leased


def _bits(mask: int) -> Iterator[int]:
    """Each bit of a mask by itself, the lowest first."""
    while mask > 0:
        bit = mask & -mask
        yield bit
        mask ^= bit


def _taken_milli(ranks: tuple[RankPlace, ...]) -> int:
    """Thousandths of accelerators that ranks have together."""
    return sum(rank.mask.bit_count() * rank.share_milli for rank in ranks)


def _covers(contract: Contract, workload: Workload, model: str, site: Site, today: str) -> bool:
    """Whether a contract is the tenant's, for that site and model, in its window, and the one named."""
    spec = workload.spec
    return (
        contract.tenant == workload.tenant
        and (spec.contract is None or spec.contract == contract.id)
        and (contract.site is None or contract.site == site.id)
        and (not contract.model or not model or contract.model == model)
        and contract.starts <= today
        and (not contract.ends or today < contract.ends)
    )


@dataclass(slots=True)
class _Check:
    snapshot: Snapshot
    plan: Plan
    found: list[Violation] = field(default_factory=list)
    uses: dict[str, _Use] = field(default_factory=dict)
    held_milli: dict[ContractId, int] = field(default_factory=dict)
    of_tenant_milli: dict[TenantId, int] = field(default_factory=dict)
    of_project_milli: dict[tuple[TenantId, ProjectId], int] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    today: str = ""
    contract_day: str = ""
    ground: Ground = field(default_factory=lambda: Ground({}, {}, {}, {}))

    def run(self) -> list[Violation]:
        fleet = self.snapshot.fleet
        self.ground = read(fleet.sites, fleet.hardware)
        self.today = day_of(self.snapshot.now_ms)
        self.contract_day = local_day_of(self.snapshot.now_ms, self.snapshot.zone)
        if self.plan.base_version > self.snapshot.version:
            what = f"made from version {self.plan.base_version}, the world is at {self.snapshot.version}"
            self.add("future-base", "plan", what)
        for placement, workload in self.live():
            self.hold(placement, workload)
        seen: set[WorkloadId] = set()
        for proposed in self.plan.placements:
            self.placement(proposed, twice=proposed.workload in seen)
            seen.add(proposed.workload)
        self.power()
        evicted: set[PlacementId] = set()
        for eviction in self.plan.evictions:
            self.eviction(eviction, twice=eviction.placement in evicted)
            evicted.add(eviction.placement)
        return self.found

    def add(self, rule: str, subject: str, detail: str) -> None:
        self.found.append(Violation(PROMISES[rule], subject, detail, rule))

    def live(self) -> Iterator[tuple[Placement, Workload]]:
        """Placements that hold nodes: those that their workload still points to."""
        for placement in self.snapshot.placements.values():
            workload = self.snapshot.workloads.get(placement.workload)
            if workload is not None and workload.state in HOLDING and workload.placement == placement.id:
                yield placement, workload

    def hold(self, placement: Placement, workload: Workload) -> None:
        leased = workload.spec.type is WorkloadType.CLUSTER
        quiet = is_quiet(self.snapshot, self.ground, placement)
        for rank in placement.ranks:
            use = self.uses.setdefault(rank.node, _Use())
            use.take(rank, placement.tenant, leased)
            use.quiet |= rank.mask if quiet and rank.share_milli >= WHOLE_MILLI else 0
        contract = self.snapshot.contracts.get(placement.contract)
        self.pay(workload, placement.contract, contract, _taken_milli(placement.ranks))

    def pay(
        self, workload: Workload, ident: ContractId, contract: Contract | None, taken_milli: int
    ) -> tuple[int, int, int]:
        """Count accelerators; the thousandths then under the contract, of the tenant, of the project without reserved ones."""
        held_milli = self.held_milli[ident] = self.held_milli.get(ident, 0) + taken_milli
        if contract is not None and contract.kind == "reserved":
            taken_milli = 0
        tenant, project = workload.tenant, (workload.tenant, workload.spec.project)
        self.of_tenant_milli[tenant] = self.of_tenant_milli.get(tenant, 0) + taken_milli
        self.of_project_milli[project] = self.of_project_milli.get(project, 0) + taken_milli
        return held_milli, self.of_tenant_milli[tenant], self.of_project_milli[project]

    def placement(self, proposed: ProposedPlacement, twice: bool) -> None:
        workload = self.snapshot.workloads.get(proposed.workload)
        if workload is None:
            self.add("unknown-workload", proposed.workload, "the plan places a workload that is not there")
            return
        if twice:
            self.add("placed-twice", proposed.workload, "the plan places it more than once")
            return
        self.standing(workload)
        number = self.ground.site_of.get(proposed.site)
        if number is None:
            self.add("unknown-site", proposed.workload, f"placed in {proposed.site!r}, which is no site")
            return
        asked = would_do(workload.spec, proposed.option)
        if asked is None:
            what = f"option {proposed.option}, and {len(workload.spec.alternatives) + 1} would do"
            self.add("option", workload.id, what)
            return
        self.law(workload, number)
        for what in wrong_with_engines(self.snapshot, self.ground, workload, asked, proposed):
            self.add("engine", workload.id, what)
        self.gang(workload, proposed)
        self.together(workload, proposed)
        self.contract(workload, number, asked, proposed)
        here: set[str] = set()
        for rank in proposed.ranks:
            self.rank(workload, number, asked, rank, here)

    def standing(self, workload: Workload) -> None:
        if workload.state is not State.QUEUED:
            self.add("not-queued", workload.id, f"it is {workload.state}, not queued")
        elif workload.not_before_ms > self.snapshot.now_ms:
            left_ms = workload.not_before_ms - self.snapshot.now_ms
            self.add("backing-off", workload.id, f"it is not to be placed for another {left_ms} ms")

    def law(self, workload: Workload, number: int) -> None:
        site = self.snapshot.fleet.sites[number]
        countries = countries_of(workload.spec.policy)
        if not site.country:
            self.add("unknown-country", workload.id, f"the country of site {site.id} is not known")
        elif countries is None:
            self.verdict(workload, number)
        elif countries and site.country not in countries:
            allowed = ", ".join(countries)
            self.add(
                "jurisdiction", workload.id, f"{site.id} is in {site.country}; its policy allows {allowed}"
            )
        for rule, what in wrong_with_data(self.snapshot, workload, number):
            self.add(rule, workload.id, what)
        if site.dedicated_to is not None and site.dedicated_to != workload.tenant:
            self.add("dedicated", workload.id, f"site {site.id} is dedicated to another tenant")

    def verdict(self, workload: Workload, number: int) -> None:
        """Rules are read by the authority alone, which no planner is."""
        policy = workload.spec.policy
        try:
            verdict = self.snapshot.place_verdict(workload.tenant, policy, number)
        except HeadraceError:
            self.add("jurisdiction", workload.id, f"nobody declared its policy {policy.profile!r}")
            return
        if not verdict.allowed:
            self.add("jurisdiction", workload.id, "; ".join(verdict.reasons))

    def gang(self, workload: Workload, proposed: ProposedPlacement) -> None:
        spec, count = workload.spec, len(proposed.ranks)
        most = spec.nodes_max or spec.nodes
        if not spec.nodes <= count <= most:
            asked = f"{spec.nodes}" if most == spec.nodes else f"{spec.nodes} to {most}"
            self.add("rank-count", workload.id, f"{count} ranks placed, {asked} asked for")
        if spec.site is not None and proposed.site != spec.site:
            self.add("pinned-site", workload.id, f"placed in {proposed.site}, pinned to {spec.site}")

    def together(self, workload: Workload, proposed: ProposedPlacement) -> None:
        """How its nodes must stand to each other; a node that is wrong by itself is told of by itself."""
        named = {rank.node: self.ground.find(rank.node) for rank in proposed.ranks}
        spots = [spot for spot in named.values() if spot is not None]
        models = {
            spot.group.hardware.accelerator: None
            for rank in proposed.ranks
            if rank.mask and (spot := named[rank.node]) is not None
        }
        if len(models) > 1:
            self.add(
                "models-mixed", workload.id, f"one gang with {' and '.join(models)}: nobody can meter it"
            )
        wish = workload.spec.topology
        if wish is None or not wish.required:
            return
        if wish.pack:
            groups = len({spot.place(wish.pack) for spot in spots})
            if groups > 1:
                self.add("pack", workload.id, f"in {groups} groups of level {wish.pack}, it must be in one")
        if wish.spread:
            groups = len({spot.place(wish.spread) for spot in spots})
            if groups < len(spots):
                what = f"{len(spots)} nodes in {groups} groups of level {wish.spread}, each must have its own"
                self.add("spread", workload.id, what)

    def contract(
        self, workload: Workload, number: int, asked: Resources, proposed: ProposedPlacement
    ) -> None:
        spec, site, model = workload.spec, self.snapshot.fleet.sites[number], asked.accelerator
        contract = self.snapshot.contract_for(workload.tenant, number, model, spec.contract)
        if contract is None or not _covers(contract, workload, model, site, self.contract_day):
            what = "no contract" if contract is None else f"contract {contract.id} does not cover it"
            self.add("contract-absent", workload.id, f"{what} at {site.id} on {self.contract_day}")
            return
        taken_milli = _taken_milli(proposed.ranks)
        held_milli, of_tenant_milli, of_project_milli = self.pay(workload, contract.id, contract, taken_milli)
        if contract.kind == "reserved":
            if taken_milli and held_milli > contract.accelerators * WHOLE_MILLI:
                what = f"contract {contract.id} holds {contract.accelerators} accelerators, "
                self.add("contract-over-held", workload.id, f"{what}{_whole(held_milli)} would be taken")
        elif taken_milli:
            self.quota(workload, of_tenant_milli, of_project_milli)

    def quota(self, workload: Workload, of_tenant_milli: int, of_project_milli: int) -> None:
        """Neither a tenant nor a project of it goes over its limit (0: none)."""
        declared, project = self.snapshot.tenants.get(workload.tenant), workload.spec.project
        if declared is None:
            return
        most = declared.quota.limit
        if most and of_tenant_milli > most * WHOLE_MILLI:
            what = f"{workload.tenant} would have {_whole(of_tenant_milli)} accelerators, its limit is {most}"
            self.add("quota", workload.id, what)
        most = declared.project_quotas.get(project, Quota()).limit
        if most and of_project_milli > most * WHOLE_MILLI:
            what = (
                f"project {project} would have {_whole(of_project_milli)} accelerators, its limit is {most}"
            )
            self.add("quota", workload.id, what)

    def rank(
        self, workload: Workload, number: int, asked: Resources, rank: RankPlace, here: set[str]
    ) -> None:
        spot = self.ground.find(rank.node)
        if spot is None:
            self.add("unknown-node", workload.id, f"the estate has no node {rank.node!r}")
            return
        if spot.group.site != number:
            self.add("node-elsewhere", workload.id, f"node {rank.node} is in another site than its placement")
            return
        if rank.node in here:
            self.add("node-twice", workload.id, f"two ranks on node {rank.node}")
            return
        here.add(rank.node)
        if not spot.group.is_commissioned(self.today):
            day = spot.group.commissioned or "no known day"
            self.add("not-commissioned", workload.id, f"node {rank.node} is commissioned on {day}")
        elif not self.snapshot.node_open[spot.index]:
            self.add("node-closed", workload.id, f"node {rank.node} is draining or down")
        for what in wrong_in_windows(self.snapshot, workload, spot.index, rank.node):
            self.add("window", workload.id, what)
        use = self.uses.setdefault(rank.node, _Use())
        self.asked(workload, spot.group.hardware, asked, rank)
        if workload.spec.type is WorkloadType.CLUSTER:
            self.whole(workload, spot.group.hardware, rank, use)
        self.holders(workload, rank, use)
        self.room(workload, spot.group.hardware, rank, use)
        use.take(rank, workload.tenant, leased=workload.spec.type is WorkloadType.CLUSTER)
        self.touched[rank.node] = None

    def asked(self, workload: Workload, hardware: HardwareType, asked: Resources, rank: RankPlace) -> None:
        """What a rank has against what was asked for: the same, but a cluster's ranks, which have all of their nodes."""
        mask, leased = rank.mask, workload.spec.type is WorkloadType.CLUSTER
        if asked.accelerator and hardware.accelerator != asked.accelerator:
            what = f"node {rank.node} has {hardware.accelerator}, it asked for {asked.accelerator}"
            self.add("model", workload.id, what)
        if mask < 0 or mask >> hardware.accelerators:
            what = f"bits {mask:#x} on node {rank.node}, which has {hardware.accelerators} accelerators"
            self.add("accelerator-beyond", workload.id, what)
        elif (
            (hardware.accelerators < asked.accelerators) if leased else mask.bit_count() != asked.accelerators
        ):
            what = f"{mask.bit_count()} accelerators on node {rank.node}, {asked.accelerators} asked for"
            self.add("accelerator-count", workload.id, what)
        if mask and hardware.accelerator_memory_mb < asked.accelerator_memory_mb:
            what = f"accelerators of {rank.node} have {hardware.accelerator_memory_mb} MB each"
            self.add("accelerator-memory", workload.id, f"{what}, {asked.accelerator_memory_mb} asked for")
        if rank.share_milli != asked.share_milli or (
            rank.share_milli < WHOLE_MILLI and mask.bit_count() != 1
        ):
            what = f"{rank.share_milli} thousandths of bits {mask:#x} on {rank.node}"
            self.add("part", workload.id, f"{what}, {asked.share_milli} of one were asked for")
        got, wanted = (rank.cpu_milli, rank.memory_mb), (asked.cpu_milli, asked.memory_mb)
        if (got[0] < wanted[0] or got[1] < wanted[1]) if leased else got != wanted:
            what = f"{got[0]} milli-processors and {got[1]} MB on {rank.node}"
            self.add("resources", workload.id, f"{what}, {wanted[0]} and {wanted[1]} asked for")

    def whole(self, workload: Workload, hardware: HardwareType, rank: RankPlace, use: _Use) -> None:
        every = (1 << hardware.accelerators) - 1
        if rank.mask & every != every:
            what = f"a cluster with bits {rank.mask:#x} of node {rank.node}, not all of them"
            self.add("cluster-not-whole", workload.id, what)
        elif use.ranks and not use.leased and not rank.mask & use.mask:
            self.add("cluster-not-whole", workload.id, f"a cluster on node {rank.node}, where others run")

    def holders(self, workload: Workload, rank: RankPlace, use: _Use) -> None:
        """An accelerator has one holder, or several of one tenant that have parts of it, all of it at most."""
        mask, parts = rank.mask, sum(use.parts)
        is_part = rank.share_milli < WHOLE_MILLI
        if mask & use.whole:
            rule = "accelerator-mixed" if is_part else "accelerator-taken"
            self.add(rule, workload.id, f"bits {mask & use.whole:#x} of {rank.node} are taken whole")
        elif mask & parts and not is_part:
            what = f"bits {mask & parts:#x} of {rank.node}, of which others have parts"
            self.add("accelerator-mixed", workload.id, what)
        elif use.leased:
            self.add("node-leased", workload.id, f"node {rank.node} is leased whole to a cluster")
        for bit in _bits(mask & parts) if is_part else ():
            total_milli = use.parts[bit] + rank.share_milli
            if use.sharer[bit] != workload.tenant:
                what = f"a part of bit {bit:#x} of {rank.node}, of which another tenant has parts"
                self.add("accelerator-shared", workload.id, what)
            if total_milli > WHOLE_MILLI:
                what = f"{total_milli} thousandths of bit {bit:#x} of {rank.node} would be taken"
                self.add("accelerator-over", workload.id, what)

    def room(self, workload: Workload, hardware: HardwareType, rank: RankPlace, use: _Use) -> None:
        cpu_milli, memory_mb = use.cpu_milli + rank.cpu_milli, use.memory_mb + rank.memory_mb
        if cpu_milli > hardware.cpu_milli:
            what = f"{cpu_milli} of {hardware.cpu_milli} milli-processors of node {rank.node}"
            self.add("cpu", workload.id, what)
        if memory_mb > hardware.memory_mb:
            self.add("memory", workload.id, f"{memory_mb} of {hardware.memory_mb} MB of node {rank.node}")

    def power(self) -> None:
        """Hold every element above a node that the plan touches to its limit."""
        limits: dict[str, int] = {}
        load_w: dict[str, int] = {}
        for node in self.touched:
            spot = self.ground.find(node)
            if spot is None or spot.rack_ident in limits:
                continue
            limits[spot.rack_ident] = spot.group.rack_limit_w
            load_w[spot.rack_ident] = self.idle_w(spot.group, spot.group.nodes_in(spot.rack))
            for element in spot.group.above:
                if element in self.ground.limit_w:
                    limits[element] = self.ground.limit_w[element]
                    load_w.setdefault(element, 0)
        if not limits:
            return
        self.add_load(load_w)
        for element, limit_w in limits.items():
            pue_permille = self.ground.pue_permille.get(element, PERMILLE)
            drawn_w = -(-load_w[element] * pue_permille // PERMILLE)
            if drawn_w > limit_w:
                self.add("power", element, f"{drawn_w} W could be drawn, {limit_w} W are allowed")
        self.losses()

    def losses(self) -> None:
        """Where there are several ways up: hold all above a touched node to its rating, whatever single element is lost."""
        spots = [spot for node in self.touched if (spot := self.ground.find(node)) is not None]
        for number in sorted({spot.group.site for spot in spots}):
            site = self.snapshot.fleet.sites[number]
            if site.pue_curve is None and not several_ways(site):
                continue
            names = {ident.removeprefix(f"{site.id}/") for ident in (spot.group.ident for spot in spots)}
            touched = above(site, names) if site.pue_curve else above(site, names) - {site.id}
            for one in overloads(site, self.group_w(number)):
                if one.element in touched:
                    gone = f" with {one.lost} lost" if one.lost else ""
                    what = f"{one.carried_w} W could be carried{gone}, {one.rating_w} W are allowed"
                    self.add("power", one.element, what)

    def group_w(self, site: int) -> dict[str, int]:
        """What each group of a site (``block/group``) can draw at most."""
        found: dict[str, int] = {}
        for ident, group in self.ground.groups.items():
            if group.site == site:
                found[ident.partition("/")[2]] = self.idle_w(group, group.count)
        for node in dict.fromkeys([*self.uses, *self.snapshot.intruders]):
            spot = self.ground.find(node)
            if spot is not None and spot.group.site == site:
                more_w = self.most_w(spot, node) - self.idle_w(spot.group, 1)
                found[spot.group.ident.partition("/")[2]] += more_w
        return found

    def idle_w(self, group: Group, nodes: int) -> int:
        """What nodes of a group draw with nothing on them: reserved before their day, never for those without one."""
        return nodes * group.hardware.idle_w if group.commissioned else 0

    def add_load(self, load_w: dict[str, int]) -> None:
        """Add what draws below the elements asked about."""
        for elements, watts in self.loads():
            for element in elements:
                if element in load_w:
                    load_w[element] += watts

    def loads(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Elements, and what all of them carry: idle nodes (racks have theirs), what the busy draw more, what meters see more."""
        for group in self.ground.groups.values():
            yield group.above, self.idle_w(group, group.count)
        for node in dict.fromkeys([*self.uses, *self.snapshot.intruders]):
            if (spot := self.ground.find(node)) is not None:
                yield spot.path, self.most_w(spot, node) - self.idle_w(spot.group, 1)
        for element, watts in self.snapshot.excess.items():
            yield self.ground.chain(element), watts

    def most_w(self, spot: Spot, node: str) -> int:
        """What a node draws at most: all of it under a stranger, and never more than its controller says that it enforces."""
        kind, use = spot.group.hardware, self.uses.get(node, _Use())
        most_w = (
            kind.nameplate_w
            if node in self.snapshot.intruders
            else draw_w(kind, use.ranks, use.mask & ~use.quiet)
        )
        cap = self.snapshot.caps.get(NodeId(node))
        if cap is None or not cap.wanted_w or not cap.enforced_w:
            return most_w
        # It regulates, and may pass its limit by a fiftieth; off, its power supplies still draw a hundredth of all.
        return min(most_w, max(ceil_div(cap.enforced_w * 51, 50), ceil_div(kind.nameplate_w, 100)))

    def eviction(self, eviction: Eviction, twice: bool) -> None:
        ident = eviction.placement
        placement = self.snapshot.placements.get(ident)
        victim = None if placement is None else self.snapshot.workloads.get(placement.workload)
        if placement is None or victim is None or victim.placement != ident or victim.state not in HOLDING:
            self.add("eviction-unknown", ident, "the plan evicts a placement that holds nothing")
            return
        if twice:
            self.add("eviction-twice", ident, "the plan evicts it more than once")
        may_go = may_be_evicted(victim.spec) or is_paused_too_long(victim, placement, self.snapshot.now_ms)
        if not (may_go or must_go(self.snapshot, self.ground, placement, victim, eviction)):
            what = f"{victim.id} is {victim.spec.type}, {victim.spec.flex}: not preemptible"
            self.add("eviction-forbidden", ident, what)
        if eviction.waiting is None:
            if all(window.id != eviction.window for window in self.snapshot.windows):
                self.add("eviction-for-nobody", ident, f"{eviction.window!r} is no window")
            return
        waiting = self.snapshot.workloads.get(eviction.waiting)
        if waiting is None or waiting.state is not State.QUEUED:
            self.add("eviction-for-nobody", ident, f"{eviction.waiting!r} does not wait")
        elif may_go:
            if what := wrong_between_equals(victim, waiting, placement, self.snapshot.now_ms):
                self.add("eviction-of-an-equal", ident, what)
            elif what := wrong_upwards(victim, waiting):
                self.add("eviction-upwards", ident, what)


def _whole(milli: int) -> str:
    """Thousandths of accelerators, as accelerators."""
    return f"{milli // WHOLE_MILLI}" if milli % WHOLE_MILLI == 0 else f"{milli / WHOLE_MILLI:.3f}"
