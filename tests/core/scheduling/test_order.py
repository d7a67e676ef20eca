"""A guarantee counts what would be taken, not what is written."""

from typing import Any

import pytest

from headrace.core.contracts import Quota
from headrace.core.ids import PlacementId
from headrace.core.scheduling.check import check
from headrace.core.workload import Alternative, Flex, Resources, WorkloadType
from tests.core.small import ACME, BOREALIS, FJORD, RUNNING, Core, core, ended, job, tenant

WHOLE = Resources("lab", 4, 250, 16)


def full_of_others(guaranteed: int) -> tuple[Core, list[PlacementId]]:
    """Four nodes of four accelerators, all held by a tenant that borrows; the other one is guaranteed some."""
    made = core(tenant(ACME, quota=Quota(guaranteed=guaranteed)))
    for number in range(4):
        made.submit(job(f"b{number}", resources=WHOLE, flex=Flex.PREEMPTIBLE, site=FJORD), tenant=BOREALIS)
    placements = made.place()
    for placement in placements:
        made.report(placement, RUNNING)
    made.now_ms += 10 * 60_000
    return made, placements


GREEDY: dict[str, dict[str, Any]] = {
    "more than that": {"nodes": 4, "resources": WHOLE},
    "little, or else much": {
        "nodes": 4,
        "resources": Resources("nonesuch", 1, 250, 16),
        "alternatives": (Alternative("lab", 4),),
    },
    "one of each node, and all of it as a cluster": {
        "nodes": 4,
        "type": WorkloadType.CLUSTER,
        "commands": (),
        "resources": Resources("lab", 1, 250, 16),
    },
    "processors only": {"nodes": 4, "resources": Resources("", 0, 4_000, 16)},
}


@pytest.mark.parametrize("asked", GREEDY.values(), ids=GREEDY)
def test_nobody_is_evicted_for_more_than_is_guaranteed(asked: dict[str, Any]) -> None:
    """Four are guaranteed: who would take sixteen, or none but all processors, borrows as the others do."""
    made, _ = full_of_others(guaranteed=4)
    made.submit(job("greedy", site=FJORD, **asked))
    assert made.plan().evictions == ()


@pytest.mark.parametrize(
    "asked",
    [
        {"resources": WHOLE},
        {"resources": Resources("nonesuch", 8, 250, 16), "alternatives": (Alternative("lab", 4),)},
        {"resources": Resources("lab", 1, 250, 16), "type": WorkloadType.CLUSTER, "commands": ()},
    ],
    ids=["four", "eight of what is not there, or four", "a cluster of a node"],
)
def test_what_is_guaranteed_is_taken_back_from_who_borrows(asked: dict[str, Any]) -> None:
    """What counts is the option that evicts: another one that would be too much does not stand in its way."""
    made, _ = full_of_others(guaranteed=4)
    made.submit(job("within", site=FJORD, **asked))
    found = made.plan()
    assert len(found.evictions) == 1
    assert check(made.world.snapshot(made.now_ms), found) == []


def test_those_who_wait_within_it_count_together() -> None:
    """Each of four asks for no more than is guaranteed, and one of them gets it."""
    made, _ = full_of_others(guaranteed=4)
    made.submit(*(job(f"a{number}", resources=WHOLE, site=FJORD) for number in range(4)))
    assert len(made.plan().evictions) == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"nodes": 4, "resources": Resources("", 0, 4_000, 16)},
        {
            "nodes": 4,
            "resources": Resources("lab", 1, 4_000, 16),
            "type": WorkloadType.CLUSTER,
            "commands": (),
        },
    ],
    ids=["processors only", "a cluster that takes whole nodes"],
)
def test_what_takes_none_of_it_or_more_has_its_turn_after_it(asked: dict[str, Any]) -> None:
    """A higher priority that borrows goes before a lower one that borrows, too."""
    made = core(tenant(ACME, quota=Quota(guaranteed=4)))
    first = [
        made.submit(job(f"b{number}", resources=WHOLE, priority=10, site=FJORD), tenant=BOREALIS)[0]
        for number in range(4)
    ]
    made.submit(job("later", site=FJORD, priority=-10, **asked))
    assert [one.workload for one in made.plan().placements] == first


def test_elastic_work_has_its_fewest_nodes_within_what_is_guaranteed() -> None:
    """The rest of the nodes go to a priority that is higher."""
    made = core(tenant(ACME, quota=Quota(guaranteed=1)))
    elastic = made.submit(job("e", nodes_max=16, resources=Resources("lab", 1, 4_000, 16), site=FJORD))[0]
    for number in range(4):
        made.submit(job(f"b{number}", resources=WHOLE, priority=10, site=FJORD), tenant=BOREALIS)
    found = made.plan()
    assert {one.workload: len(one.ranks) for one in found.placements} == {
        elastic: 1,
        "borealis-1": 1,
        "borealis-2": 1,
        "borealis-3": 1,
    }


def test_an_alternative_within_the_limit_is_not_given_up_for_one_beyond() -> None:
    """Eight are over the limit whatever leaves, four are not: two make room for two on each of two nodes."""
    made = core(tenant(ACME, quota=Quota(limit=4)))
    for number in range(4):
        half = Resources("lab", 3, 250, 16)
        made.submit(job(f"b{number}", resources=half, flex=Flex.PREEMPTIBLE, site=FJORD), tenant=BOREALIS)
    for placement in made.place():
        made.report(placement, RUNNING)
    made.now_ms += 10 * 60_000
    asked = {"nodes": 2, "resources": WHOLE, "alternatives": (Alternative("lab", 2),)}
    work = made.submit(job("either", priority=1, site=FJORD, **asked))[0]
    gone = made.plan().evictions
    assert [one.waiting for one in gone] == [work, work]
    made.place()
    for one in gone:
        made.report(one.placement, ended(0, 143))
    assert [(one.workload, one.option) for one in made.plan().placements] == [(work, 1)]


def test_fractions_of_a_tenant_are_packed_and_the_writer_takes_the_first_plan_of_them() -> None:
    """Twenty tenths are two accelerators, at once; another tenant's are apart from them."""
    made = core()
    tenth = Resources("lab", 1, 1, 1, share_milli=100)
    for owner in (ACME, BOREALIS):
        made.submit(*(job(f"t{number}", resources=tenth, site=FJORD) for number in range(20)), tenant=owner)
    assert len(made.place()) == 40
    held: dict[str, set[tuple[str, int]]] = {ACME: set(), BOREALIS: set()}
    for one in made.state.placements.values():
        held[one.tenant].update((rank.node, rank.mask) for rank in one.ranks)
    assert [len(some) for some in held.values()] == [2, 2]
    assert held[ACME].isdisjoint(held[BOREALIS])


def test_the_ranks_of_two_gangs_of_fractions_share_their_accelerators() -> None:
    """Each rank has a node of its own, and the second gang is on the nodes and the accelerators of the first."""
    made = core()
    thin = Resources("lab", 1, 1, 1, share_milli=100)
    for number in range(2):
        made.submit(job(f"g{number}", nodes=2, resources=thin, site=FJORD))
        made.place()
    held = [{(rank.node, rank.mask) for rank in one.ranks} for one in made.state.placements.values()]
    assert held[0] == held[1]
