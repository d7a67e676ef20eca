"""The second opinion on a plan: every rule once more, sharing no code with the planner.

What is in use is rebuilt from the workloads, the placements and the estate as it was declared. No index of
the world or of the fleet is read but ``node_open``, which is an input: nothing else says which nodes are
drained or down. So a wrong index that misleads the planner and the writer alike is found here. Days are days
in UTC, as journal time is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from headrace.core.contracts import Contract
from headrace.core.estate import Block, NodeGroup, Site
from headrace.core.hardware import HardwareType
from headrace.core.ids import ContractId, PlacementId, WorkloadId
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.units import MS_PER_DAY, PERMILLE
from headrace.core.workload import (
    HOLDING,
    Flex,
    Placement,
    PolicyRef,
    RankPlace,
    State,
    Workload,
    WorkloadSpec,
    WorkloadType,
)

PROMISES: dict[str, int] = {
    "power": 1,
    "jurisdiction": 2,
    "unknown-country": 2,
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
    "model": 5,
    "accelerator-count": 5,
    "accelerator-beyond": 5,
    "share-short": 5,
    "cpu": 5,
    "memory": 5,
    "contract-absent": 5,
    "contract-over-held": 5,
    "cluster-not-whole": 5,
    "eviction-forbidden": 5,
    "accelerator-taken": 6,
    "node-leased": 6,
    "dedicated": 6,
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


@dataclass(frozen=True, slots=True)
class _Group:
    """A group of nodes where it hangs: ``above`` are the elements from its block up to the connection."""

    ident: str
    site: int
    declared: NodeGroup
    hardware: HardwareType
    first: int
    commissioned: str
    above: tuple[str, ...]

    def nodes_in(self, rack: int) -> int:
        """How many nodes stand in a rack: the last one may be short."""
        before = rack * self.declared.nodes_per_rack
        return max(0, min(self.declared.nodes_per_rack, self.declared.node_count - before))

    @property
    def count(self) -> int:
        """How many nodes the group has."""
        return min(self.declared.node_count, self.declared.racks * self.declared.nodes_per_rack)

    def is_commissioned(self, today: str) -> bool:
        """Whether its nodes may be placed on by their date."""
        return self.commissioned != "" and self.commissioned <= today

    @property
    def rack_limit_w(self) -> int:
        """What a rack may draw: its rating, or the nameplate of its nodes when none is stated."""
        return self.declared.rack_rating_w or self.hardware.nameplate_w * self.declared.nodes_per_rack


@dataclass(frozen=True, slots=True)
class _Spot:
    """A node, found by its name: ``index`` is its place in the order of the estate."""

    group: _Group
    rack: int
    index: int

    @property
    def rack_ident(self) -> str:
        return f"{self.group.ident}-{self.rack}"

    @property
    def path(self) -> tuple[str, ...]:
        return (self.rack_ident, *self.group.above)


@dataclass(frozen=True, slots=True)
class _Ground:
    """The declared estate: groups by ``site/block/group``, and what the elements above the racks may draw.

    ``limit_w`` is IT load, but at a connection watts at the meter. ``site_of`` numbers the sites.
    """

    groups: dict[str, _Group]
    limit_w: dict[str, int]
    pue_permille: dict[str, int]
    site_of: dict[str, int]

    def find(self, node: str) -> _Spot | None:
        """The node ``site/block/group-rack-number``, or None when the estate has none of that name."""
        parts = node.rsplit("-", 2)
        group = self.groups.get(parts[0])
        if group is None or len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
            return None
        rack, number = int(parts[1]), int(parts[2])
        if node != f"{parts[0]}-{rack}-{number}":
            return None
        if rack >= group.declared.racks or number >= group.nodes_in(rack):
            return None
        return _Spot(group, rack, group.first + rack * group.declared.nodes_per_rack + number)


# Deciding again and again on one estate is the rule; reading a large one takes milliseconds.
@lru_cache(maxsize=8)
def _read(sites: tuple[Site, ...], hardware: tuple[HardwareType, ...]) -> _Ground:
    types = {kind.id: kind for kind in hardware}
    ground = _Ground({}, {}, {}, {site.id: number for number, site in enumerate(sites)})
    first = 0
    for number, site in enumerate(sites):
        ground.limit_w[site.id] = site.connection.total_w
        ground.pue_permille[site.id] = site.pue_permille
        feeders = {element.id: element.fed_by for element in site.power}
        for element in site.power:
            ground.limit_w[f"{site.id}/{element.id}"] = element.rating_w
        for block in site.blocks:
            above = _above(site, block, feeders)
            if block.rating_w:
                ground.limit_w[above[0]] = block.rating_w
            for declared in block.groups:
                ident = f"{above[0]}/{declared.id}"
                commissioned = block.commissioned if site.country else ""
                group = _Group(ident, number, declared, types[declared.hardware], first, commissioned, above)
                ground.groups[ident] = group
                first += group.count
    return ground


def _above(site: Site, block: Block, feeders: dict[str, str]) -> tuple[str, ...]:
    """Elements from a block up to the connection, both included."""
    path, element = [f"{site.id}/{block.id}"], block.fed_by
    # An element that was passed already means a cycle: the edge refuses it, and this must end all the same.
    while element and f"{site.id}/{element}" not in path:
        path.append(f"{site.id}/{element}")
        element = feeders.get(element, "")
    return (*path, site.id)


@dataclass(slots=True)
class _Use:
    """What is taken on one node; ``leased`` when a cluster has the whole of it."""

    mask: int = 0
    cpu_milli: int = 0
    memory_mb: int = 0
    ranks: int = 0
    leased: bool = False

    def take(self, rank: RankPlace, leased: bool) -> None:
        """Add one rank."""
        self.mask |= rank.mask
        self.cpu_milli += rank.cpu_milli
        self.memory_mb += rank.memory_mb
        self.ranks += 1
        self.leased = self.leased or leased


def _draw_w(hardware: HardwareType, use: _Use) -> int:
    """The most that a node draws: idle, or its base, its taken accelerators in full and the others idle."""
    if not use.ranks:
        return hardware.idle_w
    base_w = hardware.nameplate_w - hardware.accelerators * hardware.accelerator_w
    taken = use.mask.bit_count()
    return (
        base_w
        + taken * hardware.accelerator_w
        + (hardware.accelerators - taken) * hardware.accelerator_idle_w
    )


def _allowed_countries(policy: PolicyRef) -> tuple[str, ...] | None:
    """The countries that a policy allows; empty for all of them; None for a profile that nobody declared."""
    if policy.countries:
        return policy.countries
    if not policy.profile:
        return ()
    profile = PROFILES.get(policy.profile)
    return None if profile is None else profile.countries


def _covers(contract: Contract, workload: Workload, site: Site, today: str) -> bool:
    """Whether a contract is the tenant's, for that site and model, in its window, and the one named."""
    spec = workload.spec
    return (
        contract.tenant == workload.tenant
        and (spec.contract is None or spec.contract == contract.id)
        and (contract.site is None or contract.site == site.id)
        and (
            not contract.model
            or not spec.resources.accelerator
            or contract.model == spec.resources.accelerator
        )
        and contract.starts <= today
        and (not contract.ends or today < contract.ends)
    )


