"""What would let a workload start is tried before it is told: whoever does it, it starts."""

from dataclasses import replace

import pytest

from headrace.core.contracts import Quota
from headrace.core.scheduling.explain import Explanation, explain
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.remedies import Remedy
from headrace.core.workload import State, Workload
from tests.core.scheduling import rich
from tests.core.scheduling.small import World, placed

SEEDS = 60


def alone(world: World, workload: Workload) -> Explanation:
    """What is said of a workload when nobody else waits."""
    return explain(world.snapshot(), workload.id)


def follow(world: World, workload: Workload, remedy: Remedy) -> None:
    """Do what a remedy says."""
    if remedy.spec is not None:
        workload.spec = remedy.spec
    for name, watts in remedy.watts.items():
        at = world.fleet.power_index[name]  # type: ignore[index]
        world.limits_w[name] = world.limit_w()[at] + watts
    match remedy.kind:
        case "quota":
            tenant = world.tenants[workload.tenant]
            quotas = {name: more(quota, remedy.amount) for name, quota in tenant.project_quotas.items()}
            world.tenants[workload.tenant] = replace(
                tenant, quota=more(tenant.quota, remedy.amount), project_quotas=quotas
            )
        case "contract":
            world.contracts = [
                replace(one, accelerators=one.accelerators + remedy.amount) for one in world.contracts
            ]
        case "state":
            world.closed -= set(remedy.nodes)
        case "room":
            for placement in list(world.placements.values()):
                if any(rank.node in remedy.nodes for rank in placement.ranks):
                    del world.placements[placement.id]
                    world.workloads[placement.workload].state = State.SUCCEEDED


def more(quota: Quota, accelerators: int) -> Quota:
    """A quota with a larger limit, if it has one."""
    return replace(quota, limit=quota.limit + accelerators if quota.limit else 0)


def worlds(seed: int) -> list[tuple[World, Workload]]:
    """A random world after its plan, once for each workload that still waits, which then waits alone."""
    case = rich.make(seed)
    case.world.adopt(case.plan)
    out: list[tuple[World, Workload]] = []
    for ident in [work.id for work in case.world.queue()]:
        world = rich.Good(case).world
        world.limits_w = dict(case.world.limits_w)
        for other in world.queue():
            if other.id != ident:
                other.state = State.STOPPED
        out.append((world, world.workloads[ident]))
    return out


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_followed_lets_it_start(seed: int) -> None:
    """Every change that is named, in random worlds of every shape: after it, the planner places the workload."""
    case = rich.make(seed)
    case.world.adopt(case.plan)
    for number, (world, workload) in enumerate(worlds(seed)):
        for at, remedy in enumerate(alone(world, workload).remedies):
            changed, work = worlds(seed)[number]
            assert work.id == workload.id
            follow(changed, work, remedy)
            found = plan(changed.snapshot())
            assert work.id in placed(found), (at, remedy, alone(world, workload).line)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_it_fits_exactly_when_the_planner_would_place_it(seed: int) -> None:
    """Of one that waits alone: no reason is given exactly for what the planner places now."""
    for world, workload in worlds(seed):
        told = alone(world, workload)
        starts = workload.id in placed(plan(world.snapshot()))
        assert starts == (told.refusal is None), told.line
        assert told.refusal is not Refusal.RANK


def test_every_kind_of_remedy_is_among_them() -> None:
    """The property above is about something: the random worlds need each kind of change but those tested by hand."""
    kinds = {
        remedy.kind
        for seed in range(SEEDS)
        for world, workload in worlds(seed)
        for remedy in alone(world, workload).remedies
    }
    assert kinds >= {"alternative", "topology", "nodes", "quota", "power", "state", "room", "policy"}
