"""Candidates and their order: which nodes could take a workload, and which of them it should get."""

from dataclasses import dataclass, replace

import numpy as np

from headrace.core.contracts import Contract, Preferences
from headrace.core.data.model import CopyState, data_id
from headrace.core.estate import Site
from headrace.core.fleet import I64
from headrace.core.ids import TenantId
from headrace.core.scheduling.columns import Ask, Columns, Mask, Scratch
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.topology import packs, spread_order
from headrace.core.units import PERMILLE
from headrace.core.workload import WHOLE_MILLI, Topology, WorkloadSpec, mines_alone

_NO_LIMIT_W = 1 << 60
_FEW = 24
"""Up to so many rows, cell by cell costs less than a dozen calls on arrays."""
_SMALL_SITE = 64
"""The same for the nodes of a site, most of which are ruled out by the first look."""
_MOST_REMEMBERED = 300


def site_refusal(
    snapshot: Snapshot, tenant: TenantId, spec: WorkloadSpec, model: str, site: int
) -> tuple[Refusal | None, Contract | None]:
    """Why law, contract or engine keep ``tenant``'s workload from a site as such; else the contract that pays for ``model``."""
    if not snapshot.place_verdict(tenant, spec.policy, site).allowed:
        return Refusal.JURISDICTION, None
    owner = snapshot.fleet.sites[site].dedicated_to
    if owner is not None and owner != tenant:
        return Refusal.DEDICATED, None
    contract = snapshot.contract_for(tenant, site, model, spec.contract)
    if contract is None:
        return Refusal.CONTRACT, None
    if spec.policy.data and absent(snapshot, tenant, spec, site):
        return Refusal.DATA, None
    return (Refusal.ENGINE, None) if lacks(snapshot, tenant, spec, site, model) else (None, contract)


def absent(snapshot: Snapshot, tenant: TenantId, spec: WorkloadSpec, site: int) -> tuple[str, ...]:
    """Of the data sets that a workload uses those of which no copy is present at a site."""
    here = snapshot.fleet.sites[site].id
    copies = ((name, snapshot.copies.get(data_id(tenant, name), {}).get(here)) for name in spec.policy.data)
    return tuple(name for name, copy in copies if copy is None or copy.state is not CopyState.PRESENT)


def of_data(snapshot: Snapshot, tenant: TenantId, spec: WorkloadSpec, site: int) -> str:
    """Which data sets keep a workload from a site that its own policy allows, and why; "" when none does."""
    own = replace(spec.policy, data=())
    if not spec.policy.data or not snapshot.place_verdict(tenant, own, site).allowed:
        return ""
    each = (
        (name, snapshot.place_verdict(tenant, replace(own, data=(name,)), site)) for name in spec.policy.data
    )
    return "; ".join(f"data set {name}: {', '.join(one.reasons)}" for name, one in each if not one.allowed)


def lacks(snapshot: Snapshot, tenant: TenantId, spec: WorkloadSpec, site: int, model: str) -> str:
    """What an engine can't do of what a workload asks for; "" when it can, or has not said what it can.

    The engine is that of the site's nodes with accelerators of ``model``.
    """
    engine = snapshot.fleet.engine_at(site, model)
    can = snapshot.engines.get(engine)
    if can is None:
        return ""
    if spec.resources.share_milli != WHOLE_MILLI and not can.parts:
        return f"its engine {engine} gives whole accelerators alone: ask for gpu: MODEL:1"
    if can.tenant not in ("", tenant):
        return f"its engine {engine} serves another tenant alone"
    if spec.lease not in ("", can.lease):
        return f"its engine {engine} leases no nodes through {spec.lease.capitalize()}"
    if can.mines != mines_alone(spec):
        if not can.mines:
            return f"its engine {engine} runs commands, and it has none: write at least one"
        return f"its engine {engine} drives machines that mine by themselves: only a filler without commands can have them"
    return ""


def site_order(snapshot: Snapshot, tenant: TenantId) -> list[int]:
    """Sites, the best for a tenant first, then by index: what a kWh of IT load costs there by its preferences.

    Prices are as declared: currencies are not converted. Power counts as it is drawn now.
    """
    known = snapshot.tenants.get(tenant)
    wish = known.preferences if known is not None else Preferences()
    sites = snapshot.fleet.sites
    used = used_permille(snapshot) if wish.power_micros_per_kwh else [0] * len(sites)
    costs = [site_cost(site, wish, part) for site, part in zip(sites, used, strict=True)]
    return sorted(range(len(costs)), key=lambda site: (costs[site], site))


def site_cost(site: Site, wish: Preferences, used: int) -> int:
    """What a kWh of IT load counts for at a site, in billionths of a micro: price, carbon and ``used`` thousandths of its
    connection, with the cooling that they need.
    """
    each = site.energy_price_micros_per_kwh * wish.price_permille
    each += site.carbon_g_per_kwh * wish.carbon_micros_per_kg
    each += used * wish.power_micros_per_kwh
    return each * site.pue_permille


