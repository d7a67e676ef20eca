"""The classic node-choice rules, for comparison: first fit, best fit, and fragmentation gradient descent.

Each gives a cost to every candidate: the least wins, and of equals the first. Source: Weng, Yang et al., Beware of
Fragmentation, USENIX ATC 2023, whose experiment truncates scores to integers of 0 to 100 and orders nodes by name;
both decide the outcome.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import I64
from headrace.core.hardware import HardwareType
from headrace.core.scheduling.shapes import Demand, NodeView, Shape, whole_after
from headrace.core.workload import WHOLE_MILLI

_SCORES = 100
_BEST_FIT_CPU_MILLI = 128_000
_BEST_FIT_ACCELERATOR_MILLI = 8_000
_IMPOSSIBLE = np.iinfo(np.int64).max


class FirstFit:
    """The first node where it fits, and the first accelerator."""

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        """Nothing, everywhere."""
        return np.zeros(len(view.kind), np.int64), _first_accelerator(view, shape)


class BestFit:
    """The node that has least left afterwards, processors and accelerators alike; of it the fullest accelerator.

    What is left is weighed against the largest node of the published cluster (128 processors, 8 accelerators).
    """

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        """What is left afterwards, in hundredths of the largest node, cut to an integer as in the paper."""
        cpu = _BEST_FIT_ACCELERATOR_MILLI * (view.cpu_milli - shape.cpu_milli)
        accelerators = _BEST_FIT_CPU_MILLI * (view.left_milli.sum(axis=1) - shape.milli)
        whole = 2 * _BEST_FIT_CPU_MILLI * _BEST_FIT_ACCELERATOR_MILLI
        # The paper cuts the score, 100 less this: cutting that down rounds this up.
        return -(-_SCORES * (cpu + accelerators) // whole), _fullest_accelerator(view, shape)


class Fgd:
    """Fragmentation gradient descent: where the accelerators that typical pods can't use grow least."""

    def __init__(self, hardware: Sequence[HardwareType], demand: Demand) -> None:
        self._measure = Fragmentation(hardware, demand)

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        """100 less the paper's score, which is the growth in accelerators through a sigmoid, cut to an integer."""
        before = self._measure.of(view)
        cpu_milli = view.cpu_milli - shape.cpu_milli
        if not shape.is_fraction:
            left_milli = whole_after(view.left_milli, shape.accelerators)
            after = self._measure.of(NodeView(view.kind, left_milli, cpu_milli, view.memory_mb))
            return self._cost(before, after), np.full(len(view.kind), -1)
        costs = np.full(view.left_milli.shape, _IMPOSSIBLE)
        for column in range(view.left_milli.shape[1]):
            rows = np.flatnonzero(view.left_milli[:, column] >= shape.share_milli)
            left_milli = view.left_milli[rows].copy()
            left_milli[:, column] -= shape.share_milli
            after = self._measure.of(
                NodeView(view.kind[rows], left_milli, cpu_milli[rows], view.memory_mb[rows])
            )
            costs[rows, column] = self._cost(before[rows], after)
        accelerator = costs.argmin(axis=1)
        return costs[np.arange(len(costs)), accelerator], accelerator

    def _cost(self, before: I64, after: I64) -> I64:
        growth = (after - before) / (self._measure.pods * WHOLE_MILLI)
        return _SCORES - (_SCORES / (1 + np.exp(growth))).astype(np.int64)


class Fragmentation:
    """Thousandths of accelerators that a typical pod can't use, times the number of typical pods.

    A pod that could run on the node can't use the accelerators with less left than it asks for; one that couldn't,
    or asks for no accelerator, can't use any of them.
    """

    def __init__(self, hardware: Sequence[HardwareType], demand: Demand) -> None:
        shapes = [shape for shape, _ in demand.shapes]
        self.pods = sum(times for _, times in demand.shapes)
        self._times = np.array([times for _, times in demand.shapes], np.int64)
        self._cpu_milli = np.array([shape.cpu_milli for shape in shapes], np.int64)
        self._accelerators = np.array([shape.accelerators for shape in shapes], np.int64)
        self._share_milli = np.array([shape.share_milli for shape in shapes], np.int64)
        accepted = [
            [shape.accelerators > 0 and shape.accepts(each.accelerator) for shape in shapes]
            for each in hardware
        ]
        self._accepted: npt.NDArray[np.bool_] = np.array(accepted, bool).reshape(len(hardware), len(shapes))

    def of(self, view: NodeView) -> I64:
        """The measure of each row."""
        left_milli = view.left_milli[:, :, None]
        usable = left_milli >= self._share_milli
        runs = self._accepted[view.kind] & (view.cpu_milli[:, None] >= self._cpu_milli)
        runs &= usable.sum(axis=1) >= self._accelerators
        used: I64 = (np.where(usable, left_milli, 0).sum(axis=1) * runs) @ self._times
        found: I64 = self.pods * view.left_milli.sum(axis=1) - used
        return found


def _first_accelerator(view: NodeView, shape: Shape) -> I64:
    if not shape.is_fraction:
        return np.full(len(view.kind), -1)
    return np.asarray((view.left_milli >= shape.share_milli).argmax(axis=1), np.int64)


def _fullest_accelerator(view: NodeView, shape: Shape) -> I64:
    if not shape.is_fraction:
        return np.full(len(view.kind), -1)
    left_milli = np.where(view.left_milli >= shape.share_milli, view.left_milli, _IMPOSSIBLE)
    return np.asarray(left_milli.argmin(axis=1), np.int64)
