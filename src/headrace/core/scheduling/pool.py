"""A pool: the nodes of one site with the same hardware, against the order of the fleet; its sets of them are bits of integers.

Bit ``i`` is its ``i``-th node. The first is the highest bit: how long a number is, it knows; for the lowest bit all of it has
to be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import I64
from headrace.core.hardware import HardwareType
from headrace.core.ids import NodeId
from headrace.core.scheduling.columns import Columns, lowest_bits
from headrace.core.scheduling.snapshot import Snapshot

FIELD: Final[int] = 1 << 30
"""Processors and memory are less than this, in thousandths and megabytes: no document may say more."""
ROOM: Final[int] = FIELD << 31 | FIELD
"""What :func:`packed` has set where nothing is less than none."""

_FEW: Final = 24
"""Up to so many nodes, one by one costs less than two dozen calls on arrays."""
_TABLED: Final = 256
_LOWEST: Final = [
    [lowest_bits(bits, min(count, bits.bit_count())) for bits in range(_TABLED)] for count in range(9)
]
"""By ``count`` and ``bits``: the lowest of those that are set; for a node of eight accelerators they need not be looked for."""


def packed(cpu_milli: int, memory_mb: int) -> int:
    """Processors and memory as one number: what a rank takes of :attr:`Pool.rest`, which has :data:`ROOM` in it besides."""
    return cpu_milli << 31 | memory_mb


def lowest(bits: int, count: int) -> int:
    """The ``count`` lowest bits of those that are set in ``bits``: at least so many."""
    return _LOWEST[count][bits] if bits < _TABLED else lowest_bits(bits, count)


def bits_of(mask: npt.NDArray[np.bool_]) -> int:
    """A mask as an integer: bit ``i`` is ``mask[i]``."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