def used_permille(snapshot: Snapshot) -> list[int]:
    """The part of each site's connection that is in use, in thousandths: all of it where nothing may be drawn."""
    fleet = snapshot.fleet
    found = [PERMILLE] * len(fleet.sites)
    for element in np.flatnonzero(fleet.power_parent == -1).tolist():
        limit_w = int(snapshot.power_limit_w[element])
        if limit_w > 0:
            part = int(snapshot.power_w[element]) * PERMILLE // limit_w
            found[int(fleet.power_site[element])] = part
    return found


def suits(columns: Columns, ask: Ask, site: int) -> Mask:
    """Nodes of a site whose hardware could take a rank if they were empty."""
    span = columns.spans[site]
    mask: Mask = columns.total[span] >= ask.accelerators
    mask &= columns.cpu_milli[span] >= ask.cpu_milli
    mask &= columns.memory_mb[span] >= ask.memory_mb
    if ask.model:
        mask &= columns.model[span] == columns.models.get(ask.model, -1)
    else:
        mask &= columns.of_site[span]
    if ask.accelerator_memory_mb:
        mask &= columns.accelerator_memory_mb[span] >= ask.accelerator_memory_mb
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
    if ask.is_fraction and len(state.share_milli):
        mine = (state.share_milli[span] > 0) & (state.sharer[span] == ask.sharer)
        mine &= state.share_milli[span] <= WHOLE_MILLI - ask.share_milli
        mask |= mine.any(axis=1)
    mask &= state.cpu_milli[span] >= ask.cpu_milli
    mask &= state.memory_mb[span] >= ask.memory_mb
    return mask


def increments_w(columns: Columns, state: Scratch, ask: Ask, nodes: I64) -> I64:
    """IT watts that a rank would add on each of ``nodes``."""
    taken = columns.total[nodes] if ask.whole else np.full(len(nodes), ask.accelerators)
    if ask.is_fraction and len(state.share_milli):
        left = state.left_milli(columns, ask, nodes)
        taken[((left >= ask.share_milli) & (left < WHOLE_MILLI)).any(axis=1)] = 0
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
    suit = suits(columns, ask, site) if suit is None else suit
    if span.stop - span.start <= _SMALL_SITE and not ask.is_fraction:
        return _choose_of_few(columns, state, ask, span, suit)
    return _choose_of_many(columns, state, ask, site, suit)


def _choose_of_many(columns: Columns, state: Scratch, ask: Ask, site: int, suit: Mask) -> I64 | None:
    span, mask = columns.spans[site], has_room(columns, state, ask, site)
    mask &= state.open[span]
    mask &= suit
    if ask.nodes == 1:
        return _choose_one(columns, state, ask, span, mask)
    nodes = np.flatnonzero(mask) + span.start
    if len(nodes) < ask.nodes:
        return None
    added = increments_w(columns, state, ask, nodes)
    alone = added <= path_head_w(columns, state, nodes)
    return _choose_several(columns, state, ask, nodes[alone], added[alone])


def _choose_of_few(columns: Columns, state: Scratch, ask: Ask, span: slice, suit: Mask) -> I64 | None:
    """The same, node by node, for a small site and whole accelerators."""
    nodes = _roomy_of_few(state, ask, span, suit)
    if ask.whole:
        nodes = [node for node in nodes if _is_untouched(columns, state, node)]
    if len(nodes) < ask.nodes:
        return None
    if ask.nodes == 1:
        free = state.free.data
        nodes.sort(key=free.__getitem__)
        one = next((node for node in nodes if _one_carries(columns, state, ask, node)), None)
        return None if one is None else np.array([one])
    nodes = [node for node in nodes if _one_carries(columns, state, ask, node)]
    if len(nodes) < ask.nodes:
        return None
    added = [_added_w(columns, state, ask, node) for node in nodes]
    return _choose_several(columns, state, ask, np.array(nodes), np.array(added))


def _roomy_of_few(state: Scratch, ask: Ask, span: slice, suit: Mask) -> list[int]:
    """Nodes that suit, are open and have enough left, whatever their power."""
    start, count, cpu_milli, memory_mb = span.start, ask.accelerators, ask.cpu_milli, ask.memory_mb
    opened, suiting, free = state.open.data, suit.data, state.free.data
    cpu, memory = state.cpu_milli.data, state.memory_mb.data
    return [
        node
        for node in range(start, span.stop)
        if free[node] >= count
        and opened[node]
        and suiting[node - start]
        and cpu[node] >= cpu_milli
        and memory[node] >= memory_mb
    ]


def _is_untouched(columns: Columns, state: Scratch, node: int) -> bool:
    """Whether a node has all that it ever has."""
    return bool(
        not state.ranks[node]
        and state.free[node] == columns.total[node]
        and state.cpu_milli[node] == columns.cpu_milli[node]
        and state.memory_mb[node] == columns.memory_mb[node]
    )


