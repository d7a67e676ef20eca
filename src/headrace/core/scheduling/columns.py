"""Columns that placing works on: what never changes while a fleet lives, and what a pass over the queue may change.

The nodes of one site stand next to each other in a fleet, so a site is a slice of every column.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import I16, I32, I64, NEVER_DAY, Fleet
from headrace.core.hardware import HardwareType
from headrace.core.ids import ContractId, NodeId, WindowId
from headrace.core.scheduling.snapshot import U64, Snapshot, Taken
from headrace.core.workload import WHOLE_MILLI, RankPlace, Resources, Topology, WorkloadSpec, WorkloadType

Mask = npt.NDArray[np.bool_]

_NO_LIMIT_W = 1 << 60
_LOWEST = np.uint64(1)
_FEW = 24
"""Up to so many rows, cell by cell costs less than a dozen calls on arrays."""


class Ask(NamedTuple):
    """What placing needs to know of a spec. ``whole``: empty nodes with all that they have (a cluster).

    A fraction (``share_milli`` below 1000) goes to one accelerator, which only the tenant of number ``sharer`` has parts of.
    With a ``reservation`` only its nodes do.
    """

    nodes: int
    model: str
    accelerators: int
    cpu_milli: int
    memory_mb: int
    whole: bool
    share_milli: int = WHOLE_MILLI
    sharer: int = 0
    accelerator_memory_mb: int = 0
    topology: Topology | None = None
    reservation: WindowId | None = None

    @property
    def is_fraction(self) -> bool:
        """Whether it asks for a part of one accelerator."""
        return self.share_milli < WHOLE_MILLI

    def on(self, hardware: HardwareType) -> tuple[int, int, int]:
        """Accelerators, cpu_milli and memory_mb that a rank takes from a node of ``hardware``."""
        if self.whole:
            return hardware.accelerators, hardware.cpu_milli, hardware.memory_mb
        return self.accelerators, self.cpu_milli, self.memory_mb


def ask_of(spec: WorkloadSpec, need: Resources | None = None, sharer: int = 0) -> Ask:
    """What a workload asks for, with ``need`` of each node (None: its resources). ``sharer``: its tenant's number.

    Only a fraction's ask holds it: what is known of any other ask is the same for all tenants.
    """
    need = need or spec.resources
    fraction = need.share_milli < WHOLE_MILLI
    return Ask(
        spec.nodes,
        need.accelerator,
        need.accelerators,
        need.cpu_milli,
        need.memory_mb,
        spec.type is WorkloadType.CLUSTER,
        need.share_milli,
        sharer if fraction else 0,
        need.accelerator_memory_mb,
        spec.topology,
        spec.reservation,
    )


def accelerators_milli_of(columns: "Columns", ask: Ask, nodes: "I64 | Sequence[int]") -> int:
    """Thousandths of accelerators that a workload takes on ``nodes``."""
    if ask.whole:
        return int(columns.total[np.asarray(nodes)].sum()) * WHOLE_MILLI
    return ask.accelerators * ask.share_milli * len(nodes)


@dataclass(frozen=True, slots=True)
class Columns:
    """What never changes while a fleet lives: one row a node, in the order of the fleet.

    ``spans`` are the nodes of each site. A node draws ``step_w`` more for each accelerator taken, and
    ``wake_w`` more once anything runs on it: :meth:`HardwareType.node_watts` as two columns. ``paths[d, i]``
    is the d-th power element from node ``i`` upwards; shorter paths end in the index past the last element,
    which carries anything. ``rows[i]`` is the same for a look at one node: ``step_w``, ``wake_w`` and the elements; ``kinds[i]``
    is its type, and ``site[i]`` the number of its site.
    ``of_site``: nodes whose engine is their site's; others take only what asks for their accelerators by name.
    ``suiting`` remembers what :func:`suiting` found. ``capacity``: all that there is, at least 1 of each. ``places``: numbers of
    accelerators, for the node that has the most.
    """

    fleet: Fleet
    spans: tuple[slice, ...]
    models: dict[str, int]
    model: I64
    total: I64
    accelerator_memory_mb: I64
    full: U64
    cpu_milli: I64
    memory_mb: I64
    step_w: I64
    wake_w: I64
    paths: I32
    rows: tuple[tuple[int, int, tuple[int, ...]], ...]
    kinds: tuple[HardwareType, ...]
    site: tuple[int, ...]
    of_site: Mask
    suiting: "dict[Ask, dict[int, Mask]]"
    capacity: Taken
    places: U64

    @property
    def width(self) -> int:
        """Accelerators of the node that has the most."""
        return len(self.places)


def _compile(fleet: Fleet) -> Columns:
    models: dict[str, int] = {}
    for hardware in fleet.hardware:
        models.setdefault(hardware.accelerator, len(models))
    kinds = fleet.node_hardware.astype(np.int64)

    def column(value: Callable[[HardwareType], int]) -> I64:
        return np.array([value(hardware) for hardware in fleet.hardware] or [0], dtype=np.int64)[kinds]

    past = len(fleet.power_ids)
    parent = np.append(np.where(fleet.power_parent < 0, past, fleet.power_parent), past).astype(np.int32)
    rows = [fleet.node_leaf.astype(np.int32)]
    while (rows[-1] != past).any():
        rows.append(parent[rows[-1]])
    edges = np.searchsorted(fleet.node_site, np.arange(len(fleet.sites) + 1))
    full = np.array([hardware.accelerator_mask() for hardware in fleet.hardware] or [0], dtype=np.uint64)[
        kinds
    ]
    step_w = column(lambda hardware: hardware.accelerator_w - hardware.accelerator_idle_w)
    wake_w = column(lambda hardware: hardware.node_watts(0, True) - hardware.idle_w)
    paths = np.stack(rows)
    total = column(lambda hardware: hardware.accelerators)
    cpu_milli = column(lambda hardware: hardware.cpu_milli)
    memory_mb = column(lambda hardware: hardware.memory_mb)
    return Columns(
        fleet=fleet,
        spans=tuple(slice(a, b) for a, b in pairwise(edges.tolist())),
        models=models,
        model=column(lambda hardware: models[hardware.accelerator]),
        total=total,
        accelerator_memory_mb=column(lambda hardware: hardware.accelerator_memory_mb),
        full=full,
        cpu_milli=cpu_milli,
        memory_mb=memory_mb,
        step_w=step_w,
        wake_w=wake_w,
        paths=paths,
        rows=tuple(
            (step, wake, tuple(element for element in path if element != past))
            for step, wake, path in zip(step_w.tolist(), wake_w.tolist(), paths.T.tolist(), strict=True)
        ),
        kinds=tuple(fleet.hardware[kind] for kind in kinds.tolist()),
        site=tuple(fleet.node_site.tolist()),
        of_site=_of_site(fleet),
        suiting={},
        capacity=Taken(
            max(1, int(total.sum()) * WHOLE_MILLI), max(1, int(cpu_milli.sum())), max(1, int(memory_mb.sum()))
        ),
        places=np.arange(max((one.accelerators for one in fleet.hardware), default=0), dtype=np.uint64),
    )


def _of_site(fleet: Fleet) -> Mask:
    """Nodes whose engine is their site's."""
    mask: Mask = np.ones(len(fleet.node_ids), dtype=np.bool_)
    for site, model in fleet.own_engines:
        kinds = [kind for kind, one in enumerate(fleet.hardware) if one.accelerator == model]
        mask &= (fleet.node_site != site) | ~np.isin(fleet.node_hardware, kinds)
    return mask


