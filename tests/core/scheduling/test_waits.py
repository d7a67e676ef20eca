"""Who waits for what: nobody's waiting takes the means to wait from others."""

from dataclasses import replace

import pytest

from headrace.core.ids import TenantId
from headrace.core.scheduling.check import check
from headrace.core.scheduling.memory import Memory
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.workload import Flex, State, Workload
from tests.core.scheduling.small import ACME, World, contract, fleet_of, group, placed, site

OTHER = TenantId("other")
MINUTE, HOUR = 60_000, 3_600_000


def world_of(*groups: tuple[str, int], sites: int = 1) -> World:
    """Sites of racks with so many nodes of a type of hardware, for two tenants."""
    made = [
        site(
            f"s{number}", *(group(f"g{at}", kind, per_rack=count) for at, (kind, count) in enumerate(groups))
        )
        for number in range(sites)
    ]
    return World(fleet_of(*made), contracts=[contract(), contract(OTHER)])


def hold(world: World, node: str, gpus: int, *, lasts_ms: int = 0, expected_ms: int = 0) -> Workload:
    """Work of the other tenant on a node, with or without an end."""
    model = "H100" if "/g1-" in node else "lab"
    work = world.submit(gpus=gpus, model=model, tenant=OTHER, max_duration_ms=lasts_ms)
    work.spec = replace(work.spec, expected_ms=expected_ms)
    world.run(work, (node, (1 << gpus) - 1))
    return work


def starts_at(world: World, limits: PlanLimits | None = None) -> dict[str, list[str]]:
    """The nodes that each placement of a plan gets."""
    found = plan(world.snapshot(), limits or PlanLimits())
    return {one.workload: [rank.node.rpartition("/")[2] for rank in one.ranks] for one in found.placements}


class TestBarriers:
    """A workload that starves holds nodes, and no number of others keeps it from that."""

    def test_those_who_wait_at_one_site_leave_it_to_another(self) -> None:
        """Four that never start at one site, and a gang at the other: nobody starts on the gang's nodes."""
        world = world_of(("lab", 4), sites=2)
        hold(world, "s0/b/g0-0-0", 4, lasts_ms=HOUR)
        for node in range(4):
            hold(world, f"s1/b/g0-0-{node}", 3)
            world.submit(gpus=4, cpu_milli=node, at="s1", tenant=OTHER, priority=1)
        world.submit(nodes=4, gpus=4, at="s0")
        world.now_ms += 11 * MINUTE
        world.submit(gpus=4, at="s0", tenant=OTHER)
        assert placed(plan(world.snapshot())) == []

    def test_a_tenant_does_not_use_up_all_of_a_site(self) -> None:
        """Two of four that go first hold a node each, and a gang of another tenant still gets its own."""
        world = world_of(("lab", 6))
        for node in range(6):
            hold(world, f"s0/b/g0-0-{node}", 1, lasts_ms=HOUR)
        for number in range(4):
            world.submit(gpus=4, cpu_milli=number, tenant=OTHER, priority=1)
        world.submit(nodes=4, gpus=4)
        world.now_ms += 11 * MINUTE
        for _ in range(6):
            world.submit(gpus=3, tenant=OTHER)
        assert placed(plan(world.snapshot())) == []

    def test_one_that_waits_for_what_has_no_end_takes_none_from_one_that_knows_its_start(self) -> None:
        """Each kind is counted by itself."""
        world = world_of(("lab", 2), ("h100-8", 1))
        hold(world, "s0/b/g0-0-0", 4, lasts_ms=HOUR)
        hold(world, "s0/b/g1-0-0", 1)
        world.submit(gpus=8, model="H100", tenant=OTHER, priority=1)
        world.submit(nodes=2, gpus=4)
        world.now_ms += 11 * MINUTE
        world.submit(gpus=4, tenant=OTHER)
        assert placed(plan(world.snapshot(), PlanLimits(max_barriers=1))) == []

    def test_who_outlived_what_was_expected_is_not_waited_for_first(self) -> None:
        """It said a minute and has been there for eleven: those with a limit are sooner gone, and their nodes are held."""
        world = world_of(("lab", 3))
        hold(world, "s0/b/g0-0-0", 2, expected_ms=MINUTE)
        hold(world, "s0/b/g0-0-1", 2, lasts_ms=HOUR)
        hold(world, "s0/b/g0-0-2", 2, lasts_ms=2 * HOUR)
        world.submit(nodes=2, gpus=4)
        world.now_ms += 11 * MINUTE
        small = world.submit(gpus=2, tenant=OTHER)
        assert starts_at(world) == {small.id: ["g0-0-0"]}

    def test_who_outlives_it_between_two_plans_is_seen_to_with_a_memory(self) -> None:
        """What is remembered of a node holds until somebody there has outlived what was said."""
        world = world_of(("lab", 3))
        hold(world, "s0/b/g0-0-0", 2, expected_ms=12 * MINUTE)
        hold(world, "s0/b/g0-0-1", 2, lasts_ms=HOUR)
        hold(world, "s0/b/g0-0-2", 2, lasts_ms=2 * HOUR)
        world.submit(nodes=2, gpus=4)
        world.now_ms += 11 * MINUTE
        world.submit(gpus=2, tenant=OTHER)
        memory = Memory()
        nodes = []
        for _ in range(2):
            found = plan(replace(world.snapshot(), memory=memory))
            assert found == plan(world.snapshot())
            nodes += [rank.node.rpartition("/")[2] for one in found.placements for rank in one.ranks]
            world.now_ms += 2 * MINUTE
        assert nodes == ["g0-0-2", "g0-0-0"]


