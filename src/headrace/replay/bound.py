"""The least that any placement must leave unallocated: a cutting-stock relaxation with GPU shares, CPU and models.

What it relaxes: pods may be refused at will, and so chosen with hindsight; they all come at once; a pattern (what one
node holds) may be used a broken number of times; memory and pods without accelerators take nothing; requests
for processors are rounded down to tenths. An online policy that must take whoever fits can do no better than one
that may refuse and knows everything, so what is left over here is never more than what such a policy leaves.

Why it is valid whatever the solver says: give each shape ``k`` a price of at least 0. A node of hardware ``h`` holds
pods worth at most ``v_h``, the dearest pattern, found by dynamic programming. So all pods that were taken, worth
``size_k`` each, take up at most ``sum_h nodes_h * v_h + sum_k arrived_k * max(0, size_k - price_k)``: what a pod's price falls
short of its size is granted in full. This holds for every choice of prices and is summed in integers; HiGHS only finds
prices that make it tight, by column generation (Gilmore and Gomory 1961; smoothed as by Wentges 1997).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import highspy
import numpy as np

from headrace.core.fleet import I64
from headrace.core.scheduling.classic import BestFit
from headrace.core.scheduling.shapes import Shape
from headrace.core.workload import WHOLE_MILLI
from headrace.replay.board import Board
from headrace.replay.openb import Cluster

_MICRO = 1_000
"""Prices are in millionths of an accelerator."""
_CPU_STEP_MILLI = 100
_CLOSE_PERMYRIAD = 2
_MOST_ROUNDS = 400
_EMPTY = -1
_SHARED = -2

Pattern = Mapping[int, int]
"""What one node holds: how many of each shape, by index."""


@dataclass(frozen=True, slots=True)
class Bound:
    """No policy leaves less than ``unallocated_percent``; the relaxation itself leaves ``relaxed_percent``, at least as much.

    ``prices`` are the proof: thousandths of a milli-accelerator for each shape (see :func:`most_allocated`).
    """

    unallocated_percent: float
    relaxed_percent: float
    prices: tuple[tuple[Shape, int], ...]
    rounds: int


def lower_bound(cluster: Cluster, arrived: Sequence[Shape]) -> Bound:
    """The bound for ``arrived`` on ``cluster``. 100 % of the accelerators are all that the cluster has."""
    task = _Task(cluster, arrived)
    master = _Master(task)
    for kind, pattern in _first_patterns(cluster, arrived, task):
        master.add(kind, pattern)
    prices, relaxed = master.solve()
    best, best_prices = task.all_micro, np.zeros_like(task.size_micro)
    rounds = 0
    while rounds < _MOST_ROUNDS:
        rounds += 1
        fillings = task.fillings(prices)
        most = task.most_allocated(fillings, prices)
        if most < best:
            best, best_prices = most, prices
        for kind in range(len(cluster.hardware)):
            master.add(kind, task.dearest(fillings, kind))
        exact, relaxed = master.solve()
        if (best - relaxed) * 10_000 <= _CLOSE_PERMYRIAD * task.capacity_micro:
            break
        prices = (exact + best_prices) // 2 if best_prices.any() else exact
    return Bound(
        unallocated_percent=max(0.0, 100 - 100 * best / task.capacity_micro),
        relaxed_percent=max(0.0, 100 - 100 * relaxed / task.capacity_micro),
        prices=tuple(zip(task.shapes, best_prices.tolist(), strict=True)),
        rounds=rounds,
    )


def most_allocated(cluster: Cluster, arrived: Sequence[Shape], prices: Mapping[Shape, int]) -> int:
    """What can be allocated at most, in thousandths of a milli-accelerator, by any ``prices`` >= 0.

    Shapes are without memory, as in :attr:`Bound.prices`; one without a price costs nothing.
    """
    task = _Task(cluster, arrived)
    given = np.array([max(0, prices.get(shape, 0)) for shape in task.shapes], np.int64)
    return task.most_allocated(task.fillings(given), given)


class _Task:
    """Shapes that arrived and how often, and nodes of each hardware; hardware that takes the same shapes is one group."""

    def __init__(self, cluster: Cluster, arrived: Sequence[Shape]) -> None:
        count = Counter(without_memory(pod) for pod in arrived if pod.accelerators)
        self.shapes = tuple(sorted(count))
        self.index = {shape: number for number, shape in enumerate(self.shapes)}
        self.arrived = np.array([count[shape] for shape in self.shapes], np.int64)
        self.size_micro = np.array([shape.milli * _MICRO for shape in self.shapes], np.int64)
        self.nodes = np.bincount(cluster.kind, minlength=len(cluster.hardware))
        self.capacity_micro = cluster.milli * _MICRO
        self.all_micro = int(self.arrived @ self.size_micro)
        self._hardware = cluster.hardware
        self._group: list[int] = []
        groups: dict[tuple[int, ...], int] = {}
        for each in cluster.hardware:
            taken = tuple(k for k, shape in enumerate(self.shapes) if shape.accepts(each.accelerator))
            self._group.append(groups.setdefault(taken, len(groups)))
        self._taken = tuple(groups)

    def fillings(self, prices: I64) -> list["_Filling"]:
        """The dearest patterns of each group, by accelerators and CPU."""
        members: list[list[int]] = [[] for _ in self._taken]
        for kind, group in enumerate(self._group):
            members[group].append(kind)
        return [
            _Filling(
                self.shapes,
                prices,
                taken,
                max(self._hardware[kind].accelerators for kind in kinds),
                max(self._hardware[kind].cpu_milli for kind in kinds) // _CPU_STEP_MILLI,
            )
            for taken, kinds in zip(self._taken, members, strict=True)
        ]

    def dearest(self, fillings: list["_Filling"], kind: int) -> Pattern:
        """The dearest pattern of a node of ``kind``."""
        hardware = self._hardware[kind]
        return fillings[self._group[kind]].pattern(
            hardware.accelerators, hardware.cpu_milli // _CPU_STEP_MILLI
        )

    def most_allocated(self, fillings: list["_Filling"], prices: I64) -> int:
        """The bound that ``prices`` prove."""
        granted = int(self.arrived @ np.maximum(0, self.size_micro - prices))
        for kind, nodes in enumerate(self.nodes.tolist()):
            hardware = self._hardware[kind]
            worth = fillings[self._group[kind]].worth
            granted += nodes * int(worth[hardware.accelerators, hardware.cpu_milli // _CPU_STEP_MILLI])
        return granted


class _Filling:
    """``worth[a, c]``: the most that pods on ``a`` accelerators and ``c`` steps of CPU are worth together, exactly."""

    def __init__(
        self, shapes: Sequence[Shape], prices: I64, taken: Sequence[int], accelerators: int, cpu: int
    ) -> None:
        self._shapes = shapes
        self._cpu = [shape.cpu_milli // _CPU_STEP_MILLI for shape in shapes]
        priced = [k for k in taken if prices[k] > 0 and self._cpu[k] <= cpu]
        shares = [k for k in priced if shapes[k].is_fraction]
        # A common divisor, so that nothing is rounded.
        step_milli = gcd(WHOLE_MILLI, *(shapes[k].share_milli for k in shares))
        self._share = [shape.share_milli // step_milli for shape in shapes]
        self._share_steps = WHOLE_MILLI // step_milli
        self._share_worth = np.zeros((self._share_steps + 1, cpu + 1), np.int64)
        self._share_last = np.full((self._share_steps + 1, cpu + 1), _EMPTY)
        for left in range(1, self._share_steps + 1):
            for k in shares:
                before = left - self._share[k]
                if before >= 0:
                    worth = self._share_worth[before, : cpu + 1 - self._cpu[k]] + prices[k]
                    _improve(self._share_worth[left], self._share_last[left], worth, k)
        self.worth = np.zeros((accelerators + 1, cpu + 1), np.int64)
        self._last = np.full((accelerators + 1, cpu + 1), _EMPTY)
        full = self._share_worth[-1]
        steps = (np.flatnonzero(np.diff(full) > 0) + 1).tolist()
        for count in range(1, accelerators + 1):
            self.worth[count] = self.worth[count - 1]
            for step in [0, *steps] if full[0] else steps:
                worth = self.worth[count - 1, : cpu + 1 - step] + full[step]
                _improve(self.worth[count], self._last[count], worth, _SHARED - step)
            for k in priced:
                if not shapes[k].is_fraction and shapes[k].accelerators <= count:
                    before = count - shapes[k].accelerators
                    worth = self.worth[before, : cpu + 1 - self._cpu[k]] + prices[k]
                    _improve(self.worth[count], self._last[count], worth, k)

    def pattern(self, accelerators: int, cpu: int) -> Pattern:
        """What makes up ``worth[accelerators, cpu]``."""
        found: Counter[int] = Counter()
        while accelerators:
            last = int(self._last[accelerators, cpu])
            if last == _EMPTY:
                accelerators -= 1
            elif last <= _SHARED:
                self._unpack_shares(_SHARED - last, found)
                accelerators, cpu = accelerators - 1, cpu - (_SHARED - last)
            else:
                found[last] += 1
                accelerators, cpu = accelerators - self._shapes[last].accelerators, cpu - self._cpu[last]
        return found

    def _unpack_shares(self, cpu: int, found: Counter[int]) -> None:
        left = self._share_steps
        while (k := int(self._share_last[left, cpu])) != _EMPTY:
            found[k] += 1
            left, cpu = left - self._share[k], cpu - self._cpu[k]


def _improve(best: I64, last: I64, worth: I64, mark: int) -> None:
    """Where the tail of ``best`` is worth less than ``worth``, take that, and mark how."""
    tail = slice(len(best) - len(worth), None)
    better = worth > best[tail]
    best[tail][better] = worth[better]
    last[tail][better] = mark


class _Master:
    """The linear program over the patterns found so far: how often each is used, to allocate the most."""

    def __init__(self, task: _Task) -> None:
        self._shapes = len(task.shapes)
        self._known: set[tuple[int, tuple[tuple[int, int], ...]]] = set()
        self._program = highspy.Highs()  # type: ignore[no-untyped-call]
        self._program.setOptionValue("output_flag", False)
        self._program.setOptionValue("threads", 1)
        for _ in task.shapes:
            self._program.addRow(0.0, highspy.kHighsInf, 0, [], [])
        for nodes in task.nodes.tolist():
            self._program.addRow(-highspy.kHighsInf, float(nodes), 0, [], [])
        for k, (size, arrived) in enumerate(
            zip(task.size_micro.tolist(), task.arrived.tolist(), strict=True)
        ):
            self._program.addCol(-size / WHOLE_MILLI / _MICRO, 0.0, float(arrived), 1, [k], [-1.0])

    def add(self, kind: int, pattern: Pattern) -> None:
        """Let nodes of ``kind`` hold ``pattern``."""
        items = tuple(sorted(pattern.items()))
        if not items or (kind, items) in self._known:
            return
        self._known.add((kind, items))
        rows = [k for k, _ in items] + [self._shapes + kind]
        values = [float(times) for _, times in items] + [1.0]
        self._program.addCol(0.0, 0.0, highspy.kHighsInf, len(rows), rows, values)

    def solve(self) -> tuple[I64, float]:
        """The price of each shape, and what is allocated; both in thousandths of a milli-accelerator."""
        self._program.run()
        duals = np.abs(np.array(self._program.getSolution().row_dual[: self._shapes], np.float64))
        prices = np.rint(duals * WHOLE_MILLI * _MICRO).astype(np.int64)
        return prices, -self._program.getInfo().objective_function_value * WHOLE_MILLI * _MICRO


def without_memory(pod: Shape) -> Shape:
    """``pod`` asking for no memory."""
    return Shape(pod.accelerators, pod.share_milli, pod.cpu_milli, 0, pod.models)


def _first_patterns(cluster: Cluster, arrived: Sequence[Shape], task: _Task) -> list[tuple[int, Pattern]]:
    """What best fit makes of it: patterns that are possible, so that the first prices mean something."""
    board = Board(cluster, BestFit())
    held: list[Counter[int]] = [Counter() for _ in cluster.names]
    for pod in arrived:
        node = board.place(pod)
        if node is not None and pod.accelerators:
            held[node][task.index[without_memory(pod)]] += 1
    return list(zip(cluster.kind.tolist(), held, strict=True))
