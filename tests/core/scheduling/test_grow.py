"""Elastic work starts with its fewest nodes, and grows by what is left when everybody had a turn."""

from dataclasses import replace
from random import Random

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.ids import ProjectId, TenantId, WindowId
from headrace.core.scheduling.admit import admit
from headrace.core.scheduling.check import check
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.scheduling.proposal import Plan
from headrace.core.scheduling.windows import Window
from headrace.core.workload import Topology
from tests.core.scheduling.rich import make_world, submit
from tests.core.scheduling.small import ACME, World, contract, fleet_of, group, site

OTHER = TenantId("other")


def world_of(*racks: int) -> World:
    """One site of groups with one rack each, of so many nodes of four accelerators."""
    groups = [group(f"g{number}", per_rack=nodes) for number, nodes in enumerate(racks)]
    return World(fleet_of(site("glom", *groups)), contracts=[contract(), contract(OTHER)])


def sizes(found: Plan) -> dict[str, int]:
    return {one.workload: len(one.ranks) for one in found.placements}


def test_it_leaves_their_turn_to_others() -> None:
    """What comes after it starts, and only what nobody wants is taken."""
    world = world_of(8)
    elastic = world.submit(gpus=4, nodes_max=16)
    others = [world.submit(gpus=4, tenant=OTHER) for _ in range(4)]
    found = plan(world.snapshot())
    assert sizes(found) == {elastic.id: 4} | {other.id: 1 for other in others}
    assert check(world.snapshot(), found) == []


def test_what_is_left_is_shared_by_the_order_of_turns() -> None:
    """Two tenants, one with twice the weight; within a tenant in equal parts."""
    world = world_of(12)
    world.tenants = {
        name: Tenant(name, (ProjectId("main"),), quota=Quota(weight=weight))
        for name, weight in ((ACME, 1), (OTHER, 2))
    }
    first = world.submit(gpus=4, nodes_max=12)
    theirs = [world.submit(gpus=4, nodes_max=12, tenant=OTHER) for _ in range(2)]
    found = plan(world.snapshot())
    assert sizes(found) == {first.id: 4, theirs[0].id: 4, theirs[1].id: 4}


def test_a_higher_priority_grows_first() -> None:
    """As it would have started first."""
    world = world_of(8)
    low = world.submit(gpus=4, nodes_max=8)
    high = world.submit(gpus=4, nodes_max=6, priority=1, tenant=OTHER)
    assert sizes(plan(world.snapshot())) == {high.id: 6, low.id: 2}


def test_it_grows_within_its_limit() -> None:
    """A quota that leaves three nodes is no quota for four."""
    world = world_of(8)
    world.tenants[ACME] = Tenant(ACME, (ProjectId("main"),), quota=Quota(limit=14))
    work = world.submit(gpus=4, nodes_max=8)
    found = plan(world.snapshot())
    assert sizes(found) == {work.id: 3}
    assert check(world.snapshot(), found) == []


def test_it_starts_in_the_group_where_it_can_grow_most() -> None:
    """A gang that must stay together could not leave the smaller rack later."""
    world = world_of(2, 6)
    wish = Topology(pack="rack", required=True)
    work = world.submit(nodes=2, gpus=4, nodes_max=8, topology=wish)
    found = plan(world.snapshot())
    assert sizes(found) == {work.id: 6}
    assert check(world.snapshot(), found) == []


def test_it_spreads_as_it_must() -> None:
    """One node of each rack, however many are free."""
    world = world_of(3, 3, 3)
    wish = Topology(spread="rack", required=True)
    work = world.submit(gpus=1, nodes_max=8, topology=wish)
    found = plan(world.snapshot())
    assert sizes(found) == {work.id: 3}
    assert check(world.snapshot(), found) == []


def test_nothing_grows_while_others_have_not_had_their_turn() -> None:
    """A pass that places only so many ends before it knows what is left."""
    world = world_of(8)
    work = world.submit(gpus=4, nodes_max=8)
    world.submit(gpus=4, tenant=OTHER)
    assert sizes(plan(world.snapshot(), PlanLimits(max_placements=1))) == {work.id: 1}


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_what_grew_breaks_no_rule_and_the_writer_takes_it(first: int) -> None:
    """Worlds of all shapes with more elastic work than usual: every placement is admitted after those before it."""
    grown = 0
    for seed in range(first, first + 20):
        chance = Random(seed)
        world = make_world(chance)
        submit(world, chance, 12)
        for work in world.workloads.values():
            spec = work.spec
            if spec.topology is None or chance.random() < 0.5:
                work.spec = replace(spec, nodes_max=spec.nodes + chance.randint(0, 5))
        found = plan(world.snapshot())
        assert check(world.snapshot(), found) == []
        for one in found.placements:
            assert admit(world.snapshot(), one) is None
            world.place(one)
            grown += len(one.ranks) > world.workloads[one.workload].spec.nodes
    assert grown


def test_what_is_kept_for_a_window_is_not_grown_into() -> None:
    """There is power for three of five nodes, one of which is reserved: the writer agrees to two."""
    kind = world_of(1).fleet.hardware[0]
    power_w = 5 * kind.idle_w + 3 * (kind.nameplate_w - kind.idle_w)
    world = World(fleet_of(site("glom", group("g", per_rack=5), power_w=power_w)))
    work = world.submit(gpus=4, nodes_max=4)
    reserved = Window(WindowId("w"), ACME, 0, (4,), world.now_ms + 60_000, world.now_ms + 120_000)
    snapshot = replace(world.snapshot(), windows=(reserved,))
    found = plan(snapshot)
    assert sizes(found) == {work.id: 2}
    assert [admit(snapshot, one) for one in found.placements] == [None]
