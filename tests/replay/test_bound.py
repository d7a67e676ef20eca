"""The bound: nothing that can be done is below it."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from headrace.core.hardware import HardwareType
from headrace.core.scheduling.classic import BestFit, FirstFit
from headrace.core.scheduling.shapes import Shape
from headrace.replay.board import board_replay
from headrace.replay.bound import lower_bound, most_allocated
from headrace.replay.openb import Cluster
from tests.core.scheduling.test_waste import hardware, share, whole


def cluster(*nodes: HardwareType) -> Cluster:
    kinds = tuple(dict.fromkeys(nodes))
    kind = np.array([kinds.index(each) for each in nodes], np.int64)
    return Cluster(tuple(f"n-{number}" for number in range(len(nodes))), kinds, kind)


@pytest.mark.parametrize(
    ("nodes", "pods", "percent"),
    [
        ([hardware(1)], [share(600)] * 2, 40),  # two don't fit on one
        ([hardware(2)], [share(600)] * 4 + [share(400)] * 4, 0),
        ([hardware(2)] * 5, [share(810)] * 12, 19),  # 0.19 of each is of no use to anybody
        ([hardware(2, cpu=10)], [whole(1, cpu=6)] * 2, 50),  # processors for one
        ([hardware(8)], [whole(1, models=("other",))] * 8, 100),
        ([hardware(8, model="A"), hardware(8, model="B")], [whole(1, models=("A",))] * 16, 50),
        ([hardware(4)], [whole(8)], 100),  # a gang doesn't go on half a node
        ([hardware(4)], [whole(0)], 100),  # who takes no accelerator allocates none
        ([hardware(4, cpu=4)], [share(500)] * 8, 50),  # shares take processors too: four of one
    ],
)
def test_the_bound_is_as_by_hand(nodes: list[HardwareType], pods: list[Shape], percent: float) -> None:
    """Where no pattern needs to be broken, the relaxation is exact, up to what its search leaves open."""
    found = lower_bound(cluster(*nodes), pods)
    assert found.unallocated_percent == pytest.approx(percent, abs=0.03)
    assert found.relaxed_percent == pytest.approx(percent, abs=0.03)


def most(left: list[list[int]], cpu: list[int], pods: Sequence[Shape]) -> int:
    """The most that can be allocated, by trying everything."""
    if not pods:
        return 0
    pod, rest = pods[0], pods[1:]
    best = most(left, cpu, rest)
    for node, accelerators in enumerate(left):
        if cpu[node] < pod.cpu_milli:
            continue
        fits = [number for number, have in enumerate(accelerators) if have >= pod.share_milli]
        choices = [[number] for number in fits] if pod.is_fraction else [fits[: pod.accelerators]]
        for chosen in choices:
            if len(chosen) == pod.accelerators:
                after = [each.copy() for each in left]
                for number in chosen:
                    after[node][number] -= pod.share_milli
                taken = [have - pod.cpu_milli * (number == node) for number, have in enumerate(cpu)]
                best = max(best, pod.milli + most(after, taken, rest))
    return best


def test_nothing_that_can_be_done_is_below_the_bound() -> None:
    """On small random tasks: every assignment is tried, and any prices at all prove something true."""
    chance = Random(17)
    for _ in range(40):
        nodes = cluster(*(hardware(chance.choice([1, 2]), cpu=chance.choice([4, 8])) for _ in range(2)))
        pods = [
            chance.choice(
                [whole(1, cpu=chance.randint(1, 4)), whole(2), share(chance.randrange(150, 1000, 35))]
            )
            for _ in range(5)
        ]
        kinds = [nodes.hardware[kind] for kind in nodes.kind]
        best = most([[1000] * each.accelerators for each in kinds], [each.cpu_milli for each in kinds], pods)
        found = lower_bound(nodes, pods)
        assert found.unallocated_percent <= 100 - 100 * best / nodes.milli + 1e-9
        assert found.unallocated_percent <= found.relaxed_percent + 1e-6
        proven = 100 - most_allocated(nodes, pods, dict(found.prices)) / (nodes.milli * 10)
        assert found.unallocated_percent == pytest.approx(max(0, proven))
        anyhow = {shape: chance.randrange(0, 2_000_000) for shape, _ in found.prices}
        assert most_allocated(nodes, pods, anyhow) >= best * 1000
        assert most_allocated(nodes, pods, {}) >= best * 1000


def test_no_policy_does_better() -> None:
    """First fit and best fit on fifty nodes, with shapes that pack badly."""
    chance = Random(23)
    nodes = cluster(*([hardware(8)] * 20 + [hardware(2, model="N", cpu=16)] * 30))
    shapes = [share(810, cpu=5), share(470, cpu=4), share(320, cpu=9), whole(1, cpu=11), whole(4, cpu=60)]
    pods = [chance.choice(shapes) for _ in range(260)]
    found = lower_bound(nodes, pods)
    assert found.relaxed_percent - found.unallocated_percent <= 0.03
    for policy in (FirstFit(), BestFit()):
        assert board_replay(nodes, pods, policy).unallocated_percent >= found.unallocated_percent
