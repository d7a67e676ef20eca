"""The paths that electricity takes at a site, and what every element carries when nothing is lost and when one element is.

A site has one source, its grid connection. An element is live when it is not lost and one of its feeders is live; with no
feeder it hangs on the connection. What is fed by several draws from all of them that are live, from each the same. Names are
those of the site (``feed-a``, not ``glomfjord/feed-a``). Parts of a load are exact fractions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from headrace.core.estate import Block, PowerElement, Site

Feeders = tuple[str, ...]
"""What feeds something, sorted as in the estate; none: the connection itself."""
Shares = Mapping[str, Fraction]
"""What part of a load each element carries; elements that carry nothing of it are not in it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What hangs on the same feeders: a whole block, or (``is_part``) the groups of a block that have these feeders."""

    block: str
    groups: tuple[str, ...]
    feeders: Feeders
    is_part: bool

    @property
    def part(self) -> str:
        """A name for the part of the block, unlike any that a rack can have."""
        return f"{self.block}/{joined(self.feeders) if len(self.feeders) > 1 else '+' + joined(self.feeders)}"


def joined(feeders: Feeders) -> str:
    """Several feeders in one name: ``feed-a+feed-b``."""
    return "+".join(feeders)


def leaves_of(block: Block) -> tuple[Leaf, ...]:
    """The parts of a block by what feeds them; one leaf when all of it is fed alike."""
    parts: dict[Feeders, list[str]] = {}
    for group in block.groups:
        parts.setdefault(group.feeders or block.feeds, []).append(group.id)
    if len(parts) <= 1:
        feeders = next(iter(parts), block.feeds)
        return (Leaf(block.id, tuple(group.id for group in block.groups), feeders, is_part=False),)
    return tuple(Leaf(block.id, tuple(names), feeders, is_part=True) for feeders, names in parts.items())


@dataclass(frozen=True, slots=True)
class Worst:
    """What an element carries: ``now_w`` with nothing lost, and the most, ``worst_w``, when ``lost`` ("": nothing) is lost."""

    now_w: int
    worst_w: int
    lost: str


class PowerGraph:
    """The elements of a site, each after its feeders, and the leaves that hang on them.

    Raises ValueError for a cycle or an unknown feeder (the edge reports them earlier).
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.elements = {element.id: element for element in _ordered(site)}
        self.leaves = tuple(leaf for block in site.blocks for leaf in leaves_of(block))
        self._ancestors: dict[Feeders, tuple[str, ...]] = {}
        self._shares: dict[tuple[Feeders, str], Shares] = {}
        unknown = {name for leaf in self.leaves for name in leaf.feeders} - set(self.elements)
        if unknown:
            raise ValueError(f"site {site.id}: no power element {', '.join(sorted(unknown))}")

    @property
    def is_tree(self) -> bool:
        """Whether nothing has more than one way to the connection, so that each load is carried whole by all above it."""
        several = any(len(element.feeds) > 1 for element in self.elements.values())
        return not several and not any(leaf.is_part or len(leaf.feeders) > 1 for leaf in self.leaves)

    def live(self, lost: str = "") -> frozenset[str]:
        """The elements that a path from the connection still reaches when ``lost`` is lost ("": nothing)."""
        return frozenset(self._live(self.elements, lost))

    def is_live(self, feeders: Feeders, lost: str) -> bool:
        """Whether what hangs on ``feeders`` has power when ``lost`` is lost."""
        return not feeders or bool(set(feeders) & self._live(self.ancestors(feeders), lost))

    def _live(self, among: Iterable[str], lost: str) -> set[str]:
        """Those that are live among elements that come with all above them, feeders first."""
        found: set[str] = set()
        for name in among:
            feeds = self.elements[name].feeds
            if name != lost and (not feeds or any(feeder in found for feeder in feeds)):
                found.add(name)
        return found

    def ancestors(self, feeders: Feeders) -> tuple[str, ...]:
        """All elements on the paths from ``feeders`` (included) up to the connection, feeders first."""
        known = self._ancestors.get(feeders)
        if known is None:
            seen, waiting = set(feeders), list(feeders)
            while waiting:
                more = [name for name in self.elements[waiting.pop()].feeds if name not in seen]
                seen.update(more)
                waiting.extend(more)
            order = {name: number for number, name in enumerate(self.elements)}
            known = self._ancestors[feeders] = tuple(sorted(seen, key=order.__getitem__))
        return known

    def shares(self, feeders: Feeders, lost: str = "") -> Shares:
        """What part of a load on ``feeders`` each element carries when ``lost`` is lost; none of it where nothing is live."""
        above = self.ancestors(feeders)
        key = feeders, lost if lost in above else ""
        known = self._shares.get(key)
        if known is None:
            live = self._live(above, lost)
            parts = _split(Fraction(1), feeders, live)
            for name in reversed(above):
                if name in parts:
                    for feeder, part in _split(parts[name], self.elements[name].feeds, live).items():
                        parts[feeder] = parts.get(feeder, Fraction(0)) + part
            known = self._shares[key] = parts
        return known

    def bottlenecks(self, feeders: Feeders) -> tuple[str, ...]:
        """The elements without which nothing that hangs on ``feeders`` has power, the nearest first."""
        return tuple(name for name in reversed(self.ancestors(feeders)) if not self.is_live(feeders, name))

    def loads(self, leaf_w: Mapping[Feeders, int], lost: str = "") -> dict[str, Fraction]:
        """Watts that each element carries when ``lost`` is lost; ``leaf_w`` is the load on each set of feeders."""
        found: dict[str, Fraction] = {}
        for feeders, watts in leaf_w.items():
            for name, part in self.shares(feeders, lost).items():
                found[name] = found.get(name, Fraction(0)) + part * watts
        return found

    def worst(self, leaf_w: Mapping[Feeders, int]) -> dict[str, Worst]:
        """What each element carries now, and at most under the loss of any other one; watts are rounded up."""
        base = self.loads(leaf_w)
        more: dict[tuple[str, str], Fraction] = {}
        for feeders, watts in leaf_w.items():
            if len(self.ancestors(feeders)) > len(self.bottlenecks(feeders)):
                self._add_changes(more, feeders, watts)
        found = {name: (base.get(name, Fraction(0)), "") for name in self.elements}
        for (name, lost), change in more.items():
            watts_then = base.get(name, Fraction(0)) + change
            if name != lost and watts_then > found[name][0]:
                found[name] = watts_then, lost
        return {
            name: Worst(_up(base.get(name, Fraction(0))), _up(most), lost)
            for name, (most, lost) in found.items()
        }

    def _add_changes(self, more: dict[tuple[str, str], Fraction], feeders: Feeders, watts: int) -> None:
        """How the loss of each element above a load changes what the others carry of it."""
        usual = self.shares(feeders)
        for lost in self.ancestors(feeders):
            then = self.shares(feeders, lost)
            for name in usual.keys() | then.keys():
                change = (then.get(name, Fraction(0)) - usual.get(name, Fraction(0))) * watts
                more[name, lost] = more.get((name, lost), Fraction(0)) + change


def _split(part: Fraction, feeders: Feeders, live: set[str]) -> dict[str, Fraction]:
    there = [feeder for feeder in feeders if feeder in live]
    return {feeder: part / len(there) for feeder in there}


def _up(watts: Fraction) -> int:
    return -(-watts.numerator // watts.denominator)


def _ordered(site: Site) -> list[PowerElement]:
    """The elements, each after its feeders; in the order of the estate as far as that allows."""
    placed: dict[str, PowerElement] = {}
    waiting = list(site.power)
    while waiting:
        ready = [element for element in waiting if all(feeder in placed for feeder in element.feeds)]
        if not ready:
            names = ", ".join(element.id for element in waiting)
            raise ValueError(f"site {site.id}: the power tree has a cycle or an unknown feeder among {names}")
        placed |= {element.id: element for element in ready}
        waiting = [element for element in waiting if element.id not in placed]
    return list(placed.values())


@lru_cache(maxsize=64)
def graph_of(site: Site) -> PowerGraph:
    """The graph of a site; those of the last sites are kept, with the paths that were walked in them."""
    return PowerGraph(site)