_compiled: list[Columns] = []


def columns_of(fleet: Fleet) -> Columns:
    """The columns of a fleet; those of the last few fleets are kept, since a fleet is read-only once compiled."""
    for columns in _compiled:
        if columns.fleet is fleet:
            return columns
    columns = _compile(fleet)
    _compiled[:] = [columns, *_compiled[:1]]
    return columns


@dataclass(slots=True)
class Scratch:
    """What a pass changes. ``head_w[p]`` is what element ``p`` can still carry; negative where it is over its limit.

    ``share_milli[i, a]`` is what fractions have of accelerator ``a`` of node ``i``, all of the tenant of number ``sharer[i, a]``;
    it is in use in ``bits`` and ``free``. Both are empty while nobody has a fraction. ``held_milli``: by contract.
    ``intruded``: nodes that draw their nameplate for strangers, so that nothing is spared by what ends there.
    """

    open: Mask
    bits: U64
    free: I64
    cpu_milli: I64
    memory_mb: I64
    ranks: I64
    head_w: I64
    held_milli: dict[ContractId, int]
    share_milli: I16
    sharer: I32
    intruded: frozenset[int] = frozenset()

    def copy(self) -> "Scratch":
        """A state of its own."""
        return Scratch(
            self.open.copy(),
            self.bits.copy(),
            self.free.copy(),
            self.cpu_milli.copy(),
            self.memory_mb.copy(),
            self.ranks.copy(),
            self.head_w.copy(),
            dict(self.held_milli),
            self.share_milli.copy(),
            self.sharer.copy(),
            self.intruded,
        )

    def moves(self, nodes: I64) -> I64:
        """1 for each node whose draw follows what we run there, 0 where strangers are."""
        if not self.intruded:
            return np.ones(len(nodes), dtype=np.int64)
        return (~np.isin(nodes, sorted(self.intruded))).astype(np.int64)

    def with_head(self, head_w: I64) -> "Scratch":
        """The same state with other power left; all else is shared."""
        return Scratch(
            self.open,
            self.bits,
            self.free,
            self.cpu_milli,
            self.memory_mb,
            self.ranks,
            head_w,
            self.held_milli,
            self.share_milli,
            self.sharer,
            self.intruded,
        )

    def left_milli(self, columns: Columns, ask: Ask, nodes: I64) -> I64:
        """What each accelerator of ``nodes`` has left, in thousandths, a row each; for a fraction, what it could have of it."""
        free = (self.bits[nodes, None] >> columns.places) & _LOWEST
        left = free.astype(np.int64) * WHOLE_MILLI
        if len(self.share_milli):
            mine = (self.share_milli[nodes] > 0) & (free == 0)
            if ask.is_fraction:
                mine &= self.sharer[nodes] == ask.sharer
            left += np.where(mine, WHOLE_MILLI - self.share_milli[nodes].astype(np.int64), 0)
        return left


