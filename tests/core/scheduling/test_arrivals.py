"""Streams of arrivals of every kind, drawn from a seed: nobody is kept waiting for ever, and a large gang starts meanwhile."""

from random import Random

import pytest

from headrace.core.ids import PlacementId, TenantId
from headrace.core.scheduling.admit import can_ever_fit
from headrace.core.scheduling.plan import PlanLimits, plan
from headrace.core.units import ceil_div
from headrace.core.workload import Flex, Workload
from tests.core.scheduling.small import ACME, World, contract, fleet_of, group, site

OTHER = TenantId("other")
MINUTE = 60_000
NODES, GPUS = 6, 4
STEP_MS = MINUTE
LIMITS = PlanLimits(starve_after_ms=5 * MINUTE)
NO_BARRIERS = PlanLimits(starve_after_ms=5 * MINUTE, max_barriers=0)
STREAM, LONGEST = 110, 10
"""Rounds with arrivals, and the most rounds that one of the stream may run."""
SEEDS = range(12)


class Stream:
    """A site, what comes to it round by round, and when each of those who run ends."""

    def __init__(self, seed: int, limits: PlanLimits) -> None:
        self.chance, self.limits = Random(seed), limits
        self.world = World(
            fleet_of(site("glom", group("g", "lab", 1, NODES))), contracts=[contract(), contract(OTHER)]
        )
        self.lasts: dict[str, int] = {}
        self.ends_ms: dict[PlacementId, int] = {}

    def submit(self, nodes: int, gpus: int, tenant: TenantId, priority: int = 0) -> Workload:
        """One that runs for a drawn time, within a limit that is often more than that."""
        limit = self.chance.randint(2, LONGEST)
        work = self.world.submit(
            nodes=nodes,
            gpus=gpus,
            tenant=tenant,
            priority=priority,
            flex=self.chance.choice((Flex.FIRM, Flex.FIRM, Flex.PREEMPTIBLE)),
            max_duration_ms=limit * STEP_MS,
        )
        self.lasts[work.id] = self.chance.randint(1, limit) * STEP_MS
        return work

    def arrive(self) -> None:
        """Small jobs, more of them than there is room for; now and then a gang of two or three."""
        for _ in range(self.chance.randint(1, 3)):
            is_gang = self.chance.random() < 0.15
            self.submit(
                self.chance.randint(2, 3) if is_gang else 1,
                self.chance.choice((1, 2, 2, GPUS)),
                self.chance.choice((ACME, OTHER)),
                self.chance.choice((-1, 0, 0)),
            )

    def round(self) -> None:
        """A plan is carried out; a round passes; whose time is over ends, and whoever was told to go is gone."""
        world = self.world
        before = set(world.placements)
        world.adopt(plan(world.snapshot(), self.limits))
        for placement in world.placements.values():
            if placement.id not in before:
                self.ends_ms[placement.id] = world.now_ms + self.lasts[placement.workload]
        world.now_ms += STEP_MS
        for placement in list(world.placements.values()):
            if placement.stop_reason is not None or self.ends_ms[placement.id] <= world.now_ms:
                world.end(placement)


def stream_with_a_gang(seed: int, limits: PlanLimits) -> tuple[Stream, int | None]:
    """A stream that has stopped, and after how many rounds of waiting a gang of all nodes that came early started in it."""
    stream = Stream(seed, limits)
    stream.submit(NODES + 1, GPUS, ACME, priority=1)
    started = None
    gang: Workload | None = None
    for number in range(STREAM):
        stream.arrive()
        if number == LONGEST:
            gang = stream.submit(NODES, GPUS, stream.chance.choice((ACME, OTHER)))
        stream.round()
        if gang is not None and started is None and gang.attempt:
            started = number - LONGEST
    return stream, started


def waiting(stream: Stream) -> list[Workload]:
    """Who waits of those who can fit."""
    snapshot = stream.world.snapshot()
    return [one for one in stream.world.queue() if can_ever_fit(snapshot, one.spec, one.tenant) is None]


def bound(stream: Stream) -> int:
    """Rounds within which those who wait have run: twice what full nodes would take, and two of the longest."""
    work_ms = sum(
        stream.lasts[one.id] * one.spec.nodes * one.spec.resources.accelerators for one in waiting(stream)
    )
    return 2 * ceil_div(work_ms, STEP_MS * NODES * GPUS) + 2 * LONGEST


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gang_of_all_nodes_starts_while_small_jobs_keep_coming(seed: int) -> None:
    """It has waited for long enough, so nodes are kept for it: also behind one of higher priority that never fits."""
    _, started = stream_with_a_gang(seed, LIMITS)
    assert started is not None


def test_without_barriers_such_a_gang_waits_for_as_long_as_others_come() -> None:
    """So the streams are such that a planner that keeps nothing for anybody is caught, on most of them."""
    started = [stream_with_a_gang(seed, NO_BARRIERS)[1] for seed in SEEDS]
    assert started.count(None) >= len(SEEDS) * 3 // 4


@pytest.mark.parametrize("seed", SEEDS)
def test_once_nobody_comes_any_more_everybody_who_can_fit_runs_soon(seed: int) -> None:
    """A last crowd at once, and gangs of all nodes of the least priority; only what the site is too small for is left."""
    stream, _ = stream_with_a_gang(seed, LIMITS)
    for _ in range(LONGEST):
        stream.arrive()
    for tenant in (ACME, OTHER):
        stream.submit(NODES, GPUS, tenant, priority=-1)
    for _ in range(bound(stream)):
        stream.round()
    assert [one.id for one in waiting(stream)] == []
    assert [one.spec.nodes for one in stream.world.queue()] == [NODES + 1]
