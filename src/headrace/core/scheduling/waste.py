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

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

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
_MOST_TABLES = 32
"""Tables that are remembered, whoever asks: a restart, and a second planner beside the first, ask for the same ones."""
_MICRO = 1_000_000
_FLOAT_RANGE = 600.0
"""exp(-x) is more than nothing up to here, with room to spare."""
_IMPOSSIBLE = np.iinfo(np.int64).max


class Waste:
    """The rule for a fleet: ``nodes[i]`` nodes of ``hardware[i]``, and a popularity of shapes.

    ``NodeView.kind`` indexes ``hardware``. Tables take at most 340 kB for each type of hardware.
    """

    def __init__(self, hardware: Sequence[HardwareType], nodes: Sequence[int], demand: Demand) -> None:
        wanted = [(shape, times) for shape, times in demand.shapes if shape.accelerators and times > 0]
        total = sum(times for _, times in wanted)
        popular = [(shape, times / total) for shape, times in wanted]
        self._fits = [
            tuple((shape, often) for shape, often in popular if _fits(each, shape)) for each in hardware
        ]
        self._hosts = [_host(each, fits) for each, fits in zip(hardware, self._fits, strict=True)]
        self._accelerators = [each.accelerators for each in hardware]
        rows = [_rows(each.accelerators) + 1 for each in hardware]
        self._first_row = np.cumsum([0, *rows], dtype=np.int64)[: len(rows)]
        self._rows = np.array(rows, np.int64) - 1
        self._table = np.zeros((sum(rows), _COLUMNS + 1), np.int64)
        self._shared = np.zeros((len(rows), WHOLE_MILLI + 1), np.int64)
        self._is_made, self._is_shared = np.zeros((2, len(rows)), bool)
        self._milli = np.array([max(1, each.accelerators) * WHOLE_MILLI for each in hardware], np.int64)
        self._host = np.array([host.capacity for host in self._hosts], np.int64)
        self._by_memory = np.array([host.is_memory for host in self._hosts], bool)
        self._some_by_memory = bool(self._by_memory.any())
        self._price = _prices(hardware, nodes, popular)

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        """What taking ``shape`` adds to each row's expected loss, in millionths of an accelerator; less is better.

        It must fit on every row. The second array is, for a fraction, the accelerator to take it from, else -1.
        """
        kind, left_milli = view.kind, view.left_milli
        for each in _missing(self._is_made, kind):
            self._make(each)
        host, need = view.cpu_milli, np.array(shape.cpu_milli)
        if self._some_by_memory:
            by_memory = self._by_memory[kind]
            host = np.where(by_memory, view.memory_mb, host)
            need = np.where(by_memory, shape.memory_mb, need)
        total = left_milli.sum(axis=1)
        cost = self._loss(kind, total - shape.milli, host - need) - self._loss(kind, total, host)
        cost += self._price[kind] * shape.milli
        if not shape.is_fraction:
            return cost, np.full(len(kind), -1)
        for each in _missing(self._is_shared, kind):
            self._shared[each] = _share_table(self._fits[each])
            self._is_shared[each] = True
        row = kind[:, None]
        after = np.maximum(left_milli - shape.share_milli, 0)
        growth = self._shared[row, after] - self._shared[row, left_milli]
        growth[left_milli < shape.share_milli] = _IMPOSSIBLE
        accelerator = growth.argmin(axis=1)
        cost += growth[np.arange(len(kind)), accelerator]
        return cost, accelerator

    def _make(self, kind: int) -> None:
        """The table of a type of hardware, when it is first asked about: many a rule is never asked about most."""
        accelerators, host, fits = self._accelerators[kind], self._hosts[kind], self._fits[kind]
        first = self._first_row[kind]
        self._table[first : first + self._rows[kind] + 1] = _node_table(accelerators, host, fits)
        self._is_made[kind] = True

    def _loss(self, kind: I64, milli: I64, host: I64) -> I64:
        row = milli * self._rows[kind] // self._milli[kind]
        column = host * _COLUMNS // self._host[kind]
        loss: I64 = self._table[self._first_row[kind] + row, column]
        return loss


def _missing(is_made: npt.NDArray[np.bool_], kinds: I64) -> list[int]:
    """Those of some types of hardware of which there is no table yet."""
    made = is_made[kinds]
    return [] if made.all() else np.unique(kinds[~made]).tolist()


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


