"""The ends of a site are kept up with from one question to the next: they are what somebody would find who looks at all anew."""

from random import Random

import pytest

from headrace.core.scheduling.endings import Endings, SiteEnds
from headrace.core.scheduling.plan import plan
from tests.core.scheduling.rich import make_world, submit


def shown(ends: SiteEnds) -> tuple[object, ...]:
    """All that there is in them, in an order of its own: who ends and when, what each rank has, and the fractions."""
    ids = [row.placement.id for row in ends.rows]
    rows = zip(ids, ends.began_ms.tolist(), ends.lasts_ms.tolist(), ends.is_sure.tolist(), strict=True)
    columns = ends.nodes, ends.bits, ends.cpu_milli, ends.memory_mb
    owners = [ids[row] for row in ends.row.tolist()]
    ranks = zip(owners, *(column.tolist() for column in columns), strict=True)
    return sorted(rows), sorted(ranks), sorted((ids[row], use) for row, use in ends.parts)


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_ends_that_are_kept_are_those_that_are_found_anew(first: int) -> None:
    """Starts, ends and stops, of whole accelerators and parts, with questions about some of the sites between them."""
    rows = 0
    for seed in range(first, first + 20):
        chance = Random(seed)
        world, kept = make_world(chance), Endings()
        for _ in range(8):
            submit(world, chance, chance.randint(0, 6))
            before = dict(world.placements)
            world.adopt(plan(world.snapshot()))
            for placement in world.placements.values():
                if placement.id not in before:
                    kept.moved(placement, 1)
            for placement in list(world.placements.values()):
                if chance.random() < 0.15:
                    world.end(placement)
                    kept.moved(placement, -1)
            world.now_ms += 60_000
            snapshot, anew = world.snapshot(), Endings()
            kept.catch_up(snapshot)
            for place in snapshot.fleet.sites:
                if chance.random() < 0.6:
                    found, expected = kept.at(snapshot, place.id), anew.at(snapshot, place.id)
                    assert shown(found) == shown(expected)
                    rows += len(found.rows)
    assert rows > 100
