"""What is placed in few steps is placed as all else is."""

from random import Random

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.plan import plan
from tests.core.scheduling.small import ACME, World, contract, fleet_of, group, site

OTHER = TenantId("other")
NEVER_REACHED = Quota(limit=1_000_000)
"""A limit that nobody comes near: who has one is looked at one by one."""


def a_world(seed: int, quota: Quota) -> World:
    """Sites with one or two kinds of nodes, some with little power, in use in part; and a queue that does not fit all."""
    chance = Random(seed)
    sites = [
        site(
            f"s{number}",
            group("g", "lab", chance.randint(1, 3), chance.randint(1, 5)),
            *([group("h", "h100-8", 1, 2)] if chance.random() < 0.4 else []),
            feed_w=chance.choice((0, 0, 6_000, 20_000)),
        )
        for number in range(3)
    ]
    world = World(fleet_of(*sites), contracts=[contract(), contract(OTHER)])
    for tenant in (ACME, OTHER):
        world.tenants[tenant] = Tenant(tenant, (ProjectId("main"),), quota=quota)
    world.closed = {node for node in world.fleet.node_ids if chance.random() < 0.1}
    for _ in range(2):
        submit(world, chance)
        world.adopt(plan(world.snapshot()))
        for placement in list(world.placements.values()):
            if chance.random() < 0.5:
                world.end(placement)
    submit(world, chance)
    return world


def submit(world: World, chance: Random) -> None:
    """Queue many that ask for one node, and some that don't."""
    for _ in range(chance.randint(10, 40)):
        model, most = chance.choice((("lab", 4), ("lab", 4), ("H100", 8), ("", 4)))
        world.submit(
            nodes=chance.choice((1, 1, 1, 1, 2)),
            gpus=chance.choice((0, 1, 1, 1, 2, 3, most)) if model else chance.choice((0, 1)),
            model=model,
            cpu_milli=chance.choice((0, 0, 500, 1_500)),
            memory_mb=chance.choice((0, 0, 1_000, 3_000)),
            tenant=chance.choice((ACME, OTHER)),
            priority=chance.choice((0, 0, 1)),
        )


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_whoever_nothing_else_decides_about_is_placed_as_if_something_could(first: int) -> None:
    """Processors and memory that run out, power that does, whole nodes: the same plan with a limit as without."""
    placed = 0
    for seed in range(first, first + 20):
        found, alike = (plan(a_world(seed, quota).snapshot()) for quota in (Quota(), NEVER_REACHED))
        assert found == alike
        placed += len(found.placements)
    assert placed > 60
