"""Sets of alike nodes as bits of integers: what takes a step for each workload and not one for each node.

A pool is the nodes of one site with the same hardware, in the order of the fleet; bit ``i`` of each of its sets is its
``i``-th node. A set is one integer, so that the first of thousands of nodes, or all in a rack, are found in one operation,
in an order that depends on nothing but the snapshot.

What is chosen here is what :func:`~headrace.core.scheduling.rank.choose` chooses, which works on arrays and is exact for
every ask: :data:`UNDECIDED` leaves an ask to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import I64
from headrace.core.hardware import HardwareType
from headrace.core.ids import NodeId
from headrace.core.scheduling.rank import Ask, Columns, Scratch, lowest_bits
from headrace.core.workload import RankPlace


class Undecided:
    """The type of :data:`UNDECIDED`."""


UNDECIDED: Final = Undecided()


def bits_of(mask: npt.NDArray[np.bool_]) -> int:
    """A mask as an integer: bit ``i`` is ``mask[i]``."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


def each_bit(bits: int) -> Iterator[int]:
    """The positions of the bits that are set, lowest first."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


@dataclass(slots=True)
class Sieve:
    """Nodes of a pool on which an ask has not failed yet in this pass, as long as they sleep and once they are awake.

    Resources only shrink, so that who failed fails again; but a rank costs less power on a node that is awake.
    """

    asleep: int
    awake: int


@dataclass(slots=True)
class Pool:
    """Alike nodes of a site. Nodes that are not open are in none of ``level``, ``racks_with`` and ``mixed``.

    - ``level[f]``: nodes with ``f`` free accelerators; ``asleep``: nodes with no rank.
    - ``mixed``: nodes with all accelerators free that have ranks.
    - ``rack_of[i]``, ``rack_bits[r]``: racks and their nodes; ``whole[r]``: nodes of a rack with all accelerators free;
      ``racks_with[n]``: racks (as bits) with ``n`` such nodes.
    - ``rack_path[r]``: elements over a rack that could become too little in this pass.
    """

    hardware: HardwareType
    nodes: list[int]
    names: list[NodeId]
    step_w: int
    wake_w: int
    level: list[int]
    free: list[int]
    asleep: int
    mixed: int
    bits: list[int]
    cpu_milli: list[int]
    memory_mb: list[int]
    rack_of: list[int]
    rack_bits: list[int]
    rack_path: list[tuple[int, ...]]
    whole: list[int]
    racks_with: list[int]
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


class SitePools:
    """The pools of a site, made from a state of it and kept in step by :meth:`take` and :meth:`close`."""

    def __init__(self, columns: Columns, state: Scratch, site: int) -> None:
        self.columns = columns
        span = columns.spans[site]
        kinds = columns.fleet.node_hardware[span]
        self.head: dict[int, int] = {}
        """What the watched elements can still carry: those that could become too little."""
        self.where: dict[int, tuple[Pool, int]] = {}
        self.pools: list[Pool] = []
        tight = _tight(columns, state, site)
        for kind in np.unique(kinds).tolist():
            nodes = np.flatnonzero(kinds == kind) + span.start
            pool = _pool(columns, state, nodes, columns.fleet.hardware[kind])
            self.pools.append(pool)
            self.where.update((node, (pool, at)) for at, node in enumerate(pool.nodes))
        self._watch(tight, state)

    def _watch(self, elements: Iterable[int], state: Scratch) -> None:
        """From now on these may become too little."""
        self.head.update((element, int(state.head_w[element])) for element in elements)
        rows = self.columns.rows
        for pool in self.pools:
            pool.under.clear()
            pool.rack_path = [
                tuple(
                    element
                    for element in rows[pool.nodes[(bits & -bits).bit_length() - 1]][2]
                    if element in self.head
                )
                for bits in pool.rack_bits
            ]

    def limit(self, elements: Sequence[int], state: Scratch) -> None:
        """Elements have less left than before: what ``state`` says."""
        if any(element not in self.head for element in elements):
            self._watch(elements, state)
        else:
            self.head.update((element, int(state.head_w[element])) for element in elements)

    # -- choosing -------------------------------------------------------------------------------------------------

    def choose(self, ask: Ask, sieves: dict[int, Sieve]) -> list[int] | Undecided | None:
        """The nodes that an ask should get, None if no choice would do. ``sieves``: of this ask at this site, by pool."""
        suiting = [(number, pool) for number, pool in enumerate(self.pools) if _suits(pool.hardware, ask)]
        if ask.nodes == 1:
            return self._choose_one(ask, suiting, sieves)
        if len(suiting) != 1:
            return UNDECIDED if suiting else None
        return _choose_gang(self, suiting[0][1], ask)

    def _choose_one(
        self, ask: Ask, suiting: list[tuple[int, Pool]], sieves: dict[int, Sieve]
    ) -> list[int] | None:
        best: tuple[int, int] | None = None
        for number, pool in suiting:
            sieve = sieves.get(number)
            if sieve is None:
                everybody = (1 << len(pool.nodes)) - 1
                sieve = sieves[number] = Sieve(everybody, everybody)
            found = _first(pool, ask, sieve, self.head)
            if found is not None and (best is None or found < best):
                best = found
        return None if best is None else [best[1]]

    # -- changing -------------------------------------------------------------------------------------------------

    def take(self, ask: Ask, nodes: Sequence[int]) -> tuple[RankPlace, ...]:
        """Take a rank from each of ``nodes``: the lowest free accelerators of each."""
        where, head = self.where, self.head
        ranks = []
        for node in nodes:
            pool, at = where[node]
            bit = 1 << at
            free, bits = pool.free[at], pool.bits[at]
            if ask.whole:
                count, cpu_milli, memory_mb = free, pool.hardware.cpu_milli, pool.hardware.memory_mb
            else:
                count, cpu_milli, memory_mb = ask.accelerators, ask.cpu_milli, ask.memory_mb
            added = count * pool.step_w
            if pool.asleep & bit:
                pool.asleep ^= bit
                added += pool.wake_w
                if not count and free == pool.hardware.accelerators:
                    pool.mixed |= bit
            rack = pool.rack_of[at]
            for element in pool.rack_path[rack]:
                head[element] -= added
            mask = 0
            if count:
                mask = bits if count == free else lowest_bits(bits, count)
                pool.bits[at] = bits ^ mask
                _leave_level(pool, at, bit, free, rack)
                pool.free[at] = free - count
                pool.level[free - count] |= bit
            pool.cpu_milli[at] -= cpu_milli
            pool.memory_mb[at] -= memory_mb
            ranks.append(RankPlace(pool.names[at], mask, cpu_milli, memory_mb))
        return tuple(ranks)

    def close(self, nodes: Sequence[int]) -> None:
        """Nothing starts on these any more."""
        for node in nodes:
            pool, at = self.where[node]
            bit, free = 1 << at, pool.free[at]
            if pool.level[free] & bit:
                _leave_level(pool, at, bit, free, pool.rack_of[at])


def _leave_level(pool: Pool, at: int, bit: int, free: int, rack: int) -> None:
    pool.level[free] ^= bit
    if free == pool.hardware.accelerators:
        pool.mixed &= ~bit
        count = pool.whole[rack]
        pool.whole[rack] = count - 1
        pool.racks_with[count] ^= 1 << rack
        pool.racks_with[count - 1] |= 1 << rack


def _suits(hardware: HardwareType, ask: Ask) -> bool:
    return (
        (not ask.model or ask.model == hardware.accelerator)
        and ask.accelerators <= hardware.accelerators
        and ask.cpu_milli <= hardware.cpu_milli
        and ask.memory_mb <= hardware.memory_mb
    )


def _first(pool: Pool, ask: Ask, sieve: Sieve, head: dict[int, int]) -> tuple[int, int] | None:
    """(Free accelerators, node) of the first node in order that takes a rank; who fails is sieved out."""
    most = pool.hardware.accelerators
    levels = range(most if ask.whole else ask.accelerators, most + 1)
    awake_w = (most if ask.whole else ask.accelerators) * pool.step_w
    cpu_milli, memory_mb = pool.cpu_milli, pool.memory_mb
    for free in levels:
        level = pool.level[free]
        if not level:
            continue
        asleep = pool.asleep
        while True:
            left = level & (
                (asleep & sieve.asleep) if ask.whole else (asleep & sieve.asleep | sieve.awake & ~asleep)
            )
            if not left:
                break
            low = left & -left
            at = low.bit_length() - 1
            if cpu_milli[at] < ask.cpu_milli or memory_mb[at] < ask.memory_mb:
                sieve.asleep &= ~low
                sieve.awake &= ~low
                continue
            sleeps = asleep & low
            added = awake_w + pool.wake_w if sleeps else awake_w
            short = next((one for one in pool.rack_path[pool.rack_of[at]] if head[one] < added), None)
            if short is None:
                return free, pool.nodes[at]
            # All that sleep need the same there, and so do all that are awake.
            if sleeps:
                sieve.asleep &= ~pool.below(short)
            else:
                sieve.awake &= ~pool.below(short)
    return None


def _choose_gang(site: SitePools, pool: Pool, ask: Ask) -> list[int] | Undecided | None:
    """Whole nodes in the fewest racks; anything else is undecided."""
    most = pool.hardware.accelerators
    if not ask.whole and ask.accelerators != most:
        return UNDECIDED
    whole = pool.level[most]
    if whole.bit_count() < ask.nodes:
        return None
    if pool.mixed or not most:
        return UNDECIDED
    picked: list[int] = []
    left = ask.nodes
    taken: dict[int, int] = {}
    for rack in _racks(pool, ask.nodes):
        count = min(left, pool.whole[rack])
        here = whole & pool.rack_bits[rack]
        for _ in range(count):
            low = here & -here
            picked.append(low.bit_length() - 1)
            here ^= low
        for element in pool.rack_path[rack]:
            taken[element] = taken.get(element, 0) + count
        left -= count
    each_w = most * pool.step_w + pool.wake_w
    if any(site.head[element] < count * each_w for element, count in taken.items()):
        return UNDECIDED
    nodes = [pool.nodes[at] for at in picked]
    nodes.sort()
    return nodes


def _racks(pool: Pool, wanted: int) -> list[int]:
    """Racks for ``wanted`` whole nodes: the fullest first, and for what remains the smallest that takes all of it."""
    racks: list[int] = []
    top = len(pool.racks_with) - 1
    for size in range(top, 0, -1):
        some = pool.racks_with[size]
        while some and size < wanted:
            low = some & -some
            racks.append(low.bit_length() - 1)
            some ^= low
            wanted -= size
            if not wanted:
                return racks
        if some:
            break
    for size in range(wanted, top + 1):
        some = pool.racks_with[size]
        for rack in each_bit(some):
            if rack not in racks:
                racks.append(rack)
                return racks
    return racks


def _tight(columns: Columns, state: Scratch, site: int) -> set[int]:
    """Elements of a site that could not carry all that is there at once."""
    span = columns.spans[site]
    nodes = np.flatnonzero(state.open[span]) + span.start
    most = state.free[nodes] * columns.step_w[nodes]
    most += np.where(state.ranks[nodes] == 0, columns.wake_w[nodes], 0)
    need = np.zeros(len(state.head_w), dtype=np.int64)
    for row in columns.paths:
        np.add.at(need, row[nodes], most)
    return set(np.flatnonzero(need[:-1] > state.head_w[:-1]).tolist())


def _pool(columns: Columns, state: Scratch, nodes: I64, hardware: HardwareType) -> Pool:
    most = hardware.accelerators
    opened, free, ranks = state.open[nodes], state.free[nodes], state.ranks[nodes]
    leaves, rack_of = np.unique(columns.fleet.node_leaf[nodes], return_inverse=True)
    is_whole = opened & (free == most)
    whole = np.bincount(rack_of[is_whole], minlength=len(leaves))
    sizes = np.bincount(rack_of, minlength=len(leaves))
    names = columns.fleet.node_ids
    racks = rack_of.tolist()
    rack_bits = [0] * len(leaves)
    for at, rack in enumerate(racks):
        rack_bits[rack] |= 1 << at
    return Pool(
        hardware=hardware,
        nodes=nodes.tolist(),
        names=[names[node] for node in nodes.tolist()],
        step_w=int(columns.step_w[nodes[0]]),
        wake_w=int(columns.wake_w[nodes[0]]),
        level=[bits_of(opened & (free == count)) for count in range(most + 1)],
        free=free.tolist(),
        asleep=bits_of(ranks == 0),
        mixed=bits_of(is_whole & (ranks != 0)),
        bits=state.bits[nodes].tolist(),
        cpu_milli=state.cpu_milli[nodes].tolist(),
        memory_mb=state.memory_mb[nodes].tolist(),
        rack_of=racks,
        rack_bits=rack_bits,
        rack_path=[],
        whole=whole.tolist(),
        racks_with=[bits_of(whole == count) for count in range(int(sizes.max()) + 1)],
    )
