"""The default node choice: where a rank makes the expected loss of accelerators grow least.

A node with ``w`` left of its accelerators and ``c`` left of its processors (or of its memory, where that is scarcer) is
filled by whatever comes next and fits, until no more does. What it then has left is lost. With ``p_k`` the popularity of
shape ``k`` among those that take accelerators, the loss to expect is

    f(w, c) = M of f(w - w_k, c - c_k) over the shapes k that fit;    f(w, c) = w where none fits

and M is a mean that looks on the bright side, ``-log(sum p_k exp(-B f_k) / sum p_k) / B``, because what comes next is
placed by this same rule and not at random. ``STOP`` stands among the ``p_k`` for "nobody comes any more", which leaves
``w``; it tells a node that few accept from one that all do. ``g(l)`` is the same for the ``l`` that one shared
accelerator has left, filled by shares. The cost of a placement is what it adds to

    f(node) + sum over its shared accelerators of g(left),  plus  PRICE * load * accelerators taken,

``load`` being the demand that can only be met by such hardware, against its capacity, each shape spread evenly over
all that it accepts: who would be content with any model leaves the sought ones to those who need them.

The figures stand on a plateau over the openb traces: half or double of ``BRIGHT`` or ``PRICE``, a third or triple of ``STOP``,
or three quarters to half as many columns again move the mean of the unallocated accelerators by at most 0.12 points. The
measure that this is to better is fragmentation, of Weng, Yang et al., Beware of Fragmentation, USENIX ATC 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import I64
from headrace.core.hardware import HardwareType
from headrace.core.scheduling.shapes import Demand, NodeView, Shape
from headrace.core.units import ceil_div
from headrace.core.workload import WHOLE_MILLI

F64 = npt.NDArray[np.float64]

BRIGHT = 20.0
"""B, per accelerator: losses that differ by more than a twentieth of an accelerator are told apart."""
STOP = 0.03
"""How often nobody comes any more, among one pod."""
PRICE = 0.2
"""Of an accelerator, for taking one that is as sought as there is."""
_ROWS_PER_ACCELERATOR = 20
_MOST_ROWS = 320
_COLUMNS = 128
_MICRO = 1_000_000
_FLOAT_RANGE = 600.0
"""exp(-x) is more than nothing up to here, with room to spare."""
_IMPOSSIBLE = np.iinfo(np.int64).max


class Waste:
    """The rule for a fleet: ``nodes[i]`` nodes of ``hardware[i]``, and a popularity of shapes.

    ``NodeView.kind`` indexes ``hardware``. Tables are built once and take at most 330 kB for each type of hardware.
    """

    def __init__(self, hardware: Sequence[HardwareType], nodes: Sequence[int], demand: Demand) -> None:
        wanted = [(shape, times) for shape, times in demand.shapes if shape.accelerators and times > 0]
        total = sum(times for _, times in wanted)
        popular = [(shape, times / total) for shape, times in wanted]
        filled: dict[tuple[int, int, int, tuple[tuple[Shape, float], ...]], tuple[I64, I64]] = {}
        tables: list[I64] = []
        shared: list[I64] = []
        hosts = [_host(each, popular) for each in hardware]
        for each, host in zip(hardware, hosts, strict=True):
            fits = tuple((shape, often) for shape, often in popular if _fits(each, shape))
            key = (each.accelerators, host.capacity, int(host.is_memory), fits)
            if key not in filled:
                filled[key] = (_node_table(each.accelerators, host, fits), _share_table(fits))
            tables.append(filled[key][0])
            shared.append(filled[key][1])
        rows = [len(table) for table in tables]
        self._table = np.concatenate([*tables, np.zeros((0, _COLUMNS + 1), np.int64)])
        self._first_row = np.cumsum([0, *rows], dtype=np.int64)[: len(rows)]
        self._rows = np.array(rows, np.int64) - 1
        self._milli = np.array([max(1, each.accelerators) * WHOLE_MILLI for each in hardware], np.int64)
        self._host = np.array([host.capacity for host in hosts], np.int64)
        self._by_memory = np.array([host.is_memory for host in hosts], bool)
        self._shared = np.concatenate([*shared, np.zeros(0, np.int64)])
        self._price = _prices(hardware, nodes, popular)

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        """What taking ``shape`` adds to each row's expected loss, in millionths of an accelerator; less is better.

        It must fit on every row. The second array is, for a fraction, the accelerator to take it from, else -1.
        """
        kind, left_milli = view.kind, view.left_milli
        by_memory = self._by_memory[kind]
        host = np.where(by_memory, view.memory_mb, view.cpu_milli)
        need = np.where(by_memory, shape.memory_mb, shape.cpu_milli)
        total = left_milli.sum(axis=1)
        cost = self._loss(kind, total - shape.milli, host - need) - self._loss(kind, total, host)
        cost += self._price[kind] * shape.milli
        if not shape.is_fraction:
            return cost, np.full(len(kind), -1)
        base = kind[:, None] * (WHOLE_MILLI + 1)
        after = np.maximum(left_milli - shape.share_milli, 0)
        growth = self._shared[base + after] - self._shared[base + left_milli]
        growth[left_milli < shape.share_milli] = _IMPOSSIBLE
        accelerator = growth.argmin(axis=1)
        cost += growth[np.arange(len(kind)), accelerator]
        return cost, accelerator

    def _loss(self, kind: I64, milli: I64, host: I64) -> I64:
        row = milli * self._rows[kind] // self._milli[kind]
        column = host * _COLUMNS // self._host[kind]
        loss: I64 = self._table[self._first_row[kind] + row, column]
        return loss


@dataclass(frozen=True, slots=True)
class _Host:
    """What is scarcer beside the accelerators of a type of hardware, processors or memory, and how much it has."""

    is_memory: bool
    capacity: int

    def need(self, shape: Shape) -> int:
        return shape.memory_mb if self.is_memory else shape.cpu_milli


def _fits(hardware: HardwareType, shape: Shape) -> bool:
    """Whether an empty node takes it."""
    return (
        shape.accelerators <= hardware.accelerators
        and shape.cpu_milli <= hardware.cpu_milli
        and shape.memory_mb <= hardware.memory_mb
        and shape.accepts(hardware.accelerator)
    )


def _host(hardware: HardwareType, popular: Sequence[tuple[Shape, float]]) -> _Host:
    fits = [(shape, often) for shape, often in popular if _fits(hardware, shape)]
    cpu = sum(often * shape.cpu_milli for shape, often in fits) / max(1, hardware.cpu_milli)
    memory = sum(often * shape.memory_mb for shape, often in fits) / max(1, hardware.memory_mb)
    if memory > cpu:
        return _Host(is_memory=True, capacity=max(1, hardware.memory_mb))
    return _Host(is_memory=False, capacity=max(1, hardware.cpu_milli))


def _node_table(accelerators: int, host: _Host, fits: Sequence[tuple[Shape, float]]) -> I64:
    """f, in millionths of an accelerator: [rows of what is left of the accelerators, columns of the host's].

    Requests are rounded up to buckets. The recursion is on ``exp(-B f)``, for which M is the plain mean.
    """
    rows = min(accelerators * _ROWS_PER_ACCELERATOR, _MOST_ROWS)
    merged: dict[tuple[int, int], float] = {}
    for shape, often in fits:
        row = ceil_div(shape.milli * rows, max(1, accelerators) * WHOLE_MILLI)
        column = max(1, ceil_div(host.need(shape) * _COLUMNS, host.capacity))
        merged[row, column] = merged.get((row, column), 0.0) + often
    take = np.array([row for row, _ in merged], np.int64)[:, None]
    columns = np.array([column for _, column in merged], np.int64)
    weights = np.array(list(merged.values()), np.float64)[:, None]
    bright = min(BRIGHT, _FLOAT_RANGE / max(1, accelerators))
    left = np.arange(rows + 1)
    nothing = np.exp(-bright * accelerators / max(1, rows) * left)
    value = np.empty((_COLUMNS + 1, rows + 1))
    for column in range(_COLUMNS + 1):
        fit = np.flatnonzero(columns <= column)
        weight = np.where(take[fit] <= left, weights[fit], 0.0)
        after = value[(column - columns[fit])[:, None], np.maximum(left - take[fit], 0)]
        # Sums over the first axis go row by row, in one order on every processor.
        mean = ((weight * after).sum(axis=0) + STOP * nothing) / (weight.sum(axis=0) + STOP)
        value[column] = np.where((weight > 0).any(axis=0), mean, nothing)
    return _micro(value.T, bright)


def _share_table(fits: Sequence[tuple[Shape, float]]) -> I64:
    """g, in millionths of an accelerator, by the thousandths that one has left; none is lost of a whole or an empty one."""
    merged: dict[int, float] = {}
    for shape, often in fits:
        if shape.is_fraction:
            merged[shape.share_milli] = merged.get(shape.share_milli, 0.0) + often
    value = np.exp(-BRIGHT / WHOLE_MILLI * np.arange(WHOLE_MILLI + 1))
    shares = sorted(merged.items())
    for left in range(1, WHOLE_MILLI):
        fit = [(share, often) for share, often in shares if share <= left]
        if fit:
            worth = sum(often * float(value[left - share]) for share, often in fit)
            value[left] = (worth + STOP * float(value[left])) / (sum(often for _, often in fit) + STOP)
    value[WHOLE_MILLI] = 1.0
    return _micro(value, BRIGHT)


def _micro(value: F64, bright: float) -> I64:
    """Losses out of ``exp(-bright * loss)``: the one place where floats become integers."""
    return np.ascontiguousarray(np.rint(np.log(value) * (-_MICRO / bright)).astype(np.int64))


def _prices(
    hardware: Sequence[HardwareType], nodes: Sequence[int], popular: Sequence[tuple[Shape, float]]
) -> I64:
    """Millionths of an accelerator for each thousandth taken, by type of hardware."""
    capacity = [each.accelerators * count for each, count in zip(hardware, nodes, strict=True)]
    load = [0.0] * len(hardware)
    asked = sum(often * shape.milli for shape, often in popular)
    for shape, often in popular:
        takers = [number for number, each in enumerate(hardware) if _fits(each, shape)]
        room = sum(capacity[number] for number in takers)
        for number in takers if room else ():
            load[number] += often * shape.milli / asked * sum(capacity) / room
    return np.array([round(PRICE * each * _MICRO / WHOLE_MILLI) for each in load], np.int64)
