"""Who goes before a waiting workload is counted by lines; it is what one gets by comparing with each of them."""

from dataclasses import replace
from random import Random

import pytest

from headrace.core.contracts import Quota
from headrace.core.scheduling.ahead import Turns
from headrace.core.scheduling.order import aged_priority
from tests.core.scheduling.rich import make

DAY_MS = 86_400_000


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_those_before_are_all_whose_turn_is_less(first: int) -> None:
    """With guarantees, reservations, fillers, back-offs, and some that have waited for days: how many, the first, the highest."""
    seen = set[str]()
    for seed in range(first, first + 20):
        world, chance = make(seed).world, Random(seed)
        now_ms = world.now_ms = world.now_ms + 3 * DAY_MS
        for name, tenant in list(world.tenants.items()):
            world.tenants[name] = replace(tenant, quota=Quota(guaranteed=chance.choice((0, 4))))
        for work in world.queue():
            if chance.random() < 0.2:
                work.not_before_ms = now_ms + chance.choice((0, 1))
        # Whoever came later has waited for less.
        for work in world.queue()[len(world.queue()) // 2 :]:
            work.submitted_ms = work.since_ms = now_ms
        turns = Turns(world.snapshot())
        for work in world.queue():
            others = [one for one in world.queue() if turns.is_due(one) and turns.of(one) < turns.of(work)]
            found = turns.before(work)
            assert found.count == len(others)
            assert turns.anybody_before(work) is bool(others)
            own = min((one for one in others if one.tenant == work.tenant), key=turns.of, default=None)
            assert found.own is own
            if others:
                assert found.highest == max(aged_priority(one, now_ms) for one in others)
            counts = {"guaranteed": found.guaranteed, "priority": found.priority, "share": found.share}
            seen |= {why for why, number in (counts | {"arrival": found.arrival}).items() if number}
    assert seen == {"guaranteed", "priority", "share", "arrival"}
