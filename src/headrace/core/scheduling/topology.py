"""How close nodes stand: groups of nodes by level, and the order in which a gang that minds takes them."""

from collections.abc import Iterator, Sequence

import numpy as np

from headrace.core.fleet import I16, I32, I64
from headrace.core.scheduling.columns import Columns
from headrace.core.workload import Level, Topology

_FEW = 64
"""Up to so many nodes, one by one costs less than a dozen calls on arrays."""


def groups_of(columns: Columns, level: Level, nodes: I64) -> I64:
    """The group of each node at a level: nodes of one group have one number."""
    fleet = columns.fleet
    columns_of_levels: dict[Level, I16 | I32] = {
        "domain": fleet.node_domain,
        "rack": fleet.node_leaf,
        "rail": fleet.node_rail,
        "pod": fleet.node_pod,
        "site": fleet.node_site,
    }
    return np.asarray(columns_of_levels[level][nodes], dtype=np.int64)


def stand_well(columns: Columns, topology: Topology | None, nodes: Sequence[int]) -> bool:
    """Whether nodes stand as a topology requires; any do for one that only prefers."""
    if topology is None or not topology.required or len(nodes) < 2:
        return True
    chosen = np.array(nodes, dtype=np.int64)
    if topology.pack and len(np.unique(groups_of(columns, topology.pack, chosen))) > 1:
        return False
    return not topology.spread or len(np.unique(groups_of(columns, topology.spread, chosen))) == len(nodes)


def packs(columns: Columns, topology: Topology, nodes: I64, free: I64, wanted: int) -> Iterator[I64]:
    """Positions in ``nodes`` of each group that has enough of them, the smallest first, then that with the least free."""
    if not topology.pack:
        return
    groups = groups_of(columns, topology.pack, nodes)
    if len(nodes) <= _FEW:
        yield from _packs_of_few(groups.tolist(), free.tolist(), wanted)
    else:
        yield from _packs_of_many(groups, free, wanted)


def _packs_of_many(groups: I64, free: I64, wanted: int) -> Iterator[I64]:
    found, where, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros(len(found), dtype=np.int64)
    np.add.at(sums, where, free)
    for group in np.lexsort((found, sums, counts)).tolist():
        if counts[group] >= wanted:
            yield np.flatnonzero(where == group)


def _packs_of_few(groups: Sequence[int], free: Sequence[int], wanted: int) -> Iterator[I64]:
    members: dict[int, list[int]] = {}
    sums: dict[int, int] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
        sums[group] = sums.get(group, 0) + free[position]
    for count, _, group in sorted((len(some), sums[group], group) for group, some in members.items()):
        if count >= wanted:
            yield np.array(members[group])


def spread_order(columns: Columns, topology: Topology, nodes: I64, added: I64, free: I64) -> I64:
    """Positions in the order that a gang which spreads takes them: one of each group, then a second of each, and so on.

    Required: only the first of each group. In a group the node that needs the least power and has the least free comes first.
    """
    if not topology.spread:
        return np.lexsort((nodes, free))
    groups = groups_of(columns, topology.spread, nodes)
    if len(nodes) <= _FEW:
        rows = zip(groups.tolist(), added.tolist(), free.tolist(), nodes.tolist(), strict=True)
        return np.array(_spread_of_few(list(rows), required=topology.required), dtype=np.int64)
    return _spread_of_many(groups, added, free, nodes, required=topology.required)


def _spread_of_many(groups: I64, added: I64, free: I64, nodes: I64, *, required: bool) -> I64:
    order = np.lexsort((nodes, free, added, groups))
    sorted_groups = groups[order]
    first = np.flatnonzero(np.append(True, sorted_groups[1:] != sorted_groups[:-1]))
    lengths = np.diff(np.append(first, len(order)))
    turn = np.arange(len(order)) - np.repeat(first, lengths)
    if required:
        order, turn = order[turn == 0], turn[turn == 0]
    return order[np.lexsort((nodes[order], free[order], turn))]


def _spread_of_few(rows: Sequence[tuple[int, int, int, int]], *, required: bool) -> list[int]:
    """``rows``: the group, the power, what is free and the node at each position."""
    turns: dict[int, int] = {}
    order = []
    for position in sorted(range(len(rows)), key=rows.__getitem__):
        group, _, free, node = rows[position]
        turn = turns[group] = turns.get(group, -1) + 1
        if not turn or not required:
            order.append((turn, free, node, position))
    return [position for _, _, _, position in sorted(order)]