def scratch_of(snapshot: Snapshot, columns: Columns) -> Scratch:
    """The world of a snapshot, to change."""
    bits, index = columns.full & ~snapshot.node_mask, snapshot.fleet.node_index
    return Scratch(
        open=snapshot.node_open.copy(),
        bits=bits,
        free=np.bitwise_count(bits).astype(np.int64),
        cpu_milli=columns.cpu_milli - snapshot.node_cpu_milli,
        memory_mb=columns.memory_mb - snapshot.node_memory_mb,
        ranks=snapshot.node_ranks.astype(np.int64),
        head_w=np.append(snapshot.power_limit_w - snapshot.power_w, _NO_LIMIT_W).astype(np.int64),
        held_milli=dict(snapshot.contract_held_milli),
        share_milli=snapshot.node_share_milli.copy(),
        sharer=snapshot.node_sharer.copy(),
        intruded=frozenset(index[node] for node in snapshot.intruders if node in index),
    )


def empty_scratch(columns: Columns, today: int) -> Scratch:
    """An estate with nothing on it and every block there that ever will be; ``today`` is ``yyyymmdd``.

    Nodes that are there already draw their idle watts; later ones draw nothing until they are asked, so that
    an estate which is planned beyond its connection still takes what its connection carries.
    """
    fleet = columns.fleet
    idle = np.array([hardware.idle_w for hardware in fleet.hardware] or [0], dtype=np.int64)[
        fleet.node_hardware
    ]
    head = np.append(fleet.power_limit_w, _NO_LIMIT_W).astype(np.int64)
    there = np.flatnonzero(fleet.node_from_day <= today)
    for row in columns.paths:
        np.subtract.at(head, row[there], idle[there])
    return Scratch(
        open=fleet.node_from_day < NEVER_DAY,
        bits=columns.full.copy(),
        free=columns.total.copy(),
        cpu_milli=columns.cpu_milli.copy(),
        memory_mb=columns.memory_mb.copy(),
        ranks=np.zeros(len(fleet.node_ids), dtype=np.int64),
        head_w=head,
        held_milli={},
        share_milli=np.zeros((0, columns.width), dtype=np.int16),
        sharer=np.zeros((0, columns.width), dtype=np.int32),
    )


class Use(NamedTuple):
    """What a rank takes of a node, which is an index in the fleet; ``sharer`` is its tenant's number, for a fraction."""

    node: int
    bits: int
    cpu_milli: int
    memory_mb: int
    share_milli: int = WHOLE_MILLI
    sharer: int = 0


def use_of(fleet: Fleet, ranks: Sequence[RankPlace], sharer: int = 0) -> tuple[Use, ...]:
    """What ``ranks`` take; a node that the fleet does not have (any more) takes nothing."""
    found = ((fleet.node_index.get(NodeId(rank.node)), rank) for rank in ranks)
    return tuple(Use(node, *rank[1:], sharer) for node, rank in found if node is not None)


