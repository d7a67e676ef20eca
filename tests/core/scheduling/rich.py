"""Random worlds with something of every shape, from a seed: parts, alternatives, elastic gangs, topology, quotas, windows."""

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

from headrace.core.contracts import Contract, Quota, Reservation, Tenant
from headrace.core.errors import Problem
from headrace.core.estate import Block, Connection, Estate, NodeGroup, PowerElement, Site
from headrace.core.fleet import compile_fleet
from headrace.core.hardware import CATALOGUE, HardwareType
from headrace.core.ids import ContractId, PlanId, ProjectId, SiteId, TenantId, WindowId, WorkloadId
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.scheduling.reserve import nodes_for
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.windows import Window
from headrace.core.workload import (
    LEVELS,
    WHOLE_MILLI,
    Flex,
    RankPlace,
    Topology,
    Workload,
    WorkloadType,
)
from tests.core.scheduling.small import ACME, OPERATOR, World, contract

OTHER = TenantId("other")
PROJECTS = (ProjectId("main"), ProjectId("side"))
HARDWARE = {
    "lab": CATALOGUE["lab"],
    "paired": replace(CATALOGUE["lab"], id="paired", domain_nodes=2, accelerator_memory_mb=40_000),
    "h100-8": CATALOGUE["h100-8"],
}
LATER = "2099-01-01"
MODELS = (("lab", 4), ("lab", 4), ("H100", 8))
"""Models, and how many of them a node has."""

MINUTE, HOUR = 60_000, 3_600_000
BEGINS_MS = (-HOUR, -1, -1, 45_000, 5 * MINUTE, 5 * MINUTE, 5 * MINUTE, 7 * MINUTE, 20 * MINUTE, 24 * HOUR)
"""When windows begin, from the first moment of a world: one that has run for a while is up to 14 minutes on."""
LASTS_MS = (5 * MINUTE, HOUR + 5 * MINUTE, 24 * HOUR)

T = TypeVar("T")


@dataclass
class Windowed(World):
    """A world where nodes are reserved, or works are announced."""

    windows: tuple[Window, ...] = ()

    def snapshot(self) -> Snapshot:
        """As without them, and with them."""
        return replace(super().snapshot(), windows=self.windows)

    def tenant_number(self, tenant: TenantId) -> int:
        """A tenant keeps its number when others come, as a memory of earlier plans may expect."""
        return 1 + (ACME, OTHER).index(tenant)


@dataclass
class Case:
    """A world that has run for a while, the plan that the planner made for it, and chance for what comes next."""

    world: Windowed
    plan: Plan
    chance: Random


def make(seed: int) -> Case:
    """A world with load on it, more in its queue, and its plan."""
    chance = Random(seed)
    world = make_world(chance)
    for _ in range(chance.randint(0, 2)):
        submit(world, chance, chance.randint(2, 10))
        world.adopt(plan(world.snapshot()))
        for placement in list(world.placements.values()):
            fate = chance.random()
            if fate < 0.15 and placement.stop_reason is None:
                world.stop(placement)
            elif fate < 0.4:
                world.end(placement)
        world.now_ms += chance.choice((1_000, 400_000))
    submit(world, chance, chance.randint(6, 14))
    return Case(world, plan(world.snapshot()), chance)


def make_world(chance: Random) -> Windowed:
    """Two or three sites, contracts, quotas and windows; nothing runs yet."""
    sites = tuple(_site(chance, f"s{number}") for number in range(chance.randint(2, 3)))
    contracts = [contract(), contract(OTHER)]
    if chance.random() < 0.4:
        held = chance.randint(2, 10)
        reserved = Contract(ContractId("r"), ACME, PlanId("p"), "reserved", accelerators=held, model="lab")
        contracts.insert(chance.randint(0, 1), reserved)
    world = Windowed(compile_fleet(Estate(OPERATOR, sites, HARDWARE)), contracts=contracts)
    world.closed |= {
        node
        for node in world.fleet.node_ids
        for site in sites
        for block in site.blocks
        if node.startswith(f"{site.id}/{block.id}/") and block.commissioned == LATER
    }
    for tenant in (ACME, OTHER):
        limits = (Quota(limit=chance.choice((0, 0, 6, 20))), Quota(limit=chance.choice((0, 0, 4))))
        world.tenants[tenant] = Tenant(
            tenant, PROJECTS, quota=limits[0], project_quotas={PROJECTS[1]: limits[1]}
        )
    for number in range(chance.randint(0, 3)):
        world.windows += _window(chance, world, WindowId(f"window-{number}"))
    return world


