"""Promise 5 is watched at every placement: it gets what it asked for, on nodes that are ready and have it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.events import Event, NodeStateChanged, WorkloadRequeued
from headrace.core.ids import SiteId, WorkloadId
from headrace.core.workload import RankPlace, Resources, WorkloadSpec, WorkloadType
from headrace.sim.checkers.capacity import CapacityChecker
from tests.sim.checkers.streams import (
    ESTATE,
    NORTH,
    START_MS,
    Edit,
    chain,
    commit,
    document,
    insert,
    placed,
    put,
    rank,
    rules,
    spec,
    story,
    submitted,
    told,
)

NODE = "north/a/g-1-0"
CLUSTER = spec(4, type=WorkloadType.CLUSTER)
TOMORROW = replace(NORTH, blocks=(replace(NORTH.blocks[0], commissioned="2026-01-11"),))


def more(of: WorkloadSpec, *ranks: RankPlace, before: tuple[Event, ...] = (), at: str = "north") -> Edit:
    """Return the edit that submits and places one more workload."""
    return insert("submit-5", *before, submitted("acme-9", of), placed("acme-9", at, *ranks))


def beside(first: WorkloadSpec, one: RankPlace, second: WorkloadSpec, other: RankPlace) -> Edit:
    """Return the edit in which two more workloads are placed, one after the other."""
    return more(second, other, before=(submitted("acme-8", first), placed("acme-8", "north", one)))


ALL_BUT_ONE = spec(1, resources=Resources("lab", 1, 3_001, 7_001))
BROKEN: dict[str, tuple[str, Edit]] = {
    "on a node that drains": (
        "node-closed",
        more(spec(), rank(NODE), before=(NodeStateChanged(NODE, "draining"),)),
    ),
    "on a node that is down": (
        "node-closed",
        more(spec(), rank(NODE), before=(NodeStateChanged(NODE, "down"),)),
    ),
    "on nodes of tomorrow": (
        "not-commissioned",
        put("estate", document("estate", replace(ESTATE, sites=(TOMORROW, *ESTATE.sites[1:])))),
    ),
    "on another model": ("model", more(spec(resources=Resources("H100", 2, 1_000, 1_000)), rank(NODE))),
    "with too few accelerators": ("accelerators", more(spec(3), rank(NODE))),
    "with one past the last": ("accelerators", more(spec(), rank(NODE, 0b10001))),
    "a cluster on half a node": ("accelerators", more(CLUSTER, rank(NODE, 0b0011))),
    "with less memory": ("short", more(spec(resources=Resources("lab", 2, 1_000, 1_001)), rank(NODE))),
    "with more than the node has": (
        "no-room",
        beside(spec(1), rank(NODE, 1), ALL_BUT_ONE, RankPlace(NODE, 2, 3_001, 7_001)),
    ),
    "a cluster beside another": ("not-whole", beside(spec(0), rank(NODE, 0), CLUSTER, rank(NODE, 0b1111))),
    "beside a cluster": ("not-whole", beside(CLUSTER, rank(NODE, 0b1111), spec(0), rank(NODE, 0))),
    "two ranks on one node": ("node-twice", more(spec(1, nodes=2), rank(NODE, 1), rank(NODE, 2))),
    "away from its site": ("pinned", more(spec(site=SiteId("south")), rank(NODE))),
    "before its time": (
        "backing-off",
        insert("requeue-6", placed("beta-2", "north", rank(NODE, 1), attempt=2)),
    ),
}
CLEAN: dict[str, Edit] = {
    "the story": lambda steps: steps,
    "on a node that came back": more(
        spec(), rank(NODE), before=(NodeStateChanged(NODE, "down"), NodeStateChanged(NODE, "ready"))
    ),
    "to the last megabyte": beside(
        spec(1),
        rank(NODE, 1),
        spec(1, resources=Resources("lab", 1, 3_000, 7_000)),
        RankPlace(NODE, 2, 3_000, 7_000),
    ),
    "a cluster where another ended": chain(
        insert(
            "end-1", submitted("acme-9", CLUSTER), placed("acme-9", "north", rank("north/a/g-0-1", 0b1111))
        )
    ),
    "when its time has come": chain(
        put("requeue-6", WorkloadRequeued(WorkloadId("beta-2"), "x", START_MS)),
        insert("requeue-6", placed("beta-2", "north", rank(NODE, 1), attempt=2)),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_placement_that_its_nodes_cannot_hold_is_found(name: str) -> None:
    """Promise 5: whatever the plan knew, it is judged by the world as it is when it is adopted."""
    rule, edit = BROKEN[name]
    assert rules(told(edit).capacity.violations) == {rule}


@pytest.mark.parametrize("name", CLEAN)
def test_a_placement_that_its_nodes_hold_is_found_clean(name: str) -> None:
    """By the checker alone."""
    checker = CapacityChecker()
    for committed in commit(CLEAN[name](story())):
        checker.observe(committed)
    assert checker.violations == []
