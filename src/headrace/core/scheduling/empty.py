"""How much an empty estate takes, rack by rack: the nodes of a rack are alike, so that nobody has to look at each.

Empty means without use, node states and grid instructions, with every block that has a day of commissioning, within the
ratings of the power tree. What is asked at a site is answered from the most nodes that it could ever give; that depends on
the types of node that would do, on what is taken of each, and on how they stand: it is found once for all such asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from headrace.core.fleet import I64, NEVER_DAY, Fleet
from headrace.core.hardware import HardwareType
from headrace.core.scheduling.columns import Ask, Columns, Mask, columns_of
from headrace.core.workload import Level, Topology

_WIDTH: dict[Level, int] = {"domain": 0, "rack": 1, "rail": 2, "pod": 3, "site": 4}
_MOST_KNOWN = 10_000


class _Kind(NamedTuple):
    """All that the most nodes of a site depend on: types of node (a bit each), what is taken of each, how they stand."""

    site: int
    types: int
    taken: int
    pack: Level | str
    spread: Level | str


@dataclass(frozen=True, slots=True)
class _Racks:
    """The racks of a site that have nodes: a row each."""

    leaf: I64
    hardware: I64
    nodes: I64
    domains: I64
    domain_nodes: I64
    rail: I64
    block: I64


@dataclass(slots=True)
class Empty:
    """An estate with nothing on it; ``head_w`` is what each element of the power tree carries beside idle nodes."""

    fleet: Fleet
    columns: Columns
    today: int
    head_w: I64
    racks: list[_Racks]
    above: list[dict[int, tuple[int, ...]]]
    """By site: the power elements from each block up."""
    _most: dict[_Kind, int] = field(default_factory=dict)

    def fits(self, ask: Ask, site: int) -> bool:
        """Whether a site could take an ask; a negative or empty one fits nowhere."""
        if ask.nodes < 1 or min(ask.accelerators, ask.cpu_milli, ask.memory_mb) < 0:
            return False
        return ask.nodes <= self.most(ask, site)

    def most(self, ask: Ask, site: int) -> int:
        """The most nodes that a site could give to an ask, whatever number it asks for."""
        wish = ask.topology if ask.topology is not None and ask.topology.required else Topology()
        types = self.types(ask, site)
        taken = -1 if ask.whole else ask.accelerators
        kind = _Kind(site, types, taken, wish.pack, wish.spread)
        found = self._most.get(kind)
        if found is None:
            if len(self._most) >= _MOST_KNOWN:
                self._most.clear()
            found = self._most[kind] = self._find(kind) if types else 0
        return found

    def types(self, ask: Ask, site: int) -> int:
        """The types of node that would do at a site: a bit for each of the fleet's.

        What has another engine than its site is had by name alone.
        """
        own = self.fleet.own_engines
        kinds = enumerate(self.fleet.hardware)
        return sum(
            1 << kind
            for kind, hardware in kinds
            if is_enough(hardware, ask) and (ask.model or (site, hardware.accelerator) not in own)
        )

    def count(self, ask: Ask, site: int) -> int:
        """Nodes of a site that would do, whatever their power."""
        racks = self.racks[site]
        return int(racks.nodes[self._of(self.types(ask, site), racks)].sum())

    def least_accelerators(self, ask: Ask, site: int) -> int:
        """The fewest accelerators of which some choice of nodes for a whole-node ask consists."""
        racks, left, total = self.racks[site], ask.nodes, 0
        mask = self._of(self.types(ask, site), racks)
        for kind in sorted(
            range(len(self.fleet.hardware)), key=lambda one: self.fleet.hardware[one].accelerators
        ):
            there = int(racks.nodes[mask & (racks.hardware == kind)].sum())
            total += min(left, there) * self.fleet.hardware[kind].accelerators
            left -= min(left, there)
        return total

    def hardware_at(self, sites: Iterable[int]) -> list[HardwareType]:
        """The types of node that there are at sites."""
        kinds = {int(kind) for site in sites for kind in np.unique(self.racks[site].hardware)}
        return [self.fleet.hardware[kind] for kind in sorted(kinds)]

    def _of(self, types: int, racks: _Racks) -> Mask:
        table = np.array([bool(types >> kind & 1) for kind in range(len(self.fleet.hardware))] or [False])
        mask: Mask = table[racks.hardware]
        return mask

    def _find(self, kind: _Kind) -> int:
        racks, columns = self.racks[kind.site], self.fleet.hardware
        taken = [one.accelerators if kind.taken < 0 else kind.taken for one in columns]
        need_w = np.array(
            [
                count * (one.accelerator_w - one.accelerator_idle_w) + one.node_watts(0, True) - one.idle_w
                for one, count in zip(columns, taken, strict=True)
            ]
            or [0],
            dtype=np.int64,
        )[racks.hardware]
        offered = {"": racks.nodes, "domain": racks.domains}.get(kind.spread, np.minimum(racks.nodes, 1))
        if kind.pack == "domain":
            offered = np.minimum(offered, racks.domain_nodes if not kind.spread else 1)
        elif kind.spread and kind.pack and _wide(kind.spread) >= _wide(kind.pack):
            offered = np.minimum(offered, 1)
        head_w = self.head_w[racks.leaf]
        carried = np.where(
            need_w > 0, np.minimum(offered, np.maximum(head_w, 0) // np.maximum(need_w, 1)), offered
        )
        tightest_w = np.minimum(head_w, self._above_w(kind.site)[racks.block])
        carried[~self._of(kind.types, racks) | (need_w > tightest_w)] = 0
        some = np.flatnonzero(carried > 0)
        if not len(some):
            return 0
        parts = _Parts(racks.block[some], racks.rail[some], need_w[some], carried[some])
        return self._gathered(kind, parts)

    def _above_w(self, site: int) -> I64:
        """What the tightest element over each block of a site carries, and the block itself."""
        above = self.above[site]
        return np.array([self.head_w[list(above[block])].min() for block in above] or [0], dtype=np.int64)

    def _gathered(self, kind: _Kind, parts: "_Parts") -> int:
        """The most of what racks carry that stand together as they have to, and that the elements above carry together."""
        one_each = kind.spread and kind.pack and _wide(kind.spread) >= _wide(kind.pack)
        if one_each or kind.spread == "site":
            return 1
        parts = parts.spread_over(kind.spread)
        if kind.pack in ("domain", "rack", "rail"):
            whole = parts.summed(by_rail=kind.pack == "rail") if kind.pack == "rail" else parts
            above_w = self._above_w(kind.site)[whole.block]
            amount = np.where(
                whole.need_w > 0,
                np.minimum(whole.amount, above_w // np.maximum(whole.need_w, 1)),
                whole.amount,
            )
            return int(amount.max())
        whole = parts.summed(by_rail=False)
        rows = sorted(zip(whole.need_w.tolist(), whole.block.tolist(), whole.amount.tolist(), strict=True))
        paths = list(self.above[kind.site].values())
        if kind.pack == "pod":
            # Racks of one block may hang on other feeders each: then there is an allotment between.
            pods = [next(one for one in path if self.fleet.power_kind[one] == "block") for path in paths]
            here = dict.fromkeys(pods[block] for _, block, _ in rows)
            return max(self._carried([row for row in rows if pods[row[1]] == pod], paths) for pod in here)
        return self._carried(rows, paths)

    def _carried(self, rows: list[tuple[int, int, int]], paths: list[tuple[int, ...]]) -> int:
        """The most that the elements above blocks carry of (watts each, block, number), the smallest first.

        That is the greatest number: whatever a larger one takes in the place of a smaller, the smaller would break nothing.
        """
        left: dict[int, int] = {}
        total = 0
        for need_w, block, amount in rows:
            path = paths[block]
            most = amount
            if need_w > 0:
                most = min(amount, *(left.setdefault(one, int(self.head_w[one])) // need_w for one in path))
            for element in path:
                left[element] = left.setdefault(element, int(self.head_w[element])) - most * need_w
            total += most
        return total


class _Parts(NamedTuple):
    """So many nodes of so many watts each, by block and rail."""

    block: I64
    rail: I64
    need_w: I64
    amount: I64

    def spread_over(self, level: str) -> "_Parts":
        """One of each rail or block only, that which needs the least; finer levels are counted in the racks already."""
        if level not in ("rail", "pod"):
            return self
        group = self.rail if level == "rail" else self.block
        order = np.lexsort((self.need_w, group))
        first = order[np.unique(group[order], return_index=True)[1]]
        return _Parts(
            self.block[first], self.rail[first], self.need_w[first], np.ones(len(first), dtype=np.int64)
        )

    def summed(self, *, by_rail: bool) -> "_Parts":
        """What is alike in one block (or rail) together."""
        group = self.rail if by_rail else self.block
        order = np.lexsort((self.need_w, group))
        group, need_w = group[order], self.need_w[order]
        starts = np.flatnonzero(np.append(True, (group[1:] != group[:-1]) | (need_w[1:] != need_w[:-1])))
        at = order[starts]
        return _Parts(
            self.block[at], self.rail[at], self.need_w[at], np.add.reduceat(self.amount[order], starts)
        )


def is_enough(hardware: HardwareType, ask: Ask) -> bool:
    """Whether an empty node of a type could take a rank."""
    return (
        (not ask.model or ask.model == hardware.accelerator)
        and hardware.accelerators >= ask.accelerators
        and hardware.cpu_milli >= ask.cpu_milli
        and hardware.memory_mb >= ask.memory_mb
        and hardware.accelerator_memory_mb >= ask.accelerator_memory_mb
    )


def _wide(level: Level | str) -> int:
    return _WIDTH[level]  # type: ignore[index]


_known: list[Empty] = []


def empty_of(fleet: Fleet, today: int) -> Empty:
    """A fleet with nothing on it on a day (``yyyymmdd``): nodes that are there already draw their idle watts.

    That of the last few fleets and days is kept: a fleet is read-only once compiled.
    """
    for known in _known:
        if known.fleet is fleet and known.today == today:
            return known
    made = _make(fleet, today)
    _known[:] = [made, *_known[:1]]
    return made


def _make(fleet: Fleet, today: int) -> Empty:
    columns = columns_of(fleet)
    idle = np.array([hardware.idle_w for hardware in fleet.hardware] or [0], dtype=np.int64)
    head_w = fleet.power_limit_w.astype(np.int64)
    there = np.flatnonzero(fleet.node_from_day <= today)
    head_w = np.append(head_w, 0)
    for row in columns.paths:
        np.subtract.at(head_w, row[there], idle[fleet.node_hardware[there]])
    racks, above = [], []
    for span in columns.spans:
        found, blocks = _racks_of(fleet, span)
        racks.append(found)
        above.append(blocks)
    return Empty(fleet, columns, today, head_w, racks, above)


def _racks_of(fleet: Fleet, span: slice) -> tuple[_Racks, dict[int, tuple[int, ...]]]:
    nodes = np.arange(span.start, span.stop)[fleet.node_from_day[span] < NEVER_DAY]
    # The nodes of a rack stand next to each other, and so do those of a domain.
    leaf, first, counts = np.unique(fleet.node_leaf[nodes], return_index=True, return_counts=True)
    domains, at, sizes = np.unique(fleet.node_domain[nodes], return_index=True, return_counts=True)
    rack_of = np.searchsorted(leaf, fleet.node_leaf[nodes][at])
    largest = np.zeros(len(leaf), dtype=np.int64)
    np.maximum.at(largest, rack_of, sizes)
    number = np.bincount(rack_of, minlength=len(leaf)) if len(domains) else np.zeros(0, dtype=np.int64)
    parents = fleet.power_parent[leaf].tolist()
    blocks = {parent: tuple(fleet.path(parent)) for parent in dict.fromkeys(parents)}
    where = {parent: index for index, parent in enumerate(blocks)}
    found = _Racks(
        leaf.astype(np.int64),
        fleet.node_hardware[nodes][first].astype(np.int64),
        counts.astype(np.int64),
        number.astype(np.int64),
        largest,
        fleet.node_rail[nodes][first].astype(np.int64),
        np.array([where[parent] for parent in parents], dtype=np.int64),
    )
    return found, blocks