def _window(chance: Random, world: Windowed, ident: WindowId) -> tuple[Window, ...]:
    """Works on some nodes of a site; or a reservation, which is turned away when its nodes are not sure to be there."""
    site = chance.randrange(len(world.fleet.sites))
    starts_ms = world.now_ms + chance.choice(BEGINS_MS)
    ends_ms = max(world.now_ms, starts_ms) + chance.choice(LASTS_MS)
    here = [node for node, at in enumerate(world.fleet.node_site.tolist()) if at == site]
    if chance.random() < 0.4:
        # Where works are announced, reservations move to other nodes first.
        sold = {
            node
            for one in world.windows
            for node in one.nodes
            if one.tenant is not None and one.starts_ms < ends_ms and starts_ms < one.ends_ms
        }
        shut = [
            node for node in sorted(chance.sample(here, chance.randint(1, len(here)))) if node not in sold
        ]
        return (Window(ident, None, site, tuple(shut), starts_ms, ends_ms),) if shut else ()
    model = world.fleet.hardware[world.fleet.node_hardware[chance.choice(here)]].accelerator
    tenant, place = chance.choice((ACME, ACME, OTHER)), world.fleet.sites[site].id
    wanted = Reservation(ident, tenant, place, model, chance.randint(1, 3), starts_ms, ends_ms)
    found = nodes_for(world.snapshot(), wanted, world.windows)
    return () if isinstance(found, Problem) else (Window(ident, tenant, site, found, starts_ms, ends_ms),)


def _site(chance: Random, ident: str) -> Site:
    blocks = tuple(_block(chance, f"b{number}") for number in range(chance.randint(1, 2)))
    return Site(
        SiteId(ident),
        chance.choice(("NO", "GB")),
        "Europe/Oslo",
        Connection(chance.choice((12_000, 60_000, 1_000_000))),
        chance.choice((1_000, 1_250)),
        20,
        chance.randint(0, 2),
        "NOK",
        dedicated_to=OTHER if chance.random() < 0.1 else None,
        power=(PowerElement("feed-a", "feed", chance.choice((10_000, 50_000, 900_000))),),
        blocks=blocks,
    )


def _block(chance: Random, ident: str) -> Block:
    groups = tuple(
        NodeGroup(
            f"g{number}",
            chance.choice(("lab", "paired", "paired", "h100-8")),
            chance.randint(1, 4),
            chance.randint(1, 4),
            rail_racks=chance.choice((0, 1, 2)),
        )
        for number in range(chance.randint(1, 2))
    )
    day = "2025-01-01" if chance.random() < 0.9 else LATER
    return Block(ident, groups, "feed-a", chance.choice((0, 0, 900_000)), day, day)


def submit(world: Windowed, chance: Random, count: int) -> None:
    """Queue workloads of all shapes."""
    for _ in range(count):
        shape = chance.choice(
            ("plain", "plain", "part", "part", "either", "elastic", "pack", "spread", "cpu")
        )
        model, most = chance.choice(MODELS)
        fields: dict[str, object] = {
            "nodes": chance.choice((1, 1, 2, 3)),
            "gpus": chance.randint(1, most),
            "model": model,
            "cpu_milli": chance.choice((0, 100, 1_000)),
            "memory_mb": chance.choice((1, 100, 2_000)),
            "accelerator_memory_mb": chance.choice((0, 0, 0, 30_000)),
        }
        kind = chance.choice(("job", "job", "job", "service", "cluster", "filler"))
        match shape:
            case "part":
                kind = chance.choice(("job", "service", "filler"))
                fields |= {"gpus": 1, "share_milli": chance.choice((1, 250, 400, 500, 810, 999))}
            case "either":
                others = (("H100", chance.randint(1, 8)), ("lab", chance.randint(1, 4)), ("B200", 8))
                fields["others"] = tuple(chance.sample(others, chance.randint(1, 3)))
            case "elastic":
                fields["nodes_max"] = chance.randint(3, 6)
            case "pack" | "spread":
                wish = {shape: chance.choice(LEVELS), "required": chance.random() < 0.8}
                fields |= {"nodes": chance.randint(2, 4), "topology": Topology(**wish)}  # type: ignore[arg-type]
            case "cpu" if kind != "cluster":
                fields |= {"gpus": 0, "model": "", "accelerator_memory_mb": 0}
        work = world.submit(
            kind,
            tenant=chance.choice((ACME, ACME, OTHER)),
            flex=chance.choice((Flex.FIRM, Flex.FIRM, Flex.PREEMPTIBLE)),
            priority=chance.randint(-1, 1),
            project=chance.choice(PROJECTS),
            countries=chance.choice(((), (), ("NO",), ("GB", "NO"))),
            max_duration_ms=chance.choice((0, 0, MINUTE, 10 * MINUTE, HOUR)),
            **fields,  # type: ignore[arg-type]
        )
        own = [one.id for one in world.windows if one.tenant == work.tenant]
        reservation = chance.choice(own) if own and chance.random() < 0.6 else None
        grace_ms = chance.choice((10_000, 10_000, 0, 90_000, 20 * MINUTE))
        work.spec = replace(work.spec, grace_ms=grace_ms, reservation=reservation)


