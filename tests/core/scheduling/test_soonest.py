"""When it could start at the earliest, as `explain` tells it, is never before it can: nobody is told to hope too soon."""

import pytest

from headrace.core.scheduling.endings import ending_of
from headrace.core.scheduling.explain import explain
from headrace.core.scheduling.plan import plan
from headrace.core.workload import State, Workload
from tests.core.scheduling.small import World, placed
from tests.core.scheduling.test_remedies import worlds

SEEDS = (*range(30), 1032, 1037, 1128, 1497, 1610)
"""With those in which it was once told too early."""
HORIZON_MS = 40 * 86_400_000


def starts_ms(world: World, work: Workload, told_ms: int) -> int | None:
    """When it starts if everybody ends as they say, or at ``told_ms``; None if others have to be told to go, or never."""
    snapshot = world.snapshot()
    ends: dict[str, int] = {}
    for placement in world.placements.values():
        ending = ending_of(snapshot, placement)
        end_ms = None if ending is None else ending.end_ms(snapshot.now_ms)
        if end_ms is not None:
            ends[placement.id] = end_ms
    moments: set[int] = {*ends.values(), *(window.ends_ms for window in snapshot.windows), told_ms}
    for now_ms in sorted(moment for moment in moments if moment >= snapshot.now_ms):
        world.now_ms = now_ms
        for placement in list(world.placements.values()):
            if ends.get(placement.id, 1 << 62) <= now_ms:
                del world.placements[placement.id]
                ended = world.workloads[placement.workload]
                ended.state, ended.placement = State.SUCCEEDED, None
        found = plan(world.snapshot())
        if work.id in placed(found):
            return now_ms
        if found.evictions:
            return None
    return None


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_waits_alone_starts_later_than_the_earliest_that_is_told(seed: int) -> None:
    """In random worlds with windows, quotas, contracts and power: followed moment by moment until it starts."""
    for world, work in worlds(seed):
        snapshot = world.snapshot()
        told = explain(snapshot, work.id)
        if told.refusal is None or told.earliest_ms is None or plan(snapshot).evictions:
            continue
        if told.earliest_ms - snapshot.now_ms > HORIZON_MS:
            continue
        at_ms = starts_ms(world, work, told.earliest_ms)
        assert at_ms is None or at_ms <= told.earliest_ms, (at_ms, told.line)


def test_the_worlds_above_tell_many_a_moment() -> None:
    """The property is about something."""
    told = [explain(world.snapshot(), work.id).earliest_ms for seed in SEEDS for world, work in worlds(seed)]
    assert sum(at_ms is not None for at_ms in told) > 50