def _host(hardware: HardwareType, fits: Sequence[tuple[Shape, float]]) -> _Host:
    cpu = sum(often * shape.cpu_milli for shape, often in fits) / max(1, hardware.cpu_milli)
    memory = sum(often * shape.memory_mb for shape, often in fits) / max(1, hardware.memory_mb)
    if memory > cpu:
        return _Host(is_memory=True, capacity=max(1, hardware.memory_mb))
    return _Host(is_memory=False, capacity=max(1, hardware.cpu_milli))


def _rows(accelerators: int) -> int:
    return min(accelerators * _ROWS_PER_ACCELERATOR, _MOST_ROWS)


@lru_cache(maxsize=_MOST_TABLES)
def _node_table(accelerators: int, host: _Host, fits: tuple[tuple[Shape, float], ...]) -> I64:
    """f, in millionths of an accelerator: [rows of what is left of the accelerators, columns of the host's].

    Requests are rounded up to buckets. The recursion is on ``exp(-B f)``, for which M is the plain mean.
    """
    rows = _rows(accelerators)
    merged: dict[tuple[int, int], float] = {}
    for shape, often in fits:
        row = ceil_div(shape.milli * rows, max(1, accelerators) * WHOLE_MILLI)
        column = max(1, ceil_div(host.need(shape) * _COLUMNS, host.capacity))
        merged[row, column] = merged.get((row, column), 0.0) + often
    bright = min(BRIGHT, _FLOAT_RANGE / max(1, accelerators))
    nothing = np.exp(-bright * accelerators / max(1, rows) * np.arange(rows + 1))
    return _micro(_means(np.repeat(nothing[:, None], _COLUMNS + 1, axis=1), merged), bright)


@lru_cache(maxsize=_MOST_TABLES)
def _share_table(fits: tuple[tuple[Shape, float], ...]) -> I64:
    """g, in millionths of an accelerator, by the thousandths that one has left; none is lost of a whole or an empty one."""
    merged: dict[tuple[int, int], float] = {}
    for shape, often in sorted(fits, key=lambda one: one[0].share_milli):
        if shape.is_fraction:
            merged[0, shape.share_milli] = merged.get((0, shape.share_milli), 0.0) + often
    nothing = np.exp(-BRIGHT / WHOLE_MILLI * np.arange(WHOLE_MILLI + 1))
    value: F64 = _means(nothing[None], merged)[0]
    value[WHOLE_MILLI] = 1.0
    return _micro(value, BRIGHT)


def _means(nothing: F64, takes: Mapping[tuple[int, int], float]) -> F64:
    """M by what is left, [row, column]: the mean over who fits, how often, with STOP for ``nothing``.

    ``takes``: (rows, columns) that somebody takes, and how often. One step goes as far as nobody looks into it, over
    rows or over columns, whichever are fewer steps. Sums are made in the order of ``takes``, as on every processor.
    """
    value = nothing.copy()
    if not takes:
        return value
    weight = np.zeros(value.shape)
    for (row, column), often in takes.items():
        weight[row:, column:] += often
    fits = weight > 0
    weight += STOP
    stops = STOP * nothing
    total = np.zeros(value.shape)
    for rows, cols in _steps(nothing.shape, takes):
        for (row, column), often in takes.items():
            row_from, col_from = max(rows.start, row), max(cols.start, column)
            if row_from < rows.stop and col_from < cols.stop:
                part = value[row_from - row : rows.stop - row, col_from - column : cols.stop - column]
                total[row_from : rows.stop, col_from : cols.stop] += often * part
        now = rows, cols
        value[now] = np.where(fits[now], (total[now] + stops[now]) / weight[now], value[now])
    return value


def _steps(shape: tuple[int, ...], takes: Collection[tuple[int, int]]) -> Iterator[tuple[slice, slice]]:
    """What can be filled at once: whoever fits there looks only at what was filled before."""
    all_rows, all_columns = slice(0, shape[0]), slice(0, shape[1])
    row, column = (min(take[axis] for take in takes) for axis in (0, 1))
    if column and (not row or shape[1] * row < shape[0] * column):
        for first in range(column, shape[1], column):
            columns = slice(first, min(first + column, shape[1]))
            yield all_rows, columns
    else:
        for first in range(row, shape[0], row):
            rows = slice(first, min(first + row, shape[0]))
            yield rows, all_columns


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
