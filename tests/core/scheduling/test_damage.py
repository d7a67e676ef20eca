"""Who is told to go for work of a higher priority: whom it costs least, and nobody again before it got somewhere."""

from typing import NamedTuple

import pytest

from headrace.core.contracts import Quota, Tenant
from headrace.core.ids import ProjectId, TenantId
from headrace.core.scheduling.plan import plan
from headrace.core.workload import Flex, Placement
from tests.core.scheduling.small import (
    ACME,
    World,
    contract,
    evicted,
    fleet_of,
    group,
    nodes_of,
    placed,
    site,
)

OTHER = TenantId("other")
MINUTE = 60_000
ROUNDS = 5
_TICK = MINUTE // 4
_MOST_TICKS = 1_000


def lab(nodes: int) -> World:
    return World(fleet_of(site("glom", group(per_rack=nodes))))


class Victim(NamedTuple):
    """One of two that could go: what it has, how long it ran (0: it was never seen to start), and what it said of itself."""

    ran: int = 41
    gpus: int = 4
    kind: str = "job"
    checkpoint: int = 0
    restart: int = 0

    def run(self, world: World, number: int) -> Placement:
        """On a node of its own, all of which is in use: placed an hour ago, started later; moments are in minutes."""
        work = world.submit(
            self.kind,
            gpus=self.gpus,
            flex=Flex.PREEMPTIBLE,
            priority=-1,
            checkpoint_ms=self.checkpoint * MINUTE,
            restart_ms=self.restart * MINUTE,
        )
        mine = (1 << self.gpus) - 1
        placement = world.run(work, (f"glom/b/g-0-{number}", mine))
        placement.started_ms += (60 - self.ran) * MINUTE if self.ran else -placement.started_ms
        if self.gpus < 4:
            world.run(world.submit("service", gpus=4 - self.gpus), (f"glom/b/g-0-{number}", 0b1111 ^ mine))
        return placement


# Of equals the younger goes: so the older one goes only for what the row is about.
LESS_DAMAGE = {
    "the last checkpoint is a minute old, not all 41": (Victim(checkpoint=20), Victim()),
    "the last checkpoint is a minute old, not eleven": (Victim(checkpoint=20), Victim(checkpoint=15)),
    "a minute to come back, not five": (Victim(checkpoint=20, restart=1), Victim(checkpoint=20, restart=5)),
    "a minute to come back, not at once but eleven lost": (
        Victim(checkpoint=20, restart=1),
        Victim(checkpoint=15),
    ),
    "two accelerators, not four": (Victim(gpus=2), Victim(gpus=4)),
    "ten minutes run, not 41": (Victim(ran=10), Victim(ran=41)),
    "two accelerators for twenty minutes, not four for eleven": (
        Victim(gpus=2, ran=20),
        Victim(gpus=4, ran=11),
    ),
    "never started, not a minute run": (Victim(ran=0), Victim(ran=1)),
    "a filler, which loses nothing, not a minute": (Victim(kind="filler"), Victim(checkpoint=20)),
}


@pytest.mark.parametrize(("older", "younger"), LESS_DAMAGE.values(), ids=LESS_DAMAGE.keys())
def test_who_loses_less_is_evicted_though_it_is_older(older: Victim, younger: Victim) -> None:
    """Either would do for two accelerators, and the row is all in which they differ besides their age."""
    world = lab(2)
    victims = [one.run(world, number) for number, one in enumerate((older, younger))]
    world.now_ms += 60 * MINUTE
    world.submit(gpus=2)
    assert evicted(plan(world.snapshot())) == [victims[0].workload]


def test_of_two_that_lose_the_same_the_younger_is_evicted() -> None:
    """What the table above sets against the damage."""
    world = lab(2)
    victims = [Victim().run(world, number) for number in range(2)]
    world.now_ms += 60 * MINUTE
    world.submit(gpus=2)
    assert evicted(plan(world.snapshot())) == [victims[1].workload]


def test_two_that_lose_less_together_go_before_one_that_loses_more() -> None:
    """Damage comes before numbers: a minute of each of two, not 41 of one."""
    world = lab(2)
    halves = [world.submit(gpus=2, flex=Flex.PREEMPTIBLE, checkpoint_ms=20 * MINUTE) for _ in range(2)]
    for work, mask in zip(halves, (0b0011, 0b1100), strict=True):
        world.run(work, ("glom/b/g-0-0", mask))
    world.run(world.submit(gpus=4, flex=Flex.PREEMPTIBLE), ("glom/b/g-0-1", 0b1111))
    world.now_ms += 41 * MINUTE
    world.submit(gpus=4, priority=1)
    assert sorted(evicted(plan(world.snapshot()))) == sorted(work.id for work in halves)


PRESSING = [pytest.param(1, id="of higher priority"), pytest.param(0, id="guaranteed to another tenant")]
"""Who may evict preemptible work, by its priority: what ranks higher, and what is guaranteed, since the victim borrows."""


def runs_ms(priority: int) -> list[int]:
    """How long preemptible work runs each time when more pressing work comes as soon as it has started, time after time."""
    world, runs = lab(1), []
    world.contracts.append(contract(OTHER))
    world.tenants[OTHER] = Tenant(OTHER, (ProjectId("main"),), quota=Quota(guaranteed=4))
    work = world.submit(gpus=4, flex=Flex.PREEMPTIBLE)
    for _ in range(ROUNDS):
        got = plan(world.snapshot())
        assert placed(got) == [work.id]
        world.adopt(got)
        assert work.placement is not None
        placement, began_ms = world.placements[work.placement], world.now_ms
        pressing = world.submit(gpus=4, priority=priority, tenant=ACME if priority else OTHER)
        for _ in range(_MOST_TICKS):
            world.adopt(plan(world.snapshot()))
            if placement.stop_reason is not None:
                break
            world.now_ms += _TICK
        assert placement.stop_reason is not None, "what presses waits for good"
        runs.append(world.now_ms - began_ms)
        world.end(placement)
        got = plan(world.snapshot())
        assert nodes_of(got, pressing) == ["g-0-0"]
        world.adopt(got)
        world.now_ms += _TICK
        world.end(next(iter(world.placements.values())))
    return runs


@pytest.mark.parametrize("priority", PRESSING)
def test_preempted_again_and_again_it_runs_for_a_minute_each_time(priority: int) -> None:
    """New work that may evict it comes the moment that it starts; it is let be for a minute, then goes."""
    runs = runs_ms(priority)
    assert len(runs) == ROUNDS
    assert min(runs) >= MINUTE


@pytest.mark.parametrize("priority", PRESSING)
def test_each_time_that_it_is_preempted_it_runs_twice_as_long_before_the_next(priority: int) -> None:
    """The same victim over and over would never end: a minute, two, four; and no longer, for what presses waits."""
    assert runs_ms(priority) == [MINUTE << number for number in range(ROUNDS)]
