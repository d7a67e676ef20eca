"""Candidates and their order: which nodes could take a workload, and which of them it should get.

Everything works on columns. :class:`Columns` never changes while a fleet lives; :class:`Scratch` is what a
pass over the queue may change. The nodes of one site stand next to each other in a fleet, so a site is a
slice of every column.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.core.contracts import Contract
from headrace.core.fleet import I32, I64, NEVER_DAY, Fleet
from headrace.core.hardware import HardwareType
from headrace.core.ids import ContractId, NodeId, TenantId
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.snapshot import U64, Snapshot
from headrace.core.workload import RankPlace, WorkloadSpec, WorkloadType

Mask = npt.NDArray[np.bool_]

_NO_LIMIT_W = 1 << 60
_FEW = 24
"""Up to so many rows, cell by cell costs less than a dozen calls on arrays."""
_MOST_REMEMBERED = 300


@dataclass(frozen=True, slots=True)
class Ask:
    """What placing needs to know of a spec. ``whole``: empty nodes with all that they have (a cluster)."""

    nodes: int
    model: str
    accelerators: int
    cpu_milli: int
    memory_mb: int
    whole: bool

    def on(self, hardware: HardwareType) -> tuple[int, int, int]:
        """Accelerators, cpu_milli and memory_mb that a rank takes from a node of ``hardware``."""
        if self.whole:
            return hardware.accelerators, hardware.cpu_milli, hardware.memory_mb
        return self.accelerators, self.cpu_milli, self.memory_mb


def ask_of(spec: WorkloadSpec) -> Ask:
    """The ask of a spec."""
    need = spec.resources
    whole = spec.type is WorkloadType.CLUSTER
    return Ask(spec.nodes, need.accelerator, need.accelerators, need.cpu_milli, need.memory_mb, whole)


def accelerators_of(columns: "Columns", ask: Ask, nodes: "I64 | Sequence[int]") -> int:
    """Accelerators that a workload takes on ``nodes``."""
    return int(columns.total[np.asarray(nodes)].sum()) if ask.whole else ask.accelerators * len(nodes)


@dataclass(frozen=True, slots=True)
class Columns:
    """What never changes while a fleet lives: one row a node, in the order of the fleet.

    ``spans`` are the nodes of each site. A node draws ``step_w`` more for each accelerator taken, and
    ``wake_w`` more once anything runs on it: :meth:`HardwareType.node_watts` as two columns. ``paths[d, i]``
    is the d-th power element from node ``i`` upwards; shorter paths end in the index past the last element,
    which carries anything. ``rows[i]`` is the same for a look at one node: ``step_w``, ``wake_w`` and the elements.
    ``suiting`` remembers what :func:`suiting` found.
    """

    fleet: Fleet
    spans: tuple[slice, ...]
    models: dict[str, int]
    model: I64
    total: I64
    full: U64
    cpu_milli: I64
    memory_mb: I64
    step_w: I64
    wake_w: I64
    paths: I32
    rows: tuple[tuple[int, int, tuple[int, ...]], ...]
    suiting: "dict[Ask, dict[int, Mask]]"


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
    return Columns(
        fleet=fleet,
        spans=tuple(slice(a, b) for a, b in pairwise(edges.tolist())),
        models=models,
        model=column(lambda hardware: models[hardware.accelerator]),
        total=column(lambda hardware: hardware.accelerators),
        full=full,
        cpu_milli=column(lambda hardware: hardware.cpu_milli),
        memory_mb=column(lambda hardware: hardware.memory_mb),
        step_w=step_w,
        wake_w=wake_w,
        paths=paths,
        rows=tuple(
            (step, wake, tuple(element for element in path if element != past))
            for step, wake, path in zip(step_w.tolist(), wake_w.tolist(), paths.T.tolist(), strict=True)
        ),
        suiting={},
    )


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
    """What a pass changes. ``head_w[p]`` is what element ``p`` can still carry; negative where it is over its limit."""

    open: Mask
    bits: U64
    free: I64
    cpu_milli: I64
    memory_mb: I64
    ranks: I64
    head_w: I64
    held: dict[ContractId, int]

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
            dict(self.held),
        )

    def with_head(self, head_w: I64) -> "Scratch":
        """The same state with other power left; all else is shared."""
        return Scratch(
            *(self.open, self.bits, self.free, self.cpu_milli, self.memory_mb, self.ranks), head_w, self.held
        )


def scratch_of(snapshot: Snapshot, columns: Columns) -> Scratch:
    """The world of a snapshot, to change."""
    bits = columns.full & ~snapshot.node_mask
    return Scratch(
        open=snapshot.node_open.copy(),
        bits=bits,
        free=np.bitwise_count(bits).astype(np.int64),
        cpu_milli=columns.cpu_milli - snapshot.node_cpu_milli,
        memory_mb=columns.memory_mb - snapshot.node_memory_mb,
        ranks=snapshot.node_ranks.astype(np.int64),
        head_w=np.append(snapshot.power_limit_w - snapshot.power_w, _NO_LIMIT_W).astype(np.int64),
        held=dict(snapshot.contract_held),
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
        held={},
    )


def site_refusal(
    snapshot: Snapshot, tenant: TenantId, spec: WorkloadSpec, site: int
) -> tuple[Refusal | None, Contract | None]:
    """Why law or contract keep ``tenant``'s workload from a site as such; else the contract that pays for it there."""
    if not snapshot.place_verdict(tenant, spec.policy, site).allowed:
        return Refusal.JURISDICTION, None
    owner = snapshot.fleet.sites[site].dedicated_to
    if owner is not None and owner != tenant:
        return Refusal.DEDICATED, None
    contract = snapshot.contract_for(tenant, site, spec.resources.accelerator, spec.contract)
    return (Refusal.CONTRACT, None) if contract is None else (None, contract)


