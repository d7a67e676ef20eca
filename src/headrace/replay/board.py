"""A bare board for openb: node choice by costs and nothing else. The bound begins with it; the planner is compared with it."""

from collections.abc import Sequence

import numpy as np

from headrace.core.fleet import I64
from headrace.core.scheduling.rules import NodeRule
from headrace.core.scheduling.shapes import NodeView, Shape
from headrace.core.workload import WHOLE_MILLI
from headrace.replay.openb import Cluster, Outcome

_NEVER = np.iinfo(np.int64).max


def board_replay(cluster: Cluster, arrived: Sequence[Shape], rule: NodeRule) -> Outcome:
    """Place ``arrived`` one by one, each where ``rule`` says."""
    board = Board(cluster, rule)
    refused: dict[Shape, int] = {}
    for pod in arrived:
        if board.place(pod) is None:
            refused[pod] = refused.get(pod, 0) + pod.milli
    left_milli = int(board.view.left_milli.sum())
    return Outcome(100 * left_milli / cluster.milli, tuple(sorted(refused.items())))


class Board:
    """What every node has left, and for each shape the costs that still hold.

    The cost of a node depends on that node alone, so that only those touched since a shape was last asked for are
    asked for again.
    """

    def __init__(self, cluster: Cluster, policy: NodeRule) -> None:
        self.cluster = cluster
        self.view = _empty(cluster)
        self._policy = policy
        self._touched: list[int] = []
        self._known: dict[Shape, tuple[I64, I64, int]] = {}

    def place(self, pod: Shape) -> int | None:
        """Give ``pod`` what it asks for, and say on which node; None if no node has it."""
        cost, accelerator = self._costs(pod)
        node = int(cost.argmin())
        if cost[node] == _NEVER:
            return None
        self._take(node, int(accelerator[node]), pod)
        self._touched.append(node)
        return node

    def _costs(self, pod: Shape) -> tuple[I64, I64]:
        count = len(self.cluster.kind)
        known = self._known.get(pod)
        if known is None:
            cost, accelerator = np.full(count, _NEVER), np.full(count, -1)
            rows = np.arange(count)
        else:
            cost, accelerator, since = known
            rows = np.array(sorted(set(self._touched[since:])), np.int64)
        if len(rows):
            cost[rows] = _NEVER
            rows = rows[self._fits(self.view.at(rows), pod)]
            if len(rows):
                cost[rows], accelerator[rows] = self._policy.costs(self.view.at(rows), pod)
        self._known[pod] = (cost, accelerator, len(self._touched))
        return cost, accelerator

    def _fits(self, view: NodeView, pod: Shape) -> I64:
        accepted = np.array([pod.accepts(each.accelerator) for each in self.cluster.hardware])
        fits = (view.cpu_milli >= pod.cpu_milli) & (view.memory_mb >= pod.memory_mb)
        if pod.accelerators:
            fits &= accepted[view.kind]
            fits &= (view.left_milli >= pod.share_milli).sum(axis=1) >= pod.accelerators
        return np.flatnonzero(fits)

    def _take(self, node: int, accelerator: int, pod: Shape) -> None:
        left_milli = self.view.left_milli[node]
        if pod.is_fraction:
            left_milli[accelerator] -= pod.share_milli
        elif pod.accelerators:
            left_milli[np.flatnonzero(left_milli == WHOLE_MILLI)[: pod.accelerators]] = 0
        self.view.cpu_milli[node] -= pod.cpu_milli
        self.view.memory_mb[node] -= pod.memory_mb


def _empty(cluster: Cluster) -> NodeView:
    most = max(each.accelerators for each in cluster.hardware)
    have = np.array([[each.accelerators] for each in cluster.hardware])
    left_milli = np.where(np.arange(most) < have, WHOLE_MILLI, 0)[cluster.kind].astype(np.int64)
    cpu = np.array([each.cpu_milli for each in cluster.hardware], np.int64)
    memory = np.array([each.memory_mb for each in cluster.hardware], np.int64)
    return NodeView(cluster.kind.copy(), left_milli, cpu[cluster.kind], memory[cluster.kind])
