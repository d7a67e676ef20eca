"""Sets of alike nodes as bits of integers: what takes a step for each workload and not one for each node.

A pool is the nodes of one site with the same hardware, against the order of the fleet; bit ``i`` of each of its sets is its
``i``-th node. A set is one integer, so that the first of thousands of nodes, or all in a rack, are found in one operation,
in an order that depends on nothing but the snapshot. The first is the highest bit: how long a number is, it knows; for
the lowest bit all of it has to be read.

What is chosen here is what :func:`~headrace.core.scheduling.rank.choose` chooses, which works on arrays and is exact for
every ask: :data:`UNDECIDED` leaves an ask to it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import I64
from headrace.core.hardware import HardwareType
from headrace.core.scheduling.columns import Ask, Columns, Scratch
from headrace.core.scheduling.pool import (
    ROOM,
    Pool,
    each_bit,
    fill,
    leave_level,
    leave_rack,
    lowest,
    packed,
    packed_rest,
    pool_of,
    put,
    rest_of,
)
from headrace.core.scheduling.ready import Ready
from headrace.core.scheduling.rules import Costs
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import WHOLE_MILLI, RankPlace


class Undecided:
    """The type of :data:`UNDECIDED`."""


UNDECIDED: Final = Undecided()
_FEW = 8
"""Up to so many nodes are looked at one by one, however few there are."""
new: Final = tuple.__new__
"""Makes a named tuple without the detour over its own constructor: a hundred thousand are made in a plan."""


@dataclass(slots=True)
class Sieve:
    """Nodes of a pool on which an ask has not failed yet in this pass, as long as they sleep and once they are awake.

    Resources only shrink, so that who failed fails again; but a rank costs less power on a node that is awake.
    """

    pool: "Pool"
    asleep: int
    awake: int
    has_failed: bool = False

    def fails(self, nodes: int) -> None:
        """These have failed, asleep or awake."""
        self.asleep &= ~nodes
        self.awake &= ~nodes
        self.has_failed = True


class Quick(NamedTuple):
    """What each placement touches of the first pool that suits an ask at a site; of one pass only.

    ``is_alone``: no other pool does, and accelerators are asked for.
    """

    sieve: Sieve
    head: dict[int, int]
    pool: Pool
    most: int
    level: list[int]
    bits: list[int]
    rest: "memoryview[int]"
    touch: Callable[[int], None]
    is_alone: bool


class _Seen:
    """The nodes of a site as a snapshot had them, to tell which are otherwise now."""

    def __init__(self, snapshot: Snapshot, span: slice) -> None:
        self.span = span
        self.before = [column[span].tobytes() for column in _columns_of(snapshot)]

    def changed(self, snapshot: Snapshot) -> list[int]:
        """The nodes that are otherwise than when this was last asked."""
        span = self.span
        nodes = np.zeros(span.stop - span.start, dtype=np.bool_)
        for at, column in enumerate(_columns_of(snapshot)):
            here, before = column[span], self.before[at]
            now = here.tobytes()
            if now == before:
                continue
            self.before[at] = now
            if len(now) == len(before):
                differs = np.frombuffer(before, here.dtype).reshape(here.shape) != here
                nodes |= differs if differs.ndim == 1 else differs.any(axis=1)
            else:
                # The first fraction has come, or the last has gone.
                nodes[:] = True
        found: list[int] = (np.flatnonzero(nodes) + span.start).tolist()
        return found


def _columns_of(snapshot: Snapshot) -> tuple[npt.NDArray[np.generic], ...]:
    return (
        snapshot.node_open,
        snapshot.node_mask,
        snapshot.node_cpu_milli,
        snapshot.node_memory_mb,
        snapshot.node_ranks,
        snapshot.node_share_milli,
        snapshot.node_sharer,
    )


class SitePools:
    """The pools of a site: as a snapshot has them when a pass enters, then kept in step by :meth:`take` and :meth:`close`.

    ``history``: the nodes that were touched, in order, from ``entered`` on by this pass (windows first); ``turned``: those whose
    holders are others, or will leave at other times. ``costs``: what a rule found before some of it; ``ready``: when there would
    be room.
    """

    def __init__(self, columns: Columns, snapshot: Snapshot, site: int) -> None:
        self.columns = columns
        self.stamp = -1
        self._history: list[int] = []
        self.entered = self._begun = 0
        self.turned: list[int] = []
        self.costs: dict[Ask, Costs] = {}
        self.ready: dict[Ask, Ready] = {}
        span = columns.spans[site]
        kinds = columns.fleet.node_hardware[span]
        self.head: dict[int, int] = {}
        """What the watched elements can still carry: those that could ever become too little."""
        self.where: dict[int, tuple[Pool, int]] = {}
        self.pools: list[Pool] = []
        for kind in np.unique(kinds).tolist():
            nodes = np.flatnonzero(kinds == kind) + span.start
            pool = pool_of(columns, snapshot, nodes, columns.fleet.hardware[kind])
            self.pools.append(pool)
            self.where.update((node, (pool, at)) for at, node in enumerate(pool.nodes))
        self.tight = np.array(_tight(columns, snapshot, site), dtype=np.int64)
        """Elements that could ever become too little."""
        self._watch(self.tight.tolist())
        self._seen = _Seen(snapshot, span)

    def enter(self, snapshot: Snapshot, stamp: int) -> None:
        """A pass begins: what changed since the last one is as the snapshot has it."""
        if self.stamp == stamp:
            return
        self.stamp = stamp
        history = self.history
        changed = self._seen.changed(snapshot) + history[self.entered :]
        if len(history) + len(self.turned) > len(self.where):
            history.clear()
            self.turned.clear()
            self.costs.clear()
            self.ready.clear()
        history.extend(changed)
        self.entered = self._begun = len(history)
        if len(changed) > max(_FEW, len(self.where) // 16):
            for pool in self.pools:
                fill(pool, self.columns, snapshot)
        else:
            self._refresh(snapshot, list(dict.fromkeys(changed)))
        limit_w, power_w = snapshot.power_limit_w, snapshot.power_w
        for element in self.head:
            self.head[element] = int(limit_w[element]) - int(power_w[element])

    def _refresh(self, snapshot: Snapshot, changed: list[int]) -> None:
        nodes = np.array(changed, dtype=np.int64)
        columns = (
            snapshot.node_open[nodes],
            self.columns.full[nodes] & ~snapshot.node_mask[nodes],
            rest_of(self.columns, snapshot, nodes),
            snapshot.node_ranks[nodes] == 0,
        )
        where = self.where
        rows = zip(changed, *(column.tolist() for column in columns), strict=True)
        for node, opened, bits, rest, asleep in rows:
            pool, at = where[node]
            # Most of what the last pass took is there now: it was adopted as it was proposed.
            if (
                pool.bits[at] != bits
                or pool.rest[at] != rest
                or bool(pool.opened >> at & 1) != opened
                or bool(pool.asleep >> at & 1) != asleep
            ):
                put(pool, at, opened, bits, rest, asleep)

    @property
    def history(self) -> list[int]:
        """The nodes that were touched."""
        for pool in self.pools:
            if pool.touched:
                self._history.extend(pool.columns[0][pool.touched].tolist())
                pool.touched.clear()
        return self._history

    @property
    def has_changed(self) -> bool:
        """Whether something was taken or closed in this pass, but for what windows hold."""
        return len(self._history) > self._begun or any(pool.touched for pool in self.pools)

    def begin(self) -> None:
        """What windows hold is closed."""
        self._begun = len(self._history)

    def _watch(self, elements: Iterable[int]) -> None:
        """From now on these may become too little."""
        self.head.update(dict.fromkeys(elements, 0))
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
            paths = pool.rack_path
            pool.over_all = tuple([element for element in paths[0] if all(element in path for path in paths)])

    def limit(self, elements: Sequence[int], head_w: I64) -> None:
        """Elements have less left than before: what ``head_w`` says."""
        if any(element not in self.head for element in elements):
            self._watch(elements)
            self.head.update((element, int(head_w[element])) for element in self.head)
        else:
            self.head.update((element, int(head_w[element])) for element in elements)

    def quick(self, ask: Ask, sieves: list[Sieve]) -> Quick:
        """For one that places by itself where that is a matter of few steps."""
        pool, is_alone = sieves[0].pool, len(sieves) == 1 and ask.accelerators > 0
        parts = pool.level, pool.bits, pool.rest, pool.touched.append
        return Quick(sieves[0], self.head, pool, pool.most, *parts, is_alone)

    # -- choosing -------------------------------------------------------------------------------------------------

    def sieves(self, ask: Ask) -> list[Sieve]:
        """Those pools that could take a rank of an ask, and nobody in them has failed yet."""
        found = []
        for pool in self.pools:
            if _suits(pool.hardware, ask) and (ask.model or self.columns.of_site[pool.nodes[0]]):
                everybody = (1 << len(pool.nodes)) - 1
                found.append(Sieve(pool, everybody, everybody))
        return found

    def choose(self, ask: Ask, sieves: list[Sieve]) -> list[int] | Undecided | None:
        """The nodes that an ask should get, None if no choice would do. ``sieves``: of this ask at this site, in this pass."""
        if ask.share_milli != WHOLE_MILLI:
            return UNDECIDED
        if ask.nodes == 1:
            return self._choose_one(ask, sieves)
        if len(sieves) != 1 or ask.topology is not None:
            return UNDECIDED if sieves else None
        return _choose_gang(self, sieves[0].pool, ask)

    def _choose_one(self, ask: Ask, sieves: list[Sieve]) -> list[int] | None:
        found = self.first_of(ask, sieves)
        return None if found is None else [found[0].nodes[found[1]]]

    def first_of(self, ask: Ask, sieves: list[Sieve]) -> tuple[Pool, int] | None:
        """The pool, and the place in it, of the node with the fewest free accelerators, and of these the first."""
        if len(sieves) == 1:
            at = _first(sieves[0], ask, self.head)
            return None if at < 0 else (sieves[0].pool, at)
        found = [(sieve.pool, at) for sieve in sieves if (at := _first(sieve, ask, self.head)) >= 0]
        return min(found, key=_free_and_node, default=None)

    # -- changing -------------------------------------------------------------------------------------------------

    def take(self, ask: Ask, nodes: Sequence[int]) -> tuple[RankPlace, ...]:
        """Take a rank from each of ``nodes``: the lowest free accelerators of each."""
        ranks, rows = [], [self.where[node] for node in nodes]
        whole = self._take_whole(ask, rows)
        for pool, at in rows:
            count, cpu_milli, memory_mb = ask.on(pool.hardware)
            mask = whole or self.take_at(pool, at, count, packed(cpu_milli, memory_mb))
            ranks.append(new(RankPlace, (pool.names[at], mask, cpu_milli, memory_mb, WHOLE_MILLI)))
        return tuple(ranks)

    def _take_whole(self, ask: Ask, rows: list[tuple[Pool, int]]) -> int:
        """What :meth:`take_at` does, for all of a gang at once and racks instead of nodes; the accelerators of each.

        0, and nothing done, unless they are of one pool, all asleep, and give all that they have.
        """
        pool, _ = rows[0]
        count, cpu_milli, memory_mb = ask.on(pool.hardware)
        if len(rows) == 1 or not count or count != pool.most:
            return 0
        chosen, racks, need = 0, dict[int, int](), packed(cpu_milli, memory_mb)
        for other, at in rows:
            if other is not pool:
                return 0
            chosen |= 1 << at
            rack = pool.rack_of[at]
            racks[rack] = racks.get(rack, 0) + 1
        if pool.level[count] & pool.asleep & chosen != chosen:
            return 0
        bits, rest = pool.bits, pool.rest
        mask = bits[rows[0][1]]
        for _, at in rows:
            pool.touched.append(at)
            bits[at] = 0
            rest[at] -= need
        pool.asleep ^= chosen
        pool.level[count] ^= chosen
        pool.level[0] |= chosen
        added = count * pool.step_w + pool.wake_w
        for rack, number in racks.items():
            leave_rack(pool, rack, number)
            if self.head:
                for element in pool.rack_path[rack]:
                    self.head[element] -= number * added
        return mask

    def take_at(self, pool: Pool, at: int, count: int, need: int) -> int:
        """Take ``count`` accelerators and ``need``, which is :func:`packed`, from the node at a place in a pool; which ones."""
        pool.touched.append(at)
        bit, bits, level = 1 << at, pool.bits[at], pool.level
        free = bits.bit_count()
        # Who sleeps has given nothing.
        sleeps = free == pool.most and pool.asleep & bit
        if sleeps:
            pool.asleep ^= bit
            if not count:
                pool.mixed |= bit
        head = self.head
        if head:
            added = count * pool.step_w + (pool.wake_w if sleeps else 0)
            for element in pool.rack_path[pool.rack_of[at]]:
                head[element] -= added
        mask = 0
        if count:
            if count == free:
                mask = bits
            elif count == 1:
                mask = bits & -bits
            else:
                mask = lowest(bits, count)
            pool.bits[at] = bits ^ mask
            if free == pool.most:
                leave_level(pool, at, bit, free, pool.rack_of[at])
            else:
                level[free] ^= bit
            level[free - count] |= bit
        pool.rest[at] -= need
        return mask

    def refresh(self, nodes: Sequence[int], state: Scratch, head_w: I64) -> None:
        """Something was taken from ``nodes`` otherwise: they are as ``state`` has them, what stands over them as ``head_w``."""
        self.history.extend(nodes)
        for node in nodes:
            pool, at = self.where[node]
            put(
                pool,
                at,
                bool(state.open[node]),
                int(state.bits[node]),
                int(packed_rest(state.cpu_milli[node], state.memory_mb[node])),
                not state.ranks[node],
            )
            for element in pool.rack_path[pool.rack_of[at]]:
                self.head[element] = int(head_w[element])

    def close(self, nodes: Sequence[int]) -> None:
        """Nothing starts on these any more in this pass."""
        self.history.extend(nodes)
        for node in nodes:
            pool, at = self.where[node]
            bit, free = 1 << at, pool.bits[at].bit_count()
            pool.opened &= ~bit
            if pool.level[free] & bit:
                leave_level(pool, at, bit, free, pool.rack_of[at])


def _suits(hardware: HardwareType, ask: Ask) -> bool:
    return (
        (not ask.model or ask.model == hardware.accelerator)
        and ask.accelerators <= hardware.accelerators
        and ask.cpu_milli <= hardware.cpu_milli
        and ask.memory_mb <= hardware.memory_mb
        and ask.accelerator_memory_mb <= hardware.accelerator_memory_mb
    )


def _free_and_node(found: tuple[Pool, int]) -> tuple[int, int]:
    pool, at = found
    return pool.bits[at].bit_count(), pool.nodes[at]


def _first(sieve: Sieve, ask: Ask, head: dict[int, int]) -> int:
    """The place of the first node in order that takes a rank, -1 if there is none; who fails is sieved out."""
    pool, count, whole, need = sieve.pool, ask.accelerators, ask.whole, packed(ask.cpu_milli, ask.memory_mb)
    level, most = pool.level, pool.most
    free = most if whole else count
    while free <= most:
        left = level[free]
        if left and (whole or sieve.has_failed):
            asleep = pool.asleep
            left &= asleep & sieve.asleep if whole else asleep & sieve.asleep | sieve.awake & ~asleep
        if not left:
            free += 1
            continue
        at = left.bit_length() - 1
        if pool.rest[at] - need & ROOM == ROOM:
            if not head or carries(sieve, ask, at, head):
                return at
        else:
            sieve.fails(1 << at)
    return -1


def carries(sieve: Sieve, ask: Ask, at: int, head: dict[int, int]) -> bool:
    """Whether what is over a node carries a rank on it; if not, none below what doesn't is asked again."""
    pool = sieve.pool
    added = (pool.most if ask.whole else ask.accelerators) * pool.step_w
    sleeps = pool.asleep >> at & 1
    if sleeps:
        added += pool.wake_w
    for element in pool.rack_path[pool.rack_of[at]]:
        if head[element] < added:
            # All that sleep need the same there, and so do all that are awake.
            sieve.has_failed = True
            if sleeps:
                sieve.asleep &= ~pool.below(element)
            else:
                sieve.awake &= ~pool.below(element)
            return False
    return True