def _choose_several(columns: Columns, state: Scratch, ask: Ask, nodes: I64, added: I64) -> I64 | None:
    """Of nodes whose power carries a rank alone, those that a gang gets; ``added``: what a rank draws on each."""
    if len(nodes) < ask.nodes:
        return None
    if ask.topology is not None:
        return _choose_standing(columns, state, ask, ask.topology, nodes, added)
    return _choose_gang(columns, state, ask.nodes, nodes, added)


def _choose_standing(
    columns: Columns, state: Scratch, ask: Ask, topology: Topology, nodes: I64, added: I64
) -> I64 | None:
    """The nodes of a gang that minds how they stand: as it requires, or as near to it as can be."""
    free = state.free[nodes]
    if topology.spread and not topology.pack:
        return _choose_spread(columns, state, ask.nodes, topology, nodes, added)
    for members in packs(columns, topology, nodes, free, ask.nodes):
        if topology.spread:
            found = _choose_spread(columns, state, ask.nodes, topology, nodes[members], added[members])
        else:
            found = _choose_gang(columns, state, ask.nodes, nodes[members], added[members])
        if found is not None:
            return found
    return None if topology.required else _choose_gang(columns, state, ask.nodes, nodes, added)


def _choose_spread(
    columns: Columns, state: Scratch, wanted: int, topology: Topology, nodes: I64, added: I64
) -> I64 | None:
    order = spread_order(columns, topology, nodes, added, state.free[nodes])
    picked = carried(columns, state, nodes, added, order, wanted)
    if len(picked) < wanted:
        by_power = order[np.argsort(added[order], kind="stable")]
        picked = carried(columns, state, nodes, added, by_power, wanted)
    return np.sort(nodes[picked]) if len(picked) == wanted else None


def _choose_one(columns: Columns, state: Scratch, ask: Ask, span: slice, mask: Mask) -> I64 | None:
    if not mask.any():
        return None
    if ask.is_fraction:
        return _choose_part(columns, state, ask, np.flatnonzero(mask) + span.start)
    free = state.free[span]
    best = int(np.where(mask, free, _NO_LIMIT_W).argmin()) + span.start
    if _one_carries(columns, state, ask, best):
        return np.array([best])
    # Its power is the rarer obstacle, so only now is it asked of every candidate.
    nodes = np.flatnonzero(mask) + span.start
    nodes = nodes[increments_w(columns, state, ask, nodes) <= path_head_w(columns, state, nodes)]
    return nodes[[int(state.free[nodes].argmin())]] if len(nodes) else None


def _choose_part(columns: Columns, state: Scratch, ask: Ask, nodes: I64) -> I64 | None:
    """The node with the accelerator that has the least left and enough, then that with the fewest free ones."""
    nodes = nodes[increments_w(columns, state, ask, nodes) <= path_head_w(columns, state, nodes)]
    if not len(nodes):
        return None
    left = state.left_milli(columns, ask, nodes)
    tightest = np.where(left >= ask.share_milli, left, WHOLE_MILLI + 1).min(axis=1)
    return nodes[np.lexsort((nodes, state.free[nodes], tightest))[:1]]


def _one_carries(columns: Columns, state: Scratch, ask: Ask, node: int) -> bool:
    """Whether the elements over a node carry a rank on it."""
    added, head_w = _added_w(columns, state, ask, node), state.head_w.data
    # Asked hundreds of thousands of times: all() over a generator costs twice as much.
    for element in columns.rows[node][2]:  # noqa: SIM110
        if head_w[element] < added:
            return False
    return True


def _added_w(columns: Columns, state: Scratch, ask: Ask, node: int) -> int:
    """What :func:`increments_w` says of one node, for whole accelerators."""
    step_w, wake_w, _ = columns.rows[node]
    added = (int(columns.total[node]) if ask.whole else ask.accelerators) * step_w
    return added if state.ranks[node] else added + wake_w


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
    if len(nodes) <= _FEW:
        head_w = state.head_w.data
        return all(head_w[element] >= need for element, need in _needs(columns, nodes, added).items())
    need = path_need_w(columns, nodes, added)
    return bool((need[1] <= state.head_w[need[0]]).all())


def path_need_w(columns: Columns, nodes: I64, added: I64) -> tuple[I64, I64]:
    """Power elements over ``nodes``, and the watts that ``added`` on them needs of each."""
    return (_need_of_few if len(nodes) <= _FEW else _need_of_many)(columns, nodes, added)


def _needs(columns: Columns, nodes: I64, added: I64) -> dict[int, int]:
    needs: dict[int, int] = {}
    for node, watts in zip(nodes.tolist(), added.tolist(), strict=True):
        for element in columns.rows[node][2]:
            needs[element] = needs.get(element, 0) + watts
    return needs


def _need_of_few(columns: Columns, nodes: I64, added: I64) -> tuple[I64, I64]:
    needs = _needs(columns, nodes, added)
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