Broken = tuple[Windowed, Plan]


class Inapplicable(Exception):
    """A plan has nothing that could be broken in that way."""


class Good:
    """A copy of a good plan and of its world, that may be spoilt."""

    def __init__(self, case: Case) -> None:
        self.world = copy(case.world)
        self.world.workloads = {name: copy(work) for name, work in case.world.workloads.items()}
        self.world.placements = {name: copy(one) for name, one in case.world.placements.items()}
        self.world.contracts = list(case.world.contracts)
        self.world.closed, self.world.tenants = set(case.world.closed), dict(case.world.tenants)
        self.plan, self.chance = case.plan, deepcopy(case.chance)

    def work(self, proposal: ProposedPlacement) -> Workload:
        return self.world.workloads[proposal.workload]

    def kind(self, node: str) -> HardwareType:
        fleet = self.world.fleet
        return fleet.hardware[fleet.node_hardware[fleet.node_index[node]]]  # type: ignore[index]

    def one_of(self, found: list[T]) -> T:
        """Any of them; raises Inapplicable when there is none."""
        if not found:
            raise Inapplicable
        return self.chance.choice(found)

    def some(self, wanted: Callable[[ProposedPlacement], bool] = bool) -> ProposedPlacement:
        """One of the plan's placements that is as wanted."""
        return self.one_of([one for one in self.plan.placements if wanted(one)])

    def elsewhere(self, wanted: Callable[[str], bool]) -> str:
        """A node of the estate that is as wanted."""
        return self.one_of([node for node in self.world.fleet.node_ids if wanted(node)])

    def instead(self, old: ProposedPlacement, **changes: Any) -> Broken:
        """The plan, with one placement changed."""
        placements = tuple(replace(one, **changes) if one is old else one for one in self.plan.placements)
        return self.world, replace(self.plan, placements=placements)

    def with_rank(self, old: ProposedPlacement, number: int = 0, **changes: Any) -> Broken:
        """The plan, with one rank of a placement changed."""
        ranks = list(old.ranks)
        ranks[number] = ranks[number]._replace(**changes)
        return self.instead(old, ranks=tuple(ranks))

    def asking(self, old: ProposedPlacement, **changes: Any) -> Broken:
        """The same plan, for a workload that asks for something else."""
        work = self.work(old)
        work.spec = replace(work.spec, **changes)
        return self.world, self.plan

    def beside(
        self, old: ProposedPlacement, *ranks: RankPlace, tenant: TenantId = ACME, **changes: Any
    ) -> Broken:
        """The plan, and at its end one more placement of a workload much like another's."""
        self.world.seq += 1
        ident, first = WorkloadId(f"{tenant}-{self.world.seq}"), self.work(old)
        spec = replace(first.spec, **({"nodes": len(ranks), "nodes_max": 0, "topology": None} | changes))
        self.world.workloads[ident] = Workload(ident, tenant, spec, self.world.now_ms, self.world.seq)
        option = old.option if spec.alternatives else 0
        more = ProposedPlacement(ident, old.site, ranks, option)
        return self.world, replace(self.plan, placements=(*self.plan.placements, more))

    def rebuilt(self, change: Callable[[Site], Site]) -> Broken:
        """The same plan, on an estate that was declared otherwise."""
        sites = tuple(change(one) for one in self.world.fleet.sites)
        self.world.fleet = compile_fleet(Estate(OPERATOR, sites, HARDWARE))
        return self.world, self.plan


def is_gang(one: ProposedPlacement) -> bool:
    return len(one.ranks) > 1


def has_whole(one: ProposedPlacement) -> bool:
    return one.ranks[0].mask > 0 and one.ranks[0].share_milli == WHOLE_MILLI


def has_part(one: ProposedPlacement) -> bool:
    return one.ranks[0].share_milli < WHOLE_MILLI


def is_firm(good: Good) -> Callable[[ProposedPlacement], bool]:
    return lambda one: not good.work(one).spec.nodes_max


def is_cluster(good: Good) -> Callable[[ProposedPlacement], bool]:
    return lambda one: good.work(one).spec.type is WorkloadType.CLUSTER