class TestTrifles:
    """Nobody keeps nodes from others by work that costs next to nothing."""

    DAY = 24 * HOUR

    def shut(self, trifle_of: TenantId, *, lasts_ms: int = 0, ran_ms: int) -> list[str]:
        """Who starts beside a starving gang that wants all nodes, one of which has a trifle on it for so long by now."""
        world = world_of(("lab", 3))
        trifle = world.submit(gpus=0, model="", cpu_milli=1, tenant=trifle_of, max_duration_ms=lasts_ms)
        world.run(trifle, ("s0/b/g0-0-0", 0))
        world.submit("cluster", nodes=3, gpus=4, tenant=OTHER, priority=1)
        world.now_ms += ran_ms
        work = world.submit("service", gpus=4)
        return ["starts" for one in placed(plan(world.snapshot())) if one == work.id]

    @pytest.mark.parametrize(
        ("trifle_of", "lasts_ms", "ran_ms", "starts"),
        [
            (OTHER, 0, 30 * MINUTE, []),
            (OTHER, 0, HOUR + MINUTE, ["starts"]),
            (ACME, 0, HOUR + MINUTE, []),
            (ACME, 0, DAY + MINUTE, ["starts"]),
            (OTHER, 20 * HOUR, HOUR, []),
            (OTHER, 30 * HOUR, HOUR, ["starts"]),
            (OTHER, 3_650 * DAY, HOUR, ["starts"]),
        ],
    )
    def test_nodes_are_not_kept_for_what_does_not_end(
        self, trifle_of: TenantId, lasts_ms: int, ran_ms: int, starts: list[str]
    ) -> None:
        """For the tenant's own work without an end an hour, for others' a day, and a day until an end that is known."""
        assert self.shut(trifle_of, lasts_ms=lasts_ms, ran_ms=ran_ms) == starts

    @pytest.mark.parametrize(("grace_ms", "starts"), [(10 * MINUTE, 0), (20 * HOUR, 1)])
    def test_a_long_grace_keeps_no_nodes_from_others(self, grace_ms: int, starts: int) -> None:
        """Who was told to go and takes a day over it is waited for, but not on nodes that others could use meanwhile."""
        world = world_of(("lab", 3))
        slow = world.submit(gpus=0, model="", cpu_milli=1, tenant=OTHER)
        slow.spec = replace(slow.spec, grace_ms=grace_ms)
        world.stop(world.run(slow, ("s0/b/g0-0-0", 0)))
        world.submit("cluster", nodes=3, gpus=4, tenant=OTHER, priority=1)
        world.submit("service", gpus=4)
        assert len(placed(plan(world.snapshot()))) == starts

    @pytest.mark.parametrize(("paused", "goes"), [(False, False), (True, True)])
    def test_a_pause_does_not_keep_a_node_beyond_the_limit_that_let_it_there(
        self, paused: bool, goes: bool
    ) -> None:
        """Work with a limit fills a node that is held, and is paused until after it: it goes for the one that waits."""
        world = world_of(("lab", 2))
        first = hold(world, "s0/b/g0-0-0", 4, lasts_ms=HOUR)
        gang = world.submit(nodes=2, gpus=4)
        world.now_ms += 11 * MINUTE
        filling = world.submit(gpus=4, tenant=OTHER, max_duration_ms=MINUTE)
        world.adopt(plan(world.snapshot()))
        placement = world.placements[filling.placement]  # type: ignore[index]
        filling.state = State.PAUSED if paused else State.RUNNING
        world.end(world.placements[first.placement])  # type: ignore[index]
        snapshot = world.snapshot()
        assert plan(snapshot).evictions == ()
        world.now_ms += HOUR
        snapshot = world.snapshot()
        found = plan(snapshot)
        assert [(one.placement, one.waiting) for one in found.evictions] == (
            [(placement.id, gang.id)] if goes else []
        )
        assert check(snapshot, found) == []


def test_to_claim_a_long_way_back_does_not_save_from_eviction() -> None:
    """Half an hour of work is lost at most, whatever is claimed; the other would lose an hour."""
    world = world_of(("lab", 2))
    victims = []
    for node in range(2):
        work = world.submit(gpus=4, tenant=OTHER, flex=Flex.PREEMPTIBLE, priority=-1)
        world.run(work, (f"s0/b/g0-0-{node}", 0b1111))
        world.now_ms += HOUR // 2
        victims.append(work)
    victims[1].spec = replace(victims[1].spec, checkpoint_ms=1, restart_ms=3_660 * 24 * HOUR)
    first = world.submit(gpus=4)
    found = plan(world.snapshot()).evictions
    assert [(world.placements[one.placement].workload, one.waiting) for one in found] == [
        (victims[1].id, first.id)
    ]