def part_of(columns: Columns, state: Scratch, ask: Ask, node: int) -> int:
    """The accelerator (as a mask) of a node that a fraction gets: of those with room for it the one with the least left."""
    left = state.left_milli(columns, ask, np.array([node]))[0]
    best = int(np.where(left >= ask.share_milli, left, WHOLE_MILLI + 1).argmin())
    return 1 << best


def lowest_bits(bits: int, count: int) -> int:
    """The ``count`` lowest bits that are set in ``bits``."""
    mask = 0
    for _ in range(count):
        low = bits & -bits
        mask |= low
        bits ^= low
    return mask


def shift(columns: Columns, state: Scratch, uses: Sequence[Use], sign: int) -> None:
    """Give back what ``uses`` take (``sign`` 1), or take it (-1). A node may stand in several of them."""
    if any(use.share_milli != WHOLE_MILLI for use in uses):
        uses = [_shift_fraction(columns, state, use, sign) for use in uses]
    if len(uses) <= _FEW:
        _shift_few(columns, state, uses, sign)
    else:
        node, mask, cpu_milli, memory_mb, _, _ = zip(*uses, strict=True)
        _shift_many(columns, state, node, mask, cpu_milli, memory_mb, sign)


def _shift_fraction(columns: Columns, state: Scratch, use: Use, sign: int) -> Use:
    """The same use with no accelerator in it, unless it is the first or the last to have a part of one."""
    if use.share_milli == WHOLE_MILLI:
        return use
    if not len(state.share_milli):
        shape = len(columns.total), columns.width
        state.share_milli, state.sharer = np.zeros(shape, dtype=np.int16), np.zeros(shape, dtype=np.int32)
    at = use.node, use.bits.bit_length() - 1
    before = int(state.share_milli[at])
    after = before - sign * use.share_milli
    state.share_milli[at] = after
    state.sharer[at] = use.sharer if after else 0
    return use if not before or not after else use._replace(bits=0)


def take_ranks(columns: Columns, state: Scratch, taken: Sequence[tuple[int, RankPlace]]) -> None:
    """Take what ranks without fractions have of their nodes."""
    if len(taken) > _FEW:
        nodes, ranks = zip(*taken, strict=True)
        _, mask, cpu_milli, memory_mb, _ = zip(*ranks, strict=True)
        _shift_many(columns, state, nodes, mask, cpu_milli, memory_mb, -1)
    elif taken:
        _shift_few(columns, state, [Use(node, *rank[1:]) for node, rank in taken], -1)


def _shift_many(
    columns: Columns,
    state: Scratch,
    node: Sequence[int],
    mask: Sequence[int],
    cpu_milli: Sequence[int],
    memory_mb: Sequence[int],
    sign: int,
) -> None:
    nodes, bits = np.array(node, dtype=np.int64), np.array(mask, dtype=np.uint64)
    count = np.bitwise_count(bits).astype(np.int64)
    touched = np.unique(nodes)
    asleep = state.ranks[touched] == 0
    np.bitwise_xor.at(state.bits, nodes, bits)
    np.add.at(state.free, nodes, sign * count)
    np.add.at(state.cpu_milli, nodes, sign * np.array(cpu_milli, dtype=np.int64))
    np.add.at(state.memory_mb, nodes, sign * np.array(memory_mb, dtype=np.int64))
    np.subtract.at(state.ranks, nodes, sign)
    slept = (state.ranks[touched] == 0).astype(np.int64) - asleep
    count_w, slept_w = count * columns.step_w[nodes], slept * columns.wake_w[touched]
    if state.intruded:
        count_w, slept_w = count_w * state.moves(nodes), slept_w * state.moves(touched)
    for row in columns.paths:
        np.add.at(state.head_w, row[nodes], sign * count_w)
        np.add.at(state.head_w, row[touched], slept_w)


def _shift_few(columns: Columns, state: Scratch, uses: Sequence[Use], sign: int) -> None:
    bits, free, ranks, head_w = state.bits.data, state.free.data, state.ranks.data, state.head_w.data
    cpu_milli, memory_mb = state.cpu_milli.data, state.memory_mb.data
    for node, mask, cpu, memory, _, _ in uses:
        count = mask.bit_count()
        before = ranks[node]
        after = before - sign
        bits[node] ^= mask
        free[node] += sign * count
        cpu_milli[node] += sign * cpu
        memory_mb[node] += sign * memory
        ranks[node] = after
        slept = (after == 0) - (before == 0)
        step_w, wake_w, path = columns.rows[node]
        delta_w = sign * count * step_w + slept * wake_w
        if delta_w and node not in state.intruded:
            for element in path:
                head_w[element] += delta_w