def site_order(fleet: Fleet) -> list[int]:
    """Sites, cheapest energy per IT kWh first, then by index. Prices as declared: currencies are not converted."""
    cost = [site.energy_price_micros_per_kwh * site.pue_permille for site in fleet.sites]
    return sorted(range(len(cost)), key=lambda site: (cost[site], site))


def suits(columns: Columns, ask: Ask, site: int) -> Mask:
    """Nodes of a site whose hardware could take a rank if they were empty."""
    span = columns.spans[site]
    mask: Mask = columns.total[span] >= ask.accelerators
    mask &= columns.cpu_milli[span] >= ask.cpu_milli
    mask &= columns.memory_mb[span] >= ask.memory_mb
    if ask.model:
        mask &= columns.model[span] == columns.models.get(ask.model, -1)
    return mask


def suiting(columns: Columns, ask: Ask) -> dict[int, Mask]:
    """:func:`suits` for each site that has enough such nodes. What is asked for often is found once."""
    found = columns.suiting.get(ask)
    if found is None:
        if len(columns.suiting) >= _MOST_REMEMBERED:
            columns.suiting.clear()
        masks = ((site, suits(columns, ask, site)) for site in range(len(columns.spans)))
        found = columns.suiting[ask] = {
            site: mask for site, mask in masks if np.count_nonzero(mask) >= ask.nodes > 0
        }
    return found


def has_room(columns: Columns, state: Scratch, ask: Ask, site: int) -> Mask:
    """Nodes of a site with enough left for a rank, whatever their state and their power."""
    span = columns.spans[site]
    if ask.whole:
        mask: Mask = state.ranks[span] == 0
        mask &= state.free[span] == columns.total[span]
        mask &= state.cpu_milli[span] == columns.cpu_milli[span]
        mask &= state.memory_mb[span] == columns.memory_mb[span]
        return mask
    mask = state.free[span] >= ask.accelerators
    mask &= state.cpu_milli[span] >= ask.cpu_milli
    mask &= state.memory_mb[span] >= ask.memory_mb
    return mask


def increments_w(columns: Columns, state: Scratch, ask: Ask, nodes: I64) -> I64:
    """IT watts that a rank would add on each of ``nodes``."""
    taken = columns.total[nodes] if ask.whole else ask.accelerators
    return taken * columns.step_w[nodes] + np.where(state.ranks[nodes] == 0, columns.wake_w[nodes], 0)


def path_head_w(columns: Columns, state: Scratch, nodes: I64) -> I64:
    """What the tightest element over each of ``nodes`` can still carry."""
    head: I64 = state.head_w[columns.paths[:, nodes]].min(axis=0)
    return head


@dataclass(frozen=True, slots=True)
class Candidates:
    """Nodes of a site left by each filter, in this order: hardware, state, room, power of each node alone.

    A site's binding refusal is the filter that leaves fewer than asked for.
    """

    suit: I64
    ready: I64
    roomy: I64
    powered: I64

    def refusal(self, wanted: int) -> Refusal | None:
        """The filter that leaves fewer than ``wanted``; None when all leave enough (their common power may not do)."""
        stages = (
            (self.suit, Refusal.HARDWARE),
            (self.ready, Refusal.NODE_STATE),
            (self.roomy, Refusal.CAPACITY),
            (self.powered, Refusal.POWER),
        )
        return next((reason for nodes, reason in stages if len(nodes) < wanted), None)


def candidates(columns: Columns, state: Scratch, ask: Ask, site: int) -> Candidates:
    """The candidates of a site with what each filter removes; :func:`choose` is the same without the record."""
    start = columns.spans[site].start
    suit = suits(columns, ask, site)
    ready = suit & state.open[columns.spans[site]]
    roomy = np.flatnonzero(ready & has_room(columns, state, ask, site)) + start
    carried = increments_w(columns, state, ask, roomy) <= path_head_w(columns, state, roomy)
    return Candidates(np.flatnonzero(suit) + start, np.flatnonzero(ready) + start, roomy, roomy[carried])


