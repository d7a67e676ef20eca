"""A planner that remembers its earlier plans breaks no rule, and plans as one that remembers nothing."""

from dataclasses import replace
from random import Random

import pytest

from headrace.core.scheduling.check import check
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.plan import plan
from headrace.core.workload import Topology
from tests.core.scheduling.rich import OTHER, PROJECTS, make_world, submit
from tests.core.scheduling.small import ACME, World

FEW: tuple[dict[str, object], ...] = (
    {"gpus": 1},
    {"gpus": 1, "share_milli": 400},
    {"gpus": 2, "nodes": 2, "nodes_max": 3},
    {"gpus": 4, "others": (("H100", 8),)},
    {"gpus": 1, "nodes": 2, "topology": Topology(pack="rack", required=True)},
)
"""So few that workloads of several tenants and projects ask for the very same."""


def submit_alike(world: World, chance: Random) -> None:
    """Queue some of the few."""
    for _ in range(chance.randint(0, 6)):
        world.submit(
            chance.choice(("job", "job", "filler")),
            memory_mb=1,
            tenant=chance.choice((ACME, OTHER)),
            project=chance.choice(PROJECTS),
            priority=chance.choice((0, 0, 1)),
            **chance.choice(FEW),  # type: ignore[arg-type]
        )


def carry_out(world: World, memory: Memory, chance: Random) -> None:
    """Adopt a plan, let a part of what runs end, and tell the memory of all that moved."""
    before = set(world.placements)
    world.adopt(plan(replace(world.snapshot(), memory=memory)))
    index = world.fleet.site_index
    for placement in list(world.placements.values()):
        if placement.id not in before:
            memory.moved(placement, world.workloads[placement.workload].spec, index[placement.site], 1)
    for placement in list(world.placements.values()):
        if placement.stop_reason is not None or chance.random() < 0.2:
            spec = world.workloads[placement.workload].spec
            world.end(placement)
            memory.moved(placement, spec, index[placement.site], -1)
    world.now_ms += chance.choice((1_000, 400_000))


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_what_is_remembered_changes_no_plan_and_breaks_no_rule(first: int) -> None:
    """Tenants and projects with quotas of their own that ask for the same, round after round."""
    for seed in range(first, first + 20):
        chance = Random(seed)
        world, memory = make_world(chance), Memory()
        for step in range(6):
            submit_alike(world, chance)
            if chance.random() < 0.3:
                submit(world, chance, 2)
            snapshot = replace(world.snapshot(), memory=memory)
            remembering = plan(snapshot)
            assert check(snapshot, remembering) == [], f"seed {seed}, step {step}"
            assert remembering == plan(replace(snapshot, memory=None)), f"seed {seed}, step {step}"
            carry_out(world, memory, chance)