def each_bit(bits: int) -> Iterator[int]:
    """The positions of the bits that are set, lowest first."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _nothing() -> "memoryview[int]":
    return np.zeros(0, dtype=np.int64).data


@dataclass(slots=True)
class Pool:
    """Alike nodes of a site. Nodes that are not open are in none of ``level``, ``racks_with`` and ``mixed``.

    - ``level[f]``: nodes with ``f`` free accelerators; ``asleep``: nodes with no rank.
    - ``mixed``: nodes with all accelerators free that have ranks.
    - ``rack_of[i]``, ``rack_bits[r]``: racks and their nodes; ``whole[r]``: nodes of a rack with all accelerators free;
      ``racks_with[n]``: racks (as bits) with ``n`` such nodes.
    - ``columns``: ``nodes`` and ``rack_of`` as arrays; ``opened``: those that are open; ``bits``: the free accelerators of each.
    - ``rest[i]``: processors and memory that are left, as :func:`packed` has them, and :data:`ROOM`. One look and one step for
      both, in a few bytes that stay in a processor's cache. Once too much was taken of one, its bit of ``ROOM`` is no longer set.
    - ``touched``: places of which something was taken, in order, and that the site's ``history`` does not have yet.
    - ``most``: accelerators of a node; ``rack_path[r]``: elements over a rack that could become too little in this pass, and
      ``over_all`` those of them that are over every rack.
    """

    hardware: HardwareType
    nodes: list[int]
    names: list[NodeId]
    step_w: int
    wake_w: int
    rack_of: list[int]
    rack_bits: list[int]
    columns: tuple[I64, I64]
    most: int
    rack_path: list[tuple[int, ...]] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    opened: int = 0
    asleep: int = 0
    mixed: int = 0
    bits: list[int] = field(default_factory=list)
    rest: "memoryview[int]" = field(default_factory=_nothing)
    touched: list[int] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    racks_with: list[int] = field(default_factory=list)
    over_all: tuple[int, ...] = ()
    under: dict[int, int] = field(default_factory=dict)

    def below(self, element: int) -> int:
        """Nodes below an element that stands in some ``rack_path``."""
        found = self.under.get(element)
        if found is None:
            found = 0
            for rack, path in enumerate(self.rack_path):
                if element in path:
                    found |= self.rack_bits[rack]
            self.under[element] = found
        return found


def put(pool: Pool, at: int, opened: bool, bits: int, rest: int, asleep: bool) -> None:
    """A node as it is, whatever it was."""
    bit, rack, free, before = 1 << at, pool.rack_of[at], bits.bit_count(), pool.bits[at].bit_count()
    if pool.level[before] & bit:
        leave_level(pool, at, bit, before, rack)
    pool.bits[at], pool.rest[at] = bits, rest
    if bool(pool.opened & bit) != opened:
        pool.opened ^= bit
    if bool(pool.asleep & bit) != asleep:
        pool.asleep ^= bit
    if not opened:
        return
    pool.level[free] |= bit
    if free == pool.most:
        if not asleep:
            pool.mixed |= bit
        count = pool.whole[rack]
        pool.whole[rack] = count + 1
        pool.racks_with[count] ^= 1 << rack
        pool.racks_with[count + 1] |= 1 << rack


def leave_level(pool: Pool, at: int, bit: int, free: int, rack: int) -> None:
    """A node has no longer ``free`` accelerators free."""
    pool.level[free] ^= bit
    if free == pool.most:
        if pool.mixed:
            pool.mixed &= ~bit
        leave_rack(pool, rack, 1)


def leave_rack(pool: Pool, rack: int, number: int) -> None:
    """So many nodes of a rack have no longer all their accelerators free."""
    count = pool.whole[rack]
    pool.whole[rack] = count - number
    pool.racks_with[count] ^= 1 << rack
    pool.racks_with[count - number] |= 1 << rack


def pool_of(columns: Columns, snapshot: Snapshot, in_order: I64, hardware: HardwareType) -> Pool:
    """The pool of some nodes as a snapshot has them."""
    nodes = in_order[::-1]
    leaves, rack_of = np.unique(columns.fleet.node_leaf[nodes], return_inverse=True)
    names = columns.fleet.node_ids
    racks = rack_of.tolist()
    rack_bits = [0] * len(leaves)
    for at, rack in enumerate(racks):
        rack_bits[rack] |= 1 << at
    pool = Pool(
        hardware=hardware,
        nodes=nodes.tolist(),
        names=[names[node] for node in nodes.tolist()],
        step_w=int(columns.step_w[nodes[0]]),
        wake_w=int(columns.wake_w[nodes[0]]),
        rack_of=racks,
        rack_bits=rack_bits,
        columns=(nodes, rack_of),
        most=hardware.accelerators,
    )
    fill(pool, columns, snapshot)
    return pool


def fill(pool: Pool, columns: Columns, snapshot: Snapshot) -> None:
    """All nodes of a pool as a snapshot has them."""
    (nodes, racks), most = pool.columns, pool.most
    if len(nodes) <= _FEW:
        _fill_few(pool, columns, snapshot)
        return
    opened, sleeps = snapshot.node_open[nodes], snapshot.node_ranks[nodes] == 0
    bits = columns.full[nodes] & ~snapshot.node_mask[nodes]
    free = np.bitwise_count(bits)
    is_whole = opened & (free == most)
    whole = np.bincount(racks[is_whole], minlength=len(pool.rack_bits))
    largest = int(np.bincount(racks).max())
    pool.level = [bits_of(opened & (free == count)) for count in range(most + 1)]
    pool.opened, pool.bits, pool.rest = bits_of(opened), bits.tolist(), rest_of(columns, snapshot, nodes).data
    pool.asleep, pool.mixed = bits_of(sleeps), bits_of(is_whole & ~sleeps)
    pool.whole = whole.tolist()
    pool.racks_with = [bits_of(whole == count) for count in range(largest + 1)]


def _fill_few(pool: Pool, columns: Columns, snapshot: Snapshot) -> None:
    """The same one by one, from a pool of which none is open."""
    nodes, count = pool.columns[0], len(pool.rack_bits)
    pool.level, pool.opened, pool.asleep, pool.mixed = [0] * (pool.most + 1), 0, 0, 0
    pool.bits, pool.rest = [0] * len(nodes), rest_of(columns, snapshot, nodes).data
    pool.whole = [0] * count
    pool.racks_with = [0] * (1 + max(bits.bit_count() for bits in pool.rack_bits))
    pool.racks_with[0] = (1 << count) - 1
    bits = columns.full[nodes] & ~snapshot.node_mask[nodes]
    opened, sleeps = snapshot.node_open[nodes], snapshot.node_ranks[nodes] == 0
    rows = zip(opened.tolist(), bits.tolist(), sleeps.tolist(), strict=True)
    for at, (is_open, free, asleep) in enumerate(rows):
        put(pool, at, is_open, free, pool.rest[at], asleep)


def rest_of(columns: Columns, snapshot: Snapshot, nodes: I64) -> I64:
    """:attr:`Pool.rest` of nodes as a snapshot has them."""
    cpu_milli = columns.cpu_milli[nodes] - snapshot.node_cpu_milli[nodes]
    return packed_rest(cpu_milli, columns.memory_mb[nodes] - snapshot.node_memory_mb[nodes])


def packed_rest(cpu_milli: I64, memory_mb: I64) -> I64:
    """:attr:`Pool.rest` of nodes with so much left."""
    # However much less than nothing is left, since a node is said to have less than it had: it is not enough for anybody.
    rest: I64 = (np.maximum(cpu_milli, -1) + FIELD << 31) + (np.maximum(memory_mb, -1) + FIELD)
    return rest