def choose(columns: Columns, state: Scratch, ask: Ask, site: int, suit: Mask | None = None) -> I64 | None:
    """The nodes of a site that a workload should get, ascending; None exactly when no choice of nodes would do.

    Best fit: nodes with the fewest free accelerators, whole racks together for a gang, ties by index. ``suit`` saves
    asking :func:`suits` again.
    """
    span = columns.spans[site]
    mask = has_room(columns, state, ask, site)
    mask &= state.open[span]
    mask &= suits(columns, ask, site) if suit is None else suit
    if ask.nodes == 1:
        return _choose_one(columns, state, ask, span, mask)
    nodes = np.flatnonzero(mask) + span.start
    if len(nodes) < ask.nodes:
        return None
    added = increments_w(columns, state, ask, nodes)
    alone = added <= path_head_w(columns, state, nodes)
    nodes, added = nodes[alone], added[alone]
    if len(nodes) < ask.nodes:
        return None
    return _choose_gang(columns, state, ask.nodes, nodes, added)


def _choose_one(columns: Columns, state: Scratch, ask: Ask, span: slice, mask: Mask) -> I64 | None:
    if not mask.any():
        return None
    free = state.free[span]
    best = int(np.where(mask, free, _NO_LIMIT_W).argmin()) + span.start
    if _one_carries(columns, state, ask, best):
        return np.array([best])
    # Its power is the rarer obstacle, so only now is it asked of every candidate.
    nodes = np.flatnonzero(mask) + span.start
    nodes = nodes[increments_w(columns, state, ask, nodes) <= path_head_w(columns, state, nodes)]
    return nodes[[int(state.free[nodes].argmin())]] if len(nodes) else None


def _one_carries(columns: Columns, state: Scratch, ask: Ask, node: int) -> bool:
    """Whether the elements over a node carry a rank on it."""
    step_w, wake_w, path = columns.rows[node]
    added = (int(columns.total[node]) if ask.whole else ask.accelerators) * step_w
    if state.ranks[node] == 0:
        added += wake_w
    head_w = state.head_w.data
    return all(head_w[element] >= added for element in path)


def _choose_gang(columns: Columns, state: Scratch, wanted: int, nodes: I64, added: I64) -> I64 | None:
    order = gang_order(columns, state, nodes, wanted)
    first = order[:wanted]
    if _carries(columns, state, nodes[first], added[first]):
        return np.sort(nodes[first])
    picked = carried(columns, state, nodes, added, order, wanted)
    if len(picked) < wanted and added.min() != added.max():
        # Smallest first is the greatest number that a tree of limits carries: whatever a larger choice takes
        # in its place, exchanging it for the smaller one breaks no element above. So a failure here is a
        # proof.
        picked = carried(columns, state, nodes, added, np.argsort(added, kind="stable"), wanted)
    return np.sort(nodes[picked]) if len(picked) == wanted else None


def _carries(columns: Columns, state: Scratch, nodes: I64, added: I64) -> bool:
    need = path_need_w(columns, nodes, added)
    return bool((need[1] <= state.head_w[need[0]]).all())


def path_need_w(columns: Columns, nodes: I64, added: I64) -> tuple[I64, I64]:
    """Power elements over ``nodes``, and the watts that ``added`` on them needs of each."""
    return (_need_of_few if len(nodes) <= _FEW else _need_of_many)(columns, nodes, added)


def _need_of_few(columns: Columns, nodes: I64, added: I64) -> tuple[I64, I64]:
    needs: dict[int, int] = {}
    for node, watts in zip(nodes.tolist(), added.tolist(), strict=True):
        for element in columns.rows[node][2]:
            needs[element] = needs.get(element, 0) + watts
    return np.array(list(needs), dtype=np.int64), np.array(list(needs.values()), dtype=np.int64)


def _need_of_many(columns: Columns, nodes: I64, added: I64) -> tuple[I64, I64]:
    elements, where = np.unique(columns.paths[:, nodes], return_inverse=True)
    need = np.zeros(len(elements), dtype=np.int64)
    np.add.at(need, where.ravel(), np.tile(added, len(columns.paths)))
    return elements.astype(np.int64), need


def carried(columns: Columns, state: Scratch, nodes: I64, added: I64, order: I64, wanted: int) -> list[int]:
    """Positions in ``nodes``, at most ``wanted``, that the power tree carries together when taken in ``order``."""
    left: dict[int, int] = {}
    picked: list[int] = []
    paths, watts = columns.paths[:, nodes].T.tolist(), added.tolist()
    head = state.head_w
    for position in order.tolist():
        if len(picked) == wanted:
            break
        path, need = paths[position], watts[position]
        for element in path:
            if element not in left:
                left[element] = int(head[element])
        if all(left[element] >= need for element in path):
            # The index past the last element may stand in a path several times: it carries anything.
            for element in path:
                left[element] -= need
            picked.append(position)
    return picked


