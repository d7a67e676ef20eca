"""The columns of a replay's cluster are what its placements make them."""

from random import Random

import numpy as np
import pytest

from headrace.core.ids import ProjectId, TenantId, WorkloadId
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.proposal import Eviction, Plan
from headrace.core.scheduling.snapshot import Snapshot, Taken
from headrace.core.workload import Resources, State, WorkloadSpec, WorkloadType
from headrace.replay.cluster import BEGIN_MS, PROJECT, ReplayCluster, fleet_of, hardware


def spec(nodes: int, accelerators: int, cpu_milli: int, share_milli: int = 1_000) -> WorkloadSpec:
    need = Resources("", accelerators, cpu_milli, cpu_milli // 2, share_milli)
    return WorkloadSpec("w", WorkloadType.JOB, PROJECT, need, (), nodes)


def rebuilt(cluster: ReplayCluster) -> Snapshot:
    """A cluster of its own, to which all placements are added one by one."""
    other = ReplayCluster(cluster.fleet, ("a", "b"))
    other.workloads.update(cluster.workloads)
    for placement in cluster.placements.values():
        other._hold(placement, 1)
    return other.snapshot(0)


@pytest.mark.parametrize("seed", range(20))
def test_columns_are_those_of_a_rebuild(seed: int) -> None:
    """After starts, ends and evictions in any order: gangs, processors, fractions of accelerators."""
    chance = Random(seed)
    cluster = ReplayCluster(
        fleet_of([(hardware("x", 4), 5), (hardware("y", 2), 3)], rack_nodes=2), ("a", "b")
    )
    for step in range(150):
        now_ms = BEGIN_MS + step * 1_000
        if chance.random() < 0.6:
            share = chance.choice((1_000, 1_000, 300))
            shape = (1, 1) if share < 1_000 else (chance.randint(1, 3), chance.randint(0, 4))
            cluster.submit(
                f"w-{step}", chance.choice("ab"), spec(*shape, chance.choice((0, 4_000)), share), now_ms
            )
        cluster.adopt(plan(cluster.snapshot(now_ms)), now_ms)
        live = list(cluster.placements.values())
        if live and chance.random() < 0.5:
            leaves = chance.choice(live)
            cluster.end(leaves, now_ms) if chance.random() < 0.6 else cluster.requeue(leaves, now_ms)
    ours, theirs = cluster.snapshot(0), rebuilt(cluster)
    assert len(cluster.placements) > 3
    for name in ("node_mask", "node_cpu_milli", "node_memory_mb", "node_ranks", "power_w"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    if len(theirs.node_share_milli):
        assert np.array_equal(ours.node_share_milli, theirs.node_share_milli)
    assert ours.usage == theirs.usage
    held = {contract: milli for contract, milli in ours.contract_held_milli.items() if milli}
    assert held == theirs.contract_held_milli
    assert cluster.used_milli == sum(
        rank.accelerators_milli for one in cluster.placements.values() for rank in one.ranks
    )


def test_who_has_nothing_is_not_listed() -> None:
    """Every plan looks at all who have something."""
    cluster = ReplayCluster(fleet_of([(hardware("x", 4), 1)]), ("a", "b"))
    cluster.submit("w", "a", spec(1, 2, 1_000), BEGIN_MS)
    (placement,) = cluster.adopt(plan(cluster.snapshot(BEGIN_MS)), BEGIN_MS)
    assert cluster.usage == {(TenantId("a"), ProjectId("main")): Taken(2_000, 1_000, 500)}
    cluster.end(placement, BEGIN_MS)
    assert cluster.usage == {}
    assert cluster.workloads == {}


def test_an_evicted_workload_waits_again_in_its_old_place() -> None:
    """It keeps its arrival, and what it held is free."""
    cluster = ReplayCluster(fleet_of([(hardware("x", 4), 1)]), ("a",))
    first = cluster.submit("w-1", "a", spec(1, 4, 0), BEGIN_MS)
    (placement,) = cluster.adopt(plan(cluster.snapshot(BEGIN_MS)), BEGIN_MS)
    second = cluster.submit("w-2", "a", spec(1, 4, 0), BEGIN_MS + 1)
    cluster.adopt(Plan(0, (), (Eviction(placement.id, second.id),)), BEGIN_MS + 2)
    assert first.state is State.QUEUED
    assert cluster.used_milli == 0
    (again,) = cluster.adopt(plan(cluster.snapshot(BEGIN_MS + 3)), BEGIN_MS + 3)
    assert (again.workload, again.id) == (first.id, "w-1.2")


def test_a_tenant_that_the_cluster_does_not_know_is_an_error() -> None:
    """It would have no contract."""
    cluster = ReplayCluster(fleet_of([(hardware("x", 4), 1)]), ("a",))
    with pytest.raises(KeyError, match="b"):
        cluster.submit("w", "b", spec(1, 1, 0), BEGIN_MS)
    assert WorkloadId("w") not in cluster.workloads