def _choose_gang(site: SitePools, pool: Pool, ask: Ask) -> list[int] | Undecided | None:
    """Whole nodes in the fewest racks; anything else is undecided."""
    most = pool.most
    if not ask.whole and ask.accelerators != most:
        return UNDECIDED
    whole = pool.level[most]
    if whole.bit_count() < ask.nodes:
        return None
    if pool.mixed or not most:
        return UNDECIDED
    # All of them sleep, and need the same.
    each_w = most * pool.step_w + pool.wake_w
    if any(site.head[element] < ask.nodes * each_w for element in pool.over_all):
        return None
    picked: list[int] = []
    left = ask.nodes
    taken: dict[int, int] = {}
    for rack in _racks(pool, ask.nodes):
        count = min(left, pool.whole[rack])
        here = whole & pool.rack_bits[rack]
        for _ in range(count):
            at = here.bit_length() - 1
            picked.append(at)
            here ^= 1 << at
        for element in pool.rack_path[rack]:
            taken[element] = taken.get(element, 0) + count
        left -= count
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


def _tight(columns: Columns, snapshot: Snapshot, site: int) -> list[int]:
    """Elements that could not carry all of a site's nodes below them at nameplate: the others are never too little."""
    span = columns.spans[site]
    fleet = columns.fleet
    nameplate = np.array([hardware.nameplate_w for hardware in fleet.hardware], dtype=np.int64)
    most = nameplate[fleet.node_hardware[span]]
    need = np.zeros(len(snapshot.power_limit_w) + 1, dtype=np.int64)
    for row in columns.paths:
        np.add.at(need, row[span], most)
    for name, watts in snapshot.excess.items():
        # What nobody knows of is beyond any nameplate.
        need[fleet.path(fleet.power_index[name])] += watts
    tight: list[int] = np.flatnonzero(need[:-1] > snapshot.power_limit_w).tolist()
    return tight