def gang_order(columns: Columns, state: Scratch, nodes: I64, wanted: int) -> I64:
    """Positions of ``nodes`` in the order that a gang should take them.

    The fewest racks: the fullest racks of candidates first, and for what remains the smallest rack that takes
    all of it. Among racks of one size that with the fewest free accelerators, among nodes of a rank the same.
    """
    return (_order_of_few if len(nodes) <= _FEW else _order_of_many)(columns, state, nodes, wanted)


def _order_of_few(columns: Columns, state: Scratch, nodes: I64, wanted: int) -> I64:
    leaf = columns.fleet.node_leaf[nodes].tolist()
    free = state.free[nodes].tolist()
    count: dict[int, int] = {}
    total: dict[int, int] = {}
    for rack, room in zip(leaf, free, strict=True):
        count[rack] = count.get(rack, 0) + 1
        total[rack] = total.get(rack, 0) + room
    racks = sorted(count, key=lambda rack: (-count[rack], total[rack], rack))
    before = 0
    for at, rack in enumerate(racks):
        remaining = wanted - before
        if count[rack] >= remaining:
            # All that remains fits into one rack: the smallest that takes it, the first of them in order.
            smallest = min(size for size in count.values() if size >= remaining)
            best = next(place for place in range(at, len(racks)) if count[racks[place]] == smallest)
            racks.insert(at, racks.pop(best))
            break
        before += count[rack]
    place = {rack: index for index, rack in enumerate(racks)}
    keys = list(zip((place[rack] for rack in leaf), free, nodes.tolist(), strict=True))
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _order_of_many(columns: Columns, state: Scratch, nodes: I64, wanted: int) -> I64:
    free = state.free[nodes]
    leaves, where, counts = np.unique(columns.fleet.node_leaf[nodes], return_inverse=True, return_counts=True)
    sums = np.zeros(len(leaves), dtype=np.int64)
    np.add.at(sums, where, free)
    racks = np.lexsort((leaves, sums, -counts))
    sizes = counts[racks]
    remaining = wanted - (np.cumsum(sizes) - sizes)
    at = int(np.argmax(sizes >= remaining))
    smallest = int(np.flatnonzero(sizes >= remaining[at])[-1])
    best = int(np.argmax(sizes == sizes[smallest]))
    best = max(best, at)
    racks = np.concatenate((racks[:at], racks[best : best + 1], racks[at:best], racks[best + 1 :]))
    place = np.empty(len(racks), dtype=np.int64)
    place[racks] = np.arange(len(racks))
    return np.lexsort((nodes, free, place[where]))


def lowest_bits(bits: int, count: int) -> int:
    """The ``count`` lowest bits that are set in ``bits``."""
    mask = 0
    for _ in range(count):
        low = bits & -bits
        mask |= low
        bits ^= low
    return mask


class Use(NamedTuple):
    """What a rank takes of a node, which is an index in the fleet."""

    node: int
    bits: int
    cpu_milli: int
    memory_mb: int


def use_of(fleet: Fleet, ranks: Sequence[RankPlace]) -> tuple[Use, ...]:
    """What ``ranks`` take; a node that the fleet does not have (any more) takes nothing."""
    found = ((fleet.node_index.get(NodeId(rank.node)), rank) for rank in ranks)
    return tuple(
        Use(node, rank.mask, rank.cpu_milli, rank.memory_mb) for node, rank in found if node is not None
    )


def shift(columns: Columns, state: Scratch, uses: Sequence[Use], sign: int) -> None:
    """Give back what ``uses`` take (``sign`` 1), or take it (-1). A node may stand in several of them."""
    (_shift_few if len(uses) <= _FEW else _shift_many)(columns, state, uses, sign)


def _shift_many(columns: Columns, state: Scratch, uses: Sequence[Use], sign: int) -> None:
    node, mask, cpu_milli, memory_mb = zip(*uses, strict=True)
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
    for row in columns.paths:
        np.add.at(state.head_w, row[nodes], sign * count * columns.step_w[nodes])
        np.add.at(state.head_w, row[touched], slept * columns.wake_w[touched])


def _shift_few(columns: Columns, state: Scratch, uses: Sequence[Use], sign: int) -> None:
    bits, free, ranks, head_w = state.bits.data, state.free.data, state.ranks.data, state.head_w.data
    cpu_milli, memory_mb = state.cpu_milli.data, state.memory_mb.data
    for node, mask, cpu, memory in uses:
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
        if delta_w:
            for element in path:
                head_w[element] += delta_w
