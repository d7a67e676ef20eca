"""A site whose parts have several feeders, as a tree for the planner: what survives every single loss, in plain limits.

The planner adds up watts along one chain of parents from each rack. Where there are several ways up, what an element carries is
no sum along a chain, and grows when another is lost. So what hangs on the same set of feeders gets an **allotment**: a node of
the tree whose limit is such that whatever is placed within all limits, every element stays within its rating when nothing is
lost, and when any other one is.

How that is made sure: what an element carries in each case is a sum of (part x load) over the nodes of the tree right below
which all flows alike (:meth:`_Site.cover`). No part is negative; so if the limits of these nodes keep the sum within the
rating, all smaller loads do. There is one such inequality for each element and each case; the limits are raised together, in
proportion to what could be drawn below each, until one of them is tight, and those in it stop; then the others go on. Then
they are rounded down. What has a day of commissioning comes first, what has none gets what is left.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import lcm

from headrace.core.estate import Block, NodeGroup, Site
from headrace.core.hardware import HardwareType
from headrace.core.power.tree import Feeders, Leaf, PowerGraph, graph_of, joined, leaves_of

ALLOTMENT = "allotment"
"""The kind of such a node among the elements of a fleet."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of the planner's tree between the connection (parent "") and the blocks; of an element's kind, or ``allotment``.

    An allotment is called by what feeds it: ``feed-a+feed-b``, and ``+feed-a`` for what hangs on that one alone where it shares
    the feed with others.
    """

    id: str
    kind: str
    parent: str
    limit_w: int


@dataclass(frozen=True, slots=True)
class Allotted:
    """The planner's tree of a site above its racks: ``nodes`` come after their parents; ``over`` is each block's parent.

    ``parts`` are nodes between a block and those of its racks whose group is named: (block, group) to the node.
    """

    nodes: tuple[TreeNode, ...]
    over: Mapping[str, str]
    parts: Mapping[tuple[str, str], TreeNode]


@dataclass(frozen=True, slots=True)
class Inequality:
    """``sum(parts[node] * limit[node]) <= rating_w``: what ``element`` carries when ``lost`` ("": nothing) is lost."""

    element: str
    lost: str
    parts: Mapping[str, Fraction]
    rating_w: int


@lru_cache(maxsize=32)
def allot(site: Site, hardware: tuple[HardwareType, ...]) -> Allotted:
    """The tree of a site whose graph is none; ``hardware`` are the types of its nodes."""
    return _Site(site, {kind.id: kind for kind in hardware}).allotted()


def inequalities(site: Site, hardware: tuple[HardwareType, ...]) -> tuple[Inequality, ...]:
    """All that the limits of :func:`allot` are held to, beyond the ratings of elements that carry what is below them alone."""
    return tuple(_Site(site, {kind.id: kind for kind in hardware}).inequalities())


class _Site:
    def __init__(self, site: Site, types: Mapping[str, HardwareType]) -> None:
        self.site, self.types = site, types
        self.graph: PowerGraph = graph_of(site)
        self.parent: dict[str, str] = {}
        """Of each node of the tree; blocks and parts of blocks too."""
        self.feeders: dict[str, Feeders] = {}
        """Of each node of the tree at which a path up may begin."""
        self.chains: list[tuple[Leaf, list[str]]] = []
        for block in site.blocks:
            self._hang(block)
        self.bound: set[str] = set()
        """The nodes whose limit is not a rating."""
        self.through: dict[str, set[str]] = {}
        """Of each node: what all that hangs below it passes through, the node included."""
        for _, chain in self.chains:
            for name in chain:
                self.through[name] = self.through.get(name, set(chain)) & set(chain)

    # -- the tree ----------------------------------------------------------------------------------------------------

    def _hang(self, block: Block) -> None:
        leaves = leaves_of(block)
        shared = [name for name in self.graph.bottlenecks(leaves[0].feeders) if self._is_over(name, leaves)]
        if leaves[0].is_part:
            self.parent[block.id] = self._nearest(shared)
        else:
            self.parent[block.id] = self._above(leaves[0].feeders)
        for leaf in leaves:
            if leaf.is_part:
                self.parent[leaf.part] = block.id
                self.feeders[leaf.part] = leaf.feeders
            self.chains.append((leaf, self._chain(leaf.part if leaf.is_part else block.id)))

    def _is_over(self, name: str, leaves: Iterable[Leaf]) -> bool:
        return all(name in self.graph.bottlenecks(leaf.feeders) for leaf in leaves)

    def _nearest(self, names: list[str]) -> str:
        if not names:
            return ""
        self._element(names[0])
        return names[0]

    def _element(self, name: str) -> None:
        """Take an element, without which nothing below it has power, into the tree."""
        if name not in self.parent:
            self.feeders[name] = self.graph.elements[name].feeds
            self.parent[name] = self._above(self.feeders[name])

    def _above(self, feeders: Feeders) -> str:
        """The node over what hangs on ``feeders``: the connection, one element, or an allotment."""
        if len(feeders) <= 1:
            return self._nearest(list(feeders))
        name = joined(feeders)
        if name not in self.parent:
            self.feeders[name] = feeders
            self.parent[name] = self._nearest(list(self.graph.bottlenecks(feeders)))
        return name

    def _chain(self, name: str) -> list[str]:
        """The nodes from right below the connection down to ``name``."""
        chain = [name]
        while self.parent[chain[-1]]:
            chain.append(self.parent[chain[-1]])
        return chain[::-1]

    # -- what the limits are held to ---------------------------------------------------------------------------------

    def cover(self, element: str) -> list[str]:
        """The nodes of the tree that together have all of what ``element`` carries, each flowing up to it in one way.

        Of each leaf's chain the topmost that is the element itself or hangs on it.
        """
        found: dict[str, None] = {}
        for leaf, chain in self.chains:
            if element in self.graph.ancestors(leaf.feeders):
                found[next(name for name in chain if self._flows(name, element))] = None
        return list(found)

    def _flows(self, name: str, element: str) -> bool:
        return name == element or (
            name in self.feeders and element in self.graph.ancestors(self.feeders[name])
        )

    def inequalities(self) -> Iterator[Inequality]:
        """For each element that does not carry what is below it alone, one for each case in which it carries something else."""
        for element, declared in self.graph.elements.items():
            cover = self.cover(element)
            if not cover or cover == [element]:
                continue
            cases = {
                name: None for node in cover for name in (*self.graph.ancestors(self.feeders[node]), node)
            }
            kept: list[tuple[str, dict[str, Fraction]]] = []
            for lost in ("", *(name for name in cases if name in self.graph.elements and name != element)):
                parts = {node: self._part(element, node, lost) for node in cover}
                if not any(_is_within(parts, other) for _, other in kept):
                    kept = [one for one in kept if not _is_within(one[1], parts)]
                    kept.append((lost, parts))
            for lost, parts in kept:
                yield Inequality(element, lost, parts, declared.rating_w)

    def _part(self, element: str, node: str, lost: str) -> Fraction:
        """What part of the load below ``node`` an element carries when ``lost`` is lost."""
        if lost in self.through[node]:
            return Fraction(0)
        if node == element:
            return Fraction(1)
        return self.graph.shares(self.feeders[node], lost).get(element, Fraction(0))

    # -- what could be drawn -----------------------------------------------------------------------------------------

    def needs(self, dated: bool) -> dict[str, int]:
        """The most that could be drawn below each node, in watts; ``dated``: by what has a day of commissioning alone.

        What a block or an element can't pass on, nothing above it has to carry; but that something is shared is no reason to
        count less of what hangs on it.
        """
        found: dict[str, int] = {}
        blocks = {block.id: block for block in self.site.blocks}
        for leaf, chain in self.chains:
            block = blocks[leaf.block]
            if dated and not block.commissioned:
                continue
            groups = [group for group in block.groups if group.id in leaf.groups]
            watts = sum(self._group_w(group) for group in groups)
            for name in chain:
                found[name] = found.get(name, 0) + watts
        ratings = {name: block.rating_w for name, block in blocks.items()}
        ratings |= {
            name: of.rating_w for name, of in self.graph.elements.items() if self.cover(name) == [name]
        }
        for name in sorted(self.parent, key=self._depth, reverse=True):
            rating_w = ratings.get(name, 0)
            if rating_w and found.get(name, 0) > rating_w:
                self._lower(found, name, found[name] - rating_w)
        return found

    def _lower(self, found: dict[str, int], name: str, by_w: int) -> None:
        while name:
            found[name] -= by_w
            name = self.parent[name]

    def _depth(self, name: str) -> int:
        return len(self._chain(name))

    def _group_w(self, group: NodeGroup) -> int:
        each_w = self.types[group.hardware].nameplate_w
        whole, rest = divmod(group.node_count, group.nodes_per_rack)
        rack_w = group.rack_rating_w or each_w * group.nodes_per_rack
        return whole * min(rack_w, each_w * group.nodes_per_rack) + min(rack_w, each_w * rest)

    # -- the limits ----------------------------------------------------------------------------------------------------

    def allotted(self) -> Allotted:
        """The tree with its limits."""
        held = tuple(self.inequalities())
        bound = {node for one in held for node in one.parts}
        dated, all_w = self.needs(dated=True), self.needs(dated=False)
        limits: dict[str, Fraction] = dict.fromkeys(bound, Fraction(0))
        raise_together(limits, {name: dated.get(name, 0) for name in bound}, held)
        later = {name: max(0, all_w.get(name, 0) - dated.get(name, 0)) for name in bound}
        raise_together(limits, later, held)
        self.bound = bound
        nodes = {name: self._node(name, limits) for name in self.parent}
        blocks = {block.id for block in self.site.blocks}
        parts = {
            (leaf.block, group): nodes[leaf.part]
            for leaf, _ in self.chains
            if leaf.is_part
            for group in leaf.groups
        }
        inside = {node.id for node in parts.values()}
        above = [name for name in self.parent if name not in blocks and name not in inside]
        return Allotted(
            tuple(nodes[name] for name in sorted(above, key=self._depth)),
            {block: self._id(self.parent[block]) for block in blocks},
            parts,
        )

    def _id(self, name: str) -> str:
        return f"+{name}" if name in self.bound and name in self.graph.elements else name

    def _node(self, name: str, limits: Mapping[str, Fraction]) -> TreeNode:
        ident, parent = self._id(name), self._id(self.parent[name])
        if name in limits:
            return TreeNode(ident, ALLOTMENT, parent, int(limits[name]))
        declared = self.graph.elements.get(name)
        if declared is not None:
            return TreeNode(ident, declared.kind, parent, declared.rating_w)
        # A part of a block on the connection itself: nothing limits it.
        return TreeNode(ident, ALLOTMENT, parent, _UNLIMITED_W)


_UNLIMITED_W = 1 << 50


def _is_within(parts: Mapping[str, Fraction], others: Mapping[str, Fraction]) -> bool:
    """Whether one inequality follows from another of the same element."""
    return all(part <= others[name] for name, part in parts.items())


def raise_together(
    limits: dict[str, Fraction], weights: Mapping[str, int], held: tuple[Inequality, ...]
) -> None:
    """Raise limits in proportion to their weights, each by its weight at most, as far as the inequalities allow.

    Limits that stop are rounded down to whole watts; those that come to their whole weight are whole.
    """
    rows = [_Row(one) for one in held]
    active = {name for name, weight in weights.items() if weight}
    base = {name: limits[name] for name in active}
    level = Fraction(0)
    while active and level < 1:
        slopes = [(row, row.slope(active, weights)) for row in rows]
        rising = [(row, slope, row.room(limits)) for row, slope in slopes if slope]
        step = min([1 - level, *(room / slope for _, slope, room in rising)])
        level += step
        for name in active:
            limits[name] = base[name] + level * weights[name]
        stopped = {
            name
            for row, slope, room in rising
            if room == slope * step
            for name in row.parts
            if name in active
        }
        for name in stopped:
            limits[name] = Fraction(int(limits[name]))
        active -= stopped
    for name in active:
        limits[name] = Fraction(int(limits[name]))


class _Row:
    """An inequality in whole numbers, without the nodes that have no part in it."""

    __slots__ = ("parts", "rating")

    def __init__(self, one: Inequality) -> None:
        scale = lcm(*(part.denominator for part in one.parts.values()))
        self.parts = {name: int(part * scale) for name, part in one.parts.items() if part}
        self.rating = one.rating_w * scale

    def slope(self, active: set[str], weights: Mapping[str, int]) -> int:
        return sum(part * weights[name] for name, part in self.parts.items() if name in active)

    def room(self, limits: Mapping[str, Fraction]) -> Fraction:
        return self.rating - sum((part * limits[name] for name, part in self.parts.items()), Fraction(0))
