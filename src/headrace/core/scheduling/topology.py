"""How close nodes stand: groups of nodes by level, and the order in which a gang that minds takes them."""

from collections.abc import Iterator, Sequence

import numpy as np

from headrace.core.fleet import I16, I32, I64
from headrace.core.scheduling.columns import Columns
from headrace.core.workload import Level, Topology


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
    found, where, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros(len(found), dtype=np.int64)
    np.add.at(sums, where, free)
    for group in np.lexsort((found, sums, counts)).tolist():
        if counts[group] >= wanted:
            yield np.flatnonzero(where == group)


def spread_order(columns: Columns, topology: Topology, nodes: I64, added: I64, free: I64) -> I64:
    """Positions in the order that a gang which spreads takes them: one of each group, then a second of each, and so on.

    Required: only the first of each group. In a group the node that needs the least power and has the least free comes first.
    """
    if not topology.spread:
        return np.lexsort((nodes, free))
    groups = groups_of(columns, topology.spread, nodes)
    order = np.lexsort((nodes, free, added, groups))
    sorted_groups = groups[order]
    first = np.flatnonzero(np.append(True, sorted_groups[1:] != sorted_groups[:-1]))
    lengths = np.diff(np.append(first, len(order)))
    turn = np.arange(len(order)) - np.repeat(first, lengths)
    if topology.required:
        order, turn = order[turn == 0], turn[turn == 0]
    return order[np.lexsort((nodes[order], free[order], turn))]
