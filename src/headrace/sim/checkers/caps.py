"""What nodes' controllers are held to, and what that is worth; and what meters see beyond all that is known: from events alone.

A cap counts once its controller says that it enforces it, at 2 % above what it says. From the event on that lifts it, or after
which nothing is known of it, it counts for nothing. What was asked of a controller since, and is more, it may do at any moment.
"""

from dataclasses import dataclass, field

from headrace.core.events import CapsLifted, CapsObserved, CapsOrdered, ExcessMeasured, LimitersDeclared
from headrace.core.units import PERMILLE
from headrace.sim.checkers.papers import Spot, draw_w

CAP_MS = 8_000
"""Within so long a controller confirms what it was asked for, or counts for nothing."""
WORST_PERMILLE = 1_020


def worst_w(limit_w: int) -> int:
    """The most that a node draws whose controller enforces a limit."""
    return -(-limit_w * WORST_PERMILLE // PERMILLE)


@dataclass(slots=True)
class Cap:
    """What is asked of a node's controller, and what it said of it since (0: nothing). ``failed``: it was told of as failed."""

    node: str
    site: str
    wanted_w: int
    ordered_ms: int
    said_w: int = 0
    failed: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the controller says that it does what is asked, or more."""
        return 0 < self.said_w <= self.wanted_w

    @property
    def most_w(self) -> int | None:
        """The most that the node draws for certain; None: it is no help."""
        return worst_w(max(self.said_w, self.wanted_w)) if self.said_w else None

    def may_come(self, now_ms: int) -> bool:
        """Whether it is asked for, not confirmed, and still in time."""
        return not self.is_done and now_ms < self.ordered_ms + CAP_MS


@dataclass(slots=True)
class Caps:
    """Told of caps and meters by the checker that keeps it.

    ``dropping``: nodes whose caps were lifted, and whose controllers may still enforce them.
    """

    limiters: dict[str, dict[str, int]] = field(default_factory=dict)
    caps: dict[str, Cap] = field(default_factory=dict)
    dropping: dict[str, None] = field(default_factory=dict)
    excess: dict[str, int] = field(default_factory=dict)

    def declared(self, event: LimitersDeclared) -> None:
        """All that can be limited at a site: of others nothing is known any more."""
        able = self.limiters[event.site] = dict(event.limiters)
        for cap in self.caps.values():
            if cap.site == event.site and cap.node not in able:
                cap.said_w = 0

    def ordered(self, event: CapsOrdered, at_ms: int) -> None:
        """Controllers are asked for something (else)."""
        for node, wanted_w in event.caps:
            known = self.caps.get(node)
            said_w = known.said_w if known is not None else 0
            self.caps[node] = Cap(node, event.site, wanted_w, at_ms, said_w)

    def observed(self, event: CapsObserved) -> None:
        """Controllers say what they enforce."""
        for node, said_w in event.caps:
            cap = self.caps.get(node)
            if cap is not None:
                cap.said_w = said_w
                cap.failed = cap.failed and not cap.is_done
            elif not said_w:
                self.dropping.pop(node, None)

    def lifted(self, event: CapsLifted) -> None:
        """Controllers are to drop what they were asked for."""
        for node in event.nodes:
            if self.caps.pop(node, None) is not None:
                self.dropping[node] = None

    def measured(self, event: ExcessMeasured) -> None:
        """A meter sees more than is known, or no more."""
        if event.watts:
            self.excess[event.element] = event.watts
        else:
            self.excess.pop(event.element, None)

    def of(self, site: str) -> list[Cap]:
        """The caps at a site."""
        return [cap for cap in self.caps.values() if cap.site == site]

    def counted(self, site: str) -> dict[str, int]:
        """By node of a site, the most that it draws for what its controller says."""
        return {cap.node: cap.most_w for cap in self.caps.values() if cap.site == site and cap.most_w}

    def hoped(self, site: str, now_ms: int) -> dict[str, int]:
        """The same, once all controllers have confirmed who may still do so in time."""
        found = self.counted(site)
        for cap in self.of(site):
            if cap.may_come(now_ms):
                found[cap.node] = min(found.get(cap.node, 1 << 62), worst_w(cap.wanted_w))
        return found

    def is_closed(self, node: str) -> bool:
        """Whether new work may be kept off a node for its cap."""
        return node in self.caps or node in self.dropping

    def touches(self, site: str) -> bool:
        """Whether anything is capped at a site, or draws more than is known."""
        return any(_site_of(name) == site for name in (*self.caps, *self.dropping, *self.excess))


def _site_of(name: str) -> str:
    return name.partition("/")[0]


def lowest_w(spot: Spot, taken: int, controller_w: int) -> int:
    """The lowest limit of a node: no less than its controller takes, and than its taken accelerators at their lowest cap."""
    hardware = spot.hardware
    full_w = draw_w(hardware, taken, 1)
    if not hardware.cap_min_w:
        return full_w
    return max(controller_w, full_w - taken * (hardware.accelerator_w - hardware.cap_min_w))