@dataclass(slots=True)
class _Check:
    snapshot: Snapshot
    plan: Plan
    found: list[Violation] = field(default_factory=list)
    uses: dict[str, _Use] = field(default_factory=dict)
    held: dict[ContractId, int] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    today: str = ""
    contract_day: str = ""
    ground: _Ground = field(default_factory=lambda: _Ground({}, {}, {}, {}))

    def run(self) -> list[Violation]:
        fleet = self.snapshot.fleet
        self.ground = _read(fleet.sites, fleet.hardware)
        self.today = _day(self.snapshot.now_ms)
        self.contract_day = _local_day(self.snapshot.now_ms, self.snapshot.zone)
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
        for rank in placement.ranks:
            self.uses.setdefault(rank.node, _Use()).take(rank, leased)
        number = self.ground.site_of.get(placement.site)
        if number is None:
            return
        contract = self.contract_of(workload, number)
        # One that began after the placement was made pays from now on, but nobody asked what it holds.
        if contract is not None and contract.starts <= _local_day(placement.made_ms, self.snapshot.zone):
            taken = sum(rank.mask.bit_count() for rank in placement.ranks)
            self.held[contract.id] = self.held.get(contract.id, 0) + taken

    def contract_of(self, workload: Workload, site: int) -> Contract | None:
        spec = workload.spec
        return self.snapshot.contract_for(workload.tenant, site, spec.resources.accelerator, spec.contract)

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
        self.law(workload, number)
        self.gang(workload, proposed)
        self.contract(workload, number, proposed)
        here: set[str] = set()
        for rank in proposed.ranks:
            self.rank(workload, number, rank, here)

    def standing(self, workload: Workload) -> None:
        if workload.state is not State.QUEUED:
            self.add("not-queued", workload.id, f"it is {workload.state}, not queued")
        elif workload.not_before_ms > self.snapshot.now_ms:
            left_ms = workload.not_before_ms - self.snapshot.now_ms
            self.add("backing-off", workload.id, f"it is not to be placed for another {left_ms} ms")

    def law(self, workload: Workload, number: int) -> None:
        site = self.snapshot.fleet.sites[number]
        countries = _allowed_countries(workload.spec.policy)
        if not site.country:
            self.add("unknown-country", workload.id, f"the country of site {site.id} is not known")
        elif countries is None:
            self.add(
                "jurisdiction", workload.id, f"nobody declared its policy {workload.spec.policy.profile!r}"
            )
        elif countries and site.country not in countries:
            allowed = ", ".join(countries)
            self.add(
                "jurisdiction", workload.id, f"{site.id} is in {site.country}; its policy allows {allowed}"
            )
        if site.dedicated_to is not None and site.dedicated_to != workload.tenant:
            self.add("dedicated", workload.id, f"site {site.id} is dedicated to another tenant")

    def gang(self, workload: Workload, proposed: ProposedPlacement) -> None:
        spec = workload.spec
        if len(proposed.ranks) != spec.nodes:
            self.add("rank-count", workload.id, f"{len(proposed.ranks)} ranks placed, {spec.nodes} asked for")
        if spec.site is not None and proposed.site != spec.site:
            self.add("pinned-site", workload.id, f"placed in {proposed.site}, pinned to {spec.site}")

    def contract(self, workload: Workload, number: int, proposed: ProposedPlacement) -> None:
        contract, site = self.contract_of(workload, number), self.snapshot.fleet.sites[number]
        if contract is None or not _covers(contract, workload, site, self.contract_day):
            what = "no contract" if contract is None else f"contract {contract.id} does not cover it"
            self.add("contract-absent", workload.id, f"{what} at {site.id} on {self.contract_day}")
            return
        taken = sum(rank.mask.bit_count() for rank in proposed.ranks)
        held = self.held.get(contract.id, 0) + taken
        self.held[contract.id] = held
        if contract.kind == "reserved" and held > contract.accelerators:
            what = f"contract {contract.id} holds {contract.accelerators} accelerators, {held} would be taken"
            self.add("contract-over-held", workload.id, what)

    def rank(self, workload: Workload, number: int, rank: RankPlace, here: set[str]) -> None:
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
        use = self.uses.setdefault(rank.node, _Use())
        self.accelerators(workload, spot.group.hardware, rank, use)
        self.share(workload, spot.group.hardware, rank, use)
        use.take(rank, leased=workload.spec.type is WorkloadType.CLUSTER)
        self.touched[rank.node] = None

    def accelerators(self, workload: Workload, hardware: HardwareType, rank: RankPlace, use: _Use) -> None:
        spec, asked, mask = workload.spec, workload.spec.resources, rank.mask
        if asked.accelerator and hardware.accelerator != asked.accelerator:
            what = f"node {rank.node} has {hardware.accelerator}, it asked for {asked.accelerator}"
            self.add("model", workload.id, what)
        if mask < 0 or mask >> hardware.accelerators:
            what = f"bits {mask:#x} on node {rank.node}, which has {hardware.accelerators} accelerators"
            self.add("accelerator-beyond", workload.id, what)
        if spec.type is WorkloadType.CLUSTER:
            self.whole(workload, hardware, rank, use)
        elif mask.bit_count() != asked.accelerators:
            what = f"{mask.bit_count()} accelerators on node {rank.node}, {asked.accelerators} asked for"
            self.add("accelerator-count", workload.id, what)
        if mask & use.mask:
            self.add("accelerator-taken", workload.id, f"bits {mask & use.mask:#x} of {rank.node} are taken")
        elif use.leased:
            self.add("node-leased", workload.id, f"node {rank.node} is leased whole to a cluster")

    def whole(self, workload: Workload, hardware: HardwareType, rank: RankPlace, use: _Use) -> None:
        every = (1 << hardware.accelerators) - 1
        if rank.mask & every != every:
            what = f"a cluster with bits {rank.mask:#x} of node {rank.node}, not all of them"
            self.add("cluster-not-whole", workload.id, what)
        elif use.ranks and not use.leased and not rank.mask & use.mask:
            self.add("cluster-not-whole", workload.id, f"a cluster on node {rank.node}, where others run")

    def share(self, workload: Workload, hardware: HardwareType, rank: RankPlace, use: _Use) -> None:
        asked = workload.spec.resources
        if rank.cpu_milli < asked.cpu_milli or rank.memory_mb < asked.memory_mb:
            what = f"{rank.cpu_milli} milli-processors and {rank.memory_mb} MB on {rank.node}, less than it asked"
            self.add("share-short", workload.id, what)
        if use.cpu_milli + rank.cpu_milli > hardware.cpu_milli:
            total = use.cpu_milli + rank.cpu_milli
            self.add(
                "cpu", workload.id, f"{total} of {hardware.cpu_milli} milli-processors of node {rank.node}"
            )
        if use.memory_mb + rank.memory_mb > hardware.memory_mb:
            total = use.memory_mb + rank.memory_mb
            self.add("memory", workload.id, f"{total} of {hardware.memory_mb} MB of node {rank.node}")

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

    def idle_w(self, group: _Group, nodes: int) -> int:
        """What nodes of a group draw with nothing on them: reserved before their day, never for those without one."""
        return nodes * group.hardware.idle_w if group.commissioned else 0

    def add_load(self, load_w: dict[str, int]) -> None:
        """Add what draws below the elements asked about: idle nodes (racks have theirs), then the busy."""
        for group in self.ground.groups.values():
            idle_w = self.idle_w(group, group.count)
            for element in group.above:
                if element in load_w:
                    load_w[element] += idle_w
        for node, use in self.uses.items():
            spot = self.ground.find(node)
            if spot is None:
                continue
            more_w = _draw_w(spot.group.hardware, use) - self.idle_w(spot.group, 1)
            for element in spot.path:
                if element in load_w:
                    load_w[element] += more_w

    def eviction(self, eviction: Eviction, twice: bool) -> None:
        ident = eviction.placement
        placement = self.snapshot.placements.get(ident)
        victim = None if placement is None else self.snapshot.workloads.get(placement.workload)
        if placement is None or victim is None or victim.placement != ident or victim.state not in HOLDING:
            self.add("eviction-unknown", ident, "the plan evicts a placement that holds nothing")
            return
        if twice:
            self.add("eviction-twice", ident, "the plan evicts it more than once")
        if not _may_be_evicted(victim.spec):
            self.add(
                "eviction-forbidden",
                ident,
                f"{victim.id} is {victim.spec.type}, {victim.spec.flex}: not preemptible",
            )
        waiting = self.snapshot.workloads.get(eviction.waiting)
        if waiting is None or waiting.state is not State.QUEUED:
            self.add("eviction-for-nobody", ident, f"{eviction.waiting!r} does not wait")


def _may_be_evicted(spec: WorkloadSpec) -> bool:
    return spec.flex is Flex.PREEMPTIBLE or spec.type is WorkloadType.FILLER


def _day(at_ms: int) -> str:
    """The day in UTC, in ISO form, that a moment is in."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + at_ms // MS_PER_DAY).isoformat()


def _local_day(at_ms: int, zone: str) -> str:
    """The day in an IANA zone, in ISO form: contracts begin and end by it."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(zone)).date().isoformat()
